"""Real files, made by PyAV, as phones, recorders and broken downloads leave them."""

from __future__ import annotations

import gc
import logging
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from numpy.typing import NDArray

from stream_i3d.capture import video_file
from stream_i3d.capture.video import open_file
from stream_i3d.errors import SourceNotFound
from stream_i3d.preprocess import Preprocessing, prepare_frame
from tests.video_files import ORIENTATIONS, add_sound, corners, display_matrix, shown, two_tracks, write_film

SMALL = Preprocessing(short_side=64, crop_size=64)


@pytest.fixture(autouse=True)
def warnings_anew() -> None:
    video_file._warn_once.cache_clear()


def first_picture(path: Path) -> tuple[NDArray[np.uint8], str, float]:
    """The first picture as RGB, and what is said of the file."""
    source = open_file(str(path))
    assert source.grab() == 0.0
    picture = source.retrieve()[:, :, ::-1]
    source.close()
    return picture, source.description, source.pixel_aspect


def spans(path: Path) -> list[tuple[float, float]]:
    """When each picture begins and ends."""
    source, found = open_file(str(path)), []
    while (time := source.grab()) is not None:
        assert source.until is not None
        found.append((round(time, 3), round(source.until, 3)))
    source.close()
    return found


def assert_shows(picture: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).mean() < 5


# --- orientation


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_picture_is_turned_and_mirrored_as_the_container_says(tmp_path: Path, name: str, suffix: str) -> None:
    path = write_film(tmp_path / f"selfie{suffix}", matrix=display_matrix(*ORIENTATIONS[name]))
    picture, description, _ = first_picture(path)
    expected = shown(corners(), name)
    assert_shows(picture, expected)
    assert description.startswith(f"{expected.shape[1]}x{expected.shape[0]},")


@pytest.mark.parametrize(
    ("orientation", "name"),
    [("flip=horizontal", "mirrored"), ("flip=vertical", "upside down"), ("rotate=90", "turned left")],
)
def test_the_display_orientation_in_the_video_itself_counts_as_well(
    tmp_path: Path, orientation: str, name: str
) -> None:
    plain = write_film(tmp_path / "plain.mp4", codec="libx264", options={"bf": "0"})
    path = filtered(plain, tmp_path / "sei.ts", f"h264_metadata=display_orientation=insert:{orientation}")
    assert_shows(first_picture(path)[0], shown(corners(), name))


