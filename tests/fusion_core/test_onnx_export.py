"""Every preset converts: to ONNX with the same numbers, and to FP16 engines of TensorRT-RTX, no operator left over."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from fusion_core.onnx_engine import onnx_model
from fusion_core.rfvif import PRESETS, preset_config
from fusion_core.rfvif.inference import for_inference

_spec = importlib.util.spec_from_file_location("network_weights", Path(__file__).with_name("network_weights.py"))
assert _spec is not None
assert _spec.loader is not None
weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(weights)

SIZE = (96, 128)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_onnx_gives_the_same_numbers(preset: str) -> None:
    network = for_inference(weights.disturbed(preset_config(preset)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_model(network, *SIZE), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    visible, thermal = (
        torch.nn.functional.interpolate(
            torch.from_numpy(rng.random((1, 1, 12, 16), np.float32)), size=SIZE, mode="bicubic"
        ).clamp(0, 1)
        for _ in range(2)
    )
    names = [entry.name for entry in session.get_inputs()]
    (out,) = session.run(None, {names[0]: visible.numpy(), names[1]: thermal.numpy()})
    with torch.no_grad():
        wanted = network(visible, thermal).numpy()
    assert np.abs(wanted - visible.numpy()).mean() > 0.01
    assert np.abs(out - wanted).max() < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("preset", PRESETS)
def test_tensorrt_builds_a_half_precision_engine_without_a_gpu(preset: str) -> None:
    tensorrt = pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13", exc_type=ImportError
    )
    model = onnx_model(for_inference(weights.disturbed(preset_config(preset))).half(), *SIZE)
    messages = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(messages)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, messages)
    assert parser.parse(model), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    assert network.get_input(0).dtype == tensorrt.DataType.HALF
    assert network.get_output(0).dtype == tensorrt.DataType.HALF
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(tensorrt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert plan.nbytes > 10_000
