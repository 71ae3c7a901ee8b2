"""Hangs are noticed, restarts are counted, and safe mode records: with a notify socket as systemd has it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.live import PatternCamera, camera_factory, settings, wait_until
from support.service import client, running, service_settings

from app.configuration.service import WatchdogConfig
from app.pipeline.live_fusion import LiveFusion
from app.service.runner import ServiceHandle
from app.service.start import ServiceStart, begin_run, safe_mode_config
from app.service.state.health import HealthJudge, Observation
from app.service.systemd import Notifier, StartLedger, watchdog_period_s
from fusion_core.engines.engine import create_engine
from fusion_core.errors import CameraLost
from fusion_core.frames import Frame, Stream


class NotifySocket:
    """What systemd listens on: every message with the time of its arrival."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "n"
        self.messages: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.messages.append((time.monotonic(), self._socket.recv(4096).decode()))
            except TimeoutError:
                continue

    def count(self, text: str) -> int:
        return sum(text in message for _, message in self.messages)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def notify(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifySocket]:
    listener = NotifySocket(tmp_path_factory.mktemp("n"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(listener.path))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")  # pings twice a second
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield listener
    listener.close()


# ------------------------------------------------------------------ the judge, by a made-up clock

LIMITS = WatchdogConfig.model_validate({"worker_limit_s": 4, "no_camera_s": 20})


def moving(now: int, **changes: Any) -> Observation:
    workers = {"pipeline": now, "visible capture": now, "thermal capture": now, "fusion": now}
    return replace(Observation(now, workers, {"visible": "streaming", "thermal": "streaming"}), **changes)


def run_judge(freeze: dict[str, Any], seconds: int = 30, patient: bool = False, **changes: Any) -> int | None:
    """Second after the freeze at which something counts as stuck; None = never."""
    judge = HealthJudge(LIMITS, patient)
    for second in range(10):
        assert judge.look(second, moving(second)).alive
    for second in range(10, 10 + seconds):
        seen = moving(second, **changes)
        workers = {**seen.workers, **freeze.get("workers", {})}
        beats = freeze.get("beats", {})
        fused = freeze.get("fused", seen.fused)
        verdict = judge.look(second, replace(seen, workers=workers, beats=beats, fused=fused))
        if not verdict.alive:
            return second - 10
    return None


def test_every_frozen_worker_is_noticed_within_five_seconds() -> None:
    for name in ("pipeline", "visible capture", "thermal capture"):
        assert run_judge({"workers": {name: 9}}) == 4, name
    assert run_judge({"fused": 9}) == 4
    assert run_judge({"beats": {"web": 1}}) == 5
    assert run_judge({}) is None


def test_a_camera_that_is_reopened_is_no_frozen_worker() -> None:
    away = {"visible": "lost", "thermal": "streaming"}
    assert run_judge({"workers": {"visible capture": 9}}, cameras=away) is None
    assert run_judge({"workers": {"visible capture": 9}}, seconds=90, cameras=away) == 44


def test_without_any_camera_it_waits_for_a_while_and_in_safe_mode_for_ever() -> None:
    away = {"visible": "lost", "thermal": "lost"}
    assert run_judge({"fused": 9}, 90, no_cameras=True, cameras=away) == 21
    never = HealthJudge(LIMITS)  # no picture since the start: a fresh start was just tried
    for second in range(90):
        verdict = never.look(second, moving(second, fused=0, no_cameras=True, cameras=away))
        assert verdict.waiting and verdict.alive and not verdict.fresh
    assert run_judge({"fused": 9}, 90, patient=True, no_cameras=True, cameras=away) is None


def test_a_recorder_that_writes_nothing_is_noticed() -> None:
    assert run_judge({}, recorded=5) == 5
    assert run_judge({}, recorded=None) is None


def test_a_ping_needs_a_picture_since_the_last_ping() -> None:
    judge = HealthJudge(LIMITS)
    assert judge.look(0, moving(5)).fresh
    judge.take()
    assert not judge.look(1, moving(5)).fresh
    assert judge.look(2, moving(6)).fresh


# ------------------------------------------------------------------ the protocol


def test_pings_follow_pictures(notify: NotifySocket, tmp_path: Path) -> None:
    with running(service_settings(tmp_path, {"enabled": False})):
        wait_until(lambda: notify.count("READY=1") == 1)
        wait_until(lambda: notify.count("WATCHDOG=1") >= 3)
    texts = [text for _, text in notify.messages]
    assert texts[-1] == "STOPPING=1"
    assert "WATCHDOG=1" not in texts[: next(i for i, text in enumerate(texts) if "READY=1" in text)]


def test_an_abstract_or_missing_socket(tmp_path: Path) -> None:
    assert not Notifier(None).active
    assert not Notifier("relative/path").active
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(f"\0lumitherm-test-{os.getpid()}")
    notifier = Notifier(f"@lumitherm-test-{os.getpid()}")
    notifier.ready("two\nlines")
    assert listener.recv(100) == b"READY=1\nSTATUS=two lines"
    listener.close()
    notifier.alive()  # nobody listens: told in the log, nothing else happens
    notifier.close()
    assert watchdog_period_s({"WATCHDOG_USEC": "10000000"}) == 10
    assert watchdog_period_s({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_period_s({"WATCHDOG_USEC": "x"}) is None


class FreezableCamera(PatternCamera):
    """Hangs in read, as a driver does, while `frozen` is set."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream, fps=15)
        self.thaw = threading.Event()
        self.thaw.set()

    def read(self, timeout_s: float) -> Frame:
        self.thaw.wait()
        return super().read(timeout_s)


def freeze_each(handle: Any, live: LiveFusion, cameras: Any, gate: threading.Event) -> dict[str, Callable[[], object]]:
    """By the name in the verdict: how to freeze that worker until `gate` is set. Each is frozen once."""
    assert handle.web is not None and live.cameras is not None and handle.control is not None
    recorder = live.recording._thread
    assert recorder is not None

    def block(target: Any, name: str) -> Callable[[], object]:
        return lambda: setattr(target, name, lambda *_args, **_named: gate.wait())

    def blocking_beat(part: Any) -> Callable[[], object]:
        return block(part.heartbeat, "beat")

    beside = {
        "triggers": block(handle.triggers, "_look"),
        "hooks": blocking_beat(handle.hooks),
        "retention": blocking_beat(handle.retention),
        "recording repair": blocking_beat(handle.repair),
        "control": blocking_beat(handle.control),
        "push away": block(handle.pushes["away"], "_pause"),
    }
    return {
        "visible capture": cameras[Stream.VISIBLE].thaw.clear,
        "thermal capture": cameras[Stream.THERMAL].thaw.clear,
        "no picture": block(live.recording, "offer"),  # the fusion thread, after its engine
        "pipeline": block(live.cameras, "tick"),
        "recorder": block(recorder._loop, "tick"),
        ", ".join(beside): lambda: [freeze() for freeze in beside.values()],
        "web": lambda: handle.web.loop.call_soon_threadsafe(gate.wait),  # blocks the loop, as a bug would
    }


def stuck(handle: Any, names: list[str]) -> bool:
    """Whether all of these are named."""
    return all(any(name in text for text in handle.health.verdict.stuck) for name in names)


@pytest.mark.slow
@pytest.mark.alone
def test_any_frozen_worker_stops_the_pings_within_15_s(notify: NotifySocket, tmp_path: Path) -> None:
    gate = threading.Event()
    cameras = {stream: FreezableCamera(stream) for stream in Stream}
    push = {"name": "away", "url": "rtsp://127.0.0.1:9/x", "encoder": "software", "retry_s": 0.3}
    config = service_settings(
        tmp_path, service={"watchdog": {"worker_limit_s": 1}, "push": [push], "retention": {"interval_s": 0.2}}
    )
    live = LiveFusion(config, camera_factory=camera_factory(cameras[Stream.VISIBLE], cameras[Stream.THERMAL]))
    with running(config, live=live) as (_, handle):
        live.recording.start()
        wait_until(lambda: live.stats.snapshot().frames["recorded"] > 5)
        told = []
        for what, freeze in freeze_each(handle, live, cameras, gate).items():
            wait_until(lambda: handle.health.verdict.alive)
            pings = notify.count("WATCHDOG=1")
            wait_until(lambda before=pings: notify.count("WATCHDOG=1") > before)
            gate.clear()
            frozen_s = time.monotonic()
            freeze()
            try:
                wait_until(lambda names=what.split(", "): stuck(handle, names))
                noticed_s = time.monotonic() - frozen_s
                pings = notify.count("WATCHDOG=1")
                time.sleep(0.7)  # more than the time between two pings
                assert notify.count("WATCHDOG=1") == pings, f"{what} is frozen, and it still says that it is alive"
                if what == "pipeline":
                    with client(handle) as http:
                        assert http.get("/healthz").status_code == 503
                told.append(f"{what} {noticed_s:.1f} s")
            finally:
                gate.set()
                for camera in cameras.values():
                    camera.thaw.set()
            for target, name in (
                (live.recording, "offer"),
                (live.cameras, "tick"),
                (handle.triggers, "_look"),
                (handle.pushes["away"], "_pause"),
            ):
                vars(target).pop(name, None)
            if recorder := live.recording._thread:
                vars(recorder._loop).pop("tick", None)
            for part in (handle.hooks, handle.retention, handle.repair, handle.control):
                vars(part.heartbeat).pop("beat", None)
        print("frozen, noticed after: " + ", ".join(told))


def test_a_hung_engine_stops_the_pings(notify: NotifySocket, tmp_path: Path) -> None:
    thaw = threading.Event()
    thaw.set()
    config = service_settings(tmp_path, {"enabled": False}, service={"watchdog": {"worker_limit_s": 1}})
    engine = create_engine("average")
    fuse = engine.fuse
    engine.fuse = lambda *pictures: (thaw.wait(), fuse(*pictures))[1]  # type: ignore[method-assign]
    slow = camera_factory(*(PatternCamera(stream, fps=15) for stream in Stream))
    live = LiveFusion(config, camera_factory=slow, engine_factory=lambda *args, **named: engine)
    with running(config, live=live) as (_, handle):
        wait_until(lambda: notify.count("WATCHDOG=1") >= 2)
        thaw.clear()
        try:
            wait_until(lambda: not handle.health.verdict.alive)
            pings = notify.count("WATCHDOG=1")
            time.sleep(0.7)
            assert notify.count("WATCHDOG=1") == pings
            assert notify.count("WATCHDOG_USEC") == 0, "a hung engine is no missing camera"
        finally:
            thaw.set()


def test_without_cameras_nothing_is_pinged_and_one_fresh_start_is_tried(notify: NotifySocket, tmp_path: Path) -> None:
    limits = {"worker_limit_s": 1, "no_camera_s": 3}
    config = service_settings(tmp_path, {"enabled": False}, service={"watchdog": limits})
    cameras = [PatternCamera(stream, fps=15) for stream in Stream]

    def unplug(gone: bool) -> None:
        for camera in cameras:
            camera.absent, camera.error = gone, CameraLost("unplugged") if gone else None

    ends: list[bool] = []
    with running(config, camera_factory(*cameras), on_end=lambda: ends.append(True)) as (live, handle):
        wait_until(lambda: notify.count("WATCHDOG=1") >= 2)
        unplug(True)
        wait_until(lambda: notify.count("WATCHDOG_USEC=5000000"))  # no_camera_s and the period
        pings = notify.count("WATCHDOG=1")
        unplug(False)
        wait_until(lambda: notify.count("WATCHDOG_USEC=2000000"))
        wait_until(lambda: notify.count("WATCHDOG=1") > pings)
        between = [text for _, text in notify.messages]
        moved = between.index("WATCHDOG_USEC=5000000")
        assert "WATCHDOG=1" not in between[moved : between.index("WATCHDOG_USEC=2000000")]
        assert not ends
        unplug(True)
        wait_until(lambda: ends)
        assert handle.health.verdict.given_up and live.state.value == "no_cameras"
    assert len(ends) == 1


def test_a_start_without_cameras_waits_for_them(notify: NotifySocket, tmp_path: Path) -> None:
    limits = {"worker_limit_s": 1, "no_camera_s": 0}
    config = service_settings(tmp_path, {"enabled": False}, service={"watchdog": limits})
    cameras = [PatternCamera(stream, fps=15) for stream in Stream]
    for camera in cameras:
        camera.absent = True
    live = LiveFusion(config, camera_factory=camera_factory(*cameras))
    ends: list[bool] = []
    handle = ServiceHandle(live, config, on_end=lambda: ends.append(True))
    live.start()
    handle.start()
    try:
        wait_until(lambda: notify.count("EXTEND_TIMEOUT_USEC=30000000"))
        wait_until(lambda: live.stats.snapshot().uptime_s > 2.5)
        assert handle.health.verdict.alive and not ends
        assert notify.count("READY=1") == notify.count("WATCHDOG=1") == 0
        cameras[0].absent = False
        wait_until(lambda: notify.count("READY=1") and notify.count("WATCHDOG=1"))
        assert live.state.value == "degraded_visible_only"
    finally:
        handle.stop()
        live.stop()


def test_what_is_stuck_ends_itself_without_systemd(tmp_path: Path) -> None:
    camera = FreezableCamera(Stream.THERMAL)
    config = service_settings(tmp_path, service={"watchdog": {"worker_limit_s": 1, "exit_after_s": 1}})
    ended: list[Any] = []
    cameras = camera_factory(PatternCamera(Stream.VISIBLE, fps=15), camera)
    with running(config, cameras, on_stuck=ended.append):
        camera.thaw.clear()
        try:
            wait_until(lambda: ended)
        finally:
            camera.thaw.set()
    assert any("thermal capture" in reason for reason in ended[0].stuck)


# ------------------------------------------------------------------ restarts and safe mode


def test_restarts_are_counted_by_the_time_since_power_on(tmp_path: Path) -> None:
    now = [100.0]
    file = tmp_path / "starts.json"

    def ledger(boot: str = "one") -> StartLedger:
        return StartLedger(file, 600, lambda: now[0], boot)

    for number in range(5):
        assert ledger().begin() == number
        now[0] += 10
    assert ledger("two").begin() == 0  # the computer was switched off and on
    now[0] += 1
    assert ledger("two").begin() == 1
    ledger("two").end()
    assert ledger("two").begin() == 0
    now[0] += 3600  # a sound run of an hour that fails, and then four quick ones: the fifth restart counts as such
    for number in range(1, 6):
        assert ledger("two").begin() == number
        now[0] += 10
    now[0] += 601
    assert ledger("two").begin() == 1  # those are long ago
    for text in ("", "{", "[]", '{"boot": 1, "restarts": "x"}', '{"boot": "two", "running": 1, "restarts": [null]}'):
        file.write_text(text)
        assert ledger("two").begin() == 0


def test_after_five_restarts_only_raw_recording_is_left(tmp_path: Path) -> None:
    config = service_settings(
        tmp_path,
        {"enabled": False},
        engine={"name": "auto"},
        service={"triggers": [{"name": "hot", "kind": "hot", "counts": 1}]},
    )
    for number in range(5):
        run = begin_run(config)
        assert run.config is config and run.restarts == number and not run.safe_mode
    run = begin_run(config)
    assert run.restarts == 5 and run.safe_mode and run.config == safe_mode_config(config)
    assert run.config.engine.name == "average" and run.config.service.triggers == ()
    assert [track.value for track in run.config.recording.tracks] == ["visible", "thermal"]
    ends: list[bool] = []
    with running(run.config, start=run, on_end=lambda: ends.append(True)) as rig:
        live, handle = rig
        wait_until(lambda: live.stats.snapshot().frames["recorded"] > 20)
        assert handle.operations.call("status", {})["safe_mode"] is True
    summary = live.recording.summary
    assert summary is not None and summary.problems == ()
    assert summary.frames["visible"] > 5 and summary.frames["thermal"] > 5 and "fused" not in summary.frames
    assert begin_run(config).restarts == 0  # it ended in order


def test_safe_mode_waits_for_cameras_and_ends_by_itself(notify: NotifySocket, tmp_path: Path) -> None:
    config = service_settings(
        tmp_path, {"enabled": False}, service={"watchdog": {"safe_mode_s": 2, "no_camera_s": 0, "worker_limit_s": 1}}
    )
    cameras = [PatternCamera(stream) for stream in Stream]
    for camera in cameras:
        camera.absent = True
    live = LiveFusion(config, camera_factory=camera_factory(*cameras))
    ends: list[bool] = []
    handle = ServiceHandle(live, config, start=ServiceStart(config, safe_mode=True), on_end=lambda: ends.append(True))
    live.start()
    handle.start()
    try:
        wait_until(lambda: ends)
        assert handle.health.verdict.alive and notify.count("EXTEND_TIMEOUT_USEC=")
        assert notify.count("READY=1") == notify.count("WATCHDOG=1") == 0  # no picture came out
    finally:
        handle.stop()
        live.stop()


# ------------------------------------------------------------------ the command


def test_a_killed_service_counts_as_restart_and_a_signal_reloads(tmp_path: Path) -> None:
    """The real command as its own process: ready, reloaded by SIGHUP, wrong file refused, ended by SIGTERM."""
    listener = NotifySocket(tmp_path)
    file = tmp_path / "rig.yaml"

    def write(cooldown: int, extra: str = "") -> None:
        file.write_text(
            f"""
rig: rig
visible: {{uri: "sim:visible"}}
thermal: {{uri: "sim:thermal"}}
engine: {{name: average}}
simulation: {{height: 96, width: 128, thermal_height: 96, thermal_width: 128, visible_fps: 10, thermal_fps: 10}}
recording: {{directory: {tmp_path}/rec}}
service:
  state_directory: {tmp_path}/state
  control: {{socket: {tmp_path}/c.sock}}
  triggers: [{{name: t, kind: hot, counts: 65535, cooldown_s: {cooldown}}}]
{extra}
"""
        )

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "4000000"}
        command = [sys.executable, "-m", "app", "run", "--headless", "--service", "--config", str(file)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def ctl(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app", "ctl", *words, "--json", "--socket", f"{tmp_path}/c.sock"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    write(10)
    process = start()
    try:
        wait_until(lambda: notify_ready(listener, 1))
        process.kill()
        process.wait()
        process = start()
        wait_until(lambda: notify_ready(listener, 2))
        write(20, "  bogus: 1")
        process.send_signal(1)
        wait_until(lambda: notify_ready(listener, 3))
        assert any("configuration not reloaded" in text for text in texts_of(ctl("log")))
        write(20)
        process.send_signal(1)
        wait_until(lambda: notify_ready(listener, 4))
        assert any("service.triggers" in text for text in texts_of(ctl("log")))
        status = json.loads(ctl("status").stdout)
        assert status["restarts"] == 1 and status["state"] == "running"
        process.terminate()
        assert process.wait(30) == 143
    finally:
        process.kill()
        process.wait()
        listener.close()
    assert json.loads((tmp_path / "state" / "starts-rig.json").read_text())["running"] is False


def notify_ready(listener: NotifySocket, times: int) -> bool:
    return listener.count("READY=1") >= times


def texts_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line["text"] for line in json.loads(done.stdout)["lines"]]


def test_safe_mode_keeps_the_users_limits(tmp_path: Path) -> None:
    config = settings(tmp_path, recording={"directory": tmp_path, "disk_policy": "fused_only", "split_s": 60})
    safe = safe_mode_config(config)
    assert safe.recording.disk_policy == "stop" and safe.recording.split_s == 60 and safe.recording.autostart
