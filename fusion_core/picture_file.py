"""The one reader of picture files: as stored, turned as any viewer shows it, thermal values as counts with their scale.

What is read here is checked: a damaged picture is refused rather than half shown.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from fusion_core.errors import BadInputError
from fusion_core.frames import Stream
from fusion_core.radiometric import jpeg_is_whole, jpeg_segments, radiometric_counts
from fusion_core.thermal.painted import Unpainter, luminance

__all__ = [
    "COUNTS",
    "PICTURE_SUFFIXES",
    "PictureReader",
    "ValueScale",
    "is_picture",
    "stored_pixels",
    "to_8_bit",
    "turned",
]

Pixels = NDArray[np.integer | np.floating]

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
_MOST_PIXELS: Final = {Stream.VISIBLE: 1 << 26, Stream.THERMAL: 1 << 24}
"""A damaged header must not ask for all of the memory."""
_TIFF_HEADS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_NO_DATA: Final = (-32768, -9999)  # of signed counts, where the file does not name its own
_COLDEST: Final = -460.0  # no temperature lies below, in kelvin, Celsius or Fahrenheit
_HOTTEST: Final = 1e5
_MOST_MISSING: Final = 0.5
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its own error lines: ours say it with the file


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


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture as it is to be shown. orientation: 1 to 8, as EXIF and TIFF count; others change nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def to_8_bit(pixels: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Values of `bits` bits as 8 bit, rounded."""
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / ((1 << bits) - 1)), np.uint8)


@dataclass(slots=True)
class _Stored:
    """A decoded file. bits: in use of each value, where the file says. no_data: the value of pixels without one."""

    pixels: Pixels
    bits: int | None = None
    no_data: float | None = None


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
        data = _bytes_of(path)
        if self._stream is Stream.VISIBLE:
            return self._visible(path, _decode(path, data, _MOST_PIXELS[self._stream]))
        counts = radiometric_counts(data) if data.startswith(b"\xff\xd8") else None
        if counts is not None:
            self.scale = self.scale or COUNTS
            self._say(path, "the raw thermal counts inside the JPEG are used, not its painted picture")
            return turned(counts, _jpeg_orientation(data))
        return self._thermal(path, _decode(path, data, _MOST_PIXELS[self._stream]))

    def _say(self, path: Path, text: str) -> None:
        self._first.setdefault(text, path.name)
        self._said[text] += 1

    def _visible(self, path: Path, stored: _Stored) -> np.ndarray:
        pixels = stored.pixels
        if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
            pixels = pixels[..., 0]
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype not in (np.uint8, np.uint16):
            raise _unsupported(path, pixels, "a visible picture of 8 or 16 bits a channel")
        pixels = np.ascontiguousarray(pixels[..., :3])
        if pixels.dtype == np.uint8:
            return pixels
        deep = pixels.astype(np.uint16, copy=False)
        self._bits = max(self._bits, stored.bits or _bits_used(deep))
        if self._bits < 16:
            self._say(path, f"holds {self._bits} bits of 16; they were scaled to the full range")
        return to_8_bit(deep, self._bits)

    def _thermal(self, path: Path, stored: _Stored) -> np.ndarray:
        pixels = stored.pixels
        if pixels.ndim == 3:
            if pixels.shape[2] > 4:
                raise _unsupported(path, pixels, "a thermal picture of one channel")
            pixels = pixels[..., 0] if pixels.shape[2] < 3 else self._one_channel(path, pixels[..., :3])
        if pixels.ndim != 2 or pixels.dtype.kind not in "uif":
            raise _unsupported(path, pixels, "a thermal picture of one channel")
        if pixels.dtype in (np.uint8, np.uint16):
            self.scale = self.scale or COUNTS
            return np.ascontiguousarray(pixels)
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
                " Export it as white-hot grey or raw counts, or take its brightness by --accept-colour"
            )
        if self._unpainter.note:
            self._say(path, self._unpainter.note)
        elif rgb.dtype == np.uint16:
            return np.asarray(luminance(rgb))  # grey but for the codec's noise
        return grey


def stored_pixels(path: Path | str) -> Pixels:
    """What the file holds, upright, colour in RGB(A) order. Raises BadInputError."""
    path = Path(path)
    return _decode(path, _bytes_of(path), _MOST_PIXELS[Stream.VISIBLE]).pixels


def _unsupported(path: Path, image: Pixels, wanted: str) -> BadInputError:
    shape = " x ".join(str(n) for n in image.shape)
    return BadInputError(f"{path} holds {shape} values of type {image.dtype}, expected {wanted}; convert it")


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


