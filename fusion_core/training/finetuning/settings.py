"""Holds the request of a fine-tuning run, and makes the configuration of each stage.

Two stages, in this order:

- align trains the displacement estimate alone. Pictures of another thermal camera (gain, noise, blur) mislead it
  first, and here the truth is known: the pairs are registered, and the displacement between them is drawn at random.
- fuse trains everything else behind that estimate, with the losses that the weights were trained with.

`joint` trains both at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.errors import ConfigError
from fusion_core.training.config import LossConfig, TrainingConfig
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.run_state import atomic_write
from fusion_core.yaml_config import ConfigTree, apply_override, read_yaml, validate_tree

__all__ = [
    "DEFAULT_STAGES",
    "REQUEST_FILE",
    "STAGES",
    "FinetuneRequest",
    "finetune_config",
    "fit_crop",
    "load_request",
    "own_loss",
    "save_request",
    "stages_of",
]

STAGES = ("align", "fuse", "joint")
DEFAULT_STAGES = ("align", "fuse")
REQUEST_FILE = "finetune_request.yaml"

_CROP_MARGIN_PX = 24  # of a picture's smaller side that is left for the displacement
_DEFAULT_LOSS = LossConfig.model_validate(
    {
        "pixel": 0.2, "perception": {"weight": 0.0}, "gradient": 14.0, "gradient_infrared_gain": 1.5, "intensity": 4.0,
        "ssim": 0.1, "displacement": 0.1, "lambda_align": 0.0, "mask_unseen": True,
    }
)  # fmt: skip
_ALIGN: dict[str, Any] = {  # as configs/train_align.yaml, but shorter and on nearly whole pictures
    "batch_size": 4,
    "loss": {
        "displacement": 1.0, "lambda_align": 0.0, "displacement_scale_decay": 0.5, "confidence": True,
        "mask_unseen": True, "following": 0.5,
    },
    "optimizer": {"learning_rate": 1e-3},
    "schedule": {"kind": "cosine", "max_steps": 240, "warmup_steps": 10},
    "validation": {"every_steps": 80, "pairs": 12, "patience": 4},
}  # fmt: skip
_ALIGN_DATA: dict[str, Any] = {
    "crop_px": 384,
    "displacement": {
        "max_px": 9.0, "zero_probability": 0.05, "varying_probability": 0.9, "varying_peak_px": [3.0, 10.0],
        "varying_spacing_px": [64.0, 200.0],
    },
    "augmentation": {
        "flip": True, "flip_vertical": True, "visible_gain": 0.3, "visible_gamma": 0.3, "visible_noise": 0.02,
        "infrared_gain": 0.2, "infrared_gamma": 0.2,
    },
}  # fmt: skip
_FUSE: dict[str, Any] = {
    "batch_size": 8,
    "optimizer": {"learning_rate": 5e-5, "alignment_learning_rate": 1e-5},
    "schedule": {"kind": "cosine", "max_steps": 200, "warmup_steps": 20},
    "validation": {"every_steps": 50, "pairs": 12, "patience": 4},
}
_FUSE_DATA: dict[str, Any] = {
    "crop_px": 128,
    "displacement": {"max_px": 8.0, "varying_probability": 0.5},
    "augmentation": {
        "visible_gain": 0.1, "visible_gamma": 0.1, "infrared_gain": 0.15, "infrared_gamma": 0.15,
        "infrared_noise": 0.02,
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FinetuneRequest:
    """What to fine-tune. data: folder of `lumitherm dataset build` (or any folder of aligned pairs).

    validation: held-out pairs; None takes data/validation, or the end of each session in `data`.
    generic: folder of other pairs, of which `generic_share` (0..1) of all crops are cut.
    overrides: `key=value` as in `lumitherm train --set`; `align.key=value` concerns that stage alone.
    even_if_worse: export weights that are worse than the start, too; their card says in what.
    stages: of STAGES, in order.
    """

    initial: Path
    data: Path
    validation: Path | None = None
    generic: Path | None = None
    generic_share: float = 0.3
    vgg16: Path | None = None
    overrides: tuple[str, ...] = ()
    even_if_worse: bool = False
    stages: tuple[str, ...] = DEFAULT_STAGES


def stages_of(request: FinetuneRequest, loaded: LoadedCheckpoint) -> tuple[str, ...]:
    """The stages that this network has; one without a displacement estimate has no stage align.

    Raises:
        ConfigError: an unknown stage, none, or one twice.
    """
    unknown = [stage for stage in request.stages if stage not in STAGES]
    if unknown or not request.stages or len(set(request.stages)) < len(request.stages):
        raise ConfigError(
            f"--stages is {','.join(request.stages)!r}, must be one or more of {', '.join(STAGES)}, each once"
        )
    if loaded.network.alignment is not None:
        return request.stages
    return tuple(stage for stage in request.stages if stage != "align") or ("fuse",)


def finetune_config(request: FinetuneRequest, loaded: LoadedCheckpoint, stage: str = "fuse") -> TrainingConfig:
    """Configure one stage for some dozens to hundreds of pairs and some minutes.

    Raises:
        ConfigError: an override is wrong.
    """
    facts = loaded.facts
    own = (request.data / "dataset.json").is_file()
    validation = request.validation
    beside = request.data / "validation"
    if validation is None and (beside / "vi").is_dir() and any((beside / "vi").iterdir()):
        validation = beside
    align = stage == "align"
    recipe, data = (_ALIGN, _ALIGN_DATA) if align else (_FUSE, _FUSE_DATA)
    values: dict[str, Any] = {
        **{key: dict(value) if isinstance(value, dict) else value for key, value in recipe.items()},
        "preset": str(facts.get("preset", "tiny")),
        "network": loaded.config.to_dict(),
        "stage": stage,
        "freeze_alignment": True,
        "initial_weights": str(request.initial),
        "vgg16": None if request.vgg16 is None else str(request.vgg16),
        "data": {
            **{key: dict(value) if isinstance(value, dict) else value for key, value in data.items()},
            "root": str(request.data),
            "validation_root": None if validation is None else str(validation),
            "validation_fraction": 0.15,
            "registration": {"enabled": not own},  # a built set is registered already, more exactly
        },
        "run": {"ema_decay": 0.99, "checkpoint_every_steps": 100},
    }
    if not align:
        values["loss"] = _fusion_loss(facts, stage, with_vgg=request.vgg16 is not None).model_dump(mode="json")
    tree = ConfigTree(f"settings of stage {stage}", values)
    for item in _overrides_of(request.overrides, stage):
        apply_override(tree, item)
    return validate_tree(TrainingConfig, tree)


def _overrides_of(overrides: Sequence[str], stage: str) -> list[str]:
    """The overrides that concern the stage, without its name in front."""
    chosen = []
    for item in overrides:
        first, dot, rest = item.partition(".")
        if item.partition("=")[0] == "stage":
            raise ConfigError(f"--set {item}: a fine-tuning run sets the stage itself; choose stages with --stages")
        if dot and first in STAGES:
            if first == stage:
                chosen.append(rest)
        else:
            chosen.append(item)
    return chosen


def fit_crop(config: TrainingConfig, pairs: Sequence[TrainingPair]) -> TrainingConfig:
    """Fit the crop size into most of the pictures.

    A larger crop would be enlarged content, and enlarged thermal noise is not this camera's.
    """
    sides = sorted(min(pair.visible.shape) for pair in pairs)
    room = (sides[len(sides) // 2] - _CROP_MARGIN_PX) // 32 * 32
    crop_px = max(64, min(config.data.crop_px, room))
    if crop_px >= config.data.crop_px:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"crop_px": crop_px})})


def _fusion_loss(facts: dict[str, Any], stage: str, *, with_vgg: bool) -> LossConfig:
    """The losses that the weights were trained with, or the default ones where the file names none.

    The perception loss is left out where VGG16's features are not given.
    """
    loss = own_loss(facts) or _DEFAULT_LOSS
    if not with_vgg:
        loss = loss.model_copy(update={"perception": loss.perception.model_copy(update={"weight": 0.0})})
    if stage == "joint" and loss.displacement == 0:
        loss = loss.model_copy(update={"displacement": _DEFAULT_LOSS.displacement})
    return loss


def own_loss(facts: dict[str, Any]) -> LossConfig | None:
    """The losses of the fusion that the weights came from; None where the file names none that this version has."""
    for key in ("fusion", "config", "last_stage_settings"):
        settings = facts.get(key)
        if not isinstance(settings, dict) or not isinstance(settings.get("loss"), dict):
            continue
        try:
            loss = LossConfig.model_validate(settings["loss"])
        except ValidationError:
            continue
        if loss.pixel or loss.gradient or loss.intensity or loss.ssim or loss.perception.weight:
            return loss  # else those of a training of the estimate
    return None


# ---- the request, kept with its run


def load_request(run: Path) -> FinetuneRequest:
    """The request of a run that is to be resumed.

    Raises:
        ConfigError: the folder is of no fine-tuning run.
    """
    try:
        values = read_yaml(run / REQUEST_FILE)
        return FinetuneRequest(
            initial=Path(values["initial"]),
            data=Path(values["data"]),
            validation=None if values["validation"] is None else Path(values["validation"]),
            generic=None if values["generic"] is None else Path(values["generic"]),
            generic_share=float(values["generic_share"]),
            vgg16=None if values["vgg16"] is None else Path(values["vgg16"]),
            overrides=tuple(str(item) for item in values["overrides"]),
            even_if_worse=bool(values.get("even_if_worse", False)),
            stages=tuple(str(item) for item in values["stages"]),
        )
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{run} is no run of `lumitherm train --from`, or of another version ({error})") from error


def save_request(request: FinetuneRequest, run: Path) -> None:
    """Keep the request with its run."""
    values = {
        key: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for key, value in asdict(request).items()
    }
    atomic_write(run / REQUEST_FILE, lambda path: _write_text(path, yaml.safe_dump(values)))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
