"""The one configuration of the application: a frozen model over a YAML file. Each section lives beside its owner.

Relative paths are relative to the working directory. `lumitherm config check|show|schema` read through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.capture.cameras.uri import parse_camera_uri
from app.capture.config import CameraConfig, FfcConfig
from app.capture.sync_config import SyncConfig
from app.configuration.detect import DetectConfig
from app.configuration.service import ServiceConfig
from app.recording.config import RecordingConfig
from app.view.views import FileView
from fusion_core.colour import STRENGTH_MAX
from fusion_core.engines.engine import AT_ONCE, NETWORK_ENGINES
from fusion_core.simulation.rig import SimulatedRigConfig
from fusion_core.thermal.agc import AgcConfig, Polarity
from fusion_core.yaml_config import load_model

__all__ = [
    "AppConfig",
    "BudgetConfig",
    "CalibrationConfig",
    "EngineConfig",
    "EngineName",
    "FallbackEngine",
    "LogFormat",
    "LogLevel",
    "LoggingConfig",
    "OutputConfig",
    "Preset",
    "SelfAlign",
    "load_config",
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class EngineName(StrEnum):
    """What runs the fusion."""

    AUTO = "auto"  # the fastest that starts here: tensorrt, openvino, torch, then the fallback
    OPENVINO = "openvino"
    TORCH = "torch"
    TENSORRT = "tensorrt"
    ALIGNED_PYRAMID = "aligned-pyramid"  # the network's displacement estimate, then a pyramid: for small computers
    PYRAMID = "pyramid"  # Laplacian pyramid of the pictures as they lie, no network
    AVERAGE = "average"  # mean of the two luminances, no network
    NCC_PYRAMID = "ncc-pyramid"  # pyramid after undoing the measured shift of the whole picture
    EDGES = "edges"  # thermal outlines on the visible picture, no network


class Preset(StrEnum):
    """Size of the network."""

    AUTO = "auto"  # live: the largest that keeps the cameras' rate; for files, and with weights of your own: tiny
    TINY = "tiny"
    SMALL = "small"
    BASE = "base"

    @property
    def fixed(self) -> str:
        """The preset where nothing is measured."""
        return Preset.TINY.value if self is Preset.AUTO else self.value


class FallbackEngine(StrEnum):
    """Engines that stand in; without the estimate of aligned-pyramid the whole picture's shift is measured."""

    ALIGNED_PYRAMID = "aligned-pyramid"
    PYRAMID = "pyramid"
    AVERAGE = "average"
    NCC_PYRAMID = "ncc-pyramid"
    EDGES = "edges"


NEURAL_ENGINES = tuple(name for name in EngineName if name in NETWORK_ENGINES)


class EngineConfig(_Section):
    """Which engine fuses, with which weights."""

    name: EngineName = Field(
        default=EngineName.AUTO,
        description="auto takes the fastest engine that starts; a named engine that fails gives way to the fallback",
    )
    preset: Preset = Field(
        default=Preset.AUTO,
        description="network size; auto: the largest that keeps the cameras' rate here, measured before and while it "
        "fuses, and aligned-pyramid while none does; tiny suits CPUs, small and base GPUs",
    )
    weights: Path | None = Field(
        default=None,
        description="safetensors file to use in place of the shipped weights of the preset; null = shipped",
    )
    threads: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None,
        description="CPU threads of the engine; null = all cores but one (of two, both): capture and recording need it",
    )
    align_every: int = Field(
        default=5,
        ge=1,
        le=300,
        description="pictures between two displacement estimates on a CPU: 5 suits a fixed rig and saves time, "
        "1 follows a rig that is swept about",
    )
    align_smoothing: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="weight of a new displacement estimate against the running one; 1 = not smoothed (more flicker)",
    )
    kernels_every: int = Field(
        default=1,
        ge=1,
        le=300,
        description="pictures between two computations of the network's dynamic kernels on a CPU; "
        "above 1 saves a little time and costs memory (docs/evidence/engines.md)",
    )
    kernels_smoothing: float = Field(
        default=0.5, gt=0, le=1, description="weight of new dynamic kernels against the running ones; 1 = not smoothed"
    )
    strength: float = Field(
        default=1.0,
        ge=0,
        le=STRENGTH_MAX,
        description="how far the picture goes from the visible one (0) to the fused one (1) and beyond (heat first)",
    )
    fallback: FallbackEngine = Field(
        default=FallbackEngine.ALIGNED_PYRAMID,
        description="runs while the engine is being built, and in its place if it cannot start; the reason is shown. "
        "pyramid and average show double outlines wherever the calibration is off",
    )

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights is not None and self.name in AT_ONCE:
            raise ValueError(f"weights are set, but the engine {self.name} has none; wanted weights: null or a network")
        return self


class SelfAlign(StrEnum):
    """What happens with a measured shift that the calibration does not explain."""

    OFF = "off"
    PROPOSE = "propose"  # show it, leave the picture alone
    APPLY = "apply"  # move the thermal picture by it


class CalibrationConfig(_Section):
    """Geometry of the rig."""

    file: Path | None = Field(
        default=None,
        description="calibration made by `lumitherm calibrate`; null = scale thermal onto visible, nothing else",
    )
    self_align: SelfAlign = Field(
        default=SelfAlign.PROPOSE,
        description="off, propose (show the measured residual shift and write a calibration that would mend it) or "
        "apply (correct thermal by it, slowly, where the scene leaves no doubt)",
    )
    proposal_file: Path | None = Field(
        default=None,
        description="where a proposed calibration is written; null = NAME.proposed.yaml beside the calibration file, "
        "or RIG.proposed.yaml in recording.directory where there is none",
    )


