"""What the simulated cameras make of the scene: pre-composed pictures, moving figures on top, sensor noise.

A `View` is one camera's picture of the scene. All that stands still is composed once, on a canvas a little larger
than the picture so that panning is a shift; a frame then costs one crop and one small warp for each moving figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion_core.simulation.figures import Figures, Matrix, reduced
from fusion_core.simulation.scene import CAMERA_HEIGHT_M, Float, Scene, Sheet, illumination

__all__ = ["NoiseBank", "Projection", "View", "mix"]

Projection = Callable[[tuple[float, float, float]], Matrix]  # plane (1/Z = a + bu + cv) -> 3x3 pixel from (u, v, 1)

Pixels = NDArray[np.integer | np.floating]
Drawn = tuple[int, float, tuple[slice, slice], Float, Float | None, Float]


def mix(*numbers: int) -> int:
    """A 64-bit hash of integers (splitmix64), which depends on them alone."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def _box(px_from_image: Matrix, shape: tuple[int, ...], limits: tuple[int, int]) -> tuple[slice, slice] | None:
    h, w = shape[:2]
    corners = px_from_image @ np.array([[-1, w, w, -1], [-1, -1, h, h], [1, 1, 1, 1]], np.float64)
    left, top = np.floor(corners[:2].min(axis=1)).astype(int)
    right, bottom = np.ceil(corners[:2].max(axis=1)).astype(int) + 1
    left, top = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(right), limits[1]), min(int(bottom), limits[0])
    if left >= right or top >= bottom:
        return None
    return slice(top, bottom), slice(left, right)


def _warp(image: Float, px_from_image: Matrix, box: tuple[slice, slice]) -> Float:
    """Draw an image into a box of the picture; 0 outside the image."""
    m = px_from_image[:2].copy()
    m[:, 2] -= box[1].start, box[0].start
    size = box[1].stop - box[1].start, box[0].stop - box[0].start
    return np.asarray(cv2.warpAffine(image, m, size, flags=cv2.INTER_LINEAR), np.float32)


