"""The OpenAPI document of the HTTP API, made from the request models that check the requests."""

from __future__ import annotations

from typing import Any

from app.service.state.operations import Operations

__all__ = ["GET_COMMANDS", "POST_PATHS", "document"]

GET_COMMANDS = {"/api/v1/status": "status", "/api/v1/log": "log", "/api/v1/recordings": "recordings"}
POST_PATHS = {
    "/api/v1/recording/start": "start",
    "/api/v1/recording/stop": "stop",
    "/api/v1/event": "event",
    "/api/v1/trigger": "trigger",
    "/api/v1/snapshot": "snapshot",
    "/api/v1/engine": "engine",
    "/api/v1/protect": "protect",
    "/api/v1/reload": "reload",
}
_ERRORS = {
    "400": "the request is wrong; `error` says what is wanted",
    "401": "no token or session, or a wrong one",
    "403": "the request does not come from our own page",
    "404": "there is no such path, recording or snapshot",
    "405": "another method is wanted; Allow names it",
    "409": "it cannot be done now; `error` says why",
    "413": "the body is too large; `error` says how much is taken",
    "415": "the body is no application/json",
    "429": "too many failures; Retry-After says how long to wait",
    "503": "too many requests or viewers at a time; of health checks: something stands still",
}
_FILES: dict[str, tuple[str, str]] = {
    "/api/v1/preview.jpg": ("The newest picture; ?picture=fused, visible or thermal", "image/jpeg"),
    "/api/v1/preview.mjpg": ("The moving preview", "multipart/x-mixed-replace"),
    "/api/v1/recordings/{name}": ("A recording, its sidecar or its report; ranges are served", "video/x-matroska"),
    "/api/v1/snapshots/{bundle}/{name}": ("One file of a snapshot", "application/octet-stream"),
    "/api/v1/session": ("Who asks, and the CSRF token of this session", "application/json"),
    "/healthz": ("200 while nothing stands still, 503 otherwise; needs no login", "application/json"),
    "/readyz": ("200 while pictures come out, degraded or not; needs no login", "application/json"),
    "/metrics": ("Prometheus text", "text/plain"),
}


def document(operations: Operations, version: str) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for path, (summary, kind) in _FILES.items():
        parameters = [
            {"name": part.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
            for part in path.split("/")
            if part.startswith("{")
        ]
        paths[path] = {
            "get": {
                "operationId": f"get_{path.strip('/').replace('/', '_').replace('.', '_').translate(_BRACES)}",
                "summary": summary,
                "parameters": parameters,
                "responses": {"200": {"description": "done", "content": {kind: {}}}} | _errors(),
            }
        }
    for path, command in GET_COMMANDS.items():
        model, _, summary = operations.requests[command]
        properties = model.model_json_schema().get("properties", {})
        parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
        paths[path] = {
            "get": {
                "operationId": command,
                "summary": summary,
                "parameters": parameters,
                "responses": _done() | _errors(),
            }
        }
    for path, command in POST_PATHS.items():
        model, _, summary = operations.requests[command]
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        paths[path] = {
            "post": {
                "operationId": command,
                "summary": summary,
                "requestBody": {"required": False, "content": {"application/json": {"schema": schema}}},
                "responses": _done() | _errors(),
            }
        }
    schemas: dict[str, Any] = {}
    for model, _, _ in operations.requests.values():
        schemas |= model.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lumitherm", "version": version, "description": "Control of one rig."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "lumitherm_session"},
            },
        },
        "security": [{"token": []}, {"session": []}],
    }


_BRACES = str.maketrans("", "", "{}")


def _done() -> dict[str, Any]:
    return {"200": {"description": "done", "content": {"application/json": {"schema": {"type": "object"}}}}}


def _errors() -> dict[str, Any]:
    return {code: {"description": text} for code, text in _ERRORS.items()}
