"""The window: pages, actions, and the wires between widgets and controllers. Nothing is decided here."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QEvent, QObject, Qt, pyqtSignal
from PyQt6.QtGui import QAction, QActionGroup, QCloseEvent, QKeyEvent, QKeySequence, QResizeEvent
from PyQt6.QtWidgets import QApplication, QFileDialog, QMainWindow, QStackedWidget, QWidget

from app.config import AppConfig
from app.gui.actions import ACTIONS, ActionSpec, action_text
from app.gui.assistant_controller import AssistantController, preview_pixels
from app.gui.assistant_page import AssistantPage
from app.gui.controller import ControllerState, MainController, Readout
from app.gui.help_overlay import HelpOverlay
from app.gui.live_page import LivePage
from app.gui.log_view import LogView
from app.gui.playback_controller import PlaybackController
from app.gui.playback_page import PlaybackPage
from app.gui.qt_image import rgb_image
from app.gui.settings import GuiSettings
from app.gui.settings_dialog import SettingsDialog
from app.gui.start_page import StartPage
from app.gui.status_text import hud_figures
from app.gui.tasks import Lane, TaskRunner
from app.gui.theme import Appearance, Level, apply_theme, icon, level_colour
from app.gui.video_view import VideoView
from app.gui.view_controller import ViewController
from app.playback import PlayedFrame
from app.setup_assistant import list_sources, simulated_config
from app.stats import RecordingState, StatsSnapshot
from app.view_recorder import ViewRecorder
from app.view_settings import Picture, ViewMode
from fusion_core.frames import Frame, Stream

__all__ = ["MainWindow"]

_CONFIG_SUFFIXES = (".yaml", ".yml")
_CHECKABLE = ("freeze", "hud", "measure", "panel", "full_screen", "loop", "polarity", "record")


class MainWindow(QMainWindow):
    """Built from controllers; `closed` when everything has ended in order.

    Args:
        folder: where the assistant's configurations go.
    """

    closed = pyqtSignal()

    def __init__(
        self,
        controller: MainController,
        playback: PlaybackController,
        assistant: AssistantController,
        settings: GuiSettings,
        tasks: TaskRunner,
    ) -> None:
        super().__init__()
        self.controller, self.playback, self.assistant = controller, playback, assistant
        self._settings, self._tasks = settings, tasks
        self._held: set[str] = set()
        self._closing = False
        self._quitting = False
        self._view_recorder: ViewRecorder | None = None
        self._settings_dialog: SettingsDialog | None = None
        self.setWindowTitle("Lumitherm")
        self.setMinimumSize(900, 600)
        self.resize(1320, 820)
        self.actions_by_name: dict[str, QAction] = {}
        self._make_actions()
        self.pages = QStackedWidget()
        self.start_page = StartPage()
        self.live = LivePage(self.actions_by_name)
        self.player = PlaybackPage(self.actions_by_name)
        self.setup = AssistantPage()
        for page in (self.start_page, self.live, self.player, self.setup):
            self.pages.addWidget(page)
        self.setCentralWidget(self.pages)
        self.help = HelpOverlay(self)
        self.log = LogView(self)
        self._wire_start()
        self._wire_live()
        self._wire_playback()
        self._wire_assistant()
        self.apply_shortcuts(settings.shortcuts())
        geometry = settings.geometry
        if geometry is not None:
            self.restoreGeometry(geometry)
        application = QApplication.instance()
        if application is not None:
            application.installEventFilter(self)
        self.show_start()

    # ------------------------------------------------------------------ actions

    def _make_actions(self) -> None:
        views = QActionGroup(self)
        for spec in ACTIONS:
            action = QAction(icon(spec.icon), action_text(spec), self)
            action.setCheckable(spec.name in _CHECKABLE or spec.name.startswith("view_"))
            action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
            if spec.name.startswith("view_"):
                views.addAction(action)
            if not spec.held:
                action.triggered.connect(lambda checked=False, name=spec.name: self._triggered(name, checked))
            self.actions_by_name[spec.name] = action
            self.addAction(action)
        self.actions_by_name["hud"].setChecked(True)
        self.actions_by_name["panel"].setChecked(True)

    def apply_shortcuts(self, shortcuts: dict[str, str]) -> None:
        """Use these changed keys."""
        self._held_keys: dict[str, QKeySequence] = {}
        for spec in ACTIONS:
            key = QKeySequence(shortcuts.get(spec.name, spec.key))
            action = self.actions_by_name[spec.name]
            if spec.held:
                self._held_keys[spec.name] = key
            else:
                keys = [key] if not key.isEmpty() else []
                if spec.name == "help":
                    keys.append(QKeySequence("?"))
                elif spec.name == "zoom_in" and spec.name not in shortcuts:
                    keys.append(QKeySequence("="))
                action.setShortcuts(keys)
            shown = key.toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{action_text(spec)}  ({shown})" if shown else action_text(spec))

    def _triggered(self, name: str, checked: bool) -> None:
        if name.startswith("view_"):
            self._views.set_mode(ViewMode(name.removeprefix("view_")))
            return
        playing = self.pages.currentWidget() is self.player
        views, video = self._views, self._video
        simple = {
            "swap": views.swap,
            "next_view": views.next_mode,
            "next_palette": views.next_palette,
            "polarity": views.toggle_polarity,
            "blend_less": lambda: views.change_blend(-1),
            "blend_more": lambda: views.change_blend(1),
            "freeze": lambda: self.controller.set_frozen(not self.controller.frozen),
            "hud": lambda: self.controller.set_hud(checked),
            "measure": lambda: self._set_measuring(checked),
            "zoom_in": lambda: video.zoom_by(1.25),
            "zoom_out": lambda: video.zoom_by(0.8),
            "fit": video.fit,
            "actual_size": video.actual_size,
            "run": self._run_or_stop,
            "record": lambda: self.controller.set_recording(not self.controller.recording),
            "event": self.controller.mark_event,
            "snapshot": self.controller.take_snapshot,
            "play": lambda: self.playback.set_playing(not self.playback.playing) if playing else None,
            "step_back": lambda: self.playback.step(-1) if playing else None,
            "step_forward": lambda: self.playback.step(1) if playing else None,
            "loop": lambda: self.playback.set_loop(not self.playback.loop),
            "open": self._ask_for_file,
            "home": self.show_start,
            "panel": lambda: self._show_panel(checked),
            "full_screen": lambda: self.set_full_screen(checked),
            "log": self._show_log,
            "settings": self.show_settings,
            "help": lambda: self.help.show_keys(self._settings.shortcuts()),
            "quit": self.close,
        }
        simple[name]()

    @property
    def _views(self) -> ViewController:
        return self.playback if self.pages.currentWidget() is self.player else self.controller

    @property
    def _video(self) -> VideoView:
        return self.player.stage.video if self.pages.currentWidget() is self.player else self.live.stage.video

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Keys that work while they are down."""
        if isinstance(event, QKeyEvent) and not event.isAutoRepeat() and self.isActiveWindow():
            kind = event.type()
            if kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
                sequence = QKeySequence(event.keyCombination())
                for name, key in self._held_keys.items():
                    if key == sequence and not key.isEmpty() and self.focusWidget() is not self.help:
                        self._hold(name, kind == QEvent.Type.KeyPress)
        if event is not None and event.type() == QEvent.Type.WindowDeactivate and watched is self:
            for name in list(self._held):
                self._hold(name, False)
        return super().eventFilter(watched, event)

    def _hold(self, name: str, down: bool) -> None:
        if down == (name in self._held):
            return
        self._held.symmetric_difference_update({name})
        if name == "thermal_share":
            self._views.show_thermal_share(down)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is not None and event.key() == Qt.Key.Key_Escape and self.isFullScreen():
            self.set_full_screen(False)
            return
        super().keyPressEvent(event)

    # ------------------------------------------------------------------ pages

    def show_start(self) -> None:
        """The start page; what runs is stopped in order."""
        if self.pages.currentWidget() is self.player:
            self.playback.close()
        self.assistant.stop()
        if self.controller.state is not ControllerState.IDLE:
            self.controller.stop()
        self.start_page.show_recent(self._settings.recent("configs"), self._settings.recent("recordings"))
        self._list_cameras()
        self._show(self.start_page)

    def open_config(self, config: AppConfig) -> None:
        """Start a configuration."""
        self._leave()
        self._show(self.live)
        self.controller.open_config(config)

    def open_path(self, path: Path, thermal: Path | None = None) -> None:
        """Open a configuration, a recording, or a visible and a thermal video."""
        self._leave()
        if path.suffix.lower() in _CONFIG_SUFFIXES:
            self._show(self.live)
            self.live.stage.video.set_message(self.tr("reading {0}…").format(path.name))
            self.controller.open_file(path)
            return
        if self.controller.state is not ControllerState.IDLE:
            self.controller.stop()
        self._settings.add_recent("recordings", path)
        self._show(self.player)
        self.player.title.setText(path.name)
        self.player.stage.video.set_message(self.tr("opening {0}…").format(path.name))
        self.playback.open_files(path, thermal)

    def open_assistant(self) -> None:
        """The set-up assistant."""
        self._leave()
        if self.controller.state is not ControllerState.IDLE:
            self.controller.stop()
        self._show(self.setup)
        self.assistant.look()

    def _leave(self) -> None:
        if self.pages.currentWidget() is self.player:
            self.playback.close()
        elif self.pages.currentWidget() is self.setup:
            self.assistant.stop()

    def _show(self, page: QWidget) -> None:
        self.pages.setCurrentWidget(page)
        live, playing = page is self.live, page is self.player
        picture = live or playing
        for spec in ACTIONS:
            action = self.actions_by_name[spec.name]
            if spec.group == "Playback":
                action.setEnabled(playing)
            elif spec.group == "Views" or (spec.group == "Picture" and spec.name not in ("freeze", "hud", "measure")):
                action.setEnabled(picture)
            elif spec.group in ("Picture", "Rig and recording"):
                action.setEnabled(live)
        if picture:
            self._show_mode(self._views.view.mode)
            self._video.setFocus()

    def _show_mode(self, mode: ViewMode) -> None:
        self.actions_by_name[f"view_{mode}"].setChecked(True)

    def _show_panel(self, shown: bool) -> None:
        self.controller.panel = shown
        self.live.panel.setVisible(shown)
        self.player.panel.setVisible(shown)

    def set_full_screen(self, on: bool) -> None:
        """Only the picture, over the whole screen."""
        self.actions_by_name["full_screen"].setChecked(on)
        panel = self.actions_by_name["panel"].isChecked()
        self.live.set_full_screen(on, panel)
        self.player.set_full_screen(on, panel)
        if on:
            self.showFullScreen()
        else:
            self.showNormal()

    def show_settings(self) -> None:
        """Appearance and shortcuts, in a window beside this one."""
        if self._settings_dialog is None:
            dialog = SettingsDialog(self._settings.shortcuts(), self._settings.appearance, self)
            dialog.shortcuts_chosen.connect(self._shortcuts_chosen)
            dialog.appearance_chosen.connect(self._appearance_chosen)
            self._settings_dialog = dialog
        self._settings_dialog.show()
        self._settings_dialog.raise_()

    def _shortcuts_chosen(self, shortcuts: dict[str, str]) -> None:
        self._settings.set_shortcuts(shortcuts)
        self.apply_shortcuts(shortcuts)

    def _appearance_chosen(self, appearance: Appearance) -> None:
        self._settings.appearance = appearance
        application = QApplication.instance()
        if isinstance(application, QApplication):
            apply_theme(application, appearance)
        self.refresh_icons()

    def refresh_icons(self) -> None:
        """Icons in the colours of the scheme in use."""
        for spec in ACTIONS:
            self.actions_by_name[spec.name].setIcon(self._icon_of(spec))

    @staticmethod
    def _icon_of(spec: ActionSpec) -> Any:
        return icon(spec.icon, level_colour(Level.BAD).name() if spec.name == "record" else None)

    def _show_log(self) -> None:
        self.log.show()
        self.log.raise_()

    def _ask_for_file(self) -> None:
        dialog = QFileDialog(
            self, self.tr("Open"), "", self.tr("Configurations and recordings (*.yaml *.yml *.mkv *.mp4)")
        )
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.filesSelected.connect(self._files_chosen)
        dialog.open()

    def _files_chosen(self, names: list[str]) -> None:
        """One file, or two videos: the first is the visible one."""
        paths = [Path(name) for name in names]
        videos = [path for path in paths if path.suffix.lower() not in _CONFIG_SUFFIXES]
        if len(videos) == 2:
            thermal = next((path for path in videos if "therm" in path.stem.lower()), videos[1])
            visible = videos[0] if thermal is videos[1] else videos[1]
            self.open_path(visible, thermal)
        elif paths:
            self.open_path(paths[0])

    # ------------------------------------------------------------------ start page

    def _wire_start(self) -> None:
        page = self.start_page
        page.simulated_asked.connect(lambda: self.open_config(simulated_config()))
        page.assistant_asked.connect(self.open_assistant)
        page.open_asked.connect(self._ask_for_file)
        page.config_chosen.connect(lambda name: self.open_path(Path(name)))
        page.recording_chosen.connect(lambda name: self.open_path(Path(name)))
        page.refresh_asked.connect(self._list_cameras)
        page.settings_asked.connect(self.show_settings)
        page.help_asked.connect(lambda: self.help.show_keys(self._settings.shortcuts()))

    def _list_cameras(self) -> None:
        def listed(choices: Any) -> None:
            self.start_page.show_cameras(choices)
            self.live.panel.source.show_sources(choices, self.controller.config)

        self._tasks.run(list_sources, listed, lambda error: self.controller.report("devices", error), Lane.FILES)

    # ------------------------------------------------------------------ live page

    def _wire_live(self) -> None:
        control, page = self.controller, self.live
        video, panel = page.stage.video, page.panel
        control.frame_ready.connect(video.set_frame)
        control.stats_ready.connect(self._show_stats)
        control.view_changed.connect(video.set_settings)
        control.view_changed.connect(panel.view.show_view)
        control.view_changed.connect(self._view_changed)
        control.config_changed.connect(self._config_changed)
        control.state_changed.connect(self._state_changed)
        control.frozen_changed.connect(self._frozen_changed)
        control.hud_changed.connect(self._hud_changed)
        control.readout_changed.connect(self._readout_changed)
        control.histogram_ready.connect(lambda h: panel.agc.histogram.set_histogram(h.counts, h.edges, h.limits))
        control.problems_changed.connect(page.stage.banners.show_problems)
        control.problem_log_changed.connect(self.log.show_problems)
        control.notice.connect(page.stage.banners.show_notice)
        control.stopped.connect(self._rig_stopped)
        video.presented.connect(lambda _: control.frame_presented())
        video.wipe_moved.connect(lambda at: control.set_view(wipe_at=at))
        video.pip_tapped.connect(control.swap)
        video.region_chosen.connect(control.set_region)
        video.full_screen_asked.connect(lambda: self.set_full_screen(not self.isFullScreen()))
        page.stage.banners.dismissed.connect(control.dismiss)
        panel.view.view_asked.connect(lambda changes: control.set_view(**changes))
        panel.view.scale_chosen.connect(self._scale_chosen)
        panel.view.measure_toggled.connect(self._set_measuring)
        panel.view.measure_cleared.connect(lambda: control.set_region(None))
        panel.agc.agc_chosen.connect(control.set_agc)
        panel.agc.folded.connect(lambda folded: control.want_histogram(not folded))
        panel.engine.engine_chosen.connect(control.set_engine)
        panel.record.recording_chosen.connect(lambda recording: control.change_config(recording=recording))
        panel.source.refresh_asked.connect(self._list_cameras)
        panel.source.sources_chosen.connect(self._sources_chosen)
        control.want_histogram(True)
        self.refresh_icons()

    def _view_changed(self, view: Any) -> None:
        if self.pages.currentWidget() is not self.player:
            self._show_mode(view.mode)
            self.actions_by_name["polarity"].setChecked(view.black_hot)

    def _config_changed(self, config: AppConfig) -> None:
        self.live.rig.setText(config.rig)
        self.live.panel.show_config(config)
        self.live.panel.view.show_scale(self.controller.scale)
        self.actions_by_name["panel"].setChecked(self.controller.panel)
        self.live.panel.setVisible(self.controller.panel)
        self._list_cameras()

    def _state_changed(self, state: ControllerState) -> None:
        running = state in (ControllerState.RUNNING, ControllerState.STARTING)
        run = self.actions_by_name["run"]
        run.setText(self.tr("Stop") if running else self.tr("Start"))
        run.setIcon(icon("stop" if running else "play"))
        messages = {
            ControllerState.IDLE: self.tr("stopped"),
            ControllerState.STARTING: self.tr("starting…"),
            ControllerState.RUNNING: self.tr("waiting for the first picture…"),
            ControllerState.STOPPING: self.tr("stopping, ending the recording…"),
        }
        video = self.live.stage.video
        video.set_message(messages[state])
        if state is not ControllerState.RUNNING:
            video.set_frame(None)
            video.set_figures([])
            self._show_recorded(False)

    def _run_or_stop(self) -> None:
        if self.controller.state in (ControllerState.RUNNING, ControllerState.STARTING):
            self.controller.stop()
        else:
            self.controller.start()

    def _show_stats(self, snapshot: StatsSnapshot) -> None:
        self.live.status.show_snapshot(snapshot)
        self.live.panel.engine.show_running(snapshot)
        if self.controller.hud:
            self.live.stage.video.set_figures(hud_figures(snapshot, self.controller.frozen))
        self._show_recorded(snapshot.recording in (RecordingState.RECORDING, RecordingState.PAUSED))

    def _show_recorded(self, on: bool) -> None:
        self.live.show_recording(on)
        self.actions_by_name["record"].setChecked(on)
        self.actions_by_name["record"].setText(self.tr("Stop recording") if on else self.tr("Record"))
        self._record_view(on and self.live.panel.record.record_view)

    def _record_view(self, on: bool) -> None:
        if on == (self._view_recorder is not None):
            return
        video = self.live.stage.video
        if on and self.controller.config is not None:
            stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
            folder = self.controller.config.recording.directory
            self._view_recorder = ViewRecorder(folder / f"view_{stamp}.mkv")
            video.set_capture(self._view_recorder.offer)
            return
        recorder, self._view_recorder = self._view_recorder, None
        video.set_capture(None)
        if recorder is not None:
            self._tasks.run(recorder.close, lambda _: self._view_recorded(recorder), lane=Lane.FILES)

    def _view_recorded(self, recorder: ViewRecorder) -> None:
        text = recorder.error or self.tr("View recorded: {0}").format(recorder.path)
        self.live.stage.banners.show_notice(text)

    def _frozen_changed(self, frozen: bool) -> None:
        self.actions_by_name["freeze"].setChecked(frozen)
        self.live.stage.video.set_badge(self.tr("FROZEN") if frozen else "")

    def _hud_changed(self, shown: bool) -> None:
        self.actions_by_name["hud"].setChecked(shown)
        snapshot = self.controller.snapshot_of_stats
        figures = hud_figures(snapshot, self.controller.frozen) if shown and snapshot is not None else []
        self.live.stage.video.set_figures(figures)

    def _readout_changed(self, readout: Readout | None) -> None:
        self.live.stage.video.set_readout(readout.region if readout else None, readout.text if readout else "")

    def _set_measuring(self, on: bool) -> None:
        self.actions_by_name["measure"].setChecked(on)
        self.live.panel.view.measure.setChecked(on)
        self.live.stage.video.set_measuring(on)

    def _scale_chosen(self, name: str) -> None:
        self.controller.set_scale(name)
        self.live.panel.view.show_scale(name)

    def _sources_chosen(self, visible: str, thermal: str) -> None:
        config = self.controller.config
        if config is not None:
            self.controller.change_config(
                visible=config.visible.model_copy(update={"uri": visible}),
                thermal=config.thermal.model_copy(update={"uri": thermal}),
            )

    # ------------------------------------------------------------------ playback page

    def _wire_playback(self) -> None:
        control, page = self.playback, self.player
        video = page.stage.video
        video.panel_names = video.panel_names | {Picture.FUSED: self.tr("A"), Picture.SECOND: self.tr("B")}
        control.frame_ready.connect(self._show_played)
        control.view_changed.connect(video.set_settings)
        control.view_changed.connect(page.view.show_view)
        control.view_changed.connect(lambda view: self._show_mode(view.mode))
        control.opened.connect(lambda pairs, length: page.show_opened(control.name, pairs, length))
        control.position_changed.connect(page.show_position)
        control.playing_changed.connect(self._playing_changed)
        control.loop_changed.connect(self.actions_by_name["loop"].setChecked)
        control.settings_changed.connect(page.show_settings)
        control.failed.connect(self._playback_failed)
        control.render_changed.connect(self._render_changed)
        page.seek_asked.connect(control.seek)
        page.speed_asked.connect(control.set_speed)
        page.first_chosen.connect(control.set_first)
        page.second_chosen.connect(control.set_second)
        page.range_asked.connect(control.set_range)
        page.render_asked.connect(lambda name: control.render(Path(name)))
        page.cancel_asked.connect(control.cancel_render)
        page.view.view_asked.connect(lambda changes: control.set_view(**changes))
        video.wipe_moved.connect(lambda at: control.set_view(wipe_at=at))
        video.pip_tapped.connect(control.swap)
        video.full_screen_asked.connect(lambda: self.set_full_screen(not self.isFullScreen()))

    def _show_played(self, played: PlayedFrame) -> None:
        self.player.stage.video.set_frame(played.frame, played.second)
        names = self.player.stage.video.panel_names
        names[Picture.FUSED] = f"A  {self.playback.first.label}"
        if self.playback.second is not None:
            names[Picture.SECOND] = f"B  {self.playback.second.label}"

    def _playing_changed(self, playing: bool) -> None:
        self.actions_by_name["play"].setIcon(icon("pause" if playing else "play"))

    def _playback_failed(self, text: str) -> None:
        self.player.stage.banners.show_notice(text)
        if text and not self.playback.is_open:
            self.player.stage.video.set_frame(None)
            self.player.stage.video.set_message(text)

    def _render_changed(self, done: int, total: int, running: bool, text: str) -> None:
        self.player.show_render(done, total, running)
        if text:
            self.player.stage.banners.show_notice(text)

    # ------------------------------------------------------------------ assistant

    def _wire_assistant(self) -> None:
        control, page = self.assistant, self.setup
        page.back_asked.connect(self.show_start)
        page.refresh_asked.connect(control.look)
        page.preview_asked.connect(control.preview)
        page.save_asked.connect(control.save)
        page.rig.textChanged.connect(lambda name: page.path.setText(str(control.file_of(name))))
        page.path.setText(str(control.file_of(page.rig.text())))
        control.sources_ready.connect(page.show_sources)
        control.frame_ready.connect(self._show_preview)
        control.offset_ready.connect(page.show_offset)
        control.failed.connect(page.show_problem)
        control.saved.connect(self.open_path)

    def _show_preview(self, stream: Stream, frame: Frame | None, error: str) -> None:
        image = rgb_image(preview_pixels(frame)) if frame is not None and not error else None
        self.setup.show_frame(stream, image, error)

    # ------------------------------------------------------------------ end

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if not self.help.isHidden():
            self.help.setGeometry(self.rect())

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Ends everything in order first; the window stays until a recording is closed properly."""
        if event is None:
            return
        if self._quitting:
            event.accept()
            return
        event.ignore()
        if self._closing:
            return
        self._closing = True
        if not self.isFullScreen():
            self._settings.geometry = self.saveGeometry()
        self.controller.remember_now()
        self._record_view(False)
        self.playback.close()
        self.assistant.stop()
        self.controller.stop()

    def _rig_stopped(self) -> None:
        if self._closing and self.controller.state is ControllerState.IDLE:
            self._tasks.run(lambda: None, lambda _: self._after_files(), lane=Lane.FILES)

    def _after_files(self) -> None:
        """Everything asked of the tasks before is done: go."""
        application = QApplication.instance()
        if application is not None:
            application.removeEventFilter(self)
        self._quitting = True
        self._settings.save()
        self.close()
        self.closed.emit()
