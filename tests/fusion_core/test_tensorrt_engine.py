"""The TensorRT engine as far as a machine without a GPU goes: reasons, keys, what the builder is asked, fallbacks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import structlog
import torch
from support import network_weights as weights

from fusion_core.engines import tensorrt_engine
from fusion_core.engines.engine import create_engine
from fusion_core.engines.gpu.plan import build_plan
from fusion_core.engines.tensorrt_engine import engine_key, load_tensorrt
from fusion_core.errors import EngineError
from fusion_core.rfvif.inference import for_inference
from fusion_core.rfvif.programs import programs_of

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@no_gpu
def test_without_a_gpu_the_reason_is_told_before_anything_is_imported() -> None:
    with pytest.raises(EngineError, match="no CUDA device"):
        load_tensorrt()


def test_a_library_that_does_not_load_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one raises AssertionError or plain Exception."""
    monkeypatch.setattr(tensorrt_engine, "check_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"not installed; `pip install lumitherm\[tensorrt\]`"):
        load_tensorrt()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace())
    import builtins

    plain = builtins.__import__

    def broken(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch_tensorrt":
            raise AssertionError("libnvinfer.so.11 is not there")
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(EngineError, match="AssertionError: libnvinfer"):
        load_tensorrt()


@pytest.mark.parametrize(("version", "fits"), [("2.10.1", False), ("2.9.0+cu128", False), ("2.11.0", True)])
def test_a_weakly_typed_torch_tensorrt_is_refused(version: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run the network in float32 under the name float16."""
    monkeypatch.setattr(tensorrt_engine, "check_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace())
    wrapper, tensorrt = ModuleType("torch_tensorrt"), ModuleType("tensorrt")
    wrapper.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_tensorrt", wrapper)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    if fits:
        assert load_tensorrt() == (wrapper, tensorrt)
        return
    with pytest.raises(EngineError, match=r"must be 2\.11 or newer: older ones run the network in float32"):
        load_tensorrt()


def test_the_key_names_all_that_a_plan_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="NVIDIA Test", major=8, minor=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    rtx = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.5")
    wrapper = SimpleNamespace(__version__="2.13.0")

    def key(
        sha: str = "s", height: int = 480, width: int = 640, tensorrt: Any = rtx, program: str = "fuse"
    ) -> dict[str, Any]:
        device = torch.device("cpu")
        return engine_key(sha, height, width, program=program, torch_tensorrt=wrapper, tensorrt=tensorrt, device=device)

    base = key()
    assert {"weights", "network", "height", "width", "precision", "gpu", "capability", "driver"} <= set(base)
    assert {"torch", "torch_tensorrt", "tensorrt", "flavour"} <= set(base)
    assert base["capability"] == "8.9"
    full = SimpleNamespace(__name__="tensorrt", __version__="1.5")
    properties_before = dict(base)
    for other in (key(sha="t"), key(height=720), key(width=1280), key(tensorrt=full), key(program="estimate")):
        assert other != base
    properties.name = "NVIDIA Other"
    assert key() != properties_before


class FakeDynamo:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.options: dict[str, Any] = {}

    def convert_exported_program_to_serialized_trt_engine(self, program: object, **options: Any) -> bytes:
        self.options = options
        if self.error is not None:
            raise self.error
        return b"plan"


def test_the_builder_is_asked_for_a_whole_program_in_half_precision() -> None:
    dynamo = FakeDynamo()
    network = for_inference(weights.disturbed(weights.BRIEF)).half()
    program, inputs = programs_of(network, 64, 80, refines=False, carries_kernels=False)["fuse"]
    plan = build_plan("fuse", program, inputs, SimpleNamespace(dynamo=dynamo), torch.device("cpu"))
    assert plan == b"plan"
    assert dynamo.options["require_full_compilation"] is True
    assert dynamo.options["min_block_size"] == 1
    assert [each.dtype for each in dynamo.options["arg_inputs"]] == [torch.float32] * 4
    assert len({each.data_ptr() for each in dynamo.options["arg_inputs"]}) == 4
    failing = SimpleNamespace(dynamo=FakeDynamo(KeyError("aten.strange")))
    with pytest.raises(EngineError, match=r"cannot build the fuse program for \(64, 80\) \(KeyError\)"):
        build_plan("fuse", program, inputs, failing, torch.device("cpu"))


def test_building_tells_how_long_it_has_been_at_it() -> None:
    told: list[tuple[str, float]] = []
    with tensorrt_engine._reported(lambda what, seconds: told.append((what, seconds)), "building"):
        while not told:
            pass
    assert told[0][0] == "building"


@no_gpu
def test_named_gpu_engines_fail_and_auto_goes_on_with_a_reason(tmp_path: Path) -> None:
    path = weights.checkpoint(tmp_path, "tiny").path
    for name in ("tensorrt", "torch-cuda"):
        with pytest.raises(EngineError, match="no CUDA device"):
            create_engine(name, weights=path)
    with structlog.testing.capture_logs() as logs:
        engine = create_engine("auto", weights=path)
    assert engine.name.startswith("openvino-")
    engine.close()
    (chosen,) = [entry for entry in logs if entry["event"] == "engine chosen"]
    assert "no CUDA device" in chosen["not_tensorrt"]
    assert "no CUDA device" in chosen["not_torch_cuda"]


def test_auto_warns_when_a_better_engine_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion_core.engines import engine as module

    def lost(*_: object) -> None:
        raise EngineError("Torch-TensorRT does not load")

    monkeypatch.setattr(module, "_tensorrt", lost)
    monkeypatch.setattr(
        module, "_torch_cuda", lambda checkpoint, label, video: module._torch(checkpoint, label, None, video)
    )
    with structlog.testing.capture_logs() as logs:
        engine = create_engine("auto", weights=weights.checkpoint(tmp_path, "tiny").path)
    engine.close()
    assert [(entry["log_level"], entry["not_tensorrt"]) for entry in logs] == [
        ("warning", "Torch-TensorRT does not load")
    ]
