"""Which problems are shown: the newest of each source, until it is over or the user has read it. No widget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.state.problems import PipelineProblem, Severity
from fusion_core.errors import LumithermError

__all__ = ["ProblemBoard"]

_KEPT = 50  # of our own


class ProblemBoard(QObject):
    """GUI thread. shown_changed: problems to show, worst first. log_changed: all of them, oldest first."""

    shown_changed = pyqtSignal(object)
    log_changed = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._theirs: Sequence[PipelineProblem] = ()
        self._own: list[PipelineProblem] = []
        self._dismissed: set[PipelineProblem] = set()
        self._shown: tuple[PipelineProblem, ...] = ()
        self._log: tuple[PipelineProblem, ...] = ()

    def report(self, source: str, error: Exception) -> None:
        """An error outside the pipeline, shown like one of its own."""
        text = str(error)
        if not isinstance(error, LumithermError):
            text = self.tr("Unexpected: {0}: {1}").format(type(error).__name__, text)
        self._own.append(PipelineProblem(datetime.now(UTC), Severity.ERROR, source, text))
        del self._own[:-_KEPT]
        self._look()

    def set_pipeline_problems(self, problems: Sequence[PipelineProblem]) -> None:
        """What the pipeline says now."""
        self._theirs = problems
        self._look()

    def dismiss(self, problem: PipelineProblem) -> None:
        """The user has read it."""
        self._dismissed.add(problem)
        self._look()

    def clear_own(self) -> None:
        """A new rig begins without the troubles of the one before."""
        self._own.clear()
        self._dismissed.clear()
        self._look()

    def _look(self) -> None:
        log = tuple(sorted((*self._theirs, *self._own), key=lambda problem: problem.when))
        if log != self._log:
            self._log = log
            self.log_changed.emit(log)
        newest: dict[str, PipelineProblem] = {}
        for problem in log:
            newest[problem.source] = problem  # INFO: it is over, and takes the place of what was wrong
        self._dismissed &= set(log)
        shown = tuple(
            problem
            for problem in sorted(newest.values(), key=lambda p: (p.severity is not Severity.ERROR, p.source))
            if problem.severity is not Severity.INFO and problem not in self._dismissed
        )
        if shown != self._shown:
            self._shown = shown
            self.shown_changed.emit(shown)
