"""Finds how thermal lies on visible when nothing is known: scale, turn and shift over the whole range.

The outlines of both pictures are correlated for every pair of a scale and a turn, at every shift at once (by Fourier
transform), and summed over pictures. It works on small pictures, so the answer is right to some per cent of the
picture: a start for `calibration.targetless`, and enough to say that a pair does not fit.

What counts is the correlation over the overlap, times the root of the overlap's size: chance gives small overlaps
higher correlations. An answer is sure when it stands out from the best answer elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from calibration.rig import Calibration, CameraSide, PlaneCalibration, apply_homography
from fusion_core.cross_spectral import OutlineForm, box_mean, oriented_outlines
from fusion_core.errors import BadInputError

__all__ = ["CoarseFit", "find_similarity", "pick_evenly", "thermal_grid_points"]

Plane = npt.NDArray[np.float32]

_WORKING_PX: Final = 112  # width of the narrower field while searching
_SCALES: Final = tuple(np.exp(0.06 * np.arange(-18, 15)))  # thermal's field over the visible one, across
_TURNS_DEG: Final = tuple(np.arange(-12.0, 12.1, 3.0))
_CLIMB: Final = ((0.03, 1.5), (0.015, 0.75), (0.008, 0.4))  # log scale and degrees around the best of the grid
_LEAST_OVERLAP: Final = 0.5  # of the smaller field
_LEAST_SCORE: Final = 16.0  # pictures of other places reached 29, but never stood out
_LEAST_LEAD: Final = 1.18  # over the best answer elsewhere: pictures of other places gave 1.17, true pairs 1.20 up
_ELSEWHERE: Final = 0.12  # of thermal's width on the visible grid
_BORDER_PX: Final = 3
_OUTLINES: Final = OutlineForm(
    smoothing_px=0.8, kernel="sobel", local_mean=box_mean(15), level="rms", level_floor=1e-3, level_floor_share=0.15,
    ceiling=2.5,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class CoarseFit:
    """A similarity from thermal to visible pixels.

    scale: thermal's field over the visible one, across. turn_deg: clockwise. score: see the module. rival: the best
    score of an answer elsewhere. sizes: (height, width) of visible and of thermal pictures.
    """

    H_visible_thermal: np.ndarray  # (3, 3)
    scale: float
    turn_deg: float
    score: float
    rival: float
    sizes: tuple[tuple[int, int], tuple[int, int]]

    @property
    def sure(self) -> bool:
        """Whether it stands out, and lies inside what was searched: the best at its end may be better beyond."""
        inside = abs((self.turn_deg + 90) % 180 - 90) <= max(_TURNS_DEG) and _SCALES[0] < self.scale < _SCALES[-1]
        return inside and self.score >= _LEAST_SCORE and self.score >= _LEAST_LEAD * self.rival

    @property
    def half_turn(self) -> np.ndarray:
        """(3, 3): thermal pixels to those of a thermal picture that is turned by half."""
        height, width = self.sizes[1]
        return np.array([[-1, 0, width - 1], [0, -1, height - 1], [0, 0, 1.0]])

    @property
    def upside_down(self) -> CoarseFit:
        """The same of the thermal pictures as they came, where it was found of pictures turned by half."""
        return replace(self, H_visible_thermal=self.H_visible_thermal @ self.half_turn, turn_deg=self.turn_deg + 180)

    @property
    def calibration(self) -> PlaneCalibration:
        """As a calibration to start from."""
        visible, thermal = self.sizes
        return PlaneCalibration(CameraSide("", *visible), CameraSide("", *thermal), self.H_visible_thermal, 0.0)

    def off_px(self, calibration: Calibration) -> float:
        """How far the calibration in use lies from this, median over thermal's picture, visible pixels."""
        points = thermal_grid_points(self.sizes[1])
        apart = calibration.visible_from_thermal(points) - apply_homography(self.H_visible_thermal, points)
        return float(np.median(np.linalg.norm(apart, axis=1)))

    def words(self) -> str:
        """What was found, for the user."""
        x, y = apply_homography(self.H_visible_thermal, (np.array([self.sizes[1][::-1]]) - 1) / 2)[0]
        middle = (np.array(self.sizes[0][::-1]) - 1) / 2
        return (
            f"thermal's field is {self.scale:.2f} times as wide as the visible one, turned by {self.turn_deg:+.1f} "
            f"degrees, its middle at x {x - middle[0]:+.0f}, y {y - middle[1]:+.0f} px of the visible middle"
        )


