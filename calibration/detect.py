"""Finds a board in a picture of either camera: a ladder of preparations, tried until one works and proves right.

Thermal boards have weak contrast, uneven heat and often the opposite polarity (black ink is warmer). Each rung of the
ladder is a preparation (background removal, stretch, CLAHE), a polarity and a scale. What a rung finds must lie on a
plane seen by a lens and show the black and white pattern of the board, else it is refused. The numbering of the points
never depends on which rung worked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from calibration.board import ArucoGrid, AsymmetricCircles, Board, Charuco, Checkerboard, SymmetricCircles
from calibration.circle_grid import find_grid, may_lack
from calibration.refine import BentPlane, refine_points
from fusion_core.errors import BadInputError

__all__ = ["BoardNotFoundError", "Detection", "Rung", "detect_board", "match_orders", "to_grey"]

Polarity = Literal["normal", "inverted", "unknown"]
Preparation = Literal["stretch", "blur12", "blur25", "clahe", "smooth", "hat", "upper", "lower"]
MAX_WORKING_WIDTH_PX = 2000
_STRETCH = {"blur12": (3, 97), "blur25": (3, 97), "hat": (0.5, 99.5)}  # per cent of the pixels, to black and white
MIN_MARKERS = 3
JOINED = ("stretch", "blur25", "upper", "lower")  # preparations in which discs that touch are taken apart
MIN_CHARUCO_CORNERS = 8
ASTRAY_PX, ASTRAY_STEP, ASTRAY_MEDIANS = 0.5, 0.03, 6.0  # off by more, of a step and of the median, it is none
MAX_ASTRAY = 12
MAX_ASTRAY_COUNTED, MAX_ASTRAY_READ = 1 / 12, 1 / 4  # of the points; those of markers carry their numbers
PATIENCE = 8  # more preparations for a board that lacks discs: another may show them


class BoardNotFoundError(BadInputError):
    """No rung of the ladder found the board; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to prepare a picture before looking for the board."""

    preparation: Preparation
    invert: bool
    scale: float

    def __str__(self) -> str:
        return f"{self.preparation}{' inverted' if self.invert else ''} x{self.scale:g}"


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A found board.

    points_px: (N, 2) float64 in the pixels of the picture that was given; ids: (N,) int, the points' numbers on the
    board. polarity: "normal" if the board's black is darker in this picture. orders: the numberings that the picture
    allows (first: as numbered), each the present number of what would be point 0, 1, ...; more than one means that the
    picture alone cannot tell.
    """

    points_px: np.ndarray
    ids: np.ndarray
    rung: str
    polarity: Polarity
    size: tuple[int, int]
    orders: tuple[np.ndarray, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether this picture alone leaves open which way up the board is."""
        return len(self.orders) > 1

    def reordered(self, order: np.ndarray) -> Detection:
        """Number the points in another of the possible ways."""
        ids = np.argsort(order)[self.ids]
        rising = np.argsort(ids)
        return replace(self, points_px=self.points_px[rising], ids=ids[rising], orders=(np.arange(len(order)),))

    def without(self, left_out: np.ndarray) -> Detection:
        """Leave out points, (N,) bool."""
        return replace(self, points_px=self.points_px[~left_out], ids=self.ids[~left_out])


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB or (H, W) uint8/uint16/float to (H, W) float32, same units."""
    if image.ndim == 3 and image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if image.ndim != 2 or min(image.shape) < 32:
        raise BadInputError(
            f"picture has shape {image.shape}, must be (H, W) or (H, W, 3) with at least 32 pixels a side"
        )
    return image.astype(np.float32)


def prepare(grey: np.ndarray, rung: Rung) -> np.ndarray:
    """(H, W) float32 to (s H, s W) uint8, as the rung says. Blur widths are for 640 pixels across, but noise
    is smoothed as much in smaller pictures: it differs from pixel to pixel."""
    unit = grey.shape[1] / 640.0
    if rung.preparation in ("blur12", "blur25"):
        sigma = (12.0 if rung.preparation == "blur12" else 25.0) * unit
        grey = cv2.GaussianBlur(grey, (0, 0), 0.8 * max(unit, 1.0)) - cv2.GaussianBlur(grey, (0, 0), sigma)
    elif rung.preparation == "smooth":
        grey = cv2.GaussianBlur(grey, (0, 0), 1.2 * max(unit, 1.0))
    elif rung.preparation == "hat":  # small dark things, whatever lies around the board: closing less picture
        dots = cv2.GaussianBlur(-grey if rung.invert else grey, (0, 0), 0.8 * max(unit, 1.0))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(22 * unit) | 1,) * 2)
        grey = -cv2.morphologyEx(dots, cv2.MORPH_BLACKHAT, kernel) * (-1 if rung.invert else 1)
    elif rung.preparation in ("upper", "lower"):  # a plate of weak contrast that is warmer or colder than all around
        grey = cv2.GaussianBlur(grey, (0, 0), 1.2 * max(unit, 1.0))
        grey = _half(grey, upper=rung.preparation == "upper")
    low, high = np.percentile(grey[::2, ::2], _STRETCH.get(rung.preparation, (1, 99)))
    stretched = np.clip((grey - low) * (255.0 / max(float(high - low), 1e-6)), 0, 255)
    if rung.scale != 1:
        interpolation = cv2.INTER_CUBIC if rung.scale > 1 else cv2.INTER_AREA
        stretched = np.clip(
            cv2.resize(stretched, None, fx=rung.scale, fy=rung.scale, interpolation=interpolation), 0, 255
        )
    picture = stretched.astype(np.uint8)
    if rung.preparation == "clahe":
        picture = cv2.createCLAHE(4.0, (8, 8)).apply(picture)
    return np.asarray(255 - picture if rung.invert else picture, np.uint8)


