"""Playback: the picture, a time line, A and B, and rendering a range. Shows and asks; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QMouseEvent
from PyQt6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionSlider,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.theme import icon_button
from app.gui.common.window_actions import WindowActions
from app.gui.measuring.measure_panel import MeasurePanel
from app.gui.picture.curve_plot import Curve, CurvePlot
from app.gui.picture.operator_bar import OperatorBar
from app.gui.picture.stage import ToolBar, VideoStage, bar, tool_button
from app.gui.widgets.fuse_choice import FuseChoice
from app.gui.widgets.model_box import ModelList
from app.gui.widgets.name_label import NameLabel
from app.gui.widgets.range_slider import RangeSlider
from app.gui.widgets.sections import CheckBox, Section, combo, let_scroll
from app.gui.widgets.view_panel import ViewPanel
from app.playback.fuser import FuseSettings
from app.view.settings import Picture
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["SPEEDS", "PlaybackPage"]

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Times as fast as recorded."""


class _SidePanel(FuseChoice):
    """The settings that one side is fused by. chosen: FuseSettings."""

    chosen = pyqtSignal(object)

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(title, recorded=True, parent=parent)
        self.settings = FuseSettings()
        self.changed.connect(self._emit)

    def show_settings(self, settings: FuseSettings) -> None:
        """Show these settings."""
        self.settings = settings
        self.show_choice(settings.engine, settings.preset, settings.weights, settings.agc.mode.value)

    def _emit(self) -> None:
        engine, preset, weights, mode = self.choice()
        agc = AgcConfig.model_validate(self.settings.agc.model_dump() | {"mode": AgcMode(mode)})
        self.settings = FuseSettings(engine, preset, weights, agc, self.settings.strength)
        self.chosen.emit(self.settings)


class _TimeLine(QSlider):
    """Goes to where it is clicked, and can be dragged from there."""

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        style = self.style()
        if event is not None and style is not None and event.button() is Qt.MouseButton.LeftButton:
            option = QStyleOptionSlider()
            self.initStyleOption(option)
            slider, part = QStyle.ComplexControl.CC_Slider, QStyle.SubControl
            groove = style.subControlRect(slider, option, part.SC_SliderGroove, self)
            handle = style.subControlRect(slider, option, part.SC_SliderHandle, self)
            if not handle.contains(event.position().toPoint()):
                at = round(event.position().x() - groove.left() - handle.width() / 2)
                room = groove.width() - handle.width()
                self.setValue(QStyle.sliderValueFromPosition(self.minimum(), self.maximum(), at, room))
        super().mousePressEvent(event)


