"""The virtual camera: on a pipe through the muxer, since a device needs a kernel module; on one where it is loaded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from support.recording import frame_at

from app.configuration.service import VirtualCameraConfig
from app.pipeline.state.latest_slot import LatestSlot
from app.service.tasks.virtual_camera import VirtualCamera
from fusion_core.frames import FusedFrame

HEIGHT, WIDTH = 120, 160
BYTES = HEIGHT * WIDTH * 3 // 2


def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.01)


def camera(device: Path, latest: LatestSlot[FusedFrame], muxer: str) -> VirtualCamera:
    config = VirtualCameraConfig.model_validate({"device": str(device), "max_fps": 60})
    return VirtualCamera(config, latest, lambda error: pytest.fail(str(error)), muxer)


def test_pictures_arrive_as_a_reader_of_the_device_gets_them(tmp_path: Path) -> None:
    pipe = tmp_path / "video"
    os.mkfifo(pipe)
    latest: LatestSlot[FusedFrame] = LatestSlot()
    got: list[bytes] = []

    def read() -> None:
        with pipe.open("rb") as stream:  # to its end, so that the writer never waits for a reader
            got.extend(iter(lambda: stream.read(BYTES), b""))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    writer = camera(pipe, latest, "rawvideo")
    writer.start()
    try:
        for index in range(200):
            latest.put(frame_at(index))
            time.sleep(0.02)
            if len(got) >= 4:
                break
        assert len(got) >= 4 and writer.figures.connected and writer.figures.written >= 4
    finally:
        assert writer.stop(10.0)
    reader.join(10)
    assert not reader.is_alive() and len(got[-1]) == BYTES
    planes = np.frombuffer(got[0], np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
    shown = av.VideoFrame.from_ndarray(planes, format="yuv420p").reformat(format="rgb24").to_ndarray()
    nearest = min(float(np.abs(shown.astype(int) - frame_at(i).pixels.astype(int)).mean()) for i in range(20))
    assert nearest < 12  # 4:2:0 halves the colour of a picture that is all colour


def test_a_device_that_is_not_there_is_told_with_its_remedy_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    latest: LatestSlot[FusedFrame] = LatestSlot()
    latest.put(frame_at(0))
    writer = camera(tmp_path / "video42", latest, "v4l2")
    writer.start()
    try:
        until(lambda: bool(writer.figures.problem))
        assert "video42" in writer.figures.problem and not writer.figures.connected
    finally:
        assert writer.stop(10.0)
    captured = capsys.readouterr()
    assert "v4l2loopback" in caplog.text + captured.out + captured.err


def test_the_muxer_of_devices_is_there() -> None:
    assert av.ContainerFormat("v4l2", "w").is_output


LOOPBACKS = list(Path("/sys/devices/virtual/video4linux").glob("video*"))


@pytest.mark.skipif(not LOOPBACKS, reason="no v4l2loopback here; sudo modprobe v4l2loopback exclusive_caps=1")
def test_a_real_device_can_be_read_back() -> None:
    device = Path("/dev") / LOOPBACKS[0].name
    latest: LatestSlot[FusedFrame] = LatestSlot()
    latest.put(frame_at(0))
    writer = camera(device, latest, "v4l2")
    writer.start()
    try:
        until(lambda: writer.figures.written > 0)
        latest.put(frame_at(1))
        with av.open(str(device), format="v4l2") as container:
            assert next(container.decode(video=0)).width == WIDTH
    finally:
        writer.stop(10.0)
