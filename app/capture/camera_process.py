"""The process of one camera: opens it, reads it, and puts its pictures into memory that the parent gave.

python -m app.capture.camera_process HANDLE       started by `ChildCamera`, where the agreement of both is told
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import resource
import socket
import sys
from collections import deque
from dataclasses import asdict
from typing import Any

import numpy as np

from app.capture.cameras.camera import Camera, CameraInfo, MonotonicClock, TimeBase
from app.capture.cameras.child_camera import BEAT, BEAT_S, CREDIT, DTYPES, FRAME, MOST_MESSAGE, SOURCES
from app.capture.cameras.factory import create_here
from app.capture.cameras.uri import parse_camera_uri
from app.capture.config import CameraConfig
from app.process import data_bytes, live_with_parent
from fusion_core.errors import CameraLost, CameraTimeout, LumithermError
from fusion_core.frames import Frame, Stream

__all__ = ["main"]


def main(handle: int) -> int:
    """Serve one camera over the socket `handle` until it, or whoever asked, has gone; the exit code."""
    live_with_parent()
    with socket.socket(fileno=handle) as connection:
        connection.send(b"R")
        message = connection.recv(MOST_MESSAGE)
        if message[:1] != b"S":
            return 0
        try:
            _serve(connection, json.loads(message[1:]))
        except LumithermError as error:
            _tell_end(connection, type(error).__name__, str(error))
        except (BrokenPipeError, ConnectionResetError):
            return 0
        except Exception as error:
            _tell_end(connection, "CameraLost", f"the camera's process failed: {type(error).__name__}: {error}")
    return 0


def _tell_end(connection: socket.socket, kind: str, text: str) -> None:
    with contextlib.suppress(OSError):
        connection.setblocking(True)
        connection.send(b"E" + json.dumps({"kind": kind, "text": text[:2000]}).encode())


def _make(setup: dict[str, Any]) -> Camera:
    rig = None
    if setup["simulation"] is not None:
        from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

        rig = SimulatedRig(SimulatedRigConfig.model_validate_json(json.dumps(setup["simulation"])))
    config = CameraConfig.model_validate_json(json.dumps(setup["config"]))
    base = TimeBase(MonotonicClock(), setup["start_ns"])
    return create_here(Stream(setup["stream"]), parse_camera_uri(config.uri), config, base, rig)


def _serve(connection: socket.socket, setup: dict[str, Any]) -> None:
    held = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = setup["memory_bytes"] + data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if held < 0 else min(wanted, held), held))
    camera = _make(setup)
    camera.open()
    try:
        frame: Frame | None = camera.read(setup["config"]["open_timeout_s"])
        assert frame is not None  # read gives one or raises
        told = camera.info
        connection.send(_description(told, frame.pixels.nbytes))
        message, handles, _, _ = socket.recv_fds(connection, MOST_MESSAGE, 1)
        if message[:1] != b"M" or not handles:
            return
        layout = json.loads(message[1:])
        size = layout["slots"] * layout["bytes"]
        memory = mmap.mmap(handles[0], size + mmap.PAGESIZE)
        free, credit, sent = deque(range(layout["slots"])), CREDIT, 0
        for beat in itertools.count(1):
            BEAT.pack_into(memory, size, beat)
            for given in _messages(connection, 0.0 if free and credit else BEAT_S):
                if given[:1] != b"C":
                    return
                credit += 1
                free.extend(given[1:])
            if frame is None:
                with contextlib.suppress(CameraTimeout):
                    frame = camera.read(BEAT_S)
            if frame is not None and free and credit:
                connection.send(_put(frame, free.popleft(), memory, layout["bytes"]))
                frame, credit, sent = None, credit - 1, sent + 1
                if sent % 50 == 0 and camera.info != told:
                    told = camera.info
                    connection.send(_description(told, 0))
    finally:
        camera.close()


def _messages(connection: socket.socket, wait_s: float) -> list[bytes]:
    """What the parent has said, after at most `wait_s`; the last is b"" when it has gone."""
    found: list[bytes] = []
    while not found or found[-1]:
        connection.settimeout(0.0 if found else wait_s)
        try:
            found.append(connection.recv(MOST_MESSAGE))
        except (BlockingIOError, TimeoutError):
            break
    connection.setblocking(True)
    return found


def _put(frame: Frame, slot: int, memory: mmap.mmap, slot_bytes: int) -> bytes:
    pixels = frame.pixels
    if pixels.nbytes > slot_bytes or pixels.dtype not in DTYPES:
        raise CameraLost("the camera changed its picture; it is reopened")
    target = np.frombuffer(memory, pixels.dtype, pixels.size, slot * slot_bytes).reshape(pixels.shape)
    np.copyto(target, pixels)
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 0
    kind, source = DTYPES.index(pixels.dtype), SOURCES.index(frame.ts_source)
    head = (slot, frame.index, frame.timestamp_ns, source, int(frame.flags), height, width, channels, kind)
    return b"F" + FRAME.pack(*head)


def _description(info: CameraInfo, frame_bytes: int) -> bytes:
    return b"I" + json.dumps({"info": asdict(info), "frame_bytes": frame_bytes}).encode()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
