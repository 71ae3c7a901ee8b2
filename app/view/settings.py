"""What the window shows and how: view modes, panels, zoom. Frozen values without pictures, toolkit or threads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "HEAT_SHARE_MAX",
    "HEAT_SHARE_MIN",
    "Isotherm",
    "IsothermKind",
    "Panel",
    "Picture",
    "Rect",
    "ViewMode",
    "ViewSettings",
    "Viewport",
    "panels_of",
    "picture_rect",
    "to_picture",
]

_GAP_PX = 4  # between panels
_INSET_SHARE = 0.3  # of the view's width, picture-in-picture
_INSET_MARGIN = 0.02
MAX_ZOOM = 32.0
HEAT_SHARE_MIN, HEAT_SHARE_MAX = 0.01, 0.3
"""How much of the thermal picture the heat overlay may colour."""


class ViewMode(StrEnum):
    """The nine ways to look at a pair."""

    FUSED = "fused"
    VISIBLE = "visible"
    THERMAL = "thermal"
    BLEND = "blend"
    PIP = "pip"
    SIDE_BY_SIDE = "side_by_side"
    QUAD = "quad"
    WIPE = "wipe"
    EDGES = "edges"


class Picture(StrEnum):
    """One of the pictures that a panel can show."""

    FUSED = "fused"
    VISIBLE = "visible"
    THERMAL = "thermal"
    BLEND = "blend"
    EDGES = "edges"
    SECOND = "second"  # playback: the pair fused by the other settings


class IsothermKind(StrEnum):
    """Which counts are marked."""

    ABOVE = "above"
    BELOW = "below"
    BETWEEN = "between"


@dataclass(frozen=True, slots=True)
class Isotherm:
    """Marks thermal pixels by their raw counts: above `high`, below `low`, or from `low` to `high`."""

    kind: IsothermKind
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """Everything the viewer chose. Shares and positions are fractions 0..1."""

    mode: ViewMode = ViewMode.FUSED
    palette: str = "inferno"  # perceptually even, and readable with every kind of colour vision
    black_hot: bool = False  # for display only: reverses the palette
    blend: float = 0.5  # share of thermal
    pip_main: Picture = Picture.FUSED
    pip_inset: Picture = Picture.THERMAL
    wipe_left: Picture = Picture.VISIBLE
    wipe_right: Picture = Picture.FUSED
    wipe_at: float = 0.5  # of the view's width
    thermal_share: bool = False  # colour what the fused picture took from thermal
    isotherm: Isotherm | None = None
    heat: bool = False  # colour the hottest part of the scene, in every view
    heat_share: float = 0.03  # of the thermal picture that may be coloured
    heat_from: int | None = None  # counts from which on it is coloured; None = by the share


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    def contains(self, y: float, x: float) -> bool:
        """Whether the point lies inside."""
        return self.top <= y < self.top + self.height and self.left <= x < self.left + self.width


@dataclass(frozen=True, slots=True)
class Viewport:
    """Zoom and pan of every panel. zoom 1 fits the picture into its panel; the centre is in 0..1."""

    zoom: float = 1.0
    center_y: float = 0.5
    center_x: float = 0.5

    def zoomed(self, factor: float, y: float, x: float) -> Viewport:
        """Zoom by `factor` so that the picture's point (y, x), 0..1, stays where it is."""
        zoom = min(MAX_ZOOM, max(1.0, self.zoom * factor))
        ratio = self.zoom / zoom
        return Viewport(zoom, y + (self.center_y - y) * ratio, x + (self.center_x - x) * ratio).clamped()

    def panned(self, dy: float, dx: float) -> Viewport:
        """Move the centre by fractions of the picture."""
        return Viewport(self.zoom, self.center_y + dy, self.center_x + dx).clamped()

    def clamped(self) -> Viewport:
        """The centre kept so near the middle that the picture's edge is not left behind."""
        reach = 0.5 - 0.5 / self.zoom
        return Viewport(
            self.zoom,
            min(0.5 + reach, max(0.5 - reach, self.center_y)),
            min(0.5 + reach, max(0.5 - reach, self.center_x)),
        )


@dataclass(frozen=True, slots=True)
class Panel:
    """Where one picture is shown. `area` is its share of the view; `clip` the part of it that is painted."""

    picture: Picture
    area: Rect
    clip: Rect
    inset: bool = False
    title: bool = field(default=False)