def _half(grey: np.ndarray, *, upper: bool) -> np.ndarray:
    """The largest thing of the upper (lower) half of the values, as Otsu parts them, less its level and slope; what is
    around it is set to its darkest (brightest)."""
    low, high = np.percentile(grey[::2, ::2], (0.5, 99.5))
    levels = np.clip((grey - low) * (255.0 / max(float(high - low), 1e-6)), 0, 255).astype(np.uint8)
    parted = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0]
    half = cv2.erode((levels > parted if upper else levels <= parted).astype(np.uint8), np.ones((9, 9), np.uint8))
    _, parts, sizes, _ = cv2.connectedComponentsWithStats(half)
    if len(sizes) < 2:
        return grey
    inside = parts == 1 + int(np.argmax(sizes[1:, cv2.CC_STAT_AREA]))
    y, x = (axis.astype(np.float32) for axis in np.nonzero(inside))
    terms = np.stack([np.ones_like(x), x, y, x * y], axis=-1).astype(np.float64)
    values, trusted = grey[inside].astype(np.float64), np.ones(len(x), bool)
    left = values - np.median(values)
    for _ in range(4):  # what else lies in the same half drops out
        off = np.abs(left - np.median(left[trusted]))
        trusted = off <= max(2.5 * float(np.median(off)), 1e-3)  # half of a clipped picture may be one value
        part = terms[trusted]
        left = values - terms @ np.linalg.solve(part.T @ part + 1e-6 * np.eye(4), part.T @ values[trusted])
    darkest, brightest = np.percentile(left[trusted], (1, 99))
    level = np.full_like(grey, darkest if upper else brightest)
    level[inside] = np.clip(left, darkest, brightest)
    return level


def ladder(board: Board, width: int, first: Sequence[Rung] = ()) -> Iterator[Rung]:
    """The rungs in the order in which they pay off. `first` (what has worked lately) goes in front."""
    yield from first
    inversions = (False,) if isinstance(board, Checkerboard) else (False, True)  # inverting leaves corners as they are
    if isinstance(board, SymmetricCircles | AsymmetricCircles):
        preparations: tuple[Preparation, ...] = (
            "stretch",
            "blur25",
            "blur12",
            "hat",
            "smooth",
            "clahe",
            "upper",
            "lower",
        )
    else:
        preparations = ("stretch", "smooth", "blur12", "blur25", "clahe")
    scales: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0)
    if isinstance(board, SymmetricCircles | AsymmetricCircles):  # discs of any size are found: from 640 pixels on
        scales = tuple(sorted(scales, key=lambda scale: abs(float(np.log(scale * width / 640)))))
    for scale in scales:
        if scale * width > MAX_WORKING_WIDTH_PX and scale > 1:
            continue
        if scale < 1 and width < 500:
            continue
        for preparation in preparations:
            for invert in inversions:
                rung = Rung(preparation, invert, scale)
                if rung not in first:
                    yield rung


