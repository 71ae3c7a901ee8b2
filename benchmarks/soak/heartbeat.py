"""How long the GUI thread is away: a timer that should fire every few ms notes each gap, and where the time went.

A gap is the time between two beats. It divides into the thread's own work (processor time), waiting for a processor
(others run on it) and being held up: the interpreter's lock, a lock of ours, or a slow system call.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PyQt6.QtCore import QObject, Qt, QTimer

__all__ = ["Gap", "Heartbeat", "HeartbeatFigures"]

_INTERVAL_MS = 5
_MOST_GAPS = 400  # of the long ones; more are counted, not kept
_FINE_MS = 0.1  # gaps are counted in bins of this width
_BINS = 100_000
_DEEPEST = 6  # calls shown of a thread


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
    """Of all gaps so far, ms. over_50: how many were longer than 50 ms. own_...: the same of the own work in a gap."""

    beats: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    over_20: int
    over_50: int
    own_p50_ms: float
    own_p99_ms: float
    own_worst_ms: float
    own_over_20: int
    own_over_50: int


def _weight(gap: Gap) -> float:
    """What makes a gap worth keeping: the thread's own work before what others did to it."""
    return max(gap.work_ms, gap.gap_ms / 4)


class _Distribution:
    """Counts values in bins. The last bin takes all that is larger."""

    def __init__(self) -> None:
        self.worst_ms = 0.0
        self._bins = np.zeros(_BINS + 1, np.int64)

    def add(self, ms: float) -> None:
        self._bins[min(_BINS, int(ms / _FINE_MS))] += 1
        self.worst_ms = max(self.worst_ms, ms)

    def over(self, ms: float) -> int:
        return int(self._bins[round(ms / _FINE_MS) :].sum())

    def percentile(self, percent: float) -> float:
        upto = np.cumsum(self._bins)
        if not upto[-1]:
            return 0.0
        number = int(np.searchsorted(upto, max(1.0, upto[-1] * percent / 100)))
        return min(self.worst_ms, (number + 1) * _FINE_MS)


class Heartbeat(QObject):
    """Beats from `start` to `stop`. GUI thread; bounded memory.

    Args:
        note_ms: gaps longer than this are kept one by one.
        stacks: also note what all threads do when a gap has lasted that long; costs a thread, `heartbeat stacks`, that
            looks every few ms. It needs the interpreter's lock: a look that comes late says that somebody held it.
    """

    def __init__(self, note_ms: float = 20.0, *, stacks: bool = False, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.gaps: list[Gap] = []
        self.missed = 0  # long gaps that found no room: the least of them
        self._note_ms = note_ms
        self._gaps_ms, self._work_ms = _Distribution(), _Distribution()
        self._beats = 0
        self._recent_ms = 0.0
        self._look = stacks
        self._over = threading.Event()
        self._looker: threading.Thread | None = None
        self._seen: tuple[float, str] = (0.0, "")  # the beat before the gap, and what was seen during it
        self._gui_thread = 0
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
        self._gui_thread = threading.get_ident()
        self._timer.start()
        if self._look and self._looker is None:
            self._looker = threading.Thread(target=self._watch, name="heartbeat stacks")
            self._looker.start()

    def forget(self) -> None:
        """Leave out the gap that lasts: it is there on purpose."""
        self._last_s, self._worked_s, self._ready_ns = time.perf_counter(), time.thread_time(), self._waited_ns()

    def stop(self) -> None:
        """End; figures stay."""
        self._timer.stop()
        self._over.set()
        if self._looker is not None:
            self._looker.join()
        if self._schedstat >= 0:
            os.close(self._schedstat)
            self._schedstat = -1

    @property
    def beats(self) -> int:
        """How many there were."""
        return self._beats

    @property
    def figures(self) -> HeartbeatFigures:
        """Of all gaps so far; zeros before the first beat."""
        wall, own = self._gaps_ms, self._work_ms
        return HeartbeatFigures(
            beats=self._beats,
            p50_ms=wall.percentile(50.0),
            p99_ms=wall.percentile(99.0),
            worst_ms=wall.worst_ms,
            over_20=wall.over(20.0),
            over_50=wall.over(50.0),
            own_p50_ms=own.percentile(50.0),
            own_p99_ms=own.percentile(99.0),
            own_worst_ms=own.worst_ms,
            own_over_20=own.over(20.0),
            own_over_50=own.over(50.0),
        )

    def take_worst_ms(self) -> float:
        """The longest gap since the last call, ms. Any thread."""
        worst_ms, self._recent_ms = self._recent_ms, 0.0
        return worst_ms

    def _beat(self) -> None:
        now_s, worked_s, ready_ns = time.perf_counter(), time.thread_time(), self._waited_ns()
        gap_ms = (now_s - self._last_s) * 1e3
        work_ms = (worked_s - self._worked_s) * 1e3
        self._gaps_ms.add(gap_ms)
        self._work_ms.add(work_ms)
        self._beats += 1
        self._recent_ms = max(self._recent_ms, gap_ms)
        if gap_ms > self._note_ms:
            ready_ms = (ready_ns - self._ready_ns) / 1e6
            held_ms = max(0.0, gap_ms - work_ms - ready_ms - _INTERVAL_MS)
            before_s, stacks = self._seen
            stacks = stacks if before_s == self._last_s else ""
            self.gaps.append(Gap(now_s - self._began_s, gap_ms, work_ms, ready_ms, held_ms, stacks))
            if len(self.gaps) > _MOST_GAPS:
                self.gaps.remove(min(self.gaps, key=_weight))
                self.missed += 1
        self.forget()

    def _watch(self) -> None:
        """The looker: once in each long gap, all stacks, the GUI thread's first."""
        while not self._over.wait(_INTERVAL_MS / 2e3):
            last_s, now_s = self._last_s, time.perf_counter()
            gap_ms = (now_s - last_s) * 1e3
            if gap_ms > self._note_ms and self._seen[0] != last_s:
                self._seen = last_s, f"after {gap_ms:.0f} ms:\n{self._stacks()}"

    def _stacks(self) -> str:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        current = sys._current_frames()
        current.pop(threading.get_ident(), None)  # it would hold itself, and with it every picture in the others' hands
        frames = sorted(current.items(), key=lambda item: item[0] != self._gui_thread)
        return "".join(
            f"  {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame)[-_DEEPEST:])}"
            for ident, frame in frames
        )

    def _waited_ns(self) -> int:
        """How long this thread has waited for a processor so far; 0 where the system does not tell."""
        if self._schedstat < 0:
            return 0
        return int(os.pread(self._schedstat, 100, 0).split()[1])
