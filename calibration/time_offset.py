"""Measures the time offset between the two cameras by how far a moving board lags behind in one picture.

While views are captured the board moves from place to place, and is found in both pictures on the way. Once the rig is
solved, the visible picture says where the thermal camera must see the board at each moment. The offset is the shift in
time at which it does. Unlike motion alone (`app.capture.offset_estimator`) this knows the parallax of near things.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from calibration.board import Board
from calibration.detect import Detection
from calibration.extrinsics import board_pose
from calibration.rig import RigCalibration
from fusion_core.errors import BadInputError
from fusion_core.files import read_bounded

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

__all__ = ["MOVEMENT_FILE", "BoardMovement", "TimeOffset", "estimate_time_offset", "timed"]

MOVEMENT_FILE = "movement.npz"
MAX_SIGHTINGS = 3000  # the newest; five minutes of ten a second
MAX_OFFSET_MS = 250.0
MAX_GAP_S = 0.6  # between two sightings; the way of the board through a longer one is not known
MIN_RUN = 4  # sightings without a longer gap
MIN_POINTS = 6
MIN_SIGHTINGS = 20
SURE_SIGMA_MS = 2.5
_STEP_MS = 10.0  # of the first search
_BLOCKS = 10  # of the jackknife
_ROUNDS = 12
_MOST_BYTES = 1 << 26  # of the sightings, packed and unpacked; an hour's take a tenth


@dataclass(frozen=True, slots=True, eq=False)
class _Sighting:
    visible_ns: int
    thermal_ns: int
    visible_ids: np.ndarray
    visible_px: np.ndarray
    thermal_ids: np.ndarray
    thermal_px: np.ndarray


@dataclass(frozen=True, slots=True)
class TimeOffset:
    """visible_minus_thermal_ms: stamp of the visible camera less that of the thermal one, for one moment.

    sigma_ms: how exactly it is known (1 sigma, resampled). sightings: how many were used. sure: whether it may be used;
    `why_not` says what was missing.
    """

    visible_minus_thermal_ms: float
    sigma_ms: float
    sightings: int
    sure: bool
    why_not: str = ""

    def words(self) -> str:
        """Say it in one line."""
        if not self.sure:
            return f"time offset not measured: {self.why_not}"
        late = "after" if self.visible_minus_thermal_ms > 0 else "before"
        return (
            f"time offset: visible is stamped {abs(self.visible_minus_thermal_ms):.1f} ms {late} thermal "
            f"(1 sigma {self.sigma_ms:.1f} ms, {self.sightings} sightings of the moving board)"
        )


class BoardMovement:
    """Where a board was seen by both cameras and when; the newest `MAX_SIGHTINGS`. Not thread-safe.

    Args:
        added_ms: what the capture has added to thermal stamps, less what it has added to visible ones. It is taken out
            of the offset.
    """

    def __init__(self, added_ms: float = 0.0) -> None:
        self.added_ms = added_ms
        self._sightings: deque[_Sighting] = deque(maxlen=MAX_SIGHTINGS)

    def __len__(self) -> int:
        return len(self._sightings)

    def __iter__(self) -> Iterator[_Sighting]:
        return iter(self._sightings)

    def add(self, visible_ns: int, visible: Detection | None, thermal_ns: int, thermal: Detection | None) -> None:
        """Add the next pair's stamps and what was found in it. Ignores a pair in which a board is missing."""
        if visible is None or thermal is None or min(len(visible.ids), len(thermal.ids)) < MIN_POINTS:
            return
        self._sightings.append(
            _Sighting(visible_ns, thermal_ns, visible.ids, visible.points_px, thermal.ids, thermal.points_px)
        )

    def save(self, path: Path) -> None:
        """Write all sightings. Raises BadInputError when the file cannot be written."""
        seen = list(self._sightings)
        try:
            np.savez_compressed(
                path,
                added_ms=np.array(self.added_ms),
                stamps_ns=np.array([(s.visible_ns, s.thermal_ns) for s in seen], np.int64).reshape(-1, 2),
                counts=np.array([(len(s.visible_ids), len(s.thermal_ids)) for s in seen], np.int64).reshape(-1, 2),
                visible_ids=_joined([s.visible_ids for s in seen], np.zeros(0, np.int64)),
                visible_px=_joined([s.visible_px for s in seen], np.zeros((0, 2))),
                thermal_ids=_joined([s.thermal_ids for s in seen], np.zeros(0, np.int64)),
                thermal_px=_joined([s.thermal_px for s in seen], np.zeros((0, 2))),
            )
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> BoardMovement:
        """Read what `save` has written; empty where there is no such file. Raises BadInputError."""
        movement = cls()
        if not path.is_file():
            return movement
        try:
            stream = io.BytesIO(read_bounded(path, _MOST_BYTES, "NumPy archive"))
            _check_sizes(stream)
            with np.load(stream, allow_pickle=False) as held:
                values = {name: held[name] for name in held.files}
            movement.added_ms = float(values["added_ms"])
            ends = np.cumsum(values["counts"].reshape(-1, 2), axis=0)
            for (visible_ns, thermal_ns), (v, t), (end_v, end_t) in zip(
                values["stamps_ns"].reshape(-1, 2), values["counts"].reshape(-1, 2), ends, strict=True
            ):
                of_visible, of_thermal = slice(end_v - v, end_v), slice(end_t - t, end_t)
                movement._sightings.append(
                    _Sighting(
                        int(visible_ns),
                        int(thermal_ns),
                        values["visible_ids"][of_visible],
                        values["visible_px"][of_visible].reshape(-1, 2),
                        values["thermal_ids"][of_thermal],
                        values["thermal_px"][of_thermal].reshape(-1, 2),
                    )
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise BadInputError(
                f"{path} is not understood ({error}); delete it, the views beside it suffice"
            ) from error
        return movement


def estimate_time_offset(rig: RigCalibration, board: Board, movement: BoardMovement) -> TimeOffset:
    """Find the offset at which the thermal camera saw the moving board where the visible one says it was.

    The rig gives the board's path in the thermal picture from that in the visible one; cubic splines join it. The shift
    of the thermal stamps along it that leaves the least is searched to +-250 ms, then fitted robustly (Huber).
    """
    runs = _runs(rig, board.object_points(), movement)
    count = sum(len(run.thermal_s) for run in runs)
    if count < MIN_SIGHTINGS:
        return _unsure(count, "the board was not seen on its way often enough; carry it slowly")
    coarse_ms = np.arange(-MAX_OFFSET_MS, MAX_OFFSET_MS + _STEP_MS / 2, _STEP_MS)
    costs = np.array([_cost(runs, offset_ms / 1e3) for offset_ms in coarse_ms])
    best = int(np.argmin(costs))
    if not np.isfinite(costs[best]):
        return _unsure(count, "the board was not followed for long enough at a time")
    if best in (0, len(coarse_ms) - 1):
        return _unsure(count, f"the offset is beyond {MAX_OFFSET_MS:g} ms")
    every = np.ones(count, bool)
    whole_s = _fitted(runs, coarse_ms[best] / 1e3, every)
    left_out = []
    for block in np.array_split(np.arange(count), _BLOCKS):
        rest = every.copy()
        rest[block] = False
        left_out.append(_fitted(runs, whole_s, rest))
    sigma_ms = 1e3 * float(np.sqrt((_BLOCKS - 1) * np.var(left_out)))
    if not np.isfinite(whole_s) or not np.isfinite(sigma_ms):
        return _unsure(count, "the board hardly moved; carry it from place to place")
    why_not = ""
    if sigma_ms > SURE_SIGMA_MS:
        why_not = f"known to {sigma_ms:.1f} ms only; carry the board on, slowly enough to be found on its way"
    elif abs(whole_s) * 1e3 > MAX_OFFSET_MS:
        why_not = f"the offset is beyond {MAX_OFFSET_MS:g} ms"
    return TimeOffset(float(whole_s) * 1e3 + movement.added_ms, sigma_ms, count, not why_not, why_not)


def _unsure(count: int, why_not: str) -> TimeOffset:
    return TimeOffset(0.0, np.inf, count, False, why_not)


def timed(rig: RigCalibration, board: Board, movement: BoardMovement) -> tuple[RigCalibration, TimeOffset | None]:
    """Give the rig the offset where that is sure. Also returns the offset, None without any movement."""
    if not len(movement):
        return rig, None
    offset = estimate_time_offset(rig, board, movement)
    if offset.sure:
        rig = replace(rig, visible_minus_thermal_ms=round(offset.visible_minus_thermal_ms, 2))
    return rig, offset


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """K sightings without a long gap, of a board of N points.

    path: s -> (N, 2) thermal px, where the visible camera says that they must be; speed: its derivative. thermal_s:
    (K,) stamps. share: (K, N), of each point in the mean of those that thermal has found, which is mean_px (K, 2).
    """

    start_s: float
    end_s: float
    path: CubicSpline
    speed: CubicSpline
    thermal_s: np.ndarray
    share: np.ndarray
    mean_px: np.ndarray


def _runs(rig: RigCalibration, object_points: np.ndarray, movement: BoardMovement) -> list[_Run]:
    from scipy.interpolate import CubicSpline  # the command line starts without it

    visible_s: list[float] = []
    expected_px: list[np.ndarray] = []
    seen: list[tuple[float, np.ndarray, np.ndarray]] = []
    zero_ns: int | None = None
    for sighting in movement:
        zero_ns = sighting.visible_ns if zero_ns is None else zero_ns
        at_s = (sighting.visible_ns - zero_ns) / 1e9
        if visible_s and at_s <= visible_s[-1]:
            continue  # a visible picture that came before, or a clock that was set back
        try:
            R, t = board_pose(rig.visible, object_points[sighting.visible_ids], sighting.visible_px)
        except (BadInputError, cv2.error):
            continue
        X_thermal = (object_points @ R.T + t - rig.t_visible_thermal_m) @ rig.R_visible_thermal
        visible_s.append(at_s)
        expected_px.append(rig.thermal.project(X_thermal))
        share = np.zeros(len(object_points))
        share[sighting.thermal_ids] = 1 / len(sighting.thermal_ids)
        seen.append(((sighting.thermal_ns - zero_ns) / 1e9, share, sighting.thermal_px.mean(axis=0)))
    runs = []
    times = np.array(visible_s)
    for part in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > MAX_GAP_S) + 1):
        if len(part) < MIN_RUN:
            continue
        path = CubicSpline(times[part], np.stack([expected_px[index] for index in part]))
        thermal_s, shares, means = (np.array([seen[index][field] for index in part]) for field in range(3))
        runs.append(_Run(times[part[0]], times[part[-1]], path, path.derivative(), thermal_s, shares, means))
    return runs


