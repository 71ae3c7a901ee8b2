"""The whole chain on a rig with known truth: exact where it should be, and honest where it cannot be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.commands.calibrate.commands import _check_board
from calibration.assess import assess
from calibration.board import parse_board
from calibration.detect import Detection
from calibration.extrinsics import rotation_angle_deg
from calibration.homography import solve_points
from calibration.render import BoardPose, project, random_poses, render_set, synthetic_rig, thermal_pose
from calibration.report import write_report
from calibration.rig import RigCalibration, apply_homography, load_calibration, save_calibration
from calibration.shared_field import distance_range, propose_working_distance_m, reached_share
from calibration.solve import Solution, _mirrored, solve_views
from calibration.views import BoardView, detect_views
from fusion_core.errors import BadInputError

BOARD = parse_board("checkerboard:10x7:80mm")  # large, as a wide baseline needs it
EMPTY = np.zeros((48, 64), np.uint8)


def point_views(
    rig: RigCalibration,
    count: int,
    seed: int,
    noise_px: float = 0.1,
    *,
    bow_m: float = 0.0,
    turns_deg: float = 0.0,
    moves_m: float = 0.0,
) -> list[BoardView]:
    """Views without pictures: projected points with noise.

    bow_m: the board is a bowl, so deep; turns_deg, moves_m: what it does until thermal sees it, 1 sigma an axis.
    """
    rng, sway = np.random.default_rng(seed), np.random.default_rng(seed + 7)
    points = BOARD.object_points()
    from_middle = ((points[:, :2] - points[:, :2].mean(axis=0)) ** 2).sum(axis=1)
    points[:, 2] = bow_m * from_middle / np.ptp(from_middle)
    views = []
    for index, pose in enumerate(random_poses(rig, BOARD, count, seed)):
        turn, _ = cv2.Rodrigues(np.radians(sway.normal(0, turns_deg, 3)))
        later = BoardPose(pose.R_visible_board @ turn, pose.t_visible_board_m + sway.normal(0, moves_m, 3))
        found = [
            Detection(
                project(camera, at, points) + rng.normal(0, noise_px * min(1.0, camera.width / 640), (len(points), 2)),
                np.arange(len(points)), "truth", "normal", (camera.height, camera.width),
            )
            for camera, at in ((rig.visible, pose), (rig.thermal, thermal_pose(rig, later)))
        ]  # fmt: skip
        views.append(BoardView(f"{index:02d}", EMPTY, EMPTY, found[0], found[1]))
    return views


def homography_error_px(found: RigCalibration, truth: RigCalibration) -> np.ndarray:
    """Where the found rig puts thermal points at Z0, against where they belong.

    Visible pixels over the common field.
    """
    x, y = np.meshgrid(np.linspace(0, truth.visible.width - 1, 15), np.linspace(0, truth.visible.height - 1, 11))
    grid = np.stack([x, y], axis=-1).reshape(-1, 2)
    thermal = truth.thermal_from_visible(grid)
    inside = (thermal >= 0).all(1) & (thermal[:, 0] < truth.thermal.width) & (thermal[:, 1] < truth.thermal.height)
    off = found.visible_from_thermal(thermal[inside], truth.working_distance_m) - grid[inside]
    return np.linalg.norm(off, axis=1)


def test_rendered_rig_is_recovered_to_a_third_of_a_pixel(tmp_path: Path) -> None:
    rig = synthetic_rig()
    board = parse_board("acircles:4x11:30mm")
    pictures = ((v.name, v.visible, v.thermal) for v in render_set(rig, board, 14, seed=3))
    solution = solve_views(detect_views(pictures, board), board, working_distance_m=3.0, bootstrap=8)
    error = homography_error_px(solution.rig, rig)
    assert np.median(error) <= 0.1 and np.percentile(error, 95) <= 0.3
    assert rotation_angle_deg(solution.rig.R_visible_thermal, rig.R_visible_thermal) <= 0.05
    assert np.abs(solution.rig.t_visible_thermal_m - rig.t_visible_thermal_m).max() < 2e-3
    assert solution.good and solution.rig.verdict == "good"
    assert solution.bend == "" and solution.contradiction == ""
    digest = write_report(solution, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert len(digest) == 64
    assert "Good: every check is passed" in page and "data:image/jpeg;base64" in page and "http://" not in page


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1)])
def test_a_mirrored_camera_is_told_from_one_that_hangs_upside_down(axes: tuple[int, ...]) -> None:
    views = []
    for view in point_views(synthetic_rig(), 10, seed=4):
        assert view.found_thermal is not None
        at_px = view.found_thermal.points_px.copy()
        for axis in axes:
            at_px[:, axis] = view.found_thermal.size[1 - axis] - 1 - at_px[:, axis]
        views.append(replace(view, found_thermal=replace(view.found_thermal, points_px=at_px)))
    assert _mirrored(views) is (len(axes) == 1)


@pytest.mark.parametrize("thermal", [(480, 640), (120, 160)])
@pytest.mark.parametrize(
    "moved",
    [{"turns_deg": 0.6}, {"moves_m": 0.02}, {"turns_deg": 0.5, "moves_m": 0.01}],
    ids=["turned", "moved", "both"],
)
def test_views_of_different_moments_are_told_and_bend_no_lens(
    moved: dict[str, float], thermal: tuple[int, int]
) -> None:
    rig = synthetic_rig((480, 640), thermal)
    solution = solve_views(point_views(rig, 14, 4, **moved), BOARD, working_distance_m=3.0, bootstrap=3)
    assert "not taken at the same moment" in solution.contradiction and "are held" in solution.contradiction
    assert "visible px" in solution.contradiction and "thermal px" in solution.contradiction
    assert solution.bend == "" and "lengths" not in solution.contradiction
    wrong = replace(solution, visible=replace(solution.visible, rms_px=1.0))  # as with a wrong length
    assert "its lengths are not those that were given" in wrong.contradiction
    for found, truth in ((solution.rig.visible, rig.visible), (solution.rig.thermal, rig.thermal)):
        assert np.hypot(found.cx_px - truth.cx_px, found.cy_px - truth.cy_px) < 2.5 * truth.width / 640
    failed = [gate for gate in solution.gates if not gate.passed and "coverage" not in gate.name]
    assert failed and all("same moment" in gate.advice for gate in failed)
    assert max(solution.bent_px) > 1.0 or max(solution.together_px) > 1.0


@pytest.mark.parametrize("thermal", [(480, 640), (120, 160)])
def test_a_bent_board_is_told_and_bends_no_lens(thermal: tuple[int, int]) -> None:
    rig = synthetic_rig((480, 640), thermal)
    flat, bent, loose = (
        solve_views(point_views(rig, 14, 4, **how), BOARD, working_distance_m=3.0, bootstrap=3)
        for how in ({}, {"bow_m": 0.008}, {"bow_m": 0.008, "turns_deg": 0.6})
    )
    assert flat.bend == flat.contradiction == bent.contradiction == ""
    assert bent.board.depth_m == pytest.approx(0.008, abs=0.0004)
    assert "bent" in bent.bend and f"{bent.board.depth_m * 1e3:.1f} mm" in bent.bend
    for found, truth in ((bent.rig.visible, rig.visible), (bent.rig.thermal, rig.thermal)):  # 5 to 20 px off otherwise
        assert np.hypot(found.cx_px - truth.cx_px, found.cy_px - truth.cy_px) < 2.5 * truth.width / 640
    assert rotation_angle_deg(bent.rig.R_visible_thermal, rig.R_visible_thermal) < 0.08
    assert "not taken at the same moment" in loose.contradiction and loose.bend


def test_capture_and_check_take_a_board_as_bent_as_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = synthetic_rig((480, 640), (480, 640))
    views = point_views(rig, 14, 4, bow_m=0.008)
    flat, bent = (assess(some, BOARD, 3.0) for some in (point_views(rig, 14, 4), views))
    assert flat is not None and bent is not None and bent.views == 14
    assert bent.two_sigma_px < 1.3 * flat.two_sigma_px  # three times as much where the board is taken for flat
    found = solve_views(views, BOARD, working_distance_m=3.0, bootstrap=0).rig
    save_calibration(found, tmp_path / "rig.yaml")
    loaded = load_calibration(tmp_path / "rig.yaml")
    assert isinstance(loaded, RigCalibration) and loaded.bent_board == found.bent_board is not None
    monkeypatch.setattr("calibration.views.detect_views", lambda *_, **__: point_views(rig, 4, 9, bow_m=0.008))
    worst = []
    for known in (loaded, replace(loaded, bent_board=None)):
        _check_board(known, "checkerboard:10x7:80mm", iter(()), False)
        said = capsys.readouterr().out
        assert ("bent by 8" in said) == (known is loaded)
        worst.append(float(re.findall(r"95 % ([\d.]+)", said)[0]))
    assert worst[0] < 0.5 and worst[1] > 3 * worst[0]


@pytest.fixture(scope="module")
def wide() -> tuple[RigCalibration, Solution]:
    """Different resolutions and lenses, wide baseline."""
    rig = synthetic_rig((720, 1280), (512, 640), visible_hfov_deg=70, thermal_hfov_deg=45, baseline_m=0.2)
    views = point_views(rig, 30, seed=4)
    return rig, solve_views(views, BOARD, working_distance_m=3.0, bootstrap=10)


def test_different_resolutions_and_lenses(wide: tuple[RigCalibration, Solution]) -> None:
    rig, solution = wide
    assert np.percentile(homography_error_px(solution.rig, rig), 95) <= 0.3
    assert rotation_angle_deg(solution.rig.R_visible_thermal, rig.R_visible_thermal) <= 0.05
    assert solution.rig.baseline_m == pytest.approx(rig.baseline_m, rel=0.01)
    points = np.array([[100, 100], [320, 256], [540, 400.0]])
    found, true = (r.visible_from_thermal(points, 3.0) for r in (solution.rig, rig))
    assert np.abs(found - true).max() < 1.0


def test_a_moved_board_and_a_turned_numbering_are_rejected_and_named(wide: tuple[RigCalibration, Solution]) -> None:
    rig, _ = wide
    views = point_views(rig, 18, seed=4)
    moved, turned = views[3], views[7]
    assert moved.found_thermal is not None and turned.found_thermal is not None
    views[3] = replace(moved, found_thermal=replace(moved.found_thermal, points_px=moved.found_thermal.points_px + 4.0))
    views[7] = replace(
        turned, found_thermal=replace(turned.found_thermal, points_px=turned.found_thermal.points_px[::-1].copy())
    )
    solution = solve_views(views, BOARD, working_distance_m=3.0, bootstrap=0)
    assert set(solution.rejected) == {moved.name, turned.name}
    assert "numbered the wrong way round" in solution.rejected[turned.name]
    assert rotation_angle_deg(solution.rig.R_visible_thermal, rig.R_visible_thermal) <= 0.06


def test_few_views_never_pass(wide: tuple[RigCalibration, Solution]) -> None:
    rig, _ = wide
    solution = solve_views(point_views(rig, 9, seed=4), BOARD, bootstrap=5)
    assert not solution.good and solution.rig.verdict == "not good"
    assert not next(gate for gate in solution.gates if gate.name == "accepted views").passed
    with pytest.raises(BadInputError, match="at least 4"):
        solve_views(point_views(rig, 3, seed=4), BOARD, bootstrap=0)


def test_full_coverage_of_a_strip_is_not_enough(wide: tuple[RigCalibration, Solution]) -> None:
    rig, solution = wide
    assert solution.reached > 0.6
    assert reached_share(rig, rig.working_distance_m) == 1.0
    assert reached_share(rig, 0.35) < 0.6, "at arm's length a baseline of 0.2 m leaves a strip"
    apart = replace(rig, t_visible_thermal_m=np.array([30.0, 0.0, 0.0]))
    assert reached_share(apart, 3.0) == 0.0, "cameras that see nothing in common fail"


def test_without_an_uncertainty_the_verdict_fails_closed(wide: tuple[RigCalibration, Solution]) -> None:
    rig, _ = wide
    assert not solve_views(point_views(rig, 14, seed=4), BOARD, bootstrap=0).good


def test_distance_range_is_the_parallax_formula(wide: tuple[RigCalibration, Solution]) -> None:
    rig, _ = wide
    span = distance_range(rig, 8.0)
    assert rig.parallax_px(span.near_m) == pytest.approx(8.0)
    assert rig.parallax_px(span.far_m) == pytest.approx(8.0) if np.isfinite(span.far_m) else True
    centre = np.array([[rig.thermal.width / 2, rig.thermal.height / 2]])
    moved = rig.visible_from_thermal(centre, span.near_m) - rig.visible_from_thermal(centre, rig.working_distance_m)
    assert np.linalg.norm(moved) == pytest.approx(8.0, rel=0.08)  # the formula leaves out the lens and the baseline's z
    far = replace(rig, working_distance_m=propose_working_distance_m(rig))
    assert distance_range(far).near_m == pytest.approx(far.working_distance_m / 2, rel=1e-6)
    assert distance_range(far).far_m > 1e6
    near = replace(rig, working_distance_m=propose_working_distance_m(rig, near_m=5.0))
    assert distance_range(near).near_m == pytest.approx(5.0)


@pytest.mark.parametrize(("model", "count"), [("similarity", 3), ("affine", 5), ("homography", 9)])
def test_points_give_the_map_and_name_the_outlier(model: str, count: int) -> None:
    rng = np.random.default_rng(3)
    H = np.array([[1.1, 0.02, 12], [-0.02, 1.1, -7], [0, 0, 1.0]])
    if model != "similarity":
        H[0, 1] += 0.05
    if model == "homography":
        H[2] = [1e-4, -5e-5, 1]
    thermal = rng.uniform(20, 460, (count, 2))
    visible = apply_homography(H, thermal) + rng.normal(0, 0.2, (count, 2))
    solution = solve_points(visible, thermal, model=model)  # type: ignore[arg-type]
    assert solution.residual_px.max() < 1.0 and solution.inlier.all()
    many = np.vstack([thermal, rng.uniform(20, 460, (6, 2))])
    target = apply_homography(H, many)
    target[2] += 30
    solution = solve_points(target, many, model=model)  # type: ignore[arg-type]
    assert list(np.flatnonzero(~solution.inlier)) == [2]
    assert solution.residual_px[2] == pytest.approx(np.hypot(30, 30), rel=0.05)
    assert solution.rms_px < 0.1 and np.nanmax(np.delete(solution.left_out_px, 2)) < 0.5


def _lens_and_parallax(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of a 1280x720 and a 640x512 picture that no plane map joins to better than some pixels."""
    rng = np.random.default_rng(seed)
    thermal = np.stack([rng.uniform(40, 610, count), rng.uniform(100, 220, count)], axis=-1)
    visible = thermal * 1.8 + [90.0, -10.0]
    from_middle = (visible - [640, 360]) / 640
    visible = visible - 18 * from_middle * (from_middle**2).sum(axis=1, keepdims=True)
    return visible + rng.normal(0, 2.0, (count, 2)), thermal


