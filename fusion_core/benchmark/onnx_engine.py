"""Runs the network through ONNX Runtime on a CPU. The benchmark compares it: it is slower than OpenVINO."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.colour import luminance, replace_luminance
from fusion_core.engines.torch_engine import check_network_pair
from fusion_core.errors import EngineError
from fusion_core.rfvif import Rfvif
from fusion_core.rfvif.export import export_network
from fusion_core.rfvif.inference import for_inference

__all__ = ["OnnxEngine", "onnx_model"]


def onnx_model(network: Rfvif, height: int, width: int) -> bytes:
    """The network at one size as an ONNX model, weights included. It has the precision of the network.

    Raises:
        EngineError: it does not convert. ImportError: onnx or onnxscript is not installed.
    """
    from onnxscript import optimizer

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
