"""How thermal comes onto visible in the live pipeline: the calibration in use, its budget, and the drift monitor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.configuration.config import AppConfig, SelfAlign
from app.pipeline.alignment_budget import AlignmentBudget
from app.pipeline.fusion_thread import FusionThread
from app.pipeline.monitor import BudgetFeeder
from app.pipeline.self_alignment import SelfAlignment
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineContext, Severity
from app.pipeline.thermal_grid import ThermalGrid
from calibration.rig import check_identities
from fusion_core.errors import BadInputError, RunError
from fusion_core.files import plain_name
from fusion_core.frames import FusedFrame

__all__ = ["Alignment"]


class Alignment:
    """Owns the calibration in use. Any thread may call `use`, `accept` and `discard`; the rest is the pipeline's.

    Args:
        fusion: takes each alignment.
        on_grid: told of each alignment that was handed over: by `use`, by `prepare`, and by the drift monitor.
    """

    def __init__(
        self,
        config: AppConfig,
        latest: LatestSlot[FusedFrame],
        fusion: FusionThread,
        on_grid: Callable[[ThermalGrid], None],
        context: PipelineContext,
    ) -> None:
        self._config, self._latest, self._fusion, self._on_grid = config, latest, fusion, on_grid
        self._context = context
        self.file = config.calibration.file
        """The calibration that was asked for last; None = plain scaling."""
        self._feeder: BudgetFeeder | None = None
        self._drift: SelfAlignment | None = None
        self._prepared = False

    def use(self, path: Path | None) -> None:
        """Align thermal by this file from the next picture on; None = plain scaling.

        Raises:
            ConfigError, BadInputError: the file cannot be used, or does not fit the pictures.
        """
        grid = ThermalGrid(path)
        if self._prepared:
            self._hand_over(grid)
        self.file = path
        self._context.stats.warn("calibration_cameras", None)

    def accept(self) -> None:
        """Move thermal by the correction that the drift monitor proposes, slowly; see `stats` for what it is.

        Nothing happens without a proposal. The calibration file stays as it is; the proposal lies beside it.

        Raises:
            RunError: the drift monitor is off (calibration.self_align), or the pipeline does not run.
        """
        self._drift_monitor().accept()

    def discard(self) -> None:
        """Drop the proposed correction, and go back to the calibration as it was loaded. Raises RunError as above."""
        self._drift_monitor().discard()

    # ------------------------------------------------------------------ the pipeline's thread

    def prepare(self, grid: ThermalGrid, lossless: bool) -> None:
        """Begin with this grid, which the fusion thread has; make the drift monitor unless it is off."""
        self._use_grid(grid)
        self._drift = self._make_drift_monitor(grid, lossless)
        self._prepared = True

    def start(self) -> None:
        """Start the drift monitor."""
        if self._drift is not None:
            self._drift.start()

    def request_stop(self) -> None:
        """Ask the drift monitor to end."""
        if self._drift is not None:
            self._drift.request_stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the drift monitor; whether it ended in time."""
        return self._drift is None or self._drift.join(timeout_s)

    def tick(self, visible_device: str | None, thermal_device: str | None) -> None:
        """Put a calibration of other cameras aside, and keep the budget up to date; some ten times a second."""
        calibration = self._fusion.grid.calibration
        if calibration is not None:
            try:
                check_identities(calibration, visible_device, thermal_device)
            except BadInputError as error:
                self._refuse(error)
        if self._feeder is not None:
            self._feeder.feed(self._context.clock.now_ns())

    # ------------------------------------------------------------------ inside

    def _refuse(self, error: BadInputError) -> None:
        self._hand_over(ThermalGrid(None))
        text = "the calibration belongs to other cameras; thermal is only scaled"
        self._context.stats.warn("calibration_cameras", text)
        self._context.problems.add(Severity.ERROR, "calibration", f"{error} Thermal is only scaled meanwhile.")

    def _hand_over(self, grid: ThermalGrid) -> None:
        if self._drift is not None:
            self._drift.use(grid)
        else:
            self._fusion.set_grid(grid)
        self._use_grid(grid)

    def _use_grid(self, grid: ThermalGrid) -> None:
        budget = AlignmentBudget(self._config.budget, grid.baseline_m, grid.focal_px)
        self._feeder = BudgetFeeder(budget, self._latest, self._context.stats)
        self._on_grid(grid)

    def _on_corrected(self, grid: ThermalGrid) -> None:
        """In the drift thread: frames from now on are aligned otherwise."""
        self._on_grid(grid)
        feeder = self._feeder
        if feeder is not None:
            feeder.forget_shift()

    def _drift_monitor(self) -> SelfAlignment:
        if self._drift is None:
            raise RunError("there is no drift monitor: calibration.self_align is off, or the pipeline does not run yet")
        return self._drift

    def _make_drift_monitor(self, grid: ThermalGrid, lossless: bool) -> SelfAlignment | None:
        """None if it is off. A replay as fast as possible is watched, never corrected."""
        mode = self._config.calibration.self_align
        if mode is SelfAlign.OFF:
            return None
        if mode is SelfAlign.APPLY and lossless:
            mode = SelfAlign.PROPOSE
            text = "a replay as fast as possible is not corrected on the way: self_align is propose here, not apply"
            self._context.stats.warn("self_align", text)
            advice = "load the proposed calibration and replay again"
            self._context.problems.add(Severity.WARNING, "calibration", text, advice)
        file = _proposal_file(self._config)
        return SelfAlignment(mode.value, self._latest, self._fusion, grid, self._context, file, self._on_corrected)


def _proposal_file(config: AppConfig) -> Path:
    settings = config.calibration
    if settings.proposal_file is not None:
        return settings.proposal_file
    if settings.file is not None:
        return settings.file.with_suffix(".proposed.yaml")
    return config.recording.directory / f"{plain_name(config.rig)}.proposed.yaml"
