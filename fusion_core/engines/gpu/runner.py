"""A whole frame with buffers that live as long as the size does: upload, compute, download, each on its own stream.

The computation is two graphs, before and after the place where the displacement field is chosen. Two sets of buffers
lie between the streams, so that a frame uploads and the one before downloads while a third computes: `submit` begins
a frame and `collect` waits for the oldest. The picture that `collect` gives is the pinned memory that the device wrote:
it is used again when nobody holds it any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from fusion_core.engines.gpu.device import Runtime
from fusion_core.engines.gpu.frame import GpuField, GpuFrame, Prepared
from fusion_core.errors import BadInputError, EngineError
from fusion_core.thermal.field_of_view import FieldFiller, ThermalWarp

__all__ = ["FrameRunner", "Fused", "Network", "Shape"]

SETS = 2
"""Frames that may be under way at once."""
_MOST_PINNED = 8
_Kind = tuple[tuple[int, ...], torch.dtype]


class Network(Protocol):
    """The network of one size on a device, with what it carries from picture to picture."""

    def choose(self, visible: Tensor, thermal: Tensor) -> None:
        """Between the graphs: take the displacement field for these pictures, renew it when that is due."""

    def graph_key(self) -> str:
        """Which of its fusion programs runs next; each is captured on its own."""

    def graph_keys(self) -> tuple[str, ...]:
        """All of them."""

    def fuse(self, key: str, visible: Tensor, thermal: Tensor) -> Tensor:
        """(1, 1, h, w) twice, in [0, 1] -> (1, 1, h, w) in [0, 1]. Launches only: it may be captured."""


class Shape(NamedTuple):
    """What a runner is made for. counts: thermal is uint16 and goes through a table, else uint8 levels."""

    thermal: tuple[int, int]  # (height, width)
    counts: bool
    warps: bool  # thermal is not on the visible grid; `FrameRunner.use_warp` says how it gets there


class Fused(NamedTuple):
    """A fused frame, arrays that the caller owns."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    levels: np.ndarray | None  # (H, W) uint8, thermal on the visible grid, of a runner for counts


@dataclass(slots=True)
class _Set:
    """Buffers of one frame between the streams."""

    host: tuple[Tensor, ...]  # visible, thermal, table
    device: tuple[Tensor, ...]
    out: tuple[Tensor, ...]  # fused, levels
    free: Any = None  # event: the device has read `device`
    read: Any = None  # event: `out` has been downloaded


class _Pool:
    """Pinned pictures for results. One is given out again when the array made of it is gone, views of it included.

    Pinned memory is scarce: to a caller who keeps many frames the further ones come as copies in plain memory.
    """

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self._make = make
        self._made = 0
        self._idle: deque[Tensor] = deque()  # other threads append, when they let go of an array

    def take(self) -> Tensor:
        if self._idle:
            return self._idle.popleft()
        self._made += 1
        return self._make()

    def hand_out(self, tensor: Tensor) -> np.ndarray:
        array = np.asarray(tensor.numpy())
        if self._made > _MOST_PINNED and not self._idle:
            copied = array.copy()
            self._idle.append(tensor)
            return copied
        finalize(array, self._idle.append, tensor)
        return array


