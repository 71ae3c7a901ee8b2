"""Fits both lenses, the rig and the pose of every board to all board views, in one least-squares problem.

Bundle adjustment (Triggs et al., "Bundle Adjustment - A Modern Synthesis", 1999): Levenberg-Marquardt on reprojection
errors, the board poses eliminated by their Schur complement. Each camera's errors are weighed by its noise, which is
estimated along with the rest; gross errors lose their weight (Huber). A view that only one camera has serves that
camera's lens. What the views do not determine is held by weak knowledge of lenses (`PRIORS`); free, it would trade
against the principal point and with it against the rotation. The normal equations say how exact the result can be at
best (Cramer-Rao), and `BundleResult.sigma_of` says so for anything that the rig determines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from calibration.detect import Detection
from calibration.rig import CameraIntrinsics, RigCalibration
from fusion_core.errors import BadInputError

__all__ = ["BundleResult", "Sighting", "information_of", "small_turn", "solve_bundle"]

Floats = npt.NDArray[np.float64]
SHARED = (
    22  # (fx, fy, cx, cy, k1, k2, p1, p2) visible, the same thermal, rotation vector and translation thermal_visible
)
PRIORS = {4: 0.5, 5: 1.0, 6: 1e-3, 7: 1e-3}
"""1 sigma about 0 of k1, k2, p1, p2. A lens decentred by more than p = 0.001 (0.4 px at the border of a 60 degree
picture of 640 px) is rare, and p1, p2 trade against the principal point as nothing else does."""
ASPECT_SIGMA = 0.005  # of ln(fx / fy) about 0: pixels are square
HUBER = 3.0  # a point this many sigma off (99 % are nearer) begins to lose weight
MIN_NOISE_PX = 0.005
MAX_STEPS = 40
HELD_SIGMA = 0.5 / 640  # of the picture's width: how firmly `hold_lenses` holds focal lengths and principal points


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A board held in one place, as both cameras saw it, or only one: (N,) ids and (N, 2) px each, maybe empty."""

    name: str
    visible_ids: npt.NDArray[np.int64]
    visible_px: Floats
    thermal_ids: npt.NDArray[np.int64]
    thermal_px: Floats

    @classmethod
    def of(cls, name: str, visible: Detection | None, thermal: Detection | None) -> Sighting:
        """Make a sighting of what was found. Fewer than 6 points of a camera are left out: they determine no pose."""
        parts: list[npt.NDArray[np.int64] | Floats] = []
        for found in (visible, thermal):
            kept = found if found is not None and len(found.ids) >= 6 else None
            parts.append(np.asarray(kept.ids, np.int64) if kept is not None else np.empty(0, np.int64))
            parts.append(np.asarray(kept.points_px, np.float64) if kept is not None else np.empty((0, 2)))
        return cls(name, parts[0], parts[1], parts[2], parts[3])  # type: ignore[arg-type]

    @property
    def points(self) -> int:
        """Points of both cameras together."""
        return len(self.visible_ids) + len(self.thermal_ids)


