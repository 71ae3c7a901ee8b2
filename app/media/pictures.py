"""Single pictures and folders of pictures: reading, checking, matching by name, atomic writing."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np

from fusion_core.errors import BadInputError, RecordingError
from fusion_core.files import write_atomic
from fusion_core.pair_folder import without_marks
from fusion_core.picture_file import PICTURE_SUFFIXES, PictureReader, is_picture

__all__ = [
    "NO_ROOM_ERRNOS",
    "encode_picture",
    "list_pictures",
    "match_folders",
    "no_room_message",
    "read_picture",
    "write_picture",
]

_KNOWN = ", ".join(sorted(PICTURE_SUFFIXES))
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def read_picture(reader: PictureReader, path: Path) -> np.ndarray:
    """What the reader makes of a file; see there.

    Raises:
        BadInputError: it cannot be read, or has the same value everywhere.
    """
    pixels = reader.read(path)
    _refuse_constant(path, pixels)
    return pixels


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
        deeper = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        where = f" itself; give one of the folders in it: {_some(deeper)}." if deeper else ""
        raise BadInputError(f"folder {folder} holds no picture{where or f' ({_KNOWN}).'}")
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
    if not visible_files.keys() & thermal_files.keys():
        visible_files, thermal_files = without_marks(visible_files), without_marks(thermal_files)
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


def encode_picture(pixels: np.ndarray, suffix: str, name: str) -> bytes:
    """(H, W, 3) uint8 RGB or (H, W) uint8/uint16 in the format of a suffix; `name` is for the error.

    Raises:
        BadInputError: a suffix that cannot be written.
    """
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    try:
        done, encoded = cv2.imencode(suffix.lower(), stored)
    except cv2.error as error:
        raise BadInputError(f"{name} cannot be written: {suffix!r} is no picture format; use .png") from error
    if not done:
        raise BadInputError(f"{name} cannot be written as {suffix}; use .png")
    return encoded.tobytes()


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB or (H, W) uint8/uint16 as a picture; the suffix names the format.

    The file appears complete or not at all: it is written beside its place and then renamed.

    Raises:
        RecordingError: the disk is full or refuses the file. BadInputError: a suffix that cannot be written.
    """
    data = encode_picture(pixels, path.suffix, str(path))
    try:
        write_atomic(path, data)
    except OSError as error:
        if error.errno in NO_ROOM_ERRNOS:
            raise RecordingError(no_room_message(path, "Pictures written before it are complete.")) from error
        raise RecordingError(f"{path} cannot be written: {error.strerror}.") from error
