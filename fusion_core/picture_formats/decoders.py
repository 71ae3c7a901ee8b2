"""From the bytes of a picture file to what it stores, upright: the decoders behind `picture_file`.

Pillow decodes JPEG, PNG and WebP, tifffile TIFF, OpenCV what is left. None of them writes a line of its own to stderr.
Damage that decoders would show in part is looked for before.
"""

from __future__ import annotations

import io
import logging
import stat
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from fusion_core.errors import BadInputError, DamagedInputError
from fusion_core.files import jpeg_segments, picture_size
from fusion_core.picture_formats.radiometric import jpeg_is_whole

__all__ = ["MOST_VISIBLE_PIXELS", "Pixels", "Stored", "bytes_of", "decode", "jpeg_orientation", "turned", "unsupported"]

Pixels = NDArray[np.integer | np.floating]

MOST_VISIBLE_PIXELS: Final = 1 << 26
_MOST_BYTES: Final = 1 << 28  # of a file, and of its pixels once decoded
_MOST_SCANS: Final = 64  # of a JPEG; progressive ones have about ten, and each costs the whole picture's time
_TIFF_HEADS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_PNG_NEEDED: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # opacity is dropped anyhow
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass of an interlaced PNG, and the steps to the next."""
_OTHER_COLOUR: Final = (
    tifffile.PHOTOMETRIC.CIELAB,
    tifffile.PHOTOMETRIC.ICCLAB,
    tifffile.PHOTOMETRIC.ITULAB,
    tifffile.PHOTOMETRIC.CFA,
    tifffile.PHOTOMETRIC.LOGLUV,
    tifffile.PHOTOMETRIC.LOGL,
)
_MOST_PAGES: Final = 16  # that are looked at to tell a sequence from previews
_SCREEN_GAMMA: Final = 0.45455
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # their own error lines: ours say it with the file
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


@dataclass(slots=True)
class Stored:
    """A decoded file, colour in RGB(A) order.

    bits: in use of each value, where the file says. no_data: the value of pixels without one. exponent: of a visible
    picture, from its values (0 to 1) to a screen's. notes: what a user should know.
    """

    pixels: Pixels
    bits: int | None = None
    no_data: float | None = None
    exponent: float = 1.0
    notes: list[str] = field(default_factory=list)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture as it is to be shown. orientation: 1 to 8, as EXIF and TIFF count; others change nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def unsupported(path: Path, image: Pixels, wanted: str) -> BadInputError:
    """The error for a sound file that holds something else."""
    shape = " x ".join(str(n) for n in image.shape)
    return BadInputError(f"{path} holds {shape} values of type {image.dtype}, expected {wanted}; convert it")


def bytes_of(path: Path) -> bytes:
    """All of a picture file.

    Raises:
        BadInputError: not there, no ordinary file, empty, too large, or not to be read.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise BadInputError(f"{path} is a folder, expected a picture file")
        if not stat.S_ISREG(found.st_mode):  # a pipe or device may never end
            raise BadInputError(f"{path} is no ordinary file, expected a picture file; save it as one first")
        if found.st_size > _MOST_BYTES:
            raise BadInputError(f"{path} has {found.st_size >> 20} MiB, at most {_MOST_BYTES >> 20} are read")
        data = path.read_bytes()
    except FileNotFoundError as error:
        lead = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise BadInputError(f"{path} {lead}, expected a picture file; check the path") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check its name and permissions") from error
    if not data:
        raise BadInputError(f"{path} is empty (0 bytes), expected a picture; copy it again")
    return data


def decode(path: Path, data: bytes, most_pixels: int) -> Stored:
    """The picture as shown.

    Raises:
        BadInputError: damaged, too large, several pages, or no picture that is known.
    """
    if data[:4] in _TIFF_HEADS:
        return _decode_tiff(path, data, most_pixels)
    _check_header(path, data, most_pixels)
    if data.startswith(_PNG_HEAD):
        return _decode_png(path, data)
    if data.startswith(b"\xff\xd8\xff"):
        if not jpeg_is_whole(data):
            raise _damaged(path, "it ends too early")
        return Stored(turned(_with_pillow(path, data, "JPEG"), jpeg_orientation(data)))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        at = data.find(b"EXIF", 12)
        orientation = _exif_orientation(data[at + 8 :]) if at > 0 else 1
        notes = ["is an animation; its first picture is used"] if b"ANMF" in data[12:] else []
        return Stored(turned(_with_pillow(path, data, "WEBP", most_pixels), orientation), notes=notes)
    return Stored(_with_cv2(path, data))


