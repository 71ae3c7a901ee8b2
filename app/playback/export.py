"""Writes a recording for other programs: one video, a folder of pictures with a table, or MCAP."""

from __future__ import annotations

import csv
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from app.media.pictures import NO_ROOM_ERRNOS, encode_picture, no_room_message, write_picture
from app.media.writer import VideoFormat, VideoWriter
from app.playback.recorded_views import DamagedPairs, viewed
from app.recording.config import TrackName
from app.recording.reader import RecordingReader
from app.view.views import FileView
from calibration.rig import CameraIntrinsics, PlaneCalibration, RigCalibration, load_calibration
from fusion_core.errors import BadInputError, RecordingError, RunError
from fusion_core.files import make_folder, refuse_planted, replacing
from fusion_core.frames import FrameFlag
from fusion_core.thermal.agc import AgcConfig

__all__ = ["to_folder", "to_mcap", "to_video"]

_MOST_ROS_NS = 2**31 * 10**9 - 1  # seconds of ROS have 31 bits
_COLUMNS = ("pair", "t_ns", "utc_ns", "visible_ns", "thermal_ns", "skew_ms", "flags", "engine", "fuse_ms",
            "visible_file", "thermal_file", "fused_file")  # fmt: skip

# The message definitions of ROS 2 (sensor_msgs, std_msgs), so that its tools and Foxglove read the file as it is.
_HEADER = """
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
_COMPRESSED = "std_msgs/Header header\nstring format\nuint8[] data" + _HEADER
_IMAGE = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n"
    "uint8[] data" + _HEADER
)
_CAMERA_INFO = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring distortion_model\nfloat64[] d\nfloat64[9] k\n"
    "float64[9] r\nfloat64[12] p\nuint32 binning_x\nuint32 binning_y\nsensor_msgs/RegionOfInterest roi"
    + _HEADER
    + "=" * 80
    + "\nMSG: sensor_msgs/RegionOfInterest\nuint32 x_offset\nuint32 y_offset\nuint32 height\nuint32 width\n"
    "bool do_rectify\n"
)


def to_video(
    reader: RecordingReader,
    output: Path,
    view: FileView,
    start: int,
    stop: int,
    agc: AgcConfig,
    crf: int,
    damaged: DamagedPairs,
) -> int:
    """One H.264 video of a view, with the recording's own times; how many pictures it has.

    Args:
        output: .mp4 or .mkv, or - for Matroska on standard output.

    Raises:
        BadInputError: the recording has no track for this view. RecordingError: it cannot be written.
    """
    writer: VideoWriter | None = None
    first_ns, last_ms = reader.line(start).t_ns, -1
    rate = Fraction(max(1, round((stop - start) / max(reader.info.duration_s, 0.04)))) if stop - start > 1 else None
    try:
        for index, picture in viewed(reader, view, start, stop, agc, damaged):
            at_ms = max(last_ms + 1, round((reader.line(index).t_ns - first_ns) / 1e6))
            if writer is None:
                height, width = picture.shape[:2]
                writer = VideoWriter(output, height, width, Fraction(1, 1000), rate, VideoFormat(crf=crf))
            writer.write(picture, at_ms)
            last_ms = at_ms
        if writer is None:
            raise BadInputError(f"{reader.path} has no {view} picture in this part")
        return writer.frames_written
    finally:
        if writer is not None:
            writer.close()


def to_folder(
    reader: RecordingReader, output: Path, start: int, stop: int, calibration: Path | None, damaged: DamagedPairs
) -> int:
    """PNG of visible and fused, TIFF of thermal counts as they are, pairs.csv, and the calibration; how many pairs.

    Damaged pictures are left out and counted.

    Raises:
        RecordingError: the folder cannot be written.
    """
    if calibration is not None:
        load_calibration(calibration)  # refused before the work, not after
    try:
        for track in reader.tracks:
            make_folder(output / track)
        refuse_planted(output / "pairs.csv")
        with (output / "pairs.csv").open("w", newline="", encoding="utf-8") as table:
            rows = csv.writer(table)
            rows.writerow(_COLUMNS)
            for index in range(start, stop):
                files = _write_pictures(reader, output, index, damaged)
                line = reader.line(index)
                stamps = [None if source is None else source.t_ns for source in (line.visible, line.thermal)]
                skew_ms = None if None in stamps else round((stamps[0] - stamps[1]) / 1e6, 3)  # type: ignore[operator]
                flags = "|".join(flag.name or "" for flag in FrameFlag(line.flags))
                row = [
                    index,
                    line.t_ns,
                    _utc_ns(reader, line.t_ns),
                    *stamps,
                    skew_ms,
                    flags,
                    _cell(line.engine),
                    line.fuse_ms,
                ]
                rows.writerow([*row, *files])
        if calibration is not None:
            shutil.copyfile(calibration, output / "calibration.yaml")
    except OSError as error:
        raise _failure(output, error) from error
    return stop - start


def _write_pictures(reader: RecordingReader, output: Path, index: int, damaged: DamagedPairs) -> list[str]:
    """The files of one pair in the order of the columns; empty where it has no picture."""
    files = []
    for track in (TrackName.VISIBLE, TrackName.THERMAL, TrackName.FUSED):
        picture = damaged.picture(reader, track, index) if track in reader.tracks else None
        name = f"{track}/{index:06d}.{'tiff' if track is TrackName.THERMAL else 'png'}"
        if picture is not None:
            write_picture(output / name, picture)
        files.append(name if picture is not None else "")
    return files


def to_mcap(
    reader: RecordingReader, output: Path, start: int, stop: int, calibration: Path | None, damaged: DamagedPairs
) -> int:
    """MCAP with ROS 2 messages: /visible, /thermal, /fused and the CameraInfo of both cameras; how many pairs.

    Colour is lossless PNG (sensor_msgs/CompressedImage), thermal mono16 counts or mono8 (sensor_msgs/Image), stamps are
    the wall clock of each camera's own frame. Damaged pictures are left out and counted.

    Raises:
        RunError: the library is missing. RecordingError: the file cannot be written.
    """
    try:
        from mcap_ros2.writer import Writer
    except ImportError as error:
        raise RunError("MCAP needs its library: pip install 'lumitherm[mcap]'") from error
    rig = None if calibration is None else load_calibration(calibration)
    try:
        with replacing(output) as part, part.open("wb") as stream, Writer(stream) as writer:
            topics = _Topics(writer, reader, rig, damaged)
            for index in range(start, stop):
                topics.write(index)
            if calibration is not None:
                writer.add_attachment(0, 0, "calibration.yaml", "application/yaml", calibration.read_bytes())
    except OSError as error:
        raise _failure(output, error) from error
    return stop - start


class _Topics:
    """Writes the pairs of a recording as messages."""

    def __init__(
        self,
        writer: Any,
        reader: RecordingReader,
        rig: RigCalibration | PlaneCalibration | None,
        damaged: DamagedPairs,
    ) -> None:
        self._writer, self._reader, self._damaged = writer, reader, damaged
        self._compressed = writer.register_msgdef("sensor_msgs/msg/CompressedImage", _COMPRESSED)
        self._image = writer.register_msgdef("sensor_msgs/msg/Image", _IMAGE)
        self._infos: dict[TrackName, dict[str, Any]] = {}
        if isinstance(rig, RigCalibration):
            self._info = writer.register_msgdef("sensor_msgs/msg/CameraInfo", _CAMERA_INFO)
            self._infos = {
                TrackName.VISIBLE: _camera_info(rig.visible, np.zeros(3)),
                TrackName.THERMAL: _camera_info(rig.thermal, rig.t_visible_thermal_m),
            }

    def write(self, index: int) -> None:
        line = self._reader.line(index)
        origins = {TrackName.VISIBLE: line.visible, TrackName.THERMAL: line.thermal}
        for track in self._reader.tracks:
            picture = self._damaged.picture(self._reader, track, index)
            if picture is None:
                continue
            source = origins.get(track)
            at_ns = _utc_ns(self._reader, line.t_ns if source is None else source.t_ns)
            at_ns = min(max(0, at_ns), _MOST_ROS_NS)
            header = {"stamp": {"sec": at_ns // 10**9, "nanosec": at_ns % 10**9}, "frame_id": str(track)}
            topic = f"/{track}"
            if track is TrackName.THERMAL:
                message = _raw_image(header, picture)
                self._writer.write_message(f"{topic}/image", self._image, message, at_ns, at_ns, index)
            else:
                message = {"header": header, "format": "png", "data": encode_picture(picture, ".png", topic)}
                self._writer.write_message(f"{topic}/image/compressed", self._compressed, message, at_ns, at_ns, index)
            if track in self._infos:
                info = {"header": header} | self._infos[track]
                self._writer.write_message(f"{topic}/camera_info", self._info, info, at_ns, at_ns, index)


def _raw_image(header: dict[str, Any], counts: np.ndarray) -> dict[str, Any]:
    height, width = counts.shape
    return {
        "header": header, "height": height, "width": width, "is_bigendian": 0, "step": width * counts.itemsize,
        "encoding": "mono16" if counts.dtype == np.uint16 else "mono8",
        "data": counts.astype(counts.dtype.newbyteorder("<"), copy=False).tobytes(),
    }  # fmt: skip


def _camera_info(camera: CameraIntrinsics, t_m: np.ndarray) -> dict[str, Any]:
    matrix = camera.matrix
    projection = np.column_stack([matrix, [-camera.fx_px * t_m[0], -camera.fy_px * t_m[1], 0.0]])
    return {
        "height": camera.height, "width": camera.width, "distortion_model": "plumb_bob",
        "d": list(camera.distortion), "k": matrix.ravel().tolist(), "r": np.eye(3).ravel().tolist(),
        "p": projection.ravel().tolist(), "binning_x": 0, "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }  # fmt: skip


def _utc_ns(reader: RecordingReader, t_ns: int) -> int:
    """The wall clock of a monotonic time of the recording; the time itself where no header ties them."""
    header = reader.info.header
    return t_ns if header is None else header.wall_start_ns + t_ns - header.start_ns


def _cell(text: str) -> str:
    """Text that a spreadsheet takes for no formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _failure(output: Path, error: OSError) -> RecordingError:
    if error.errno in NO_ROOM_ERRNOS:
        return RecordingError(no_room_message(output, "What was written before is complete."))
    return RecordingError(f"{output} cannot be written: {error.strerror or error}.")
