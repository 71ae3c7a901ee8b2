"""What one side of a comparison is fused by: engine, model, AGC. For playback (A and B) and the live picture (B)."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QWidget

from app.configuration.config import NEURAL_ENGINES, EngineName
from app.gui.widgets.model_box import ModelBox, ModelList
from app.gui.widgets.sections import Section, combo, form
from app.playback.fuser import RECORDED
from fusion_core.thermal.agc import AgcMode

__all__ = ["FuseChoice"]

_NEURAL = tuple(name.value for name in NEURAL_ENGINES)


class FuseChoice(Section):
    """changed: the user picked something else. add_asked: path of a weights file to take into the store.

    Args:
        recorded: offer the fused track of a recording.
        same_agc: offer to take the other side's levels as they are.
    """

    changed = pyqtSignal()
    add_asked = pyqtSignal(str)

    def __init__(
        self, title: str, *, recorded: bool = False, same_agc: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(title, "layers", True, parent)
        engines: list[tuple[str, object]] = [(self.tr("as recorded"), RECORDED)] if recorded else []
        engines += [(name.value, name.value) for name in EngineName if name is not EngineName.TENSORRT]
        self.engine = combo(self.tr("{0}: engine").format(title), engines, lambda _: self._changed())
        self.model = ModelBox(self.tr("{0}: model").format(title))
        self.model.chosen.connect(self._changed)
        self.model.add_asked.connect(self.add_asked)
        modes: list[tuple[str, object]] = [(self.tr("as A"), "")] if same_agc else []
        modes += [(m.value, m.value) for m in AgcMode if m is not AgcMode.MANUAL]
        self.agc = combo(self.tr("{0}: AGC").format(title), modes, lambda _: self._changed())
        self._form = form()
        self._form.addRow(self.tr("Engine"), self.engine)
        self._form.addRow(self.tr("Model"), self.model)
        self._form.addRow(self.tr("AGC"), self.agc)
        self.body.addLayout(self._form)

    def show_models(self, models: ModelList) -> None:
        """What can be chosen."""
        self.model.show_models(models)

    def show_choice(self, engine: str, preset: str, weights: Path | None, agc: str) -> None:
        """Show these; agc: a mode, or "" for the other side's levels."""
        self.engine.setCurrentIndex(self.engine.findData(engine))
        self.model.show_choice(preset, weights)
        self.agc.setCurrentIndex(self.agc.findData(agc))
        self._show_rows()

    def choice(self) -> tuple[str, str, Path | None, str]:
        """(engine, preset, weights, AGC mode or "") as chosen now."""
        engine = str(self.engine.currentData())
        preset, weights = self.model.choice()
        return engine, preset, weights if engine in _NEURAL else None, str(self.agc.currentData() or "")

    def _changed(self) -> None:
        self._show_rows()
        self.changed.emit()

    def _show_rows(self) -> None:
        engine = str(self.engine.currentData())
        self._form.setRowVisible(self.model, engine in _NEURAL)
        self._form.setRowVisible(self.agc, engine != RECORDED)