class PlaybackPage(QWidget):
    """The parts of the page; the controller connects their signals."""

    seek_asked = pyqtSignal(int)
    speed_asked = pyqtSignal(float)
    first_chosen = pyqtSignal(object)
    second_chosen = pyqtSignal(object)
    second_toggled = pyqtSignal()
    add_model_asked = pyqtSignal(str)
    range_begin_asked = pyqtSignal()
    range_end_asked = pyqtSignal()
    range_chosen = pyqtSignal(int, int)
    render_asked = pyqtSignal(str)
    cancel_asked = pyqtSignal()
    plot_asked = pyqtSignal(bool)
    plot_seek_asked = pyqtSignal(float)
    csv_asked = pyqtSignal(str)

    def __init__(self, actions: WindowActions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._actions = actions
        self.stage = VideoStage()
        names = self.stage.video.panel_names
        names[Picture.FUSED], names[Picture.SECOND] = self.tr("A"), self.tr("B")
        self.title = NameLabel()
        self.bar = self._make_bar(actions)
        self.operator = OperatorBar(actions, ("home",), ("snapshot", "measure", "over_time", "expert"))
        self.stage.use_operator_bar(self.operator)
        self._expert, self._full, self._panel = True, False, True
        self.view = ViewPanel(playback=True)
        self.measure = MeasurePanel(playback=True)
        self.plot, self.plot_box = CurvePlot(self.tr("Temperature over time"), 190), QWidget()
        self.plot_progress = QProgressBar()
        self._make_plot()
        self.first, self.second = _SidePanel(self.tr("A: fused by")), _SidePanel(self.tr("B: fused by"))
        self.second_on = CheckBox(self.tr("Compare with B"))
        self.panel = self._make_panel()
        self.slider = _TimeLine(Qt.Orientation.Horizontal)
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
        column.addWidget(self.plot_box)
        column.addWidget(self.transport)
        self.first.chosen.connect(self.first_chosen)
        self.second.chosen.connect(lambda s: self.second_chosen.emit(s if self.second_on.isChecked() else None))
        for side in (self.first, self.second):
            side.add_asked.connect(self.add_model_asked)
        self.second_on.clicked.connect(self.second_toggled)

    def _make_bar(self, actions: WindowActions) -> ToolBar:
        made = ToolBar(actions)
        made.add("home")
        made.row.addWidget(self.title)
        made.row.addSpacing(12)
        made.add_views()
        made.row.addStretch(1)
        made.add("heat", "measure", "over_time", "snapshot")
        made.add_more("open", "full_screen", "log", "settings", "help")
        made.add("expert", "panel")
        return made

    def _make_plot(self) -> None:
        self.plot.clicked.connect(self.plot_seek_asked)
        self.plot.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.plot.setMinimumHeight(90)  # in a low window
        self.csv = icon_button("file-delimited-outline", self.tr("Save as CSV…"))
        self.csv.clicked.connect(self.choose_csv)
        self.plot_progress.setAccessibleName(self.tr("Measuring the recording"))
        self.plot_progress.setFormat(self.tr("measuring %p %"))
        column = QVBoxLayout(self.plot_box)
        column.setContentsMargins(8, 4, 8, 4)
        row = QHBoxLayout()
        row.addWidget(self.plot_progress, 1)
        row.addStretch(1)
        row.addWidget(self.csv)
        column.addWidget(self.plot)
        column.addLayout(row)
        self.plot_box.hide()

    def _make_panel(self) -> QScrollArea:
        rendering = Section(self.tr("Render a range"), "export", True)
        self._from, self._to = QPushButton(self.tr("Begin here")), QPushButton(self.tr("End here"))
        self._from.clicked.connect(self.range_begin_asked)
        self._to.clicked.connect(self.range_end_asked)
        self._range = RangeSlider(self.tr("Range that is looped and rendered"))
        self._range.chosen.connect(self.range_chosen)
        marks = QHBoxLayout()
        marks.addWidget(self._from)
        marks.addWidget(self._to)
        self._range_text = QLabel()
        self._range_text.setProperty("role", "dim")
        self.render_button = icon_button("export", self.tr("Render A to a file…"))
        self.render_button.clicked.connect(self.choose_output)
        self.cancel = QPushButton(self.tr("Cancel"))
        self.cancel.clicked.connect(self.cancel_asked)
        self.cancel.hide()
        self.progress = QProgressBar()
        self.progress.setAccessibleName(self.tr("Rendering"))
        self.progress.hide()
        rendering.body.addWidget(self._range)
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
        for widget in (self.view, self.measure, self.first, self.second_on, self.second, rendering):
            column.addWidget(widget)
        column.addStretch(1)
        self.second.hide()
        panel = let_scroll(inner, QScrollArea())
        panel.setObjectName("side")
        panel.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        panel.setFixedWidth(360)
        return panel

    def _make_transport(self, actions: WindowActions) -> QFrame:
        frame, row = bar("statusbar", (12, 8, 16, 8), 6)
        self._finer: list[QWidget] = []
        for name in ("step_back", "play", "step_forward", "loop"):
            button = tool_button(actions[name])
            button.setProperty("touch", True)
            row.addWidget(button)
            if name != "play":
                self._finer.append(button)
        speeds: list[tuple[str, object]] = [(f"{speed:g}×", speed) for speed in SPEEDS]
        self.speed = combo(self.tr("Speed"), speeds, lambda speed: self.speed_asked.emit(float(str(speed))))
        self.speed.setCurrentIndex(SPEEDS.index(1.0))
        self.speed.setMinimumContentsLength(4)
        self._finer.append(self.speed)
        row.addWidget(self.speed)
        row.addSpacing(8)
        row.addWidget(self.slider, 1)
        row.addWidget(self._time)
        return frame

    # ------------------------------------------------------------------ what to show

    def show_opened(self, name: str, pairs: int, length_s: float) -> None:
        """Show a recording or two videos that were just opened."""
        self.title.setText(name)
        self._length = length_s
        self.slider.blockSignals(True)
        self.slider.setRange(0, max(0, pairs - 1))
        self.slider.setValue(0)
        self.slider.blockSignals(False)
        self.show_range(0, max(0, pairs - 1))
        self.show_position(0, 0.0)

    def show_range(self, first: int, last: int) -> None:
        """Show what is looped and rendered: pairs first..last."""
        text = self.tr("pairs {0} to {1}, {2} in all")
        self._range_text.setText(text.format(first, last, last - first + 1))
        self._range.show_ends(first, last, 0, self.slider.maximum())

    def show_speed(self, speed: float) -> None:
        """Show how fast it plays."""
        self.speed.setCurrentIndex(self.speed.findData(speed))

    def show_playing(self, playing: bool) -> None:
        """Show whether it plays, on the button."""
        self._actions.show_icon("play", "pause" if playing else "play")

    def show_loop(self, loop: bool) -> None:
        """Show whether it begins again at the end."""
        self._actions["loop"].setChecked(loop)

    def show_labels(self, first: FuseSettings, second: FuseSettings | None) -> None:
        """Name the two pictures by what they are fused with."""
        names = self.stage.video.panel_names
        names[Picture.FUSED] = f"A  {first.label}"
        if second is not None:
            names[Picture.SECOND] = f"B  {second.label}"

    def show_position(self, index: int, seconds: float) -> None:
        """Show which pair the picture is, and its time."""
        self.slider.blockSignals(True)
        self.slider.setValue(index)
        self.slider.blockSignals(False)
        self._time.setText(f"{_clock(seconds)} / {_clock(self._length)}")
        self.plot.show_cursor(seconds)

    def show_settings(self, first: FuseSettings, second: FuseSettings | None) -> None:
        """Show what A and B are fused by."""
        self.first.show_settings(first)
        self._actions["compare"].setChecked(second is not None)
        self.second_on.setChecked(second is not None)
        self.second.setVisible(second is not None)
        if second is not None:
            self.second.show_settings(second)

    def show_models(self, models: ModelList) -> None:
        """Offer these models."""
        self.first.show_models(models)
        self.second.show_models(models)

    def show_render(self, done: int, total: int, running: bool, text: str) -> None:
        """Show how far rendering is; text: what came out, "" = nothing yet."""
        self.progress.setVisible(running)
        self.cancel.setVisible(running)
        self.render_button.setEnabled(not running)
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)
        if text:
            self.stage.banners.show_notice(text)

    def show_plot(self, shown: bool) -> None:
        """Show or hide the curves over time."""
        self._actions["over_time"].setChecked(shown)
        self.plot_box.setVisible(shown)

    def show_curves(self, curves: Sequence[Curve], unit: str, done: int, total: int) -> None:
        """Show what is measured over time, and how far that is."""
        self.plot.show_curves(curves, unit, "s")
        running = done < total
        self.plot_progress.setVisible(running)
        self.plot_progress.setRange(0, max(1, total))
        self.plot_progress.setValue(done)
        self.csv.setEnabled(bool(curves) and not running)

    def show_panel(self, shown: bool) -> None:
        """Show or hide the control panel."""
        self._panel = shown
        self._arrange()

    def set_level(self, expert: bool) -> None:
        """Show everything, or the operator's controls over the picture and the time line alone."""
        self._expert = expert
        self._arrange()

    def set_full_screen(self, on: bool) -> None:
        """Show only the picture, with the operator's controls when something moves, or everything."""
        self._full = on
        self._arrange()

    def _arrange(self) -> None:
        whole = self._expert and not self._full
        self.bar.setVisible(whole)
        self.transport.setVisible(not self._full)
        for widget in self._finer:
            widget.setVisible(whole)
        self.panel.setVisible(self._panel and whole)
        self.operator.use(not whole)

    # ------------------------------------------------------------------ asking

    def choose_csv(self) -> None:
        """Ask where to write the curves to."""
        dialog = QFileDialog(self, self.tr("Save as CSV"), "temperatures.csv", self.tr("Table (*.csv)"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.fileSelected.connect(self.csv_asked)
        dialog.open()

    def choose_output(self) -> None:
        """Ask where to render to."""
        dialog = QFileDialog(self, self.tr("Render to"), "fused.mkv", self.tr("Video (*.mkv *.mp4)"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.fileSelected.connect(self.render_asked)
        dialog.open()


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}.{int(seconds * 1000) % 1000:03d}"
