"""USB and other V4L2 cameras on Linux, with raw 16-bit counts, controls that are read back, and kernel time stamps."""

from __future__ import annotations

import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from app.capture.cameras.camera import CameraInfo, Clock, to_stream_pixels
from app.capture.cameras.identity import DeviceRecord, find_device, list_devices
from app.capture.cameras.profiles import doubles, profile_of, sensor_rows, split_double, without_telemetry
from app.capture.cameras.v4l2_formats import BYTES_PER_PIXEL, V4l2Mode, bytes_to_pixels, choose_mode, explain_os_error
from fusion_core.errors import CameraLost, CameraTimeout, ConfigError
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource
from fusion_core.thermal.painted import Unpainter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from app.capture.cameras.uri import CameraUri
    from app.capture.config import CameraConfig

__all__ = ["LinuxpyPort", "RawPicture", "V4l2Camera", "V4l2Port"]

_BUFFERS: Final = 4  # enough to bridge a late reader; more would only store delay
_OLDEST_NS: Final = 5_000_000_000  # a kernel stamp outside [now - 5 s, now + 10 ms] is not of our clock
_NEWEST_NS: Final = 10_000_000
_FOURCC_NAMES: Final = {"MJPEG": "MJPG"}  # linuxpy's name: ours


@dataclass(frozen=True, slots=True)
class RawPicture:
    """One dequeued buffer: its bytes, the driver's counter and its time stamp (None if not of the monotonic clock)."""

    data: bytes
    sequence: int
    timestamp_ns: int | None
    damaged: bool = False


class V4l2Port(Protocol):
    """What `V4l2Camera` needs of an open device; `LinuxpyPort` is the real one. All methods may raise OSError."""

    def modes(self) -> list[V4l2Mode]:
        """Everything the device offers in formats that we decode."""
        ...

    def set_mode(self, mode: V4l2Mode) -> tuple[V4l2Mode, int]:
        """Ask for a mode; returns what the device took and its bytes per line."""
        ...

    def set_control(self, name: str, value: int | bool | str) -> int | bool | str | None:
        """Set a control and return what it then reads (None if it cannot be read); KeyError if there is none."""
        ...

    def control_names(self) -> list[str]:
        """Names of all controls."""
        ...

    def start(self) -> None:
        """Start streaming."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Whether a buffer is there within the time."""
        ...

    def grab(self) -> RawPicture:
        """Take the oldest buffer."""
        ...

    def close(self) -> None:
        """Stop and release."""
        ...


class LinuxpyPort:
    """A device through linuxpy, opened without blocking, with memory-mapped buffers."""

    def __init__(self, node: str) -> None:
        from linuxpy.video.device import Device, VideoCapture

        self._device: Any = Device(node)
        self._device.open()
        self._capture: Any = VideoCapture(self._device, size=_BUFFERS)
        self._started = False

    def modes(self) -> list[V4l2Mode]:
        """Everything the device offers in formats that we decode."""
        found = set()
        for kind in self._device.info.frame_types:
            name = _FOURCC_NAMES.get(kind.pixel_format.name, kind.pixel_format.name)
            if name in BYTES_PER_PIXEL:
                found.add(V4l2Mode(name, kind.width, kind.height, round(float(kind.max_fps), 3)))
        return sorted(found)

    def set_mode(self, mode: V4l2Mode) -> tuple[V4l2Mode, int]:
        """S_FMT and S_PARM, then what G_FMT and G_PARM say."""
        from linuxpy.video.device import PixelFormat

        names = {ours: theirs for theirs, ours in _FOURCC_NAMES.items()}
        code = PixelFormat[names.get(mode.pixel_format, mode.pixel_format)]
        self._capture.set_format(mode.width, mode.height, code)
        if mode.fps:
            self._capture.set_fps(mode.fps)
        taken = self._capture.get_format()
        name = _FOURCC_NAMES.get(taken.pixel_format.name, taken.pixel_format.name)
        try:
            fps = round(float(self._capture.get_fps()), 3)
        except (OSError, ZeroDivisionError):  # not every driver has a rate
            fps = 0.0
        return V4l2Mode(name, taken.width, taken.height, fps), taken.bytes_per_line

    def set_control(self, name: str, value: int | bool | str) -> int | bool | str | None:
        """Set by linuxpy's name of the control, then read."""
        control = self._device.controls[name]
        control.value = value
        read: int | bool | str | None = control.value
        return read

    def control_names(self) -> list[str]:
        """Names of all controls."""
        return sorted(control.config_name for control in self._device.controls.values())

    def start(self) -> None:
        """Map the buffers, queue them, STREAMON."""
        self._capture.open()
        self._started = True

    def wait(self, timeout_s: float) -> bool:
        """`select` on the device: the only place where a read waits."""
        readable, _, _ = select.select([self._device.fileno()], [], [], timeout_s)
        return bool(readable)

    def grab(self) -> RawPicture:
        """DQBUF, copy, QBUF."""
        from linuxpy.video.device import BufferFlag

        taken = self._capture.buffer.raw_read()
        flags = int(taken.buff.flags)
        stamp = None
        if flags & BufferFlag.TIMESTAMP_MONOTONIC:
            stamp = taken.buff.timestamp.secs * 1_000_000_000 + taken.buff.timestamp.usecs * 1_000
        return RawPicture(bytes(taken.data), int(taken.buff.sequence), stamp, bool(flags & BufferFlag.ERROR))

    def close(self) -> None:
        """STREAMOFF and close; a device that is gone is no error here."""
        try:
            if self._started:
                self._capture.close()
        except OSError:  # unplugged: there is nothing left to stop
            pass
        finally:
            self._started = False
            self._device.close()


