"""Detection on rendered boards with known truth, and on real views where they are at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.boards_found import hostile, verdict
from calibration.board import Board, parse_board
from calibration.detect import BoardNotFoundError, Detection, Preparation, Rung, detect_board, match_orders, prepare
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


def _spoilt(kind: str, seed: int) -> tuple[Board, np.ndarray, np.ndarray] | None:
    """A board as it is filmed: circles large in pixels, discs that blur and a hard stretch join, a barrel lens, a warm
    plate whose discs differ from it by a tenth of what it differs from all around."""
    rig, options, distances, spec = synthetic_rig(), RenderOptions(), (1.25, 1.7), "circles:4x3:100mm:65mm"
    if kind == "large":
        rig, spec = synthetic_rig((1080, 1440), thermal_hfov_deg=70.0), "circles:4x3:100mm:80mm"
    elif kind == "touching":
        options = RenderOptions(thermal_blur_px=3.0, thermal_gradient=0.15, thermal_inverted=False)
        spec, distances = "circles:6x4:100mm:90mm", (1.8, 3.0)
    elif kind == "weak":
        options = RenderOptions(thermal_snr=4, thermal_contrast_counts=12)
        spec, distances = "circles:6x4:100mm:90mm", (1.5, 2.5)
    elif kind == "barrel":
        cameras = (
            replace(c, fx_px=c.fx_px * 0.55, fy_px=c.fy_px * 0.55, distortion=(-0.28, 0.07, 0.0, 0.0, -0.006))
            for c in (rig.visible, rig.thermal)
        )
        rig = replace(rig, **dict(zip(("visible", "thermal"), cameras, strict=True)))
    board = parse_board(spec)
    pose = random_poses(rig, board, 1, seed=seed, distances=distances)
    if not pose:
        return None
    view = render_pair(rig, pose[0], board, seed=seed, options=options)
    if kind == "large":
        return board, view.visible, view.visible_points_px
    truth = view.thermal_points_px
    if truth.min() < 25 or (truth > [615, 455]).any():
        return None  # partly outside
    if kind == "weak":
        return board, np.clip((view.thermal - float(view.thermal.mean())) / 6 + 120, 0, 255).astype(np.uint8), truth
    stretched = (view.thermal - 9030.0) / 60 * 255 if kind == "touching" else (view.thermal - 8600.0) / 800 * 255
    return board, np.clip(stretched, 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize(
    ("kind", "seeds"), [("large", (101, 104)), ("touching", (100, 101)), ("barrel", (100, 102)), ("weak", (200, 201))]
)
def test_circles_as_they_are_filmed_are_found(kind: str, seeds: tuple[int, ...]) -> None:
    rendered = [view for view in (_spoilt(kind, seed) for seed in range(seeds[0], seeds[1] + 4)) if view][:2]
    assert len(rendered) == 2
    for board, picture, truth in rendered:
        found = detect_board(picture, board)
        assert len(found.ids) == len(truth)
        off = min(np.linalg.norm(found.points_px[order] - truth, axis=1).max() for order in found.orders)
        assert off < (0.03 if kind == "weak" else 0.012) * np.linalg.norm(truth[1] - truth[0])


@pytest.mark.parametrize("kind", ["a quarter turn", "moved 10 px", "rolling shutter", "vignetting", "two boards"])
def test_circles_in_spoilt_pictures_are_found_where_they_are(kind: str) -> None:
    pictures = hostile(kind, "circles", 300)
    assert pictures is not None
    for picture, truth in pictures.values():
        assert verdict(picture, parse_board("circles:6x4:100mm:60mm"), truth) == "right"


@pytest.mark.parametrize(("camera", "seed"), [("thermal", 300), ("thermal", 302), ("visible", 302)])
def test_a_glare_over_a_disc_is_none_and_the_others_are_found(camera: str, seed: int) -> None:
    pictures = hostile("reflection", "circles", seed)
    assert pictures is not None
    picture, truth = pictures[camera]
    found = detect_board(picture, parse_board("circles:6x4:100mm:60mm"))
    assert len(found.ids) == 23
    numbered = [found.reordered(order) for order in found.orders]
    step = np.linalg.norm(truth[1] - truth[0])
    off = min(float(np.linalg.norm(one.points_px - truth[one.ids], axis=1).max()) for one in numbered)
    assert off < 0.03 * step


def test_corners_that_a_reflection_moved_are_left_out() -> None:
    pictures = hostile("reflection", "checkerboard", 302)
    assert pictures is not None
    board = parse_board("checkerboard:10x7:30mm")
    for picture, truth in pictures.values():  # a corner was taken 0.1 of a step and more beside its place
        found = detect_board(picture, board)
        assert 49 <= len(found.ids) < 54
        assert verdict(picture, board, truth) == "right"


def test_boards_that_lack_discs_are_numbered_by_those_that_both_cameras_found() -> None:
    at = parse_board("circles:6x4:100mm:60mm").object_points()[:, :2] * 1000 + 50
    orders = (np.arange(24), np.arange(24)[::-1])

    def seen(points_px: np.ndarray, lacking: int) -> Detection:
        found = Detection(points_px, np.arange(24), "", "unknown", (480, 640), orders)
        return found.without(np.arange(24) == lacking)

    visible = seen(at, 3).reordered(orders[0])
    _, thermal = match_orders(visible, seen(at[::-1] * 0.5 + 60, 9))  # numbered from the other end, and another lacks
    assert not thermal.ambiguous
    assert thermal.ids.tolist() == [number for number in range(24) if number != 23 - 9]
    assert thermal.points_px == pytest.approx(at[thermal.ids] * 0.5 + 60)


def test_half_of_a_board_is_no_board() -> None:
    pictures = hostile("half hidden", "circles", 300)
    assert pictures is not None
    for picture, _ in pictures.values():
        with pytest.raises(BoardNotFoundError):
            detect_board(picture, parse_board("circles:6x4:100mm:60mm"), max_rungs=4)


@pytest.mark.parametrize("preparation", ["upper", "lower"])
def test_clipped_and_empty_pictures_can_be_prepared(preparation: Preparation) -> None:
    clipped = np.zeros((120, 160), np.float32)
    clipped[30:90, 40:120] = 255.0  # nothing in between, as a saturated camera gives it
    for grey in (clipped, np.full((120, 160), 7.0, np.float32)):
        prepared = prepare(grey, Rung(preparation, False, 1.0))
        assert prepared.shape == grey.shape and prepared.dtype == np.uint8


def test_netting_that_goes_on_is_no_board() -> None:
    y, x = np.mgrid[0:480, 0:640]
    holes = 60 + 150 * ((x % 30 - 15) ** 2 + (y % 30 - 15) ** 2 < 64)
    with pytest.raises(BoardNotFoundError):
        detect_board(holes.astype(np.uint8), parse_board("circles:6x4:40mm"), max_rungs=2)
