"""Solves a rig from the views of a board, drops bad views, and measures the rig on views that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from calibration.board import Board
from calibration.board_bend import lenses_and_board
from calibration.bundle import BundleResult, Sighting, solve_bundle
from calibration.detect import Detection
from calibration.extrinsics import PairView, StereoResult, rotation_scatter_deg, solve_stereo, transfer_errors_px
from calibration.intrinsics import MIN_VIEWS, IntrinsicsResult
from calibration.pose_planner import Planner, Reached
from calibration.rig import BentBoard, CameraIntrinsics, RigCalibration
from calibration.shared_field import (
    BUDGET_PX,
    DistanceRange,
    coverage,
    covered_share,
    distance_range,
    predicted_two_sigma_px,
    propose_working_distance_m,
    reached_share,
    visible_grid,
)
from calibration.views import BoardView
from fusion_core.errors import BadInputError

__all__ = ["Gate", "Solution", "solve_views"]

MIN_GOOD_VIEWS = 12
MAX_TWO_SIGMA_PX = 2.0
MAX_HELD_OUT_MEDIAN_PX = 1.0  # thermal pixels
MAX_HELD_OUT_P95_PX = 2.0
MIN_COVERAGE = 0.8
MIN_REACHED = 0.6  # of the common field at the working distance that boards could reach at their distance
FOLDS = 5
MAX_ALONE_PX = 0.6  # of 640: a lens that is fitted alone and leaves more has met something that no lens explains
MAX_WORSE = 2.5  # times the rms of a camera fitted alone: what both together may leave
MIN_SCATTER_DEG = 0.3  # views that differ less about the cameras' turn contradict each other in nothing


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a good calibration: what was wanted, what was measured."""

    name: str
    wanted: str
    got: str
    passed: bool
    advice: str


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A solved rig with everything the report says about it."""

    rig: RigCalibration
    board: Board
    views: list[BoardView]
    visible: IntrinsicsResult
    thermal: IntrinsicsResult
    bundle: BundleResult
    view_rms_px: dict[str, tuple[float, float]]
    rejected: dict[str, str]
    held_out_px: dict[str, np.ndarray]  # thermal pixels, one value a board point, by view
    two_sigma_px: np.ndarray  # (gh, gw) visible pixels over the visible picture; NaN where thermal does not see
    predicted_two_sigma_px: np.ndarray  # from the normal equations alone: what the noise of the points allows
    coverage_visible: np.ndarray  # (6, 6) int points; -1 outside the common field of view
    coverage_thermal: np.ndarray
    range_8px: DistanceRange
    reached_aim: Reached  # 2 sigma against the aim
    reached: float  # share of the common field at the working distance that both cameras also saw where the boards were
    rotation_scatter_deg: tuple[float, float] = (0.0, 0.0)  # of the pairs each alone: seen, explained by noise
    together_px: tuple[float, float] = (0.0, 0.0)  # rms (visible, thermal) of both cameras fitted together, lenses free
    # by what fitting both together would have moved each principal point, in its camera's pixels, where they were held
    bent_px: tuple[float, float] = (0.0, 0.0)
    gates: list[Gate] = field(default_factory=list)

    @property
    def held_out_median_px(self) -> float:
        """Median transfer error on views that the solution had not seen, thermal pixels."""
        return float(np.median(np.concatenate(list(self.held_out_px.values())))) if self.held_out_px else float("inf")

    @property
    def held_out_p95_px(self) -> float:
        """95th percentile of the transfer error on views that the solution had not seen, thermal pixels."""
        return (
            float(np.percentile(np.concatenate(list(self.held_out_px.values())), 95))
            if self.held_out_px
            else float("inf")
        )

    @property
    def max_two_sigma_px(self) -> float:
        """Largest 2-sigma uncertainty in the common field of view, visible pixels at the working distance."""
        return float(np.nanmax(self.two_sigma_px)) if np.isfinite(self.two_sigma_px).any() else float("inf")

    @property
    def max_predicted_two_sigma_px(self) -> float:
        """Largest 2-sigma uncertainty that the noise of the points alone allows, visible pixels."""
        values = self.predicted_two_sigma_px
        return float(np.nanmax(values)) if np.isfinite(values).any() else float("inf")

    @property
    def contradiction(self) -> str:
        """Say that each camera fits alone but both together do not, and why; "" where they do."""
        alone = (self.visible.rms_px, self.thermal.rms_px)
        if not _contradictory(self.rotation_scatter_deg, alone, self.together_px):
            return ""
        if _mirrored(self.views):
            return (
                "Where the board moves one way in the visible picture it moves the other way in the thermal one: one "
                "camera's picture is mirrored. Set `mirror: true` for that camera (#mirror=1 behind an address or "
                "file), and capture again."
            )
        seen, explained = self.rotation_scatter_deg
        differ = (
            f", and the views differ by {seen:.1f} degrees about how the cameras are turned, where noise explains "
            f"{explained:.1f}"
            if _contradictory(self.rotation_scatter_deg)
            else ""
        )
        cameras = (self.visible.camera, self.thermal.camera)
        poor = any(rms > MAX_ALONE_PX * camera.width / 640 for rms, camera in zip(alone, cameras, strict=True))
        return (
            f"Each camera {'is off when alone' if poor else 'fits alone'} ({alone[0]:.2f} visible px, {alone[1]:.2f} "
            f"thermal px), but both together are off by {self.together_px[0]:.2f} visible px and "
            f"{self.together_px[1]:.2f} thermal px{differ}: the views were not taken at the same moment, or the board "
            f"is bent{', or its lengths are not those that were given' if poor else ''}. "
            "Hold it still at each view, on a tripod if need be, and stiffen it. Fitting both together would move the "
            f"principal points by {self.bent_px[0]:.1f} visible px and {self.bent_px[1]:.1f} thermal px; so both "
            "lenses are held as each camera alone gives them."
        )

    @property
    def bend(self) -> str:
        """Say that the board is bent, and how much, where both cameras see it; "" where it is flat."""
        depth_mm = self.board.depth_m * 1e3
        if not depth_mm:
            return ""
        return (
            f"The board is bent: its points lie within {depth_mm:.1f} mm of depth in place of a plane; both cameras "
            "agree. This was taken into account; stiffen it all the same."
        )

    @property
    def good(self) -> bool:
        """Whether every gate is passed."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)


