"""The pictures of all who move in the simulated scene: each phase is painted once, at the size a camera sees it.

Cameras that see everybody at the same size share one `Figures`, and one painting serves both.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion_core.simulation.actors import Actor
from fusion_core.simulation.scene import Float, Sheet

__all__ = ["Figure", "Figures", "Matrix", "reduced"]

Matrix = NDArray[np.float64]

_SPARE_M = 0.5  # added to an actor's reach for interpolation at the edge of its picture


class Figure(NamedTuple):
    """A painted phase. layer: premultiplied, last channel opacity. metres: 3x3, metres about the foot from pixels."""

    layer: Float
    glow: Float | None
    metres: Matrix


def reduced(image: Float, px_from_image: Matrix) -> tuple[Float, Matrix]:
    """Shrink an image about to be drawn smaller than it is, so that bilinear sampling does not alias."""
    scale = float(np.sqrt(abs(np.linalg.det(px_from_image[:2, :2]))))
    if scale > 0.85:
        return image, px_from_image
    h, w = image.shape[:2]
    size = max(1, round(w * scale)), max(1, round(h * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    sx, sy = w / size[0], h / size[1]
    grow = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
    return np.asarray(small, np.float32), px_from_image @ grow


class Figures:
    """Paints everybody who moves, at one size, at first sight or before. Any thread may use it.

    Args:
        tile: noise for the grain of what is painted.
        night: 0 day, 1 night; what glows is kept apart from what is lit.
        actors: all of them, far to near.
        half_u: whoever is beyond this tangent coordinate is not seen.
        px_per_tangent: the size; at depth z_m a metre has px_per_tangent / z_m pixels.
    """

    def __init__(self, tile: Float, night: float, actors: list[Actor], half_u: float, px_per_tangent: float) -> None:
        self.actors, self.px_per_tangent = actors, px_per_tangent
        self._tile, self._night, self._half_u = tile, night, half_u
        self._seen_by: set[bool] = set()  # True: a thermal camera, False: a visible one
        self._painted: dict[tuple[int, int, bool], Figure] = {}
        self._locks = {(n, phase): threading.Lock() for n, actor in enumerate(actors) for phase in range(actor.phases)}

    def will_be_seen(self, thermal: bool) -> None:
        """Let every painting from now on serve a camera of this kind too."""
        self._seen_by.add(thermal)

    def px_per_m(self, number: int) -> float:
        """Size of an actor."""
        return self.px_per_tangent / self.actors[number].z_m

    def may_be_seen(self, number: int, x_m: float) -> bool:
        """Whether an actor at this place may reach into a picture; False is certain."""
        actor = self.actors[number]
        return abs(x_m) <= self._half_u * actor.z_m + actor.reach_m + _SPARE_M

    def at(self, t_s: float) -> list[tuple[int, int]]:
        """(number, phase) of all who can be seen at this time."""
        there = []
        for number, actor in enumerate(self.actors):
            x, phase = actor.at(t_s)
            if self.may_be_seen(number, x):
                there.append((number, phase))
        return there

    def every_phase(self) -> list[tuple[int, int]]:
        """Every (number, phase) that there is."""
        moving = ((n, a.phases if a.speed_m_s or a.pause_s else 1) for n, a in enumerate(self.actors))
        return [(number, phase) for number, phases in moving for phase in range(phases)]

    def get(self, number: int, phase: int, thermal: bool) -> Figure:
        """One phase of one actor, as a thermal or a visible camera sees it; painted now unless it was before."""
        key = number, phase, thermal
        found = self._painted.get(key)
        if found is None:
            with self._locks[number, phase]:
                if key not in self._painted:
                    self._paint(number, phase, {thermal} | self._seen_by)
            found = self._painted[key]
        return found

    def paint(self, number: int, phase: int) -> None:
        """Paint a phase for every kind of camera that is known."""
        for thermal in tuple(self._seen_by):
            self.get(number, phase, thermal)

    def _paint(self, number: int, phase: int, kinds: set[bool]) -> None:
        actor = self.actors[number]
        px_per_m = self.px_per_m(number)
        sheet = actor.draw(self._tile, 1.7 * px_per_m, phase / actor.phases, actor.facing)
        scale = np.diag([px_per_m, px_per_m, 1.0])
        for thermal in kinds:
            if (number, phase, thermal) in self._painted:
                continue
            layer, glow = _thermal_layer(sheet) if thermal else self._visible_layer(sheet)
            small, matrix = reduced(layer, scale @ sheet.uv_from_px)
            if glow is not None:
                glow, _ = reduced(glow, scale @ sheet.uv_from_px)
            self._painted[number, phase, thermal] = Figure(small, glow, np.linalg.inv(scale) @ matrix)

    def _visible_layer(self, sheet: Sheet) -> tuple[Float, Float | None]:
        layer = np.empty((*sheet.cover.shape, 4), np.float32)
        scaled = np.float32(255)
        for channel in range(3):
            layer[..., channel] = sheet.colour[..., channel] * sheet.cover * scaled
        layer[..., 3] = sheet.cover * scaled / scaled
        if not (self._night > 0 and sheet.glow.any()):
            return layer, None
        return layer, np.asarray(sheet.glow * sheet.cover[..., None] * np.float32(255 * self._night), np.float32)


def _thermal_layer(sheet: Sheet) -> tuple[Float, None]:
    layer = np.empty((*sheet.solid.shape, 2), np.float32)
    layer[..., 0] = sheet.temp_c * sheet.solid
    layer[..., 1] = sheet.solid
    return layer, None
