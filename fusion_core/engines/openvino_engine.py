"""The network on a CPU through OpenVINO, in two compiled parts with the warp between them.

The displacement estimate runs in float32 (bfloat16 resolves only 4 px at x = 640) and, on video, every few frames in a
thread of its own (`fusion_core.engines.running_displacement`). The fusion runs each frame, in bfloat16 where the CPU
has it.
One compiled pair per picture size; the converted models are kept on disk, so that only the first start converts.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.colour import luminance, replace_luminance
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.detail_path import LargePicture, WorkingGrid, levels_of
from fusion_core.engines.openvino_parts import compile_part, openvino_estimator
from fusion_core.engines.openvino_runtime import default_threads, load_openvino
from fusion_core.engines.running_displacement import RunningDisplacement
from fusion_core.engines.torch_engine import MIN_SIDE_PX, check_network_pair
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import EngineError
from fusion_core.rfvif import Rfvif
from fusion_core.rfvif.fdam import CarriedKernels
from fusion_core.rfvif.inference import for_inference
from fusion_core.rfvif.working_grid import DETAIL_PX

__all__ = ["OpenVinoEngine", "bfloat16_pays", "cpu_has_bfloat16"]


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself (AVX-512 BF16 or AMX)."""
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def bfloat16_pays(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the fusion takes less time in bfloat16: with AMX, or AVX-512 BF16 of a processor that is not Intel's.

    Intel's without AMX take longer than in float32 (docs/evidence/engines.md); emulated it is slower everywhere.
    """
    if not cpu_has_bfloat16():
        return False
    with contextlib.suppress(OSError):
        told = cpuinfo.read_text(errors="replace")
        return "amx_bf16" in told or "GenuineIntel" not in told
    return True


class _Fuse(nn.Module):
    """uint8 visible and warped infrared on the working grid, log-confidence -> what the network gives, float32."""

    def __init__(self, network: Rfvif) -> None:
        super().__init__()
        self.network = network

    def forward(self, visible: Tensor, infrared: Tensor, log_confidence: Tensor) -> Tensor:
        return self.fuse(visible, infrared, log_confidence, None)

    def fuse(self, visible: Tensor, infrared: Tensor, log_confidence: Tensor, carried: CarriedKernels | None) -> Tensor:
        scale = 1.0 / 255.0
        channels, _ = self.network.fuse_reduced(
            visible.float() * scale, infrared.float() * scale, log_confidence, carried=carried
        )
        return channels.float()


class _FuseAndRenew(_Fuse):
    """As `_Fuse`, with the dynamic kernels of the picture before: moves them towards this picture's, and uses those.

    kernels (N,), weight (1,) of the new ones -> channels, kernels (N,).
    """

    def forward(  # type: ignore[override]
        self, visible: Tensor, infrared: Tensor, log_confidence: Tensor, kernels: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        carried = CarriedKernels(kernels, weight)
        fused = self.fuse(visible, infrared, log_confidence, carried)
        return fused, carried.used.float()


class _FuseWithKernels(_Fuse):
    """As `_Fuse`, with dynamic kernels (N,) that are given."""

    def forward(  # type: ignore[override]
        self, visible: Tensor, infrared: Tensor, log_confidence: Tensor, kernels: Tensor
    ) -> Tensor:
        return self.fuse(visible, infrared, log_confidence, CarriedKernels(kernels, None))


class _Whole(nn.Module):
    """For networks that estimate no displacement: uint8 pictures -> uint8 luminance."""

    def __init__(self, network: Rfvif) -> None:
        super().__init__()
        self.network = network

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        scale = 1.0 / 255.0
        return _to_uint8(self.network(visible.float() * scale, infrared.float() * scale, outer=1))


def _to_uint8(fused: Tensor) -> Tensor:
    return (fused.float().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)


class OpenVinoEngine:
    """One network on the CPU. Owner: the one thread that calls it; `warm_up` may run in another before that."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        label: str = "",
        precision: str = "auto",
        threads: int | None = None,
        video: VideoOptions = STILL_PICTURES,
        cache: EngineCache | None = None,
    ) -> None:
        """Set up; nothing is compiled before `warm_up` or the first frame of a size.

        Args:
            precision: auto, f32 or bf16, of the fusion part.
            threads: of the inference; None takes `default_threads`.
            video: what is carried over between frames; by default nothing.
            cache: where converted models are kept; None converts at every start.

        Raises:
            EngineError: precision is none of these. ImportError: OpenVINO is not installed.
        """
        if precision not in ("auto", "f32", "bf16"):
            raise EngineError(f"precision is {precision!r}, must be auto, f32 or bf16")
        bfloat16 = bfloat16_pays()
        self._checkpoint = checkpoint
        self._precision = precision if precision != "auto" else ("bf16" if bfloat16 else "f32")
        self._threads = threads if threads is not None else default_threads()
        self._video = video
        self._cache = cache
        self._name = f"openvino-{self._precision}:{label or checkpoint.path.stem}"
        self._size: tuple[int, int] | None = None
        self._compiled: _Compiled | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def displacement_px(self) -> npt.NDArray[np.float32] | None:
        """The running displacement estimate, (2, H/8, W/8): (dx, dy) in pixels, None before the first frame."""
        return self._compiled.displacement_px if self._compiled is not None else None

    def warm_up(self, height: int, width: int) -> None:
        """Convert (or take from the cache), compile and run once at this size. Raises EngineError."""
        if min(height, width) < MIN_SIDE_PX:
            raise EngineError(f"{self._name} needs at least {MIN_SIDE_PX}x{MIN_SIDE_PX} px, got {height}x{width}")
        compiled = self._compile(height, width)
        picture = np.zeros((height, width), np.uint8)
        compiled.run(picture, picture, self._name)
        compiled.reset()

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`."""
        check_network_pair(visible, thermal)
        y = luminance(visible)
        fused = self._compile(*y.shape).run(y, np.ascontiguousarray(thermal), self._name)
        return replace_luminance(visible, fused, old_y=y)

    def reset(self) -> None:
        """Forget the running displacement: the next frame is estimated anew."""
        if self._compiled is not None:
            self._compiled.reset()

    def close(self) -> None:
        self._closed = True
        if self._compiled is not None:
            self._compiled.close()
        self._compiled = None

    def _compile(self, height: int, width: int) -> _Compiled:
        with self._lock:
            if self._closed:
                raise EngineError(f"{self._name} is closed; create a new engine")
            if self._compiled is None or self._size != (height, width):
                if self._compiled is not None:
                    self._compiled.close()
                    self._compiled = None
                self._compiled = _Compiled(
                    self._checkpoint, height, width, self._precision, self._threads, self._video, self._cache
                )
                self._size = (height, width)
            return self._compiled


class _RunningKernels:
    """The fusion part on video with dynamic kernels that are carried over, and renewed on every n-th picture."""

    def __init__(self, renew: Any, given: Any, values: int, video: VideoOptions) -> None:
        """renew, given: the inference requests of `_FuseAndRenew` and `_FuseWithKernels`; values: kernel numbers."""
        self._renew, self._given, self._values = renew, given, values
        self._every, self._smoothing = video.kernels_every, video.kernels_smoothing
        self.reset()

    def reset(self) -> None:
        """Forget the kernels: the next picture's are taken as they are."""
        self._kernels: npt.NDArray[np.float32] | None = None
        self._age = 0

    def infer(self, inputs: list[np.ndarray]) -> Any:
        """As the request of `_Fuse`."""
        age, self._age = self._age, (self._age + 1) % self._every
        if self._kernels is not None and age:
            return self._given.infer([*inputs, self._kernels])
        first = self._kernels is None
        carried = np.zeros(self._values, np.float32) if self._kernels is None else self._kernels
        weight = np.array([1.0 if first else self._smoothing], np.float32)
        out = self._renew.infer([*inputs, carried, weight])
        self._kernels = np.array(out[1])
        return out


class _Compiled:
    """The compiled models of one size, and the displacement on it."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        height: int,
        width: int,
        precision: str,
        threads: int,
        video: VideoOptions,
        cache: EngineCache | None,
    ) -> None:
        config = checkpoint.network.config
        self._large = LargePicture(height, width, DETAIL_PX if config.working_px else 0)
        height, width = self._height, self._width = self._large.small
        network = for_inference(checkpoint.network.float().cpu())
        self._grid = WorkingGrid(height, width, config.working_px, config.multiple)
        self.running: RunningDisplacement | None = None

        def part(name: str, module: nn.Module, size: tuple[int, int], *more: Tensor) -> Any:
            pictures = (torch.zeros(1, 1, *size, dtype=torch.uint8) for _ in range(2))
            return compile_part(
                name, module, (*pictures, *more), checkpoint, cache, precision=precision, threads=threads
            )

        if network.alignment is None:
            self._whole = part("whole", _Whole(network), (height, width))
            return
        # The estimate of a video runs beside the fusion: one thread is enough for it, and leaves the others alone.
        estimator = openvino_estimator(
            checkpoint, height, width, threads=threads if video.align_every == 1 else 1, cache=cache
        )
        confidence = torch.zeros(1, 1, *(side // 8 for side in self._grid.padded))
        self._kernels: _RunningKernels | None = None
        if video.kernels_every > 1 and network.kernel_values:
            kernels, weight = torch.zeros(network.kernel_values), torch.ones(1)
            self._kernels = _RunningKernels(
                part("fuse-renew", _FuseAndRenew(network), self._grid.size, confidence, kernels, weight),
                part("fuse-kernels", _FuseWithKernels(network), self._grid.size, confidence, kernels),
                network.kernel_values,
                video,
            )
        else:
            self._fuse = part("fuse", _Fuse(network), self._grid.size, confidence)
        self.running = RunningDisplacement(
            estimator, video.align_every, smoothing=video.align_smoothing, waits=video.align_waits
        )

    @property
    def displacement_px(self) -> npt.NDArray[np.float32] | None:
        """See `OpenVinoEngine.displacement_px`."""
        found = self.running.displacement_px if self.running is not None else None
        return found if found is None or self._large.factor == 1 else found * np.float32(self._large.factor)

    def run(self, visible: np.ndarray, thermal: np.ndarray, name: str) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 twice -> (H, W) uint8. Raises EngineError."""
        small_visible, small_thermal = self._large.reduce(visible), self._large.reduce(thermal)
        return self._large.enlarge(visible, small_visible, self._run(small_visible, small_thermal, name))

    def _run(self, visible: np.ndarray, thermal: np.ndarray, name: str) -> npt.NDArray[np.uint8]:
        try:
            if self.running is None:
                out = self._whole.infer([visible[None, None], thermal[None, None]])
            else:
                found = self.running.at(visible, thermal)
                warped = cv2.remap(thermal, *found.maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
                aligned = np.asarray(warped, np.uint8)
                reduced = self._grid.reduce(visible), self._grid.reduce(aligned)
                pictures = (levels_of(each)[None, None] for each in reduced)
                inputs: list[np.ndarray] = [*pictures, found.log_confidence[None]]
                out = self._fuse.infer(inputs) if self._kernels is None else self._kernels.infer(inputs)
                channels = out[0][0]
                if len(channels) > 1:
                    return self._grid.fuse(visible, aligned, reduced, channels)
                fused = channels[0, : self._height, : self._width]
                return np.asarray(np.clip(fused * 255.0 + 0.5, 0.0, 255.0), np.uint8)
            return np.asarray(out[0][0, 0])
        except RuntimeError as error:
            raise EngineError(f"{name} failed on a frame: {error}") from error

    def reset(self) -> None:
        if self.running is not None:
            self.running.reset()
            if self._kernels is not None:
                self._kernels.reset()

    def close(self) -> None:
        """End the estimate's thread and let go of the models: the garbage collector may be long in coming."""
        if self.running is not None:
            self.running.close()
        self._whole = self._fuse = self._kernels = None
