"""Somebody who holds a board in front of a simulated rig, does roughly what the capture guide says, and stops with it.

Used by `calibration_accuracy.py guided`. The rig differs from run to run (`varied_rig`): principal points, focal
lengths, distortion and the way the cameras are turned, so that nothing can be right by being in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.assess import assess
from calibration.board import Board
from calibration.capture_guide import CaptureGuide
from calibration.detect import Detection
from calibration.pose_planner import Advice
from calibration.render import BoardPose, RenderOptions, SyntheticView, project, random_poses, render_pair, thermal_pose
from calibration.rig import CameraIntrinsics, RigCalibration
from calibration.views import BoardView

TURNED_DEG, ASIDE, NEARER = 6.0, 0.04, 0.08  # 1 sigma of how advice is followed: turn; place and depth, of the depth
HELD = (8, 19)  # pictures of a pose, from .. below
STILL = RenderOptions(thermal_snr=1e6, visible_noise=0.0)
NOISY = RenderOptions()
MOST_POSES = 90
EMPTY = np.zeros((48, 64), np.uint8)
PATIENCE = 7  # pictures of a pose that is not taken


@dataclass(frozen=True, slots=True)
class Captured:
    """views: what the guide ended with. shown: poses that were held. pictures: given to the guide. misnumbered: views
    whose two cameras disagree about which point is which. found: shares of poses with the board found, visible and
    thermal, in the picture shown last. lacking: what the guide still missed."""

    views: list[BoardView]
    shown: int
    pictures: int
    misnumbered: int
    found: tuple[float, float]
    lacking: str


def varied_rig(rig: RigCalibration, seed: int) -> RigCalibration:
    """Another rig of the same kind: principal points off by 1.2 % of the width, focal lengths by 3 % (1 sigma), some
    barrel distortion, turned by another degree."""
    rng = np.random.default_rng(7000 + seed)

    def lens(camera: CameraIntrinsics) -> CameraIntrinsics:
        scale = 1 + 0.03 * rng.normal()
        off = 0.012 * camera.width * rng.normal(size=2)
        k1 = -abs(0.1 + 0.06 * rng.normal())
        p1, p2 = 4e-4 * rng.normal(size=2)
        return replace(
            camera, fx_px=camera.fx_px * scale, fy_px=camera.fx_px * scale * (1 + 0.002 * rng.normal()),
            cx_px=camera.width / 2 - 0.5 + off[0], cy_px=camera.height / 2 - 0.5 + off[1],
            distortion=(k1, 0.45 * k1 * k1 + 0.02 * rng.normal(), p1, p2, 0.0),
        )  # fmt: skip

    R = cv2.Rodrigues(np.radians(rng.normal(size=3)))[0] @ rig.R_visible_thermal
    return replace(rig, visible=lens(rig.visible), thermal=lens(rig.thermal), R_visible_thermal=R)


def capture(rig: RigCalibration, board: Board, seed: int, distances: tuple[float, float]) -> Captured:
    """Hold poses until the guide has enough: at random until it advises, then two of three as it says, roughly."""
    rng = np.random.default_rng(9000 + seed)
    guide = CaptureGuide(board, exactly=False, working_distance_m=rig.working_distance_m)
    chance = iter(random_poses(rig, board, MOST_POSES, seed, distances=distances))
    truth: dict[str, SyntheticView] = {}
    shown = pictures = 0
    seen = [0, 0]
    while not guide.done and shown < MOST_POSES:
        pose = _as_advised(guide, rig, board, rng) if shown % 3 else None
        if pose is None:
            pose = next(chance, None)
            if pose is None:
                break
        still = render_pair(rig, pose, board, seed=1000 * seed + shown, options=STILL)
        shown += 1
        for number in range(int(rng.integers(*HELD))):
            name = f"{shown:03d}.{number:02d}"
            verdict = guide.offer(name, *_noisy(still, rng))
            truth[name] = still
            pictures += 1
            if guide.done or (
                not (verdict.accepted or verdict.improved or "still" in verdict.reason) and number >= PATIENCE
            ):
                break
        seen[0] += verdict.view.found_visible is not None
        seen[1] += verdict.view.found_thermal is not None
    wrong = sum(not numbered_alike(view, truth[view.name], board) for view in guide.accepted)
    return Captured(list(guide.accepted), shown, pictures, wrong, (seen[0] / shown, seen[1] / shown), guide.short)


def advised_poses(
    rig: RigCalibration, board: Board, count: int, seed: int, distances: tuple[float, float]
) -> list[BoardPose]:
    """Poses for a film: eight at random, then two of three as the guide would advise, roughly; from points alone."""
    rng = np.random.default_rng(seed)
    points, every = board.object_points(), np.arange(len(board.object_points()))
    chance = random_poses(rig, board, count, seed, distances=distances)
    poses: list[BoardPose] = []
    views: list[BoardView] = []
    while len(poses) < count:
        found = assess(views, board, rig.working_distance_m) if len(views) >= 8 and len(poses) % 3 else None
        advised = _followed(found.advice, rig, board, rng) if found is not None and found.advice is not None else None
        pose = advised or chance[len(poses)]
        poses.append(pose)
        seen = [
            Detection(
                project(camera, at, points) + rng.normal(0, noise_px, (len(points), 2)), every, "", "normal",
                (camera.height, camera.width),
            )
            for camera, at, noise_px in ((rig.visible, pose, 0.01), (rig.thermal, thermal_pose(rig, pose), 0.03))
        ]  # fmt: skip
        views.append(BoardView(str(len(poses)), EMPTY, EMPTY, seen[0], seen[1]))
    return poses


def _as_advised(guide: CaptureGuide, rig: RigCalibration, board: Board, rng: np.random.Generator) -> BoardPose | None:
    """The advised pose, as exactly as hands do it; None without advice, or where it does not work out."""
    if guide.assessment is None or guide.assessment.advice is None:
        return None
    return _followed(guide.assessment.advice, rig, board, rng)


def _followed(advice: Advice, rig: RigCalibration, board: Board, rng: np.random.Generator) -> BoardPose | None:
    wanted = advice.pose
    R_wanted, middle = cv2.Rodrigues(wanted[:3])[0], board.object_points().mean(axis=0)
    at = R_wanted @ middle + wanted[3:]
    for _ in range(30):
        R = cv2.Rodrigues(np.radians(TURNED_DEG) * rng.normal(size=3))[0] @ R_wanted
        moved = at + at[2] * np.array([ASIDE, ASIDE, NEARER]) * rng.normal(size=3)
        pose = BoardPose(R, moved - R @ middle)
        if _both_see(rig, pose, board):
            return pose
    return None


def _both_see(rig: RigCalibration, pose: BoardPose, board: Board) -> bool:
    points = board.object_points()
    both = np.ones(len(points), bool)
    for camera, at in ((rig.visible, pose), (rig.thermal, thermal_pose(rig, pose))):
        px = project(camera, at, points)
        both &= (px > 4).all(axis=1) & (px < [camera.width - 5, camera.height - 5]).all(axis=1)
    return bool(both.sum() >= 0.5 * len(points) if board.identified else both.all())


def _noisy(still: SyntheticView, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    noise = rng.standard_normal(still.visible.shape, np.float32) * np.float32(NOISY.visible_noise)
    visible = np.clip(np.rint(still.visible + noise), 0, 255).astype(np.uint8)
    sigma = NOISY.thermal_contrast_counts / NOISY.thermal_snr
    thermal = still.thermal + rng.standard_normal(still.thermal.shape, np.float32) * np.float32(sigma)
    return visible, np.clip(np.rint(thermal), 0, 65535).astype(np.uint16)


def numbered_alike(view: BoardView, truth: SyntheticView, board: Board) -> bool:
    """Whether some one way to number the board, of those that look alike, fits what both cameras found (a wrong one
    moves all points but a few; a single point that is off is not a wrong number)."""
    assert view.found_visible is not None and view.found_thermal is not None  # the guide keeps no others
    worst = []
    for order in board.equivalent_orders(polarity_known=False):
        worst.append(max(
            float(np.median(np.linalg.norm(found.points_px - true[order][found.ids], axis=1)))
            for found, true in ((view.found_visible, truth.visible_points_px),
                                (view.found_thermal, truth.thermal_points_px))
        ))  # fmt: skip
    return min(worst) < 1.0
