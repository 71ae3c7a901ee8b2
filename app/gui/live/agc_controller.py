"""Decides about the AGC: its settings, its histogram, and its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject

from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.window_actions import WindowActions
from app.gui.live.control_panel import ControlPanel
from app.gui.live.live_controller import LiveController
from fusion_core.thermal.agc import AgcConfig, AgcMode

if TYPE_CHECKING:
    from app.pipeline.fusion_thread import AgcHistogram

__all__ = ["AgcController"]


class AgcController(QObject):
    """Sets the AGC of the pipeline of `live`. GUI thread."""

    def __init__(
        self,
        panel: ControlPanel,
        actions: WindowActions,
        live: LiveController,
        tasks: TaskRunner,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._panel, self._live, self._tasks = panel, live, tasks
        self._before_lock: AgcConfig | None = None
        self._reading = False  # the histogram, on a task's thread
        live.stats_ready.connect(lambda _: self._read_histogram())
        panel.agc.agc_chosen.connect(self.set_agc)
        actions.connect("next_agc", self.next_agc)
        actions.connect("lock_span", self.lock_span)

    @property
    def _now(self) -> AgcConfig:
        return self._live.config.agc if self._live.config is not None else AgcConfig()

    def set_agc(self, config: AgcConfig) -> None:
        """Use these settings from the next frame on."""
        self._live.call("AGC", lambda pipeline: pipeline.fusion.set_agc(config))
        self._live.note_section(agc=config)
        self._panel.agc.show_agc(config)
        self._panel.compare.show_agc(config)

    def next_agc(self) -> None:
        """Use the next automatic mode; after the last comes the first."""
        modes = [mode for mode in AgcMode if mode is not AgcMode.MANUAL]
        config = self._now
        here = modes.index(config.mode) if config.mode in modes else -1
        self.set_agc(config.model_copy(update={"mode": modes[(here + 1) % len(modes)]}))

    def lock_span(self) -> None:
        """Hold the span of counts that is mapped now (fixed colours); once more: automatic as before."""
        config = self._now
        if config.mode is AgcMode.MANUAL:
            before = self._before_lock
            self.set_agc(before if before is not None else config.model_copy(update={"mode": AgcMode.PLATEAU}))
            return
        limits = self._live.frame.agc_limits if self._live.frame is not None else None
        if limits is None:
            self._live.notice.emit(self.tr("There is no thermal picture whose span could be locked"))
            return
        self._before_lock = config
        low = min(65534, max(0, round(limits[0])))
        span = {"manual_low": low, "manual_high": min(65535, max(low + 1, round(limits[1])))}
        self.set_agc(config.model_copy(update={"mode": AgcMode.MANUAL, **span}))

    @property
    def locked(self) -> bool:
        """Whether the span is held."""
        return self._now.mode is AgcMode.MANUAL

    def set_span(self, low: int, high: int) -> None:
        """Map these counts from now on; `lock_span` goes back to the automatic mode from before."""
        config = self._now
        if config.mode is not AgcMode.MANUAL:
            self._before_lock = config
        self.set_agc(config.model_copy(update={"mode": AgcMode.MANUAL, "manual_low": low, "manual_high": high}))

    def _read_histogram(self) -> None:
        pipeline = self._live.pipeline
        if pipeline is None or self._reading or not self._panel.agc.opened:
            return
        self._reading = True
        self._tasks.run(
            pipeline.fusion.agc_histogram, self._on_histogram_read, lambda _: self._on_histogram_read(None), Lane.FILES
        )

    def _on_histogram_read(self, histogram: AgcHistogram | None) -> None:
        self._reading = False
        if histogram is not None:
            self._panel.agc.histogram.set_unit(self._live.convert, "°C")
            self._panel.agc.histogram.set_histogram(histogram.counts, histogram.edges, histogram.limits)
