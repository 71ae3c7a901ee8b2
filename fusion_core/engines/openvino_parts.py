"""Parts of the network as OpenVINO models, and the displacement estimate that several engines share."""

from __future__ import annotations

import importlib
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.openvino_runtime import load_openvino
from fusion_core.engines.running_displacement import Estimator, Floats
from fusion_core.errors import EngineError
from fusion_core.rfvif import NETWORK_VERSION, Rfvif

__all__ = ["compile_part", "openvino_estimator"]

_CONVERSION_VERSION = 7
"""Raised whenever the same network converts to another model; part of the cache key."""

_FEW_PLANES = 4


def compile_part(
    name: str,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    checkpoint: LoadedCheckpoint,
    cache: EngineCache | None,
    *,
    precision: str = "f32",
    threads: int = 1,
) -> Any:
    """An inference request for the module at the sizes of `inputs`.

    Args:
        name: of the part, for the cache and errors.
        inputs: examples, pictures first; each its own tensor: the same object twice becomes one input of the model.
        checkpoint: whose weights the module has.
        cache: where the converted model is kept; None converts at every start.
        precision: "f32" or "bf16".

    Raises:
        EngineError: OpenVINO cannot convert or compile it.
    """
    ov = load_openvino()
    height, width = inputs[0].shape[-2:]

    def convert() -> object:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer: what it fixes is fixed on purpose, the size
            # A trace converts in a quarter of the time of an exported program, and keeps the shapes static: with
            # shapes that OpenVINO takes for dynamic the same model runs slower.
            traced = torch.jit.trace(module.eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]
            model = ov.convert_model(traced, example_input=inputs, input=[tuple(each.shape) for each in inputs])
        _grow_by_matrices(model)
        return model

    options: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # a tied thread waits while another core is idle (docs/evidence/engines.md)
    }
    key = {
        "kind": f"openvino-{name}",
        "weights": checkpoint.sha256,
        "network": NETWORK_VERSION,
        "conversion": _CONVERSION_VERSION,
        "height": height,
        "width": width,
        # All of them: a large picture that is reduced and a small one that is not may share a working grid.
        "inputs": [list(each.shape) for each in inputs],
        "torch": torch.__version__,
        "openvino": ov.__version__,
    }
    try:
        model = convert() if cache is None else cache.openvino_model(key, convert)
        return ov.Core().compile_model(model, "CPU", options).create_infer_request()
    except (RuntimeError, ValueError, TypeError) as error:
        raise EngineError(f"OpenVINO cannot compile the {name} part at {height}x{width}: {error}") from error


def _grow_by_matrices(model: Any) -> None:
    """Write bilinear growth by a whole number as two products with constant matrices, where there are few planes.

    OpenVINO interpolates as if planes were channels of a vector: with one or two of them it takes several times as long
    as the products.
    """
    ov = load_openvino()
    opset = importlib.import_module("openvino.opset13")
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Interpolate" or not node.output(0).get_partial_shape().is_static:
            continue
        kind, given, grown = node.get_attributes(), node.input_value(0), node.output(0)
        batch, planes, *small = given.get_shape()
        large = list(grown.get_shape())[2:]
        factors = {new / old for new, old in zip(large, small, strict=True)}
        if (
            kind["mode"] == "linear_onnx"
            and kind["coordinate_transformation_mode"] in ("half_pixel", "pytorch_half_pixel")
            and not any(kind["pads_begin"] + kind["pads_end"])
            and grown.get_element_type() == ov.Type.f32
            and batch * planes <= _FEW_PLANES
            and min(small) > 1
            and factors <= {2.0, 4.0, 8.0}
        ):
            down, across = (opset.constant(_growth(old, new // old)) for old, new in zip(small, large, strict=True))
            rows = opset.matmul(given, across, transpose_a=False, transpose_b=True)
            columns = opset.matmul(down, rows, transpose_a=False, transpose_b=False)
            columns.set_friendly_name(node.get_friendly_name())
            grown.replace(columns.output(0))


def _growth(count: int, factor: int) -> Floats:
    """(count * factor, count): row i has the weights of which bilinear growth makes value i, the border repeated."""
    at = np.clip((np.arange(count * factor) + 0.5) / factor - 0.5, 0.0, count - 1.0)
    return np.maximum(1.0 - np.abs(at[:, None] - np.arange(count)), 0.0).astype(np.float32)


class _Estimate(nn.Module):
    """uint8 pictures -> displacement (1, 2, h, w) in pixels and log-confidence (1, 1, h, w), float32."""

    def __init__(self, network: Rfvif, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network.estimate(self._padded(visible), self._padded(infrared))
        return found.displacements[-1], found.log_confidence

    def _padded(self, picture: Tensor) -> Tensor:
        return self.network.pad(picture.float() * (1.0 / 255.0), self.factor)


class _Refine(_Estimate):
    """As `_Estimate`, from a displacement (1, 2, h, w) that is right to a pixel or two."""

    def forward(  # type: ignore[override]
        self, visible: Tensor, infrared: Tensor, displacement: Tensor
    ) -> tuple[Tensor, Tensor]:
        found = self.network.refine(self._padded(visible), self._padded(infrared), displacement)
        return found.displacements[-1], found.log_confidence


class _OpenVinoEstimator:
    """A `RefiningEstimator` for pictures of one size. The cheaper look is compiled when it is first wanted."""

    def __init__(
        self, checkpoint: LoadedCheckpoint, height: int, width: int, threads: int, cache: EngineCache | None
    ) -> None:
        self._network = network = checkpoint.network.float().cpu()
        self._factor = network.reduction(height, width)
        self._pictures = tuple(torch.zeros(1, 1, height, width, dtype=torch.uint8) for _ in range(2))
        self._compile = partial(compile_part, checkpoint=checkpoint, cache=cache, threads=threads)
        self._whole = self._compile("estimate", _Estimate(network, self._factor), self._pictures)
        self._around: Any = None

    def __call__(self, visible: np.ndarray, thermal: np.ndarray) -> tuple[Floats, Floats]:
        out = self._whole.infer([visible[None, None], thermal[None, None]])
        return np.array(out[0][0]), np.array(out[1][0])

    def refine(self, visible: np.ndarray, thermal: np.ndarray, displacement_px: Floats) -> tuple[Floats, Floats]:
        given = displacement_px[None]
        if self._around is None:
            example = (*self._pictures, torch.from_numpy(given))
            self._around = self._compile("refine", _Refine(self._network, self._factor), example)
        out = self._around.infer([visible[None, None], thermal[None, None], given])
        return np.array(out[0][0]), np.array(out[1][0])


def openvino_estimator(
    checkpoint: LoadedCheckpoint, height: int, width: int, *, threads: int, cache: EngineCache | None
) -> Estimator:
    """The displacement estimate of a checkpoint's network for pictures of this size, in float32.

    The field covers the picture as `Rfvif.pad` pads it. Raises EngineError.
    """
    return _OpenVinoEstimator(checkpoint, height, width, threads, cache)