def _rate_and_size(mode: V4l2Mode) -> tuple[float, int]:
    return mode.fps, mode.height


class V4l2Camera:
    """One V4L2 device. One thread reads it; it starts none. Every wait is a `select` with a limit.

    Args:
        packed: give YUYV as it comes, (H, W, 2) uint8, for `SplitCamera`.
        devices: what is connected; replaced in tests.
        open_port: opens a node; replaced in tests.
    """

    def __init__(
        self,
        stream: Stream,
        uri: CameraUri,
        config: CameraConfig,
        clock: Clock,
        *,
        packed: bool = False,
        devices: Callable[[], Sequence[DeviceRecord]] = list_devices,
        open_port: Callable[[str], V4l2Port] = LinuxpyPort,
    ) -> None:
        self._stream, self._uri, self._config, self._clock = stream, uri, config, clock
        self._packed, self._devices, self._open_port = packed, devices, open_port
        self._port: V4l2Port | None = None
        self._unpainter = Unpainter(config.accept_colour)
        self._record: DeviceRecord | None = None
        self._mode = V4l2Mode(config.pixel_format or "", config.width or 0, config.height or 0, config.fps or 0.0)
        self._double = False
        self._rows = 0  # of the sensor, where the mode holds picture and counts
        self._bytes_per_line = 0
        self._last_sequence: int | None = None
        self._index = -1
        self._ts_source = TimestampSource.KERNEL

    def open(self) -> None:
        """Find the device, set format, rate and controls, read all of them back, start.

        Raises:
            CameraLost: not connected, busy, no permission, no bandwidth.
            ConfigError: the device does not offer or did not take what is configured.
        """
        self.close()
        record = find_device(self._uri, self._devices())
        offered: list[V4l2Mode] = []
        mode = None
        port = None
        try:
            port = self._open_port(record.node)
            offered = port.modes()
            mode = self._choose(record, offered)
            taken, self._bytes_per_line = port.set_mode(mode)
            self._check_taken(mode, taken)
            self._set_controls(port)
            port.start()
        except OSError as error:
            if port is not None:
                port.close()
            raise explain_os_error(error, record.node, self._config.shown_uri, mode, offered) from None
        except BaseException:
            if port is not None:
                port.close()
            raise
        self._port, self._record, self._mode = port, record, taken
        self._last_sequence, self._index = None, -1

    def _choose(self, record: DeviceRecord, offered: list[V4l2Mode]) -> V4l2Mode:
        """Choose the mode. One with a picture above counts is split, unless the configuration names a mode."""
        config, self._double, self._rows = self._config, False, 0
        if config.pixel_format is not None or config.width is not None:
            return choose_mode(offered, config, self._stream)
        profile, double = profile_of(record.usb_id, offered), doubles(offered)
        if self._packed:  # the halves are cut by `SplitCamera`
            return self._double_mode(double, offered) if double else choose_mode(offered, config, self._stream)
        if profile is not None and not profile.double and self._stream is Stream.VISIBLE:
            profile = None
        if profile is None and double and self._stream is Stream.THERMAL:
            self._double = True
            return self._double_mode(double, offered)
        if profile is None:
            return choose_mode(offered, config, self._stream)
        wanted = profile.mode
        self._double, self._rows = profile.double, profile.sensor[1] if profile.double else 0
        size = config.model_copy(
            update={"pixel_format": wanted.pixel_format, "width": wanted.width, "height": wanted.height}
        )
        return choose_mode(offered, size, Stream.THERMAL)

    def _double_mode(self, double: Sequence[V4l2Mode], offered: Sequence[V4l2Mode]) -> V4l2Mode:
        chosen = max(double, key=_rate_and_size)
        self._rows = sensor_rows(chosen, offered)
        return chosen

    def _check_taken(self, asked: V4l2Mode, taken: V4l2Mode) -> None:
        same = (asked.pixel_format, asked.width, asked.height) == (taken.pixel_format, taken.width, taken.height)
        rate_is_off = bool(asked.fps and taken.fps) and abs(asked.fps - taken.fps) > 0.5
        if not same or (rate_is_off and self._config.fps is not None):
            raise ConfigError(
                f"{self._config.shown_uri} was asked for {asked} and took {taken}; ask for a mode that"
                " `lumitherm devices` lists"
            )

    def _set_controls(self, port: V4l2Port) -> None:
        for name, value in self._config.controls.items():
            try:
                read = port.set_control(name, value)
            except KeyError:
                known = ", ".join(port.control_names()) or "none"
                raise ConfigError(f"{self._config.shown_uri} has no control {name!r}; it has {known}") from None
            except ValueError as error:
                raise ConfigError(f"{self._config.shown_uri}: control {name} cannot be {value!r} ({error})") from None
            if read is not None and str(read).lower() != str(value).lower() and read != value:
                raise ConfigError(
                    f"{self._config.shown_uri}: control {name} was set to {value!r} and reads {read!r}; the driver"
                    " limits or ignores it (an automatic mode may have to be switched off first)"
                )

    def read(self, timeout_s: float) -> Frame:
        """The next picture; damaged ones are skipped (the index jumps)."""
        if self._port is None:
            raise CameraLost(f"{self._config.shown_uri} is not open; open it before reading")
        deadline_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        while True:
            try:
                there = self._port.wait(max(0.0, (deadline_ns - self._clock.now_ns()) / 1e9))
                arrival_ns = self._clock.now_ns()
                raw = self._port.grab() if there else None
            except BlockingIOError:
                raw = None
            except OSError as error:
                node = self._record.node if self._record is not None else "the device"
                raise explain_os_error(error, node, self._config.shown_uri, self._mode) from None
            if raw is not None:
                frame = self._to_frame(raw, arrival_ns)
                if frame is not None:
                    return frame
            if self._clock.now_ns() >= deadline_ns:
                raise CameraTimeout(f"{self._config.shown_uri} gave no picture within {timeout_s * 1e3:.0f} ms")

    def _to_frame(self, raw: RawPicture, arrival_ns: int) -> Frame | None:
        step = 1 if self._last_sequence is None else max(1, (raw.sequence - self._last_sequence) & 0xFFFF_FFFF)
        step = step if step < 1_000_000 else 1  # the driver's counter restarted
        self._last_sequence = raw.sequence
        self._index += step
        pixels: np.ndarray | None = None
        if not raw.damaged:
            mode, packed = self._mode, self._packed or self._double
            pixels = bytes_to_pixels(
                raw.data,
                mode.pixel_format,
                mode.width,
                mode.height,
                self._bytes_per_line,
                packed=packed,
            )
        if pixels is None:
            return None
        if self._rows:
            pixels = without_telemetry(pixels, self._rows)
        if self._double:
            pixels = split_double(pixels, self._stream)
        is_yuyv_bytes = pixels.ndim == 3 and pixels.shape[2] == 2
        if not is_yuyv_bytes and not self._packed:
            pixels = to_stream_pixels(pixels, self._stream, self._config.shown_uri, self._unpainter)
        stamp_ns, self._ts_source = arrival_ns, TimestampSource.ARRIVAL
        if raw.timestamp_ns is not None and -_NEWEST_NS <= arrival_ns - raw.timestamp_ns <= _OLDEST_NS:
            stamp_ns, self._ts_source = raw.timestamp_ns, TimestampSource.KERNEL
        flags = FrameFlag.GAP_BEFORE if step > 1 else FrameFlag.NONE
        return Frame(self._stream, pixels, self._index, stamp_ns, self._ts_source, flags)

    def close(self) -> None:
        """Stop streaming and close the device."""
        if self._port is not None:
            self._port.close()
            self._port = None

    @property
    def info(self) -> CameraInfo:
        """As read back from the device."""
        name = self._record.name if self._record is not None else "V4L2 camera"
        return CameraInfo(
            identity=f"v4l2:{self._uri.key}={self._uri.target}",
            model=name,
            width=self._mode.width,
            height=(self._rows if self._double else 2 * self._rows) or self._mode.height,
            fps=self._mode.fps,
            pixel_format=self._mode.pixel_format,
            ts_source=self._ts_source,
            notes=self._unpainter.notes(self._config.shown_uri),
        )
