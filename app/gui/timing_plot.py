"""Latency, skew and rate of the last minute as curves. The plotting library is loaded when it is first looked at."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from PyQt6.QtCore import Qt, QTimer
from PyQt6.QtGui import QFont
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QWidget

from app.gui.theme import colours
from app.stats import Distribution, Latency, Stage, StatsSnapshot

__all__ = ["TimingPlot", "load_library"]

_POINTS = 240
_EVERY_S = 0.25  # between two snapshots
_HEIGHT_PX = 168


def load_library() -> None:
    """Import what the curves are painted with; takes the better part of a second, so not on the GUI thread."""
    import pyqtgraph  # noqa: F401


class TimingPlot(QFrame):
    """Three small plots side by side. Snapshots are kept whether it is shown or not."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("statusbar")
        self.setFixedHeight(_HEIGHT_PX)
        self.setAccessibleName(self.tr("Timing plot"))
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(8, 6, 8, 6)
        self._row.setSpacing(8)
        self._waiting = QLabel(self.tr("loading…"))
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._row.addWidget(self._waiting)
        self._series: dict[str, deque[float]] = {
            name: deque(maxlen=_POINTS)
            for name in ("latency p50", "latency p95", "skew p50", "skew p95", "fused", "shown")
        }
        self._curves: dict[str, Any] = {}
        self._begun = False
        self._left: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._build_one)
        self.hide()

    @property
    def ready(self) -> bool:
        """Whether the curves are there."""
        return self._begun and not self._left

    def build(self) -> None:
        """Make the curves, one plot a turn of the event loop; the library must have been loaded."""
        if self._begun:
            return
        self._begun = True
        self._waiting.hide()
        self._left = [
            (self.tr("Latency, ms"), (("latency p50", self.tr("50 %")), ("latency p95", self.tr("95 %")))),
            (self.tr("Skew, ms"), (("skew p50", self.tr("50 %")), ("skew p95", self.tr("95 %")))),
            (self.tr("Rate, fps"), (("fused", self.tr("fused")), ("shown", self.tr("shown")))),
        ]
        self._timer.start()

    def _build_one(self) -> None:
        import pyqtgraph

        if not self._left:
            self._timer.stop()
            self._draw()
            return
        title, series = self._left.pop(0)
        scheme = colours()
        plot = pyqtgraph.PlotWidget(background=scheme.surface)
        plot.setAccessibleName(title)
        plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        item = plot.getPlotItem()
        item.setTitle(title, color=scheme.dim, size="9pt")
        item.setMouseEnabled(False, False)
        item.setMenuEnabled(False)
        item.hideButtons()
        item.showGrid(y=True, alpha=0.25)
        item.setXRange(-_POINTS * _EVERY_S, 0, padding=0)
        item.enableAutoRange("y", True)
        item.getViewBox().setLimits(yMin=0)
        item.addLegend(offset=(8, 4), labelTextColor=scheme.text, labelTextSize="8pt", horSpacing=12, verSpacing=-6)
        font = QFont(self.font())
        font.setPixelSize(11)
        for side in ("left", "bottom"):
            axis = item.getAxis(side)
            axis.setPen(scheme.border)
            axis.setTextPen(scheme.dim)
            axis.setStyle(tickFont=font, tickLength=-4)
        item.getAxis("left").setWidth(34)
        for number, (name, label) in enumerate(series):
            pen = pyqtgraph.mkPen(scheme.accent if number == 0 else scheme.caution, width=2)
            if number:
                pen.setStyle(Qt.PenStyle.DashLine)
            self._curves[name] = item.plot(pen=pen, name=label)
        self._row.addWidget(plot, 1)

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
        if self.isVisible():
            self._draw()

    def clear(self) -> None:
        """Another rig begins."""
        for series in self._series.values():
            series.clear()

    def last(self, name: str) -> float:
        """The newest point of a curve; NaN without one."""
        series = self._series[name]
        return series[-1] if series else float("nan")

    def _draw(self) -> None:
        for name, curve in self._curves.items():
            values = np.array(self._series[name], np.float64)
            curve.setData((np.arange(len(values)) - len(values) + 1) * _EVERY_S, values)


def _size(figures: Distribution, name: str) -> float | None:
    value = getattr(figures, name)
    return None if value is None else abs(float(value))
