"""Latency, skew and rate of the last minute as curves. The plotting library is loaded when it is first looked at.

Its ready-made plot widget takes 15 to 20 ms to make, each of the three, most of that for menus that nobody sees. The
plots here are put together from its parts, a part a turn of the event loop: the video does not wait for them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QEvent, Qt, QTimer
from PyQt6.QtGui import QFont
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.gui.common.theme import colours
from app.pipeline.state.stats import Distribution, Latency, Stage, StatsSnapshot

__all__ = ["TimingPlot", "load_library"]

_POINTS = 240
_EVERY_S = 0.25  # between two snapshots
_HEIGHT_PX = 176
_AXIS_PX = 38
_TICK_FONT_PX = 12


def load_library() -> None:
    """Import what the curves are painted with; takes the better part of a second, so not on the GUI thread."""
    import pyqtgraph  # noqa: F401


class _Plot(QWidget):
    """A title that is the legend too, and below it two curves over the last minute. `steps` makes it."""

    def __init__(self, title: str, series: Sequence[tuple[str, str]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(title)
        self._title, self._series = title, tuple(series)
        self._legend = QLabel()
        self._legend.setProperty("role", "caption")
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self._column.addWidget(self._legend)
        self._view: Any = None
        self._box: Any = None
        self._axes: list[Any] = []
        self._curves: dict[str, Any] = {}
        self._top = 0.0

    def steps(self) -> Iterator[None]:
        """Make it; a pause after each part. The library must have been loaded."""
        import pyqtgraph

        self._view = view = pyqtgraph.GraphicsView(background=None)
        view.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        view.setAccessibleName(self._title)
        layout = view.centralLayout
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        yield
        self._box = box = pyqtgraph.ViewBox(enableMenu=False, enableMouse=False)
        box.disableAutoRange()
        layout.addItem(box, 0, 1)
        yield
        font = QFont(self.font())
        font.setPixelSize(_TICK_FONT_PX)
        for side, row, column in (("left", 0, 0), ("bottom", 1, 1)):
            axis = pyqtgraph.AxisItem(side)
            axis.linkToView(box)
            axis.setStyle(tickFont=font, tickLength=-4)
            layout.addItem(axis, row, column)
            self._axes.append(axis)
            yield
        self._axes[0].setWidth(_AXIS_PX)
        self._axes[0].setGrid(64)
        box.setXRange(-_POINTS * _EVERY_S, 0, padding=0)
        yield
        for name, _ in self._series:
            self._curves[name] = curve = pyqtgraph.PlotCurveItem(connect="finite")
            box.addItem(curve, ignoreBounds=True)
            yield
        self.use_colours()
        yield
        self._column.addWidget(view, 1)
        self.show()

    def use_colours(self) -> None:
        """Paint in the colours of the scheme in use."""
        import pyqtgraph

        scheme = colours()
        lines = ((scheme.accent, Qt.PenStyle.SolidLine, "━"), (scheme.caution, Qt.PenStyle.DashLine, "╍"))
        self._view.setBackground(scheme.surface)
        for axis in self._axes:
            axis.setPen(scheme.border)
            axis.setTextPen(scheme.dim)
        text = f"<b>{self._title}</b>"
        for (name, label), (colour, style, sign) in zip(self._series, lines, strict=True):
            if name in self._curves:
                self._curves[name].setPen(pyqtgraph.mkPen(colour, width=2, style=style))
            text += f'&nbsp;&nbsp;&nbsp;<span style="color: {colour}">{sign} {label}</span>'
        self._legend.setText(text)

    def draw(self, times_s: npt.NDArray[np.float64], values: dict[str, npt.NDArray[np.float64]]) -> None:
        """Show the curves; the axis grows at once and shrinks only when it is far too long."""
        largest = 0.0
        for name, curve in self._curves.items():
            curve.setData(times_s, values[name], connect="finite")
            finite = values[name][np.isfinite(values[name])]
            largest = max(largest, float(finite.max()) if finite.size else 0.0)
        top = _round_up(1.05 * largest)
        if top > self._top or top < 0.6 * self._top:
            self._top = top
            self._box.setYRange(0.0, top, padding=0)


class TimingPlot(QFrame):
    """Three small plots side by side. Snapshots are kept whether it is shown or not."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("statusbar")
        self.setFixedHeight(_HEIGHT_PX)
        self.setAccessibleName(self.tr("Timing plot"))
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(12, 8, 12, 6)
        self._row.setSpacing(16)
        self._waiting = QLabel(self.tr("loading…"))
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._row.addWidget(self._waiting)
        self._series: dict[str, deque[float]] = {
            name: deque(maxlen=_POINTS)
            for name in ("latency p50", "latency p95", "skew p50", "skew p95", "fused", "shown")
        }
        self._plots: list[_Plot] = []
        self._steps: Iterator[None] | None = None
        self._ready = False
        self._stale: list[_Plot] = []  # still without the newest snapshot
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._go_on)
        self.hide()

    @property
    def ready(self) -> bool:
        """Whether the curves are there."""
        return self._ready

    def build(self) -> None:
        """Make the curves, a part a turn of the event loop; the library must have been loaded."""
        if self._steps is None:
            self._steps = self._make()
            self._timer.start()

    def _make(self) -> Iterator[None]:
        for title, series in (
            (self.tr("Latency, ms"), (("latency p50", self.tr("50 %")), ("latency p95", self.tr("95 %")))),
            (self.tr("Skew, ms"), (("skew p50", self.tr("50 %")), ("skew p95", self.tr("95 %")))),
            (self.tr("Rate, fps"), (("fused", self.tr("fused")), ("shown", self.tr("shown")))),
        ):
            plot = _Plot(title, series)
            plot.hide()
            yield from plot.steps()
            self._waiting.hide()
            self._row.addWidget(plot, 1)
            self._plots.append(plot)
            yield
        self._ready = True

    def _go_on(self) -> None:
        """One more part, or one more plot that is behind; then rest."""
        if not self._ready and self._steps is not None:
            next(self._steps, None)
        elif self._stale:
            self._draw(self._stale.pop(0))
        else:
            self._timer.stop()

    def add(self, snapshot: StatsSnapshot) -> None:
        """One more point a curve."""
        shown, fused = snapshot.latency_ms[Latency.SHOWN], snapshot.latency_ms[Latency.FUSED]
        latency = shown if shown.count else fused
        values = {
            "latency p50": latency.p50,
            "latency p95": latency.p95,
            "skew p50": _size(snapshot.skew_ms, "p50"),
            "skew p95": _size(snapshot.skew_ms, "p95"),
            "fused": snapshot.fps[Stage.FUSED],
            "shown": snapshot.fps[Stage.SHOWN],
        }
        for name, value in values.items():
            self._series[name].append(float("nan") if value is None else float(value))
        if self.isVisible() and self._ready:
            self._stale = list(self._plots)  # one a turn, so that pictures come in between
            self._timer.start()

    def clear(self) -> None:
        """Another rig begins."""
        for series in self._series.values():
            series.clear()

    def last(self, name: str) -> float:
        """The newest point of a curve; NaN without one."""
        series = self._series[name]
        return series[-1] if series else float("nan")

    def changeEvent(self, event: QEvent | None) -> None:
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange and self._ready:
            for plot in self._plots:
                plot.use_colours()

    def _draw(self, plot: _Plot) -> None:
        values = {name: np.array(series, np.float64) for name, series in self._series.items()}
        count = len(values["fused"])
        plot.draw(np.arange(1 - count, 1, dtype=np.float64) * _EVERY_S, values)


def _size(figures: Distribution, name: str) -> float | None:
    value = getattr(figures, name)
    return None if value is None else abs(float(value))


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 1 for nothing."""
    if value <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= value)
