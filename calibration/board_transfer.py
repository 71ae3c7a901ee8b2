"""Finds a board of markers that one camera has read in the other camera's picture, where they are too small to read.

A thermal camera of 320 pixels shows a ChArUco board as squares with grey smudges: nothing can be read, though the
board is plain to see. The other camera has read it at that moment and nearly that pose. So the board is drawn as that
camera saw it, laid over the picture at all places and some scales and turns (normalised correlation; either polarity),
and fitted by a homography that raises the correlation (Evangelidis and Psarakis, "Parametric image alignment using
enhanced correlation coefficient maximization", 2008). The numbering comes from the markers that were read. Laid a
square or two beside, or turned by half, a board differs by its border and the smudges alone. So the picture must show
what only the right place explains, and nothing that only a wrong place explains; else no board is found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.board import ArucoGrid, Board
from calibration.detect import BoardNotFoundError, Detection, Polarity, to_grey
from calibration.refine import board_homography, refine_points

__all__ = ["Likeness", "complete", "transfer_board"]

WORKING_WIDTH_PX = 320
SCALES = np.geomspace(0.6, 1.8, 20)  # of the ratio of the widths: lenses may differ that much
TURNS_DEG = (-6.0, -3.0, 0.0, 3.0, 6.0)
CANDIDATES = 8
OUTSIDE = 0.25  # of the board may lie beside the picture
SMOOTHED = 5  # texels, in the first fit
MIN_CORRELATION = 0.55
MIN_SURENESS = 0.1  # boards laid wrongly on purpose have -0.8 or less wherever they correlate this well
MAX_TURN_DEG = 45.0  # from the other camera's view, beyond the roll: cameras of one rig differ by a few degrees
MIN_INSIDE = 0.5  # of the board, that must lie in the picture
MIN_SHARE = (
    0.95  # of the points in the picture, each of which must fit alone: at a wrong place up to 0.85 do, by chance
)
RIM = 2  # squares around the board in which wrong places are searched


@dataclass(frozen=True, slots=True)
class Likeness:
    """How one camera's view of a board becomes the other's, apart from the place: kept from picture to picture."""

    scale: float
    turn_deg: float


def transfer_board(
    image: np.ndarray, board: Board, other: Detection, *, roll_deg: float = 0.0, first: Likeness | None = None
) -> tuple[Detection, Likeness]:
    """Find in (H, W) or (H, W, 3) `image` the board that the other camera has found.

    Args:
        other: what the other camera found; most of the board.
        roll_deg: how this camera is turned about its line of sight against the other, clockwise in the picture.
        first: the likeness found last time; little else is then tried.

    Raises:
        BoardNotFoundError: it is not there, or could as well lie a square beside.
    """
    grey = to_grey(image)
    shrink = min(1.0, WORKING_WIDTH_PX / grey.shape[1])
    small = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else grey
    H_other = board_homography(board.object_points()[other.ids, :2], other.points_px)
    if H_other is None:
        raise BoardNotFoundError("the other camera's points do not span a plane")
    best: tuple[float, np.ndarray, Likeness] | None = None
    places = sorted(_places(small, board, H_other, other, roll_deg, first), key=lambda place: -abs(place[0]))
    for like, H, likeness in places[:CANDIDATES]:
        fitted = _fitted(small, board, H, like)
        if fitted is not None and (best is None or fitted[0] > best[0]):
            best = fitted[0], fitted[1], likeness
    if best is None or best[0] < MIN_CORRELATION:
        raise BoardNotFoundError(
            f"no {board.describe()} where the other camera's picture says that it may be"
            + (f": correlation {best[0]:.2f}" if best is not None else "")
        )
    H = best[1]
    sure, move = _sureness(small, board, H)
    if sure < 0:  # a square beside, most likely
        moved = _fitted(small, board, H @ move, _correlation(small, board, H @ move))
        if moved is not None:
            H = moved[1]
            sure, _ = _sureness(small, board, H)
    if sure < MIN_SURENESS:
        raise BoardNotFoundError(f"the {board.describe()} could as well lie otherwise (sureness {sure:.2f})")
    turned_deg = _turned_deg(H, H_other, board) - roll_deg
    if abs((turned_deg + 180) % 360 - 180) > MAX_TURN_DEG:
        raise BoardNotFoundError(
            f"the {board.describe()} would be turned by {turned_deg:.0f} degrees against what the other camera sees"
        )
    up = np.array([[1 / shrink, 0, 0.5 / shrink - 0.5], [0, 1 / shrink, 0.5 / shrink - 0.5], [0, 0, 1.0]])
    polarity: Polarity = "normal" if _correlation(small, board, H) > 0 else "inverted"
    start = Detection(np.empty((0, 2)), np.empty(0, int), "as the other camera sees it", polarity, grey.shape[:2])
    found = _all_points(grey, board, up @ H, start)
    at = cv2.perspectiveTransform(board.object_points()[:, None, :2], up @ H)[:, 0]
    inside = ((at > 0) & (at < np.array(grey.shape[::-1]) - 1)).all(axis=1).sum()
    if len(found.ids) < max(8, MIN_INSIDE * len(at), MIN_SHARE * inside):
        raise BoardNotFoundError(f"only {len(found.ids)} of {inside} points of the {board.describe()} fit on their own")
    return found, best[2]


def _turned_deg(H: np.ndarray, H_other: np.ndarray, board: Board) -> float:
    """By how much the board is turned, clockwise, in the picture of `H` against that of `H_other`, at its middle."""
    middle = board.object_points()[:, :2].mean(axis=0)
    around = middle + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * 0.1 * board.spacing_m
    own, other = (cv2.perspectiveTransform(around[:, None], h)[:, 0] for h in (H, H_other))
    A = (own[1:] - own[0]).T @ np.linalg.inv((other[1:] - other[0]).T)
    return float(np.degrees(np.arctan2(A[1, 0] - A[0, 1], A[0, 0] + A[1, 1])))


def complete(image: np.ndarray, board: Board, found: Detection) -> Detection:
    """Find the points of the board that lie in the picture, from those whose markers were read; leave out what does
    not fit. Returns the given detection where that gives no more points."""
    H = board_homography(board.object_points()[found.ids, :2], found.points_px)
    if H is None:
        return found
    every = _all_points(to_grey(image), board, H, found)
    return every if len(every.ids) > len(found.ids) else found


def _all_points(grey: np.ndarray, board: Board, H: np.ndarray, start: Detection) -> Detection:
    """All points inside the picture that agree with their neighbours when each is fitted alone."""
    object_xy = board.object_points()[:, :2]
    at = cv2.perspectiveTransform(object_xy[:, None], H)[:, 0]
    step = (
        float(
            np.median(np.linalg.norm(np.diff(at, axis=0), axis=1) / np.linalg.norm(np.diff(object_xy, axis=0), axis=1))
        )
        * board.spacing_m
    )
    rim = 0.3 * step
    ids = np.flatnonzero(((at > rim) & (at < np.array(grey.shape[::-1]) - 1 - rim)).all(axis=1))
    if len(ids) < 8:
        return start
    known = dict(zip(start.ids, start.points_px, strict=True))
    points = np.array([known.get(number, at[number]) for number in ids])
    fitted = refine_points(grey, points, ids, board)
    own_fit = (fitted != points).any(axis=1)  # the others could not be fitted and stay where they were
    if own_fit.sum() < 8:
        return start
    ids, fitted = ids[own_fit], refine_points(grey, fitted[own_fit], ids[own_fit], board)
    own = board_homography(object_xy[ids], fitted)
    if own is None:
        return start
    off = np.linalg.norm(cv2.perspectiveTransform(object_xy[ids][:, None], own)[:, 0] - fitted, axis=1)
    kept = off < max(0.15 * step, 3 * float(np.median(off)))
    return replace(start, points_px=fitted[kept], ids=ids[kept])


def _places(
    grey: np.ndarray, board: Board, H_other: np.ndarray, other: Detection, roll_deg: float, first: Likeness | None
) -> list[tuple[float, np.ndarray, Likeness]]:
    """(correlation of either sign, (3, 3) board metres to pixels, likeness): the best place by scale and turn."""
    centre = other.points_px.mean(axis=0)
    ratio = grey.shape[1] / other.size[1]
    if first is None:
        tried = [Likeness(ratio * float(scale), roll_deg + turn) for scale in SCALES for turn in TURNS_DEG]
    else:
        tried = [Likeness(first.scale * s, first.turn_deg + t) for s in (0.95, 1.0, 1.055) for t in (-2.0, 0.0, 2.0)]
    found = []
    for likeness in tried:
        c, s = np.cos(np.radians(likeness.turn_deg)), np.sin(np.radians(likeness.turn_deg))
        A = likeness.scale * np.array([[c, -s], [s, c]])
        S = np.eye(3)
        S[:2, :2], S[:2, 2] = A, -A @ centre
        corners = cv2.perspectiveTransform(_outline(board)[:, None], S @ H_other)[:, 0]
        low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        width, height = (high - low).astype(int) + 1
        aside, above = round(OUTSIDE * width), round(OUTSIDE * height)
        if width > grey.shape[1] + 2 * aside or height > grey.shape[0] + 2 * above or min(width, height) < 24:
            continue
        S[:2, 2] -= low
        drawn, inside = _drawn(board, S @ H_other, (height, width))
        step = float(np.sqrt(inside.sum() * board.spacing_m**2 / (board.extent_m[0] * board.extent_m[1])))
        template = _flat(drawn, step) * inside
        padded = cv2.copyMakeBorder(_flat(grey, step), above, above, aside, aside, cv2.BORDER_CONSTANT)
        like = cv2.matchTemplate(padded, template.astype(np.float32), cv2.TM_CCOEFF_NORMED)
        _, _, _, (x, y) = cv2.minMaxLoc(np.abs(like))
        top = like[y, x]
        moved = np.array([[1, 0, x - aside], [0, 1, y - above], [0, 0, 1.0]])
        found.append((float(top), moved @ S @ H_other, likeness))
    return found


def _fitted(grey: np.ndarray, board: Board, H: np.ndarray, sign: float) -> tuple[float, np.ndarray] | None:
    """Correlation and homography (board metres to pixels) after the fit: first by an affine map of smoothed pictures,
    then by a homography. sign: of the correlation, -1 where the board's black is brighter."""
    texture, to_metres = _board_picture(board, H)
    step = texture.shape[1] * board.spacing_m / board.extent_m[1]
    picture = np.asarray(np.sign(sign or 1.0) * _flat(grey, step), np.float32)
    rim = round(step)
    around = np.array([[1, 0, -rim], [0, 1, -rim], [0, 0, 1.0]])
    size = texture.shape[0] + 2 * rim, texture.shape[1] + 2 * rim
    laid = H @ to_metres
    rectified, _ = _rectified(picture, laid @ around, size)
    start = np.array([[1, 0, rim], [0, 1, rim]], np.float32)
    try:
        affine = _raised(texture, rectified, start, cv2.MOTION_AFFINE, SMOOTHED)
        laid = laid @ around @ np.vstack([affine, [0, 0, 1]])
    except cv2.error:
        pass  # nothing gained: the homography begins where this one did
    warp = np.asarray(laid / laid[2, 2], np.float32)
    try:
        warp = _raised(texture, picture, warp, cv2.MOTION_HOMOGRAPHY, 1)
    except cv2.error:
        return None  # the fit ran away: no board there
    fitted = np.asarray(warp, np.float64) @ np.linalg.inv(to_metres)
    return abs(_correlation(grey, board, fitted)), fitted


