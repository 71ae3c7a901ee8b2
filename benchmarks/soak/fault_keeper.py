"""Keeps a service running as systemd would: notify socket, watchdog, start timeout, restart. For soak tests alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["Keeper", "LogLine", "Stay"]

_LOOK_S: Final = 0.1
_START_S: Final = 90.0
_RESTART_S: Final = 1.0
_ABORT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the service's log. at_s: monotonic arrival; text: all its fields as JSON."""

    at_s: float
    event: str
    text: str


@dataclass
class Stay:
    """One process of the service, from start to end. Times are monotonic s; None = has not happened."""

    pid: int
    started_s: float
    ready_s: float | None = None
    ended_s: float | None = None
    why: str = ""
    exit_code: int | None = None


@dataclass
class _Deadline:
    """When systemd loses its patience."""

    period_s: float
    until_s: float = 0.0
    watching: bool = False
    messages: list[tuple[float, str]] = field(default_factory=list)


class Keeper:
    """Starts `command` and restarts it when it ends or is silent. Threads: `keeper`, and one that reads the log.

    Speaks what sd_notify(3) describes: READY=1, WATCHDOG=1, WATCHDOG_USEC=, EXTEND_TIMEOUT_USEC=, STOPPING=1. A process
    that does not ping in time gets SIGABRT, with a SIGCONT for one that is stopped, and SIGKILL five seconds later.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], watchdog_s: float = 10.0
    ) -> None:
        self._command, self._folder = list(command), folder
        path = folder / "notify"
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(_LOOK_S)
        self._environment = {
            **environment,
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(round(watchdog_s * 1e6)),
        }
        self._watchdog_s = watchdog_s
        self._deadline = _Deadline(watchdog_s)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.stays: list[Stay] = []
        self.lines: list[LogLine] = []
        self.messages = self._deadline.messages
        self._thread = threading.Thread(target=self._run, name="keeper")
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last; 0 before the first."""
        return self.stays[-1].pid if self.stays else 0

    @property
    def pings(self) -> int:
        """WATCHDOG=1 so far."""
        return sum(text == "WATCHDOG=1" for _, text in self.messages)

    def signal(self, number: int) -> None:
        """Send a signal to the process that runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, timeout_s: float = 30.0) -> int | None:
        """SIGTERM, and wait; the exit code. SIGKILL, and None, when it takes longer."""
        self._stopping.set()
        self._thread.join()
        process = self._process
        code: int | None = None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._ended("stopped")
        self._socket.close()
        return code

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        self._start()
        restart_at_s: float | None = None
        while not self._stopping.is_set():
            self._listen()
            now_s = time.monotonic()
            process = self._process
            if restart_at_s is not None:
                if now_s >= restart_at_s:
                    restart_at_s = None
                    self._start()
            elif process is None or process.poll() is not None:
                self._ended("ended by itself")
                restart_at_s = now_s + _RESTART_S
            elif now_s > self._deadline.until_s:
                self._abort(process)
                restart_at_s = time.monotonic() + _RESTART_S

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        now_s = time.monotonic()
        self.stays.append(Stay(self._process.pid, now_s))
        self._deadline.period_s, self._deadline.until_s = self._watchdog_s, now_s + _START_S
        self._deadline.watching = False
        assert self._process.stderr is not None
        threading.Thread(target=self._read, args=(self._process.stderr,), name="keeper log", daemon=True).start()

    def _abort(self, process: subprocess.Popen[bytes]) -> None:
        why = "no ping in time" if self._deadline.watching else "not ready in time"
        process.send_signal(signal.SIGABRT)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_ABORT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._ended(why)

    def _ended(self, why: str) -> None:
        stay = self.stays[-1]
        if stay.ended_s is None:
            stay.ended_s, stay.why = time.monotonic(), why
            stay.exit_code = self._process.returncode if self._process is not None else None

    def _listen(self) -> None:
        try:
            message = self._socket.recv(4096).decode("utf-8", "replace")
        except TimeoutError:
            return
        now_s, deadline = time.monotonic(), self._deadline
        for line in message.splitlines():
            deadline.messages.append((now_s, line))
            name, _, value = line.partition("=")
            if name == "READY" and not deadline.watching:
                deadline.watching = True
                self.stays[-1].ready_s = now_s
                deadline.until_s = now_s + deadline.period_s
            elif name == "WATCHDOG" and value == "1" and deadline.watching:
                deadline.until_s = now_s + deadline.period_s
            elif name == "WATCHDOG_USEC" and deadline.watching:
                deadline.period_s = int(value) / 1e6
                deadline.until_s = now_s + deadline.period_s
            elif name == "EXTEND_TIMEOUT_USEC" and not deadline.watching:
                deadline.until_s = max(deadline.until_s, now_s + int(value) / 1e6)

    def _read(self, stream: IO[bytes]) -> None:
        with stream, (self._folder / "service.log").open("ab") as file:
            for line in stream:
                at_s = time.monotonic()
                file.write(line)
                file.flush()
                text = line.decode("utf-8", "replace").strip()
                self.lines.append(LogLine(at_s, _event_of(text), text))


def _event_of(text: str) -> str:
    try:
        data: Any = json.loads(text)
    except ValueError:
        return ""
    return str(data.get("event", "")) if isinstance(data, dict) else ""
