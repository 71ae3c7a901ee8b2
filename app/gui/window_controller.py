"""Decides about the window as a whole: which page is shown, what is opened, how it looks, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, QTimer
from PyQt6.QtGui import QGuiApplication
from PyQt6.QtWidgets import QApplication, QMessageBox, QWidget

from app.configuration.config import AppConfig
from app.gui.common.pipeline_protocol import ControllerState, Pipeline
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.theme import Appearance, change_theme
from app.gui.live.agc_controller import AgcController
from app.gui.live.comparison_controller import ComparisonController
from app.gui.live.health_controller import HealthController
from app.gui.live.live_controller import LiveController
from app.gui.live.model_controller import ModelController
from app.gui.live.recording_controller import RecordingController
from app.gui.main_window import CONFIG_SUFFIXES, MainWindow
from app.gui.measuring.alarm_sound import AlarmSound
from app.gui.measuring.measure_controller import MeasureController
from app.gui.measuring.scale_controller import ScaleController
from app.gui.picture.view_controller import ViewController
from app.gui.playback.playback_controller import PlaybackController
from app.gui.playback.plot_controller import PlotController
from app.gui.settings_dialog import SettingsDialog
from app.gui.setup.assistant_controller import AssistantController
from app.gui.setup.calibration_controller import CalibrationController
from app.playback.preview import RecordingPreview, recording_preview
from app.rig.setup_assistant import list_sources, simulated_config
from app.view.alarms import Alarm
from app.view.settings import ViewMode

__all__ = ["WindowController"]

_PATIENCE_S = 10.0  # when closing, with a task that does not end
_SETTLE_MS = 10
_PREPARE_HELP_MS = 500  # after the start


class WindowController(QObject):
    """Owns the controllers of the pages, and leads from one page to another. GUI thread.

    Args:
        make_pipeline: makes a pipeline that is not started; called on a task's thread.
        folder: where new configurations go, and calibrations of a rig without a configuration file.
    """

    def __init__(
        self,
        window: MainWindow,
        make_pipeline: Callable[[AppConfig], Pipeline],
        settings: GuiSettings,
        tasks: TaskRunner,
        folder: Path,
    ) -> None:
        super().__init__(window)
        self._window, self._settings, self._tasks = window, settings, tasks
        self._closing = False
        self._patience_s = 0.0
        self.question: QMessageBox | None = None
        page, actions = window.live, window.actions_by_name
        self.live = LiveController(page, actions, make_pipeline, settings, tasks)
        self.recording = RecordingController(page, actions, self.live, settings, tasks)
        self.health = HealthController(page, actions, self.live)
        self.agc = AgcController(page.panel, actions, self.live, tasks)
        self.models = ModelController(page.panel, actions, self.live, tasks)
        self.comparison = ComparisonController(page, self.live, self.agc, self.models, tasks)
        self.playback = PlaybackController(window.player, actions, self.models, tasks)
        self.measure = MeasureController(self.live, page.panel.measure)
        self.measure_playback = MeasureController(self.playback, window.player.measure)
        self.plot = PlotController(window.player, actions, self.playback, self.measure_playback, tasks)
        self.scale = ScaleController(
            self.live, page.stage.scale, self.agc.set_span, self.agc.lock_span, lambda: self.agc.locked
        )
        self.scale_playback = ScaleController(
            self.playback,
            window.player.stage.scale,
            self.playback.set_span,
            self.playback.lock_span,
            lambda: self.playback.locked,
        )
        self.alarm_sound = AlarmSound(self)
        self.alarm_sound.silent.connect(self._on_no_sound)
        self.assistant = AssistantController(window.setup, tasks, folder)
        self.calibration = CalibrationController(window.calibration, self.live, tasks, folder)
        self._connect_pages()
        self._connect_measuring()
        self._connect_window()
        self._connect_actions()
        for view, bar in ((self.live, page.operator), (self.playback, window.player.operator)):
            view.use_operator_bar(bar)
        window.set_level(settings.expert)
        self.live.set_level(settings.expert)
        actions.apply_shortcuts(settings.shortcuts())
        if settings.geometry is not None:
            window.restoreGeometry(settings.geometry)
        self.show_start()
        QTimer.singleShot(_PREPARE_HELP_MS, self._prepare_help)

    def _connect_pages(self) -> None:
        start, window = self._window.start_page, self._window
        start.simulated_asked.connect(lambda: self.open_config(simulated_config()))
        start.assistant_asked.connect(self.open_assistant)
        start.open_asked.connect(window.choose_files)
        start.config_chosen.connect(lambda name: self.open_path(Path(name)))
        start.recording_chosen.connect(lambda name: self.open_path(Path(name)))
        start.refresh_asked.connect(self._list_cameras)
        start.settings_asked.connect(self.show_settings)
        start.help_asked.connect(self._show_help)
        window.live.panel.source.refresh_asked.connect(self._list_cameras)
        window.live.panel.calibration.assistant_asked.connect(self.open_calibration)
        window.setup.back_asked.connect(self.show_start)
        window.calibration.back_asked.connect(self._show_live)
        self.live.config_changed.connect(lambda _: self._list_cameras())
        self.live.problem_log_changed.connect(window.log.show_problems)
        self.live.stopped.connect(self._on_rig_stopped)
        self.recording.open_asked.connect(self.open_path)
        self.playback.opened.connect(lambda *_: self._on_recording_opened())
        self.assistant.saved.connect(self.open_path)
        self.calibration.applied.connect(lambda _: self._show_live())
        for controller in (self.live, self.playback):
            controller.view_changed.connect(lambda _: self._show_view())
            controller.video.full_screen_asked.connect(self._toggle_full_screen)

    def _connect_measuring(self) -> None:
        self.live.stats_ready.connect(lambda _: self._measure_live())
        self.playback.frame_ready.connect(lambda _: self._measure_played())
        self.live.rig_opened.connect(lambda: self.measure.restore(self.live.marks))
        self.measure.kept_changed.connect(lambda: self.live.set_marks(self.measure.kept))
        self.measure_playback.kept_changed.connect(self._remember_played_marks)
        bars = (self._window.live.operator, self._window.player.operator)
        for measuring, bar in zip((self.measure, self.measure_playback), bars, strict=True):
            measuring.connect_operator_bar(bar)
            measuring.tool_changed.connect(self._on_tool_changed)
            measuring.alarm_began.connect(self._on_alarm_began)

    def _measure_live(self) -> None:
        self.measure.measure()
        self.scale.show()

    def _measure_played(self) -> None:
        self.measure_playback.measure()
        self.scale_playback.show()

    @property
    def _measuring(self) -> MeasureController:
        return self.measure_playback if self._shown is self.playback else self.measure

    def _on_tool_changed(self, tool: object) -> None:
        self._window.actions_by_name["measure"].setChecked(tool is not None)

    def _on_alarm_began(self, text: str, alarm: Alarm) -> None:
        if alarm.sound:
            self.alarm_sound.play()
        if alarm.event and self._shown is self.live:
            self.recording.mark_event(self.tr("alarm {0}").format(text))

    def _on_no_sound(self) -> None:
        page = self._window.player if self._shown is self.playback else self._window.live
        page.stage.banners.show_notice(self.tr("This computer has no sound output: alarms are shown, not heard"))

    def _on_snapshot_triggered(self) -> None:
        if self._shown is self.playback:
            self.playback.take_snapshot()
        else:
            self.recording.take_snapshot()

    def _connect_window(self) -> None:
        self._window.files_chosen.connect(self._on_files_chosen)
        self._window.files_refused.connect(self._on_files_refused)
        self._window.moved.connect(self._remember_place)
        self._window.close_asked.connect(self._on_close_asked)
        hints = QGuiApplication.styleHints()
        if hints is not None:
            hints.colorSchemeChanged.connect(self.apply_appearance)

    def _connect_actions(self) -> None:
        window, actions = self._window, self._window.actions_by_name
        for mode in ViewMode:
            actions.connect(f"view_{mode}", lambda _, mode=mode: self._shown.set_mode(mode))
        actions.connect("swap", lambda: self._shown.swap())
        actions.connect("next_view", lambda: self._shown.next_mode())
        actions.connect("next_palette", lambda: self._shown.next_palette())
        actions.connect("next_isotherm", lambda: self._shown.next_isotherm())
        actions.connect("polarity", lambda: self._shown.toggle_polarity())
        actions.connect("heat", lambda: self._shown.toggle_heat())
        actions.connect("blend_less", lambda: self._shown.change_blend(-1))
        actions.connect("blend_more", lambda: self._shown.change_blend(1))
        actions.connect("zoom_in", lambda: self._shown.video.zoom_by(1.25))
        actions.connect("zoom_out", lambda: self._shown.video.zoom_by(0.8))
        actions.connect("fit", lambda: self._shown.video.fit())
        actions.connect("actual_size", lambda: self._shown.video.actual_size())
        actions.connect("compare", self._on_compare_triggered)
        actions.connect("measure", lambda: self._measuring.toggle())
        actions.connect("remove_mark", lambda: self._measuring.remove_selected())
        actions.connect("snapshot", self._on_snapshot_triggered)
        actions.held.connect(self._on_action_held)
        actions.connect("calibrate", self.open_calibration)
        actions.connect("open", window.choose_files)
        actions.connect("home", lambda: self._when_not_recording(self.tr("Leave"), self.show_start))
        actions.connect("run", self._on_run_triggered)
        actions.connect("panel", self._on_panel_triggered)
        actions.connect("expert", self.set_expert)
        actions.connect("full_screen", window.set_full_screen)
        actions.connect("log", lambda: window.show_dialog(window.log))
        actions.connect("settings", self.show_settings)
        actions.connect("help", self._show_help)
        actions.connect("quit", lambda: window.close())

    # ------------------------------------------------------------------ actions on the picture that is shown

    @property
    def _shown(self) -> ViewController:
        return self.playback if self._page is self._window.player else self.live

    @property
    def _page(self) -> QWidget | None:
        return self._window.pages.currentWidget()

    def _on_compare_triggered(self) -> None:
        if self._shown is self.playback:
            self.playback.toggle_second()
        else:
            self.comparison.toggle()

    def _on_action_held(self, name: str, down: bool) -> None:
        if name == "thermal_share":
            self._shown.show_thermal_share(down)

    def _on_panel_triggered(self, shown: bool) -> None:
        self.live.set_panel(shown)
        self._window.show_panel(shown)

    def set_expert(self, expert: bool) -> None:
        """Show everything, or what operators need; remembered."""
        self._settings.expert = expert
        self._window.set_level(expert)
        self.live.set_level(expert)

    def _toggle_full_screen(self) -> None:
        self._window.set_full_screen(not self._window.isFullScreen())

    def _show_view(self) -> None:
        if self._page in (self._window.live, self._window.player):
            self._window.show_view(self._shown.view)

    # ------------------------------------------------------------------ pages

    def show_start(self) -> None:
        """Show the start page; what runs is stopped in order."""
        self._leave_page()
        self._stop_rig()
        self._list_recent()
        self._list_cameras()
        self._window.show_page(self._window.start_page)

    def open_config(self, config: AppConfig) -> None:
        """Start a configuration."""
        self._show_live()
        self.live.open_config(config)

    def open_path(self, path: Path, thermal: Path | None = None) -> None:
        """Open a configuration, a recording, or a visible and a thermal video."""
        if path.suffix.lower() in CONFIG_SUFFIXES:
            self._show_live()
            self.live.video.set_message(self.tr("reading {0}…").format(path.name))
            self.live.open_file(path)
            return
        self._leave_page()
        self._stop_rig()
        self.models.refresh()
        self._show_picture(self._window.player)
        self._window.player.title.setText(path.name)
        self.playback.video.set_message(self.tr("opening {0}…").format(path.name))
        self.playback.open_files(path, thermal)

    def _on_recording_opened(self) -> None:
        """List it, and measure there what was measured there before, else what is measured on its rig."""
        file, rig = self.playback.file, self.playback.rig
        if file is None:
            return
        self._settings.add_recent("recordings", file)
        kept = self._settings.recording_marks(file)
        if kept is None and rig:
            kept = tuple(replace(each, alarm=None) for each in self._settings.profile(rig).marks)
        self.measure_playback.restore(kept or ())

    def _remember_played_marks(self) -> None:
        if self.playback.file is not None and self.playback.is_open:
            self._settings.set_recording_marks(self.playback.file, self.measure_playback.kept)

    def open_assistant(self) -> None:
        """Show the set-up assistant; what runs is stopped in order."""
        self._leave_page()
        self._stop_rig()
        self._window.show_page(self._window.setup)
        self.assistant.list_cameras()

    def open_calibration(self) -> None:
        """Show the calibration assistant; the rig goes on."""
        self._leave_page()
        self._window.show_page(self._window.calibration)
        self.calibration.open()

    def _show_live(self) -> None:
        self._leave_page()
        self._show_picture(self._window.live)

    def _show_picture(self, page: QWidget) -> None:
        self._window.show_page(page)
        self._show_view()
        self._on_tool_changed(self._measuring.tool)
        self._shown.video.setFocus()

    def _leave_page(self) -> None:
        if self._page is self._window.player:
            self.plot.show(False)
            self.measure_playback.restore(())
            self.playback.close()
        elif self._page is self._window.setup:
            self.assistant.stop()
        elif self._page is self._window.calibration:
            self.calibration.close()

    def _stop_rig(self) -> None:
        if self.live.state is not ControllerState.IDLE:
            self.live.stop()

    def _on_files_chosen(self, paths: list[Path]) -> None:
        """Open one file, or two videos: the one with "therm" in its name is the thermal one, else the second."""
        self._when_not_recording(self.tr("Open"), lambda: self._open_files(paths))

    def _on_files_refused(self, paths: list[Path]) -> None:
        told = self.tr("{0} cannot be opened here: wanted a configuration (.yaml), a recording or videos (.mkv, .mp4)")
        text = told.format(", ".join(path.name for path in paths[:3]))
        page = self._page
        if page is self._window.player or page is self._window.live:
            self._window.player.stage.banners.show_notice(text)
            self._window.live.stage.banners.show_notice(text)
        else:
            self._window.start_page.show_problem(text)

    def _open_files(self, paths: list[Path]) -> None:
        videos = [path for path in paths if path.suffix.lower() not in CONFIG_SUFFIXES]
        if len(videos) == 2:
            thermal = next((path for path in videos if "therm" in path.stem.lower()), videos[1])
            visible = videos[0] if thermal is videos[1] else videos[1]
            self.open_path(visible, thermal)
        elif paths:
            self.open_path(paths[0])

    def _list_recent(self) -> None:
        recent = self._settings.recent
        self._tasks.run(
            lambda: (recent("configs"), recent("recordings")),
            self._on_recent_listed,
            lambda error: self.live.report("window", error),
            Lane.FILES,
        )

    def _on_recent_listed(self, files: tuple[list[Path], list[Path]]) -> None:
        start = self._window.start_page
        start.show_recent(*files)

        def looked(previews: list[RecordingPreview]) -> None:
            if self._page is start:
                start.show_previews(previews)

        self._tasks.run(
            lambda: [recording_preview(path) for path in files[1]],
            looked,
            lambda error: self.live.report("window", error),
            Lane.FILES,
        )

    def _list_cameras(self) -> None:
        def listed(choices: Any) -> None:
            self._window.start_page.show_cameras(choices)
            self.live.show_devices(choices)

        self._tasks.run(list_sources, listed, lambda error: self.live.report("devices", error), Lane.FILES)

    # ------------------------------------------------------------------ settings and help

    def show_settings(self) -> None:
        """Show appearance, language and shortcuts, in a window beside this one."""
        dialog = self._window.settings_dialog
        if dialog is None:
            chosen = self._settings
            dialog = SettingsDialog(chosen.shortcuts(), chosen.appearance, chosen.language, self._window)
            dialog.language_chosen.connect(self._on_language_chosen)
            dialog.shortcuts_chosen.connect(self._on_shortcuts_chosen)
            dialog.appearance_chosen.connect(self._on_appearance_chosen)
            self._window.settings_dialog = dialog
        self._window.show_dialog(dialog)

    def _on_language_chosen(self, code: str) -> None:
        self._settings.language = code

    def _on_shortcuts_chosen(self, shortcuts: dict[str, str]) -> None:
        self._settings.set_shortcuts(shortcuts)
        self._window.actions_by_name.apply_shortcuts(shortcuts)

    def _on_appearance_chosen(self, appearance: Appearance) -> None:
        self._settings.appearance = appearance
        self.apply_appearance()

    def apply_appearance(self) -> None:
        """Change to the chosen appearance, or to the system's new one."""
        application = QApplication.instance()
        if isinstance(application, QApplication):
            change_theme(application, self._settings.appearance, self._window.actions_by_name.refresh_icons)

    def _prepare_help(self) -> None:
        """Make the table of keys ahead of time: then it is there at once."""
        self._window.help.prepare_in_steps(self._settings.shortcuts(), self._settings.expert)

    def _show_help(self) -> None:
        self._window.help.show_keys(self._settings.shortcuts(), self._settings.expert)

    # ------------------------------------------------------------------ place and end

    def _remember_place(self) -> None:
        if self._window.isVisible() and not self._window.isFullScreen():
            self._settings.geometry = self._window.saveGeometry()

    def _when_not_recording(self, verb: str, go_on: Callable[[], object]) -> None:
        """Do it; while a recording runs, say first that this ends it, once: who asks again means it."""
        question, self.question = self.question, None
        if question is not None:
            question.done(0)
        if question is not None or not self.recording.recording:
            go_on()
            return
        question = self.question = QMessageBox(self._window)
        question.setWindowTitle(self.tr("A recording is running"))
        question.setText(self.tr("A recording is running. It will be ended and kept:"))
        question.setInformativeText(str(self.recording.file or ""))
        stop = question.addButton(self.tr("Stop recording: {0}").format(verb), QMessageBox.ButtonRole.AcceptRole)
        stay = question.addButton(self.tr("Go on recording"), QMessageBox.ButtonRole.RejectRole)
        question.setDefaultButton(stay)
        question.setEscapeButton(stay)

        def answered() -> None:
            if self.question is question:
                self.question = None
                if question.clickedButton() is stop:
                    go_on()

        question.finished.connect(answered)
        question.open()

    def _on_run_triggered(self) -> None:
        if self.live.state in (ControllerState.RUNNING, ControllerState.STARTING):
            self._when_not_recording(self.tr("Cameras off"), self.live.stop)
        else:
            self.live.start()

    def _on_close_asked(self) -> None:
        """Ask while a recording runs."""
        if not self._closing:
            self._when_not_recording(self.tr("Quit"), self.end)

    def end(self) -> None:
        """End everything in order, then the window; nothing is asked."""
        if self._closing:
            return
        self._closing = True
        self._remember_place()
        self.recording.record_view(False)
        self.plot.close()
        self.playback.close()
        self.assistant.stop()
        self.calibration.close()
        self.live.stop()

    def _on_rig_stopped(self) -> None:
        if self._page is self._window.start_page and not self._closing:
            self._list_recent()
        if self._closing and self.live.state is ControllerState.IDLE:
            self._patience_s = time.monotonic() + _PATIENCE_S
            self._tasks.run(self._settings.save, lambda _: self._end_when_settled(), lane=Lane.FILES)

    def _end_when_settled(self) -> None:
        """Close the window when the tasks, and those that their results have asked for, are done."""
        if self._tasks.busy and time.monotonic() < self._patience_s:
            QTimer.singleShot(_SETTLE_MS, self._end_when_settled)
            return
        self._window.end()
