"""From shipped weights to weights for one's own rig: a short training that does not forget, checked before export.

The run continues the training that the weights came from (its losses, read from the file), with a low learning rate.
The displacement estimate stays as it is, unless asked for (stage=joint), and then changes ten times slower. Generic
pairs, where given, make up a share of every epoch. Before and after, the held-out sessions are measured at known
displacements. The old weights are kept where the new ones are worse in what matters (`acceptance`); the export is
refused when the engine would not give the reference's pictures, and warns when the fused picture follows one camera
alone.
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
import yaml
from pydantic import ValidationError
from rich.console import Console

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from fusion_core.displacement import uniform
from fusion_core.engine import FusionEngine
from fusion_core.errors import BadInputError, ConfigError, EngineError
from fusion_core.evaluation import EvaluationPair, Summary, evaluate_engine, summarize
from fusion_core.torch_engine import TorchEngine
from fusion_core.training.acceptance import AgainstStart, why_worse
from fusion_core.training.collapse import ModalityShares, collapse_warnings, measure_shares
from fusion_core.training.config import LossConfig, TrainingConfig, apply_override
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.distributed import processes
from fusion_core.training.model_card import write_model_card
from fusion_core.training.parity import MIN_PSNR_DB, ParityReport, check_parity, require_parity
from fusion_core.training.reporting import Reporter
from fusion_core.training.run_state import atomic_write
from fusion_core.training.session import build_network, describe_run, export_weights, prepare_pairs
from fusion_core.training.train import Trainer, new_run_folder
from fusion_core.training.vgg import load_vgg16

__all__ = ["FinetuneRequest", "FinetuneResult", "finetune", "finetune_config", "load_request", "mix_pairs"]

_SHIFTS_PX = (0.0, 3.0, 5.0, 8.0)
_MEASURED_PAIRS = 24
_DEFAULT_LOSS = LossConfig.model_validate(
    {
        "pixel": 0.2, "perception": {"weight": 0.0}, "gradient": 14.0, "gradient_infrared_gain": 1.5, "intensity": 4.0,
        "ssim": 0.1, "displacement": 0.1, "lambda_align": 0.0, "mask_unseen": True,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FinetuneRequest:
    """What to fine-tune. data: folder of `lumitherm dataset build` (or any folder of aligned pairs).

    validation: held-out pairs; None takes data/validation, or the end of each session in `data`.
    generic: folder of other pairs, of which `generic_share` (0..1) of all crops are cut.
    overrides: `key=value` as in `lumitherm train --set`.
    even_if_worse: export weights that are worse than the start, too; what is worse stands in their card.
    """

    initial: Path
    data: Path
    validation: Path | None = None
    generic: Path | None = None
    generic_share: float = 0.3
    vgg16: Path | None = None
    overrides: tuple[str, ...] = ()
    even_if_worse: bool = False


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What came of it. before, after: summaries by displacement on the held-out pairs; warnings: collapse alarms.

    weights, parity: None when the old weights were kept; kept_old says why (and is not empty either where worse
    weights were exported because that was asked for).
    """

    run: Path
    weights: Path | None
    card: Path
    before: list[Summary]
    after: list[Summary]
    shares_before: ModalityShares
    shares_after: ModalityShares
    parity: ParityReport | None
    kept_old: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def finetune_config(request: FinetuneRequest, loaded: LoadedCheckpoint) -> TrainingConfig:
    """The configuration of the run: fit for some hundred pairs and some minutes to an hour.

    Raises:
        ConfigError: an override is wrong.
    """
    facts = loaded.facts
    own = (request.data / "dataset.json").is_file()
    validation = request.validation
    beside = request.data / "validation"
    if validation is None and (beside / "vi").is_dir() and any((beside / "vi").iterdir()):
        validation = beside
    values: dict[str, Any] = {
        "preset": str(facts.get("preset", "tiny")),
        "network": loaded.config.to_dict(),
        "stage": "fuse",  # the estimate was trained on far more displacements than a set of one rig can give
        "freeze_alignment": True,
        "batch_size": 8,
        "initial_weights": str(request.initial),
        "vgg16": None if request.vgg16 is None else str(request.vgg16),
        "data": {
            "root": str(request.data),
            "validation_root": None if validation is None else str(validation),
            "validation_fraction": 0.15,
            "crop_px": 128,
            "displacement": {"max_px": 8.0, "varying_probability": 0.5},
            "augmentation": {
                "visible_gain": 0.1, "visible_gamma": 0.1, "infrared_gain": 0.15, "infrared_gamma": 0.15,
                "infrared_noise": 0.02,
            },
            "registration": {"enabled": not own},  # a built set is registered already, and better
        },
        "loss": _loss_of(facts, with_vgg=request.vgg16 is not None).model_dump(mode="json"),
        "optimizer": {"learning_rate": 1e-4, "alignment_learning_rate": 1e-5},
        "schedule": {"kind": "cosine", "max_steps": 1000, "warmup_steps": 50},
        "validation": {"every_steps": 125, "pairs": 12, "patience": 4},
        "run": {"ema_decay": 0.99, "checkpoint_every_steps": 250},
    }  # fmt: skip
    for item in request.overrides:
        apply_override(values, item)
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        issue = error.errors()[0]
        where = ".".join(map(str, issue["loc"]))
        raise ConfigError(f"--set {where}: {issue['msg']} (got {issue['input']!r})") from error


