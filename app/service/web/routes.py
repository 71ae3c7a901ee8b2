"""The status page and the HTTP API as a starlette application. Runs in the web thread; slow work goes to a pool."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.configuration.service import WebConfig
from app.service.state.health import Health
from app.service.state.metrics import render_metrics
from app.service.state.operations import NothingThereError, Operations, explain
from app.service.state.preview import PICTURES, Preview
from app.service.web.access_guard import COOKIE, small_buffer
from app.service.web.auth import Authenticator, Identity
from app.service.web.openapi import GET_COMMANDS, POST_PATHS, document
from fusion_core.errors import LumithermError, UsageError

__all__ = ["WebApp"]

_BOUNDARY = "lumitherm"
_AGAIN_S = 2.0  # without a new picture, the last one is sent again
_STATIC = {
    "style.css": "text/css",
    "app.js": "text/javascript",
    "login.js": "text/javascript",
}
_TYPES = {".mkv": "video/x-matroska", ".jsonl": "application/x-ndjson", ".md": "text/markdown"}


class WebApp:
    """Builds the application; `app` is ASGI. Holds what its pages need."""

    def __init__(
        self,
        config: WebConfig,
        operations: Operations,
        authenticator: Authenticator,
        preview: Preview,
        health: Health,
        registry: CollectorRegistry,
        on_scrape: Callable[[float], None] = lambda seconds: None,
        refuse: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._config, self._operations, self._auth = config, operations, authenticator
        self._preview, self._health, self._registry = preview, health, registry
        self._on_scrape, self.refuse = on_scrape, refuse
        self._viewers: Counter[str] = Counter()
        self._document = document(operations, _version())
        routes = [
            Route("/", self._page("index.html")),
            Route("/login", self._login_page),
            Route("/api/v1/login", self._login, methods=["POST"]),
            Route("/api/v1/logout", self._logout, methods=["POST"]),
            Route("/api/v1/session", self._session),
            Route("/api/v1/openapi.json", self._openapi),
            Route("/api/v1/preview.jpg", self._jpeg),
            Route("/api/v1/preview.mjpg", self._mjpeg),
            Route("/api/v1/recordings/{name}", self._download),
            Route("/api/v1/snapshots/{bundle}/{name}", self._snapshot_file),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/static/{name}", self._static),
            *(Route(path, self._command(command)) for path, command in GET_COMMANDS.items()),
            *(Route(path, self._command(command), methods=["POST"]) for path, command in POST_PATHS.items()),
        ]
        self.app = Starlette(
            routes=routes,
            exception_handlers={LumithermError: _on_error, HTTPException: _on_http_error, Exception: _on_bug},
        )

    # ------------------------------------------------------------------ pages

    def _page(self, name: str) -> Callable[[Request], Any]:
        text = _resource(name)

        async def page(_request: Request) -> Response:
            return Response(text, media_type="text/html; charset=utf-8")

        return page

    async def _login_page(self, request: Request) -> Response:
        if request.state.identity is not None:
            return RedirectResponse("/", status_code=303)
        return Response(_resource("login.html"), media_type="text/html; charset=utf-8")

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404, "there is no such file")
        return Response(_resource(name), media_type=f"{_STATIC[name]}; charset=utf-8")

    # ------------------------------------------------------------------ who asks

    async def _login(self, request: Request) -> Response:
        client = request.state.client
        data = await _json(request)
        user, password, token = (data.get(key, "") for key in ("user", "password", "token"))
        if not all(isinstance(value, str) for value in (user, password, token)):
            return JSONResponse({"error": "wanted user and password, or token, as text"}, 400)
        opened = self._auth.log_in_by_token(token) if token else None
        if opened is None:
            wait_s = self._auth.failures.attempt(client)  # counts before the hash
            if wait_s > 0:
                self.refuse("rate_limit")
                again = {"Retry-After": str(int(wait_s) + 1)}
                return JSONResponse({"error": f"too many failures; try again in {wait_s:.0f} s"}, 429, again)
            if not token:
                opened = await run_in_threadpool(self._auth.log_in, user, password)
            if opened is None:
                self.refuse("login")
                return JSONResponse({"error": "user, password or token is wrong"}, 401)
            self._auth.failures.succeeded(client)
        value, session = opened
        answer = JSONResponse({"user": session.user, "csrf": session.csrf})
        answer.set_cookie(
            COOKIE,
            value,
            max_age=int(self._config.session_hours * 3600),
            httponly=True,
            samesite="strict",
            secure=self._config.tls_cert is not None,
            path="/",
        )
        return answer

    async def _logout(self, request: Request) -> Response:
        if request.state.session_cookie:
            self._auth.log_out(request.state.session_cookie)
        answer = JSONResponse({"logged_out": True})
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    async def _session(self, request: Request) -> Response:
        identity: Identity = request.state.identity
        return JSONResponse({"user": identity.user, "way": identity.way.value, "csrf": identity.csrf})

    # ------------------------------------------------------------------ requests

    def _command(self, command: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            arguments: dict[str, Any] = dict(request.query_params) if request.method == "GET" else await _json(request)
            return _Answer(await run_in_threadpool(self._operations.call, command, arguments))

        return answer

    async def _openapi(self, _request: Request) -> Response:
        return JSONResponse(self._document)

    async def _download(self, request: Request) -> Response:
        path = await run_in_threadpool(self._operations.recording_file, request.path_params["name"])
        return _file(path)

    async def _snapshot_file(self, request: Request) -> Response:
        names = request.path_params
        return _file(await run_in_threadpool(self._operations.snapshot_file, names["bundle"], names["name"]))

    # ------------------------------------------------------------------ pictures

    async def _jpeg(self, request: Request) -> Response:
        number, data = await run_in_threadpool(self._preview.jpeg, _picture(request))
        return Response(data, media_type="image/jpeg", headers={"X-Picture": str(number)})

    async def _mjpeg(self, request: Request) -> Response:
        name, client = _picture(request), request.state.client
        media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        if request.method == "HEAD":
            return Response(media_type=media_type)  # nobody watches
        most = self._config.preview_clients
        most_of_one = most if most <= 2 else most - 1  # one address leaves a place to another
        if self._viewers.total() >= most or self._viewers[client] >= most_of_one:
            self.refuse("viewers")
            return JSONResponse({"error": f"{self._viewers.total()} are watching already; see preview_clients"}, 503)
        return _Watched(self._parts(name), self._viewers, client, media_type)

    async def _parts(self, name: str) -> AsyncIterator[bytes]:
        """Pictures as they change, and the last one again: a client that takes nothing is noticed by what it leaves."""
        last, sent_s = 0, time.monotonic()
        while True:
            try:
                number, data = await run_in_threadpool(self._preview.jpeg, name)
            except LumithermError:
                number, data = last, b""
            if number != last or (data and time.monotonic() - sent_s > _AGAIN_S):
                last, sent_s = number, time.monotonic()
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                yield head.encode() + data + b"\r\n"
            await asyncio.sleep(1 / self._config.preview_fps)

    # ------------------------------------------------------------------ monitoring

    async def _healthz(self, request: Request) -> Response:
        verdict = self._health.verdict
        body: dict[str, Any] = {"status": "ok" if verdict.alive else "stuck"}
        if request.state.identity is not None:
            body["stuck"] = list(verdict.stuck)
        return JSONResponse(body, 200 if verdict.alive else 503)

    async def _readyz(self, request: Request) -> Response:
        ready, state = self._health.readiness()
        body: dict[str, Any] = {"ready": ready}
        if request.state.identity is not None:
            body["state"] = state
        return JSONResponse(body, 200 if ready else 503)

    async def _metrics(self, _request: Request) -> Response:
        began_s = time.perf_counter()
        data = render_metrics(self._registry)  # about 2 ms: not worth a thread
        self._on_scrape(time.perf_counter() - began_s)
        return Response(data, media_type=CONTENT_TYPE_LATEST)


class _Watched(StreamingResponse):
    """A preview that counts among its viewers for as long as it is sent, and not a moment longer."""

    def __init__(self, parts: AsyncIterator[bytes], viewers: Counter[str], client: str, media_type: str) -> None:
        super().__init__(parts, media_type=media_type)
        self._viewers, self._client = viewers, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._viewers[self._client] += 1
        small_buffer(scope)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._viewers[self._client] -= 1


def _picture(request: Request) -> str:
    name = request.query_params.get("picture", "fused")
    if name not in PICTURES:
        raise HTTPException(400, f"picture is {name[:20]!r}, wanted one of {', '.join(PICTURES)}")
    return name


def _file(path: Path) -> Response:
    media_type = _TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=media_type, filename=path.name)


class _Answer(JSONResponse):
    """Also with what is no text, as in the name of a folder from another system."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False).encode("ascii")


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        data = json.loads(body) if body.strip() else {}
        json.dumps(data, ensure_ascii=False).encode()  # halves of characters are no text, and would fail further in
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON") from None
    if not isinstance(data, dict):
        raise HTTPException(400, "wanted a JSON object")
    return data


def _resource(name: str) -> str:
    return resources.files("app.service.web").joinpath("static", name).read_text(encoding="utf-8")


async def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, LumithermError)  # starlette calls this for nothing else
    code = 404 if isinstance(error, NothingThereError) else 400 if isinstance(error, UsageError) else 409
    return JSONResponse({"error": explain(error)}, code)


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    routing = {  # what starlette says of itself tells nobody what to do
        "Not Found": "there is no such path; GET /api/v1/openapi.json lists them",
        "Method Not Allowed": f"wanted {headers.get('Allow', 'another method')}",
    }
    return JSONResponse({"error": routing.get(error.detail, error.detail)}, error.status_code, headers=headers)


async def _on_bug(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "an internal error; the log tells more"}, 500)


def _version() -> str:
    try:
        return metadata.version("lumitherm")
    except metadata.PackageNotFoundError:
        return "unknown"
