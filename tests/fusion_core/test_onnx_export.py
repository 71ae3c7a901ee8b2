"""Networks convert to FP16: the ONNX model that TensorRT gets has torch's numbers, and every operator is known.

A brief network always, every preset with the slow tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from support import network_weights as weights
from torch import Tensor

from fusion_core.benchmark.onnx_engine import onnx_model
from fusion_core.rfvif import PRESETS, Rfvif, preset_config
from fusion_core.rfvif.inference import for_inference

SIZE = (96, 128)
CONFIGS = {"brief": weights.BRIEF, **PRESETS}
BRIEF_OR_SLOW = ["brief", *(pytest.param(preset, marks=pytest.mark.slow) for preset in PRESETS)]
HALF_PSNR_DB = 45.0


@pytest.fixture(scope="module")
def half_model() -> Callable[[str], tuple[Rfvif, bytes]]:
    """The float32 network of a configuration and its FP16 ONNX model, made once for both tests."""
    made: dict[str, tuple[Rfvif, bytes]] = {}

    def get(name: str) -> tuple[Rfvif, bytes]:
        if name not in made:
            network = for_inference(weights.disturbed(CONFIGS[name]))
            made[name] = network, onnx_model(for_inference(network).half(), *SIZE)
        return made[name]

    return get


def pictures() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    made = [
        torch.nn.functional.interpolate(
            torch.from_numpy(rng.random((1, 1, 12, 16), np.float32)), size=SIZE, mode="bicubic"
        ).clamp(0, 1)
        for _ in range(2)
    ]
    return made[0], made[1]


def run(model: bytes, visible: Tensor, thermal: Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    (out,) = session.run(None, {names[0]: visible.numpy(), names[1]: thermal.numpy()})
    return np.asarray(out)


@pytest.mark.slow
def test_onnx_in_float32_gives_torchs_numbers() -> None:
    network = for_inference(weights.disturbed(preset_config("tiny")))
    visible, thermal = pictures()
    with torch.no_grad():
        wanted = network(visible, thermal).numpy()
    assert np.abs(wanted - visible.numpy()).mean() > 0.01
    assert np.abs(run(onnx_model(network, *SIZE), visible, thermal) - wanted).max() < 1e-3


@pytest.mark.parametrize("name", BRIEF_OR_SLOW)
def test_onnx_in_half_precision_agrees_with_float32(
    name: str, half_model: Callable[[str], tuple[Rfvif, bytes]]
) -> None:
    network, model = half_model(name)
    visible, thermal = pictures()
    with torch.no_grad():
        wanted = network(visible, thermal).numpy()
    out = run(model, visible.half(), thermal.half())
    assert out.dtype == np.float16
    assert np.abs(wanted - visible.numpy()).mean() > 0.01
    psnr_db = -10.0 * np.log10(np.mean((out.astype(np.float32) - wanted) ** 2))
    print(f"{name}: ONNX in FP16 against torch in float32, {psnr_db:.1f} dB")
    assert psnr_db >= HALF_PSNR_DB


@pytest.mark.parametrize("name", BRIEF_OR_SLOW)
def test_tensorrt_builds_a_half_precision_engine_without_a_gpu(
    name: str, half_model: Callable[[str], tuple[Rfvif, bytes]]
) -> None:
    """The whole network in one engine: the parser refuses a model with any operator that TensorRT does not have."""
    tensorrt = pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT-RTX is there for Linux on x86-64 alone", exc_type=ImportError
    )
    _, model = half_model(name)
    messages = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(messages)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, messages)
    assert parser.parse(model), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    assert parser.num_errors == 0
    for tensor in (network.get_input(0), network.get_input(1), network.get_output(0)):
        assert tensor.dtype == tensorrt.DataType.HALF
        assert tuple(tensor.shape) == (1, 1, *SIZE)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(tensorrt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    print(f"{name}: {network.num_layers} layers, {plan.nbytes / 2**20:.0f} MiB")
    assert plan.nbytes > 10_000
