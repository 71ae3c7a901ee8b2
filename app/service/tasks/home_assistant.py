"""Home Assistant by MQTT discovery: state, temperatures and alignment as sensors, recording as a switch.

One connection of its own, opened again for ever; what cannot be sent is not kept, since the next state says it all.
"""

from __future__ import annotations

import importlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from app.configuration.service import HomeAssistantConfig
from app.service.state.health import ServiceWorker
from app.service.state.metrics import HomeAssistantFigures
from app.service.state.secrets import read_secret
from fusion_core.errors import ConfigError, LumithermError

if TYPE_CHECKING:
    from app.pipeline.live_fusion import LiveFusion
    from app.rig.radiometry import Radiometry

__all__ = ["HomeAssistant", "discovery", "state_of"]

_LOOK_S = 0.2
_SENSORS: Mapping[str, tuple[str, str, str]] = {  # key: name, device class, unit
    "minimum": ("Coldest", "temperature", "°C"),
    "mean": ("Mean", "temperature", "°C"),
    "maximum": ("Hottest", "temperature", "°C"),
    "alignment": ("Alignment", "", "px"),
    "frame_rate": ("Pictures", "", "fps"),
    "state": ("State", "", ""),
}


class HomeAssistant(ServiceWorker):
    """One rig as a device. Thread: `home assistant`; paho's own thread speaks to the broker and only sets events here.

    Args:
        record: begins (True) or ends (False) a recording.
        scale: what a count means in degrees; None = counts stay counts, and temperatures are not told.

    Raises:
        ConfigError: paho-mqtt is missing, or the secret cannot be read.
    """

    def __init__(
        self,
        config: HomeAssistantConfig,
        live: LiveFusion,
        record: Callable[[bool], object],
        scale: Radiometry | None,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__("home assistant", self._work, on_failure)
        try:
            self._mqtt: Any = importlib.import_module("paho.mqtt.client")
        except ImportError as error:
            raise ConfigError("service.home_assistant needs paho-mqtt; pip install 'lumitherm[mqtt]'") from error
        self._config, self._live, self._record, self._scale = config, live, record, scale
        secret = read_secret(config.secret_file, "service.home_assistant") if config.secret_file is not None else ""
        self._user, _, self._password = (secret or "").partition(":")
        self._node = re.sub(r"[^A-Za-z0-9_-]", "_", f"lumitherm_{live.config.rig}")
        self._base = f"lumitherm/{self._node}"
        self._connected, self._asked = threading.Event(), threading.Event()
        self._wish: bool | None = None  # the newest command; a former one that was not taken is overwritten
        self.figures = HomeAssistantFigures()

    def _work(self, stopping: threading.Event) -> None:
        client = self._client()
        next_s = 0.0
        try:
            while not stopping.is_set():
                self.heartbeat.beat()
                self.figures = replace(self.figures, connected=self._connected.is_set())
                if self._asked.wait(_LOOK_S):
                    self._asked.clear()
                    self._obey()
                    next_s = 0.0
                next_s -= _LOOK_S
                if self._connected.is_set() and next_s <= 0:
                    client.publish(f"{self._base}/state", json.dumps(state_of(self._live, self._scale)))
                    self.figures = replace(self.figures, states=self.figures.states + 1)
                    next_s = self._config.interval_s
        finally:
            if self._connected.is_set():
                client.publish(f"{self._base}/availability", "offline", qos=1, retain=True).wait_for_publish(1.0)
            client.disconnect()
            client.loop_stop()

    def _client(self) -> Any:
        parts = urlsplit(self._config.broker.plain)
        client = self._mqtt.Client(self._mqtt.CallbackAPIVersion.VERSION2, client_id=self._node)
        client.on_connect, client.on_disconnect, client.on_message = (
            self._on_connect,
            self._on_disconnect,
            self._on_message,
        )
        client.max_queued_messages_set(8)  # of a broker that takes nothing; the oldest states are worth nothing
        client.will_set(f"{self._base}/availability", "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, 30)
        if self._user:
            client.username_pw_set(self._user, self._password)
        if parts.scheme == "mqtts":
            client.tls_set()
        client.connect_async(parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883), keepalive=30)
        client.loop_start()
        return client

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._told(f"the broker refused: {reason}")
            return
        client.subscribe(f"{self._base}/record/set", qos=1)
        prefix = self._config.discovery_prefix
        for topic, entry in discovery(self._node, self._live.config.rig, self._base, self._scale is not None).items():
            client.publish(f"{prefix}/{topic}/config", json.dumps(entry), qos=1, retain=True)
        client.publish(f"{self._base}/availability", "online", qos=1, retain=True)
        self._told("")
        self._connected.set()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        was_connected = self._connected.is_set()
        self._connected.clear()
        if reason.is_failure and was_connected:
            self._told(f"the connection ended: {reason}")

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        if message.retain:  # an old wish that the broker keeps: it would be obeyed again at each connection
            return
        word = bytes(message.payload)[:16].decode("ascii", "replace").strip().upper()
        if word in ("ON", "OFF"):
            self._wish = word == "ON"
            self._asked.set()

    def _obey(self) -> None:
        wish, self._wish = self._wish, None
        if wish is None:
            return
        try:
            self._record(wish)
            self.figures = replace(self.figures, commands=self.figures.commands + 1)
        except LumithermError as error:
            self._told(str(error))

    def _told(self, problem: str) -> None:
        if problem and problem != self.figures.problem:
            structlog.get_logger("service").warning("home assistant", reason=problem)
        self.figures = replace(self.figures, problem=problem)


def state_of(live: LiveFusion, scale: Radiometry | None) -> dict[str, Any]:
    """What the sensors show: state, pictures/s, alignment in px, recording, and degrees where they are known."""
    snapshot, frame = live.stats.snapshot(), live.latest.peek()
    budget = snapshot.budget
    state: dict[str, Any] = {
        "state": live.state.value,
        "frame_rate": round(snapshot.fps.get("fused", 0.0), 1),
        "alignment": None if budget is None else round(budget.total_px, 1),
        "recording": "ON" if live.recording.wanted else "OFF",
    }
    thermal = None if frame is None else frame.pair.thermal
    if scale is not None and thermal is not None:
        for key, counts in (
            ("minimum", thermal.pixels.min()), ("mean", thermal.pixels.mean()), ("maximum", thermal.pixels.max())
        ):  # fmt: skip
            state[key] = round(float(scale.celsius(float(counts))), 1)
    return state


def discovery(node: str, rig: str, base: str, degrees: bool) -> dict[str, dict[str, Any]]:
    """The entries by topic below the discovery prefix: a sensor each, and the switch."""
    common = {
        "availability_topic": f"{base}/availability",
        "device": {"identifiers": [node], "name": f"Lumitherm {rig}", "manufacturer": "Lumitherm", "model": "rig"},
    }
    entries: dict[str, dict[str, Any]] = {}
    for key, (name, kind, unit) in _SENSORS.items():
        if kind == "temperature" and not degrees:
            continue
        entry = {"name": name, "unique_id": f"{node}_{key}", "state_topic": f"{base}/state",
                 "value_template": f"{{{{ value_json.{key} }}}}"}  # fmt: skip
        entry |= {"device_class": kind} if kind else {}
        entry |= {"unit_of_measurement": unit, "state_class": "measurement"} if unit else {}
        entries[f"sensor/{node}/{key}"] = entry | common
    entries[f"switch/{node}/record"] = {
        "name": "Recording", "unique_id": f"{node}_record", "icon": "mdi:record-rec", "state_topic": f"{base}/state",
        "value_template": "{{ value_json.recording }}", "command_topic": f"{base}/record/set",
    } | common  # fmt: skip
    return entries
