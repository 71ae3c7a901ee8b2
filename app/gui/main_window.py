"""The window: its pages, the windows beside it, and what comes from the desktop. Shows and asks; decides nothing."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QMimeData, Qt, pyqtSignal
from PyQt6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QMoveEvent, QResizeEvent
from PyQt6.QtWidgets import QFileDialog, QMainWindow, QStackedWidget, QWidget

from app.gui.common.actions import PageKind
from app.gui.common.qt_application import fit_on_screen
from app.gui.common.window_actions import WindowActions
from app.gui.help_overlay import HelpOverlay
from app.gui.live.live_page import LivePage
from app.gui.log_view import LogView
from app.gui.playback.playback_page import PlaybackPage
from app.gui.settings_dialog import SettingsDialog
from app.gui.setup.assistant_page import AssistantPage
from app.gui.setup.calibration_page import CalibrationPage
from app.gui.setup.start_page import StartPage
from app.view.settings import ViewSettings

__all__ = ["CONFIG_SUFFIXES", "MainWindow"]

CONFIG_SUFFIXES = (".yaml", ".yml")
_VIDEO_SUFFIXES = (".mkv", ".mp4", ".avi", ".mov", ".webm")


class MainWindow(QMainWindow):
    """The pages in one window; controllers connect their signals.

    files_chosen: list of paths, by a dialog or dropped. files_refused: dropped, and of no kind that is opened. moved:
    the window has another place or size. close_asked: the user wants to close; the window stays until `end` is called.
    closed: it is closed.
    """

    files_chosen = pyqtSignal(object)
    files_refused = pyqtSignal(object)
    moved = pyqtSignal()
    close_asked = pyqtSignal()
    closed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self._ended = False
        self._expert, self._kind = True, PageKind.OTHER
        self._maximized = False  # before full screen
        self.setWindowTitle("Lumitherm")
        self.setMinimumSize(720, 400)  # of 800x480 with the desktop's bar and a frame
        self.setAcceptDrops(True)
        fit_on_screen(self, 1320, 820)
        self.actions_by_name = WindowActions(self)
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
        self.settings_dialog: SettingsDialog | None = None

    # ------------------------------------------------------------------ what to show

    def show_page(self, page: QWidget) -> None:
        """Show one of the pages; only what it can do is enabled."""
        self.pages.setCurrentWidget(page)
        kind = {self.live: PageKind.LIVE, self.player: PageKind.PLAYBACK}.get(page, PageKind.OTHER)
        self._kind = kind
        self.actions_by_name.allow(kind, self._expert)

    def show_view(self, view: ViewSettings) -> None:
        """Mark the view in use."""
        self.actions_by_name.show_mode(view.mode)
        self.actions_by_name["polarity"].setChecked(view.black_hot)
        self.actions_by_name["heat"].setChecked(view.heat)

    def show_panel(self, shown: bool) -> None:
        """Show or hide the control panel of both pages with a picture."""
        self.live.show_panel(shown)
        self.player.show_panel(shown)

    def set_level(self, expert: bool) -> None:
        """Show everything, or what operators need."""
        self._expert = expert
        self.actions_by_name["expert"].setChecked(expert)
        self.live.set_level(expert)
        self.player.set_level(expert)
        self.actions_by_name.allow(self._kind, expert)

    def set_full_screen(self, on: bool) -> None:
        """Show only the picture, over the whole screen, or everything."""
        self.actions_by_name["full_screen"].setChecked(on)
        self.live.set_full_screen(on)
        self.player.set_full_screen(on)
        if on:
            self._maximized = self.isMaximized() or (self._maximized and self.isFullScreen())
            self.showFullScreen()
        elif self._maximized:
            self.showMaximized()
        else:
            self.showNormal()

    def show_dialog(self, dialog: QWidget) -> None:
        """Show a window beside this one, above the others."""
        dialog.show()
        dialog.raise_()

    def choose_files(self) -> None:
        """Ask what to open; `files_chosen` follows."""
        dialog = QFileDialog(
            self, self.tr("Open"), "", self.tr("Configurations and recordings (*.yaml *.yml *.mkv *.mp4)")
        )
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.filesSelected.connect(lambda names: self.files_chosen.emit([Path(name) for name in names]))
        dialog.open()

    def end(self) -> None:
        """Close for good; `closed` follows."""
        self.actions_by_name.stop_watching()
        self._ended = True
        self.close()
        self.closed.emit()

    # ------------------------------------------------------------------ what comes from the desktop

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is not None and event.key() == Qt.Key.Key_Escape and self.isFullScreen():
            self.set_full_screen(False)
            return
        super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files dropped anywhere; of those that cannot be opened, `files_refused` says so."""
        if event is not None and _paths_in(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open a configuration, a recording, or two videos."""
        if event is None:
            return
        if files := _files_in(event.mimeData()):
            event.acceptProposedAction()
            self.files_chosen.emit(files)
        elif refused := _paths_in(event.mimeData()):
            self.files_refused.emit(refused)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if not self.help.isHidden():
            self.help.setGeometry(self.rect())
        self.moved.emit()

    def moveEvent(self, event: QMoveEvent | None) -> None:
        super().moveEvent(event)
        self.moved.emit()

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Ask first: the window stays until a recording is closed properly."""
        if event is None:
            return
        if self._ended:
            event.accept()
            return
        event.ignore()
        self.close_asked.emit()


def _files_in(dragged: QMimeData | None) -> list[Path]:
    """Return the files on this computer that the window opens."""
    return [path for path in _paths_in(dragged) if path.suffix.lower() in (*CONFIG_SUFFIXES, *_VIDEO_SUFFIXES)]


def _paths_in(dragged: QMimeData | None) -> list[Path]:
    urls = dragged.urls() if dragged is not None else []
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
