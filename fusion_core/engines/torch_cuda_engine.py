"""The network on an NVIDIA GPU by PyTorch alone: FP16, channels last, the frame as CUDA graphs.

The fallback of the TensorRT engine, which shares `GpuEngine` with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.engines.gpu.device import Runtime, check_device, device_errors, runtime_of
from fusion_core.engines.gpu.field import DeviceEstimate, DeviceField
from fusion_core.engines.gpu.frame import GpuFrame
from fusion_core.engines.gpu.network import CarriedKernels, DeviceNetwork
from fusion_core.engines.gpu.runner import FrameRunner, Fused, Shape
from fusion_core.engines.running_displacement import JUMP_PX, RunningField, is_doubtful
from fusion_core.engines.torch_engine import MIN_SIDE_PX, check_network_pair
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import BadInputError, EngineError
from fusion_core.rfvif import Rfvif
from fusion_core.rfvif.gpu_form import for_gpu
from fusion_core.rfvif.inference import channels_last
from fusion_core.rfvif.programs import field_size, programs_of
from fusion_core.rfvif.working_grid import DETAIL_PX, reduction_factor
from fusion_core.thermal.field_of_view import ThermalWarp

__all__ = ["GpuEngine", "Program", "TorchCudaEngine"]

Program = Callable[..., Any]


class DeviceRunningField(RunningField[tuple[Tensor, Tensor], DeviceEstimate]):
    """When the field of a `DeviceField` is renewed: on the same frames as on a CPU."""

    def __init__(self, field: DeviceField, video: VideoOptions) -> None:
        super().__init__(video.align_every, waits=video.align_waits)
        self._field = field

    def _at_once(self, pictures: tuple[Tensor, Tensor]) -> DeviceEstimate:
        return self._field.at_once(*pictures)

    def _begin(self, pictures: tuple[Tensor, Tensor], before: DeviceEstimate, around: bool) -> DeviceEstimate:
        return self._field.begin(*pictures, around)

    def _doubts(self, before: DeviceEstimate, after: DeviceEstimate) -> bool:
        return is_doubtful(*after.change)


class _Prepared(NamedTuple):
    """All that belongs to one size of the visible pictures."""

    size: tuple[int, int]
    frame: GpuFrame
    network: DeviceNetwork
    main: Any  # the stream that computes


class GpuEngine:
    """An engine whose whole frame runs on one device. Owner: the one thread that calls it.

    `warm_up` may run in another thread before the first frame.
    """

    def __init__(
        self,
        name: str,
        checkpoint: LoadedCheckpoint,
        runtime: Runtime,
        dtype: torch.dtype,
        video: VideoOptions,
    ) -> None:
        self._name, self._runtime, self._dtype, self._video = name, runtime, dtype, video
        self._checkpoint = checkpoint
        self._prepared: _Prepared | None = None
        self._runner: FrameRunner | None = None
        self._counts: FrameRunner | None = None
        self._begun: deque[FrameRunner] = deque()  # whose frames are under way, the oldest first
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def displacement_px(self) -> npt.NDArray[np.float32] | None:
        """The displacement in use, (2, H/8, W/8): (dx, dy) in pixels; None before the first frame. Waits for the GPU.

        Only the thread that fuses may ask.
        """
        prepared = self._prepared
        if prepared is None or prepared.network.field is None or not prepared.network.started:
            return None
        with self._errors("reading the displacement"):
            found = prepared.network.field.displacement_px()
        return found * np.float32(prepared.frame.outer)

    @property
    def graphed(self) -> bool:
        """Whether frames are replayed from CUDA graphs; False before `warm_up`."""
        return self._runner is not None and self._runner.graphed

    def warm_up(self, height: int, width: int) -> None:
        """Build (or take from the cache), allocate, capture, and run once at this size. Raises EngineError."""
        if min(height, width) < MIN_SIDE_PX:
            raise EngineError(f"{self._name} needs at least {MIN_SIDE_PX}x{MIN_SIDE_PX} px, got {height}x{width}")
        self.fuse(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8))
        self.reset()

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`."""
        self._begin_alone()
        self.begin(visible, thermal)
        return self.finish().pixels

    def fuse_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, warp: ThermalWarp | None
    ) -> Fused:
        """Fuse a visible picture with raw thermal counts: AGC and the warp onto the visible grid run on the GPU too.

        Args:
            visible: (H, W, 3) uint8 RGB.
            counts: (Ht, Wt) uint16.
            table: (65536,) uint8, level of each count. Uploaded with each frame: it moves with the AGC's damping.
            warp: None if both cameras share one grid. Another object is another calibration: its maps are uploaded.

        Returns:
            The fused picture, and the levels on the visible grid.

        Raises:
            BadInputError: a shape or dtype is wrong. EngineError: the GPU failed, or frames are under way.
        """
        self._begin_alone()
        self.begin_counts(visible, counts, table, warp)
        return self.finish()

    def begin(self, visible: np.ndarray, thermal: np.ndarray) -> None:
        """As `fuse` without waiting for it; `finish` gives the pictures in the same order, at most two are under way.

        So a frame uploads, one computes and one downloads at the same time: for files, where delay does not matter.

        Raises:
            BadInputError: shape or dtype is wrong. EngineError: two are under way, or the engine failed.
        """
        check_network_pair(visible, thermal)
        runner = self._runner_of(thermal.shape)
        with self._errors("fusing a frame"):
            runner.submit(visible, thermal)
        self._begun.append(runner)

    def begin_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, warp: ThermalWarp | None
    ) -> None:
        """As `fuse_counts` without waiting for it; see `begin`."""
        if visible.ndim != 3 or visible.shape[2] != 3 or visible.dtype != np.uint8:
            raise BadInputError(f"visible picture is {visible.dtype} {visible.shape}, must be uint8 (H, W, 3) RGB")
        if counts.ndim != 2 or counts.dtype != np.uint16:
            raise BadInputError(f"thermal picture is {counts.dtype} {counts.shape}, must be uint16 (Ht, Wt) counts")
        size = (visible.shape[0], visible.shape[1])
        if min(size) < MIN_SIDE_PX:
            raise BadInputError(f"the picture is {size[0]}x{size[1]}, must have at least {MIN_SIDE_PX} px a side")
        runner = self._counts_runner_of(size, Shape((counts.shape[0], counts.shape[1]), True, warp is not None))
        with self._errors("fusing a frame"):
            if warp is not None:
                runner.use_warp(warp)
            runner.submit(visible, counts, table)
        self._begun.append(runner)

    def finish(self) -> Fused:
        """Wait for the oldest picture that was begun. Raises EngineError: there is none, or the engine failed."""
        if not self._begun:
            raise EngineError("no frame is under way; begin one first")
        runner = self._begun.popleft()
        with self._errors("fusing a frame"):
            return runner.collect()

    def reset(self) -> None:
        """Forget the running displacement: the next frame is estimated anew."""
        if self._prepared is not None:
            self._prepared.network.reset()

    def close(self) -> None:
        self._closed = True
        self._begun.clear()
        self._runner = self._counts = self._prepared = None

    # ------------------------------------------------------------------ inside

    def _begin_alone(self) -> None:
        if self._begun:
            raise EngineError(f"frames are under way ({len(self._begun)}); finish them first")

    def _programs(self, height: int, width: int) -> Mapping[str, Program]:
        """The network's programs for pictures of this size, as `programs_of` names them; called once a size."""
        raise NotImplementedError

    def _errors(self, doing: str) -> Any:
        return device_errors(f"{doing} with {self._name}", self._runtime, self)

    def _runner_of(self, size: tuple[int, ...]) -> FrameRunner:
        height, width = size
        with self._lock:
            prepared = self._prepare(height, width)
            if self._runner is None:
                with self._errors("allocating"):
                    shape = Shape((height, width), False, False)
                    self._runner = FrameRunner(prepared.frame, prepared.network, self._runtime, prepared.main, shape)
                    prepared.network.reset()
            return self._runner

    def _counts_runner_of(self, size: tuple[int, int], shape: Shape) -> FrameRunner:
        with self._lock:
            prepared = self._prepare(*size)
            if self._counts is None or self._counts.shape != shape:
                with self._errors("allocating"):
                    self._counts = None  # give the memory back first
                    self._counts = FrameRunner(prepared.frame, prepared.network, self._runtime, prepared.main, shape)
                    if prepared.network.carries_kernels:
                        prepared.network.reset()  # warming up has moved them
            return self._counts

    def _prepare(self, height: int, width: int) -> _Prepared:
        if self._closed:
            raise EngineError(f"{self._name} is closed; create a new engine")
        if self._prepared is None or self._prepared.size != (height, width):
            self._runner = self._counts = self._prepared = None  # give the memory back first
            with self._errors(f"preparing {width}x{height}"):
                self._prepared = self._made_for(height, width)
        return self._prepared

    def _made_for(self, height: int, width: int) -> _Prepared:
        config, runtime, video = self._checkpoint.network.config, self._runtime, self._video
        outer = reduction_factor(height, width, DETAIL_PX) if config.working_px else 1
        frame = GpuFrame((height, width), outer)
        main = runtime.stream()
        programs = self._programs(*frame.small)
        field: DeviceField | None = None
        schedule: DeviceRunningField | None = None
        carried: CarriedKernels | None = None
        if "estimate" in programs:
            field = DeviceField(
                programs["estimate"],
                programs.get("refine"),
                runtime.empty(1, 1, *frame.small, dtype=torch.float32),
                field_size(self._checkpoint.network, *frame.small),
                runtime,
                main,
                smoothing=video.align_smoothing,
                jump_px=JUMP_PX,
            )
            schedule = DeviceRunningField(field, video)
        if "fuse-renew" in programs:
            values = self._checkpoint.network.kernel_values
            kernels, weight = (runtime.empty(count, dtype=self._dtype).zero_() for count in (values, 1))
            carried = CarriedKernels(kernels, weight, video.kernels_every, video.kernels_smoothing)
        network = DeviceNetwork(programs, field, schedule, runtime, main, carried)
        return _Prepared((height, width), frame, network, main)


