"""What the keys do, over whatever page is shown. Any key or click closes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from PyQt6.QtCore import Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QKeySequence, QMouseEvent, QPainter, QPaintEvent, QResizeEvent
from PyQt6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from app.gui.common.actions import ACTIONS, action_text, group_text
from app.gui.widgets.sections import let_scroll

__all__ = ["HelpOverlay"]

_MARGIN_PX, _BAR_PX, _FRAME_PX = 28, 24, 150  # of the card: at its sides, the scroll bar, title and hint
_STEP_MS = 30
_NARROW_PX, _SMALL_PX = 1300, 1000  # below, two columns in place of three, and one
_ONE = (("Views", "Picture", "Playback", "Rig and recording", "Window"),)
_TWO = (("Views", "Playback", "Window"), ("Picture", "Rig and recording"))
_THREE = (("Views", "Playback"), ("Picture",), ("Rig and recording", "Window"))


class HelpOverlay(QWidget):
    """Covers its parent while it is shown."""

    closed = pyqtSignal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("Help"))
        self.setProperty("takes_keys", True)
        self._shown: tuple[dict[str, str], bool, tuple[tuple[str, ...], ...]] | None = None
        self._work: Iterator[str] = iter(())
        self._card = QFrame(self)
        self._card.setObjectName("help")
        self._keys = QWidget()
        self._columns = QHBoxLayout(self._keys)
        self._columns.setContentsMargins(0, 0, 12, 0)
        self._columns.setSpacing(32)
        self._scroll = let_scroll(self._keys, QScrollArea())
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        title = QLabel(self.tr("Keys"))
        title.setProperty("role", "heading")
        hint = QLabel(
            self.tr(
                "Wheel: zoom · drag: pan · double click: full screen · drag a mark or its corner: move it"
                " · drag the divider: wipe · Esc: leave"
            )
        )
        hint.setProperty("role", "dim")
        hint.setWordWrap(True)
        layout = QVBoxLayout(self._card)
        layout.setContentsMargins(28, 24, 28, 24)
        layout.setSpacing(14)
        layout.addWidget(title)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(hint)
        self.hide()

    def show_keys(self, shortcuts: Mapping[str, str], expert: bool = True) -> None:
        """Show the actions with these keys; without `expert` those of operators."""
        self.prepare(shortcuts, expert)
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
        self._place()
        self.show()
        self.raise_()
        self.setFocus()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        self._place()

    def _place(self) -> None:
        """As large as the keys need, and no larger than the window: what is longer scrolls."""
        wanted = self._keys.sizeHint()
        width = min(self.width() - 24, wanted.width() + 2 * _MARGIN_PX + _BAR_PX)
        height = min(self.height() - 24, wanted.height() + _FRAME_PX)
        self._card.setGeometry((self.width() - width) // 2, (self.height() - height) // 2, width, height)

    def prepare(self, shortcuts: Mapping[str, str], expert: bool = True) -> None:
        """Make the table of these keys if it is not there."""
        self._work = self._made(shortcuts, expert)
        for _ in self._work:
            pass

    def prepare_in_steps(self, shortcuts: Mapping[str, str], expert: bool = True) -> None:
        """As `prepare`, a group of keys at a time, so that pictures come between."""
        self._work = self._made(shortcuts, expert)
        self._advance()

    def _advance(self) -> None:
        if next(self._work, None) is not None:
            QTimer.singleShot(_STEP_MS, self._advance)

    def _made(self, shortcuts: Mapping[str, str], expert: bool) -> Iterator[str]:
        """Gives each group's name when it is there. Whoever begins anew ends what was under way."""
        parent = self.parentWidget()
        width = parent.width() if parent is not None else _NARROW_PX
        layout = _ONE if width < _SMALL_PX else _TWO if width < _NARROW_PX else _THREE
        if self._shown == (dict(shortcuts), expert, layout):
            return
        self._shown = None
        while (item := self._columns.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        groups: dict[str, list[tuple[str, str]]] = {}
        for spec in ACTIONS:
            if spec.expert and not expert:
                continue
            key = QKeySequence(shortcuts.get(spec.name, spec.key)).toString(QKeySequence.SequenceFormat.NativeText)
            groups.setdefault(spec.group, []).append((key, action_text(spec)))
        for names in layout:
            column = QWidget()
            grid = QGridLayout(column)
            grid.setContentsMargins(0, 0, 0, 0)
            grid.setHorizontalSpacing(12)
            grid.setVerticalSpacing(6)
            self._columns.addWidget(column)
            row = 0
            for name in names:
                row = _add_group(grid, row, group_text(name), groups[name])
                for label in column.findChildren(QLabel):
                    label.ensurePolished()  # the style sheet is looked up now and not when it is shown
                yield name
            grid.setRowStretch(row, 1)
        self._shown = (dict(shortcuts), expert, layout)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(4, 6, 9, 150))
        painter.end()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        pages = {Qt.Key.Key_Down: 0.2, Qt.Key.Key_Up: -0.2, Qt.Key.Key_PageDown: 0.9, Qt.Key.Key_PageUp: -0.9}
        step = pages.get(Qt.Key(event.key())) if event is not None else None
        bar = self._scroll.verticalScrollBar()
        if step is None or bar is None or bar.maximum() == 0:
            self._close()
        else:
            bar.setValue(bar.value() + round(step * bar.pageStep()))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        self._close()

    def _close(self) -> None:
        self.hide()
        self.closed.emit()


def _add_group(grid: QGridLayout, row: int, title: str, entries: list[tuple[str, str]]) -> int:
    """Below what is there; gives the row after it."""
    heading = QLabel(title)
    heading.setProperty("role", "step")
    heading.setContentsMargins(0, 10 if row else 0, 0, 0)
    grid.addWidget(heading, row, 0, 1, 2)
    row += 1
    for key, text in entries:
        cap = QLabel(key or "–")
        cap.setProperty("key", True)
        grid.addWidget(cap, row, 0, Qt.AlignmentFlag.AlignLeft)
        grid.addWidget(QLabel(text), row, 1)
        row += 1
    return row