@dataclass(frozen=True, slots=True, eq=False)
class BundleResult:
    """rig: as fitted, distances and names as in the start. poses (n, 6): rotation vector and translation of each board,
    visible_board. noise_px: 1 sigma of a coordinate, visible and thermal. covariance (22, 22): of the shared
    parameters, Cramer-Rao. view_rms_px: rms distance by sighting, visible and thermal; NaN where not seen."""

    rig: RigCalibration
    poses: Floats
    noise_px: tuple[float, float]
    covariance: Floats
    view_rms_px: dict[str, tuple[float, float]]
    theta: Floats

    def jacobian_of(self, quantity: Callable[[RigCalibration], Floats]) -> Floats:
        """(n, 22) derivatives of the n elements of any array that a rig determines, by central differences."""
        base = np.asarray(quantity(self.rig), np.float64)
        jacobian = np.empty((base.size, SHARED))
        for index in range(SHARED):
            step = np.zeros(SHARED)
            step[index] = 0.1 * max(float(np.sqrt(self.covariance[index, index])), 1e-12)
            ahead, behind = (quantity(_rig_of(self.theta + sign * step, self.rig)) for sign in (1, -1))
            jacobian[:, index] = (np.asarray(ahead) - np.asarray(behind)).reshape(-1) / (2 * step[index])
        return jacobian

    def sigma_of(self, quantity: Callable[[RigCalibration], Floats]) -> Floats:
        """(..., ) 1 sigma of each element of any array that a rig determines, by linear propagation."""
        jacobian = self.jacobian_of(quantity)
        variance = np.einsum("ij,jk,ik->i", jacobian, self.covariance, jacobian)
        shape = np.shape(quantity(self.rig))
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)).reshape(shape))

    @property
    def rotation_sigma_deg(self) -> float:
        """1 sigma of the angle between found and true rotation."""
        R = self.rig.R_visible_thermal

        def turned(rig: RigCalibration) -> Floats:
            return small_turn(rig.R_visible_thermal @ R.T)

        return float(np.degrees(np.linalg.norm(self.sigma_of(turned))))

    @property
    def baseline_sigma_m(self) -> float:
        """1 sigma of the distance between the cameras."""
        return float(self.sigma_of(lambda rig: np.array([rig.baseline_m]))[0])

    def lens_sigma_px(self, side: str) -> Floats:
        """(4,) 1 sigma of (fx, fy, cx, cy) of "visible" or "thermal"."""
        first = 0 if side == "visible" else 8
        return np.asarray(np.sqrt(np.diag(self.covariance)[first : first + 4]))


def solve_bundle(
    sightings: Sequence[Sighting],
    object_points_m: Floats,
    start: RigCalibration,
    *,
    poses: Mapping[str, Floats] | None = None,
    view_weights: Floats | None = None,
    noise_px: tuple[float, float] | None = None,
    hold_lenses: tuple[CameraIntrinsics, CameraIntrinsics] | None = None,
) -> BundleResult:
    """Fit lenses, rig and board poses to all sightings.

    Args:
        object_points_m: (N, 3) points of the board, which the ids number.
        start: lenses and geometry to begin with; must be about right (some degrees, some per cent).
        poses: (6,) pose by name to begin with; missing ones are found from the points.
        view_weights: (n,) how often each sighting counts (resampling); None: once.
        noise_px: known noise; None: estimated, in two rounds.
        hold_lenses: visible and thermal lens as each camera alone gives it, to be kept: for views that contradict
            each other, which a lens would bend to.

    Raises:
        BadInputError: the sightings do not determine the rig.
    """
    for side, count in (("visible", sum(len(seen.visible_ids) for seen in sightings)),
                        ("thermal", sum(len(seen.thermal_ids) for seen in sightings))):  # fmt: skip
        if not count:
            raise BadInputError(f"the {side} camera has seen no board")
    theta = _theta_of(start)
    boards = np.array([
        poses[seen.name] if poses is not None and seen.name in poses else _pose(seen, object_points_m, start)
        for seen in sightings
    ]).reshape(-1, 6)  # fmt: skip
    weights = np.ones(len(sightings)) if view_weights is None else np.asarray(view_weights, np.float64)
    problem = _Problem(sightings, object_points_m, weights, hold_lenses)
    noise = noise_px if noise_px is not None else (0.2, 0.2)
    for _ in range(1 if noise_px is not None else 3):
        theta, boards = problem.minimise(theta, boards, noise)
        if noise_px is None:
            noise = problem.noise_px(theta, boards, noise)
    reduced, _ = problem.normal_equations(theta, boards, noise)[:2]
    covariance = _inverse(reduced)
    rms = {
        seen.name: (_rms(parts[0]), _rms(parts[1]))
        for seen, parts in zip(sightings, problem.residuals(theta, boards), strict=True)
    }
    return BundleResult(_rig_of(theta, start), boards, noise, covariance, rms, theta)


def small_turn(R: Floats) -> Floats:
    """(3,) rotation vector, radians, of a small rotation: OpenCV's says nothing below 1e-5."""
    return np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2


