"""The displacement field in use on a device, and the estimates that renew it beside the fusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_core.engines.gpu.device import Runtime

__all__ = ["DeviceEstimate", "DeviceField"]

Program = Callable[..., Any]


class DeviceEstimate:
    """One estimate of a `DeviceField`, perhaps still under way: what `concurrent.futures.Future` is to a thread."""

    def __init__(self, field: DeviceField, event: Any) -> None:
        self._field, self._event = field, event

    def done(self) -> bool:
        """Whether the device has finished it."""
        return self._field.runtime.reached(self._event)

    def result(self) -> DeviceEstimate:
        """Wait for it and take it into use."""
        self._field.runtime.wait(self._event)
        self._field.take()
        return self

    def cancel(self) -> None:
        """Nothing: the device ends it, and nobody takes it."""

    @property
    def change(self) -> tuple[float, float]:
        """By how much it moved the field (median, px), and lowered the log-confidence (mean)."""
        step, lost = self._field.facts.tolist()
        return step, lost


class DeviceField:
    """Owner: the thread that fuses. The estimate has a stream of low priority; the fusion's stream is given.

    A field that is further than `jump_px` (median) from the one before replaces it; nearer ones are averaged with it.
    """

    def __init__(
        self,
        estimate: Program,
        refine: Program | None,
        picture: Tensor,
        size: tuple[int, int],
        runtime: Runtime,
        main: Any,
        *,
        smoothing: float,
        jump_px: float,
    ) -> None:
        """Allocate, warm up and capture.

        Args:
            estimate, refine: the programs of `fusion_core.rfvif.programs`; refine None: never around an earlier field.
            picture: an example, (1, 1, h, w).
            size: rows and columns of the field.
            main: the fusion's stream.
            smoothing: weight of a new estimate against the one in use.
        """
        self.runtime, self._main = runtime, main
        self._estimate, self._refine = estimate, refine
        self._smoothing, self._jump_px = smoothing, jump_px

        def field(channels: int) -> Tensor:
            return runtime.empty(1, channels, *size, dtype=torch.float32).zero_()

        self.displacement, self.log_confidence = field(2), field(1)
        """In use, (1, 2, h, w) px and (1, 1, h, w); always the same memory."""
        self._new = field(2), field(1)
        self._pictures = tuple(runtime.empty(*picture.shape, dtype=picture.dtype).zero_() for _ in range(2))
        self._facts = runtime.empty(2, dtype=torch.float32).zero_()
        self.facts = runtime.pinned(2, dtype=torch.float32)
        self._host = runtime.pinned(1, 2, *size, dtype=torch.float32)
        self._own = runtime.stream(low_priority=True)
        self._last: Any = None  # what the estimate's stream was given last
        self._whole, graphed = runtime.program(self._own, self._whole_steps)
        self._blend, _ = runtime.program(self._own, self._blend_steps)
        self._around = runtime.program(self._own, self._around_steps)[0] if refine is not None else self._whole
        self.graphed = graphed
        self._last = runtime.mark(self._own)

    def at_once(self, visible: Tensor, thermal: Tensor) -> DeviceEstimate:
        """Estimate from these pictures alone, in line with the fusion, and take it into use."""
        self._take_pictures(visible, thermal)
        with self.runtime.on(self._main):
            self._whole()
        self._last = self.runtime.mark(self._main)
        self.take()
        return DeviceEstimate(self, self._last)

    def begin(self, visible: Tensor, thermal: Tensor, around: bool) -> DeviceEstimate:
        """Begin to estimate beside the fusion; around: around the field in use."""
        self._take_pictures(visible, thermal)
        self.runtime.after(self._own, self.runtime.mark(self._main))
        with self.runtime.on(self._own):
            (self._around if around else self._whole)()
            self._blend()
        self._last = self.runtime.mark(self._own)
        return DeviceEstimate(self, self._last)

    def take(self) -> None:
        """Fuse with the newest estimate from now on."""
        self.runtime.after(self._main, self._last)
        with self.runtime.on(self._main), torch.inference_mode():
            self.displacement.copy_(self._new[0])
            self.log_confidence.copy_(self._new[1])

    def displacement_px(self) -> npt.NDArray[np.float32]:
        """In use, (2, h, w), a new array; waits for the device."""
        with self.runtime.on(self._main), torch.inference_mode():
            self._host.copy_(self.displacement, non_blocking=True)
        self.runtime.wait(self.runtime.mark(self._main))
        return self._host[0].numpy().copy()

    def _take_pictures(self, visible: Tensor, thermal: Tensor) -> None:
        """Copies: the next frame's pictures come while the estimate runs. One that nobody took may still be at it."""
        self.runtime.after(self._main, self._last)
        with self.runtime.on(self._main), torch.inference_mode():
            self._pictures[0].copy_(visible)
            self._pictures[1].copy_(thermal)

    def _whole_steps(self) -> None:
        with torch.inference_mode():
            self._keep(*self._estimate(*self._pictures))

    def _around_steps(self) -> None:
        assert self._refine is not None
        with torch.inference_mode():
            self._keep(*self._refine(*self._pictures, self.displacement))

    def _keep(self, displacement: Tensor, log_confidence: Tensor) -> None:
        self._new[0].copy_(displacement)
        self._new[1].copy_(log_confidence)

    def _blend_steps(self) -> None:
        """As `RunningDisplacement._make` and `_doubts` do it."""
        with torch.inference_mode():
            (new, new_confidence), old, old_confidence = self._new, self.displacement, self.log_confidence
            near = _median((new - old).abs()) < self._jump_px
            weight = torch.where(near, self._smoothing, 1.0)
            new.copy_(torch.lerp(old, new, weight))
            new_confidence.copy_(torch.lerp(old_confidence, new_confidence, weight))
            self._facts[0] = _median((new - old).abs())
            self._facts[1] = (old_confidence - new_confidence).mean()
            self.facts.copy_(self._facts, non_blocking=True)


def _median(values: Tensor) -> Tensor:
    """As numpy's: of an even count, the mean of the middle two."""
    ordered = values.flatten().sort().values
    count = ordered.numel()
    return (ordered[(count - 1) // 2] + ordered[count // 2]) * 0.5
