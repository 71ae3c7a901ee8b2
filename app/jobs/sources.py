"""Where the pairs of a fuse job come from: pictures, two videos, or a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from app.jobs.request import AlignBy, FuseOptions
from app.media.geometry import MediaInput
from app.media.pairing import default_max_skew_ns, pair_by_time
from app.media.pictures import read_picture
from app.media.reader import FrameReader, MediaFrame, open_reader
from app.pipeline.fuse_step import NO_ENGINE
from app.recording.reader import RecordingReader
from fusion_core.errors import BadInputError, LumithermError, RecordingError
from fusion_core.frames import Frame, FramePair, Stream, TimestampSource
from fusion_core.picture_file import COUNTS, PictureReader, ValueScale

__all__ = ["FuseSource", "PicturePairs", "RecordingPairs", "TimedPair", "VideoPairs", "VideoTiming"]

_RATE_SAMPLE = 50


@dataclass(frozen=True, slots=True, eq=False)
class TimedPair:
    """A pair with a visible frame, and where it stands in the output.

    pts, duration: in the time base of the source, 0 = unknown duration; of pictures, `pts` is their number.
    """

    pair: FramePair
    pts: int
    duration: int = 0


@dataclass(frozen=True, slots=True)
class VideoTiming:
    """What a video of these pairs needs. time_base: seconds a unit of `pts`. rate: nominal frames a second."""

    time_base: Fraction
    rate: Fraction | None
    sample_aspect_ratio: Fraction | None = None


class FuseSource(Protocol):
    """The pairs of one job. One thread at a time; what it tells of the job is complete when `pairs` has ended."""

    noun: str  # what it gives, in the plural
    apart: bool  # whether the pairs need not follow each other in time: each is fused as if it were the first
    total: int | None  # how many pairs there may be, None if unknown
    left_out: int  # pairs that could not be read

    @property
    def scale(self) -> ValueScale:
        """What the counts of thermal frames mean in the input's own unit. Raises BadInputError."""
        ...

    @property
    def timing(self) -> VideoTiming | None:
        """Of the video to write; None for pictures."""
        ...

    @property
    def damage(self) -> tuple[str, ...]:
        """One line an input that broke off or could not be read in places."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What else the user should know."""
        ...

    def metadata(self, engine: str) -> dict[str, str]:
        """Tags of the video that this engine makes of the pairs."""

    def pairs(self) -> Iterator[TimedPair]:
        """All pairs in order. Runs once. Raises BadInputError, RecordingError."""

    def complaint(self) -> LumithermError | None:
        """Why what `pairs` gave makes no result; None when it does."""

    def close(self) -> None:
        """Close the inputs."""


class PicturePairs:
    """Pairs of picture files. unmatched: pictures that were left out because they have no partner."""

    noun = "pictures"
    apart = True
    timing = None
    left_out = 0
    damage: tuple[str, ...] = ()

    def __init__(
        self, files: Sequence[tuple[MediaInput, MediaInput]], unmatched: int = 0, accept_colour: bool = False
    ) -> None:
        self._files = files
        self._unmatched = unmatched
        self._visible = PictureReader(Stream.VISIBLE)
        self._thermal = PictureReader(Stream.THERMAL, accept_colour)
        self.total: int | None = len(files)

    @property
    def scale(self) -> ValueScale:
        """Of the first picture: one scale for all."""
        if self._thermal.scale is None:
            PictureReader.read(self._thermal, self._files[0][1].path)
        return self._thermal.scale or COUNTS

    @property
    def notes(self) -> tuple[str, ...]:
        """See `FuseSource`."""
        left = (f"{self._unmatched} pictures without a partner were left out",) if self._unmatched else ()
        return (*left, *self._visible.notes, *self._thermal.notes)

    def metadata(self, engine: str) -> dict[str, str]:
        """Pictures carry no tags."""
        return {}

    def pairs(self) -> Iterator[TimedPair]:
        """See `FuseSource`."""
        for number, (visible, thermal) in enumerate(self._files):
            first, second = (
                Frame(stream, source.cut.apply(read_picture(reader, source.path)), number, 0, TimestampSource.FILE)
                for stream, reader, source in (
                    (Stream.VISIBLE, self._visible, visible),
                    (Stream.THERMAL, self._thermal, thermal),
                )
            )
            yield TimedPair(FramePair(first, second), number)

    def complaint(self) -> LumithermError | None:
        """A pair of pictures always makes a picture."""
        return None

    def close(self) -> None:
        """Nothing stays open between two pictures."""