def _check_header(path: Path, data: bytes, most_pixels: int) -> None:
    """Refuse, before a decoder sees it, what is too large or a kind whose size nobody has looked at."""
    size = picture_size(data)
    if size is None:
        known = data.startswith((_PNG_HEAD, b"\xff\xd8\xff"))
        if known:
            raise _undecodable(path)
        raise BadInputError(
            f"{path} cannot be read as a picture: it cannot be decoded, so it is damaged or another kind of file;"
            " wanted PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or PNM"
        )
    _refuse_large(path, size[:2], size[2], most_pixels)
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > _MOST_SCANS:
        raise BadInputError(f"{path} is a JPEG of more than {_MOST_SCANS} scans; save it anew")


def _refuse_large(path: Path, size: tuple[int, int], bytes_a_pixel: int, most_pixels: int) -> None:
    """size: (height, width). Raises BadInputError above the limits."""
    pixels = size[0] * size[1]
    if pixels > most_pixels:
        raise BadInputError(f"{path} says that it is {size[1]}x{size[0]}; at most {most_pixels} pixels are read")
    if pixels * bytes_a_pixel > _MOST_BYTES:
        raise BadInputError(
            f"{path} says that it is {size[1]}x{size[0]} with {bytes_a_pixel} bytes a pixel; at most {_MOST_BYTES}"
            " bytes are decoded"
        )


def _damaged(path: Path, why: str) -> DamagedInputError:
    return DamagedInputError(f"{path} is damaged: {why}; copy it again from where it came")


def _undecodable(path: Path) -> DamagedInputError:
    return DamagedInputError(f"{path} cannot be read as a picture: it is damaged; copy it again from where it came")


def _with_pillow(path: Path, data: bytes, kind: str, most_pixels: int = MOST_VISIBLE_PIXELS) -> Pixels:
    from PIL import Image  # only where a picture is read

    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as opened:
            if opened.width * opened.height > most_pixels:
                raise BadInputError(f"{path} says that it is {opened.width}x{opened.height}; that is too large")
            opened.load()
            plain = opened.mode in ("L", "LA", "RGB", "RGBA", "I;16")
            shown = opened if plain else opened.convert("L" if opened.mode == "1" else "RGB")
            pixels = np.array(shown)
    except BadInputError:
        raise
    except (OSError, ValueError, SyntaxError, struct.error, MemoryError, OverflowError, EOFError) as error:
        raise _undecodable(path) from error
    if pixels.size == 0:
        raise _undecodable(path)
    return pixels


def _decode_png(path: Path, data: bytes) -> Stored:
    """Only the parts that make the picture go to the decoder: of the others it complains, not we."""
    facts = _png_facts(data)
    if facts.damage:
        raise _damaged(path, facts.damage)
    kept = facts.kept
    if kept[24] == 16 and _PNG_CHANNELS.get(kept[25], 1) > 1:  # Pillow would cut these to 8 bits
        if not _png_rows_are_sound(kept):
            raise _damaged(path, "its rows cannot be unpacked")
        pixels = _with_cv2(path, kept)
    else:
        pixels = _with_pillow(path, kept, "PNG")
    return Stored(turned(pixels, facts.orientation), facts.bits, exponent=facts.exponent, notes=facts.notes)


def _with_cv2(path: Path, data: bytes) -> Pixels:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError):
        image = None
    if image is None or image.size == 0:
        if data[:4] in _TIFF_HEADS or data.startswith(_PNG_HEAD):
            raise _undecodable(path)
        raise BadInputError(
            f"{path} cannot be read as a picture: it cannot be decoded, so it is damaged or another kind of file"
        )
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    decoded: Pixels = image
    return decoded


