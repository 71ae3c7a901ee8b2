"""Fuses one recording of an archive anew, in a separate process: what it needs and gives can be pickled."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs.fuse_loop import StopFlag, fuse_pairs
from app.jobs.report import FuseReport
from app.jobs.request import FuseOptions
from app.jobs.sinks import VideoSink
from app.jobs.sources import RecordingPairs
from app.view.views import FileView
from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import LumithermError
from fusion_core.files import put_in_place
from fusion_core.thermal.agc import AgcConfig

__all__ = ["ItemResult", "ItemTask", "fuse_item"]


@dataclass(frozen=True, slots=True)
class ItemTask:
    """What to do: one recording into one video. key: hash of everything that the result depends on."""

    name: str
    recording: Path
    output: Path
    key: str
    engine: str
    preset: str
    weights: Path | None
    calibration: Path | None
    view: FileView
    crf: int
    threads: int | None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of a task. state: done, failed or stopped. damaged: pairs that were left out as unreadable."""

    name: str
    key: str
    state: str
    output: str = ""
    frames: int = 0
    damaged: int = 0
    without_thermal: int = 0
    bytes: int = 0
    wall_s: float = 0.0
    error: str = ""


def fuse_item(task: ItemTask, stop: StopFlag | None = None) -> ItemResult:
    """Fuse one recording. Nothing is raised: a failure is a result too, so that the others go on.

    The output appears complete or not at all.
    """
    started = time.perf_counter()
    part = task.output.with_name(f".{task.output.stem}.part{task.output.suffix}")
    try:
        report = _fuse(task, part, stop)
        if report.interrupted:
            part.unlink(missing_ok=True)
            return ItemResult(task.name, task.key, "stopped")
        put_in_place(part, task.output)
        return ItemResult(
            task.name, task.key, "done", str(task.output), report.frames, report.left_out, report.visible_only,
            task.output.stat().st_size, round(time.perf_counter() - started, 3),
        )  # fmt: skip
    except (LumithermError, OSError, MemoryError) as error:
        part.unlink(missing_ok=True)
        text = str(error) or type(error).__name__
    except Exception as error:  # one file's fault must not take the archive down; it is told with the rest
        part.unlink(missing_ok=True)
        text = f"unexpected {type(error).__name__}: {error}"
    text = text.replace(str(part), str(task.output))
    return ItemResult(
        task.name, task.key, "failed", wall_s=round(time.perf_counter() - started, 3), error=" ".join(text.split())
    )


def _fuse(task: ItemTask, part: Path, stop: StopFlag | None) -> FuseReport:
    def make_engine() -> FusionEngine:
        return create_engine(task.engine, task.preset, task.weights, task.threads, video=VideoOptions())

    options = FuseOptions(view=task.view, agc=_agc_of(task), calibration=task.calibration)
    with closing(RecordingPairs(task.recording, task.name)) as source:
        sink = VideoSink(part, source.timing, source.metadata, task.crf, task.threads or 1, kept=False)
        return fuse_pairs(source, sink, make_engine, options, stop=stop)


def _agc_of(task: ItemTask) -> AgcConfig:
    """The AGC that the weights were trained with, else the standard one."""
    if task.engine not in ("auto", "openvino", "torch"):
        return AgcConfig()
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.model_store import resolve_weights

    facts: dict[str, Any] = load_checkpoint(resolve_weights(task.weights or task.preset)).facts
    contract = facts.get("agc")
    if not isinstance(contract, dict):
        return AgcConfig()
    return AgcConfig.model_validate({key: value for key, value in contract.items() if key != "version"})
