"""Pictures of a recording for looking at: views of each pair, PNG export, and playback in a terminal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from app.recording.config import TrackName
from app.recording.reader import RecordingReader
from app.view.views import FileView, compose
from fusion_core.errors import BadInputError, RecordingError
from fusion_core.files import make_folder
from fusion_core.thermal.agc import Agc, AgcConfig

__all__ = ["DamagedPairs", "export_png", "half_blocks", "play_in_terminal", "viewed"]

_LONGEST_WAIT_S = 1.0  # gaps of a recording are shortened to this when it is played


_ONE_TRACK = {
    FileView.FUSED: TrackName.FUSED,
    FileView.VISIBLE: TrackName.VISIBLE,
    FileView.THERMAL: TrackName.THERMAL,
}


class DamagedPairs:
    """Counts what was left out because a picture is damaged."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""
        """What was wrong with the first of them."""

    def add(self, error: RecordingError) -> None:
        """One more."""
        self.count += 1
        self.first = self.first or str(error)

    def picture(self, reader: RecordingReader, track: TrackName, index: int) -> np.ndarray | None:
        """As `RecordingReader.picture`; None, counted, where it is damaged."""
        try:
            return reader.picture(track, index)
        except RecordingError as error:
            self.add(error)
            return None

    @property
    def told(self) -> str:
        """For the user."""
        return f"{self.count} damaged pictures were left out, the first: {self.first}"


def viewed(
    reader: RecordingReader, view: FileView, start: int, stop: int, agc: AgcConfig, damaged: DamagedPairs
) -> Iterator[tuple[int, np.ndarray]]:
    """The pairs `start` to `stop` - 1 as one picture each: (index, (H, W, 3) uint8 RGB).

    Thermal is shown through the AGC, resized to the visible picture (no calibration is applied). Pairs that lack what
    the view needs are left out, and those that are damaged are counted; without a visible track the thermal or fused
    picture sets the size.

    Raises:
        BadInputError: the recording has no track for this view.
    """
    wanted = _ONE_TRACK.get(view)
    if wanted is not None and wanted not in reader.tracks:
        raise BadInputError(
            f"{reader.path} has no {wanted} track, only {', '.join(reader.tracks)}: choose another --view"
        )
    mapping = Agc(agc)
    before_ns: int | None = None
    for index in range(start, stop):
        try:
            pictures = {track: reader.picture(track, index) for track in reader.tracks if wanted in (None, track)}
        except RecordingError as error:
            damaged.add(error)
            continue
        visible, fused, counts = (
            pictures.get(track) for track in (TrackName.VISIBLE, TrackName.FUSED, TrackName.THERMAL)
        )
        grey: np.ndarray | None = None
        if counts is not None:
            t_ns = reader.line(index).t_ns
            dt_s = None if before_ns is None else max(0.0, (t_ns - before_ns) / 1e9)
            before_ns = t_ns
            grey = mapping.apply(counts, dt_s)
        if wanted is not None and pictures.get(wanted) is None:
            continue
        ground = visible if visible is not None else fused
        if ground is None:
            if grey is None:
                continue
            ground = np.zeros((*grey.shape, 3), np.uint8)
        height, width = ground.shape[:2]
        if grey is not None and view is not FileView.THERMAL and grey.shape != (height, width):
            grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
        if view is FileView.THERMAL and grey is not None:
            ground, fused = np.zeros((*grey.shape, 3), np.uint8), None
        yield index, compose(view, ground, grey, fused)


def export_png(
    reader: RecordingReader,
    folder: Path,
    view: FileView,
    start: int,
    stop: int,
    agc: AgcConfig,
    damaged: DamagedPairs,
) -> int:
    """Write each pair's view as FOLDER/INDEX.png; returns how many were written. Damaged ones are left out and counted.

    With the thermal view the lossless counts go in, 16-bit grey where the camera gave 16 bits, without the AGC.

    Raises:
        RecordingError: a picture cannot be written.
    """
    try:
        make_folder(folder)
    except OSError as error:
        raise RecordingError(f"{folder} cannot be made: {error.strerror}") from error
    count = 0
    for index, picture in (
        _raw_thermal(reader, start, stop, damaged)
        if view is FileView.THERMAL
        else viewed(reader, view, start, stop, agc, damaged)
    ):
        path = folder / f"{index:06d}.png"
        stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".png", stored)
        if not done:
            raise RecordingError(f"{path} could not be encoded")
        try:
            path.write_bytes(data.tobytes())
        except OSError as error:
            raise RecordingError(f"{path} could not be written: {error.strerror}. Free some space.") from error
        count += 1
    return count


def _raw_thermal(
    reader: RecordingReader, start: int, stop: int, damaged: DamagedPairs
) -> Iterator[tuple[int, np.ndarray]]:
    if TrackName.THERMAL not in reader.tracks:
        raise BadInputError(f"{reader.path} has no thermal track, only {', '.join(reader.tracks)}")
    for index in range(start, stop):
        try:
            counts = reader.picture(TrackName.THERMAL, index)
        except RecordingError as error:
            damaged.add(error)
            continue
        if counts is not None:
            yield index, counts


def half_blocks(picture: np.ndarray, columns: int, lines: int) -> str:
    """The picture as text with colours: each character is two pixels, one above the other.

    Args:
        picture: (H, W, 3) uint8 RGB.
        columns, lines: room in the terminal, characters.
    """
    height, width = picture.shape[:2]
    scale = min(columns / width, 2 * lines / height)
    small_width, small_height = max(1, int(width * scale)), max(2, 2 * int(height * scale / 2))
    small = cv2.resize(picture, (small_width, small_height), interpolation=cv2.INTER_AREA)
    rows = []
    for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
        cells = [
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper, lower, strict=True)
        ]
        rows.append("".join(cells) + "\x1b[0m")
    return "\n".join(rows)


def play_in_terminal(
    reader: RecordingReader,
    output: TextIO,
    view: FileView,
    start: int,
    stop: int,
    speed: float,
    agc: AgcConfig,
    damaged: DamagedPairs,
) -> int:
    """Show the pairs at their own pace, leaving out those that are late or damaged; returns how many were shown."""
    shown = 0
    base: tuple[float, int] | None = None
    last_ns = 0
    output.write("\x1b[2J\x1b[?25l")
    try:
        for index, picture in viewed(reader, view, start, stop, agc, damaged):
            t_ns, now = reader.line(index).t_ns, time.monotonic()
            if base is None or t_ns - last_ns > _LONGEST_WAIT_S * 1e9:
                base = (now, t_ns)
            last_ns = t_ns
            due = base[0] + (t_ns - base[1]) / 1e9 / speed
            if due < now - 0.1:
                continue
            time.sleep(max(0.0, due - now))
            size = shutil.get_terminal_size()
            seconds = (t_ns - reader.line(0).t_ns) / 1e9
            output.write("\x1b[H" + half_blocks(picture, size.columns, size.lines - 1))
            output.write(f"\n{reader.path.name}  {view}  {seconds:8.3f} s of {reader.info.duration_s:.1f} s\x1b[K")
            output.flush()
            shown += 1
    finally:
        output.write("\x1b[0m\x1b[?25h\n")
        output.flush()
    return shown
