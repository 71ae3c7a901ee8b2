"""The window: its pages, which of them is shown, what each action does, and the way out in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QMimeData, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QMoveEvent, QResizeEvent
from PyQt6.QtWidgets import QApplication, QFileDialog, QMainWindow, QStackedWidget, QWidget

from app.configuration.config import AppConfig
from app.gui.common.actions import PageKind
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.theme import Appearance, change_theme
from app.gui.common.view_controller import ViewController
from app.gui.common.window_actions import WindowActions
from app.gui.controllers import Controllers
from app.gui.help_overlay import HelpOverlay
from app.gui.live.live_page import LivePage
from app.gui.live.live_wiring import LiveWiring
from app.gui.log_view import LogView
from app.gui.playback.playback_page import PlaybackPage
from app.gui.playback.playback_wiring import PlaybackWiring
from app.gui.settings_dialog import SettingsDialog
from app.gui.setup.assistant_page import AssistantPage
from app.gui.setup.assistant_wiring import AssistantWiring
from app.gui.setup.calibration_page import CalibrationPage
from app.gui.setup.calibration_wiring import CalibrationWiring
from app.gui.setup.start_page import StartPage
from app.gui.widgets.video_view import VideoView
from app.rig.setup_assistant import list_sources, simulated_config
from app.view.settings import ViewMode, ViewSettings

__all__ = ["MainWindow"]

_PATIENCE_S = 10.0  # when closing, with a task that does not end
_SETTLE_MS = 10
_CONFIG_SUFFIXES = (".yaml", ".yml")
_VIDEO_SUFFIXES = (".mkv", ".mp4", ".avi", ".mov", ".webm")


class MainWindow(QMainWindow):
    """Built from controllers; `closed` when everything has ended in order. Nothing is decided here."""

    closed = pyqtSignal()

    def __init__(self, controllers: Controllers, settings: GuiSettings, tasks: TaskRunner) -> None:
        super().__init__()
        self.controllers = controllers
        self.controller, self.playback = controllers.main, controllers.playback
        self._settings, self._tasks = settings, tasks
        self._closing = self._quitting = False
        self._patience_s = 0.0
        self.settings_dialog: SettingsDialog | None = None
        self.setWindowTitle("Lumitherm")
        self.setMinimumSize(1000, 600)
        self.setAcceptDrops(True)
        self.resize(1320, 820)
        self.actions_of = WindowActions(self)
        self.actions_by_name = self.actions_of.by_name
        self._commands = self._make_commands()
        self.actions_of.triggered.connect(self._triggered)
        self.actions_of.held.connect(self._held)
        self.pages = QStackedWidget()
        self.start_page = StartPage()
        self.live = LivePage(self.actions_by_name)
        self.player = PlaybackPage(self.actions_by_name)
        self.setup = AssistantPage()
        self.calibration = CalibrationPage()
        for page in (self.start_page, self.live, self.player, self.setup, self.calibration):
            self.pages.addWidget(page)
        self.setCentralWidget(self.pages)
        self.help = HelpOverlay(self)
        self.log = LogView(self)
        self._wire()
        self.actions_of.apply_shortcuts(settings.shortcuts())
        geometry = settings.geometry
        if geometry is not None:
            self.restoreGeometry(geometry)
        self.show_start()
        QTimer.singleShot(500, self._prepare_help)

    def _wire(self) -> None:
        page, control = self.start_page, self.controller
        page.simulated_asked.connect(lambda: self.open_config(simulated_config()))
        page.assistant_asked.connect(self.open_assistant)
        page.open_asked.connect(self._ask_for_file)
        page.config_chosen.connect(lambda name: self.open_path(Path(name)))
        page.recording_chosen.connect(lambda name: self.open_path(Path(name)))
        page.refresh_asked.connect(self._list_cameras)
        page.settings_asked.connect(self.show_settings)
        page.help_asked.connect(self._show_help)
        self.live_wiring = LiveWiring(
            self.live,
            control,
            self.controllers.comparison,
            self.controllers.models,
            self.actions_of,
            self._tasks,
            self,
        )
        self.live_wiring.view_changed.connect(partial(self._view_changed, self.live))
        self.live_wiring.full_screen_asked.connect(self._toggle_full_screen)
        self.live_wiring.devices_asked.connect(self._list_cameras)
        self.live.panel.calibration.assistant_asked.connect(self.open_calibration)
        control.problem_log_changed.connect(self.log.show_problems)
        control.stopped.connect(self._rig_stopped)
        playback = PlaybackWiring(self.player, self.playback, self.actions_of, self)
        playback.view_changed.connect(partial(self._view_changed, self.player))
        playback.full_screen_asked.connect(self._toggle_full_screen)
        self.controllers.models.models_changed.connect(self.player.show_models)
        self.player.add_model_asked.connect(lambda name: self.controllers.models.add(Path(name)))
        AssistantWiring(self.setup, self.controllers.assistant, self)
        self.setup.back_asked.connect(self.show_start)
        self.controllers.assistant.saved.connect(self.open_path)
        calibration = self.controllers.calibration
        CalibrationWiring(self.calibration, calibration, self)
        self.calibration.back_asked.connect(self._back_to_live)
        calibration.applied.connect(lambda _: self._back_to_live())
        calibration.notice.connect(control.notice)

    # ------------------------------------------------------------------ actions

    def _make_commands(self) -> dict[str, Callable[[bool], Any]]:
        """What each action does; the argument is whether it is checked now."""
        control, playback = self.controller, self.playback
        return {
            "swap": lambda _: self._views.swap(),
            "next_view": lambda _: self._views.next_mode(),
            "next_palette": lambda _: self._views.next_palette(),
            "next_isotherm": lambda _: self._views.next_isotherm(),
            "polarity": lambda _: self._views.toggle_polarity(),
            "blend_less": lambda _: self._views.change_blend(-1),
            "blend_more": lambda _: self._views.change_blend(1),
            "compare": lambda _: self._compare(),
            "freeze": lambda _: control.set_frozen(not control.frozen),
            "hud": control.set_hud,
            "measure": lambda on: self.live_wiring.set_measuring(on),
            "zoom_in": lambda _: self._video.zoom_by(1.25),
            "zoom_out": lambda _: self._video.zoom_by(0.8),
            "fit": lambda _: self._video.fit(),
            "actual_size": lambda _: self._video.actual_size(),
            "run": lambda _: self.live_wiring.run_or_stop(),
            "record": lambda _: control.set_recording(not control.recording),
            "event": lambda _: control.mark_event(),
            "snapshot": lambda _: control.take_snapshot(),
            "lock_span": lambda _: self.controllers.agc.lock_span(),
            "next_agc": lambda _: self.controllers.agc.next_agc(),
            "roll_back": lambda _: self.controllers.models.roll_back(),
            "calibrate": lambda _: self.open_calibration(),
            "timing": lambda on: self.live.show_timing(on),
            "play": lambda _: playback.set_playing(not playback.playing),
            "step_back": lambda _: playback.step(-1),
            "step_forward": lambda _: playback.step(1),
            "loop": lambda _: playback.set_loop(not playback.loop),
            "slower": lambda _: playback.change_speed(-1),
            "faster": lambda _: playback.change_speed(1),
            "range_begin": lambda _: playback.begin_range_here(),
            "range_end": lambda _: playback.end_range_here(),
            "render": lambda _: self.player.choose_output(),
            "open": lambda _: self._ask_for_file(),
            "home": lambda _: self.show_start(),
            "panel": self._show_panel,
            "full_screen": self.set_full_screen,
            "log": lambda _: self._show_log(),
            "settings": lambda _: self.show_settings(),
            "help": lambda _: self._show_help(),
            "quit": lambda _: self.close(),
        }

    def _triggered(self, name: str, checked: bool) -> None:
        if name.startswith("view_"):
            self._views.set_mode(ViewMode(name.removeprefix("view_")))
        else:
            self._commands[name](checked)

    def _held(self, name: str, down: bool) -> None:
        if name == "thermal_share":
            self._views.show_thermal_share(down)

    @property
    def _playing(self) -> bool:
        return self.pages.currentWidget() is self.player

    @property
    def _views(self) -> ViewController:
        return self.playback if self._playing else self.controller

    @property
    def _video(self) -> VideoView:
        return self.player.stage.video if self._playing else self.live.stage.video

    def _compare(self) -> None:
        if self._playing:
            self.playback.toggle_second()
        else:
            self.controllers.comparison.toggle()

    def _view_changed(self, page: QWidget, view: ViewSettings) -> None:
        if self.pages.currentWidget() is page:
            self.actions_of.show_mode(view.mode)
            self.actions_by_name["polarity"].setChecked(view.black_hot)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is not None and event.key() == Qt.Key.Key_Escape and self.isFullScreen():
            self.set_full_screen(False)
            return
        super().keyPressEvent(event)

    # ------------------------------------------------------------------ pages

    def show_start(self) -> None:
        """The start page; what runs is stopped in order."""
        self._leave()
        if self.controller.state is not ControllerState.IDLE:
            self.controller.stop()
        self._list_recent()
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
        self.controllers.models.refresh()
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
        self.controllers.assistant.look()

    def open_calibration(self) -> None:
        """The calibration assistant; the rig goes on."""
        self._leave()
        self._show(self.calibration)
        self.controllers.calibration.open()

    def _back_to_live(self) -> None:
        self._leave()
        self._show(self.live)

    def _leave(self) -> None:
        page = self.pages.currentWidget()
        if page is self.player:
            self.playback.close()
        elif page is self.setup:
            self.controllers.assistant.stop()
        elif page is self.calibration:
            self.controllers.calibration.close()

    def _show(self, page: QWidget) -> None:
        self.pages.setCurrentWidget(page)
        kinds = {self.live: PageKind.LIVE, self.player: PageKind.PLAYBACK}
        kind = kinds.get(page, PageKind.OTHER)
        self.actions_of.allow(kind)
        if kind is not PageKind.OTHER:
            self._view_changed(page, self._views.view)
            self._video.setFocus()

    def _show_panel(self, shown: bool) -> None:
        self.controller.set_panel(shown)
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

    def _toggle_full_screen(self) -> None:
        self.set_full_screen(not self.isFullScreen())

    # ------------------------------------------------------------------ windows beside this one

    def show_settings(self) -> None:
        """Appearance, language and shortcuts, in a window beside this one."""
        if self.settings_dialog is None:
            chosen = self._settings
            dialog = SettingsDialog(chosen.shortcuts(), chosen.appearance, chosen.language, self)
            dialog.language_chosen.connect(self._language_chosen)
            dialog.shortcuts_chosen.connect(self._shortcuts_chosen)
            dialog.appearance_chosen.connect(self._appearance_chosen)
            self.settings_dialog = dialog
        self.settings_dialog.show()
        self.settings_dialog.raise_()

    def _shortcuts_chosen(self, shortcuts: dict[str, str]) -> None:
        self._settings.set_shortcuts(shortcuts)
        self.actions_of.apply_shortcuts(shortcuts)

    def _language_chosen(self, code: str) -> None:
        self._settings.language = code

    def _appearance_chosen(self, appearance: Appearance) -> None:
        self._settings.appearance = appearance
        self.dress()

    def dress(self) -> None:
        """Take on the appearance that is chosen, or the system's new one."""
        application = QApplication.instance()
        if isinstance(application, QApplication):
            change_theme(application, self._settings.appearance, self.refresh_icons)

    def refresh_icons(self) -> None:
        """Icons in the colours of the scheme in use."""
        self.actions_of.refresh_icons()

    def _show_help(self) -> None:
        self.help.show_keys(self._settings.shortcuts())

    def _prepare_help(self) -> None:
        """Ahead of time: then it is there at once."""
        self.help.prepare(self._settings.shortcuts())

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
        """One file, or two videos: the one with "therm" in its name is the thermal one, else the second."""
        paths = [Path(name) for name in names]
        videos = [path for path in paths if path.suffix.lower() not in _CONFIG_SUFFIXES]
        if len(videos) == 2:
            thermal = next((path for path in videos if "therm" in path.stem.lower()), videos[1])
            visible = videos[0] if thermal is videos[1] else videos[1]
            self.open_path(visible, thermal)
        elif paths:
            self.open_path(paths[0])

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Files that can be opened may be dropped anywhere."""
        if event is not None and _files_in(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """A configuration, a recording, or two videos."""
        if event is not None and (names := _files_in(event.mimeData())):
            event.acceptProposedAction()
            self._files_chosen(names)

    def _list_recent(self) -> None:
        recent = self._settings.recent
        self._tasks.run(
            lambda: (recent("configs"), recent("recordings")),
            lambda files: self.start_page.show_recent(*files),
            lambda error: self.controller.report("window", error),
            Lane.FILES,
        )

    def _list_cameras(self) -> None:
        def listed(choices: Any) -> None:
            self.start_page.show_cameras(choices)
            self.live_wiring.show_devices(choices)

        self._tasks.run(list_sources, listed, lambda error: self.controller.report("devices", error), Lane.FILES)

    # ------------------------------------------------------------------ size and end

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if not self.help.isHidden():
            self.help.setGeometry(self.rect())
        self._remember_place()

    def moveEvent(self, event: QMoveEvent | None) -> None:
        super().moveEvent(event)
        self._remember_place()

    def _remember_place(self) -> None:
        if self.isVisible() and not self.isFullScreen():
            self._settings.geometry = self.saveGeometry()

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
        self._remember_place()
        self.live_wiring.record_view(False)
        self.playback.close()
        self.controllers.assistant.stop()
        self.controllers.calibration.close()
        self.controller.stop()

    def _rig_stopped(self) -> None:
        if self._closing and self.controller.state is ControllerState.IDLE:
            self._patience_s = time.monotonic() + _PATIENCE_S
            self._tasks.run(self._settings.save, lambda _: self._after_files(), lane=Lane.FILES)

    def _after_files(self) -> None:
        """Go, when everything asked of the tasks is done, and what its results have asked for."""
        if self._tasks.busy and time.monotonic() < self._patience_s:
            QTimer.singleShot(_SETTLE_MS, self._after_files)
            return
        self.actions_of.let_go()
        self._quitting = True
        self.close()
        self.closed.emit()


def _files_in(dragged: QMimeData | None) -> list[str]:
    """The files on this computer that the window opens."""
    names = [url.toLocalFile() for url in dragged.urls()] if dragged is not None else []
    return [name for name in names if Path(name).suffix.lower() in (*_CONFIG_SUFFIXES, *_VIDEO_SUFFIXES)]
