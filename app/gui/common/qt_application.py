"""Makes the one application object of Qt."""

from __future__ import annotations

from PyQt6.QtWidgets import QApplication

__all__ = ["make_application"]


def make_application(arguments: list[str]) -> QApplication:
    """The one application object, named."""
    application = QApplication(arguments)
    application.setApplicationName("lumitherm")
    application.setApplicationDisplayName("Lumitherm")
    application.setDesktopFileName("lumitherm")
    return application
