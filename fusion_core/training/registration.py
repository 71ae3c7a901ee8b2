"""Registers the training pairs: an alignment target must be aligned.

Public pairs are often some pixels off. The residual is measured by correlating locally normalised gradient magnitudes
of both spectra, first one shift for the whole pair (sub-pixel), then, if wanted, a smooth field around it. Pairs
without a clear peak keep their infrared picture and are marked unreliable; the alignment losses leave them out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.cross_spectral import OutlineForm, gaussian_mean, outlines, second_peak, surface_peak
from fusion_core.errors import BadInputError
from fusion_core.files import read_json, write_atomic
from fusion_core.training.config import RegistrationConfig

__all__ = [
    "PairRegistration",
    "PlaneShift",
    "gradient_plane",
    "load_registrations",
    "plane_shift",
    "register_pair",
    "save_registrations",
]

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
_CELL_PX = 32  # cells of the registration field
_FORMAT = 1
_OUTLINES = OutlineForm(
    smoothing_px=1.0, kernel="scharr", local_mean=gaussian_mean(12.0), root=True, variance_floor=0.05
)
_STAY = 3e-3  # weight of staying at the pair's shift, against a cell's (correlation - floor) ** 2
_PRIOR = 0.01  # correlation that a departure of the whole search range must gain
_HALVES_AGREE_PX = 2.5


@dataclass(frozen=True, eq=False)
class PairRegistration:
    """Where the infrared content of visible pixel p lies in the infrared picture as published: at p + r(p)."""

    shift_px: tuple[float, float] = (0.0, 0.0)  # (dx, dy), the whole pair's
    field_px: FloatArray | None = None  # (h, w, 2) departures from it, one per 32x32 cell; None: none
    reliable: bool = True
    peak: float = 0.0  # correlation at the peak
    lead: float = 0.0  # over the second peak
    residual_px: float = field(default=float("nan"))  # what is measured after registration

    @property
    def reach_px(self) -> float:
        """Largest component of r anywhere."""
        local = 0.0 if self.field_px is None else float(np.abs(self.field_px).max())
        return max(abs(self.shift_px[0]), abs(self.shift_px[1])) + local

    def source_of(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where to sample the infrared picture as published for the visible positions x, y (float32, pixels)."""
        source_x, source_y = x + np.float32(self.shift_px[0]), y + np.float32(self.shift_px[1])
        if self.field_px is not None:
            cell = np.float32(_CELL_PX)
            half = np.float32(0.5)
            local = cv2.remap(
                self.field_px, (x + half) / cell - half, (y + half) / cell - half, cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            source_x, source_y = source_x + local[..., 0], source_y + local[..., 1]
        return source_x, source_y

    def apply(self, infrared: UInt8Array) -> UInt8Array:
        """The registered infrared picture. Keeps shape and dtype; borders are mirrored."""
        height, width = infrared.shape
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        sampled = cv2.remap(infrared, *self.source_of(x, y), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(sampled, np.uint8)


@dataclass(frozen=True)
class PlaneShift:
    """One shift: infrared content of visible pixel p lies at p + (dx, dy)."""

    dx_px: float
    dy_px: float
    peak: float  # normalised correlation there
    second: float  # the best outside a 7x7 neighbourhood of the peak


def gradient_plane(picture: npt.NDArray[np.generic]) -> FloatArray:
    """Gradient magnitude, locally normalised to mean 0 and unit variance over about 24 px, (H, W) float32.

    Alike in both spectra: independent of contrast, its sign, and of slow changes of brightness.
    """
    return outlines(picture, _OUTLINES)


def plane_shift(visible: FloatArray, infrared: FloatArray, search_px: int) -> PlaneShift:
    """The shift at which two gradient planes correlate best, to a fraction of a pixel.

    Args:
        visible, infrared: (H, W) float32 of `gradient_plane`.
        search_px: whole-pixel range, each axis. H and W must exceed 2 * search_px + 16.

    Raises:
        BadInputError: the planes are too small for the search.
    """
    height, width = visible.shape
    s = search_px
    if min(height, width) <= 2 * s + 16:
        raise BadInputError(f"a {width}x{height} picture is too small for a search of +-{s} px")
    template = visible[s : height - s, s : width - s]
    surface = np.nan_to_num(
        np.asarray(cv2.matchTemplate(infrared, template, cv2.TM_CCOEFF_NORMED), np.float32)
    )  # (2s+1, 2s+1)
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    peak = float(surface[row, column])
    dx, dy = surface_peak(surface, int(row), int(column))
    return PlaneShift(dx - s, dy - s, peak, second_peak(surface, int(row), int(column), 3))


def register_pair(visible: UInt8Array, infrared: UInt8Array, config: RegistrationConfig) -> PairRegistration:
    """Measure how the infrared picture has to be sampled so that it lies on the visible one.

    Args:
        visible, infrared: (H, W) uint8 luminance and infrared of one pair.
    """
    height, width = visible.shape
    search = min(config.search_px, (min(height, width) - 17) // 2)
    if search < 2:
        return PairRegistration(reliable=False)
    plane_visible, plane_infrared = gradient_plane(visible), gradient_plane(infrared)
    found = plane_shift(plane_visible, plane_infrared, search)
    lead = found.peak - found.second
    at_border = max(abs(found.dx_px), abs(found.dy_px)) > search - 1
    if found.peak < config.min_peak or lead < config.min_lead or at_border:
        return PairRegistration(reliable=False, peak=found.peak, lead=lead)
    if _agreeing_halves(plane_visible, plane_infrared, found, search) < 2:
        return PairRegistration(reliable=False, peak=found.peak, lead=lead)
    shift = (found.dx_px, found.dy_px)
    registration = PairRegistration(shift, None, True, found.peak, lead)
    if config.field and config.field_max_px > 0:
        local = _local_field(plane_visible, plane_infrared, registration, config)
        if local is not None:
            registration = PairRegistration(shift, local, True, found.peak, lead)
    after = plane_shift(plane_visible, gradient_plane(registration.apply(infrared)), search)
    residual = float(np.hypot(after.dx_px, after.dy_px))
    if residual > config.max_residual_px or after.peak < found.peak - 0.02:
        return PairRegistration(reliable=False, peak=found.peak, lead=lead, residual_px=residual)
    return PairRegistration(shift, registration.field_px, True, found.peak, lead, residual)


def _agreeing_halves(visible: FloatArray, infrared: FloatArray, found: PlaneShift, search_px: int) -> int:
    """Count the halves (left, right, upper, lower) that find this shift alone: chance peaks do not repeat."""
    height, width = visible.shape
    halves = (
        (slice(None), slice(0, width // 2)),
        (slice(None), slice(width // 2, None)),
        (slice(0, height // 2), slice(None)),
        (slice(height // 2, None), slice(None)),
    )
    count = 0
    for half in halves:
        if min(visible[half].shape) <= 2 * search_px + 16:
            continue
        alone = plane_shift(visible[half], infrared[half], search_px)
        count += np.hypot(alone.dx_px - found.dx_px, alone.dy_px - found.dy_px) <= _HALVES_AGREE_PX
    return count


def _local_field(
    visible: FloatArray, infrared: FloatArray, start: PairRegistration, config: RegistrationConfig
) -> FloatArray | None:
    """Departures from the pair's shift per 32x32 cell: windowed correlation at every candidate, a vote of the
    neighbourhood (three window sizes, coarse to fine), and a mild preference for the field found so far."""
    height, width = visible.shape
    rows, columns = -(-height // _CELL_PX), -(-width // _CELL_PX)
    limit = config.field_max_px
    bottom, right = rows * _CELL_PX - height, columns * _CELL_PX - width
    visible, infrared = (np.pad(plane, ((0, bottom), (0, right))) for plane in (visible, infrared))
    height, width = visible.shape
    field_px = np.zeros((rows, columns, 2), np.float32)
    for sigma_px, reach_px, floor in ((64.0, limit, 0.06), (32.0, min(limit, 2.0), 0.1)):
        current = PairRegistration(start.shift_px, field_px)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        source_x, source_y = current.source_of(x, y)
        steps = np.arange(-np.ceil(reach_px), np.ceil(reach_px) + 1, dtype=np.float32)
        warped = cv2.remap(infrared, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        cost = np.empty((len(steps), len(steps), rows, columns), np.float32)
        power = _window(visible * visible, sigma_px, rows, columns) * _window(warped * warped, sigma_px, rows, columns)
        norm = np.sqrt(np.maximum(power, 0)) + 1e-3  # moving the window by the candidate changes next to nothing
        for j, dy in enumerate(steps):
            for i, dx in enumerate(steps):
                shifted = cv2.warpAffine(
                    warped, np.array([[1, 0, dx], [0, 1, dy]], np.float32), (width, height),
                    flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101,
                )  # fmt: skip
                prior = _PRIOR * float(dx * dx + dy * dy) / max(reach_px, 1.0)
                cost[j, i] = _window(visible * shifted, sigma_px, rows, columns) / norm - prior
        update = np.zeros_like(field_px)
        weight = np.zeros((rows, columns), np.float32)
        for r in range(rows):
            for c in range(columns):
                surface = cost[:, :, r, c]
                row, column = np.unravel_index(int(surface.argmax()), surface.shape)
                dx, dy = surface_peak(surface, int(row), int(column))
                update[r, c] = dx + steps[0], dy + steps[0]
                weight[r, c] = max(float(surface[row, column]) - floor, 0.0) ** 2
        if weight.max() <= 0:
            return None
        spread = sigma_px / _CELL_PX
        total = cv2.GaussianBlur(weight, (0, 0), spread) + _STAY  # unsure cells follow their neighbours, or stay
        update = cv2.GaussianBlur(update * weight[..., None], (0, 0), spread) / total[..., None]
        field_px = np.clip(field_px + update, -limit, limit).astype(np.float32)
    return field_px


def _window(plane: FloatArray, sigma_px: float, rows: int, columns: int) -> FloatArray:
    """Weighted local mean around every cell's centre."""
    small = cv2.resize(plane, (columns * 4, rows * 4), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small, (0, 0), sigma_px / (_CELL_PX / 4))
    return np.asarray(cv2.resize(smooth, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def save_registrations(path: Path, registrations: dict[str, PairRegistration], fingerprint: str) -> None:
    """Write the registrations of a data set, keyed by stem, with the fingerprint of data and settings they hold for."""
    entries = {
        stem: {
            "shift_px": [round(v, 4) for v in r.shift_px],
            "field_px": None if r.field_px is None else np.round(r.field_px.astype(np.float64), 3).tolist(),
            "reliable": r.reliable,
            "peak": round(r.peak, 4),
            "lead": round(r.lead, 4),
            "residual_px": None if np.isnan(r.residual_px) else round(r.residual_px, 4),
        }
        for stem, r in registrations.items()
    }
    write_atomic(path, json.dumps({"format": _FORMAT, "fingerprint": fingerprint, "pairs": entries}))


def load_registrations(path: Path, fingerprint: str) -> dict[str, PairRegistration] | None:
    """Read what `save_registrations` wrote; None where there is none, or it is of other data or settings."""
    try:
        content = read_json(path)
        if content["format"] != _FORMAT or content["fingerprint"] != fingerprint:
            return None
        return {stem: _from_json(entry) for stem, entry in content["pairs"].items()}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{path} is damaged ({error}); delete it, it is made again") from error


def _from_json(entry: dict[str, object]) -> PairRegistration:
    shift, local, residual = entry["shift_px"], entry["field_px"], entry["residual_px"]
    if not isinstance(shift, list):
        raise TypeError("shift_px is not a list")
    return PairRegistration(
        (float(shift[0]), float(shift[1])),
        None if local is None else np.asarray(local, np.float32),
        bool(entry["reliable"]),
        float(str(entry["peak"])),
        float(str(entry["lead"])),
        float("nan") if residual is None else float(str(residual)),
    )
