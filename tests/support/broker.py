"""A real MQTT broker on the loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

BROKER = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
USER, WORD = "rig", "planted-mqtt-password-7"


def free_port() -> int:
    """A TCP port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def broker(folder: Path, number: int) -> Iterator[None]:
    """mosquitto on this port, which wants USER:WORD."""
    assert BROKER is not None
    users = folder / "users"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(users), USER, WORD], check=True, capture_output=True)
    users.chmod(0o644)
    folder.chmod(0o755)
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {number} 127.0.0.1\nallow_anonymous false\npassword_file {users}\nuser root\n")
    process = subprocess.Popen([BROKER, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                probe.settimeout(0.1)
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    break
            threading.Event().wait(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)
