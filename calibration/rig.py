"""Holds the rig's geometry, and reads and writes its file.

`RigCalibration` is the full stereo geometry and serves any distance. `PlaneCalibration` is one homography, right at one
distance, for rigs without a board. Both answer `thermal_from_visible`: where does the thermal camera see what the
visible camera sees at this pixel? `correction_visible` is a homography in visible pixels that refinement in the field
has added: p_visible = correction_visible @ p_aligned.

Pixel coordinates are OpenCV's: the centre of the first pixel is (0, 0). Transforms are target first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cv2
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fusion_core.errors import BadInputError, ConfigError
from fusion_core.files import write_atomic
from fusion_core.redaction import redact_address
from fusion_core.yaml_config import read_yaml

if TYPE_CHECKING:
    from calibration.board import Board

__all__ = [
    "BentBoard",
    "Calibration",
    "CameraIntrinsics",
    "CameraSide",
    "PlaneCalibration",
    "Region",
    "RigCalibration",
    "load_calibration",
    "plain_scaling",
    "save_calibration",
]

SCHEMA_VERSION = 1


_REGION_END = 1.5  # half axes at which a region has faded
_REGION_ROUNDS = 12  # of undoing it: a steepness of 0.7 leaves 1 % of the first error


@dataclass(frozen=True, slots=True)
class CameraSide:
    """Which camera, at which size, with which lens."""

    identity: str
    height: int
    width: int
    lens: str = ""


@dataclass(frozen=True, slots=True)
class CameraIntrinsics(CameraSide):
    """A pinhole camera with OpenCV's distortion (k1, k2, p1, p2, k3), all for `height` x `width` pixels."""

    fx_px: float = 1.0
    fy_px: float = 1.0
    cx_px: float = 0.0
    cy_px: float = 0.0
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64 camera matrix K."""
        return np.array([[self.fx_px, 0, self.cx_px], [0, self.fy_px, self.cy_px], [0, 0, 1]], np.float64)

    @property
    def hfov_deg(self) -> float:
        """Horizontal field of view, degrees."""
        return float(np.degrees(2 * np.arctan(self.width / 2 / self.fx_px)))

    def undistort(self, points_px: np.ndarray) -> np.ndarray:
        """(N, 2) pixels to (N, 2) ray slopes x/z, y/z, iterated to convergence."""
        points = np.ascontiguousarray(points_px, np.float64).reshape(-1, 1, 2)
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-10)
        rays = cv2.undistortPoints(points, self.matrix, np.asarray(self.distortion, np.float64), criteria=criteria)
        return np.asarray(rays).reshape(-1, 2)

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """(N, 3) points in this camera's coordinates to (N, 2) pixels."""
        pixels, _ = cv2.projectPoints(
            np.ascontiguousarray(points_m, np.float64).reshape(-1, 1, 3),
            np.zeros(3),
            np.zeros(3),
            self.matrix,
            np.asarray(self.distortion, np.float64),
        )
        return np.asarray(pixels).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class BentBoard:
    """The board that a rig was solved from, and by how much of each of `bend_terms` it lies off its plane, metres."""

    board: str  # as `Board.describe` says it
    bend_m: tuple[float, float, float]

    @classmethod
    def of(cls, board: Board) -> BentBoard | None:
        """What is to be kept of a board; None for a flat one."""
        return cls(board.describe(), board.bend_m) if any(board.bend_m) else None

    def known_of(self, board: Board) -> Board:
        """The board, bent as it was found; as it is where it is another one."""
        return board.bent(self.bend_m) if board.describe() == self.board else board


