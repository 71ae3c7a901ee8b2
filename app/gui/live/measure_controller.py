"""Decides about measuring on the live picture: where, in which unit, and what the readout says."""

from __future__ import annotations

from PyQt6.QtCore import QObject, pyqtSignal

from app.gui.common.pipeline_protocol import Readout
from app.gui.common.window_actions import WindowActions
from app.gui.live.live_controller import LiveController
from app.gui.live.live_page import LivePage
from app.view.composer import counts_statistics

__all__ = ["MeasureController"]


class MeasureController(QObject):
    """Measures anew with each set of numbers. GUI thread. readout_changed: Readout; None = nothing is measured."""

    readout_changed = pyqtSignal(object)

    def __init__(
        self, page: LivePage, actions: WindowActions, live: LiveController, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._live = live
        self._region: tuple[float, float, float, float] | None = None
        self.readout_changed.connect(self._on_readout_changed)
        live.stats_ready.connect(lambda _: self._measure())
        live.scale_changed.connect(self._measure)
        live.video.region_chosen.connect(self.set_region)
        page.panel.view.measure_toggled.connect(page.show_measuring)
        page.panel.view.measure_cleared.connect(lambda: self.set_region(None))
        actions.connect("measure", page.show_measuring)

    def set_region(self, region: tuple[float, float, float, float] | None) -> None:
        """Measure here: (top, left, height, width) as fractions of the picture; None ends it."""
        self._region = region
        if region is None:
            self.readout_changed.emit(None)
        self._measure()

    def _on_readout_changed(self, readout: Readout | None) -> None:
        self._live.video.set_readout(readout.region if readout else None, readout.text if readout else "")

    def _measure(self) -> None:
        if self._region is None or self._live.frame is None:
            return
        found = counts_statistics(self._live.frame, *self._region)
        if found is None:
            self.readout_changed.emit(Readout(self._region, self.tr("no thermal picture")))
            return
        values = [float(found.minimum), found.mean, float(found.maximum)]
        scale = self._live.radiometry
        unit = self.tr("counts, relative")
        shown = [f"{value:.0f}" for value in values]
        if scale is not None:
            unit, shown = "°C", [f"{scale.celsius(value):.1f}" for value in values]
        text = f"{shown[1]} {unit}"
        if self._region[2] or self._region[3]:
            text = f"{shown[0]} … {shown[1]} … {shown[2]} {unit}"
        self.readout_changed.emit(Readout(self._region, text))
