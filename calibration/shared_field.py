"""Describes the field that both cameras share: its coverage by boards, the rig's exactness, the distances it serves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.bundle import BundleResult
from calibration.rig import RigCalibration

__all__ = [
    "BUDGET_PX",
    "COVERAGE_CELLS",
    "DistanceRange",
    "SharedCells",
    "common_field",
    "coverage",
    "covered_share",
    "distance_range",
    "predicted_two_sigma_px",
    "propose_working_distance_m",
    "reached_share",
    "shared_cells",
    "visible_grid",
]

BUDGET_PX = 8.0  # residual shift that the network absorbs, in pixels of its input
COVERAGE_CELLS = 6


@dataclass(frozen=True, slots=True)
class DistanceRange:
    """Distances in which parallax stays inside `limit_px`: near_m .. far_m (inf: to the horizon), exact at exact_m."""

    exact_m: float
    near_m: float
    far_m: float
    limit_px: float


def distance_range(rig: RigCalibration, limit_px: float = BUDGET_PX) -> DistanceRange:
    """Distances with f B |1/Z - 1/Z0| <= limit_px, limit in visible pixels."""
    fb = rig.visible.fx_px * rig.baseline_m
    exact = 1.0 / rig.working_distance_m
    if fb <= 0:
        return DistanceRange(rig.working_distance_m, 0.0, float("inf"), limit_px)
    far = exact - limit_px / fb
    return DistanceRange(
        rig.working_distance_m, 1.0 / (exact + limit_px / fb), 1.0 / far if far > 1e-9 else float("inf"), limit_px
    )


def propose_working_distance_m(rig: RigCalibration, limit_px: float = BUDGET_PX, near_m: float = 0.0) -> float:
    """The Z0 to set: f B / L serves from half of it to the horizon; with `near_m`, the Z0 for that near limit."""
    fb = rig.visible.fx_px * rig.baseline_m
    if near_m > 0 and fb > 0:
        if 2 * limit_px * near_m >= fb:
            return 2 * near_m  # more than enough: the same parallax at the near limit and at the horizon
        return 1.0 / (1.0 / near_m - limit_px / fb)
    return max(fb / limit_px, 0.3)


def visible_grid(rig: RigCalibration) -> tuple[np.ndarray, np.ndarray]:
    """(108, 2) thermal pixels behind 9 x 12 places of the visible picture, and (108,) whether thermal sees them."""
    y, x = np.mgrid[0:9, 0:12].astype(np.float64)
    grid = np.stack([(x + 0.5) * rig.visible.width / 12, (y + 0.5) * rig.visible.height / 9], axis=-1).reshape(-1, 2)
    thermal = rig.thermal_from_visible(grid)
    inside = (thermal >= 0).all(axis=1) & (thermal[:, 0] < rig.thermal.width) & (thermal[:, 1] < rig.thermal.height)
    return thermal, inside


def predicted_two_sigma_px(bundle: BundleResult, rig: RigCalibration) -> np.ndarray:
    """(9, 12) 2 sigma of where a thermal point lands in the visible picture at the working distance, Cramer-Rao."""
    thermal, inside = visible_grid(rig)
    sigma = bundle.sigma_of(lambda other: other.visible_from_thermal(thermal, rig.working_distance_m))
    return np.asarray(np.where(inside, 2 * np.linalg.norm(sigma, axis=1), np.nan).reshape(9, 12))


@dataclass(frozen=True, slots=True, eq=False)
class SharedCells:
    """6 x 6 cells over the part of one camera's picture that the other sees as well: from low to high (x, y) px.

    shared (6, 6): whether the other camera sees (most of) the cell; fields are tilted or round.
    """

    low: np.ndarray
    high: np.ndarray
    shared: np.ndarray

    def place(self, points_px: np.ndarray) -> np.ndarray:
        """(M, 2) int (column, row) of those of (N, 2) points that lie in the part."""
        at = np.floor((points_px - self.low) / (self.high - self.low) * COVERAGE_CELLS).astype(int)
        return np.asarray(at[((at >= 0) & (at < COVERAGE_CELLS)).all(axis=1)])


def shared_cells(rig: RigCalibration, side: str, board_distance_m: float) -> SharedCells:
    """The cells of "visible" or "thermal": shared at the boards' distance and at the working distance."""
    camera, other = (rig.visible, rig.thermal) if side == "visible" else (rig.thermal, rig.visible)
    n, fine = COVERAGE_CELLS, 48
    y, x = np.mgrid[0:fine, 0:fine].astype(np.float64)
    pixels = np.stack([(x + 0.5) * camera.width / fine, (y + 0.5) * camera.height / fine], axis=-1).reshape(-1, 2)
    common = np.ones(len(pixels), bool)
    for distance in (rig.working_distance_m, board_distance_m):
        mapped = rig.thermal_from_visible if side == "visible" else rig.visible_from_thermal
        seen = mapped(pixels, distance)
        common &= (seen >= 0).all(axis=1) & (seen[:, 0] < other.width) & (seen[:, 1] < other.height)
    if not common.any():
        return SharedCells(np.zeros(2), np.ones(2), np.zeros((n, n), bool))
    low, high = pixels[common].min(axis=0), pixels[common].max(axis=0) + 1e-6
    cells = np.clip(((pixels[common] - low) / (high - low) * n).astype(int), 0, n - 1)
    count = np.zeros((n, n), int)
    np.add.at(count, (cells[:, 1], cells[:, 0]), 1)
    return SharedCells(low, high, count > 0.5 * count.max())


