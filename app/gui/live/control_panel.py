"""The column at the right: all settings of the live picture in sections that fold."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from app.configuration.config import AppConfig
from app.gui.live.agc_panel import AgcPanel
from app.gui.live.compare_panel import ComparePanel
from app.gui.live.rig_panels import CalibrationPanel, EnginePanel, RecordPanel, SourcePanel
from app.gui.measuring.measure_panel import MeasurePanel
from app.gui.widgets.model_box import ModelList
from app.gui.widgets.sections import let_scroll
from app.gui.widgets.view_panel import ViewPanel

__all__ = ["ControlPanel"]

_WIDTH = 360


class ControlPanel(QScrollArea):
    """Holds the sections; each has its own signals and setters."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("side")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFixedWidth(_WIDTH)
        self.agc, self.view, self.engine = AgcPanel(), ViewPanel(), EnginePanel()
        self.measure = MeasurePanel()
        self.compare, self.record = ComparePanel(), RecordPanel()
        self.calibration, self.source = CalibrationPanel(), SourcePanel()
        inner = QWidget()
        inner.setObjectName("side")
        column = QVBoxLayout(inner)
        column.setContentsMargins(12, 8, 12, 12)
        column.setSpacing(4)
        for section in (
            self.view,
            self.measure,
            self.agc,
            self.engine,
            self.compare,
            self.record,
            self.calibration,
            self.source,
        ):
            column.addWidget(section)
        column.addStretch(1)
        let_scroll(inner, self)

    def show_config(self, config: AppConfig) -> None:
        """Show the settings of a configuration."""
        self.agc.show_agc(config.agc)
        self.engine.show_engine(config.engine)
        self.record.show_recording(config.recording)
        self.source.show_sources([], config)
        self.calibration.show_file(config.calibration.file)
        self.compare.show_agc(config.agc)

    def show_models(self, models: ModelList) -> None:
        """What models there are."""
        self.engine.show_models(models)
        self.compare.show_models(models)
