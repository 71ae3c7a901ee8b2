"""The local socket of `lumitherm ctl`: one JSON line asks, one JSON line answers. For this user and root alone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import platformdirs
import structlog

from app.process import Worker
from app.service.state.health import Heartbeat
from app.service.state.operations import Operations, explain
from fusion_core.errors import BadInputError, LumithermError, RunError
from fusion_core.files import make_folder, plain_name

__all__ = ["ControlServer", "ask", "default_socket"]

_MAX_LINE = 65_536
_TIMEOUT_S = 10.0
_MOST_ANSWER = 64_000_000
_MAX_CLIENTS = 8


def default_socket(rig: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the socket is unless the configuration says otherwise: systemd's runtime folder, or the user's.

    environment: variables; HOME is the process's own.
    """
    folder = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if folder:
        base = Path(folder)
    elif environment.get("XDG_RUNTIME_DIR"):
        base = Path(environment["XDG_RUNTIME_DIR"]) / "lumitherm"
    elif Path(f"/run/user/{os.getuid()}").is_dir():
        base = Path(f"/run/user/{os.getuid()}/lumitherm")
    else:  # not in /tmp, where others could make the folder first
        base = Path(platformdirs.user_state_path("lumitherm"))
    return base / f"{plain_name(rig)}.sock"


class ControlServer:
    """Listens from `start` on. Threads: `control`, which accepts, and up to eight that answer.

    Raises:
        RunError: the socket cannot be made, or another instance has it.
    """

    def __init__(
        self, path: Path, operations: Operations, on_failure: Callable[[BaseException], None] | None = None
    ) -> None:
        self.path, self._operations = path, operations
        self._on_failure = on_failure
        self.heartbeat = Heartbeat()
        self._pool = ThreadPoolExecutor(_MAX_CLIENTS, thread_name_prefix="control-answer")
        self._slots = threading.BoundedSemaphore(_MAX_CLIENTS)  # one for each open connection
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._socket = _listen(path)
        self._worker = Worker("control", self._run, self._failed)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._worker.start()

    def stop(self, timeout_s: float = 3.0) -> bool:
        """Remove the socket, finish the answers under way and close every connection; whether it ended in time.

        A client that has not asked yet is answered as if it had left.
        """
        deadline_s = time.monotonic() + timeout_s
        ended = self._worker.stop(timeout_s)
        self._socket.close()
        self.path.unlink(missing_ok=True)
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):  # it has left
                    client.shutdown(socket.SHUT_RD)
        for _ in range(_MAX_CLIENTS):
            ended = self._slots.acquire(timeout=max(0.0, deadline_s - time.monotonic())) and ended
        self._pool.shutdown(wait=False)
        return ended

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.heartbeat.beat()
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            if not _is_friend(client) or not self._slots.acquire(blocking=False):
                client.close()
                continue
            with self._lock:
                self._clients.add(client)
            self._pool.submit(self._serve, client)

    def _failed(self, _: str, error: BaseException) -> None:
        if self._on_failure is not None:
            self._on_failure(error)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                line = _read_line(client, time.monotonic() + _TIMEOUT_S)
                client.settimeout(_TIMEOUT_S)
                client.sendall(json.dumps(self._answer(line)).encode("ascii") + b"\n")
        except OSError as error:  # the client has gone or is too slow
            structlog.get_logger("service").debug("a control client left", reason=str(error))
        finally:
            with self._lock:
                self._clients.discard(client)
            self._slots.release()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            if len(line) > _MAX_LINE:
                raise BadInputError(f"the request is longer than {_MAX_LINE} bytes")
            try:
                request = json.loads(line)
                json.dumps(request, ensure_ascii=False).encode()  # halves of characters are no text
            except (ValueError, RecursionError):
                raise BadInputError("the request is no JSON line") from None
            if not isinstance(request, dict) or not isinstance(request.get("command"), str):
                raise BadInputError('wanted {"command": "...", "arguments": {...}}')
            arguments = request.get("arguments", {})
            if not isinstance(arguments, dict):
                raise BadInputError("arguments must be an object")
            return {"ok": True, "result": self._operations.call(request["command"], arguments)}
        except LumithermError as error:
            return {"ok": False, "error": explain(error), "exit_code": error.exit_code}
        except Exception as error:  # a bug must not end the socket; it is told here and in the log
            structlog.get_logger("service").error("a request failed", exc_info=error)
            return {"ok": False, "error": "an internal error; the log tells more", "exit_code": 1}


def _read_line(client: socket.socket, deadline_s: float) -> bytes:
    """One line, or what came of it until the client left. Raises TimeoutError: single bytes would come for ever."""
    line = b""
    while b"\n" not in line and len(line) <= _MAX_LINE:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request came too slowly")
        client.settimeout(left_s)
        piece = client.recv(65_536)
        if not piece:
            break
        line += piece
    return line.partition(b"\n")[0] if b"\n" in line else line


def ask(path: Path, command: str, arguments: Mapping[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
    """Ask a running instance.

    Raises:
        RunError: nobody listens, or it could not be done. BadInputError: the request is wrong.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(json.dumps({"command": command, "arguments": dict(arguments)}).encode() + b"\n")
            with client.makefile("rb") as stream:
                line = stream.readline(_MOST_ANSWER)
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError("its answer makes no sense")
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"no running rig answers at {path} ({error}); start one with `lumitherm run --headless --service`, or name"
            " its socket with --socket"
        ) from error
    if not answer.get("ok"):
        kind = BadInputError if answer.get("exit_code") == 2 else RunError
        raise kind(str(answer.get("error", "unknown error")))
    result = answer["result"]
    assert isinstance(result, dict)  # by ControlServer
    return result


def _listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        make_folder(path.parent, 0o700)
        _check_folder(path.parent)
        if path.exists():
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise RunError(f"service.control.socket: {path} is there and no socket; choose another path")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                if probe.connect_ex(str(path)) == 0:
                    raise RunError(f"another instance listens on {path} already; end it, or give this rig another name")
            path.unlink()
        before = os.umask(0o177)
        try:
            server.bind(str(path))
        finally:
            os.umask(before)
        server.listen(16)
        server.settimeout(0.25)
        return server
    except OSError as error:
        server.close()
        raise RunError(f"service.control.socket: {path} cannot be made ({error.strerror or error})") from error
    except RunError:
        server.close()
        raise


def _check_folder(folder: Path) -> None:
    """Raises RunError where somebody else could put another socket in our place."""
    status = folder.stat()
    if status.st_uid not in (os.getuid(), 0):
        raise RunError(f"service.control.socket: {folder} belongs to somebody else; choose another folder")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        raise RunError(f"service.control.socket: others may write in {folder}; choose another folder, or chmod 700 it")


def _is_friend(client: socket.socket) -> bool:
    """Whether the other side is this user or root."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's own permissions must do
    data = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", data)
    return uid in (0, os.getuid())
