"""Who moves in the simulated scene: walking people, a dog, cars and a van, drawn in both pictures.

Everybody crosses the picture at one depth. A figure is drawn once per phase of its gait or wheels, about its
own foot point, facing right; see `scene.Sheet.figure`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusion_core.simulation.scene import Colour, Float, Paint, Point, Sheet, shade

__all__ = ["Actor", "Draw", "Outfit", "draw_car", "draw_dog", "draw_person", "draw_van", "outfits"]

Draw = Callable[[Float, float, float, float], Sheet]  # (noise tile, px per metre, phase 0..1, facing +1/-1) -> figure


@dataclass(frozen=True)
class Actor:
    """Somebody or something that moves along X at depth z_m and comes round again.

    speed_m_s: signed; 0 stands. cycle_m: way per cycle of gait or wheel; pause_s: cycle length of somebody who stands.
    beam: has headlights that light the ground at night. phases: drawn pictures per cycle. reach_m: how far the drawn
    sheet extends to either side of the foot point.
    """

    draw: Draw
    z_m: float
    start_m: float
    speed_m_s: float
    span_m: float
    cycle_m: float = 1.45
    phases: int = 24
    pause_s: float = 0.0
    beam: bool = False
    reach_m: float = 0.75

    def at(self, t_s: float) -> tuple[float, int]:
        """Foot point X in metres, and which phase to draw."""
        way = self.speed_m_s * t_s
        x = (self.start_m + way + self.span_m / 2) % self.span_m - self.span_m / 2 if self.speed_m_s else self.start_m
        cycles = abs(way) / self.cycle_m if self.speed_m_s else (t_s / self.pause_s if self.pause_s else 0.0)
        return x, int(cycles * self.phases) % self.phases

    @property
    def facing(self) -> float:
        """+1 to the right, -1 to the left."""
        return -1.0 if self.speed_m_s < 0 else 1.0


@dataclass(frozen=True)
class Outfit:
    """Clothes: jacket, trousers, hair and skin colour; jacket_c: how warm the jacket looks; extras."""

    jacket: Colour
    trousers: Colour
    hair: Colour = (0.18, 0.13, 0.10)
    skin: Colour = (0.82, 0.62, 0.50)
    jacket_c: float = 24.0
    backpack: bool = False
    hat: bool = False
    tall: float = 1.0


def outfits(rng: np.random.Generator) -> list[Outfit]:
    """A shuffled wardrobe."""
    choice = [
        Outfit((0.68, 0.16, 0.14), (0.20, 0.22, 0.30), jacket_c=23.5, backpack=True),
        Outfit((0.88, 0.76, 0.24), (0.28, 0.24, 0.22), (0.45, 0.32, 0.18), jacket_c=22.0, tall=0.95),
        Outfit((0.16, 0.30, 0.50), (0.50, 0.46, 0.40), (0.10, 0.08, 0.07), (0.55, 0.38, 0.28), 25.0),
        Outfit((0.85, 0.85, 0.83), (0.24, 0.32, 0.46), (0.62, 0.48, 0.28), jacket_c=27.0, tall=0.97),
        Outfit((0.20, 0.36, 0.26), (0.16, 0.15, 0.15), jacket_c=21.5, hat=True, tall=1.04),
        Outfit((0.42, 0.26, 0.42), (0.30, 0.30, 0.34), (0.30, 0.22, 0.18), (0.70, 0.50, 0.38), 24.5, backpack=True),
    ]
    return [choice[k] for k in rng.permutation(len(choice))]


def draw_person(outfit: Outfit, air_c: float, lean: float = 0.0) -> Draw:
    """A walking person in profile; with `lean` one who stands and shifts the weight a little instead."""

    def draw(tile: Float, density: float, phase: float, facing: float) -> Sheet:
        sheet = Sheet.figure(tile, (-0.75, 0.75), (-0.14, 2.05), density)
        _Person(sheet, outfit, air_c, phase, facing, walks=not lean).paint()
        return sheet

    return draw


class _Person:
    """Paints one phase of a person onto a sheet; metres about the foot point, before facing and height."""

    def __init__(self, sheet: Sheet, outfit: Outfit, air_c: float, phase: float, facing: float, *, walks: bool) -> None:
        swing = 2 * np.pi * phase
        self._amount = 1.0 if walks else 0.0
        self._sheet, self._outfit, self._air_c, self._facing = sheet, outfit, air_c, facing
        self._bob = 0.025 * np.cos(2 * swing) * self._amount
        self._shift = 0.02 * np.sin(swing) * (1 - self._amount)
        self._sin, self._cos = float(np.sin(swing)) * self._amount, float(np.cos(swing)) * self._amount
        self._jacket_dark, self._trousers_dark = shade(outfit.jacket, 0.72), shade(outfit.trousers, 0.72)

    def paint(self) -> None:
        """From the far arm to the near one."""
        s, c, amount = self._sin, self._cos, self._amount
        self._sheet.ellipse((0, -0.015), (0.42, 0.055), Paint((0.02, 0.02, 0.02)), 0.45)  # contact shadow
        self._arm(0.55 * s - 0.05, 0.25 + 0.2 * max(s, 0), self._jacket_dark)
        self._leg(-0.48 * s + 0.06 * (1 - amount), 0.12 + 0.75 * max(0.0, -c), self._trousers_dark)
        self._leg(0.48 * s - 0.06 * (1 - amount), 0.12 + 0.75 * max(0.0, c) * amount, self._outfit.trousers)
        self._torso()
        self._head()
        self._arm(-0.55 * s + 0.05, 0.25 + 0.2 * max(-s, 0), self._outfit.jacket)

    def _place(self, x: float, y: float) -> Point:
        return self._facing * (x + self._shift * y), y * self._outfit.tall

    def _limb(self, start: Point, end: Point, widths: tuple[float, float], paint: Paint) -> None:
        self._sheet.limb(self._place(*start), self._place(*end), widths, paint)

    def _leg(self, angle: float, knee: float, colour: Colour) -> None:
        hip = (0.0, 0.93 + self._bob)
        kx, ky = hip[0] + 0.44 * np.sin(angle), hip[1] - 0.44 * np.cos(angle)
        fx, fy = kx + 0.42 * np.sin(angle - knee), ky - 0.42 * np.cos(angle - knee)
        fy = max(fy, 0.06)
        self._limb(hip, (kx, ky), (0.19, 0.14), Paint(colour, self._air_c + 9.0, 0.05, 0.4))
        self._limb((kx, ky), (fx, fy), (0.14, 0.095), Paint(colour, self._air_c + 6.5, 0.05, 0.4))
        toe = 0.17 * np.cos(angle - knee)
        shoe = Paint((0.13, 0.11, 0.10), self._air_c + 3)
        self._limb((fx - 0.04, fy - 0.02), (fx + toe, fy - 0.03), (0.10, 0.07), shoe)

    def _arm(self, angle: float, bend: float, colour: Colour) -> None:
        shoulder = (0.03, 1.43 + self._bob)
        sleeve_c = self._outfit.jacket_c
        ex, ey = shoulder[0] + 0.29 * np.sin(angle), shoulder[1] - 0.04 - 0.29 * np.cos(angle)
        hx, hy = ex + 0.25 * np.sin(angle + bend), ey - 0.25 * np.cos(angle + bend)
        self._limb((shoulder[0], shoulder[1] - 0.04), (ex, ey), (0.135, 0.11), Paint(colour, sleeve_c - 1))
        self._limb((ex, ey), (hx, hy), (0.11, 0.08), Paint(colour, sleeve_c - 1.5))
        self._sheet.ellipse(self._place(hx + 0.015, hy - 0.03), (0.048, 0.06), Paint(self._outfit.skin, 31.0))

    def _torso(self) -> None:
        outfit, bob = self._outfit, self._bob
        self._limb((0.02, 1.36 + bob), (0.055, 1.56 + bob), (0.13, 0.12), Paint(outfit.skin, 33.5))  # neck
        torso = [
            (-0.13, 0.86), (0.12, 0.86), (0.155, 1.15), (0.15, 1.36),
            (0.07, 1.49), (-0.08, 1.48), (-0.155, 1.33), (-0.14, 1.1),
        ]  # fmt: skip
        warm = Paint(outfit.jacket, outfit.jacket_c - 1.5, 0.05, 0.5, temp_to=outfit.jacket_c + 1.5)
        self._sheet.polygon([self._place(x, y + bob) for x, y in torso], warm)
        self._limb((-0.05, 1.0 + bob), (-0.06, 1.3 + bob), (0.03, 0.05), Paint(self._jacket_dark))
        if outfit.backpack:
            pack = [(-0.13, 1.0), (-0.30, 1.02), (-0.33, 1.3), (-0.25, 1.44), (-0.12, 1.42)]
            leather = Paint((0.15, 0.17, 0.20), self._air_c + 2.5, 0.05)
            self._sheet.polygon([self._place(x, y + bob) for x, y in pack], leather)

    def _head(self) -> None:
        outfit, head = self._outfit, (0.065, 1.655 + self._bob)
        self._sheet.ellipse(self._place(head[0] - 0.012, head[1] + 0.012), (0.108, 0.128), Paint(outfit.hair, 28.0))
        face = [(0.0, -0.1), (0.07, -0.125), (0.105, -0.06), (0.128, -0.015), (0.105, 0.045), (0.035, 0.06), (0.0, 0.0)]
        self._sheet.polygon([self._place(head[0] + x, head[1] + y) for x, y in face], Paint(outfit.skin, 34.5))
        if outfit.hat:
            hat = [(-0.14, 0.04), (0.19, 0.03), (0.1, 0.07), (0.07, 0.16), (-0.08, 0.16)]
            felt = Paint((0.22, 0.20, 0.18), self._air_c + 8)
            self._sheet.polygon([self._place(head[0] + x, head[1] + y) for x, y in hat], felt)


def draw_dog(colour: Colour, air_c: float) -> Draw:
    """A trotting dog."""

    def draw(tile: Float, density: float, phase: float, facing: float) -> Sheet:
        sheet = Sheet.figure(tile, (-0.6, 0.65), (-0.08, 0.9), density)
        swing = 2 * np.pi * phase
        fur = Paint(colour, air_c + 10, 0.15, 0.6)
        dark = Paint(shade(colour, 0.7), air_c + 8, 0.15, 0.5)
        sheet.ellipse((0, -0.005), (0.45, 0.04), Paint((0.02, 0.02, 0.02)), 0.4)
        for x, offset, paint in [(-0.24, 0.5, dark), (0.2, 0.0, dark), (-0.28, 0.0, fur), (0.24, 0.5, fur)]:
            angle = 0.5 * np.sin(swing + 2 * np.pi * offset)
            foot = (facing * (x + 0.36 * np.sin(angle)), 0.42 - 0.38 * np.cos(angle))
            sheet.limb((facing * x, 0.42), foot, (0.10, 0.05), paint)
        bob = 0.012 * np.cos(2 * swing)
        sheet.limb((-facing * 0.28, 0.46 + bob), (facing * 0.24, 0.48 + bob), (0.22, 0.26), fur)
        sheet.limb((-facing * 0.34, 0.52), (-facing * 0.54, 0.68 + 0.03 * np.sin(2 * swing)), (0.06, 0.03), fur)
        sheet.limb((facing * 0.28, 0.54 + bob), (facing * 0.4, 0.68 + bob), (0.16, 0.13), fur)
        sheet.ellipse((facing * 0.43, 0.71 + bob), (0.10, 0.085), Paint(colour, air_c + 14, 0.1))
        sheet.limb((facing * 0.46, 0.69 + bob), (facing * 0.57, 0.66 + bob), (0.09, 0.06), Paint(colour, 31.0))
        sheet.limb((facing * 0.38, 0.77 + bob), (facing * 0.34, 0.66 + bob), (0.06, 0.04), dark)
        return sheet

    return draw


def _wheel(sheet: Sheet, centre: Point, radius: float, phase: float, air_c: float, warm: float) -> None:
    sheet.ellipse(centre, (radius, radius), Paint((0.09, 0.09, 0.10), air_c + 0.55 * warm))
    sheet.ellipse(centre, (radius * 0.66, radius * 0.66), Paint((0.62, 0.63, 0.65), air_c + warm))
    for spoke in range(5):
        angle = 2 * np.pi * (spoke + phase) / 5
        tip = (centre[0] + 0.6 * radius * np.cos(angle), centre[1] + 0.6 * radius * np.sin(angle))
        sheet.limb(centre, tip, (0.06, 0.09), Paint((0.20, 0.20, 0.22), air_c + 1.3 * warm))
    sheet.ellipse(centre, (radius * 0.17, radius * 0.17), Paint((0.70, 0.70, 0.72), air_c + 1.4 * warm))


def draw_car(colour: Colour, air_c: float, warm: float = 1.0) -> Draw:
    """A car in profile. warm: 1 after a long drive (hot hood, brakes, exhaust), 0 cold since yesterday."""

    def draw(tile: Float, density: float, phase: float, facing: float) -> Sheet:
        sheet = Sheet.figure(tile, (-2.7, 2.7), (-0.3, 1.65), density)

        def flip(points: list[Point]) -> list[Point]:
            return [(facing * x, y) for x, y in points]

        def rect(x0: float, x1: float, y0: float, y1: float, paint: Paint) -> None:
            sheet.polygon(flip([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), paint)

        sheet.ellipse((0, 0.03), (2.25, 0.16), Paint((0.02, 0.02, 0.02)), 0.75)
        rect(-2.0, 2.0, 0.18, 0.5, Paint((0.05, 0.05, 0.06), air_c + 9 * warm))
        body = [
            (-2.12, 0.32), (-2.18, 0.62), (-2.12, 0.90), (-1.72, 0.98), (-1.15, 1.40), (-0.55, 1.48), (0.15, 1.46),
            (0.92, 1.0), (1.65, 0.90), (2.05, 0.76), (2.16, 0.52), (2.12, 0.30),
        ]  # fmt: skip
        upper, lower = shade(colour, 1.12), shade(colour, 0.62)
        sheet.polygon(flip(body), Paint(lower, air_c + 1.0, 0.012, 0.15, upper, air_c - 3.5))
        for reach, add in ((0.0, 5.0), (0.18, 6.0), (0.36, 7.0)):  # hood over the engine
            hood = [
                (0.98 + reach * 0.6, 0.96 - reach * 0.2),
                (1.62, 0.885),
                (2.0 - reach, 0.76),
                (2.02 - reach, 0.60),
                (1.0 + reach, 0.66),
            ]
            sheet.polygon(flip(hood), Paint(shade(colour, 0.92), air_c + add * warm * 2.1), 0.35 if reach else 0.5)
        sheet.polygon(flip([(-2.16, 0.66), (2.1, 0.62), (2.1, 0.66), (-2.16, 0.71)]), Paint(shade(colour, 1.35)), 0.6)
        glass = Paint((0.10, 0.13, 0.16), air_c - 1.0, 0.02, 0.1, (0.38, 0.46, 0.54), air_c - 6.0)
        sheet.polygon(flip([(-1.5, 1.0), (-1.08, 1.34), (-0.58, 1.41), (-0.52, 1.0)]), glass)
        sheet.polygon(flip([(-0.42, 1.0), (-0.46, 1.41), (0.12, 1.39), (0.72, 1.0)]), glass)
        if warm > 0.5:  # the driver, seen through glass: visible only
            sheet.ellipse((facing * -0.02, 1.15), (0.10, 0.13), Paint((0.42, 0.33, 0.28)), 0.75)
            sheet.limb((facing * -0.08, 1.0), (facing * -0.03, 1.06), (0.3, 0.18), Paint((0.15, 0.15, 0.18)))
        for x in (-0.47, 0.82, -1.42):
            sheet.limb((facing * x, 0.36), (facing * (x - 0.02), 0.97), (0.014, 0.014), Paint(shade(colour, 0.45)))
        for x in (-0.72, 0.42):
            rect(x - 0.1, x + 0.1, 0.80, 0.84, Paint(shade(colour, 1.4), air_c - 2))
        rect(-2.1, 2.1, 0.30, 0.38, Paint((0.13, 0.13, 0.14), air_c + 3 * warm))
        front = (1.0, 0.97, 0.86) if warm > 0.5 else None
        rear = (0.95, 0.12, 0.08) if warm > 0.5 else None
        sheet.polygon(
            flip([(1.88, 0.66), (2.13, 0.60), (2.08, 0.75), (1.9, 0.78)]),
            Paint((0.93, 0.94, 0.95), air_c + 6 * warm, glow=front),
        )
        sheet.polygon(
            flip([(-2.16, 0.70), (-1.92, 0.72), (-1.94, 0.90), (-2.12, 0.88)]),
            Paint((0.70, 0.10, 0.09), air_c, glow=rear),
        )
        for x in (-1.32, 1.38):
            sheet.ellipse((facing * x, 0.36), (0.42, 0.41), Paint((0.05, 0.05, 0.05), air_c + 5 * warm))
            _wheel(sheet, (facing * x, 0.33), 0.33, -facing * phase, air_c, 20 * warm + 1)
        sheet.limb(
            (facing * -2.2, 0.24), (facing * -2.02, 0.25), (0.07, 0.09), Paint((0.35, 0.34, 0.33), air_c + 52 * warm)
        )
        return sheet

    return draw


def draw_van(colour: Colour, air_c: float) -> Draw:
    """A delivery van: a cold box with a warm nose and lettering that only the visible camera reads."""

    def draw(tile: Float, density: float, phase: float, facing: float) -> Sheet:
        sheet = Sheet.figure(tile, (-3.2, 3.2), (-0.3, 2.75), density)

        def flip(points: list[Point]) -> list[Point]:
            return [(facing * x, y) for x, y in points]

        sheet.ellipse((0, 0.03), (2.8, 0.17), Paint((0.02, 0.02, 0.02)), 0.75)
        box = [
            (-2.75, 0.38),
            (-2.78, 2.45),
            (-2.65, 2.56),
            (0.75, 2.56),
            (1.15, 2.42),
            (1.95, 1.32),
            (2.62, 1.10),
            (2.74, 0.75),
            (2.72, 0.36),
        ]
        sheet.polygon(flip(box), Paint(shade(colour, 0.72), air_c + 0.5, 0.012, 0.2, shade(colour, 1.08), air_c - 3))
        sheet.polygon(
            flip([(1.95, 1.25), (2.58, 1.06), (2.66, 0.62), (1.9, 0.62)]), Paint(shade(colour, 0.95), air_c + 15)
        )
        sheet.polygon(
            flip([(2.1, 1.15), (2.5, 1.0), (2.55, 0.72), (2.1, 0.72)]), Paint(shade(colour, 0.95), air_c + 20)
        )
        sheet.polygon(flip([(-2.75, 1.0), (0.6, 1.0), (0.4, 1.22), (-2.75, 1.22)]), Paint((0.85, 0.42, 0.10)))
        glass = Paint((0.10, 0.13, 0.16), air_c - 1, 0.02, 0.1, (0.38, 0.46, 0.54), air_c - 6)
        sheet.polygon(flip([(0.85, 1.42), (0.85, 2.12), (1.12, 2.2), (1.72, 1.40)]), glass)
        sheet.ellipse((facing * 1.02, 1.66), (0.11, 0.14), Paint((0.42, 0.33, 0.28)), 0.7)
        for x in (-1.0, 0.72, 1.75):
            sheet.limb(
                (facing * x, 0.45), (facing * x, 2.3 if x < 1 else 1.3), (0.016, 0.016), Paint(shade(colour, 0.5))
            )
        for k, x in enumerate((-2.3, -1.95, -1.6)):  # a mark for lettering
            sheet.ellipse((facing * x, 1.78), (0.15, 0.2), Paint((0.16, 0.26, 0.50) if k % 2 else (0.85, 0.42, 0.10)))
        sheet.polygon(
            flip([(-2.75, 0.36), (2.72, 0.36), (2.7, 0.46), (-2.75, 0.46)]), Paint((0.12, 0.12, 0.13), air_c + 4)
        )
        sheet.polygon(
            flip([(2.5, 0.8), (2.73, 0.76), (2.66, 1.0), (2.52, 1.04)]),
            Paint((0.93, 0.94, 0.95), air_c + 5, glow=(1.0, 0.97, 0.86)),
        )
        sheet.polygon(
            flip([(-2.77, 0.9), (-2.66, 0.9), (-2.66, 1.3), (-2.77, 1.3)]),
            Paint((0.7, 0.1, 0.09), air_c, glow=(0.95, 0.12, 0.08)),
        )
        for x in (-1.75, 1.78):
            sheet.ellipse((facing * x, 0.4), (0.46, 0.45), Paint((0.05, 0.05, 0.05), air_c + 5))
            _wheel(sheet, (facing * x, 0.36), 0.36, -facing * phase, air_c, 17)
        sheet.limb((facing * -2.3, 0.27), (facing * -2.1, 0.28), (0.08, 0.1), Paint((0.3, 0.3, 0.3), air_c + 45))
        return sheet

    return draw
