"""Home Assistant against a real mosquitto: discovery, states, the record switch, a broker that goes and comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.broker import BROKER, USER, WORD, broker, free_port

from app.configuration.service import HomeAssistantConfig
from app.pipeline.live_fusion import LiveFusion
from app.rig.radiometry import default_scale, scale_of
from app.rig.setup_assistant import simulated_config
from app.service.tasks.home_assistant import HomeAssistant, discovery

mqtt = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed; pip install paho-mqtt")
pytestmark = pytest.mark.skipif(BROKER is None, reason="no broker here; Debian: apt-get install mosquitto")


def until(condition: Callable[[], Any], limit_s: float = 40.0) -> Any:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError("it did not happen")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveFusion]:
    small = {"width": 160, "height": 120, "thermal_width": 160, "thermal_height": 120}
    pipeline = LiveFusion(
        simulated_config(engine={"name": "average"}, simulation=small,
                         recording={"directory": tmp_path / "rec", "reserve_mb": 1})
    )  # fmt: skip
    pipeline.start()
    yield pipeline
    pipeline.stop(10.0)


class Home:
    """What Home Assistant does: looks at discovery, follows the topics named there, and throws the switch."""

    def __init__(self, port: int) -> None:
        self.messages: dict[str, list[str]] = {}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(USER, WORD)
        self.client.on_connect = lambda client, *_: client.subscribe([("homeassistant/#", 1), ("lumitherm/#", 1)])
        self.client.on_message = self._take
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        self.messages.setdefault(message.topic, []).append(message.payload.decode())

    def last(self, topic: str) -> Any:
        told = self.messages.get(topic)
        return None if not told else told[-1]


def make(port: int, folder: Path, live: LiveFusion, secret: str = f"{USER}:{WORD}") -> HomeAssistant:
    file = folder / "secret"
    file.touch(0o600)
    file.write_text(secret)
    config = HomeAssistantConfig.model_validate(
        {"broker": f"mqtt://127.0.0.1:{port}", "secret_file": file, "interval_s": 1}
    )
    record = lambda wanted: live.recording.start() if wanted else live.recording.stop(20.0)  # noqa: E731
    return HomeAssistant(config, live, record, scale_of(default_scale(live.config)), lambda error: None)


def test_a_rig_appears_tells_its_state_and_takes_the_switch(tmp_path: Path, live: LiveFusion) -> None:
    port = free_port()
    with broker(tmp_path, port):
        home, told = Home(port), make(port, tmp_path, live)
        told.start()
        try:
            entry = json.loads(until(lambda: home.last("homeassistant/sensor/lumitherm_simulated/maximum/config")))
            assert entry["device_class"] == "temperature" and entry["unit_of_measurement"] == "°C"
            assert home.last(entry["availability_topic"]) == "online"
            topic = entry["state_topic"]
            states = lambda: [each for each in map(json.loads, home.messages.get(topic, [])) if "mean" in each]  # noqa: E731
            running = until(states)[0]
            assert -60 < running["minimum"] <= running["mean"] <= running["maximum"] < 200
            assert set(running) == {"state", "frame_rate", "alignment", "recording", "minimum", "mean", "maximum"}
            switch = json.loads(home.last("homeassistant/switch/lumitherm_simulated/record/config"))
            assert running["recording"] == "OFF"
            home.client.publish(switch["command_topic"], "ON", qos=1)
            until(lambda: live.recording.wanted and json.loads(home.last(topic))["recording"] == "ON")
            home.client.publish(switch["command_topic"], "nonsense", qos=1)
            home.client.publish(switch["command_topic"], "OFF", qos=1)
            until(lambda: json.loads(home.last(topic))["recording"] == "OFF")
            assert told.figures.commands == 2 and not live.recording.wanted
            assert told.stop(10.0)
            until(lambda: home.last(entry["availability_topic"]) == "offline")
        finally:
            told.stop(10.0)
            home.client.loop_stop()


def test_a_broker_that_comes_back_is_told_anew(tmp_path: Path, live: LiveFusion) -> None:
    port = free_port()
    told = make(port, tmp_path, live)
    told.start()
    try:
        with broker(tmp_path, port):
            until(lambda: told.figures.states > 0)
        until(lambda: not told.figures.connected)
        with broker(tmp_path, port):
            home = Home(port)
            until(lambda: home.last("homeassistant/switch/lumitherm_simulated/record/config"))
            until(lambda: told.figures.connected)
            home.client.loop_stop()
    finally:
        assert told.stop(10.0)


def test_a_wrong_password_is_told_without_it(tmp_path: Path, live: LiveFusion) -> None:
    port = free_port()
    with broker(tmp_path, port):
        told = make(port, tmp_path, live, "rig:wrong-secret-word")
        told.start()
        try:
            problem = until(lambda: told.figures.problem)
            assert "refused" in problem and "wrong-secret-word" not in problem and not told.figures.connected
        finally:
            told.stop(10.0)


def test_counts_without_a_scale_are_no_temperatures() -> None:
    entries = discovery("n", "rig", "lumitherm/n", degrees=False)
    assert not [entry for entry in entries.values() if entry.get("device_class") == "temperature"]
    assert "switch/n/record" in entries


@pytest.mark.parametrize("address", ["http://x", "mqtt://user:word@x", "nothing"])
def test_what_is_no_broker_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        HomeAssistantConfig.model_validate({"broker": address})


def test_a_wish_that_the_broker_has_kept_is_not_obeyed(tmp_path: Path, live: LiveFusion) -> None:
    """It would begin or end a recording at each connection."""
    port = free_port()
    with broker(tmp_path, port):
        home = Home(port)
        home.client.publish("lumitherm/lumitherm_simulated/record/set", "ON", qos=1, retain=True).wait_for_publish(20)
        told = make(port, tmp_path, live)
        told.start()
        try:
            until(lambda: told.figures.states > 1)  # long after it came
            assert told.figures.commands == 0 and not live.recording.wanted
            home.client.publish("lumitherm/lumitherm_simulated/record/set", "ON", qos=1)
            until(lambda: told.figures.commands == 1)
        finally:
            told.stop()
            home.client.disconnect()
            home.client.loop_stop()
