"""The simulated places: a street and an industrial yard, with all who move in them."""

from __future__ import annotations

import numpy as np

from fusion_core.simulation.actors import Actor, Draw, Outfit, draw_car, draw_dog, draw_person, draw_van, outfits
from fusion_core.simulation.props import (
    add_bush,
    add_facade,
    add_lamp_post,
    add_shop,
    add_sign,
    add_sky,
    add_skyline,
    add_tree,
    put_text,
)
from fusion_core.simulation.scene import Extent, Lamp, Paint, Scene, Sheet, shade

__all__ = ["build_street", "build_yard"]

AIR_C = 11.0


def _span(extent: Extent, z: float, size: float) -> float:
    """Length of a lane at depth z: the painted width and a vehicle's length beyond each end."""
    return 2 * (extent.half_u * z + size)


def _vehicle(draw: Draw, z: float, start_m: float, speed_m_s: float, span_m: float, tyre_m: float) -> Actor:
    """A car or van with its headlights; tyre_m: way per turn of its wheels, which have five spokes."""
    return Actor(draw, z, start_m, speed_m_s, span_m, tyre_m / 5, 8, beam=True, reach_m=3.2)


def _static_figure(scene: Scene, actor: Actor) -> None:
    figure = actor.draw(scene.tile, scene.extent.density / actor.z_m, 0.1, actor.facing)
    scene.sheets.append(figure.stand(actor.start_m, actor.z_m))


def _ground_grid(sheet: Sheet, x: tuple[float, float], z: tuple[float, float], step: float, paint: Paint) -> None:
    """Joints between slabs."""
    for line in np.arange(z[0], z[1], step):
        sheet.polygon([(x[0], line), (x[1], line), (x[1], line + 0.035), (x[0], line + 0.035)], paint, 0.5)
    for line in np.arange(x[0], x[1], step):
        sheet.polygon([(line, z[0]), (line + 0.03, z[0]), (line + 0.03, z[1]), (line, z[1])], paint, 0.4)


def build_street(extent: Extent, night: float, seed: int) -> tuple[Scene, list[Actor]]:
    """A street seen from across: shops and flats, an alley, trees, lamps, a parked car, traffic and walkers."""
    scene = Scene(extent, night, np.random.default_rng([seed, 1]))
    wide = extent.half_u * 50
    _behind_the_street(scene, wide)
    _street_houses(scene)
    _street_ground(scene, wide)
    crowd = outfits(scene.rng)
    _street_furniture(scene)
    _street_branch(scene)
    return scene, _street_actors(extent, crowd)


def _behind_the_street(scene: Scene, wide: float) -> None:
    """Sky, skyline, and what the alley shows."""
    add_sky(scene)
    add_skyline(scene, 140.0, AIR_C - 2)
    far = scene.ground(21.0, 60.0)
    far.polygon(
        [(-wide, 20.9), (wide, 20.9), (wide, 61), (-wide, 61)], Paint((0.44, 0.43, 0.41), AIR_C + 1.5, 0.07, 0.3)
    )
    back = scene.upright(46.0, (-14, 14), (-0.2, 9))
    add_facade(back, scene.rng, (-13, 13), 8.2, (0.66, 0.62, 0.56), AIR_C - 1)
    add_tree(scene, 36.0, -1.2, 6.0, 1.9, AIR_C - 1)


def _street_houses(scene: Scene) -> None:
    """Flats over shops on both sides of the alley, a lamp at each corner of it."""
    extent, rng = scene.extent, scene.rng
    house = scene.upright(21.0, (-extent.half_u * 21, extent.half_u * 21), (-0.1, 14))
    walls = [(0.70, 0.42, 0.33), (0.80, 0.75, 0.62), (0.62, 0.68, 0.70), (0.76, 0.62, 0.50), (0.58, 0.36, 0.30)]
    names = ["BAKERY", "BOOKS", "CAFE LUMEN", "TAILOR", "FLOWERS", "CYCLES"]
    banners = [(0.55, 0.16, 0.14), (0.14, 0.26, 0.42), (0.12, 0.34, 0.26), (0.30, 0.18, 0.32), (0.55, 0.36, 0.10)]
    for side in (-1, 1):
        edge, k = (0.4 if side > 0 else 2.6), 0
        while edge < extent.half_u * 21:
            width = float(rng.uniform(5.6, 7.6))
            x0 = edge if side > 0 else -edge - width
            number = k if side > 0 else k + 2
            add_facade(
                house,
                rng,
                (x0, x0 + width),
                float(rng.choice([7.2, 10.0]) + rng.uniform(-0.2, 0.5)),
                walls[number % 5],
                AIR_C,
            )
            add_shop(
                house,
                rng,
                (x0 + 0.5, x0 + width - 0.5),
                banners[number % 5],
                names[(number * 2 + (side < 0)) % 6],
                AIR_C,
            )
            if k == 0:
                scene.lamps = (*scene.lamps, Lamp(x0 + width / 2, 2.9, 20.0, (1.0, 0.86, 0.62), 0.9))
            edge += width
            k += 1