def information_of(bundle: BundleResult, pose: Floats, points_m: Sequence[Floats]) -> Floats:
    """What another view, the board at `pose` (6,), would add to the inverse covariance, (22, 22).

    Args:
        points_m: (N, 3) the board's points that the visible and that the thermal camera would find.
    """
    ids = [np.arange(len(points)) for points in points_m]
    seen = Sighting("", ids[0], np.zeros((len(ids[0]), 2)), len(ids[0]) + ids[1], np.zeros((len(ids[1]), 2)))
    problem = _Problem([seen], np.concatenate([*points_m, np.empty((0, 3))]), np.ones(1))
    off = problem.residuals(bundle.theta, pose[None])[0]
    seen = replace(seen, visible_px=off[0], thermal_px=off[1])  # at the places of the points no residual is left
    problem = _Problem([seen], np.concatenate([*points_m, np.empty((0, 3))]), np.ones(1))
    A, B, _ = problem.linear(0, bundle.theta, pose, bundle.noise_px)
    V, W = B.T @ B, A.T @ B
    return np.asarray(A.T @ A - W @ np.linalg.solve(V + 1e-12 * np.trace(V) * np.eye(6), W.T))


class _Problem:
    """The sum of squares and its derivatives."""

    def __init__(
        self,
        sightings: Sequence[Sighting],
        object_points_m: Floats,
        weights: Floats,
        held: tuple[CameraIntrinsics, CameraIntrinsics] | None = None,
    ) -> None:
        self._seen, self._weights, self._held = sightings, weights, held
        self._points = [
            tuple(np.ascontiguousarray(object_points_m[ids]) for ids in (seen.visible_ids, seen.thermal_ids))
            for seen in sightings
        ]

    def residuals(self, theta: Floats, boards: Floats) -> list[tuple[Floats, Floats]]:
        """(N, 2) px of each sighting, visible and thermal."""
        return [self._residual(index, theta, board) for index, board in enumerate(boards)]

    def _residual(self, index: int, theta: Floats, board: Floats) -> tuple[Floats, Floats]:
        seen, (points_v, points_t) = self._seen[index], self._points[index]
        parts = [np.empty((0, 2)), np.empty((0, 2))]
        if len(points_v):
            parts[0] = _project(points_v, board[:3], board[3:], theta[:8])[0] - seen.visible_px
        if len(points_t):
            rvec, t = cv2.composeRT(board[:3], board[3:], theta[16:19], theta[19:22])[:2]
            parts[1] = _project(points_t, rvec, t, theta[8:16])[0] - seen.thermal_px
        return parts[0], parts[1]

    def cost(self, theta: Floats, boards: Floats, noise_px: tuple[float, float]) -> float:
        """Robust sum of squares, in units of the noise, with what is known of lenses."""
        total = float(np.sum(_prior(theta, self._held)[0] ** 2))
        for weight, parts in zip(self._weights, self.residuals(theta, boards), strict=True):
            for off, sigma in zip(parts, noise_px, strict=True):
                length = np.linalg.norm(off, axis=1) / sigma
                total += weight * float(np.where(length <= HUBER, length**2, 2 * HUBER * length - HUBER**2).sum())
        return total

    def noise_px(self, theta: Floats, boards: Floats, noise_px: tuple[float, float]) -> tuple[float, float]:
        """1 sigma of a coordinate in each camera, from the residuals, less the parameters that were fitted."""
        found = []
        count = 2 * sum(seen.points for seen in self._seen)
        free = max(0.1, 1 - (6 * len(self._seen) + SHARED) / max(count, 1))
        every = self.residuals(theta, boards)
        for side in (0, 1):
            off = np.concatenate([parts[side] for parts in every])
            length = np.linalg.norm(off, axis=1)
            trust = np.minimum(1.0, HUBER * noise_px[side] / np.maximum(length, 1e-9))
            found.append(max(MIN_NOISE_PX, float(np.sqrt((trust * length**2).sum() / (2 * trust.sum()) / free))))
        return found[0], found[1]

    def normal_equations(
        self, theta: Floats, boards: Floats, noise_px: tuple[float, float], damping: float = 0.0
    ) -> tuple[Floats, Floats, list[tuple[Floats, Floats, Floats]]]:
        """Reduced (22, 22) matrix and (22,) gradient after the poses are eliminated, and each pose's part."""
        off, slope = _prior(theta, self._held)
        shared = slope.T @ slope
        gradient = slope.T @ off
        eliminated = []
        for index, board in enumerate(boards):
            A, B, r = self.linear(index, theta, board, noise_px)
            V = B.T @ B
            V[np.diag_indices(6)] *= 1 + damping
            W = A.T @ B
            g = B.T @ r
            solved = np.linalg.solve(V + 1e-12 * np.trace(V) * np.eye(6), np.column_stack([W.T, g]))
            shared += A.T @ A
            gradient += A.T @ r
            eliminated.append((W, solved, g))
        diagonal = np.diag(shared).copy()
        for W, solved, _ in eliminated:
            shared -= W @ solved[:, :-1]
            gradient -= W @ solved[:, -1]
        shared[np.diag_indices(SHARED)] += damping * diagonal
        return shared, gradient, eliminated

    def linear(
        self, index: int, theta: Floats, board: Floats, noise_px: tuple[float, float]
    ) -> tuple[Floats, Floats, Floats]:
        """Weighed rows of one sighting: d/d shared (2N, 22), d/d pose (2N, 6), residual (2N,)."""
        seen, (points_v, points_t) = self._seen[index], self._points[index]
        A = np.zeros((2 * seen.points, SHARED))
        B = np.zeros((2 * seen.points, 6))
        r = np.zeros(2 * seen.points)
        split = 2 * len(points_v)
        if len(points_v):
            at, jacobian = _project(points_v, board[:3], board[3:], theta[:8])
            r[:split] = (at - seen.visible_px).reshape(-1)
            A[:split, :8], B[:split] = jacobian[:, 6:14], jacobian[:, :6]
        if len(points_t):
            rvec, t, r3r1, _, r3r2, _, t3r1, t3t1, t3r2, t3t2 = cv2.composeRT(
                board[:3], board[3:], theta[16:19], theta[19:22]
            )
            at, jacobian = _project(points_t, rvec, t, theta[8:16])
            r[split:] = (at - seen.thermal_px).reshape(-1)
            turn, move = jacobian[:, :3], jacobian[:, 3:6]
            A[split:, 8:16] = jacobian[:, 6:14]
            A[split:, 16:19] = turn @ r3r2 + move @ t3r2
            A[split:, 19:22] = move @ t3t2
            B[split:, :3] = turn @ r3r1 + move @ t3r1
            B[split:, 3:] = move @ t3t1
        length = np.linalg.norm(r.reshape(-1, 2), axis=1)
        sigma = np.where(np.arange(seen.points) < len(points_v), noise_px[0], noise_px[1])
        trust = np.minimum(1.0, HUBER * sigma / np.maximum(length, 1e-12))
        root = np.repeat(np.sqrt(trust * self._weights[index]) / sigma, 2)
        return A * root[:, None], B * root[:, None], r * root

    def minimise(self, theta: Floats, boards: Floats, noise_px: tuple[float, float]) -> tuple[Floats, Floats]:
        """Minimise by Levenberg-Marquardt from here."""
        damping, cost = 1e-4, self.cost(theta, boards, noise_px)
        for _ in range(MAX_STEPS):
            reduced, gradient, parts = self.normal_equations(theta, boards, noise_px, damping)
            step = -_solve(reduced, gradient)
            moved = theta + step
            boards_moved = np.array([
                board - solved[:, -1] - solved[:, :-1] @ step
                for board, (_, solved, _) in zip(boards, parts, strict=True)
            ])  # fmt: skip
            try:
                now = self.cost(moved, boards_moved, noise_px)
            except cv2.error:
                now = float("inf")
            if not np.isfinite(now) or now > cost:
                damping *= 10
                if damping > 1e8:
                    break
                continue
            gained, cost = cost - now, now
            theta, boards = moved, boards_moved
            damping = max(damping / 10, 1e-10)
            if gained < 1e-7 * (1 + cost):
                break
        if not np.isfinite(cost):
            raise BadInputError("the views do not determine the rig: the fit did not settle")
        return theta, boards


