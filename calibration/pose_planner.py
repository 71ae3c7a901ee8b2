"""Tells how near a rig is to the aim of a calibration, and which pose of the board would bring it nearest.

Everything here is predicted from the fit's normal equations (Cramer-Rao): how exactly rotation and homography are
known from the views so far, and how exactly with one more (A- and minimax-optimal design; Fedorov, "Theory of
Optimal Experiments", 1972; for cameras: Peng and Sturm, "Calibration Wizard", ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from calibration.board import Board
from calibration.bundle import BundleResult, information_of, small_turn
from calibration.rig import RigCalibration
from calibration.shared_field import SharedCells, common_field, shared_cells

__all__ = ["AIM_HOMOGRAPHY_PX", "AIM_ROTATION_DEG", "PLACES", "Advice", "Planner", "Reached"]

Floats = npt.NDArray[np.float64]
AIM_ROTATION_DEG = 0.05
COMMON = 1.5  # errors of rendered boards are up to this much larger than independent points would have: neighbours
COMMON_OF_MARKERS = 2.0  # share some, most of all the corners of one marker
AIM_HOMOGRAPHY_PX = 0.3  # visible pixels at the working distance, at the worst place of the common field
_Seen = tuple[list[Floats], list[npt.NDArray[np.bool_]]]  # (N, 2) px and (N,) inside, of visible and of thermal
TILT_DEG = 30.0
TILTS = (
    ("facing you", 0, 0),
    ("its right edge turned away by about 30 degrees", 0, -1),
    ("its left edge turned away by about 30 degrees", 0, 1),
    ("its lower edge tipped away by about 30 degrees", 1, 0),
    ("its upper edge tipped away by about 30 degrees", -1, 0),
)
PLACES = (("top left", "top", "top right"), ("left", "middle", "right"), ("bottom left", "bottom", "bottom right"))
PLACES_A_SIDE = 7
RIM_PX = 4.0
MIN_PARTIAL_POINTS, MIN_PARTIAL = 12, 0.6  # points, and share of them, in both pictures: for boards of markers


@dataclass(frozen=True, slots=True)
class Reached:
    """2 sigma of the rotation between the cameras, degrees, and of where a thermal point lands in the visible picture
    at the working distance, px, at the worst place of the common field, its border included; errors that neighbouring
    points have in common are allowed for (`COMMON`, `COMMON_OF_MARKERS`)."""

    rotation_deg: float
    homography_px: float

    @property
    def met(self) -> bool:
        """Whether both figures are within the aim."""
        return self.rotation_deg <= AIM_ROTATION_DEG and self.homography_px <= AIM_HOMOGRAPHY_PX

    def words(self) -> str:
        """Say in one sentence what is reached, and the aim."""
        return (
            f"rotation within {self.rotation_deg:.3f} degrees, thermal within {self.homography_px:.2f} visible px at "
            f"the worst place of the common field, 2 sigma: {'within' if self.met else 'short of'} the aim of "
            f"{AIM_ROTATION_DEG:g} degrees and {AIM_HOMOGRAPHY_PX:g} visible px"
        )

    def short_of(self, share: float = 1.0) -> str:
        """Say which of the two is not within this share of the aim; "" if both are."""
        parts = []
        wanted_deg, wanted_px = share * AIM_ROTATION_DEG, share * AIM_HOMOGRAPHY_PX
        if not self.rotation_deg <= wanted_deg:
            parts.append(f"rotation known to {self.rotation_deg:.3f} degrees (wanted {wanted_deg:g})")
        if not self.homography_px <= wanted_px:
            parts.append(
                f"thermal placed to {self.homography_px:.2f} visible px at the worst place (wanted {wanted_px:g})"
            )
        return " and ".join(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """The pose for the board's next view: (6,) rotation vector and translation, visible_board; `text` says it in words.

    after: what that view would reach.
    """

    pose: Floats
    text: str
    after: Reached


class Planner:
    """Predicts what the views reach, and what another view would.

    Args:
        rig: as in `bundle`, with the working distance to judge at.
    """

    def __init__(self, bundle: BundleResult, rig: RigCalibration, board: Board) -> None:
        self._bundle, self._rig, self._board = bundle, rig, board
        self._points = board.object_points()
        self._sigmas = 2.0 * (COMMON_OF_MARKERS if board.identified else COMMON)
        R, thermal = rig.R_visible_thermal, common_field(rig)

        def turned(other: RigCalibration) -> Floats:
            return np.degrees(small_turn(other.R_visible_thermal @ R.T))

        self._turns = bundle.jacobian_of(turned)  # (3, 22) degrees
        self._moves = bundle.jacobian_of(lambda other: other.visible_from_thermal(thermal, rig.working_distance_m))
        self._depths_m = np.array([
            (cv2.Rodrigues(pose[:3])[0] @ self._points.mean(axis=0) + pose[3:])[2] for pose in bundle.poses
        ])  # fmt: skip
        self.reached = self._reached(bundle.covariance)

    def _reached(self, covariance: Floats) -> Reached:
        rotation = float(np.einsum("ij,jk,ik->", self._turns, covariance, self._turns))
        places = np.einsum("ij,jk,ik->i", self._moves, covariance, self._moves).reshape(-1, 2).sum(axis=1)
        worst = float(places.max()) if len(places) else float("inf")  # nothing shared, nothing known
        return Reached(self._sigmas * max(rotation, 0.0) ** 0.5, self._sigmas * max(worst, 0.0) ** 0.5)

    def advise(
        self, counts: dict[str, npt.NDArray[np.int64]], board_distance_m: float, want_cells: bool
    ) -> Advice | None:
        """The pose that helps most; None where the board fits nowhere.

        Args:
            counts: coverage of "visible" and "thermal", as `calibration.shared_field.coverage` gives it.
            want_cells: whether empty cells must be filled: then only poses that fill (nearly) the most of them count.
        """
        candidates = list(self._candidates())
        if not candidates:
            return None
        cells = {side: shared_cells(self._rig, side, board_distance_m) for side in counts}
        filled = np.array([_filled(seen, counts, cells) for _, _, seen in candidates], np.float64)
        allowed = filled >= 0.7 * filled.max() if want_cells and filled.max() > 0 else np.ones(len(candidates), bool)
        scale = np.sqrt(np.diag(self._bundle.covariance))
        held = np.linalg.inv(self._bundle.covariance / np.outer(scale, scale))  # of parameters in units of their sigma
        best: tuple[float, int, Reached] | None = None
        for index in np.flatnonzero(allowed):
            pose, _, seen = candidates[index]
            gained = information_of(self._bundle, pose, [self._points[part] for part in seen[1]])
            after = self._reached(np.linalg.inv(held + gained * np.outer(scale, scale)) * np.outer(scale, scale))
            worth = (after.rotation_deg / AIM_ROTATION_DEG) ** 2 + (after.homography_px / AIM_HOMOGRAPHY_PX) ** 2
            if best is None or worth < best[0]:
                best = worth, int(index), after
        if best is None:
            return None
        pose, words, seen = candidates[best[1]]
        return Advice(pose, self._words(pose, words, seen[0]), best[2])

    def _candidates(self) -> Iterator[tuple[Floats, str, _Seen]]:
        """Poses that both cameras would see: their words, the (N, 2) points in both pictures, and which are inside.

        They are as near and far as boards have been found so far (and a little nearer), and rolled as the last one.
        """
        visible = self._rig.visible
        R_last = cv2.Rodrigues(self._bundle.poses[-1][:3])[0]
        roll = float(np.arctan2(R_last[1, 0], R_last[0, 0]))
        R_roll = cv2.Rodrigues(np.array([0.0, 0.0, roll]))[0]
        middle = self._points.mean(axis=0)
        share = (np.arange(PLACES_A_SIDE) + 0.5) / PLACES_A_SIDE
        at = np.stack(np.meshgrid(share * visible.width, share * visible.height), axis=-1).reshape(-1, 2)
        rays = np.column_stack([visible.undistort(at), np.ones(len(at))])
        for distance_m in np.geomspace(0.9 * self._depths_m.min(), self._depths_m.max(), 4):
            for words, about_x, about_y in TILTS:
                turn = np.radians(TILT_DEG) * np.array([about_x, about_y, 0.0])
                R = cv2.Rodrigues(turn)[0] @ R_roll
                rvec = cv2.Rodrigues(R)[0].reshape(3)
                for ray in rays:
                    pose = np.concatenate([rvec, ray * distance_m - R @ middle])
                    seen = self._seen(pose)
                    if seen is not None:
                        yield pose, words, seen

    def _seen(self, pose: Floats) -> _Seen | None:
        R, _ = cv2.Rodrigues(pose[:3])
        X_visible = self._points @ R.T + pose[3:]
        X_thermal = (X_visible - self._rig.t_visible_thermal_m) @ self._rig.R_visible_thermal
        if min(X_visible[:, 2].min(), X_thermal[:, 2].min()) <= 0:
            return None
        rim = 0.6 * self._board.spacing_m * self._rig.thermal.fx_px / float(X_thermal[:, 2].mean())
        px: list[Floats] = []
        inside: list[npt.NDArray[np.bool_]] = []
        for camera, X, edge in ((self._rig.visible, X_visible, rim * self._rig.visible.fx_px / self._rig.thermal.fx_px),
                                (self._rig.thermal, X_thermal, rim)):  # fmt: skip
            found = camera.project(X)
            margin = edge + RIM_PX
            px.append(found)
            high = np.array([camera.width, camera.height]) - 1 - margin
            inside.append(np.asarray(((found >= margin) & (found <= high)).all(axis=1)))
        every = len(self._points)
        enough = max(MIN_PARTIAL_POINTS, MIN_PARTIAL * every) if self._board.identified else every
        return (px, inside) if int((inside[0] & inside[1]).sum()) >= enough else None

    def _words(self, pose: Floats, tilt: str, px: list[Floats]) -> str:
        """Say where, how far and how tilted to hold the board. The place is that of its middle in the common field."""
        thermal = self._rig.thermal
        field = common_field(self._rig)
        low, high = field.min(axis=0), field.max(axis=0)
        column, row = np.clip(((px[1].mean(axis=0) - low) / (high - low) * 3).astype(int), 0, 2)
        width = float(np.ptp(px[1][:, 0])) / thermal.width
        distance_m = float((cv2.Rodrigues(pose[:3])[0] @ self._points.mean(axis=0) + pose[3:])[2])
        return (
            f"Bring the board to the {PLACES[int(row)][int(column)]} of the common field, about {distance_m:.1f} m "
            f"away ({width:.0%} of the thermal picture's width), {tilt}"
        )


def _filled(seen: _Seen, counts: dict[str, npt.NDArray[np.int64]], cells: dict[str, SharedCells]) -> int:
    """How many empty cells of the two coverage maps would hold a point."""
    total = 0
    for (side, count), px, inside in zip(counts.items(), *seen, strict=True):
        at = cells[side].place(px[inside])
        touched = np.zeros(count.shape, bool)
        touched[at[:, 1], at[:, 0]] = True
        total += int((touched & (count == 0)).sum())
    return total
