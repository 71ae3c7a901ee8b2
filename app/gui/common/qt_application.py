"""Makes the one application object of Qt, and hands files to the desktop."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QSize, QUrl
from PyQt6.QtGui import QDesktopServices, QIcon
from PyQt6.QtWidgets import QApplication, QWidget

__all__ = ["fit_on_screen", "make_application", "show_in_folder"]


def make_application(arguments: list[str]) -> QApplication:
    """The one application object, named."""
    application = QApplication(arguments)
    application.setApplicationName("lumitherm")
    application.setApplicationDisplayName("Lumitherm")
    application.setDesktopFileName("lumitherm")
    application.setWindowIcon(QIcon(str(Path(__file__).resolve().parents[1] / "icons" / "lumitherm.svg")))
    return application


def fit_on_screen(window: QWidget, width_px: int, height_px: int) -> None:
    """Give a window this size, or as much of it as its screen has room for; a frame comes round it."""
    size, screen = QSize(width_px, height_px), window.screen()
    window.resize(size if screen is None else size.boundedTo(screen.availableSize() * 0.9))


def show_in_folder(path: Path) -> None:
    """Show a folder, or the one that a file is in, in the desktop's file manager."""
    folder = path if path.is_dir() else path.parent
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder.absolute())))
