"""Describes calibration boards: their looks, their points, and which of them can be told apart when turned.

Board coordinates: metres, origin at the top left corner of the pattern, x right, y down, z into the board, so that a
board held upright in front of a camera is not mirrored. Every board answers the questions of `Board`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError, model_validator

from fusion_core.errors import ConfigError
from fusion_core.yaml_config import read_yaml

__all__ = [
    "AnyBoard",
    "ArucoGrid",
    "AsymmetricCircles",
    "Board",
    "Charuco",
    "Checkerboard",
    "SymmetricCircles",
    "bend_terms",
    "parse_board",
]

BOARD_HELP = (
    "checkerboard:10x7:30mm (squares, side), circles:7x6:40mm (centre distance), acircles:4x11:30mm (half the distance "
    "within a row), charuco:8x6:40mm:30mm:DICT_5X5_100 (squares, side, marker), "
    "aruco:4x3:60mm:15mm:DICT_ARUCO_ORIGINAL "
    "(markers, side, gap), or a YAML file with the same fields"
)


class Board(BaseModel, ABC):
    """What every board answers. Points are numbered row by row, left to right, from the top left."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: int = Field(ge=2, le=60, description="features (or squares, or markers) in a row")
    rows: int = Field(ge=2, le=60, description="rows of them")
    _bend_m: tuple[float, float, float] = PrivateAttr((0.0, 0.0, 0.0))

    @property
    @abstractmethod
    def spacing_m(self) -> float:
        """Smallest distance between neighbouring points, metres."""

    @property
    @abstractmethod
    def extent_m(self) -> tuple[float, float]:
        """(height, width) of the printed pattern, metres."""

    @abstractmethod
    def flat_points(self) -> np.ndarray:
        """(N, 3) float64, metres, z = 0, in the board's numbering."""

    def object_points(self) -> np.ndarray:
        """(N, 3) float64, metres, in the board's numbering; z = 0 but for a board that was found to be bent."""
        points = self.flat_points()
        points[:, 2] = bend_terms(points) @ self._bend_m
        return points

    def bent(self, bend_m: tuple[float, float, float]) -> Board:
        """This board with its points off the plane by these times `bend_terms`, metres; its print stays flat."""
        board = self.model_copy()
        board._bend_m = bend_m
        return board

    @property
    def bend_m(self) -> tuple[float, float, float]:
        """What `bent` was told; zeros for a flat board."""
        return self._bend_m

    @property
    def depth_m(self) -> float:
        """From the foremost to the hindmost point of a bent board, metres, when it is laid as flat as it will."""
        points = self.object_points()
        z = points[:, 2] - _plane(points[:, :2], points[:, 2])
        return float(np.ptp(z))

    @abstractmethod
    def texture(self, px_per_m: float) -> np.ndarray:
        """The pattern as (h, w) float32, 0 ink .. 1 paper; texel row i of h covers y in
        [i, i + 1] * extent / h (h, w are whole numbers, so the scale is px_per_m to within rounding)."""

    def equivalent_orders(self, *, polarity_known: bool) -> list[np.ndarray]:
        """Numberings that a picture cannot tell apart: a list of (N,) index arrays, the identity first.

        `polarity_known` says whether it is certain which of the two colours is the dark one. More than one entry
        means that a picture of the board alone cannot say which way up it is.
        """
        del polarity_known
        return [np.arange(len(self.object_points()))]

    @property
    def identified(self) -> bool:
        """Whether each point carries a number (markers), so that a part of the board is enough."""
        return False

    def describe(self) -> str:
        """One line for reports."""
        height_m, width_m = self.extent_m
        return f"{self.__class__.__name__} {self.columns}x{self.rows}, {width_m * 1e3:.0f} x {height_m * 1e3:.0f} mm"


def bend_terms(points_m: np.ndarray) -> np.ndarray:
    """(N, 3): the squares by which a board bends along its sides and twists, 1 at the end of its longer half."""
    centred = points_m[:, :2] - points_m[:, :2].mean(axis=0)
    u, v = (centred / (np.ptp(points_m[:, :2], axis=0).max() / 2)).T
    return np.stack([u * u, u * v, v * v], axis=-1)


def _plane(xy: np.ndarray, z: np.ndarray) -> np.ndarray:
    A = np.column_stack([xy, np.ones(len(xy))])
    return np.asarray(A @ np.linalg.lstsq(A, z, rcond=None)[0])


def _rotations(rows: int, columns: int) -> dict[int, np.ndarray]:
    """Index arrays of a rows x columns grid turned by 0, 180 and, if square, 90 and 270 degrees."""
    grid = np.arange(rows * columns).reshape(rows, columns)
    quarter = (0, 2) if rows != columns else (0, 1, 2, 3)
    return {k * 90: np.rot90(grid, k).reshape(-1) for k in quarter}


