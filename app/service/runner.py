"""Everything of the service around one pipeline: starts it, watches it, reloads it, and ends it in order."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from app.configuration.service import HookEvent, ServiceConfig
from app.service.reload import changed_keys, split_changes, taken_over
from app.service.start import (
    RequestedRecordingFile,
    ServiceStart,
    begin_run,
    requested_recording_file,
)
from app.service.state.gpu import GpuReader, GpuReading
from app.service.state.health import Health, ServiceWorker, Verdict
from app.service.state.log_ring import LogRing
from app.service.state.metrics import MetricsCollector, ServiceFigures, make_registry
from app.service.state.operations import Operations
from app.service.state.preview import Preview
from app.service.systemd import Notifier, watchdog_period_s
from app.service.tasks.home_assistant import HomeAssistant
from app.service.tasks.hooks import HookRunner
from app.service.tasks.push import PushThread
from app.service.tasks.recording_repair import RecordingRepair
from app.service.tasks.retention import RetentionThread
from app.service.tasks.triggers import TriggerThread, make_rules
from app.service.tasks.virtual_camera import VirtualCamera
from app.service.web.access_guard import AccessGuard
from app.service.web.auth import Authenticator
from app.service.web.control import ControlServer, default_socket
from app.service.web.routes import WebApp
from app.service.web.server import WebServer
from fusion_core.errors import ConfigError, LumithermError

if TYPE_CHECKING:
    from app.configuration.config import AppConfig
    from app.pipeline.live_fusion import LiveFusion

__all__ = ["ServiceHandle", "service_run"]

_LOOK_S = 0.5
_GPU_S = 5.0
_START_MORE_S = 30.0
_A_WEEK_S = 7 * 86_400.0
_STUCK_EXIT = 70


class ServiceHandle:
    """What runs beside the pipeline. Thread `service` looks twice a second; `stop` ends everything but the pipeline.

    Make it before the pipeline is started: it tells the recorder what a run before was asked for.

    Args:
        start: how the run begins; None = as the first one, and not counted.
        read_config: reads the configuration again, for reload; None = it cannot be reloaded.
        requested: what somebody asked of the recorder; None = it is not remembered.
        on_end: called when the run should end in order: safe mode is over.
        on_stuck: called once when the service has been stuck for too long and no systemd watches; ends the process.

    Raises:
        ConfigError: a secret, a trigger or a certificate cannot be used. RunError: a port or socket is taken.
    """

    def __init__(
        self,
        live: LiveFusion,
        config: AppConfig,
        *,
        start: ServiceStart | None = None,
        read_config: Callable[[], AppConfig] | None = None,
        requested: RequestedRecordingFile | None = None,
        notifier: Notifier | None = None,
        on_end: Callable[[], None] = lambda: None,
        on_stuck: Callable[[Verdict], None] | None = None,
    ) -> None:
        self._live, self._config, self._read_config = live, config, read_config
        start = start if start is not None else ServiceStart(config)
        self._restarts, self._ledger, self.safe_mode = start.restarts, start.ledger, start.safe_mode
        self._on_end = on_end
        self._notifier = notifier if notifier is not None else Notifier.from_environment()
        self._on_stuck = on_stuck if on_stuck is not None else _exit_stuck
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._reload_wanted = threading.Event()
        self._ready_told = self._gave_up = False
        self._next_word_s = 0.0  # to systemd
        self._granted_s: float | None = None  # deadline that systemd was told; None = the unit's
        self._began_s = time.monotonic()
        self._scrape_s: float | None = None
        self._gpu = GpuReader()
        self._gpus: tuple[GpuReading, ...] = ()
        service = config.service
        self.log = LogRing()
        self.health = Health(live, service.watchdog, patient=self.safe_mode)
        self.hooks = HookRunner(service.hooks, self._failed("hooks"))
        self.operations = Operations(live, self.log, self._facts, self.reload, self.hooks.tell)
        self._automatic_scale = _default_scale(config)
        self.triggers = TriggerThread(
            live.latest,
            make_rules(service.triggers, self._automatic_scale),
            lambda name: self.operations.mark(name, name),
            self._failed("triggers"),
        )
        recording = config.recording
        self.retention = RetentionThread(
            service.retention, recording.directory, recording.prefix, self._busy_files, self._failed("retention")
        )
        self.repair = RecordingRepair(
            recording.directory,
            recording.prefix,
            self._busy_files,
            self._file_finished,
            self._failed("recording repair"),
        )
        self.pushes = {
            push.name: PushThread(push, live.latest, self._failed(f"push {push.name}")) for push in service.push
        }
        self.virtual_camera = (
            VirtualCamera(service.virtual_camera, live.latest, self._failed("virtual camera"))
            if service.virtual_camera is not None
            else None
        )
        self.home_assistant = self._make_home_assistant(service)
        outputs = [part for part in (self.virtual_camera, self.home_assistant) if part is not None]
        self._workers: tuple[ServiceWorker, ...] = (
            self.triggers, self.retention, *self.pushes.values(), *outputs, self.repair, self.hooks
        )  # fmt: skip
        """In the order in which they end: the hooks last, which are told of what the others did."""
        self.guard: AccessGuard | None = None
        self.web = self._make_web(service) if service.web.enabled else None
        self.control: ControlServer | None = None
        if service.control.enabled:
            path = service.control.socket if service.control.socket is not None else default_socket(config.rig)
            try:
                self.control = ControlServer(path, self.operations, self._failed("control"))
            except LumithermError:
                if self.web is not None:
                    self.web.stop(0.1)
                raise
        if requested is not None:
            _go_on(live, config, requested)
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Start everything; returns at once."""
        logging.getLogger().addHandler(self.log)
        for worker in self._workers:
            worker.start()
            self.health.watch(worker.name, worker.heartbeat)
        if self.web is not None:
            self.web.start()
            self.health.watch("web", self.web.heartbeat)
        if self.control is not None:
            self.control.start()
            self.health.watch("control", self.control.heartbeat)
        self._thread.start()

    def stop(self, in_order: bool = True) -> None:
        """End everything. `in_order`: this end was wanted, so it does not count as a restart."""
        self._notifier.stopping()
        self._stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(3.0)
        for part in (self.web, self.control, *self._workers):
            if part is not None and not part.stop():
                structlog.get_logger("service").warning("did not end in time", part=type(part).__name__)
        logging.getLogger().removeHandler(self.log)
        if in_order and self._ledger is not None:
            self._ledger.end()
        self._notifier.close()

    def request_reload(self, *_: object) -> None:
        """Reload soon, in the service's own thread; fit for a signal handler."""
        self._reload_wanted.set()

    def reload(self) -> dict[str, Any]:
        """Read the configuration again; safe keys take effect, a bad file changes nothing.

        Raises:
            ConfigError: the configuration is wrong; the former one stays in use.
        """
        if self._read_config is None:
            raise ConfigError("this run has no configuration file to read again")
        new = self._read_config()
        with self._lock:
            old = self._config
            if self.safe_mode:
                return {"changed": [], "needs_restart": [], "note": "in safe mode nothing is reloaded"}
            now, later = split_changes(changed_keys(old, new))
            rules = make_rules(new.service.triggers, self._automatic_scale)
            if any(key.startswith("agc") for key in now):
                self._live.fusion.set_agc(new.agc)
            if "calibration.file" in now:
                self._live.alignment.use(new.calibration.file)
            self._live.fusion.strength = new.engine.strength
            if set(now) & {"engine.name", "engine.preset", "engine.weights"}:
                self._live.engine.request(new.engine.name.value, new.engine.preset.value, new.engine.weights)
            if "logging.level" in now:
                logging.getLogger().setLevel(new.logging.level.value.upper())
            if any(key.startswith("service.triggers") for key in now):
                self.triggers.use(rules)
            self.hooks.use(new.service.hooks)
            self.retention.use(new.service.retention)
            self._config = taken_over(old, new)
        structlog.get_logger("service").info("configuration reloaded", changed=now, needs_restart=later)
        return {"changed": now, "needs_restart": later}

    # ------------------------------------------------------------------ figures

    def figures(self) -> ServiceFigures:
        """The service's own counters."""
        ready, state = self.health.readiness()
        return ServiceFigures(
            state=state,
            ready=ready,
            safe_mode=self.safe_mode,
            restarts=self._restarts,
            pushes={name: push.figures for name, push in self.pushes.items()},
            events=self.operations.events,
            hooks=self.hooks.outcomes,
            deleted=self.retention.deleted,
            deleted_bytes=self.retention.deleted_bytes,
            refused=self.guard.refused if self.guard is not None else {},
            gpus=self._gpus,
            scrape_s=self._scrape_s,
            engine_build_s=self._live.engine.build_s,
            detector=None if self._live.detector is None else self._live.detector.figures,
            virtual_camera=None if self.virtual_camera is None else self.virtual_camera.figures,
            home_assistant=None if self.home_assistant is None else self.home_assistant.figures,
        )

    def _facts(self) -> dict[str, Any]:
        figures = self.figures()
        return {
            "ready": figures.ready,
            "safe_mode": figures.safe_mode,
            "restarts": figures.restarts,
            "stuck": list(self.health.verdict.stuck),
            "push": {
                name: {"connected": push.connected, "frames": push.frames, "drops": push.drops}
                for name, push in figures.pushes.items()
            },
            "virtual_camera": None if figures.virtual_camera is None else asdict(figures.virtual_camera),
            "home_assistant": None if figures.home_assistant is None else asdict(figures.home_assistant),
            "events": dict(figures.events),
        }

    def _busy_files(self) -> list[Path]:
        snapshot = self._live.stats.snapshot()
        path = self._live.recording.status.path
        paths = [Path(snapshot.recording_file)] if snapshot.recording_file else []
        return [*paths, *([path] if path is not None else [])]

    def _make_home_assistant(self, service: ServiceConfig) -> HomeAssistant | None:
        if service.home_assistant is None:
            return None
        from app.rig.radiometry import scale_of

        return HomeAssistant(
            service.home_assistant,
            self._live,
            lambda wanted: self.operations.call("start" if wanted else "stop", {}),
            scale_of(self._automatic_scale),
            self._failed("home assistant"),
        )

    def _make_web(self, service: ServiceConfig) -> WebServer:
        authenticator = Authenticator(service.web)
        labels = {"rig": self._config.rig, **service.labels}
        registry = make_registry(MetricsCollector(self._live.stats.snapshot, self.figures, labels))
        preview = Preview(self._live.latest, service.web.preview_width, service.web.preview_fps, self._live.note_shown)
        app = WebApp(
            service.web,
            self.operations,
            authenticator,
            preview,
            self.health,
            registry,
            on_scrape=self._scraped,
            refuse=lambda reason: self.guard.count_refused(reason) if self.guard is not None else None,
        )
        self.guard = AccessGuard(app.app, service.web, authenticator)
        return WebServer(service.web, self.guard, self._failed("web"))

    def _scraped(self, seconds: float) -> None:
        self._scrape_s = seconds

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        period_s = watchdog_period_s()
        next_gpu_s = 0.0
        stuck_since_s: float | None = None
        state = ""
        while not self._stopping.wait(_LOOK_S):
            now_s = time.monotonic()
            verdict = self.health.look()
            state = self._tell_changes(state)
            self._feed(now_s, verdict, period_s)
            self._begin_afresh(verdict, period_s)
            stuck_since_s = None if verdict.alive else (stuck_since_s if stuck_since_s is not None else now_s)
            self._watch_stuck(now_s, stuck_since_s, verdict, period_s)
            if now_s >= next_gpu_s:
                next_gpu_s = now_s + _GPU_S
                self._gpus = self._gpu.read()
            if self._reload_wanted.is_set():
                self._reload_wanted.clear()
                self._reload_by_signal()
            self._leave_safe_mode(now_s)

    def _feed(self, now_s: float, verdict: Verdict, period_s: float | None) -> None:
        """Tell systemd's watchdog that new pictures came out since the last ping; never that when none did.

        Without any camera there is nothing to ping for. While that is named and waited for, a start may take as long as
        it takes, and in a run the deadline is moved once, to what the configuration allows; back when it is over.
        """
        if not self._ready_told:
            if verdict.waiting and verdict.alive and now_s >= self._next_word_s:
                self._notifier.extend_start(_START_MORE_S)
                self._next_word_s = now_s + _START_MORE_S / 3
            return
        if period_s is None:
            return
        granted_s = self._no_camera_s() + period_s if verdict.waiting and verdict.alive else period_s
        if granted_s != (self._granted_s if self._granted_s is not None else period_s):
            self._notifier.patience(granted_s)
            self._granted_s = granted_s
        if verdict.alive and verdict.fresh and now_s >= self._next_word_s:
            self._notifier.alive()
            self.health.judge.take()
            self._next_word_s = now_s + period_s / 4

    def _no_camera_s(self) -> float:
        limits = self._config.service.watchdog
        if self.safe_mode:  # it waits for cameras until it ends by itself
            return limits.safe_mode_s if limits.safe_mode_s > 0 else _A_WEEK_S
        return limits.no_camera_s

    def _begin_afresh(self, verdict: Verdict, period_s: float | None) -> None:
        """No camera for too long: end in order, files closed, and be started again by whoever watches."""
        restarted = period_s is not None or self._config.service.watchdog.exit_after_s > 0
        if verdict.given_up and restarted and not self._gave_up:
            self._gave_up = True
            structlog.get_logger("service").warning(
                "no camera for too long, ending to be started afresh", limit_s=self._config.service.watchdog.no_camera_s
            )
            self._on_end()

    def _tell_changes(self, state: str) -> str:
        ready, now = self.health.readiness()
        shown = f"{'safe mode, ' if self.safe_mode else ''}{now.replace('_', ' ')}"
        if ready and not self._ready_told:
            self._ready_told, self._next_word_s = True, 0.0
            self._notifier.ready(shown)
        elif now != state:
            self._notifier.status(shown)
        if now != state and state:
            self.hooks.tell(HookEvent.STATE_CHANGED, {"state": now, "before": state})
        return now

    def _file_finished(self, video: Path) -> None:
        self.hooks.tell(HookEvent.RECORDING_FINISHED, {"files": [str(video)], "file": str(video)})

    def _watch_stuck(
        self, now_s: float, since_s: float | None, verdict: Verdict, systemd_period_s: float | None
    ) -> None:
        if since_s is None:
            return
        if since_s == now_s:
            structlog.get_logger("service").error("stuck", reason="; ".join(verdict.stuck))
            self._notifier.status("stuck: " + "; ".join(verdict.stuck))
        limit_s = self._config.service.watchdog.exit_after_s
        if systemd_period_s is None and 0 < limit_s <= now_s - since_s:
            self._stopping.set()
            self._on_stuck(verdict)

    def _reload_by_signal(self) -> None:
        self._notifier.reloading()
        try:
            self.reload()
        except LumithermError as error:
            structlog.get_logger("service").error(
                "configuration not reloaded, the one before goes on", reason=str(error)
            )
        _, state = self.health.readiness()
        self._notifier.ready(state)

    def _leave_safe_mode(self, now_s: float) -> None:
        limit_s = self._config.service.watchdog.safe_mode_s
        if self.safe_mode and 0 < limit_s <= now_s - self._began_s:
            structlog.get_logger("service").info("safe mode ends, everything is tried again")
            self._began_s = now_s
            self._on_end()

    def _failed(self, part: str) -> Callable[[BaseException], None]:
        def note(error: BaseException) -> None:
            """A helper's thread has ended by a bug: pictures and recordings go on."""
            structlog.get_logger("service").error(f"{part} has failed", exc_info=error)
            self._live.stats.warn(f"service {part}", f"{part} has failed: {error}; restart the service")

        return note


