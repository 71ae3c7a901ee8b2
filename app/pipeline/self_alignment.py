"""Whether thermal still lies on visible while the rig runs: watched once a second, proposed, and mended if wanted.

The network absorbs what moves; what the rig has done to itself is undone in front of it. Corrections reach the fusion
thread as finished maps through a slot that holds one, and it has nothing to do but take them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from app.capture.synchronizer import output_time_ns
from app.pipeline.fusion_thread import FusionThread
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineContext, Severity
from app.pipeline.state.stats import DriftReading
from app.pipeline.thermal_grid import ThermalGrid
from app.process import Worker
from calibration.drift import DriftLevel, DriftMonitor, DriftState, SelfAligner
from calibration.rig import apply_homography, plain_scaling, save_calibration
from calibration.targetless import judge_fit
from fusion_core.errors import BadInputError, LumithermError
from fusion_core.frames import FrameFlag, FusedFrame

__all__ = ["SelfAlignment"]

_TICK_S: Final = 0.2  # five steps a second while a correction moves
_RATE_PX_S: Final = 2.0
_STEP_PX: Final = 0.4  # nobody sees it move; a busy machine that comes late to a step moves slower, not further
_LIMIT_PX: Final = 24.0  # at the corners: a rig further off needs its calibration redone
_MAX_SKEW_PX: Final = 1.5  # while the picture moves more than this between the two moments, nothing is compared
_UNFIT: Final = FrameFlag.HELD | FrameFlag.FFC | FrameFlag.SKEW_EXCEEDED
_SAVE_PX: Final = 1.0  # a proposal is written anew when it differs by more
_FIT_AFTER: Final = 12  # looks in which the drift stays unknown or bad, before the whole range is searched once
_FIT_PAIRS: Final = 3  # that the search goes by
_LEVELS: Final = (DriftLevel.WARN, DriftLevel.ALARM)


class _StoppedError(Exception):
    """The thread was asked to end in the middle of a search."""


class SelfAlignment:
    """The thread `drift`: owner of the drift monitor and of the correction. Other methods may be called by any thread.

    Args:
        mode: propose (measure, show, write the proposal) or apply (and move thermal by it, slowly).
        latest: the newest fused picture is looked at; none is waited for.
        fusion: takes the corrected alignment.
        proposal_file: where a proposed correction is written, as a calibration to load.
        on_grid: told of each alignment that was handed over.
    """

    def __init__(
        self,
        mode: str,
        latest: LatestSlot[FusedFrame],
        fusion: FusionThread,
        base: ThermalGrid,
        context: PipelineContext,
        proposal_file: Path,
        on_grid: Callable[[ThermalGrid], None],
    ) -> None:
        self._mode, self._latest, self._fusion = mode, latest, fusion
        self._stats, self._problems, self._clock = context.stats, context.problems, context.clock
        self._proposal_file, self._on_grid = proposal_file, on_grid
        self._lock = threading.Lock()  # over what other threads ask for, and the hand-over
        self._base = base
        self._base_changed = False
        self._asked: bool | None = None  # True: accept the proposal, False: go back
        self._worker = Worker("drift", self._run, context.fail)
        self._stopping: threading.Event | None = None
        # Of the thread alone:
        self._grid = base
        self._aligner: SelfAligner | None = None
        self._monitor: DriftMonitor | None = None
        self._sizes: tuple[tuple[int, int], tuple[int, int]] | None = None  # of visible and thermal pictures
        self._state: DriftState | None = None
        self._seen = 0  # number of the picture that was looked at last
        self._from: int | None = None  # pictures above this number are aligned by the grid handed over last
        self._told: DriftLevel = DriftLevel.OK
        self._saved: np.ndarray | None = None
        self._saved_to: Path | None = None
        self._cannot_save = False
        self._looked = self._skipped = self._steps = 0
        self._judged = False  # whether this alignment has been searched for over the whole range
        self._unfit_looks = 0
        self._far_px: float | None = None
        self._fit_pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_FIT_PAIRS)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def request_stop(self) -> None:
        """Ask the thread to end."""
        self._worker.request_stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came in time."""
        return self._worker.join(timeout_s)

    def use(self, grid: ThermalGrid) -> None:
        """Hand another calibration to the fusion thread, and forget everything measured under the former one.

        Raises:
            BadInputError: it does not fit the visible pictures; the former calibration stays in use.
        """
        with self._lock:
            self._fusion.set_grid(grid)
            self._base, self._base_changed, self._asked = grid, True, None

    def accept(self) -> None:
        """Apply the proposed correction, slowly. Nothing happens without one."""
        with self._lock:
            self._asked = True

    def discard(self) -> None:
        """Drop the proposal, and go back to the calibration as it was loaded."""
        with self._lock:
            self._asked = False

    # ------------------------------------------------------------------ the thread

    def _run(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        while not stopping.wait(_TICK_S):
            self.tick()

    def _go_on(self, _: float) -> None:
        if self._stopping is not None and self._stopping.is_set():
            raise _StoppedError

    def tick(self) -> None:
        """Look at the newest picture if one is due, and move the correction on. Called by the thread `drift`."""
        with self._lock:
            base, changed, self._base_changed = self._base, self._base_changed, False
            asked, self._asked = self._asked, None
        if changed:
            self._forget(base)
        aligner = self._aligner
        if aligner is not None and asked is not None:
            if asked:
                aligner.accept()
            else:
                aligner.discard()
        newest = self._latest.peek_newer(self._seen)
        if newest is not None and (aligner is None or not aligner.moving):
            self._look(*newest)
        self._step()
        self._publish()

    def _forget(self, base: ThermalGrid) -> None:
        self._grid, self._aligner, self._monitor, self._sizes = base, None, None, None
        self._state, self._from, self._saved, self._saved_to = None, None, None, None
        self._judged, self._unfit_looks, self._far_px = False, 0, None
        self._fit_pairs.clear()
        self._stats.warn("fit", None)
        self._tell_level(DriftLevel.OK, "")

    def _look(self, number: int, frame: FusedFrame) -> None:
        if self._fusion.grid_in_use is not self._grid:
            return  # it waits for the next pair
        if self._from is None:
            self._from = number + 1  # this picture and the one under way may still be of the alignment before
        if number <= self._from:
            return
        self._seen = number
        t_ns = output_time_ns(frame.pair)
        visible, thermal, levels = frame.pair.visible, frame.pair.thermal, frame.thermal_8bit
        if visible is None or thermal is None or levels is None:
            self._skipped += 1
            return
        size = (visible.pixels.shape[0], visible.pixels.shape[1])
        thermal_size = (thermal.pixels.shape[0], thermal.pixels.shape[1])
        if levels.shape != size or min(size) < 64:
            self._skipped += 1
            return
        if (size, thermal_size) != self._sizes:
            self._sizes = (size, thermal_size)
            self._aligner = SelfAligner(
                "apply" if self._mode == "apply" else "propose",
                size,
                rate_px_s=_RATE_PX_S,
                step_px=_STEP_PX,
                limit_px=_LIMIT_PX,
            )
            self._monitor = None
        if self._monitor is None:
            self._monitor = DriftMonitor(size, mask=self._grid.mask(*size))
        if not self._monitor.due(t_ns):
            return
        if frame.pair.flags & _UNFIT or self._moves():
            self._skipped += 1
            return
        luma = cv2.cvtColor(visible.pixels, cv2.COLOR_RGB2GRAY)
        state = self._monitor.update(np.asarray(luma), levels, t_ns)
        if state is None:
            return
        self._looked += 1
        self._state = state
        assert self._aligner is not None  # made with the sizes
        self._aligner.offer(state)
        self._judge(state)
        self._judge_fit(state, (visible.pixels, thermal.pixels))
        proposal = self._aligner.proposal
        if proposal is not None:
            self._save(proposal)

    def _moves(self) -> bool:
        """Whether the picture moves so fast that the skew between the two cameras would be taken for drift."""
        budget = self._stats.snapshot().budget
        return budget is not None and budget.skew_px is not None and budget.skew_px > _MAX_SKEW_PX

    # ------------------------------------------------------------------ the correction

    def _step(self) -> None:
        aligner = self._aligner
        if aligner is None or self._sizes is None:
            return
        correction = aligner.step(self._clock.now_ns())
        if correction is None:
            return
        settled = not aligner.moving
        grid = self._base.corrected(correction, *self._sizes)
        with self._lock:
            if self._base_changed:
                return  # by another calibration, which the next tick begins with
            self._fusion.set_grid(grid, small_step=True)
        self._grid, self._from = grid, None
        self._steps += 1
        self._monitor, self._state = None, None  # what was seen before does not hold after
        self._on_grid(grid)
        if settled:
            moved_px = aligner.moved_px
            self._problems.add(
                Severity.INFO,
                "calibration",
                f"thermal is now moved by {moved_px:.1f} px against the calibration, as measured"
                if moved_px > 0
                else "thermal is aligned by the calibration as it was loaded again",
                f"to keep it: --set calibration.file={self._saved_to}" if moved_px > 0 and self._saved_to else "",
            )
            if moved_px > 0:
                self._save(correction)

    def _save(self, correction: np.ndarray) -> None:
        """Write a calibration file with the correction in it; tell once of a disk that refuses."""
        assert self._sizes is not None  # by the caller
        height, width = self._sizes[0]
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
        before = self._saved
        if before is not None:
            apart = np.linalg.norm(apply_homography(before, corners) - apply_homography(correction, corners), axis=1)
            if apart.max() <= _SAVE_PX:
                return
        calibration = self._base.corrected(correction, *self._sizes).calibration
        assert calibration is not None  # a corrected alignment has one
        try:
            save_calibration(
                replace(calibration, verdict="proposed by the drift monitor", report_sha256="", created=""),
                self._proposal_file,
            )
        except (OSError, LumithermError) as error:
            if not self._cannot_save:
                self._cannot_save = True
                self._problems.add(
                    Severity.WARNING,
                    "calibration",
                    f"the proposed calibration {self._proposal_file} cannot be written: {error}",
                    "name another place: calibration.proposal_file",
                )
            return
        self._saved, self._saved_to = correction, self._proposal_file

    # ------------------------------------------------------------------ what the user sees

    def _judge(self, state: DriftState) -> None:
        """Tell a drift once, when it gets worse, and that it is over; of a pair known to be far off it says nothing."""
        if self._far_px is not None:
            return
        if state.level in _LEVELS and (self._told is DriftLevel.OK or state.level is DriftLevel.ALARM):
            text = (
                f"thermal lies {state.drift_px:.1f} px off (it has to move by x {state.dx_px:+.1f}, "
                f"y {state.dy_px:+.1f}): the rig is not as it was calibrated, or most of the scene is much nearer"
            )
            self._tell_level(state.level, text)
        elif state.level is DriftLevel.OK:
            self._tell_level(DriftLevel.OK, "")

    def _judge_fit(self, state: DriftState, pair: tuple[np.ndarray, np.ndarray]) -> None:
        """Where the drift stays unknown or bad: search the whole range once, for some seconds, and tell."""
        if self._judged:
            return
        if state.level not in (DriftLevel.UNKNOWN, DriftLevel.ALARM):
            self._unfit_looks = 0
            self._fit_pairs.clear()
            return
        self._unfit_looks += 1
        if self._unfit_looks % (_FIT_AFTER // _FIT_PAIRS) == 0:
            self._fit_pairs.append(pair)
        if self._unfit_looks < _FIT_AFTER:
            return
        self._judged = True
        sizes = [(pixels.shape[0], pixels.shape[1]) for pixels in pair]
        same = [known for known in self._fit_pairs if [pixels.shape[:2] for pixels in known] == sizes]
        calibration = self._grid.calibration or plain_scaling(sizes[0], sizes[1])
        try:
            verdict = judge_fit(calibration, same, self._go_on)
        except (BadInputError, _StoppedError):  # too small, or a calibration for another size of the same shape
            return
        finally:
            self._fit_pairs.clear()
        if verdict.found is None:
            return
        self._far_px = verdict.off_px
        under = "plainly scaled" if self._grid.calibration is None else "under this calibration"
        text = (
            f"thermal does not lie on visible: {under} it is {verdict.off_px:.0f} px off, and everything is drawn "
            f"twice; {verdict.found.words()}"
        )
        self._stats.warn("fit", text)
        advice = "align the rig: the set-up assistant, or `lumitherm calibrate refine` on a recording of it"
        self._problems.add(Severity.ERROR, "calibration", text, advice)

    def _tell_level(self, level: DriftLevel, text: str) -> None:
        if level is self._told:
            return
        before, self._told = self._told, level
        self._stats.warn("drift", text or None)
        if level is DriftLevel.OK:
            self._problems.add(Severity.INFO, "calibration", f"thermal lies on visible again (was: {before.value})")
            return
        advice = (
            "it is corrected in a moment" if self._mode == "apply" else f"the correction is in {self._proposal_file}"
        )
        severity = Severity.ERROR if level is DriftLevel.ALARM else Severity.WARNING
        self._problems.add(severity, "calibration", text, f"check the mount; {advice}")

    def _publish(self) -> None:
        state, aligner = self._state, self._aligner
        known = state is not None and np.isfinite(state.drift_px)
        proposal = aligner.proposal if aligner is not None else None
        self._stats.drift(
            DriftReading(
                level=(state.level if state is not None else DriftLevel.UNKNOWN).value,
                mode=self._mode,
                far_px=self._far_px,
                drift_px=state.drift_px if state is not None and known else None,
                dx_px=state.dx_px if state is not None and known else None,
                dy_px=state.dy_px if state is not None and known else None,
                confidence=state.confidence if state is not None else 0.0,
                proposed_px=aligner.distance_px(proposal) if aligner is not None and proposal is not None else None,
                applied_px=aligner.moved_px if aligner is not None else 0.0,
                moving=aligner.moving if aligner is not None else False,
                proposal_file=str(self._saved_to) if self._saved_to is not None else None,
                looked=self._looked,
                skipped=self._skipped,
                steps=self._steps,
                steps_replaced=self._fusion.grids_replaced,
            )
        )