def _grid_points(rows: int, columns: int, step_m: float, start_m: float) -> np.ndarray:
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    return np.stack([x * step_m + start_m, y * step_m + start_m, np.zeros_like(x)], axis=-1).reshape(-1, 3)


class _Squares(Board):
    """Squares, light and dark in turn. Points: the inner corners."""

    square_m: float = Field(gt=0, le=2, description="side of a square, metres")

    @property
    def spacing_m(self) -> float:
        return self.square_m

    @property
    def extent_m(self) -> tuple[float, float]:
        return self.rows * self.square_m, self.columns * self.square_m

    def flat_points(self) -> np.ndarray:
        return _grid_points(self.rows - 1, self.columns - 1, self.square_m, self.square_m)


class Checkerboard(_Squares):
    """Black and white squares; the square at the top left is black. Points: the inner corners."""

    kind: Literal["checkerboard"] = "checkerboard"
    columns: int = Field(ge=4, le=40, description="squares in a row")
    rows: int = Field(ge=4, le=40, description="rows of squares")

    @property
    def corner_grid(self) -> tuple[int, int]:
        """(rows, columns) of inner corners."""
        return self.rows - 1, self.columns - 1

    def texture(self, px_per_m: float) -> np.ndarray:
        side = max(1, round(self.square_m * px_per_m))
        cells = (np.indices((self.rows, self.columns)).sum(axis=0) % 2).astype(np.float32)
        return np.kron(cells, np.ones((side, side), np.float32))

    def equivalent_orders(self, *, polarity_known: bool) -> list[np.ndarray]:
        result = []
        for angle, order in _rotations(*self.corner_grid).items():
            steps = self.rows - 1 if angle in (90, 270) else self.rows + self.columns - 2
            colours_swap = angle != 0 and steps % 2 == 1
            if not (colours_swap and polarity_known):
                result.append(order)
        return result


class SymmetricCircles(Board):
    """A rectangular grid of discs (or holes). Half a turn leaves it looking alike."""

    kind: Literal["circles"] = "circles"
    distance_m: float = Field(gt=0, le=2, description="distance between neighbouring centres, metres")
    diameter_m: float = Field(default=0.0, ge=0, description="disc diameter, metres; 0: 0.55 of the distance")

    @model_validator(mode="after")
    def _fits(self) -> SymmetricCircles:
        if self.diameter_m >= self.distance_m:
            raise ValueError(f"diameter_m is {self.diameter_m}, must be below distance_m ({self.distance_m})")
        return self

    @property
    def radius_m(self) -> float:
        return (self.diameter_m or 0.55 * self.distance_m) / 2

    @property
    def spacing_m(self) -> float:
        return self.distance_m

    @property
    def extent_m(self) -> tuple[float, float]:
        return self.rows * self.distance_m, self.columns * self.distance_m

    def flat_points(self) -> np.ndarray:
        return _grid_points(self.rows, self.columns, self.distance_m, self.distance_m / 2)

    def texture(self, px_per_m: float) -> np.ndarray:
        return _disc_texture(self.object_points(), self.radius_m, self.extent_m, px_per_m)

    def equivalent_orders(self, *, polarity_known: bool) -> list[np.ndarray]:
        return list(_rotations(self.rows, self.columns).values())


class AsymmetricCircles(Board):
    """Rows of discs, every other row moved by half the distance.

    With an odd number of rows it shows which way is up.
    """

    kind: Literal["acircles"] = "acircles"
    step_m: float = Field(gt=0, le=2, description="distance between rows = half the distance within a row, metres")
    diameter_m: float = Field(default=0.0, ge=0, description="disc diameter, metres; 0: 0.8 of the step")

    @model_validator(mode="after")
    def _fits(self) -> AsymmetricCircles:
        if self.diameter_m >= 1.4 * self.step_m:
            raise ValueError(f"diameter_m is {self.diameter_m}, the discs would touch (step_m {self.step_m})")
        return self

    @property
    def radius_m(self) -> float:
        return (self.diameter_m or 0.8 * self.step_m) / 2

    @property
    def spacing_m(self) -> float:
        return self.step_m * 2**0.5

    @property
    def extent_m(self) -> tuple[float, float]:
        return (self.rows + 1) * self.step_m, (2 * self.columns + 1) * self.step_m

    def flat_points(self) -> np.ndarray:
        y, x = np.mgrid[0 : self.rows, 0 : self.columns].astype(np.float64)
        points = np.stack([(2 * x + y % 2 + 1) * self.step_m, (y + 1) * self.step_m, np.zeros_like(x)], axis=-1)
        return points.reshape(-1, 3)

    def texture(self, px_per_m: float) -> np.ndarray:
        return _disc_texture(self.object_points(), self.radius_m, self.extent_m, px_per_m)

    def equivalent_orders(self, *, polarity_known: bool) -> list[np.ndarray]:
        identity = np.arange(self.rows * self.columns)
        return [identity, identity[::-1].copy()] if self.rows % 2 == 0 else [identity]


