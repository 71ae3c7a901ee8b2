"""Settings of the window: appearance, language, shortcuts. Never modal: the video goes on."""

from __future__ import annotations

from PyQt6.QtCore import Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QKeySequence
from PyQt6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QHeaderView,
    QKeySequenceEdit,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.actions import ACTIONS, action_text, group_text, shortcut_conflicts
from app.gui.common.qt_application import fit_on_screen
from app.gui.common.theme import Appearance
from app.gui.common.translation import LANGUAGES
from app.gui.widgets.sections import combo, form

__all__ = ["SettingsDialog"]


class SettingsDialog(QDialog):
    """shortcuts_chosen: dict of changed shortcuts. appearance_chosen: Appearance. language_chosen: code or ""."""

    shortcuts_chosen = pyqtSignal(dict)
    appearance_chosen = pyqtSignal(object)
    language_chosen = pyqtSignal(str)

    def __init__(
        self, shortcuts: dict[str, str], appearance: Appearance, language: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Settings"))
        self.setModal(False)
        fit_on_screen(self, 640, 620)
        self._edits: dict[str, QKeySequenceEdit] = {}
        tabs = QTabWidget()
        tabs.addTab(self._appearance_tab(appearance, language), self.tr("Appearance"))
        tabs.addTab(self._shortcut_tab(shortcuts), self.tr("Shortcuts"))
        self.tabs = tabs
        close = QPushButton(self.tr("Close"))
        close.clicked.connect(self.close)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(close)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(tabs)
        layout.addLayout(row)

    def _appearance_tab(self, appearance: Appearance, language: str) -> QWidget:
        entries: list[tuple[str, object]] = [
            (self.tr("Same as the system"), Appearance.SYSTEM),
            (self.tr("Dark"), Appearance.DARK),
            (self.tr("Light"), Appearance.LIGHT),
        ]
        self.appearance = combo(
            self.tr("Colours"), entries, lambda value: self.appearance_chosen.emit(Appearance(str(value)))
        )
        self.appearance.setCurrentIndex(self.appearance.findData(appearance))
        languages: list[tuple[str, object]] = [(self.tr("Same as the system"), "")]
        languages += [(name, code) for code, name in LANGUAGES.items()]
        self.language = combo(self.tr("Language"), languages, lambda code: self.language_chosen.emit(str(code)))
        self.language.setCurrentIndex(max(0, self.language.findData(language)))
        hint = QLabel(self.tr("The language changes when the window is opened again."))
        hint.setProperty("role", "dim")
        rows = form()
        rows.addRow(self.tr("Colours"), self.appearance)
        rows.addRow(self.tr("Language"), self.language)
        rows.addRow("", hint)
        note = QLabel(
            self.tr(
                "View, palette, figures, panel and temperature scale are remembered for each rig by its name. "
                "Good, caution and bad each have their own sign: ● good, ▲ caution, ■ bad."
            )
        )
        note.setWordWrap(True)
        note.setProperty("role", "dim")
        widget = QWidget()
        layout = QVBoxLayout(widget)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(16)
        layout.addLayout(rows)
        layout.addWidget(note)
        layout.addStretch(1)
        return widget

    def _shortcut_tab(self, shortcuts: dict[str, str]) -> QWidget:
        self.table = QTableWidget(len(ACTIONS), 3)
        self.table.setHorizontalHeaderLabels([self.tr("Group"), self.tr("Action"), self.tr("Key")])
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setShowGrid(False)
        self.table.setAccessibleName(self.tr("Shortcuts"))
        down = self.table.verticalHeader()
        if down is not None:
            down.hide()
            down.setDefaultSectionSize(40)
        across = self.table.horizontalHeader()
        if across is not None:
            across.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
            across.setDefaultSectionSize(150)
            across.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self._rows = enumerate(ACTIONS)
        self._shortcuts = shortcuts
        self._filling = QTimer(self)
        self._filling.setInterval(0)
        self._filling.timeout.connect(self._add_row)
        self._filling.start()
        self.conflict = QLabel("")
        self.conflict.setWordWrap(True)
        reset = QPushButton(self.tr("Back to the original keys"))
        reset.clicked.connect(self._reset)
        widget = QWidget()
        layout = QVBoxLayout(widget)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.table)
        layout.addWidget(self.conflict)
        layout.addWidget(reset, 0, Qt.AlignmentFlag.AlignRight)
        return widget

    def _add_row(self) -> None:
        """One shortcut a turn of the event loop: all at once took 100 ms, and the video goes on."""
        row, spec = next(self._rows, (-1, None))
        if spec is None:
            self._filling.stop()
            return
        for column, text in enumerate((group_text(spec.group), action_text(spec))):
            item = QTableWidgetItem(text)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
            self.table.setItem(row, column, item)
        edit = QKeySequenceEdit(QKeySequence(self._shortcuts.get(spec.name, spec.key)))
        edit.setMaximumSequenceLength(1)
        edit.setClearButtonEnabled(True)
        edit.setAccessibleName(self.tr("Key for {0}").format(action_text(spec)))
        edit.keySequenceChanged.connect(self._changed)
        self._edits[spec.name] = edit
        self.table.setCellWidget(row, 2, edit)

    def edit_of(self, name: str) -> QKeySequenceEdit:
        """The field of an action's key."""
        while name not in self._edits and self._filling.isActive():
            self._add_row()
        return self._edits[name]

    def _changed(self) -> None:
        keys = {
            spec.name: self.edit_of(spec.name).keySequence().toString(QKeySequence.SequenceFormat.PortableText)
            for spec in ACTIONS
        }
        conflicts = shortcut_conflicts(keys)
        texts = {spec.name: action_text(spec) for spec in ACTIONS}
        lines = [self.tr("“{0}” and “{1}” have the same key").format(texts[a], texts[b]) for a, b in conflicts]
        self.conflict.setText("; ".join(lines))
        if not conflicts:
            self.shortcuts_chosen.emit({s.name: keys[s.name] for s in ACTIONS if keys[s.name] != s.key})

    def _reset(self) -> None:
        for spec in ACTIONS:
            edit = self.edit_of(spec.name)
            edit.blockSignals(True)
            edit.setKeySequence(QKeySequence(spec.key))
            edit.blockSignals(False)
        self._changed()
