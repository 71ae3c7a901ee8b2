"""The drift monitor in the live pipeline: seen, proposed, applied in small steps, and left alone where in doubt."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from app.commands.stats_view import drift_text
from app.pipeline.fusion_thread import FusionThread
from app.pipeline.self_alignment import SelfAlignment
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineContext, ProblemLog, Severity
from app.pipeline.state.stats import BudgetLevel, BudgetReading, DriftReading, Stats
from app.pipeline.thermal_grid import ThermalGrid
from calibration.rig import apply_homography, load_calibration, plain_scaling, save_calibration
from fusion_core.errors import BadInputError
from fusion_core.frames import Frame, FrameFlag, FramePair, FusedFrame, Stream, TimestampSource

VISIBLE, THERMAL = (240, 320), (120, 160)
SECOND_NS = 1_000_000_000


def outlines(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Visible and thermal on the visible grid: the same outlines, unrelated brightness."""
    rng = np.random.default_rng(seed)
    pair = [np.full(VISIBLE, 110.0, np.float32), np.full(VISIBLE, 90.0, np.float32)]
    for _ in range(50):
        centre, axes = rng.integers(0, 320, 2), rng.integers(6, 40, 2)
        for picture, level in zip(pair, rng.uniform(20, 235, 2), strict=True):
            cv2.ellipse(picture, centre.tolist(), axes.tolist(), 30, 0, 360, float(level), -1)
    return pair[0], pair[1]


class FakeFusion:
    """Takes alignments as the fusion thread does, and fuses when told to."""

    def __init__(self, grid: ThermalGrid) -> None:
        self.grid_in_use, self.grids_replaced = grid, 0
        self._next: ThermalGrid | None = None
        self.small_steps: list[bool] = []

    def set_grid(self, grid: ThermalGrid, *, small_step: bool = False) -> None:
        grid.prepare(*VISIBLE)
        self.grids_replaced += self._next is not None
        self._next = grid
        self.small_steps.append(small_step)

    def take(self) -> None:
        if self._next is not None:
            self.grid_in_use, self._next = self._next, None


class Rig:
    """Two cameras whose thermal picture lies `off_px` wrong, and a clock that the test moves."""

    def __init__(self, folder: Path, mode: str, calibration: Path | None = None) -> None:
        self.now_ns_ = 5 * SECOND_NS
        self.off_px = (0.0, 0.0)
        self.zoom = 1.0  # of the thermal lens about the picture's middle
        self.flags = FrameFlag.NONE
        self._rng = np.random.default_rng(0)
        self._pictures = outlines()
        base = ThermalGrid(calibration)
        self.fusion, self.latest, self.stats = FakeFusion(base), LatestSlot[FusedFrame](), Stats(self.now_ns)
        self.problems = ProblemLog()
        self.failures: list[BaseException] = []
        self.handed_over: list[ThermalGrid] = []
        self.file = folder / "proposed" / "rig.proposed.yaml"
        context = PipelineContext(self, self.stats, self.problems, lambda name, error: self.failures.append(error))
        self.watch = SelfAlignment(
            mode, self.latest, cast(FusionThread, self.fusion), base, context, self.file, self.handed_over.append
        )  # fmt: skip

    def now_ns(self) -> int:
        return self.now_ns_

    def run(self, seconds: float, until: Callable[[DriftReading], bool] = lambda _: False) -> DriftReading:
        """A picture a second, the watch looking five times in it; the last reading."""
        for number in range(round(5 * seconds)):
            self.now_ns_ += SECOND_NS // 5
            if number % 5 == 0:
                self.latest.put(self._frame())
            self.watch.tick()
            reading = self.stats.snapshot().drift
            assert reading is not None
            if until(reading):
                break
        return reading

    def _seen_by_thermal(self, x: float, y: float) -> np.ndarray:
        height, width = VISIBLE
        z = self.zoom
        return np.array([[z, 0, x + (1 - z) * width / 2], [0, z, y + (1 - z) * height / 2]])

    def _frame(self) -> FusedFrame:
        self.fusion.take()
        visible, thermal = self._pictures
        x, y = self.off_px
        thermal = cv2.warpAffine(thermal, self._seen_by_thermal(x, y), VISIBLE[::-1], borderMode=cv2.BORDER_REFLECT)
        counts = cv2.resize(thermal, THERMAL[::-1], interpolation=cv2.INTER_AREA)
        counts = np.clip(counts + self._rng.normal(0, 3, counts.shape), 0, 255).astype(np.uint8)
        grey = np.clip(visible + self._rng.normal(0, 3, visible.shape), 0, 255).astype(np.uint8)
        levels = self.fusion.grid_in_use.to_visible(counts, *VISIBLE)
        frames: list[Any] = [
            Frame(stream, pixels, self.latest.sequence, self.now_ns_, TimestampSource.ARRIVAL)
            for stream, pixels in ((Stream.VISIBLE, np.repeat(grey[..., None], 3, 2)), (Stream.THERMAL, counts))
        ]
        pair = FramePair(frames[0], frames[1], self.flags)
        return FusedFrame(frames[0].pixels, pair, 1.0, "test", fused_ns=self.now_ns_, thermal_8bit=levels)


def test_another_lens_is_told_once_with_its_pixels(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "propose")
    rig.zoom = 1.4
    reading = rig.run(40)
    assert reading.far_px is not None and f"{reading.far_px:.0f} px" in drift_text(reading)
    said = [problem for problem in rig.problems.recent() if "does not lie on visible" in problem.text]
    assert len(said) == 1 and said[0].severity is Severity.ERROR and "calibrate refine" in said[0].advice
    assert "0.7" in said[0].text and "px off" in said[0].text
    assert any("does not lie" in text for text in rig.stats.snapshot().warnings)
    rig.watch.use(ThermalGrid(None))
    assert rig.run(1).far_px is None
    assert not any("does not lie" in text for text in rig.stats.snapshot().warnings)


