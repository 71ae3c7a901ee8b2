"""Setting up two cameras: pick both, see both live, measure the offset, save. Shows and asks; decides nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PyQt6.QtCore import QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PyQt6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.theme import icon_button
from app.gui.widgets.name_label import NameLabel
from app.gui.widgets.sections import combo, form, let_scroll
from app.rig.setup_assistant import SourceChoice
from fusion_core.frames import Stream

__all__ = ["AssistantPage"]


class _Preview(QWidget):
    """One camera, small, or why it shows nothing."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._image = QImage()
        self._text = ""
        self.setMinimumSize(280, 84)
        self.setAccessibleName(name)

    def show_image(self, image: QImage) -> None:
        self._image, self._text = image, ""
        self.update()

    def show_text(self, text: str) -> None:
        if text != self._text or not self._image.isNull():
            self._image, self._text = QImage(), text
            self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.fillRect(self.rect(), QColor("#090b0e"))
        if self._image.isNull():
            painter.setPen(QColor(190, 198, 210))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(QRectF(self.rect()).adjusted(16, 16, -16, -16), flags, self._text)
        else:
            size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
            left, top = (self.width() - size.width()) / 2, (self.height() - size.height()) / 2
            painter.drawImage(QRectF(left, top, size.width(), size.height()), self._image)
        painter.end()


