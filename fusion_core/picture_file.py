"""The one reader of picture files: as stored, turned as any viewer shows it, thermal values as counts with their scale.

What is read here is checked: a damaged picture is refused rather than half shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion_core.errors import BadInputError
from fusion_core.frames import Stream
from fusion_core.picture_formats.decoders import (
    MOST_VISIBLE_PIXELS,
    Pixels,
    Stored,
    bytes_of,
    decode,
    jpeg_orientation,
    turned,
    unsupported,
)
from fusion_core.picture_formats.radiometric import radiometric_counts
from fusion_core.thermal.painted import Unpainter, luminance

__all__ = [
    "COUNTS",
    "PICTURE_SUFFIXES",
    "PictureReader",
    "ValueScale",
    "gathered_notes",
    "is_picture",
    "stored_pixels",
    "to_8_bit",
]

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
_MOST_PIXELS: Final = {Stream.VISIBLE: MOST_VISIBLE_PIXELS, Stream.THERMAL: 1 << 24}
"""A damaged header must not ask for all of the memory."""
_NO_DATA: Final = (-32768, -9999)  # of signed counts, where the file does not name its own
_COLDEST: Final = -460.0  # no temperature lies below, in kelvin, Celsius or Fahrenheit
_HOTTEST: Final = 1e5
_MOST_MISSING: Final = 0.5


@dataclass(frozen=True, slots=True)
class ValueScale:
    """What counts mean in the unit of their file: value = counts * step + zero."""

    step: float = 1.0
    zero: float = 0.0

    def to_counts(self, value: float) -> float:
        """The counts, 0 to 65535, of a value in the file's unit."""
        return min(65535.0, max(0.0, (value - self.zero) / self.step))


COUNTS = ValueScale()
# Steps that hold: shares of one; degrees or kelvin in hundredths; furnaces in tenths; counts kept as floats.
_FLOAT_SCALES: Final = (
    (0.0, 1.0, ValueScale(1 / 32768, -0.5)),
    (-100.0, 555.0, ValueScale(0.01, -100.0)),
    (-460.0, 6053.0, ValueScale(0.1, -500.0)),
    (0.0, 65535.0, COUNTS),
)


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture file; the content is not looked at. Hidden and `._` files are none."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def to_8_bit(pixels: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Values of `bits` bits as 8 bit, rounded."""
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / ((1 << bits) - 1)), np.uint8)


class PictureReader:
    """Reads the picture files of one source in one way: the first settles scale and palette for all of them.

    scale: of thermal counts, after the first picture. Used by one thread at a time.
    """

    def __init__(self, stream: Stream, accept_colour: bool = False) -> None:
        self.scale: ValueScale | None = None
        self._stream = stream
        self._unpainter = Unpainter(accept_colour)
        self._bits = 0
        self._said: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        """What a user should know of what was read, one line each."""
        return [
            f"{self._first[text]}{f' and {count - 1} more' if count > 1 else ''}: {text}"
            for text, count in self._said.items()
        ]

    def read(self, path: Path | str) -> np.ndarray:
        """Read one picture.

        Returns:
            visible: (H, W, 3) uint8 RGB; grey is tripled, opacity dropped, 10 to 16 bits are scaled by what is used.
            thermal: (H, W) uint8, or uint16 counts. The raw counts of a radiometric JPEG; other integers and floating
            point by `scale`, pixels without a value filled from the nearest that has one; colour as `Unpainter` has it.

        Raises:
            BadInputError: missing, empty, damaged, several pages, in an unknown palette, or no such picture.
        """
        path = Path(path)
        data = bytes_of(path)
        is_thermal = self._stream is Stream.THERMAL
        counts = radiometric_counts(data) if is_thermal and data.startswith(b"\xff\xd8") else None
        if counts is not None:
            self.scale = self.scale or COUNTS
            self._say(path, "the raw thermal counts inside the JPEG are used, not its painted picture")
            return turned(counts, jpeg_orientation(data))
        stored = decode(path, data, _MOST_PIXELS[self._stream])
        for note in stored.notes:
            self._say(path, note)
        return self._thermal(path, stored) if is_thermal else self._visible(path, stored)

    def _say(self, path: Path, text: str) -> None:
        self._first.setdefault(text, path.name)
        self._said[text] += 1

    def _visible(self, path: Path, stored: Stored) -> np.ndarray:
        pixels = stored.pixels
        if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
            pixels = pixels[..., 0]
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype not in (np.uint8, np.uint16):
            raise unsupported(path, pixels, "a visible picture of 8 or 16 bits a channel")
        pixels = np.ascontiguousarray(pixels[..., :3])
        most = 255
        if pixels.dtype == np.uint16:
            self._bits = max(self._bits, stored.bits or _bits_used(pixels))
            most = (1 << self._bits) - 1
            if self._bits < 16:
                self._say(path, f"holds {self._bits} bits of 16; they were scaled to the full range")
        if stored.exponent != 1.0:
            self._say(path, "its own gamma was brought to a screen's")
            values = np.minimum(np.arange(256 if pixels.dtype == np.uint8 else 65536) / most, 1.0)
            return np.asarray(np.rint(255.0 * values**stored.exponent).astype(np.uint8)[pixels])
        if pixels.dtype == np.uint8:
            return np.asarray(pixels, np.uint8)
        return to_8_bit(pixels.astype(np.uint16, copy=False), self._bits)

    def _thermal(self, path: Path, stored: Stored) -> np.ndarray:
        pixels = stored.pixels
        if pixels.ndim == 3:
            if pixels.shape[2] > 4:
                raise unsupported(path, pixels, "a thermal picture of one channel")
            pixels = pixels[..., 0] if pixels.shape[2] < 3 else self._one_channel(path, pixels[..., :3])
        if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
            raise unsupported(path, pixels, "a thermal picture of one channel")
        is_plain = pixels.dtype in (np.uint8, np.uint16)
        if is_plain:
            self.scale = self.scale or COUNTS
            if stored.no_data is None:
                return np.ascontiguousarray(pixels)
        with np.errstate(invalid="ignore"):  # NaN of a kind that signals
            values = pixels.astype(np.float64)
        missing = _missing(values, pixels.dtype.kind == "f", stored.no_data)
        count = int(np.count_nonzero(missing))
        if count > _MOST_MISSING * values.size:
            raise BadInputError(
                f"{path} has {count} of {values.size} values that are NaN, infinite or marked as no data; a thermal"
                " picture needs most of its pixels"
            )
        if count:
            self._say(path, f"{count} of {values.size} pixels have no value and were filled from their neighbours")
            values = _filled(values, missing)
        if is_plain:
            return values.astype(pixels.dtype)
        if self.scale is None:
            self.scale = _scale_of(pixels.dtype, values)
        counts = np.rint((values - self.scale.zero) / self.scale.step)
        beyond = int(np.count_nonzero((counts < 0) | (counts > 65535)))
        if beyond:
            self._say(path, f"{beyond} pixels lie outside of the range of the first picture and were cut to it")
        return np.clip(counts, 0, 65535).astype(np.uint16)

    def _one_channel(self, path: Path, rgb: Pixels) -> Pixels:
        if rgb.dtype not in (np.uint8, np.uint16):
            return np.asarray(luminance(rgb))
        if np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 1], rgb[..., 2]):
            return np.ascontiguousarray(rgb[..., 0])
        shown = rgb.astype(np.uint8) if rgb.dtype == np.uint8 else to_8_bit(rgb.astype(np.uint16), 16)
        grey = self._unpainter.grey(np.ascontiguousarray(shown))
        if grey is None:
            raise BadInputError(
                f"{path} is in colour, expected a grey thermal picture: its palette is not one that can be undone."
                " Export it as white-hot grey or raw counts; `fuse` and `calibrate` take its brightness by"
                " --accept-colour"
            )
        if self._unpainter.note:
            self._say(path, self._unpainter.note)
        elif rgb.dtype == np.uint16:
            return np.asarray(luminance(rgb))  # grey but for the codec's noise
        return grey


