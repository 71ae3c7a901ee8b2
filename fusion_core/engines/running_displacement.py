"""The displacement field on video: renewed every few frames beside the fusion, smoothed, and never waited for long.

A rig's displacement field changes slowly, and its estimate costs as much as several fusions. So a frame hands its
pictures to the estimate, the fusion goes on with the field that it has, and `every` frames later the result is taken.
Where the estimator can also look around a field that is nearly right, which costs a quarter, it does that, and searches
the whole range only at the start and on every `_WHOLE_EVERY`-th occasion, to notice when the rig was hit.
From files the result is taken at a fixed frame, whether or not it was ready before, which makes the output a function
of the input alone. Live a frame that waited would be late: there a late result is taken when it is ready.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.rfvif.config import FRAME_PX

__all__ = [
    "JUMP_PX",
    "Estimate",
    "Estimator",
    "Pending",
    "RefiningEstimator",
    "RunningDisplacement",
    "RunningField",
    "is_doubtful",
    "remap_maps",
]

SMOOTHING = 0.5
"""Weight of a new estimate against the running one."""

JUMP_PX = 3.0
"""A new estimate further off than this (median over the grid) replaces the running one: the rig was hit, or a cut."""

_WHOLE_EVERY = 20
"""Renewals between two searches of the whole range, where the rest look around the field that they have."""

_DOUBT_PX, _DOUBT = 0.3, 0.15
"""A renewal that moves the running field by more (median), or lowers its log-confidence by more (mean), than a slow
change would: the whole range is searched next, since a look around finds nothing after a hit."""

_NICENESS = 5

P = TypeVar("P")
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
Floats = npt.NDArray[np.float32]
Estimator = Callable[[np.ndarray, np.ndarray], tuple[Floats, Floats]]
"""(visible luminance, thermal), both (H, W) uint8 -> displacement (2, h, w) px, log-confidence (1, h, w)."""


@runtime_checkable
class RefiningEstimator(Protocol):
    """An `Estimator` that can also look around a field that is nearly right, at a fraction of the cost."""

    def __call__(self, visible: np.ndarray, thermal: np.ndarray, /) -> tuple[Floats, Floats]:
        """As `Estimator`."""
        ...

    def refine(self, visible: np.ndarray, thermal: np.ndarray, displacement_px: Floats) -> tuple[Floats, Floats]:
        """As `Estimator`, from a displacement (2, h, w) that is right to a pixel or two."""
        ...


class Estimate(NamedTuple):
    """A displacement field on the 8-pixel grid, its log-confidence, and the maps that cv2.remap wants."""

    displacement_px: Floats  # (2, h, w): (dx, dy)
    log_confidence: Floats  # (1, h, w)
    maps: tuple[np.ndarray, np.ndarray]


class Pending(Protocol[E_co]):
    """An estimate under way; `concurrent.futures.Future` is one."""

    def done(self) -> bool:
        """Whether `result` comes at once."""
        ...

    def result(self) -> E_co:
        """What was found; waits for it."""
        ...

    def cancel(self) -> object:
        """It is not wanted any more."""
        ...


class RunningField(ABC, Generic[P, E]):
    """When a field is estimated, and from which frame on it counts; where and how, the subclass says.

    One owner thread. P: the pictures of a frame; E: an estimate.
    """

    def __init__(self, every: int, *, waits: bool = True) -> None:
        """every: frames between two estimates; 1: on each frame. waits: see `VideoOptions.align_waits`."""
        self._every, self._waits = every, waits
        self._current: E | None = None
        self._pending: Pending[E] | None = None
        self._age = 0
        self._renewals = 0

    @property
    def current(self) -> E | None:
        """The estimate in use, None before the first frame."""
        return self._current

    def of(self, pictures: P) -> E:
        """The estimate to fuse this frame with.

        The first frame after a start or `reset` waits for its own; later ones get the running one.

        Raises:
            Whatever the estimator raises.
        """
        if self._every == 1 or self._current is None:
            self._current = self._at_once(pictures)
            self._age = 0
            return self._current
        self._age += 1
        late = self._pending is not None and not self._waits and not self._pending.done()
        if self._age >= self._every and not late:
            self._age = 0
            if self._pending is not None:
                pending, self._pending = self._pending, None
                renewed = pending.result()
                if self._doubts(self._current, renewed):
                    self._renewals = _WHOLE_EVERY - 1
                self._current = renewed
            self._renewals += 1
            self._pending = self._begin(pictures, self._current, self._renewals % _WHOLE_EVERY != 0)
        return self._current

    def reset(self) -> None:
        """Forget the field: the next frame is estimated anew."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._current = None
        self._age = self._renewals = 0

    @abstractmethod
    def _at_once(self, pictures: P) -> E:
        """Estimate from these pictures alone, and wait for it."""

    @abstractmethod
    def _begin(self, pictures: P, before: E, around: bool) -> Pending[E]:
        """Begin to estimate beside the fusion. around: look around `before`, where the estimator can."""

    @abstractmethod
    def _doubts(self, before: E, after: E) -> bool:
        """Whether the field moved more than a slow change would, so that the whole range is searched next."""