def _raised(texture: np.ndarray, picture: np.ndarray, warp: np.ndarray, motion: int, smoothed: int) -> np.ndarray:
    """The warp, texels to pixels, that raises the correlation. Raises cv2.error where there is none to raise."""
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-5)
    everywhere = np.full(picture.shape, 255, np.uint8)
    return np.asarray(cv2.findTransformECC(texture, picture, warp, motion, criteria, everywhere, smoothed)[1])


def _correlation(grey: np.ndarray, board: Board, H: np.ndarray) -> float:
    """Of the board's picture and the picture where H (board metres to pixels) puts it, as far as that has it."""
    texture, to_metres = _board_picture(board, H)
    step = texture.shape[1] * board.spacing_m / board.extent_m[1]
    seen, inside = _rectified(_flat(grey, step), H @ to_metres, texture.shape)
    if inside.mean() < MIN_INSIDE or seen[inside].std() <= 0:
        return 0.0
    return float(np.corrcoef(texture[inside], seen[inside])[0, 1])


def _sureness(grey: np.ndarray, board: Board, H: np.ndarray) -> tuple[float, np.ndarray]:
    """How the picture decides between this place and the likeliest other or half turn, from what only one of the two
    shows: 1 as if it were drawn by this one, -1 by the other. Also (3, 3) from the other's metres to this one's."""
    texture, to_metres = _board_picture(board, H)
    step = texture.shape[1] * board.spacing_m / board.extent_m[1]
    seen, inside = _rectified(_flat(grey, step), H @ to_metres, texture.shape)
    if inside.mean() < MIN_INSIDE:
        return -1.0, np.eye(3)
    ours = float(np.corrcoef(texture[inside], seen[inside])[0, 1])
    sign, ours = np.sign(ours), abs(ours)
    pitch_m = board.spacing_m + (board.gap_m if isinstance(board, ArucoGrid) else 0.0)
    height_m, width_m = board.extent_m
    half_turn = np.array([[-1, 0, width_m], [0, -1, height_m], [0, 0, 1.0]])
    worst = 1.0, np.eye(3)
    for rows in range(-RIM, RIM + 1):
        for columns in range(-RIM, RIM + 1):
            shift = np.array([[1, 0, columns * pitch_m], [0, 1, rows * pitch_m], [0, 0, 1.0]])
            for move in (shift, shift @ half_turn):
                if np.array_equal(move, np.eye(3)):
                    continue
                laid = np.linalg.inv(to_metres) @ move @ to_metres  # the other board's texels to the right one's
                other = cv2.warpPerspective(texture, laid, texture.shape[::-1], flags=cv2.INTER_LINEAR)
                theirs = sign * float(np.corrcoef(other[inside], seen[inside])[0, 1])
                alike = float(np.corrcoef(other[inside], texture[inside])[0, 1])
                # the picture, along what only one of the two shows; were it this one's drawing: 1 - alike
                sure = (ours - theirs) / (max(ours, theirs, 1e-6) * max(1 - alike, 1e-6))
                if sure < worst[0]:
                    worst = sure, move
    return worst