class VideoPairs:
    """Two videos, or numbered pictures, paired by time: one pair a visible frame, with that frame's time.

    Raises:
        BadInputError: a file cannot be read, or the two declare times that do not meet.
    """

    noun = "frames"
    apart = False
    left_out = 0

    def __init__(
        self, visible: Path, thermal: Path, options: FuseOptions, sequence_fps: float = 25.0, threads: int = 1
    ) -> None:
        self._options = options
        self._constant = self._with_thermal = 0
        self._visible = open_reader(visible, Stream.VISIBLE, sequence_fps, threads)
        try:
            self._thermal = open_reader(thermal, Stream.THERMAL, sequence_fps, threads, options.accept_colour)
        except BaseException:
            self._visible.close()
            raise
        try:
            self._max_skew_ns = self._check_overlap()
        except BaseException:
            self.close()
            raise
        self.total = self._visible.expected_frames

    @property
    def scale(self) -> ValueScale:
        """Of the thermal input."""
        return self._thermal.scale

    @property
    def timing(self) -> VideoTiming:
        """Of the visible video."""
        visible = self._visible
        return VideoTiming(visible.time_base, visible.rate, visible.sample_aspect_ratio)

    @property
    def damage(self) -> tuple[str, ...]:
        """See `FuseSource`."""
        return tuple(damage for damage in (self._visible.damage, self._thermal.damage) if damage is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """See `FuseSource`."""
        visible, thermal = self._visible, self._thermal
        notes = [*visible.notes, *thermal.notes]
        apart_s = thermal.begins_s - visible.begins_s
        if abs(apart_s) > 0.5 / float(visible.rate or 25):
            notes.append(
                f"by their own clocks {visible.path.name} begins at {visible.begins_s:.3f} s and {thermal.path.name} "
                f"at {thermal.begins_s:.3f} s; both starts were taken as one moment (--thermal-offset-ms "
                f"{apart_s * 1000:.0f} goes by the clocks)"
            )
        plainly = self._options.calibration is None and self._options.align is AlignBy.CALIBRATION
        if plainly and abs(visible.width / visible.height / (thermal.width / thermal.height) - 1) > 0.02:
            notes.append(
                f"the pictures differ in shape (visible {visible.width}x{visible.height}, thermal {thermal.width}x"
                f"{thermal.height}); thermal was stretched, a calibrated rig would be aligned properly"
            )
        if self._constant:
            notes.append(
                f"{thermal.path.name}: {self._constant} thermal frames have the same value in every pixel "
                "(lens covered or shutter closed)"
            )
        return tuple(notes)

    def metadata(self, engine: str) -> dict[str, str]:
        """See `FuseSource`."""
        return {"comment": f"fused by Lumitherm ({engine})"}

    def pairs(self) -> Iterator[TimedPair]:
        """See `FuseSource`."""
        options, last = self._options, None
        for found in pair_by_time(
            self._visible.frames(),
            self._thermal.frames(),
            self._max_skew_ns,
            options.max_hold_ns,
            options.thermal_offset_ns,
        ):
            visible, thermal = found.visible, found.thermal
            if thermal is not None:
                self._with_thermal += 1
                self._constant += thermal is not last and _is_constant(thermal)
                last = thermal
            pair = FramePair(visible.frame, None if thermal is None else thermal.frame, found.flags)
            yield TimedPair(pair, visible.pts, visible.duration)

    def complaint(self) -> LumithermError | None:
        """Not one visible frame has a thermal partner."""
        return None if self._with_thermal else self._no_overlap()

    def close(self) -> None:
        """Close both files."""
        self._visible.close()
        self._thermal.close()

    def _check_overlap(self) -> int:
        """The largest skew of a pair, ns."""
        visible, thermal, options = self._visible, self._thermal, self._options
        max_skew_ns = options.max_skew_ns if options.max_skew_ns is not None else default_max_skew_ns(thermal.rate)
        offset_s, slack_s = options.thermal_offset_ns / 1e9, max_skew_ns / 1e9
        starts_late = visible.end_s is not None and thermal.start_s + offset_s > visible.end_s + slack_s
        ends_early = thermal.end_s is not None and thermal.end_s + offset_s < visible.start_s - slack_s
        if starts_late or ends_early:
            raise self._no_overlap()
        return max_skew_ns

    def _no_overlap(self) -> BadInputError:
        visible, thermal, offset_s = self._visible, self._thermal, self._options.thermal_offset_ns / 1e9
        shift_ms = (visible.start_s - thermal.start_s) * 1000
        return BadInputError(
            f"the two do not overlap in time: {visible.path} covers {_span(visible, 0.0)}, {thermal.path} covers "
            f"{_span(thermal, offset_s)}. If both began together, --thermal-offset-ms {shift_ms:.0f} moves thermal "
            "there."
        )


def _span(reader: FrameReader, offset_s: float) -> str:
    end = "its end" if reader.end_s is None else f"{reader.end_s + offset_s:.3f} s"
    return f"{reader.start_s + offset_s:.3f} s to {end}"


def _is_constant(frame: MediaFrame) -> bool:
    return bool(frame.frame.pixels.min() == frame.frame.pixels.max())


class RecordingPairs:
    """The pairs of a recording that have a visible frame: all of its raw frames, paired as `RecordingReader` does it.

    Pairs that cannot be decoded are left out and counted.

    Args:
        title: of the video; "" = the recording's name.

    Raises:
        RecordingError: the recording cannot be opened.
    """

    noun = "frames"
    apart = False
    scale = COUNTS
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, title: str = "") -> None:
        self._path, self._title = path, title or path.stem
        self._reader = RecordingReader(path)
        self._given = self.left_out = 0
        self.total: int | None = len(self._reader)

    @property
    def timing(self) -> VideoTiming:
        """Milliseconds since the first pair."""
        return VideoTiming(Fraction(1, 1000), _rate(self._reader))

    @property
    def damage(self) -> tuple[str, ...]:
        """See `FuseSource`."""
        if not self.left_out:
            return ()
        return (f"{self.left_out} pairs of {self._path} could not be decoded and were left out",)

    def metadata(self, engine: str) -> dict[str, str]:
        """See `FuseSource`."""
        return {"title": self._title, "engine": "" if engine == NO_ENGINE else engine}

    def pairs(self) -> Iterator[TimedPair]:
        """See `FuseSource`."""
        start_ns: int | None = None
        last_ms = -1
        for index in range(len(self._reader)):
            if self._reader.line(index).visible is None or not self._reader.has_pair(index):
                continue
            try:
                pair = self._reader.pair(index)
            except RecordingError:
                self.left_out += 1
                continue
            if pair.visible is None:
                continue
            t_ns = self._reader.line(index).t_ns
            start_ns = t_ns if start_ns is None else start_ns
            last_ms = max(last_ms + 1, round((t_ns - start_ns) / 1e6))
            self._given += 1
            yield TimedPair(pair, last_ms)

    def complaint(self) -> LumithermError | None:
        """No pair with a visible frame can be read."""
        if self._given:
            return None
        return BadInputError(
            f"{self._path} holds no pair with a visible picture that can be read "
            f"({self.left_out} damaged); `lumitherm recording check` tells more"
        )

    def close(self) -> None:
        """Close the recording."""
        self._reader.close()


def _rate(reader: RecordingReader) -> Fraction | None:
    count = min(len(reader) - 1, _RATE_SAMPLE)
    if count < 1:
        return None
    span_ns = reader.line(count).t_ns - reader.line(0).t_ns
    return Fraction(count * 1_000_000_000, span_ns) if span_ns > 0 else None
