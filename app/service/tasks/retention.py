"""Deletes recordings by space, age and class, oldest first by number. What is being written is never touched."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.configuration.service import RetentionConfig
from app.recording.segments import delete_recording, is_protected, list_recordings
from app.recording.sidecar import MAX_LINE_BYTES
from app.recording.writing.disk import free_bytes
from app.service.state.health import ServiceWorker
from app.service.state.operations import KEEP, SNAPSHOT_FOLDER
from fusion_core.files import open_plain, read_json, refuse_planted, write_atomic

__all__ = ["AgeBook", "Kept", "RetentionThread", "has_event", "plan"]

_DAY_S = 86_400.0
_EVENT_MARK = b'"type":"event"'
_MAX_GAP_S = 30 * _DAY_S
_BOOK = ".lumitherm-ages.json"
_FILE_S = 30.0  # to read or delete one recording on a slow disk


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording as retention sees it. event: somebody or something marked a moment in it, or it is protected."""

    path: Path
    bytes: int
    age_s: float
    event: bool
    protected: bool = False


def plan(recordings: Sequence[Kept], config: RetentionConfig, free: int, busy: Iterable[Path] = ()) -> list[Path]:
    """What to delete, in that order.

    Args:
        recordings: oldest first, by number.
        free: bytes that are free on the disk.
        busy: recordings that are being written; they count for the space but are not deleted. The newest recording
            is not deleted either.
    """
    untouchable = set(busy)
    if recordings:
        untouchable.add(recordings[-1].path)
    doomed: dict[Path, int] = {}

    def age_limit(entry: Kept) -> float | None:
        return config.event_max_age_days if entry.event else config.max_age_days

    for entry in recordings:
        days = age_limit(entry)
        if entry.path not in untouchable and not entry.protected and days is not None and entry.age_s > days * _DAY_S:
            doomed[entry.path] = entry.bytes
    total = sum(entry.bytes for entry in recordings)
    for events in (False, True) if config.delete_events_for_space else (False,):
        for entry in recordings:
            freed = sum(doomed.values())
            short = free + freed < config.min_free_gb * 1e9
            over = config.max_gb is not None and total - freed > config.max_gb * 1e9
            if not (short or over):
                break
            if entry.path in untouchable or entry.path in doomed or entry.protected or entry.event is not events:
                continue
            doomed[entry.path] = entry.bytes
    return list(doomed)


def has_event(video: Path) -> bool:
    """Whether the sidecar of a recording holds an event. Reads the file; False when there is none."""
    try:
        with open_plain(video.with_suffix(".jsonl")) as stream:
            while line := stream.readline(MAX_LINE_BYTES):
                if _EVENT_MARK in line[:200]:
                    return True
        return False
    except OSError:
        return False


