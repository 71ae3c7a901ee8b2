"""Find a grid of discs in a prepared picture: blobs of any size at many levels, and a lattice that follows the lens.

Discs that blur or glare has joined are taken apart by erosion. The lattice grows from disc to disc, each step predicted
from the steps beside it, so that neither tilt nor a barrel-shaped lens has to be straight.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import AsymmetricCircles, SymmetricCircles

__all__ = ["find_grid", "may_lack"]

Cell = tuple[int, int]
LEVELS = range(16, 241, 14)
ERODED_LEVELS = LEVELS[::2]
EROSIONS_PX = (1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 19.0, 28.0)
MIN_AREA_PX = 10.0
MAX_AREA = 1 / 30  # of the picture
MIN_ROUNDNESS = 0.93  # area over that of the ellipse with its second moments: a square has 0.955, a triangle 0.83
MAX_SLENDERNESS = 5.0  # long over short half axis
LIKE_AREA = 2.3  # neighbours' areas differ by at most this factor
REACH = 0.33  # of a step: how far off its predicted place a neighbour may lie
ANGULAR = 8.0  # what one less round counts against one that lies off by its whole reach
MAX_SEEDS = 40
MAX_SPARE = 0.25  # of the board's discs: what may lie beside it as if it went on
MAX_UNLIKE = 0.35
LACKING = 0.05  # what a disc that lacks counts in it
_TURNS = tuple(np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), k) for k in range(4))
_SKEWS = (((1, 0), (0, 1)), ((1, 1), (0, 1)), ((1, -1), (0, 1)), ((1, 0), (1, 1)), ((1, 0), (-1, 1)))
_SHEARS = tuple(np.array(skew) for skew in _SKEWS)


@dataclass(frozen=True, slots=True, eq=False)
class _Discs:
    """at (N, 2) px, area_px (N,), roundness (N,): one entry a place and size, the roundest of all levels."""

    at: np.ndarray
    area_px: np.ndarray
    roundness: np.ndarray


def find_grid(picture: np.ndarray, board: SymmetricCircles | AsymmetricCircles, *, joined: bool) -> np.ndarray | None:
    """(N, 2) float64 centres in the board's numbering, or a turn of it that looks like it; None: not found. Discs that
    are not seen, under a glare or a finger, are NaN: at most `may_lack`.

    Args:
        picture: (H, W) uint8, discs dark.
        joined: also erode, for discs that touch.
    """
    cells = _cells(board)
    discs = _discs(picture, joined)
    if len(discs.at) < len(cells) - may_lack(board):
        return None
    return _Search(discs, cells, may_lack(board)).run()


def may_lack(board: SymmetricCircles | AsymmetricCircles) -> int:
    """How many discs a found board may lack: one of twelve, and never a whole row, which would leave its place open."""
    return min(board.rows * board.columns // 12, min(board.rows, board.columns) - 1)


def _cells(board: SymmetricCircles | AsymmetricCircles) -> list[Cell]:
    """Whole-number places of the points on a square lattice, right-handed like the picture."""
    row, column = np.divmod(np.arange(board.rows * board.columns), board.columns)
    if isinstance(board, SymmetricCircles):
        return list(zip(column.tolist(), row.tolist(), strict=True))
    x, y = 2 * column + row % 2, row  # in steps; neighbours lie along the diagonals
    return list(zip(((x + y) // 2).tolist(), ((y - x) // 2).tolist(), strict=True))


def _discs(picture: np.ndarray, joined: bool) -> _Discs:
    found: list[tuple[float, float, float, float]] = []
    largest = picture.size * MAX_AREA
    for level in LEVELS:
        mask = (picture < level).astype(np.uint8)
        found.extend(_round_blobs(mask, 0.0, largest))
        if joined and level in ERODED_LEVELS:
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
            deepest = float(depth.max())
            for erosion_px in EROSIONS_PX:
                if deepest <= erosion_px:
                    break
                found.extend(_round_blobs((depth > erosion_px).astype(np.uint8), erosion_px, largest))
    if not found:
        return _Discs(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    blobs = np.array(found)
    return _merged(blobs[np.argsort(-blobs[:, 3])])


def _round_blobs(mask: np.ndarray, eroded_px: float, largest: float) -> list[tuple[float, float, float, float]]:
    """(x, y, area, roundness) of each blob that could be a disc at an angle; area before the erosion, px."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    height, width = mask.shape
    blobs = []
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0] if hierarchy is not None else (), strict=True):
        if parent >= 0 or len(contour) < 8:
            continue
        m = cv2.moments(contour)
        inner = m["m00"]
        if inner < 4 or inner > largest:
            continue
        xx, yy, xy = m["mu20"] / inner, m["mu02"] / inner, m["mu11"] / inner
        determinant = xx * yy - xy * xy
        if determinant <= 0:
            continue
        spread = np.sqrt((xx - yy) ** 2 / 4 + xy * xy)
        long, short = (xx + yy) / 2 + spread, (xx + yy) / 2 - spread
        roundness = inner / (4 * np.pi * np.sqrt(determinant))
        if roundness < MIN_ROUNDNESS or long > MAX_SLENDERNESS**2 * short:
            continue
        grown = (2 * np.sqrt(long) + 0.5 + eroded_px) * (2 * np.sqrt(short) + 0.5 + eroded_px) * np.pi
        x, y = m["m10"] / inner, m["m01"] / inner
        reach = np.sqrt(inner / np.pi)
        if grown < MIN_AREA_PX or x < reach / 2 or y < reach / 2 or x > width - reach / 2 or y > height - reach / 2:
            continue
        blobs.append((x, y, grown, roundness))
    return blobs


