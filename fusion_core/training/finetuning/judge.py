"""Decides which stage of a fine-tuning run is kept: compares its weights on held-out pairs with those it began with."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from fusion_core.errors import ConfigError
from fusion_core.files import read_json
from fusion_core.measures.evaluation import EvaluationPair
from fusion_core.training.finetuning.acceptance import gains, why_error_rose, why_worse
from fusion_core.training.finetuning.collapse import collapse_warnings
from fusion_core.training.finetuning.measure import Measured, measure
from fusion_core.training.finetuning.settings import FinetuneRequest
from fusion_core.training.run_state import atomic_write

__all__ = ["OUTCOME_FILE", "Judge", "StageOutcome"]

OUTCOME_FILE = "outcome.json"
_WAYS = (1.0, 0.7, 0.4)  # from a stage's start to its best weights: the first where nothing got worse is taken


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """The outcome of one stage. step: of its best weights. gained, lost: compared with the weights it began with; lost
    also with the very first. accepted: whether its weights are part of the result. way: where between its start (0)
    and its best weights (1) the weights lie that were taken."""

    stage: str
    accepted: bool
    step: int
    gained: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    way: float = 1.0

    def describe(self) -> str:
        """One line for the user."""
        if self.accepted:
            text = "; ".join(self.gained) or "asked for"
            far = "" if self.way == 1.0 else f", {self.way:.0%} of the way, where nothing got worse"
            return f"stage {self.stage} kept (step {self.step}{far}): {text}" + (
                f"; although {'; '.join(self.lost)}" if self.lost else ""
            )
        return f"stage {self.stage} dropped: {'; '.join(self.lost)}"


class Judge:
    """Measures on the held-out pairs and decides about each stage. Lives in the first process alone."""

    def __init__(self, request: FinetuneRequest, loaded: LoadedCheckpoint, pairs: list[EvaluationPair]) -> None:
        self.pairs = pairs
        self.even_if_worse = request.even_if_worse
        self.initial = loaded
        self.start = measure(loaded, pairs)
        self.now, self.weights = self.start, loaded.path
        self.outcomes: list[StageOutcome] = []

    def decide(self, stage: str, folder: Path, last: Path) -> StageOutcome:
        """Take over the stage's best weights, or not.

        Args:
            last: the weights of its last step, taken where the request wants them even if worse.
        """
        best = folder / "best.safetensors"
        loaded = load_checkpoint(best if best.is_file() else last)
        step = int(loaded.facts.get("steps", 0))
        if step == 0 and not self.even_if_worse:
            outcome = StageOutcome(stage, False, 0, [], ["no validation was better than the one before the first step"])
        elif self.even_if_worse:
            loaded = load_checkpoint(last) if step == 0 else loaded
            outcome, found = self._held_against(stage, loaded)
            outcome = dataclasses.replace(outcome, accepted=True)
            self.now, self.weights = found, loaded.path
        else:
            outcome = self._as_far_as_nothing_is_lost(stage, folder, loaded)
        self.outcomes.append(outcome)
        atomic_write(
            folder / OUTCOME_FILE,
            lambda path: _write_text(path, json.dumps({**asdict(outcome), "weights": self.weights.name}, indent=1)),
        )
        return outcome

    def _as_far_as_nothing_is_lost(self, stage: str, folder: Path, best: LoadedCheckpoint) -> StageOutcome:
        """The stage's best weights, or the farthest point on the way to them where nothing got worse."""
        begin = load_checkpoint(self.weights)
        tried: list[StageOutcome] = []
        for way in _WAYS:
            candidate = best if way == 1.0 else _on_the_way(begin, best, way, folder / "partway.safetensors")
            outcome, found = self._held_against(stage, candidate)
            tried.append(dataclasses.replace(outcome, way=way))
            if outcome.accepted:
                self.now, self.weights = found, candidate.path
                return tried[-1]
            if not outcome.gained:  # nor will a shorter way gain
                break
        return tried[0]

    def _held_against(self, stage: str, loaded: LoadedCheckpoint) -> tuple[StageOutcome, Measured]:
        found = measure(loaded, self.pairs)
        lost = why_worse(self.now.curve, found.curve) + why_error_rose(self.now, found)
        if self.now is not self.start:
            lost += [line for line in why_worse(self.start.curve, found.curve) if line not in lost]
        lost += collapse_warnings(found.shares, self.start.shares)
        gained = gains(self.now, found)
        if not gained:
            lost.append("nothing became better by more than noise")
        return StageOutcome(stage, not lost, int(loaded.facts.get("steps", 0)), gained, lost), found

    def take_over(self, folder: Path) -> StageOutcome:
        """The outcome of a stage that ended before the run was resumed.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            values = read_json(folder / OUTCOME_FILE)
            name = str(values.pop("weights"))
            outcome = StageOutcome(**values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{folder / OUTCOME_FILE} cannot be read ({error}); begin the run anew") from error
        if outcome.accepted:
            loaded = load_checkpoint(folder / name)
            self.now, self.weights = measure(loaded, self.pairs), loaded.path
        self.outcomes.append(outcome)
        return outcome


def _on_the_way(begin: LoadedCheckpoint, end: LoadedCheckpoint, way: float, path: Path) -> LoadedCheckpoint:
    """Write weights between two of one training to `path`, at `way` of the distance from the first. For an equal gain
    such weights forget less than a shorter training does (Wortsman et al., WiSE-FT, 2022)."""
    first, last = (checkpoint.network.state_dict() for checkpoint in (begin, end))
    network = copy.deepcopy(end.network)
    network.load_state_dict(
        {
            key: torch.lerp(first[key].float(), value.float(), way).to(value.dtype)
            if value.is_floating_point()
            else value
            for key, value in last.items()
        }
    )
    atomic_write(path, lambda part: save_checkpoint(part, network, end.facts | {"way": way}))
    return load_checkpoint(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