class FrameRunner:
    """`GpuFrame` and a network at one size. One owner thread.

    Where a graph cannot be captured, the same steps run one by one, which is logged.
    """

    def __init__(self, frame: GpuFrame, network: Network, runtime: Runtime, main: Any, shape: Shape) -> None:
        """Allocate, warm up and capture.

        Args:
            main: the stream that computes, which `network` uses too.

        Raises:
            BadInputError: the sizes do not fit. Whatever the device raises.
        """
        height, width = frame.size
        if not shape.warps and shape.thermal != frame.size:
            raise BadInputError(f"thermal is {shape.thermal}, visible {frame.size} (height, width): a warp is needed")
        self._frame, self._network, self._runtime, self._main = frame, network, runtime, main
        self.shape = shape
        kinds: list[_Kind] = [
            ((height, width, 3), torch.uint8),
            (shape.thermal, torch.int16 if shape.counts else torch.uint8),
        ]
        if shape.counts:
            kinds.append(((65536,), torch.uint8))
        outs: list[_Kind] = [((height, width, 3), torch.uint8)] + (
            [((height, width), torch.uint8)] if shape.counts else []
        )
        self._in = self._on_device(kinds)
        self._out = self._on_device(outs)
        self._sets = [
            _Set(
                tuple(runtime.pinned(*size, dtype=dtype) for size, dtype in kinds),
                self._on_device(kinds),
                self._on_device(outs),
            )
            for _ in range(SETS)
        ]
        self._pools = [
            _Pool(lambda size=size, dtype=dtype: runtime.pinned(*size, dtype=dtype))  # type: ignore[misc]
            for size, dtype in outs
        ]
        self._up, self._down = runtime.stream(), runtime.stream()
        self._warp: ThermalWarp | None = None
        self._grid = runtime.empty(1, height, width, 2, dtype=torch.float32).zero_() if shape.warps else None
        self._field: GpuField | None = None
        if shape.warps:
            self._field = GpuField.on(runtime.device, FieldFiller(np.ones(frame.size, bool)).matrices())
        small = (1, 1, *frame.small)
        self._prepared = Prepared(
            runtime.empty(height, width, dtype=torch.uint8),
            runtime.empty(height, width, dtype=torch.uint8),
            runtime.empty(*small, dtype=torch.float32),
            runtime.empty(*small, dtype=torch.float32),
        )
        self._under_way: deque[tuple[Any, tuple[Tensor, ...]]] = deque()
        self._next = 0
        self._prepare, graphed = runtime.program(main, self._prepare_steps)
        self._fuse = {}
        for key in network.graph_keys():
            self._fuse[key], also = runtime.program(main, lambda key=key: self._fuse_steps(key))  # type: ignore[misc]
            graphed = graphed and also
        self.graphed = graphed
        """Whether frames are replayed from CUDA graphs."""

    def run(self, visible: np.ndarray, thermal: np.ndarray, table: np.ndarray | None = None) -> Fused:
        """Fuse one frame and wait for it; see `submit`."""
        self.submit(visible, thermal, table)
        return self.collect()

    def use_warp(self, warp: ThermalWarp) -> None:
        """Bring thermal onto the visible grid like this from the next frame on. Raises BadInputError: other sizes."""
        if warp is self._warp:
            return
        wanted = (*self._frame.size, 2)
        if self._grid is None or self._field is None or warp.grid.shape != wanted:
            raise BadInputError(f"the sampling grid is {warp.grid.shape}, must be {wanted}, of a runner that warps")
        if warp.thermal_size != self.shape.thermal:
            raise BadInputError(
                f"the warp is for thermal pictures of {warp.thermal_size}, these are {self.shape.thermal}"
            )
        with self._runtime.on(self._main), torch.inference_mode():
            self._grid[0].copy_(torch.from_numpy(np.ascontiguousarray(warp.grid, np.float32)))
            self._field.take(warp.matrices)
        self._warp = warp

    @property
    def room(self) -> int:
        """How many more frames `submit` takes before `collect` must be called."""
        return SETS - len(self._under_way)

    def submit(self, visible: np.ndarray, thermal: np.ndarray, table: np.ndarray | None = None) -> None:
        """Begin a frame. The arrays may be used again at once.

        Args:
            visible: (H, W, 3) uint8. thermal: (Ht, Wt) uint8, or uint16 with a table (65536,) uint8.

        Raises:
            BadInputError: an array does not fit. EngineError: two frames are under way. Whatever the device raises.
        """
        if not self.room:
            raise EngineError(f"{SETS} frames are under way already; collect one first")
        given = [visible, thermal.view(np.int16) if thermal.dtype == np.uint16 else thermal]
        if self.shape.counts:
            if table is None or table.shape != (65536,) or table.dtype != np.uint8:
                got = "missing" if table is None else f"{table.dtype} {table.shape}"
                raise BadInputError(f"the table is {got}, must be uint8 (65536,)")
            given.append(table)
        runtime, buffers = self._runtime, self._sets[self._next]
        self._next = (self._next + 1) % SETS
        if buffers.free is not None:
            runtime.wait(buffers.free)  # the upload from this host memory is over, and its copy has been read
        for host, array in zip(buffers.host, given, strict=True):
            np.copyto(host.numpy(), array, casting="no")
        with torch.inference_mode():
            self._launch(buffers)

    def collect(self) -> Fused:
        """Wait for the oldest frame that was begun. Raises EngineError: there is none. Whatever the device raises."""
        if not self._under_way:
            raise EngineError("no frame is under way; submit one first")
        done, results = self._under_way.popleft()
        self._runtime.wait(done)
        arrays = [pool.hand_out(result) for pool, result in zip(self._pools, results, strict=True)]
        return Fused(arrays[0], arrays[1] if len(arrays) > 1 else None)

    def _launch(self, buffers: _Set) -> None:
        runtime, main = self._runtime, self._main
        with runtime.on(self._up):
            for device, host in zip(buffers.device, buffers.host, strict=True):
                device.copy_(host, non_blocking=True)
        runtime.after(main, runtime.mark(self._up))
        if buffers.read is not None:
            runtime.after(main, buffers.read)
        with runtime.on(main):
            for inside, device in zip(self._in, buffers.device, strict=True):
                inside.copy_(device)
            buffers.free = runtime.mark(main)
            self._prepare()
        self._network.choose(self._prepared.visible, self._prepared.thermal)
        with runtime.on(main):
            self._fuse[self._network.graph_key()]()
            for out, inside in zip(buffers.out, self._out, strict=True):
                out.copy_(inside)
        runtime.after(self._down, runtime.mark(main))
        results = tuple(pool.take() for pool in self._pools)
        with runtime.on(self._down):
            for result, out in zip(results, buffers.out, strict=True):
                result.copy_(out, non_blocking=True)
        buffers.read = runtime.mark(self._down)
        self._under_way.append((buffers.read, results))

    def _prepare_steps(self) -> None:
        with torch.inference_mode():
            table = self._in[2] if self.shape.counts else None
            made = self._frame.prepare(self._in[0], self._in[1], table, self._grid, self._field)
            for buffer, value in zip(self._prepared, made, strict=True):
                buffer.copy_(value)

    def _fuse_steps(self, key: str) -> None:
        with torch.inference_mode():
            fused = self._network.fuse(key, self._prepared.visible, self._prepared.thermal)
            self._out[0].copy_(self._frame.colour(self._in[0], self._prepared, fused))
            if self.shape.counts:
                self._out[1].copy_(self._prepared.levels)

    def _on_device(self, kinds: list[_Kind]) -> tuple[Tensor, ...]:
        return tuple(self._runtime.empty(*size, dtype=dtype).zero_() for size, dtype in kinds)
