"""Cameras by name: each profile is replayed from bytes that its camera would send."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.capture.cameras.identity import DeviceRecord
from app.capture.cameras.profiles import (
    UsbProfile,
    counts_row,
    doubles,
    load_profiles,
    profile_of,
    sensor_rows,
    without_telemetry,
)
from app.capture.cameras.uri import parse_camera_uri
from app.capture.cameras.v4l2_camera import RawPicture, V4l2Camera
from app.capture.cameras.v4l2_formats import V4l2Mode
from app.capture.config import CameraConfig
from fusion_core.errors import CameraLost, ConfigError
from fusion_core.frames import Stream
from tests.app.test_camera_contract import FakeClock, FakePort

V, T = Stream.VISIBLE, Stream.THERMAL
PROFILES = load_profiles()


def counts_of(profile: UsbProfile) -> np.ndarray:
    """(H, W) counts of 10 to 40 degrees in the profile's own scale."""
    width, height = profile.sensor
    kelvin = np.linspace(283.15, 313.15, width * height).reshape(height, width)
    return np.rint(kelvin / (profile.kelvin_per_count or 0.01)).astype("<u2")


def bytes_of(profile: UsbProfile) -> bytes:
    counts = counts_of(profile)
    if not profile.double:
        return counts.tobytes()
    above = np.empty((*counts.shape, 2), np.uint8)
    above[..., 0], above[..., 1] = 120, 128
    picture = np.full((profile.mode.height, profile.mode.width, 2), 255, np.uint8)  # telemetry, where nothing else is
    rows, start = profile.sensor[1], {384: 192, 386: 194, 392: 196}[profile.mode.height]
    picture[:rows], picture[start : start + rows] = above, counts.view(np.uint8).reshape(above.shape)
    return picture.tobytes()


def opened(profile: UsbProfile, stream: Stream, others: list[V4l2Mode]) -> V4l2Camera:
    clock = FakeClock()
    mode = V4l2Mode(profile.mode.pixel_format, profile.mode.width, profile.mode.height, profile.mode.fps)
    port = FakePort(clock, mode)
    port.pictures = [RawPicture(bytes_of(profile), i, None) for i in range(3)]
    port.modes = lambda: [mode, *others]  # type: ignore[method-assign]
    record = DeviceRecord("/dev/video9", profile.name, serial="B1234", usb_id=profile.usb[0])
    config = CameraConfig(uri="v4l2:serial=B1234")
    camera = V4l2Camera(
        stream, parse_camera_uri(config.uri), config, clock, devices=lambda: [record], open_port=lambda _: port
    )
    camera.open()
    return camera


@pytest.mark.parametrize("profile", PROFILES.usb, ids=lambda profile: profile.name)
def test_each_profile_replays_to_its_counts(profile: UsbProfile) -> None:
    width, height = profile.sensor
    camera = opened(profile, T, [V4l2Mode("YUYV", width, height, 25.0)] if profile.double else [])
    frame = camera.read(0.5)
    assert frame.pixels.dtype == np.uint16
    np.testing.assert_array_equal(frame.pixels, counts_of(profile))
    assert (camera.info.width, camera.info.height) == profile.sensor
    if profile.double:
        assert opened(profile, V, []).read(0.5).pixels.shape == (height, width, 3)
    else:
        with pytest.raises((CameraLost, ConfigError), match="swapped"):
            opened(profile, V, [])


def test_an_unlisted_double_height_camera_is_split_too() -> None:
    both = [V4l2Mode("YUYV", 256, 192, 25.0), V4l2Mode("YUYV", 256, 384, 25.0)]
    assert profile_of("dead:beef", both) is None
    assert doubles(both) == both[1:]
    assert doubles([V4l2Mode("YUYV", 640, 480, 30.0), V4l2Mode("YUYV", 1280, 960, 30.0)]) == []


@pytest.mark.parametrize("height", [384, 386, 392])
@pytest.mark.parametrize("alone", [True, False])
def test_rows_of_telemetry_are_left_out_of_unlisted_cameras_too(height: int, alone: bool) -> None:
    mode = V4l2Mode("YUYV", 256, height, 25.0)
    both = [mode] if alone else [V4l2Mode("YUYV", 256, 192, 25.0), mode]
    assert doubles(both) == [mode] and sensor_rows(mode, both) == 192
    packed = np.zeros((height, 256, 2), np.uint8)
    packed[:192], packed[counts_row(height, 192) :][:192] = 1, 2
    parts = without_telemetry(packed, 192)
    assert parts.shape == (384, 256, 2) and (parts[:192] == 1).all() and (parts[192:] == 2).all()


def test_network_profiles_are_addresses() -> None:
    for network in PROFILES.network:
        for address in (network.visible, network.thermal):
            assert parse_camera_uri(address.replace("HOST", "10.0.0.7")).kind == "rtsp"


def test_devices_prints_the_uri_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    record = DeviceRecord("/dev/video9", "USB Camera", serial="B1234", usb_id="0bda:5830")

    class Port:
        def __init__(self, _node: str) -> None: ...
        def modes(self) -> list[V4l2Mode]:
            return [V4l2Mode("YUYV", 256, 384, 25.0)]

        def close(self) -> None: ...

    monkeypatch.setattr("app.capture.cameras.identity.list_devices", lambda: [record])
    monkeypatch.setattr("app.capture.cameras.v4l2_camera.LinuxpyPort", Port)
    output = CliRunner().invoke(build_cli(), ["devices"]).output
    assert "known as Topdon TC001" in output
    assert "thermal.uri: v4l2:serial=B1234" in output
    assert "thermal.kelvin_per_count: 0.015625" in output and "25 frames/s" in output
    assert "Channels/201" in output