class TorchCudaEngine(GpuEngine):
    """FP16, channels last."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        label: str = "",
        device: str = "cuda",
        dtype: torch.dtype = torch.float16,
        compiled: bool = False,
        video: VideoOptions = STILL_PICTURES,
        runtime: Runtime | None = None,
    ) -> None:
        """Put the weights on the device.

        Args:
            device: cuda, cuda:1 ...; "cpu" runs the same steps without streams and graphs.
            compiled: torch.compile the network first (minutes at the first start; needs a C compiler).
            video: what is carried over between pictures; by default nothing.
            runtime: a test's stand-in for the device's own.

        Raises:
            EngineError: the device cannot be used.
        """
        target = check_device(device)
        kind = str(dtype).removeprefix("torch.")
        how = "compiled" if compiled else kind
        name = f"torch-{target.type}-{how}:{label or checkpoint.path.stem}"
        super().__init__(name, checkpoint, runtime if runtime is not None else runtime_of(target), dtype, video)
        with self._errors("loading the network"):
            self._module: Rfvif = channels_last(for_gpu(checkpoint.network.float()).to(target, dtype))
        self._compiled = compiled

    def _programs(self, height: int, width: int) -> Mapping[str, Program]:
        video = self._video
        made = programs_of(
            self._module, height, width, refines=video.align_every > 1, carries_kernels=video.kernels_every > 1
        )
        return {name: self._as_run(module) for name, (module, _) in made.items()}

    def _as_run(self, module: nn.Module) -> Program:
        return torch.compile(module, dynamic=False) if self._compiled else module
