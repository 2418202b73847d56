from __future__ import annotations

import importlib.metadata
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stream_i3d.capture import video
from stream_i3d.errors import CheckpointError
from stream_i3d.inference import torch_engine
from stream_i3d.inference.backends import Backend
from stream_i3d.inference.selfcheck.checked import SelfCheck
from stream_i3d.inference.selfcheck.comparison import TOLERANCES
from stream_i3d.service.doctor import machine
from stream_i3d.service.doctor.engine import check_findings
from stream_i3d.service.doctor.finding import Finding
from stream_i3d.service.doctor.machine import examine_machine
from stream_i3d.stage import EngineCheck, RejectedEngine
from tests.inference.fakes import FakeEngine


def finding(what: str) -> Finding:
    [found] = [one for one in examine_machine() if one.what == what]
    return found


def test_everything_is_looked_at_once() -> None:
    names = [one.what for one in examine_machine()]
    assert len(names) == len(set(names))
    assert {"version", "torch", "opencv-python", "CPU", "GPU", "FFmpeg in OpenCV", "webcams", "carried model"} <= {
        *names
    }


def test_whatever_is_not_ok_comes_with_a_remedy() -> None:
    for one in examine_machine():
        assert one.found
        assert (one.state == "ok") or one.remedy


def test_a_package_that_is_missing_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "pyzmq":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert finding("pyzmq") == Finding(what="pyzmq", state="fail", found="not installed", remedy="pip install pyzmq")
    assert finding("numpy").state == "ok"


def test_backends_are_listed_with_how_to_install_those_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "installed", property(lambda self: self.name in ("torch", "onnxruntime")))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2")
    assert finding("backend onnxruntime").found == "1.2, ONNX Runtime: fp32 on CPUs, .onnx files"
    missing = finding("backend openvino")
    assert (missing.state, missing.remedy) == ("absent", "not needed; pip install 'stream-i3d[openvino]'")


def test_an_opencv_without_ffmpeg_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "has_ffmpeg", lambda: False)
    found = finding("FFmpeg in OpenCV")
    assert found.state == "fail"
    assert "pip install" in found.remedy


@pytest.mark.parametrize(("bf16", "words"), [(True, "bf16 in hardware"), (False, "no bf16 in hardware, runs fp32")])
def test_the_processor_says_how_it_will_run(monkeypatch: pytest.MonkeyPatch, bf16: bool, words: str) -> None:
    monkeypatch.setattr(torch_engine, "cpu_has_bf16", lambda: bf16)
    assert f", {words}, " in finding("CPU").found


def test_no_gpu_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "choose_device", lambda name: torch.device("cpu"))
    found = finding("GPU")
    assert (found.state, found.remedy.split(";")[0]) == ("absent", "not needed")


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "choose_device", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Fake 9000")
    assert finding("GPU") == Finding(what="GPU", state="ok", found="Fake 9000")


def test_webcams_are_listed_and_locked_ones_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.sys, "platform", "linux")
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(video, "list_webcams", lambda: [str(device)])
    assert finding("webcams") == Finding(what="webcams", state="ok", found=str(device))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    locked = finding("webcams")
    assert (locked.state, locked.found) == ("fail", f"no access to {device}")
    assert "usermod" in locked.remedy
    monkeypatch.setattr(video, "list_webcams", list)
    assert finding("webcams").state == "absent"


def test_a_missing_carried_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: object) -> None:
        raise CheckpointError("the carried checkpoint is not there")

    monkeypatch.setattr(machine, "read_spec", fail)
    found = finding("carried model")
    assert (found.state, found.found) == ("fail", "the carried checkpoint is not there")


def test_system_parts_that_only_tests_need_are_absent_rather_than_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "node" else f"/usr/bin/{program}")
    assert finding("node").state == "absent"
    assert "scripts/system-deps" in finding("node").remedy
    assert finding("ffmpeg") == Finding(what="ffmpeg", state="ok", found="/usr/bin/ffmpeg")


def test_the_carried_models_engine_is_compared_with_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = machine._engine()
    assert (found.what, found.state) == ("engine self-check", "ok")
    assert "of fp32 (at most" in found.found
    rejected = RejectedEngine(backend="openvino", precision="bf16", device="cpu", finite=True, difference=0.4)
    facts = EngineCheck(
        backend="torch",
        precision="fp32",
        device="cpu",
        compared=True,
        difference=1e-6,
        tolerance=0.01,
        rejected=[rejected],
    )

    unchecked = FakeEngine().model
    check = SelfCheck(unchecked, [], None, TOLERANCES["fp32"], facts)
    [warned] = check_findings(replace(unchecked, check=check))
    assert warned.state == "warn"
    assert "not used: openvino bf16 on cpu, off by 0.4" in warned.found
    assert warned.remedy
    assert list(check_findings(unchecked)) == []
