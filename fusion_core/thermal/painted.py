"""Thermal pictures that were painted with a palette: told from grey ones, and undone where the palette is known.

The one rule for pictures, videos, cameras and training: what is painted with a known palette is brought back to its
levels and said; what is painted with another is refused, unless `accept_colour` takes its brightness.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.thermal.palettes import PALETTES, palette_table

__all__ = ["Unpainter", "find_palette", "is_painted", "luminance"]

GREY_TOLERANCE = 24  # largest channel difference of a grey picture that went through a lossy colour codec
_PAINTED_SHARE = 0.01
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # BT.709
_OTHERS = {  # stops, cold to hot, that cameras and programs use under these names
    "rainbow of four colours": ("#0000ff", "#00ffff", "#ffff00", "#ff0000"),
    "rainbow of five colours": ("#0000ff", "#00ffff", "#00ff00", "#ffff00", "#ff0000"),
    "rainbow from black": ("#000000", "#0000ff", "#00ffff", "#00ff00", "#ffff00", "#ff0000", "#ffffff"),
    "iron of a camera": ("#000014", "#2c0090", "#8c0096", "#c81e72", "#eb5f16", "#fba400", "#fee26a", "#ffffff"),
}
_CATALOGUE = ("gnuplot:gnuplot", "gnuplot:gnuplot2", "bids:plasma", "matlab:hot", "matlab:jet")
_GREYS = frozenset({"white_hot", "black_hot"})
_SAMPLE = 2000
_FIRST_LOOK = 200
_MOST_DISTANCE = 12.0  # levels from the palette's line in RGB; lossy codecs and reduced colour give 2 to 6
_FAR_DISTANCE = 60.0
_LEAST_LEVELS = 24
_STEPS = 64  # of each channel in the table from colour to level


def is_painted(rgb: npt.NDArray[np.uint8]) -> bool:
    """Whether more than a hundredth of (H, W, 3) uint8 RGB is in colour."""
    sample = rgb[::2, ::2] if rgb.shape[0] * rgb.shape[1] > 200_000 else rgb
    spread = cv2.subtract(sample.max(axis=2), sample.min(axis=2))
    return bool(np.count_nonzero(spread > GREY_TOLERANCE) > _PAINTED_SHARE * spread.size)


def luminance(rgb: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """BT.709 luminance of (H, W, 3) in the same dtype; equal channels stay exactly what they are."""
    if np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 1], rgb[..., 2]):
        return np.ascontiguousarray(rgb[..., 0])
    luma = rgb.astype(np.float32) @ _LUMA
    return np.asarray(luma if rgb.dtype.kind == "f" else np.round(luma).astype(rgb.dtype))


@lru_cache(maxsize=1)
def _tables() -> dict[str, npt.NDArray[np.uint8]]:
    """Every palette that is known, cold to hot, by name: ours, those of FFmpeg's and OpenCV's users, catalogues'."""
    tables = {name: palette_table(name) for name in PALETTES if name not in _GREYS}
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    for name in sorted(dir(cv2)):
        if name.startswith("COLORMAP_"):
            painted = cv2.applyColorMap(ramp, getattr(cv2, name))
            tables[f"{name.removeprefix('COLORMAP_').lower()} of OpenCV"] = np.ascontiguousarray(painted[:, 0, ::-1])
    for name in _CATALOGUE:
        tables[name.split(":")[1]] = palette_table(name)
    place = np.linspace(0.0, 1.0, 256)
    for name, stops in _OTHERS.items():
        colours = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in stops], np.float64)
        lines = [np.interp(place, np.linspace(0.0, 1.0, len(stops)), colours[:, channel]) for channel in range(3)]
        tables[name] = np.rint(np.stack(lines, axis=1)).astype(np.uint8)
    return tables


def find_palette(rgb: npt.NDArray[np.uint8]) -> str | None:
    """The known palette that (H, W, 3) uint8 RGB was painted with; None for any other picture in colour."""
    colours = rgb.reshape(-1, 3)
    pixels = colours[:: max(1, len(colours) // _SAMPLE)].astype(np.float32)
    few = pixels[:: max(1, len(pixels) // _FIRST_LOOK)]
    best, best_distance = None, _MOST_DISTANCE
    for name, table in _tables().items():
        line = table.astype(np.float32)
        if float(np.median(_nearest(few, line)[0])) > 2 * _MOST_DISTANCE:  # most palettes are far off
            continue
        distances, levels = _nearest(pixels, line)
        low, high = np.percentile(levels, (5, 95))
        if high - low < _LEAST_LEVELS:  # one colour lies on many a palette
            continue
        median, far = np.percentile(distances, (50, 95))
        if far < _FAR_DISTANCE and float(median + far / 4) < best_distance:
            best, best_distance = name, float(median + far / 4)
    return best


def _nearest(
    pixels: npt.NDArray[np.float32], line: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Of each pixel, (N, 3): its distance from the palette's line (256, 3), and the level there."""
    squared = (pixels**2).sum(1)[:, None] - 2 * pixels @ line.T + (line**2).sum(1)[None]
    return np.sqrt(np.maximum(squared.min(axis=1), 0.0)), squared.argmin(axis=1)


@lru_cache(maxsize=4)
def _levels_by_colour(name: str) -> npt.NDArray[np.uint8]:
    """(64 * 64 * 64,) uint8: the level whose colour is nearest to each colour."""
    from scipy.spatial import KDTree  # only for painted pictures

    axis = (np.arange(_STEPS, dtype=np.float32) + 0.5) * (256 / _STEPS) - 0.5
    colours = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    _, levels = KDTree(_tables()[name].astype(np.float32)).query(colours)
    return np.asarray(levels, np.uint8)


class Unpainter:
    """Brings the pictures of one source to grey. Its first painted picture settles the palette for all of them.

    note: what was done, one line without the source's name; "" while every picture was grey.
    """

    def __init__(self, accept_colour: bool = False) -> None:
        self.note = ""
        self._accept = accept_colour
        self._palette: str | None = None
        self._is_unknown = False

    def notes(self, name: str) -> tuple[str, ...]:
        """The note with the source's name before it; empty while every picture was grey."""
        return (f"{name}: {self.note}",) if self.note else ()

    def grey(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
        """(H, W) uint8 levels of (H, W, 3) uint8 RGB; None where an unknown palette may not be taken."""
        if self._is_unknown:
            return luminance(rgb).astype(np.uint8)
        if self._palette is None:
            if not is_painted(rgb):
                return luminance(rgb).astype(np.uint8)
            self._palette = find_palette(rgb)
            if self._palette is None:
                if not self._accept:
                    return None
                self._is_unknown = True
                self.note = "painted with an unknown palette; its brightness is used, which need not rise with heat"
                return luminance(rgb).astype(np.uint8)
            self.note = f"painted with the palette {self._palette}; it was undone to 256 levels"
        index = rgb.astype(np.uint32) * _STEPS >> 8
        levels = _levels_by_colour(self._palette)
        return np.asarray(levels[(index[..., 0] * _STEPS + index[..., 1]) * _STEPS + index[..., 2]])
