"""Decides what the colour scale beside a picture shows, and what dragging its ends and locking it do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PyQt6.QtCore import QObject

from app.gui.picture.scale_bar import ScaleBar
from app.gui.picture.view_controller import ViewController
from app.view.colour_scale import ColourScale, ScaleKind, colour_scale

__all__ = ["ScaleController"]


class ScaleController(QObject):
    """GUI thread; `show` is called with each set of numbers or picture.

    Args:
        set_span: map this span of counts from now on, by hand.
        lock_span: hold the span of the thermal picture, or let it follow the scene again.
        locked: whether it is held.
    """

    def __init__(
        self,
        view: ViewController,
        bar: ScaleBar,
        set_span: Callable[[int, int], None],
        lock_span: Callable[[], None],
        locked: Callable[[], bool],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._view, self._bar = view, bar
        self._set_span, self._lock_span, self._locked = set_span, lock_span, locked
        self.scale: ColourScale | None = None
        bar.span_dragged.connect(self.drag)
        bar.lock_asked.connect(self.lock)
        view.view_changed.connect(lambda _: self.show())
        view.scale_changed.connect(self.show)

    def show(self) -> None:
        """Show what the palette means in the view that is shown."""
        view = self._view
        self.scale = scale = colour_scale(view.frame, view.view) if view.frame is not None else None
        convert = view.convert
        to_unit = None if convert is None else lambda counts: float(convert(np.array([counts]))[0])
        self._bar.show_scale(scale, to_unit, "°C")
        if scale is not None:
            heat = scale.kind is ScaleKind.HEAT
            self._bar.show_locked(view.view.heat_from is not None if heat else self._locked())

    def drag(self, low: float, high: float) -> None:
        """Map the span by hand; with heat, the lower end is the threshold."""
        if self.scale is None:
            return
        if self.scale.kind is ScaleKind.HEAT:
            self._view.set_view(heat_from=round(low))
        else:
            low_counts = min(65534, max(0, round(low)))
            self._set_span(low_counts, min(65535, max(low_counts + 1, round(high))))
        self.show()

    def lock(self) -> None:
        """Hold what is mapped now, or let it follow the scene again."""
        if self.scale is None:
            return
        if self.scale.kind is ScaleKind.HEAT:
            held = self._view.view.heat_from is not None
            self._view.set_view(heat_from=None if held else round(self.scale.low))
        else:
            self._lock_span()
        self.show()
