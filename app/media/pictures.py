"""Single pictures and folders of pictures: reading, checking, matching by name, atomic writing."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np

from fusion_core.errors import BadInputError, RecordingError
from fusion_core.files import write_atomic

__all__ = [
    "NO_ROOM_ERRNOS",
    "PICTURE_SUFFIXES",
    "is_picture",
    "list_pictures",
    "match_folders",
    "no_room_message",
    "read_thermal_picture",
    "read_visible_picture",
    "write_picture",
]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm", ".jp2"})
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LUMA_BGR = np.array([0.0722, 0.7152, 0.2126], dtype=np.float32)  # BT.709


def is_picture(path: Path) -> bool:
    """Whether the name ends like a picture file; the content is not looked at."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def read_visible_picture(path: Path) -> np.ndarray:
    """Read a visible picture.

    Returns:
        (H, W, 3) uint8 RGB. Grey pictures get three equal channels, 16-bit ones their upper eight bits; an alpha
        channel is dropped.

    Raises:
        BadInputError: missing, empty, not a picture, several pages, not finite, or the same value everywhere.
    """
    stored = _read(path)
    if stored.dtype == np.uint16:
        stored = (stored >> 8).astype(np.uint8)
    elif stored.dtype != np.uint8:
        raise BadInputError(
            f"{path} holds {stored.dtype} pixels; a visible picture has 8 or 16 bits a channel. Convert it first."
        )
    if stored.ndim == 2 or stored.shape[2] == 1:
        rgb = cv2.cvtColor(stored, cv2.COLOR_GRAY2RGB)
    else:
        rgb = cv2.cvtColor(np.ascontiguousarray(stored[..., :3]), cv2.COLOR_BGR2RGB)
    _refuse_constant(path, rgb)
    return np.asarray(rgb)


def read_thermal_picture(path: Path) -> np.ndarray:
    """Read a thermal picture.

    Returns:
        (H, W) uint8, or uint16 counts. Three stored channels become their BT.709 luminance (equal channels stay
        exactly what they are). Floating-point temperatures are spread over 16 bits between the picture's own limits.

    Raises:
        BadInputError: missing, empty, not a picture, several pages, not finite, or the same value everywhere.
    """
    stored = _read(path)
    if stored.ndim == 3:
        stored = stored[..., 0] if stored.shape[2] in (1, 2) else _luminance(stored[..., :3])
    _refuse_constant(path, stored)
    if stored.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(stored)
    if stored.dtype.kind == "i":
        shifted = stored.astype(np.int64) - int(stored.min())
        if shifted.max() > 65535:
            raise BadInputError(f"{path} spans {shifted.max()} counts; a thermal picture spans at most 65535.")
        return shifted.astype(np.uint16)
    low, high = float(stored.min()), float(stored.max())
    return np.round((stored.astype(np.float64) - low) * (65535.0 / (high - low))).astype(np.uint16)


def _luminance(bgr: np.ndarray) -> np.ndarray:
    if np.array_equal(bgr[..., 0], bgr[..., 1]) and np.array_equal(bgr[..., 1], bgr[..., 2]):
        return np.ascontiguousarray(bgr[..., 0])
    luma = bgr.astype(np.float32) @ _LUMA_BGR
    if bgr.dtype.kind == "f":
        return np.asarray(luma)
    return np.asarray(np.round(luma).astype(bgr.dtype))


def _read(path: Path) -> np.ndarray:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}. Check the name.") from error
    if size == 0:
        raise BadInputError(f"{path} is empty (0 bytes). Was it copied completely?")
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
        stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if path.suffix.lower() in (".tif", ".tiff") and stored is not None and cv2.imcount(str(path)) > 1:
            raise BadInputError(f"{path} holds several pages; save each as its own picture and give the folder.")
    except (OSError, cv2.error) as error:
        raise BadInputError(f"{path} cannot be read as a picture: {error}") from error
    if stored is None:
        raise BadInputError(f"{path} cannot be read as a picture: it is damaged or another kind of file.")
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        bad = int(np.count_nonzero(~np.isfinite(stored)))
        raise BadInputError(f"{path} holds {bad} values that are NaN or infinite; replace them and try again.")
    return np.asarray(stored)


def _refuse_constant(path: Path, pixels: np.ndarray) -> None:
    first = pixels.reshape(-1)[0]
    if (pixels == first).all():
        raise BadInputError(
            f"{path} has the same value ({first}) in every pixel, so there is nothing to fuse. "
            "Was the lens covered or the shutter closed? Leave the picture out."
        )


def list_pictures(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by stem, sorted by name (subfolders and other files are left aside).

    Raises:
        BadInputError: unreadable folder, no picture in it, or two pictures with the same stem.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and is_picture(path))
    except OSError as error:
        raise BadInputError(f"folder {folder} cannot be read: {error.strerror}.") from error
    if not files:
        raise BadInputError(f"folder {folder} holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))}).")
    by_stem: dict[str, Path] = {}
    for path in files:
        if path.stem in by_stem:
            raise BadInputError(
                f"folder {folder} holds {by_stem[path.stem].name} and {path.name}: one picture a name, please."
            )
        by_stem[path.stem] = path
    return by_stem


def match_folders(visible: Path, thermal: Path, allow_unmatched: bool) -> tuple[list[tuple[str, Path, Path]], int]:
    """Match two folders of pictures by stem.

    Returns:
        ((stem, visible file, thermal file) sorted by stem, number of pictures without a partner).

    Raises:
        BadInputError: pictures without a partner unless `allow_unmatched`; no match at all.
    """
    visible_files, thermal_files = list_pictures(visible), list_pictures(thermal)
    only_visible = sorted(visible_files.keys() - thermal_files.keys())
    only_thermal = sorted(thermal_files.keys() - visible_files.keys())
    common = sorted(visible_files.keys() & thermal_files.keys())
    if not common:
        raise BadInputError(
            f"no picture in {visible} has a partner of the same name in {thermal} "
            f"(for example {only_visible[0]} and {only_thermal[0]}). The two of a pair need the same stem."
        )
    if (only_visible or only_thermal) and not allow_unmatched:
        parts = []
        if only_visible:
            parts.append(f"only in {visible}: {_some(only_visible)}")
        if only_thermal:
            parts.append(f"only in {thermal}: {_some(only_thermal)}")
        raise BadInputError(f"names without a partner: {'; '.join(parts)}. --allow-unmatched leaves them out.")
    return [(stem, visible_files[stem], thermal_files[stem]) for stem in common], len(only_visible) + len(only_thermal)


def _some(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def no_room_message(path: Path, what_remains: str) -> str:
    """One sentence for a full disk; `what_remains` says what is on it that can be used."""
    return f"no room left to write {path}: the disk, quota or size limit is full. Free some space. {what_remains}"


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB or (H, W) uint8/uint16 as a picture; the suffix names the format.

    The file appears complete or not at all: it is written beside its place and then renamed.

    Raises:
        RecordingError: the disk is full or refuses the file. BadInputError: a suffix that cannot be written.
    """
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    try:
        done, encoded = cv2.imencode(path.suffix.lower(), stored)
    except cv2.error as error:
        raise BadInputError(f"{path} cannot be written: {path.suffix!r} is no picture format; use .png") from error
    if not done:
        raise BadInputError(f"{path} cannot be written as {path.suffix}; use .png")
    try:
        write_atomic(path, encoded.tobytes())
    except OSError as error:
        if error.errno in NO_ROOM_ERRNOS:
            raise RecordingError(no_room_message(path, "Pictures written before it are complete.")) from error
        raise RecordingError(f"{path} cannot be written: {error.strerror}.") from error
