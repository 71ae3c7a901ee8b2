"""Calibrating a running rig: views of a board are chosen from the live pictures, solved, reported, kept or thrown away.

No toolkit here: a window shows what `progress` and `outcome` say. Detecting and solving run on one separate thread,
on pairs pulled from the pipeline, which does not know of it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from app.pipeline.state.latest_slot import LatestSlot
from fusion_core.errors import LumithermError, RunError
from fusion_core.frames import FrameFlag, FusedFrame

if TYPE_CHECKING:
    from calibration.board import Board
    from calibration.capture_guide import CaptureGuide, CaptureVerdict
    from calibration.solve import Solution
    from calibration.time_offset import BoardMovement

__all__ = [
    "BOARDS",
    "CalibrationOutcome",
    "CalibrationSession",
    "CamerasInUse",
    "CaptureProgress",
    "GateLine",
    "SessionState",
    "check_board",
    "write_board_file",
]

BOARDS: tuple[str, ...] = (
    "acircles:4x11:28mm",
    "acircles:4x11:20mm",
    "circles:7x6:40mm",
    "checkerboard:10x7:30mm",
    "charuco:8x6:40mm:30mm",
)
"""Boards offered first, as `calibration.board.parse_board` reads them; the first one suits most rigs."""

_WAIT_S = 0.1
_VIEWS = 20  # to capture
_LEAST_VIEWS = 3  # below that there is nothing to solve


@dataclass(frozen=True, slots=True)
class CamerasInUse:
    """What a calibration must know of the running cameras.

    devices: (visible, thermal) for the file, which is then refused for others; "" for none. added_ms: what the pipeline
    adds to thermal stamps, less what it adds to visible ones.
    """

    devices: tuple[str, str] = ("", "")
    added_ms: float = 0.0


class SessionState(StrEnum):
    """What the session does."""

    CAPTURING = "capturing"
    SOLVING = "solving"
    SOLVED = "solved"
    FAILED = "failed"  # see `error`; capturing can be taken up again


@dataclass(frozen=True, slots=True, eq=False)
class CaptureProgress:
    """After one pair of pictures was looked at.

    cells: (6, 6) int, board points in each part of the thermal picture. found_visible, found_thermal: (N, 2) float
    positions (x, y) as shares 0..1 of that picture, None where no board was found. ready: solving is possible; done:
    solving is due.
    """

    accepted: bool
    reason: str
    guidance: str
    views: int
    target: int
    coverage: float
    cells: npt.NDArray[np.int64]
    ready: bool
    done: bool
    looked_at: int
    found_visible: npt.NDArray[np.float64] | None = None
    found_thermal: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class GateLine:
    """One condition of a good calibration: what was wanted, what came out, what to do if it is not met."""

    name: str
    wanted: str
    got: str
    passed: bool
    advice: str


@dataclass(frozen=True, slots=True)
class CalibrationOutcome:
    """A solved rig as files, and how good it is. Distances in m, far_m may be infinite; errors in thermal px.

    offset_ms: by what visible stamps are later than thermal ones, and its sigma, if the moving board has told.
    bend_mm: depth of the points of a board that is bent; 0: flat. contradiction: why both cameras together do not fit
    though each does alone; "" if they do.
    """

    file: Path
    report: Path
    good: bool
    gates: tuple[GateLine, ...]
    views: int
    rejected: dict[str, str]
    exact_m: float
    near_m: float
    far_m: float
    limit_px: float
    median_px: float
    p95_px: float
    baseline_mm: float
    offset_ms: tuple[float, float] | None = None
    bend_mm: float = 0.0
    contradiction: str = ""


def check_board(text: str) -> str:
    """What this description of a board means, in words. Raises ConfigError when it is not understood."""
    from calibration.board import parse_board

    return parse_board(text).describe()


def write_board_file(text: str, path: Path) -> None:
    """Write the board to print or cut, to scale (.pdf or .svg). Raises ConfigError, BadInputError."""
    from calibration.board import parse_board
    from calibration.board_pdf import write_board

    write_board(parse_board(text), path, "auto")


class CalibrationSession:
    """One attempt: capturing from the start on, then `solve`, then `keep` or `discard`.

    Thread: `calibration`, from `start` to `stop`; it owns guide and solver. All methods may be called from any thread.

    Args:
        source: the pipeline's pictures; the thermal counts and the visible picture of each pair are used as captured.
        board: description, as in `BOARDS`.
        folder: for the calibration file and its report.
        name: of the rig, the beginning of the files' names.
        working_distance_m: where the alignment is to be exact; 0 = near to horizon.
        cameras: which they are, and what is added to their stamps.
    """

    def __init__(
        self,
        source: LatestSlot[FusedFrame],
        board: str,
        folder: Path,
        name: str,
        *,
        working_distance_m: float = 0.0,
        cameras: CamerasInUse = CamerasInUse(),
    ) -> None:
        self.progress: LatestSlot[CaptureProgress] = LatestSlot()
        self._source, self._board, self._folder, self._name = source, board, folder, name
        self._distance_m, self._cameras = working_distance_m, cameras
        self._lock = threading.Lock()
        self._state = SessionState.CAPTURING
        self._error = ""
        self._outcome: CalibrationOutcome | None = None
        self._solve_asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="calibration")

    def start(self) -> None:
        """Begin to look at pictures."""
        self._thread.start()

    def solve(self) -> None:
        """Solve from the views kept so far; `state` tells how it ends."""
        with self._lock:
            if self._state is not SessionState.SOLVING:
                self._state, self._error = SessionState.SOLVING, ""
                self._solve_asked.set()

    def capture_more(self) -> None:
        """Go on choosing views after a result that is not good enough, with those that are there."""
        with self._lock:
            if self._state in (SessionState.SOLVED, SessionState.FAILED) and self.running:
                self._state, self._error = SessionState.CAPTURING, ""
        self._delete()

    def keep(self) -> Path:
        """The calibration file, which stays. Raises RunError when nothing is solved."""
        with self._lock:
            outcome, self._outcome = self._outcome, None
        if outcome is None:
            raise RunError("nothing is solved yet: capture views of the board first")
        return outcome.file

    def stop(self, timeout_s: float = 60.0) -> bool:
        """End the thread (a solution under way is finished first) and delete what was not kept. Whether it ended."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._delete()
        return not self._thread.is_alive()

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    @property
    def state(self) -> SessionState:
        """What it does now."""
        with self._lock:
            return self._state

    @property
    def error(self) -> str:
        """Why it failed; "" if it did not."""
        with self._lock:
            return self._error

    @property
    def outcome(self) -> CalibrationOutcome | None:
        """What was solved last and neither kept nor discarded."""
        with self._lock:
            return self._outcome

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # shown by whoever looks at `error`
            self._fail(error)

    def _work(self) -> None:
        from calibration.board import parse_board
        from calibration.capture_guide import CaptureGuide
        from calibration.time_offset import BoardMovement

        board = parse_board(self._board)
        movement = BoardMovement(self._cameras.added_ms)
        guide = CaptureGuide(board, target=_VIEWS, exactly=False, working_distance_m=self._distance_m)
        sequence = looked_at = 0
        while not self._stopping.is_set():
            if self._solve_asked.is_set():
                self._solve_asked.clear()
                self._solve(guide, board, movement)
                continue
            newer = self._source.wait_newer(sequence, _WAIT_S)
            if newer is None or self.state is not SessionState.CAPTURING:
                sequence = newer[0] if newer is not None else sequence
                self._stopping.wait(0.0 if newer is None else 0.02)
                continue
            sequence, frame = newer
            visible, thermal = frame.pair.visible, frame.pair.thermal
            if visible is None or thermal is None or frame.pair.flags & (FrameFlag.HELD | FrameFlag.FFC):
                continue
            verdict = guide.offer(f"{thermal.index:06d}", visible.pixels, thermal.pixels)
            if not verdict.improved:  # else the mean of pictures of a still board
                view = verdict.view
                movement.add(visible.timestamp_ns, view.found_visible, thermal.timestamp_ns, view.found_thermal)
            looked_at += 1
            self.progress.put(_progress(guide, verdict, looked_at))

    def _solve(self, guide: CaptureGuide, board: Board, movement: BoardMovement) -> None:
        try:
            outcome = self._solved(guide, board, movement)
        except Exception as error:  # as it may be with few or poor views: say so, and go on capturing if asked to
            self._fail(error)
            return
        with self._lock:
            self._outcome, self._state = outcome, SessionState.SOLVED

    def _solved(self, guide: CaptureGuide, board: Board, movement: BoardMovement) -> CalibrationOutcome:
        from calibration.report import write_report
        from calibration.rig import save_calibration
        from calibration.solve import solve_views
        from calibration.time_offset import timed

        if len(guide.accepted) < _LEAST_VIEWS:
            raise RunError(
                f"{len(guide.accepted)} views are kept, at least {_LEAST_VIEWS} are needed. {guide.guidance()}"
            )
        solution = solve_views(
            list(guide.accepted), board, working_distance_m=self._distance_m, identities=self._cameras.devices
        )
        stem = f"{self._name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        file, report = self._folder / f"{stem}.yaml", self._folder / f"{stem}.html"
        try:
            rig, offset = timed(solution.rig, solution.board, movement)
            digest = write_report(solution, report, offset)
            save_calibration(replace(rig, report_sha256=digest), file)
        except OSError as error:
            raise RunError(
                f"the calibration cannot be written into {self._folder}: {error.strerror or error}"
            ) from error
        offset_ms = None
        if offset is not None and offset.sure:
            offset_ms = (offset.visible_minus_thermal_ms, offset.sigma_ms)
        return _outcome(solution, file, report, offset_ms)

    def _fail(self, error: Exception) -> None:
        text = str(error)
        if not isinstance(error, LumithermError):
            structlog.get_logger("calibration").error("calibration failed", exc_info=error)
            text = f"unexpected: {type(error).__name__}: {error}"
        with self._lock:
            self._state, self._error = SessionState.FAILED, text

    def _delete(self) -> None:
        with self._lock:
            outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.file.unlink(missing_ok=True)
            outcome.report.unlink(missing_ok=True)


