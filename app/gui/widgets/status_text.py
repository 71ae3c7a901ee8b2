"""Says the statistics in words and levels, for head-up display and status bar; without a window they read alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from PyQt6.QtCore import QCoreApplication

from app.gui.common.theme import Level
from app.pipeline.state.stats import (
    BudgetLevel,
    BudgetReading,
    Distribution,
    Latency,
    RecordingState,
    Stage,
    StatsSnapshot,
)
from fusion_core.frames import FrameFlag, FusedFrame

__all__ = [
    "CAMERA_WELL",
    "DISK_BAD_S",
    "Chip",
    "ChipKind",
    "ChipShape",
    "Figure",
    "budget_level",
    "clock",
    "frame_chips",
    "hud_figures",
    "keeps_up",
    "preparing_chip",
    "rig_chips",
    "status_figures",
]

_LATENCY_GOOD_MS, _LATENCY_BAD_MS = 60.0, 150.0  # the share of the software: grab to screen, 95 %
_SKEW_CAUTION_MS = 25.0  # things that move by 300 px/s are then 8 px beside themselves
_KEPT_UP_SHARE = 0.75
_DISK_CAUTION_S, DISK_BAD_S = 1800.0, 600.0
CAMERA_WELL = ("streaming", "opening", "closed")  # a source that ended gives no pictures: it is a lost camera


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: what, how much, how well; `hint` explains it."""

    key: str
    label: str
    value: str
    level: Level = Level.NEUTRAL
    hint: str = ""


class ChipKind(StrEnum):
    """What the colour of a chip says. Red is for recording alone."""

    RECORDING = "recording"
    TROUBLE = "trouble"


class ChipShape(StrEnum):
    """The sign of a chip, for those who do not see its colour."""

    DOT = "dot"
    BARS = "bars"
    TRIANGLE = "triangle"
    CROSS = "cross"
    RING = "ring"
    SQUARE = "square"


@dataclass(frozen=True, slots=True)
class Chip:
    """A state that is written large on the picture, whatever else is shown."""

    text: str
    shape: ChipShape
    kind: ChipKind = ChipKind.TROUBLE


translate = QCoreApplication.translate


def frame_chips(frame: FusedFrame) -> list[Chip]:
    """Say which camera alone gave this picture; nothing where both did."""
    if frame.pair.flags & FrameFlag.THERMAL_ONLY:
        return [Chip(translate("Status", "THERMAL ONLY"), ChipShape.TRIANGLE)]
    if frame.pair.flags & FrameFlag.VISIBLE_ONLY:
        return [Chip(translate("Status", "VISIBLE ONLY"), ChipShape.TRIANGLE)]
    return []


def rig_chips(
    snapshot: StatsSnapshot,
    frozen: bool = False,
    building_s: float | None = None,
    progress: float | None = None,
) -> list[Chip]:
    """Say what an operator must know of the rig: recording first, then each trouble.

    Args:
        frozen: the picture is held.
        building_s: for how long the network has been building; None while none is. progress: how far that is, 0..1.
    """
    chips = []
    state, left_s = snapshot.recording, snapshot.disk_s_left
    dark = bool(snapshot.cameras) and all(camera not in CAMERA_WELL for camera in snapshot.cameras.values())
    if state is RecordingState.RECORDING and dark:
        chips.append(Chip(translate("Status", "NOT RECORDING: no pictures"), ChipShape.SQUARE))
    elif state is RecordingState.RECORDING:
        text = translate("Status", "REC {0}").format(clock(snapshot.recorded_s or 0.0))
        chips.append(Chip(text, ChipShape.DOT, ChipKind.RECORDING))
    elif state is RecordingState.PAUSED:
        chips.append(Chip(translate("Status", "DISK FULL, NOT RECORDING"), ChipShape.SQUARE))
    elif state is RecordingState.FAILED:
        chips.append(Chip(translate("Status", "RECORDING FAILED"), ChipShape.SQUARE))
    if left_s is not None and left_s < DISK_BAD_S and state is not RecordingState.PAUSED:
        chips.append(Chip(translate("Status", "DISK {0} LEFT").format(clock(left_s)), ChipShape.SQUARE))
    if frozen:
        chips.append(Chip(translate("Status", "FROZEN"), ChipShape.BARS))
    if dark:
        chips.append(Chip(translate("Status", "NO CAMERA"), ChipShape.CROSS))
    if snapshot.fallback_reason and building_s is not None:
        chips.append(preparing_chip(building_s, progress))
    elif snapshot.fallback_reason:
        chips.append(Chip(translate("Status", "FALLBACK: the network does not run"), ChipShape.RING))
    return chips


