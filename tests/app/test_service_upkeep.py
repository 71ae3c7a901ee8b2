"""Triggers, hooks, retention, the control socket and reloading."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import resource
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError
from support.live import PatternCamera, camera_factory, settings, wait_until
from support.service import TOKEN, running, secret_file, service_settings

from app.configuration.config import AppConfig
from app.configuration.service import HookConfig, HookEvent, RetentionConfig, ServiceConfig, TriggerConfig
from app.pipeline.live_fusion import LiveFusion
from app.service.reload import changed_keys, split_changes
from app.service.state.log_ring import LogRing
from app.service.state.operations import Operations
from app.service.tasks.hooks import HookRunner, call_hook
from app.service.tasks.retention import AgeBook, Kept, RetentionThread, plan
from app.service.tasks.triggers import Rule, threshold_counts
from app.service.web.control import ControlServer, ask, default_socket
from fusion_core.errors import BadInputError, ConfigError, RunError
from fusion_core.frames import Frame, Stream

# ------------------------------------------------------------------ triggers


def rule(**changes: Any) -> Rule:
    config = TriggerConfig.model_validate({"name": "t", "kind": "hot", "counts": 1000, "hold_s": 1, **changes})
    return Rule(config, config.counts)


def scene(hot: int = 0, level: int = 100) -> np.ndarray:
    """(100, 100) counts with `hot` pixels of 2000 in the upper left."""
    picture = np.full((100, 100), level, np.uint16)
    picture.reshape(-1)[:hot] = 2000
    return picture


def test_hot_needs_area_and_time_and_rests_afterwards() -> None:
    hot = rule(area_percent=0.5, cooldown_s=10)
    assert not hot.on_picture(0, scene(49))
    assert not hot.on_picture(1, scene(50))
    assert not hot.on_picture(1.5, scene(0))  # a glint
    assert not hot.on_picture(2, scene(50))
    assert hot.on_picture(3, scene(50))
    assert not hot.on_picture(4, scene(50))
    assert hot.on_picture(13, scene(50))


def test_region_and_cold() -> None:
    right = rule(region=(0, 0.5, 1, 0.5), hold_s=0)
    assert not right.on_picture(0, scene(40))
    assert right.on_picture(1, scene(90))
    cold = rule(kind="cold", counts=50, hold_s=0, area_percent=100)
    assert not cold.on_picture(0, scene(0, 51)) and cold.on_picture(1, scene(0, 50))


def test_motion_is_not_a_change_of_the_whole_picture() -> None:
    motion = rule(kind="motion", counts=500, hold_s=0, area_percent=1)
    for second in range(20):
        assert not motion.on_picture(second, scene(0, 100 + 50 * second))  # the camera drifts
    assert motion.on_picture(21, scene(300, 2000 // 2))


def test_schedule_once_a_minute_and_day() -> None:
    at = Rule(TriggerConfig.model_validate({"name": "t", "kind": "schedule", "at": ["06:00"], "days": ["mon"]}), None)
    monday = datetime(2026, 11, 23, 6, 0, 5)
    assert at.on_time(0, monday)
    assert not at.on_time(20, monday.replace(second=30))
    assert not at.on_time(40, monday.replace(minute=1))
    assert not at.on_time(100000, monday.replace(day=24))
    assert at.on_time(700000, monday.replace(day=30))


def test_degrees_need_a_scale() -> None:
    config = TriggerConfig.model_validate({"name": "t", "kind": "hot", "celsius": 60, "scale": "tlinear-0.01"})
    assert threshold_counts(config, "relative") == 33315
    with pytest.raises(ConfigError, match="degrees"):
        threshold_counts(config.model_copy(update={"scale": "auto"}), "relative")


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "hot"},
        {"kind": "hot", "counts": 1, "celsius": 1},
        {"kind": "motion", "celsius": 1},
        {"kind": "schedule"},
        {"kind": "schedule", "at": ["25:00"]},
        {"kind": "hot", "counts": 1, "region": [0.5, 0, 0.6, 1]},
    ],
)
def test_incomplete_triggers_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TriggerConfig.model_validate({"name": "t", **bad})


class HotCamera(PatternCamera):
    """A thermal camera with something hot in view while `hot`."""

    hot = False

    def read(self, timeout_s: float) -> Frame:
        frame = super().read(timeout_s)
        if not self.hot:
            return frame
        pixels = frame.pixels.copy()
        pixels[:20, :20] = 40000
        return Frame(frame.stream, pixels, frame.index, frame.timestamp_ns, frame.ts_source)


def test_a_hot_spot_saves_the_seconds_before_it_and_tells_a_hook(tmp_path: Path) -> None:
    camera = HotCamera(Stream.THERMAL, fps=15)
    told = tmp_path / "told.json"
    script = "import sys, os, json; json.dump([json.load(sys.stdin), dict(os.environ)], open(sys.argv[1], 'w'))"
    config = service_settings(
        tmp_path,
        {"enabled": False},
        recording={"directory": tmp_path / "rec", "pre_event_s": 2, "post_event_s": 1, "reserve_mb": 1, "reserve_s": 0},
        service={
            "triggers": [{"name": "fire", "kind": "hot", "counts": 39000, "hold_s": 0, "area_percent": 1}],
            "hooks": [{"name": "h", "command": [sys.executable, "-c", script, str(told)]}],
        },
    )
    with running(config, camera_factory(PatternCamera(Stream.VISIBLE, fps=15), camera)) as (live, handle):
        wait_until(lambda: (s := live.recording.status) is not None and s.pre_event_seconds > 1)
        camera.hot = True
        began = time.monotonic()
        wait_until(lambda: list((tmp_path / "rec").glob("*.mkv")))
        print(f"event on disk {time.monotonic() - began:.2f} s after the heat")
        camera.hot = False
        wait_until(lambda: handle.hooks.outcomes.get(("h", "ok")))
        assert handle.operations.events == {"fire": 1}
    facts, environment = json.loads(told.read_text())
    assert facts["source"] == "fire" and environment["LUMITHERM_SOURCE"] == "fire"
    assert {"LUMITHERM_EVENT", "LUMITHERM_TIME"} <= set(environment)


# ------------------------------------------------------------------ hooks


class Listener(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.headers.get("Authorization", ""), json.loads(body)))
        self.send_response(self.status)
        self.send_header("Location", "http://127.0.0.1:9/")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def webhook() -> Iterator[str]:
    Listener.seen, Listener.status = [], 200
    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/x"
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhooks_get_facts_and_follow_no_redirect(webhook: str, tmp_path: Path) -> None:
    hook = HookConfig.model_validate(
        {"name": "w", "webhook": webhook, "secret_file": secret_file(tmp_path, "s", TOKEN)}
    )
    call_hook(hook, HookEvent.EVENT, {"label": "a"})
    assert Listener.seen == [(f"Bearer {TOKEN}", {"event": "event", "label": "a"})]
    Listener.status = 302
    with pytest.raises(RunError, match="302"):
        call_hook(hook, HookEvent.EVENT, {})


def test_commands_know_no_shell_and_end_in_time(tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    words = [sys.executable, "-c", script, str(tmp_path / "out"), "$(touch x); `id` | cat"]
    call_hook(HookConfig.model_validate({"name": "c", "command": words}), HookEvent.EVENT, {"label": "; rm -rf /"})
    assert (tmp_path / "out").read_text() == words[-1]
    slow = HookConfig.model_validate(
        {"name": "c", "command": [sys.executable, "-c", "import time; time.sleep(60)"], "timeout_s": 0.5}
    )
    with pytest.raises(RunError, match="timed out"):
        call_hook(slow, HookEvent.EVENT, {})
    with pytest.raises(RunError):
        call_hook(HookConfig.model_validate({"name": "c", "command": ["/nowhere"]}), HookEvent.EVENT, {})


def test_a_program_that_floods_takes_no_memory_and_one_that_forks_holds_nobody(tmp_path: Path) -> None:
    flood = "import os\nwhile True: os.write(1, b'x' * 65536); os.write(2, b'y' * 65536)"
    hook = HookConfig.model_validate({"name": "c", "command": [sys.executable, "-c", flood], "timeout_s": 3})
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match="timed out"):
        call_hook(hook, HookEvent.EVENT, {})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 50_000

    marker = tmp_path / "pid"
    fork = f"import subprocess\nopen({str(marker)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))\n"
    began_s = time.monotonic()
    words = [sys.executable, "-c", fork]
    call_hook(HookConfig.model_validate({"name": "c", "command": words, "timeout_s": 30}), HookEvent.EVENT, {})
    assert time.monotonic() - began_s < 25  # it does not wait for what goes on
    os.kill(int(marker.read_text()), signal.SIGKILL)
    words = [sys.executable, "-c", fork + "import time; time.sleep(60)"]
    with pytest.raises(RunError, match="timed out"):
        call_hook(HookConfig.model_validate({"name": "c", "command": words, "timeout_s": 4}), HookEvent.EVENT, {})
    child = int(marker.read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text(), 20)

    words = [
        sys.executable,
        "-c",
        "import sys; sys.stderr.buffer.write(b'\\xff' + b'z' * 90000 + b'end'); sys.exit(3)",
    ]
    with pytest.raises(RunError, match=r"exit code 3: z+end") as caught:
        call_hook(HookConfig.model_validate({"name": "c", "command": words, "timeout_s": 30}), HookEvent.EVENT, {})
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("drip", [b"x", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b""])
def test_a_server_that_answers_bit_by_bit_holds_a_hook_no_longer_than_it_may(drip: bytes) -> None:
    server, stopping = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        with server.accept()[0] as connection, contextlib.suppress(OSError):
            while not stopping.wait(0.1):
                connection.sendall(drip)

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
    began_s = time.monotonic()
    with pytest.raises(RunError, match="hook w failed"):
        call_hook(HookConfig.model_validate({"name": "w", "webhook": url, "timeout_s": 1}), HookEvent.EVENT, {})
    assert time.monotonic() - began_s < 15
    stopping.set()
    thread.join()
    server.close()


def test_hooks_queue_up_to_a_limit_and_mqtt_says_what_is_missing() -> None:
    hook = HookConfig.model_validate({"name": "m", "mqtt": "mqtt://127.0.0.1:9/topic", "timeout_s": 1})
    with pytest.raises((ConfigError, RunError)):
        call_hook(hook, HookEvent.EVENT, {})
    runner = HookRunner([hook], print)
    for _ in range(70):
        runner.tell(HookEvent.EVENT, {})
    runner.tell(HookEvent.STATE_CHANGED, {})  # nobody wants to hear of it
    assert runner.outcomes == {("m", "dropped"): 6}
    for bad in ({}, {"command": ["a"], "webhook": "http://h"}, {"webhook": "http://u:p@h/"}, {"webhook": "file:/x"}):
        with pytest.raises(ValidationError):
            HookConfig.model_validate({"name": "b", **bad})


# ------------------------------------------------------------------ retention


def kept(number: int, days: float = 0, size: float = 1, event: bool = False, protected: bool = False) -> Kept:
    return Kept(Path(f"lumitherm-{number:06d}.mkv"), int(size * 1e9), days * 86400, event, protected)


def names(paths: list[Path]) -> list[int]:
    return [int(path.stem.split("-")[1]) for path in paths]


def limits(**changes: Any) -> RetentionConfig:
    return RetentionConfig.model_validate({"enabled": True, "min_free_gb": 0, **changes})


def test_space_takes_the_oldest_ordinary_ones_first() -> None:
    entries = [kept(1), kept(2, event=True), kept(3), kept(4), kept(5)]
    assert names(plan(entries, limits(max_gb=3), 10**12)) == [1, 3]
    assert names(plan(entries, limits(min_free_gb=2), 10**9)) == [1]
    assert names(plan(entries, limits(max_gb=0.5), 10**12)) == [1, 3, 4]  # never the newest, nor an event
    assert names(plan(entries, limits(max_gb=0.5, delete_events_for_space=True), 10**12)) == [1, 3, 4, 2]
    assert names(plan(entries, limits(max_gb=3), 10**12, [entries[0].path])) == [3, 4]
    assert plan([], limits(max_gb=1), 0) == []


def test_age_by_class() -> None:
    entries = [kept(1, 40), kept(2, 40, event=True), kept(3, 400, event=True), kept(4, 400, True, True, True), kept(5)]
    assert names(plan(entries, limits(max_age_days=30, event_max_age_days=365), 10**12)) == [1, 3]


def test_clock_jumps_make_nothing_old(tmp_path: Path) -> None:
    now, wall = [0.0], [1e9]

    def book() -> AgeBook:
        return AgeBook(tmp_path / "ages.json", lambda: now[0], lambda: wall[0])

    first = book()
    assert first.age_s("a") == 0
    now[0] += 100
    wall[0] += 3e8  # ten years: the clock has come to its senses
    assert first.age_s("a") == 100
    first.save(["a"])
    now[0], wall[0] = 5.0, wall[0] + 50  # restarted 50 s later
    second = book()
    assert second.age_s("a") == 150
    second.save(["a"])
    wall[0] = 0.0  # the battery of the clock is empty
    assert book().age_s("a") == 150
    (tmp_path / "ages.json").write_text("{")
    assert book().age_s("a") == 0


def test_files_are_deleted_with_what_belongs_to_them_but_not_what_is_written(tmp_path: Path) -> None:
    videos = []
    for number in range(1, 6):
        video = tmp_path / f"lumitherm-{number:06d}-20200101T000000Z.mkv"
        video.write_bytes(bytes(1000))
        video.with_suffix(".jsonl").write_text('{"type":"header"}\n' + ('{"type":"event"}\n' if number == 3 else ""))
        videos.append(video)
    (tmp_path / "lumitherm-family.mkv").write_bytes(b"not ours")
    thread = RetentionThread(limits(max_gb=1e-9), tmp_path, "lumitherm", lambda: [videos[3]], print)
    assert thread.look() == [videos[0], videos[1]]
    assert not videos[0].with_suffix(".jsonl").exists()
    assert videos[2].exists() and videos[3].exists() and videos[4].exists()
    videos[3].write_bytes(bytes(2000))  # somebody else writes to it
    thread._busy = list
    assert thread.look() == []
    assert thread.look() == [videos[3]]
    assert thread.deleted == 3 and (tmp_path / "lumitherm-family.mkv").exists()


# ------------------------------------------------------------------ control and reload


def test_the_socket_is_ours_alone_and_survives_nonsense(tmp_path: Path) -> None:
    config = service_settings(tmp_path, {"enabled": False})
    with running(config) as (live, handle):
        assert handle.control is not None
        path = handle.control.path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for line in (b"\n", b"{}\n", b"[1]\n", b'{"command": "none"}\n', b"\xff\n", b"[" * 70000 + b"\n"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(line)
                client.shutdown(socket.SHUT_WR)
                assert json.loads(client.makefile().readline())["ok"] is False
        assert ask(path, "start", {"label": "by ctl"}) == {"recording": True}
        wait_until(lambda: live.stats.snapshot().frames["recorded"] > 5)
        assert ask(path, "stop", {})["files"]
        with pytest.raises(BadInputError, match="there is no command"):
            ask(path, "explode", {})
        with pytest.raises(RunError, match="another instance"):
            ControlServer(path, handle.operations)
    with pytest.raises(RunError, match="no running rig"):
        ask(path, "status", {})
    assert default_socket("a/b", {"RUNTIME_DIRECTORY": "/run/lumitherm"}) == Path("/run/lumitherm/a_b.sock")


def test_stop_closes_every_connection_of_the_socket(tmp_path: Path) -> None:
    """One client has not asked yet, one is in the middle of its line, one waits for a place: all see the end."""
    operations = Operations(LiveFusion(settings(tmp_path)), LogRing(), dict)
    folder = Path(tempfile.mkdtemp(prefix="lt", dir="/tmp"))
    server = ControlServer(folder / "rig.sock", operations)
    accepted: list[socket.socket] = []
    accept = server._socket.accept

    def note() -> tuple[socket.socket, object]:
        client, address = accept()
        accepted.append(client)
        return client, address

    server._socket = SimpleNamespace(accept=note, close=server._socket.close)  # type: ignore[assignment]
    server.start()
    with contextlib.ExitStack() as clients:
        silent = [clients.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10)]
        for number, client in enumerate(silent):
            client.settimeout(5.0)
            client.connect(str(server.path))
            client.sendall(b'{"comm' if number == 1 else b"")
        wait_until(lambda: len(accepted) == len(silent))
        assert server.stop(timeout_s=5.0)
        assert all(client.fileno() == -1 for client in accepted)
    assert not server.path.exists()


def test_reload_takes_safe_keys_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    config = service_settings(tmp_path, {"enabled": False})
    next_config: list[AppConfig | ConfigError] = []

    def read() -> AppConfig:
        found = next_config.pop(0)
        if isinstance(found, ConfigError):
            raise found
        return found

    values = config.model_dump(mode="json")
    values["agc"]["max_gain"] = 3.0
    values["service"]["retention"]["enabled"] = True
    values["sync"]["max_skew_ms"] = 17.0
    new = AppConfig.model_validate(values)
    bad = AppConfig.model_validate(
        {**values, "service": {"triggers": [{"name": "t", "kind": "hot", "celsius": 1, "scale": "relative"}]}}
    )
    with running(config, read_config=read) as (live, handle):
        next_config += [ConfigError("rig.yaml:3: nonsense"), bad, new, new]
        with pytest.raises(ConfigError, match="nonsense"):
            handle.reload()
        with pytest.raises(ConfigError, match="degrees"):
            handle.reload()
        assert live.fusion.agc == config.agc
        answer = handle.reload()
        assert answer == {
            "changed": ["agc.max_gain", "service.retention.enabled"],
            "needs_restart": ["sync.max_skew_ms"],
        }
        assert live.fusion.agc.max_gain == 3.0 and handle.retention._config.enabled
        assert handle.reload() == {"changed": [], "needs_restart": ["sync.max_skew_ms"]}


def test_changes_are_named_by_their_keys(tmp_path: Path) -> None:
    old = settings(tmp_path)
    new = settings(tmp_path / "other", engine={"name": "edges"})
    assert changed_keys(old, new) == ["engine.name", "recording.directory"]
    assert split_changes(["engine.name", "engine.threads", "agc.mode"]) == (
        ["engine.name", "agc.mode"],
        ["engine.threads"],
    )


def test_labels_and_names_are_checked() -> None:
    for bad in (
        {"labels": {"rig": "x"}},
        {"labels": {"a-b": "x"}},
        {"hooks": [{"name": "a", "command": ["x"]}, {"name": "a", "command": ["y"]}]},
        {"web": {"enabled": True, "address": "example.org"}},
        {"web": {"user": "a"}},
        {"web": {"tls_cert": "a"}},
    ):
        with pytest.raises(ValidationError):
            ServiceConfig.model_validate(bad)
    assert os.name  # the module is used by the hook's script above
