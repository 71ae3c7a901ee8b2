"""One contract for every camera, and what is particular to files, folders, split pictures, USB devices and URIs."""

from __future__ import annotations

import errno
import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pydantic
import pytest

from app.capture.cameras.av_camera import AvFileCamera, rtsp_url_with_credentials
from app.capture.cameras.camera import Camera, TimeBase, to_stream_pixels
from app.capture.cameras.factory import create_cameras
from app.capture.cameras.identity import DeviceRecord, find_device, identify, record_from_udev
from app.capture.cameras.image_sequence_camera import ImageSequenceCamera
from app.capture.cameras.sender_clock import SenderClock
from app.capture.cameras.simulated_camera import SimulatedCamera
from app.capture.cameras.split_camera import SplitCamera, SplitSource
from app.capture.cameras.uri import parse_camera_uri
from app.capture.cameras.v4l2_camera import RawPicture, V4l2Camera
from app.capture.cameras.v4l2_formats import V4l2Mode, bytes_to_pixels, choose_mode, explain_os_error
from app.capture.config import CameraConfig
from fusion_core.errors import BadInputError, CameraLost, CameraTimeout, ConfigError, EndOfStream
from fusion_core.frames import FrameFlag, Stream, TimestampSource
from fusion_core.redaction import redact

V, T = Stream.VISIBLE, Stream.THERMAL
HEIGHT, WIDTH, FRAMES, FPS = 48, 64, 12, 25


class FakeClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.time_ns = 1_000_000_000_000

    def now_ns(self) -> int:
        return self.time_ns

    def sleep_ns(self, duration_ns: int) -> None:
        self.time_ns += max(0, duration_ns)


class TinyRig:
    """A rig whose pictures carry their frame number."""

    def visible(self, t_s: float) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), round(t_s * FPS) % 256, np.uint8)

    def thermal(self, t_s: float) -> np.ndarray:
        return np.full((HEIGHT, WIDTH), 24_000 + round(t_s * FPS), np.uint16)

    def visible_time_s(self, index: int) -> float:
        return index / FPS

    thermal_time_s = visible_time_s


class FakePort:
    """A V4L2 device that hands out what a test put in."""

    def __init__(self, clock: FakeClock, mode: V4l2Mode = V4l2Mode("Y16", WIDTH, HEIGHT, 25.0)) -> None:
        self.clock, self.mode, self.closed = clock, mode, 0
        self.controls: dict[str, int] = {"gain": 0}
        self.sequence = 0
        self.pictures = [self.picture(i) for i in range(FRAMES)]
        self.start_error: OSError | None = None
        self.grab_error: OSError | None = None

    def picture(self, value: int, **changes: object) -> RawPicture:
        data = np.full((HEIGHT, WIDTH), 24_000 + value, "<u2").tobytes()
        if self.mode.pixel_format == "MJPG":
            data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 10 * value, np.uint8))[1].tobytes()
        return RawPicture(**({"data": data, "sequence": value, "timestamp_ns": None} | changes))

    def modes(self):
        return [self.mode]

    def set_mode(self, mode):
        return self.mode, self.mode.width * 2

    def set_control(self, name, value):
        self.controls[name] = min(int(value), 100) if name in self.controls else self.controls[name]
        return self.controls[name]

    def control_names(self):
        return sorted(self.controls)

    def start(self):
        if self.start_error is not None:
            raise self.start_error

    def wait(self, timeout_s):
        if self.pictures:
            self.clock.sleep_ns(40_000_000)
            return True
        self.clock.sleep_ns(round(timeout_s * 1e9))
        return False

    def grab(self):
        if self.grab_error is not None:
            raise self.grab_error
        return self.pictures.pop(0)

    def close(self):
        self.closed += 1


CAMERA_RECORD = DeviceRecord("/dev/video2", "Boson", serial="B1234", port="usb-0000:00:14.0-2", interface="1.0")


