"""Playback: the picture, a time line, A and B, and rendering a range. Shows and asks; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QAction
from PyQt6.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from app.config import NEURAL_ENGINES, EngineName, Preset
from app.gui.live_page import VideoStage, tool_button, view_buttons
from app.gui.playback_controller import SPEEDS
from app.gui.sections import Section, combo, form
from app.gui.theme import icon_button
from app.gui.view_panel import ViewPanel
from app.playback import RECORDED, FuseSettings
from fusion_core.agc import AgcConfig, AgcMode

__all__ = ["PlaybackPage"]


class _SidePanel(Section):
    """What one side is fused by. chosen: FuseSettings."""

    chosen = pyqtSignal(object)

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(title, "layers", True, parent)
        self._settings = FuseSettings()
        engines: list[tuple[str, object]] = [(self.tr("as recorded"), RECORDED)]
        engines += [(name.value, name.value) for name in EngineName if name is not EngineName.TENSORRT]
        self.engine = combo(self.tr("{0}: engine").format(title), engines, lambda _: self._emit())
        presets: list[tuple[str, object]] = [(name.value, name.value) for name in Preset]
        self.preset = combo(self.tr("{0}: network").format(title), presets, lambda _: self._emit())
        modes: list[tuple[str, object]] = [(m.value, m.value) for m in AgcMode if m is not AgcMode.MANUAL]
        self.agc = combo(self.tr("{0}: AGC").format(title), modes, lambda _: self._emit())
        self.weights = QLineEdit()
        self.weights.setPlaceholderText(self.tr("shipped"))
        self.weights.setAccessibleName(self.tr("{0}: weights file").format(title))
        self.weights.editingFinished.connect(self._emit)
        choose = icon_button("folder-open")
        choose.setAccessibleName(self.tr("{0}: choose a weights file").format(title))
        choose.clicked.connect(self._choose)
        files = QHBoxLayout()
        files.setSpacing(4)
        files.addWidget(self.weights, 1)
        files.addWidget(choose)
        self._form = form()
        self._form.addRow(self.tr("Engine"), self.engine)
        self._form.addRow(self.tr("Network"), self.preset)
        self._form.addRow(self.tr("Weights"), files)
        self._form.addRow(self.tr("AGC"), self.agc)
        self._files = files
        self.body.addLayout(self._form)

    def show_settings(self, settings: FuseSettings) -> None:
        """Show these."""
        self._settings = settings
        self.engine.setCurrentIndex(self.engine.findData(settings.engine))
        self.preset.setCurrentIndex(self.preset.findData(settings.preset))
        self.agc.setCurrentIndex(self.agc.findData(settings.agc.mode.value))
        self.weights.setText(str(settings.weights or ""))
        neural = settings.engine in [name.value for name in NEURAL_ENGINES]
        self._form.setRowVisible(self.preset, neural)
        self._form.setRowVisible(self._files, neural)
        self._form.setRowVisible(self.agc, settings.engine != RECORDED)

    def _choose(self) -> None:
        dialog = QFileDialog(self, self.tr("Weights"), "", self.tr("Weights (*.safetensors)"))
        dialog.fileSelected.connect(self._chosen_weights)
        dialog.open()

    def _chosen_weights(self, name: str) -> None:
        self.weights.setText(name)
        self._emit()

    def _emit(self) -> None:
        changes: dict[str, Any] = {"mode": AgcMode(str(self.agc.currentData()))}
        engine = str(self.engine.currentData())
        neural = engine in [name.value for name in NEURAL_ENGINES]
        settings = FuseSettings(
            engine,
            str(self.preset.currentData()),
            Path(self.weights.text()) if neural and self.weights.text() else None,
            AgcConfig.model_validate(self._settings.agc.model_dump() | changes),
        )
        self.show_settings(settings)
        self.chosen.emit(settings)


class PlaybackPage(QWidget):
    """Put together from parts that the window connects."""

    seek_asked = pyqtSignal(int)
    speed_asked = pyqtSignal(float)
    first_chosen = pyqtSignal(object)
    second_chosen = pyqtSignal(object)
    range_asked = pyqtSignal(int, int)
    render_asked = pyqtSignal(str)
    cancel_asked = pyqtSignal()

    def __init__(self, actions: Mapping[str, QAction], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.stage = VideoStage()
        self.title = QLabel("")
        self.title.setProperty("role", "brand")
        self.bar = self._make_bar(actions)
        self.view = ViewPanel(playback=True)
        self.first, self.second = _SidePanel(self.tr("A: fused by")), _SidePanel(self.tr("B: fused by"))
        self.second_on = QCheckBox(self.tr("Compare with B"))
        self._range: list[int] = [0, 0]
        self.panel = self._make_panel()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName(self.tr("Position"))
        self.slider.setTracking(True)
        self.slider.valueChanged.connect(self.seek_asked)
        self._time = QLabel("0:00.000")
        self._time.setProperty("role", "value")
        self._time.setMinimumWidth(190)
        self._time.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._length = 0.0
        self.transport = self._make_transport(actions)
        middle = QHBoxLayout()
        middle.setContentsMargins(0, 0, 0, 0)
        middle.setSpacing(0)
        middle.addWidget(self.stage, 1)
        middle.addWidget(self.panel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.bar)
        column.addLayout(middle, 1)
        column.addWidget(self.transport)
        self.first.chosen.connect(self.first_chosen)
        self.second.chosen.connect(lambda s: self.second_chosen.emit(s if self.second_on.isChecked() else None))
        self.second_on.clicked.connect(self._second_toggled)

    def _make_bar(self, actions: Mapping[str, QAction]) -> QFrame:
        bar = QFrame()
        bar.setObjectName("bar")
        row = QHBoxLayout(bar)
        row.setContentsMargins(10, 6, 10, 6)
        row.setSpacing(4)
        row.addWidget(tool_button(actions["home"]))
        row.addWidget(self.title)
        row.addSpacing(12)
        row.addWidget(view_buttons(actions))
        row.addStretch(1)
        for name in ("open", "full_screen", "log", "settings", "help", "panel"):
            row.addWidget(tool_button(actions[name]))
        return bar

    def _make_panel(self) -> QScrollArea:
        rendering = Section(self.tr("Render a range"), "export", True)
        self._from, self._to = QPushButton(self.tr("Begin here")), QPushButton(self.tr("End here"))
        self._from.clicked.connect(lambda: self._mark(0))
        self._to.clicked.connect(lambda: self._mark(1))
        marks = QHBoxLayout()
        marks.addWidget(self._from)
        marks.addWidget(self._to)
        self._range_text = QLabel()
        self._range_text.setProperty("role", "dim")
        self.render_button = icon_button("export", self.tr("Render A to a file…"))
        self.render_button.clicked.connect(self._choose_output)
        self.cancel = QPushButton(self.tr("Cancel"))
        self.cancel.clicked.connect(self.cancel_asked)
        self.cancel.hide()
        self.progress = QProgressBar()
        self.progress.setAccessibleName(self.tr("Rendering"))
        self.progress.hide()
        rendering.body.addLayout(marks)
        rendering.body.addWidget(self._range_text)
        rendering.body.addWidget(self.render_button)
        rendering.body.addWidget(self.progress)
        rendering.body.addWidget(self.cancel)
        inner = QWidget()
        inner.setObjectName("side")
        column = QVBoxLayout(inner)
        column.setContentsMargins(12, 8, 12, 12)
        column.setSpacing(4)
        for widget in (self.first, self.second_on, self.second, rendering, self.view):
            column.addWidget(widget)
        column.addStretch(1)
        self.second.hide()
        panel = QScrollArea()
        panel.setObjectName("side")
        panel.setWidgetResizable(True)
        panel.setFrameShape(QFrame.Shape.NoFrame)
        panel.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        panel.setFixedWidth(340)
        panel.setWidget(inner)
        return panel

    def _make_transport(self, actions: Mapping[str, QAction]) -> QFrame:
        frame = QFrame()
        frame.setObjectName("statusbar")
        row = QHBoxLayout(frame)
        row.setContentsMargins(12, 8, 16, 8)
        row.setSpacing(6)
        for name in ("step_back", "play", "step_forward", "loop"):
            row.addWidget(tool_button(actions[name]))
        speeds: list[tuple[str, object]] = [(f"{speed:g}×", speed) for speed in SPEEDS]
        self.speed = combo(self.tr("Speed"), speeds, lambda speed: self.speed_asked.emit(float(str(speed))))
        self.speed.setCurrentIndex(SPEEDS.index(1.0))
        self.speed.setMinimumContentsLength(4)
        row.addWidget(self.speed)
        row.addSpacing(8)
        row.addWidget(self.slider, 1)
        row.addWidget(self._time)
        return frame

    # ------------------------------------------------------------------ what to show

    def show_opened(self, name: str, pairs: int, length_s: float) -> None:
        """A source is open."""
        self.title.setText(name)
        self._length = length_s
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, pairs - 1))
        self.slider.setValue(0)
        self.slider.blockSignals(False)
        self._range = [0, max(0, pairs - 1)]
        self._show_range()
        self.show_position(0, 0.0)

    def show_position(self, index: int, seconds: float) -> None:
        """Where we are."""
        self.slider.blockSignals(True)
        self.slider.setValue(index)
        self.slider.blockSignals(False)
        self._time.setText(f"{_clock(seconds)} / {_clock(self._length)}")

    def show_settings(self, first: FuseSettings, second: FuseSettings | None) -> None:
        """What A and B are."""
        self.first.show_settings(first)
        self.second_on.setChecked(second is not None)
        self.second.setVisible(second is not None)
        if second is not None:
            self.second.show_settings(second)

    def show_render(self, done: int, total: int, running: bool) -> None:
        """How far rendering is."""
        self.progress.setVisible(running)
        self.cancel.setVisible(running)
        self.render_button.setEnabled(not running)
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)

    def set_full_screen(self, on: bool, panel: bool) -> None:
        """Only the picture, or everything."""
        self.bar.setVisible(not on)
        self.transport.setVisible(not on)
        self.panel.setVisible(panel and not on)

    # ------------------------------------------------------------------ asking

    def _second_toggled(self, on: bool) -> None:
        if on:
            base = self.first._settings
            self.second_chosen.emit(FuseSettings("pyramid" if base.engine == RECORDED else "average", agc=base.agc))
        else:
            self.second_chosen.emit(None)

    def _mark(self, end: int) -> None:
        self._range[end] = self.slider.value()
        if self._range[0] > self._range[1]:
            self._range[1 - end] = self._range[end]
        self._show_range()
        self.range_asked.emit(*self._range)

    def _show_range(self) -> None:
        text = self.tr("pairs {0} to {1}, {2} in all")
        self._range_text.setText(text.format(self._range[0], self._range[1], self._range[1] - self._range[0] + 1))

    def _choose_output(self) -> None:
        dialog = QFileDialog(self, self.tr("Render to"), "fused.mkv", self.tr("Video (*.mkv *.mp4)"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.fileSelected.connect(self.render_asked)
        dialog.open()


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}.{int(seconds * 1000) % 1000:03d}"
