"""Decides about models: lists the store, adds files, puts one to use, rolls back. No widget, and no torch here.

The store's own checks load weights, which takes seconds: they run on a task's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PyQt6.QtCore import QObject, pyqtSignal

from app.configuration.config import NEURAL_ENGINES, EngineConfig, EngineName, Preset
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.live.controller import MainController
from fusion_core.model_store import ACTIVE, DEFAULT_MODEL, ModelStore, StoredModel

__all__ = ["ModelController", "ModelList", "engine_of", "model_of"]


@dataclass(frozen=True, slots=True)
class ModelList:
    """What can be chosen, and the model that rolling back would return to ("" = none)."""

    models: tuple[StoredModel, ...] = ()
    active: str = ""
    before: str = ""


def engine_of(model: StoredModel, engine: EngineConfig) -> EngineConfig:
    """The engine settings with this model: a shipped one by its preset, an added one by its file."""
    name = engine.name if engine.name in NEURAL_ENGINES else EngineName.AUTO
    if model.origin == "shipped":
        return engine.model_copy(update={"name": name, "preset": Preset(model.name), "weights": None})
    return engine.model_copy(update={"name": name, "weights": model.path})


def model_of(preset: str, weights: Path | None, models: ModelList) -> str:
    """Name of the stored model that these settings mean; "" for a file from elsewhere."""
    if weights is None:
        return preset
    if str(weights) == ACTIVE:
        return models.active
    for model in models.models:
        if model.origin != "shipped" and weights in (model.path, Path(model.name)):
            return model.name
    return ""


class ModelController(QObject):
    """models_changed: ModelList. added: name of a model that was just added."""

    models_changed = pyqtSignal(object)
    added = pyqtSignal(str)

    def __init__(
        self,
        main: MainController,
        tasks: TaskRunner,
        make_store: Callable[[], ModelStore] = ModelStore,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._main, self._tasks, self._make_store = main, tasks, make_store
        self.models = ModelList()

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

        self._tasks.run(read, self._changed, self._failed, Lane.FILES)

    def add(self, file: Path) -> None:
        """Check a weights file and take it into the store."""

        def taken(model: StoredModel) -> None:
            self.refresh()
            self.added.emit(model.name)
            self._main.notice.emit(self.tr("Model {0} was added").format(model.name))

        self._tasks.run(lambda: self._make_store().add(file), taken, self._failed, Lane.FILES)

    def use(self, engine: EngineConfig) -> None:
        """Fuse by this engine; a model of the store becomes the one in use there, so that one can roll back."""
        name = model_of(engine.preset.value, engine.weights, self.models)
        known = {model.name for model in self.models.models}
        self._main.set_engine(engine)
        if engine.name in NEURAL_ENGINES and name in known and name != self.models.active:
            self._tasks.run(lambda: self._make_store().use(name), lambda _: self.refresh(), self._failed, Lane.FILES)

    def roll_back(self) -> None:
        """Put the model to use that was in use before, in the store and on the live picture."""

        def back(model: StoredModel) -> None:
            self.refresh()
            if self._main.config is not None:
                engine = engine_of(model, self._main.config.engine)
                self._main.set_engine(engine)
            self._main.notice.emit(self.tr("Back to model {0}").format(model.name))

        self._tasks.run(lambda: self._make_store().rollback(), back, self._failed, Lane.FILES)

    def _changed(self, models: ModelList) -> None:
        self.models = models
        self.models_changed.emit(models)

    def _failed(self, error: Exception) -> None:
        self._main.report("models", error)


def _first(models: tuple[StoredModel, ...]) -> str:
    """What the store begins with."""
    return DEFAULT_MODEL if any(model.name == DEFAULT_MODEL for model in models) else ""
