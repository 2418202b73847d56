"""What network a configuration means, and what frames it wants: settled before torch is imported.

The supervisor needs the preprocessing to start captures, and every check that can be made without loading weights is
made here, so that a mistake is answered at once.
"""

from __future__ import annotations

import os

from msgspec import Struct, structs

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import ConfigError
from stream_i3d.messages import ModelName
from stream_i3d.models.labels import check_labels, load_labels
from stream_i3d.models.spec import ModelSpec, read_spec, resolve_checkpoint
from stream_i3d.preprocess import Preprocessing


class ModelSetup(Struct, frozen=True, kw_only=True):
    """A settled choice of network.

    Attributes:
        path: The weights file.
        spec: What the file says of itself; None for other programs' files.
        preprocessing: The checkpoint's, with the configuration's window settings over it.
        labels: The label list that was asked for; None takes the checkpoint's.
    """

    path: str
    spec: ModelSpec | None
    config: ModelConfig
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None

    @property
    def model_name(self) -> ModelName:
        """The network's name and its file's, as published."""
        return ModelName(name=self.config.name, checkpoint=self.path.rsplit("/", 1)[-1])


def settle_model(model: ModelConfig, window: WindowConfig) -> ModelSetup:
    """Resolve checkpoint, labels and preprocessing.

    Raises:
        CheckpointError: There is no such file, or its header is broken.
        LabelsError: The list cannot be read, or its length is not the network's.
        ConfigError: The checkpoint is of another architecture than `model.name`.
    """
    path = resolve_checkpoint(model.checkpoint)
    spec = read_spec(path)
    if spec is not None and spec.architecture != model.name:
        raise ConfigError(
            f"model.name {model.name!r}: checkpoint {path.name} is of architecture {spec.architecture!r}; "
            f"use --model {spec.architecture} or another checkpoint"
        )
    labels = None if model.labels is None else load_labels(model.labels)
    if labels is not None and spec is not None:
        check_labels(labels, spec.num_classes)
    return ModelSetup(
        path=str(path),
        spec=spec,
        config=model,
        preprocessing=_merge(spec.preprocessing if spec else Preprocessing(), window),
        labels=labels,
    )


def wait_passively() -> None:
    """Let idle OpenMP threads sleep rather than spin; must be called before torch is first imported.

    Spinning threads and other busy processes (capture, a subscriber) keep each other off the cores. docs/decisions.md:
    beside a busy process on 2 cores the median latency was 1,820 ms, and 20 ms with this.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _merge(preprocessing: Preprocessing, window: WindowConfig) -> Preprocessing:
    chosen = {
        "clip_len": window.clip_len,
        "frame_interval": window.frame_interval,
        "sample_fps": window.sample_fps,
    }
    return structs.replace(preprocessing, **{key: value for key, value in chosen.items() if value is not None})