def _street_ground(scene: Scene, wide: float) -> None:
    """Pavements, the road with its marks and tracks, patches and oil."""
    rng = scene.rng
    street = scene.ground(0.9, 21.02)
    pavement = Paint((0.60, 0.58, 0.55), AIR_C + 2.0, 0.05, 0.35)
    asphalt = Paint((0.30, 0.30, 0.31), AIR_C + 5.0, 0.10, 0.5)
    street.polygon([(-wide, 0.9), (wide, 0.9), (wide, 21.1), (-wide, 21.1)], pavement)
    _ground_grid(street, (-wide / 2, wide / 2), (16.9, 21.0), 0.8, Paint((0.42, 0.41, 0.39), AIR_C + 1.2))
    _ground_grid(street, (-wide / 4, wide / 4), (0.9, 8.6), 0.8, Paint((0.42, 0.41, 0.39), AIR_C + 1.2))
    street.polygon([(-wide, 8.75), (wide, 8.75), (wide, 16.7), (-wide, 16.7)], asphalt)
    for z in (8.6, 16.7):
        street.polygon(
            [(-wide, z), (wide, z), (wide, z + 0.16), (-wide, z + 0.16)], Paint((0.72, 0.71, 0.68), AIR_C + 1, 0.05)
        )
    for z in (9.6, 10.9, 12.6, 13.7):  # wheel tracks: polished and a little warmer
        street.polygon(
            [(-wide, z), (wide, z), (wide, z + 0.35), (-wide, z + 0.35)],
            Paint((0.27, 0.27, 0.28), AIR_C + 6.2, 0.08, 0.3),
            0.6,
        )
    for x in np.arange(-wide, wide, 4.5):
        street.polygon(
            [(x, 12.0), (x + 2.3, 12.0), (x + 2.3, 12.14), (x, 12.14)], Paint((0.92, 0.92, 0.88), None, 0.05)
        )
    for z in np.arange(8.95, 16.5, 0.95):  # zebra crossing
        street.polygon([(-1.5, z), (1.3, z), (1.3, z + 0.5), (-1.5, z + 0.5)], Paint((0.90, 0.90, 0.87), None, 0.08))
    street.polygon([(-wide, 14.6), (wide, 14.6), (wide, 14.68), (-wide, 14.68)], Paint((0.86, 0.86, 0.83), None, 0.1))
    street.ellipse((3.4, 11.4), (0.38, 0.36), Paint((0.22, 0.21, 0.21), AIR_C + 9))  # manhole over a warm sewer
    for _ in range(7):  # patches and oil
        x, z = float(rng.uniform(-9, 9)), float(rng.uniform(9.2, 16))
        street.ellipse(
            (x, z),
            (float(rng.uniform(0.3, 1.3)), float(rng.uniform(0.15, 0.4))),
            Paint((0.24, 0.24, 0.25), AIR_C + 4.4, 0.1),
            0.7,
        )


