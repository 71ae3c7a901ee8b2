"""The simulated rig's world: flat sheets at their depths, painted in metres with a colour and a temperature.

A sheet is a piece of a plane. On a plane, 1/Z is an affine function of the picture coordinates, so that moving the
camera sideways moves the sheet's picture by an affine map: parallax is exact on walls, on things that stand upright
and on the ground, and rendering is one `cv2.warpAffine` a sheet. Coordinates: X right, Y up from the ground, Z away
from the visible camera, metres; (u, v) = (X/Z, (camera height - Y)/Z) are its tangent coordinates, v downward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion_core.errors import BadInputError

__all__ = ["CAMERA_HEIGHT_M", "Extent", "Lamp", "Paint", "Scene", "Sheet", "illumination", "noise_tile"]

CAMERA_HEIGHT_M = 2.4
SKY_DEPTH_M = 1000.0

Float = NDArray[np.float32]
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
    glow: light it gives of itself (sRGB 0..1), scaled by night unless it is the sky.
    """

    colour: Colour
    temp_c: float | None = None
    grain: float = 0.0
    grain_k: float = 0.0
    colour_to: Colour | None = None
    temp_to: float | None = None
    glow: Colour | None = None


def noise_tile(rng: np.random.Generator, size: int, cells: tuple[int, ...]) -> Float:
    """Fractal noise (size, size), periodic, zero mean, unit variance: one octave a number of cells."""
    total = np.zeros((size, size), np.float32)
    for weight, count in enumerate(cells):
        coarse = rng.standard_normal((count, count)).astype(np.float32)
        wrapped = np.pad(coarse, 2, mode="wrap")
        scale = size / count
        shift = np.array([[1 / scale, 0, 2.0], [0, 1 / scale, 2.0]], np.float32)
        octave = cv2.warpAffine(wrapped, shift, (size, size), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        total += octave * (0.72**weight)
    total -= total.mean()
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def illumination(x: Float, y: Float, z: Float, lamps: tuple[Lamp, ...], night: float) -> Float:
    """How bright a surface point looks, as a gain on its sRGB colour: (..., 3), 1 = full daylight."""
    day = (1.0 - night) ** 2.0
    light = np.empty((*np.broadcast_shapes(x.shape, y.shape, z.shape), 3), np.float32)
    light[:] = day * np.float32([1.0, 0.99, 0.96]) + night * np.float32([0.011, 0.014, 0.022])
    if night > 0:
        for lamp in lamps:
            squared = (x - lamp.x) ** 2 + (y - lamp.y) ** 2 + (z - lamp.z) ** 2
            down = np.clip((lamp.y - y) / np.sqrt(squared + 1e-3) + 0.25, 0.0, 1.0)  # shaded above, open below
            light += (night * lamp.power * down / (squared + 1.2))[..., None] * np.float32(lamp.colour)
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
            return np.stack([(u - u0) * d - 0.5, (v - v0) * d - 0.5], axis=1)

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
            return np.stack([(points[:, 0] / z - u0) * d - 0.5, (CAMERA_HEIGHT_M / z - v0) * d - 0.5], axis=1)

        # things stand on the ground: it never hides them, so it sorts behind all that is nearer than its far edge
        return cls.blank(shape, (0.0, 0.0, 1 / CAMERA_HEIGHT_M), back, project, tile, far_m)

    @classmethod
    def figure(cls, tile: Float, x: Point, y: Point, density: float) -> Sheet:
        """A sheet for something that moves: metres about its own foot point, `density` pixels per metre."""
        shape = (int(np.ceil((y[1] - y[0]) * density)), int(np.ceil((x[1] - x[0]) * density)))
        back = np.array(
            [[1 / density, 0, x[0] + 0.5 / density], [0, -1 / density, y[1] - 0.5 / density], [0, 0, 1]]
        )  # pixel to metres, not to tangents: where it stands comes later

        def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.stack([(points[:, 0] - x[0]) * density - 0.5, (y[1] - points[:, 1]) * density - 0.5], axis=1)

        return cls.blank(shape, (0.0, 0.0, 0.0), back, project, tile, 0.0)

    def stand(self, x: float, z: float) -> Sheet:
        """Put a figure on the ground at (x, z): the same arrays, now a sheet in the scene."""
        to_uv = np.array([[1 / z, 0, x / z], [0, -1 / z, CAMERA_HEIGHT_M / z], [0, 0, 1]])
        return replace(self, inverse_depth=(1 / z, 0.0, 0.0), uv_from_px=to_uv @ self.uv_from_px, sort_depth_m=z)

    def polygon(self, points: list[Point] | NDArray[np.float64], paint: Paint, opacity: float = 1.0) -> None:
        """Fill a polygon (in the sheet's own metres) with a paint."""
        px = self.project(np.asarray(points, np.float64))
        low = np.floor(px.min(axis=0)).astype(int) - 2
        high = np.ceil(px.max(axis=0)).astype(int) + 3
        left, top = max(int(low[0]), 0), max(int(low[1]), 0)
        right, bottom = min(int(high[0]), self.cover.shape[1]), min(int(high[1]), self.cover.shape[0])
        if left >= right or top >= bottom:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        fixed = np.rint((np.clip(px, -8000, 16000) - [left, top]) * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
        span = max(float(high[1] - low[1]), 1.0)
        rise = (float(high[1]) - np.arange(top, bottom, dtype=np.float32)) / span  # 0 lower edge .. 1 upper edge
        self._blend(mask.astype(np.float32) * (opacity / 255), (top, left), paint, rise[:, None])

    def rectangle(self, x: Point, y: Point, paint: Paint, opacity: float = 1.0) -> None:
        """Fill an axis-parallel rectangle."""
        self.polygon([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])], paint, opacity)

    def ellipse(self, centre: Point, radii: Point, paint: Paint, opacity: float = 1.0) -> None:
        """Fill an ellipse."""
        angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        points = np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)
        self.polygon(points, paint, opacity)

    def limb(self, start: Point, end: Point, widths: Point, paint: Paint) -> None:
        """Fill a tapered stroke with round ends: an arm, a branch, a pole."""
        a, b = np.array(start), np.array(end)
        heading = np.arctan2(b[1] - a[1], b[0] - a[0])
        half = np.linspace(np.pi / 2, 3 * np.pi / 2, 7)
        cap_a = a + widths[0] / 2 * np.stack([np.cos(heading + half), np.sin(heading + half)], axis=1)
        cap_b = b + widths[1] / 2 * np.stack([np.cos(heading + half + np.pi), np.sin(heading + half + np.pi)], axis=1)
        self.polygon(np.concatenate([cap_a, cap_b]), paint)

    def _blend(self, mask: Float, at: tuple[int, int], paint: Paint, rise: Float) -> None:
        top, left = at
        box = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        weight = mask[..., None]
        colour = np.broadcast_to(np.float32(paint.colour), (*mask.shape, 3))
        if paint.colour_to is not None:
            step = np.float32(paint.colour_to) - np.float32(paint.colour)
            colour = colour + rise[..., None] * step
        if paint.grain or paint.grain_k:
            size = self.tile.shape[0]
            rows = (np.arange(top, top + mask.shape[0]) * 1 + int(self.sort_depth_m * 37)) % size
            columns = (np.arange(left, left + mask.shape[1]) + int(self.sort_depth_m * 101)) % size
            grain = self.tile[rows[:, None], columns[None, :]]
            colour = colour * (1 + paint.grain * grain)[..., None]
        # straight (not premultiplied) colour: what was transparent takes the new colour whole
        share = weight / np.maximum(weight + self.cover[box][..., None] * (1 - weight), 1e-6)
        self.colour[box] += (colour - self.colour[box]) * share
        self.cover[box] += (1 - self.cover[box]) * mask
        glow = np.float32(paint.glow) if paint.glow is not None else np.float32(0)
        self.glow[box] += (glow - self.glow[box]) * weight
        if paint.temp_c is None:
            return
        temp = np.full(mask.shape, paint.temp_c, np.float32)
        if paint.temp_to is not None:
            temp += rise * (paint.temp_to - paint.temp_c)
        if paint.grain_k:
            temp += paint.grain_k * grain
        share_solid = mask / np.maximum(mask + self.solid[box] * (1 - mask), 1e-6)
        self.temp_c[box] += (temp - self.temp_c[box]) * share_solid
        self.solid[box] += (1 - self.solid[box]) * mask

    def lit_colour(self, lamps: tuple[Lamp, ...], night: float) -> Float:
        """Colour under the scene's light, with its own glow: (h, w, 3) sRGB 0..1."""
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
        lit = np.clip(self.colour * gain, 0.0, 1.0)
        return np.asarray(1 - (1 - lit) * (1 - np.clip(self.glow * night, 0.0, 1.0)), np.float32)