def _project(points_m: Floats, rvec: npt.ArrayLike, t: npt.ArrayLike, lens: Floats) -> tuple[Floats, Floats]:
    """(N, 2) px and their derivatives (2N, 14) by rotation, translation, fx, fy, cx, cy, k1, k2, p1, p2."""
    K = np.array([[lens[0], 0, lens[2]], [0, lens[1], lens[3]], [0, 0, 1.0]])
    pose = np.asarray(rvec, np.float64), np.asarray(t, np.float64)
    at, jacobian = cv2.projectPoints(points_m.reshape(-1, 1, 3), *pose, K, lens[4:8].copy())
    return np.asarray(at, np.float64).reshape(-1, 2), np.asarray(jacobian, np.float64)[:, :14]


def _prior(theta: Floats, held: tuple[CameraIntrinsics, CameraIntrinsics] | None) -> tuple[Floats, Floats]:
    """Residuals of what is known of lenses, in sigma, and their derivatives."""
    off, rows = [], []
    for first, camera in zip((0, 8), held or (), strict=False):
        sigma = HELD_SIGMA * camera.width
        for index, value in enumerate((camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px)):
            row = np.zeros(SHARED)
            row[first + index] = 1 / sigma
            off.append((theta[first + index] - value) / sigma)
            rows.append(row)
    for first in (0, 8):
        for index, sigma in PRIORS.items():
            row = np.zeros(SHARED)
            row[first + index] = 1 / sigma
            off.append(theta[first + index] / sigma)
            rows.append(row)
        row = np.zeros(SHARED)
        row[first], row[first + 1] = 1 / theta[first] / ASPECT_SIGMA, -1 / theta[first + 1] / ASPECT_SIGMA
        off.append(float(np.log(theta[first] / theta[first + 1])) / ASPECT_SIGMA)
        rows.append(row)
    return np.array(off), np.array(rows)


