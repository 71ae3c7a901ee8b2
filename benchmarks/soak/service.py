"""Runs a real service process for an hour with a fault every half minute, and tells how it coped.

    python -m benchmarks.soak.service --minutes 60 --out fault_soak_out

Both cameras are RTSP streams of real servers on the loopback, a third takes the pushed picture, recordings go to a
small file system, and a keeper stands in for systemd. Writes OUT/report.md, OUT/faults.csv, OUT/samples.csv and
OUT/soak.png. Needs a checkout (its servers are in tests/) and what those servers need; as root a tmpfs is mounted for
the full disk, and a C compiler is wanted to move the wall clock. What is missing leaves its faults out, by name.

At the end the engine hangs five times in a row, so that the service is restarted and goes on in safe mode.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from app.service.web.control import ask
from benchmarks.soak.fault_clock import StepClock, missing_reason
from benchmarks.soak.fault_keeper import Keeper, LogLine
from benchmarks.soak.fault_report import Fault, Outcome, Picture, Sample, write_report
from benchmarks.soak.fault_rig import FAILS, HANGS, PICTURES
from benchmarks.soak.faults import full_disk
from benchmarks.soak.pipeline import small_disk
from fusion_core.errors import LumithermError, UsageError
from fusion_core.frames import FrameFlag

__all__ = ["FaultSoak", "Plan", "main"]

FPS: Final = 15
WIDTH, HEIGHT = 320, 240
_PATIENCE_S: Final = 20.0  # after the interval, for what takes longer
_TESTS = Path(__file__).parents[2] / "tests"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how often, how hard. hold: length of the faults, 1 = as in the table of faults."""

    seconds: float = 3600.0
    interval_s: float = 30.0
    hold: float = 1.0
    safe_mode: bool = True  # end with five hangs in a row
    only: tuple[str, ...] = ()  # names of faults; empty = all


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of fault. noticed, back: words of a log line that says so; back "" = the first sound picture."""

    name: str
    make: Callable[[], contextlib.AbstractContextManager[None]]
    noticed: str
    back: str = ""
    needs: str | None = None  # why it cannot be made here; None = it can


@dataclass
class _World:
    """The servers around the service."""

    visible: Any
    thermal: Any
    media: Any
    gone: list[Any] = field(default_factory=list)


class FaultSoak:
    """One run in the folder `out`; recordings go to `disk`. Threads: `soak sampler`, the keeper's."""

    def __init__(self, plan: Plan, out: Path, disk: Path, small: bool) -> None:
        self._plan, self._out, self._disk, self._small = plan, out, disk, small
        self._cameras, self._recorder = _servers()
        self._world = _World(
            self._cameras.RtspServer(fps=FPS, width=WIDTH, height=HEIGHT, loss=0.0),
            self._cameras.RtspServer(fps=FPS, width=WIDTH, height=HEIGHT),
            self._recorder.RecordServer(),
        )
        self._config = out / "rig.yaml"
        self._socket = out / "rig.sock"
        self._token = "soak-token-" + "x" * 24
        for stale in (FAILS, HANGS, PICTURES):
            (out / stale).unlink(missing_ok=True)
        self._write_config()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._no_clock = missing_reason()
        if self._no_clock is None:
            self._clock = StepClock(out)
            environment |= self._clock.environment
        command = [
            sys.executable,
            "-m",
            "benchmarks.soak.fault_rig",
            "--config",
            str(self._config),
            "--switches",
            str(out),
        ]
        self.keeper = Keeper(command, out, environment)
        self.outcome = Outcome(began_s=time.monotonic(), fps=FPS)
        self._over = threading.Event()
        self._read_to = 0
        self._sampler = threading.Thread(target=self._sample, name="soak sampler")

    # ------------------------------------------------------------------ set-up

    def _write_config(self, extra: str = "") -> None:
        reopen = {"first_backoff_s": 0.5, "max_backoff_s": 2.0}
        token = self._out / "token"
        token.touch(0o600)
        token.write_text(self._token + "\n", encoding="ascii")
        document = {
            "rig": "soak",
            "visible": {"uri": self._world.visible.url("visible") + "?transport=udp", "reopen": reopen},
            "thermal": {
                "uri": self._world.thermal.url("thermal") + "?transport=tcp",
                "accept_colour": True,
                "reopen": reopen,
            },
            "engine": {"name": "average"},
            "recording": {
                "directory": str(self._disk),
                "autostart": True,
                "encoder": "software",
                "split_s": 60,
                "reserve_mb": 8,
                "reserve_s": 0,
            },
            "logging": {"format": "json", "repeat_interval_s": 0, "stats_interval_s": 60},
            "service": {
                "state_directory": str(self._out / "state"),
                "control": {"socket": str(self._socket)},
                "web": {"enabled": True, "port": _free_port(), "token_file": str(token)},
                "push": [{"name": "fused", "url": self._world.media.url, "encoder": "software", "max_fps": FPS}],
                "triggers": [{"name": "hot", "kind": "hot", "counts": 65535}],
                "retention": {"enabled": True, "max_gb": 0.08, "min_free_gb": 0, "interval_s": 5},
                "watchdog": {"max_restarts": 5},
            },
        }
        self._text = yaml.safe_dump(document, sort_keys=False)
        self._port = document["service"]["web"]["port"]  # type: ignore[index]
        self._config.write_text(self._text + extra, encoding="utf-8")

    # ------------------------------------------------------------------ the faults

    def kinds(self) -> list[_Kind]:
        """All that can befall it here, in turn."""
        no_disk = None if self._small else "no small file system could be mounted"
        no_clock = self._no_clock
        return [
            _Kind("visible camera killed (UDP)", lambda: self._killed("visible"), "visible camera is"),
            _Kind("corrupt configuration, SIGHUP", self._corrupt, "not reloaded", "configuration reloaded"),
            _Kind("thermal camera killed (TCP)", lambda: self._killed("thermal"), "thermal camera is"),
            _Kind("media server killed", self._media_killed, "pushing is interrupted", "pushing"),
            _Kind("thermal RTSP server stalled", self._stalled, "thermal camera is"),
            _Kind("engine fails", self._engine_fails, "engine problem", "fuses from now on"),
            _Kind("30 % of visible's packets lost", self._lossy, ""),
            _Kind("push process stopped (SIGSTOP)", self._push_stopped, "pushing is interrupted", "pushing"),
            _Kind("disk full", self._disk_full, "nothing is recorded", "there is space again", no_disk),
            _Kind("wall clock +1 h", lambda: self._clock_step(3600), "", "", no_clock),
            _Kind("both cameras killed", lambda: self._killed("visible", "thermal"), "camera is"),
            _Kind("wall clock -1 h", lambda: self._clock_step(0), "", "", no_clock),
            _Kind("a camera's process killed", lambda: self._camera_struck(signal.SIGKILL), "camera is"),
            _Kind("200 half-open clients", self._half_open, ""),
            _Kind("a camera's process stopped (SIGSTOP)", lambda: self._camera_struck(signal.SIGSTOP), "camera is"),
            _Kind("a camera's process out of memory", lambda: self._camera_struck(None), "camera is"),
            _Kind("whole process stopped (SIGSTOP)", self._process_stopped, ""),
        ]

    @contextlib.contextmanager
    def _killed(self, *names: str) -> Iterator[None]:
        ports = {name: getattr(self._world, name).port for name in names}
        for name in names:
            getattr(self._world, name).kill()
        self._sleep(5)
        for name, port in ports.items():
            loss = 0.0 if name == "visible" else None
            server = self._cameras.RtspServer(port=port, fps=FPS, width=WIDTH, height=HEIGHT, loss=loss)
            setattr(self._world, name, server)
        yield

    @contextlib.contextmanager
    def _stalled(self) -> Iterator[None]:
        self._world.thermal.freeze()
        self._sleep(5)
        self._world.thermal.thaw()
        yield

    @contextlib.contextmanager
    def _lossy(self) -> Iterator[None]:
        self._world.visible.change_loss(0.3)
        self._sleep(5)
        self._world.visible.change_loss(0.0)
        yield

    @contextlib.contextmanager
    def _disk_full(self) -> Iterator[None]:
        with full_disk(self._disk):
            self._sleep(10)
        yield

    @contextlib.contextmanager
    def _clock_step(self, seconds: int) -> Iterator[None]:
        self._clock.step(seconds)
        self._sleep(5)
        yield

    @contextlib.contextmanager
    def _media_killed(self) -> Iterator[None]:
        port = self._world.media.port
        self._world.media.kill()
        self._sleep(10)
        self._world.media = self._recorder.RecordServer(port)
        yield

    @contextlib.contextmanager
    def _push_stopped(self) -> Iterator[None]:
        for child in psutil.Process(self.keeper.pid).children():
            if "app.service.tasks.push_child" in " ".join(child.cmdline()):
                child.suspend()  # the service ends it by itself
        self._sleep(5)
        yield

    @contextlib.contextmanager
    def _camera_struck(self, number: signal.Signals | None) -> Iterator[None]:
        """Signal the oldest camera's process, or let it allocate nothing more."""
        found = [
            child
            for child in psutil.Process(self.keeper.pid).children()
            if "app.capture.camera_process" in " ".join(child.cmdline())
        ]
        if found:
            oldest = min(found, key=lambda child: child.create_time())
            if number is not None:
                oldest.send_signal(number)
            else:
                oldest.rlimit(psutil.RLIMIT_DATA, (4096, 4096))
        self._sleep(5)
        yield

    @contextlib.contextmanager
    def _half_open(self) -> Iterator[None]:
        """Health must answer all the while; what it says is in the samples, and a slow answer is told here."""
        folder = Path(__file__).resolve().parents[2] / "tests"
        command = [sys.executable, "-m", "support.half_open", str(self._port), "200"]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
        worst_s, end_s = 0.0, time.monotonic() + 5 * self._plan.hold
        try:
            while time.monotonic() < end_s:
                began_s = time.monotonic()
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{self._port}/healthz", timeout=5).close()
                worst_s = max(worst_s, time.monotonic() - began_s)
                time.sleep(0.1)
        finally:
            child.kill()
            child.wait()
        print(f"health beside 200 half-open clients: at most {worst_s * 1e3:.0f} ms", file=sys.stderr)
        yield

    @contextlib.contextmanager
    def _process_stopped(self) -> Iterator[None]:
        self.keeper.signal(signal.SIGSTOP)
        self._sleep(5)
        self.keeper.signal(signal.SIGCONT)
        yield

    @contextlib.contextmanager
    def _engine_fails(self) -> Iterator[None]:
        before = len(self.keeper.lines)
        (self._out / FAILS).touch()
        self._sleep(2)
        # On a busy machine no picture may have come in that time, so nothing has failed yet.
        self._until(lambda: any("engine problem" in line.text for line in self.keeper.lines[before:]), _PATIENCE_S)
        (self._out / FAILS).unlink()
        yield

    @contextlib.contextmanager
    def _corrupt(self) -> Iterator[None]:
        self._config.write_text(self._text + "\nengine: [\n", encoding="utf-8")
        self.keeper.signal(signal.SIGHUP)
        self._sleep(3)
        self._config.write_text(self._text, encoding="utf-8")
        self.keeper.signal(signal.SIGHUP)
        yield

    @contextlib.contextmanager
    def _engine_hangs(self) -> Iterator[None]:
        before = len(self.keeper.stays)
        (self._out / HANGS).touch()
        self._until(lambda: len(self.keeper.stays) > before or self.keeper.stays[-1].ended_s is not None, 60)
        (self._out / HANGS).unlink()
        yield

    def _sleep(self, seconds: float) -> None:
        time.sleep(seconds * self._plan.hold)

    @staticmethod
    def _until(condition: Callable[[], bool], limit_s: float) -> bool:
        end_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end_s:
                return False
            time.sleep(0.02)
        return True

    # ------------------------------------------------------------------ the run

    def run(self) -> Outcome:
        """All of it. Raises LumithermError when the service does not even start."""
        try:
            if not self._until(lambda: bool(self.keeper.stays and self.keeper.stays[0].ready_s), 90):
                raise LumithermError(f"the service did not start; see {self._out / 'service.log'}")
            self._sampler.start()
            self.outcome.began_s = time.monotonic()
            end_s = self.outcome.began_s + self._plan.seconds
            hangs = 6 if self._plan.safe_mode else 0
            time.sleep(min(10.0, self._plan.interval_s))
            kinds = [kind for kind in self.kinds() if not self._plan.only or kind.name in self._plan.only]
            self.outcome.left_out = [f"{kind.name}: {kind.needs}" for kind in kinds if kind.needs is not None]
            kinds = [kind for kind in kinds if kind.needs is None]
            number = 0
            while time.monotonic() + (1 + 1.2 * hangs) * self._plan.interval_s <= end_s:
                self._fault(kinds[number % len(kinds)])
                number += 1
            if self._plan.safe_mode:
                self._to_safe_mode()
        finally:
            self._finish()
        return self.outcome

    def _fault(self, kind: _Kind) -> None:
        lines_before = len(self.keeper.lines)
        fault = Fault(kind.name, time.monotonic() - self.outcome.began_s)
        next_s = time.monotonic() + self._plan.interval_s
        with kind.make():
            pass
        ended_s = time.monotonic()
        fault.ended_s = ended_s - self.outcome.began_s
        time.sleep(max(0.0, next_s - time.monotonic()))
        give_up_s = time.monotonic() + _PATIENCE_S
        while True:
            self._read_pictures()
            self._conclude(fault, kind, self.keeper.lines[lines_before:], ended_s)
            if fault.back_s is not None or time.monotonic() > give_up_s:
                break
            time.sleep(0.5)
        self.outcome.faults.append(fault)
        print(fault, file=sys.stderr)
        del self._world.media.units[:]

    def _conclude(self, fault: Fault, kind: _Kind, lines: Sequence[LogLine], ended_s: float) -> None:
        began_s, zero_s = fault.began_s, self.outcome.began_s
        pictures = [p for p in self.outcome.pictures if p.at_s >= began_s]
        noticed = next((x.at_s - zero_s - began_s for x in lines if kind.noticed and kind.noticed in x.text), None)
        if noticed is None and kind.noticed == "":
            marked = (p.at_s - began_s for p in pictures if p.flags & FrameFlag.GAP_BEFORE)
            noticed = next(marked, None)
        fault.noticed_s = noticed
        if kind.back:
            after = [x.at_s - ended_s for x in lines if kind.back in x.event or kind.back in x.text]
            fault.back_s = next((seconds for seconds in after if seconds >= -0.5), None)
            fault.back_s = max(0.0, fault.back_s) if fault.back_s is not None else None
        else:
            sound = (p.at_s - fault.ended_s for p in pictures if p.sound and p.at_s >= fault.ended_s)
            fault.back_s = next(sound, None)
        until_s = began_s + self._plan.interval_s
        inside = [p for p in pictures if p.at_s < until_s]
        fault.missing = max(0, round(self._plan.interval_s * FPS) - len(inside) - 1)
        fault.alone = sum(not p.sound for p in inside)

    def _to_safe_mode(self) -> None:
        """Five hangs in a row: the fifth restart begins safe mode, which records visible and thermal."""
        limit_s = 4 * self._plan.interval_s + 60
        for _ in range(5):
            self._fault(_Kind("engine hangs", self._engine_hangs, "stuck"))
            self._until(lambda: self.keeper.stays[-1].ready_s is not None, limit_s)
        with contextlib.suppress(LumithermError):
            self._until(lambda: self._status()["stats"]["frames"]["recorded"] > 3 * FPS, limit_s)
            status = self._status()
            self.outcome.safe_mode = {
                "safe_mode": status["safe_mode"],
                "restarts": status["restarts"],
                "recording": status["stats"]["recording"],
                "recorded": status["stats"]["frames"]["recorded"],
            }

    def _status(self) -> dict[str, Any]:
        return ask(self._socket, "status", {}, 10.0)

    def _read_pictures(self) -> None:
        path = self._out / PICTURES
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            at_ns, _, flags = line.split()
            self.outcome.pictures.append(Picture(int(at_ns) / 1e9 - self.outcome.began_s, FrameFlag(int(flags))))

    def _sample(self) -> None:
        """Every second memory and handles; every fifteen a scrape, as a monitoring system does."""
        number = 0
        while not self._over.wait(1.0):
            number += 1
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.keeper.pid)
                self.outcome.samples.append(
                    Sample(
                        time.monotonic() - self.outcome.began_s,
                        self.keeper.pid,
                        process.memory_info().rss / 1e6,
                        process.num_threads(),
                        process.num_fds(),
                        sum(process.cpu_times()[:2]),
                    )
                )
            if number % 15 == 0:
                self._scrape()

    def _scrape(self) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/metrics", headers={"Authorization": f"Bearer {self._token}"}
        )
        began_s = time.monotonic()
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
                self.outcome.scrape_bytes = len(answer.read())
            self.outcome.scrapes_s.append(time.monotonic() - began_s)
        except OSError:
            self.outcome.scrape_failures += 1

    def _finish(self) -> None:
        self._over.set()
        if self._sampler.ident is not None:
            self._sampler.join()
        self.outcome.exit_code = self.keeper.stop()
        self._read_pictures()
        for server in (self._world.visible, self._world.thermal, self._world.media):
            with contextlib.suppress(ProcessLookupError):
                server.kill()
        self.outcome.seconds = time.monotonic() - self.outcome.began_s
        self.outcome.stays = self.keeper.stays
        self.outcome.pings = self.keeper.pings
        self.outcome.errors = [line.text for line in self.keeper.lines if "Traceback" in line.text]
        write_report(self.outcome, self._disk, self._out)


