"""Paints a view of a fused frame into one picture of the window's size. cv2 and numpy, no toolkit.

The cost goes with the size of the window, not with that of the cameras: each panel resizes only what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from app.view.boxes import draw_boxes
from app.view.settings import (
    Isotherm,
    IsothermKind,
    Panel,
    Picture,
    Rect,
    Viewport,
    ViewSettings,
    panels_of,
    picture_rect,
)
from fusion_core.frames import FusedFrame, ThermalAlignment
from fusion_core.thermal.palettes import palette_table

__all__ = ["HEAT_FIRST", "ViewComposer", "heat_levels", "heat_span", "warm_palette"]

_BACKGROUND_BGRA = (14, 11, 9, 255)
_BORDER_BGRA = (235, 232, 228, 255)
_EDGE_BGR = (64, 178, 255)  # orange: apart from foliage and sky for every kind of colour vision
_BOX_BGRA = (120, 230, 40, 255)
_SHARE_BGR = (20, 140, 255)
_ISOTHERM_BGR = (255, 190, 60)  # light blue: in none of the warm palettes
HEAT_FIRST = 128  # level of what is just hot: only the upper, warm half of the palette is used
_HEAT_NOISE = 6.0  # standard deviations of the noise that heat must stand out of the scene's median by
_HEAT_SHARE = 0.75  # of the palette's colour; the rest keeps the picture's structure
_HEAT_PALETTE = "inferno"  # where the chosen palette is not warm at its hot end
_EDGE_LEVELS = 14  # across two pixels; weaker steps are noise
_EDGE_PIXELS = 400_000  # outlines are looked for on a picture of at most about this size
_SPARE_PX, _SPARE_SHARE = 2, 0.005  # a picture so little too large is cut, not resized: three times as fast, and its
# edges are off by half of that: 1 px, or 2 px with 1920 x 1080 in quarters
_SHARE_GAIN = 3.0
_SHARE_FLOOR = 6

U8 = npt.NDArray[np.uint8]


def heat_span(counts: npt.NDArray[np.uint16] | U8, share: float, threshold: float | None = None) -> tuple[float, float]:
    """Tell from which count on something is hot, and the count of the hottest.

    Without a threshold, hot is the hottest `share` of the pixels, as far as it stands out of the scene's median by
    more than the camera's noise: a scene of one temperature has no heat.

    Args:
        counts: (H, W) uint16 or uint8, raw.
        share: 0..1.
        threshold: counts; None = by the scene.
    """
    sample = np.asarray(counts[::2, ::2], dtype=np.float32)
    middle, limit, hottest = (float(value) for value in np.quantile(sample, (0.5, 1.0 - share, 0.999)))
    if threshold is not None:
        return float(threshold), max(hottest, threshold + 1.0)
    beside = np.abs(np.diff(sample, axis=1))
    noise = float(np.median(beside)) / (0.6745 * 2**0.5) if beside.size else 0.0
    limit = max(limit, middle + max(1.0, _HEAT_NOISE * noise))
    return limit, max(hottest, limit + 1.0)


def heat_levels(counts: npt.NDArray[np.uint16] | U8, share: float, threshold: float | None = None) -> U8:
    """Return what is hot, see `heat_span`: (H, W) uint8, 0 = not hot, else 128 for just hot to 255 for the hottest."""
    limit, hottest = heat_span(counts, share, threshold)
    scaled = (counts.astype(np.float32) - limit) * ((255 - HEAT_FIRST) / (hottest - limit)) + HEAT_FIRST
    levels: U8 = np.where(counts < limit, 0.0, np.minimum(scaled, 255.0)).astype(np.uint8)
    return levels


class ViewComposer:
    """Paints views; keeps its canvas between frames. One owner thread (the window's)."""

    def __init__(self) -> None:
        self._canvas: U8 = np.zeros((0, 0, 4), np.uint8)
        self._layout: object = None
        self._cuts: dict[tuple[int, ...], U8] = {}
        self._tables: dict[tuple[str, bool], npt.NDArray[np.int32]] = {}
        self._colours: dict[tuple[int, int, int], U8] = {}
        self._heat: tuple[FusedFrame, object, U8] | None = None  # of the last frame: its panels share it
        share = np.zeros((256, 3), np.uint8)
        strength = np.clip((np.arange(256) - _SHARE_FLOOR) * _SHARE_GAIN, 0, 255) / 255.0
        share[:] = np.rint(strength[:, None] * np.array(_SHARE_BGR)).astype(np.uint8)
        self._share_table = _packed(share[:, ::-1])

    def compose(
        self,
        frame: FusedFrame | None,
        settings: ViewSettings,
        viewport: Viewport,
        height: int,
        width: int,
        second: npt.NDArray[np.uint8] | None = None,
    ) -> U8:
        """Paint one view.

        Args:
            frame: what is shown; None paints the empty background.
            height, width: of the view, px.
            second: (H, W, 3) uint8 RGB for Picture.SECOND, as large as the fused picture.

        Returns:
            (height, width, 4) uint8 BGRA, opaque. It belongs to the composer and changes with the next call.
        """
        canvas = self._prepared(settings, viewport, height, width, frame)
        if frame is None:
            return canvas
        self._cuts.clear()  # also of what an error left
        picture_height, picture_width = frame.pixels.shape[:2]
        for panel in panels_of(settings, height, width, picture_height, picture_width):
            if panel.clip.height < 1 or panel.clip.width < 1:
                continue
            if panel.inset:
                canvas[panel.clip.top : panel.clip.top + panel.clip.height][
                    :, panel.clip.left : panel.clip.left + panel.clip.width
                ] = _BACKGROUND_BGRA
            self._paint(canvas, panel, frame, settings, viewport, second)
            if panel.inset:
                _outline(canvas, panel.clip)
        self._cuts.clear()
        return canvas

    def _cut(self, picture: U8, window: _Window) -> U8:
        """Make what a panel shows of a picture, once for all panels of one size. Do not write to it."""
        key = (id(picture), *window.key)
        if key not in self._cuts:
            self._cuts[key] = window.cut(picture)
        return self._cuts[key]

    def _prepared(
        self, settings: ViewSettings, viewport: Viewport, height: int, width: int, frame: FusedFrame | None
    ) -> U8:
        if self._canvas.shape[:2] != (height, width):
            self._canvas = np.empty((height, width, 4), np.uint8)
            self._layout = None
        size = None if frame is None else frame.pixels.shape
        layout = (settings.mode, viewport, size, settings.pip_main, settings.pip_inset)
        if layout != self._layout or frame is None:
            self._canvas[:] = _BACKGROUND_BGRA
            self._layout = layout
        return self._canvas

    def _paint(
        self, canvas: U8, panel: Panel, frame: FusedFrame, settings: ViewSettings, viewport: Viewport, second: U8 | None
    ) -> None:
        window = _window(panel, viewport, *frame.pixels.shape[:2])
        if window is None:
            return
        target = canvas[window.y0 : window.y1, window.x0 : window.x1]
        picture = panel.picture
        if picture is Picture.FUSED and settings.thermal_share:
            self._paint_share(target, frame, window)
        elif picture is Picture.FUSED:
            _to_bgra(self._cut(frame.pixels, window), target)
        elif picture is Picture.SECOND:
            _to_bgra(self._cut(second if second is not None else frame.pixels, window), target)
        elif picture is Picture.VISIBLE:
            _to_bgra(self._cut(_visible(frame), window), target)
        elif picture is Picture.THERMAL:
            self._paint_thermal(target, frame, window, settings)
        elif picture is Picture.BLEND:
            self._paint_thermal(target, frame, window, settings)
            visible = cv2.cvtColor(self._cut(_visible(frame), window), cv2.COLOR_RGB2BGRA)
            cv2.addWeighted(target, settings.blend, visible, 1.0 - settings.blend, 0.0, dst=target)
            if frame.alignment is not None and not frame.alignment.seen.all():
                cv2.copyTo(visible, 1 - _seen(frame.alignment, window), target)
        else:
            _to_bgra(self._cut(_visible(frame), window), target)
            if frame.thermal_8bit is not None:
                seen = _seen(frame.alignment, window) if frame.alignment is not None else None
                _paint_edges(target, self._cut(frame.thermal_8bit, window), self._colour(target, _EDGE_BGR), seen)
        if settings.isotherm is not None and picture is not Picture.VISIBLE:
            colour = self._colour(target, _ISOTHERM_BGR)
            _paint_isotherm(target, frame, window, settings.isotherm, colour)
        told = (
            picture is Picture.THERMAL and not settings.black_hot and warm_palette(settings.palette) == settings.palette
        )
        if settings.heat and frame.pair.thermal is not None and not told:
            self._paint_heat(target, frame, window, settings)
        if frame.detections:
            scale = window.tall / (window.bottom - window.top), window.wide / (window.right - window.left)
            origin = -window.top * scale[0] - window.skip_y, -window.left * scale[1] - window.skip_x
            draw_boxes(target, frame.detections, scale, origin, _BOX_BGRA, _BACKGROUND_BGRA)

    def _paint_thermal(self, target: U8, frame: FusedFrame, window: _Window, settings: ViewSettings) -> None:
        levels = frame.thermal_8bit
        if levels is None:
            target[:] = _BACKGROUND_BGRA
            return
        table = self._table(settings.palette, settings.black_hot)
        coloured = cv2.LUT(self._cut(levels, window), table)
        target[:] = np.asarray(coloured).view(np.uint8).reshape(*coloured.shape[:2], 4)

    def _paint_heat(self, target: U8, frame: FusedFrame, window: _Window, settings: ViewSettings) -> None:
        """Colour what is hot by the palette, the hottest lightest; the rest stays untouched."""
        thermal = frame.pair.thermal
        assert thermal is not None  # by the caller
        chosen = (settings.heat_share, settings.heat_from)
        if self._heat is None or self._heat[0] is not frame or self._heat[1] != chosen:
            levels = heat_levels(thermal.pixels, *chosen)
            levels = _on_visible(np.asarray(cv2.medianBlur(levels, 3), dtype=np.uint8), frame)  # no lone pixels
            self._heat = (frame, chosen, levels)
        shown = self._cut(self._heat[2], window)
        mask = cv2.threshold(shown, HEAT_FIRST // 2, 255, cv2.THRESH_BINARY)[1]
        if not cv2.countNonZero(mask):
            return
        coloured = np.asarray(
            cv2.LUT(np.maximum(shown, np.uint8(HEAT_FIRST)), self._table(warm_palette(settings.palette), False))
        )
        colour = coloured.view(np.uint8).reshape(*coloured.shape[:2], 4)
        mixed = cv2.addWeighted(target, 1.0 - _HEAT_SHARE, colour, _HEAT_SHARE, 0.0)
        cv2.copyTo(mixed, mask, target)

    def _paint_share(self, target: U8, frame: FusedFrame, window: _Window) -> None:
        fused = cv2.cvtColor(self._cut(frame.pixels, window), cv2.COLOR_RGB2GRAY)
        visible = cv2.cvtColor(self._cut(_visible(frame), window), cv2.COLOR_RGB2GRAY)
        difference = cv2.absdiff(fused, visible)
        colour = np.asarray(cv2.LUT(difference, self._share_table)).view(np.uint8).reshape(*difference.shape, 4)
        cv2.addWeighted(cv2.cvtColor(fused, cv2.COLOR_GRAY2BGRA), 0.6, colour, 1.0, 0.0, dst=target)

    def _colour(self, target: U8, bgr: tuple[int, int, int]) -> U8:
        """A picture of one colour, as large as `target`; kept, because painting one costs as much as looking it up."""
        height, width = target.shape[:2]
        plain = self._colours.get(bgr)
        if plain is None or plain.shape[0] < height or plain.shape[1] < width:
            plain = np.empty((height, width, 4), np.uint8)
            plain[:] = (*bgr, 255)
            self._colours[bgr] = plain
        return plain[:height, :width]

    def _table(self, palette: str, black_hot: bool) -> npt.NDArray[np.int32]:
        key = (palette, black_hot)
        if key not in self._tables:
            if len(self._tables) > 64:
                self._tables.clear()
            colours = palette_table(palette)
            self._tables[key] = _packed(colours[::-1] if black_hot else colours)
        return self._tables[key]


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a picture that a panel shows: its source pixels, and where they go in the view."""

    top: int
    bottom: int
    left: int
    right: int
    tall: int  # of the cut after scaling
    wide: int
    skip_y: int  # of the scaled cut, before the view's first pixel
    skip_x: int
    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def key(self) -> tuple[int, ...]:
        """Windows with one key cut one part out of a picture, wherever it goes."""
        source = (self.top, self.bottom, self.left, self.right)
        return (*source, self.tall, self.wide, self.skip_y, self.skip_x, self.y1 - self.y0, self.x1 - self.x0)

    def cut(self, picture: U8) -> U8:
        """The shown part of (H, W) or (H, W, 3) uint8, as large as it appears."""
        part = picture[self.top : self.bottom, self.left : self.right]
        rows, columns = part.shape[:2]
        if (rows, columns) != (self.tall, self.wide):
            while rows >= 1.9 * self.tall and columns >= 1.9 * self.wide and min(rows, columns) >= 4:
                rows, columns = rows // 2, columns // 2  # halving is much the fastest way to average
                part = part[: 2 * rows, : 2 * columns]
                part = np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
            spare_y, spare_x = rows - self.tall, columns - self.wide
            if 0 <= spare_y <= _spare(self.tall) and 0 <= spare_x <= _spare(self.wide):
                part = part[spare_y // 2 : spare_y // 2 + self.tall, spare_x // 2 : spare_x // 2 + self.wide]
        if part.shape[:2] != (self.tall, self.wide):
            part = np.asarray(cv2.resize(part, (self.wide, self.tall), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        return part[self.skip_y : self.skip_y + self.y1 - self.y0, self.skip_x : self.skip_x + self.x1 - self.x0]


def _spare(size_px: int) -> float:
    return max(_SPARE_PX, _SPARE_SHARE * size_px)


def _window(panel: Panel, viewport: Viewport, picture_height: int, picture_width: int) -> _Window | None:
    top, left, scale = picture_rect(panel.area, viewport, picture_height, picture_width)
    clip = panel.clip
    y0, y1 = max(clip.top, round(top)), min(clip.top + clip.height, round(top + picture_height * scale))
    x0, x1 = max(clip.left, round(left)), min(clip.left + clip.width, round(left + picture_width * scale))
    if y1 <= y0 or x1 <= x0:
        return None
    row0, row1, tall, skip_y = _span(y0, y1, top, scale, picture_height)
    column0, column1, wide, skip_x = _span(x0, x1, left, scale, picture_width)
    return _Window(row0, row1, column0, column1, tall, wide, skip_y, skip_x, y0, y1, x0, x1)


def _span(start: int, stop: int, origin: float, scale: float, size: int) -> tuple[int, int, int, int]:
    """Source pixels for view pixels start..stop, their length after scaling, and how much of it to skip."""
    first = min(max(0, int((start - origin) / scale)), size - 1)
    last = min(size, max(first + 1, int(np.ceil((stop - origin) / scale))))
    skip = max(0, round(start - (origin + first * scale)))
    length = max(skip + stop - start, round((last - first) * scale))
    return first, last, length, skip


def _visible(frame: FusedFrame) -> U8:
    """The visible picture, or the fused one where it is missing (thermal-only mode)."""
    if frame.pair.visible is None or frame.pair.visible.pixels.shape != frame.pixels.shape:
        return frame.pixels
    return frame.pair.visible.pixels


def _to_bgra(rgb: U8, target: U8) -> None:
    cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA, dst=target)


def _packed(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """(256, 3) RGB as 256 BGRA words: one look-up paints a pixel."""
    words = np.full((256, 4), 255, np.uint8)
    words[:, :3] = rgb[:, ::-1]
    return words.view(np.int32).ravel()


def _seen(alignment: ThermalAlignment, window: _Window) -> U8:
    """1 where the thermal camera sees what a panel shows, else 0."""
    return window.cut(alignment.seen.view(np.uint8))


def _on_visible(levels: U8, frame: FusedFrame) -> U8:
    """A picture of the thermal camera's size on the grid of the fused picture, aligned as that was."""
    height, width = frame.pixels.shape[:2]
    if frame.alignment is not None:
        levels = frame.alignment.to_visible(levels)
    elif levels.shape != (height, width):
        levels = np.asarray(cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return np.asarray(levels, dtype=np.uint8)


@cache
def warm_palette(palette: str) -> str:
    """This palette, if its hot half is red to yellow; else one that is."""
    red, green, blue = palette_table(palette)[HEAT_FIRST:].astype(int).mean(axis=0)
    return palette if red - blue > 60 and red - green > 30 else _HEAT_PALETTE


def _paint_edges(target: U8, levels: U8, colour: U8, seen: U8 | None) -> None:
    """Outlines of thermal, but not the border of its field of view."""
    height, width = levels.shape
    if min(height, width) < 3:
        return
    factor = max(1, round((height * width / _EDGE_PIXELS) ** 0.5))
    if factor > 1:  # thermal has no finer structure than that
        size = (width // factor, height // factor)
        levels = np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    smooth = cv2.blur(levels, (3, 3))
    across = cv2.absdiff(smooth[1:-1, 2:], smooth[1:-1, :-2])
    down = cv2.absdiff(smooth[2:, 1:-1], smooth[:-2, 1:-1])
    strength = cv2.copyMakeBorder(cv2.max(across, down), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    if factor > 1:
        strength = cv2.resize(strength, (width, height), interpolation=cv2.INTER_LINEAR)
    if seen is not None:
        reach = 4 * factor + 1
        inner = cv2.erode(seen, np.ones((reach, reach), np.uint8), borderType=cv2.BORDER_REPLICATE)
        strength = cv2.multiply(strength, inner)
    cv2.copyTo(colour, cv2.threshold(strength, _EDGE_LEVELS, 255, cv2.THRESH_BINARY)[1], target)


def _paint_isotherm(target: U8, frame: FusedFrame, window: _Window, isotherm: Isotherm, colour: U8) -> None:
    if frame.pair.thermal is None:
        return
    counts = frame.pair.thermal.pixels
    top = int(np.iinfo(counts.dtype).max)
    low, high = min(isotherm.low, top), min(isotherm.high, top)
    spans = {IsothermKind.ABOVE: (high, top), IsothermKind.BELOW: (0, low), IsothermKind.BETWEEN: (low, high)}
    low, high = spans[isotherm.kind]
    mask = cv2.inRange(counts, np.array(low), np.array(high))
    shown = window.cut(_on_visible(np.asarray(mask, dtype=np.uint8), frame))
    mixed = cv2.addWeighted(target, 0.35, colour, 0.65, 0.0)
    cv2.copyTo(mixed, cv2.threshold(shown, 127, 255, cv2.THRESH_BINARY)[1], target)


def _outline(canvas: U8, rect: Rect) -> None:
    bottom, right = rect.top + rect.height, rect.left + rect.width
    for rows, columns in (
        (slice(rect.top, rect.top + 2), slice(rect.left, right)),
        (slice(bottom - 2, bottom), slice(rect.left, right)),
        (slice(rect.top, bottom), slice(rect.left, rect.left + 2)),
        (slice(rect.top, bottom), slice(right - 2, right)),
    ):
        canvas[rows, columns] = _BORDER_BGRA
