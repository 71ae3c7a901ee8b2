"""What is common to live picture and playback: the view settings and what changes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from app.gui.picture.operator_bar import OperatorBar
from app.gui.picture.video_view import VideoView
from app.gui.widgets.view_panel import ViewPanel
from app.rig.radiometry import Radiometry, Surface, is_scale, scale_of
from app.view.measuring import Convert
from app.view.settings import Isotherm, IsothermKind, ViewMode, ViewSettings
from fusion_core.colour import STRENGTH_MAX
from fusion_core.frames import FusedFrame
from fusion_core.thermal.palettes import PALETTES

__all__ = ["ViewController"]

_BLEND_STEP = 0.1
_LIMITS = (22000, 26000)


class ViewController(QObject):
    """Holds the view settings of one page; `view_changed` tells each change. GUI thread.

    scale_changed: counts are read another way, or the surface that is looked at is another.

    Args:
        video: shows pictures by these settings, and asks for changes by the mouse.
        panel: shows the settings, and asks for changes.
    """

    view_changed = pyqtSignal(object)
    scale_changed = pyqtSignal()

    def __init__(self, video: VideoView, panel: ViewPanel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.video = video
        self.view = ViewSettings()
        self.frame: FusedFrame | None = None
        """The picture that is shown."""
        self.scale = "relative"
        self.surface = Surface()
        self._isotherm: Isotherm | None = None  # the last one
        self._panel = panel
        self.strength = 1.0
        """How strongly thermal goes into the fused picture, 0 to STRENGTH_MAX; 1 = as the engine fuses."""
        self.view_changed.connect(video.set_settings)
        self.view_changed.connect(panel.show_view)
        self._operator: OperatorBar | None = None
        panel.strength_asked.connect(self.set_strength)
        panel.scale_chosen.connect(self.set_scale)
        panel.view_asked.connect(lambda changes: self.set_view(**changes))
        video.wipe_moved.connect(lambda at: self.set_view(wipe_at=at))
        video.pip_tapped.connect(self.swap)

    def use_operator_bar(self, bar: OperatorBar) -> None:
        """Take the strength from this bar too."""
        self._operator = bar
        bar.strength.set_share(self.strength)
        bar.strength_moved.connect(self.set_strength)

    def set_view(self, **changes: Any) -> None:
        """Change fields of the view settings."""
        view = dataclasses.replace(self.view, **changes)
        if view != self.view:
            self.view = view
            self._isotherm = view.isotherm or self._isotherm
            self.view_changed.emit(view)

    def set_strength(self, strength: float) -> None:
        """Take more or less of thermal into the fused picture, 0 to STRENGTH_MAX; 1 = as the engine fuses."""
        self.strength = min(STRENGTH_MAX, max(0.0, strength))
        self._panel.show_strength(self.strength)
        if self._operator is not None:
            self._operator.strength.set_share(self.strength)

    @property
    def radiometry(self) -> Radiometry | None:
        """How counts are read as degrees; None = they are relative."""
        return scale_of(self.scale)

    @property
    def convert(self) -> Convert | None:
        """Counts to degrees of the surface that is looked at; None where there are no degrees."""
        radiometry, surface = self.radiometry, self.surface
        return None if radiometry is None else lambda counts: radiometry.of_surface(counts, surface)

    def set_scale(self, scale: str) -> None:
        """Choose how counts are read."""
        self.scale = scale if is_scale(scale) else "relative"
        self._panel.show_scale(self.scale)
        self.scale_changed.emit()

    def set_surface(self, surface: Surface) -> None:
        """Say what is looked at: its emissivity, and what it reflects."""
        self.surface = surface
        self.scale_changed.emit()

    def set_mode(self, mode: ViewMode) -> None:
        """Choose one of the nine views; the next painting shows it."""
        self.set_view(mode=mode)

    def next_mode(self) -> None:
        """Choose the view after this one; after the last comes the first."""
        modes = list(ViewMode)
        self.set_mode(modes[(modes.index(self.view.mode) + 1) % len(modes)])

    def swap(self) -> None:
        """Exchange big and small picture, or the two sides of the wipe."""
        view = self.view
        if view.mode is ViewMode.PIP:
            self.set_view(pip_main=view.pip_inset, pip_inset=view.pip_main)
        else:
            self.set_view(wipe_left=view.wipe_right, wipe_right=view.wipe_left)

    def next_palette(self) -> None:
        """Choose the palette after this one; after the last comes the first."""
        names = list(PALETTES)
        here = names.index(self.view.palette) if self.view.palette in names else -1
        self.set_view(palette=names[(here + 1) % len(names)])

    def toggle_polarity(self) -> None:
        """Change between white-hot and black-hot, for the screen only."""
        self.set_view(black_hot=not self.view.black_hot)

    def toggle_heat(self) -> None:
        """Colour the hottest part of the scene over whatever is shown, or stop that."""
        self.set_view(heat=not self.view.heat)

    def change_blend(self, steps: int) -> None:
        """Take more (positive) or less thermal into the blend."""
        self.set_view(blend=min(1.0, max(0.0, round(self.view.blend + steps * _BLEND_STEP, 2))))

    def next_isotherm(self) -> None:
        """Choose the next of off, above, below and between; after the last comes the first."""
        kinds = list(IsothermKind)
        now = self.view.isotherm
        here = kinds.index(now.kind) if now is not None else -1
        if here + 1 == len(kinds):
            self.set_view(isotherm=None)
            return
        low, high = self.isotherm_limits()
        self.set_view(isotherm=Isotherm(kinds[here + 1], low, high))

    def isotherm_limits(self) -> tuple[int, int]:
        """Return the limits chosen last, counts."""
        last = self.view.isotherm or self._isotherm
        return (last.low, last.high) if last is not None else _LIMITS

    def show_thermal_share(self, shown: bool) -> None:
        """Colour what the fused picture took from thermal, or stop that."""
        self.set_view(thermal_share=shown)