def thermal_grid_points(size: tuple[int, int]) -> np.ndarray:
    """(63, 2) pixels spread over the inner nine tenths of a picture of (height, width)."""
    y, x = np.mgrid[0.05:0.95:7j, 0.05:0.95:9j]
    return np.stack([x.ravel() * size[1], y.ravel() * size[0]], axis=-1)


def pick_evenly(pairs: Sequence[tuple[np.ndarray, np.ndarray]], most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """At most that many pairs, spread over all of them."""
    return [pairs[round(at)] for at in np.linspace(0, len(pairs) - 1, min(most, len(pairs)))] if pairs else []


def find_similarity(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], *, progress: Callable[[float], None] | None = None
) -> CoarseFit:
    """Search all scales from 0.34 to 2.3, turns up to 12 degrees and all shifts with half of the smaller field shared.

    About 3 s of processor time for the first pair and 1.5 s for each further one.

    Args:
        pairs: (H, W, 3) uint8 RGB or (H, W) uint8, and (Ht, Wt) uint8 or uint16; all of one rig.
        progress: told the share that is done, 0..1.

    Raises:
        BadInputError: no pair, pictures of several sizes, or a side under 32 px.
    """
    searched = [(_grey(visible), thermal) for visible, thermal in pairs]
    _check(searched)
    visible_size, thermal_size = searched[0][0].shape, searched[0][1].shape
    found: list[_Answer] = []
    for number, scale in enumerate(_SCALES):
        found += _Level(searched, float(scale)).answers(_TURNS_DEG)
        if progress is not None:
            progress((number + 1) / len(_SCALES))
    best = max(found, key=lambda answer: answer.score)
    for step, step_deg in _CLIMB:
        turns = [best.turn_deg + step_deg * k for k in (-1, 0, 1)]
        near: list[_Answer] = []
        for k in (-1, 0, 1):
            near += _Level(searched, best.scale * float(np.exp(step * k))).answers(turns)
            if progress is not None:
                progress(1.0)
        best = max(near, key=lambda answer: answer.score)
    points = thermal_grid_points((thermal_size[0], thermal_size[1]))
    placed = apply_homography(best.H, points)
    far = _ELSEWHERE * abs(best.H[0, 0]) * thermal_size[1]
    rivals = [a.score for a in found if np.linalg.norm(apply_homography(a.H, points) - placed, axis=1).max() > far]
    sizes = ((visible_size[0], visible_size[1]), (thermal_size[0], thermal_size[1]))
    return CoarseFit(best.H, best.scale, best.turn_deg, best.score, max(rivals, default=0.0), sizes)


def _grey(picture: np.ndarray) -> np.ndarray:
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