def solve_views(
    views: list[BoardView],
    board: Board,
    *,
    working_distance_m: float = 0.0,
    identities: tuple[str, str] = ("", ""),
    bootstrap: int = 20,
) -> Solution:
    """Solve the rig from detected views, and measure it.

    Args:
        working_distance_m: Z0, where the alignment is to be exact; 0: the distance that keeps everything from as near
            as possible to the horizon inside the budget.
        identities: (visible, thermal) names for the file.
        bootstrap: resamples for the uncertainty; 0: none (the verdict then fails).

    Raises:
        BadInputError: too few usable views.
    """
    found = _found(views, "visible"), _found(views, "thermal")
    visible, thermal, board = lenses_and_board(found, board, identities)
    pairs, rejected = _usable_pairs(views, visible, thermal)
    sightings = _sightings(views, rejected, {**visible.rejected, **thermal.rejected})
    joint = _fit_together(pairs, board, (visible, thermal), working_distance_m or 1.0, sightings)
    stereo = joint.stereo
    rejected.update(stereo.rejected)
    kept = {name: pairs[name] for name in stereo.view_rms_px}
    distance_m = working_distance_m or propose_working_distance_m(stereo.rig, BUDGET_PX)
    rig = replace(
        stereo.rig,
        working_distance_m=distance_m,
        bent_board=BentBoard.of(board),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    solve = _Resolver(stereo, rig, board, joint.held)
    board_m = solve.board_distance_m(list(kept))
    predicted = predicted_two_sigma_px(stereo.bundle, rig)
    resampled = _bootstrap(solve, rig, bootstrap)
    solution = Solution(
        rig=rig,
        board=board,
        views=views,
        visible=visible,
        thermal=thermal,
        bundle=stereo.bundle,
        view_rms_px=stereo.view_rms_px,
        rejected=rejected,
        held_out_px=_held_out(solve, kept, board),
        two_sigma_px=np.maximum(predicted, resampled),
        predicted_two_sigma_px=predicted,
        coverage_visible=coverage([pair.visible_px for pair in kept.values()], rig, "visible", board_m),
        coverage_thermal=coverage([pair.thermal_px for pair in kept.values()], rig, "thermal", board_m),
        range_8px=distance_range(rig, BUDGET_PX),
        reached_aim=Planner(stereo.bundle, rig, board).reached,
        reached=reached_share(rig, board_m),
        rotation_scatter_deg=joint.scatter_deg,
        together_px=joint.together_px,
        bent_px=joint.bent_px,
    )
    gates = _gates(solution)
    verdict = "good" if all(gate.passed for gate in gates) else "not good"
    return replace(solution, gates=gates, rig=replace(rig, verdict=verdict))


class _Joint(NamedTuple):
    """Both cameras fitted together; the figures are those of `Solution`. held: the lenses, where they had to be."""

    stereo: StereoResult
    scatter_deg: tuple[float, float]
    together_px: tuple[float, float]
    bent_px: tuple[float, float] = (0.0, 0.0)
    held: tuple[CameraIntrinsics, CameraIntrinsics] | None = None


def _fit_together(
    pairs: dict[str, PairView],
    board: Board,
    lenses: tuple[IntrinsicsResult, IntrinsicsResult],
    working_distance_m: float,
    sightings: dict[str, Sighting],
) -> _Joint:
    """Where the cameras contradict each other, the lenses are held: free, they would bend to what no lens explains."""
    visible, thermal = lenses
    cameras, alone_px = (visible.camera, thermal.camera), (visible.rms_px, thermal.rms_px)
    solve = partial(
        solve_stereo, list(pairs.values()), board, *cameras,
        working_distance_m=working_distance_m, sightings=sightings,
    )  # fmt: skip
    free = solve()
    kept = [pairs[name] for name in free.view_rms_px]
    scatter_deg = rotation_scatter_deg(kept, board.object_points(), cameras, alone_px)
    rms = np.sqrt(np.mean(np.square(list(free.view_rms_px.values())), axis=0))
    together_px = float(rms[0]), float(rms[1])
    if not _contradictory(scatter_deg, alone_px, together_px):
        return _Joint(free, scatter_deg, together_px)
    moved = [
        float(np.hypot(joint.cx_px - alone.cx_px, joint.cy_px - alone.cy_px))
        for alone, joint in zip(cameras, (free.rig.visible, free.rig.thermal), strict=True)
    ]
    return _Joint(solve(hold_lenses=True), scatter_deg, together_px, (moved[0], moved[1]), cameras)


def _contradictory(
    scatter_deg: tuple[float, float],
    alone_px: tuple[float, float] = (np.inf, np.inf),
    together_px: tuple[float, float] = (0.0, 0.0),
) -> bool:
    """Whether the pairs differ about the cameras' turn, or both cameras together fit far worse than each alone: a board
    that moves without turning shows in this only."""
    seen, explained = scatter_deg
    if seen > max(MIN_SCATTER_DEG, 3 * explained):
        return True
    return any(both > max(MAX_WORSE * one, one + 0.1) for one, both in zip(alone_px, together_px, strict=True))


def _mirrored(views: list[BoardView]) -> bool:
    """Whether boards go the other way in the other picture, across or down, but not both (that is a half turn)."""
    both = [(v.found_visible, v.found_thermal) for v in views]
    at = np.array([[a.points_px.mean(axis=0), b.points_px.mean(axis=0)] for a, b in both if a and b])  # (V, 2, 2)
    if len(at) < 4 or np.ptp(at, axis=0).min() < 1.0:
        return False
    across, down = (float(np.corrcoef(at[:, 0, axis], at[:, 1, axis])[0, 1]) for axis in (0, 1))
    return min(across, down) < -0.5 and max(across, down) > 0.5


def _found(views: list[BoardView], side: str) -> dict[str, Detection]:
    """What one camera found, by view name."""
    found = {view.name: view.found_visible if side == "visible" else view.found_thermal for view in views}
    return {name: detection for name, detection in found.items() if detection is not None}


def _usable_pairs(
    views: list[BoardView], visible: IntrinsicsResult, thermal: IntrinsicsResult
) -> tuple[dict[str, PairView], dict[str, str]]:
    """The views that both cameras found and both lenses' fits kept; and the reason why each other one is left out."""
    pairs: dict[str, PairView] = {}
    rejected: dict[str, str] = {}
    for view in views:
        if view.found_visible is None or view.found_thermal is None:
            sides = [(view.why_not_visible, "visible"), (view.why_not_thermal, "thermal")]
            rejected[view.name] = "; ".join(f"{side}: {why}" for why, side in sides if why)
        elif view.name in visible.rejected or view.name in thermal.rejected:
            reasons = [("visible", visible.rejected.get(view.name)), ("thermal", thermal.rejected.get(view.name))]
            rejected[view.name] = "; ".join(f"{side}: {why}" for side, why in reasons if why)
        else:
            pairs[view.name] = PairView.common(view.name, view.found_visible, view.found_thermal)
    return pairs, rejected


def _sightings(views: list[BoardView], rejected: dict[str, str], bad: dict[str, str]) -> dict[str, Sighting]:
    """What is fitted: the usable pairs, and boards that one camera alone has found, for that camera's lens."""
    seen: dict[str, Sighting] = {}
    for view in views:
        sighting = Sighting.of(view.name, view.found_visible, view.found_thermal)
        if view.name in bad or not sighting.points:
            continue
        if view.name in rejected:
            side = "visible" if len(sighting.visible_ids) else "thermal"
            rejected[view.name] += f" (the board in the {side} picture serves that lens)"
        seen[view.name] = sighting
    return seen


class _Resolver:
    """Solves again from some of the views, or with other weights, starting from the full solution."""

    def __init__(
        self,
        stereo: StereoResult,
        rig: RigCalibration,
        board: Board,
        held: tuple[CameraIntrinsics, CameraIntrinsics] | None,
    ) -> None:
        self._held = held
        self._seen, self._rig, self._points = stereo.sightings, rig, board.object_points()
        self._poses = dict(zip(stereo.sightings, stereo.bundle.poses, strict=True))
        self._noise_px = stereo.bundle.noise_px

    def board_distance_m(self, names: list[str]) -> float:
        """Median depth of the middle of the boards, from the visible camera."""
        middle = self._points.mean(axis=0)
        depths = []
        for name in names:
            pose = self._poses[name]
            depths.append(float((cv2.Rodrigues(pose[:3])[0] @ middle + pose[3:])[2]))
        return float(np.median(depths))

    def without(self, names: list[str]) -> RigCalibration:
        """The rig from all views but these. Raises BadInputError when too few are left."""
        left = [seen for name, seen in self._seen.items() if name not in names]
        if sum(len(seen.visible_ids) > 0 and len(seen.thermal_ids) > 0 for seen in left) < MIN_VIEWS:
            raise BadInputError(f"fewer than {MIN_VIEWS} views are left")
        return solve_bundle(
            left, self._points, self._rig, poses=self._poses, noise_px=self._noise_px, hold_lenses=self._held
        ).rig

    def weighed(self, rng: np.random.Generator) -> RigCalibration:
        """Solve the rig with random weights of the views: exponential, of mean 1.

        The Bayesian bootstrap (Rubin, 1981). Drawing whole views with replacement leaves out a third of them, so that
        with 12 to 20 views it measures how bad a calibration with 8 to 13 would be.
        """
        weights = rng.exponential(size=len(self._seen))
        weights *= len(weights) / weights.sum()
        return solve_bundle(
            list(self._seen.values()), self._points, self._rig,
            poses=self._poses, noise_px=self._noise_px, view_weights=weights, hold_lenses=self._held,
        ).rig  # fmt: skip


def _held_out(solve: _Resolver, pairs: dict[str, PairView], board: Board) -> dict[str, np.ndarray]:
    """Transfer error of each view in a solution without it, thermal pixels."""
    names = [str(name) for name in np.random.default_rng(0).permutation(list(pairs))]
    points = board.object_points()
    errors: dict[str, np.ndarray] = {}
    folds = min(FOLDS, len(names))
    for fold in range(folds):
        held = names[fold::folds]
        try:
            rig = solve.without(held)
        except BadInputError:
            continue  # too few left: the views get no held-out figure, and the gate fails
        scale = rig.thermal.fx_px / rig.visible.fx_px
        for name in held:
            errors[name] = transfer_errors_px(rig, pairs[name], points[pairs[name].ids]) * scale
    return errors


def _bootstrap(solve: _Resolver, rig: RigCalibration, count: int) -> np.ndarray:
    """(9, 12) 2-sigma uncertainty from fits to resampled views: unlike the prediction, it shows bad views."""
    thermal, inside = visible_grid(rig)
    rng = np.random.default_rng(1)
    landed = []
    for _ in range(count):
        try:
            landed.append(solve.weighed(rng).visible_from_thermal(thermal, rig.working_distance_m))
        except BadInputError:
            continue  # counted below
    if len(landed) < max(3, 0.8 * count):
        return np.full((9, 12), np.inf)  # cannot be told: fails the gate
    sigma = np.sqrt(np.stack(landed).var(axis=0, ddof=1).sum(axis=1))
    return np.asarray(np.where(inside, 2 * sigma, np.nan).reshape(9, 12))


def _gates(solution: Solution) -> list[Gate]:
    views = len(solution.view_rms_px)
    sigma, median, p95 = solution.max_two_sigma_px, solution.held_out_median_px, solution.held_out_p95_px
    held_out = "transfer error on held-out views"
    gates = [
        Gate("accepted views", f"at least {MIN_GOOD_VIEWS}", str(views), views >= MIN_GOOD_VIEWS,
             "Capture more poses: near, far, tilted 20 to 40 degrees in each direction."),
        Gate("uncertainty over the picture (2 sigma, largest)", f"at most {MAX_TWO_SIGMA_PX} visible px",
             f"{sigma:.2f} visible px",
             sigma <= MAX_TWO_SIGMA_PX, "Capture poses where the uncertainty map is dark, at the borders above all."),
        Gate(f"{held_out}, median", f"at most {MAX_HELD_OUT_MEDIAN_PX} thermal px", f"{median:.2f} thermal px",
             median <= MAX_HELD_OUT_MEDIAN_PX, "Hold the board still, and heat it until its edges are sharp."),
        Gate(f"{held_out}, 95th percentile", f"at most {MAX_HELD_OUT_P95_PX} thermal px", f"{p95:.2f} thermal px",
             p95 <= MAX_HELD_OUT_P95_PX, "Look at the per-view residuals and delete the blurred views."),
    ]  # fmt: skip
    reached = solution.reached
    gates.append(
        Gate("common field that the boards were held in", f"at least {MIN_REACHED:.0%}", f"{reached:.0%}",
             reached >= MIN_REACHED, "Hold a larger board farther away: so close, both cameras see it in a strip only.")
    )  # fmt: skip
    for side, counts in (("visible", solution.coverage_visible), ("thermal", solution.coverage_thermal)):
        share = covered_share(counts)
        gates.append(
            Gate(f"coverage of the {side} picture", f"at least {MIN_COVERAGE:.0%} of 6x6 cells", f"{share:.0%}",
                 share >= MIN_COVERAGE, f"Bring the board into the empty cells of the {side} coverage map.")
        )  # fmt: skip
    if why := solution.contradiction:  # more poses, or hotter ones, would not help
        causes = (f"{held_out}, median", f"{held_out}, 95th percentile")
        gates = [
            replace(gate, advice=why) if gate.name in causes or gate.name.startswith("uncertainty") else gate
            for gate in gates
        ]
    return gates
