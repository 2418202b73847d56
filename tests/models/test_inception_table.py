from __future__ import annotations

import pytest

from stream_i3d.models.i3d import I3D
from stream_i3d.models.inception_table import tensor_shapes
from stream_i3d.models.initialisation import without_weights


@pytest.mark.parametrize(("classes", "channels", "width"), [(400, 3, 1.0), (10, 2, 0.25), (3, 3, 1 / 64)])
def test_the_shapes_are_those_of_the_network(classes: int, channels: int, width: float) -> None:
    with without_weights():
        network = I3D(classes, channels, width=width)
    own = {
        key: tuple(tensor.shape) for key, tensor in network.state_dict().items() if not key.endswith("batches_tracked")
    }
    assert tensor_shapes(classes, channels, width) == own