def _street_furniture(scene: Scene) -> None:
    """Trees, lamps, a sign, a poster, parked cars, a bin and a bush."""
    for x, height, spread in ((-9.6, 6.4, 1.8), (7.6, 5.8, 1.6), (15.5, 6.2, 1.8), (-19.0, 6.0, 1.8)):
        add_tree(scene, 18.3, x, height, spread, AIR_C)
    for x in (-5.6, 4.6, 16.0, -15.0):
        add_lamp_post(scene, 17.6, x, 5.0, AIR_C)
    add_sign(scene, 17.3, 2.2, (0.10, 0.25, 0.62), "30", AIR_C)
    poster = scene.upright(17.9, (-3.9, -2.7), (0, 2.4))
    poster.rectangle((-3.8, -2.8), (0.5, 2.3), Paint((0.30, 0.31, 0.32), AIR_C))
    poster.rectangle(
        (-3.72, -2.88),
        (0.62, 2.2),
        Paint((0.90, 0.55, 0.20), None, colour_to=(0.75, 0.22, 0.30), glow=(0.6, 0.35, 0.15)),
    )
    poster.ellipse((-3.3, 1.45), (0.26, 0.26), Paint((0.98, 0.92, 0.70), None, glow=(0.7, 0.6, 0.4)))
    put_text(poster, "EXPO", (-3.62, 0.75), 0.3, (0.98, 0.96, 0.92), 0.64)
    for x in (-3.6, -3.0):
        poster.limb((x, 0), (x, 0.5), (0.08, 0.08), Paint((0.3, 0.3, 0.3), AIR_C))
    _static_figure(scene, Actor(draw_car((0.52, 0.10, 0.11), AIR_C, 0.55), 15.6, -8.6, 1.0, 1.0))  # parked, still warm
    _static_figure(scene, Actor(draw_car((0.70, 0.71, 0.72), AIR_C, 0.0), 15.6, 8.3, -1.0, 1.0))  # parked, cold
    bin_ = scene.upright(8.3, (2.1, 2.8), (0, 1.1))
    bin_.rectangle((2.2, 2.7), (0.05, 0.92), Paint((0.16, 0.30, 0.22), AIR_C + 0.5, 0.05, 0.1, (0.22, 0.38, 0.28)))
    bin_.rectangle((2.15, 2.75), (0.9, 1.0), Paint((0.12, 0.20, 0.16), AIR_C - 1))
    add_bush(scene, 6.9, (-4.5, -2.2), 1.5, AIR_C, 230)
    add_lamp_post(scene, 7.4, 3.6, 4.6, AIR_C, 0.0)


def _street_branch(scene: Scene) -> None:
    """A branch with leaves that hangs into the picture close by."""
    extent, rng = scene.extent, scene.rng
    near = scene.upright(5.2, (-4, 4), (0.4, 6))  # a branch into the picture
    bark = Paint((0.25, 0.20, 0.16), AIR_C + 0.6, 0.1)
    start = min(extent.half_u * 5.2 + 0.3, 3.6)
    near.limb((-start, 4.35), (-start + 1.25, 4.12), (0.11, 0.04), bark)
    for _ in range(46):
        reach = float(rng.uniform(0.1, 1.45))
        tone = float(rng.uniform(0.7, 1.2))
        leaf = Paint((0.26 * tone, 0.44 * tone, 0.16 * tone), AIR_C - 1 + float(rng.uniform(-0.4, 0.4)), 0.15, 0.2)
        centre = (-start + reach, 4.35 - 0.16 * reach + float(rng.normal(0, 0.13)))
        angle = float(rng.uniform(-1.2, 0.2))
        near.limb(centre, (centre[0] + 0.12 * np.cos(angle), centre[1] + 0.12 * np.sin(angle)), (0.065, 0.02), leaf)