def filtered(source: Path, path: Path, bitstream_filter: str) -> Path:
    """Copy a video through one of FFmpeg's bitstream filters."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        context = BitStreamFilterContext(bitstream_filter, stream, copy)
        for packet in given.demux(stream):
            for changed in context.filter(packet if packet.dts is not None else None):
                changed.stream = copy
                made.mux(changed)
    return path


def test_exif_in_motion_jpeg_counts_as_well(tmp_path: Path) -> None:
    good, jpeg = cv2.imencode(".jpg", corners()[:, :, ::-1])
    assert good
    mirrored = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x02\0\0\0\0\0\0\0"
    with_exif = jpeg.tobytes()[:2] + b"\xff\xe1" + struct.pack(">H", len(mirrored) + 2) + mirrored + jpeg.tobytes()[2:]
    (tmp_path / "phone.mjpeg").write_bytes(with_exif * 5)
    assert_shows(first_picture(tmp_path / "phone.mjpeg")[0], shown(corners(), "mirrored"))


def test_an_odd_matrix_is_taken_for_the_nearest_orientation_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = 2**-0.5
    path = write_film(tmp_path / "odd.mp4", matrix=display_matrix(half, half, -half, half))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert_shows(first_picture(path)[0], corners())
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: its display matrix is no quarter turn; shown in the nearest orientation"
    ]


# --- pixels that are not square


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mpeg4"), (".mp4", "libx264"), (".mkv", "libx264"), (".ts", "libx264")]
)
def test_the_sample_aspect_ratio_of_container_or_codec_is_told(tmp_path: Path, suffix: str, codec: str) -> None:
    picture = corners((352, 576))
    path = write_film(tmp_path / f"dvr{suffix}", [picture] * 5, codec=codec, pixel_aspect=Fraction(24, 11))
    stored, description, aspect = first_picture(path)
    assert stored.shape == (576, 352, 3)
    assert aspect == pytest.approx(24 / 11)
    assert description.startswith("768x576,")


def test_a_turned_picture_has_its_pixels_turned_too(tmp_path: Path) -> None:
    picture = corners((352, 576))
    matrix = display_matrix(*ORIENTATIONS["turned right"])
    path = write_film(tmp_path / "dvr.mp4", [picture] * 5, matrix=matrix, pixel_aspect=Fraction(24, 11))
    stored, description, aspect = first_picture(path)
    assert stored.shape == (352, 576, 3)
    assert aspect == pytest.approx(11 / 24)
    assert description.startswith("576x768,")


def test_the_network_sees_the_same_of_square_and_other_pixels(tmp_path: Path) -> None:
    square, narrow = corners((384, 288)), corners((176, 288))
    paths = [
        write_film(tmp_path / "square.mp4", [square] * 3),
        write_film(tmp_path / "narrow.mp4", [narrow] * 3, pixel_aspect=Fraction(24, 11)),
    ]
    prepared = []
    for path in paths:
        picture, _, aspect = first_picture(path)
        prepared.append(prepare_frame(np.ascontiguousarray(picture), SMALL, aspect).astype(int))
    assert np.abs(prepared[0] - prepared[1]).mean() < 3


@pytest.mark.parametrize(("patched", "warned"), [((1, 1000), True), ((0, 1), False), ((1, 1), False)])
def test_an_absurd_ratio_is_left_out_of_account_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, patched: tuple[int, int], warned: bool
) -> None:
    path = write_film(tmp_path / "absurd.mp4", pixel_aspect=Fraction(3, 2))
    content = path.read_bytes()
    place = content.index(b"pasp") + 4
    path.write_bytes(content[:place] + struct.pack(">II", *patched) + content[place + 8 :])
    source = open_file(str(path))
    source.close()
    assert source.pixel_aspect in (1.0, 1.5)  # the codec's own, where the container says nothing
    assert ("its sample aspect ratio 1:1000 is not believed" in caplog.text) == warned


# --- times


def test_a_picture_lasts_until_the_next_one_and_the_last_its_own_time(tmp_path: Path) -> None:
    path = write_film(tmp_path / "still.mp4", [corners()] * 4, [0, 0.04, 10.04, 10.08], last_s=2)
    assert spans(path) == [(0, 0.04), (0.04, 10.04), (10.04, 10.08), (10.08, 12.08)]


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mov"])
def test_a_file_may_begin_at_any_time(tmp_path: Path, suffix: str) -> None:
    path = write_film(tmp_path / f"late{suffix}", times=[3600 + index / 25 for index in range(10)], codec="libx264")
    assert spans(path) == [(round(index / 25, 3), round((index + 1) / 25, 3)) for index in range(10)]


def test_a_raw_stream_without_time_stamps_runs_at_its_nominal_rate(tmp_path: Path) -> None:
    path = write_film(tmp_path / "raw.h264", [corners()] * 20, codec="libx264", options={"bf": "2"})
    assert spans(path) == [(round(index / 25, 3), round((index + 1) / 25, 3)) for index in range(20)]


def test_recordings_that_were_joined_go_on_from_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = write_film(tmp_path / "part.ts", [corners()] * 50, codec="libx264").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part * 2)
    found = spans(tmp_path / "joined.ts")
    assert found == [(round(index / 25, 3), round((index + 1) / 25, 3)) for index in range(100)]
    assert "its time stamps jump by -2 s at 2.0 s; the jump is left out" in caplog.text


def test_ten_hours_between_two_pictures_are_cut_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_film(tmp_path / "gap.mp4", [corners()] * 4, [0, 0.04, 36000, 36000.04])
    assert spans(path) == [(0, 0.04), (0.04, 60.04), (60.04, 60.08), (60.08, 60.12)]
    assert "its time stamps jump by 36000 s at 0.0 s; the jump is cut to 60 s" in caplog.text


# --- the track


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("thumbnail", [None, Disposition.default, Disposition.attached_pic])
@pytest.mark.parametrize("first", [True, False])
def test_a_thumbnail_is_not_the_film(tmp_path: Path, suffix: str, thumbnail: Disposition | None, first: bool) -> None:
    path = two_tracks(tmp_path / f"camera{suffix}", thumbnail, first)
    assert first_picture(path)[1].startswith("96x64,")
    assert len(spans(path)) == 25


def test_of_two_films_the_default_one_is_taken_else_the_larger(tmp_path: Path) -> None:
    for marked, expected in ((None, "192x128,"), (0, "96x64,"), (1, "192x128,")):
        path = tmp_path / f"{marked}.mkv"
        with av.open(str(path), "w") as container:
            streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
            for number, (stream, size) in enumerate(zip(streams, ((96, 64), (192, 128)), strict=True)):
                stream.width, stream.height = size
                stream.disposition = Disposition.default if marked == number else Disposition(0)
            for stream in streams:
                for number in range(5):
                    frame = av.VideoFrame.from_ndarray(corners((stream.width, stream.height)), format="rgb24")
                    frame.pts = number
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
        assert first_picture(path)[1].startswith(expected), marked


# --- what is no video


def cases(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files that give no picture, and what is said of each."""

    def written(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(20)]
    film = write_film(folder / "film.mp4", pictures).read_bytes()
    yield written("empty.mp4", b""), "is not a video that FFmpeg can read: it is empty; copy or record it again"
    yield written("page.mp4", b"<html>404 not found</html>"), "FFmpeg can read: it holds text; give the video itself"
    yield written("list.txt", b"a.mp4 wave\n" * 20), "FFmpeg can read: it holds text; give the video itself"
    yield written("half.mp4", film[: len(film) // 2]), r"its index \(moov\) is missing, .*; fetch it again"
    yield written("noise.mp4", b"\x00\xff" * 5000), "FFmpeg can read; play it elsewhere, or convert it to H.264 MP4"
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        good, encoded = cv2.imencode(suffix, corners())
        assert good
        why = "is WebP, which cannot be read as a video" if suffix == ".webp" else "is a single picture; give a video"
        yield written(f"picture{suffix}", encoded.tobytes()), why
        yield written(f"picture{suffix}.mp4", encoded.tobytes()), why
    with av.open(str(folder / "sound.mp4"), "w") as container:
        add_sound(container)
    yield folder / "sound.mp4", "holds sound, but no video; give a video file"
    keys = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    keys["encryption_kid"] = "a7e61c373e219033c21091fa607bf3b8"
    path = write_film(folder / "locked.mp4", pictures, codec="libx264", container_options=keys)
    yield path, "is encrypted; give a copy without protection"


def test_what_gives_no_picture_is_one_line_that_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path, words in cases(tmp_path):
        with pytest.raises(SourceNotFound, match=words) as caught:
            open_file(str(path))
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # FFmpeg is silent


def test_sound_with_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        add_sound(container)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(corners(), format="rgb24")))
        container.mux(cover.encode())
    with pytest.raises(SourceNotFound, match="holds sound and a cover picture, but no video"):
        open_file(str(path))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_is_cut_off_gives_what_is_there_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(100)]
    whole = write_film(
        tmp_path / f"whole{suffix}", pictures, codec="libx264", options={"g": "10"},
        container_options={"movflags": "faststart"} if suffix == ".mp4" else None,
    )  # fmt: skip
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert len(spans(whole)) == 100
    assert not caplog.text
    assert 40 <= len(spans(cut)) <= 55
    assert f"{cut}: its video ends at" in caplog.text
    assert "of 4.0 s; the file is damaged or cut off" in caplog.text