def _shifted(canvas: Pixels, box: tuple[slice, slice], offset: tuple[float, float], flags: int) -> Pixels:
    """The part of the canvas under a box of the picture; offset: canvas position of the picture's origin."""
    ox, oy = offset
    size = box[1].stop - box[1].start, box[0].stop - box[0].start
    if float(ox).is_integer() and float(oy).is_integer():
        rows = slice(box[0].start + int(oy), box[0].stop + int(oy))
        return canvas[rows, box[1].start + int(ox) : box[1].stop + int(ox)]
    m = np.array([[1, 0, ox + box[1].start], [0, 1, oy + box[0].start]])
    out: Pixels = cv2.warpAffine(canvas, m, size, flags=flags | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
    return out


class View:
    """One camera's picture of the scene. Reading from several threads is safe.

    Args:
        figures: all who move, at the size that this camera sees.
        shape: (height, width) of the picture.
        projection: pixel from tangent coordinates for a plane; see Projection.
        max_pan: largest |pan| in units of tangent.
        thermal: whether it is a thermal camera; only that one can give inverse depth, which needs solid bodies.
    """

    def __init__(
        self,
        scene: Scene,
        figures: Figures,
        shape: tuple[int, int],
        projection: Projection,
        max_pan: float,
        *,
        thermal: bool,
    ) -> None:
        self._scene, self.figures, self._thermal = scene, figures, thermal
        self._actors = figures.actors
        figures.will_be_seen(thermal)
        self.shape, self._projection = shape, projection
        self.px_per_tangent = projection((0.0, 0.0, 0.0))[:2, 0]
        self._margin = np.ceil(np.abs(self.px_per_tangent) * max_pan).astype(int) + (3 if max_pan else 0)
        self.canvas_shape = shape[0] + 2 * int(self._margin[1]), shape[1] + 2 * int(self._margin[0])
        self._halos: dict[int, tuple[Float, Float, Matrix]] = {}
        self.sheets = sorted(scene.sheets, key=lambda sheet: -sheet.sort_depth_m)
        self._covers = self._compose_covers()

    def canvas_from_sheet(self, sheet: Sheet) -> Matrix:
        """3x3: canvas pixel from the sheet's pixel."""
        matrix = self._projection(sheet.inverse_depth) @ sheet.uv_from_px
        matrix[:2, 2] += self._margin
        return np.asarray(matrix, np.float64)

    def _compose_covers(self) -> dict[float, NDArray[np.uint8]]:
        """For each depth where somebody moves: how far static things in front cover it (0..255)."""
        depths = sorted({actor.z_m for actor in self._actors})
        clear = {z: np.ones(self.canvas_shape, np.float32) for z in depths}
        for sheet in self.sheets:
            behind = [z for z in depths if z > sheet.sort_depth_m]
            if not behind:
                continue
            solid, matrix = reduced(sheet.solid, self.canvas_from_sheet(sheet))
            box = _box(matrix, solid.shape, self.canvas_shape)
            if box is not None:
                alpha = _warp(solid, matrix, box)
                for z in behind:
                    clear[z][box] *= 1 - alpha
        return {z: np.rint(255 * (1 - part)).astype(np.uint8) for z, part in clear.items()}

    def _over(self, canvas: Float, sheet: Sheet, layer: Float) -> None:
        """Lay a premultiplied layer (last channel: opacity) over the canvas."""
        image, matrix = reduced(layer, self.canvas_from_sheet(sheet))
        box = _box(matrix, image.shape, self.canvas_shape)
        if box is None:
            return
        drawn = _warp(image, matrix, box)
        channels = canvas.shape[2]
        clear = 1 - drawn[..., channels]
        for channel in range(channels):
            part = canvas[(*box, channel)]
            part *= clear
            part += drawn[..., channel]

    def compose_visible(self) -> NDArray[np.uint8]:
        """Canvas of all static things in visible light, (h, w, 3) uint8."""
        night, lamps = self._scene.night, self._scene.lamps
        canvas = np.zeros((*self.canvas_shape, 3), np.float32)
        for sheet in self.sheets:
            layer = np.empty((*sheet.cover.shape, 4), np.float32)
            lit = sheet.lit_colour(lamps, night)
            for channel in range(3):
                np.multiply(lit[..., channel], sheet.cover, out=layer[..., channel])
            layer[..., 3] = sheet.cover
            self._over(canvas, sheet, layer)
        if night > 0:  # lens bloom around lamps and lit windows
            reach = max(1.0, 0.012 * float(np.linalg.norm(self.px_per_tangent)))
            bright = np.clip(canvas - 0.62, 0, 1)
            canvas += night * 0.9 * cv2.GaussianBlur(bright, (0, 0), reach)
            canvas += night * 0.5 * cv2.GaussianBlur(bright, (0, 0), 4 * reach)
        return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)

    def compose_thermal(self) -> Float:
        """Canvas of all static things in apparent temperature, (h, w) float32 degrees Celsius."""
        canvas = np.zeros((*self.canvas_shape, 1), np.float32)
        for sheet in self.sheets:
            self._over(canvas, sheet, np.stack([sheet.temp_c * sheet.solid, sheet.solid], axis=2))
        return canvas[..., 0]

    def compose_inverse_depth(self) -> Float:
        """Canvas of 1/Z of the nearest static thing, (h, w) float32 per metre."""
        canvas = np.zeros(self.canvas_shape, np.float32)
        rows, columns = np.indices(self.canvas_shape, np.float32)
        for sheet in self.sheets:
            solid, matrix = reduced(sheet.solid, self.canvas_from_sheet(sheet))
            box = _box(matrix, solid.shape, self.canvas_shape)
            if box is None:
                continue
            there = _warp(solid, matrix, box) > 0.5
            a, b, c = sheet.inverse_depth
            back = np.linalg.inv(self._projection(sheet.inverse_depth))
            x, y = columns[box] - self._margin[0], rows[box] - self._margin[1]
            u = back[0, 0] * x + back[0, 1] * y + back[0, 2]
            v = back[1, 0] * x + back[1, 1] * y + back[1, 2]
            canvas[box][there] = (a + b * u + c * v)[there]
        return canvas

    def crop(self, canvas: Pixels, pan: float, nearest: bool = False) -> Pixels:
        """The picture's part of a canvas at a pan (tangent units by which the scene has slid to the right)."""
        whole = slice(0, self.shape[0]), slice(0, self.shape[1])
        flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        return _shifted(canvas, whole, self._offset(pan), flags).copy()

    def _offset(self, pan: float) -> tuple[float, float]:
        shift = self._margin - self.px_per_tangent * pan
        return float(shift[0]), float(shift[1])

    def _px_from_metres(self, z: float, x: float, pan: float) -> Matrix:
        to_uv = np.array([[1 / z, 0, x / z], [0, -1 / z, CAMERA_HEIGHT_M / z], [0, 0, 1]])
        matrix = self._projection((1 / z, 0.0, 0.0)) @ to_uv
        matrix[:2, 2] += self.px_per_tangent * pan
        return np.asarray(matrix, np.float64)

    def _draw(self, t_s: float, pan: float) -> Iterator[Drawn]:
        """Yield (actor's number, foot x, box, layer, glow, clear share) of each figure in the picture, far to near."""
        for number, actor in enumerate(self._actors):
            x, phase = actor.at(t_s)
            if not self.figures.may_be_seen(number, x):
                continue
            layer, glow, metres = self.figures.get(number, phase, self._thermal)
            matrix = self._px_from_metres(actor.z_m, x, pan) @ metres
            box = _box(matrix, layer.shape, self.shape)
            if box is None:
                continue
            covered = _shifted(self._covers[actor.z_m], box, self._offset(pan), cv2.INTER_LINEAR)
            clear = (255 - covered)[..., None] * np.float32(1 / 255)
            yield number, x, box, _warp(layer, matrix, box), None if glow is None else _warp(glow, matrix, box), clear

    def draw_visible(self, picture: NDArray[np.uint8], t_s: float, pan: float) -> None:
        """Draw everybody who moves over the picture, in place."""
        night, lamps = self._scene.night, self._scene.lamps
        for number, x, box, layer, glow, clear in self._draw(t_s, pan):
            actor = self._actors[number]
            spot = np.array([x, 1.1, actor.z_m - 0.4], np.float32)
            light = illumination(spot[0:1], spot[1:2], spot[2:3], lamps, night)[0]
            if actor.beam and night > 0:
                self._shine(picture, number, x, pan, before=True)
            part = picture[box].astype(np.float32)
            lit = layer[..., :3] * light
            if glow is not None:
                lit += glow
            part += clear * (lit - layer[..., 3:] * part)
            picture[box] = np.clip(part + 0.5, 0, 255).astype(np.uint8)
            if actor.beam and night > 0:
                self._shine(picture, number, x, pan, before=False)

    def _shine(self, picture: NDArray[np.uint8], number: int, x: float, pan: float, before: bool) -> None:
        """Headlights: the lit patch of road (before the vehicle is drawn), the halo about the lamp (after)."""
        actor = self._actors[number]
        z = actor.z_m
        if number not in self._halos:
            self._halos[number] = _headlights(float(np.linalg.norm(self.px_per_tangent)) / z, actor.facing)
        beam, halo, metres = self._halos[number]
        light = beam if before else halo
        matrix = self._px_from_metres(z, x, pan) @ metres
        box = _box(matrix, light.shape, self.shape)
        if box is None:
            return
        covered = _shifted(self._covers[z], box, self._offset(pan), cv2.INTER_LINEAR)
        drawn = _warp(light, matrix, box) * ((255 - covered) * np.float32(self._scene.night / 255))
        part = picture[box].astype(np.float32)
        tint = np.array([1.0, 0.95, 0.82], np.float32)
        if before:
            part += drawn[..., None] * (np.float32(1.9) * part + np.float32(26) * tint)
        else:
            part += drawn[..., None] * (np.float32(235) * tint)
        picture[box] = np.clip(part + 0.5, 0, 255).astype(np.uint8)

    def draw_thermal(self, picture: Float, t_s: float, pan: float) -> None:
        """Draw everybody who moves over a temperature picture, in place."""
        for _, _, box, layer, _, clear in self._draw(t_s, pan):
            part = picture[box]
            part += clear[..., 0] * (layer[..., 0] - layer[..., 1] * part)

    def draw_inverse_depth(self, picture: Float, t_s: float, pan: float) -> None:
        """Draw everybody who moves over a picture of 1/Z, in place. The view must be a thermal one (solid bodies)."""
        for number, _, box, layer, _, clear in self._draw(t_s, pan):
            picture[box][layer[..., 1] * clear[..., 0] > 0.5] = 1 / self._actors[number].z_m