def _plain_affine(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """(3, 3) of plain least squares over all points."""
    one = np.column_stack([thermal, np.ones(len(thermal))])
    return np.vstack([np.linalg.lstsq(one, visible, rcond=None)[0].T, [0, 0, 1]])


@pytest.mark.parametrize("seed", range(6))
def test_few_points_that_a_lens_moves_are_all_used(seed: int) -> None:
    visible, thermal = _lens_and_parallax(6, seed)
    solution = solve_points(visible, thermal, width_px=1280)
    assert solution.inlier.all() and solution.model in ("affine", "similarity")
    elsewhere, at = _lens_and_parallax(60, 100 + seed)
    off, plain = (
        np.median(np.linalg.norm(apply_homography(H, at) - elsewhere, axis=1))
        for H in (solution.H_visible_thermal, _plain_affine(visible, thermal))
    )
    assert off < 1.2 * plain and off < 8
    assert solve_points(visible, thermal, model="homography", width_px=1280).model == "affine"
    assert solve_points(visible[:4], thermal[:4], width_px=1280).model == "similarity"


@pytest.mark.parametrize(("count", "wrong"), [(5, 0), (8, 0), (6, 1), (8, 2)])
def test_rough_points_do_no_worse_than_least_squares_and_gross_errors_are_named(count: int, wrong: int) -> None:
    ours, plain, named = [], [], 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        H = np.array([[1.6, 0.05, 120], [-0.06, 1.63, -40], [rng.uniform(-4e-5, 4e-5), 0, 1]])
        thermal = rng.uniform([50, 40], [590, 470], (count, 2))
        visible = apply_homography(H, thermal) + rng.normal(0, rng.uniform(2, 8), (count, 2))
        visible[:wrong] += rng.choice([-1, 1], (wrong, 2)) * rng.uniform(40, 150, (wrong, 2))
        solution = solve_points(visible, thermal, width_px=1280)
        assert solution.model != "homography" or count >= 8
        named += int((solution.far | ~solution.inlier)[:wrong].sum())
        y, x = np.mgrid[60:460:5j, 60:580:6j]
        at = np.stack([x.ravel(), y.ravel()], axis=-1)
        for errors, map_ in ((ours, solution.H_visible_thermal), (plain, _plain_affine(visible, thermal))):
            errors.append(np.median(np.linalg.norm(apply_homography(map_, at) - apply_homography(H, at), axis=1)))
    assert np.median(ours) < (0.35 if wrong else 1.2) * np.median(plain)
    assert np.percentile(ours, 95) < (0.5 if wrong else 1.2) * np.percentile(plain, 95)
    assert named >= 0.95 * 24 * wrong


def test_a_point_that_lies_far_off_when_left_out_is_named() -> None:
    visible, thermal = _lens_and_parallax(6, 1)
    visible[3] += [70.0, 40.0]
    solution = solve_points(visible, thermal, width_px=1280)
    assert not solution.inlier[3] or solution.far[3]


def test_points_that_determine_nothing_are_refused() -> None:
    line = np.stack([np.arange(6.0) * 20, np.arange(6.0) * 10], axis=-1)
    with pytest.raises(BadInputError, match="line"):
        solve_points(line, line, model="affine")
    with pytest.raises(BadInputError, match="needs at least 4"):
        solve_points(line[:3], line[:3], model="homography")
    with pytest.raises(BadInputError, match="pairs"):
        solve_points(line[:3], line[:4])
    rng = np.random.default_rng(0)
    with pytest.raises(BadInputError, match="agree"):
        solve_points(rng.uniform(0, 500, (10, 2)), rng.uniform(0, 500, (10, 2)))
    cv2.setRNGSeed(0)
