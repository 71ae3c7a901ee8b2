"""Tells others of events: a command without a shell, a web address, or an MQTT topic. Own thread, bounded queue."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import queue
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
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
    done = subprocess.run(
        list(hook.command),
        input=json.dumps(message),
        capture_output=True,
        text=True,
        timeout=hook.timeout_s,
        check=False,
        env=environment,
        close_fds=True,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise ValueError(f"exit code {done.returncode}: {done.stderr.strip()[-_MAX_OUTPUT:]}")


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
    try:
        connection.request("POST", path, json.dumps(message).encode(), headers)
        answer = connection.getresponse()
        if not 200 <= answer.status < 300:
            raise ValueError(f"the server answered {answer.status}")
    finally:
        connection.close()


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
