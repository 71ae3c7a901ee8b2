"""A whole frame in one program on one device: pixels in, pixels out, nothing of it on the host in between.

`GpuFrame` is the arithmetic and runs on any device, so that its numbers are tested on a CPU against the engines there.
`FrameRunner` gives it fixed buffers: one upload from pinned memory, one download into pinned memory, and on CUDA one
graph that holds both copies and everything between, replayed on a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import structlog
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.errors import BadInputError, EngineError
from fusion_core.thermal.field_of_view import FieldFiller, FieldMatrices

__all__ = ["FrameRunner", "GpuField", "GpuFrame", "gpu_luminance"]

_WARM_UP_RUNS = 3
_ON_BORDER_PX = 1e-3  # float32 positions on the border count as inside
_log = structlog.get_logger("engine")

# 0.299, 0.587, 0.114 in 15-bit fixed point, as cv2.cvtColor has them: the luminance is equal bit by bit.
_RED, _GREEN, _BLUE, _SHIFT = 9798, 19235, 3735, 15


def gpu_luminance(rgb: Tensor) -> Tensor:
    """Y of (H, W, 3) uint8 RGB -> (H, W) int32 in 0..255; equal to `fusion_core.colour.luminance`."""
    red, green, blue = rgb.to(torch.int32).unbind(dim=-1)
    return (red * _RED + green * _GREEN + blue * _BLUE + (1 << (_SHIFT - 1))) >> _SHIFT


class GpuField(NamedTuple):
    """`fusion_core.thermal.field_of_view.FieldMatrices` on a device, float32; seen: (H, W) bool."""

    down_y: Tensor
    down_x: Tensor
    gain: Tensor
    up_y: Tensor
    up_x: Tensor
    seen: Tensor

    @classmethod
    def on(cls, device: torch.device, matrices: FieldMatrices) -> GpuField:
        """Move to the device."""
        parts = (matrices.down_y, matrices.down_x, matrices.gain, matrices.up_y, matrices.up_x, matrices.seen)
        return cls(*(torch.from_numpy(np.array(part)).to(device) for part in parts))

    def fill(self, levels: Tensor, luminance: Tensor) -> Tensor:
        """As `FieldFiller.fill`, to one level: (H, W) float32 levels and int32 luminance -> (H, W) float32."""
        difference = torch.where(self.seen, levels - luminance, 0.0)
        cells = self.down_y @ difference @ self.down_x.T  # (h, w)
        offset = self.up_y @ (cells * self.gain) @ self.up_x.T  # (H, W)
        return torch.where(self.seen, levels, (luminance + offset).round().clamp(0, 255))


class GpuFrame(nn.Module):
    """Thermal counts -> AGC table -> visible grid; luminance; network; the new luminance under the old chroma."""

    def __init__(self, network: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> None:
        """network: (1, 1, H, W) visible luminance and thermal in [0, 1], `dtype` -> (1, 1, H, W) in [0, 1]."""
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(
        self,
        visible: Tensor,
        thermal: Tensor,
        table: Tensor | None,
        grid: Tensor | None,
        field: GpuField | None = None,
    ) -> Tensor:
        """Fuse one frame.

        Args:
            visible: (H, W, 3) uint8 RGB.
            thermal: (Ht, Wt) uint8 levels, or with a table uint16 counts.
            table: (65536,) uint8, the level of each count (the AGC's); None: thermal holds levels already.
            grid: (1, H, W, 2) float32 in [-1, 1], align_corners=False: where each visible pixel lies in the thermal
                picture (`calibration.align.ThermalAligner.sampling_grid`); outside is 0. None: the same grid.
            field: what the thermal camera sees, to fill the rest; None: thermal is filled already, or sees all.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        levels = thermal if table is None else table[thermal.to(torch.int32)]
        moved = levels[None, None].float()
        if grid is not None:
            moved = F.grid_sample(moved, grid, mode="bilinear", padding_mode="zeros", align_corners=False).round_()
        old_y = gpu_luminance(visible)
        if field is not None:
            moved = field.fill(moved[0, 0], old_y)[None, None]
        scale = 1.0 / 255.0
        fused = self.network((old_y[None, None].float() * scale).to(self.dtype), (moved * scale).to(self.dtype))
        new_y = (fused[0, 0].float() * 255.0).round().to(torch.int32)
        # As `fusion_core.colour.replace_luminance`: brighter by adding, darker by scaling.
        brighter = (new_y - old_y).clamp(min=0).unsqueeze(-1)
        share = (torch.minimum(new_y, old_y) * 255.0 / old_y.clamp(min=1)).round().unsqueeze(-1)
        return ((visible.float() * share * scale).round() + brighter).clamp(0, 255).to(torch.uint8)


class FrameRunner:
    """`GpuFrame` at one size with buffers that live as long as it does. One owner thread.

    On CUDA the frame is a graph; where a graph cannot be captured, the same steps run one by one, which is logged.
    """

    def __init__(
        self,
        frame: GpuFrame,
        size: tuple[int, int],
        device: torch.device,
        *,
        thermal_size: tuple[int, int] | None = None,
        counts: bool = False,
        grid: np.ndarray | None = None,
    ) -> None:
        """Allocate, warm up and capture.

        Args:
            size, thermal_size: (height, width); without `grid` both are the same.
            counts: thermal comes as uint16 counts with a table (`set_table`), else as uint8 levels.
            grid: (H, W, 2) float32, see `GpuFrame.forward`; where it lies outside thermal, thermal is filled.

        Raises:
            EngineError: the frame cannot run here. BadInputError: grid and sizes do not fit.
        """
        height, width = size
        thermal_size = thermal_size if thermal_size is not None else size
        if grid is None and thermal_size != size:
            raise BadInputError(f"thermal is {thermal_size}, visible {size} (height, width): a sampling grid is needed")
        if grid is not None and grid.shape != (height, width, 2):
            raise BadInputError(f"the sampling grid is {grid.shape}, must be ({height}, {width}, 2)")
        self._frame, self._device = frame, device
        cuda = device.type == "cuda"
        count_type = torch.uint16 if counts else torch.uint8
        self._host_visible = torch.zeros(height, width, 3, dtype=torch.uint8, pin_memory=cuda)
        self._host_thermal = torch.zeros(*thermal_size, dtype=count_type, pin_memory=cuda)
        self._host_out = torch.zeros(height, width, 3, dtype=torch.uint8, pin_memory=cuda)
        self._visible = torch.zeros(height, width, 3, dtype=torch.uint8, device=device)
        self._thermal = torch.zeros(*thermal_size, dtype=count_type, device=device)
        self._host_table = torch.zeros(65536, dtype=torch.uint8, pin_memory=cuda) if counts else None
        self._table = torch.zeros(65536, dtype=torch.uint8, device=device) if counts else None
        self._grid = (
            torch.from_numpy(np.ascontiguousarray(grid, np.float32))[None].to(device) if grid is not None else None
        )
        self._field: GpuField | None = None
        if grid is not None:
            filler = FieldFiller(_seen_of(grid, thermal_size))
            self._field = None if filler.whole else GpuField.on(device, filler.matrices())
        self._into_visible = self._host_visible.numpy()
        self._into_thermal = self._host_thermal.numpy()
        self._out = self._host_out.numpy()
        self._stream: Any = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._graph: Any = None
        try:
            if cuda:
                self._capture()
            else:
                self._steps()
        except (RuntimeError, AssertionError) as error:
            raise EngineError(f"the frame cannot run at {height}x{width} on {device}: {error}") from error

    @property
    def graphed(self) -> bool:
        """Whether frames are replayed from a CUDA graph."""
        return self._graph is not None

    def set_table(self, table: np.ndarray) -> None:
        """The AGC's table for the frames from now on: (65536,) uint8. Raises BadInputError."""
        if self._host_table is None or table.shape != (65536,) or table.dtype != np.uint8:
            raise BadInputError(f"table is {table.dtype} {table.shape}, must be uint8 (65536,), of a runner for counts")
        self._host_table.numpy()[:] = table

    def run(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 and (Ht, Wt) uint8 or uint16 -> (H, W, 3) uint8, a new array. Raises EngineError."""
        np.copyto(self._into_visible, visible, casting="no")
        np.copyto(self._into_thermal, thermal, casting="no")
        try:
            if self._graph is not None:
                with torch.cuda.stream(self._stream):
                    self._graph.replay()
                self._stream.synchronize()
            elif self._stream is not None:
                with torch.cuda.stream(self._stream), torch.inference_mode():
                    self._steps()
                self._stream.synchronize()
            else:
                self._steps()
        except RuntimeError as error:
            raise EngineError(f"the GPU failed on a frame: {error}") from error
        return self._out.copy()

    def _steps(self) -> None:
        with torch.inference_mode():
            self._visible.copy_(self._host_visible, non_blocking=True)
            self._thermal.copy_(self._host_thermal, non_blocking=True)
            if self._table is not None and self._host_table is not None:
                self._table.copy_(self._host_table, non_blocking=True)
            out = self._frame(self._visible, self._thermal, self._table, self._grid, self._field)
            self._host_out.copy_(out, non_blocking=True)

    def _capture(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        # Convolution algorithms are chosen by trying them, for this size alone and without touching global flags.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP_RUNS):
                    self._steps()
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, stream=self._stream):
                    self._steps()
            except RuntimeError as error:
                torch.cuda.synchronize(self._device)
                _log.warning("no CUDA graph: each frame is launched operator by operator, slower", reason=str(error))
                return
        self._graph = graph


def _seen_of(grid: np.ndarray, thermal_size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: where a sampling grid lies between the centres of the thermal picture's outermost pixels."""
    height, width = thermal_size
    points = (grid.astype(np.float64) + 1.0) * (width / 2.0, height / 2.0) - 0.5
    inside = (points > -_ON_BORDER_PX) & (points < np.array([width, height]) - 1 + _ON_BORDER_PX)
    return np.asarray(inside.all(axis=-1))
