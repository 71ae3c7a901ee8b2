"""Trains shipped weights on for one rig: a short training that does not forget, checked before export.

The stages (`settings`) train the displacement estimate first, then the fusion. Generic pairs, where given, make up a
share of every epoch. After each stage the held-out sessions are measured at known displacements. A stage is dropped
when it did not make the weights better, or made them worse in what matters (`acceptance`). The export is refused when
the engine would not give the reference's pictures, and warns when the fused picture follows one camera alone.

    RUN/finetune_request.yaml   what was asked           RUN/align, RUN/fuse   a training run each, with outcome.json
    RUN/finetune.json           figures before and after RUN/MODEL_CARD.md
    RUN/finetuned.safetensors   only if they are better
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError, ConfigError, EngineError
from fusion_core.files import read_json
from fusion_core.training.config import TrainingConfig
from fusion_core.training.dataset import TrainingPair, split_pairs
from fusion_core.training.distributed import Processes, processes
from fusion_core.training.finetuning.acceptance import AgainstStart, why_error_rose, why_worse
from fusion_core.training.finetuning.balance import balanced_loss
from fusion_core.training.finetuning.collapse import collapse_warnings
from fusion_core.training.finetuning.judge import OUTCOME_FILE, Judge, StageOutcome
from fusion_core.training.finetuning.measure import Measured, evaluation_pairs, measure
from fusion_core.training.finetuning.model_card import write_model_card
from fusion_core.training.finetuning.parity import MIN_PSNR_DB, ParityReport, check_parity, require_parity
from fusion_core.training.finetuning.resemble import resembling, thermal_pitch_of
from fusion_core.training.finetuning.settings import (
    FinetuneRequest,
    finetune_config,
    fit_crop,
    own_loss,
    save_request,
    stages_of,
)
from fusion_core.training.reporting import Reporter
from fusion_core.training.run_state import atomic_write, list_checkpoints
from fusion_core.training.session import build_network, describe_run, export_weights, prepare_pairs
from fusion_core.training.train import Trainer, TrainingPairs, new_finetune_folder
from fusion_core.training.vgg import load_vgg16

__all__ = ["FinetuneResult", "StageOutcome", "finetune", "mix_pairs"]

_GENERIC_HELD_OUT = 0.1
_GENERIC_MEASURED = 12


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """The outcome. before, after: figures on the held-out pairs; warnings: collapse alarms, and what was forgotten.

    weights, parity: None when the old weights were kept. kept_old: why they were, or would have been had the request
    not asked for worse weights too.
    """

    run: Path
    weights: Path | None
    card: Path
    before: Measured
    after: Measured
    parity: ParityReport | None
    stages: list[StageOutcome]
    kept_old: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def mix_pairs(own: Sequence[TrainingPair], generic: Sequence[TrainingPair], share: float) -> list[TrainingPair]:
    """Make a list in which generic pairs have the share `share`; the sampler takes every entry equally often.

    Few own pairs are repeated; too many generic ones are thinned evenly.

    Raises:
        ConfigError: the share is not below 1, or not 0 or above.
    """
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"--generic-share is {share}, must be 0 or more and below 1")
    if share == 0 or not generic or not own:
        return list(own)
    repeats = max(1, round(len(generic) * (1 - share) / share / len(own))) if len(generic) > len(own) else 1
    repeats = min(repeats, 16)
    wanted = max(1, round(repeats * len(own) * share / (1 - share)))
    picked = [generic[int(i)] for i in np.linspace(0, len(generic) - 1, wanted)]
    return [pair for pair in own for _ in range(repeats)] + picked


def finetune(
    request: FinetuneRequest,
    *,
    resume: Path | None = None,
    console: Console,
    min_psnr_db: float = MIN_PSNR_DB,
    make_engine: Callable[[Path], FusionEngine] | None = None,
) -> FinetuneResult | None:
    """Fine-tune, measure, check and export. Under torchrun all processes call it; None on all but the first, and
    where a signal ended the run before its end.

    Args:
        make_engine: the engine that the export must agree with, see `check_parity`.

    Raises:
        UsageError: weights, data or settings cannot be used. EngineError: the export does not agree with the
        reference. RunError: training failed.
    """
    loaded = load_checkpoint(request.initial)
    stages = stages_of(request, loaded)
    configs = {stage: finetune_config(request, loaded, stage) for stage in stages}
    config = configs[stages[0]]
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    cv2.setNumThreads(1)  # crops are small: OpenCV's own threads cost more than they bring
    torch.manual_seed(config.run.seed)
    with processes(config.run.device) as team:
        quiet = console if team.rank == 0 else Console(quiet=True)
        with team.first_alone():
            own = prepare_pairs(config, quiet)
            generic, generic_held_out = _generic_pairs(config, request, own.training, quiet)
        if not own.held_out:
            raise BadInputError(
                f"{request.data} holds out no pairs; give --validation DIR, or build the set from two recordings"
            )
        run = _Run(request, loaded, team, quiet, resume, own, generic, config)
        for stage in stages:
            config = fit_crop(configs[stage], own.training)
            if stage != "align":
                config = _balanced(config, request, loaded, own.training, quiet)
            if not run.go_through(stage, config):
                quiet.print(f"stopped; go on with: lumitherm train --resume {run.folder}", highlight=False)
                return None
    if run.judge is None:
        return None
    return _conclude(run, run.judge, generic_held_out, min_psnr_db, make_engine)


def _generic_pairs(
    config: TrainingConfig, request: FinetuneRequest, own: Sequence[TrainingPair], console: Console
) -> tuple[list[TrainingPair], list[TrainingPair]]:
    """Generic pairs to mix in, as the rig's thermal camera would show them; and others, as they are, which tell what
    was forgotten."""
    if request.generic is None or request.generic_share == 0:
        return [], []
    data = config.data.model_copy(
        update={
            "root": request.generic, "validation_root": None, "validation_fraction": 0.0, "include": (),
            "registration": config.data.registration.model_copy(update={"enabled": True}),
        }
    )  # fmt: skip
    pairs = prepare_pairs(config.model_copy(update={"data": data}), Console(quiet=True)).training
    mixed, held_out = split_pairs(pairs, _GENERIC_HELD_OUT)
    console.print(
        f"generic pairs make up {request.generic_share:.0%} of the crops; {len(held_out)} of {len(pairs)} are held out",
        highlight=False,
    )
    return resembling(mixed, own, thermal_pitch_of(request.data)), held_out


def _balanced(
    config: TrainingConfig, request: FinetuneRequest, loaded: LoadedCheckpoint, own: Sequence[TrainingPair],
    console: Console,
) -> TrainingConfig:  # fmt: skip
    """Fit the targets of the fused picture to the rig's thermal camera, unless `--set` gives them."""
    if any("infrared_boost" in item for item in request.overrides):
        return config
    loss = balanced_loss(loaded.network, config.loss, own)
    factor = loss.intensity_infrared_boost / max(config.loss.intensity_infrared_boost, 1e-9)
    if factor > 1:
        console.print(
            "thermal edges are weaker here than in the pictures that the losses are made for: the targets of the fused "
            f"picture draw them {factor:.2f} times as strong",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    return config.model_copy(update={"loss": loss})


class _Run:
    """The stages of one run, one after the other. All processes go through the same stages."""

    def __init__(
        self,
        request: FinetuneRequest,
        loaded: LoadedCheckpoint,
        team: Processes,
        console: Console,
        resume: Path | None,
        own: TrainingPairs,
        generic: list[TrainingPair],
        config: TrainingConfig,
    ) -> None:
        self.request, self.console = request, console
        self._team, self._resumed = team, resume is not None
        self._seen = own._replace(training=[*own.training, *generic])
        self._mixed = own._replace(training=mix_pairs(own.training, generic, request.generic_share))
        first = team.rank == 0
        self.folder = resume if resume is not None else (new_finetune_folder(config) if first else Path())
        if first:
            save_request(request, self.folder)
        self.judge = Judge(request, loaded, evaluation_pairs(own.held_out)) if first else None
        if own_loss(loaded.facts) is None:
            console.print(
                f"{request.initial.name} does not tell its losses, or they are of another version: using the defaults",
                highlight=False,
            )

    def go_through(self, stage: str, config: TrainingConfig) -> bool:
        """Train and judge one stage. False: a signal ended it; nothing is judged, the run can be resumed."""
        folder = self.folder / stage
        if self._resumed and (folder / OUTCOME_FILE).is_file():
            if self.judge is not None:
                self._say(f"{self.judge.take_over(folder).describe()} (done before)")
            return True
        first = self.judge is not None
        resumed = self._resumed and bool(list_checkpoints(folder / "checkpoints"))
        if self.judge is not None:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            config = config.model_copy(update={"initial_weights": self.judge.weights})
            describe_run(folder, config, self._seen)
            if not resumed:
                (folder / "metrics.jsonl").unlink(missing_ok=True)  # of a start without a saved state
        reporter = Reporter(
            folder, self.console, log_every_steps=config.run.log_every_steps, tensorboard=config.run.tensorboard,
            active=first,
        )  # fmt: skip
        needs_vgg = config.loss.perception.weight > 0 and stage != "align"
        trainer = Trainer(
            build_network(config), config, self._mixed, processes=self._team,
            vgg=load_vgg16(config.vgg16, list(config.loss.perception.taps)) if needs_vgg else None,
            export=export_weights, reporter=reporter,
            selection=AgainstStart(folder) if first else None,
        )  # fmt: skip
        if resumed:
            reporter.say(f"going on with {folder} after step {trainer.resume()}")
        reporter.say(
            f"stage {stage}: {trainer.total_steps} steps of {config.batch_size} crops of {config.data.crop_px} px"
        )
        last = trainer.run()
        if self._team.any(trainer.stopped):
            return False
        if self.judge is not None:
            self._say(self.judge.decide(stage, folder, last).describe())
        return True

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


# ---- after the stages


def _conclude(
    run: _Run,
    judge: Judge,
    generic_held_out: Sequence[TrainingPair],
    min_psnr_db: float,
    make_engine: Callable[[Path], FusionEngine] | None,
) -> FinetuneResult:
    """Export the kept weights if the engine agrees; write finetune.json and the card in any case."""
    exported = run.folder / "finetuned.safetensors"
    kept = [outcome for outcome in judge.outcomes if outcome.accepted]
    dropped = [line for outcome in judge.outcomes if not outcome.accepted for line in outcome.lost]
    if not kept:
        exported.unlink(missing_ok=True)
        for line in dropped:
            run._say(f"kept the old weights because {line}")
        card = _write_documents(run, judge, None, [], None, dropped)
        return FinetuneResult(run.folder, None, card, judge.start, judge.now, None, judge.outcomes, dropped, [])
    source = load_checkpoint(judge.weights)
    warnings = collapse_warnings(judge.now.shares, judge.start.shares)
    forgotten = None
    if generic_held_out:
        others = evaluation_pairs(generic_held_out, _GENERIC_MEASURED)
        forgotten = (measure(judge.initial, others), measure(source, others))
        lines = why_worse(forgotten[0].curve, forgotten[1].curve) + why_error_rose(*forgotten)
        warnings += [f"on the generic pairs {line}" for line in lines]
    for warning in warnings:
        run._say(f"warning: {warning}")
    parity = check_parity(source.path, judge.pairs, min_psnr_db=min_psnr_db, make_engine=make_engine)
    although = [line for outcome in kept for line in outcome.lost if line not in warnings]
    facts = _facts(run.request, judge, parity, [*warnings, *although])
    try:
        require_parity(parity)
    except EngineError:
        exported.unlink(missing_ok=True)
        _write_documents(run, judge, parity, warnings, forgotten, [])
        raise
    atomic_write(exported, lambda path: save_checkpoint(path, source.network, source.facts | _plain(facts)))
    card = _write_documents(run, judge, parity, [*warnings, *although], forgotten, [])
    run._say(f"engine parity {parity.worst_db:.1f} dB at worst ({parity.engine}); exported {exported}")
    return FinetuneResult(
        run.folder, exported, card, judge.start, judge.now, parity, judge.outcomes, although, warnings
    )


def _facts(request: FinetuneRequest, judge: Judge, parity: ParityReport, warnings: list[str]) -> dict[str, Any]:
    """What goes into the weights file beside the facts of its last stage."""
    loss = own_loss(judge.initial.facts)
    facts = {
        "stage": "+".join(outcome.stage for outcome in judge.outcomes if outcome.accepted),
        "initial_sha256": judge.initial.sha256,
        "agc": _agc_contract(request.data, judge.initial),
        "parity": parity.facts(),
        "warnings": warnings,
        "generic_share": request.generic_share if request.generic is not None else 0.0,
        "metrics": {"before": judge.start.rows(), "after": judge.now.rows()},
    }
    return facts if loss is None else facts | {"fusion": {"loss": loss.model_dump(mode="json")}}


def _write_documents(
    run: _Run,
    judge: Judge,
    parity: ParityReport | None,
    warnings: list[str],
    forgotten: tuple[Measured, Measured] | None,
    kept_old: list[str],
) -> Path:
    """Write finetune.json and the card; returns the card."""
    document = {
        "stages": [asdict(outcome) for outcome in judge.outcomes],
        "kept_old": kept_old,
        "warnings": warnings,
        "parity": None if parity is None else parity.facts(),
        "metrics": {"before": judge.start.rows(), "after": judge.now.rows()},
        "shares": {"before": asdict(judge.start.shares), "after": asdict(judge.now.shares)},
        "generic": None if forgotten is None else {"before": forgotten[0].rows(), "after": forgotten[1].rows()},
    }
    text = json.dumps(_plain(document), indent=1)
    atomic_write(run.folder / "finetune.json", lambda path: _write_text(path, text))
    card = run.folder / "MODEL_CARD.md"
    exported = run.folder / "finetuned.safetensors"
    write_model_card(card, run.folder, name=run.folder.name, weights=exported if exported.is_file() else None)
    return card


def _agc_contract(data: Path, initial: LoadedCheckpoint) -> Any:
    """The AGC that the pictures went through: the data set's own, or that of the initial weights."""
    try:
        contract = read_json(data / "dataset.json")["agc_contract"]
    except (OSError, ValueError, KeyError, TypeError):
        contract = initial.facts.get("agc")
    return contract


def _plain(value: Any) -> Any:
    """Replace what is not finite by null, which JSON knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
