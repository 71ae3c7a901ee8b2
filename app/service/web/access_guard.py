"""Everything between the socket and the pages: hosts, bodies, slow clients, logins, CSRF, and headers of answers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.configuration.service import WebConfig, is_loopback
from app.service.web.auth import Authenticator, Way

__all__ = ["COOKIE", "AccessGuard", "make_protocol"]

COOKIE: Final = "lumitherm_session"
_OPEN_PATHS: Final = ("/healthz", "/readyz", "/login", "/api/v1/login", "/static/style.css", "/static/login.js")
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_READ_ONLY: Final = ("GET", "HEAD")


class _Gone(Exception):  # noqa: N818 - ends a request, is no error
    """The client did not take its answer; the connection is cut."""


class AccessGuard:
    """ASGI middleware in front of the application; in the web thread alone, `refused` from any."""

    def __init__(self, app: ASGIApp, config: WebConfig, authenticator: Authenticator) -> None:
        self._app, self._config, self._auth = app, config, authenticator
        self._tls = config.tls_cert is not None
        self._lock = threading.Lock()
        self._refused: Counter[str] = Counter()
        hosts = {"localhost", "127.0.0.1", "::1", config.address, *config.allowed_hosts}
        self._hosts = {host.lower() for host in hosts} if is_loopback(config.address) else None

    @property
    def refused(self) -> Mapping[str, int]:
        """Refused requests so far, by reason."""
        with self._lock:
            return dict(self._refused)

    def count_refused(self, reason: str) -> None:
        """Count a refused request."""
        with self._lock:
            self._refused[reason] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        begun = gone = complete = False
        taken = 0

        async def careful_send(message: Message) -> None:
            nonlocal begun, gone
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._tls:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            try:
                async with asyncio.timeout(self._config.slow_client_s):
                    await send(message)
            except TimeoutError:
                gone = True
                self.count_refused("slow_client")
                _cut(scope)
                await asyncio.sleep(0.01)  # until the server has noticed
                raise _Gone from None

        async def careful_receive() -> Message:
            nonlocal taken, complete
            if begun or complete:
                return await receive()  # waits for the client to leave
            try:
                async with asyncio.timeout(self._config.slow_client_s):
                    message = await receive()
            except TimeoutError:
                self.count_refused("slow_client")
                raise HTTPException(408, "the request came too slowly", {"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > self._config.max_body_kb * 1000:
                self.count_refused("too_large")
                raise HTTPException(413, "the request is too large", {"Connection": "close"})
            return message

        try:
            answer = self._judge(scope)
            await (answer if answer is not None else self._app)(scope, careful_receive, careful_send)
        except Exception:
            if not gone:
                raise

    def _judge(self, scope: Scope) -> Response | None:
        """The answer to a request that must not get in, None for one that may."""
        headers = Headers(scope=scope)
        method, path = scope["method"], scope["path"]
        if method not in (*_READ_ONLY, "POST"):
            return self._refuse("method", 405, "wanted GET or POST")
        if self._hosts is not None and _host_name(headers.get("host", "")) not in self._hosts:
            return self._refuse("host", 421, "this is not the name of this rig; see service.web.allowed_hosts")
        length = headers.get("content-length")
        if length is not None and (not length.isdecimal() or int(length) > self._config.max_body_kb * 1000):
            return self._refuse("too_large", 413, f"wanted at most {self._config.max_body_kb} kB")
        if any(ord(character) < 32 or character == "\\" for character in path) or ".." in path.split("/"):
            return self._refuse("path", 400, "wanted a plain path")
        if method == "POST":
            origin = headers.get("origin")
            if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
                return self._refuse("csrf", 403, "the request comes from another page")
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return self._refuse("csrf", 403, "the request comes from another page")
            kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
            if kind != "application/json":
                return self._refuse("content_type", 415, "wanted application/json")
        return self._admit(scope, headers, method, path)

    def _admit(self, scope: Scope, headers: Headers, method: str, path: str) -> Response | None:
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["session_cookie"] = cookie = _cookie(headers.get("cookie"))
        state["client"] = client = scope["client"][0] if scope.get("client") else "unknown"
        authorization = headers.get("authorization")
        if authorization is not None and self._auth.required:
            wait_s = self._auth.failures.wait_s(client)
            if wait_s > 0:
                return self._refuse("rate_limit", 429, "too many failures", {"Retry-After": str(int(wait_s) + 1)})
        identity = self._auth.identify(authorization, cookie)
        state["identity"] = identity
        if path in _OPEN_PATHS:
            return None
        if identity is None:
            if authorization is not None:
                self._auth.failures.failed(client)
            if method == "GET" and path == "/" and self._auth.required:
                return RedirectResponse("/login", status_code=303)
            return self._refuse("login", 401, "wanted a token or a login", {"WWW-Authenticate": "Bearer"})
        if authorization is not None and self._auth.required and identity.way is not Way.TOKEN:
            self._auth.failures.failed(client)
            return self._refuse("login", 401, "the token is wrong", {"WWW-Authenticate": "Bearer"})
        if method not in _READ_ONLY and not self._auth.csrf_fits(identity, headers.get("x-csrf-token")):
            return self._refuse("csrf", 403, "wanted the X-CSRF-Token that GET /api/v1/session tells")
        return None

    def _refuse(self, reason: str, code: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
        self.count_refused(reason)
        return _refusal(code, text, headers, close=True)


def _refusal(code: int, text: str, headers: Mapping[str, str] | None = None, close: bool = False) -> Response:
    extra = {"Connection": "close"} if close else {}
    return JSONResponse({"error": text}, code, headers={**extra, **(headers or {})})


def _cut(scope: Scope) -> None:
    abort = scope.get("state", {}).get("abort")
    if abort is not None:
        abort()


def _host_name(host: str) -> str:
    host = host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cookie(header: str | None) -> str | None:
    if not header or len(header) > 4096:
        return None
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None


def make_protocol(header_s: float) -> type[H11Protocol]:
    """uvicorn's protocol with a limit on the time that a connection may take to send a request's head."""

    class ImpatientProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._waiting = self.loop.call_later(header_s, self._give_up)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before and self._waiting is not None:
                self._waiting.cancel()  # a whole head has come
                self._waiting = None
            elif self._waiting is None and (self.cycle is None or self.cycle.response_complete):
                self._waiting = self.loop.call_later(header_s, self._give_up)  # the next head has begun

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not None and self.cycle is not before:
                self.cycle.scope["state"]["abort"] = self.transport.abort

        def connection_lost(self, exc: Exception | None) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
            super().connection_lost(exc)

        def _give_up(self) -> None:
            self._waiting = None
            self.transport.abort()

    return ImpatientProtocol