def detect_board(
    image: np.ndarray,
    board: Board,
    *,
    polarity: Polarity = "unknown",
    first: Sequence[Rung] = (),
    max_rungs: int = 0,
    skip: int = 0,
) -> Detection:
    """Find the board in one picture.

    Args:
        image: (H, W) uint8 or uint16 (thermal), or (H, W, 3) uint8 RGB.
        polarity: which colour is dark, if it is certain: "normal" for a visible camera. A thermal camera's is
            "unknown" unless it was established; then some checkerboards cannot be told from their half-turned selves
            by one picture (`Detection.ambiguous`), and `match_orders` settles it with the other camera's picture.
        first: rungs to try first. max_rungs: give up after this many (0: all of them). skip: after `first`, begin this
            many rungs further down, round and round: pictures of a stream share the ladder.

    Raises:
        BoardNotFoundError: no rung found a board that proved right.
    """
    grey = to_grey(image)
    detection = _climb(grey, board, polarity, first, max_rungs, skip)
    if isinstance(board, SymmetricCircles | AsymmetricCircles):
        return detection  # refined already: that tells which discs are none
    refined = replace(detection, points_px=refine_points(grey, detection.points_px, detection.ids, board))
    astray = _astray(refined, board)
    share = MAX_ASTRAY_READ if board.identified else MAX_ASTRAY_COUNTED
    if astray.sum() > share * len(astray) or len(astray) - astray.sum() < MIN_CHARUCO_CORNERS:
        raise BoardNotFoundError(
            f"a {board.describe()} was found, but {astray.sum()} of its {len(astray)} points lie off what the others "
            "foretell. Is there a second board, or a glare or a reflection over it?"
        )
    return refined.without(astray)


def _astray(detection: Detection, board: Board) -> np.ndarray:
    """(N,) bool: points that lie off the plane and lens of the others: a glare over a disc looks like one, its border
    on a checkerboard moves corners."""
    object_xy = board.object_points()[detection.ids, :2]
    step = _smallest_step(detection.points_px)
    left_out = np.zeros(len(detection.ids), bool)
    for _ in range(MAX_ASTRAY):
        plane = BentPlane.fit(object_xy[~left_out], detection.points_px[~left_out], detection.size)
        if plane is None:
            break
        off = np.linalg.norm(plane.points(object_xy) - detection.points_px, axis=1)
        limit = max(ASTRAY_PX, ASTRAY_STEP * step, ASTRAY_MEDIANS * float(np.median(off[~left_out])))
        worst = int(np.argmax(np.where(left_out, 0.0, off)))
        if off[worst] <= limit:
            break
        left_out[worst] = True
    return left_out


def _climb(
    grey: np.ndarray, board: Board, polarity: Polarity, first: Sequence[Rung], max_rungs: int, skip: int
) -> Detection:
    size = (grey.shape[0], grey.shape[1])
    tried = 0
    refused = ""
    markers: dict[int, np.ndarray] = {}
    best: Detection | None = None
    last = 0  # the rung to end with, once a board was found that lacks discs
    rungs = list(ladder(board, size[1], first))
    head, rest = rungs[: len(first)], rungs[len(first) :]
    skip %= len(rest)
    for rung in head + rest[skip:] + rest[:skip]:
        if (max_rungs and tried >= max_rungs) or (last and tried >= last):
            break
        tried += 1
        picture = prepare(grey, rung)
        if isinstance(board, Checkerboard):
            points = _find_checkerboard(picture, board, rung.scale)
        elif isinstance(board, SymmetricCircles | AsymmetricCircles):
            points = _find_circles(picture, board, rung)
        elif isinstance(board, Charuco):
            found = _find_charuco(picture, board, rung, size)
            if found is not None and _problem(found, board) == "" and (best is None or len(found.ids) > len(best.ids)):
                best = found
            if best is not None and (len(best.ids) >= 0.9 * len(board.object_points()) or tried >= 8):
                return best
            continue
        elif isinstance(board, ArucoGrid):
            _collect_markers(picture, board, rung, markers)
            if len(markers) == board.rows * board.columns or (tried >= 12 and len(markers) >= MIN_MARKERS):
                break
            continue
        else:
            raise BadInputError(f"boards of kind {type(board).__name__} cannot be detected")
        if points is None:
            continue
        detection = _numbered(points, board, grey, rung, polarity, size)
        if isinstance(board, SymmetricCircles | AsymmetricCircles):
            detection = detection.without(_astray(detection, board))
        refused = _problem(detection, board)
        if refused:
            continue
        if not isinstance(board, SymmetricCircles | AsymmetricCircles):
            return detection
        refined = refine_points(grey, detection.points_px, detection.ids, board)
        detection = replace(detection, points_px=refined)
        detection = detection.without(_astray(detection, board))
        lacks = len(board.object_points()) - len(detection.ids)
        if lacks == 0:
            return detection
        if lacks > may_lack(board):
            refused = f"{lacks} discs are not seen, or lie off what the others foretell"
        elif best is None or len(detection.ids) > len(best.ids):
            best, last = detection, tried + PATIENCE if best is None else last
    if best is not None:
        return best
    if isinstance(board, ArucoGrid) and len(markers) >= MIN_MARKERS:
        detection = _from_markers(markers, board, size)
        refused = _problem(detection, board)
        if not refused:
            return detection
    raise BoardNotFoundError(
        f"no {board.describe()} found after {tried} preparations"
        + (f"; the last candidate was refused: {refused}" if refused else "")
        + ". Is the whole board in the picture, sharp, and warm enough?"
    )


