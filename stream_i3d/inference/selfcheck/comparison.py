"""How far an engine may be from float32, and what is tried when it is farther. Pure: numbers in, decisions out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from stream_i3d.config import BackendName, Precision
from stream_i3d.recognition.head import softmax

Logits = NDArray[np.float32]
"""(rows, num_classes)."""


class Tolerance(Struct, frozen=True, kw_only=True):
    """What an engine may differ by.

    Attributes:
        probability: Largest difference of a probability.
        logits: Root mean square of the differences of logits, to the deviation of the reference's within a row. A
            network that is sure of nothing has hardly any probabilities to differ by, and this tells.
        negligible: Up to this difference of probabilities that of the logits is not looked at: a head that was never
            trained gives logits so much alike that rounding is a large part of their deviation.
    """

    probability: float
    logits: float
    negligible: float = 0.0


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(probability=0.01, logits=0.02),
    "fp16": Tolerance(probability=0.03, logits=0.05, negligible=0.0005),
    "bf16": Tolerance(probability=0.05, logits=0.1, negligible=0.001),
}
"""By precision; docs/decisions.md ("Every engine checks itself") has what was measured."""

INT8 = Tolerance(probability=0.25, logits=0.4, negligible=0.01)
"""Of files whose convolutions are int8: their source was measured on the user's own clips, these are not like them."""


class Difference(Struct, frozen=True, kw_only=True):
    """What a comparison gave.

    Attributes:
        finite: Whether all of the engine's logits are finite.
        probability: Largest difference of a probability; None where the logits are not finite or nothing was at hand
            to compare them with.
        logits: As in `Tolerance`.
    """

    finite: bool
    probability: float | None = None
    logits: float | None = None

    def within(self, tolerance: Tolerance) -> bool:
        """Return whether the engine may be used; one that could not be compared may, where it is finite."""
        if not self.finite:
            return False
        if self.probability is None or self.logits is None:
            return True
        if self.probability > tolerance.probability:
            return False
        return self.logits <= tolerance.logits or self.probability <= tolerance.negligible

    def __str__(self) -> str:
        if not self.finite:
            return "its output is not finite"
        if self.probability is None:
            return "its output is finite, and there was nothing to compare it with"
        return f"largest difference of a probability {self.probability:.2g}, of the logits {self.logits:.2g}"


def tolerance_of(precision: Precision, int8: bool) -> Tolerance:
    """Return what an engine may differ by; `precision` is not "auto"."""
    return INT8 if int8 else TOLERANCES[precision]


def compare(reference: Logits | None, found: Logits, temperature: float) -> Difference:
    """Compare an engine's logits with the reference's of the same clips.

    Args:
        reference: In float32; None where there is none.
        found: The engine's, (rows, num_classes).
        temperature: What logits are divided by before the softmax.
    """
    if not np.isfinite(found).all():
        return Difference(finite=False)
    if reference is None:
        return Difference(finite=True)
    between = np.abs(softmax(reference, temperature) - softmax(found, temperature))
    apart = _centred(reference) - _centred(found)
    deviation = float(np.sqrt(np.mean(_centred(reference) ** 2)))
    smallest = 1e-5 * float(np.abs(reference).max()) + 1e-12  # float32's own rounding; also of a head of zeros
    return Difference(
        finite=True,
        probability=float(between.max()),
        logits=float(np.sqrt(np.mean(apart**2))) / max(deviation, smallest),
    )


def worst(differences: Sequence[Difference]) -> Difference:
    """Return the largest of each difference; of no comparison at all, one that is finite."""
    if not all(one.finite for one in differences):
        return Difference(finite=False)
    return Difference(
        finite=True,
        probability=max((one.probability for one in differences if one.probability is not None), default=None),
        logits=max((one.logits for one in differences if one.logits is not None), default=None),
    )


class Attempt(Struct, frozen=True, kw_only=True):
    """One way to run a network; `precision` and `device` are those that it has, not "auto"."""

    backend: BackendName
    precision: Precision
    device: str
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} on {self.device}" + (", compiled" if self.compiled else "")


def attempts(first: Attempt, others: Sequence[BackendName]) -> tuple[Attempt, ...]:
    """Return the ways to run a network, in the order in which they are tried.

    After the one of choice: the same backend in float32, that without torch.compile, then other backends in float32 on
    the same device, and on the CPU at last.

    Args:
        first: What was asked for, or chosen.
        others: Backends that run this network too, the best first; torch for a checkpoint, none or some for a file
            that was exported.
    """
    plain = structs.replace(first, precision="fp32")
    ways = [first, plain, structs.replace(plain, compiled=False)]
    if "torch" in (first.backend, *others) and first.device != "cpu":
        ways.append(Attempt(backend="torch", precision="fp32", device=first.device))
    ways += [Attempt(backend=name, precision="fp32", device="cpu") for name in others]
    if first.backend == "torch":
        ways.append(Attempt(backend="torch", precision="fp32", device="cpu"))
    return tuple(dict.fromkeys(ways))


def _centred(logits: Logits) -> Logits:
    """Take each row's mean out, which a softmax does not see; of a single class it is all there is."""
    if logits.shape[1] == 1:
        return logits
    return np.asarray(logits - logits.mean(axis=1, keepdims=True), np.float32)
