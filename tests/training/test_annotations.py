from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.training.annotations import (
    Annotations,
    VideoItem,
    check_classes,
    read_annotations,
    relabelled,
    split,
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def listed(folder: Path, text: str, name: str = "list.txt") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def shown(annotations: Annotations) -> list[tuple[str, str]]:
    """(file name, class) of each video."""
    return [(Path(item.path).name, annotations.labels[item.label]) for item in annotations.items]


# --- a folder per class


def test_each_folder_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "wave/2.mp4", "wave/1.avi", "clap/3.mov")
    found = read_annotations(str(tmp_path))
    assert found.labels == ("clap", "wave")
    assert shown(found) == [("3.mov", "clap"), ("1.avi", "wave"), ("2.mp4", "wave")]
    assert found.items[0].path == str(tmp_path / "clap" / "3.mov")


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mov", "mkv", "webm", "m4v", "mpg", "mpeg", "wmv", "flv", "MP4"])
def test_videos_are_known_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"wave/1.{suffix}", "wave/notes.txt", "wave/README", "clap/1.mp4")
    assert shown(read_annotations(str(tmp_path))) == [("1.mp4", "clap"), (f"1.{suffix}", "wave")]


def test_folders_may_be_nested_and_hidden_things_are_not_seen(tmp_path: Path) -> None:
    touch(tmp_path, "wave/monday/b.mp4", "wave/a.mp4", "wave/.a.partial.mp4", "wave/.trash/c.mp4", "clap/d.mp4")
    touch(tmp_path, ".cache/e.mp4", "list.txt")
    assert shown(read_annotations(str(tmp_path))) == [("d.mp4", "clap"), ("a.mp4", "wave"), ("b.mp4", "wave")]


def test_given_labels_fix_the_order_and_may_have_classes_without_videos(tmp_path: Path) -> None:
    touch(tmp_path, "wave/a.mp4", "clap/b.mp4")
    found = read_annotations(str(tmp_path), labels=("wave", "jump", "clap"))
    assert found.labels == ("wave", "jump", "clap")
    assert {item.label for item in found.items} == {0, 2}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "has no folder per class in it; it holds nothing"),
        (("a.mp4", "b.mp4"), r"has no folder per class in it; it holds a\.mp4, b\.mp4"),
        (("wave/a.mp4", "clap/a.txt"), r"clap has no video in it; it holds a\.txt; add some"),
        (
            ("wave/a.mp4", "clapp/a.mp4"),
            r"clapp: no class 'clapp' \(did you mean 'clap'\?\); the classes are wave, clap",
        ),
    ],
)
def test_a_folder_with_another_layout_is_an_error(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ConfigError, match=message):
        read_annotations(str(tmp_path), labels=("wave", "clap"))


def test_a_missing_source_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    touch(tmp_path, "data/wave/a.mp4")
    with pytest.raises(ConfigError, match=r"no such file or folder: .*dta \(did you mean 'data'\?\)"):
        read_annotations(str(tmp_path / "dta"))


def test_a_video_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.mp4 is a video; give a folder"):
        read_annotations(str(touch(tmp_path, "a.mp4") / "a.mp4"))


# --- lists


def test_paths_are_relative_to_the_list_or_to_the_root_or_absolute(tmp_path: Path) -> None:
    text = "a.mp4 wave\n/far/b.mp4 clap\n"
    found = read_annotations(listed(tmp_path, text))
    assert [item.path for item in found.items] == [str(tmp_path / "a.mp4"), "/far/b.mp4"]
    root = touch(tmp_path / "videos")
    root.mkdir()
    found = read_annotations(listed(tmp_path, text), root=str(root))
    assert [item.path for item in found.items] == [str(root / "a.mp4"), "/far/b.mp4"]


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a.mp4")
    with pytest.raises(ConfigError, match=r"data\.root: no such folder: .*vidoes \(did you mean 'videos'\?\)"):
        read_annotations(listed(tmp_path, "a.mp4 wave\n"), root=str(tmp_path / "vidoes"))