def _merged(blobs: np.ndarray) -> _Discs:
    """One blob a place and size, the roundest (they come sorted); seen at one level only, it is noise."""
    from scipy.spatial import cKDTree  # SciPy: not for every command

    tree = cKDTree(blobs[:, :2])
    radius = np.sqrt(blobs[:, 2] / np.pi)
    free = np.ones(len(blobs), bool)
    kept = []
    for index in range(len(blobs)):
        if not free[index]:
            continue
        near = np.array(tree.query_ball_point(blobs[index, :2], 0.35 * radius[index] + 0.5))
        alike = near[np.abs(np.log(blobs[near, 2] / blobs[index, 2])) < np.log(LIKE_AREA)]
        free[alike] = False
        if len(alike) > 1:
            kept.append((*np.mean(blobs[alike, :2], axis=0), np.median(blobs[alike, 2]), blobs[index, 3]))
    discs = np.array(kept).reshape(-1, 4)
    return _Discs(discs[:, :2], discs[:, 2], discs[:, 3])


class _Search:
    """Lattices among the discs, until one holds every cell of the board but those that it may lack."""

    def __init__(self, discs: _Discs, cells: list[Cell], may_lack: int) -> None:
        from scipy.spatial import cKDTree

        self._discs, self._cells, self._may_lack = discs, cells, may_lack
        self._tree = cKDTree(discs.at)

    def run(self) -> np.ndarray | None:
        count = len(self._discs.at)
        distance, index = self._tree.query(self._discs.at, k=min(13, count))
        alike = self._alike(np.arange(count)[:, None], index) & (index != np.arange(count)[:, None])
        alike &= distance > 1.2 * np.sqrt(self._discs.area_px / np.pi)[:, None]  # a neighbour lies outside
        order = np.argsort(-np.minimum(alike.sum(axis=1), 4) - self._discs.roundness, kind="stable")
        spent: set[int] = set()
        best: tuple[float, np.ndarray] | None = None
        tried = 0
        for seed in order:
            if int(seed) in spent or alike[seed].sum() < 2:
                continue
            tried += 1
            if tried > MAX_SEEDS:
                break
            lattice = self._grow(int(seed), index[seed][alike[seed]][:8])
            spent.update(lattice.values())
            placed = self._place(lattice) if len(lattice) >= len(self._cells) - self._may_lack else None
            if placed is not None and (best is None or placed[0] < best[0]):
                best = placed
        if best is None:
            return None
        return np.where(best[1][:, None] >= 0, self._discs.at[best[1]], np.nan)

    def _alike(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        area = self._discs.area_px
        return np.asarray(np.abs(np.log(area[one] / area[other])) < np.log(LIKE_AREA))

    def _grow(self, seed: int, around: np.ndarray) -> dict[Cell, int]:
        """The largest lattice through the seed of those that its shortest steps span."""
        best: dict[Cell, int] = {(0, 0): seed}
        at = self._discs.at
        for a_index in range(min(3, len(around))):
            for b_index in range(a_index + 1, len(around)):
                u, v = at[around[a_index]] - at[seed], at[around[b_index]] - at[seed]
                sine = float(u[0] * v[1] - u[1] * v[0]) / float(np.linalg.norm(u) * np.linalg.norm(v))
                if abs(sine) < 0.45:
                    continue
                ends = (int(around[a_index]), int(around[b_index]))
                lattice = self._spread(seed, ends if sine > 0 else ends[::-1])
                if len(lattice) > len(best):
                    best = lattice
                if len(best) >= len(self._cells):
                    return best
                break  # the next shortest direction that is not along the first
        return best

    def _spread(self, seed: int, ends: tuple[int, int]) -> dict[Cell, int]:
        lattice: dict[Cell, int] = {(0, 0): seed, (1, 0): ends[0], (0, 1): ends[1]}
        taken = set(lattice.values())
        queue: deque[Cell] = deque(lattice)
        most = 4 * len(self._cells)
        while queue and len(lattice) < most:
            cell = queue.popleft()
            for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                new = (cell[0] + step[0], cell[1] + step[1])
                if new in lattice:
                    continue
                disc = self._next(lattice, cell, step)
                if disc is not None and disc not in taken:
                    lattice[new] = disc
                    taken.add(disc)
                    queue.append(new)
                    queue.append(cell)  # with one more neighbour, what was not found may be
        return lattice

    def _next(self, lattice: dict[Cell, int], cell: Cell, step: Cell) -> int | None:
        """The disc one step on: as the step before, and as the steps beside it."""
        at = self._discs.at
        steps = []
        side = (step[1], step[0])
        for offset in ((-step[0], -step[1]), side, (-side[0], -side[1])):
            start = (cell[0] + offset[0], cell[1] + offset[1])
            end = (start[0] + step[0], start[1] + step[1])
            if start in lattice and end in lattice:
                steps.append(at[lattice[end]] - at[lattice[start]])
        if not steps:
            return None
        stride = np.mean(steps, axis=0)
        reach = REACH * float(np.linalg.norm(stride))
        here = lattice[cell]
        near = [i for i in self._tree.query_ball_point(at[here] + stride, reach) if i != here]
        near = [i for i in near if bool(self._alike(np.array(here), np.array(i)))]
        if not near:
            return None
        off = np.linalg.norm(at[near] - (at[here] + stride), axis=1) / reach
        size = np.abs(np.log(self._discs.area_px[near] / self._discs.area_px[here]))
        angular = ANGULAR * (1 - self._discs.roundness[near])  # as a disc is that runs into its shadow or mirror image
        return int(near[int(np.argmin(off + size + angular))])

    def _place(self, lattice: dict[Cell, int]) -> tuple[float, np.ndarray] | None:
        """How unlike the board's the discs are, and (N,) the discs of its cells, -1 where one lacks; None where they
        cannot be the board.

        A board ends: a lattice that goes on, as netting does, is none. Cells that were skewed by tilt are tried with
        shorter steps.
        """
        spare = len(lattice) - len(self._cells)
        if spare > max(2, MAX_SPARE * len(self._cells)):
            return None
        keys = np.array(list(lattice))
        values = list(lattice.values())
        lacking: list[tuple[int, np.ndarray]] = []
        for shear in _SHEARS:
            places = [place for turn in _TURNS for place in self._places(keys @ (turn @ shear).T, values)]
            full = [placed for lacks, placed in places if lacks == 0]
            if full:
                unlike, best = min(((self._unlike(p), p) for p in full), key=lambda found: found[0])
                unlike += 0.01 * max(spare, 0)
                return (unlike, best) if unlike < MAX_UNLIKE else None
            lacking.extend(places)
        fewest = min((lacks for lacks, _ in lacking), default=0)
        fullest = [placed for lacks, placed in lacking if lacks == fewest]
        if len({frozenset(placed.tolist()) for placed in fullest}) != 1:
            return None  # a board that lacks discs must have one place only
        unlike = self._unlike(fullest[0]) + 0.01 * max(spare, 0) + LACKING * fewest
        return (unlike, fullest[0]) if unlike < MAX_UNLIKE else None

    def _places(self, keys: np.ndarray, discs: list[int]) -> list[tuple[int, np.ndarray]]:
        """How many cells lack a disc, and (N,) the discs, of each place of the board on a lattice."""
        where = {(int(x), int(y)): disc for (x, y), disc in zip(keys, discs, strict=True)}
        board = np.array(self._cells)
        ends = np.stack([keys.min(axis=0) - board.min(axis=0), keys.max(axis=0) - board.max(axis=0)])
        around = 1 if self._may_lack else 0
        low, high = ends.min(axis=0) - around, ends.max(axis=0) + around
        places = []
        for dx in range(low[0], high[0] + 1):
            for dy in range(low[1], high[1] + 1):
                placed = [where.get((x + dx, y + dy), -1) for x, y in self._cells]
                if placed.count(-1) <= self._may_lack:
                    places.append((placed.count(-1), np.array(placed, int)))
        return places

    def _unlike(self, placed: np.ndarray) -> float:
        """How much the discs' areas differ from what their own grid says of the scale there (standard deviation of the
        logarithm), and how far they are from round."""
        cells, placed = np.array(self._cells, np.float64)[placed >= 0], placed[placed >= 0]
        at = self._discs.at[placed]
        found: object = cv2.findHomography(cells, at)[0]
        if found is None:
            return np.inf
        H = np.asarray(found, np.float64)
        depth = np.column_stack([cells, np.ones(len(cells))]) @ H[2]
        if depth.min() <= 1e-6 * depth.max():
            return np.inf
        ratio = np.log(self._discs.area_px[placed]) - np.log(abs(np.linalg.det(H)) / depth**3)
        return float(np.std(ratio)) + float(1 - self._discs.roundness[placed].mean())
