"""Everything between the socket and the pages: hosts, bodies, slow clients, logins, CSRF, and headers of answers."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.configuration.service import WebConfig, is_loopback
from app.service.web.auth import Authenticator, Way

__all__ = ["COOKIE", "AccessGuard", "Door", "address_key", "make_protocol", "small_buffer"]

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
_HEALTH: Final = ("/healthz", "/readyz")
_MOST_HEAD_BYTES: Final = 16_384
_SMALL_BUFFER: Final = 65_536
_GRACE_S: Final = 0.5
_MOST_OPEN: Final = 512  # connections without a request; a process has 1,024 files by default


class _Gone(Exception):  # noqa: N818 - ends a request, is no error
    """The client did not take its answer; the connection is cut."""


class AccessGuard:
    """ASGI middleware in front of the application; in the web thread alone, `refused` from any."""

    def __init__(self, app: ASGIApp, config: WebConfig, authenticator: Authenticator) -> None:
        self._app, self._config, self._auth = app, config, authenticator
        self._tls = config.tls_cert is not None
        self._lock = threading.Lock()
        self._refused: Counter[str] = Counter()
        self.door = Door(config, self.count_refused)
        self._proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in config.trusted_proxies]
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
        body_ends_s = asyncio.get_running_loop().time() + self._config.slow_client_s

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
                async with asyncio.timeout_at(body_ends_s):  # for all of it: drops would go on for ever
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

        client = address_key(self._client(scope))
        held = scope["path"] not in _HEALTH and self.door.take(client)
        try:
            if not held and scope["path"] not in _HEALTH:
                answer: Response | None = _refusal(503, "too many requests at a time", {"Retry-After": "1"}, close=True)
            else:
                answer = self._judge(scope, client)
            await (answer if answer is not None else self._app)(scope, careful_receive, careful_send)
        except Exception:
            if not gone:
                raise
        finally:
            if held:
                self.door.give_back(client)

    def _client(self, scope: Scope) -> str:
        """The address that asks: of the connection, or what a trusted proxy says of its own client."""
        address: str = scope["client"][0] if scope.get("client") else "unknown"
        named = [part.strip() for value in Headers(scope=scope).getlist("x-forwarded-for") for part in value.split(",")]
        for before in reversed(named[-16:]):
            if not self._is_proxy(address):
                break
            address = before.rpartition(":")[0] if before.count(":") == 1 else before.strip("[]")
        return address

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)

    def _judge(self, scope: Scope, client: str) -> Response | None:
        """The answer to a request that must not get in, None for one that may."""
        headers = Headers(scope=scope)
        method, path = scope["method"], scope["path"]
        size = len(scope["raw_path"]) + len(scope["query_string"])
        if size + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > _MOST_HEAD_BYTES:
            return self._refuse("too_large", 431, f"wanted a request head of at most {_MOST_HEAD_BYTES} bytes")
        if "transfer-encoding" in headers and "content-length" in headers:
            return self._refuse("framing", 400, "wanted Content-Length or Transfer-Encoding, not both")
        if method not in (*_READ_ONLY, "POST"):
            return self._refuse("method", 405, "wanted GET or POST", {"Allow": ", ".join((*_READ_ONLY, "POST"))})
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
        return self._admit(scope, headers, client)

    def _admit(self, scope: Scope, headers: Headers, client: str) -> Response | None:
        method, path = scope["method"], scope["path"]
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["session_cookie"] = cookie = _cookie(headers.get("cookie"))
        state["client"] = client
        authorization = headers.get("authorization")
        identity = self._auth.identify(authorization, cookie)
        state["identity"] = identity
        wrong = (
            authorization is not None and self._auth.required and (identity is None or identity.way is not Way.TOKEN)
        )
        if wrong and path not in _OPEN_PATHS:  # what is right is let in, whatever others tried from its address
            wait_s = self._auth.failures.attempt(client)
            if wait_s > 0:
                return self._refuse("rate_limit", 429, "too many failures", {"Retry-After": str(int(wait_s) + 1)})
            return self._refuse(
                "login", 401, "wanted Authorization: Bearer and the token", {"WWW-Authenticate": "Bearer"}
            )
        if path in _OPEN_PATHS:
            return None
        if identity is None:
            if method == "GET" and path == "/" and self._auth.required:
                return RedirectResponse("/login", status_code=303)
            return self._refuse("login", 401, "wanted a token or a login", {"WWW-Authenticate": "Bearer"})
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


def small_buffer(scope: Scope) -> None:
    """Have the kernel keep little for this connection: a client that reads nothing is noticed within seconds."""
    shrink = scope.get("state", {}).get("small_buffer")
    if shrink is not None:
        shrink()


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


class Door:
    """Who holds which connection, so that nobody can keep the others out. In the web thread alone.

    A connection that has sent no whole request head yet, or waits for another one, may be ended for a newer one: first
    those of the address that has most. One with a request holds one of `max_connections` slots; an address has half of
    them at most. Health checks need none.
    """

    def __init__(self, config: WebConfig, refuse: Callable[[str], None]) -> None:
        self._most = config.max_connections
        self._most_of_one = max(1, config.max_connections // 2)
        self._refuse = refuse
        self._waiting: dict[asyncio.Transport, tuple[str, float]] = {}  # address and since when, oldest first
        self._held: Counter[str] = Counter()  # of those, by address
        self._busy: Counter[str] = Counter()

    def wait(self, transport: asyncio.Transport, address: str) -> None:
        """A connection is open and has no request. Ends an older one where there are too many."""
        now_s = time.monotonic()
        self.leave(transport)
        self._waiting[transport] = address, now_s
        self._held[address] += 1
        while len(self._waiting) > self._most:
            greediest = max(self._held, key=lambda one: self._held[one])
            oldest, since_s = next((who, s) for who, (one, s) in self._waiting.items() if one == greediest)
            if now_s - since_s < _GRACE_S and len(self._waiting) <= _MOST_OPEN:
                break  # a client that means well has had no time to ask yet
            self.leave(oldest)
            self._refuse("half_open")
            oldest.abort()

    def leave(self, transport: asyncio.Transport) -> None:
        """A connection has closed, or has a request now."""
        address, _ = self._waiting.pop(transport, ("", 0.0))
        if address:
            self._held[address] -= 1
            if not self._held[address]:
                del self._held[address]

    def take(self, address: str) -> bool:
        """Take a slot for a request; False where there is none for this address. `give_back` must follow a True."""
        if self._busy.total() >= self._most or self._busy[address] >= self._most_of_one:
            self._refuse("connections")
            return False
        self._busy[address] += 1
        return True

    def give_back(self, address: str) -> None:
        """Free a slot."""
        self._busy[address] -= 1
        if self._busy[address] <= 0:
            del self._busy[address]


def address_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that a subscriber of IPv6 has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def make_protocol(header_s: float, door: Door) -> type[H11Protocol]:
    """uvicorn's protocol with a limit on the time that a connection may take to send a request's head."""

    class ImpatientProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is before and self._waiting is None and (self.cycle is None or self.cycle.response_complete):
                self._expect_head()  # the next head has begun

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not None and self.cycle is not before:
                self._stop_waiting()  # a whole head has come
                self.cycle.scope["state"]["abort"] = self.transport.abort
                self.cycle.scope["state"]["small_buffer"] = self._shrink_buffer

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle is not None and self.cycle.response_complete and not self.transport.is_closing():
                door.wait(self.transport, self._address)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        @property
        def _address(self) -> str:
            return address_key(self.client[0]) if self.client else "unknown"

        def _shrink_buffer(self) -> None:
            raw = self.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BUFFER)
            self.transport.set_write_buffer_limits(high=_SMALL_BUFFER)

        def _expect_head(self) -> None:
            self._waiting = self.loop.call_later(header_s, self._give_up)
            door.wait(self.transport, self._address)

        def _stop_waiting(self) -> None:
            door.leave(self.transport)
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            self._waiting = None
            door.leave(self.transport)
            self.transport.abort()

    return ImpatientProtocol