def test_names_without_given_labels_are_in_alphabetical_order(tmp_path: Path) -> None:
    found = read_annotations(listed(tmp_path, "a.mp4 wave\nb.mp4 clap\n"))
    assert (found.labels, shown(found)) == (("clap", "wave"), [("a.mp4", "wave"), ("b.mp4", "clap")])


def test_indices_are_classes_of_the_given_labels(tmp_path: Path) -> None:
    found = read_annotations(listed(tmp_path, "a.mp4 30 1\nb.mp4 40 0\n"), labels=("wave", "clap"))
    assert shown(found) == [("a.mp4", "clap"), ("b.mp4", "wave")]
    assert [item.frames for item in found.items] == [30, 40]


def test_labels_that_are_numbers_are_names_where_all_of_them_are(tmp_path: Path) -> None:
    labels = ("3", "2", "1")
    assert shown(read_annotations(listed(tmp_path, "a.mp4 3\nb.mp4 1\n"), labels=labels)) == [
        ("a.mp4", "3"),
        ("b.mp4", "1"),
    ]
    assert shown(read_annotations(listed(tmp_path, "a.mp4 0\nb.mp4 1\n"), labels=labels)) == [
        ("a.mp4", "3"),
        ("b.mp4", "2"),
    ]


def test_indices_without_labels_are_their_own_names(tmp_path: Path) -> None:
    text = "".join(f"{index}.mp4 {index}\n" for index in range(11))
    assert read_annotations(listed(tmp_path, text)).labels == tuple(str(index) for index in range(11))


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("a.mp4 wave\nb.mp4 clpa\n", ("wave", "clap"), r"line 2: no class 'clpa' \(did you mean 'clap'\?\)"),
        ("a.mp4 0\nb.mp4 2\n", ("wave", "clap"), "line 2: class 2 is out of range; there are 2 classes"),
        ("a.mp4 wave\nb.mp4 1\n", ("wave", "clap"), "line 2: no class '1'"),
        ("a.mp4 -1\nb.mp4 1\n", ("wave", "clap"), "line 1: no class '-1'"),
        ("a.mp4 0\nb.mp4 999999999\n", None, "numbers up to 999999999, but there is no video of class 1;"),
        (f"a.mp4 0\nb.mp4 {'9' * 5000}\n", ("wave", "clap"), "line 1: no class '0'"),
        ("a.mp4 0\nb.mp4 3\n", None, "numbers up to 3, but there is no video of class 1; give data.labels"),
        ("a.mp4 wave\nb.mp4 clap\na.mp4 clap\n", None, r"line 3: a\.mp4 is 'clap' here and 'wave' on line 1"),
    ],
)
def test_a_wrong_label_is_an_error_with_its_line(
    tmp_path: Path, text: str, labels: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_annotations(listed(tmp_path, text), labels=labels)


def test_many_classes_are_not_all_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the classes are 0a, 1a, 2a, 3a, 4a, 5a, 6a, 7a and 392 more$"):
        read_annotations(listed(tmp_path, "a.mp4 x\n"), labels=[f"{index}a" for index in range(400)])


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    both = Annotations((VideoItem("a", 0), VideoItem("b", 1)), ("wave", "clap"))
    check_classes(both, "data")
    with pytest.raises(ConfigError, match=r"data has videos of one class only \('clap'\); add another"):
        check_classes(Annotations(both.items[1:], both.labels), "data")


def test_classes_can_be_put_in_another_order() -> None:
    before = Annotations((VideoItem("a", 0, 9), VideoItem("b", 1)), ("wave", "clap"))
    assert relabelled(before, ("clap", "wave")) == Annotations(
        (VideoItem("a", 1, 9), VideoItem("b", 0)), ("clap", "wave")
    )


# --- what is set aside


def videos(counts: dict[str, int], folder: str = "data") -> Annotations:
    labels = tuple(counts)
    items = [
        VideoItem(f"{folder}/{name}/{number}.mp4", labels.index(name))
        for name, count in counts.items()
        for number in range(count)
    ]
    return Annotations(tuple(items), labels)


def test_the_share_of_each_class_is_set_aside() -> None:
    train, val = split(videos({"wave": 20, "clap": 50, "jump": 3, "nod": 2, "fall": 1}), 0.2, seed=0)
    assert [Counter(item.label for item in part.items) for part in (train, val)] == [
        {0: 16, 1: 40, 2: 2, 3: 1, 4: 1},
        {0: 4, 1: 10, 2: 1, 3: 1},
    ]


def test_every_video_is_on_one_side_and_one_of_each_class_is_left() -> None:
    both = videos({"wave": 7, "clap": 2})
    train, val = split(both, 0.99, seed=0)
    assert sorted(train.items + val.items, key=str) == sorted(both.items, key=str)
    assert {item.label for item in train.items} == {0, 1}
    assert split(both, 0.0, seed=0) == (both, Annotations((), both.labels))


def test_another_seed_sets_others_aside() -> None:
    both = videos({"wave": 30})
    assert split(both, 0.2, seed=1)[1] == split(both, 0.2, seed=1)[1] != split(both, 0.2, seed=2)[1]


def test_what_is_set_aside_stays_so_when_the_data_are_moved_reordered_or_get_more_classes() -> None:
    before = shown(split(videos({"wave": 10, "clap": 10}), 0.3, seed=0)[1])
    moved = videos({"jump": 5, "clap": 10, "wave": 10}, folder="/elsewhere")
    after = shown(split(relabelled(moved, ("clap", "jump", "wave")), 0.3, seed=0)[1])
    assert sorted(pair for pair in after if pair[1] != "jump") == sorted(before)


def test_what_is_set_aside_is_no_video_that_was_learned_from_when_a_few_are_added() -> None:
    before, after = (split(videos({"wave": count}), 0.2, seed=0)[1] for count in (100, 104))
    assert len({item.path for item in before.items} & {item.path for item in after.items}) >= 18


def test_a_video_that_is_listed_twice_is_on_one_side() -> None:
    both = videos({"wave": 6})
    twice = Annotations(both.items * 2, both.labels)
    train, val = split(twice, 0.5, seed=0)
    assert not {item.path for item in train.items} & {item.path for item in val.items}
    assert (len(train.items), len(val.items)) == (6, 6)


# --- what is a video


@pytest.mark.parametrize("suffix", ["MTS", "ts", "3gp", "ogv", "m2ts", "vob", "mxf", "gif", "xyz"])
def test_what_ffmpeg_may_read_is_taken_whatever_its_suffix(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "clap/1.mp4", "wave/x")
    (tmp_path / "wave" / "x").rename(tmp_path / "wave" / f"1.{suffix}")
    (tmp_path / "wave" / f"1.{suffix}").write_bytes(b"\0\1\2")
    assert shown(read_annotations(str(tmp_path))) == [("1.mp4", "clap"), (f"1.{suffix}", "wave")]


def test_folders_that_are_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "data/wave/a.mp4", "data/clap/b.mp4", "elsewhere/c.mp4", "elsewhere/deep/d.mp4", "jumps/e.mp4")
    (tmp_path / "data" / "wave" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data" / "wave")
    (tmp_path / "data" / "jump").symlink_to(tmp_path / "jumps")
    assert shown(read_annotations(str(tmp_path / "data"))) == [
        ("b.mp4", "clap"), ("e.mp4", "jump"), ("a.mp4", "wave"), ("c.mp4", "wave"), ("d.mp4", "wave"),
    ]  # fmt: skip


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "list.txt", "stray.mp4", "clap/b.mp4", "wave/a.mp4", "wave/.DS_Store", "wave/a.json", "wave/a.jpg")
    read_annotations(str(tmp_path))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: 5 files left out as no videos by name or kind: list.txt, stray.mp4, wave/.DS_Store, wave/a.jpg, "
        "wave/a.json"
    )


