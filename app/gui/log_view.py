"""The problems and messages of this run as text that can be copied."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtGui import QFontDatabase, QGuiApplication
from PyQt6.QtWidgets import QDialog, QHBoxLayout, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.gui.common.qt_application import fit_on_screen
from app.gui.common.theme import icon_button
from app.pipeline.state.problems import PipelineProblem

__all__ = ["LogView"]


class LogView(QDialog):
    """A window of its own beside the video; never blocks it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Lumitherm log"))
        self.setModal(False)
        fit_on_screen(self, 860, 420)
        self._text = QPlainTextEdit()
        self._text.setReadOnly(True)
        self._text.setMaximumBlockCount(2000)
        self._text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._text.setAccessibleName(self.tr("Log"))
        self._text.setPlaceholderText(self.tr("Nothing has gone wrong so far."))
        copy = icon_button("content-copy", self.tr("Copy all"))
        copy.clicked.connect(self._copy)
        close = QPushButton(self.tr("Close"))
        close.clicked.connect(self.close)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(copy)
        buttons.addWidget(close)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(self._text)
        layout.addLayout(buttons)

    def show_problems(self, problems: Sequence[PipelineProblem]) -> None:
        """Show all of these, oldest first."""
        lines = []
        for problem in problems:
            stamp = problem.when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            advice = f"  → {problem.advice}" if problem.advice else ""
            lines.append(f"{stamp}  {problem.severity.value:7}  {problem.source:11}  {problem.text}{advice}")
        self._text.setPlainText("\n".join(lines))
        bar = self._text.verticalScrollBar()
        if bar is not None:
            bar.setValue(bar.maximum())

    def text(self) -> str:
        """All that is shown."""
        return self._text.toPlainText()

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.text())