def _loss_of(facts: dict[str, Any], *, with_vgg: bool) -> LossConfig:
    """The losses the weights were trained with, ours where the file does not tell; the perception loss only where
    VGG16's features are given."""
    loss = own_loss(facts) or _DEFAULT_LOSS
    if not with_vgg:
        loss = loss.model_copy(update={"perception": loss.perception.model_copy(update={"weight": 0.0})})
    only_alignment = loss.pixel == loss.gradient == loss.intensity == loss.ssim == loss.perception.weight == 0
    return _DEFAULT_LOSS if only_alignment else loss


def own_loss(facts: dict[str, Any]) -> LossConfig | None:
    """The losses of the training that the weights came from; None where the file names none that this version has."""
    for key in ("config", "last_stage_settings"):
        settings = facts.get(key)
        if isinstance(settings, dict) and isinstance(settings.get("loss"), dict):
            try:
                return LossConfig.model_validate(settings["loss"])
            except ValidationError:
                continue
    return None


def mix_pairs(own: Sequence[TrainingPair], generic: Sequence[TrainingPair], share: float) -> list[TrainingPair]:
    """A list in which generic pairs make up `share` (the sampler takes every entry equally often).

    Few own pairs are repeated rather than that they drown; generic ones are thinned evenly where there are too many.

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
    """Fine-tune, measure, check and export. Under torchrun all processes call it; None on all but the first.

    Args:
        make_engine: the engine that the export must agree with, see `check_parity`.

    Writes into the run's folder what a training writes, and: `finetuned.safetensors`, `finetune.json`,
    `MODEL_CARD.md`.

    Raises:
        UsageError: weights, data or settings cannot be used. EngineError: the export does not agree with the
        reference. RunError: training failed.
    """
    loaded = load_checkpoint(request.initial)
    config = finetune_config(request, loaded)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    cv2.setNumThreads(1)  # crops are small: OpenCV's own threads cost more than they bring
    torch.manual_seed(config.run.seed)
    with processes(config.run.device) as team:
        first = team.rank == 0
        quiet = console if first else Console(quiet=True)
        with team.first_alone():
            own, held_out, digest = prepare_pairs(config, quiet)
            generic = _generic_pairs(config, request, quiet)
        if not held_out:
            raise BadInputError(
                f"{request.data} holds out no pairs; give --validation DIR, or build the set from two recordings"
            )
        training = mix_pairs(own, generic, request.generic_share)
        if generic:
            quiet.print(f"generic pairs make up {request.generic_share:.0%} of the crops", highlight=False)
        measured = _evaluation_pairs(held_out)
        before = _measure(loaded, measured) if first else None
        folder = resume if resume is not None else (new_run_folder(config) if first else Path())
        if first:
            describe_run(folder, config, [*own, *generic], held_out, digest)
            save_request(request, folder)
        reporter = Reporter(
            folder, quiet, log_every_steps=config.run.log_every_steps, tensorboard=config.run.tensorboard, active=first
        )
        needs_vgg = config.loss.perception.weight > 0
        trainer = Trainer(
            build_network(config), config, training, held_out, folder,
            processes=team,
            vgg=load_vgg16(config.vgg16, list(config.loss.perception.taps)) if needs_vgg else None,
            export=export_weights, reporter=reporter, manifest_sha256=digest,
            selection=AgainstStart(folder) if first else None,
        )  # fmt: skip
        if resume is not None:
            reporter.say(f"going on with {folder} after step {trainer.resume()}")
        if own_loss(loaded.facts) is None:
            reporter.say(f"{request.initial.name} does not tell its losses, or they are of another version: using ours")
        reporter.say(f"fine-tuning {request.initial.name}: {trainer.total_steps} steps of {config.batch_size} crops")
        weights = trainer.run()
    if before is None:
        return None
    after = _measure_best(request, folder, weights, before, measured, console)
    reasons = _why_kept(after, before[0])
    if reasons and not request.even_if_worse:
        for reason in reasons:
            console.print(f"kept the old weights because {reason}", highlight=False, soft_wrap=True)
        return _keep_old(request, folder, loaded, before, after, reasons)
    parity = check_parity(after.source, measured, min_psnr_db=min_psnr_db, make_engine=make_engine)
    return _export(request, folder, loaded, before, after, parity, reasons, console)


def _generic_pairs(config: TrainingConfig, request: FinetuneRequest, console: Console) -> list[TrainingPair]:
    if request.generic is None or request.generic_share == 0:
        return []
    data = config.data.model_copy(
        update={
            "root": request.generic, "validation_root": None, "validation_fraction": 0.0, "include": (),
            "registration": config.data.registration.model_copy(update={"enabled": True}),
        }
    )  # fmt: skip
    return prepare_pairs(config.model_copy(update={"data": data}), console)[0]


def _evaluation_pairs(held_out: Sequence[TrainingPair]) -> list[EvaluationPair]:
    """Registered held-out pairs, evenly chosen; those whose registration is unknown tell nothing here."""
    usable = [pair for pair in held_out if pair.registration.reliable] or list(held_out)
    chosen = sorted({int(v) for v in np.linspace(0, len(usable) - 1, min(_MEASURED_PAIRS, len(usable)))})
    return [
        EvaluationPair(
            usable[i].stem,
            np.repeat(usable[i].visible[..., None], 3, axis=2),
            usable[i].registration.apply(usable[i].infrared),
        )
        for i in chosen
    ]


def _measure(loaded: LoadedCheckpoint, pairs: Sequence[EvaluationPair]) -> tuple[list[Summary], ModalityShares]:
    engine = TorchEngine(loaded, label=loaded.path.stem)
    try:
        curve = summarize(evaluate_engine(engine, pairs, [uniform(size) for size in _SHIFTS_PX]))
        return curve, measure_shares(engine.fuse, pairs)
    finally:
        engine.close()


@dataclass(frozen=True, slots=True)
class _After:
    """The best weights of the run and what they measure."""

    source: Path
    curve: list[Summary]
    shares: ModalityShares
    warnings: list[str]
    step: int  # that they are of; 0: nothing was better than the start


def _why_kept(after: _After, before: Sequence[Summary]) -> list[str]:
    """Why the start is better; empty where it is not."""
    if after.step == 0:
        return ["no validation was better than the one before the first step"]
    return why_worse(before, after.curve) + after.warnings


def _measure_best(
    request: FinetuneRequest,
    folder: Path,
    weights: Path,
    before: tuple[list[Summary], ModalityShares],
    pairs: Sequence[EvaluationPair],
    console: Console,
) -> _After:
    """Measure the best weights on the held-out pairs, and warn of a collapse. Where nothing was better than the start,
    the start's figures stand; the last weights', if those are to be exported all the same."""
    best = folder / "best.safetensors"
    loaded = load_checkpoint(best if best.is_file() else weights)
    if int(loaded.facts.get("steps", 0)) == 0:
        if not request.even_if_worse:
            return _After(loaded.path, before[0], before[1], [], 0)
        loaded = load_checkpoint(weights)
    curve, shares = _measure(loaded, pairs)
    warnings = collapse_warnings(shares, before[1])
    for warning in warnings:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True)
    return _After(loaded.path, curve, shares, warnings, int(loaded.facts.get("steps", 0)))


def _facts(
    request: FinetuneRequest,
    folder: Path,
    initial: LoadedCheckpoint,
    before: tuple[list[Summary], ModalityShares],
    after: _After,
    reasons: list[str],
    parity: ParityReport | None,
) -> dict[str, Any]:
    """What goes into the weights file; written, with the shares, to finetune.json."""
    facts = {
        "initial_sha256": initial.sha256,
        "agc": _agc_contract(request.data, initial),
        "parity": None if parity is None else parity.facts(),
        "warnings": [*after.warnings, *(reason for reason in reasons if reason not in after.warnings)],
        "best_step": after.step,
        "generic_share": request.generic_share if request.generic is not None else 0.0,
        "metrics": {"before": _curve(before[0]), "after": _curve(after.curve)},
    }
    kept_old = reasons if parity is None else []
    document = facts | {
        "kept_old": kept_old,
        "shares": {"before": asdict(before[1]), "after": asdict(after.shares)},
    }
    atomic_write(folder / "finetune.json", lambda path: _write_text(path, json.dumps(_plain(document), indent=1)))
    return facts


def _keep_old(
    request: FinetuneRequest,
    folder: Path,
    initial: LoadedCheckpoint,
    before: tuple[list[Summary], ModalityShares],
    after: _After,
    reasons: list[str],
) -> FinetuneResult:
    """Write finetune.json and the card, and no weights."""
    (folder / "finetuned.safetensors").unlink(missing_ok=True)
    _facts(request, folder, initial, before, after, reasons, None)
    card = folder / "MODEL_CARD.md"
    write_model_card(card, folder, name=folder.name)
    return FinetuneResult(
        folder, None, card, before[0], after.curve, before[1], after.shares, None, reasons, after.warnings
    )


def _export(
    request: FinetuneRequest,
    folder: Path,
    initial: LoadedCheckpoint,
    before: tuple[list[Summary], ModalityShares],
    after: _After,
    parity: ParityReport,
    reasons: list[str],
    console: Console,
) -> FinetuneResult:
    """Write finetune.json; then, if the engine agrees, the weights and their card. Raises EngineError if not."""
    facts = _facts(request, folder, initial, before, after, reasons, parity)
    exported = folder / "finetuned.safetensors"
    try:
        require_parity(parity)
    except EngineError:
        exported.unlink(missing_ok=True)
        raise
    loaded = load_checkpoint(after.source)
    atomic_write(exported, lambda path: save_checkpoint(path, loaded.network, loaded.facts | _plain(facts)))
    card = folder / "MODEL_CARD.md"
    write_model_card(card, folder, name=folder.name, weights=exported)
    console.print(
        f"engine parity {parity.worst_db:.1f} dB at worst ({parity.engine}); exported {exported}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return FinetuneResult(
        folder, exported, card, before[0], after.curve, before[1], after.shares, parity, reasons, after.warnings
    )


def _agc_contract(data: Path, initial: LoadedCheckpoint) -> Any:
    """The AGC that the pictures went through: the data set's own, or that of the initial weights."""
    try:
        contract = json.loads((data / "dataset.json").read_text(encoding="utf-8"))["agc_contract"]
    except (OSError, ValueError, KeyError, TypeError):
        contract = initial.facts.get("agc")
    return contract


