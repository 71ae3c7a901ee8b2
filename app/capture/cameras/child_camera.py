"""A camera in a process of its own: what its library does to itself costs this camera for two seconds, and no other.

FFmpeg parses what a stranger's camera sends. Here it may crash, hang, leak or flood: the process is ended and started
again as a lost camera is opened again. Both sides speak over a socket that keeps messages apart:

    child to parent   R ready   I {description}   F a picture in a slot   E {kind, text} the end
    parent to child   S {what to open}   M {slots, bytes} and the memory   C credit and slots given back   Q leave

Pictures lie in slots of shared memory that the parent made and sealed. The child copies a picture in, once; the parent
hands out arrays over the slot and gives it back when the last of them has gone. Drop policy: the child sends at most
`CREDIT` pictures that nobody has read; what comes meanwhile is dropped there, oldest first, and shows as a jump of the
index, which is counted as dropped frames.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from app.capture.cameras.camera import CameraInfo, TimeBase
from fusion_core import errors
from fusion_core.errors import CameraLost, CameraTimeout, LumithermError
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

if TYPE_CHECKING:
    from app.capture.cameras.uri import CameraUri
    from app.capture.config import CameraConfig
    from fusion_core.simulation.rig import SimulatedRig

__all__ = ["CREDIT", "DTYPES", "FRAME", "MOST_MESSAGE", "SOURCES", "ChildCamera"]

FRAME: Final = struct.Struct("<BqqBIHHBB")  # slot, index, stamp ns, source, flags, height, width, channels, dtype
SOURCES: Final = tuple(TimestampSource)
DTYPES: Final = (np.dtype(np.uint8), np.dtype(np.uint16))
_KINDS: Final = ("CameraLost", "CameraTimeout", "EndOfStream", "ConfigError", "BadInputError", "DamagedInputError")
CREDIT: Final = 4  # pictures under way that nobody has read
_SLOTS: Final = 16
_POOL_BYTES: Final = 400_000_000  # shared memory of a camera at most
MOST_MESSAGE: Final = 65_536
_LEAVE_S: Final = 0.3
_SPARE_S: Final = 2.0  # after an opening, when the processor has less to do; 38 MB and 0.4 s of it
_ENOUGH: Final = 0.7  # of the time to open, for a child that was ready only now
_LOOK_S: Final = 1.0  # between two looks at the child's memory


class ChildCamera:
    """A camera that runs in a child. One thread at a time uses it, as every camera; pictures may be freed by any.

    Args:
        base: with its real clock, which both processes share.
        rig: behind sim: cameras.
        command: that starts a child, for tests; None = this module.
    """

    def __init__(
        self,
        stream: Stream,
        uri: CameraUri,
        config: CameraConfig,
        base: TimeBase,
        rig: SimulatedRig | None = None,
        command: list[str] | None = None,
    ) -> None:
        self._stream, self._uri, self._config, self._base, self._rig = stream, uri, config, base, rig
        self._command = command or [sys.executable, "-P", "-m", "app.capture.camera_process"]
        self._child: _Child | None = None
        self._spare: _Child | None = None  # started ahead of the next `open`: to load its libraries takes a second
        self._spare_at_s = 0.0
        self._failed = False
        self._info = CameraInfo(config.shown_uri, uri.kind, 0, 0, config.fps or 0.0, "", TimestampSource.SENDER)

    def open(self) -> None:
        """Start the child, or take the one that is starting, and have it open the camera.

        Raises:
            CameraLost: as the camera says; or the child is not ready in `open_timeout_s`, and goes on starting.
        """
        self._end_child(polite=True)
        self._failed = True  # until it is open
        deadline_s = time.monotonic() + self._config.open_timeout_s
        child = self._spare if self._spare is not None and self._spare.alive else _Child(self._command)
        self._spare = child
        late = not child.wait_ready(deadline_s - time.monotonic())
        # Stopping must not wait for a start and an opening: a camera has its whole time, the next time.
        if late or deadline_s - time.monotonic() < _ENOUGH * self._config.open_timeout_s:
            if not child.alive:
                self._spare = None
                raise CameraLost(f"{self._config.shown_uri}: its process {child.how_it_ended()} at its start")
            raise CameraLost(f"{self._config.shown_uri}: its process is still starting; it is tried again")
        self._child, self._spare = child, None
        try:
            left_s = min(4.5, max(0.2, deadline_s - time.monotonic()))
            child.begin(self._setup(left_s), self._config.process_memory_mb * 1_000_000)
            self._info = child.wait_open(left_s + 0.5, self._config.shown_uri)
        except BaseException:
            self._end_child(polite=False)
            raise
        self._failed = False
        self._spare_at_s = time.monotonic() + _SPARE_S

    def _setup(self, open_timeout_s: float) -> dict[str, Any]:
        config = self._config.model_dump(mode="json") | {
            "uri": str.__str__(self._config.uri),  # with its login: the socket is ours
            "own_process": False,
            "open_timeout_s": open_timeout_s,
        }
        timed = self._uri.kind in ("file", "images", "sim")
        return {
            "stream": self._stream.value,
            "config": config,
            "start_ns": self._base.start_ns() if timed else None,
            "simulation": self._rig.config.model_dump(mode="json") if self._rig is not None else None,
            "memory_bytes": self._config.process_memory_mb * 1_000_000,
        }

    def read(self, timeout_s: float) -> Frame:
        """The next picture that the child has sent."""
        child = self._child
        if child is None:
            raise CameraLost(f"{self._config.shown_uri} is not open; open it before reading")
        try:
            frame = child.read(timeout_s, self._stream, self._config.shown_uri)
            self._info = child.info or self._info
        except CameraTimeout:
            raise
        except BaseException:
            self._failed = True
            raise
        if self._spare is None and time.monotonic() >= self._spare_at_s:
            self._spare = _Child(self._command)
        return frame

    def close(self) -> None:
        """End the child; returns within about half a second whatever it does.

        After a failure the next child is there, or starts at once, for the `open` that will follow; a second `close`
        ends that one.
        """
        failed, self._failed = self._failed, False
        self._end_child(polite=not failed)
        if failed:
            self._spare = self._spare or _Child(self._command)
        elif self._spare is not None:
            self._spare.end(polite=False)
            self._spare = None

    def _end_child(self, polite: bool) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(polite)

    @property
    def info(self) -> CameraInfo:
        """As the child says."""
        return self._info

    @property
    def pid(self) -> int | None:
        """Of the child that has the camera; None while it is closed."""
        return self._child.pid if self._child is not None else None


class _Child:
    """The process, as the parent sees it: it believes nothing that the child says before it has looked at it."""

    def __init__(self, command: list[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self.info: CameraInfo | None = None
        self.ready = False
        self._map: mmap.mmap | None = None
        self._slot_bytes = 0
        self._with_child: set[int] = set()
        self._back: deque[int] = deque()  # slots whose pictures nobody holds any more
        self._out: set[int] = set()
        self._pending: deque[bytes] = deque()  # what it has said and nobody has read; few, see `_next_message`
        self._limit_bytes = 0
        self._next_look_s = 0.0
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        with contextlib.suppress(OSError):  # the capture thread that starts it goes before others, it does not
            os.setpriority(os.PRIO_PROCESS, self._process.pid, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
        self._ending = weakref.finalize(self, _end_process, self._process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        code = self._process.poll()
        if code is None:
            return "closed its connection"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether it has loaded its libraries."""
        if not self.ready:
            try:
                self.ready = self._receive(timeout_s)[:1] == b"R"
            except (TimeoutError, OSError):
                self.ready = False
        return self.ready

    def begin(self, setup: dict[str, Any], limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes + _private_bytes(self.pid)
        try:
            self._socket.send(b"S" + json.dumps(setup).encode())
        except OSError:
            raise CameraLost(f"the camera's process {self.how_it_ended()} before it opened anything") from None

    def wait_open(self, timeout_s: float, shown: str) -> CameraInfo:
        """Its description, once it has its first picture; then it gets its memory."""
        try:
            message = self._receive(timeout_s)
        except TimeoutError:
            raise CameraLost(f"{shown} gave no picture within {timeout_s:.1f} s") from None
        except OSError as error:
            raise CameraLost(f"{shown}: no word from its process: {error}") from None
        self._raise_end(message, shown)
        values = self._described(message, shown)
        self._slot_bytes = -(-int(values["frame_bytes"]) // mmap.PAGESIZE) * mmap.PAGESIZE
        slots = min(_SLOTS, _POOL_BYTES // max(1, self._slot_bytes))
        if not 0 < values["frame_bytes"] <= _POOL_BYTES or slots < CREDIT:
            raise CameraLost(f"{shown}: its process wants to send pictures of {values['frame_bytes']} bytes")
        handle = os.memfd_create("camera", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(handle, slots * self._slot_bytes)
            # A child that cut it short would have our next look at a picture end in a signal.
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._map = mmap.mmap(handle, slots * self._slot_bytes, prot=mmap.PROT_READ)
            self._with_child = set(range(slots))
            told = json.dumps({"slots": slots, "bytes": self._slot_bytes}).encode()
            socket.send_fds(self._socket, [b"M" + told], [handle])
        except OSError as error:
            raise CameraLost(f"{shown}: no memory for its pictures could be shared: {error}") from None
        finally:
            os.close(handle)
        assert self.info is not None  # by _described
        return self.info

    def _described(self, message: bytes, shown: str) -> dict[str, Any]:
        try:
            if message[:1] != b"I":
                raise ValueError(message[:1])
            values: dict[str, Any] = json.loads(message[1:])
            said = values["info"]
            self.info = CameraInfo(
                identity=shown,
                model=str(said["model"])[:200],
                width=int(said["width"]),
                height=int(said["height"]),
                fps=float(said["fps"]),
                pixel_format=str(said["pixel_format"])[:200],
                ts_source=TimestampSource(said["ts_source"]),
                notes=tuple(str(note)[:500] for note in said["notes"][:20]),
            )
            values["frame_bytes"] = int(values["frame_bytes"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise CameraLost(f"{shown}: its process says what makes no sense; it is started again") from None
        return values

    def read(self, timeout_s: float, stream: Stream, shown: str) -> Frame:
        self._look_at_memory(shown)
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                message = self._next_message(max(0.0, deadline_s - time.monotonic()))
            except (TimeoutError, BlockingIOError):
                raise CameraTimeout(f"{shown} sent no picture within {timeout_s * 1e3:.0f} ms") from None
            except OSError as error:
                raise CameraLost(f"{shown}: the connection to its process broke: {error}") from None
            self._raise_end(message, shown)
            if message[:1] == b"I":
                self._described(message, shown)
                continue
            frame = self._picture(message, stream)
            if frame is None:
                raise CameraLost(f"{shown}: its process says what makes no sense; it is started again")
            self._give_back()
            return frame

    def _raise_end(self, message: bytes, shown: str) -> None:
        if not message:
            raise CameraLost(f"{shown}: its process {self.how_it_ended()}; it is started again")
        if message[:1] != b"E":
            return
        try:
            said = json.loads(message[1:])
            kind, text = said["kind"], str(said["text"])[:2000]
        except (ValueError, KeyError, TypeError, RecursionError):
            kind, text = "CameraLost", "it ended without a reason"
        raised: type[LumithermError] = getattr(errors, kind, CameraLost) if kind in _KINDS else CameraLost
        raise raised(text)

    def _picture(self, message: bytes, stream: Stream) -> Frame | None:
        """None for a message that breaks the agreement."""
        if message[:1] != b"F" or len(message) != 1 + FRAME.size or self._map is None:
            return None
        slot, index, stamp_ns, source, flags, height, width, channels, kind = FRAME.unpack(message[1:])
        if slot not in self._with_child or source >= len(SOURCES) or kind >= len(DTYPES) or channels > 4:
            return None
        shape = (height, width, channels) if channels else (height, width)
        count = height * width * max(1, channels)
        if not 0 < count * DTYPES[kind].itemsize <= self._slot_bytes:
            return None
        self._with_child.discard(slot)
        start = slot * self._slot_bytes
        view = memoryview(self._map)[start : start + count * DTYPES[kind].itemsize]
        whole = np.frombuffer(view, DTYPES[kind], count)
        pixels = whole.reshape(shape)
        if len(self._out) - len(self._back) < _SLOTS - 2 * CREDIT:
            self._out.add(slot)
            # Of the first array: every array that is cut out of it holds that one.
            weakref.finalize(whole, self._back.append, slot).atexit = False
        else:  # somebody keeps many: the slot must come back, so the picture moves
            pixels = pixels.copy()
            self._back.append(slot)
        known = int(FrameFlag(0)) | sum(FrameFlag)
        return Frame(stream, pixels, index, stamp_ns, SOURCES[source], FrameFlag(flags & known))

    def _give_back(self) -> None:
        slots = []
        while self._back:
            slots.append(self._back.popleft())
        self._out.difference_update(slots)
        self._with_child.update(slots)
        with contextlib.suppress(OSError):  # it has gone, as the next read will tell
            self._socket.setblocking(False)
            self._socket.send(b"C" + bytes(slots))

    def _next_message(self, timeout_s: float) -> bytes:
        """The oldest unread message; b"?" where there are more than an honest child could have sent."""
        if not self._pending:
            self._pending.append(self._receive(timeout_s))
        with contextlib.suppress(BlockingIOError):
            while self._pending[-1] and len(self._pending) <= CREDIT + 2:  # beside pictures a description and the end
                self._pending.append(self._receive(0.0))
        if sum(message[:1] == b"F" for message in self._pending) > CREDIT:
            return b"?"
        return self._pending.popleft()

    def _receive(self, timeout_s: float) -> bytes:
        self._socket.settimeout(max(0.0, timeout_s))
        with contextlib.suppress(ConnectionResetError):  # it has ended with words of ours unread; its own come next
            return self._socket.recv(MOST_MESSAGE)
        with contextlib.suppress(ConnectionResetError):
            return self._socket.recv(MOST_MESSAGE)
        return b""

    def _look_at_memory(self, shown: str) -> None:
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + _LOOK_S
        held = _private_bytes(self.pid)
        if held > self._limit_bytes:
            self._process.kill()
            raise CameraLost(
                f"{shown}: its process took {held // 1_000_000} MB, at most {self._limit_bytes // 1_000_000} are"
                " allowed (process_memory_mb and its libraries); it is started again"
            )

    def end(self, polite: bool) -> None:
        """`polite` lets it take its leave of the camera, which may count connections."""
        if polite:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._socket.setblocking(False)
                self._socket.send(b"Q")
                self._process.wait(_LEAVE_S)
        self._ending()


def _end_process(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    process.kill()
    connection.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that hangs in a driver is left to the system
        process.wait(0.5)


def _private_bytes(pid: int) -> int:
    """Memory that this process alone holds; 0 when it is gone."""
    try:
        _, resident, shared = Path(f"/proc/{pid}/statm").read_text("ascii").split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE
