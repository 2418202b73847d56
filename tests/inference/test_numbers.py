"""Every backend and precision against fp32, at the smallest, usual and largest clips, of several networks.

It runs in processes of its own: under MALLOC_PERTURB_, by which glibc fills what is freed, so that stale reads show;
and with fewer of the processor's instructions than it has, so that one machine stands for several.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_i3d.inference.torch_engine import cpu_has_bf16

ROOT = Path(__file__).resolve().parents[2]

ISAS = ["DEFAULT", "AVX2", *(["AVX512_CORE", "AVX512_CORE_BF16"] if cpu_has_bf16() else [])]
"""Values of ONEDNN_MAX_CPU_ISA, which torch's oneDNN reads; OpenVINO's plugin is built on oneDNN as well."""

MATRIX = """
import sys
from pathlib import Path

import numpy as np
import torch

from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.graphs.conversion import make_program, write_graph
from stream_i3d.inference.graphs.file import encode_head, graph_metadata
from stream_i3d.inference.graphs.inception import inception_graph
from stream_i3d.inference.graphs.onnx_engine import OnnxEngine, on_cpu
from stream_i3d.inference.graphs.openvino_engine import OpenVinoEngine, has_bf16, write_ir
from stream_i3d.inference.selfcheck.comparison import Attempt, compare
from stream_i3d.inference.selfcheck.checked import make_self_check
from stream_i3d.inference.selfcheck.reference import check_clips, model_values
from stream_i3d.inference.torch_engine import TorchEngine, head_of
from stream_i3d.models.backbone import head_arrays
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import PublishedHead
from tests.golden_rule import INCEPTION_GAIN, RESNET_GAIN
from tests.models.conftest import ruled

torch.set_num_threads(1)
folder, full = Path(sys.argv[1]), sys.argv[2] == "DEFAULT"
CASES = [
    ("i3d", 1 / 64, 8), ("i3d", 1 / 16, 8), ("i3d", 1 / 16, 9), ("i3d", 1 / 16, 16), ("i3d", 3 / 16, 8),
    ("i3d-r50-8x8", 1 / 16, 8), ("i3d-r50", 1 / 32, 32),
]
if full:
    CASES += [("i3d", 1 / 16, 64), ("i3d", 3 / 8, 8), ("c3d", 1 / 16, 16), ("convnet-lstm", 1 / 32, 8)]


def engines(name, model, spec):
    metadata = graph_metadata(spec, encode_head(*head_arrays(model)))
    for precision in ("fp32", "bf16"):
        yield ("torch", precision), TorchEngine(model, spec, torch.device("cpu"), precision)
    if name in ("c3d", "convnet-lstm") or not (full or (spec.preprocessing.clip_len == 8 and isinstance(model, I3D))):
        return  # OpenVINO cannot convert c3d; conversions of others take seconds
    ir = folder / "graph.xml"
    if isinstance(model, I3D):
        write_ir(inception_graph({key: one.numpy() for key, one in model.state_dict().items()}, spec), metadata, ir)
    else:
        write_graph(make_program(model, spec.preprocessing), metadata, ir)
    halves = has_bf16() and sys.argv[2] != "AVX2"  # no processor has AVX2 alone and bf16, and the plugin no pools
    for precision in ("fp32", "bf16") if halves else ("fp32",):
        yield ("openvino", precision), OpenVinoEngine(ir, spec, precision, 1, None)
    if full and spec.width == 1 / 16 and spec.preprocessing.clip_len == 8:
        write_graph(make_program(model, spec.preprocessing), metadata, folder / "graph.onnx")
        providers, facts = on_cpu("fp32")
        yield ("onnxruntime", "fp32"), OnnxEngine(folder / "graph.onnx", spec, providers, 1, facts)


seen = set()
for name, width, frames in CASES:
    options = {"clip_len": frames, "crop_size": 32} if name == "c3d" else {}
    gain = RESNET_GAIN if "r50" in name else INCEPTION_GAIN
    model = ruled(build_model(name, num_classes=5, width=width, **options), gain=gain)
    made = Preprocessing(clip_len=frames, short_side=32, crop_size=32)
    spec = ModelSpec(architecture=name, num_classes=5, width=width, preprocessing=made, options=options)
    reference, clips = model_values(model, made, 3, "window"), check_clips(made, 3, "window")
    assert np.isfinite(reference).all()
    head = PublishedHead({"rgb": head_of(model, spec, tuple("abcde"))})
    for (backend, precision), engine in engines(name, model, spec):
        way = Attempt(backend=backend, precision=precision, device="cpu")
        for size in (1, 3) if full else (1,):
            check = make_self_check(LoadedModel(engine, head), way, clips, reference)
            passes, difference = check.passes(size), check.difference(size)
            assert passes, f"{name} {width} {frames} {way} x {size}: {difference}"
        seen.add((backend, precision))
print(*sorted("-".join(one) for one in seen))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("isa", ISAS)
def test_every_backend_and_precision_agrees_with_fp32(isa: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnxruntime is not installed")
    environ = {**os.environ, "MALLOC_PERTURB_": "128", "OMP_NUM_THREADS": "1"}
    if isa != "DEFAULT":
        environ |= {"ONEDNN_MAX_CPU_ISA": isa, "DNNL_MAX_CPU_ISA": isa}
    command = [sys.executable, "-c", MATRIX, str(tmp_path), isa]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ran = set(done.stdout.split())
    assert {"torch-fp32", "torch-bf16", "openvino-fp32"} <= ran
    assert ("onnxruntime-fp32" in ran) == (isa == "DEFAULT")
