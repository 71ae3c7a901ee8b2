"""The fuse job: a picture pair, two folders, sequences or videos, or one recording into one fused result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from app.jobs.fit import FitWatch, found_grid
from app.jobs.fuse_loop import Observer, StopFlag, fuse_pairs
from app.jobs.report import FuseProgress, FuseReport
from app.jobs.request import AlignBy, FuseRequest, InputKind, kind_of, output_of, unnamed
from app.jobs.sinks import PictureSink, Sink, VideoSink
from app.jobs.sources import FuseSource, PicturePairs, RecordingPairs, VideoPairs
from app.media.geometry import MediaInput, parse_media_input, refuse_same_picture
from app.media.pictures import match_folders
from app.pipeline.thermal_grid import ThermalGrid
from app.recording.sidecar import sidecar_path
from app.view.views import needs_fused
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import UsageError
from fusion_core.frames import FusedFrame

__all__ = ["fuse_files"]


def fuse_files(
    request: FuseRequest,
    make_engine: Callable[[], FusionEngine],
    progress: Callable[[FuseProgress], None] | None = None,
    stop: StopFlag | None = None,
    observe: Observer | None = None,
) -> FuseReport:
    """Carry out one job. `make_engine` is called once the inputs and the output are known to be sound.

    `progress` and `observe` are called after each frame, on the calling thread; `stop` ends the job early.

    Raises:
        UsageError: inputs of different kinds, output missing its folder, in the way, or one of the inputs.
        BadInputError: an input cannot be used. RecordingError: the output cannot be written. EngineError.
    """
    grid, said = _alignment(request)
    watch = FitWatch()

    def looked_at(frame: FusedFrame) -> None:
        watch.offer(frame.pair)
        if observe is not None:
            observe(frame)

    source, sink = _open(request)
    with closing(source):
        report = fuse_pairs(source, sink, make_engine, request.options, progress, stop, looked_at, grid)
    fit = watch.note(grid) if needs_fused(request.options.view) and not report.interrupted else ""
    return replace(
        report, notes=(*(note for note in (said,) if note), *report.notes, *(note for note in (fit,) if note))
    )


def _alignment(request: FuseRequest) -> tuple[ThermalGrid, str]:
    """The alignment that the request asks for, and what the user should know of it; "" for nothing."""
    options = request.options
    if options.align is not AlignBy.AUTO:
        return ThermalGrid(options.calibration), ""
    if options.calibration is not None:
        raise UsageError("--align auto finds the alignment from the pictures; leave --calibration out, or --align")
    source, _ = _open(request)
    with closing(source):
        return found_grid((timed.pair for timed in source.pairs()), source.apart)


def _open(request: FuseRequest) -> tuple[FuseSource, Sink]:
    kind = _kind(request)
    output = output_of(request, kind)
    if request.thermal is not None:
        refuse_same_picture(request.visible, request.thermal)
    if kind is not InputKind.VIDEO:
        return _open_pictures(request, kind, output)
    options = request.options
    source: RecordingPairs | VideoPairs
    if request.thermal is None:
        source = RecordingPairs(request.visible)
    else:
        source = VideoPairs(request.visible, request.thermal, options, request.sequence_fps, request.decoder_threads)
    return source, VideoSink(output, source.timing, source.metadata, options.crf, options.encoder_threads)


def _kind(request: FuseRequest) -> InputKind:
    kind = kind_of(request.visible)
    if request.thermal is None:
        if kind is not InputKind.VIDEO or not sidecar_path(request.visible).is_file():
            raise UsageError(
                f"{request.visible} is no recording of Lumitherm (a .mkv with its .jsonl beside it), so the thermal "
                "picture, folder or video must be given too: lumitherm fuse VISIBLE THERMAL -o OUT."
            )
    elif kind_of(request.thermal) is not kind:
        raise UsageError(
            f"{request.visible} is taken as a {kind} and {request.thermal} as a {kind_of(request.thermal)}; give two "
            f"of the same kind (frames/%05d.png names a folder of numbered pictures as a video).{unnamed(request)}"
        )
    return kind


def _open_pictures(request: FuseRequest, kind: InputKind, output: Path) -> tuple[PicturePairs, PictureSink]:
    assert request.thermal is not None  # see _kind; for the type checker
    if kind is InputKind.PICTURE:
        pair = (parse_media_input(request.visible), parse_media_input(request.thermal))
        return PicturePairs([pair], 0, request.options.accept_colour), PictureSink(output, [output])
    matched, unmatched = match_folders(request.visible, request.thermal, request.allow_unmatched)
    matched = matched[: request.options.limit]
    targets = [output / f"{stem}.png" for stem, _, _ in matched]
    present = [path.name for path in targets if path.exists()]
    if present and not request.overwrite:
        raise UsageError(
            f"{output} already holds {len(present)} of the pictures to write (first {present[0]}). "
            "Give another folder, or --overwrite to replace them."
        )
    output.mkdir(exist_ok=True)
    files = [(MediaInput(visible), MediaInput(thermal)) for _, visible, thermal in matched]
    return PicturePairs(files, unmatched, request.options.accept_colour), PictureSink(output, targets)
