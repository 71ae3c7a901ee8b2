"""Notices at once that a network camera's port answers again, so that a long back-off need not be waited out."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from app.capture.cameras.uri import CameraUri

__all__ = ["KNOCK_S", "PortWatch"]

KNOCK_S: Final = 1.0
"""Time between two knocks: one small packet a second to a camera that is away."""

_TIMEOUT_S: Final = 0.3
_DEFAULT_PORTS: Final = {"rtsp": 554, "rtsps": 322}


class PortWatch:
    """Whether the port of an RTSP camera has come back after having been closed.

    A camera that accepts connections and then says nothing was never away in this sense: it keeps its back-off. Host
    names are not watched (looking them up can take long), only addresses and localhost. Owner: the capture thread.
    """

    def __init__(self, uri: CameraUri) -> None:
        self._address: tuple[str, int] | None = None
        self._was_away = False
        if uri.kind in _DEFAULT_PORTS:
            parts = urlsplit(uri.target)
            host = parts.hostname or ""
            if host == "localhost" or _is_address(host):
                self._address = host, parts.port or _DEFAULT_PORTS[uri.kind]

    @property
    def watched(self) -> bool:
        """Whether there is a port to knock at."""
        return self._address is not None

    def reset(self) -> None:
        """Forget: a new outage begins."""
        self._was_away = False

    def came_back(self) -> bool:
        """Knock once, for at most 0.3 s. True once the port answers that did not answer at an earlier knock."""
        if self._address is None:
            return False
        try:
            socket.create_connection(self._address, timeout=_TIMEOUT_S).close()
        except OSError:
            self._was_away = True
            return False
        returned, self._was_away = self._was_away, False
        return returned


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