def _street_actors(extent: Extent, crowd: list[Outfit]) -> list[Actor]:
    """Walkers, traffic, a dog, and two people who are hard to see."""
    walk = [draw_person(o, AIR_C) for o in crowd]
    lurker = Actor(draw_person(crowd[4], AIR_C, lean=1.0), 27.0, -1.35, 0.0, 1.0, pause_s=4.0)  # in the dark alley

    def car(colour: tuple[float, float, float], z: float, start_m: float, speed: float) -> Actor:
        return _vehicle(draw_car(colour, AIR_C), z, start_m, speed, _span(extent, z, 3) + 8, 2.07)

    return [
        lurker,
        Actor(walk[0], 19.6, 3.2, 1.25, _span(extent, 19.6, 1)),
        Actor(walk[1], 19.0, -7.4, -1.05, _span(extent, 19.0, 1)),
        Actor(walk[2], 17.2, 9.0, -1.4, _span(extent, 17.2, 1)),
        car((0.20, 0.36, 0.58), 13.2, -2.4, -6.2),
        _vehicle(draw_van((0.90, 0.90, 0.88), AIR_C), 13.2, 15.0, -6.2, _span(extent, 13.2, 3) + 8, 2.26),
        car((0.84, 0.84, 0.86), 10.4, 9.5, 5.4),
        Actor(walk[3], 8.2, -2.5, 1.2, _span(extent, 8.2, 1)),
        Actor(walk[5], 7.7, 1.9, -1.1, _span(extent, 7.7, 1)),
        Actor(draw_dog((0.50, 0.36, 0.22), AIR_C), 7.6, 1.05, -1.1, _span(extent, 7.6, 1), 0.75, 16),
        Actor(draw_person(crowd[4], AIR_C, lean=1.0), 7.2, -3.25, 0.0, 1.0, pause_s=5.0),  # behind the bush
    ]


def build_yard(extent: Extent, night: float, seed: int) -> tuple[Scene, list[Actor]]:
    """An industrial yard: hall, gas tanks with a level, hot pipes, containers, fence, people, a forklift's lane."""
    scene = Scene(extent, night, np.random.default_rng([seed, 2]))
    wide = extent.half_u * 60
    _behind_the_yard(scene, wide)
    _hall(scene)
    _yard_ground(scene, wide)
    _tanks_and_pipes(scene)
    _goods(scene)
    _fence(scene)
    return scene, _yard_actors(extent, outfits(scene.rng))


def _behind_the_yard(scene: Scene, wide: float) -> None:
    """Sky, skyline, a meadow with trees."""
    rng = scene.rng
    add_sky(scene)
    add_skyline(scene, 170.0, AIR_C - 2)
    far = scene.ground(26.0, 80.0)
    far.polygon([(-wide, 25), (wide, 25), (wide, 81), (-wide, 81)], Paint((0.40, 0.44, 0.30), AIR_C - 1, 0.15, 0.5))
    for x in np.arange(-26, 27, 6.5):
        add_tree(scene, 48.0, float(x + rng.uniform(-2, 2)), float(rng.uniform(8, 12)), 3.4, AIR_C - 1, 0.7)


def _hall(scene: Scene) -> None:
    """The hall with its warm door, its windows and its lamps."""
    hall = scene.upright(26.0, (-20, 8), (-0.1, 9))
    hall.rectangle(
        (-20, 6), (0, 7.6), Paint((0.52, 0.57, 0.60), AIR_C + 1.5, 0.02, 0.2, (0.62, 0.67, 0.70), AIR_C - 1.5)
    )
    for x in np.arange(-20, 6, 0.5):
        hall.rectangle((x, x + 0.16), (0, 7.5), Paint((0.40, 0.44, 0.47), AIR_C + 0.8), 0.5)
    hall.rectangle((-20, 6.2), (7.3, 7.9), Paint((0.26, 0.30, 0.34), AIR_C - 5))
    hall.rectangle((-20, 6), (5.5, 6.6), Paint((0.58, 0.66, 0.72), AIR_C - 3, 0.04, 0.2, glow=(0.45, 0.41, 0.28)))
    hall.rectangle((-8.6, -4.4), (0, 4.4), Paint((0.20, 0.22, 0.24), AIR_C + 2))
    for k in range(8):  # sectional door, warm inside
        hall.rectangle(
            (-8.45, -4.55),
            (0.05 + k * 0.54, 0.5 + k * 0.54),
            Paint((0.74, 0.74, 0.70), AIR_C + 5.5 - 0.4 * k, 0.02, 0.2),
        )
    hall.rectangle((-1.6, -0.4), (0, 2.2), Paint((0.55, 0.20, 0.16), AIR_C + 4))
    put_text(hall, "HALL 3", (-3.6, 3.4), 1.0, (0.95, 0.78, 0.20), 4.0)
    hall.rectangle((1.4, 4.2), (2.5, 3.9), Paint((0.28, 0.34, 0.40), AIR_C - 3, 0.04, 0.2, glow=(0.8, 0.75, 0.55)))
    for x in (-10.5, -2.5, 5.0):
        scene.lamps = (*scene.lamps, Lamp(x, 5.2, 24.6, (1.0, 0.88, 0.66), 4.0))
        hall.rectangle((x - 0.2, x + 0.2), (5.1, 5.35), Paint((0.8, 0.8, 0.75), AIR_C + 12, glow=(1.0, 0.95, 0.8)))