def gathered_notes(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes of several readers, one line a kind, with the first picture that has it: they differ in counts alone."""
    first: dict[str, str] = {}
    count: Counter[str] = Counter()
    for note in notes:
        kind = re.sub(r"\d+", "", note.partition(": ")[2])
        first.setdefault(kind, note)
        count[kind] += 1
    return tuple(note if count[kind] == 1 else f"{count[kind]} pictures, e.g. {note}" for kind, note in first.items())


def stored_pixels(path: Path | str) -> Pixels:
    """What the file holds, upright, colour in RGB(A) order. Raises BadInputError."""
    path = Path(path)
    return decode(path, bytes_of(path), MOST_VISIBLE_PIXELS).pixels


def _bits_used(pixels: Pixels) -> int:
    largest = int(pixels.max())
    return next((bits for bits in (10, 12, 14) if largest < 1 << bits), 16)


def _missing(values: NDArray[np.float64], is_float: bool, no_data: float | None) -> NDArray[np.bool_]:
    missing = ~np.isfinite(values)
    if no_data is not None:
        missing |= np.isclose(values, no_data, rtol=1e-6, atol=0.0)
    known = values[~missing]
    if known.size == 0:
        return missing
    if is_float:
        if _COLDEST < float(np.median(known)) < _HOTTEST:
            with np.errstate(invalid="ignore"):
                missing |= (values < _COLDEST) | (values > _HOTTEST)
    elif no_data is None:
        for marker in _NO_DATA:
            others = known[known != marker]
            if others.size and others.size < known.size and abs(float(others.min()) - marker) > 1000:
                missing |= values == marker
    return missing


def _filled(values: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each missing pixel takes the value of the nearest that has one."""
    _, labels = cv2.distanceTransformWithLabels(
        missing.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(labels.max()) + 1)
    of_label[labels[~missing]] = values[~missing]
    return np.where(missing, of_label[labels], values)


def _scale_of(dtype: np.dtype[np.generic], values: NDArray[np.float64]) -> ValueScale:
    low, high = float(values.min()), float(values.max())
    if dtype.kind != "f":
        if dtype.itemsize <= 2:
            return ValueScale(1.0, -32768.0 if dtype.itemsize == 2 else -128.0)
        if low >= 0 and high <= 65535:
            return COUNTS
    for least, most, scale in _FLOAT_SCALES:
        if least <= low and high <= most and dtype.kind == "f":
            return scale
    step = max((high - low) / 16384, 1e-30)
    return ValueScale(step, (low + high) / 2 - 32768 * step)
