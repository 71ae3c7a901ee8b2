"""The simulated rig's world: flat sheets at their depths, painted in metres with a colour and a temperature.

A sheet is a piece of a plane. On a plane, 1/Z is an affine function of the picture coordinates, so that moving the
camera sideways moves the sheet's picture by an affine map: parallax is exact on walls, on things that stand upright
and on the ground, and rendering is one `cv2.warpAffine` a sheet. Coordinates: X right, Y up from the ground, Z away
from the visible camera, metres; (u, v) = (X/Z, (camera height - Y)/Z) are its tangent coordinates, v downward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion_core.errors import BadInputError

__all__ = [
    "CAMERA_HEIGHT_M",
    "SKY_DEPTH_M",
    "Colour",
    "Extent",
    "Float",
    "Lamp",
    "Paint",
    "Point",
    "Scene",
    "Sheet",
    "illumination",
    "noise_tile",
    "scene_extent",
    "shade",
]

CAMERA_HEIGHT_M = 2.4
SKY_DEPTH_M = 1000.0

_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_ROUND = np.cos(_ANGLES), np.sin(_ANGLES)
_HALF_ROUND = np.linspace(np.pi / 2, 3 * np.pi / 2, 7)

Float = NDArray[np.float32]
_FLAT: Float = np.zeros((1, 1), np.float32)  # the rise of a paint that does not change from top to bottom
Colour = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Extent:
    """What has to be painted: |u| <= half_u, |v| <= half_v (tangents), at `density` pixels per unit of tangent."""

    half_u: float
    half_v: float
    density: float


@dataclass(frozen=True)
class Lamp:
    """A point light that burns at night: place in metres, colour, and illumination at one metre (1 = daylight)."""

    x: float
    y: float
    z: float
    colour: Colour
    power: float


@dataclass(frozen=True)
class Paint:
    """What a surface looks like to both cameras.

    colour: sRGB 0..1 in full daylight, running to colour_to at the upper edge of what is painted.
    temp_c: apparent temperature, running to temp_to likewise. None: visible only (a shadow, a print): heat below stays.
    grain, grain_k: amplitude of the surface's texture in colour (relative) and in kelvin.
    glow: light that it gives (sRGB 0..1), scaled by night unless it is the sky.
    """

    colour: Colour
    temp_c: float | None = None
    grain: float = 0.0
    grain_k: float = 0.0
    colour_to: Colour | None = None
    temp_to: float | None = None
    glow: Colour | None = None


def noise_tile(rng: np.random.Generator, size: int, cells: tuple[int, ...], fade: float = 0.72) -> Float:
    """Fractal noise (size, size), mean 0, variance 1: one octave a number of cells, each `fade` times the former."""
    total = np.zeros((size, size), np.float32)
    for weight, count in enumerate(cells):
        coarse = rng.standard_normal((count, count)).astype(np.float32)
        wrapped = np.pad(coarse, 2, mode="wrap")
        scale = size / count
        shift = np.array([[1 / scale, 0, 2.0], [0, 1 / scale, 2.0]], np.float32)
        octave = cv2.warpAffine(wrapped, shift, (size, size), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        total += octave * (fade**weight)
    total -= total.mean()
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def _columns(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) points; np.stack takes ten times as long for a few."""
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker (below 1) or lighter."""
    return min(1.0, colour[0] * factor), min(1.0, colour[1] * factor), min(1.0, colour[2] * factor)


def illumination(x: Float, y: Float, z: Float, lamps: tuple[Lamp, ...], night: float) -> Float:
    """How bright a surface point looks, as a gain on its sRGB colour: (..., 3), 1 = full daylight."""
    day = (1.0 - night) ** 2.0
    light = np.empty((*np.broadcast_shapes(x.shape, y.shape, z.shape), 3), np.float32)
    light[:] = day * np.array([1.0, 0.99, 0.96], np.float32) + night * np.array([0.0035, 0.0045, 0.0075], np.float32)
    if night > 0:
        for lamp in lamps:
            squared = (x - lamp.x) ** 2 + (y - lamp.y) ** 2 + (z - lamp.z) ** 2
            down = np.clip((lamp.y - y) / np.sqrt(squared + 1e-3) + 0.25, 0.0, 1.0)  # shaded above, open below
            light += (night * lamp.power * down / (squared + 1.5))[..., None] * np.array(lamp.colour, np.float32)
    return np.asarray(np.power(np.minimum(light, 1.2), 1 / 2.2), np.float32)


@dataclass
class Sheet:
    """One painted piece of a plane. Pixel (i, j) has its centre at (i, j); arrays are float32.

    inverse_depth: (a, b, c) with 1/Z = a + b u + c v.  uv_from_px: 3x3, pixel to tangent coordinates.
    colour (h, w, 3) sRGB 0..1; glow (h, w, 3); cover (h, w): opacity for the visible camera; solid (h, w): opacity for
    the thermal camera and for depth; temp_c (h, w).
    """

    inverse_depth: tuple[float, float, float]
    uv_from_px: NDArray[np.float64]
    project: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    tile: Float
    colour: Float
    glow: Float
    cover: Float
    solid: Float
    temp_c: Float
    sort_depth_m: float
    lit: bool = True
    glows: bool = False

    @classmethod
    def blank(
        cls,
        shape: tuple[int, int],
        inverse_depth: tuple[float, float, float],
        uv_from_px: NDArray[np.float64],
        project: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        tile: Float,
        sort_depth_m: float,
    ) -> Sheet:
        """An empty sheet of that many (rows, columns)."""
        return cls(
            inverse_depth,
            uv_from_px,
            project,
            tile,
            np.zeros((*shape, 3), np.float32),
            np.zeros((*shape, 3), np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            sort_depth_m,
        )

    @classmethod
    def upright(cls, extent: Extent, tile: Float, z: float, x: Point, y: Point) -> Sheet:
        """An upright sheet facing the camera at depth z, from x[0] to x[1] and y[0] to y[1] metres."""
        u0, u1 = np.clip(np.array(x) / z, -extent.half_u, extent.half_u)
        v0, v1 = np.clip((CAMERA_HEIGHT_M - np.array([y[1], y[0]])) / z, -extent.half_v, extent.half_v)
        d = extent.density
        shape = (max(2, int(np.ceil((v1 - v0) * d))), max(2, int(np.ceil((u1 - u0) * d))))
        back = np.array([[1 / d, 0, u0 + 0.5 / d], [0, 1 / d, v0 + 0.5 / d], [0, 0, 1]])

        def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
            u = points[:, 0] / z
            v = (CAMERA_HEIGHT_M - points[:, 1]) / z
            return _columns((u - u0) * d - 0.5, (v - v0) * d - 0.5)

        return cls.blank(shape, (1 / z, 0.0, 0.0), back, project, tile, z)

    @classmethod
    def ground(cls, extent: Extent, tile: Float, near_m: float, far_m: float) -> Sheet:
        """The ground between two distances; its points are (X, Z)."""
        u0, u1 = -extent.half_u, extent.half_u
        v0, v1 = CAMERA_HEIGHT_M / far_m, min(CAMERA_HEIGHT_M / near_m, extent.half_v)
        d = extent.density
        shape = (max(2, int(np.ceil((v1 - v0) * d))), max(2, int(np.ceil((u1 - u0) * d))))
        back = np.array([[1 / d, 0, u0 + 0.5 / d], [0, 1 / d, v0 + 0.5 / d], [0, 0, 1]])

        def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
            z = np.maximum(points[:, 1], 0.5)
            return _columns((points[:, 0] / z - u0) * d - 0.5, (CAMERA_HEIGHT_M / z - v0) * d - 0.5)

        # things stand on the ground: it never hides them, so it sorts behind all that is nearer than its far edge
        return cls.blank(shape, (0.0, 0.0, 1 / CAMERA_HEIGHT_M), back, project, tile, far_m)

    @classmethod
    def figure(cls, tile: Float, x: Point, y: Point, density: float) -> Sheet:
        """A sheet for something that moves: metres about the foot point, `density` pixels per metre."""
        shape = (int(np.ceil((y[1] - y[0]) * density)), int(np.ceil((x[1] - x[0]) * density)))
        back = np.array(
            [[1 / density, 0, x[0] + 0.5 / density], [0, -1 / density, y[1] - 0.5 / density], [0, 0, 1]]
        )  # pixel to metres, not to tangents: where it stands comes later

        def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return _columns((points[:, 0] - x[0]) * density - 0.5, (y[1] - points[:, 1]) * density - 0.5)

        return cls.blank(shape, (0.0, 0.0, 0.0), back, project, tile, 0.0)

    def stand(self, x: float, z: float) -> Sheet:
        """Put a figure on the ground at (x, z): its arrays, now as a sheet of the scene."""
        to_uv = np.array([[1 / z, 0, x / z], [0, -1 / z, CAMERA_HEIGHT_M / z], [0, 0, 1]])
        return replace(self, inverse_depth=(1 / z, 0.0, 0.0), uv_from_px=to_uv @ self.uv_from_px, sort_depth_m=z)

    def polygon(self, points: list[Point] | NDArray[np.float64], paint: Paint, opacity: float = 1.0) -> None:
        """Fill a polygon (in the sheet's own metres) with a paint."""
        px = self.project(np.asarray(points, np.float64))
        (low_x, low_y), (high_x, high_y) = px.min(axis=0).tolist(), px.max(axis=0).tolist()
        upper, lower = math.floor(low_y) - 2, math.ceil(high_y) + 3
        left, top = max(math.floor(low_x) - 2, 0), max(upper, 0)
        right, bottom = min(math.ceil(high_x) + 3, self.cover.shape[1]), min(lower, self.cover.shape[0])
        if left >= right or top >= bottom:
            return
        if min(low_x, low_y) < -8000 or max(high_x, high_y) > 16000:  # beyond fillPoly's numbers
            px = np.clip(px, -8000, 16000)
        mask = np.zeros((bottom - top, right - left), np.uint8)
        fixed = np.rint((px - (left, top)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
        rise = _FLAT
        if paint.colour_to is not None or paint.temp_to is not None:  # 0 lower edge .. 1 upper edge
            span = np.float32(max(float(lower - upper), 1.0))
            rise = ((np.float32(lower) - np.arange(top, bottom, dtype=np.float32)) / span)[:, None]
        self.blend(mask * np.float32(opacity / 255), (top, left), paint, rise)

    def rectangle(self, x: Point, y: Point, paint: Paint, opacity: float = 1.0) -> None:
        """Fill an axis-parallel rectangle."""
        self.polygon([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])], paint, opacity)

    def ellipse(self, centre: Point, radii: Point, paint: Paint, opacity: float = 1.0) -> None:
        """Fill an ellipse."""
        self.polygon(_columns(centre[0] + radii[0] * _ROUND[0], centre[1] + radii[1] * _ROUND[1]), paint, opacity)

    def limb(self, start: Point, end: Point, widths: Point, paint: Paint) -> None:
        """Fill a tapered stroke with round ends: an arm, a branch, a pole."""
        a, b = np.array(start), np.array(end)
        heading = np.arctan2(b[1] - a[1], b[0] - a[0])
        outline = np.empty((14, 2))
        for end_point, width, turned, part in (
            (a, widths[0], heading + _HALF_ROUND, outline[:7]),
            (b, widths[1], heading + _HALF_ROUND + np.pi, outline[7:]),
        ):
            part[:, 0] = end_point[0] + width / 2 * np.cos(turned)
            part[:, 1] = end_point[1] + width / 2 * np.sin(turned)
        self.polygon(outline, paint)

    def blend(self, mask: Float, at: tuple[int, int], paint: Paint, rise: Float) -> None:
        """Lay a paint over the sheet through a mask (opacity 0..1) whose corner is at (row, column); rise: 0..1."""
        top, left = at
        box = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        grain = self._grain(top, left, mask.shape) if paint.grain or paint.grain_k else None
        gain = None if grain is None else 1 + paint.grain * grain
        clear = 1 - mask
        cover = self.cover[box]
        # straight (not premultiplied) colour: what was transparent takes the new colour whole
        share = mask / np.maximum(mask + cover * clear, 1e-6)
        start = np.array(paint.colour, np.float32)
        step = np.array(paint.colour_to, np.float32) - start if paint.colour_to is not None else None
        for channel in range(3):  # one after another: three times as fast as an inner axis of three
            colour = start[channel] if step is None else start[channel] + rise * step[channel]
            if gain is not None:
                colour = colour * gain
            plane = self.colour[(*box, channel)]
            plane += (colour - plane) * share
        cover += (1 - cover) * mask
        self._let_glow(box, mask, paint)
        if paint.temp_c is None:
            return
        temp: Float | np.float32 = np.float32(paint.temp_c)
        if paint.temp_to is not None:
            temp = temp + rise * np.float32(paint.temp_to - paint.temp_c)
        if grain is not None and paint.grain_k:
            temp = temp + np.float32(paint.grain_k) * grain
        solid, warmth = self.solid[box], self.temp_c[box]
        share_solid = mask / np.maximum(mask + solid * clear, 1e-6)
        warmth += (temp - warmth) * share_solid
        solid += (1 - solid) * mask

    def _grain(self, top: int, left: int, shape: tuple[int, ...]) -> Float:
        """The piece of the noise that belongs to the sheet; the noise repeats."""
        size = self.tile.shape[0]
        first, across = (top + int(self.sort_depth_m * 37)) % size, (left + int(self.sort_depth_m * 101)) % size
        if first + shape[0] <= size and across + shape[1] <= size:
            return self.tile[first : first + shape[0], across : across + shape[1]]
        rows = (np.arange(shape[0]) + first) % size
        columns = (np.arange(shape[1]) + across) % size
        return np.asarray(np.take(np.take(self.tile, rows, axis=0), columns, axis=1), np.float32)

    def _let_glow(self, box: tuple[slice, slice], mask: Float, paint: Paint) -> None:
        if paint.glow is None and not self.glows:
            return  # dark over dark
        self.glows = True
        light = paint.glow if paint.glow is not None else (0.0, 0.0, 0.0)
        for channel in range(3):
            plane = self.glow[(*box, channel)]
            plane += (np.float32(light[channel]) - plane) * mask

    def drop_colours(self) -> None:
        """Free what `lit_colour` alone needs, once every visible picture has been composed."""
        self.colour = self.glow = np.empty((0, 0, 3), np.float32)

    def lit_colour(self, lamps: tuple[Lamp, ...], night: float) -> Float:
        """Colour under the scene's light, glow included: (h, w, 3) sRGB 0..1."""
        if not self.lit:
            return np.clip(self.glow, 0.0, 1.0)
        h, w = self.cover.shape
        rows = np.linspace(0, h - 1, max(2, h // 6))
        columns = np.linspace(0, w - 1, max(2, w // 6))
        back = self.uv_from_px
        u = (back[0, 0] * columns + back[0, 2])[None, :]
        v = (back[1, 1] * rows + back[1, 2])[:, None]
        a, b, c = self.inverse_depth
        z = 1 / np.maximum(a + b * u + c * v, 1e-3)
        light = illumination(
            np.asarray(u * z, np.float32),
            np.asarray(CAMERA_HEIGHT_M - v * z, np.float32),
            np.asarray(z, np.float32),
            lamps,
            night,
        )
        gain = cv2.resize(light, (w, h), interpolation=cv2.INTER_LINEAR)
        dark = np.multiply(self.colour, gain)
        np.clip(dark, 0.0, 1.0, out=dark)
        np.subtract(1, dark, out=dark)
        if self.glows and night > 0:
            dark *= 1 - np.clip(self.glow * night, 0.0, 1.0)
        return np.subtract(1, dark, out=dark)


@dataclass
class Scene:
    """Static sheets, far to near, and the lamps. `actors` adds who moves in it."""

    extent: Extent
    night: float
    rng: np.random.Generator
    sheets: list[Sheet] = field(default_factory=list)
    lamps: tuple[Lamp, ...] = ()

    def __post_init__(self) -> None:
        self.tile = noise_tile(self.rng, 1024, (40, 120, 300, 512), 0.95)

    def upright(self, z: float, x: Point, y: Point) -> Sheet:
        """Add an upright sheet; see Sheet.upright."""
        sheet = Sheet.upright(self.extent, self.tile, z, x, y)
        self.sheets.append(sheet)
        return sheet

    def ground(self, near_m: float, far_m: float) -> Sheet:
        """Add a piece of ground; see Sheet.ground."""
        sheet = Sheet.ground(self.extent, self.tile, near_m, far_m)
        self.sheets.append(sheet)
        return sheet


def scene_extent(half_u: float, half_v: float, density: float) -> Extent:
    """Check and make an extent. Raises BadInputError beyond what the flat scene can show."""
    if not 0 < half_u <= 2.5 or not 0 < half_v <= 2.5:
        raise BadInputError(
            f"the simulated scene would have to reach {half_u:.2f} x {half_v:.2f} (half field of view, tangents), "
            "at most 2.5 is possible; use narrower hfov_visible_deg and hfov_thermal_deg or less pan"
        )
    return Extent(half_u, half_v, density)