# --- numbers of classes


UCF = ("ApplyEyeMakeup", "Archery", "YoYo")


def ucf_list(folder: Path, *numbers: int) -> str:
    return listed(folder, "".join(f"{UCF[number - 1]}/v_{number}_g01.avi {number}\n" for number in numbers))


@pytest.mark.parametrize("labels", [None, UCF])
def test_numbers_from_1_and_from_0_are_distinguished(tmp_path: Path, labels: tuple[str, ...] | None) -> None:
    found = read_annotations(ucf_list(tmp_path, 1, 2, 3), labels=labels)
    assert found.labels == UCF
    assert shown(found) == [("v_1_g01.avi", UCF[0]), ("v_2_g01.avi", UCF[1]), ("v_3_g01.avi", UCF[2])]


def test_a_part_of_a_list_that_counts_from_1_is_known_by_its_folders(tmp_path: Path) -> None:
    assert shown(read_annotations(ucf_list(tmp_path, 1, 2), labels=UCF)) == [
        ("v_1_g01.avi", UCF[0]),
        ("v_2_g01.avi", UCF[1]),
    ]


def test_ambiguous_numbers_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read_annotations(listed(tmp_path, "a.mp4 1\nb.mp4 2\n"), labels=("x", "y", "z", "w"))
    assert shown(found) == [("a.mp4", "y"), ("b.mp4", "z")]
    assert "no class 0 and no class 4 of 4; classes are taken as numbered from 0" in caplog.text


