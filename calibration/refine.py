"""Refines board points to fractions of a pixel by fitting the drawn board around each of them.

The board is drawn as the found points say it must look, and around each point the drawing is fitted to the picture by
a shift, a gain of either sign, an offset and a slope (uneven heat). This uses every edge near a point, serves all
boards and polarities, and has no bias for circles seen at an angle.

A slope looks much like a circle that has moved. Left free at each point, it costs half of the exactness. So the level
of the whole board is removed first (a quadratic), and the slopes that remain are held near zero as firmly as the board
shows them to be small.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import AsymmetricCircles, Board, SymmetricCircles
from calibration.rig import bent, straightened

__all__ = ["BentPlane", "board_homography", "refine_points"]

SUPERSAMPLING = 2
BLURS_PX = (0.7, 0.95, 1.2, 1.5, 1.8)
MIN_CORRELATION = 0.35
WINDOW = 3.0  # the weight falls to 1/e at this many radii: nearly even
MAX_RADIUS_PX = 24.0
MIN_BEND_POINTS = 24
LENS_BOUNDS = (-0.6, 0.15)  # of the division model over the half diagonal: a fisheye to a slight pincushion
MIN_SLOPE = 0.01  # of the contrast, over a window's radius: no board is known to be more even


def refine_points(
    grey: np.ndarray, points_px: np.ndarray, ids: np.ndarray, board: Board, rounds: int = 2
) -> np.ndarray:
    """Refine (N, 2) points of a board in a (H, W) float32 picture.

    Points that cannot be refined stay where they are.
    """
    object_xy = board.object_points()[ids, :2]
    points = np.asarray(points_px, np.float64).copy()
    step = _step_px(points, object_xy, board.spacing_m)
    if isinstance(board, SymmetricCircles | AsymmetricCircles):
        radius = board.radius_m / board.spacing_m * step * 1.2 + 2.5
    else:
        radius = 0.65 * step
    if radius > 1.3 * MAX_RADIUS_PX and isinstance(board, SymmetricCircles | AsymmetricCircles):
        # a window that lies inside a disc sees no edge: large discs are fitted in a smaller picture
        shrunk = cv2.resize(
            grey, None, fx=MAX_RADIUS_PX / radius, fy=MAX_RADIUS_PX / radius, interpolation=cv2.INTER_AREA
        )
        ratio = np.array([shrunk.shape[1] / grey.shape[1], shrunk.shape[0] / grey.shape[0]])
        refined = refine_points(shrunk, (points + 0.5) * ratio - 0.5, ids, board, rounds)
        return np.asarray((refined + 0.5) / ratio - 0.5)
    radius = float(np.clip(radius, 4.0, MAX_RADIUS_PX))
    blur: float | None = None
    for _ in range(rounds):
        plane = BentPlane.fit(object_xy, points, (grey.shape[0], grey.shape[1]))
        if plane is None:
            return points
        flat = plane.flat(object_xy)
        bend = _Bend(plane.straight(points), flat)
        drawing = _draw(board, plane, step, bend)
        drawn_at = plane.bent(flat + bend.at(flat))
        if blur is None:
            some = slice(None, None, max(1, len(points) // 12))  # a dozen points tell the blur
            scores = [
                _fit(grey, cv2.GaussianBlur(drawing, (0, 0), b), points[some], drawn_at[some], radius)[1]
                for b in BLURS_PX
            ]
            blur = BLURS_PX[int(np.argmax([np.median(score) for score in scores]))]
        drawing = cv2.GaussianBlur(drawing, (0, 0), blur)
        level, gain = _level(grey, drawing, points, step)
        fitted, correlation = _fit((grey - level) / gain, drawing, points, drawn_at, radius)
        moved = np.linalg.norm(fitted - points_px, axis=1)
        good = (correlation > MIN_CORRELATION) & (moved < 0.3 * step) & np.isfinite(fitted).all(axis=1)
        points[good] = fitted[good]
    return points


def board_homography(object_xy: np.ndarray, points_px: np.ndarray) -> np.ndarray | None:
    """(3, 3) board metres to pixels; None when the points do not determine one."""
    found: object = cv2.findHomography(object_xy, points_px)[0]  # OpenCV's type stub leaves the None out
    return np.asarray(found, np.float64) if found is not None else None


def _step_px(points: np.ndarray, object_xy: np.ndarray, spacing_m: float) -> float:
    """Median length in the picture of one point spacing, along neighbouring points."""
    d_px = np.linalg.norm(points[1:] - points[:-1], axis=1)
    d_m = np.linalg.norm(object_xy[1:] - object_xy[:-1], axis=1)
    return float(np.median(d_px / d_m)) * spacing_m


@dataclass(frozen=True, slots=True, eq=False)
class BentPlane:
    """A board's plane in a picture, as a lens bends it: H (3, 3) takes board metres to the pixels of a lens without
    distortion, and one number says how this one bends them (division model about the picture's middle; < 0: barrel)."""

    H: np.ndarray
    lens: float
    size: tuple[int, int]

    @classmethod
    def fit(cls, object_xy: np.ndarray, points_px: np.ndarray, size: tuple[int, int]) -> BentPlane | None:
        """The plane and lens that the points lie on best; None when they do not determine one."""

        from scipy.optimize import minimize_scalar  # SciPy: not for every command

        def off(lens: float) -> float:
            plane = cls(np.eye(3), lens, size)
            H = board_homography(object_xy, plane.straight(points_px))
            if H is None:
                return np.inf
            return float(np.mean((cls(H, lens, size).points(object_xy) - points_px) ** 2))

        lens = minimize_scalar(off, bounds=LENS_BOUNDS, method="bounded", options={"xatol": 1e-3, "maxiter": 20}).x
        H = board_homography(object_xy, cls(np.eye(3), float(lens), size).straight(points_px))
        return None if H is None else cls(H, float(lens), size)

    def straight(self, points_px: np.ndarray) -> np.ndarray:
        """(N, 2) pixels to those of a lens without distortion."""
        return straightened(points_px, self.lens, self.size)

    def bent(self, straight_px: np.ndarray) -> np.ndarray:
        """(N, 2) pixels of a lens without distortion to those of this one."""
        return bent(straight_px, self.lens, self.size)

    def flat(self, object_xy: np.ndarray) -> np.ndarray:
        """(N, 2) board metres to pixels of a lens without distortion."""
        return np.asarray(cv2.perspectiveTransform(object_xy[:, None], self.H)[:, 0])

    def points(self, object_xy: np.ndarray) -> np.ndarray:
        """(N, 2) board metres to pixels."""
        return self.bent(self.flat(object_xy))


class _Bend:
    """Fits how the picture bends the board beyond its plane and lens: cubic over the board, from its points.

    A corner of a single dark square moves with a drawing that is turned or scaled by a per cent.
    """

    def __init__(self, points: np.ndarray, flat: np.ndarray) -> None:
        self._centre = flat.mean(axis=0)
        self._half = max(float(np.ptp(flat, axis=0).max()) / 2, 1.0)
        self._p = np.zeros((10, 2))
        if len(points) >= MIN_BEND_POINTS:
            self._p = np.linalg.lstsq(self._basis(flat), points - flat, rcond=None)[0]

    def _basis(self, flat: np.ndarray) -> np.ndarray:
        u, v = np.clip((flat - self._centre) / self._half, -1.3, 1.3).T
        one = np.ones_like(u)
        return np.stack([one, u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3], axis=-1)

    def at(self, flat: np.ndarray) -> np.ndarray:
        """(N, 2) px to add to places that the plane gives, in the pixels of a lens without distortion."""
        return np.asarray(self._basis(flat) @ self._p)


def _draw(board: Board, plane: BentPlane, step_px: float, bend: _Bend) -> np.ndarray:
    """(H, W) float32 drawing of the board at the places that its plane, the lens and the bend say."""
    s, shape = SUPERSAMPLING, plane.size
    texture = board.texture(max(8.0, s * step_px * 1.2) / board.spacing_m)
    scale_y, scale_x = texture.shape[0] / board.extent_m[0], texture.shape[1] / board.extent_m[1]
    step = 8  # the map is exact at every 8th pixel, linear in between
    rows, columns = -(-shape[0] // step) + 1, -(-shape[1] // step) + 1
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64) * step - 0.5
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2)
    pixels = plane.straight(pixels)
    flat = pixels - bend.at(pixels - bend.at(pixels))  # the bend is given where the plane would be: iterated once
    metres = cv2.perspectiveTransform(flat[:, None], np.linalg.inv(plane.H))[:, 0]
    texels = (metres * [scale_x, scale_y] - 0.5).reshape(rows, columns, 2).astype(np.float32)
    at_x = ((np.arange(shape[1] * s) + 0.5) / (s * step)).astype(np.float32)
    at_y = ((np.arange(shape[0] * s) + 0.5) / (s * step)).astype(np.float32)
    where = np.asarray(cv2.remap(texels, *np.meshgrid(at_x, at_y), cv2.INTER_LINEAR))
    fine = cv2.remap(
        texture, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1.0
    )
    return np.asarray(cv2.resize(fine, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.float32)


def _level(grey: np.ndarray, drawing: np.ndarray, points: np.ndarray, step_px: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) float32 each: the even part of the picture on the board, a quadratic, and the pattern's contrast relative
    to its mean, linear (light falls off, and with it white less black): a per cent of it over a circle moves the
    circle. Fitted together, robustly.
    """
    reach = max(1, round(0.5 * step_px))
    hull = cv2.convexHull(points.astype(np.float32)).reshape(-1, 2)
    on_board = cv2.fillConvexPoly(np.zeros(grey.shape, np.uint8), np.rint(hull).astype(np.int32), 1)
    on_board = cv2.dilate(on_board, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    y, x = np.nonzero(on_board)
    centre, half = points.mean(axis=0), max(float(np.ptp(points, axis=0).max()) / 2, 1.0)
    u, v = (x - centre[0]) / half, (y - centre[1]) / half
    smooth = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)  # (P, 6)
    every = slice(None, None, max(1, len(x) // 20000))
    pattern = drawing[y, x].astype(np.float64)[:, None]
    A = np.hstack([smooth, pattern * smooth[:, :3]])[every]
    values = grey[y, x].astype(np.float64)[every]
    trust = np.ones(len(values))
    for _ in range(3):
        normal = A.T @ (A * trust[:, None])
        p = np.linalg.lstsq(normal, A.T @ (values * trust), rcond=None)[0]
        off = np.abs(values - A @ p)
        trust = np.minimum(1.0, 3.0 * np.median(off) / np.maximum(off, 1e-9))
    u = ((np.arange(grey.shape[1]) - centre[0]) / half)[None, :]
    v = ((np.arange(grey.shape[0]) - centre[1]) / half)[:, None]
    level = p[0] + p[1] * u + p[2] * v + p[3] * u * u + p[4] * (u * v) + p[5] * v * v
    contrast = 1 + (p[7] * u + p[8] * v) / p[6] if abs(p[6]) > 1e-6 else np.ones_like(level)
    return np.asarray(level, np.float32), np.asarray(np.clip(contrast, 0.3, 3.0), np.float32)


def _fit(
    grey: np.ndarray, drawing: np.ndarray, points: np.ndarray, drawn_at: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fitted (N, 2) points and (N,) correlation of drawing and picture there; drawn_at (N, 2): where they are drawn."""
    reach = int(np.ceil(radius))
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    inside = (u**2 + v**2 <= (radius + 0.5) ** 2).reshape(-1)
    u, v = u.reshape(-1)[inside], v.reshape(-1)[inside]
    weight = np.sqrt(np.exp(-(u**2 + v**2) / (WINDOW * radius) ** 2))
    T = _sample(drawing, drawn_at, u, v)  # (N, P)
    half_x, half_y = np.array([0.5, 0.0]), np.array([0.0, 0.5])
    Tx = (_sample(drawing, drawn_at + half_x, u, v) - _sample(drawing, drawn_at - half_x, u, v)).astype(np.float64)
    Ty = (_sample(drawing, drawn_at + half_y, u, v) - _sample(drawing, drawn_at - half_y, u, v)).astype(np.float64)
    ones = np.ones_like(T)
    A = np.stack([T, Tx, Ty, ones, ones * (u / radius), ones * (v / radius)], axis=-1) * weight[:, None]  # (N, P, 6)
    normal = np.einsum("npi,npj->nij", A, A) + 1e-6 * np.eye(6)
    fitted = points.copy()
    correlation = np.zeros(len(points))
    unit = float(grey.std()) or 1.0
    held = np.zeros((6, 6))
    for _ in range(4):
        picture = _sample(grey, fitted, u, v) / unit
        right = np.einsum("npi,np->ni", A, picture * weight)
        solution = np.linalg.solve(normal + held, right[..., None])[..., 0]  # (N, 6)
        if not held.any():
            held = _slopes_held(normal, A, picture * weight, solution)
            solution = np.linalg.solve(normal + held, right[..., None])[..., 0]
        gain = solution[:, 0]
        shift = (
            -solution[:, 1:3] / np.where(np.abs(gain) > 1e-6, gain, np.inf)[:, None]
        )  # picture(x) = gain * T(x - shift)
        shift = np.clip(shift, -1.5, 1.5)
        fitted = fitted + shift
        without = A[..., 3:]
        slope = np.linalg.solve(
            np.einsum("npi,npj->nij", without, without), np.einsum("npi,np->ni", without, picture * weight)[..., None]
        )[..., 0]
        flat = picture * weight - np.einsum("npi,ni->np", without, slope)
        left = picture * weight - np.einsum("npi,ni->np", A, solution)
        explained = 1 - (left**2).sum(axis=1) / np.maximum((flat**2).sum(axis=1), 1e-12)
        correlation = np.sqrt(np.clip(explained, 0, 1))
    return fitted, correlation


def _slopes_held(normal: np.ndarray, A: np.ndarray, values: np.ndarray, solution: np.ndarray) -> np.ndarray:
    """(6, 6) to add to the normal equations: the spread of the slopes over the board, less their noise, says how firmly
    they are held near zero (empirical Bayes)."""
    left = values - np.einsum("npi,ni->np", A, solution)
    noise = (left**2).sum(axis=1) / max(left.shape[1] - 6, 1)  # (N,)
    own = noise[:, None] * np.diagonal(np.linalg.inv(normal), axis1=1, axis2=2)[:, 4:]
    spread = float(np.median(solution[:, 4:] ** 2)) / 0.455 - float(np.median(own))  # median of chi^2_1 is 0.455
    gain = float(np.median(np.abs(solution[:, 0])))
    spread = max(spread, (MIN_SLOPE * gain) ** 2)
    return np.diag([0.0, 0.0, 0.0, 0.0, 1.0, 1.0]) * float(np.median(noise)) / max(spread, 1e-12)


def _sample(image: np.ndarray, centres: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(N, P) values at centre + (u, v), u and v whole numbers; cubic, exact: OpenCV rounds places to 1/32 px,
    which would be the largest error in a visible picture."""
    reach = int(max(np.abs(u).max(), np.abs(v).max()))
    size = 2 * reach + 1
    whole = np.floor(centres).astype(int)
    part = centres - whole
    steps = np.arange(-reach - 1, reach + 3)
    columns = np.clip(whole[:, :1] + steps, 0, image.shape[1] - 1)
    rows = np.clip(whole[:, 1:] + steps, 0, image.shape[0] - 1)
    patch = image[rows[:, :, None], columns[:, None, :]]  # (N, size + 3, size + 3)
    wx, wy = (_cubic(part[:, axis]).astype(np.float32)[:, :, None, None] for axis in (0, 1))
    across = sum(wx[:, k] * patch[:, :, k : k + size] for k in range(4))
    both = sum(wy[:, k] * across[:, k : k + size] for k in range(4))
    return np.asarray(both[:, v.astype(int) + reach, u.astype(int) + reach])


def _cubic(part: np.ndarray) -> np.ndarray:
    """(N, 4) weights of the pixels -1, 0, 1, 2 at a place between 0 and 1 (Keys, 1981)."""
    a = -0.5
    x = part
    weights = [
        ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a,
        ((a + 2) * x - (a + 3)) * x * x + 1,
        ((a + 2) * (1 - x) - (a + 3)) * (1 - x) ** 2 + 1,
    ]
    return np.stack([*weights, 1 - sum(weights)], axis=-1)
