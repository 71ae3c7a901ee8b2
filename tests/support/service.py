"""A running rig with its service on the loopback, for the tests of the service."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from app.configuration.config import AppConfig
from app.pipeline.live_fusion import LiveFusion
from app.service.runner import ServiceHandle
from fusion_core.frames import Stream
from support.live import PatternCamera, camera_factory, settings, wait_until

TOKEN = "planted-token-0123456789abcdefghijklmnop"
PASSWORD = "planted-password-Zq7"


def secret_file(folder: Path, name: str, text: str) -> Path:
    """A file that this user alone may read."""
    path = folder / name
    path.touch(0o600)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def service_settings(folder: Path, web: dict[str, Any] | None = None, **changes: Any) -> AppConfig:
    """A configuration with the web page on a free port and a socket in a short path."""
    service = {
        "state_directory": folder / "state",
        "web": {"enabled": True, "port": 0, **(web or {})},
        "control": {"socket": Path(tempfile.mkdtemp(prefix="lt", dir="/tmp")) / "rig.sock"},
        **changes.pop("service", {}),
    }
    return settings(folder / "recordings", service=service, **changes)


@contextlib.contextmanager
def running(
    config: AppConfig, cameras: Callable[..., Any] | None = None, live: LiveFusion | None = None, **options: Any
) -> Iterator[tuple[LiveFusion, ServiceHandle]]:
    """The pipeline and its service, from the first picture on."""
    if live is None:
        slow = cameras if cameras is not None else camera_factory(*(PatternCamera(s, fps=15) for s in Stream))
        live = LiveFusion(config, camera_factory=slow)
    handle = ServiceHandle(live, config, **options)
    live.start()
    handle.start()
    try:
        wait_until(lambda: live.latest.sequence > 0)
        if handle.web is not None:
            wait_until(lambda: handle.web is not None and handle.web.heartbeat.beats > 0)
        yield live, handle
    finally:
        handle.stop()
        live.stop()


def client(handle: ServiceHandle, token: str | None = None) -> httpx.Client:
    """A client of the rig's page, without proxies."""
    assert handle.web is not None
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.Client(base_url=handle.web.url, headers=headers, timeout=30, trust_env=False)
