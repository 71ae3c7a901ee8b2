"""One light for all: good, or what is wrong, what to do about it, and the offer to do it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from PyQt6.QtCore import QT_TRANSLATE_NOOP, QCoreApplication, QPoint, Qt, pyqtSignal
from PyQt6.QtWidgets import QFrame, QLabel, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from app.gui.common.theme import Level, level_sign, restyle
from app.gui.widgets.status_text import CAMERA_WELL, DISK_BAD_S, keeps_up
from app.pipeline.state.stats import BudgetLevel, RecordingState, Stage, StatsSnapshot

__all__ = ["Health", "HealthKind", "HealthLight", "HealthWatch", "Remedy"]

_SLOW_READINGS = 12  # in a row, a quarter of a second each: a short hitch is no state

translate = QCoreApplication.translate


class HealthKind(StrEnum):
    """What the light says, worst first."""

    DISK = "disk"
    CAMERA = "camera"
    SLOW = "slow"
    ALIGNMENT = "alignment"
    GOOD = "good"
    OFF = "off"  # nothing runs


class Remedy(StrEnum):
    """What the light offers to do."""

    LIGHTER = "lighter"  # fuse by a lighter model
    CALIBRATE = "calibrate"
    CORRECT = "correct"  # move thermal as the drift monitor proposes
    REOPEN = "reopen"
    SOURCES = "sources"  # choose other cameras
    FREE_SPACE = "free_space"
    OTHER_FOLDER = "other_folder"


_REMEDY_TEXTS = {
    Remedy.LIGHTER: QT_TRANSLATE_NOOP("Health", "Use a lighter model"),
    Remedy.CALIBRATE: QT_TRANSLATE_NOOP("Health", "Calibrate the cameras…"),
    Remedy.CORRECT: QT_TRANSLATE_NOOP("Health", "Move the thermal picture into place"),
    Remedy.REOPEN: QT_TRANSLATE_NOOP("Health", "Reopen the cameras now"),
    Remedy.SOURCES: QT_TRANSLATE_NOOP("Health", "Choose other cameras…"),
    Remedy.FREE_SPACE: QT_TRANSLATE_NOOP("Health", "Show the recordings, to delete some"),
    Remedy.OTHER_FOLDER: QT_TRANSLATE_NOOP("Health", "Record to another folder…"),
}


@dataclass(frozen=True, slots=True)
class Health:
    """What the light says: a word or two, what it means and what to do, and what can be done at once."""

    kind: HealthKind = HealthKind.OFF
    text: str = ""
    advice: str = ""
    remedies: tuple[Remedy, ...] = ()

    @property
    def level(self) -> Level:
        """Its colour."""
        return {HealthKind.GOOD: Level.GOOD, HealthKind.OFF: Level.NEUTRAL}.get(self.kind, Level.CAUTION)


class HealthWatch:
    """Judges one set of numbers after the other; what is slow must be so for some seconds."""

    def __init__(self) -> None:
        self._slow = 0

    def judge(self, snapshot: StatsSnapshot) -> Health:
        """Return the worst that is known now."""
        self._slow = self._slow + 1 if not keeps_up(snapshot) else 0
        found = _disk(snapshot) or _camera(snapshot)
        if found is None and self._slow >= _SLOW_READINGS:
            found = _slow(snapshot)
        return found or _alignment(snapshot) or _good()


def _good() -> Health:
    told = translate("Health", "Both cameras run, this computer keeps up, and the pictures lie on each other.")
    return Health(HealthKind.GOOD, translate("Health", "Good"), told)


def _disk(snapshot: StatsSnapshot) -> Health | None:
    left_s = snapshot.disk_s_left
    stopped = snapshot.recording in (RecordingState.PAUSED, RecordingState.FAILED)
    if not stopped and (left_s is None or left_s >= DISK_BAD_S):
        return None
    told = translate("Health", "There is space for less than ten minutes of recording.")
    if stopped:
        told = translate("Health", "Nothing is being recorded: the disk is full or cannot be written.")
    advice = translate("Health", "Delete recordings that are not needed, or record to another disk.")
    return Health(
        HealthKind.DISK, translate("Health", "Disk"), f"{told} {advice}", (Remedy.FREE_SPACE, Remedy.OTHER_FOLDER)
    )


def _camera(snapshot: StatsSnapshot) -> Health | None:
    lost = [stream for stream, state in snapshot.cameras.items() if state not in CAMERA_WELL]
    if not lost:
        return None
    names = {"visible": translate("Health", "visible"), "thermal": translate("Health", "thermal")}
    told = translate("Health", "No pictures come from: {0}.").format(", ".join(names.get(s, s) for s in lost))
    advice = translate("Health", "Check its cable and power. It is tried again on its own every few seconds.")
    return Health(
        HealthKind.CAMERA,
        translate("Health", "Camera trouble"),
        f"{told} {advice}",
        (Remedy.REOPEN, Remedy.SOURCES),
    )


def _slow(snapshot: StatsSnapshot) -> Health:
    fps = snapshot.fps
    told = translate("Health", "The cameras give {0:.0f} pictures a second, {1:.0f} of them can be fused.")
    told = told.format(min(fps[Stage.VISIBLE], fps[Stage.THERMAL]), fps[Stage.FUSED])
    advice = translate("Health", "Close other programs, or use a lighter model: it shows a little less detail.")
    return Health(
        HealthKind.SLOW, translate("Health", "This computer is too slow"), f"{told} {advice}", (Remedy.LIGHTER,)
    )


def _alignment(snapshot: StatsSnapshot) -> Health | None:
    budget, drift = snapshot.budget, snapshot.drift
    if drift is not None and drift.far_px is not None:
        told = translate("Health", "Thermal lies {0:.0f} px beside the visible picture: everything appears twice.")
        advice = translate("Health", "The lenses differ, or a camera was turned. Set the cameras up, or calibrate.")
        told = f"{told.format(drift.far_px)} {advice}"
        return Health(HealthKind.ALIGNMENT, translate("Health", "Check alignment"), told, (Remedy.CALIBRATE,))
    drifted = drift is not None and drift.level in ("warn", "alarm")
    if not drifted and (budget is None or budget.level is not BudgetLevel.RED):
        return None
    proposed = drift is not None and drift.proposed_px is not None and drift.mode != "apply"
    told = translate("Health", "The two pictures do not lie on each other; edges may appear twice.")
    advice = translate("Health", "Something may have moved a camera. Correct it here, or calibrate with a board.")
    remedies = (Remedy.CORRECT, Remedy.CALIBRATE) if proposed else (Remedy.CALIBRATE,)
    return Health(HealthKind.ALIGNMENT, translate("Health", "Check alignment"), f"{told} {advice}", remedies)


class HealthLight(QToolButton):
    """The light as a button; a click opens what to do. remedy_asked: a Remedy."""

    remedy_asked = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.health = Health()
        self.setProperty("flat", True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        self.card = _Card(self)
        self.card.remedy_asked.connect(self.remedy_asked)
        self.clicked.connect(self._open)
        self.show_health(Health())

    def show_health(self, health: Health) -> None:
        """Show this; an open card follows."""
        if health == self.health and self.text():
            return
        self.health = health
        text = health.text or self.tr("Off")
        self.setText(f"{level_sign(health.level)}  {text}")
        self.setAccessibleName(self.tr("Health: {0}").format(text))
        self.setToolTip(health.advice or self.tr("Nothing runs"))
        if self.property("level") != health.level.value:
            self.setProperty("level", health.level.value)
            restyle(self)
        if self.card.isVisible():
            self.card.show_health(health)

    def _open(self) -> None:
        self.card.show_health(self.health)
        place = self.mapToGlobal(QPoint(0, self.height() + 4))
        screen = self.screen()
        if screen is not None:
            room = screen.availableGeometry()
            width, height = self.card.width(), self.card.height()
            place.setX(max(room.left(), min(place.x(), room.right() - width)))
            if place.y() + height > room.bottom():
                place.setY(self.mapToGlobal(QPoint(0, 0)).y() - height - 4)
        self.card.move(place)
        self.card.show()


class _Card(QFrame):
    """What is wrong, what to do, and a button for each thing that can be done at once."""

    remedy_asked = pyqtSignal(object)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setProperty("card", True)
        self.setFixedWidth(380)
        self._head, self._words = QLabel(), QLabel()
        self._head.setProperty("role", "heading")
        self._words.setWordWrap(True)
        self.buttons: dict[Remedy, QPushButton] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 14, 16, 14)
        column.setSpacing(10)
        column.addWidget(self._head)
        column.addWidget(self._words)
        for remedy, text in _REMEDY_TEXTS.items():
            button = self.buttons[remedy] = QPushButton(translate("Health", text))
            button.setProperty("touch", True)
            button.clicked.connect(lambda _, remedy=remedy: self._ask(remedy))
            column.addWidget(button)

    def show_health(self, health: Health) -> None:
        self._head.setText(health.text)
        self._words.setText(health.advice)
        for remedy, button in self.buttons.items():
            button.setVisible(remedy in health.remedies)
        self.adjustSize()

    def _ask(self, remedy: Remedy) -> None:
        self.hide()
        self.remedy_asked.emit(remedy)
