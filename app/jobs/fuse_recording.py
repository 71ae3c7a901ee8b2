"""One of our recordings fused anew from its raw tracks: other weights, AGC, calibration or view, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from app.jobs.fuse_video import FuseProgress, FuseReport, StageTime
from app.media.writer import VideoFormat, VideoWriter
from app.pipeline.thermal_grid import ThermalGrid
from app.recording.reader import RecordingReader
from app.recording.sidecar import sidecar_path
from app.view.views import View, compose, needs_fused, view_size
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError, RecordingError
from fusion_core.thermal.agc import Agc, AgcConfig

__all__ = ["RecordingOptions", "fuse_recording", "is_recording"]

_RATE_SAMPLE = 50


class StopFlag(Protocol):
    """An event of threading or multiprocessing."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """How a recording is fused. calibration: a file, None for plain scaling. crf: H.264 quality, 0 lossless."""

    view: View = View.FUSED
    crf: int = 18
    limit: int | None = None
    agc: AgcConfig = field(default_factory=AgcConfig)
    calibration: Path | None = None
    encoder_threads: int = 1
    title: str = ""


def is_recording(path: Path) -> bool:
    """Whether the file is a recording of ours: a video with its sidecar beside it."""
    return path.is_file() and sidecar_path(path).is_file()


def fuse_recording(
    recording: Path,
    output: Path,
    make_engine: Callable[[], FusionEngine],
    options: RecordingOptions,
    progress: Callable[[FuseProgress], None] | None = None,
    stop: StopFlag | None = None,
) -> FuseReport:
    """Fuse every recorded pair that has a visible picture into `output`, at the pairs' own times.

    The pairing is that of the recording, nothing is paired anew. A pair that cannot be decoded is left out and
    counted in the report's notes; one without thermal shows the visible picture alone. `make_engine` is called once
    the first pair is read, and not at all for views that need no fusing.

    Raises:
        BadInputError: no pair with a visible picture can be read. RecordingError: the recording cannot be opened or
            the output not be written. EngineError.
    """
    writer: VideoWriter | None = None
    engine: FusionEngine | None = None
    times_ms: dict[str, list[float]] = {"decode": [], "fuse": [], "encode": []}
    damaged = without_thermal = done = 0
    first_gap_s: float | None = None
    interrupted = False
    with RecordingReader(recording) as reader:
        grid, agc = ThermalGrid(options.calibration), Agc(options.agc)
        start_ns: int | None = None
        thermal_ns: int | None = None
        last_ms = -1
        began_s = time.perf_counter()
        total = min(len(reader), options.limit or len(reader))
        try:
            for index in range(len(reader)):
                if done >= total:
                    break
                if stop is not None and stop.is_set():
                    interrupted = True
                    break
                if reader.line(index).visible is None or not reader.has_pair(index):
                    continue
                at = [time.perf_counter()]
                try:
                    pair = reader.pair(index)
                except RecordingError:
                    damaged += 1
                    continue
                if pair.visible is None:
                    continue
                visible = pair.visible.pixels
                height, width = visible.shape[:2]
                start_ns = pair.timestamp_ns if start_ns is None else start_ns
                levels: np.ndarray | None = None
                if pair.thermal is not None:
                    since_s = None if thermal_ns is None else (pair.thermal.timestamp_ns - thermal_ns) / 1e9
                    thermal_ns = pair.thermal.timestamp_ns
                    mapped = agc.apply(pair.thermal.pixels, since_s if since_s is None or since_s > 0 else None)
                    levels = grid.to_visible(mapped, height, width)
                else:
                    without_thermal += 1
                    first_gap_s = (pair.timestamp_ns - start_ns) / 1e9 if first_gap_s is None else first_gap_s
                at.append(time.perf_counter())
                fused = None
                if levels is not None and needs_fused(options.view):
                    if engine is None:
                        engine = make_engine()
                        engine.warm_up(height, width)
                        began_s += time.perf_counter() - at[-1]
                        at = [at[0] + time.perf_counter() - at[1], time.perf_counter()]
                    fused = engine.fuse(visible, grid.filled(levels, visible))
                at.append(time.perf_counter())
                ms = max(last_ms + 1, round((pair.timestamp_ns - start_ns) / 1e6))
                if writer is None:
                    shown_height, shown_width = view_size(options.view, height, width)
                    writer = VideoWriter(
                        output, shown_height, shown_width, Fraction(1, 1000), _rate(reader),
                        VideoFormat(crf=options.crf, threads=options.encoder_threads),
                        metadata={
                            "title": options.title or recording.stem, "engine": engine.name if engine else "",
                        },
                    )  # fmt: skip
                writer.write(compose(options.view, visible, levels, fused), ms, 0)
                last_ms = ms
                at.append(time.perf_counter())
                for name, begin, end in zip(times_ms, at, at[1:], strict=False):
                    times_ms[name].append((end - begin) * 1000)
                done += 1
                if progress is not None:
                    progress(FuseProgress(done, total, done / max(time.perf_counter() - began_s, 1e-9)))
        finally:
            if engine is not None:
                engine.close()
            if writer is not None:
                writer.close()
    if writer is None and not interrupted:
        raise BadInputError(
            f"{recording} holds no pair with a visible picture that can be read "
            f"({damaged} damaged); `lumitherm recording check` tells more"
        )
    whole = sum(map(sum, times_ms.values())) or 1.0
    return FuseReport(
        output=output,
        engine=engine.name if engine is not None else "none",
        frames=done,
        seconds=max(0.001, last_ms / 1000),
        wall_s=time.perf_counter() - began_s,
        stages={
            name: StageTime(float(np.median(t)), float(np.percentile(t, 95)), sum(t) / whole)
            for name, t in times_ms.items()
            if t
        },
        visible_only=without_thermal,
        first_gap_s=first_gap_s,
        interrupted=interrupted,
        left_out=damaged,
        damage=(f"{damaged} pairs of {recording} could not be decoded and were left out",) if damaged else (),
    )


def _rate(reader: RecordingReader) -> Fraction | None:
    count = min(len(reader) - 1, _RATE_SAMPLE)
    if count < 1:
        return None
    span_ns = reader.line(count).t_ns - reader.line(0).t_ns
    return Fraction(count * 1_000_000_000, span_ns) if span_ns > 0 else None
