"""The choice of weights: shipped presets, models of the user's store, the one in use there, or any file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PyQt6.QtCore import QSignalBlocker, Qt, pyqtSignal
from PyQt6.QtWidgets import QFileDialog, QHBoxLayout, QWidget

from app.configuration.config import Preset
from app.gui.common.theme import icon_button
from app.gui.widgets.sections import combo
from fusion_core.model_store import ACTIVE, StoredModel

__all__ = ["ModelBox", "ModelList"]


@dataclass(frozen=True, slots=True)
class ModelList:
    """Which models can be chosen, which is in use, and which one rolling back returns to ("" = none)."""

    models: tuple[StoredModel, ...] = ()
    active: str = ""
    before: str = ""


class ModelBox(QWidget):
    """A list and a button that adds a file. chosen: the user picked a model. add_asked: path of a weights file."""

    chosen = pyqtSignal()
    add_asked = pyqtSignal(str)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._models = ModelList()
        self._preset, self._weights = Preset.TINY.value, ""
        self.box = combo(name, [], lambda _: self.chosen.emit())
        add = icon_button("plus")
        add.setToolTip(self.tr("Add a weights file to the models; it is checked first"))
        add.setAccessibleName(self.tr("{0}: add a weights file").format(name))
        add.clicked.connect(self._choose_file)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.box, 1)
        row.addWidget(add)
        self.show_models(self._models)

    def show_models(self, models: ModelList) -> None:
        """What can be chosen; the choice stays."""
        preset, weights = self.choice() if self.box.count() else (self._preset, None)
        self._models = models
        with QSignalBlocker(self.box):
            self.box.clear()
            for model in models.models:
                mark = "  ●" if model.name == models.active else ""
                data = (model.name, "") if model.origin == "shipped" else (Preset.TINY.value, str(model.path))
                self.box.addItem(f"{model.name}{mark}", data)
                tip = self.tr("shipped") if model.origin == "shipped" else self.tr("added {0}").format(model.added[:10])
                tip += f", {model.size_bytes / 1e6:.1f} MB"
                self.box.setItemData(self.box.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
            if not models.models:
                for name in (Preset.TINY.value, Preset.SMALL.value):
                    self.box.addItem(name, (name, ""))
            in_use = (
                self.tr("the one in use ({0})").format(models.active) if models.active else self.tr("the one in use")
            )
            self.box.addItem(in_use, (Preset.TINY.value, ACTIVE))
        self.show_choice(preset, weights)

    def show_choice(self, preset: str, weights: Path | None) -> None:
        """Show these; a file that is no model of the store gets an entry of its own."""
        self._preset, self._weights = preset, str(weights) if weights is not None else ""
        with QSignalBlocker(self.box):
            self.box.setCurrentIndex(self._find())

    def choice(self) -> tuple[str, Path | None]:
        """(preset, weights) as chosen now."""
        data = self.box.currentData()
        preset, weights = data if isinstance(data, tuple) else (self._preset, self._weights)
        return preset, Path(weights) if weights else None

    def _find(self) -> int:
        for index in range(self.box.count()):
            preset, weights = self.box.itemData(index)
            if (weights == self._weights and weights) or (not weights and not self._weights and preset == self._preset):
                return index
        name = Path(self._weights).name if self._weights else self._preset
        self.box.addItem(name, (self._preset, self._weights))
        return self.box.count() - 1

    def _choose_file(self) -> None:
        dialog = QFileDialog(self, self.tr("Weights"), "", self.tr("Weights (*.safetensors)"))
        dialog.fileSelected.connect(self.add_asked)
        dialog.open()
