"""Frames for the recording tests, and a server that forks processes which record until they are killed.

Run as a script it reads lines `FOLDER PROGRESS_FILE THERMAL_UNTIL` from stdin, forks a recording process for each and
answers with its process id. Forking from a process that has imported everything makes thirty kills a matter of seconds.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from app.recording.config import RecordingConfig, TrackName
from app.recording.writing.recorder import Recorder
from app.recording.writing.status import RecordingStatus
from fusion_core.frames import Frame, FrameFlag, FramePair, FusedFrame, Stream, TimestampSource

HEIGHT, WIDTH = 120, 160
PERIOD_NS = 33_333_333
_NOISE = np.random.default_rng(7).integers(0, 16384, (HEIGHT, WIDTH), dtype=np.uint16)


def thermal_pixels(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Noise that moves and rises with the index: (height, width) uint16, different for each index."""
    tiled = np.tile(_NOISE, (-(-height // HEIGHT), -(-width // WIDTH)))[:height, :width]
    return np.roll(tiled, index, axis=1) + np.uint16(index % 40000)


def visible_pixels(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A gradient that moves with the index and carries it as grey level: (height, width, 3) uint8."""
    ramp = (np.arange(width, dtype=np.int64)[None, :] + np.arange(height)[:, None]) // 4
    grey = (40 + (ramp + 3 * index) % 160).astype(np.uint8)
    return np.stack([grey, np.roll(grey, 5, axis=1), 255 - grey], axis=-1)


def pair_at(
    visible_index: int | None,
    thermal_index: int | None,
    t_ns: int,
    skew_ns: int = 3_000_000,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    thermal_bits: int = 16,
    visible_t_ns: int | None = None,
    thermal_t_ns: int | None = None,
) -> FusedFrame:
    """A fused frame of these source frames; None leaves one out."""
    visible = thermal = None
    flags = FrameFlag.NONE
    if visible_index is not None:
        stamp = t_ns + skew_ns if visible_t_ns is None else visible_t_ns
        visible = Frame(
            Stream.VISIBLE, visible_pixels(visible_index, *size), visible_index, stamp, TimestampSource.SIMULATED
        )
    else:
        flags |= FrameFlag.THERMAL_ONLY
    if thermal_index is not None:
        counts = thermal_pixels(thermal_index, *size)
        if thermal_bits == 8:
            counts = (counts >> 6).astype(np.uint8)
        stamp = t_ns if thermal_t_ns is None else thermal_t_ns
        thermal = Frame(Stream.THERMAL, counts, thermal_index, stamp, TimestampSource.SIMULATED)
    else:
        flags |= FrameFlag.VISIBLE_ONLY
    fused = visible_pixels((visible_index or 0) + 20, *size)
    return FusedFrame(
        fused, FramePair(visible, thermal, flags), 1.25, "average", fused_ns=t_ns + 9_000_000, agc_limits=(100.0, 900.5)
    )


def frame_at(index: int, start_ns: int = 1_000_000_000, **options: object) -> FusedFrame:
    """Pair number `index` of a steady 30 Hz rig."""
    return pair_at(index, index, start_ns + index * PERIOD_NS, **options)  # type: ignore[arg-type]


_GIVEN: WeakKeyDictionary[Recorder, dict[TrackName, tuple[int, int]]] = WeakKeyDictionary()


class Listener:
    """Keeps each state that a recorder shows, and what it tells."""

    def __init__(self, states: list[RecordingStatus]) -> None:
        self.states = states
        self.told: list[str] = []

    def show(self, status: RecordingStatus) -> None:
        self.states.append(status)

    def tell(self, text: str, advice: str = "", *, lost: bool = True) -> None:
        self.told.append(text)


def feed(recorder: Recorder, frame: FusedFrame, depth: int = 8, limit_s: float = 30.0) -> None:
    """Offer a fused frame, its raw frames first as the cameras do, as soon as the recorder has room, so that a test
    does not depend on the machine's speed. A frame that served the pair before is not offered again."""
    end = time.monotonic() + limit_s
    while recorder.status.queue_depth >= depth:
        if time.monotonic() > end:
            raise TimeoutError(f"the recorder took nothing for {limit_s} s: {recorder.status}")
        time.sleep(0.001)
    tracks = recorder.config.tracks
    for name, raw in ((TrackName.VISIBLE, frame.pair.visible), (TrackName.THERMAL, frame.pair.thermal)):
        if raw is None or name not in tracks:
            continue
        given = _GIVEN.setdefault(recorder, {})
        if given.get(name) != (raw.index, raw.timestamp_ns):
            given[name] = (raw.index, raw.timestamp_ns)
            if not recorder.offer(raw):
                raise RuntimeError(f"the recorder refused a {name} frame: {recorder.status}")
    if TrackName.FUSED in tracks and not recorder.offer(frame):
        raise RuntimeError(f"the recorder refused a frame: {recorder.status}")


def record_until_killed(folder: Path, progress_path: Path, thermal_until: int) -> None:
    """Record in real time, noting each offered pair in a file that survives the kill."""
    with progress_path.open("r+b") as file:
        progress = mmap.mmap(file.fileno(), 8)
    recorder = Recorder(RecordingConfig(directory=folder, split_s=0, reserve_mb=1))
    recorder.start()
    began = time.monotonic()
    for index in range(100_000):
        wait_s = began + index / 30 - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        thermal = index if index < thermal_until else None
        feed(recorder, pair_at(index, thermal, 1_000_000_000 + index * PERIOD_NS), depth=2)
        progress[:8] = struct.pack("<q", index)


def serve() -> None:
    """Fork one recording process for each line of stdin."""
    for line in sys.stdin:
        folder, progress, thermal_until = line.split()
        child = os.fork()
        if child == 0:
            try:
                record_until_killed(Path(folder), Path(progress), int(thermal_until))
            finally:
                os._exit(3)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    serve()
