from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.training import probing
from stream_i3d.training.annotations import Annotations, VideoItem
from stream_i3d.training.probing import Probe, leave_out, probe, probe_all
from tests.training.clips import FakeFile, write_video


def test_a_video_tells_how_long_it_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    seen = probe(str(path))
    assert (seen.duration_s, seen.reason) == (pytest.approx(1.2), None)
    assert seen.size == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"^no such file: .*gone\.mp4; mend the list, or give data\.root"),
        (b"", r"gone\.mp4 is not a video"),
        (b"words", r"gone\.mp4 is not a video"),
    ],
)
def test_what_is_no_video_has_a_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "gone.mp4"
    if content is not None:
        path.write_bytes(content)
    assert re.search(reason, str(probe(str(path)).reason))


def test_a_video_cut_off_before_its_index_is_no_video(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", 30)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "is not a video" in str(probe(str(whole)).reason)


@pytest.mark.parametrize("file", [FakeFile(0), FakeFile(5, damaged=[0])])
def test_a_video_without_a_first_picture_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: FakeFile
) -> None:
    monkeypatch.setattr(probing, "open_file", file.open)
    (tmp_path / "a.mp4").touch()
    assert "picture" in str(probe(str(tmp_path / "a.mp4")).reason)
    assert file.closed == 1


def test_only_the_first_picture_is_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = FakeFile(1000, duration_s=40.0)
    monkeypatch.setattr(probing, "open_file", file.open)
    (tmp_path / "a.mp4").touch()
    assert probe(str(tmp_path / "a.mp4")).duration_s == 40.0
    assert (file.grabbed, file.retrieved) == (1, [0])


# --- many


class Prober:
    """Replaces `probe`; records its arguments and threads."""

    def __init__(self, bad: Iterable[str] = ()) -> None:
        self.asked: list[str] = []
        self.threads: set[int] = set()
        self._bad = set(bad)

    def __call__(self, path: str) -> Probe:
        self.asked.append(path)
        self.threads.add(threading.get_ident())
        info = os.stat(path)  # noqa: PTH116
        reason = f"{path} is noise" if path in self._bad else None
        return Probe(info.st_size, info.st_mtime_ns, None if reason else 2.0, reason)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    folder = tmp_path / "videos"
    folder.mkdir()
    paths = [folder / f"{number}.mp4" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_bytes(b"1" * number)
    return [str(path) for path in paths]


def test_each_video_is_looked_at_once_not_by_the_main_thread(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(bad=files[3:4])
    monkeypatch.setattr(probing, "probe", prober)
    seen = probe_all(files + files)
    assert sorted(prober.asked) == sorted(files)
    assert threading.get_ident() not in prober.threads
    assert {path for path, one in seen.items() if one.reason} == {files[3]}
    assert sorted(seen) == sorted(files)


def test_what_was_seen_is_remembered_until_a_file_changes(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = probe_all_by(Prober(bad=files[3:4]), files[:10], tmp_path, monkeypatch)
    assert len(first[1]) == 10
    Path(files[2]).write_bytes(b"other")
    os.utime(files[3], ns=(7, 7))
    seen, asked = probe_all_by(Prober(), files[:12], tmp_path, monkeypatch)
    assert sorted(asked) == sorted([files[2], files[3], *files[10:12]])
    assert seen[files[3]].reason is None
    assert probe_all_by(Prober(), files[:12], tmp_path, monkeypatch)[1] == []


def test_what_was_seen_of_others_is_not_forgotten(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe_all_by(Prober(), files[:5], tmp_path, monkeypatch)
    seen, _ = probe_all_by(Prober(), files[5:9], tmp_path, monkeypatch)
    assert sorted(seen) == sorted(files[5:9])
    assert probe_all_by(Prober(), files[:9], tmp_path, monkeypatch)[1] == []


@pytest.mark.parametrize("note", [b"", b"{", b'{"a": 3}', b"\xff\xfe"])
def test_a_damaged_note_is_written_anew(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: bytes
) -> None:
    (tmp_path / "probes.json").write_bytes(note)
    for asked in (3, 0):
        assert len(probe_all_by(Prober(), files[:3], tmp_path, monkeypatch)[1]) == asked


def test_files_that_are_not_there_are_looked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    assert probe_all([str(path)], tmp_path)[str(path)].reason is not None
    write_video(path, 5)
    assert probe_all([str(path)], tmp_path)[str(path)].reason is None


def probe_all_by(
    prober: Prober, paths: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Probe], list[str]]:
    monkeypatch.setattr(probing, "probe", prober)
    return probe_all(paths, folder), prober.asked


# --- what is left out


def annotated(**classes: int) -> Annotations:
    labels = tuple(classes)
    items = [VideoItem(f"{name}{n}", labels.index(name)) for name, count in classes.items() for n in range(count)]
    return Annotations(tuple(items), labels)


def probes_of(annotations: Annotations, *bad: str) -> dict[str, Probe]:
    return {
        item.path: Probe(reason=f"{item.path} is noise" if item.path in bad else None) for item in annotations.items
    }


def test_bad_videos_are_skipped_counted_and_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    both = annotated(wave=3, clap=2)
    doubled = Annotations(both.items * 2, both.labels)
    with caplog.at_level(logging.WARNING):
        good, skipped = leave_out(doubled, probes_of(both, "wave1", "clap0"), "data")
    assert skipped == (("wave1", "wave1 is noise"), ("clap0", "clap0 is noise"))
    assert {item.path for item in good.items} == {"wave0", "wave2", "clap1"}
    assert len(good.items) == 6
    assert [record.getMessage() for record in caplog.records] == [
        "video skipped: wave1 is noise",
        "video skipped: clap0 is noise",
    ]


def test_after_ten_lines_only_the_number_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    both = annotated(wave=30)
    with caplog.at_level(logging.WARNING):
        _, skipped = leave_out(both, probes_of(both, *(f"wave{n}" for n in range(13))), "data")
    assert len(skipped) == 13
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 11
    assert messages[-1] == "and 3 more videos skipped"


def test_nothing_is_logged_for_good_videos(caplog: pytest.LogCaptureFixture) -> None:
    both = annotated(wave=3)
    with caplog.at_level(logging.DEBUG):
        assert leave_out(both, probes_of(both), "data") == (both, ())
    assert not caplog.records


def test_a_set_without_one_good_video_is_an_error() -> None:
    both = annotated(wave=2)
    with pytest.raises(ConfigError, match=r"^none of the 2 videos of data can be read; the first: wave0 is noise$"):
        leave_out(both, probes_of(both, "wave0", "wave1"), "data")


def test_a_class_that_loses_all_its_videos_is_an_error_where_each_must_have_some() -> None:
    both = annotated(wave=2, clap=2, jump=0)
    probes = probes_of(both, "clap0", "clap1")
    with pytest.raises(ConfigError, match=r"^data: no video of class 'clap' can be read; the first: clap0 is noise$"):
        leave_out(both, probes, "data")
    good, _ = leave_out(both, probes, "data", every_class=False)
    assert {item.label for item in good.items} == {0}


def test_what_an_earlier_version_judged_is_judged_anew(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: Prober()(path) for path in files[:3]}
    (tmp_path / "probes.json").write_bytes(msgspec.json.encode(before))  # as it was written before version 2
    assert len(probe_all_by(Prober(), files[:3], tmp_path, monkeypatch)[1]) == 3
    (tmp_path / "probes.json").write_bytes(msgspec.json.encode({"version": 1, "probes": before}))
    assert len(probe_all_by(Prober(), files[:3], tmp_path, monkeypatch)[1]) == 3