@dataclass
class Scene:
    """Static sheets, far to near, and the lamps. Who moves in it is `simulation_actors`' business."""

    extent: Extent
    night: float
    rng: np.random.Generator
    sheets: list[Sheet] = field(default_factory=list)
    lamps: tuple[Lamp, ...] = ()

    def __post_init__(self) -> None:
        self.tile = noise_tile(self.rng, 1024, (24, 64, 170, 512))

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


# ------------------------------------------------------------------------------------------ things that stand about


def add_sky(scene: Scene) -> None:
    """Sky with clouds by day, stars and a moon by night; cold overhead and milder toward the horizon."""
    reach = 3 * SKY_DEPTH_M
    sheet = scene.upright(SKY_DEPTH_M, (-reach, reach), (-reach, reach))
    sheet.lit = False
    h, w = sheet.cover.shape
    n = scene.night
    height = np.clip(np.linspace(1.0, -1.0, h, dtype=np.float32), 0, 1)[:, None, None]  # 1 top, 0 from the horizon down
    day = np.float32([0.80, 0.86, 0.92]) + height * (np.float32([0.30, 0.52, 0.82]) - np.float32([0.80, 0.86, 0.92]))
    dark = np.float32([0.085, 0.085, 0.12]) + height * (np.float32([0.02, 0.03, 0.075]) - np.float32([0.085, 0.085, 0.12]))
    clouds = cv2.resize(noise_tile(scene.rng, 256, (3, 7, 15, 40)), (w, max(h * 2, 2)), interpolation=cv2.INTER_CUBIC)
    clouds = cv2.resize(clouds, (w, h), interpolation=cv2.INTER_AREA)
    cloud = np.clip(clouds * 0.55 + 0.1, 0, 1)[..., None]
    day = day + cloud * (np.float32([0.97, 0.97, 0.98]) - day)
    dark = dark + 0.5 * cloud * np.float32([0.05, 0.05, 0.06])
    sheet.glow[:] = (1 - n) ** 0.8 * day + (1 - (1 - n) ** 0.8) * dark
    if n > 0.6:
        stars = np.random.default_rng(h)  # not the scene's: houses must be the same by day and night
        for _ in range(120):
            y, x = int(stars.integers(0, max(1, h // 2))), int(stars.integers(0, w))
            sheet.glow[y, x] += (n - 0.6) * stars.uniform(0.2, 1.6)
    sheet.cover[:] = 1
    sheet.solid[:] = 1
    sheet.temp_c[:] = (2.0 - 26.0 * height[..., 0]) + 7.0 * cloud[..., 0]


def add_skyline(scene: Scene, z: float, air_c: float) -> None:
    """Distant hills and house blocks."""
    rng = scene.rng
    reach = z * scene.extent.half_u
    sheet = scene.upright(z, (-reach, reach), (-4, 60))
    x = np.linspace(-reach, reach, 90)
    hill = 9 + 5 * np.sin(x / 37 + rng.uniform(0, 6)) + 2.2 * np.sin(x / 11 + rng.uniform(0, 6))
    ridge = list(zip(x.tolist(), hill.tolist(), strict=True))
    sheet.polygon(
        [(-reach, -4), *ridge, (reach, -4)],
        Paint((0.36, 0.46, 0.40), air_c - 2, 0.10, 0.5, (0.50, 0.58, 0.58), air_c - 4),
    )
    left = -reach
    while left < reach:
        width, tall = rng.uniform(9, 20), rng.uniform(6, 19)
        shade = rng.uniform(0.48, 0.64)
        body = Paint((shade, shade * 0.97, shade * 0.95), air_c + rng.uniform(-1, 2), 0.03, 0.2)
        sheet.rectangle((left, left + width), (-4, tall), body)
        for wx in np.arange(left + 1.2, left + width - 1.2, 2.6):
            for wy in np.arange(2.0, tall - 2, 3.1):
                glow = (0.9, 0.75, 0.4) if rng.random() < 0.25 else None
                sheet.rectangle((wx, wx + 1.2), (wy, wy + 1.5), Paint((0.34, 0.38, 0.44), air_c + 1, glow=glow))
        left += width + rng.uniform(0, 9)


def add_facade(sheet: Sheet, rng: np.random.Generator, x: Point, height: float, wall: Colour, air_c: float) -> None:
    """A house front: plinth, shop floor with signs, rows of windows (some lit at night, one open), cornice."""
    x0, x1 = x
    warm = air_c + rng.uniform(1.0, 3.0)
    top = (wall[0] * 0.93, wall[1] * 0.93, wall[2] * 0.95)
    sheet.rectangle(x, (0, height), Paint(wall, warm, 0.045, 0.25, top, warm - 2.0))
    if wall[0] > wall[2] * 1.5:  # brick
        for y in np.arange(0.2, height, 0.22):
            sheet.rectangle(x, (y, y + 0.03), Paint((0.72, 0.66, 0.60)), 0.33)
    floors = max(1, int((height - 3.6) / 2.9))
    count = max(2, int((x1 - x0) / 1.75))
    pitch = (x1 - x0) / count
    for storey in range(floors):
        y = 3.9 + storey * 2.9
        sheet.rectangle(x, (y - 0.62, y - 0.42), Paint(tuple(c * 0.85 for c in wall), warm + 1.3))  # slab: thermal bridge
        for column in range(count):
            cx = x0 + (column + 0.5) * pitch
            lit = rng.random() < 0.33
            sheet.rectangle((cx - 0.5, cx + 0.5), (y - 0.28, y + 0.02), Paint(wall, warm + rng.uniform(0.5, 3.2)), 0.8)
            sheet.rectangle((cx - 0.58, cx + 0.58), (y - 0.08, y + 1.62), Paint((0.90, 0.89, 0.86), warm + 1.5))
            glass = Paint((0.22, 0.29, 0.36), air_c - 2.5, 0.05, 0.2, (0.46, 0.56, 0.66), air_c - 5.5)
            if lit:
                glow = rng.uniform(0.55, 0.95)
                glass = replace(glass, glow=(glow, glow * 0.80, glow * 0.48))
            sheet.rectangle((cx - 0.48, cx + 0.48), (y + 0.02, y + 1.52), glass)
            if rng.random() < 0.5:  # curtain
                side = 1 if rng.random() < 0.5 else -1
                cloth = Paint((0.84, 0.80, 0.72), None, 0.05, glow=(0.5, 0.4, 0.25) if lit else None)
                inner = cx + side * 0.18
                sheet.rectangle((min(inner, cx + side * 0.48), max(inner, cx + side * 0.48)), (y + 0.02, y + 1.52), cloth)
            sheet.rectangle((cx - 0.03, cx + 0.03), (y, y + 1.54), Paint((0.90, 0.89, 0.86), air_c))
            sheet.rectangle((cx - 0.48, cx + 0.48), (y + 0.98, y + 1.03), Paint((0.90, 0.89, 0.86), air_c))
            sheet.rectangle((cx - 0.66, cx + 0.66), (y - 0.16, y - 0.06), Paint((0.70, 0.69, 0.66), warm - 1))
    sheet.rectangle(x, (height - 0.45, height), Paint(tuple(c * 0.78 for c in wall), air_c - 3))
    sheet.rectangle((x0 - 0.15, x1 + 0.15), (height - 0.12, height + 0.14), Paint((0.33, 0.30, 0.29), air_c - 6))
    sheet.rectangle(x, (0, 0.5), Paint((0.45, 0.43, 0.41), air_c + 0.5, 0.06, 0.2))


def add_shop(sheet: Sheet, rng: np.random.Generator, x: Point, banner: Colour, name: str, air_c: float) -> None:
    """A shop window with a lettered sign (print is visible only) and a door that leaks warmth."""
    x0, x1 = x
    sheet.rectangle(x, (0.45, 2.55), Paint((0.24, 0.22, 0.21), air_c + 1))
    glow = (0.85, 0.78, 0.60)
    door = x1 - 1.15
    pane = Paint((0.34, 0.38, 0.40), air_c + 1.0, 0.06, 0.2, (0.52, 0.58, 0.62), air_c - 2, glow)
    sheet.rectangle((x0 + 0.12, door - 0.12), (0.6, 2.42), pane)
    for k in range(5):  # goods on show
        gx = x0 + 0.3 + k * (door - x0 - 0.8) / 5
        tint = tuple(rng.uniform(0.2, 0.9, 3).tolist())
        lit = (tint[0] * 0.8, tint[1] * 0.75, tint[2] * 0.6)
        sheet.rectangle((gx, gx + 0.35), (0.62, 0.62 + rng.uniform(0.3, 1.0)), Paint(tint, None, 0.1, glow=lit))
    sheet.rectangle((door, x1 - 0.1), (0.05, 2.42), Paint((0.40, 0.30, 0.22), air_c + 4.5, glow=(0.5, 0.42, 0.3)))
    sheet.rectangle((door + 0.15, x1 - 0.25), (0.9, 2.2), Paint((0.45, 0.50, 0.53), air_c + 2, glow=glow))
    sheet.rectangle((x0 - 0.05, x1 + 0.05), (2.6, 3.15), Paint(banner, air_c + 1.5, 0.03))
    put_text(sheet, name, (x0 + 0.25, 2.72), 0.32, (0.97, 0.95, 0.88), x1 - x0 - 0.5)


def put_text(sheet: Sheet, text: str, at: Point, height: float, colour: Colour, fit: float) -> None:
    """Write on a sheet (visible only) with its lower left corner at `at`, at most `fit` metres wide."""
    (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 2.0, 4)
    image = np.zeros((tall + 20, wide + 12), np.uint8)
    cv2.putText(image, text, (6, tall + 8), cv2.FONT_HERSHEY_DUPLEX, 2.0, 255, 4, cv2.LINE_AA)
    width = min(fit, height * image.shape[1] / image.shape[0])
    corner = sheet.project(np.array([[at[0], at[1] + height], [at[0] + width, at[1]]]))
    left, top = np.rint(corner[0]).astype(int)
    right, bottom = np.rint(corner[1]).astype(int)
    if left < 0 or top < 0 or right > sheet.cover.shape[1] or bottom > sheet.cover.shape[0] or right - left < 3:
        return  # not wholly on the sheet, or too small to draw
    if bottom - top < 2:
        return
    mask = cv2.resize(image, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA)
    glow = (colour[0] * 0.5, colour[1] * 0.5, colour[2] * 0.5)
    rise = np.zeros((mask.shape[0], 1), np.float32)
    sheet._blend(mask.astype(np.float32) / 255, (int(top), int(left)), Paint(colour, glow=glow), rise)


def add_tree(scene: Scene, z: float, x: float, height: float, spread: float, air_c: float, dense: float = 1.0) -> None:
    """A tree: trunk, branches, crown of leaf clumps with gaps between them."""
    rng = scene.rng
    sheet = scene.upright(z, (x - spread * 1.25, x + spread * 1.25), (-0.05, height + 0.4))
    bark = Paint((0.33, 0.26, 0.20), air_c + 0.8, 0.12, 0.3)
    fork = height * 0.42
    sheet.limb((x, -0.05), (x + 0.05, fork), (0.34, 0.22), bark)
    tips: list[Point] = []
    for _ in range(9):
        tip = (x + float(rng.uniform(-0.75, 0.75)) * spread, fork + float(rng.uniform(0.15, 0.85)) * (height - fork))
        sheet.limb((x + 0.05, fork - 0.2), tip, (0.15, 0.04), bark)
        tips.append(tip)
    middle = fork + 0.5 * (height - fork)
    for k in range(int(330 * dense)):
        angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1))
        cx = x + spread * radius * np.cos(angle)
        cy = middle + 0.56 * (height - fork) * radius * np.sin(angle)
        shade = 0.62 + 0.38 * k / (330 * dense) + 0.25 * (cy - middle) / (height - fork) + rng.uniform(-0.1, 0.1)
        leaf = Paint((0.27 * shade, 0.43 * shade, 0.17 * shade), air_c - 1.2 + rng.uniform(-0.5, 0.4), 0.22, 0.25)
        blob(sheet, rng, (cx, cy), spread * rng.uniform(0.07, 0.15), leaf)


def add_bush(scene: Scene, z: float, x: Point, height: float, air_c: float, leaves: int = 260) -> None:
    """A bush with gaps through which warmth behind it shows."""
    rng = scene.rng
    sheet = scene.upright(z, (x[0] - 0.3, x[1] + 0.3), (-0.1, height + 0.3))
    for k in range(leaves):
        cx = rng.uniform(*x)
        arch = np.sqrt(max(0.05, 1 - ((cx - 0.5 * (x[0] + x[1])) / (0.55 * (x[1] - x[0]))) ** 2))
        cy = rng.uniform(0, 1) ** 0.8 * height * arch
        shade = 0.55 + 0.35 * k / leaves + 0.35 * cy / height + rng.uniform(-0.12, 0.12)
        leaf = Paint((0.24 * shade, 0.40 * shade, 0.18 * shade), air_c - 0.8 + rng.uniform(-0.5, 0.5), 0.22, 0.25)
        blob(sheet, rng, (cx, cy), rng.uniform(0.05, 0.11), leaf)


def blob(sheet: Sheet, rng: np.random.Generator, centre: Point, radius: float, paint: Paint) -> None:
    """An irregular clump."""
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    reach = radius * rng.uniform(0.55, 1.25, 9)
    sheet.polygon(np.stack([centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle)], axis=1), paint)


