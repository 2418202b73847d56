"""The examples of docs/library.md, run one after the other as one program."""

from __future__ import annotations

import re
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import stream_i3d
from stream_i3d.scenes import render_clip
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import encode_published
from tests.samples import event, recognition
from tests.threads import one_thread as one_thread

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
EXAMPLES = [
    (PAGE.read_text()[: match.start()].count("\n") + 2, textwrap.dedent(match[2]))
    for match in re.finditer(r"^( *)```python\n(.*?)^\1```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
]


def write_video(path: Path, label: str, seed: int) -> None:
    frames = render_clip((7, seed), label, 50, 25, (160, 120))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (160, 120))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the examples run: with the videos that they name."""
    for seed, name in enumerate(("clip", "second")):
        write_video(tmp_path / f"{name}.mp4", "waving", seed)
    for label in ("left", "waving"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for seed in range(4):
            write_video(tmp_path / "clips" / label / f"{seed}.mp4", label, seed)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of what publishes, until the test ends."""
    ended = threading.Event()

    def publish(publisher: Publisher) -> None:
        while not ended.wait(0.02):
            for message in (recognition(), event()):
                publisher.send(encode_published(message))

    with Publisher(f"ipc://{tmp_path}/pub") as publisher:
        thread = threading.Thread(target=publish, args=(publisher,))
        thread.start()
        yield publisher.address
        ended.set()
        thread.join()


def test_the_page_shows_every_public_name() -> None:
    text = PAGE.read_text()
    assert [name for name in stream_i3d.__all__ if not re.search(rf"\b{name}\b", text)] == ["Stream", "__version__"]


@pytest.mark.slow
def test_the_examples_run(folder: Path, service: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(EXAMPLES) >= 11
    stand_ins = {
        '"rtsp://camera/1"': '"synthetic://?duration=2&fps=25"',
        "tcp://127.0.0.1:5556": service,
        '"output": "runs/mine"': '"output": "runs/mine", "model.weights": "motion", "run.epochs": 1, "data.workers": 0',
    }
    names: dict[str, object] = {}
    for line, example in EXAMPLES:
        for given, used in stand_ins.items():
            example = example.replace(given, used)
        if "subscribe(" in example:  # a service goes on for ever
            example += "    break\n"
        exec(compile("\n" * (line - 1) + example, str(PAGE), "exec"), names)
        assert capsys.readouterr().out or "Recognizer(" in example, f"{PAGE.name}:{line} shows nothing"
