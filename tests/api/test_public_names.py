"""What `import stream_i3d` offers, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import stream_i3d
from stream_i3d import errors, messages

PUBLIC = [
    "ActionEvent",
    "CameraStatus",
    "CheckpointError",
    "ConfigError",
    "DeviceError",
    "EngineError",
    "I3D",
    "LabelsError",
    "Recognition",
    "Recognizer",
    "Segment",
    "SourceError",
    "Stream",
    "StreamI3DError",
    "TrainingError",
    "TransportError",
    "VideoResult",
    "__version__",
    "build_model",
    "evaluate",
    "list_models",
    "load_checkpoint",
    "subscribe",
    "train",
]
"""The whole public API. A name that is added here is supported from then on; one that is removed breaks programs."""

HEAVY = {"av", "click", "cv2", "numpy", "rich", "torch", "yaml", "zmq"}


def imported_by(code: str) -> set[str]:
    """Run `code` in a fresh interpreter; return the top-level modules that it has imported."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_public_api_is_this_list() -> None:
    assert sorted(stream_i3d.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(stream_i3d))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(stream_i3d, name) is not None


def test_star_import_gives_the_public_api() -> None:
    namespace: dict[str, object] = {}
    exec("from stream_i3d import *", namespace)
    assert set(PUBLIC) <= set(namespace)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Recogniser'"):
        _ = stream_i3d.Recogniser  # type: ignore[attr-defined]


def test_names_are_the_classes_of_their_modules() -> None:
    assert stream_i3d.Recognition is messages.Recognition
    assert stream_i3d.SourceError is errors.SourceError


def test_every_error_is_reached_from_a_public_one() -> None:
    tree = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    public = tuple(getattr(stream_i3d, name) for name in PUBLIC if name.endswith("Error") and name != "StreamI3DError")
    assert [one.__name__ for one in tree if not issubclass(one, public)] == ["StreamI3DError", "ServiceError"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not imported_by("import stream_i3d") & HEAVY


def test_the_names_that_need_no_network_import_neither_torch_nor_opencv() -> None:
    code = "from stream_i3d import ActionEvent, Recognizer, SourceError, VideoResult, list_models, subscribe, train"
    found = imported_by(code)
    assert not found & {"av", "cv2", "torch"}
    assert "numpy" in found


def test_making_a_recognizer_does_not_load_the_network() -> None:
    found = imported_by("import stream_i3d; stream_i3d.Recognizer('motion', device='cpu')")
    assert not found & {"openvino", "torch"}