def coverage(points_px: list[np.ndarray], rig: RigCalibration, side: str, board_distance_m: float) -> np.ndarray:
    """(6, 6) board points in each cell of the field of view that both cameras share, in that camera's picture.

    -1 for cells that the other camera does not see. Nothing shared: zeros, so that nothing is covered.
    """
    cells = shared_cells(rig, side, board_distance_m)
    counts = np.zeros((COVERAGE_CELLS, COVERAGE_CELLS), int)
    if not cells.shared.any():
        return counts
    for points in points_px:
        at = cells.place(points)
        np.add.at(counts, (at[:, 1], at[:, 0]), 1)
    return np.where(cells.shared | (counts > 0), counts, -1)


def common_field(rig: RigCalibration, steps: int = 9) -> np.ndarray:
    """(P, 2) thermal pixels all over the field that both cameras share at the working distance, up to its border:
    a grid of the thermal picture and one of the visible, first and last pixels included."""
    found = []
    for camera, other, mapped in (
        (rig.thermal, rig.visible, rig.visible_from_thermal),
        (rig.visible, rig.thermal, rig.thermal_from_visible),
    ):
        x, y = np.meshgrid(np.linspace(0, camera.width - 1, steps), np.linspace(0, camera.height - 1, steps))
        at = np.stack([x, y], axis=-1).reshape(-1, 2)
        there = mapped(at)
        inside = ((there >= 0) & (there <= [other.width - 1, other.height - 1])).all(axis=1)
        found.append((at if camera is rig.thermal else there)[inside])
    return np.concatenate(found)


def reached_share(rig: RigCalibration, board_distance_m: float) -> float:
    """Share of the common field at the working distance that both cameras also see at the boards' distance, 0..1.

    Both cameras of a wide rig see a close board in a strip only. Full coverage of that strip says little about the
    rest, which the solution then extrapolates.
    """
    y, x = np.mgrid[0:48, 0:48].astype(np.float64)
    size = (rig.visible.width, rig.visible.height)
    pixels = np.stack([(x + 0.5) * size[0] / 48, (y + 0.5) * size[1] / 48], axis=-1).reshape(-1, 2)
    seen = []
    for distance in (rig.working_distance_m, board_distance_m):
        thermal = rig.thermal_from_visible(pixels, distance)
        seen.append((thermal >= 0).all(axis=1) & (thermal < (rig.thermal.width, rig.thermal.height)).all(axis=1))
    common = int(seen[0].sum())
    return float((seen[0] & seen[1]).sum() / common) if common else 0.0


def covered_share(counts: np.ndarray) -> float:
    """Share of the cells in the common field of view that hold a board point."""
    common = counts >= 0
    return float((counts[common] > 0).mean()) if common.any() else 0.0
