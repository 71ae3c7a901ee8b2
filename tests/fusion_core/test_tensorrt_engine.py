"""The TensorRT engine as far as a machine without a GPU goes: reasons, keys, what the builder is asked, fallbacks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import torch
from support import network_weights as weights

from fusion_core.engines import tensorrt_engine
from fusion_core.engines.engine import create_engine
from fusion_core.engines.tensorrt_engine import engine_key, load_tensorrt, plan_network
from fusion_core.errors import EngineError

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


def test_the_key_names_all_that_a_plan_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="NVIDIA Test", major=8, minor=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    rtx = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.5")
    wrapper = SimpleNamespace(__version__="2.13.0")

    def key(sha: str = "s", height: int = 480, width: int = 640, tensorrt: Any = rtx) -> dict[str, Any]:
        return engine_key(sha, height, width, torch_tensorrt=wrapper, tensorrt=tensorrt, device=torch.device("cpu"))

    base = key()
    assert {"weights", "network", "height", "width", "precision", "gpu", "capability", "driver"} <= set(base)
    assert {"torch", "torch_tensorrt", "tensorrt", "flavour"} <= set(base)
    assert base["capability"] == "8.9"
    full = SimpleNamespace(__name__="tensorrt", __version__="1.5")
    properties_before = dict(base)
    for other in (key(sha="t"), key(height=720), key(width=1280), key(tensorrt=full)):
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


def test_the_builder_is_asked_for_the_whole_network_in_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[torch.dtype] = []
    monkeypatch.setattr(
        tensorrt_engine, "export_network", lambda network, h, w: exported.append(next(network.parameters()).dtype)
    )
    dynamo = FakeDynamo()
    checkpoint = weights.checkpoint(tmp_path, "tiny")
    plan = plan_network(checkpoint, 64, 80, SimpleNamespace(dynamo=dynamo), torch.device("cpu"))
    assert plan == b"plan"
    assert exported == [torch.float16]
    assert next(checkpoint.network.parameters()).dtype == torch.float32  # the original stays
    assert dynamo.options["require_full_compilation"] is True
    assert dynamo.options["min_block_size"] == 1
    first, second = dynamo.options["arg_inputs"]
    assert first.dtype == second.dtype == torch.float16
    assert first.data_ptr() != second.data_ptr()
    failing = SimpleNamespace(dynamo=FakeDynamo(KeyError("aten.strange")))
    with pytest.raises(EngineError, match=r"cannot build the network at 64x80 \(KeyError\)"):
        plan_network(checkpoint, 64, 80, failing, torch.device("cpu"))


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
    monkeypatch.setattr(module, "_torch_cuda", lambda checkpoint, label: module._torch(checkpoint, label, None))
    with structlog.testing.capture_logs() as logs:
        engine = create_engine("auto", weights=weights.checkpoint(tmp_path, "tiny").path)
    engine.close()
    assert [(entry["log_level"], entry["not_tensorrt"]) for entry in logs] == [
        ("warning", "Torch-TensorRT does not load")
    ]
