"""What runs the fusion: one protocol over all engines, and the factory that picks one.

An engine takes the visible picture and the thermal picture already on the visible grid and after AGC, and gives
the fused picture. It has one owner thread; it copies nothing that it need not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import structlog

from fusion_core.engines.openvino_runtime import default_threads
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import EngineError, UsageError

if TYPE_CHECKING:
    from fusion_core.checkpoint import LoadedCheckpoint
    from fusion_core.engines.cache import EngineCache
    from fusion_core.engines.gpu.runner import Fused
    from fusion_core.thermal.field_of_view import ThermalWarp

__all__ = [
    "AT_ONCE",
    "ENGINE_NAMES",
    "NETWORK_ENGINES",
    "CountsEngine",
    "FusionEngine",
    "OverlappingEngine",
    "create_engine",
]


@runtime_checkable
class FusionEngine(Protocol):
    """One fusion engine. Not thread-safe: one owner thread calls it."""

    @property
    def name(self) -> str:
        """Short name for HUD, log and sidecar, e.g. "openvino-bf16:tiny" or "pyramid"."""

    def warm_up(self, height: int, width: int) -> None:
        """Do everything slow (compile, allocate, first run) for this size, so that `fuse` is at speed.

        Raises EngineError when the engine cannot run at this size.
        """

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """Fuse one pair.

        Args:
            visible: (H, W, 3) uint8 RGB.
            thermal: (H, W) uint8, on the visible grid, after AGC (bright = hot).

        Returns:
            (H, W, 3) uint8 RGB, a new array that the caller owns.

        Raises:
            BadInputError: shape or dtype is wrong. EngineError: the engine failed.
        """

    def reset(self) -> None:
        """Forget everything carried over from earlier frames (scene cut, new source)."""

    def close(self) -> None:
        """Free what the engine holds. Safe to call twice."""


class CountsEngine(Protocol):
    """An engine that takes raw thermal counts too: AGC table, warp and fill run where the network does."""

    def fuse_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, warp: ThermalWarp | None
    ) -> Fused:
        """See `fusion_core.engines.torch_cuda_engine.GpuEngine.fuse_counts`."""


class OverlappingEngine(CountsEngine, Protocol):
    """An engine that takes a picture before the one before is done, for files."""

    def begin(self, visible: np.ndarray, thermal: np.ndarray) -> None:
        """See `fusion_core.engines.torch_cuda_engine.GpuEngine.begin`; `begin_counts` and `finish` likewise."""

    def begin_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, warp: ThermalWarp | None
    ) -> None: ...
    def finish(self) -> Fused: ...


NETWORK_ENGINES = ("auto", "tensorrt", "torch-cuda", "openvino", "torch")
"""Engines that fuse by a network: they need weights, and seconds to start."""

AT_ONCE = ("average", "pyramid", "ncc-pyramid", "edges")
"""Engines without weights, ready at once."""

ENGINE_NAMES = (*NETWORK_ENGINES, "aligned-pyramid", *AT_ONCE)
"""What `create_engine` takes. aligned-pyramid fuses by no network, but needs the weights of an estimate."""


def create_engine(
    name: str = "auto",
    preset: str = "tiny",
    weights: Path | None = None,
    threads: int | None = None,
    *,
    video: VideoOptions = STILL_PICTURES,
) -> FusionEngine:
    """Make an engine; libraries that it needs are imported here and not before.

    Args:
        name: one of ENGINE_NAMES. auto: the first of tensorrt, torch-cuda, openvino and torch that starts on this
            machine (docs/evidence/engines.md); why the others do not is logged.
        preset: which shipped network, for the engines that run one.
        weights: a weights file instead of the shipped one; its network is the one in its header.
        threads: of the engine on the CPU; None: `default_threads` for openvino, the library's own choice for torch.
        video: what is carried over between pictures, by default nothing.

    Raises:
        UsageError: there is no such engine or preset. CheckpointError: no such weights, or damaged.
        EngineError: the engine's library is missing or does not work here.
    """
    from fusion_core.engines import pyramid_engine

    classical: dict[str, Callable[[], FusionEngine]] = {
        "average": pyramid_engine.AverageEngine,
        "pyramid": pyramid_engine.LaplacianPyramidEngine,
        "ncc-pyramid": pyramid_engine.NccPyramidEngine,
        "edges": pyramid_engine.EdgeOverlayEngine,
    }
    if name in classical:
        return classical[name]()
    if name not in ENGINE_NAMES:
        raise UsageError(f"there is no engine {name!r}; the engines are {', '.join(ENGINE_NAMES)}")

    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.model_store import resolve_weights
    from fusion_core.rfvif import preset_config

    if weights is None:
        preset_config(preset)
    checkpoint = load_checkpoint(resolve_weights(weights if weights is not None else preset))
    label = checkpoint.path.stem if weights is not None else preset
    makers: dict[str, Callable[[], FusionEngine]] = {
        "tensorrt": lambda: _tensorrt(checkpoint, label, video),
        "torch-cuda": lambda: _torch_cuda(checkpoint, label, video),
        "openvino": lambda: _openvino(checkpoint, label, threads, video),
        "torch": lambda: _torch(checkpoint, label, threads, video),
    }
    if name == "aligned-pyramid":
        return _aligned_pyramid(checkpoint, threads, video)
    if name != "auto":
        return makers[name]()
    from fusion_core.engines.auto_engine import AutoEngine

    return AutoEngine(makers, checkpoint.sha256)


def _cache() -> EngineCache | None:
    """Where engines are kept; None, with a warning, where none can be: they are then built at every start."""
    from fusion_core.engines.cache import EngineCache

    try:
        return EngineCache()
    except EngineError as error:
        structlog.get_logger("engine").warning("engines are not kept: each start builds them", reason=str(error))
        return None


def _aligned_pyramid(checkpoint: LoadedCheckpoint, threads: int | None, video: VideoOptions) -> FusionEngine:
    from fusion_core.engines.aligned_pyramid import AlignedPyramidEngine

    # On video the estimate runs beside the fusion, on one thread.
    own = threads or default_threads() if video.align_every == 1 else 1
    return AlignedPyramidEngine(checkpoint, threads=own, video=video, cache=_cache())


def _tensorrt(checkpoint: LoadedCheckpoint, label: str, video: VideoOptions) -> FusionEngine:
    from fusion_core.engines.tensorrt_engine import TensorRtEngine

    return TensorRtEngine(checkpoint, label=label, video=video, cache=_cache())


def _torch_cuda(checkpoint: LoadedCheckpoint, label: str, video: VideoOptions) -> FusionEngine:
    from fusion_core.engines.torch_cuda_engine import TorchCudaEngine

    return TorchCudaEngine(checkpoint, label=label, video=video)


def _openvino(checkpoint: LoadedCheckpoint, label: str, threads: int | None, video: VideoOptions) -> FusionEngine:
    try:
        from fusion_core.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(checkpoint, label=label, threads=threads, video=video, cache=_cache())
    except ImportError as error:
        raise EngineError(f"OpenVINO is not usable here ({error}); `pip install openvino`") from error


def _torch(checkpoint: LoadedCheckpoint, label: str, threads: int | None, video: VideoOptions) -> FusionEngine:
    import torch

    if threads:
        torch.set_num_threads(threads)
    if video.align_every == 1 and video.kernels_every == 1:
        from fusion_core.engines.torch_engine import TorchEngine

        return TorchEngine(checkpoint, label=label)
    from fusion_core.engines.torch_cuda_engine import TorchCudaEngine

    return TorchCudaEngine(checkpoint, label=label, device="cpu", dtype=torch.float32, video=video)