def _check(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    if not pairs:
        raise BadInputError("there is no pair of pictures to find the alignment by")
    sizes = {(visible.shape, thermal.shape) for visible, thermal in pairs}
    if len(sizes) > 1:
        raise BadInputError(
            f"the pictures are of {len(sizes)} sizes; an alignment is found for one rig: give one size only"
        )
    if min(pairs[0][0].shape + pairs[0][1].shape) < 32:
        raise BadInputError("pictures with a side under 32 pixels are too small to find an alignment by")


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    score: float
    scale: float
    turn_deg: float
    H: np.ndarray


@dataclass(slots=True, eq=False)
class _Level:
    """All pictures at the working size of one scale, their outlines, and the visible ones' spectra."""

    pairs: list[tuple[np.ndarray, np.ndarray]]
    scale: float
    _visible: tuple[int, int] = field(init=False)
    _thermal: tuple[int, int] = field(init=False)
    _canvas: tuple[int, int] = field(init=False)
    _shape: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        (height, width), (rows, columns) = (picture.shape for picture in self.pairs[0])
        across = _WORKING_PX / min(1.0, self.scale)
        self._visible = (max(8, round(height * across / width)), max(8, round(across)))
        across *= self.scale
        self._thermal = (max(8, round(rows * across / columns)), max(8, round(across)))
        room = 2 + int(np.ceil(max(self._thermal) * np.sin(np.radians(max(_TURNS_DEG) + 3))))
        self._canvas = (self._thermal[0] + room, self._thermal[1] + room)
        from scipy.fft import next_fast_len  # SciPy: not for every command

        self._shape = tuple(next_fast_len(v + t, real=True) for v, t in zip(self._visible, self._canvas, strict=True))

    def answers(self, turns_deg: Iterable[float]) -> list[_Answer]:
        """The two best shifts of each turn."""
        from scipy.fft import irfft2, rfft2

        shape = self._shape
        seen = [_planes(visible, self._visible) for visible, _ in self.pairs]
        spectra = [rfft2(planes, s=shape) for planes in seen]
        energy = rfft2(sum((planes**2).sum(axis=0) for planes in seen), s=shape)
        everywhere = rfft2(np.ones(self._visible, np.float32), s=shape)
        heat = [_planes(thermal, self._thermal) for _, thermal in self.pairs]
        found = []
        for turn_deg in turns_deg:
            A, inside = self._turn(float(turn_deg))
            turned = [_turned(planes, A, float(turn_deg), inside) for planes in heat]
            product = sum((np.conj(rfft2(t, s=shape)) * v).sum(axis=0) for t, v in zip(turned, spectra, strict=True))
            mask = np.conj(rfft2(inside, s=shape))
            power = np.conj(rfft2(sum((t**2).sum(axis=0) for t in turned), s=shape))
            area = irfft2(mask * everywhere, s=shape)
            norm = irfft2(mask * energy, s=shape) * irfft2(power * everywhere, s=shape)
            least = _LEAST_OVERLAP * min(float(inside.sum()), float(np.prod(self._visible)))
            score = irfft2(product, s=shape) / np.sqrt(np.maximum(norm, 1e-3)) * np.sqrt(np.maximum(area, 0.0))
            score[area < least] = 0.0
            found += self._best_two(score, A, float(turn_deg))
        return found

    def _turn(self, turn_deg: float) -> tuple[np.ndarray, Plane]:
        """(2, 3) from the thermal working picture to the canvas, and (H, W) 0 or 1 where the canvas is covered."""
        c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
        R = np.array([[c, -s], [s, c]])
        middles = [(np.array(size[::-1]) - 1) / 2 for size in (self._thermal, self._canvas)]
        A = np.column_stack([R, middles[1] - R @ middles[0]])
        inner = np.zeros(self._thermal, np.uint8)
        inner[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = 1
        return A, cv2.warpAffine(inner, A, self._canvas[::-1], flags=cv2.INTER_NEAREST).astype(np.float32)

    def _best_two(self, score: Plane, A: np.ndarray, turn_deg: float) -> list[_Answer]:
        found = []
        for _ in range(2):
            at = np.unravel_index(int(score.argmax()), score.shape)
            row, column = (
                int(i) - (side if i > side - room else 0)
                for i, side, room in zip(at, score.shape, self._canvas, strict=True)
            )
            to_canvas = np.vstack([A, [0, 0, 1]])
            to_visible = np.array([[1, 0, column], [0, 1, row], [0, 0, 1.0]])
            sizes = (picture.shape for picture in self.pairs[0])
            full, small = (_half_pixel(to, of) for to, of in zip((self._visible, self._thermal), sizes, strict=True))
            H = np.linalg.inv(full) @ to_visible @ to_canvas @ small
            found.append(_Answer(float(score[at]), self.scale, turn_deg, H))
            around = np.arange(-3, 4)
            score[np.ix_((at[0] + around) % score.shape[0], (at[1] + around) % score.shape[1])] = 0.0
        return found


def _half_pixel(to: tuple[int, int], of: tuple[int, ...]) -> np.ndarray:
    """(3, 3) from the pixels of a picture of (height, width) `of` to those of its reduced copy."""
    y, x = to[0] / of[0], to[1] / of[1]
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1.0]])


def _planes(picture: np.ndarray, size: tuple[int, int]) -> Plane:
    """(3, h, w): outlines less their surroundings, and times the cosine and sine of twice their angle."""
    way = cv2.INTER_AREA if size[1] < picture.shape[1] else cv2.INTER_LINEAR
    normal, cos2, sin2 = oriented_outlines(np.asarray(cv2.resize(picture, size[::-1], interpolation=way)), _OUTLINES)
    return np.stack([0.7 * (normal - _OUTLINES.local_mean(normal)), cos2, sin2])


def _turned(planes: Plane, A: np.ndarray, turn_deg: float, inside: Plane) -> Plane:
    normal, cos2, sin2 = (np.asarray(cv2.warpAffine(plane, A, inside.shape[::-1])) * inside for plane in planes)
    c, s = np.float32(np.cos(2 * np.radians(turn_deg))), np.float32(np.sin(2 * np.radians(turn_deg)))
    return np.stack([normal, c * cos2 - s * sin2, s * cos2 + c * sin2])