def preparing_chip(building_s: float, progress: float | None = None) -> Chip:
    """Say that the network is being prepared, and how far that is, 0..1, or for how long it has been going on."""
    if progress is not None:
        text = translate("Status", "FALLBACK: preparing the network, {0} %").format(round(100 * progress))
    else:
        text = translate("Status", "FALLBACK: preparing the network, {0} s").format(int(building_s))
    return Chip(text, ChipShape.RING)


def clock(seconds: float) -> str:
    """h:mm:ss, or days and hours from 100 hours on."""
    whole = max(0, int(seconds))
    if whole >= 360_000:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def budget_level(reading: BudgetReading | None) -> Level:
    """The light of the alignment budget."""
    if reading is None:
        return Level.NEUTRAL
    return {
        BudgetLevel.GREEN: Level.GOOD,
        BudgetLevel.AMBER: Level.CAUTION,
        BudgetLevel.RED: Level.BAD,
        BudgetLevel.UNKNOWN: Level.NEUTRAL,
    }[reading.level]


def status_figures(snapshot: StatsSnapshot) -> list[Figure]:
    """The figures of the status bar, most important first."""
    return [*_speed(snapshot), _engine(snapshot), *_troubles(snapshot), *_recording(snapshot)]


def _speed(snapshot: StatsSnapshot) -> list[Figure]:
    fps = snapshot.fps
    latency = _latency(snapshot)
    drops = ", ".join(f"{cause} {count}" for cause, count in snapshot.drops.items() if count)
    return [
        Figure(
            "fps",
            translate("Status", "Rate"),
            f"{fps[Stage.FUSED]:.1f} / {fps[Stage.SHOWN]:.1f} " + translate("Status", "fps"),
            level=_rate_level(snapshot),
            hint=translate("Status", "fused and shown pictures a second; all stages: ")
            + ", ".join(f"{stage} {rate:.1f}" for stage, rate in fps.items()),
        ),
        Figure(
            "latency",
            translate("Status", "Latency"),
            _pair(latency),
            _latency_level(latency),
            translate("Status", "grab to screen, 50 % and 95 %"),
        ),
        Figure(
            "skew",
            translate("Status", "Skew"),
            _pair(snapshot.skew_ms),
            _skew_level(snapshot.skew_ms),
            translate("Status", "time between the two pictures of a pair"),
        ),
        Figure(
            "drops",
            translate("Status", "Drops"),
            str(snapshot.total_drops),
            hint=translate("Status", "frames lost, by cause: ") + (drops or translate("Status", "none")),
        ),
    ]


def _engine(snapshot: StatsSnapshot) -> Figure:
    return Figure(
        "engine",
        translate("Status", "Engine"),
        snapshot.engine,
        Level.CAUTION if snapshot.fallback_reason else Level.NEUTRAL,
        snapshot.fallback_reason or translate("Status", "what fuses the pictures"),
    )


def _troubles(snapshot: StatsSnapshot) -> list[Figure]:
    figures = []
    lost = [f"{stream} {state}" for stream, state in snapshot.cameras.items() if state not in CAMERA_WELL]
    if lost:
        figures.append(
            Figure(
                "cameras",
                translate("Status", "Cameras"),
                ", ".join(lost),
                Level.BAD,
                translate("Status", "being reopened, for ever"),
            )
        )
    if snapshot.ffc_active:
        figures.append(
            Figure(
                "ffc",
                translate("Status", "Shutter"),
                translate("Status", "closed"),
                Level.CAUTION,
                translate("Status", "thermal flat-field correction"),
            )
        )
    return figures