def _curve(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    return [{"displacement": s.displacement.label, "pairs": s.pairs, **s.values} for s in summaries]


def _plain(value: Any) -> Any:
    """JSON without NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def load_request(run: Path) -> FinetuneRequest:
    """The request of a run that is to be resumed.

    Raises:
        ConfigError: the folder is of no fine-tuning run.
    """
    try:
        values = yaml.safe_load((run / "finetune_request.yaml").read_text(encoding="utf-8"))
        return FinetuneRequest(
            initial=Path(values["initial"]),
            data=Path(values["data"]),
            validation=None if values["validation"] is None else Path(values["validation"]),
            generic=None if values["generic"] is None else Path(values["generic"]),
            generic_share=float(values["generic_share"]),
            vgg16=None if values["vgg16"] is None else Path(values["vgg16"]),
            overrides=tuple(str(item) for item in values["overrides"]),
            even_if_worse=bool(values.get("even_if_worse", False)),
        )
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"{run} is no run of `lumitherm train --from` ({error})") from error


def save_request(request: FinetuneRequest, run: Path) -> None:
    """Keep the request with its run."""
    values = {
        key: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for key, value in asdict(request).items()
    }
    atomic_write(run / "finetune_request.yaml", lambda path: _write_text(path, yaml.safe_dump(values)))