def _panel(picture: Picture, area: Rect, whole: Rect, inset: bool = False) -> Panel:
    """A panel with its name, cut to the view (which may be smaller than a panel at its least)."""
    clip = Rect(
        area.top,
        area.left,
        min(area.height, whole.height - area.top),
        min(area.width, whole.width - area.left),
    )
    return Panel(picture, area, clip, inset, title=True)


def panels_of(settings: ViewSettings, height: int, width: int, picture_height: int, picture_width: int) -> list[Panel]:
    """The panels of a view of height x width pixels, in painting order."""
    whole = Rect(0, 0, height, width)
    mode = settings.mode
    single = {
        ViewMode.FUSED: Picture.FUSED,
        ViewMode.VISIBLE: Picture.VISIBLE,
        ViewMode.THERMAL: Picture.THERMAL,
        ViewMode.BLEND: Picture.BLEND,
        ViewMode.EDGES: Picture.EDGES,
    }.get(mode)
    if single is not None:
        return [Panel(single, whole, whole)]
    if mode is ViewMode.PIP:
        inset = _inset(height, width, picture_height, picture_width)
        return [
            Panel(settings.pip_main, whole, whole, title=True),
            _panel(settings.pip_inset, inset, whole, inset=True),
        ]
    if mode is ViewMode.WIPE:
        at = min(width, max(0, round(settings.wipe_at * width)))
        return [
            Panel(settings.wipe_left, whole, Rect(0, 0, height, at), title=True),
            Panel(settings.wipe_right, whole, Rect(0, at, height, width - at), title=True),
        ]
    order = [Picture.VISIBLE, Picture.THERMAL, Picture.FUSED]
    if mode is ViewMode.SIDE_BY_SIDE:
        rows, columns = _row_shape(height, width, picture_height, picture_width)
    else:
        order.append(Picture.BLEND)
        rows, columns = 2, 2
    return [
        _panel(picture, area, whole) for picture, area in zip(order, _grid(rows, columns, height, width), strict=False)
    ]


def _row_shape(height: int, width: int, picture_height: int, picture_width: int) -> tuple[int, int]:
    """Three pictures in a row, or one above the other where that shows them larger."""
    across = min(height / picture_height, width / 3 / picture_width)
    down = min(height / 3 / picture_height, width / picture_width)
    return (1, 3) if across >= down else (3, 1)


def _grid(rows: int, columns: int, height: int, width: int) -> list[Rect]:
    tall = max(1, (height - (rows - 1) * _GAP_PX) // rows)
    wide = max(1, (width - (columns - 1) * _GAP_PX) // columns)
    return [
        Rect(row * (tall + _GAP_PX), column * (wide + _GAP_PX), tall, wide)
        for row in range(rows)
        for column in range(columns)
    ]


def _inset(height: int, width: int, picture_height: int, picture_width: int) -> Rect:
    wide = max(8, round(width * _INSET_SHARE))
    tall = max(8, round(wide * picture_height / picture_width))
    if tall > 0.5 * height:
        tall = max(8, height // 2)
        wide = max(8, round(tall * picture_width / picture_height))
    margin = round(min(height, width) * _INSET_MARGIN)
    return Rect(max(0, height - tall - margin), max(0, width - wide - margin), tall, wide)


def picture_rect(area: Rect, viewport: Viewport, picture_height: int, picture_width: int) -> tuple[float, float, float]:
    """Where the whole picture lies: (top, left, scale), so that view pixel = top or left + scale * picture pixel."""
    scale = min(area.height / picture_height, area.width / picture_width) * viewport.zoom
    top = area.top + area.height / 2 - viewport.center_y * picture_height * scale
    left = area.left + area.width / 2 - viewport.center_x * picture_width * scale
    return top, left, scale


def to_picture(
    panel: Panel, viewport: Viewport, picture_height: int, picture_width: int, y: float, x: float
) -> tuple[float, float] | None:
    """The picture's pixel (y, x) under a point of the view; None outside the picture or the panel."""
    if not panel.clip.contains(y, x):
        return None
    top, left, scale = picture_rect(panel.area, viewport, picture_height, picture_width)
    row, column = (y - top) / scale, (x - left) / scale
    inside = 0 <= row < picture_height and 0 <= column < picture_width and math.isfinite(row + column)
    return (row, column) if inside else None