def test_a_search_ends_with_its_thread(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "propose")
    rig.zoom = 1.4
    rig.watch._stopping = threading.Event()
    rig.watch._stopping.set()
    assert rig.run(20).far_px is None and not rig.problems.recent()


def test_a_moved_rig_is_told_and_a_calibration_that_mends_it_is_written(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "propose")
    reading = rig.run(15)
    assert reading.level == "ok" and reading.proposed_px is None and not rig.file.exists()
    rig.off_px = (-6.0, 2.0)
    reading = rig.run(45)
    assert reading.level == "warn" and reading.drift_px == pytest.approx(6.3, abs=1.0)
    assert reading.dx_px == pytest.approx(6, abs=1) and reading.dy_px == pytest.approx(-2, abs=1)
    assert reading.applied_px == 0 and not rig.handed_over, "propose leaves the picture alone"
    warnings = [problem for problem in rig.problems.recent() if problem.severity is Severity.WARNING]
    assert len(warnings) == 1 and "not as it was calibrated" in warnings[0].text
    assert "rig.proposed.yaml" in warnings[0].advice and reading.proposal_file == str(rig.file)
    assert any("thermal lies" in warning for warning in rig.stats.snapshot().warnings)
    assert "a correction of" in drift_text(reading) and "warn: " in drift_text(reading)
    proposed = load_calibration(rig.file)
    middle = np.array([[160.0, 120.0]])
    assert np.allclose(apply_homography(proposed.correction_visible, middle) - middle, [6, -2], atol=1.0)
    rig.watch.use(ThermalGrid(rig.file))
    reading = rig.run(20)
    assert reading.level == "ok" and reading.drift_px is not None and reading.drift_px < 1.2
    assert not any("thermal lies" in warning for warning in rig.stats.snapshot().warnings)
    assert rig.problems.recent()[-1].severity is Severity.INFO and not rig.failures


def test_apply_moves_thermal_in_small_steps_until_it_lies_right(tmp_path: Path) -> None:
    calibration = tmp_path / "rig.yaml"
    save_calibration(plain_scaling((480, 640), THERMAL), calibration)  # calibrated at twice the size
    rig = Rig(tmp_path, "apply", calibration)
    rig.off_px = (-5.0, 3.0)
    found = rig.run(60, lambda reading: reading.applied_px > 0 and not reading.moving and reading.looked > 12)
    assert found.applied_px == pytest.approx(5.8, abs=1.5) and found.steps >= 10
    assert all(rig.fusion.small_steps), "the engine keeps what it has learnt"
    corners = np.array([[0, 0], [640, 0], [640, 480], [0, 480.0]])
    places = [apply_homography(np.eye(3), corners)]
    for grid in rig.handed_over:
        assert grid.calibration is not None
        places.append(apply_homography(grid.calibration.correction_visible, corners))
    steps = [np.linalg.norm(b - a, axis=1).max() / 2 for a, b in itertools.pairwise(places)]
    assert max(steps) < 0.45, "pixels of the picture a step"
    assert len({grid.identity for grid in rig.handed_over}) == len(rig.handed_over)
    reading = rig.run(20)
    assert reading.level == "ok" and reading.drift_px is not None and reading.drift_px < 1.2
    assert load_calibration(rig.file).verdict == "proposed by the drift monitor"
    rig.watch.discard()
    reading = rig.run(6)
    assert reading.applied_px == 0 and np.allclose(
        rig.handed_over[-1].calibration.correction_visible,
        np.eye(3),  # type: ignore[union-attr]
    )


def test_accept_applies_what_is_proposed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "propose")
    rig.off_px = (5.0, 0.0)
    rig.watch.accept()  # nothing is proposed yet
    reading = rig.run(12)
    assert reading.proposed_px is not None and reading.applied_px == 0
    rig.watch.accept()
    assert rig.run(1).moving
    reading = rig.run(15)
    assert reading.level == "ok" and reading.applied_px == pytest.approx(5, abs=1)


def test_frames_unfit_for_comparison_are_counted_and_a_wrong_size_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "apply")
    rig.off_px = (6.0, 0.0)
    rig.flags = FrameFlag.HELD
    reading = rig.run(20)
    assert reading.looked == 0 and reading.skipped > 10 and reading.level == "unknown"
    assert "unknown" in drift_text(reading)
    rig.flags = FrameFlag.NONE
    rig.stats.budget(BudgetReading(BudgetLevel.RED, 8.0, 9.0, 0.0, 9.0, None))  # a pan with skew looks like drift
    assert rig.run(20).looked == 0
    rig.stats.budget(None)
    assert rig.run(12).looked > 8
    other = tmp_path / "other.yaml"
    save_calibration(plain_scaling((480, 600), THERMAL), other)
    with pytest.raises(BadInputError, match="proportions"):
        rig.watch.use(ThermalGrid(other))
    assert rig.fusion.grid_in_use.path is None


def test_a_proposal_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "proposed").write_text("a file where the folder should be")
    rig = Rig(tmp_path, "propose")
    rig.off_px = (6.0, 0.0)
    reading = rig.run(20)
    told = [problem for problem in rig.problems.recent() if "cannot be written" in problem.text]
    assert len(told) == 1 and reading.proposal_file is None and reading.proposed_px is not None