class _MarkerBoard(Board):
    dictionary: str = Field(default="DICT_5X5_100", description="OpenCV's name of the ArUco dictionary")

    @model_validator(mode="after")
    def _known_dictionary(self) -> _MarkerBoard:
        if not (self.dictionary.startswith("DICT_") and hasattr(cv2.aruco, self.dictionary)):
            raise ValueError(f"dictionary is {self.dictionary!r}, must be an OpenCV name such as DICT_5X5_100")
        return self

    @property
    def identified(self) -> bool:
        return True

    def cv_dictionary(self) -> cv2.aruco.Dictionary:
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))


class Charuco(_Squares, _MarkerBoard):
    """A checkerboard with an ArUco marker in each white square; a part of it is enough. Points: the inner corners."""

    kind: Literal["charuco"] = "charuco"
    marker_m: float = Field(gt=0, le=2, description="side of a marker, metres")

    @model_validator(mode="after")
    def _fits(self) -> Charuco:
        if self.marker_m >= self.square_m:
            raise ValueError(f"marker_m is {self.marker_m}, must be below square_m ({self.square_m})")
        return self

    def cv_board(self) -> cv2.aruco.CharucoBoard:
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, self.cv_dictionary())

    def texture(self, px_per_m: float) -> np.ndarray:
        side = max(8, round(self.square_m * px_per_m))
        return _charuco_texture(self, side).copy()


@lru_cache(maxsize=16)
def _charuco_texture(board: Charuco, side: int) -> np.ndarray:
    """Draw the markers where OpenCV says that they are; the picture that OpenCV makes rounds bits to whole texels."""
    height, width = board.rows * side, board.columns * side
    bits = int(board.cv_dictionary().markerSize) + 2
    starts = np.arange(bits) * (board.marker_m / bits)
    texture = np.kron(np.indices((board.rows, board.columns)).sum(axis=0) % 2, np.ones((side, side))).astype(np.float64)
    layout = board.cv_board()
    for marker, corners in zip(np.asarray(layout.getIds()).reshape(-1), layout.getObjPoints(), strict=True):
        x_m, y_m = (float(value) for value in np.asarray(corners).reshape(-1, 3)[0, :2])
        ink = cv2.aruco.generateImageMarker(board.cv_dictionary(), int(marker), bits) < 128
        down = _overlap(height, board.extent_m[0], y_m + starts, board.marker_m / bits)
        across = _overlap(width, board.extent_m[1], x_m + starts, board.marker_m / bits)
        rows, columns = np.flatnonzero(down.any(axis=1)), np.flatnonzero(across.any(axis=1))
        texture[np.ix_(rows, columns)] -= down[rows] @ ink @ across[columns].T
    return np.asarray(np.clip(texture, 0.0, 1.0), np.float32)


class ArucoGrid(_MarkerBoard):
    """A grid of separate ArUco markers; a part of it is enough. Points: four corners a marker, clockwise."""

    kind: Literal["aruco"] = "aruco"
    columns: int = Field(ge=1, le=40, description="markers in a row")
    rows: int = Field(ge=1, le=40, description="rows of markers")
    marker_m: float = Field(gt=0, le=2, description="side of a marker, metres")
    gap_m: float = Field(gt=0, le=2, description="distance between markers, metres")
    ids: tuple[int, ...] = Field(default=(), description="marker numbers row by row; empty: 0, 1, 2, ...")

    @model_validator(mode="after")
    def _count(self) -> ArucoGrid:
        if self.ids and (len(self.ids) != self.rows * self.columns or len(set(self.ids)) != len(self.ids)):
            raise ValueError(f"ids has {len(self.ids)} entries, must be {self.rows * self.columns} different numbers")
        return self

    @property
    def marker_ids(self) -> tuple[int, ...]:
        return self.ids or tuple(range(self.rows * self.columns))

    @property
    def spacing_m(self) -> float:
        return self.marker_m

    @property
    def extent_m(self) -> tuple[float, float]:
        step = self.marker_m + self.gap_m
        return self.rows * step + self.gap_m, self.columns * step + self.gap_m

    def flat_points(self) -> np.ndarray:
        corner = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float64) * self.marker_m
        origin = _grid_points(self.rows, self.columns, self.marker_m + self.gap_m, self.gap_m)
        return (origin[:, None, :] + corner[None]).reshape(-1, 3)

    def texture(self, px_per_m: float) -> np.ndarray:
        height_m, width_m = self.extent_m
        height, width = round(height_m * px_per_m), round(width_m * px_per_m)
        bits = int(self.cv_dictionary().markerSize) + 2
        ink = np.zeros((self.rows * bits, self.columns * bits))
        for index, marker in enumerate(self.marker_ids):
            row, column = (bits * place for place in divmod(index, self.columns))
            image = cv2.aruco.generateImageMarker(self.cv_dictionary(), marker, bits)
            ink[row : row + bits, column : column + bits] = image < 128
        bit_m, step_m = self.marker_m / bits, self.marker_m + self.gap_m
        down, across = (
            _overlap(
                texels,
                extent_m,
                self.gap_m + (step_m * np.arange(n)[:, None] + bit_m * np.arange(bits)).reshape(-1),
                bit_m,
            )
            for texels, extent_m, n in ((height, height_m, self.rows), (width, width_m, self.columns))
        )
        return np.asarray(np.clip(1.0 - down @ ink @ across.T, 0.0, 1.0), np.float32)


