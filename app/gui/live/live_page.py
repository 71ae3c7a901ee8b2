"""The live picture with its tool bar, banners, control panel and status bar. Shows and asks; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.configuration.config import AppConfig
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.theme import restyle
from app.gui.common.window_actions import WindowActions
from app.gui.live.control_panel import ControlPanel
from app.gui.live.status_bar import StatusBar
from app.gui.picture.operator_bar import OperatorBar
from app.gui.picture.stage import ToolBar, VideoStage, tool_button
from app.gui.widgets.health import HealthLight
from app.gui.widgets.name_label import NameLabel
from app.gui.widgets.sections import Section
from app.gui.widgets.status_text import Chip, hud_figures
from app.gui.widgets.timing_plot import TimingPlot
from app.pipeline.state.stats import StatsSnapshot
from app.playback.comparison import ComparisonSettings
from app.view.settings import Picture

__all__ = ["LivePage"]

_WIDE_PX = 1480  # from here on record and start have their words beside the icon


class LivePage(QWidget):
    """The parts of the page; controllers connect their signals. timing_asked: the timing plot is shown for the first
    time."""

    timing_asked = pyqtSignal()

    def __init__(self, actions: WindowActions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._actions = actions
        self._timing = False
        self.stage = VideoStage()
        self.panel = ControlPanel()
        self.status = StatusBar()
        self.timing = TimingPlot()
        self.rig = NameLabel()
        self.record = tool_button(actions["record"], text=True)
        self.run = tool_button(actions["run"], text=True)
        self.health_lights = (HealthLight(), HealthLight())
        self.operator = OperatorBar(
            actions, ("home",), ("record", "snapshot", "measure", "full_screen", "expert"), self.health_lights[1]
        )
        self.stage.use_operator_bar(self.operator)
        self._expert, self._full, self._panel = True, False, True
        self.bar = self._make_bar()
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
        column.addWidget(self.timing)
        column.addWidget(self.status)

    def _make_bar(self) -> ToolBar:
        made = ToolBar(self._actions)
        made.add("home")
        made.row.addWidget(self.rig)
        made.row.addWidget(self.health_lights[0])
        made.row.addSpacing(8)
        made.add_views()
        made.row.addStretch(1)
        made.add("heat", "compare", "freeze", "snapshot", "event")
        made.row.addSpacing(6)
        made.row.addWidget(self.record)
        made.row.addSpacing(2)
        made.row.addWidget(self.run)
        made.row.addSpacing(6)
        made.add_more("hud", "timing", "full_screen", "log", "settings", "help")
        made.add("expert", "panel")
        return made

    # ------------------------------------------------------------------ what to show

    def show_config(self, config: AppConfig, scale: str, panel: bool) -> None:
        """Show another configuration, its temperature scale, and the control panel or not."""
        self.rig.setText(config.rig)
        self.timing.clear()
        self.panel.show_config(config)
        self.panel.view.show_scale(scale)
        self._actions["panel"].setChecked(panel)
        self.show_panel(panel)

    def show_state(self, state: ControllerState) -> None:
        """Show what the rig does: on the start button, and in place of a picture."""
        running = state in (ControllerState.RUNNING, ControllerState.STARTING)
        self._actions["run"].setText(self.tr("Cameras off") if running else self.tr("Cameras on"))
        self._actions.show_icon("run", "power" if running else "play")
        messages = {
            ControllerState.IDLE: self.tr("stopped"),
            ControllerState.STARTING: self.tr("starting…"),
            ControllerState.RUNNING: self.tr("waiting for the first picture…"),
            ControllerState.STOPPING: self.tr("stopping, ending the recording…"),
        }
        video = self.stage.video
        video.set_message(messages[state])
        if state is not ControllerState.RUNNING:
            video.set_frame(None)
            video.set_figures([])
            video.set_chips([])

    def show_snapshot(self, snapshot: StatsSnapshot) -> None:
        """Show these numbers wherever they belong, but for the figures over the picture."""
        self.status.show_snapshot(snapshot)
        self.panel.engine.show_running(snapshot)
        self.panel.calibration.show_drift(snapshot.drift)
        self.timing.add(snapshot)

    def show_figures(self, shown: bool, snapshot: StatsSnapshot | None, frozen: bool) -> None:
        """Show or hide the figures over the picture."""
        self._actions["hud"].setChecked(shown)
        self.stage.video.set_figures(hud_figures(snapshot, frozen) if shown and snapshot is not None else [])

    def show_frozen(self, frozen: bool) -> None:
        """Mark the picture as held, on the button."""
        self._actions["freeze"].setChecked(frozen)

    def show_chips(self, chips: Sequence[Chip]) -> None:
        """Write these states on the picture, whatever else is shown."""
        self.stage.video.set_chips(chips)

    def show_comparison(self, settings: ComparisonSettings | None) -> None:
        """Name both sides of the divider; None = nothing is compared."""
        self.panel.compare.show_settings(settings)
        self._actions["compare"].setChecked(settings is not None)
        if settings is not None:
            self.panel.compare.set_open(True)
        names = self.stage.video.panel_names
        names[Picture.FUSED] = self.tr("A  as it fuses now") if settings is not None else self.tr("fused")
        names[Picture.SECOND] = f"B  {settings.label}" if settings is not None else self.tr("B")

    def show_recording(self, on: bool) -> None:
        """Mark the record button."""
        self._actions["record"].setChecked(on)
        self._actions["record"].setText(self.tr("Stop recording") if on else self.tr("Record"))
        if bool(self.record.property("recording")) != on:
            self._actions.show_icon("record", "stop" if on else "", "#ffffff")
            for button in (self.record, *self.operator.controls):
                if button.defaultAction() is self._actions["record"]:
                    button.setProperty("recording", on)
                    restyle(button)

    def show_timing(self, on: bool) -> None:
        """Show or hide the timing plot."""
        self._timing = on
        self._arrange()
        if on and not self.timing.ready:
            self.timing_asked.emit()

    def open_section(self, section: Section) -> None:
        """Show one section of the control panel."""
        if not self._expert:
            self._actions["expert"].trigger()
        if not self._actions["panel"].isChecked():
            self._actions["panel"].trigger()
        section.set_open(True)
        self.panel.ensureWidgetVisible(section)

    def show_panel(self, shown: bool) -> None:
        """Show or hide the control panel."""
        self._panel = shown
        self._arrange()

    def set_level(self, expert: bool) -> None:
        """Show everything, or the operator's controls over the picture alone."""
        self._expert = expert
        self.stage.banners.speak_plainly(not expert)
        self._arrange()

    def set_full_screen(self, on: bool) -> None:
        """Show only the picture, with the operator's controls when something moves, or everything."""
        self._full = on
        self._arrange()

    def _arrange(self) -> None:
        whole = self._expert and not self._full
        self.bar.setVisible(whole)
        self.status.setVisible(whole)
        self.timing.setVisible(self._timing and whole)
        self.panel.setVisible(self._panel and whole)
        self.operator.use(not whole)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        wide = self.width() >= _WIDE_PX
        style = Qt.ToolButtonStyle.ToolButtonTextBesideIcon if wide else Qt.ToolButtonStyle.ToolButtonIconOnly
        for button in (self.record, self.run):
            if button.toolButtonStyle() is not style:
                button.setToolButtonStyle(style)
