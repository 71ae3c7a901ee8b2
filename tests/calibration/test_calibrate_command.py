"""`lumitherm calibrate` from the printed board to the checked file, on made-up pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.commands.calibrate.commands import _judge, _pictures
from app.commands.calibrate.sources import read_devices, save_devices
from calibration.board import parse_board
from calibration.capture_guide import CaptureGuide
from calibration.render import random_poses, render_pair, synthetic_rig
from calibration.rig import load_calibration
from fusion_core.errors import BadInputError


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(
        build_cli(), ["calibrate", *(str(argument) for argument in arguments)], standalone_mode=False
    )
    if result.exception is not None:
        raise result.exception
    return int(result.return_value or 0), result.output


def test_board_is_written(tmp_path: Path) -> None:
    code, text = run("board", "-o", tmp_path / "board.pdf")
    assert code == 0 and "AsymmetricCircles 4x11" in text and (tmp_path / "board.pdf").stat().st_size > 1000
    _, text = run("board", "-o", tmp_path / "board.svg", "-b", "circles:7x5:20mm")
    assert "looks the same when turned" in text


@pytest.mark.slow
def test_capture_solve_check(tmp_path: Path) -> None:
    views, rig = tmp_path / "views", tmp_path / "rig.yaml"
    _, text = run("capture", "--simulated", "-o", views, "--views", 12)
    assert "12 views in" in text and "Bring the board" in text
    code, text = run("solve", views, "-o", rig, "--distance", 3, "--visible-camera", "A")
    assert "accepted views: 12" in text
    assert code == (0 if "(good)" in text else 1)
    loaded = load_calibration(rig)
    assert loaded.visible.identity == "A" and loaded.report_sha256 and rig.with_suffix(".html").is_file()
    code, text = run("check", rig, views, "-b", "acircles:4x11:28mm")
    assert code == 0 and "12 of 12 views" in text


def test_cameras_of_a_live_capture_are_noted_beside_the_views(tmp_path: Path) -> None:
    assert read_devices(tmp_path) == ("", "")
    save_devices(tmp_path, ("", ""))
    assert not (tmp_path / "cameras.yaml").exists(), "files and simulated cameras are no devices"
    save_devices(tmp_path, ("v4l2:serial=17", "rtsp://10.0.0.7/heat"))
    assert read_devices(tmp_path) == ("v4l2:serial=17", "rtsp://10.0.0.7/heat")
    (tmp_path / "cameras.yaml").write_text("visible: [")
    with pytest.raises(BadInputError, match=r"cameras\.yaml is not understood"):
        read_devices(tmp_path)


def test_refine_without_a_board_removes_a_shift(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("vi", "ir"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
    for index in range(3):
        visible = np.full((240, 320), 110, np.uint8)
        thermal = np.full((240, 320), 90, np.uint8)
        for _ in range(45):
            centre = (int(rng.integers(0, 320)), int(rng.integers(0, 240)))
            axes = (int(rng.integers(6, 35)), int(rng.integers(6, 35)))
            cv2.ellipse(visible, centre, axes, 0, 0, 360, int(rng.integers(20, 235)), -1)
            cv2.ellipse(thermal, (centre[0] - 9, centre[1] + 4), axes, 0, 0, 360, int(rng.integers(20, 235)), -1)
        cv2.imwrite(str(tmp_path / "pairs" / "vi" / f"{index}.png"), visible)
        cv2.imwrite(str(tmp_path / "pairs" / "ir" / f"{index}.png"), thermal)
    output = tmp_path / "refined.yaml"
    run("refine", tmp_path / "pairs", "-o", output, "--model", "shift")
    assert np.allclose(load_calibration(output).correction_visible[:2, 2], [9, -4], atol=0.7)
    code, text = run("check", output, tmp_path / "pairs")
    assert code == 0 and "inside the 8 visible px" in text


def test_refine_spreads_its_pictures_over_all_that_was_filmed(tmp_path: Path) -> None:
    for source, count in (("monday", 23), ("tuesday", 5)):
        for kind in ("vi", "ir"):
            (tmp_path / source / kind).mkdir(parents=True)
            for index in range(count):
                level = np.full((32, 32), 10 * index + (5 if source == "tuesday" else 0), np.uint8)
                cv2.imwrite(str(tmp_path / source / kind / f"{index:02d}.png"), level)

    def levels(*names: str, frames: int, every: int | None) -> list[int]:
        return [int(ir[0, 0]) for _, ir in _pictures([tmp_path / name for name in names], None, frames, every)]

    spread = levels("monday", frames=4, every=None)
    assert len(spread) == 4 and spread[0] < 60 and spread[-1] > 150
    assert levels("monday", frames=4, every=1) == [0, 10, 20, 30]
    both = levels("monday", "tuesday", frames=6, every=None)
    assert [level % 10 for level in both] == [0, 0, 0, 5, 5, 5]
    (tmp_path / "empty" / "vi").mkdir(parents=True)
    (tmp_path / "empty" / "ir").mkdir()
    with pytest.raises(BadInputError):
        levels("monday", "empty", frames=6, every=None)


def test_guide_wants_still_and_new_views() -> None:
    rig, board = synthetic_rig((360, 480), (360, 480)), parse_board("acircles:4x9:40mm")
    poses = random_poses(rig, board, 2, seed=3)
    first, second = (render_pair(rig, pose, board) for pose in poses)
    guide = CaptureGuide(board)
    assert guide.offer("0", first.visible, first.thermal).reason == "hold still"
    verdict = guide.offer("1", first.visible, first.thermal)
    assert verdict.accepted and "1 of 20 views" in verdict.guidance
    assert "moving" in guide.offer("2", second.visible, second.thermal).reason
    assert guide.offer("3", second.visible, second.thermal).accepted
    assert "moving" in guide.offer("4", first.visible, first.thermal).reason
    assert "much like" in guide.offer("5", first.visible, first.thermal).reason
    blank = np.zeros_like(first.visible)
    assert "no board in the visible" in guide.offer("6", blank, first.thermal).reason
    assert len(guide.accepted) == 2 and guide.cells.sum() == 72


def test_a_board_that_is_held_on_is_averaged() -> None:
    rig, board = synthetic_rig((360, 480), (360, 480)), parse_board("acircles:4x9:40mm")
    pose = random_poses(rig, board, 2, seed=3)[0]
    views = [render_pair(rig, pose, board, seed=number) for number in range(5)]
    guide = CaptureGuide(board)
    verdicts = [guide.offer(str(number), view.visible, view.thermal) for number, view in enumerate(views)]
    assert [verdict.accepted for verdict in verdicts] == [False, True, False, False, False]
    assert [verdict.improved for verdict in verdicts] == [False, False, True, True, True]
    assert len(guide.accepted) == 1 and guide.accepted[0].name == "1" and "4 pictures" in verdicts[-1].reason

    def off_px(number: int) -> float:
        found = verdicts[number].view.found_thermal
        assert found is not None
        return float(np.sqrt(np.mean((found.points_px - views[0].thermal_points_px[found.ids]) ** 2)))

    assert off_px(4) < 0.75 * off_px(1), "four pictures halve the noise, but not what they have in common"
    assert verdicts[4].view.thermal.dtype == np.uint16 and verdicts[4].view.visible.dtype == np.uint8
    moved = render_pair(rig, random_poses(rig, board, 2, seed=3)[1], board)
    assert not guide.offer("5", moved.visible, moved.thermal).improved


def test_check_promises_the_budget_only_where_the_worst_place_is_inside(capsys: pytest.CaptureFixture[str]) -> None:
    y, x = np.mgrid[20:480:40, 20:640:40]
    at_px, off_px = np.stack([x.ravel(), y.ravel()], axis=-1), np.full(x.size, 2.0)
    assert _judge(off_px, at_px, (480, 640)) == 0
    off_px[5] = 21.0  # the median is still 2
    capsys.readouterr()
    assert _judge(off_px, at_px, (480, 640)) == 1
    said = capsys.readouterr().out
    assert "21.0 visible px off, at x 220, y 20" in said and "OUTSIDE the 8 visible px" in said
