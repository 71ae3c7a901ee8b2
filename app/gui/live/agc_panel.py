"""How counts become levels: mode, span by histogram, and the parameters that the mode uses."""

from __future__ import annotations

from functools import partial
from typing import Any

from PyQt6.QtCore import QT_TRANSLATE_NOOP, QCoreApplication, pyqtSignal
from PyQt6.QtWidgets import QDoubleSpinBox, QLabel, QPushButton, QWidget

from app.gui.picture.histogram_view import HistogramView
from app.gui.widgets.sections import Section, combo, form, spin
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["AgcPanel"]

_MODES = (
    (AgcMode.PLATEAU, QT_TRANSLATE_NOOP("AgcPanel", "Plateau (steady)")),
    (AgcMode.PERCENTILE, QT_TRANSLATE_NOOP("AgcPanel", "Percentile")),
    (AgcMode.LINEAR, QT_TRANSLATE_NOOP("AgcPanel", "Linear, min to max")),
    (AgcMode.CLAHE, QT_TRANSLATE_NOOP("AgcPanel", "CLAHE (local)")),
    (AgcMode.MANUAL, QT_TRANSLATE_NOOP("AgcPanel", "Manual span")),
)
# field, label, low, high, step, decimals, unit, modes that use it
_ALL = tuple(AgcMode)
_AUTO = (AgcMode.PLATEAU, AgcMode.PERCENTILE, AgcMode.LINEAR, AgcMode.CLAHE)
_TAILS = (AgcMode.PLATEAU, AgcMode.PERCENTILE, AgcMode.CLAHE)
_EQUAL = (AgcMode.PLATEAU, AgcMode.CLAHE)
_FIELDS: tuple[tuple[str, str, float, float, float, int, str, tuple[AgcMode, ...]], ...] = (
    ("tail_low_percent", QT_TRANSLATE_NOOP("AgcPanel", "Cold tail"), 0.0, 20.0, 0.1, 1, " %", _TAILS),
    ("tail_high_percent", QT_TRANSLATE_NOOP("AgcPanel", "Hot tail"), 0.0, 20.0, 0.1, 1, " %", _TAILS),
    ("max_gain", QT_TRANSLATE_NOOP("AgcPanel", "Largest gain"), 0.1, 255.0, 0.5, 1, "", _AUTO),
    ("plateau", QT_TRANSLATE_NOOP("AgcPanel", "Plateau"), 1.0, 1000.0, 1.0, 0, "", _EQUAL),
    ("linear_share", QT_TRANSLATE_NOOP("AgcPanel", "Linear share"), 0.0, 1.0, 0.05, 2, "", _EQUAL),
    ("clahe_clip", QT_TRANSLATE_NOOP("AgcPanel", "CLAHE clip"), 0.1, 40.0, 0.5, 1, "", (AgcMode.CLAHE,)),
    ("damping_s", QT_TRANSLATE_NOOP("AgcPanel", "Damping"), 0.0, 60.0, 0.1, 1, " s", _AUTO),
    ("detail", QT_TRANSLATE_NOOP("AgcPanel", "Detail"), 0.0, 1.0, 0.05, 2, "", _ALL),
)


class AgcPanel(Section):
    """agc_chosen: a whole AgcConfig."""

    agc_chosen = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("AgcPanel", "Thermal AGC"), "tune", True, parent)
        self._config = AgcConfig()
        self._automatic = AgcMode.PLATEAU
        self._mode = combo(self.tr("AGC mode"), [(self.tr(text), mode) for mode, text in _MODES], self._set_mode)
        self.histogram = HistogramView()
        self.histogram.span_chosen.connect(self._set_span)
        self.histogram.span_dragged.connect(self._set_span)
        self._fields: dict[str, tuple[QLabel, QDoubleSpinBox]] = {}
        self._form = form()
        self._form.addRow(self.tr("Mode"), self._mode)
        for field, text, low, high, step, decimals, unit, _ in _FIELDS:
            label = QLabel(self.tr(text))
            box = spin(self.tr(text), low, high, step, decimals, unit, partial(self._set, field))
            self._fields[field] = (label, box)
            self._form.addRow(label, box)
        self._auto = QPushButton(self.tr("Back to automatic"))
        self._auto.clicked.connect(lambda: self._set_mode(self._automatic))
        self.body.addWidget(self.histogram)
        self.body.addLayout(self._form)
        self.body.addWidget(self._auto)
        self.show_agc(self._config)

    def show_agc(self, config: AgcConfig) -> None:
        """Show these settings."""
        self._config = config
        if config.mode is not AgcMode.MANUAL:
            self._automatic = config.mode
        self._mode.setCurrentIndex(self._mode.findData(config.mode))
        for field, _, _, _, _, _, _, modes in _FIELDS:
            _, box = self._fields[field]
            box.blockSignals(True)
            box.setValue(float(getattr(config, field)))
            box.blockSignals(False)
            self._form.setRowVisible(box, config.mode in modes)
        self._auto.setVisible(config.mode is AgcMode.MANUAL)

    def _set_mode(self, mode: object) -> None:
        chosen = AgcMode(str(mode))
        changes: dict[str, Any] = {"mode": chosen}
        if chosen is AgcMode.MANUAL and self._config.manual_low is None:
            low, high = self.histogram.span
            changes |= {"manual_low": max(0, round(low)), "manual_high": max(round(low) + 1, round(high))}
        self._change(**changes)

    def _set_span(self, low: int, high: int) -> None:
        low = min(65534, max(0, low))
        self._change(mode=AgcMode.MANUAL, manual_low=low, manual_high=min(65535, max(low + 1, high)))

    def _set(self, field: str, value: float) -> None:
        self._change(**{field: value})

    def _change(self, **changes: Any) -> None:
        config = AgcConfig.model_validate(self._config.model_dump() | changes)
        if config != self._config:
            self.show_agc(config)
            self.agc_chosen.emit(config)