def _decode_tiff(path: Path, data: bytes, most_pixels: int) -> Stored:
    """The first full page; previews and masks beside it are left aside."""
    image: Pixels | None = None
    orientation, no_data, inverted = 1, None, False
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages = _first_pages(tiff)
            for other in pages:  # all of them: a second decoder may take another page
                bytes_a_pixel = (int(other.bitspersample) + 7) // 8 * int(other.samplesperpixel)
                size = (int(other.imagelength) * max(1, int(other.imagedepth)), int(other.imagewidth))
                _refuse_large(path, size, bytes_a_pixel, most_pixels)
            full = [page for page in pages if not int(page.subfiletype) & 5]
            page = full[0] if full else pages[0]
            if sum(other.shape == page.shape for other in full) > 1:
                raise BadInputError(f"{path} holds several pages; save each as its own picture and give the folder.")
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None else 1
            no_data = _number_of(page.tags.get(42113))
            inverted = page.tags.get(262) is not None and page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            if page.photometric in _OTHER_COLOUR:
                kind = tifffile.PHOTOMETRIC(page.photometric).name
                raise BadInputError(f"{path} stores its colour as {kind}, expected grey, RGB or CMYK; convert it")
            if page.photometric != tifffile.PHOTOMETRIC.YCBCR:  # which cv2 turns into RGB
                image = _page_pixels(page)
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, OSError, struct.error, zlib.error) as error:
        if isinstance(error, BadInputError):
            raise
    except (MemoryError, OverflowError, AttributeError, AssertionError, ZeroDivisionError) as error:
        raise _undecodable(path) from error
    if image is None:  # compressions that tifffile alone does not know: cv2 turns all, inverts 8 bits only
        image, orientation = _with_cv2(path, data), 1
        inverted = inverted and image.dtype != np.uint8
    if image.size == 0:
        raise _undecodable(path)
    if image.ndim not in (2, 3):
        raise unsupported(path, image, "a picture of rows and columns")
    if inverted and image.dtype.kind in "ui":
        image = np.invert(image)
    return Stored(turned(image, orientation), None, no_data)


def _first_pages(tiff: tifffile.TiffFile) -> list[Any]:
    """Not by their number: counting them would follow a chain of millions."""
    pages: list[Any] = []
    for number in range(_MOST_PAGES):
        try:
            pages.append(tiff.pages[number])
        except IndexError:
            break
    return pages


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
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED and image.ndim == 3 and image.shape[2] >= 4:
        most = float(np.iinfo(image.dtype).max)  # inks: cyan, magenta, yellow, black
        image = np.rint((most - image[..., :3]) * (most - image[..., 3:4]) / most).astype(image.dtype)
    return np.ascontiguousarray(image)


def _number_of(tag: tifffile.TiffTag | None) -> float | None:
    if tag is None:
        return None
    try:
        return float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


@dataclass(slots=True)
class _PngFacts:
    """kept: the file with only what makes the picture. damage: why it is not whole; decoders show what there is."""

    kept: bytes = _PNG_HEAD
    bits: int | None = None
    orientation: int = 1
    exponent: float = 1.0
    damage: str = ""
    notes: list[str] = field(default_factory=list)


def _png_facts(data: bytes) -> _PngFacts:
    facts, at, gamma, kept = _PngFacts(damage="it ends too early"), 8, 0.0, [_PNG_HEAD]
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        content = data[at + 8 : end - 4]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            name = kind.decode("ascii") if kind.isalpha() else repr(kind)
            facts.damage = f"the check sum of its {name} part is wrong"
            return facts
        if len(kept) == 1 and (kind != b"IHDR" or len(content) != 13 or content[10:12] != b"\0\0" or content[12] > 1):
            facts.damage = "it does not begin with a header of this format"
            return facts
        if kind in _PNG_NEEDED:
            kept.append(data[at:end])
        if kind == b"IEND":
            facts.damage = ""
            break
        if kind == b"sBIT" and content and 8 < max(content) <= 16:
            facts.bits = max(content)
        elif kind == b"eXIf":
            facts.orientation = _exif_orientation(content)
        elif kind == b"acTL":
            facts.notes.append("is an animation; its still picture is used")
        elif kind == b"gAMA" and len(content) == 4 and not gamma:
            gamma = int.from_bytes(content, "big") / 100_000
        elif kind in (b"sRGB", b"iCCP", b"cICP"):
            gamma = _SCREEN_GAMMA  # these go before a gamma
        at = end
    if 0.1 < gamma < 10 and abs(gamma - _SCREEN_GAMMA) > 0.05:
        facts.exponent = _SCREEN_GAMMA / gamma
    facts.kept = b"".join(kept)
    return facts


def _png_rows_are_sound(data: bytes) -> bool:
    """Whether the pixels unpack, and each row names a filter that there is."""
    width, height = struct.unpack_from(">II", data, 16)
    packed, at = [], 33
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            packed.append(data[at + 8 : end - 4])
        at = end
    places = _ADAM7 if data[28] else ((0, 0, 1, 1),)
    passes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in places]
    lengths = [(1 + 2 * columns * _PNG_CHANNELS[data[25]], rows) for columns, rows in passes if columns > 0 < rows]
    whole = sum(length * rows for length, rows in lengths)
    try:
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(b"".join(packed), whole + 4096)
    except zlib.error:
        return False
    start = 0
    for length, rows in lengths:
        if max(unpacked[start : start + length * rows : length], default=0) > 4:
            return False
        start += length * rows
    return unpacker.eof and len(unpacked) == whole


def jpeg_orientation(data: bytes) -> int:
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
