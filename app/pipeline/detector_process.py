"""The detector's model in a process of its own: a stranger's file may crash, hang or take memory there, not in the rig.

    python -m app.pipeline.detector_process HANDLE      started by `DetectionProcess`

Both sides speak over a stream of bytes, in parts that begin with their length. The parent sends the settings, then
pictures (height, width, channels, pixels); the child answers {"name": ...}, then the boxes of each picture, or
{"kind": ..., "error": ...}. Files are judged (`check_onnx`) in the child as well.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import time
import weakref
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import numpy as np

from app.configuration.detect import DetectConfig
from app.process import data_bytes, end_child, how_it_ended, live_with_parent, start_child
from fusion_core.errors import BadInputError, EngineError, LumithermError
from fusion_core.frames import Detection

__all__ = ["DetectionProcess", "Finder", "open_detector"]

_LENGTH: Final = struct.Struct("<I")
_SHAPE: Final = struct.Struct("<III")
_MOST_ANSWER: Final = 1_000_000
_MEMORY_BYTES: Final = 4_000_000_000  # beside its libraries
_LOAD_S: Final = 120.0
_PICTURE_S: Final = 30.0  # far more than any detector needs that is of use
_SLICE_S: Final = 0.2


class _Answer(msgspec.Struct):
    name: str = ""
    boxes: list[tuple[str, float, float, float, float, float]] = []
    kind: str = ""
    error: str = ""


class Finder(Protocol):
    """What finds things in pictures, here or apart."""

    @property
    def name(self) -> str:
        """Runtime and file, for the user."""
        ...

    def find(self, picture: np.ndarray) -> tuple[Detection, ...]:
        """What it sees, the surest first. Raises EngineError."""
        ...


def open_detector(config: DetectConfig, stopping: Callable[[], bool]) -> Finder:
    """The model in its own process on Linux, in this one elsewhere.

    Raises:
        BadInputError: the file is missing, damaged, hostile, or no detector. EngineError: no runtime can run it.
    """
    if str(sys.platform) == "linux":
        return DetectionProcess(config, stopping)
    from app.pipeline.detection_model import DetectionModel

    return DetectionModel(config)


class DetectionProcess:
    """The process, as the rig sees it. One owner thread. After it has ended, the next picture starts another one.

    Args:
        stopping: looked at while waiting; then the process is ended and EngineError raised.
        memory_bytes: that it may take beside its libraries.
        picture_s: that it may take for a picture.
    """

    def __init__(
        self,
        config: DetectConfig,
        stopping: Callable[[], bool] = lambda: False,
        memory_bytes: int = _MEMORY_BYTES,
        picture_s: float = _PICTURE_S,
    ) -> None:
        self._config, self._stopping = config, stopping
        self._memory_bytes, self._picture_s = memory_bytes, picture_s
        self._socket: socket.socket | None = None
        self._end: Callable[[], object] = lambda: None
        self._shown = f"detect.model {config.model.name}"
        self.name = self._start()

    def find(self, picture: np.ndarray) -> tuple[Detection, ...]:
        """What it sees, the surest first. Raises EngineError."""
        if self._socket is None:
            self._start()
        pixels = np.ascontiguousarray(picture)
        channels = pixels.shape[2] if pixels.ndim == 3 else 0
        head = _SHAPE.pack(*pixels.shape[:2], channels)
        answer = self._ask(_LENGTH.pack(len(head) + pixels.nbytes) + head, pixels.data.cast("B"), self._picture_s)
        return tuple(Detection(label[:64], *sides) for label, *sides in answer.boxes[:100])

    def close(self) -> None:
        """End the process."""
        self._end()
        self._socket = None

    def _start(self) -> str:
        ours, theirs = socket.socketpair()
        process = start_child([sys.executable, "-P", "-m", "app.pipeline.detector_process"], theirs)
        self._socket, self._process = ours, process
        self._end = weakref.finalize(self, end_child, process, ours)
        settings = json.dumps({"config": self._config.model_dump(mode="json"), "memory": self._memory_bytes}).encode()
        try:
            return self._ask(_LENGTH.pack(len(settings)), memoryview(settings), _LOAD_S).name[:300]
        except BaseException:
            self.close()
            raise

    def _ask(self, head: bytes, body: memoryview, limit_s: float) -> _Answer:
        deadline_s = time.monotonic() + limit_s
        try:
            self._send(memoryview(head), deadline_s)
            self._send(body, deadline_s)
            (length,) = _LENGTH.unpack(self._receive(_LENGTH.size, deadline_s))
            if length > _MOST_ANSWER:
                raise ValueError(length)
            answer = msgspec.json.decode(self._receive(length, deadline_s), type=_Answer)
        except TimeoutError:
            self.close()
            raise EngineError(f"{self._shown} took more than {limit_s:g} s; it was ended") from None
        except (OSError, ValueError, msgspec.DecodeError):
            reason = how_it_ended(self._process, "says what makes no sense")
            self.close()
            raise EngineError(f"{self._shown}: its process {reason}; the rig goes on without it") from None
        if answer.error:
            raise (BadInputError if answer.kind == "BadInputError" else EngineError)(answer.error[:1000])
        return answer

    def _wait(self, deadline_s: float) -> socket.socket:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if self._stopping():
            self.close()
            raise EngineError("the detector was stopped")
        assert self._socket is not None  # by find and _start
        self._socket.settimeout(min(_SLICE_S, left_s))
        return self._socket

    def _send(self, data: memoryview, deadline_s: float) -> None:
        while data:
            with contextlib.suppress(TimeoutError):
                data = data[self._wait(deadline_s).send(data) :]

    def _receive(self, length: int, deadline_s: float) -> bytes:
        data = b""
        while len(data) < length:
            connection = self._wait(deadline_s)
            try:
                piece = connection.recv(length - len(data))
            except TimeoutError:
                continue
            if not piece:
                raise ConnectionResetError
            data += piece
        return data


# ---------------------------------------------------------------------------------------------- in the child


def main(handle: int) -> int:
    """Serve one model until the other side has gone; the exit code."""
    live_with_parent()
    with socket.socket(fileno=handle) as connection, connection.makefile("rb") as stream:
        settings = json.loads(_part(stream.read))
        try:
            model = _load(DetectConfig.model_validate_json(json.dumps(settings["config"])), settings["memory"])
        except Exception as error:
            _answer(connection, _failure(error))
            return 0
        _answer(connection, _Answer(name=model.name))
        while part := _part(stream.read):
            height, width, channels = _SHAPE.unpack_from(part)
            shape = (height, width, channels) if channels else (height, width)
            try:
                found = model.find(np.frombuffer(part, np.uint8, offset=_SHAPE.size).reshape(shape))
                boxes = [(one.label, one.confidence, one.top, one.left, one.bottom, one.right) for one in found]
                _answer(connection, _Answer(boxes=boxes))
            except (BrokenPipeError, ConnectionResetError):
                return 0
            except Exception as error:
                _answer(connection, _failure(error))
    return 0


def _load(config: DetectConfig, memory_bytes: int) -> Finder:
    import resource

    from app.pipeline.detection_model import DetectionModel

    held = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = memory_bytes + data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if held < 0 else min(wanted, held), held))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return DetectionModel(config)


def _failure(error: Exception) -> _Answer:
    said = str(error) if isinstance(error, LumithermError) else f"the detector failed: {type(error).__name__}: {error}"
    return _Answer(kind=type(error).__name__, error=said[:1000] or type(error).__name__)


def _part(read: Callable[[int], bytes]) -> bytes:
    head = read(_LENGTH.size)
    return read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""


def _answer(connection: socket.socket, answer: _Answer) -> None:
    data = msgspec.json.encode(answer)
    connection.sendall(_LENGTH.pack(len(data)) + data)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