def write_video(path: Path, *, codec: str = "ffv1", pix_fmt: str = "gray16le", frames: int = FRAMES) -> Path:
    """A small video whose frame n has the value 1000 n (16 bit) or 20 n (8 bit)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.time_base = Fraction(1, FPS)
        for i in range(frames):
            if pix_fmt == "gray16le":
                picture = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH), 1000 * i, np.uint16), format="gray16le")
            else:
                rgb = np.full((HEIGHT, WIDTH, 3), 20 * i, np.uint8)
                picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts = i
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def v4l2_camera(clock: FakeClock, port: FakePort, stream: Stream = T, **settings: object) -> V4l2Camera:
    config = CameraConfig(uri="v4l2:serial=B1234", **settings)
    return V4l2Camera(
        stream,
        parse_camera_uri(config.uri),
        config,
        clock,
        devices=lambda: [CAMERA_RECORD],
        open_port=lambda _node: port,
    )


def make(kind: str, folder: Path, clock: FakeClock) -> tuple[Camera, Stream, bool]:
    """(camera, its stream, whether it ends)."""
    base = TimeBase(clock)
    if kind == "simulated":
        return SimulatedCamera(T, TinyRig(), FPS, base), T, False
    if kind == "simulated fast":
        return SimulatedCamera(V, TinyRig(), FPS, base, realtime=False), V, False
    if kind.startswith("file"):
        query = {"file": "", "file realtime": "?realtime=1", "file loop": "?loop=1"}[kind]
        config = CameraConfig(uri=f"file:{write_video(folder / 'a.mkv')}{query}")
        return AvFileCamera(T, parse_camera_uri(config.uri), config, base), T, kind != "file loop"
    if kind.startswith("images"):
        for i in range(FRAMES):
            cv2.imwrite(str(folder / f"frame{i}.png"), np.full((HEIGHT, WIDTH), 1000 * i, np.uint16))
        config = CameraConfig(uri=f"images:{folder}" + ("?realtime=1" if "realtime" in kind else ""), fps=FPS)
        return ImageSequenceCamera(T, parse_camera_uri(config.uri), config, base), T, True
    if kind == "v4l2":
        return v4l2_camera(clock, FakePort(clock)), T, False
    if kind == "split":
        config = CameraConfig(uri="v4l2:serial=B1234#half=right")
        return (
            SplitCamera(T, parse_camera_uri(config.uri), config, SplitSource(v4l2_camera(clock, FakePort(clock)))),
            T,
            False,
        )
    raise AssertionError(kind)


KINDS = [
    "simulated",
    "simulated fast",
    "file",
    "file realtime",
    "file loop",
    "images",
    "images realtime",
    "v4l2",
    "split",
]


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind, tmp_path):
    clock = FakeClock()
    camera, stream, ends = make(kind, tmp_path, clock)
    assert isinstance(camera, Camera)
    with pytest.raises(CameraLost, match="not open"):
        camera.read(0.1)
    camera.close()  # closing what is not open is no error
    camera.open()
    frames = [camera.read(1.0) for _ in range(FRAMES)]
    info = camera.info
    assert info.identity
    assert (info.height, info.width) == frames[0].pixels.shape[:2]
    for frame in frames:
        assert frame.stream is stream
        assert not frame.pixels.flags.writeable
        assert frame.pixels.dtype == (np.uint8 if stream is V else np.uint16)
        assert frame.ts_source is info.ts_source
    assert [f.index for f in frames] == list(range(frames[0].index, frames[0].index + FRAMES))
    steps_ns = np.diff([f.timestamp_ns for f in frames])
    assert np.allclose(steps_ns, 1e9 / FPS, atol=2e6)
    values = [int(f.pixels.flat[0]) for f in frames]
    assert len(set(values)) == FRAMES  # no picture twice
    if ends:
        with pytest.raises(EndOfStream):
            camera.read(1.0)
    elif kind in ("v4l2", "split"):
        with pytest.raises(CameraTimeout):
            camera.read(0.3)
    else:
        camera.read(1.0)
    camera.close()
    camera.close()
    if kind not in ("v4l2", "split"):  # their fake device is used up
        camera.open()
        camera.read(1.0)
        camera.close()


@pytest.mark.parametrize("kind", ["file realtime", "images realtime", "simulated"])
def test_paced_cameras_keep_to_the_time_and_to_the_time_out(kind, tmp_path):
    clock = FakeClock()
    camera, _, _ = make(kind, tmp_path, clock)
    camera.open()
    camera.read(1.0)
    before_ns = clock.now_ns()
    with pytest.raises(CameraTimeout):
        camera.read(0.01)
    assert clock.now_ns() - before_ns == pytest.approx(10e6, abs=1e6)
    frame = camera.read(1.0)
    assert clock.now_ns() >= frame.timestamp_ns
    assert clock.now_ns() - frame.timestamp_ns < 2e6
    camera.close()


# ---------------------------------------------------------------------- files


def test_16_bit_file_is_bit_exact_and_a_loop_goes_on(tmp_path):
    clock = FakeClock()
    camera, _, _ = make("file loop", tmp_path, clock)
    camera.open()
    frames = [camera.read(1.0) for _ in range(2 * FRAMES + 1)]
    assert [int(f.pixels[0, 0]) for f in frames] == [1000 * (i % FRAMES) for i in range(2 * FRAMES + 1)]
    assert np.allclose(np.diff([f.timestamp_ns for f in frames]), 1e9 / FPS, atol=2e6)
    camera.close()


def test_realtime_file_skips_after_a_pause(tmp_path):
    clock = FakeClock()
    config = CameraConfig(uri=f"file:{write_video(tmp_path / 'a.mkv', frames=50)}?realtime=1")
    camera = AvFileCamera(T, parse_camera_uri(config.uri), config, TimeBase(clock))
    camera.open()
    camera.read(1.0)
    clock.sleep_ns(1_000_000_000)
    frame = next(f for f in (camera.read(1.0) for _ in range(10)) if clock.now_ns() - f.timestamp_ns <= 250e6)
    assert frame.index >= 15
    camera.close()


def test_a_colour_file_is_refused_as_thermal_and_a_grey_one_taken(tmp_path):
    colour = tmp_path / "colour.mkv"
    with av.open(str(colour), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[..., 0] = 200
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *stream.encode()]:
            container.mux(packet)
    cameras = create_cameras(CameraConfig(uri=f"file:{colour}"), CameraConfig(uri=f"file:{colour}?loop=1"))
    assert cameras.lossless
    cameras.visible.open()
    assert cameras.visible.read(1.0).pixels[0, 0, 0] > 190
    with pytest.raises(BadInputError, match="swapped"):
        cameras.thermal.open()
    cameras.visible.close()
    cameras.thermal.close()
    accepting = CameraConfig(uri=f"file:{colour}", accept_colour=True)
    camera = AvFileCamera(T, parse_camera_uri(accepting.uri), accepting, TimeBase(FakeClock()))
    camera.open()
    assert camera.read(1.0).pixels.shape == (HEIGHT, WIDTH)
    camera.close()


def test_unusable_files_say_so(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no video")
    for uri, match in [
        (f"file:{tmp_path / 'none.mkv'}", "not there"),
        (f"file:{text}", "cannot be read as a video|no video stream"),
        (f"file:{write_video(tmp_path / 'a.mkv')}?track=3", r"1 video track\(s\), track 3"),
        (f"images:{tmp_path / 'nowhere'}", "not a folder"),
    ]:
        camera = create_cameras(CameraConfig(uri="images:unused"), CameraConfig(uri=uri)).thermal
        with pytest.raises(BadInputError, match=match):
            camera.open()


def test_two_files_share_their_time_zero(tmp_path):
    clock = FakeClock()
    path = write_video(tmp_path / "a.mkv", codec="ffv1", pix_fmt="yuv444p")
    other = write_video(tmp_path / "b.mkv", codec="ffv1", pix_fmt="yuv444p")
    cameras = create_cameras(CameraConfig(uri=f"file:{path}"), CameraConfig(uri=f"file:{other}"), clock=clock)
    cameras.visible.open()
    visible = cameras.visible.read(1.0)
    clock.sleep_ns(300_000_000)
    cameras.thermal.open()
    thermal = cameras.thermal.read(1.0)
    assert visible.timestamp_ns == thermal.timestamp_ns
    cameras.visible.close()
    cameras.thermal.close()


# ---------------------------------------------------------------------- simulated


def test_simulated_faults():
    clock = FakeClock()
    camera = SimulatedCamera(V, TinyRig(), FPS, TimeBase(clock))
    camera.open()
    camera.read(1.0)
    camera.faults.stall()
    with pytest.raises(CameraTimeout):
        camera.read(0.5)
    camera.faults.resume()
    frame = camera.read(1.0)
    assert frame.flags & FrameFlag.GAP_BEFORE
    camera.faults.unplug()
    with pytest.raises(CameraLost, match="unplugged"):
        camera.read(1.0)
    with pytest.raises(CameraLost):
        camera.open()
    camera.faults.replug()
    camera.open()
    assert camera.read(1.0).index > frame.index


def test_the_factory_makes_one_rig_for_both_simulated_cameras():
    from fusion_core.simulation.rig import SimulatedRigConfig

    small = SimulatedRigConfig.model_validate({"height": 48, "width": 64, "thermal_height": 24, "thermal_width": 32})
    cameras = create_cameras(
        CameraConfig(uri="sim:visible", fps=60),
        CameraConfig(uri="sim:thermal", fps=9),
        simulation=small,
        clock=FakeClock(),
    )
    assert not cameras.lossless
    cameras.visible.open()
    cameras.thermal.open()
    assert cameras.visible.read(1.0).pixels.shape == (48, 64, 3)
    assert cameras.thermal.read(1.0).pixels.shape == (24, 32)
    assert (cameras.visible.info.fps, cameras.thermal.info.fps) == (60, 9)


# ---------------------------------------------------------------------- split pictures


def test_two_halves_of_one_device_are_two_streams_of_the_same_moment():
    clock = FakeClock()
    mode = V4l2Mode("YUYV", 8, 12, 25.0)
    picture = np.zeros((12, 8, 2), np.uint8)
    picture[:6, :, 0], picture[:6, :, 1] = 120, 128  # grey above
    picture[6:] = np.full((6, 8), 24_321, "<u2").view(np.uint8).reshape(6, 8, 2)  # counts below
    port = FakePort(clock, mode)
    port.pictures = [RawPicture(picture.tobytes(), i, None) for i in range(6)]
    config = CameraConfig(uri="v4l2:serial=B1234")
    device = V4l2Camera(
        V,
        parse_camera_uri(config.uri),
        config,
        clock,
        packed=True,
        devices=lambda: [CAMERA_RECORD],
        open_port=lambda _: port,
    )
    source = SplitSource(device)

    def half(stream: Stream, fragment: str) -> SplitCamera:
        own = CameraConfig(uri=f"v4l2:serial=B1234#{fragment}")
        return SplitCamera(stream, parse_camera_uri(own.uri), own, source)

    visible, thermal = half(V, "half=top"), half(T, "half=bottom&counts=1")
    visible.open()
    thermal.open()
    for _ in range(3):
        seen, warm = visible.read(0.5), thermal.read(0.5)
        assert seen.timestamp_ns == warm.timestamp_ns
        assert seen.pixels.shape == (6, 8, 3)
        assert warm.pixels.dtype == np.uint16
        assert (warm.pixels == 24_321).all()
    port.grab_error = OSError(errno.ENODEV, "gone")
    for camera in (visible, thermal):  # both hear of the loss
        with pytest.raises(CameraLost):
            camera.read(0.5)
    visible.close()
    assert visible.info.height == 6
    thermal.close()
    assert port.closed


def test_halves_must_agree_and_differ():
    with pytest.raises(ConfigError, match="same source"):
        create_cameras(CameraConfig(uri="rtsp://h/x"), CameraConfig(uri="rtsp://h/x"))
    with pytest.raises(ConfigError, match="fps must be the same"):
        create_cameras(CameraConfig(uri="rtsp://h/x#half=left", fps=9), CameraConfig(uri="rtsp://h/x#half=right"))
    cameras = create_cameras(CameraConfig(uri="rtsp://h/x#half=left"), CameraConfig(uri="rtsp://h/x#half=right"))
    assert isinstance(cameras.visible, SplitCamera)


# ---------------------------------------------------------------------- V4L2


def test_v4l2_bytes_to_pixels():
    y16 = np.arange(24, dtype="<u2").reshape(4, 6)
    assert np.array_equal(bytes_to_pixels(y16.tobytes(), "Y16", 6, 4, 12), y16)
    padded = np.zeros((4, 16), np.uint8)
    padded[:, :12] = y16.view(np.uint8)
    assert np.array_equal(bytes_to_pixels(padded.tobytes(), "Y16", 6, 4, 16), y16)
    assert np.array_equal(bytes_to_pixels(padded.tobytes()[:-4], "Y16", 6, 4, 16), y16)  # no padding at the end
    assert bytes_to_pixels(y16.tobytes()[:-2], "Y16", 6, 4, 12) is None
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert np.array_equal(bytes_to_pixels(grey.tobytes(), "GREY", 6, 4, 6), grey)
    yuyv = np.full((4, 6, 2), 128, np.uint8)
    rgb = bytes_to_pixels(yuyv.tobytes(), "YUYV", 6, 4, 12)
    assert rgb.shape == (4, 6, 3)
    assert np.ptp(rgb) <= 1  # grey
    assert bytes_to_pixels(yuyv.tobytes(), "YUYV", 6, 4, 12, packed=True).shape == (4, 6, 2)
    nv12 = np.full((6, 6), 128, np.uint8)
    assert bytes_to_pixels(nv12.tobytes(), "NV12", 6, 4, 6).shape == (4, 6, 3)
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 255  # BGR, for cv2
    jpeg = cv2.imencode(".jpg", red)[1].tobytes()
    assert bytes_to_pixels(jpeg, "MJPG", 16, 16, 0)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert bytes_to_pixels(b"\xff\xd8junk", "MJPG", 16, 16, 0) is None
    assert bytes_to_pixels(b"", "MJPG", 16, 16, 0) is None
    with pytest.raises(ConfigError, match="RGB3"):
        bytes_to_pixels(b"", "RGB3", 6, 4, 0)


WEBCAM = [
    V4l2Mode("YUYV", 640, 480, 30.0), V4l2Mode("YUYV", 1280, 720, 10.0), V4l2Mode("MJPG", 1280, 720, 30.0),
    V4l2Mode("MJPG", 1920, 1080, 30.0), V4l2Mode("MJPG", 3840, 2160, 30.0),
]  # fmt: skip
BOSON = [V4l2Mode("Y16", 640, 512, 30.0), V4l2Mode("Y16", 640, 512, 60.0), V4l2Mode("NV12", 640, 512, 60.0)]


def test_v4l2_mode_choice():
    anything = CameraConfig(uri="v4l2:serial=X1")
    assert choose_mode(WEBCAM, anything, V) == V4l2Mode("MJPG", 1920, 1080, 30.0)
    assert choose_mode(BOSON, anything, T) == V4l2Mode("Y16", 640, 512, 60.0)
    wanted = CameraConfig(uri="v4l2:serial=X1", pixel_format="YUYV", width=640, height=480, fps=30)
    assert choose_mode(WEBCAM, wanted, V) == WEBCAM[0]
    with pytest.raises(ConfigError, match=r"no visible mode YUYV, 640x480, 60 fps; it offers"):
        choose_mode(WEBCAM, wanted.model_copy(update={"fps": 60}), V)
    with pytest.raises(ConfigError, match="swapped"):
        choose_mode(BOSON[:2], anything, V)


def test_v4l2_stamps_counters_and_damage():
    clock = FakeClock()
    port = FakePort(clock)
    now_ns = clock.now_ns()
    port.pictures = [
        port.picture(0, timestamp_ns=now_ns + 30_000_000),
        port.picture(1, damaged=True),
        port.picture(2, data=b"short"),
        port.picture(3, timestamp_ns=now_ns + 150_000_000),
        port.picture(4, timestamp_ns=17),  # of another clock
    ]
    camera = v4l2_camera(clock, port)
    camera.open()
    first, second, third = camera.read(1), camera.read(1), camera.read(1)
    assert (first.ts_source, first.timestamp_ns) == (TimestampSource.KERNEL, now_ns + 30_000_000)
    assert (second.index, second.ts_source) == (3, TimestampSource.KERNEL)
    assert (third.ts_source, third.timestamp_ns) == (TimestampSource.ARRIVAL, clock.now_ns())
    port.pictures = [port.picture(9)]
    gap = camera.read(1)
    assert gap.index == 9
    assert gap.flags & FrameFlag.GAP_BEFORE


def test_v4l2_settings_are_read_back():
    clock = FakeClock()
    with pytest.raises(ConfigError, match="was set to 300 and reads 100"):
        v4l2_camera(clock, FakePort(clock), controls={"gain": 300}).open()
    with pytest.raises(ConfigError, match="no control 'gein'; it has gain"):
        v4l2_camera(clock, FakePort(clock), controls={"gein": 3}).open()
    camera = v4l2_camera(clock, FakePort(clock), controls={"gain": 30})
    camera.open()
    liar = FakePort(clock)
    liar.set_mode = lambda mode: (V4l2Mode("Y16", 320, 256, 9.0), 640)
    with pytest.raises(ConfigError, match="was asked for Y16 64x48 at 25 fps and took Y16 320x256 at 9 fps"):
        v4l2_camera(clock, liar).open()
    assert liar.closed


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "USB bandwidth.*disk is not full.*YUYV 640x480|USB bandwidth.*MJPG"),
        (errno.EACCES, "usermod -aG video"),
        (errno.EBUSY, "in use by another program"),
        (errno.ENODEV, "unplugged"),
        (errno.EIO, "failed"),
    ],
)
def test_v4l2_errors_say_what_to_do(number, words):
    clock = FakeClock()
    port = FakePort(clock)
    port.start_error = OSError(number, "errno text")
    with pytest.raises(CameraLost):
        v4l2_camera(clock, port).open()
    assert port.closed
    error = explain_os_error(
        OSError(number, "x"), "/dev/video0", "v4l2:serial=X", V4l2Mode("YUYV", 1920, 1080, 30), WEBCAM
    )
    assert re.search(words, str(error))


# ---------------------------------------------------------------------- identity


def udev(**changes: str) -> dict[str, str]:
    """What udev says of a Logitech C920, with changes."""
    return {
        "DEVNAME": "/dev/video0", "ID_V4L_PRODUCT": "HD Pro Webcam C920", "ID_MODEL": "HD_Pro_Webcam_C920",
        "ID_SERIAL_SHORT": "1A2B3C4D", "ID_V4L_CAPABILITIES": ":capture:", "ID_VENDOR_ID": "046d",
        "ID_MODEL_ID": "082d",
        "ID_PATH": "pci-0000:00:14.0-usb-0:2:1.0", "ID_USB_DRIVER": "uvcvideo",
        "DEVLINKS": "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_1A2B3C4D-video-index0"
        " /dev/v4l/by-path/pci-0000:00:14.0-usb-0:2:1.0-video-index0",
    } | changes  # fmt: skip


def test_identity_prefers_a_sound_serial_then_the_port():
    record = record_from_udev(udev())
    assert record.port == "usb-0000:00:14.0-2"
    assert record_from_udev(udev(ID_V4L_CAPABILITIES=":")) is None  # the metadata node
    assert identify(record, [record]).uri == "v4l2:serial=1A2B3C4D"
    twin = record_from_udev(udev(DEVNAME="/dev/video2", ID_PATH="pci-0000:00:14.0-usb-0:3.1:1.0"))
    named = identify(twin, [record, twin])
    assert named.uri == "v4l2:port=usb-0000:00:14.0-3.1"
    assert "2 devices say they are serial number 1A2B3C4D" in named.reason
    for serial in ("", "0001", "SN0001", "200901010001"):
        cheap = record_from_udev(udev(ID_SERIAL_SHORT=serial))
        assert identify(cheap, [cheap]).uri == "v4l2:port=usb-0000:00:14.0-2"
    jetson = record_from_udev(udev(ID_PATH="platform-3610000.usb-usb-0:2.1:1.0", ID_SERIAL_SHORT=""))
    assert jetson.port == "usb-3610000.usb-2.1"
    upper = record_from_udev(udev(ID_SERIAL_SHORT="", DEVNAME="/dev/video4", ID_PATH="pci-0000:00:14.0-usb-0:2:1.2"))
    lower = record_from_udev(udev(ID_SERIAL_SHORT=""))
    assert identify(upper, [lower, upper]).uri == "v4l2:port=usb-0000:00:14.0-2:1.2"
    bridge = record_from_udev(udev(ID_SERIAL_SHORT="", ID_PATH="", DEVLINKS="/dev/v4l/by-id/some-bridge"))
    assert identify(bridge, [bridge]).uri == "v4l2:by-id=some-bridge"
    nameless = DeviceRecord("/dev/video9", "x")
    assert identify(nameless, [nameless]).uri == ""


def test_find_device():
    one = record_from_udev(udev())
    two = record_from_udev(udev(DEVNAME="/dev/video2", ID_PATH="pci-0000:00:14.0-usb-0:3:1.0"))
    by_id = "v4l2:by-id=usb-046d_HD_Pro_Webcam_C920_1A2B3C4D-video-index0"
    assert find_device(parse_camera_uri("v4l2:port=usb-0000:00:14.0-3"), [one, two]) is two
    assert find_device(parse_camera_uri(by_id), [one]) is one
    with pytest.raises(ConfigError, match="is 2 devices"):
        find_device(parse_camera_uri("v4l2:serial=1A2B3C4D"), [one, two])
    with pytest.raises(CameraLost, match=r"not connected; connected: v4l2:serial=1A2B3C4D"):
        find_device(parse_camera_uri("v4l2:serial=other"), [one])


# ---------------------------------------------------------------------- URIs, secrets, pixels, clocks


@pytest.mark.parametrize(
    "uri, match",
    [
        ("/dev/video0", "does not say which camera"),
        ("0", "does not say which camera"),
        ("v4l2:/dev/video0", "does not say which camera"),
        ("v4l2:index=0", "does not say which camera"),
        ("movie.mp4", "no known kind"),
        ("file:", "names nothing"),
        ("sim:other", "sim:visible and sim:thermal"),
        ("rtsp://", "no host"),
        ("rtsp://h/x?transport=quic", "tcp or udp"),
        ("file:a.mkv?speed=2", "has the option 'speed'"),
        ("file:a.mkv?loop=2", "must be 0 or 1"),
        ("file:a.mkv?track=x", "must be a number"),
        ("images:d#half=middle", "half is 'middle'"),
        ("images:d#half", "must be name=value"),
    ],
)
def test_bad_uris_are_refused_with_the_reason(uri, match):
    with pytest.raises(ConfigError, match=match):
        parse_camera_uri(uri)
    with pytest.raises(pydantic.ValidationError, match=match):
        CameraConfig(uri=uri)


def test_config_refuses_what_makes_no_sense():
    for settings in ({"fps": 0}, {"width": 640}, {"pixel_format": "RGB3"}, {"speed": 1}, {"open_timeout_s": 60}):
        with pytest.raises(pydantic.ValidationError):
            CameraConfig(uri="sim:visible", **settings)


def test_secrets_never_show(tmp_path, monkeypatch):
    assert (
        redact("cannot open rtsp://me:p@ss@cam/x?password=abc&a=1") == "cannot open rtsp://***@cam/x?password=***&a=1"
    )
    config = CameraConfig(uri="rtsp://cam:554/x", credentials_env="CAM_LOGIN")
    with pytest.raises(ConfigError, match="CAM_LOGIN"):
        rtsp_url_with_credentials("rtsp://cam:554/x", config)
    monkeypatch.setenv("CAM_LOGIN", "me:p@ss/word")
    assert rtsp_url_with_credentials("rtsp://cam:554/x", config) == "rtsp://me:p%40ss%2Fword@cam:554/x"
    login = tmp_path / "login"
    login.write_text("you:secret\n", "utf-8-sig")  # as Windows' editors write it
    from_file = CameraConfig(uri="rtsp://cam/x", credentials_file=str(login))
    assert rtsp_url_with_credentials("rtsp://cam/x", from_file) == "rtsp://you:secret@cam/x"


def test_uri_parts():
    uri = parse_camera_uri("rtsp://cam/live?channel=2&transport=udp#half=left&track=1")
    assert (uri.target, uri.half, uri.options["transport"], uri.options["track"]) == (
        "rtsp://cam/live?channel=2", "left", "udp", "1",
    )  # fmt: skip
    assert parse_camera_uri("file:/a b/c%23.mkv?loop=yes").target == "/a b/c#.mkv"
    assert parse_camera_uri("dshow:What? A camera").target == "What? A camera"


def test_counts_are_refused_as_visible():
    with pytest.raises(CameraLost, match="swapped"):
        to_stream_pixels(np.zeros((4, 4), np.uint16), V, "x")
    assert to_stream_pixels(np.zeros((4, 4), np.uint8), V, "x").shape == (4, 4, 3)


def test_system_cameras_of_other_systems_are_refused_here():
    camera = create_cameras(CameraConfig(uri="dshow:Webcam"), CameraConfig(uri="images:unused")).visible
    if "dshow" in av.formats_available:
        pytest.skip("this system has dshow")
    with pytest.raises(ConfigError, match="Windows"):
        camera.open()


def test_sender_clock_removes_jitter_follows_drift_and_restarts():
    random = np.random.default_rng(1)
    clock = SenderClock()
    errors = []
    for i in range(9_000):  # five minutes at 30 fps, 100 ppm fast, 20 ms + up to 30 ms of delay
        true_ns = i * 33_333_333
        sender_ns = round(true_ns * 1.0001) + 77_000_000_000
        arrival_ns = true_ns + 20_000_000 + round(random.exponential(5e6))
        stamp_ns = clock.to_monotonic(sender_ns, arrival_ns)
        assert stamp_ns <= arrival_ns
        if i > 30:
            errors.append((stamp_ns - true_ns - 20_000_000) / 1e6)
    assert np.percentile(np.abs(errors), 99) < 2.0
    assert clock.to_monotonic(5, 400_000_000_000) == 400_000_000_000  # the sender restarted