def _progress(guide: CaptureGuide, verdict: CaptureVerdict, looked_at: int) -> CaptureProgress:
    view = verdict.view
    places: list[npt.NDArray[np.float64] | None] = []
    for found in (view.found_visible, view.found_thermal):
        if found is None:
            places.append(None)
        else:
            height, width = found.size
            places.append((found.points_px + 0.5) / np.array([width, height], np.float64))
    return CaptureProgress(
        accepted=verdict.accepted,
        reason=verdict.reason,
        guidance=verdict.guidance,
        views=len(guide.accepted),
        target=_VIEWS,
        coverage=guide.coverage,
        cells=guide.cells,
        ready=len(guide.accepted) >= _LEAST_VIEWS,
        done=guide.done,
        looked_at=looked_at,
        found_visible=places[0],
        found_thermal=places[1],
    )


def _outcome(solution: Solution, file: Path, report: Path, offset_ms: tuple[float, float] | None) -> CalibrationOutcome:
    spans = solution.range_8px
    return CalibrationOutcome(
        file=file,
        report=report,
        good=solution.good,
        gates=tuple(GateLine(g.name, g.wanted, g.got, g.passed, g.advice) for g in solution.gates),
        views=len(solution.view_rms_px),
        rejected=dict(solution.rejected),
        exact_m=spans.exact_m,
        near_m=spans.near_m,
        far_m=spans.far_m,
        limit_px=spans.limit_px,
        median_px=solution.held_out_median_px,
        p95_px=solution.held_out_p95_px,
        baseline_mm=solution.rig.baseline_m * 1e3,
        offset_ms=offset_ms,
        bend_mm=solution.board.depth_m * 1e3,
        contradiction=solution.contradiction,
    )