def _yard_ground(scene: Scene, wide: float) -> None:
    """Slabs, painted lanes, a puddle."""
    yard = scene.ground(0.9, 26.02)
    yard.polygon(
        [(-wide, 0.9), (wide, 0.9), (wide, 26.1), (-wide, 26.1)], Paint((0.47, 0.46, 0.44), AIR_C + 4, 0.07, 0.6)
    )
    _ground_grid(yard, (-wide / 2, wide / 2), (4.0, 26.0), 4.0, Paint((0.33, 0.32, 0.31), AIR_C + 3))
    for x in np.arange(-14, 14, 3.0):
        yard.polygon([(x, 16.5), (x + 0.12, 16.5), (x + 0.12, 21), (x, 21)], Paint((0.90, 0.78, 0.22), None, 0.1))
    yard.polygon([(-wide, 9.4), (wide, 9.4), (wide, 9.52), (-wide, 9.52)], Paint((0.90, 0.90, 0.86), None, 0.1))
    yard.polygon([(-wide, 13.0), (wide, 13.0), (wide, 13.12), (-wide, 13.12)], Paint((0.90, 0.90, 0.86), None, 0.1))
    yard.ellipse((-2.5, 11.0), (1.7, 0.6), Paint((0.34, 0.37, 0.40), AIR_C - 4))  # puddle: mirrors the cold sky
    yard.polygon([(-4.8, 13.2), (-4.3, 13.2), (-6.0, 25.8), (-6.8, 25.8)], Paint((0.42, 0.41, 0.40), AIR_C + 6.0), 0.5)


def _tanks_and_pipes(scene: Scene) -> None:
    """Gas tanks, whose level shows in thermal only, and hot pipes."""
    for x, level in ((9.6, 3.1), (13.6, 1.7)):
        tank = scene.upright(23.0, (x - 1.9, x + 1.9), (-0.1, 6.2))
        tank.rectangle((x - 1.7, x + 1.7), (0.3, 5.6), Paint((0.84, 0.85, 0.84), AIR_C - 2.0, 0.02, 0.1))
        tank.rectangle((x - 1.7, x + 1.7), (0.3, level), Paint((0.84, 0.85, 0.84), AIR_C + 6.0, 0.02, 0.1))
        for k in range(8):
            edge = x - 1.7 + k * 0.425
            tank.rectangle((edge, edge + 0.43), (0.3, 5.6), Paint((0.30, 0.32, 0.34)), 0.06 + 0.05 * abs(k - 2.5))
        tank.ellipse((x, 5.6), (1.7, 0.35), Paint((0.74, 0.75, 0.75), AIR_C - 5))
        tank.rectangle((x - 1.75, x + 1.75), (0.0, 0.35), Paint((0.42, 0.41, 0.40), AIR_C + 1))
        put_text(tank, "LPG", (x - 0.9, 4.5), 0.75, (0.70, 0.14, 0.12), 1.8)
    pipes = scene.upright(22.0, (-2, 16), (0, 4.6))
    for y, heat in ((4.1, 38.0), (3.7, 17.0)):
        pipes.limb((1.0, y), (15.8, y), (0.24, 0.24), Paint((0.66, 0.66, 0.64), AIR_C + heat, 0.03, 1.2))
    for x in (2.0, 6.8, 11.6):
        pipes.limb((x, 0), (x, 4.0), (0.16, 0.16), Paint((0.35, 0.36, 0.37), AIR_C))