@contextlib.contextmanager
def service_run(
    config: AppConfig, read_config: Callable[[], AppConfig], on_end: Callable[[], None]
) -> Iterator[tuple[AppConfig, Callable[[LiveFusion], ServiceHandle]]]:
    """One run as a service: gives the configuration to run with, and what to call with the pipeline made from it.

    An end by an exception or a failed pipeline counts as a restart; the rest of the ends were wanted. From here on a
    signal that ends the process (systemd's SIGABRT to one that hangs) first writes where each thread is. SIGHUP reloads
    once a pipeline is attached from the main thread.
    """
    with contextlib.suppress(OSError, ValueError):  # a standard error that is no file
        faulthandler.enable(all_threads=True)
    start = begin_run(config)
    handles: list[tuple[ServiceHandle, LiveFusion]] = []

    def attach(live: LiveFusion) -> ServiceHandle:
        handle = ServiceHandle(
            live,
            start.config,
            start=start,
            read_config=read_config,
            requested=requested_recording_file(config),
            on_end=on_end,
        )
        handle.start()
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, handle.request_reload)
        handles.append((handle, live))
        return handle

    in_order = False
    try:
        yield start.config, attach
        in_order = all(live.failure is None for _, live in handles)
    finally:
        for handle, _ in handles:
            handle.stop(in_order)


def _go_on(live: LiveFusion, config: AppConfig, requested: RequestedRecordingFile) -> None:
    """Have the recorder do what the run before was last asked for, and write down what this one is asked for."""
    before = requested.read()
    if before is not None and before.wanted is not config.recording.autostart:
        structlog.get_logger("service").info(
            "recording goes on" if before.wanted else "nothing is recorded, because somebody ended the recording",
            label=before.label or "",
        )
    live.recording.remember(requested.note, *((before.wanted, before.label) if before is not None else ()))


def _exit_stuck(verdict: Verdict) -> None:
    """End the process at once: something hangs, so an orderly end would hang too. Whoever started us restarts us."""
    structlog.get_logger("service").critical("stuck for too long, ending", reason="; ".join(verdict.stuck))
    faulthandler.dump_traceback(sys.stderr, all_threads=True)  # names of functions and lines, no values
    logging.shutdown()
    os._exit(_STUCK_EXIT)


def _default_scale(config: AppConfig) -> str:
    from app.rig.radiometry import default_scale

    return default_scale(config)
