"""The MQTT hook against a real broker: mosquitto on the loopback, with a password, stopped and started again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.broker import BROKER, WORD, broker, free_port

from app.configuration.service import HookConfig, HookEvent
from app.service.tasks.hooks import call_hook
from fusion_core.errors import RunError

mqtt = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed; pip install paho-mqtt")
pytestmark = pytest.mark.skipif(BROKER is None, reason="no broker here; Debian: apt-get install mosquitto")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A broker that wants rig:WORD."""
    number = free_port()
    with broker(tmp_path, number):
        yield number


def hook(port: int, folder: Path, secret: str) -> HookConfig:
    file = folder / "secret"
    file.touch(0o600)
    file.write_text(secret)
    return HookConfig.model_validate(
        {"name": "alarm", "mqtt": f"mqtt://127.0.0.1:{port}/rigs/roof/events", "secret_file": file, "timeout_s": 3}
    )


def test_an_event_arrives_once_with_its_facts(port: int, tmp_path: Path) -> None:
    got: list[dict[str, Any]] = []
    came, listening = threading.Event(), threading.Event()
    listener = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    listener.username_pw_set("rig", WORD)
    listener.on_connect = lambda client, *_: client.subscribe("rigs/#", qos=1)
    listener.on_subscribe = lambda *_: listening.set()
    listener.on_message = lambda _client, _data, message: (got.append(json.loads(message.payload)), came.set())
    listener.connect("127.0.0.1", port)
    listener.loop_start()
    try:
        assert listening.wait(30)
        call_hook(hook(port, tmp_path, f"rig:{WORD}"), HookEvent.EVENT, {"source": "hot", "label": "gate"})
        assert came.wait(30)
    finally:
        listener.disconnect()
        listener.loop_stop()
    assert got == [{"event": "event", "source": "hot", "label": "gate"}]


def test_a_wrong_password_and_a_missing_broker_are_told_without_the_password(port: int, tmp_path: Path) -> None:
    for number, secret in ((port, "rig:wrong-word"), (free_port(), f"rig:{WORD}")):
        with pytest.raises(RunError) as caught:
            call_hook(hook(number, tmp_path, secret), HookEvent.EVENT, {})
        assert "hook alarm failed" in str(caught.value)
        assert WORD not in str(caught.value) and "wrong-word" not in str(caught.value)


def test_a_broker_that_never_answers_costs_the_hooks_time_and_no_more(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        short = hook(deaf.getsockname()[1], tmp_path, f"rig:{WORD}").model_copy(update={"timeout_s": 0.5})
        with pytest.raises(RunError, match="did not answer"):
            call_hook(short, HookEvent.EVENT, {})
