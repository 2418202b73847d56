"""What the self-check of a loaded engine found, for `stream-i3d doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from stream_i3d.inference.engine import LoadedModel
from stream_i3d.service.doctor.finding import Finding
from stream_i3d.stage import describe_check

_WHAT = "engine self-check"


def check_findings(model: LoadedModel) -> Iterator[Finding]:
    """Yield how a model's engine compares with float32 of its own weights, and what was not used for that reason."""
    if model.check is None:
        return
    facts = model.check.facts
    found = describe_check(facts)
    if facts.rejected:
        remedy = "it runs right, but slower: report the processor and these lines, and try newer torch or OpenVINO"
        yield Finding(what=_WHAT, state="warn", found=found, remedy=remedy)
    elif not facts.compared:
        remedy = "export the checkpoint again: the file then carries values to compare with"
        yield Finding(what=_WHAT, state="warn", found=found, remedy=remedy)
    else:
        yield Finding(what=_WHAT, state="ok", found=found)
