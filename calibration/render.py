"""Renders boards as known cameras of both spectra see them: the truth that the calibration is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from calibration.board import Board
from calibration.rig import CameraIntrinsics, RigCalibration

__all__ = [
    "BoardPose",
    "RenderOptions",
    "SyntheticView",
    "random_poses",
    "render_board",
    "render_pair",
    "synthetic_rig",
]

SUPERSAMPLING = 2
TEXELS_PER_SPACING = 48
_MAX_TILT_DEG = 35.0
_RIM = 0.8  # width of the blank board around the pattern, in point spacings


@dataclass(frozen=True, slots=True, eq=False)
class BoardPose:
    """Board to visible camera: X_visible = R_visible_board @ X_board + t_visible_board_m."""

    R_visible_board: np.ndarray
    t_visible_board_m: np.ndarray


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """The faults of the pictures.

    Thermal signal-to-noise = contrast of the board / standard deviation of the noise.
    """

    thermal_snr: float = 10.0
    thermal_blur_px: float = 1.5
    thermal_inverted: bool = True  # ink is the warmer colour, as on real heated boards
    thermal_contrast_counts: float = 120.0
    thermal_gradient: float = 1.5  # uneven heating over the board, in units of the contrast
    visible_noise: float = 3.0
    visible_blur_px: float = 0.6
    visible_gradient: float = 0.35  # uneven light over the picture


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticView:
    """One rendered pair with the true positions of the board's points, all (N, 2) pixels."""

    name: str
    visible: np.ndarray  # (H, W, 3) uint8 RGB
    thermal: np.ndarray  # (Ht, Wt) uint16 counts
    visible_points_px: np.ndarray
    thermal_points_px: np.ndarray
    pose: BoardPose = field(repr=False)


def synthetic_rig(
    visible_size: tuple[int, int] = (480, 640),
    thermal_size: tuple[int, int] = (480, 640),
    *,
    visible_hfov_deg: float = 60.0,
    thermal_hfov_deg: float = 48.0,
    baseline_m: float = 0.06,
    working_distance_m: float = 3.0,
) -> RigCalibration:
    """A made-up rig with known geometry: two lenses with distortion, side by side, a few degrees off parallel."""

    def camera(
        identity: str, size: tuple[int, int], hfov_deg: float, distortion: tuple[float, ...]
    ) -> CameraIntrinsics:
        height, width = size
        focal = width / 2 / np.tan(np.radians(hfov_deg) / 2)
        return CameraIntrinsics(
            identity=identity,
            height=height,
            width=width,
            lens="synthetic",
            fx_px=float(focal),
            fy_px=float(focal * 1.003),
            cx_px=width / 2 - 4.3,
            cy_px=height / 2 + 3.1,
            distortion=distortion,
        )

    R, _ = cv2.Rodrigues(np.radians(np.array([0.7, -1.2, 0.9])))
    return RigCalibration(
        visible=camera("synthetic-visible", visible_size, visible_hfov_deg, (-0.12, 0.06, 0.0006, -0.0004, 0.0)),
        thermal=camera("synthetic-thermal", thermal_size, thermal_hfov_deg, (-0.22, 0.10, -0.0005, 0.0007, 0.0)),
        R_visible_thermal=R,
        t_visible_thermal_m=np.array([baseline_m, 0.08 * baseline_m, -0.05 * baseline_m]),
        rms_px=0.0,
        working_distance_m=working_distance_m,
    )