def _rectified(flat: np.ndarray, T: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 picture as texels see it, and (h, w) bool where there is any; T: texels to pixels."""
    size, how = (shape[1], shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = cv2.warpPerspective(np.ones(flat.shape, np.float32), T, size, flags=how) > 0.99
    return np.asarray(cv2.warpPerspective(flat, T, size, flags=how), np.float32), np.asarray(inside)


def _board_picture(board: Board, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 the board as a camera with pixels of this size sees it, flattened; (3, 3) texels to metres."""
    corners = cv2.perspectiveTransform(_outline(board)[:, None], H)[:, 0]
    area = float(cv2.contourArea(corners.astype(np.float32)))
    px_per_m = np.sqrt(max(area, 100.0) / (board.extent_m[0] * board.extent_m[1]))
    fine = board.texture(4 * px_per_m)
    size = (round(board.extent_m[1] * px_per_m), round(board.extent_m[0] * px_per_m))
    texture = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
    step = size[0] * board.spacing_m / board.extent_m[1]
    x, y = board.extent_m[1] / size[0], board.extent_m[0] / size[1]
    to_metres = np.array([[x, 0, 0.5 * x], [0, y, 0.5 * y], [0, 0, 1.0]])
    return _flat(cv2.GaussianBlur(texture, (0, 0), 1.2), step), to_metres


def _drawn(board: Board, H: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 drawing through H (board metres to pixels), blurred, and where the board is."""
    texture, to_metres = _texture(board)
    size = (shape[1], shape[0])
    T = H @ to_metres
    drawn = cv2.warpPerspective(texture, T, size, flags=cv2.INTER_AREA, borderValue=float(texture.mean()))
    inside = cv2.warpPerspective(np.ones_like(texture), T, size, flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), 1.2), np.float32), np.asarray(inside, np.float32)


def _texture(board: Board) -> tuple[np.ndarray, np.ndarray]:
    texture = board.texture(16 / board.spacing_m)
    x, y = board.extent_m[1] / texture.shape[1], board.extent_m[0] / texture.shape[0]
    return texture, np.array([[x, 0, 0.5 * x], [0, y, 0.5 * y], [0, 0, 1.0]])


def _flat(picture: np.ndarray, step_px: float) -> np.ndarray:
    """Remove the level and even the contrast, over a square and a half."""
    sigma = max(0.75 * step_px, 2.0)
    fine = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.8)
    level = fine - cv2.GaussianBlur(fine, (0, 0), sigma)
    spread = np.sqrt(cv2.GaussianBlur(level * level, (0, 0), 1.5 * sigma))
    return np.asarray(level / np.maximum(spread, 0.05 * float(spread.max()) + 1e-6), np.float32)


def _outline(board: Board) -> np.ndarray:
    height_m, width_m = board.extent_m
    return np.array([[0, 0], [width_m, 0], [width_m, height_m], [0, height_m]], np.float64)
