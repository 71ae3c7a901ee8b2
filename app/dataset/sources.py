"""Where training pairs come from: recordings, or two video files. Frames that cannot serve are left out here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from app.media.geometry import refuse_same_picture
from app.media.pairing import default_max_skew_ns, pair_by_time
from app.media.reader import open_reader
from app.recording.reader import RecordingReader
from fusion_core.errors import RecordingError
from fusion_core.frames import FrameFlag, Stream

__all__ = ["UNRECORDED", "Candidate", "RecordingSource", "Source", "VideoSource", "session_name"]

_WITHOUT = {
    FrameFlag.FFC: "thermal shutter closed",
    FrameFlag.HELD: "thermal picture held from before",
    FrameFlag.STALE: "stale",
    FrameFlag.VISIBLE_ONLY: "no thermal picture",
    FrameFlag.THERMAL_ONLY: "no visible picture",
    FrameFlag.SKEW_EXCEEDED: "the two times are too far apart",
}
UNRECORDED = "one of the two pictures was not recorded"
_FLAT_LEVELS = 2.0  # standard deviation of a picture without content


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A pair that may be taken. visible (H, W, 3) uint8 RGB; thermal (Ht, Wt) uint8 or uint16 as recorded."""

    index: int
    time_s: float
    skew_ms: float
    visible: np.ndarray
    thermal: np.ndarray


class Source(Protocol):
    """One file (or two) of one session. `offered` counts the candidates that were given out."""

    session: str
    path: Path
    offered: int

    def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
        """Pairs at least interval_s apart. `left_out` counts the frames that cannot serve, by reason."""


def session_name(text: str) -> str:
    """A session's name as the data set's file names have it: no "_", which ends it there."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "session"


def reason_of(flags: FrameFlag) -> str:
    """Why a frame with these flags cannot serve; "" when it can."""
    return next((reason for flag, reason in _WITHOUT.items() if flag & flags), "")


class _Gate:
    """Lets candidates through at intervals; stops frozen and empty pictures."""

    def __init__(self, interval_s: float, left_out: Counter[str]) -> None:
        self._interval_s, self._left_out = interval_s, left_out
        self._last_s: float | None = None
        self._last_thermal: np.ndarray | None = None

    def due(self, time_s: float) -> bool:
        if self._last_s is not None and 0 <= time_s - self._last_s < self._interval_s - 1e-6:
            self._left_out["between two candidates"] += 1
            return False
        return True

    def accept(self, candidate: Candidate) -> bool:
        if float(candidate.visible.std()) < _FLAT_LEVELS or float(candidate.thermal.std()) == 0:
            self._left_out["a picture without content"] += 1
            return False
        last = self._last_thermal
        self._last_s, self._last_thermal = candidate.time_s, candidate.thermal
        if last is not None and np.array_equal(last, candidate.thermal):
            self._left_out["thermal picture frozen"] += 1
            return False
        return True


class RecordingSource:
    """A recording; segments of one recording belong to one session."""

    def __init__(self, path: Path) -> None:
        """Raises BadInputError when it is no recording, or its raw pictures were not recorded."""
        self.path = path
        self.offered = 0
        with RecordingReader(path) as reader:
            header = reader.info.header
            origin = header.recording if header is not None else path.name
        self.session = session_name(Path(origin).stem)

    def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
        gate = _Gate(interval_s, left_out)
        with RecordingReader(self.path) as reader:
            start_ns: int | None = None
            for index in range(len(reader)):
                line = reader.line(index)
                start_ns = line.t_ns if start_ns is None else start_ns
                time_s = (line.t_ns - start_ns) / 1e9
                flags = FrameFlag(line.flags)
                for side in (line.visible, line.thermal):
                    flags |= FrameFlag(side.flags) if side is not None else FrameFlag.NONE
                reason = reason_of(flags)
                if not reason and (
                    line.visible is None or line.thermal is None or not line.visible.at or not line.thermal.at
                ):
                    reason = UNRECORDED
                if not reason and abs(line.skew_ns or 0) > max_skew_ms * 1e6:
                    reason = _WITHOUT[FrameFlag.SKEW_EXCEEDED]
                if reason:
                    left_out[reason] += 1
                    continue
                if not gate.due(time_s):
                    continue
                try:
                    pair = reader.pair(index)
                except RecordingError:
                    left_out["damaged picture"] += 1
                    continue
                if pair.visible is None or pair.thermal is None:
                    left_out["damaged picture"] += 1
                    continue
                candidate = Candidate(
                    index, time_s, (line.skew_ns or 0) / 1e6, pair.visible.pixels, pair.thermal.pixels
                )
                if gate.accept(candidate):
                    self.offered += 1
                    yield candidate


class VideoSource:
    """A visible and a thermal video of one moment, paired by their time stamps."""

    def __init__(self, visible: Path, thermal: Path, offset_ms: float = 0.0) -> None:
        """offset_ms: added to thermal stamps. Raises BadInputError when a file is no video."""
        self.path = visible
        self._thermal = thermal
        self._offset_ns = round(offset_ms * 1e6)
        self.offered = 0
        self.session = session_name(visible.stem)
        refuse_same_picture(visible, thermal)
        for path, stream in ((visible, Stream.VISIBLE), (thermal, Stream.THERMAL)):
            open_reader(path, stream).close()

    def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
        gate = _Gate(interval_s, left_out)
        visible = open_reader(self.path, Stream.VISIBLE)
        try:
            thermal = open_reader(self._thermal, Stream.THERMAL)
            try:
                reach_ns = min(default_max_skew_ns(thermal.rate), round(max_skew_ms * 1e6))
                pairs = pair_by_time(visible.frames(), thermal.frames(), reach_ns, 0, self._offset_ns)
                for index, pair in enumerate(pairs):
                    reason = reason_of(pair.flags)
                    if reason or pair.thermal is None:
                        left_out[reason or "no thermal picture"] += 1
                        continue
                    time_s = pair.visible.frame.timestamp_ns / 1e9
                    if not gate.due(time_s):
                        continue
                    pixels = pair.visible.frame.pixels, pair.thermal.frame.pixels
                    candidate = Candidate(index, time_s, pair.skew_ns / 1e6, *pixels)
                    if gate.accept(candidate):
                        self.offered += 1
                        yield candidate
            finally:
                thermal.close()
        finally:
            visible.close()
