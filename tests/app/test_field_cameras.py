"""Double-height, turned and mirrored cameras from the bytes they send to what is fused, recorded and calibrated."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import live as support
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.capture.cameras import factory
from app.capture.cameras.camera import MonotonicClock
from app.capture.cameras.identity import DeviceRecord
from app.capture.cameras.v4l2_camera import RawPicture, V4l2Camera
from app.capture.cameras.v4l2_formats import V4l2Mode
from app.media.geometry import PictureCut
from app.pipeline.live_fusion import LiveFusion
from app.recording.reader import RecordingReader
from app.rig.radiometry import default_scale, scale_of
from calibration.board import parse_board
from calibration.render import random_poses, render_pair, synthetic_rig
from calibration.rig import load_calibration
from tests.app.test_camera_contract import FakePort

ROWS, COLUMNS = np.mgrid[0:192, 0:256]
PICTURE = np.where(COLUMNS < 64, 40, 160).astype(np.uint8)  # of the camera: dark at the left


def counts(number: int) -> np.ndarray:
    """64ths of a kelvin, 10 to 40 degrees, warm at the top right, other in each picture."""
    return np.rint(64 * (283.15 + 20 * COLUMNS / 255 + 10 * (1 - ROWS / 191)) + 3 * (number % 7)).astype("<u2")


def double_height(number: int, height: int) -> bytes:
    """One buffer of YUYV bytes: a grey picture, counts below, telemetry where there is room."""
    packed = np.full((height, 256, 2), 255, np.uint8)
    packed[:192, :, 0], packed[:192, :, 1] = PICTURE, 128
    start = {384: 192, 386: 194, 392: 196}[height]
    packed[start : start + 192] = counts(number).view(np.uint8).reshape(192, 256, 2)
    return packed.tobytes()


def connect(monkeypatch: pytest.MonkeyPatch, height: int, pictures: int = 40) -> None:
    """A double-height camera stands in for every V4L2 device."""

    def port(_node: str) -> FakePort:
        made = FakePort(MonotonicClock(), V4l2Mode("YUYV", 256, height, 25.0))  # type: ignore[arg-type]
        made.pictures = [RawPicture(double_height(i, height), i, None) for i in range(pictures)]
        return made

    record = DeviceRecord("/dev/video9", "USB Camera", serial="B1234", usb_id="0bda:5830")
    monkeypatch.setattr(factory, "V4l2Camera", partial(V4l2Camera, devices=lambda: [record], open_port=port))


@pytest.mark.parametrize(
    ("height", "turn"),
    [(384, PictureCut(mirror=True)), (386, PictureCut(rotate=90, mirror=True)), (392, PictureCut(rotate=180))],
)
def test_a_double_height_camera_is_fused_and_recorded_as_it_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int, turn: PictureCut
) -> None:
    connect(monkeypatch, height)
    ways = {"rotate": turn.rotate, "mirror": turn.mirror, "reopen": {}}  # patient: the machine may be busy
    config = support.settings(
        tmp_path,
        visible={"uri": "v4l2:serial=B1234#half=top", **ways},
        thermal={"uri": "v4l2:serial=B1234#half=bottom&counts=1", **ways, "kelvin_per_count": 1 / 64},
        recording={"autostart": True},
        ffc={"enabled": False},
    )
    live = LiveFusion(config, camera_factory=factory.create_cameras)
    live.start()
    support.wait_until(lambda: live.stats.snapshot().frames["fused"] >= 8)
    fused = live.latest.peek()
    live.stop()
    assert live.failure is None and fused is not None and fused.pair.thermal is not None
    assert fused.pixels.shape == (*turn.turn(PICTURE).shape, 3)
    thermal = fused.pair.thermal.pixels
    assert any(np.array_equal(thermal, turn.turn(counts(number))) for number in range(7))
    summary = live.recording.summary
    assert summary is not None and summary.problems == ()
    with RecordingReader(summary.segments[0].path) as reader:
        for pair in list(reader)[:5]:
            assert pair.visible is not None and pair.thermal is not None
            assert any(np.array_equal(pair.thermal.pixels, turn.turn(counts(number))) for number in range(7))
            wanted = turn.turn(PICTURE).astype(float)
            grey = pair.visible.pixels[..., 1].astype(float)
            assert np.corrcoef(grey.ravel(), wanted.ravel())[0, 1] > 0.99
    scale = scale_of(default_scale(config))
    assert scale is not None and abs(scale.celsius(int(thermal.max())) - 40) < 0.4


@pytest.mark.slow
def test_a_turned_and_mirrored_camera_is_calibrated_upright(tmp_path: Path) -> None:
    """The thermal camera hangs on its side behind a mirror; what is kept and solved is as if it did not."""
    rig, board = synthetic_rig(), parse_board("acircles:4x11:28mm")
    stored, turn = PictureCut(rotate=90, mirror=True), "rotate=90&mirror=1"  # this turn undoes itself
    upright: list[np.ndarray] = []
    for folder in ("v", "t"):
        (tmp_path / folder).mkdir()
    for number, pose in enumerate(random_poses(rig, board, 14, 5)):
        view = render_pair(rig, pose, board, name="", seed=number)
        upright.append(view.thermal)
        for repeat in range(3):  # held still
            name = f"{number:02d}_{repeat}.png"
            cv2.imwrite(str(tmp_path / "v" / name), view.visible[..., ::-1])
            cv2.imwrite(str(tmp_path / "t" / name), stored.turn(view.thermal))
    live = ["--live", f"images:{tmp_path / 'v'}", f"images:{tmp_path / 't'}#{turn}"]
    views, file = tmp_path / "views", tmp_path / "rig.yaml"
    result = CliRunner().invoke(
        build_cli(), ["calibrate", "capture", *live, "-o", str(views), "-b", "acircles:4x11:28mm", "--views", "12"]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    kept = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((views / "ir").iterdir())]
    assert len(kept) == 12
    for picture in kept:
        assert min(np.abs(picture.astype(int) - view.astype(int)).mean() for view in upright) < 2
    solve = ["calibrate", "solve", str(views), "-o", str(file), "--distance", "3"]
    result = CliRunner().invoke(build_cli(), solve)
    assert file.is_file(), (result.output, result.exception)
    solved = load_calibration(file)
    assert (solved.thermal.height, solved.thermal.width) == upright[0].shape
    between = np.asarray(solved.R_visible_thermal).T @ np.asarray(rig.R_visible_thermal)
    assert np.degrees(np.linalg.norm(cv2.Rodrigues(between)[0])) < 1.0