def _bytes_of(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise BadInputError(f"{path} is a folder, expected a picture file") from error
    except FileNotFoundError as error:
        raise BadInputError(f"{path} does not exist, expected a picture file; check the path") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check its name and permissions") from error
    if not data:
        raise BadInputError(f"{path} is empty (0 bytes), expected a picture; copy it again")
    return data


def _decode(path: Path, data: bytes, most_pixels: int) -> _Stored:
    """The picture as shown, colour in RGB(A) order."""
    bits, orientation, damage = None, 1, ""
    if data.startswith(_PNG_HEAD):
        bits, orientation, damage = _png_facts(data)
    elif data.startswith(b"\xff\xd8\xff"):
        orientation, damage = _jpeg_orientation(data), "" if jpeg_is_whole(data) else "it ends too early"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        at = data.find(b"EXIF", 12)
        orientation = _exif_orientation(data[at + 8 :]) if at > 0 else 1
    if damage:
        raise BadInputError(f"{path} is damaged: {damage}; copy it again from where it came")
    if _declared_pixels(data) > most_pixels:
        raise BadInputError(f"{path} says that it has {_declared_pixels(data)} pixels, at most {most_pixels} are read")
    if data[:4] in _TIFF_HEADS:
        return _decode_tiff(path, data, most_pixels)
    return _Stored(turned(_with_cv2(path, data), orientation), bits)


def _with_cv2(path: Path, data: bytes) -> Pixels:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError):
        image = None
    if image is None or image.size == 0:
        raise BadInputError(
            f"{path} cannot be read as a picture: it cannot be decoded, so it is damaged or another kind of file"
        )
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    decoded: Pixels = image
    return decoded


def _decode_tiff(path: Path, data: bytes, most_pixels: int) -> _Stored:
    """The first full page; previews and masks beside it are left aside."""
    image: Pixels | None = None
    orientation, no_data, inverted = 1, None, False
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages: list[Any] = [tiff.pages[number] for number in range(min(16, len(tiff.pages)))]
            full = [page for page in pages if not int(page.subfiletype) & 5]
            page = full[0] if full else pages[0]
            if sum(other.shape == page.shape for other in full) > 1:
                raise BadInputError(f"{path} holds several pages; save each as its own picture and give the folder.")
            if page.imagewidth * page.imagelength * page.samplesperpixel > 3 * most_pixels:
                raise BadInputError(f"{path} says that it is {page.imagewidth}x{page.imagelength}; that is too large")
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None else 1
            no_data = _number_of(page.tags.get(42113))
            inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            image = _page_pixels(page)
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, OSError, struct.error, zlib.error) as error:
        if isinstance(error, BadInputError):
            raise
    except (MemoryError, OverflowError, AttributeError, AssertionError, ZeroDivisionError) as error:
        raise BadInputError(f"{path} cannot be decoded: it is damaged ({type(error).__name__})") from error
    if image is None:  # compressions that tifffile alone does not know: cv2 turns all, inverts 8 bits only
        image, orientation = _with_cv2(path, data), 1
        inverted = inverted and image.dtype != np.uint8
    if image.ndim not in (2, 3) or image.size == 0:
        raise _unsupported(path, image, "a picture of rows and columns")
    if inverted and image.dtype.kind in "ui":
        image = np.invert(image)
    return _Stored(turned(image, orientation), None, no_data)


def _page_pixels(page: tifffile.TiffPage) -> Pixels:
    image = np.asarray(page.asarray())
    if image.dtype.byteorder == ">":
        image = image.astype(image.dtype.newbyteorder("="))
    if image.dtype == np.bool_:
        image = image.astype(np.uint8) * np.uint8(255)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        image = (np.moveaxis(np.asarray(page.colormap), 0, -1)[image] >> 8).astype(np.uint8)
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and image.ndim == 3:
        image = np.moveaxis(image, 0, -1)
    return np.ascontiguousarray(image)


def _number_of(tag: tifffile.TiffTag | None) -> float | None:
    if tag is None:
        return None
    try:
        return float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _declared_pixels(data: bytes) -> int:
    """What the header of a PNG, JPEG or BMP says; 0 for others."""
    if data.startswith(_PNG_HEAD):
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    if data.startswith(b"BM") and len(data) >= 26:
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(int(width) * int(height))
    if data.startswith(b"\xff\xd8"):
        for marker, payload in jpeg_segments(data):
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(payload) >= 5:
                return int.from_bytes(payload[1:3], "big") * int.from_bytes(payload[3:5], "big")
    return 0


def _png_facts(data: bytes) -> tuple[int | None, int, str]:
    """(bits in use, orientation, why it is not whole); decoders themselves show what there is of a damaged one."""
    bits, orientation, at = None, 1, 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        content = data[at + 8 : end - 4]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            name = kind.decode("ascii") if kind.isalpha() else repr(kind)
            return bits, orientation, f"the check sum of its {name} part is wrong"
        if kind == b"IEND":
            return bits, orientation, ""
        if kind == b"sBIT" and content and 8 < max(content) <= 16:
            bits = max(content)
        if kind == b"eXIf":
            orientation = _exif_orientation(content)
        at = end
    return bits, orientation, "it ends too early"


def _jpeg_orientation(data: bytes) -> int:
    for marker, payload in jpeg_segments(data):
        if marker == 0xE1 and payload.startswith(b"Exif\0"):
            return _exif_orientation(payload[6:])
    return 1


def _exif_orientation(block: bytes) -> int:
    """Of an EXIF block, which is a TIFF header with its first directory; 1 where there is none."""
    if block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 14:
        return 1
    try:
        at = struct.unpack_from(f"{order}I", block, 4)[0]
        for number in range(struct.unpack_from(f"{order}H", block, at)[0]):
            tag, _kind, _count, value = struct.unpack_from(f"{order}HHIH", block, at + 2 + 12 * number)
            if tag == 0x0112:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
