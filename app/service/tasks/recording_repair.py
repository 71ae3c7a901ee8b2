"""Mends the recordings that a kill or a power cut has left, and tells of every file that is complete."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from app.recording.segments import list_recordings
from app.recording.sidecar import sidecar_path
from app.service.state.health import ServiceWorker
from fusion_core.files import open_plain

__all__ = ["RecordingRepair", "is_ended"]

_LOOK_S: Final = 0.5
_PAGE_S: Final = 5.0  # the recorder writes its page about a file's timing after the file, if at all
_QUIET_S: Final = 15.0  # what has not grown for longer is written by nobody
_MEND_S: Final = 900.0  # to read one recording on a slow disk
_AGAIN_S: Final = 60.0
_LIST_S: Final = 30.0  # the folder's own time stamp is too coarse to be believed alone
_ATTEMPTS: Final = 3
_TAIL: Final = 65_536
_END_MARK: Final = b'"type":"end"'
_LEAST_PRIORITY: Final = 19


def is_ended(video: Path) -> bool:
    """Whether the sidecar ends with its end line: video and sidecar are complete then."""
    try:
        with open_plain(sidecar_path(video)) as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
            tail = stream.read()
    except OSError:
        return False
    return tail.endswith(b"\n") and _END_MARK in tail[:-1].rpartition(b"\n")[2][:200]


@dataclass
class _Open:
    """A recording that is not done with: its size, since when it has that, and what was tried.

    ours: this run writes it, or it was there before; nobody else can be in the middle of it.
    """

    ours: bool
    bytes: int
    since_s: float
    ended_s: float | None = None
    attempts: int = 0


class RecordingRepair(ServiceWorker):
    """Looks twice a second. Thread: `recording repair`.

    What an earlier run left unfinished, and what a full disk cut off, is made to agree with its sidecar by `lumitherm
    recover`, in another process at the least priority: a damaged file can then hurt nothing else.

    Args:
        directory, prefix: see RecordingConfig.
        busy: the recordings that are being written now.
        tell: is called once for every recording that this run has finished or mended.
        clock_s: monotonic.
        recover: command that mends the file that is added to it.
    """

    def __init__(
        self,
        directory: Path,
        prefix: str,
        busy: Callable[[], Iterable[Path]],
        tell: Callable[[Path], None],
        on_failure: Callable[[BaseException], None],
        clock_s: Callable[[], float] = time.monotonic,
        recover: Sequence[str] = (sys.executable, "-P", "-m", "app", "recording", "recover"),
    ) -> None:
        super().__init__("recording repair", self._work, on_failure)
        self._directory, self._prefix, self._busy = directory, prefix, busy
        self._tell, self._clock_s, self._recover = tell, clock_s, tuple(recover)
        self._listed_ns: int | None = None
        self._list_s = 0.0
        self._done: set[str] = set()
        self._open: dict[Path, _Open] = {}

    def look(self, last: bool = False) -> None:
        """Tell of what is complete, mend what is not; `last`: wait for nothing, and mend nothing. Raises OSError."""
        now_s = self._clock_s()
        busy = {path.resolve() for path in self._busy()}
        self._list(now_s)
        for video, state in list(self._open.items()):
            self.heartbeat.beat()
            if video.resolve() in busy:
                state.ours = True
                continue
            if not video.exists():
                del self._open[video]  # by retention
            elif is_ended(video):
                state.ended_s = state.ended_s if state.ended_s is not None else now_s
                if last or video.with_suffix(".md").exists() or now_s - state.ended_s >= _PAGE_S:
                    self._finish(video)
            elif state.ours and not last and self._is_quiet(video, state, now_s):
                self._mend(video, state)

    def _list(self, now_s: float) -> None:
        """Take in what is new in the folder; the first time, what is complete already was told of by another run."""
        try:
            changed_ns = self._directory.stat().st_mtime_ns
        except OSError:
            return  # made by the recorder when it is needed
        if changed_ns == self._listed_ns and now_s < self._list_s:
            return
        first, self._listed_ns, self._list_s = self._listed_ns is None, changed_ns, now_s + _LIST_S
        videos = list_recordings(self._directory, self._prefix)
        self._done &= {video.name for video in videos}
        for video in videos:
            self.heartbeat.beat()
            if video.name in self._done or video in self._open:
                continue
            if first and is_ended(video):
                self._done.add(video.name)
            else:
                self._open[video] = _Open(first, -1, now_s)

    @staticmethod
    def _is_quiet(video: Path, state: _Open, now_s: float) -> bool:
        size = video.stat().st_size
        if size != state.bytes:
            state.bytes, state.since_s = size, now_s
        return now_s - state.since_s >= (_AGAIN_S if state.attempts else _QUIET_S)

    def _finish(self, video: Path) -> None:
        self._open.pop(video, None)
        self._done.add(video.name)
        self._tell(video)

    def _mend(self, video: Path, state: _Open) -> None:
        state.attempts += 1
        state.since_s = self._clock_s()
        log = structlog.get_logger("service")
        reason = self._run_recover(video)
        if self.stopping:
            return
        if not reason and is_ended(video):
            log.info("recording mended", file=video.name)
            self._finish(video)
        elif state.attempts >= _ATTEMPTS:
            log.warning("recording cannot be mended", file=video.name, reason=reason or "its sidecar has no end")
            self._open.pop(video)
            self._done.add(video.name)

    def _run_recover(self, video: Path) -> str:
        """Why it failed; empty when it did not."""
        end_s = time.monotonic() + _MEND_S
        with subprocess.Popen(
            [*self._recover, str(video)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _LEAST_PRIORITY)
            while not self.stopping and time.monotonic() < end_s:
                self.heartbeat.beat()
                try:
                    _, said = process.communicate(timeout=_LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
                return "" if process.returncode == 0 else said.strip()[-300:] or f"exit code {process.returncode}"
            process.kill()
        return f"it took more than {_MEND_S:.0f} s"

    def _work(self, stopping: threading.Event) -> None:
        last = False
        while not last:
            last = stopping.wait(_LOOK_S)
            self.heartbeat.beat()
            try:
                self.look(last)
            except OSError as error:
                structlog.get_logger("service").warning("recordings could not be looked at", reason=str(error))