def _goods(scene: Scene) -> None:
    """Containers, a transformer with hot ribs, a pallet."""
    crates = scene.upright(16.0, (-13, -6.5), (-0.05, 5.4))
    for k, (x, y, colour) in enumerate(((-12.6, 0.0, (0.16, 0.32, 0.50)), (-12.3, 2.6, (0.58, 0.24, 0.14)))):
        crates.rectangle((x, x + 5.6), (y, y + 2.55), Paint(colour, AIR_C + 1 - k, 0.04, 0.2))
        for rib in np.arange(x, x + 5.6, 0.28):
            dark = shade(colour, 0.68)
            crates.rectangle((rib, rib + 0.1), (y + 0.1, y + 2.45), Paint(dark, AIR_C + 0.4 - k), 0.8)
        put_text(crates, "LMT 4071" if k else "NORDLINE", (x + 1.2, y + 1.1), 0.6, (0.93, 0.93, 0.90), 3.4)
    box = scene.upright(15.0, (3.2, 6.2), (-0.05, 2.9))
    box.rectangle((3.4, 6.0), (0.0, 2.3), Paint((0.44, 0.50, 0.42), AIR_C + 7, 0.03, 0.5, temp_to=AIR_C + 13))
    for x in np.arange(3.6, 5.9, 0.24):  # transformer: hot ribs
        box.rectangle((x, x + 0.1), (0.3, 2.1), Paint((0.30, 0.35, 0.29), AIR_C + 19, 0.02, 0.8))
    for x in (3.9, 4.7, 5.5):
        box.limb((x, 2.3), (x, 2.75), (0.16, 0.1), Paint((0.50, 0.28, 0.20), AIR_C + 15 + 8 * (x > 5)))
    box.polygon([(4.45, 1.0), (4.95, 1.0), (4.7, 1.45)], Paint((0.95, 0.80, 0.10)))
    pallet = scene.upright(12.4, (-7.0, -4.2), (-0.05, 1.7))
    for x, y in ((-6.8, 0), (-5.6, 0), (-6.3, 0.75)):
        pallet.rectangle((x, x + 1.1), (y + 0.05, y + 0.72), Paint((0.66, 0.52, 0.34), AIR_C + 1.5 + y, 0.1, 0.4))
        pallet.rectangle((x, x + 1.1), (y + 0.05, y + 0.15), Paint((0.42, 0.31, 0.20), AIR_C + 1, 0.1))


def _fence(scene: Scene) -> None:
    """A fence, a bush, a lamp, a sign and a parked van."""
    fence = scene.upright(6.4, (-6, 6), (0, 2.3))
    steel = Paint((0.55, 0.57, 0.58), AIR_C - 1)
    for x in np.arange(-5.8, 6.0, 2.4):
        fence.limb((x, 0), (x, 1.5), (0.07, 0.07), steel)
    for y in (0.75, 1.45):
        fence.limb((-6, y), (6, y), (0.045, 0.045), steel)
    add_bush(scene, 7.2, (2.3, 4.6), 1.5, AIR_C, 230)
    add_lamp_post(scene, 14.0, -1.6, 6.0, AIR_C, 4.5)
    add_sign(scene, 12.0, 2.6, (0.72, 0.10, 0.10), "STOP", AIR_C)
    _static_figure(scene, Actor(draw_van((0.86, 0.78, 0.30), AIR_C), 19.0, -3.4, 1.0, 1.0))


def _yard_actors(extent: Extent, crowd: list[Outfit]) -> list[Actor]:
    """Workers, a van on its lane, a dog."""
    walk = [draw_person(o, AIR_C) for o in crowd]
    return [
        Actor(walk[0], 22.0, -6.0, 1.1, _span(extent, 22, 1)),
        Actor(draw_person(crowd[4], AIR_C, lean=1.0), 21.0, 7.2, 0.0, 1.0, pause_s=4.0),
        Actor(walk[1], 17.5, 6.0, -1.3, _span(extent, 17.5, 1)),
        _vehicle(draw_van((0.88, 0.88, 0.86), AIR_C), 11.4, -9.0, 4.4, _span(extent, 11.4, 3) + 6, 2.26),
        Actor(walk[3], 8.6, -1.8, 1.2, _span(extent, 8.6, 1)),
        Actor(draw_person(crowd[2], AIR_C, lean=1.0), 7.6, 3.3, 0.0, 1.0, pause_s=5.0),  # behind the bush
        Actor(draw_dog((0.30, 0.26, 0.24), AIR_C), 8.0, 2.5, -1.5, _span(extent, 8.0, 1), 0.75, 16),
    ]
