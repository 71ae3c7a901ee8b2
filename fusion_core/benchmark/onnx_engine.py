"""The network as a model for other programs, ONNX or OpenVINO; and an engine on ONNX Runtime.

The benchmark compares the engine, which is slower than OpenVINO; an exported model is checked with it.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fusion_core.benchmark.export import export_network
from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.colour import luminance, replace_luminance
from fusion_core.engines.openvino_runtime import load_openvino
from fusion_core.engines.torch_engine import TorchEngine, check_network_pair
from fusion_core.errors import EngineError, RunError
from fusion_core.files import replacing
from fusion_core.rfvif import Rfvif
from fusion_core.rfvif.inference import for_inference

__all__ = ["OnnxEngine", "export_model", "onnx_model"]

_LEAST_DB = 40.0  # between an exported model and the reference: below it the model is another one


def onnx_model(network: Rfvif, height: int, width: int) -> bytes:
    """The network at one size as an ONNX model, weights included. It has the precision of the network.

    Raises:
        EngineError: it does not convert. ImportError: onnx or onnxscript is not installed.
    """
    from onnxscript import optimizer

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which nothing here needs
    program = export_network(network, height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter, which the user cannot act on
        # Not the exporter's own optimization: it takes minutes here, and the model it leaves gives NaN in ONNX Runtime.
        exported = torch.onnx.export(program, dynamo=True, external_data=False, verbose=False, optimize=False)
    if exported is None:
        raise EngineError(f"the network does not convert to ONNX at {height}x{width}")
    # Constants are all that readers need: TensorRT wants axes and sizes as initializers.
    optimizer.inline(exported.model)
    optimizer.fold_constants(exported.model, onnx_shape_inference=False)
    optimizer.remove_unused_nodes(exported.model)
    model: bytes = exported.model_proto.SerializeToString()
    return model


def export_model(
    checkpoint: LoadedCheckpoint,
    path: Path,
    kind: Literal["onnx", "openvino"],
    size: tuple[int, int],
    pair: tuple[np.ndarray, np.ndarray],
) -> float:
    """Write the network for pictures of one (height, width), and hold the file against the reference engine.

    Two inputs, `visible_y` and `infrared`, and the output `fused`: (1, 1, H, W) float32, luminance and thermal levels
    in [0, 1]. OpenVINO writes a .bin beside the .xml.

    Args:
        pair: to compare with: (H, W, 3) uint8 RGB and (H, W) uint8.

    Returns:
        Peak signal-to-noise ratio of the file's picture against the reference's, dB; infinite when they are equal.

    Raises:
        EngineError: it does not convert, or fuses otherwise. RunError: it cannot be written, or a library is missing.
    """
    network = for_inference(checkpoint.network.float())
    write, fused = (_write_onnx, _run_onnx) if kind == "onnx" else (_write_openvino, _run_openvino)
    try:
        write(network, path, size)
    except ImportError as error:
        raise RunError(f"{error.name} is missing; pip install onnx onnxscript onnxruntime") from error
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    y, thermal = luminance(pair[0]), pair[1]
    scale = np.float32(1.0 / 255.0)
    out = fused(path, (y * scale)[None, None], (thermal * scale)[None, None])
    found = replace_luminance(pair[0], np.rint(out[0, 0] * 255.0).clip(0, 255).astype(np.uint8), old_y=y)
    wanted = TorchEngine(checkpoint).fuse(*pair)
    error_squared = float(np.mean((found.astype(np.float64) - wanted) ** 2))
    db = float("inf") if error_squared == 0.0 else 10.0 * float(np.log10(255.0**2 / error_squared))
    if db < _LEAST_DB:
        raise EngineError(f"{path} fuses otherwise than the reference: {db:.1f} dB, wanted {_LEAST_DB:g} or more")
    return db


def _write_onnx(network: Rfvif, path: Path, size: tuple[int, int]) -> None:
    import onnx

    model = onnx.load_from_string(onnx_model(network, *size))
    names = dict(zip([each.name for each in model.graph.input], ("visible_y", "infrared"), strict=True))
    names[model.graph.output[0].name] = "fused"
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    onnx.checker.check_model(model)
    with replacing(path) as part:
        part.write_bytes(model.SerializeToString())


def _run_onnx(path: Path, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (out,) = session.run(["fused"], {"visible_y": visible, "infrared": thermal})
    return np.asarray(out)


def _write_openvino(network: Rfvif, path: Path, size: tuple[int, int]) -> None:
    ov = load_openvino()
    inputs = (torch.zeros(1, 1, *size), torch.zeros(1, 1, *size))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: what it fixes is fixed on purpose, the size
        traced = torch.jit.trace(network.eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, example_input=inputs, input=[(1, 1, *size), (1, 1, *size)])
    for port, name in zip((*model.inputs, *model.outputs), ("visible_y", "infrared", "fused"), strict=True):
        port.get_tensor().set_names({name})
    ov.save_model(model, str(path), compress_to_fp16=False)


def _run_openvino(path: Path, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    compiled = load_openvino().Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled({"visible_y": visible, "infrared": thermal})["fused"])


class OnnxEngine:
    """One network at one size at a time. Owner: the one thread that calls it."""

    def __init__(self, checkpoint: LoadedCheckpoint, *, label: str = "", threads: int | None = None) -> None:
        """Raises EngineError when ONNX Runtime is not installed."""
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"ONNX Runtime is not usable here ({error}); `pip install onnxruntime onnx`") from error
        self._runtime = onnxruntime
        self._network = for_inference(checkpoint.network.float())
        self._threads = threads
        self._name = f"onnxruntime-f32:{label or checkpoint.path.stem}"
        self._session: onnxruntime.InferenceSession | None = None
        self._size: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return self._name

    def warm_up(self, height: int, width: int) -> None:
        """Convert for this size. Raises EngineError."""
        if self._session is None or self._size != (height, width):
            options = self._runtime.SessionOptions()
            options.intra_op_num_threads = self._threads or 0
            model = onnx_model(self._network, height, width)
            self._session = self._runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self._size = (height, width)

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`."""
        check_network_pair(visible, thermal)
        y = luminance(visible)
        self.warm_up(*y.shape)
        assert self._session is not None
        scale = np.float32(1.0 / 255.0)
        names = [entry.name for entry in self._session.get_inputs()]
        feeds = {names[0]: (y * scale)[None, None], names[1]: (thermal * scale)[None, None]}
        (out,) = self._session.run(None, feeds)
        return replace_luminance(visible, np.rint(out[0, 0] * 255.0).astype(np.uint8), old_y=y)

    def reset(self) -> None:
        """Does nothing: no frame depends on another."""

    def close(self) -> None:
        self._session = None