def _residuals(runs: list[_Run], offset_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all sightings: (K, 2) seen less expected, px; (K, 2) speed of what is expected, px/s; (K,) bool, inside."""
    off, speed, inside = [], [], []
    for run in runs:
        at_s = run.thermal_s + offset_s
        expected, moving = (np.einsum("kn,knc->kc", run.share, curve(at_s)) for curve in (run.path, run.speed))
        off.append(run.mean_px - expected)
        speed.append(moving)
        inside.append((at_s >= run.start_s) & (at_s <= run.end_s))
    return np.concatenate(off), np.concatenate(speed), np.concatenate(inside)


def _cost(runs: list[_Run], offset_s: float) -> float:
    off, _, inside = _residuals(runs, offset_s)
    if inside.sum() < max(0.5 * len(inside), MIN_SIGHTINGS / 2):
        return np.inf
    return float(np.minimum(np.linalg.norm(off[inside], axis=1), 50.0).mean())


def _fitted(runs: list[_Run], start_s: float, used: np.ndarray) -> float:
    """Gauss-Newton with Huber weights over the `used` (K,) sightings; nan where nothing moves."""
    offset_s = start_s
    for _ in range(_ROUNDS):
        off, speed, inside = _residuals(runs, offset_s)
        off, speed = off[inside & used], speed[inside & used]
        if not len(off):
            return np.nan
        length = np.linalg.norm(off, axis=1)
        scale = max(1.5 * float(np.median(length)), 1e-3)
        weight = np.minimum(1.0, scale / np.maximum(length, 1e-9))
        power = float((weight * (speed**2).sum(axis=1)).sum())
        if power < 1.0:
            return np.nan
        step_s = float((weight * (off * speed).sum(axis=1)).sum()) / power
        offset_s += float(np.clip(step_s, -0.03, 0.03))
        if abs(step_s) < 1e-6:
            break
    return offset_s


def _joined(parts: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.concatenate(parts) if parts else empty


def _check_sizes(stream: io.BytesIO) -> None:
    """Refuse an archive whose arrays would take more than they are in the file. Raises ValueError."""
    with zipfile.ZipFile(stream) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
        if total > _MOST_BYTES:
            raise ValueError(f"its arrays take {total} bytes, at most {_MOST_BYTES} are read")
        for entry in archive.infolist():
            with archive.open(entry) as part:
                version = np.lib.format.read_magic(part)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(part)
            wanted = math.prod(int(side) for side in shape) * dtype.itemsize
            if wanted > entry.file_size:
                raise ValueError(f"{entry.filename} says that it takes {wanted} bytes and has {entry.file_size}")
    stream.seek(0)
