"""Sections of the control panel about the rig: engine and model, recording, calibration, sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PyQt6.QtCore import QCoreApplication, pyqtSignal
from PyQt6.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

from app.configuration.config import NEURAL_ENGINES, AppConfig, EngineConfig, EngineName, Preset
from app.gui.common.theme import icon_button
from app.gui.widgets.model_box import ModelBox, ModelList
from app.gui.widgets.sections import CheckBox, Section, combo, form, spin
from app.pipeline.state.stats import DriftReading, StatsSnapshot
from app.recording.config import RecordingConfig, TrackName
from app.rig.setup_assistant import SourceChoice
from fusion_core.frames import Stream

__all__ = ["CalibrationPanel", "EnginePanel", "RecordPanel", "SourcePanel"]


class EnginePanel(Section):
    """engine_chosen: an EngineConfig. roll_back_asked: the model from before. add_asked: path of a weights file."""

    engine_chosen = pyqtSignal(object)
    roll_back_asked = pyqtSignal()
    add_asked = pyqtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("EnginePanel", "Engine and model"), "layers", False, parent)
        self._config = EngineConfig()
        self._name = combo(self.tr("Engine"), [(name.value, name) for name in EngineName], lambda _: self._update())
        self.model = ModelBox(self.tr("Model"))
        self.model.add_asked.connect(self.add_asked)
        self._apply = QPushButton(self.tr("Build and use"))
        self._apply.setToolTip(self.tr("The present engine goes on until the new one is ready"))
        self._apply.clicked.connect(self._emit)
        self._back = icon_button("backup-restore", self.tr("Roll back"))
        self._back.clicked.connect(self.roll_back_asked)
        self._running = QLabel()
        self._running.setWordWrap(True)
        self._running.setProperty("role", "dim")
        rows = form()
        rows.addRow(self.tr("Engine"), self._name)
        rows.addRow(self.tr("Model"), self.model)
        self.body.addLayout(rows)
        self.body.addWidget(self._apply)
        self.body.addWidget(self._back)
        self.body.addWidget(self._running)
        self.show_models(ModelList())

    def show_engine(self, config: EngineConfig) -> None:
        """Show this choice."""
        self._config = config
        self._name.setCurrentIndex(self._name.findData(config.name))
        self.model.show_choice(config.preset.value, config.weights)
        self._update()

    def show_models(self, models: ModelList) -> None:
        """What can be chosen, and what rolling back would return to."""
        self.model.show_models(models)
        self._back.setEnabled(bool(models.before))
        tip = (
            self.tr("Back to {0}").format(models.before)
            if models.before
            else self.tr("No other model was in use before")
        )
        self._back.setToolTip(tip)

    def show_running(self, snapshot: StatsSnapshot) -> None:
        """Show what runs now and, if it is a fallback, why."""
        text = self.tr("Running: {0}").format(snapshot.engine)
        if snapshot.fallback_reason:
            text += "\n" + self.tr("Fallback: {0}").format(snapshot.fallback_reason)
        if text != self._running.text():
            self._running.setText(text)

    def choose(self, name: EngineName, weights: Path | None = None) -> None:
        """Choose as the user would, and use it."""
        self._name.setCurrentIndex(self._name.findData(name))
        self.model.show_choice(self._config.preset.value, weights)
        self._update()
        self._emit()

    def _update(self) -> None:
        self.model.setEnabled(self._name.currentData() in NEURAL_ENGINES)

    def _emit(self) -> None:
        name = EngineName(self._name.currentData())
        preset, weights = self.model.choice()
        changes = {"name": name, "preset": Preset(preset), "weights": weights if name in NEURAL_ENGINES else None}
        self._config = self._config.model_copy(update=changes)
        self.engine_chosen.emit(self._config)


class RecordPanel(Section):
    """recording_chosen: a RecordingConfig. Tracks and the pre-event time are taken when the rig starts again."""

    recording_chosen = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("RecordPanel", "Recording"), "record-circle", False, parent)
        self._config = RecordingConfig.model_validate({})
        names = {
            TrackName.FUSED: self.tr("fused"),
            TrackName.VISIBLE: self.tr("visible"),
            TrackName.THERMAL: self.tr("thermal"),
        }
        self._tracks: dict[TrackName, CheckBox] = {}
        tracks = QHBoxLayout()
        tracks.setSpacing(10)
        for track, text in names.items():
            box = self._tracks[track] = CheckBox(text)
            box.setAccessibleName(self.tr("Record the {0} track").format(text))
            tracks.addWidget(box)
        self._before = spin(self.tr("Seconds kept before an event"), 0, 120, 5, 0, " s", lambda _: None)
        self._after = spin(self.tr("Seconds recorded after an event"), 0, 3600, 5, 0, " s", lambda _: None)
        self._screen = CheckBox(self.tr("Also record the view, figures included"))
        self._folder = QLabel()
        self._folder.setWordWrap(True)
        self._folder.setProperty("role", "dim")
        self._apply = QPushButton(self.tr("Apply (restarts the rig)"))
        self._apply.clicked.connect(self._emit)
        tracks.addStretch(1)
        rows = form()
        rows.addRow(self.tr("Pre-event"), self._before)
        rows.addRow(self.tr("Post-event"), self._after)
        self.body.addWidget(QLabel(self.tr("Tracks")))
        self.body.addLayout(tracks)
        self.body.addLayout(rows)
        self.body.addWidget(self._screen)
        self.body.addWidget(self._apply)
        self.body.addWidget(self._folder)

    @property
    def record_view(self) -> bool:
        """Whether what is seen is recorded too, with its figures."""
        return self._screen.isChecked()

    def set_record_view(self, on: bool) -> None:
        """Choose whether what is seen is recorded too."""
        self._screen.setChecked(on)

    def show_recording(self, config: RecordingConfig) -> None:
        """Show these settings."""
        self._config = config
        for track, box in self._tracks.items():
            box.setChecked(track in config.tracks)
        self._before.setValue(config.pre_event_s)
        self._after.setValue(config.post_event_s)
        self._folder.setText(self.tr("Folder: {0}").format(config.directory))

    def _emit(self) -> None:
        tracks = tuple(track for track, box in self._tracks.items() if box.isChecked())
        if not tracks:
            self._tracks[TrackName.FUSED].setChecked(True)
            tracks = (TrackName.FUSED,)
        changes = {"tracks": tracks, "pre_event_s": self._before.value(), "post_event_s": self._after.value()}
        self.recording_chosen.emit(self._config.model_copy(update=changes))


class SourcePanel(Section):
    """sources_chosen: (visible uri, thermal uri). refresh_asked: list the devices again."""

    sources_chosen = pyqtSignal(str, str)
    refresh_asked = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("SourcePanel", "Sources"), "video", False, parent)
        self._choices: dict[str, SourceChoice] = {}
        self._boxes = {
            Stream.VISIBLE: combo(self.tr("Visible camera"), [], lambda _: self._explain()),
            Stream.THERMAL: combo(self.tr("Thermal camera"), [], lambda _: self._explain()),
        }
        self._why = QLabel()
        self._why.setWordWrap(True)
        self._why.setProperty("role", "dim")
        apply = QPushButton(self.tr("Use these cameras"))
        apply.clicked.connect(
            lambda: self.sources_chosen.emit(*(str(box.currentData()) for box in self._boxes.values()))
        )
        refresh = icon_button("refresh")
        refresh.setToolTip(self.tr("Search again"))
        refresh.setAccessibleName(self.tr("Search again"))
        refresh.clicked.connect(self.refresh_asked)
        rows = form()
        rows.addRow(self.tr("Visible"), self._boxes[Stream.VISIBLE])
        rows.addRow(self.tr("Thermal"), self._boxes[Stream.THERMAL])
        buttons = QHBoxLayout()
        buttons.addWidget(apply, 1)
        buttons.addWidget(refresh)
        self.body.addLayout(rows)
        self.body.addWidget(self._why)
        self.body.addLayout(buttons)
        self.folded.connect(lambda folded: None if folded else self.refresh_asked.emit())

    def show_sources(self, choices: Sequence[SourceChoice], config: AppConfig | None) -> None:
        """Show what is connected; the sources in use are among them even if they are not."""
        used = {Stream.VISIBLE: config.visible, Stream.THERMAL: config.thermal} if config is not None else {}
        self._choices = {choice.uri: choice for choice in choices}
        for stream, box in self._boxes.items():
            box.clear()
            for choice in choices:
                if choice.stream in (None, stream):
                    box.addItem(choice.name, choice.uri)
            camera = used.get(stream)
            if camera is not None:
                if box.findData(camera.uri) < 0:
                    box.insertItem(0, camera.shown_uri, camera.uri)
                box.setCurrentIndex(box.findData(camera.uri))
        self._explain()

    def _explain(self) -> None:
        lines = []
        for stream, box in self._boxes.items():
            choice = self._choices.get(str(box.currentData()))
            if choice is not None:
                lines.append(f"{stream}: {choice.uri}\n{choice.reason}")
        self._why.setText("\n".join(lines) or self.tr("as the configuration names them"))


class CalibrationPanel(Section):
    """assistant_asked: open it. file_chosen: a file, None = plain scaling. correction_decided: accept it or undo it."""

    assistant_asked = pyqtSignal()
    file_chosen = pyqtSignal(object)
    correction_decided = pyqtSignal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("CalibrationPanel", "Calibration"), "grid", False, parent)
        self._used = QLabel()
        self._used.setWordWrap(True)
        self._used.setProperty("role", "dim")
        begin = icon_button("auto-fix", self.tr("Calibrate with a board…"))
        begin.clicked.connect(self.assistant_asked)
        choose = icon_button("folder-open", self.tr("Choose a file…"))
        choose.clicked.connect(self._choose)
        self._none = QPushButton(self.tr("None"))
        self._none.setAccessibleName(self.tr("Use no calibration"))
        self._none.clicked.connect(lambda: self.file_chosen.emit(None))
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(choose, 1)
        row.addWidget(self._none)
        self._drift = QLabel()
        self._drift.setWordWrap(True)
        self.accept = QPushButton(self.tr("Correct"))
        self.accept.setAccessibleName(self.tr("Move thermal as the drift monitor proposes"))
        self.accept.clicked.connect(lambda: self.correction_decided.emit(True))
        self.discard = QPushButton(self.tr("Undo"))
        self.discard.setAccessibleName(self.tr("Go back to the calibration as it was loaded"))
        self.discard.clicked.connect(lambda: self.correction_decided.emit(False))
        decide = QHBoxLayout()
        decide.setSpacing(8)
        decide.addWidget(self.accept, 1)
        decide.addWidget(self.discard)
        self.body.addWidget(self._used)
        self.body.addWidget(begin)
        self.body.addLayout(row)
        self.body.addWidget(self._drift)
        self.body.addLayout(decide)
        self.show_file(None)
        self.show_drift(None)

    def show_drift(self, drift: DriftReading | None) -> None:
        """What the drift monitor says, and whether there is something to decide."""
        proposed = drift.proposed_px if drift is not None else None
        applied = drift.applied_px if drift is not None else 0.0
        lines = []
        if drift is not None and drift.far_px is not None:
            lines.append(self.tr("Thermal lies {0:.0f} px off: the two pictures do not fit").format(drift.far_px))
        elif drift is not None and drift.drift_px is not None:
            lines.append(self.tr("Measured drift: {0:.1f} px").format(drift.drift_px))
        if proposed is not None:
            lines.append(self.tr("Proposed correction: {0:.1f} px").format(proposed))
        if applied > 0.0:
            lines.append(self.tr("Corrected by: {0:.1f} px").format(applied))
        self._drift.setText("\n".join(lines))
        self._drift.setVisible(bool(lines))
        self.accept.setVisible(proposed is not None and not (drift is not None and drift.mode == "apply"))
        self.discard.setVisible(applied > 0.0)

    def show_file(self, path: Path | None) -> None:
        """What is in use."""
        none = self.tr("None: thermal is only scaled, so that only a distant scene is aligned")
        self._used.setText(self.tr("In use: {0}").format(path) if path is not None else none)
        self._none.setEnabled(path is not None)

    def _choose(self) -> None:
        dialog = QFileDialog(self, self.tr("Calibration"), "", self.tr("Calibrations (*.yaml)"))
        dialog.fileSelected.connect(lambda name: self.file_chosen.emit(Path(name)))
        dialog.open()
