"""How long the GUI thread is away: a timer that should fire every few ms notes each gap, and where the time went.

A gap is the time between two beats. It divides into the thread's own work (processor time), waiting for a processor
(others run on it) and being held up: the interpreter's lock, a lock of ours, or a slow system call.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PyQt6.QtCore import QObject, Qt, QTimer

__all__ = ["Gap", "Heartbeat", "HeartbeatFigures"]

_INTERVAL_MS = 5
_MOST_GAPS = 400  # of the long ones; more are counted, not kept
_FINE_MS = 0.1  # gaps are counted in bins of this width
_BINS = 100_000


@dataclass(frozen=True, slots=True)
class Gap:
    """One long gap. at_s: since the start. work + ready + held: where it went, ms. stacks: of all threads during it."""

    at_s: float
    gap_ms: float
    work_ms: float
    ready_ms: float
    held_ms: float
    stacks: str = ""


@dataclass(frozen=True, slots=True)
class HeartbeatFigures:
    """Of all gaps so far, ms. over_50: how many were longer than 50 ms. own_worst: the most own work in one gap."""

    beats: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    own_worst_ms: float
    over_20: int
    over_50: int


class Heartbeat(QObject):
    """Beats from `start` to `stop`. GUI thread; bounded memory.

    Args:
        note_ms: gaps longer than this are kept one by one.
        stacks: also write down what all threads do while a gap lasts longer than that. Costs some 100 us a beat, and
            works while another thread holds the interpreter's lock.
    """

    def __init__(self, note_ms: float = 20.0, *, stacks: bool = False, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.gaps: list[Gap] = []
        self.missed = 0  # long gaps that found no room
        self._note_ms = note_ms
        self._bins = [0] * (_BINS + 1)
        self._beats = 0
        self._worst_ms = self._own_worst_ms = self._recent_ms = 0.0
        self._stacks: IO[str] | None = tempfile.TemporaryFile("w+", encoding="utf-8") if stacks else None  # noqa: SIM115
        self._read_to = 0
        self._schedstat = -1
        self._began_s = self._last_s = 0.0
        self._worked_s = 0.0
        self._ready_ns = 0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Begin; the first gap is counted from here."""
        path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        if self._schedstat < 0 and sys.platform == "linux" and path.exists():
            self._schedstat = os.open(path, os.O_RDONLY)
        self._began_s = time.perf_counter()
        self.forget()
        self._timer.start()
        self._arm()

    def forget(self) -> None:
        """Leave out the gap that lasts: it is there on purpose."""
        self._last_s, self._worked_s, self._ready_ns = time.perf_counter(), time.thread_time(), self._waited_ns()

    def stop(self) -> None:
        """End; figures stay."""
        self._timer.stop()
        if self._stacks is not None:
            faulthandler.cancel_dump_traceback_later()
            self._stacks.close()
            self._stacks = None
        if self._schedstat >= 0:
            os.close(self._schedstat)
            self._schedstat = -1

    @property
    def figures(self) -> HeartbeatFigures:
        """Of all gaps so far; zeros before the first beat."""
        return HeartbeatFigures(
            self._beats,
            self._percentile(50.0),
            self._percentile(99.0),
            self._worst_ms,
            self._own_worst_ms,
            sum(self._bins[round(20 / _FINE_MS) :]),
            sum(self._bins[round(50 / _FINE_MS) :]),
        )

    def take_worst_ms(self) -> float:
        """The longest gap since the last call, ms. Any thread."""
        worst_ms, self._recent_ms = self._recent_ms, 0.0
        return worst_ms

    def _percentile(self, percent: float) -> float:
        wanted, seen = self._beats * percent / 100, 0
        for number, count in enumerate(self._bins):
            seen += count
            if seen >= wanted and seen:
                return min(self._worst_ms, (number + 1) * _FINE_MS)
        return 0.0

    def _beat(self) -> None:
        now_s, worked_s, ready_ns = time.perf_counter(), time.thread_time(), self._waited_ns()
        gap_ms = (now_s - self._last_s) * 1e3
        work_ms = (worked_s - self._worked_s) * 1e3
        self._bins[min(_BINS, int(gap_ms / _FINE_MS))] += 1
        self._beats += 1
        self._worst_ms, self._own_worst_ms = max(self._worst_ms, gap_ms), max(self._own_worst_ms, work_ms)
        self._recent_ms = max(self._recent_ms, gap_ms)
        if gap_ms > self._note_ms:
            ready_ms = (ready_ns - self._ready_ns) / 1e6
            held_ms = max(0.0, gap_ms - work_ms - ready_ms - _INTERVAL_MS)
            stacks = self._dumped()
            if len(self.gaps) < _MOST_GAPS:
                self.gaps.append(Gap(now_s - self._began_s, gap_ms, work_ms, ready_ms, held_ms, stacks))
            else:
                self.missed += 1
        self.forget()
        self._arm()

    def _arm(self) -> None:
        if self._stacks is not None:
            faulthandler.dump_traceback_later(self._note_ms / 1e3, repeat=True, file=self._stacks)

    def _dumped(self) -> str:
        """What was written since the last call, threads by name. Their names are looked up now."""
        if self._stacks is None:
            return ""
        faulthandler.cancel_dump_traceback_later()
        self._stacks.seek(self._read_to)
        text = self._stacks.read()
        self._read_to = self._stacks.tell()
        for thread in threading.enumerate():
            if thread.ident is not None:
                text = text.replace(f"Thread 0x{thread.ident:016x}", f"Thread {thread.name}")
        return text

    def _waited_ns(self) -> int:
        """How long this thread has waited for a processor so far; 0 where the system does not tell."""
        if self._schedstat < 0:
            return 0
        return int(os.pread(self._schedstat, 100, 0).split()[1])
