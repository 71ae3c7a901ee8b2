"""Makes the one application object of Qt, and hands files to the desktop."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QUrl
from PyQt6.QtGui import QDesktopServices, QIcon
from PyQt6.QtWidgets import QApplication

__all__ = ["make_application", "show_in_folder"]


def make_application(arguments: list[str]) -> QApplication:
    """The one application object, named."""
    application = QApplication(arguments)
    application.setApplicationName("lumitherm")
    application.setApplicationDisplayName("Lumitherm")
    application.setDesktopFileName("lumitherm")
    application.setWindowIcon(QIcon(str(Path(__file__).resolve().parents[1] / "icons" / "lumitherm.svg")))
    return application


def show_in_folder(path: Path) -> None:
    """Show a folder, or the one that a file is in, in the desktop's file manager."""
    folder = path if path.is_dir() else path.parent
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder.absolute())))
