"""One recording of an archive, fused anew. Runs in a process of its own; what it needs and gives can be pickled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from app.fuse_video import to_grid
from app.media.writer import VideoFormat, VideoWriter
from app.pipeline.thermal_grid import ThermalGrid
from app.recording.reader import RecordingReader
from app.views import View, compose, needs_fused, view_size
from fusion_core.agc import Agc, AgcConfig
from fusion_core.engine import FusionEngine, create_engine
from fusion_core.errors import LumithermError, RecordingError, RunError

__all__ = ["ItemResult", "ItemTask", "fuse_item"]

_RATE_SAMPLE = 50


class StopFlag(Protocol):
    """An event of threading or multiprocessing."""

    def is_set(self) -> bool: ...


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
    view: View
    crf: int
    threads: int | None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What came of it. state: done, failed or stopped. damaged: pairs that could not be read and were left out."""

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
        frames, damaged, without_thermal = _fuse(task, part, stop)
        if frames < 0:
            part.unlink(missing_ok=True)
            return ItemResult(task.name, task.key, "stopped")
        part.replace(task.output)
        return ItemResult(
            task.name, task.key, "done", str(task.output), frames, damaged, without_thermal,
            task.output.stat().st_size, round(time.perf_counter() - started, 3),
        )  # fmt: skip
    except (LumithermError, OSError, MemoryError) as error:
        part.unlink(missing_ok=True)
        text = str(error) or type(error).__name__
    except Exception as error:  # a fault of ours in one file must not take the archive down; it is told with the rest
        part.unlink(missing_ok=True)
        text = f"unexpected {type(error).__name__}: {error}"
    return ItemResult(
        task.name, task.key, "failed", wall_s=round(time.perf_counter() - started, 3), error=" ".join(text.split())
    )


def _fuse(task: ItemTask, part: Path, stop: StopFlag | None) -> tuple[int, int, int]:
    """(frames written, damaged pairs, pairs without thermal); frames -1 when stopped."""
    writer: VideoWriter | None = None
    engine: FusionEngine | None = None
    damaged = without_thermal = 0
    with RecordingReader(task.recording) as reader:
        grid = ThermalGrid(task.calibration)
        agc = Agc(_agc_of(task))
        start_ns: int | None = None
        thermal_ns: int | None = None
        last_ms = -1
        try:
            for index in range(len(reader)):
                if stop is not None and stop.is_set():
                    return -1, damaged, without_thermal
                if reader.line(index).visible is None or not reader.has_pair(index):
                    continue
                try:
                    pair = reader.pair(index)
                except RecordingError:
                    damaged += 1
                    continue
                if pair.visible is None:
                    continue
                visible = pair.visible.pixels
                height, width = visible.shape[:2]
                levels = None
                if pair.thermal is not None:
                    since_s = None if thermal_ns is None else (pair.thermal.timestamp_ns - thermal_ns) / 1e9
                    thermal_ns = pair.thermal.timestamp_ns
                    mapped = agc.apply(pair.thermal.pixels, since_s if since_s is None or since_s > 0 else None)
                    on_grid = task.calibration is not None
                    levels = grid.to_visible(mapped, height, width) if on_grid else to_grid(mapped, height, width)
                else:
                    without_thermal += 1
                fused = None
                if levels is not None and needs_fused(task.view):
                    if engine is None:
                        engine = create_engine(task.engine, task.preset, task.weights, task.threads)
                        engine.warm_up(height, width)
                    fused = engine.fuse(visible, levels)
                start_ns = pair.timestamp_ns if start_ns is None else start_ns
                ms = max(last_ms + 1, round((pair.timestamp_ns - start_ns) / 1e6))
                if writer is None:
                    shown_height, shown_width = view_size(task.view, height, width)
                    writer = VideoWriter(
                        part, shown_height, shown_width, Fraction(1, 1000), _rate(reader),
                        VideoFormat(crf=task.crf, threads=task.threads or 1),
                        metadata={"title": task.name, "engine": engine.name if engine is not None else ""},
                    )  # fmt: skip
                writer.write(compose(task.view, visible, levels, fused), ms, 0)
                last_ms = ms
        finally:
            if engine is not None:
                engine.close()
            if writer is not None:
                writer.close()
    if writer is None:
        raise RunError(
            f"{task.recording} holds no pair with a visible picture that can be read "
            f"({damaged} damaged); `lumitherm recording check` tells more"
        )
    return writer.frames_written, damaged, without_thermal


def _agc_of(task: ItemTask) -> AgcConfig:
    """The AGC that the weights were trained with, else the standard one."""
    if task.engine not in ("auto", "openvino", "torch"):
        return AgcConfig()
    from fusion_core.checkpoint import load_checkpoint, resolve_weights

    facts: dict[str, Any] = load_checkpoint(resolve_weights(task.weights or task.preset)).facts
    contract = facts.get("agc")
    if not isinstance(contract, dict):
        return AgcConfig()
    return AgcConfig.model_validate({key: value for key, value in contract.items() if key != "version"})


def _rate(reader: RecordingReader) -> Fraction | None:
    count = min(len(reader) - 1, _RATE_SAMPLE)
    if count < 1:
        return None
    span_ns = reader.line(count).t_ns - reader.line(0).t_ns
    return Fraction(count * 1_000_000_000, span_ns) if span_ns > 0 else None
