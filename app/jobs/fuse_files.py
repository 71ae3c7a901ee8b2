"""The fuse job: a picture pair, two folders, sequences or videos, or one recording of ours into one fused result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from app.jobs.fuse_recording import RecordingOptions, fuse_recording, is_recording
from app.jobs.fuse_video import (
    FuseProgress,
    FuseReport,
    Observer,
    StageTime,
    VideoOptions,
    calibrated_grid,
    check_overlap,
    fuse_videos,
)
from app.media.pictures import (
    PICTURE_SUFFIXES,
    is_picture,
    match_folders,
    read_thermal_picture,
    read_visible_picture,
    write_picture,
)
from app.media.reader import is_sequence, open_reader
from app.media.writer import VIDEO_SUFFIXES
from app.pipeline.thermal_grid import ThermalGrid
from app.view.views import compose, needs_fused
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError, LumithermError, UsageError
from fusion_core.frames import Stream
from fusion_core.thermal.agc import Agc

__all__ = ["FuseRequest", "InputKind", "fuse_files", "kind_of"]


class InputKind(StrEnum):
    """What an input path is."""

    PICTURE = "picture"
    FOLDER = "folder"
    VIDEO = "video"  # also a numbered sequence of pictures


@dataclass(frozen=True, slots=True)
class FuseRequest:
    """What to fuse, where to, and how. `overwrite` allows replacing what is at `output`.

    thermal: None when `visible` is a recording of ours, which holds both.
    """

    visible: Path
    thermal: Path | None
    output: Path
    options: VideoOptions = field(default_factory=VideoOptions)
    overwrite: bool = False
    allow_unmatched: bool = False
    sequence_fps: float = 25.0
    decoder_threads: int = 1


def kind_of(path: Path) -> InputKind:
    """Tell what an input is by its name and by what lies there.

    Raises:
        BadInputError: nothing is there.
    """
    if is_sequence(path) and not path.exists():
        return InputKind.VIDEO
    if path.is_dir():
        return InputKind.FOLDER
    if not path.exists():
        raise BadInputError(f"{path} does not exist. Check the name.")
    return InputKind.PICTURE if is_picture(path) else InputKind.VIDEO


def fuse_files(
    request: FuseRequest,
    make_engine: Callable[[], FusionEngine],
    progress: Callable[[FuseProgress], None] | None = None,
    stop: threading.Event | None = None,
    observe: Observer | None = None,
) -> FuseReport:
    """Carry out one job. `make_engine` is called once the inputs and the output are known to be sound.

    `progress` and, for videos, `observe` are called after each frame, on the calling thread; `stop` ends the job early.

    Raises:
        UsageError: inputs of different kinds, output missing its folder, in the way, or one of the inputs.
        BadInputError: an input cannot be used. RecordingError: the output cannot be written. EngineError.
    """
    if request.thermal is None:
        return _fuse_recording(request, make_engine, progress, stop)
    kinds = kind_of(request.visible), kind_of(request.thermal)
    if kinds[0] is not kinds[1]:
        raise UsageError(
            f"{request.visible} is a {kinds[0]} and {request.thermal} is a {kinds[1]}; give two of the same kind "
            "(frames/%05d.png names a folder of numbered pictures as a video)."
        )
    output = _resolve_output(request, kinds[0])
    stop = stop or threading.Event()
    if kinds[0] is InputKind.VIDEO:
        return _fuse_videos(request, output, make_engine, progress, stop, observe)
    if kinds[0] is InputKind.PICTURE:
        jobs, unmatched = [(output, request.visible, request.thermal)], 0
    else:
        matched, unmatched = match_folders(request.visible, request.thermal, request.allow_unmatched)
        jobs = [(output / f"{stem}.png", visible, thermal) for stem, visible, thermal in matched]
        jobs = jobs[: request.options.limit]
        present = [path.name for path, _, _ in jobs if path.exists()]
        if present and not request.overwrite:
            raise UsageError(
                f"{output} already holds {len(present)} of the pictures to write (first {present[0]}). "
                "Give another folder, or --force to replace them."
            )
        output.mkdir(exist_ok=True)
    return _fuse_pictures(request, output, jobs, unmatched, make_engine, progress, stop)


def _resolve_output(request: FuseRequest, kind: InputKind) -> Path:
    output = request.output
    if kind is not InputKind.FOLDER:
        suffix, wanted = (
            (".png", PICTURE_SUFFIXES) if kind is InputKind.PICTURE else (".mkv", frozenset(VIDEO_SUFFIXES))
        )
        if output.is_dir():
            name = request.visible.stem.replace("%", "")
            output = output / f"{name}_fused{suffix}"
        elif not output.suffix:
            output = output.with_name(output.name + suffix)
        if output.suffix.lower() not in wanted:
            raise UsageError(f"{output}: a fused {kind} is written as {suffix}, got {output.suffix!r}.")
    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} for the output does not exist. Create it first.")
    for source in (request.visible, request.thermal):
        if source is not None and source.exists() and output.exists() and output.samefile(source):
            raise UsageError(f"{output} is also an input; it would be overwritten. Give another output.")
    if kind is InputKind.FOLDER:
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file; two folders are fused into a folder.")
    elif output.exists() and not request.overwrite:
        raise UsageError(f"{output} already exists. Give another name, or --force to replace it.")
    return output


def _fuse_recording(
    request: FuseRequest,
    make_engine: Callable[[], FusionEngine],
    progress: Callable[[FuseProgress], None] | None,
    stop: threading.Event | None,
) -> FuseReport:
    if kind_of(request.visible) is not InputKind.VIDEO or not is_recording(request.visible):
        raise UsageError(
            f"{request.visible} is no recording of Lumitherm (a .mkv with its .jsonl beside it), so the thermal "
            "picture, folder or video must be given too: lumitherm fuse VISIBLE THERMAL -o OUT."
        )
    options = request.options
    return fuse_recording(
        request.visible,
        _resolve_output(request, InputKind.VIDEO),
        make_engine,
        RecordingOptions(
            view=options.view,
            crf=options.crf,
            limit=options.limit,
            agc=options.agc,
            calibration=options.calibration,
            encoder_threads=options.encoder_threads or 1,
        ),
        progress,
        stop,
    )


def _fuse_videos(
    request: FuseRequest,
    output: Path,
    make_engine: Callable[[], FusionEngine],
    progress: Callable[[FuseProgress], None] | None,
    stop: threading.Event,
    observe: Observer | None,
) -> FuseReport:
    assert request.thermal is not None  # told apart by the caller; for the type checker
    visible = open_reader(request.visible, Stream.VISIBLE, request.sequence_fps, request.decoder_threads)
    try:
        thermal = open_reader(request.thermal, Stream.THERMAL, request.sequence_fps, request.decoder_threads)
        try:
            check_overlap(visible, thermal, request.options)
            calibrated_grid(
                request.options.calibration, visible.height, visible.width
            )  # refused before the engine loads
            engine = make_engine()
            try:
                return fuse_videos(visible, thermal, output, engine, request.options, progress, stop, observe)
            finally:
                engine.close()
        finally:
            thermal.close()
    finally:
        visible.close()


def _fuse_pictures(
    request: FuseRequest,
    output: Path,
    jobs: list[tuple[Path, Path, Path]],
    unmatched: int,
    make_engine: Callable[[], FusionEngine],
    progress: Callable[[FuseProgress], None] | None,
    stop: threading.Event,
) -> FuseReport:
    times_ms: dict[str, list[float]] = {"decode": [], "fuse": [], "encode": []}
    options = request.options
    # Pictures of a folder need not follow each other in time: each gets its own AGC mapping.
    agc = Agc(options.agc)
    engine: FusionEngine | None = None
    grid: ThermalGrid | None = None
    done, wall_s, began_s = 0, 0.0, time.perf_counter()
    warmed: tuple[int, ...] | None = None
    try:
        for target, visible_path, thermal_path in jobs:
            if stop.is_set():
                break
            times = [time.perf_counter()]
            visible = read_visible_picture(visible_path)
            agc.reset()
            height, width = visible.shape[:2]
            if grid is None:
                grid = calibrated_grid(options.calibration, height, width)
            thermal = grid.to_visible(agc.apply(read_thermal_picture(thermal_path)), height, width)
            times.append(time.perf_counter())
            if engine is None:
                engine = make_engine()
            if warmed != visible.shape and needs_fused(options.view):
                engine.warm_up(height, width)
                warmed = visible.shape
                began_s += time.perf_counter() - times[-1]
                times = [times[0] + time.perf_counter() - times[1], time.perf_counter()]
            engine.reset()
            fused = engine.fuse(visible, grid.filled(thermal, visible)) if needs_fused(options.view) else None
            shown = compose(options.view, visible, thermal, fused)
            times.append(time.perf_counter())
            write_picture(target, shown)
            times.append(time.perf_counter())
            for name, start_s, end_s in zip(times_ms, times, times[1:], strict=False):
                times_ms[name].append((end_s - start_s) * 1000)
            done += 1
            wall_s = time.perf_counter() - began_s
            if progress is not None:
                progress(FuseProgress(done, len(jobs), done / max(wall_s, 1e-9)))
    except LumithermError as error:
        if done:
            raise type(error)(f"{error} The {done} pictures before it are in {output}.") from error
        raise
    finally:
        if engine is not None:
            engine.close()
    whole = sum(sum(times) for times in times_ms.values()) or 1.0
    stages = {
        name: StageTime(float(np.median(t)), float(np.percentile(t, 95)), sum(t) / whole)
        for name, t in times_ms.items()
        if t
    }
    notes = (f"{unmatched} pictures without a partner were left out",) if unmatched else ()
    return FuseReport(
        output=output,
        engine=engine.name if engine is not None else "none",
        frames=done,
        seconds=0.0,
        wall_s=wall_s,
        stages=stages,
        interrupted=stop.is_set() and done < len(jobs),
        notes=notes,
    )
