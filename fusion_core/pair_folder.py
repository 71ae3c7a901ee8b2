"""The one on-disk layout of aligned pairs: a folder of visible pictures beside one of thermal pictures.

    ROOT/vi/NAME.png  and  ROOT/ir/NAME.tiff      (or visible/ with infrared/ or thermal/; upper or lower case)

Two pictures are a pair when their names without the extension are equal. Reading checks every picture and refuses a
damaged one, which decoders would show in part.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from fusion_core.errors import BadInputError

__all__ = [
    "PICTURE_SUFFIXES",
    "PairFiles",
    "PairListing",
    "find_pairs",
    "list_pairs",
    "read_thermal",
    "read_visible",
]

Pixels = NDArray[np.integer | np.floating]

VISIBLE_NAMES = ("vi", "visible")
THERMAL_NAMES = ("ir", "infrared", "thermal")
PICTURE_SUFFIXES = frozenset(
    {".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
GREY_TOLERANCE = 24  # largest channel difference of a picture that is grey but went through a lossy colour codec


@dataclass(frozen=True, slots=True, order=True)
class PairFiles:
    """The two files of a pair and their common name without extension."""

    stem: str
    visible: Path
    thermal: Path


@dataclass(frozen=True, slots=True)
class PairListing:
    """What a folder holds: pairs in order of name, and pictures that have no partner."""

    pairs: list[PairFiles]
    unmatched: list[Path]


def find_pairs(root: Path | str) -> list[PairFiles]:
    """Find the pairs in a folder, in order of name. `list_pairs` tells pictures without a partner, and the errors."""
    return list_pairs(root).pairs


def list_pairs(root: Path | str) -> PairListing:
    """List the pairs and the leftovers of a folder.

    Raises:
        BadInputError: the folder or one of the two inside is missing, present twice or unreadable, a name occurs
            twice in one of them, or there is not one pair.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise BadInputError(f"{root} {what}, expected a folder of pairs (vi/NAME.* with ir/NAME.*); check the path")
    visible_dir = _only_folder(root, VISIBLE_NAMES, "visible")
    thermal_dir = _only_folder(root, THERMAL_NAMES, "thermal")
    visible, thermal = _pictures(visible_dir), _pictures(thermal_dir)
    common = sorted(visible.keys() & thermal.keys())
    unmatched = [visible[stem] for stem in sorted(visible.keys() - thermal.keys())]
    unmatched += [thermal[stem] for stem in sorted(thermal.keys() - visible.keys())]
    if not common:
        example = f", e.g. {unmatched[0].relative_to(root)} has no partner" if unmatched else ""
        raise BadInputError(
            f"{root} holds no pairs: {len(visible)} pictures in {visible_dir.name}, {len(thermal)} in "
            f"{thermal_dir.name}, none with the same name{example}; give both pictures of a pair the same name"
        )
    return PairListing([PairFiles(stem, visible[stem], thermal[stem]) for stem in common], unmatched)