def hud_figures(snapshot: StatsSnapshot, frozen: bool = False) -> list[Figure]:
    """The lines of the head-up display."""
    fps = snapshot.fps
    latency = _latency(snapshot)
    lines = [
        Figure(
            "fps",
            translate("Status", "fps"),
            f"{fps[Stage.FUSED]:.1f}  (V {fps[Stage.VISIBLE]:.0f}  T {fps[Stage.THERMAL]:.0f})",
            _rate_level(snapshot),
        ),
        Figure("latency", translate("Status", "latency"), _pair(latency), _latency_level(latency)),
        Figure("skew", translate("Status", "skew"), _pair(snapshot.skew_ms), _skew_level(snapshot.skew_ms)),
        Figure("drops", translate("Status", "drops"), str(snapshot.total_drops)),
    ]
    budget = snapshot.budget
    if budget is not None:
        lines.append(
            Figure(
                "budget",
                translate("Status", "align"),
                f"{budget.total_px:.1f} / {budget.limit_px:g} px",
                budget_level(budget),
            )
        )
    caution = Level.CAUTION if snapshot.fallback_reason else Level.NEUTRAL
    lines.append(Figure("engine", translate("Status", "engine"), snapshot.engine, caution))
    if snapshot.ffc_active:
        lines.append(Figure("ffc", translate("Status", "shutter"), translate("Status", "closed"), Level.CAUTION))
    lost = [(stream, state) for stream, state in snapshot.cameras.items() if state not in CAMERA_WELL]
    lines.extend(Figure("camera", stream, state, Level.BAD) for stream, state in lost)
    lines.extend(_recording(snapshot))
    if frozen:
        lines.append(Figure("frozen", translate("Status", "picture"), translate("Status", "FROZEN"), Level.CAUTION))
    return lines


def _recording(snapshot: StatsSnapshot) -> list[Figure]:
    figures = []
    state = snapshot.recording
    if state is RecordingState.RECORDING:
        figures.append(
            Figure(
                "recording",
                translate("Status", "rec"),
                clock(snapshot.recorded_s or 0.0),
                Level.RECORDING,
                _name(snapshot),
            )
        )
    elif state is RecordingState.BUFFERING:
        figures.append(
            Figure(
                "recording",
                translate("Status", "rec"),
                translate("Status", "armed"),
                hint=translate("Status", "keeps the seconds before an event"),
            )
        )
    elif state is RecordingState.PAUSED:
        figures.append(
            Figure(
                "recording",
                translate("Status", "rec"),
                translate("Status", "no disk space"),
                Level.BAD,
                _name(snapshot),
            )
        )
    elif state is RecordingState.FAILED:
        figures.append(
            Figure("recording", translate("Status", "rec"), translate("Status", "failed"), Level.BAD, _name(snapshot))
        )
    left = snapshot.disk_s_left
    if left is not None:
        level = Level.BAD if left < DISK_BAD_S else Level.CAUTION if left < _DISK_CAUTION_S else Level.NEUTRAL
        figures.append(
            Figure(
                "disk",
                translate("Status", "disk"),
                clock(left),
                level,
                translate("Status", "recording time for which there is space"),
            )
        )
    return figures


def _name(snapshot: StatsSnapshot) -> str:
    return snapshot.recording_file or ""


def _latency(snapshot: StatsSnapshot) -> Distribution:
    shown = snapshot.latency_ms[Latency.SHOWN]
    return shown if shown.count else snapshot.latency_ms[Latency.FUSED]


def keeps_up(snapshot: StatsSnapshot) -> bool:
    """Whether most of the slower camera's pictures are fused; True where a camera gives none."""
    fps = snapshot.fps
    slower = min(fps[Stage.VISIBLE], fps[Stage.THERMAL])
    return slower <= 1.0 or fps[Stage.FUSED] >= _KEPT_UP_SHARE * slower


def _rate_level(snapshot: StatsSnapshot) -> Level:
    return Level.NEUTRAL if keeps_up(snapshot) else Level.CAUTION


def _skew_level(figures: Distribution) -> Level:
    return Level.CAUTION if figures.p95 is not None and figures.p95 > _SKEW_CAUTION_MS else Level.NEUTRAL


def _latency_level(figures: Distribution) -> Level:
    if figures.p95 is None:
        return Level.NEUTRAL
    if figures.p95 > _LATENCY_BAD_MS:
        return Level.BAD
    return Level.CAUTION if figures.p95 > _LATENCY_GOOD_MS else Level.NEUTRAL


def _pair(figures: Distribution) -> str:
    if figures.p50 is None or figures.p95 is None:
        return "–"
    return f"{figures.p50:.0f} / {figures.p95:.0f} ms"