def _headlights(density: float, facing: float) -> tuple[Float, Float, Matrix]:
    """Light on the road, halo about the lamp, and metres about the vehicle's foot point from their pixels."""
    x = np.arange(0.5, 10.5 * density, dtype=np.float32) / np.float32(density) + np.float32(1.2)
    y = np.float32(1.2) - np.arange(0.5, 2.0 * density, dtype=np.float32) / np.float32(density)
    gx, gy = np.meshgrid(x, y)
    widen = 0.07 + 0.035 * np.clip(gx - 2, 0, 9)
    along = np.exp(-(((gx - 4.2) / 2.9) ** 2)) * np.clip((gx - 2.0) * 2, 0, 1)
    beam = along * np.exp(-(((gy + 0.02) / widen) ** 2))
    squared = (gx - 2.09) ** 2 + (gy - 0.7) ** 2
    halo = np.exp(-squared / 0.05) + 0.35 * np.exp(-squared / 0.4)
    metres = np.array([[facing / density, 0, facing * float(x[0])], [0, -1 / density, float(y[0])], [0, 0, 1]])
    return np.asarray(beam, np.float32), np.asarray(halo, np.float32), metres


class NoiseBank:
    """Pre-computed noise: a frame takes a random window of a random plate, so noise costs one addition."""

    PLATES, SLACK = 4, 64

    def __init__(self, plates: Pixels, shape: tuple[int, int]) -> None:
        self._plates, self._shape = plates, shape

    @classmethod
    def visible(cls, rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NoiseBank:
        """Photon and read noise, mostly in brightness, some in colour. int16 levels."""
        h, w = shape[0] + cls.SLACK, shape[1] + cls.SLACK
        plates = np.empty((cls.PLATES, h, w, 3), np.int16)
        for plate in plates:
            grey = rng.standard_normal((h, w), np.float32) * 0.8
            noise = rng.standard_normal((h, w, 3), np.float32)
            for channel in range(3):
                plate[..., channel] = np.rint(sigma * (grey + 0.6 * noise[..., channel]))
        return cls(plates, shape)

    @classmethod
    def thermal(cls, rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NoiseBank:
        """Pixel noise and a little row noise. float32 counts."""
        h, w = shape[0] + cls.SLACK, shape[1] + cls.SLACK
        plates = rng.standard_normal((cls.PLATES, h, w), np.float32)
        plates += 0.2 * rng.standard_normal((cls.PLATES, h, 1), np.float32)
        return cls(plates * np.float32(sigma), shape)

    def window(self, key: int) -> Pixels:
        """A window (shape) of noise chosen by the key, a view that must not be written to."""
        plate = self._plates[key % self.PLATES]
        top, left = (key >> 8) % self.SLACK, (key >> 24) % self.SLACK
        window: Pixels = plate[top : top + self._shape[0], left : left + self._shape[1]]
        return window