class AgeBook:
    """How old recordings are, without believing in the wall clock.

    A clock of this book runs while the program runs, by monotonic time. A file of the recordings' folder keeps it.
    What happened in between is taken from the wall clock, if that says something between nothing and thirty days: a
    clock that was reset, or that came to its senses, makes no recording old. One thread.
    """

    def __init__(
        self,
        file: Path,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._file, self._monotonic_s, self._wall_s = file, monotonic_s, wall_s
        self._first_seen: dict[str, float] = {}
        self._base_s = 0.0
        self._begin_s = monotonic_s()
        try:
            data = read_json(file)
            gap_s = wall_s() - float(data["wall_s"])
            self._base_s = float(data["clock_s"]) + (gap_s if 0 <= gap_s <= _MAX_GAP_S else 0.0)
            self._first_seen = {str(name): float(value) for name, value in data["first_seen"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._base_s = 0.0  # a new book, or a damaged one: everything counts as new

    @property
    def now_s(self) -> float:
        """This book's own time."""
        return self._base_s + self._monotonic_s() - self._begin_s

    def age_s(self, name: str) -> float:
        """Seconds since this name was first asked for."""
        return max(0.0, self.now_s - self._first_seen.setdefault(name, self.now_s))

    def save(self, names: Iterable[str]) -> None:
        """Write the book, with these names alone. Raises OSError."""
        known = set(names)
        self._first_seen = {name: seen for name, seen in self._first_seen.items() if name in known}
        text = json.dumps({"clock_s": self.now_s, "wall_s": self._wall_s(), "first_seen": self._first_seen})
        write_atomic(self._file, text)


class RetentionThread(ServiceWorker):
    """Looks every `interval_s`. Thread: `retention`.

    Args:
        directory, prefix: see RecordingConfig.
        busy: the recordings that are being written now.
    """

    def __init__(
        self,
        config: RetentionConfig,
        directory: Path,
        prefix: str,
        busy: Callable[[], Iterable[Path]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__("retention", self._work, on_failure)
        self._config, self._directory, self._prefix = config, directory, prefix
        self._busy = busy
        self._events: dict[Path, tuple[int, bool]] = {}
        self._book: AgeBook | None = None
        self._sizes: dict[Path, int] = {}
        self.deleted = self.deleted_bytes = 0

    def use(self, config: RetentionConfig) -> None:
        """Other limits from the next look on."""
        self._config = config

    def look(self) -> list[Path]:
        """Delete what is due now; returns it. Raises OSError."""
        config = self._config
        if not (config.enabled and self._directory.is_dir()):
            return []
        if self._book is None:
            self._book = AgeBook(self._directory / _BOOK)
        videos = list_recordings(self._directory, self._prefix)
        busy = {path.resolve() for path in self._busy()}
        grown = self._growing(videos)
        busy_videos = [video for video in videos if video.resolve() in busy or video in grown]
        kept = [entry for video in videos if (entry := self._facts(video)) is not None]
        doomed = plan(kept, config, free_bytes(self._directory), busy_videos)
        for video in doomed:
            self.heartbeat.allow(_FILE_S)
            freed = delete_recording(video)
            video.with_suffix(KEEP).unlink(missing_ok=True)
            self.deleted += 1
            self.deleted_bytes += freed
            structlog.get_logger("service").info("recording deleted", file=video.name, bytes=freed)
        self._book.save(video.name for video in videos if video not in doomed)
        self._trim_snapshots(config.max_snapshots)
        return doomed

    def _facts(self, video: Path) -> Kept | None:
        self.heartbeat.allow(_FILE_S)
        try:
            size = sum(part.stat().st_size for part in (video, video.with_suffix(".jsonl")) if part.exists())
        except OSError:
            return None  # deleted meanwhile
        assert self._book is not None
        keep = video.with_suffix(KEEP)
        protected = keep.is_file() and keep.stat().st_size > 0
        event = is_protected(video) or self._has_event(video, size)
        return Kept(video, size, self._book.age_s(video.name), event, protected)

    def _has_event(self, video: Path, size: int) -> bool:
        known = self._events.get(video)
        if known is not None and (known[0] == size or known[1]):
            return known[1]
        found = has_event(video)
        self._events[video] = (size, found)
        return found

    def _growing(self, videos: Sequence[Path]) -> set[Path]:
        """Recordings that have grown since the last look: somebody else may write here too."""
        sizes = {video: video.stat().st_size for video in videos if video.exists()}
        grown = {video for video, size in sizes.items() if self._sizes.get(video, size) != size}
        self._sizes = sizes
        self._events = {video: value for video, value in self._events.items() if video in sizes}
        return grown

    def _trim_snapshots(self, most: int) -> None:
        folder = self._directory / SNAPSHOT_FOLDER
        refuse_planted(folder)
        if folder.is_dir():
            bundles = sorted(path for path in folder.glob("snapshot-*") if path.is_dir() and not path.is_symlink())
            for bundle in bundles[:-most]:
                shutil.rmtree(bundle, ignore_errors=True)

    def _work(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                self.look()
            except OSError as error:
                structlog.get_logger("service").warning("retention could not look", reason=str(error))
            next_s = time.monotonic() + self._config.interval_s
            while (left_s := next_s - time.monotonic()) > 0 and not stopping.wait(min(0.5, left_s)):
                self.heartbeat.beat()
