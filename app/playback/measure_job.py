"""Measures over a whole recording: every mark on every pair, in a thread beside the player's; and writes it as CSV."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.playback.fuser import RECORDED, FuseSettings, PlaybackFuser
from app.playback.render import PlaybackJob
from app.playback.sources import NumberedPairs
from app.view.measuring import Convert, Mark, measure
from fusion_core.errors import RecordingError
from fusion_core.files import replacing
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["MeasureJob", "Trace", "write_csv"]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One mark over time: (N,) float64 each, NaN where nothing could be measured. seconds: since the first pair."""

    name: str
    seconds: npt.NDArray[np.float64]
    minimum: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]


class MeasureJob(PlaybackJob):
    """Measures `marks` on every pair. `traces` may be read meanwhile.

    Args:
        convert: counts to the unit of the values; None = counts.
    """

    def __init__(
        self, open_it: Callable[[], NumberedPairs], marks: Sequence[Mark], convert: Convert | None = None
    ) -> None:
        self.marks = tuple(marks)
        self._convert = convert
        self._lock = threading.Lock()
        self._total, self._done = 0, 0
        self._seconds = np.zeros(0)
        self._values = np.zeros((0, len(self.marks), 3))
        super().__init__("measure", open_it)

    @property
    def progress(self) -> tuple[int, int]:
        """Pairs that are measured, and all of them."""
        with self._lock:
            return self._done, self._total

    def traces(self) -> list[Trace]:
        """What is measured so far."""
        with self._lock:
            done = self._done
            seconds, values = self._seconds[:done].copy(), self._values[:done].copy()
        return [
            Trace(mark.name, seconds, *(values[:, number, part] for part in range(3)))
            for number, mark in enumerate(self.marks)
        ]

    def _work(self) -> None:
        source = self._open_it()
        # The AGC does not matter for counts, and the straight one is the cheapest.
        fuser = PlaybackFuser(FuseSettings(RECORDED, agc=AgcConfig(mode=AgcMode.LINEAR)), source.calibration)
        try:
            total = len(source)
            with self._lock:
                self._total = total
                self._seconds = np.array([source.seconds(index) for index in range(total)], np.float64)
                self._values = np.full((total, len(self.marks), 3), np.nan)
            for index in range(total):
                if self._cancelled.is_set():
                    return
                row = self._row(source, fuser, index)
                with self._lock:
                    self._values[index] = row
                    self._done = index + 1
        finally:
            fuser.close()
            source.close()

    def _row(self, source: NumberedPairs, fuser: PlaybackFuser, index: int) -> npt.NDArray[np.float64]:
        row = np.full((len(self.marks), 3), np.nan)
        try:
            frame = fuser.fuse(source.pair(index), None)
        except RecordingError:  # a damaged picture, or only the fused track: a gap in the curve
            return row
        for number, mark in enumerate(self.marks):
            reading = measure(frame, mark, self._convert)
            if reading is not None:
                row[number] = (reading.minimum, reading.mean, reading.maximum)
        return row


def write_csv(path: Path, traces: Sequence[Trace], unit: str) -> None:
    """Write a line per pair: the time, and minimum, mean and maximum of each mark; gaps are empty.

    Raises:
        RecordingError: it cannot be written.
    """
    heads = [f"{trace.name} {what} [{unit}]" for trace in traces for what in ("min", "mean", "max")]
    try:
        with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["time [s]", *heads])
            columns = [values for trace in traces for values in (trace.minimum, trace.mean, trace.maximum)]
            for number, second in enumerate(traces[0].seconds.tolist() if traces else []):
                values = [float(column[number]) for column in columns]
                out.writerow([f"{second:.3f}", *("" if np.isnan(value) else f"{value:.3f}" for value in values)])
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror or error}; choose another folder") from error
