"""Pairs of pictures for calibration: from folders, recordings, two videos, live cameras, or a made-up rig."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from app.capture.cameras.factory import create_cameras
from app.capture.capture_thread import CaptureThread
from app.capture.config import CameraConfig
from app.capture.sync_config import SyncConfig
from app.capture.synchronizer import PairSynchronizer
from app.media.geometry import refuse_same_picture
from app.media.pairing import default_max_skew_ns, pair_by_time
from app.media.reader import open_reader
from app.pipeline.capture_supervisor import device_identity
from app.recording.reader import RecordingReader
from calibration.board import Board
from calibration.render import random_poses, render_pair, synthetic_rig
from fusion_core.errors import BadInputError, CameraTimeout, ConfigError, EndOfStream
from fusion_core.frames import Stream
from fusion_core.pair_folder import find_pairs, read_thermal, read_visible
from fusion_core.yaml_config import read_yaml

__all__ = [
    "CalibrationPair",
    "PairStream",
    "live_pairs",
    "open_pairs",
    "read_devices",
    "read_thermal_or_colour",
    "save_devices",
    "save_pair",
    "simulated_pairs",
]

CAMERAS_FILE = "cameras.yaml"


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationPair:
    """visible (H, W, 3) uint8 RGB, thermal (Ht, Wt) uint8 or uint16, of one moment.

    stamps_ns: (visible, thermal) time stamps of one clock; None where they say nothing about the cameras.
    """

    name: str
    visible: np.ndarray
    thermal: np.ndarray
    stamps_ns: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PairStream:
    """pairs, whether they follow each other in time (`moving`), and how to let go of the source.

    devices: which visible and thermal camera it is, once pictures have come; "" where the source does not tell.
    added_ms: what was added to the thermal stamps, less what was added to the visible ones.
    """

    pairs: Iterator[CalibrationPair]
    moving: bool
    close: Callable[[], None]
    devices: Callable[[], tuple[str, str]] = lambda: ("", "")
    added_ms: float = 0.0


def open_pairs(source: Path, thermal: Path | None, every: int, accept_colour: bool = False) -> PairStream:
    """Pairs of a folder (vi/, ir/), a recording, or a visible and a thermal video.

    Args:
        accept_colour: take the brightness of thermal pictures that a palette has coloured, in folders. A board's points
            lie where they lie whatever the palette; temperatures cannot be had from it.

    Raises:
        BadInputError: missing or not understood.
    """
    if source.is_dir():
        return PairStream(_folder(source, accept_colour), False, _nothing)
    if thermal is None:
        reader = RecordingReader(source)
        added_ms = _added_ms(reader)
        pairs_of = _recording(reader, every, timed=added_ms is not None)
        return PairStream(pairs_of, True, reader.close, added_ms=added_ms or 0.0)
    refuse_same_picture(source, thermal)
    visible_reader = open_reader(source, Stream.VISIBLE)
    thermal_reader = open_reader(thermal, Stream.THERMAL, accept_colour=accept_colour)

    def close() -> None:
        visible_reader.close()
        thermal_reader.close()

    def pairs() -> Iterator[CalibrationPair]:
        skew_ns = default_max_skew_ns(getattr(thermal_reader, "rate", None))
        matched = pair_by_time(visible_reader.frames(), thermal_reader.frames(), skew_ns, max_hold_ns=0)
        for index, pair in enumerate(matched):
            if index % every == 0 and pair.thermal is not None:
                yield CalibrationPair(f"{index:05d}", pair.visible.frame.pixels, pair.thermal.frame.pixels)

    return PairStream(pairs(), True, close)


def live_pairs(visible_uri: str, thermal_uri: str, timeout_s: float, accept_colour: bool = False) -> PairStream:
    """Pairs of two live cameras, newest first come; ends after `timeout_s` or when a camera ends.

    Raises:
        ConfigError, CaptureError: a camera is not understood or will not open.
    """
    configs = {
        Stream.VISIBLE: CameraConfig(uri=visible_uri),
        Stream.THERMAL: CameraConfig(uri=thermal_uri, accept_colour=accept_colour),
    }
    cameras = create_cameras(configs[Stream.VISIBLE], configs[Stream.THERMAL])
    synchronizer = PairSynchronizer(SyncConfig(), lossless=cameras.lossless)
    failures: list[Exception] = []

    def failed(stream: Stream, error: Exception) -> None:
        failures.append(error)
        synchronizer.end(stream)

    threads = [
        CaptureThread(camera, stream, configs[stream], synchronizer.put, on_end=synchronizer.end, on_failure=failed)
        for stream, camera in ((Stream.VISIBLE, cameras.visible), (Stream.THERMAL, cameras.thermal))
    ]
    for thread in threads:
        thread.start()

    def close() -> None:
        synchronizer.close()
        for thread in threads:
            thread.stop()

    def pairs() -> Iterator[CalibrationPair]:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if failures:
                raise failures[0]
            try:
                pair = synchronizer.get(1.0)
            except CameraTimeout:
                continue
            except EndOfStream:
                return
            if pair.visible is not None and pair.thermal is not None:
                stamps_ns = (pair.visible.timestamp_ns, pair.thermal.timestamp_ns)
                yield CalibrationPair(f"{pair.thermal.index:06d}", pair.visible.pixels, pair.thermal.pixels, stamps_ns)

    def devices() -> tuple[str, str]:
        return (
            device_identity(cameras.visible.info.identity) or "",
            device_identity(cameras.thermal.info.identity) or "",
        )

    return PairStream(pairs(), True, close, devices)


def simulated_pairs(board: Board, count: int, seed: int = 1) -> PairStream:
    """Rendered views of the board by the made-up rig of `calibration.render`."""
    rig = synthetic_rig()

    def pairs() -> Iterator[CalibrationPair]:
        for index, pose in enumerate(random_poses(rig, board, count, seed)):
            view = render_pair(rig, pose, board, name=f"{index:03d}", seed=seed * 1000 + index)
            yield CalibrationPair(view.name, view.visible, view.thermal)

    return PairStream(pairs(), False, _nothing)


def save_devices(folder: Path, devices: tuple[str, str]) -> None:
    """Note beside the views which cameras they are of; nothing where it is not known."""
    if any(devices):
        text = yaml.safe_dump({"visible": devices[0], "thermal": devices[1]}, sort_keys=False)
        (folder / CAMERAS_FILE).write_text(text, encoding="utf-8")


def read_devices(folder: Path) -> tuple[str, str]:
    """What `save_devices` has noted; ("", "") where there is nothing.

    Raises:
        BadInputError: the file is not understood.
    """
    path = folder / CAMERAS_FILE
    if not path.is_file():
        return "", ""
    try:
        found = read_yaml(path)
        return str(found["visible"]), str(found["thermal"])
    except (ConfigError, KeyError) as error:
        raise BadInputError(
            f"{path} is not understood ({error}), must hold visible: and thermal:; or delete it"
        ) from error


def save_pair(folder: Path, name: str, visible: np.ndarray, thermal: np.ndarray) -> None:
    """Write vi/NAME.png and ir/NAME.png (8 or 16 bit). Raises BadInputError when the folder cannot be written."""
    for kind, image in (("vi", cv2.cvtColor(visible, cv2.COLOR_RGB2BGR)), ("ir", thermal)):
        path = folder / kind / f"{name}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            ok, data = cv2.imencode(".png", image)
            if not ok:
                raise BadInputError(f"{path} could not be encoded as PNG")
            path.write_bytes(data.tobytes())
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror}") from error


def _folder(source: Path, accept_colour: bool) -> Iterator[CalibrationPair]:
    for files in find_pairs(source):
        yield CalibrationPair(
            files.stem, read_visible(files.visible), read_thermal_or_colour(files.thermal, accept_colour)
        )


def read_thermal_or_colour(path: Path, accept_colour: bool) -> np.ndarray:
    """(Ht, Wt) uint8 or uint16; with `accept_colour`, the brightness of one in colour. Raises BadInputError."""
    return read_thermal(path, accept_colour)


def _recording(reader: RecordingReader, every: int, timed: bool) -> Iterator[CalibrationPair]:
    for index, pair in enumerate(reader):
        if index % every == 0 and pair.visible is not None and pair.thermal is not None:
            stamps_ns = (pair.visible.timestamp_ns, pair.thermal.timestamp_ns) if timed else None
            yield CalibrationPair(f"{index:05d}", pair.visible.pixels, pair.thermal.pixels, stamps_ns)


def _added_ms(reader: RecordingReader) -> float | None:
    """What was added to thermal stamps less what was added to visible ones; None where the recording does not tell, or
    has no stamps."""
    line = reader.line(0) if len(reader) else None
    if line is None or line.rebuilt or not line.offsets_ns:
        return None
    return (line.offsets_ns.get("thermal", 0) - line.offsets_ns.get("visible", 0)) / 1e6


def _nothing() -> None:
    """Folders and made-up pictures hold nothing open."""
