"""Tells others of events: a command without a shell, a web address, or an MQTT topic. Own thread, bounded queue."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import queue
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any
from urllib.parse import urlsplit

import structlog

from app.configuration.service import HookConfig, HookEvent
from app.service.state.health import ServiceWorker
from app.service.state.secrets import read_secret
from fusion_core.errors import ConfigError, RunError
from fusion_core.redaction import redact

__all__ = ["HookRunner", "call_hook"]

_QUEUE = 64
_MAX_OUTPUT = 500
_READ_S = 1.0
_LAST_PIECES = 16  # of its words that are waited for once a program has ended
_MORE_S = 30.0  # beyond a hook's own limit: names are looked up, a process ends
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "XDG_CONFIG_HOME", "SSL_CERT_FILE")


def call_hook(hook: HookConfig, event: HookEvent, facts: Mapping[str, Any]) -> None:
    """Tell one hook and wait for it, at most `timeout_s`.

    Raises:
        RunError: it could not be told. ConfigError: its secret cannot be read, or paho-mqtt is missing.
    """
    message = {"event": event.value, **facts}
    secret = read_secret(hook.secret_file, f"service.hooks {hook.name}") if hook.secret_file is not None else None
    try:
        if hook.command is not None:
            _run(hook, message)
        elif hook.webhook is not None:
            _post(hook, hook.webhook.plain, message, secret)
        elif hook.mqtt is not None:
            _publish(hook, hook.mqtt.plain, message, secret)
    except (OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
        raise RunError(f"hook {hook.name} failed: {redact(str(error))}") from error


class HookRunner(ServiceWorker):
    """Calls hooks one after the other in the thread `hooks`. `tell` never waits; what does not fit is counted."""

    def __init__(self, hooks: Sequence[HookConfig], on_failure: Callable[[BaseException], None]) -> None:
        super().__init__("hooks", self._work, on_failure)
        self._hooks = tuple(hooks)
        self._queue: queue.Queue[tuple[HookConfig, HookEvent, dict[str, Any]]] = queue.Queue(_QUEUE)
        self._lock = threading.Lock()
        self._outcomes: Counter[tuple[str, str]] = Counter()

    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]:
        """Calls so far by (hook, ok/failed/dropped)."""
        with self._lock:
            return dict(self._outcomes)

    def use(self, hooks: Sequence[HookConfig]) -> None:
        """Other hooks from the next event on."""
        self._hooks = tuple(hooks)

    def tell(self, event: HookEvent, facts: Mapping[str, Any]) -> None:
        """Have every hook told that wants to hear of this event."""
        for hook in self._hooks:
            if event in hook.on:
                try:
                    self._queue.put_nowait((hook, event, dict(facts)))
                except queue.Full:
                    self._count(hook, "dropped")

    def _work(self, stopping: threading.Event) -> None:
        while not (stopping.is_set() and self._queue.empty()):
            self.heartbeat.beat()
            try:
                hook, event, facts = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            self.heartbeat.allow(hook.timeout_s + _MORE_S)
            try:
                call_hook(hook, event, facts)
                self._count(hook, "ok")
            except (RunError, ConfigError) as error:
                self._count(hook, "failed")
                structlog.get_logger("service").warning("hook failed", hook=hook.name, reason=str(error))

    def _count(self, hook: HookConfig, outcome: str) -> None:
        with self._lock:
            self._outcomes[hook.name, outcome] += 1


def _run(hook: HookConfig, message: Mapping[str, Any]) -> None:
    """A program, never a shell: facts come as variables and on its standard input, not within its arguments."""
    assert hook.command is not None
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {f"LUMITHERM_{key.upper()}": str(value).replace("\0", "") for key, value in message.items()}
    with tempfile.TemporaryFile() as facts:
        facts.write(json.dumps(message).encode())
        facts.seek(0)
        program = subprocess.Popen(
            list(hook.command),
            stdin=facts,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    assert program.stderr is not None  # it is a pipe
    said, ended = bytearray(), threading.Event()
    reader = threading.Thread(target=_keep_end, args=(program.stderr, said, ended), name="hook output", daemon=True)
    reader.start()
    try:
        code = program.wait(hook.timeout_s)
    finally:
        _end_group(program)
        ended.set()
        reader.join(_READ_S)
    if code != 0:
        raise ValueError(f"exit code {code}: {bytes(said).decode('utf-8', 'replace').strip()[-_MAX_OUTPUT:]}")


def _keep_end(stream: IO[bytes], kept: bytearray, ended: threading.Event) -> None:
    """Keep the last of what is said: it may be more than memory, and what the program left behind may go on."""
    left = _LAST_PIECES
    with stream, contextlib.suppress(OSError):
        while left > 0:
            left -= ended.is_set()
            if os.name == "posix" and not select.select([stream], [], [], 0.02)[0]:
                continue
            piece = os.read(stream.fileno(), 65_536)
            if not piece:
                return
            kept += piece
            del kept[: -4 * _MAX_OUTPUT]


def _end_group(program: subprocess.Popen[bytes]) -> None:
    """After its time a program ends with all that it has started; what goes on by itself may do so after a good end."""
    if program.poll() is not None:
        return
    with contextlib.suppress(OSError):
        os.killpg(program.pid, signal.SIGKILL) if hasattr(os, "killpg") else program.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(_READ_S)


def _post(hook: HookConfig, url: str, message: Mapping[str, Any], token: str | None) -> None:
    """One POST; a redirect counts as a failure, so that a token goes nowhere else."""
    parts = urlsplit(url)
    assert parts.hostname is not None  # by HookConfig
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=hook.timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=hook.timeout_s)
    headers = {"Content-Type": "application/json", "User-Agent": "lumitherm"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # The connection's own limit is one for each piece, and a server may send them one by one.
    late = threading.Event()
    watch = threading.Timer(hook.timeout_s, _cut, (connection, late))
    watch.start()
    try:
        connection.request("POST", path, json.dumps(message).encode(), headers)
        answer = connection.getresponse()
        if late.is_set():  # what there was of it may look whole
            raise TimeoutError(f"the server did not answer within {hook.timeout_s:g} s")
        if not 200 <= answer.status < 300:
            raise ValueError(f"the server answered {answer.status}")
    finally:
        watch.cancel()
        connection.close()


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    held = connection.sock
    if held is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(held, socket.SHUT_RDWR)  # not TLS's own, which would wait


def _publish(hook: HookConfig, url: str, message: Mapping[str, Any], secret: str | None) -> None:
    """One message, and the broker's word that it has it; within the hook's time whatever the broker does."""
    try:
        mqtt: Any = importlib.import_module("paho.mqtt.client")
    except ImportError as error:
        raise ConfigError(
            f"hook {hook.name}: MQTT needs the package paho-mqtt; install it, or use a webhook"
        ) from error
    parts = urlsplit(url)
    user, _, password = (secret or "").partition(":")
    end_s = time.monotonic() + hook.timeout_s
    answered, refusal = threading.Event(), []

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            refusal.append(str(reason))
        answered.set()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = on_connect
    client.connect_timeout = hook.timeout_s
    if secret:
        client.username_pw_set(user, password)
    if parts.scheme == "mqtts":
        client.tls_set()
    client.connect(parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883))
    client.loop_start()
    try:
        if not answered.wait(max(0.0, end_s - time.monotonic())):
            raise ValueError(f"the broker did not answer within {hook.timeout_s:g} s")
        if refusal:
            raise ValueError(f"the broker refused: {refusal[0]}")
        told = client.publish(parts.path.lstrip("/"), json.dumps(message), qos=1)
        told.wait_for_publish(max(0.0, end_s - time.monotonic()))
        if not told.is_published():
            raise ValueError(f"the broker did not take the message within {hook.timeout_s:g} s")
    except RuntimeError as error:  # paho's word for a connection that broke off
        raise ValueError(str(error)) from error
    finally:
        client.disconnect()
        client.loop_stop()