def _only_folder(root: Path, names: tuple[str, ...], kind: str) -> Path:
    try:
        found = sorted(entry for entry in root.iterdir() if entry.name.lower() in names and entry.is_dir())
    except OSError as error:
        raise BadInputError(f"{root} cannot be read ({error.strerror}); check its permissions") from error
    if len(found) == 1:
        return found[0]
    wanted = " or ".join(f"{name}/" for name in names)
    if not found:
        raise BadInputError(f"{root} has no folder of {kind} pictures, expected {wanted}; rename the one you have")
    have = " and ".join(f"{entry.name}/" for entry in found)
    raise BadInputError(f"{root} has {have}, expected only one folder of {kind} pictures; move one away")


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures by name without extension; hidden files and other types are no pictures."""
    pictures: dict[str, Path] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BadInputError(f"{folder} cannot be read ({error.strerror}); check its permissions") from error
    for path in entries:
        if path.name.startswith(".") or path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file():
            continue
        if path.stem in pictures:
            raise BadInputError(
                f"{folder} has both {pictures[path.stem].name} and {path.name}, expected one picture a name; "
                "remove or rename one"
            )
        pictures[path.stem] = path
    return pictures


def read_visible(path: Path | str) -> NDArray[np.uint8]:
    """Read a visible picture: (H, W, 3) uint8 RGB. Grey is tripled, 16 bits become 8, opacity is dropped.

    Raises BadInputError when the file is missing, empty, damaged or no such picture.
    """
    path = Path(path)
    image = _decode(path)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise _unsupported(path, image, "a grey or colour picture of 8 or 16 bits")
    if image.dtype == np.uint16:
        image = np.rint(image.astype(np.float32) / 257).astype(np.uint8)
    return np.ascontiguousarray(image[..., :3], np.uint8)


def read_thermal(path: Path | str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a thermal picture: (H, W), uint8 or uint16 as the file has it. Grey saved as colour becomes one channel.

    Raises BadInputError when the file is missing, empty, damaged, floating point, or false-coloured by a palette.
    """
    path = Path(path)
    image = _decode(path)
    if image.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(image)))
        if bad:
            raise BadInputError(
                f"{path} has {bad} of {image.size} values that are NaN or infinite, expected a grey picture of 8 or "
                "16 bits; mend these pixels and save as 16-bit counts"
            )
    if image.dtype not in (np.uint8, np.uint16):
        raise _unsupported(path, image, "a grey picture of 8 or 16 bits (for temperatures e.g. centikelvin)")
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = _grey(path, image[..., :3])
    elif image.ndim == 3 and image.shape[2] == 2:  # grey with opacity
        image = image[..., 0]
    if image.ndim != 2:
        raise _unsupported(path, image, "a grey picture of 8 or 16 bits")
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image, np.uint8)
    return np.ascontiguousarray(image, np.uint16)


def _grey(path: Path, image: Pixels) -> Pixels:
    spread = image.max(axis=2) - image.min(axis=2)
    if not spread.any():
        return image[..., 0]
    unit = 257 if image.dtype == np.uint16 else 1
    if float(np.percentile(spread, 99)) > GREY_TOLERANCE * unit:
        raise BadInputError(
            f"{path} is in colour, expected a grey thermal picture: a palette cannot be undone reliably; "
            "export it from the camera as white-hot grey or as raw counts"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def _unsupported(path: Path, image: Pixels, wanted: str) -> BadInputError:
    shape = " x ".join(str(n) for n in image.shape)
    return BadInputError(f"{path} holds {shape} values of type {image.dtype}, expected {wanted}; convert it")


def _decode(path: Path) -> Pixels:
    """The picture as stored, colour in RGB(A) order; the first page of several."""
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise BadInputError(f"{path} is a folder, expected a picture file") from error
    except FileNotFoundError as error:
        raise BadInputError(f"{path} does not exist, expected a picture file; check the path") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if not data:
        raise BadInputError(f"{path} is empty (0 bytes), expected a picture; copy it again")
    damage = _damage(data)
    if damage:
        raise BadInputError(f"{path} is damaged: {damage}; copy it again from where it came")
    is_tiff = data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    image = _decode_tiff(data) if is_tiff else None
    if image is None:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            image = None
        if image is not None and image.ndim == 3 and image.shape[2] in (3, 4):
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    if image is None or image.size == 0:
        raise BadInputError(f"{path} cannot be decoded: it is damaged or no picture; expected PNG, TIFF, JPEG or BMP")
    decoded: Pixels = image
    return decoded


def _decode_tiff(data: bytes) -> Pixels | None:
    """Read a TIFF exactly; None leaves it to cv2, which knows compressions that tifffile alone does not."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages.first
            image = np.asarray(page.asarray())
            planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and image.ndim == 3
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, OSError, struct.error, zlib.error):
        return None
    if image.dtype.byteorder == ">":
        image = image.astype(image.dtype.newbyteorder("="))
    return np.moveaxis(image, 0, -1) if planar else image


def _damage(data: bytes) -> str:
    """Say why a PNG or JPEG is not whole, since decoders show what there is of it; "" when nothing is found."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        at = 8
        while at + 12 <= len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            kind = data[at + 4 : at + 8]
            end = at + 12 + length
            if end > len(data):
                break
            if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                return f"the check sum of its {kind.decode('latin-1')} part is wrong"
            if kind == b"IEND":
                return ""
            at = end
        return "it ends too early"
    if data.startswith(b"\xff\xd8\xff") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return "it ends too early"
    return ""
