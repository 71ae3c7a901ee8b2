"""The demonstration: record the simulated rig as two videos, fuse them as any other files, lay out what came of it.

The rig's calibration is off by a known number of pixels on purpose. The contact sheet sets the fused picture beside
a Laplacian pyramid without alignment, which is what most fusion looks like on such a rig.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from app.jobs.fuse_files import fuse_files
from app.jobs.report import FuseProgress, FuseReport
from app.jobs.request import FuseRequest
from app.media.pictures import write_picture
from app.media.writer import VideoFormat, VideoWriter
from app.recording.config import RecordingConfig
from app.recording.writing.encoder_bank import track_of
from app.recording.writing.recorder import Recorder
from app.view.views import contact_sheet, grey_to_rgb
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import RecordingError
from fusion_core.frames import Frame, FusedFrame, Stream
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

__all__ = ["DemoFiles", "DemoScene", "record_rig", "run_demo", "visible_at"]

_CROSS_FADE_S = 0.5
_PREFIX = "demo"  # of the recording's name
_PATIENCE_S = 30.0
_LIGHTS = (("day", 0.0), ("dusk", 0.6), ("night", 1.0))  # name, SimulatedRigConfig.night


@dataclass(frozen=True, slots=True)
class DemoScene:
    """What is recorded. residual_shift_px: (x, y) by which the simulated calibration is off, visible-grid pixels."""

    seconds: float = 8.0
    height: int = 480
    width: int = 640
    thermal_height: int = 240
    thermal_width: int = 320
    visible_fps: int = 30
    thermal_fps: int = 25
    residual_shift_px: tuple[float, float] = (6.0, -3.0)
    seed: int = 7

    def rig_config(self, night: float) -> SimulatedRigConfig:
        """The simulated rig at one time of day; scene and heat do not change with it."""
        return SimulatedRigConfig.model_validate(
            {
                "seed": self.seed,
                "height": self.height,
                "width": self.width,
                "thermal_height": self.thermal_height,
                "thermal_width": self.thermal_width,
                "visible_fps": self.visible_fps,
                "thermal_fps": self.thermal_fps,
                "residual_shift_px": self.residual_shift_px,
                "night": night,
            }
        )


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the demonstration left its files, and the report of its fuse job."""

    visible: Path
    thermal: Path
    fused: Path
    contact_sheet: Path
    recording: Path | None  # with all three tracks and its sidecar; None: stopped before the first picture
    report: FuseReport


def visible_at(rigs: list[SimulatedRig], time_s: float, seconds: float) -> np.ndarray:
    """The visible picture while the rigs (one a time of day) follow each other in equal parts, faded into one another.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    part_s = seconds / len(rigs)
    number = min(int(time_s / part_s), len(rigs) - 1)
    picture = rigs[number].visible(time_s)
    fade_s = min(_CROSS_FADE_S, part_s)
    until_next_s = (number + 1) * part_s - time_s
    if number + 1 < len(rigs) and until_next_s < fade_s:
        share = 1.0 - until_next_s / fade_s
        picture = np.asarray(cv2.addWeighted(picture, 1.0 - share, rigs[number + 1].visible(time_s), share, 0.0))
    return picture


def record_rig(
    scene: DemoScene,
    visible_path: Path,
    thermal_path: Path,
    progress: Callable[[FuseProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Write the rig's two videos: visible as H.264, thermal as lossless FFV1 with 16-bit counts.

    Raises:
        RecordingError: a file cannot be written, or `stop` was set before the end.
    """
    _stop_if_asked(stop, visible_path)
    rigs = [SimulatedRig(scene.rig_config(night)) for _, night in _LIGHTS]
    total = max(1, round(scene.seconds * scene.visible_fps))
    began_s = time.perf_counter()
    visible = VideoWriter(
        visible_path, scene.height, scene.width, Fraction(1, 1000), Fraction(scene.visible_fps), VideoFormat(crf=16)
    )
    try:
        thermal = VideoWriter(
            thermal_path,
            scene.thermal_height,
            scene.thermal_width,
            Fraction(1, 1000),
            Fraction(scene.thermal_fps),
            VideoFormat("ffv1", "gray16le"),
        )
        try:
            for number in range(max(1, round(scene.seconds * scene.thermal_fps))):
                _stop_if_asked(stop, visible_path)
                time_s = rigs[0].thermal_time_s(number)
                thermal.write(rigs[0].thermal(time_s), round(time_s * 1000), round(1000 / scene.thermal_fps))
        finally:
            thermal.close()
        for number in range(total):
            _stop_if_asked(stop, visible_path)
            time_s = rigs[0].visible_time_s(number)
            picture = visible_at(rigs, time_s, scene.seconds)
            visible.write(picture, round(time_s * 1000), round(1000 / scene.visible_fps))
            if progress is not None:
                elapsed_s = time.perf_counter() - began_s
                progress(FuseProgress(number + 1, total, (number + 1) / max(elapsed_s, 1e-9)))
    finally:
        visible.close()