def _overlap(texels: int, extent_m: float, starts_m: np.ndarray, length_m: float) -> np.ndarray:
    """(texels, n) share of each texel along a side that each of n pieces covers: edges exactly in place."""
    starts = np.asarray(starts_m) * (texels / extent_m)
    ends = starts + length_m * (texels / extent_m)
    texel = np.arange(texels)[:, None]
    return np.asarray(np.clip(np.minimum(ends, texel + 1) - np.maximum(starts, texel), 0.0, 1.0))


def _disc_texture(centres: np.ndarray, radius_m: float, extent_m: tuple[float, float], px_per_m: float) -> np.ndarray:
    height, width = round(extent_m[0] * px_per_m), round(extent_m[1] * px_per_m)
    texture = np.ones((height, width), np.float32)
    scale = np.array([width / extent_m[1], height / extent_m[0]])
    radius = radius_m * float(scale.mean())
    reach = int(np.ceil(radius)) + 2
    for cx, cy in centres[:, :2] * scale:
        y0, x0 = max(0, int(cy) - reach), max(0, int(cx) - reach)
        patch = texture[y0 : int(cy) + reach, x0 : int(cx) + reach]
        y, x = np.mgrid[0 : patch.shape[0], 0 : patch.shape[1]]
        distance = np.hypot(x + x0 + 0.5 - cx, y + y0 + 0.5 - cy)
        np.minimum(patch, np.clip(distance - radius + 0.5, 0.0, 1.0), out=patch)
    return texture


AnyBoard = Annotated[
    Checkerboard | SymmetricCircles | AsymmetricCircles | Charuco | ArucoGrid, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[Board] = TypeAdapter(AnyBoard)
_UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "in": 0.0254}


def _length_m(text: str, spec: str) -> float:
    match = re.fullmatch(r"([0-9.]+)(mm|cm|m|in)", text)
    if match is None:
        raise ConfigError(
            f"board {spec!r}: length {text!r} is not understood, want for example 30mm. Boards: {BOARD_HELP}"
        )
    return float(match[1]) * _UNITS[match[2]]


def parse_board(spec: str) -> Board:
    """Read a board from its short form or from a YAML file (see `BOARD_HELP`).

    Raises:
        ConfigError: the text is not a board, or the file is missing or wrong.
    """
    path = Path(spec)
    if path.suffix in (".yaml", ".yml"):
        return _validate(read_yaml(path), spec)
    kind, *parts = spec.split(":")
    names = {
        "checkerboard": ("square_m",),
        "circles": ("distance_m", "diameter_m"),
        "acircles": ("step_m", "diameter_m"),
        "charuco": ("square_m", "marker_m"),
        "aruco": ("marker_m", "gap_m"),
    }.get(kind)
    size = re.fullmatch(r"(\d+)x(\d+)", parts[0]) if parts else None
    if names is None or size is None or len(parts) < 2:
        raise ConfigError(f"board {spec!r} is not understood. Boards: {BOARD_HELP}")
    data = {"kind": kind, "columns": int(size[1]), "rows": int(size[2])}
    lengths = [part for part in parts[1:] if not part.startswith("DICT_")]
    if len(lengths) > len(names):
        raise ConfigError(f"board {spec!r} has {len(lengths)} lengths, {kind} takes {len(names)}. Boards: {BOARD_HELP}")
    data.update({name: _length_m(text, spec) for name, text in zip(names, lengths, strict=False)})
    dictionaries = [part for part in parts[1:] if part.startswith("DICT_")]
    if dictionaries:
        data["dictionary"] = dictionaries[0]
    return _validate(data, spec)


def _validate(data: object, spec: str) -> Board:
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "kind"
        raise ConfigError(f"board {spec!r}: {where}: {first['msg']}. Boards: {BOARD_HELP}") from error
