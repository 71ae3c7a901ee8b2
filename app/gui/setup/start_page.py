"""The first page: the simulated rig, connected cameras, recent configurations and recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PyQt6.QtCore import QDateTime, QEvent, QLocale, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QIcon, QPixmap, QResizeEvent, QShowEvent
from PyQt6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.qt_image import rgb_image
from app.gui.common.theme import colours, icon, set_icon
from app.gui.widgets.sections import let_scroll
from app.gui.widgets.status_text import clock
from app.playback.preview import RecordingPreview
from app.rig.setup_assistant import SourceChoice

__all__ = ["StartPage"]

_MOST_WIDE = 1080
_LIST_PX = 480
_HEAD_PX = 36
_CARD_PX = 132
_LOW_PX = 700  # below that height the margins are narrow
_THUMBNAIL = QSize(80, 60)


class _Card(QPushButton):
    """A large button: icon, title, a line that explains."""

    def __init__(self, icon_name: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", True)
        self.setAccessibleName(title)
        self.setAccessibleDescription(text)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)  # all of a row as high as one
        self.setMinimumHeight(_CARD_PX)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._sign, self._sign_name = QLabel(), icon_name
        self._show_sign()
        heading = QLabel(title)
        heading.setProperty("role", "heading")
        heading.setWordWrap(True)
        words = QLabel(text)
        words.setProperty("role", "dim")
        words.setWordWrap(True)
        for label in (self._sign, heading, words):
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 16, 18, 16)
        column.setSpacing(4)
        column.addWidget(self._sign)
        column.addSpacing(2)
        column.addWidget(heading)
        column.addWidget(words)
        column.addStretch(1)

    def changeEvent(self, event: QEvent | None) -> None:
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange:
            self._show_sign()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        self._fit_words()

    def event(self, event: QEvent | None) -> bool:
        done = super().event(event)
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self._fit_words()  # the words have got their font after the card got its width
        return done

    def _fit_words(self) -> None:
        """Be as high as the words need at this width: a button does not ask its layout."""
        layout = self.layout()
        if layout is not None:
            self.setMinimumHeight(max(_CARD_PX, layout.heightForWidth(self.width())))

    def _show_sign(self) -> None:
        self._sign.setPixmap(icon(self._sign_name, colours().accent).pixmap(QSize(30, 30)))


class _FileList(QFrame):
    """Files with a heading; a click or Enter opens one."""

    chosen = pyqtSignal(str)

    def __init__(self, title: str, nothing: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", True)
        heading = QLabel(title)
        heading.setProperty("role", "heading")
        self._nothing = nothing
        self.list = QListWidget()
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setAccessibleName(title)
        self.list.setMinimumHeight(150)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemActivated.connect(self._open)
        self.list.itemClicked.connect(self._open)
        heading.setWordWrap(True)
        heading.setMinimumHeight(_HEAD_PX)  # as high with a button beside it as without
        self.head = QHBoxLayout()
        self.head.setContentsMargins(0, 0, 0, 0)
        self.head.addWidget(heading, 1)
        self.setMaximumHeight(_LIST_PX)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 16, 12)
        column.addLayout(self.head)
        column.addWidget(self.list)

    def show_pictures(self, pictures: dict[str, QIcon]) -> None:
        """Show a picture beside entries, by what they open."""
        self.list.setIconSize(_THUMBNAIL)
        for row in range(self.list.count()):
            item = self.list.item(row)
            if item is not None and (found := pictures.get(str(item.data(Qt.ItemDataRole.UserRole)))) is not None:
                item.setIcon(found)

    def show_entries(self, entries: Sequence[tuple[str, str, str]]) -> None:
        """Show (what opens, title, explanation)."""
        self.list.clear()
        for target, title, text in entries:
            item = QListWidgetItem(f"{title}\n{text}" if text else title)
            item.setData(Qt.ItemDataRole.UserRole, target)
            item.setToolTip(text)
            self.list.addItem(item)
        if not entries:
            item = QListWidgetItem(self._nothing)
            item.setFlags(Qt.ItemFlag.NoItemFlags)
            item.setForeground(QColor(colours().dim))
            self.list.addItem(item)

    def _open(self, item: QListWidgetItem) -> None:
        target = item.data(Qt.ItemDataRole.UserRole)
        if target:
            self.chosen.emit(str(target))


class StartPage(QScrollArea):
    """Asks; decides nothing."""

    simulated_asked = pyqtSignal()
    assistant_asked = pyqtSignal()
    open_asked = pyqtSignal()
    config_chosen = pyqtSignal(str)
    recording_chosen = pyqtSignal(str)
    refresh_asked = pyqtSignal()
    settings_asked = pyqtSignal()
    help_asked = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        inner = QWidget()
        inner.setMaximumWidth(_MOST_WIDE)
        content = QVBoxLayout(inner)
        content.setContentsMargins(0, 0, 0, 0)
        content.setSpacing(24)
        content.addLayout(self._top())
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.setObjectName("banner")
        self.problem.setProperty("level", "caution")
        self.problem.setMargin(10)
        self.problem.hide()
        content.addWidget(self.problem)
        content.addLayout(self._cards())
        content.addLayout(self._lists())
        content.addStretch(1)
        holder = QWidget()
        self._outer = QHBoxLayout(holder)
        self._outer.setContentsMargins(40, 40, 40, 40)
        self._outer.addStretch(1)
        self._outer.addWidget(inner, 20)
        self._outer.addStretch(1)
        let_scroll(holder, self)

    def _top(self) -> QHBoxLayout:
        title = QLabel("Lumitherm")
        title.setProperty("role", "title")
        subtitle = QLabel(self.tr("One picture from a visible and a thermal camera"))
        subtitle.setProperty("role", "dim")
        heads = QVBoxLayout()
        heads.setSpacing(2)
        heads.addWidget(title)
        heads.addWidget(subtitle)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addLayout(heads)
        top.addStretch(1)
        for name, text, signal in (
            ("cog", self.tr("Settings"), self.settings_asked),
            ("help-circle-outline", self.tr("Help"), self.help_asked),
        ):
            button = QToolButton()
            set_icon(button, name)
            button.setToolTip(text)
            button.setAccessibleName(text)
            button.clicked.connect(signal)
            top.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
        return top

    def _cards(self) -> QHBoxLayout:
        self.simulated = _Card(
            "play",
            self.tr("Simulated rig"),
            self.tr("Two simulated cameras before a moving scene. No hardware needed."),
        )
        self.simulated.clicked.connect(self.simulated_asked)
        self.assistant = _Card(
            "auto-fix",
            self.tr("Set up two cameras"),
            self.tr("Pick visible and thermal, see both live, measure the offset, save the configuration."),
        )
        self.assistant.clicked.connect(self.assistant_asked)
        self.open = _Card(
            "folder-open", self.tr("Open"), self.tr("A configuration (.yaml) or a recording (.mkv) from disk.")
        )
        self.open.clicked.connect(self.open_asked)
        cards = QHBoxLayout()
        cards.setSpacing(16)
        for card in (self.simulated, self.assistant, self.open):
            cards.addWidget(card)
        return cards

    def _lists(self) -> QGridLayout:
        self.configs = _FileList(self.tr("Recent configurations"), self.tr("None yet"))
        self.configs.chosen.connect(self.config_chosen)
        self.recordings = _FileList(self.tr("Recent recordings"), self.tr("None yet"))
        self.recordings.chosen.connect(self.recording_chosen)
        self.cameras = _FileList(self.tr("Connected cameras"), self.tr("None found"))
        self.cameras.chosen.connect(lambda _: self.assistant_asked.emit())
        self._refresh = QToolButton()
        self.cameras.head.addWidget(self._refresh)
        set_icon(self._refresh, "refresh")
        self._refresh.setProperty("flat", True)
        self._refresh.setToolTip(self.tr("Search again"))
        self._refresh.setAccessibleName(self.tr("Search for cameras again"))
        self._refresh.clicked.connect(self.refresh_asked)
        lists = QGridLayout()
        lists.setSpacing(16)
        for column, widget in enumerate((self.cameras, self.configs, self.recordings)):
            lists.addWidget(widget, 0, column)
            lists.setColumnStretch(column, 1)
        return lists

    def show_problem(self, text: str) -> None:
        """Say what is wrong, until the page is shown again; "" = nothing."""
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def show_recent(self, configs: Sequence[Path], recordings: Sequence[Path]) -> None:
        """Show files opened lately."""
        self.configs.show_entries([(str(path), path.name, str(path.parent)) for path in configs])
        self.recordings.show_entries([(str(path), path.name, str(path.parent)) for path in recordings])

    def show_previews(self, previews: Sequence[RecordingPreview]) -> None:
        """Show when each recent recording was made, how long it is, and a small picture of it."""
        entries, pictures = [], {}
        for preview in previews:
            when = QLocale().toString(QDateTime(preview.began), QLocale.FormatType.ShortFormat)
            length = clock(preview.seconds) if preview.seconds is not None else self.tr("length not known")
            entries.append((str(preview.path), f"{when}   {length}", preview.path.name))
            if preview.picture is not None:
                pictures[str(preview.path)] = QIcon(QPixmap.fromImage(rgb_image(preview.picture)))
        self.recordings.show_entries(entries)
        self.recordings.show_pictures(pictures)

    def show_cameras(self, choices: Sequence[SourceChoice]) -> None:
        """Show what is connected, with the reason why it is named so."""
        real = [choice for choice in choices if not choice.uri.startswith("sim:")]
        self.cameras.show_entries([(choice.uri, choice.name, choice.reason) for choice in real])

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        margin = 16 if self.height() < _LOW_PX else 40
        if self._outer.contentsMargins().top() != margin:
            self._outer.setContentsMargins(margin, margin, margin, margin)
        super().resizeEvent(event)

    def showEvent(self, event: QShowEvent | None) -> None:
        self.show_problem("")
        self.simulated.setFocus()