def is_doubtful(step_px: float, lost_log_confidence: float) -> bool:
    """Whether a renewal that moved the field by so much (median), and cost so much confidence (mean), says of a hit."""
    return step_px > _DOUBT_PX or lost_log_confidence > _DOUBT


class RunningDisplacement(RunningField[tuple[np.ndarray, np.ndarray], Estimate]):
    """The field in use on a CPU. One owner thread calls it; with every > 1 a thread of its own runs the estimates."""

    def __init__(self, estimator: Estimator, every: int, *, smoothing: float = SMOOTHING, waits: bool = True) -> None:
        """Estimate nothing yet.

        Args:
            estimator: of each frame by itself; a `RefiningEstimator` mostly looks around the running field instead.
            every: frames between two estimates; 1 estimates anew on each frame, in the caller's thread, unsmoothed.
            smoothing: weight of a new estimate against the running one, above 0 to 1 (no smoothing).
            waits: see `VideoOptions.align_waits`.
        """
        super().__init__(every, waits=waits)
        self._estimator = estimator
        self._smoothing = smoothing
        self._pool = (
            ThreadPoolExecutor(1, thread_name_prefix="displacement", initializer=_give_way) if every > 1 else None
        )

    @property
    def displacement_px(self) -> Floats | None:
        """(2, h, w), None before the first frame."""
        return self._current.displacement_px if self._current is not None else None

    def at(self, visible: np.ndarray, thermal: np.ndarray) -> Estimate:
        """As `of`. visible, thermal: (H, W) uint8 of the same size as in all calls since the last `reset`."""
        return self.of((visible, thermal))

    def close(self) -> None:
        """End the thread, after the estimate under way. Safe to call twice."""
        self.reset()
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def _at_once(self, pictures: tuple[np.ndarray, np.ndarray]) -> Estimate:
        return self._make(*pictures, None)

    def _begin(self, pictures: tuple[np.ndarray, np.ndarray], before: Estimate, around: bool) -> Pending[Estimate]:
        assert self._pool is not None  # every > 1
        # Copies: the caller may reuse its arrays while the estimate runs.
        return self._pool.submit(self._make, pictures[0].copy(), pictures[1].copy(), before, around)

    def _doubts(self, before: Estimate, after: Estimate) -> bool:
        step_px = float(np.median(np.abs(after.displacement_px - before.displacement_px)))
        return is_doubtful(step_px, float(np.mean(before.log_confidence - after.log_confidence)))

    def _make(
        self, visible: np.ndarray, thermal: np.ndarray, before: Estimate | None, around: bool = False
    ) -> Estimate:
        if before is not None and around and isinstance(self._estimator, RefiningEstimator):
            displacement, confidence = self._estimator.refine(visible, thermal, before.displacement_px)
        else:
            displacement, confidence = self._estimator(visible, thermal)
        if before is not None:
            step = float(np.median(np.abs(displacement - before.displacement_px)))
            if step < JUMP_PX:
                displacement = before.displacement_px + self._smoothing * (displacement - before.displacement_px)
                confidence = before.log_confidence + self._smoothing * (confidence - before.log_confidence)
        return Estimate(displacement, confidence, remap_maps(displacement, *visible.shape))


def _give_way() -> None:
    """Let the fusion have the larger part of a busy core, so that an estimate is spread over several frames.

    Linux alone has a niceness for each thread; elsewhere the estimate stays at the priority of the rest.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)


def remap_maps(displacement: Floats, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-point maps for cv2.remap from a field on the 8-pixel grid (which covers the padded picture)."""
    rows, columns = displacement.shape[1:]
    full = [
        cv2.resize(plane, (columns * 8, rows * 8), interpolation=cv2.INTER_LINEAR)[:height, :width]
        for plane in displacement
    ]
    xs = np.clip(full[0] + np.arange(width, dtype=np.float32), FRAME_PX, width - 1 - FRAME_PX)
    ys = np.clip(full[1] + np.arange(height, dtype=np.float32)[:, None], FRAME_PX, height - 1 - FRAME_PX)
    first, second = cv2.convertMaps(xs, ys, cv2.CV_16SC2)
    return np.asarray(first), np.asarray(second)
