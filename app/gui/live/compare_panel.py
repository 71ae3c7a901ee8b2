"""A and B on the live picture: what B is, and taking B over."""

from __future__ import annotations

from PyQt6.QtCore import QCoreApplication, pyqtSignal
from PyQt6.QtWidgets import QLabel, QPushButton, QWidget

from app.gui.widgets.fuse_choice import FuseChoice
from app.gui.widgets.sections import CheckBox
from app.playback.comparison import ComparisonSettings
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["ComparePanel"]


class ComparePanel(FuseChoice):
    """settings_chosen: ComparisonSettings, None = end it. promote_asked: B becomes what fuses."""

    settings_chosen = pyqtSignal(object)
    promote_asked = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("ComparePanel", "Compare A and B"), same_agc=True, parent=parent)
        self._settings = ComparisonSettings()
        self._agc = AgcConfig()
        self.on = CheckBox(self.tr("A left, B right of the divider"))
        self.on.clicked.connect(lambda _: self._emit())
        self._state = QLabel()
        self._state.setWordWrap(True)
        self._state.setProperty("role", "dim")
        self.promote = QPushButton(self.tr("Use B"))
        self.promote.setToolTip(self.tr("B's engine, model and AGC take the place of A's"))
        self.promote.clicked.connect(self.promote_asked)
        self.body.insertWidget(0, self.on)
        self.body.addWidget(self._state)
        self.body.addWidget(self.promote)
        self.changed.connect(self._emit)
        self.set_open(False)
        self.show_settings(None)

    def show_settings(self, settings: ComparisonSettings | None) -> None:
        """What B is; None = nothing is compared."""
        self.on.setChecked(settings is not None)
        self.promote.setEnabled(settings is not None)
        if settings is not None:
            self._settings = settings
        shown = self._settings
        mode = shown.agc.mode.value if shown.agc is not None else ""
        self.show_choice(shown.engine, shown.preset, shown.weights, mode)

    def show_state(self, text: str) -> None:
        """What B does."""
        self._state.setText(text)
        self._state.setVisible(bool(text))

    def show_agc(self, agc: AgcConfig) -> None:
        """A's AGC; B's differs in the mode alone."""
        self._agc = agc

    def _emit(self) -> None:
        engine, preset, weights, mode = self.choice()
        agc = AgcConfig.model_validate(self._agc.model_dump() | {"mode": AgcMode(mode)}) if mode else None
        self._settings = ComparisonSettings(engine, preset, weights, agc)
        self.settings_chosen.emit(self._settings if self.on.isChecked() else None)