def _theta_of(rig: RigCalibration) -> Floats:
    R = rig.R_visible_thermal.T
    rvec = cv2.Rodrigues(R)[0].reshape(3)
    lenses = [
        (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px, *camera.distortion[:4])
        for camera in (rig.visible, rig.thermal)
    ]
    return np.concatenate([*lenses, rvec, -R @ rig.t_visible_thermal_m])


def _rig_of(theta: Floats, template: RigCalibration) -> RigCalibration:
    R = np.asarray(cv2.Rodrigues(theta[16:19])[0], np.float64)
    return replace(
        template,
        visible=_camera_of(theta[:8], template.visible),
        thermal=_camera_of(theta[8:16], template.thermal),
        R_visible_thermal=R.T.copy(),
        t_visible_thermal_m=-R.T @ theta[19:22],
    )


def _camera_of(lens: Floats, template: CameraIntrinsics) -> CameraIntrinsics:
    fx, fy, cx, cy, k1, k2, p1, p2 = (float(value) for value in lens)
    return replace(template, fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy, distortion=(k1, k2, p1, p2, 0.0))


def _pose(seen: Sighting, object_points_m: Floats, rig: RigCalibration) -> Floats:
    """(6,) visible_board from the camera that has more points."""
    alone = len(seen.visible_ids) >= len(seen.thermal_ids)
    ids, px, camera = (
        (seen.visible_ids, seen.visible_px, rig.visible) if alone else (seen.thermal_ids, seen.thermal_px, rig.thermal)
    )
    found, rvec, t = cv2.solvePnP(
        object_points_m[ids] * [1.0, 1.0, 0.0],  # this start wants a plane, though the board may be bent
        px,
        camera.matrix,
        np.asarray(camera.distortion),
        flags=cv2.SOLVEPNP_IPPE,
    )
    if not found:
        raise BadInputError(f"view {seen.name}: no board pose explains these points")
    if not alone:
        move = np.asarray(rig.t_visible_thermal_m, np.float64).reshape(3, 1)
        rvec, t = cv2.composeRT(rvec, t, cv2.Rodrigues(rig.R_visible_thermal)[0], move)[:2]
    return np.concatenate([np.asarray(rvec).reshape(3), np.asarray(t).reshape(3)])


def _rms(off: Floats) -> float:
    return float(np.sqrt(np.mean(np.sum(off**2, axis=1)))) if len(off) else float("nan")


def _solve(matrix: Floats, right: Floats) -> Floats:
    """Symmetric positive system, scaled: the parameters' units differ by six orders of magnitude."""
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    try:
        return np.asarray(scale * np.linalg.solve(matrix * scale[:, None] * scale, right * scale))
    except np.linalg.LinAlgError as error:
        raise BadInputError("the views do not determine the rig: tilt the board more, in both directions") from error


def _inverse(matrix: Floats) -> Floats:
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    try:
        return np.asarray(np.linalg.inv(matrix * scale[:, None] * scale) * scale[:, None] * scale)
    except np.linalg.LinAlgError as error:
        raise BadInputError("the views do not determine the rig: tilt the board more, in both directions") from error