def random_poses(
    rig: RigCalibration,
    board: Board,
    count: int,
    seed: int = 0,
    distances: tuple[float, float] = (1.25, 2.6),
) -> list[BoardPose]:
    """Poses in which both cameras see the whole board, spread over the picture, tilted, at several distances.

    Args:
        distances: nearest and farthest, in those at which the board's longer side fills the visible picture's width.
    """
    rng = np.random.default_rng(seed)
    points = board.object_points()
    corners = _outline(board)
    centre = corners.mean(axis=0)
    poses: list[BoardPose] = []
    size_m = max(board.extent_m)
    for _ in range(count * 400):
        if len(poses) == count:
            break
        distance = size_m * rng.uniform(*distances) * rig.visible.fx_px / rig.visible.width
        u = rng.uniform(0.12, 0.88) * rig.visible.width
        v = rng.uniform(0.12, 0.88) * rig.visible.height
        ray = np.array([(u - rig.visible.cx_px) / rig.visible.fx_px, (v - rig.visible.cy_px) / rig.visible.fy_px, 1.0])
        tilt = np.radians(_MAX_TILT_DEG) * np.sqrt(rng.uniform(0.05, 1))
        around = rng.uniform(0, 2 * np.pi)
        R_tilt, _ = cv2.Rodrigues(np.array([np.cos(around), np.sin(around), 0.0]) * tilt)
        R_roll, _ = cv2.Rodrigues(np.array([0.0, 0.0, np.radians(rng.uniform(-20, 20))]))
        R = R_tilt @ R_roll
        pose = BoardPose(R, ray * distance - R @ centre)
        inside = all(
            np.all(projected > 6)
            and np.all(projected[:, 0] < camera.width - 7)
            and np.all(projected[:, 1] < camera.height - 7)
            for camera, projected in (
                (rig.visible, project(rig.visible, pose, corners)),
                (rig.thermal, project(rig.thermal, thermal_pose(rig, pose), corners)),
            )
        )
        if inside and len(points):
            poses.append(pose)
    return poses


def thermal_pose(rig: RigCalibration, pose: BoardPose) -> BoardPose:
    """Board to thermal camera, for this pose of the board."""
    R = rig.R_visible_thermal.T
    return BoardPose(R @ pose.R_visible_board, R @ (pose.t_visible_board_m - rig.t_visible_thermal_m))


def project(camera: CameraIntrinsics, pose: BoardPose, points_m: np.ndarray) -> np.ndarray:
    """(N, 3) board points to (N, 2) pixels of that camera."""
    rvec, _ = cv2.Rodrigues(pose.R_visible_board)
    pixels, _ = cv2.projectPoints(points_m, rvec, pose.t_visible_board_m, camera.matrix, np.asarray(camera.distortion))
    return np.asarray(pixels).reshape(-1, 2)