def _stop_if_asked(stop: threading.Event | None, path: Path) -> None:
    if stop is not None and stop.is_set():
        raise RecordingError(f"the demonstration was stopped while it recorded {path}.")


def run_demo(
    folder: Path,
    scene: DemoScene,
    make_engine: Callable[[], FusionEngine],
    unaligned: FusionEngine,
    on_record: Callable[[FuseProgress], None] | None = None,
    on_fuse: Callable[[FuseProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> DemoFiles:
    """Record, fuse and lay out into `folder`, which is created; files of an earlier run are replaced.

    Args:
        unaligned: the engine to compare with, a Laplacian pyramid.

    Raises:
        RecordingError: the folder or a file cannot be written. EngineError, CheckpointError: from the engine.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"the folder {folder} cannot be created: {error.strerror}.") from error
    visible, thermal, fused = (folder / f"{name}.mkv" for name in ("visible", "thermal", "fused"))
    for old in folder.glob(f"{_PREFIX}-*"):
        old.unlink()
    record_rig(scene, visible, thermal, on_record, stop)

    total = max(1, round(scene.seconds * scene.visible_fps))
    moments = [min(total - 1, int((part + 0.4) * total / len(_LIGHTS))) for part in range(len(_LIGHTS))]
    rows: list[tuple[str, list[np.ndarray]]] = []

    recording = _Recording(folder)

    def keep(frame: FusedFrame) -> None:
        recording.take(frame)
        shown, levels = frame.pair.visible, frame.thermal_8bit
        if shown is not None and levels is not None and shown.index in moments:
            name = _LIGHTS[moments.index(shown.index)][0]
            rows.append((name, [shown.pixels, grey_to_rgb(levels), frame.pixels, unaligned.fuse(shown.pixels, levels)]))

    try:
        report = fuse_files(FuseRequest(visible, thermal, fused, overwrite=True), make_engine, on_fuse, stop, keep)
    finally:
        recorded = recording.close()
    sheet = folder / "contact_sheet.png"
    if rows:
        columns = ("visible", "thermal", f"fused ({report.engine})", "Laplacian pyramid, unaligned")
        write_picture(sheet, contact_sheet(rows, columns))
    return DemoFiles(visible, thermal, fused, sheet, recorded, report)


class _Recording:
    """A recording as the live pipeline makes it, by the same recorder; it waits where a live one would refuse."""

    def __init__(self, folder: Path) -> None:
        self._now_ns = 0
        self._raw: dict[Stream, int] = {}  # index of the newest frame of each camera that was recorded
        config = RecordingConfig(directory=folder, prefix=_PREFIX, split_s=0, reserve_mb=1)
        self._recorder = Recorder(config, clock=lambda: self._now_ns)
        self._recorder.patient = True
        self._recorder.start()

    def take(self, frame: FusedFrame) -> None:
        """Record it. Raises RecordingError: nothing was taken for half a minute."""
        source = frame.pair.visible or frame.pair.thermal
        self._now_ns = self._now_ns if source is None else source.timestamp_ns
        end_s = time.monotonic() + _PATIENCE_S
        for picture in (frame.pair.visible, frame.pair.thermal, frame):
            if picture is None:
                continue
            if isinstance(picture, Frame):
                if self._raw.get(picture.stream) == picture.index:
                    continue  # the slower camera's frame serves two pairs, and is recorded once, as live
                self._raw[picture.stream] = picture.index
            while not self._recorder.has_room(track_of(picture)):
                if time.monotonic() > end_s:
                    raise RecordingError(
                        f"the recorder took nothing for {_PATIENCE_S:g} s; is the disk that slow or full?"
                    )
                time.sleep(0.005)
            self._recorder.offer(picture)

    def close(self) -> Path | None:
        """End it in order; the file, if there is one. Raises RecordingError: its check found something."""
        summary = self._recorder.stop(_PATIENCE_S)
        self._recorder.close()
        if summary is None or not summary.segments:
            return None
        if summary.problems:
            raise RecordingError(f"the recording of the demonstration has problems: {'; '.join(summary.problems)}")
        return summary.segments[0].path