@dataclass(frozen=True, slots=True, eq=False)
class RigCalibration:
    """Full geometry: X_visible = R_visible_thermal @ X_thermal + t_visible_thermal_m."""

    visible: CameraIntrinsics
    thermal: CameraIntrinsics
    R_visible_thermal: np.ndarray  # (3, 3)
    t_visible_thermal_m: np.ndarray  # (3,)
    rms_px: float
    working_distance_m: float
    correction_visible: np.ndarray = field(default_factory=lambda: np.eye(3))
    region: Region | None = None  # where a finer map holds; None: one map everywhere
    bent_board: BentBoard | None = None  # None: it was flat
    visible_minus_thermal_ms: float | None = None  # of the stamps of one moment; None: not measured
    created: str = ""
    report_sha256: str = ""
    verdict: str = "unchecked"

    @property
    def baseline_m(self) -> float:
        """Distance of the two cameras across the line of sight, metres: what parallax comes from."""
        return float(np.hypot(self.t_visible_thermal_m[0], self.t_visible_thermal_m[1]))

    def thermal_from_visible(self, points_px: np.ndarray, distance_m: float | None = None) -> np.ndarray:
        """Where the thermal camera sees what lies behind visible pixels.

        Args:
            points_px: (N, 2) visible pixels.
            distance_m: depth z of the scene from the visible camera; default `working_distance_m`.

        Returns:
            (N, 2) thermal pixels, lens distortion of both cameras included.
        """
        distance = self.working_distance_m if distance_m is None else distance_m
        aligned = apply_homography(np.linalg.inv(self.correction_visible), points_px)
        if self.region is not None:
            aligned = self.region.undone(aligned)
        rays = self.visible.undistort(aligned)
        X_visible = np.column_stack([rays, np.ones(len(rays))]) * distance
        X_thermal = (X_visible - self.t_visible_thermal_m) @ self.R_visible_thermal
        return self.thermal.project(X_thermal)

    def visible_from_thermal(self, points_px: np.ndarray, distance_m: float | None = None) -> np.ndarray:
        """(N, 2) thermal pixels to visible pixels, for a plane at depth z `distance_m` from the visible camera."""
        distance = self.working_distance_m if distance_m is None else distance_m
        rays = np.column_stack([self.thermal.undistort(points_px), np.ones(len(points_px))])
        directions = rays @ self.R_visible_thermal.T
        scale = (distance - self.t_visible_thermal_m[2]) / directions[:, 2]
        X_visible = directions * scale[:, None] + self.t_visible_thermal_m
        aligned = self.visible.project(X_visible)
        return apply_homography(self.correction_visible, aligned if self.region is None else self.region.done(aligned))

    def parallax_px(self, distance_m: float) -> float:
        """How far off a thing at `distance_m` is, visible pixels: d(Z) = f B |1/Z - 1/Z0|."""
        return self.visible.fx_px * self.baseline_m * abs(1 / distance_m - 1 / self.working_distance_m)

    def with_correction(self, correction_visible: np.ndarray) -> RigCalibration:
        """A copy with another correction."""
        return replace(self, correction_visible=np.array(correction_visible, np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A finer map that holds in a part of the picture only: an ellipse of the visible picture, before any correction.

    Inside it `map` (3, 3) applies on top of what holds everywhere; it falls off smoothly to nothing at 1.5 half axes.
    """

    map: np.ndarray  # visible pixels to visible pixels: p_right = map @ p_aligned
    centre_px: tuple[float, float]
    half_px: tuple[float, float]
    kind: str = "affine"

    def weight(self, points_px: np.ndarray) -> np.ndarray:
        """(N,) 0..1: how far the finer map counts at these visible pixels (N, 2)."""
        out = np.linalg.norm((points_px - np.array(self.centre_px)) / np.array(self.half_px), axis=-1)
        fade = np.clip((_REGION_END - out) / (_REGION_END - 1), 0.0, 1.0)
        return np.asarray(fade * fade * (3 - 2 * fade))

    def undone(self, points_px: np.ndarray) -> np.ndarray:
        """(N, 2) right places to those that the map that holds everywhere would give."""
        back = apply_homography(np.linalg.inv(self.map), points_px)
        return np.asarray(points_px + self.weight(points_px)[:, None] * (back - points_px))

    def done(self, points_px: np.ndarray) -> np.ndarray:
        """(N, 2) places by the map that holds everywhere to the right ones; undoes `undone`."""
        right = np.array(points_px, np.float64)
        for _ in range(_REGION_ROUNDS):
            right += points_px - self.undone(right)
        return right

    @property
    def steepness(self) -> float:
        """Pixels that the finer map moves the ellipse's rim, for each pixel of the way out to where it ends, at the
        steepest place. From 1 on the picture would fold."""
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        rim = self.centre_px + 1.25 * np.stack([np.cos(turn), np.sin(turn)], axis=-1) * self.half_px
        moved = np.linalg.norm(apply_homography(np.linalg.inv(self.map), rim) - rim, axis=1)
        return float(moved.max() * 1.5 / ((_REGION_END - 1) * min(self.half_px)))

    def share(self, size: tuple[int, int]) -> float:
        """Share of the picture of (height, width) that lies inside the ellipse."""
        y, x = np.mgrid[0 : size[0] - 1 : 48j, 0 : size[1] - 1 : 64j]
        inside = self.weight(np.stack([x.ravel(), y.ravel()], axis=-1)) >= 1
        return float(np.mean(inside))


@dataclass(frozen=True, slots=True, eq=False)
class PlaneCalibration:
    """One homography from thermal to visible pixels; right for one distance.

    thermal_lens: how the thermal lens bends the picture, against the visible one; see `straightened`. 0: not at all.
    """

    visible: CameraSide
    thermal: CameraSide
    H_visible_thermal: np.ndarray  # (3, 3), from thermal pixels of a lens that bends nothing
    rms_px: float
    working_distance_m: float = 0.0  # 0: not known
    thermal_lens: float = 0.0
    correction_visible: np.ndarray = field(default_factory=lambda: np.eye(3))
    region: Region | None = None
    visible_minus_thermal_ms: float | None = None
    created: str = ""
    report_sha256: str = ""
    verdict: str = "unchecked"

    def thermal_from_visible(self, points_px: np.ndarray, distance_m: float | None = None) -> np.ndarray:
        """(N, 2) visible to thermal pixels. `distance_m` other than the working distance cannot be served.

        Raises:
            BadInputError: a distance was asked for.
        """
        if distance_m is not None and distance_m != self.working_distance_m:
            raise BadInputError(
                f"this calibration holds one homography and cannot be moved to {distance_m} m. "
                "A board calibration can: lumitherm calibrate solve."
            )
        if self.region is None:
            straight = apply_homography(np.linalg.inv(self.correction_visible @ self.H_visible_thermal), points_px)
        else:
            aligned = self.region.undone(apply_homography(np.linalg.inv(self.correction_visible), points_px))
            straight = apply_homography(np.linalg.inv(self.H_visible_thermal), aligned)
        return bent(straight, self.thermal_lens, (self.thermal.height, self.thermal.width))

    def visible_from_thermal(self, points_px: np.ndarray, distance_m: float | None = None) -> np.ndarray:
        """(N, 2) thermal to visible pixels."""
        del distance_m
        straight = straightened(points_px, self.thermal_lens, (self.thermal.height, self.thermal.width))
        if self.region is None:
            return apply_homography(self.correction_visible @ self.H_visible_thermal, straight)
        aligned = self.region.done(apply_homography(self.H_visible_thermal, straight))
        return apply_homography(self.correction_visible, aligned)

    def with_correction(self, correction_visible: np.ndarray) -> PlaneCalibration:
        """A copy with another correction."""
        return replace(self, correction_visible=np.array(correction_visible, np.float64))


Calibration = RigCalibration | PlaneCalibration


def apply_homography(H: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """(3, 3) homography on (N, 2) points."""
    points = np.asarray(points_px, np.float64).reshape(-1, 2)
    mapped = np.column_stack([points, np.ones(len(points))]) @ np.asarray(H).T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def straightened(points_px: np.ndarray, lens: float, size: tuple[int, int]) -> np.ndarray:
    """(N, 2) pixels to those of a lens without distortion.

    Args:
        lens: division model over the half diagonal, about the picture's middle; < 0: barrel.
        size: (height, width) of the picture.
    """
    if not lens:
        return np.asarray(points_px, np.float64)
    middle, half_px = _lens_frame(size)
    p = (points_px - middle) / half_px
    return np.asarray(middle + half_px * p / (1 + lens * (p**2).sum(axis=-1, keepdims=True)))


def bent(straight_px: np.ndarray, lens: float, size: tuple[int, int]) -> np.ndarray:
    """(N, 2) pixels of a lens without distortion to those of this one; undoes `straightened`."""
    if not lens:
        return np.asarray(straight_px, np.float64)
    middle, half_px = _lens_frame(size)
    p = (straight_px - middle) / half_px
    root = np.sqrt(np.maximum(1 - 4 * lens * (p**2).sum(axis=-1, keepdims=True), 0.0))
    return np.asarray(middle + half_px * p * 2 / (1 + root))


def _lens_frame(size: tuple[int, int]) -> tuple[np.ndarray, float]:
    return np.array([size[1] - 1, size[0] - 1]) / 2, float(np.hypot(*size)) / 2


def plain_scaling(visible_size: tuple[int, int], thermal_size: tuple[int, int]) -> PlaneCalibration:
    """The alignment of a rig that was never calibrated: thermal scaled onto the visible picture. (height, width)."""
    sy, sx = visible_size[0] / thermal_size[0], visible_size[1] / thermal_size[1]
    H = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1.0]])
    return PlaneCalibration(CameraSide("", *visible_size), CameraSide("", *thermal_size), H, 0.0)


def check_cameras(
    calibration: Calibration,
    *,
    visible_size: tuple[int, int],
    thermal_size: tuple[int, int],
    visible_identity: str | None = None,
    thermal_identity: str | None = None,
) -> None:
    """Refuse cameras that this calibration does not belong to. Sizes are (height, width); identity None: not asked.

    Raises:
        BadInputError: a size or an identity differs.
    """
    for name, side, size in (
        ("visible", calibration.visible, visible_size),
        ("thermal", calibration.thermal, thermal_size),
    ):
        if tuple(size) != (side.height, side.width):
            raise BadInputError(
                f"the {name} camera gives {size[1]}x{size[0]}, the calibration was made for "
                f"{side.width}x{side.height}. "
                "Set the camera to that size, or calibrate again (lumitherm calibrate capture)."
            )
    check_identities(calibration, visible_identity, thermal_identity)


def check_identities(calibration: Calibration, visible: str | None, thermal: str | None) -> None:
    """Refuse cameras that this calibration does not belong to; None or empty: not known, not asked.

    Raises:
        BadInputError: another camera.
    """
    for name, side, identity in (("visible", calibration.visible, visible), ("thermal", calibration.thermal, thermal)):
        if identity and side.identity and redact_address(identity) != redact_address(side.identity):
            raise BadInputError(
                f"the {name} camera is {identity!r}, the calibration belongs to {redact_address(side.identity)!r}. "
                "Load the calibration of this rig, or calibrate again (lumitherm calibrate capture)."
            )


# --- the file ---------------------------------------------------------------------------------------------------

MOST_SIDE_PX = 16_384
_FAR = 1e9  # no length, pixel or factor of a rig is larger; what is would overflow in the first product
_Number = Annotated[float, Field(ge=-_FAR, le=_FAR)]
_Half = Annotated[float, Field(ge=8, le=_FAR)]
_Row3 = tuple[_Number, _Number, _Number]
_Matrix3 = tuple[_Row3, _Row3, _Row3]
_IDENTITY: _Matrix3 = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _SideFile(_Strict):
    identity: str
    height: int = Field(gt=0, le=MOST_SIDE_PX)
    width: int = Field(gt=0, le=MOST_SIDE_PX)
    lens: str = ""


class _CameraFile(_SideFile):
    fx_px: float = Field(gt=0, le=_FAR)
    fy_px: float = Field(gt=0, le=_FAR)
    cx_px: _Number
    cy_px: _Number
    distortion: tuple[_Number, _Number, _Number, _Number, _Number]


class _BentBoardFile(_Strict):
    board: str = Field(max_length=200)
    bend_m: _Row3


class _RegionFile(_Strict):
    kind: Literal["shift", "affine", "homography"]
    map: _Matrix3
    centre_px: tuple[_Number, _Number]
    half_px: tuple[_Half, _Half]


class _CommonFile(_Strict):
    schema_version: Literal[1]
    created: str
    rms_px: float = Field(ge=0, le=_FAR)
    working_distance_m: float = Field(ge=0, le=_FAR)
    correction_visible: _Matrix3 = _IDENTITY
    region: _RegionFile | None = None
    visible_minus_thermal_ms: _Number | None = None
    report_sha256: str = ""
    verdict: str = "unchecked"


class _StereoFile(_CommonFile):
    kind: Literal["stereo"]
    visible: _CameraFile
    thermal: _CameraFile
    R_visible_thermal: _Matrix3
    t_visible_thermal_m: _Row3
    bent_board: _BentBoardFile | None = None


class _PlaneFile(_CommonFile):
    kind: Literal["plane"]
    visible: _SideFile
    thermal: _SideFile
    H_visible_thermal: _Matrix3
    thermal_lens: float = Field(default=0.0, gt=-1, lt=0.25)


_FILE: TypeAdapter[_StereoFile | _PlaneFile] = TypeAdapter(
    Annotated[_StereoFile | _PlaneFile, Field(discriminator="kind")]
)


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write the calibration as YAML, through a temporary file, so that a reader never sees half of it."""
    common = {
        "schema_version": SCHEMA_VERSION,
        "kind": "stereo" if isinstance(calibration, RigCalibration) else "plane",
        "created": calibration.created or datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": calibration.verdict,
        "report_sha256": calibration.report_sha256,
        "rms_px": float(calibration.rms_px),
        "working_distance_m": float(calibration.working_distance_m),
        "visible_minus_thermal_ms": calibration.visible_minus_thermal_ms,
    }
    body: dict[str, object]
    if isinstance(calibration, RigCalibration):
        body = {
            "visible": _camera_dict(calibration.visible),
            "thermal": _camera_dict(calibration.thermal),
            "R_visible_thermal": calibration.R_visible_thermal.tolist(),
            "t_visible_thermal_m": calibration.t_visible_thermal_m.tolist(),
        }
        bent_board = calibration.bent_board
        if bent_board is not None:  # left out where it says nothing: older programs read the file
            body["bent_board"] = {"board": bent_board.board, "bend_m": [float(m) for m in bent_board.bend_m]}
    else:
        body = {
            "visible": _side_dict(calibration.visible),
            "thermal": _side_dict(calibration.thermal),
            "H_visible_thermal": calibration.H_visible_thermal.tolist(),
        }
        if calibration.thermal_lens:  # likewise
            body["thermal_lens"] = float(calibration.thermal_lens)
    body["correction_visible"] = calibration.correction_visible.tolist()
    region = calibration.region
    if region is not None:  # likewise left out
        body["region"] = {
            "kind": region.kind,
            "map": region.map.tolist(),
            "centre_px": [float(value) for value in region.centre_px],
            "half_px": [float(value) for value in region.half_px],
        }
    text = (
        "# Lumitherm rig calibration. p_target = T_target_source @ p_source; lengths in metres, positions in pixels.\n"
        + yaml.safe_dump({**common, **body}, sort_keys=False, default_flow_style=None, width=120)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        ConfigError: missing, not YAML, of another schema version, or with impossible content.
    """
    try:
        data = read_yaml(path)
    except ConfigError as error:
        raise ConfigError(f"calibration file cannot be read: {error}") from error
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        got = "no schema_version" if version is None else f"schema_version {str(version)[:40]!r}"
        raise ConfigError(
            f"{path} has {got}, this program reads {SCHEMA_VERSION}. "
            "Was it written by lumitherm calibrate? A newer file needs a newer program."
        )
    try:
        content = _FILE.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}. Make it anew with lumitherm calibrate solve.") from error
    correction = np.array(content.correction_visible)
    if abs(np.linalg.det(correction)) < 1e-9:
        raise ConfigError(f"{path}: correction_visible is singular, must be a homography near the identity.")
    common = {
        "rms_px": content.rms_px,
        "working_distance_m": content.working_distance_m,
        "correction_visible": correction,
        "region": _region(content.region, path),
        "visible_minus_thermal_ms": content.visible_minus_thermal_ms,
        "created": content.created,
        "report_sha256": content.report_sha256,
        "verdict": content.verdict,
    }
    if isinstance(content, _PlaneFile):
        H = np.array(content.H_visible_thermal)
        if abs(np.linalg.det(H)) < 1e-12:
            raise ConfigError(f"{path}: H_visible_thermal is singular, must be invertible.")
        return PlaneCalibration(
            visible=CameraSide(**content.visible.model_dump()),
            thermal=CameraSide(**content.thermal.model_dump()),
            H_visible_thermal=H,
            thermal_lens=content.thermal_lens,
            **common,  # type: ignore[arg-type]
        )
    R = np.array(content.R_visible_thermal)
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-4) or np.linalg.det(R) < 0:
        raise ConfigError(f"{path}: R_visible_thermal is not a rotation (R R^T must be the identity, det +1).")
    if content.working_distance_m <= 0:
        raise ConfigError(f"{path}: working_distance_m is {content.working_distance_m}, must be above 0.")
    return RigCalibration(
        visible=CameraIntrinsics(**content.visible.model_dump()),
        thermal=CameraIntrinsics(**content.thermal.model_dump()),
        R_visible_thermal=R,
        t_visible_thermal_m=np.array(content.t_visible_thermal_m),
        bent_board=BentBoard(**content.bent_board.model_dump()) if content.bent_board is not None else None,
        **common,  # type: ignore[arg-type]
    )


def _region(content: _RegionFile | None, path: Path) -> Region | None:
    if content is None:
        return None
    matrix = np.array(content.map)
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise ConfigError(f"{path}: region.map is singular, must be a map near the identity.")
    region = Region(matrix, content.centre_px, content.half_px, content.kind)
    if not region.steepness < 1:
        raise ConfigError(f"{path}: region.map moves the region's rim so far that the picture would fold there.")
    return region


def file_sha256(path: Path) -> str:
    """Hash of a file, hexadecimal; ties a report to its calibration."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _side_dict(side: CameraSide) -> dict[str, object]:
    return {"identity": side.identity, "height": side.height, "width": side.width, "lens": side.lens}


def _camera_dict(camera: CameraIntrinsics) -> dict[str, object]:
    return {
        **_side_dict(camera),
        "fx_px": float(camera.fx_px),
        "fy_px": float(camera.fy_px),
        "cx_px": float(camera.cx_px),
        "cy_px": float(camera.cy_px),
        "distortion": [float(k) for k in camera.distortion],
    }
