"""Detection on rendered boards with known truth, and on real views where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.board import parse_board
from calibration.detect import BoardNotFoundError, detect_board, match_orders
from calibration.render import RenderOptions, random_poses, render_pair, render_set, synthetic_rig
from fusion_core.errors import BadInputError
from fusion_core.pair_folder import read_thermal, read_visible

RIG = synthetic_rig()
REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "calibration"


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("checkerboard:10x7:30mm", 3),
        pytest.param("checkerboard:10x7:30mm", 10, marks=pytest.mark.slow),
        ("circles:8x6:40mm", 5),
        ("acircles:4x11:30mm", 3),
        pytest.param("acircles:4x11:30mm", 10, marks=pytest.mark.slow),
        ("charuco:8x6:40mm:30mm:DICT_4X4_50", 5),
        ("aruco:4x3:60mm:15mm:DICT_4X4_50", 5),
    ],
)
def test_nine_of_ten_thermal_boards_are_found_and_none_is_numbered_wrongly(spec: str, count: int) -> None:
    board = parse_board(spec)
    found = 0
    for view in render_set(RIG, board, count, seed=5):  # SNR 10, blur 1.5 px, inverted polarity, uneven heat
        visible = detect_board(view.visible, board, polarity="normal")
        assert np.abs(visible.points_px - view.visible_points_px[visible.ids]).max() < 0.5
        try:
            thermal = detect_board(view.thermal, board)
        except BoardNotFoundError:
            continue
        found += 1
        _, thermal = match_orders(visible, thermal)
        off = np.linalg.norm(thermal.points_px - view.thermal_points_px[thermal.ids], axis=1)
        assert off.max() < 1.5, "numbered wrongly, or not sub-pixel"
        assert np.sqrt(np.mean(off**2)) < 0.3
    assert found >= 0.9 * count


def test_a_board_held_upside_down_keeps_its_numbers() -> None:
    board = parse_board("checkerboard:10x7:30mm")
    pose = random_poses(RIG, board, 1, seed=9)[0]
    view = render_pair(RIG, pose, board, options=RenderOptions(thermal_snr=25))
    turned = np.ascontiguousarray(view.visible[::-1, ::-1])
    found = detect_board(turned, board, polarity="normal")
    height, width = view.visible.shape[:2]
    truth = np.array([width - 1, height - 1]) - view.visible_points_px
    assert np.abs(found.points_px - truth).max() < 0.5
    assert not found.ambiguous


@pytest.mark.parametrize("roll", [0.0, 180.0])
def test_a_board_that_looks_the_same_turned_is_settled_by_the_other_camera(roll: float) -> None:
    board = parse_board("circles:7x5:40mm")
    pose = random_poses(RIG, board, 1, seed=2)[0]
    view = render_pair(RIG, pose, board)
    thermal, truth = view.thermal, view.thermal_points_px
    if roll:
        thermal = np.ascontiguousarray(thermal[::-1, ::-1])
        truth = np.array([thermal.shape[1] - 1, thermal.shape[0] - 1]) - truth
    visible = detect_board(view.visible, board, polarity="normal")
    found = detect_board(thermal, board)
    assert found.ambiguous
    order = visible.orders[
        int(np.argmin([np.abs(visible.points_px[o] - view.visible_points_px).max() for o in visible.orders]))
    ]
    _, matched = match_orders(visible.reordered(order), found, roll)
    assert not matched.ambiguous
    assert np.abs(matched.points_px - truth).max() < 1.0


def test_no_board_is_an_error_that_says_so() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160), dtype=np.uint8)
    with pytest.raises(BoardNotFoundError, match="no Checkerboard 10x7"):
        detect_board(noise, parse_board("checkerboard:10x7:30mm"), max_rungs=3)
    with pytest.raises(BadInputError, match="must be"):
        detect_board(np.zeros((4, 4, 4), np.uint8), parse_board("acircles:4x11:30mm"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real board views (../shared/data/calibration) are not here")
def test_real_heated_board_is_found_in_most_thermal_views() -> None:
    board = parse_board("checkerboard:10x7:30mm")
    thermal = sorted((REAL / "chessboard_4cam" / "thermal_b16").glob("*.png"))
    found = 0
    for path in thermal:
        try:
            detect_board(read_thermal(path), board)
        except BoardNotFoundError:
            continue
        found += 1
    assert found >= 7
    assert detect_board(read_visible(REAL / "chessboard_4cam" / "rgb_b" / thermal[1].name), board).points_px.shape == (
        54,
        2,
    )
