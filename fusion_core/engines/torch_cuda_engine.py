"""The network on an NVIDIA GPU by PyTorch alone: FP16, channels last, the whole frame as one CUDA graph.

The fallback of the TensorRT engine, which shares `GpuEngine` with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.engines.gpu_frame import FrameRunner, GpuFrame
from fusion_core.engines.torch_engine import MIN_SIDE_PX, check_network_pair
from fusion_core.errors import BadInputError, EngineError
from fusion_core.rfvif.inference import channels_last, for_inference

__all__ = ["GpuEngine", "TorchCudaEngine", "check_device"]

Network = Callable[[Tensor, Tensor], Tensor]


def check_device(device: str) -> torch.device:
    """The device, if tensors can be made on it. Raises EngineError with the reason if not."""
    found = torch.device(device)
    if found.type == "cuda" and not torch.cuda.is_available():
        kind = "built without CUDA" if torch.version.cuda is None else "no usable NVIDIA driver or GPU"
        raise EngineError(f"PyTorch sees no CUDA device ({kind}); `nvidia-smi` shows what the driver sees")
    try:
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(f"device {device!r} cannot be used: {error}") from error
    return found


class GpuEngine:
    """An engine whose whole frame runs on one device. Owner: the one thread that calls it.

    `warm_up` may run in another thread before the first frame.
    """

    def __init__(self, name: str, device: torch.device, dtype: torch.dtype) -> None:
        self._name = name
        self._device, self._dtype = device, dtype
        self._runner: FrameRunner | None = None
        self._size: tuple[int, int] | None = None
        self._counts_runner: FrameRunner | None = None
        self._counts_key: tuple[object, ...] | None = None
        self._table: np.ndarray | None = None
        self._frame: tuple[tuple[int, int], GpuFrame] | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    def warm_up(self, height: int, width: int) -> None:
        """Build (or take from the cache), allocate and capture for this size. Raises EngineError."""
        if min(height, width) < MIN_SIDE_PX:
            raise EngineError(f"{self._name} needs at least {MIN_SIDE_PX}x{MIN_SIDE_PX} px, got {height}x{width}")
        self._prepare(height, width)

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`."""
        check_network_pair(visible, thermal)
        return self._prepare(*thermal.shape).run(visible, thermal)

    def fuse_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, grid: np.ndarray | None
    ) -> np.ndarray:
        """Fuse a visible picture with raw thermal counts: AGC and the warp onto the visible grid run on the GPU too.

        Args:
            visible: (H, W, 3) uint8 RGB.
            counts: (Ht, Wt) uint16.
            table: (65536,) uint8, level of each count. Uploaded with each frame: it moves with the AGC's damping.
            grid: (H, W, 2) float32 as `GpuFrame.forward` wants it, None if both cameras share one grid. Another array
                object is taken for another calibration, which captures anew (tens of ms).

        Raises:
            BadInputError: a shape or dtype is wrong. EngineError: the GPU failed.
        """
        if visible.ndim != 3 or visible.shape[2] != 3 or visible.dtype != np.uint8:
            raise BadInputError(f"visible picture is {visible.dtype} {visible.shape}, must be uint8 (H, W, 3) RGB")
        if counts.ndim != 2 or counts.dtype != np.uint16:
            raise BadInputError(f"thermal picture is {counts.dtype} {counts.shape}, must be uint16 (Ht, Wt) counts")
        size = (visible.shape[0], visible.shape[1])
        if min(size) < MIN_SIDE_PX:
            raise BadInputError(f"the picture is {size[0]}x{size[1]}, must have at least {MIN_SIDE_PX} px a side")
        with self._lock:
            key = (size, counts.shape, id(grid))
            if self._counts_runner is None or self._counts_key != key:
                self._counts_runner = FrameRunner(
                    self._frame_of(size),
                    size,
                    self._device,
                    thermal_size=(counts.shape[0], counts.shape[1]),
                    counts=True,
                    grid=grid,
                )
                self._counts_key, self._grid = key, grid  # keeping the grid keeps its id from being given again
            runner = self._counts_runner
        runner.set_table(table)
        return runner.run(visible, counts)

    def reset(self) -> None:
        """Nothing is carried over between frames: on a GPU every frame is estimated anew."""

    def close(self) -> None:
        self._closed = True
        self._runner = self._counts_runner = self._frame = None

    def _network(self, height: int, width: int) -> Network:
        """The network for this size; called once a size."""
        raise NotImplementedError

    def _prepare(self, height: int, width: int) -> FrameRunner:
        with self._lock:
            if self._runner is None or self._size != (height, width):
                self._runner = self._counts_runner = None  # give the memory back first
                if self._frame is not None and self._frame[0] != (height, width):
                    self._frame = None
                self._runner = FrameRunner(self._frame_of((height, width)), (height, width), self._device)
                self._size = (height, width)
            return self._runner

    def _frame_of(self, size: tuple[int, int]) -> GpuFrame:
        if self._closed:
            raise EngineError(f"{self._name} is closed; create a new engine")
        if self._frame is None or self._frame[0] != size:
            self._frame = (size, GpuFrame(self._network(*size), self._dtype))
        return self._frame[1]


class TorchCudaEngine(GpuEngine):
    """FP16, channels last, one CUDA graph a size."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        label: str = "",
        device: str = "cuda",
        dtype: torch.dtype = torch.float16,
        compiled: bool = False,
    ) -> None:
        """Put the weights on the device.

        Args:
            device: cuda, cuda:1 ...; "cpu" runs the same steps without a graph.
            compiled: torch.compile the network first (minutes at the first start; needs a C compiler).

        Raises:
            EngineError: the device cannot be used.
        """
        target = check_device(device)
        kind = str(dtype).removeprefix("torch.")
        how = "compiled" if compiled else kind
        super().__init__(f"torch-{target.type}-{how}:{label or checkpoint.path.stem}", target, dtype)
        network = for_inference(checkpoint.network.float()).to(target, dtype)
        self._module = channels_last(network)
        self._compiled = compiled

    def _network(self, height: int, width: int) -> Network:
        return torch.compile(self._module, dynamic=False) if self._compiled else self._module