def test_a_damaged_part_is_left_out_and_the_rest_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(60)]
    path = write_film(tmp_path / "scratched.ts", pictures, codec="libx264", options={"g": "10"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xa5" * 3000
    path.write_bytes(content)
    found = spans(path)
    assert 40 <= len(found) <= 60
    assert found[-1][1] == pytest.approx(2.4, abs=0.05)


def test_a_name_is_a_file_and_no_protocol_or_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    film = write_film(tmp_path / "film.mp4").read_bytes()
    for name in ("http:clip.mp4", "-i.mp4", "frame%03d.mp4", "file:a.mp4", "a?b#c.mp4"):
        Path(name).write_bytes(film)
        assert len(spans(Path(name))) == 10, name


def test_one_decoder_thread_is_used(tmp_path: Path) -> None:
    source = open_file(str(write_film(tmp_path / "a.mp4")))
    assert source._stream.codec_context.thread_count == 1
    source.close()


def test_pictures_do_not_pile_up_until_the_garbage_collector_comes_round(tmp_path: Path) -> None:
    source = open_file(str(write_film(tmp_path / "a.mp4", [corners()] * 30)))
    gc.collect()
    gc.disable()
    try:
        while source.grab() is not None:
            source.retrieve()
        alive = sum(type(one) is av.VideoFrame for one in gc.get_objects())
    finally:
        gc.enable()
        source.close()
    assert alive <= 3


def test_a_title_that_is_not_utf_8_does_not_make_a_file_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "titled.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caf-at-noon"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"caf-at-noon") == 1
    path.write_bytes(content.replace(b"caf-at-noon", b"caf\xe9at-noon"))
    source = open_file(str(path))
    assert source.grab() == 0.0
    source.close()