def add_lamp_post(scene: Scene, z: float, x: float, height: float, air_c: float, power: float = 13.0) -> None:
    """A lamp post whose light falls on everything near it at night."""
    sheet = scene.upright(z, (x - 1.4, x + 1.4), (-0.05, height + 0.6))
    iron = Paint((0.28, 0.30, 0.31), air_c - 0.5, 0.03)
    sheet.limb((x, 0), (x, height), (0.15, 0.09), iron)
    sheet.limb((x, height), (x + 0.75, height + 0.18), (0.08, 0.06), iron)
    sheet.limb((x, 0), (x, 0.9), (0.22, 0.2), iron)
    head = Paint((0.78, 0.78, 0.72), air_c + (14 if scene.night > 0.3 else 0), glow=(1.0, 0.93, 0.74))
    sheet.limb((x + 0.55, height + 0.14), (x + 1.1, height + 0.18), (0.14, 0.2), head)
    scene.lamps = (*scene.lamps, Lamp(x + 0.8, height, z - 0.3, (1.0, 0.80, 0.50), power))


def add_sign(scene: Scene, z: float, x: float, colour: Colour, text: str, air_c: float) -> None:
    """A sign on a post: one temperature, so only the visible camera can read it."""
    sheet = scene.upright(z, (x - 0.6, x + 0.6), (0, 2.9))
    sheet.limb((x, 0), (x, 2.7), (0.07, 0.07), Paint((0.55, 0.56, 0.57), air_c - 0.5))
    sheet.ellipse((x, 2.35), (0.42, 0.42), Paint((0.94, 0.94, 0.93), air_c - 1))
    sheet.ellipse((x, 2.35), (0.37, 0.37), Paint(colour, air_c - 1))
    put_text(sheet, text, (x - 0.27, 2.2), 0.32, (0.97, 0.97, 0.97), 0.54)


def scene_extent(half_u: float, half_v: float, density: float) -> Extent:
    """Check and make an extent. Raises BadInputError beyond what the flat scene can show."""
    if not 0 < half_u <= 2.5 or not 0 < half_v <= 2.5:
        raise BadInputError(
            f"the simulated scene would have to reach {half_u:.2f} x {half_v:.2f} (tangents of the half field of view), "
            "at most 2.5 is possible; use narrower hfov_visible_deg and hfov_thermal_deg or less pan"
        )
    return Extent(half_u, half_v, density)