def render_board(camera: CameraIntrinsics, pose: BoardPose, board: Board) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pattern as that camera sees it, anti-aliased.

    Returns:
        pattern (H, W) float32 0 ink .. 1 paper; coverage (H, W) float32, 1 on the board; position (H, W) float32,
        place along the board's diagonal, 0..1, for uneven heating.
    """
    rays = _rays(camera)
    H = np.column_stack([pose.R_visible_board[:, 0], pose.R_visible_board[:, 1], pose.t_visible_board_m])
    board_xyw = rays @ np.linalg.inv(H).T.astype(np.float32)
    board_x = board_xyw[..., 0] / board_xyw[..., 2]
    board_y = board_xyw[..., 1] / board_xyw[..., 2]
    px_per_m = TEXELS_PER_SPACING / board.spacing_m
    texture = board.texture(px_per_m)
    px_per_m_y, px_per_m_x = texture.shape[0] / board.extent_m[0], texture.shape[1] / board.extent_m[1]
    pattern = cv2.remap(
        texture,
        board_x * np.float32(px_per_m_x) - np.float32(0.5),
        board_y * np.float32(px_per_m_y) - np.float32(0.5),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=1.0,
    )
    height_m, width_m = board.extent_m
    rim = _RIM * board.spacing_m
    coverage = (
        (board_x > -rim)
        & (board_x < width_m + rim)
        & (board_y > -rim)
        & (board_y < height_m + rim)
        & (board_xyw[..., 2] > 0)
    ).astype(np.float32)
    place = np.clip((board_x / width_m + board_y / height_m) / 2, -0.2, 1.2)
    size = (camera.width, camera.height)
    return tuple(cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in (pattern, coverage, place))  # type: ignore[return-value]


def render_pair(
    rig: RigCalibration,
    pose: BoardPose,
    board: Board,
    *,
    name: str = "",
    seed: int = 0,
    options: RenderOptions | None = None,
) -> SyntheticView:
    """Render one pose in both cameras, with noise, blur, uneven light and heat, clutter behind the board."""
    options = options or RenderOptions()
    rng = np.random.default_rng(seed)
    visible = _visible_picture(rig.visible, pose, board, options, rng)
    pose_thermal = thermal_pose(rig, pose)
    thermal = _thermal_picture(rig.thermal, pose_thermal, board, options, rng)
    points = board.object_points()
    return SyntheticView(
        name=name or f"{seed:03d}",
        visible=visible,
        thermal=thermal,
        visible_points_px=project(rig.visible, pose, points),
        thermal_points_px=project(rig.thermal, pose_thermal, points),
        pose=pose,
    )


def render_set(
    rig: RigCalibration, board: Board, count: int, seed: int = 0, options: RenderOptions | None = None
) -> Iterator[SyntheticView]:
    """`count` random poses, rendered one by one."""
    for index, pose in enumerate(random_poses(rig, board, count, seed)):
        yield render_pair(rig, pose, board, name=f"{index:03d}", seed=seed * 1000 + index, options=options)


def _visible_picture(
    camera: CameraIntrinsics, pose: BoardPose, board: Board, options: RenderOptions, rng: np.random.Generator
) -> np.ndarray:
    pattern, coverage, _ = render_board(camera, pose, board)
    background = _clutter(camera.height, camera.width, rng, 70.0, 190.0)
    grey = background * (1 - coverage) + (40.0 + 170.0 * pattern) * coverage
    y, x = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32)
    light = 1 - options.visible_gradient * (0.6 * x / camera.width + 0.4 * y / camera.height)
    grey = cv2.GaussianBlur(grey * light, (0, 0), max(options.visible_blur_px, 0.05))
    tint = np.array([1.0, 0.97, 0.9], np.float32)
    noise = rng.normal(0, options.visible_noise, (*grey.shape, 3))
    return np.asarray(np.clip(grey[..., None] * tint + noise, 0, 255), np.uint8)


def _thermal_picture(
    camera: CameraIntrinsics, pose: BoardPose, board: Board, options: RenderOptions, rng: np.random.Generator
) -> np.ndarray:
    pattern, coverage, place = render_board(camera, pose, board)
    contrast = options.thermal_contrast_counts
    warm = (1 - pattern) if options.thermal_inverted else pattern
    on_board = 9000.0 + contrast * (warm + options.thermal_gradient * place)
    background = _clutter(camera.height, camera.width, rng, 8600.0, 8900.0)
    counts = background * (1 - coverage) + on_board * coverage
    if options.thermal_blur_px > 0:
        counts = cv2.GaussianBlur(counts, (0, 0), options.thermal_blur_px)
    counts = counts + rng.normal(0, contrast / options.thermal_snr, counts.shape)
    return np.asarray(np.clip(np.rint(counts), 0, 65535), np.uint16)


def _clutter(height: int, width: int, rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Boxes and a gradient behind the board, so that the board is not the only thing in the picture."""
    picture = np.full((height, width), (low + high) / 2, np.float32)
    for _ in range(14):
        x0, y0 = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(10, width // 3)), int(rng.integers(10, height // 3))
        picture[y0 : y0 + h, x0 : x0 + w] = rng.uniform(low, high)
    return picture


def _outline(board: Board) -> np.ndarray:
    height_m, width_m = board.extent_m
    rim = 0.4 * board.spacing_m
    return np.array(
        [[-rim, -rim, 0], [width_m + rim, -rim, 0], [width_m + rim, height_m + rim, 0], [-rim, height_m + rim, 0]]
    )


@lru_cache(maxsize=4)
def _rays(camera: CameraIntrinsics) -> np.ndarray:
    """(s H, s W, 3) float32 undistorted rays (z = 1) of a supersampled pixel grid."""
    s = SUPERSAMPLING
    y, x = np.mgrid[0 : camera.height * s, 0 : camera.width * s].astype(np.float64)
    pixels = np.stack([(x + 0.5) / s - 0.5, (y + 0.5) / s - 0.5], axis=-1).reshape(-1, 1, 2)
    rays = camera.undistort(pixels.reshape(-1, 2))
    grid = np.ones((camera.height * s, camera.width * s, 3), np.float32)
    grid[..., :2] = rays.reshape(camera.height * s, camera.width * s, 2)
    grid.flags.writeable = False
    return grid
