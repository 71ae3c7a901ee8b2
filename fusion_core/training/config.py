"""The training configuration: frozen pydantic models, read from YAML with `--set key=value` overrides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusion_core.yaml_config import load_model

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "DisplacementConfig",
    "LossConfig",
    "OptimizerConfig",
    "PerceptionConfig",
    "RegistrationConfig",
    "RunConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "ValidationConfig",
    "config_hash",
    "load_training_config",
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DisplacementConfig(_Model):
    """How the infrared crop is displaced against the visible one (Section 4.1 of the paper: uniform, whole crop)."""

    max_px: float = Field(default=8.0, ge=0.0, le=64.0)  # uniform part, each axis, drawn from [-max_px, max_px]
    zero_probability: float = Field(default=0.05, ge=0.0, le=1.0)  # share of samples without any displacement
    subpixel: bool = True  # False: whole pixels, as in the paper
    varying_probability: float = Field(default=0.0, ge=0.0, le=1.0)  # share with a smooth field on top
    varying_peak_px: tuple[float, float] = (2.0, 8.0)  # its largest component is drawn from this range
    varying_spacing_px: tuple[float, float] = (48.0, 200.0)  # distance of its control points: how fast it varies


class AugmentationConfig(_Model):
    """Photometric and geometric changes. Each range is the largest departure; 0 switches it off."""

    flip: bool = True
    flip_vertical: bool = False
    scale: tuple[float, float] = (1.0, 1.0)  # zoom drawn log-uniformly, common to both; below 1 shows more of the scene
    visible_gain: float = Field(default=0.0, ge=0.0, lt=1.0)  # factor in [1 / (1 + g), 1 + g]
    visible_offset: float = Field(default=0.0, ge=0.0, lt=0.5)  # of full scale
    visible_gamma: float = Field(default=0.0, ge=0.0, lt=1.0)  # exponent in [1 / (1 + g), 1 + g]
    visible_noise: float = Field(default=0.0, ge=0.0, lt=0.5)  # largest standard deviation, full scale = 1; inputs only
    visible_blur_px: float = Field(default=0.0, ge=0.0, le=5.0)  # largest Gaussian sigma; inputs and targets
    infrared_gain: float = Field(default=0.0, ge=0.0, lt=1.0)
    infrared_offset: float = Field(default=0.0, ge=0.0, lt=0.5)
    infrared_gamma: float = Field(default=0.0, ge=0.0, lt=1.0)
    infrared_noise: float = Field(default=0.0, ge=0.0, lt=0.5)
    infrared_blur_px: float = Field(default=0.0, ge=0.0, le=5.0)
    infrared_stretch_probability: float = Field(default=0.0, ge=0.0, le=1.0)  # to the 1st..99th percentile, as AGC
    infrared_equalize_probability: float = Field(default=0.0, ge=0.0, le=1.0)  # part or all of a histogram equalization
    infrared_invert_probability: float = Field(default=0.0, ge=0.0, le=1.0)  # white-hot to black-hot

    @model_validator(mode="after")
    def _check(self) -> AugmentationConfig:
        low, high = self.scale
        if not 0.25 <= low <= high <= 4.0:
            raise ValueError(f"scale is {self.scale}, must be (low, high) with 0.25 <= low <= high <= 4")
        return self


class RegistrationConfig(_Model):
    """How the residual shift of the training pairs is measured, and undone before a pair serves as alignment target."""

    enabled: bool = True
    search_px: int = Field(default=12, ge=2, le=64)  # whole-pixel search range of the correlation, each axis
    field: bool = True  # refine by a smooth field (parallax), False: one sub-pixel shift a pair
    field_max_px: float = Field(default=3.0, ge=0.0, le=16.0)  # largest departure of the field from the pair's shift
    min_peak: float = Field(default=0.08, ge=0.0, le=1.0)  # correlation a pair must reach to count as registered
    min_lead: float = Field(default=0.01, ge=0.0, le=1.0)  # and its lead over the second peak
    max_residual_px: float = Field(default=0.75, gt=0.0)  # residual after registration that still counts as registered


class DataConfig(_Model):
    """Where the pairs are and what is cut from them."""

    root: Path  # folder of aligned pairs: vi/ and ir/ (or visible/ and infrared/ and the like)
    validation_root: Path | None = None  # None: hold out the last part of every source in `root`
    validation_fraction: float = Field(default=0.06, ge=0.0, lt=1.0)
    crop_px: int = Field(default=128, ge=32, le=1024, multiple_of=8)
    crops_per_epoch: int | None = Field(default=None, ge=1)  # None: one crop a pair
    include: tuple[str, ...] = ()  # stem prefixes to keep; empty: all
    prefetch_batches: int = Field(default=4, ge=0, le=64)  # made ahead by one thread in this process; 0: none
    displacement: DisplacementConfig = DisplacementConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    registration: RegistrationConfig = RegistrationConfig()


class PerceptionConfig(_Model):
    """The perception loss of Eq. (17)."""

    weight: float = Field(default=1.0, ge=0.0)
    taps: dict[str, float] = {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0}
    scale: Literal[1, 2, 4] = 1  # the pictures are area-reduced by this before VGG16 sees them; 2 is 4 times cheaper
    dtype: Literal["float32", "bfloat16"] = "float32"
    every: int = Field(default=1, ge=1)  # computed on every n-th step, weighted n times: the same on average, cheaper


class LossConfig(_Model):
    """Eq. (16)-(18) with the paper's constants, and further terms that are off unless given a weight.

    All norms are means over pixels, not sums, so that the weights do not depend on crop and batch size.
    """

    alpha: float = Field(default=0.5, ge=0.0, le=1.0)  # infrared share of Eq. (16)
    beta: float = Field(default=0.6, ge=0.0, le=1.0)  # infrared share of Eq. (17)
    lambda_align: float = Field(default=0.3, ge=0.0)  # weight of Eq. (7) in Eq. (18)
    pixel: float = Field(default=1.0, ge=0.0)  # weight of Eq. (16)
    perception: PerceptionConfig = PerceptionConfig()
    gradient: float = Field(default=0.0, ge=0.0)  # fused gradient against the stronger of both sources, per pixel
    gradient_infrared_gain: float = Field(default=1.0, ge=0.0)  # in the choice of the stronger
    gradient_infrared_boost: float = Field(default=1.0, ge=0.0)  # infrared edges are drawn this much stronger
    gradient_weaker: tuple[float, float] = (0.0, 0.0)  # shares of visible, infrared added where they are the weaker
    gradient_norm: Literal["l1", "l2"] = "l1"  # l2 draws edges of uncertain place faintly, l1 not at all
    intensity: float = Field(default=0.0, ge=0.0)  # L1 to a target luminance
    intensity_target: Literal["mean", "max", "pyramid"] = "pyramid"
    intensity_infrared_boost: float = Field(default=1.0, ge=0.0)  # pyramid: infrared detail is drawn this much stronger
    qabf: float = Field(default=0.0, ge=0.0)  # 1 - edge preservation (Xydeas and Petrovic)
    edge_share: float = Field(default=0.0, ge=0.0)  # how far the shares of both pictures' edges are from edge_shares
    edge_shares: tuple[float, float] = (0.92, 0.9)  # wanted of visible and infrared, 1 = drawn at full strength
    level: float = Field(default=0.0, ge=0.0)  # L1 to the levels that fit the light: `picture_losses.level_target`
    level_share: float = Field(default=0.12, ge=0.0, le=1.0)  # of thermal's level where visible is well exposed
    ssim: float = Field(default=0.0, ge=0.0)  # 1 - SSIM against both sources, shares 1 - alpha and alpha
    displacement: float = Field(default=0.0, ge=0.0)  # robust end-point error of the displacement fields, px
    displacement_scale_decay: float = Field(default=0.7, gt=0.0, le=1.0)  # of each coarser field
    following: float = Field(default=0.0, ge=0.0)  # (1 - s)^2, s: how much of what varies in the truth the finest
    # field follows. The least error in noise is an estimate that varies too little; what it leaves is seen as ghosts.
    fusion_target: Literal["registered", "own"] = "registered"
    # own: the fused picture is compared with the infrared one as the network aligned it. Compared with the registered
    # one, an estimate that is a pixel off teaches the fusion to blur the heat; its own teaches it to draw it crisply.
    confidence: bool = True  # weigh the finest field by its own log-precision (Laplace likelihood) where it has one
    mask_unseen: bool = False  # leave out pixels whose infrared content lies outside the displaced crop


class OptimizerConfig(_Model):
    """Adam as in Section 4.2, or AdamW when weight_decay is above 0."""

    learning_rate: float = Field(default=1e-3, gt=0.0)
    alignment_learning_rate: float | None = Field(default=None, gt=0.0)  # None: the same as learning_rate
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0.0)
    clip_norm: float = Field(default=1.0, ge=0.0)  # largest gradient norm; 0: no clipping


class ScheduleConfig(_Model):
    """Learning rate over time, and when to stop: at the first of epochs, max_steps, max_minutes."""

    kind: Literal["step", "cosine", "constant"] = "step"
    epochs: int = Field(default=120, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    max_minutes: float | None = Field(default=None, gt=0.0)  # of this process; the run can be resumed afterwards
    decay_every_epochs: int = Field(default=40, ge=1)  # kind step
    decay_factor: float = Field(default=0.1, gt=0.0, le=1.0)  # kind step
    final_factor: float = Field(default=0.01, ge=0.0, le=1.0)  # kind cosine: last learning rate over first
    warmup_steps: int = Field(default=0, ge=0)


class ValidationConfig(_Model):
    """What is measured on the held-out pairs, and when."""

    every_steps: int = Field(default=1000, ge=0)  # 0: only at the end
    pairs: int = Field(default=24, ge=1)
    max_side_px: int = Field(default=640, ge=64)  # larger pictures are cut to their centre
    uniform_px: tuple[float, ...] = (0.0, 3.0, 5.0, 8.0)
    varying_px: tuple[float, ...] = (5.0,)
    patience: int | None = Field(default=None, ge=1)  # validations without a better one that end the run; None: never


class RunConfig(_Model):
    """Where the run is written and how it is executed."""

    folder: Path = Path("runs")
    name: str | None = None  # None: preset-stage-date
    seed: int = 0
    device: str = "auto"  # auto: cuda where there is one, else cpu
    threads: int = Field(default=0, ge=0)  # torch's CPU threads; 0: leave torch's default
    amp: Literal["off", "bfloat16", "float16"] = "off"
    channels_last: bool = False
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)  # 0: no EMA, the last weights are exported
    max_nonfinite_steps: int = Field(default=20, ge=1)  # non-finite steps in a row that stop the run
    log_every_steps: int = Field(default=20, ge=1)
    checkpoint_every_steps: int = Field(default=500, ge=1)
    checkpoint_every_minutes: float = Field(default=10.0, gt=0.0)
    keep_checkpoints: int = Field(default=3, ge=1)
    images_every_steps: int = Field(default=1000, ge=0)  # example pictures; 0: none
    tensorboard: bool = True


class TrainingConfig(_Model):
    """One training run."""

    preset: str = "tiny"
    network: dict[str, Any] = {}  # fields of RfvifConfig that depart from the preset
    stage: Literal["align", "fuse", "joint"] = "joint"  # align: alignment only; fuse: everything else; joint: all
    freeze_alignment: bool = True  # stage fuse: the alignment parameters stay as they are
    initial_weights: Path | None = None  # a checkpoint of the same network to start from
    vgg16: Path | None = None  # VGG16 features (.safetensors); None: torchvision's, which may download
    batch_size: int = Field(default=8, ge=1)  # of all processes together
    data: DataConfig
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    validation: ValidationConfig = ValidationConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.stage == "align" and self.loss.displacement == 0 and self.loss.lambda_align == 0:
            raise ValueError("stage align needs loss.displacement or loss.lambda_align above 0, both are 0")
        return self


def config_hash(config: TrainingConfig) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the configuration's canonical JSON."""
    return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


def load_training_config(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a YAML file under `key.path=value` overrides. Raises ConfigError with all faults, each with its place."""
    return load_model(TrainingConfig, path, overrides)
