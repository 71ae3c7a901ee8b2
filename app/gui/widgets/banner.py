"""Problems above the video: what happened and what to do. Never modal; the picture goes on beneath."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PyQt6.QtCore import QSize, Qt, QTimer, pyqtSignal
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from app.gui.common.theme import Level, icon, level_colour, restyle, set_icon
from app.gui.widgets.plain_words import in_plain_words
from app.pipeline.state.problems import PipelineProblem, Severity

__all__ = ["Banner", "BannerStack", "Offer"]

_MOST = 3
_NOTICE_MS, _OFFER_MS = 5000, 12000

Offer = tuple[str, Callable[[], None]]
"""What a notice offers to do: the text of its button, and what is called."""


class Banner(QFrame):
    """One message with a button to close it."""

    closed = pyqtSignal()

    def __init__(
        self, level: Level, text: str, advice: str = "", parent: QWidget | None = None, offers: Sequence[Offer] = ()
    ) -> None:
        super().__init__(parent)
        self.setObjectName("banner")
        self.setProperty("level", level.value)
        restyle(self)
        sign = QLabel()
        name = {Level.BAD: "alert-octagon", Level.CAUTION: "alert"}.get(level, "information")
        sign.setPixmap(icon(name, level_colour(level).name()).pixmap(QSize(24, 24)))
        words = QVBoxLayout()
        words.setSpacing(2)
        self.text = QLabel(_sentence(text))
        self.text.setWordWrap(True)
        self.text.setProperty("role", "message")
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        words.addWidget(self.text)
        if advice:
            hint = QLabel(_sentence(advice))
            hint.setWordWrap(True)
            hint.setProperty("role", "dim")
            words.addWidget(hint)
        if offers:
            words.addLayout(self._offers(offers))
        close = QToolButton()
        close.setProperty("flat", True)
        set_icon(close, "close")
        close.setToolTip(self.tr("Close"))
        close.setAccessibleName(self.tr("Close this message"))
        close.clicked.connect(self.closed)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 10, 8, 10)
        row.setSpacing(12)
        row.addWidget(sign)
        row.addLayout(words, 1)
        row.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        self.setAccessibleName(f"{text} {advice}")

    def _offers(self, offers: Sequence[Offer]) -> QHBoxLayout:
        row = QHBoxLayout()
        for words, call in offers:
            button = QPushButton(words)
            button.setProperty("touch", True)
            button.clicked.connect(lambda _, call=call: call())
            row.addWidget(button)
        row.addStretch(1)
        return row


class BannerStack(QWidget):
    """The problems that are not over, worst first, and now and then a short notice."""

    dismissed = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(6)
        self._problems: tuple[PipelineProblem, ...] = ()
        self._plain = False
        self._notice = ""
        self._offers: tuple[Offer, ...] = ()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(lambda: self.show_notice(""))
        self.hide()

    def show_problems(self, problems: Sequence[PipelineProblem]) -> None:
        """Show these and no others."""
        self._problems = tuple(problems)
        self._rebuild()

    def speak_plainly(self, plain: bool) -> None:
        """Leave out the words of those who build such things."""
        self._plain = plain
        self._rebuild()

    def show_notice(self, text: str, offers: Sequence[Offer] = ()) -> None:
        """Show a short message for five seconds, or twelve with something to press; "" takes it away."""
        self._notice, self._offers = text, tuple(offers)
        if text:
            self._timer.start(_OFFER_MS if offers else _NOTICE_MS)
        else:
            self._timer.stop()
        self._rebuild()

    def _dismiss_rest(self) -> None:
        for problem in self._problems[_MOST:]:
            self.dismissed.emit(problem)

    def texts(self) -> list[str]:
        """What is shown now."""
        return [banner.text.text() for banner in self.findChildren(Banner) if banner.parent() is self]

    def _rebuild(self) -> None:
        while (item := self._layout.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.setParent(None)
                widget.deleteLater()
        for problem in self._problems[:_MOST]:
            level = Level.BAD if problem.severity is Severity.ERROR else Level.CAUTION
            words = in_plain_words(problem) if self._plain else (problem.text, problem.advice)
            banner = Banner(level, *words, self)
            banner.closed.connect(lambda problem=problem: self.dismissed.emit(problem))
            self._layout.addWidget(banner)
        more = len(self._problems) - _MOST
        if more > 0:
            banner = Banner(Level.CAUTION, self.tr("{0} more: see the log").format(more), parent=self)
            banner.closed.connect(self._dismiss_rest)
            self._layout.addWidget(banner)
        if self._notice:
            banner = Banner(Level.NEUTRAL, self._notice, parent=self, offers=self._offers)
            banner.closed.connect(lambda: self.show_notice(""))
            self._layout.addWidget(banner)
        for banner in self.findChildren(Banner, options=Qt.FindChildOption.FindDirectChildrenOnly):
            banner.show()  # the layout leaves out what was never shown
        self.setVisible(self._layout.count() > 0)
        self._layout.activate()
        parent = self.parentWidget()
        if parent is not None and hasattr(parent, "place_overlays"):
            parent.place_overlays()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
