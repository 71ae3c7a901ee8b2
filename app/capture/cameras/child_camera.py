"""A camera in a process of its own: what its library does to itself costs this camera for two seconds, and no other.

FFmpeg parses what a stranger's camera sends. Here it may crash, hang, leak or flood: the process is ended and started
again as a lost camera is opened again. Both sides speak over a socket that keeps messages apart:

    child to parent   R ready   I {description}   F a picture in a slot   E {kind, text} the end
    parent to child   S {what to open}   M {slots, bytes} and the memory   C credit and slots given back   Q leave

Pictures lie in slots of shared memory that the parent made and sealed. The child copies a picture in, once; the parent
hands out arrays over the slot and gives it back when the last of them has gone. Drop policy: the child sends at most
`CREDIT` pictures that nobody has read; what comes meanwhile is dropped there, oldest first, and shows as a jump of the
index, which is counted as dropped frames.

Behind the slots stands the child's beat: a number that it raises at least every `BEAT_S`, whether or not its camera has
a picture. A beat that stands is what tells a process that was stopped or hangs from a camera that is slow, and the
system's word of its threads is what tells it from one that waits for a busy processor (`judge`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
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
from app.process import end_child, how_it_ended, start_child
from fusion_core import errors
from fusion_core.errors import CameraLost, CameraTimeout, LumithermError
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

if TYPE_CHECKING:
    from app.capture.cameras.uri import CameraUri
    from app.capture.config import CameraConfig
    from fusion_core.simulation.rig import SimulatedRig

__all__ = ["BEAT", "BEAT_S", "CREDIT", "DTYPES", "FRAME", "MOST_MESSAGE", "SOURCES", "ChildCamera", "judge"]

FRAME: Final = struct.Struct("<BqqBIHHBB")  # slot, index, stamp ns, source, flags, height, width, channels, dtype
SOURCES: Final = tuple(TimestampSource)
DTYPES: Final = (np.dtype(np.uint8), np.dtype(np.uint16))
BEAT: Final = struct.Struct("<Q")
BEAT_S: Final = 0.1
_KINDS: Final = ("CameraLost", "CameraTimeout", "EndOfStream", "ConfigError", "BadInputError", "DamagedInputError")
CREDIT: Final = 4  # pictures under way that nobody has read
_SLOTS: Final = 16
_POOL_BYTES: Final = 400_000_000  # shared memory of a camera at most
MOST_MESSAGE: Final = 65_536
_LEAVE_S: Final = 0.3
_SPARE_S: Final = 2.0  # after an opening, when the processor has less to do; 38 MB and 0.4 s of it
_ENOUGH: Final = 0.7  # of the time to open, for a child that was ready only now
_LOOK_S: Final = 1.0  # between two looks at the child's memory
_SLICE_S: Final = 0.1  # of waiting for a message: then its beat is looked at
_STOPPED_S: Final = 0.2  # without a beat, by the waits of ours, so that a standstill of the rig itself does not count
_HANGS_S: Final = 0.6
_IDLE_S: Final = 0.1
_SPINS_S: Final = 1.0  # of processor time; a file's pictures are decoded between two beats and may take long
_FILE_SPINS_S: Final = 20.0


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
        self._failed = self._silent = False
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
            child.begin(self._setup(left_s), self._config.process_memory_mb * 1_000_000, self._uri.kind)
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
        except CameraTimeout:
            self._silent = True
            raise
        except BaseException:
            self._failed = True
            raise
        self._silent = False
        self._info = child.info or self._info
        if self._spare is None and time.monotonic() >= self._spare_at_s:
            self._spare = _Child(self._command)
        return frame

    def close(self) -> None:
        """End the child; returns within about half a second whatever it does.

        After a failure the next child is there, or starts at once, for the `open` that will follow; in silence one that
        is there stays. A second `close` ends it.
        """
        failed, silent = self._failed, self._silent
        self._failed = self._silent = False
        self._end_child(polite=not failed)
        if failed:
            self._spare = self._spare or _Child(self._command)
        elif silent:
            return
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
        self._slot_bytes = self._slots = 0
        self._with_child: set[int] = set()
        self._back: deque[int] = deque()  # slots whose pictures nobody holds any more
        self._out: set[int] = set()
        self._pending: deque[bytes] = deque()  # what it has said and nobody has read; few, see `_next_message`
        self._limit_bytes = 0
        self._next_look_s = 0.0
        self._beat = b""
        self._still_s = 0.0  # that we have waited since it changed
        self._still_spent_s = 0.0  # processor time of its main thread when it changed
        self._spins_s = _SPINS_S
        self._process = start_child(command, theirs)
        with contextlib.suppress(OSError):  # the capture thread that starts it goes before others, it does not
            os.setpriority(os.PRIO_PROCESS, self._process.pid, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
        self._ending = weakref.finalize(self, end_child, self._process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def how_it_ended(self) -> str:
        return how_it_ended(self._process, "closed its connection")

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether it has loaded its libraries."""
        if not self.ready:
            try:
                self.ready = self._receive(timeout_s)[:1] == b"R"
            except (TimeoutError, OSError):
                self.ready = False
        return self.ready

    def begin(self, setup: dict[str, Any], limit_bytes: int, kind: str) -> None:
        self._spins_s = _FILE_SPINS_S if kind in ("file", "images", "sim") else _SPINS_S
        self._limit_bytes = limit_bytes + _private_bytes(self.pid)
        try:
            self._socket.send(b"S" + json.dumps(setup).encode())
        except OSError:
            raise CameraLost(f"the camera's process {self.how_it_ended()} before it opened anything") from None

    def wait_open(self, timeout_s: float, shown: str) -> CameraInfo:
        """Its description, once it has its first picture; then it gets its memory."""
        try:
            message = self._await(timeout_s, shown)
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
            size = slots * self._slot_bytes + mmap.PAGESIZE  # the last for the beat
            os.ftruncate(handle, size)
            # A child that cut it short would have our next look at a picture end in a signal.
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._map = mmap.mmap(handle, size, prot=mmap.PROT_READ)
            self._with_child, self._slots = set(range(slots)), slots
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
                message = self._next_message(max(0.0, deadline_s - time.monotonic()), shown)
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
        if len(self._out) - len(self._back) < self._slots - 2 * CREDIT:
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

    def _next_message(self, timeout_s: float, shown: str) -> bytes:
        """The oldest unread message; b"?" where there are more than an honest child could have sent."""
        if not self._pending:
            self._pending.append(self._await(timeout_s, shown))
        with contextlib.suppress(BlockingIOError):
            while self._pending[-1] and len(self._pending) <= CREDIT + 2:  # beside pictures a description and the end
                self._pending.append(self._receive(0.0))
        if sum(message[:1] == b"F" for message in self._pending) > CREDIT:
            return b"?"
        return self._pending.popleft()

    def _await(self, timeout_s: float, shown: str) -> bytes:
        """The next message; looks at the child's beat meanwhile. Raises TimeoutError, CameraLost."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            began_s = time.monotonic()
            try:
                message = self._receive(min(_SLICE_S, max(0.0, deadline_s - began_s)))
            except (TimeoutError, BlockingIOError):
                now_s = time.monotonic()
                self._look_at_beat(min(_SLICE_S, now_s - began_s), shown)
                if now_s >= deadline_s:
                    raise TimeoutError from None
            else:
                self._still_s = 0.0
                return message

    def _look_at_beat(self, waited_s: float, shown: str) -> None:
        beat = self._map[-mmap.PAGESIZE : BEAT.size - mmap.PAGESIZE] if self._map is not None else b""
        if beat != self._beat or self._still_s == 0.0:
            self._beat, self._still_s, self._still_spent_s = beat, waited_s, _threads(self.pid)[1]
            return
        self._still_s += waited_s
        if self._still_s < _STOPPED_S:
            return
        states, spent_s = _threads(self.pid)
        word = judge(states, self._still_s, spent_s - self._still_spent_s, self._spins_s, beats=self._map is not None)
        if word:
            self._process.kill()
            raise CameraLost(f"{shown}: its process {word}; it is started again")

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


def judge(states: str, still_s: float, spent_s: float, spins_s: float, beats: bool = True) -> str:
    """What is wrong with a process whose beat stands; "" for one that waits for the processor or works for its picture.

    Args:
        states: of its threads, as /proc has them, a letter each; "" when it has gone.
        still_s: how long the beat has stood.
        spent_s: of processor time, which its main thread has used since.
        spins_s: so much is more than work.
        beats: False while it opens its camera, which may take long.
    """
    if "T" in states:
        return "was stopped"
    if beats and states and set(states) == {"S"} and still_s >= _HANGS_S and spent_s < _IDLE_S:
        return f"hangs: it does nothing and gave no sign for {still_s:.1f} s"
    if beats and spent_s >= spins_s:
        return f"hangs: it took {spent_s:.1f} s of the processor and gave no sign"
    return ""


def _threads(pid: int) -> tuple[str, float]:
    """The states of a process's threads, and the processor time of its first one; ("", 0) when it has gone."""
    states, spent_s = "", 0.0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            fields = (task / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            states += fields[0]
            if int(task.name) == pid:
                spent_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return states, spent_s


def _private_bytes(pid: int) -> int:
    """Memory that this process alone holds; 0 when it is gone."""
    try:
        _, resident, shared = Path(f"/proc/{pid}/statm").read_text("ascii").split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE
