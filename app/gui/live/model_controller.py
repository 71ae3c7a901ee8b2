"""Decides about engines and models: lists the store, adds files, puts one to use, rolls back. Imports no torch.

The store's own checks load weights, which takes seconds: they run on a task's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QObject, pyqtSignal

from app.configuration.config import NEURAL_ENGINES, EngineConfig, EngineName, Preset
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.window_actions import WindowActions
from app.gui.live.control_panel import ControlPanel
from app.gui.live.live_controller import LiveController
from app.gui.widgets.model_box import ModelList
from fusion_core.model_store import ACTIVE, DEFAULT_MODEL, ModelStore, StoredModel

__all__ = ["ModelController", "engine_of", "model_of"]


def engine_of(model: StoredModel, engine: EngineConfig) -> EngineConfig:
    """Name this model in the engine settings: a shipped one by its preset, an added one by its file."""
    name = engine.name if engine.name in NEURAL_ENGINES else EngineName.AUTO
    if model.origin == "shipped":
        return engine.model_copy(update={"name": name, "preset": Preset(model.name), "weights": None})
    return engine.model_copy(update={"name": name, "weights": model.path})


def model_of(preset: str, weights: Path | None, models: ModelList) -> str:
    """Return the name of the stored model that these settings mean; "" for a file from elsewhere."""
    if weights is None:
        return preset
    if str(weights) == ACTIVE:
        return models.active
    for model in models.models:
        if model.origin != "shipped" and weights in (model.path, Path(model.name)):
            return model.name
    return ""


class ModelController(QObject):
    """Works on the user's store of models. GUI thread. models_changed: ModelList. added: name of the model added."""

    models_changed = pyqtSignal(object)
    added = pyqtSignal(str)

    def __init__(
        self,
        panel: ControlPanel,
        actions: WindowActions,
        live: LiveController,
        tasks: TaskRunner,
        make_store: Callable[[], ModelStore] = ModelStore,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._live, self._tasks, self._make_store = live, tasks, make_store
        self.models = ModelList()
        self.models_changed.connect(panel.show_models)
        panel.engine.engine_chosen.connect(self.use)
        panel.engine.roll_back_asked.connect(self.roll_back)
        for section in (panel.engine, panel.compare):
            section.folded.connect(self._on_section_folded)
            section.add_asked.connect(lambda name: self.add(Path(name)))
        actions.connect("roll_back", self.roll_back)

    def refresh(self) -> None:
        """Read the store again."""

        def read() -> ModelList:
            store = self._make_store()
            history = [entry.name for entry in store.history()]
            found = tuple(model for model in store.models() if not model.problem)
            active = store.active()
            before = ""
            if history:
                before = history[-2] if len(history) > 1 else _first(found)
            return ModelList(found, active, before)

        self._tasks.run(read, self._on_read, self._failed, Lane.FILES)

    def add(self, file: Path) -> None:
        """Check a weights file and take it into the store."""

        def taken(model: StoredModel) -> None:
            self.refresh()
            self.added.emit(model.name)
            self._live.notice.emit(self.tr("Model {0} was added").format(model.name))

        self._tasks.run(lambda: self._make_store().add(file), taken, self._failed, Lane.FILES)

    def use(self, engine: EngineConfig) -> None:
        """Fuse by this engine; a model of the store becomes the one in use there, so that the user can roll back."""
        name = model_of(engine.preset.value, engine.weights, self.models)
        known = {model.name for model in self.models.models}
        self._live.set_engine(engine)
        if engine.name in NEURAL_ENGINES and name in known and name != self.models.active:
            self._tasks.run(lambda: self._make_store().use(name), lambda _: self.refresh(), self._failed, Lane.FILES)

    def roll_back(self) -> None:
        """Use the model from before again, in the store and on the live picture."""

        def back(model: StoredModel) -> None:
            self.refresh()
            if self._live.config is not None:
                engine = engine_of(model, self._live.config.engine)
                self._live.set_engine(engine)
            self._live.notice.emit(self.tr("Back to model {0}").format(model.name))

        self._tasks.run(lambda: self._make_store().rollback(), back, self._failed, Lane.FILES)

    def _on_section_folded(self, folded: bool) -> None:
        if not folded:
            self.refresh()

    def _on_read(self, models: ModelList) -> None:
        self.models = models
        self.models_changed.emit(models)

    def _failed(self, error: Exception) -> None:
        self._live.report("models", error)


def _first(models: tuple[StoredModel, ...]) -> str:
    """Return the model that a store begins with; "" where it is missing."""
    return DEFAULT_MODEL if any(model.name == DEFAULT_MODEL for model in models) else ""