def _servers() -> tuple[Any, Any]:
    """The modules of the two RTSP servers. Raises UsageError when they, or what they need, are missing."""
    if not (_TESTS / "support").is_dir():
        raise UsageError(f"{_TESTS} is not there; run this from a checkout of the project")
    if str(_TESTS) not in sys.path:
        sys.path.insert(0, str(_TESTS))
    modules = [importlib.import_module(f"support.{name}") for name in ("rtsp_server", "rtsp_record_server")]
    for module in modules:
        reason = module.missing_reason()
        if reason is not None:
            raise UsageError(reason)
    return modules[0], modules[1]


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> int:
    """The command line; exit code 1 when something did not come back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--interval", type=float, default=30.0, help="s from one fault to the next")
    parser.add_argument("--hold", type=float, default=1.0, help="length of the faults; 1 = 5 s of a killed camera")
    parser.add_argument("--out", type=Path, default=Path("fault_soak_out"))
    parser.add_argument("--no-safe-mode", action="store_true", help="do not end with five hangs in a row")
    wanted = parser.parse_args()
    out = wanted.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(60 * wanted.minutes, wanted.interval, wanted.hold, not wanted.no_safe_mode)
    try:
        with small_disk(out / "recordings") as small:
            outcome = FaultSoak(plan, out, out / "recordings", small).run()
    except LumithermError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print((out / "report.md").read_text())
    return 0 if outcome.sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
