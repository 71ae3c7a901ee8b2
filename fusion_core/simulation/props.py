"""What stands about in the simulated places: sky, houses, shops, trees, lamps, signs."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from fusion_core.simulation.scene import SKY_DEPTH_M, Colour, Lamp, Paint, Point, Scene, Sheet, noise_tile, shade

__all__ = [
    "add_bush",
    "add_facade",
    "add_lamp_post",
    "add_shop",
    "add_sign",
    "add_sky",
    "add_skyline",
    "add_tree",
    "put_text",
]


def add_sky(scene: Scene) -> None:
    """Sky with clouds by day, stars and a moon by night; cold overhead and milder toward the horizon."""
    reach = 3 * SKY_DEPTH_M
    sheet = scene.upright(SKY_DEPTH_M, (-reach, reach), (-reach, reach))
    sheet.lit = False
    h, w = sheet.cover.shape
    n = scene.night
    height = np.clip(np.linspace(1.0, -1.0, h, dtype=np.float32), 0, 1)[:, None, None]  # 1 top, 0 from the horizon down
    day = np.array([0.80, 0.86, 0.92], np.float32) + height * (
        np.array([0.30, 0.52, 0.82], np.float32) - np.array([0.80, 0.86, 0.92], np.float32)
    )
    dark = np.array([0.085, 0.085, 0.12], np.float32) + height * (
        np.array([0.02, 0.03, 0.075], np.float32) - np.array([0.085, 0.085, 0.12], np.float32)
    )
    clouds = cv2.resize(
        noise_tile(scene.rng, 512, (4, 9, 20, 47, 101, 220), 0.62), (w, max(h * 2, 2)), interpolation=cv2.INTER_CUBIC
    )
    clouds = cv2.resize(clouds, (w, h), interpolation=cv2.INTER_AREA)
    cloud = np.clip(clouds * 0.5 + 0.05, 0, 1)[..., None] ** 1.3
    day = day + cloud * (np.array([0.97, 0.97, 0.98], np.float32) - day)
    dark = dark + 0.5 * cloud * np.array([0.05, 0.05, 0.06], np.float32)
    sheet.glow[:] = (1 - n) ** 0.8 * day + (1 - (1 - n) ** 0.8) * dark
    if n > 0.6:
        stars = np.random.default_rng(h)  # a generator apart from the scene's, so that night does not change the houses
        for _ in range(120):
            y, x = int(stars.integers(0, max(1, h // 2))), int(stars.integers(0, w))
            sheet.glow[y, x] += (n - 0.6) * stars.uniform(0.2, 1.6)
    sheet.glows = True
    sheet.cover[:] = 1
    sheet.solid[:] = 1
    sheet.temp_c[:] = (3.0 - 15.0 * height[..., 0]) + 5.0 * cloud[..., 0]


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
        tone = rng.uniform(0.48, 0.64)
        body = Paint((tone, tone * 0.97, tone * 0.95), air_c + rng.uniform(-1, 2), 0.03, 0.2)
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
        sheet.rectangle(x, (y - 0.62, y - 0.42), Paint(shade(wall, 0.85), warm + 1.3))  # slab: thermal bridge
        for column in range(count):
            cx = x0 + (column + 0.5) * pitch
            lit = rng.random() < 0.33
            sheet.rectangle((cx - 0.5, cx + 0.5), (y - 0.28, y + 0.02), Paint(wall, warm + rng.uniform(0.5, 3.2)), 0.8)
            sheet.rectangle((cx - 0.58, cx + 0.58), (y - 0.08, y + 1.62), Paint((0.90, 0.89, 0.86), warm + 1.5))
            glass = Paint((0.22, 0.29, 0.36), air_c - 2.5, 0.05, 0.2, (0.46, 0.56, 0.66), air_c - 5.5)
            if lit:
                glow = rng.uniform(0.35, 0.8)
                glass = replace(glass, glow=(glow, glow * 0.80, glow * 0.48))
            sheet.rectangle((cx - 0.48, cx + 0.48), (y + 0.02, y + 1.52), glass)
            if rng.random() < 0.5:  # curtain
                side = 1 if rng.random() < 0.5 else -1
                cloth = Paint((0.84, 0.80, 0.72), None, 0.05, glow=(0.5, 0.4, 0.25) if lit else None)
                inner = cx + side * 0.18
                sheet.rectangle(
                    (min(inner, cx + side * 0.48), max(inner, cx + side * 0.48)), (y + 0.02, y + 1.52), cloth
                )
            sheet.rectangle((cx - 0.03, cx + 0.03), (y, y + 1.54), Paint((0.90, 0.89, 0.86), air_c))
            sheet.rectangle((cx - 0.48, cx + 0.48), (y + 0.98, y + 1.03), Paint((0.90, 0.89, 0.86), air_c))
            sheet.rectangle((cx - 0.66, cx + 0.66), (y - 0.16, y - 0.06), Paint((0.70, 0.69, 0.66), warm - 1))
    sheet.rectangle(x, (height - 0.45, height), Paint(shade(wall, 0.78), air_c - 3))
    sheet.rectangle((x0 - 0.15, x1 + 0.15), (height - 0.12, height + 0.14), Paint((0.33, 0.30, 0.29), air_c - 6))
    sheet.rectangle(x, (0, 0.5), Paint((0.45, 0.43, 0.41), air_c + 0.5, 0.06, 0.2))


def add_shop(sheet: Sheet, rng: np.random.Generator, x: Point, banner: Colour, name: str, air_c: float) -> None:
    """A shop window with a lettered sign (print is visible only) and a door that leaks warmth."""
    x0, x1 = x
    sheet.rectangle(x, (0.45, 2.55), Paint((0.24, 0.22, 0.21), air_c + 1))
    glow = (0.62, 0.54, 0.38)
    door = x1 - 1.15
    pane = Paint((0.34, 0.38, 0.40), air_c + 1.0, 0.06, 0.2, (0.52, 0.58, 0.62), air_c - 2, glow)
    sheet.rectangle((x0 + 0.12, door - 0.12), (0.6, 2.42), pane)
    for k in range(5):  # goods on show
        gx = x0 + 0.3 + k * (door - x0 - 0.8) / 5
        tint: Colour = (float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.2, 0.9)))
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
    sheet.blend(mask * np.float32(1 / 255), (int(top), int(left)), Paint(colour, glow=glow), rise)


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
        tone = 0.62 + 0.38 * k / (330 * dense) + 0.25 * (cy - middle) / (height - fork) + rng.uniform(-0.1, 0.1)
        leaf = Paint((0.27 * tone, 0.43 * tone, 0.17 * tone), air_c - 1.2 + rng.uniform(-0.5, 0.4), 0.22, 0.25)
        blob(sheet, rng, (cx, cy), spread * rng.uniform(0.07, 0.15), leaf)


def add_bush(scene: Scene, z: float, x: Point, height: float, air_c: float, leaves: int = 260) -> None:
    """A bush with gaps through which warmth behind it shows."""
    rng = scene.rng
    sheet = scene.upright(z, (x[0] - 0.3, x[1] + 0.3), (-0.1, height + 0.3))
    for k in range(leaves):
        cx = rng.uniform(*x)
        arch = np.sqrt(max(0.05, 1 - ((cx - 0.5 * (x[0] + x[1])) / (0.55 * (x[1] - x[0]))) ** 2))
        cy = rng.uniform(0, 1) ** 0.8 * height * arch
        tone = 0.55 + 0.35 * k / leaves + 0.35 * cy / height + rng.uniform(-0.12, 0.12)
        leaf = Paint((0.24 * tone, 0.40 * tone, 0.18 * tone), air_c - 0.8 + rng.uniform(-0.5, 0.5), 0.22, 0.25)
        blob(sheet, rng, (cx, cy), rng.uniform(0.05, 0.11), leaf)


def blob(sheet: Sheet, rng: np.random.Generator, centre: Point, radius: float, paint: Paint) -> None:
    """An irregular clump."""
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    reach = radius * rng.uniform(0.55, 1.25, 9)
    sheet.polygon(np.stack([centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle)], axis=1), paint)


def add_lamp_post(scene: Scene, z: float, x: float, height: float, air_c: float, power: float = 4.2) -> None:
    """A lamp post whose light falls on everything near it at night; power 0 is a broken one."""
    sheet = scene.upright(z, (x - 1.4, x + 1.4), (-0.05, height + 0.6))
    iron = Paint((0.28, 0.30, 0.31), air_c - 0.5, 0.03)
    sheet.limb((x, 0), (x, height), (0.15, 0.09), iron)
    sheet.limb((x, height), (x + 0.75, height + 0.18), (0.08, 0.06), iron)
    sheet.limb((x, 0), (x, 0.9), (0.22, 0.2), iron)
    head = Paint((0.78, 0.78, 0.72), air_c + 9, glow=(1.0, 0.93, 0.74) if power else None)
    sheet.limb((x + 0.55, height + 0.14), (x + 1.1, height + 0.18), (0.14, 0.2), head)
    if power:
        scene.lamps = (*scene.lamps, Lamp(x + 0.8, height, z - 0.3, (1.0, 0.80, 0.50), power))


def add_sign(scene: Scene, z: float, x: float, colour: Colour, text: str, air_c: float) -> None:
    """A sign on a post: one temperature, so only the visible camera can read it."""
    sheet = scene.upright(z, (x - 0.6, x + 0.6), (0, 2.9))
    sheet.limb((x, 0), (x, 2.7), (0.07, 0.07), Paint((0.55, 0.56, 0.57), air_c - 0.5))
    sheet.ellipse((x, 2.35), (0.42, 0.42), Paint((0.94, 0.94, 0.93), air_c - 1))
    sheet.ellipse((x, 2.35), (0.37, 0.37), Paint(colour, air_c - 1))
    put_text(sheet, text, (x - 0.27, 2.2), 0.32, (0.97, 0.97, 0.97), 0.54)