def match_orders(visible: Detection, thermal: Detection, roll_deg: float = 0.0) -> tuple[Detection, Detection]:
    """Settle the numbering of a pair: take the order of the thermal points that is turned most like the visible one.

    Holds for cameras mounted within 45 degrees (boards with quarter-turn symmetry) or 90 degrees (all others) of
    `roll_deg`, the thermal camera's turn about its line of sight, clockwise in the picture.
    """
    if thermal.ambiguous:
        turn = np.exp(1j * np.radians(roll_deg))
        orders = [thermal.reordered(order) for order in thermal.orders]
        thermal = max(orders, key=lambda numbered: _turned_alike(visible, numbered, turn))
    return visible, thermal


def _turned_alike(visible: Detection, thermal: Detection, turn: complex) -> float:
    _, in_visible, in_thermal = np.intersect1d(visible.ids, thermal.ids, return_indices=True)
    wanted = _complex(visible.points_px[in_visible]) * turn
    return float(np.real(np.vdot(wanted, _complex(thermal.points_px[in_thermal])))) / max(len(wanted), 1)


def _complex(points_px: np.ndarray) -> np.ndarray:
    centred = points_px - points_px.mean(axis=0)
    return np.asarray(centred[:, 0] + 1j * centred[:, 1])


def _unscale(points: np.ndarray, scale: float) -> np.ndarray:
    return np.asarray((np.asarray(points, np.float64).reshape(-1, 2) + 0.5) / scale - 0.5)


def _find_checkerboard(picture: np.ndarray, board: Checkerboard, scale: float) -> np.ndarray | None:
    rows, columns = board.corner_grid
    flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
    found, points = cv2.findChessboardCornersSB(picture, (columns, rows), flags=flags)
    return _unscale(points, scale) if found else None


def _find_circles(picture: np.ndarray, board: SymmetricCircles | AsymmetricCircles, rung: Rung) -> np.ndarray | None:
    points = find_grid(picture, board, joined=rung.preparation in JOINED)
    return _unscale(points, rung.scale) if points is not None else None


def _find_charuco(picture: np.ndarray, board: Charuco, rung: Rung, size: tuple[int, int]) -> Detection | None:
    detector = cv2.aruco.CharucoDetector(board.cv_board())
    parameters = detector.getDetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector.setDetectorParameters(parameters)
    corners, ids, _, _ = detector.detectBoard(picture)
    if ids is None or len(ids) < MIN_CHARUCO_CORNERS:
        return None
    points: np.ndarray = np.asarray(corners, np.float32).reshape(-1, 1, 2)
    numbers = np.asarray(ids).reshape(-1)
    spacing = _smallest_step(points.reshape(-1, 2))
    window = int(np.clip(0.25 * spacing, 2, 11))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 0.001)
    points = np.asarray(cv2.cornerSubPix(picture, points, (window, window), (-1, -1), criteria), np.float32)
    order = np.argsort(numbers)
    return Detection(
        _unscale(points, rung.scale)[order],
        numbers[order].astype(int),
        str(rung),
        "inverted" if rung.invert else "normal",
        size,
    )


def _collect_markers(picture: np.ndarray, board: ArucoGrid, rung: Rung, markers: dict[int, np.ndarray]) -> None:
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    parameters.minMarkerPerimeterRate = 0.02
    corners, found, _ = cv2.aruco.ArucoDetector(board.cv_dictionary(), parameters).detectMarkers(picture)
    ids: np.ndarray | None = found  # None without a marker, whatever OpenCV's type stub says
    if ids is None:
        return
    wanted = set(board.marker_ids)
    for quad, number in zip(corners, np.asarray(ids).reshape(-1), strict=True):
        if int(number) in wanted and int(number) not in markers:
            markers[int(number)] = _unscale(quad, rung.scale)


def _from_markers(markers: dict[int, np.ndarray], board: ArucoGrid, size: tuple[int, int]) -> Detection:
    place = {marker: index for index, marker in enumerate(board.marker_ids)}
    chosen = sorted(markers, key=lambda marker: place[marker])
    ids = np.concatenate([np.arange(4) + 4 * place[marker] for marker in chosen])
    return Detection(
        np.concatenate([markers[marker] for marker in chosen]), ids, f"{len(chosen)} markers", "unknown", size
    )


