"""Runs uvicorn in a thread, behind the access guard."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import structlog
import uvicorn

from app.configuration.service import WebConfig, is_loopback
from app.service.state.health import Heartbeat
from app.service.web.access_guard import AccessGuard, make_protocol
from fusion_core.errors import ConfigError, RunError
from fusion_core.files import open_plain

__all__ = ["WebServer"]

_START_S = 15.0
_BACKLOG = 1024  # connections that the kernel keeps: what a flood leaves out waits a second for its next try


class WebServer:
    """Listens from the constructor on, answers from `start` on. Thread: `web`.

    Raises:
        ConfigError: the certificate cannot be used.
        RunError: the address is taken or not ours.
    """

    def __init__(self, config: WebConfig, guard: AccessGuard, on_failure: Callable[[BaseException], None]) -> None:
        self._config, self._on_failure = config, on_failure
        self.heartbeat = Heartbeat()
        self.loop: asyncio.AbstractEventLoop | None = None
        if config.tls_cert is not None and config.tls_key is not None:
            try:
                for file in (config.tls_cert, config.tls_key):
                    open_plain(file).close()  # a pipe would be waited for
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_cert, config.tls_key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"service.web.tls_cert: {config.tls_cert} with {config.tls_key} cannot be used"
                    f" ({error.strerror or error}); wanted two PEM files that belong together"
                ) from error
        try:
            family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
            self._socket = socket.create_server(
                ("127.0.0.1" if config.address == "localhost" else config.address, config.port),
                family=family,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise RunError(
                f"service.web: cannot listen on {config.address}:{config.port} ({error.strerror or error}); choose"
                " another service.web.port, or end the program that has it"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                guard,
                loop="asyncio",
                http=make_protocol(config.slow_client_s, guard.door),
                ws="none",
                lifespan="off",
                log_config=None,
                backlog=_BACKLOG,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=16_384,
                timeout_keep_alive=int(max(1, min(5, config.slow_client_s))),
                timeout_graceful_shutdown=2,
                ssl_certfile=str(config.tls_cert) if config.tls_cert is not None else None,
                ssl_keyfile=str(config.tls_key) if config.tls_key is not None else None,
            )
        )
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        address = f"[{self._config.address}]" if ":" in self._config.address else self._config.address
        return f"{'https' if self._config.tls_cert is not None else 'http'}://{address}:{self.port}/"

    def start(self) -> None:
        """Start the thread; returns at once."""
        if self._config.tls_cert is None and not is_loopback(self._config.address):
            structlog.get_logger("service").warning(
                "the status page is not encrypted", address=self._config.address, advice="set tls_cert and tls_key"
            )
        self._thread.start()
        structlog.get_logger("service").info("status page", url=self.url)

    def stop(self, timeout_s: float = 4.0) -> bool:
        """End it; whether it ended in time."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._server.force_exit = True
                self._thread.join(1.0)
        self._socket.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._on_failure(error)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        beating = asyncio.create_task(self._beat())
        try:
            if self._config.tls_cert is not None:  # uvicorn has no setting for it, asyncio waits for a minute
                self.loop.create_server = functools.partial(  # type: ignore[method-assign]
                    self.loop.create_server, ssl_handshake_timeout=self._config.slow_client_s
                )
            await self._server.serve(sockets=[self._socket])
        finally:
            beating.cancel()

    async def _beat(self) -> Any:
        while True:
            self.heartbeat.beat()
            await asyncio.sleep(0.5)