def test_numbers_from_1_without_folders_are_their_own_names(tmp_path: Path) -> None:
    text = "".join(f"{number}.mp4 {number}\n" for number in range(1, 12))
    assert read_annotations(listed(tmp_path, text)).labels == tuple(str(number) for number in range(1, 12))


def test_a_list_without_labels_takes_them_from_the_folders(tmp_path: Path) -> None:
    train = read_annotations(ucf_list(tmp_path, 1, 2, 3))
    text = "".join(f"{name}/v_9_g07.avi\r\n" for name in UCF)
    found = read_annotations(listed(tmp_path, text, "testlist01.txt"), labels=train.labels)
    assert [label for _, label in shown(found)] == list(UCF)


def test_a_list_of_kinetics_finds_its_files_where_downloaders_put_them(tmp_path: Path) -> None:
    touch(tmp_path, "abc_000001_000011.mp4", "zumba/def_000010_000020.mkv", "air_drumming/ghi_000000_000010.mp4")
    text = (
        "label,youtube_id,time_start,time_end,split\nzumba,abc,1,11,train\nzumba,def,10,20,train\n"
        "air drumming,ghi,0.0,10.0,train\nzumba,gone,3,13,train\n"
    )
    found = read_annotations(listed(tmp_path, text, "train.csv"))
    assert [item.path for item in found.items] == [
        str(tmp_path / "abc_000001_000011.mp4"),
        str(tmp_path / "zumba" / "def_000010_000020.mkv"),
        str(tmp_path / "air_drumming" / "ghi_000000_000010.mp4"),
        str(tmp_path / "gone_000003_000013.mp4"),
    ]


# --- following an error's advice leads to a run


@pytest.mark.parametrize(
    ("text", "labels", "message", "mended_text", "mended_labels"),
    [
        ("a.mp4 0\nb.mp4 3\n", None, "give data.labels, a file with a class name per line", None, "wxyz"),
        ("my clip.mp4 wave\n", None, "separate by commas", "my clip.mp4,wave\n", None),
        ("my clip one.mp4 wave\n", None, "separate by commas", "my clip one.mp4,wave\n", None),
        ("where,what\na.mp4,wave\n", None, "call the columns so", "path,label\na.mp4,wave\n", None),
        ("where,what\na.mp4,wave\n", None, "or remove it", "a.mp4,wave\n", None),
        ("a.mp4 4\nb.mp4 0\n", "wxy", "give a data.labels of all classes", None, "vwxyz"),
        ("a.mp4 4\nb.mp4 0\n", "wxy", "or remove the line", "b.mp4 0\n", "wxy"),
        ('"a.mp4,wave\n', None, "mend the quotes", '"a.mp4",wave\n', None),
    ],
)
def test_what_an_error_advises_leads_on(
    tmp_path: Path, text: str, labels: str | None, message: str, mended_text: str | None, mended_labels: str | None
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_annotations(listed(tmp_path, text), labels=labels)
    assert read_annotations(listed(tmp_path, mended_text or text), labels=mended_labels).items