class AssistantPage(QScrollArea):
    """Four steps on one page."""

    back_asked = pyqtSignal()
    refresh_asked = pyqtSignal()
    preview_asked = pyqtSignal(str, str)
    save_asked = pyqtSignal(str)
    address_given = pyqtSignal(object, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices: dict[str, SourceChoice] = {}
        self.boxes: dict[Stream, QComboBox] = {}
        self.reasons: dict[Stream, QLabel] = {}
        self.previews: dict[Stream, _Preview] = {}
        self.addresses: dict[Stream, QLineEdit] = {}
        self._added: dict[Stream, list[str]] = {stream: [] for stream in Stream}
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.setObjectName("banner")
        self.problem.setProperty("level", "bad")
        self.problem.setMargin(10)
        self.problem.hide()
        bottom = QHBoxLayout()
        bottom.setSpacing(16)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(10)
        column.addLayout(self._top())
        column.addWidget(self.problem)
        column.addLayout(self._known())
        column.addLayout(self._cameras(), 1)
        bottom.addLayout(self._offset(), 1)
        bottom.addLayout(self._saving(), 1)
        column.addLayout(bottom)
        let_scroll(inner, self)
        for button in self.findChildren(QPushButton):  # for fingers
            button.setProperty("touch", True)

    # ------------------------------------------------------------------ the parts

    def _top(self) -> QHBoxLayout:
        back = icon_button("arrow-left", self.tr("Back"))
        back.clicked.connect(self.back_asked)
        title = QLabel(self.tr("Set up two cameras"))
        title.setProperty("role", "title")
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(back)
        top.addWidget(title)
        top.addStretch(1)
        refresh = icon_button("refresh", self.tr("Search again"))
        refresh.clicked.connect(self.refresh_asked)
        top.addWidget(refresh)
        return top

    def _cameras(self) -> QHBoxLayout:
        cameras = QHBoxLayout()
        cameras.setSpacing(16)
        heads = {Stream.VISIBLE: self.tr("1. Visible camera"), Stream.THERMAL: self.tr("2. Thermal camera")}
        for stream, text in heads.items():
            column = QVBoxLayout()
            column.setSpacing(8)
            head = QLabel(text)
            head.setProperty("role", "heading")
            box = self.boxes[stream] = combo(text, [], lambda _: self._chosen())
            reason = self.reasons[stream] = QLabel()
            reason.setWordWrap(True)
            reason.setProperty("role", "dim")
            reason.setMinimumHeight(36)
            reason.setAlignment(Qt.AlignmentFlag.AlignTop)
            preview = self.previews[stream] = _Preview(text)
            column.addWidget(head)
            column.addWidget(box)
            column.addLayout(self._address(stream, text))
            column.addWidget(reason)
            column.addWidget(preview, 1)
            cameras.addLayout(column, 1)
        return cameras

    def _address(self, stream: Stream, camera: str) -> QHBoxLayout:
        """Whatever is not in the list: an address to paste, or a file."""
        line = self.addresses[stream] = QLineEdit()
        line.setPlaceholderText(self.tr("or paste an address: rtsp://…"))
        line.setAccessibleName(self.tr("{0}: address or file").format(camera))
        line.returnPressed.connect(lambda: self.address_given.emit(stream, line.text()))
        choose = icon_button("folder-open", self.tr("File…"))
        choose.setAccessibleName(self.tr("{0}: choose a file").format(camera))
        choose.clicked.connect(lambda: self._choose_file(stream, camera))
        row = QHBoxLayout()
        row.addWidget(line, 1)
        row.addWidget(choose)
        return row

    def _choose_file(self, stream: Stream, camera: str) -> None:
        dialog = QFileDialog(self, camera, "", self.tr("Videos (*.mkv *.mp4 *.avi *.mov *.webm);;All files (*)"))
        dialog.fileSelected.connect(lambda name: self.address_given.emit(stream, name))
        dialog.open()

    def _known(self) -> QHBoxLayout:
        """Cameras with both channels behind one address."""
        self.profile = combo(self.tr("Known camera"), [], lambda _: None)
        self.profile.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.host = QLineEdit()
        self.host.setPlaceholderText(self.tr("its address, e.g. 192.168.1.64"))
        self.host.setAccessibleName(self.tr("Address of the known camera"))
        self.host.returnPressed.connect(self._use_profile)
        use = icon_button("check", self.tr("Fill in"))
        use.clicked.connect(self._use_profile)
        row = QHBoxLayout()
        row.addWidget(QLabel(self.tr("Known network camera")))
        row.addWidget(self.profile)
        row.addWidget(self.host, 1)
        row.addWidget(use)
        return row

    def _use_profile(self) -> None:
        uris, host = self.profile.currentData(), self.host.text().strip()
        if isinstance(uris, tuple) and host:
            for stream, uri in zip((Stream.VISIBLE, Stream.THERMAL), uris, strict=True):
                self.add_source(stream, uri.replace("HOST", host))

    def _offset(self) -> QVBoxLayout:
        offset_head = QLabel(self.tr("3. Time offset and alignment of the two"))
        offset_head.setProperty("role", "heading")
        offset_head.setWordWrap(True)
        self.offset = QLabel(self.tr("Move a hand or the rig before both cameras for some ten seconds."))
        self.offset.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setRange(0, 100)
        self.progress.setFormat(self.tr("measured: %p %"))
        self.progress.setAccessibleName(self.tr("Measuring the offset"))
        self.aligned = QLabel(self.tr("Searching how thermal lies on visible…"))
        self.aligned.setWordWrap(True)
        left = QVBoxLayout()
        left.addWidget(offset_head)
        left.addWidget(self.offset)
        left.addWidget(self.progress)
        left.addWidget(self.aligned)
        left.addStretch(1)
        return left

    def _saving(self) -> QVBoxLayout:
        save_head = QLabel(self.tr("4. Save"))
        save_head.setProperty("role", "heading")
        self.rig = QLineEdit("my-rig")
        self.rig.setMaxLength(64)
        self.rig.setAccessibleName(self.tr("Name of the rig"))
        self.save = icon_button("check", self.tr("Save and start"), primary=True)
        self.save.clicked.connect(lambda: self.save_asked.emit(self.rig.text()))
        self.path = NameLabel()
        self.path.setProperty("role", "dim")
        self.path.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        rows = form()
        rows.addRow(self.tr("Name of the rig"), self.rig)
        saving = QHBoxLayout()
        saving.addWidget(self.path, 1)
        saving.addWidget(self.save)
        right = QVBoxLayout()
        right.addWidget(save_head)
        right.addLayout(rows)
        right.addLayout(saving)
        right.addStretch(1)
        return right

    # ------------------------------------------------------------------ what to show

    def show_sources(self, choices: Sequence[SourceChoice]) -> None:
        """Show what can be picked; a picked one stays picked."""
        self._choices = {choice.uri: choice for choice in choices}
        for stream, box in self.boxes.items():
            before = box.currentData()
            box.clear()
            for choice in choices:
                if choice.stream in (None, stream):
                    box.addItem(self._words(choice.name), choice.uri)
            for uri in self._added[stream]:
                box.addItem(_short(uri), uri)
            # a camera that says it is of this stream comes first, then any that does not say
            known = [choice.uri for choice in choices if choice.stream is stream]
            box.setCurrentIndex(max(0, box.findData(before) if before else box.findData(known[0] if known else None)))
        self._chosen()

    def show_profiles(self, profiles: Sequence[tuple[str, str, str]]) -> None:
        """Offer these cameras: name, visible URI, thermal URI, with HOST for the address."""
        self.profile.clear()
        for name, visible, thermal in profiles:
            self.profile.addItem(name, (visible, thermal))

    def add_source(self, stream: Stream, uri: str) -> None:
        """Take in and pick what is not in the list."""
        box = self.boxes[stream]
        if not uri:
            return
        if box.findData(uri) < 0:
            self._added[stream].append(uri)
            box.addItem(_short(uri), uri)
        box.setCurrentIndex(box.findData(uri))
        self._chosen()

    def uris(self) -> tuple[str, str]:
        """(visible, thermal) as picked now."""
        return str(self.boxes[Stream.VISIBLE].currentData()), str(self.boxes[Stream.THERMAL].currentData())

    def show_frame(self, stream: Stream, image: QImage | None, error: str) -> None:
        """Show a camera's picture, or why there is none."""
        if image is not None and not error:
            self.previews[stream].show_image(image)
        else:
            self.previews[stream].show_text(error or self.tr("opening…"))

    def show_offset(self, text: str, share: float) -> None:
        """Show how far the measurement is (0..1) and what it says."""
        self.offset.setText(text)
        self.progress.setValue(round(100 * share))

    def show_alignment(self, text: str) -> None:
        """Show what the scene says of how thermal lies on visible."""
        self.aligned.setText(text)

    def show_problem(self, text: str) -> None:
        """Say what is wrong; "" = nothing."""
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def _chosen(self) -> None:
        for stream, box in self.boxes.items():
            choice = self._choices.get(str(box.currentData()))
            self.reasons[stream].setText(f"{choice.uri}: {self._words(choice.reason)}" if choice is not None else "")
        self.preview_asked.emit(*self.uris())

    def _words(self, text: str) -> str:
        """What the list of sources says of the simulated cameras; names of real ones are their own."""
        known = {
            "Simulated visible camera": self.tr("Simulated visible camera"),
            "Simulated thermal camera": self.tr("Simulated thermal camera"),
            "part of this program": self.tr("part of this program"),
        }
        return known.get(text, text)


def _short(uri: str) -> str:
    """An address as it may be shown: without a password, and not longer than a line."""
    shown = re.sub(r"//[^/@]*@", "//", uri)
    return shown if len(shown) <= 60 else f"{shown[:28]}…{shown[-28:]}"
