"""Decides about the AGC's keys: the next mode, and holding the span that is mapped now. No widget."""

from __future__ import annotations

from PyQt6.QtCore import QObject

from app.gui.live.controller import MainController
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["AgcController"]


class AgcController(QObject):
    """GUI thread."""

    def __init__(self, main: MainController, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._main = main
        self._automatic_agc: AgcConfig | None = None  # before the span was locked

    @property
    def _now(self) -> AgcConfig:
        return self._main.config.agc if self._main.config is not None else AgcConfig()

    def next_agc(self) -> None:
        """The next automatic mode, round and round."""
        modes = [mode for mode in AgcMode if mode is not AgcMode.MANUAL]
        config = self._now
        here = modes.index(config.mode) if config.mode in modes else -1
        self._main.set_agc(config.model_copy(update={"mode": modes[(here + 1) % len(modes)]}))

    def lock_span(self) -> None:
        """Hold the span of counts that is mapped now (fixed colours); once more: automatic as before."""
        config = self._now
        if config.mode is AgcMode.MANUAL:
            back = self._automatic_agc
            self._main.set_agc(back if back is not None else config.model_copy(update={"mode": AgcMode.PLATEAU}))
            return
        limits = self._main.frame.agc_limits if self._main.frame is not None else None
        if limits is None:
            self._main.notice.emit(self.tr("There is no thermal picture whose span could be locked"))
            return
        self._automatic_agc = config
        low = min(65534, max(0, round(limits[0])))
        span = {"manual_low": low, "manual_high": min(65535, max(low + 1, round(limits[1])))}
        self._main.set_agc(config.model_copy(update={"mode": AgcMode.MANUAL, **span}))