def _numbered(
    points: np.ndarray, board: Board, grey: np.ndarray, rung: Rung, polarity: Polarity, size: tuple[int, int]
) -> Detection:
    """Give the points the board's numbering, whatever way round the finder has listed them."""
    object_points = board.object_points()
    points = _unmirrored(points, object_points, board)
    seen: Polarity = "unknown"
    if isinstance(board, Checkerboard):
        darker = _square_contrast(grey, points, board)
        orders = board.equivalent_orders(polarity_known=False)
        if polarity == "unknown":
            seen = (
                "unknown" if len(board.equivalent_orders(polarity_known=True)) < len(orders) else _polarity_of(darker)
            )
        else:
            wanted = 1.0 if polarity == "normal" else -1.0
            if darker * wanted < 0:
                points = next(
                    (points[order] for order in orders if _square_contrast(grey, points[order], board) * wanted > 0),
                    points,
                )
            seen = polarity
            orders = board.equivalent_orders(polarity_known=True)
    else:
        orders = board.equivalent_orders(polarity_known=False)
        points = points[max(orders, key=lambda order: _upright(points[order], board))]
        seen = "inverted" if rung.invert else "normal"
    seen_at = np.isfinite(points[:, 0])
    return Detection(points[seen_at], np.flatnonzero(seen_at), str(rung), seen, size, tuple(orders))


def _upright(points: np.ndarray, board: Board) -> float:
    """How far the board's right and down, by this numbering, point to the picture's, px."""
    axes = board.object_points()[:, :2] - board.object_points()[:, :2].mean(axis=0)
    return float(np.nansum(axes / board.spacing_m * (points - np.nanmean(points, axis=0))))


def _polarity_of(contrast: float) -> Polarity:
    return "normal" if contrast > 0 else "inverted"


def _unmirrored(points: np.ndarray, object_points: np.ndarray, board: Board) -> np.ndarray:
    """Lists that run the wrong way round the board (mirrored) are turned back."""
    seen = np.isfinite(points[:, 0])
    H, _ = cv2.findHomography(object_points[seen, :2], points[seen])
    if H is None or np.linalg.det(H[:2, :2]) > 0 or isinstance(board, AsymmetricCircles):
        return points
    rows, columns = board.corner_grid if isinstance(board, Checkerboard) else (board.rows, board.columns)
    return points.reshape(rows, columns, 2)[:, ::-1].reshape(-1, 2)


def _square_contrast(grey: np.ndarray, points: np.ndarray, board: Checkerboard) -> float:
    """Mean of (white squares minus black squares) between the corners, by the board's numbering.

    Above 0: black is darker.
    """
    rows, columns = board.corner_grid
    grid = points.reshape(rows, columns, 2)
    centres = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
    values = _sample(grey, centres.reshape(-1, 2)).reshape(rows - 1, columns - 1)
    sign = np.where(np.indices(values.shape).sum(axis=0) % 2 == 0, -1.0, 1.0)  # square (1, 1) is black like (0, 0)
    local = values - cv2.blur(values.astype(np.float32), (3, 3), borderType=cv2.BORDER_REFLECT_101)
    return float(np.mean(local * sign))


def _sample(grey: np.ndarray, points: np.ndarray) -> np.ndarray:
    smooth = cv2.blur(grey, (3, 3))
    x = np.clip(np.rint(points[:, 0]).astype(int), 0, grey.shape[1] - 1)
    y = np.clip(np.rint(points[:, 1]).astype(int), 0, grey.shape[0] - 1)
    return np.asarray(smooth[y, x])


def _smallest_step(points: np.ndarray) -> float:
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return float(np.median(distance.min(axis=1)))


def _problem(detection: Detection, board: Board) -> str:
    """Say why this cannot be the board; empty if it can. A lens bends the grid far less than a wrong neighbour."""
    object_xy = board.object_points()[detection.ids, :2]
    plane = BentPlane.fit(object_xy, detection.points_px, detection.size)
    if plane is None:
        return "the points do not span a plane"
    off = np.linalg.norm(plane.points(object_xy) - detection.points_px, axis=1)
    step = _smallest_step(detection.points_px)
    if step < 4:
        return f"the points are only {step:.1f} px apart"
    if float(off.max()) > 0.3 * step:
        return f"a point lies {off.max():.1f} px off the board's plane (points are {step:.1f} px apart)"
    height, width = detection.size
    if np.any(detection.points_px < -0.5) or np.any(detection.points_px > np.array([width, height]) - 0.5):
        return "a point lies outside the picture"
    return ""