class BudgetConfig(_Section):
    """What the alignment budget is reckoned from: parallax f B |1/Z - 1/Z0|, skew and residual shift, in px."""

    baseline_m: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None, description="m between the two lenses; null = from the calibration"
    )
    focal_px: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="px, focal length of the visible camera; null = from the calibration"
    )
    reference_distance_m: float = Field(
        default=5.0, gt=0, le=100_000, description="m, Z0: the distance at which the two pictures are aligned exactly"
    )
    near_limit_m: float = Field(default=2.5, gt=0, le=100_000, description="m, nearest object that matters")
    limit_px: float = Field(default=8.0, gt=0, le=100, description="px, the misalignment that the network tolerates")


class OutputConfig(_Section):
    """What is composed for the screen."""

    view: FileView = Field(default=FileView.FUSED, description="fused, visible, thermal, side-by-side or quad")
    palette: str = Field(
        default="white_hot",
        description="colours of the thermal view, for display only; see fusion_core.thermal.palettes",
    )


class LogLevel(StrEnum):
    """Least severe message that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How messages are written."""

    AUTO = "auto"  # console on a terminal, json otherwise
    CONSOLE = "console"
    JSON = "json"


class LoggingConfig(_Section):
    """Messages and statistics."""

    level: LogLevel = Field(default=LogLevel.INFO, description="debug, info, warning or error")
    format: LogFormat = Field(
        default=LogFormat.AUTO, description="auto = console on a terminal, one JSON object a line otherwise"
    )
    file: Path | None = Field(default=None, description="also write JSON lines here; null = no file")
    stats_interval_s: float = Field(
        default=5.0, ge=0.5, le=3600, description="s between two lines of statistics without a terminal"
    )
    repeat_interval_s: float = Field(
        default=10.0, ge=0, le=3600, description="s in which the same message is written at most `repeat_limit` times"
    )
    repeat_limit: int = Field(
        default=5, ge=1, le=1000, description="messages; the rest is counted and told with the next one"
    )


class AppConfig(_Section):
    """Everything a user may set."""

    rig: str = Field(
        min_length=1, max_length=64, description="name of this pair of cameras, e.g. rig: roof; shown and recorded"
    )
    visible: CameraConfig = Field(description="the visible camera, at least its uri")
    thermal: CameraConfig = Field(description="the thermal camera, at least its uri")
    sync: SyncConfig = Field(default_factory=SyncConfig, description="how frames become pairs")
    ffc: FfcConfig = Field(default_factory=FfcConfig, description="how a shutter freeze is noticed")
    agc: AgcConfig = Field(default_factory=AgcConfig, description="16-bit counts to 8 bit")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="what fuses")
    calibration: CalibrationConfig = Field(default_factory=CalibrationConfig, description="geometry of the rig")
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="the alignment budget")
    recording: RecordingConfig = Field(
        default_factory=lambda: RecordingConfig.model_validate({}), description="what is kept"
    )
    simulation: SimulatedRigConfig = Field(
        default_factory=lambda: SimulatedRigConfig.model_validate({}),
        description="the rig behind sim:visible, sim:thermal",
    )
    detect: DetectConfig | Path | None = Field(
        default=None, description="a detector of yours that draws boxes; null = none. `detect: model.onnx` will do"
    )
    output: OutputConfig = Field(default_factory=OutputConfig, description="what is shown")
    logging: LoggingConfig = Field(default_factory=LoggingConfig, description="messages and statistics")
    service: ServiceConfig = Field(
        default_factory=lambda: ServiceConfig.model_validate({}), description="the unattended rig: web, push, triggers"
    )

    @property
    def detector(self) -> DetectConfig | None:
        """The detector with all of its settings, also where the file names a model alone."""
        return DetectConfig(model=self.detect) if isinstance(self.detect, Path) else self.detect

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        visible, thermal = parse_camera_uri(self.visible.uri), parse_camera_uri(self.thermal.uri)
        for name, uri, wanted in (("visible", visible, "visible"), ("thermal", thermal, "thermal")):
            if uri.kind == "sim" and uri.target != wanted:
                raise ValueError(f"{name}.uri is sim:{uri.target}, wanted sim:{wanted}; are the two cameras swapped?")
        if visible.source == thermal.source and visible.half == thermal.half:
            raise ValueError(
                f"visible.uri and thermal.uri name the same picture, {self.visible.shown_uri}; wanted two cameras, or "
                "the two halves of one (#half=left and #half=right)"
            )
        if self.agc.polarity is not Polarity.WHITE_HOT:
            raise ValueError(
                "agc.polarity is black_hot, but engines expect white_hot; set output.palette to black_hot to see it so"
            )
        if self.agc.mode == "manual" and self.agc.apply_to_8bit and (self.agc.manual_low or 0) > 255:
            raise ValueError("agc.manual_low is above 255 with agc.apply_to_8bit: every 8-bit picture would be black")
        return self


def load_config(path: Path | str, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> AppConfig:
    """Read a configuration file, then LUMITHERM__SECTION__KEY from `env`, then `section.key=value` from `overrides`.

    Args:
        env: usually os.environ; None = no variables.

    Raises:
        ConfigError: one line for each fault, with file, line, key, what was found and what is wanted.
    """
    return load_model(AppConfig, path, overrides, env)
