"""Which part of a picture is meant, and how it is turned: the same words for files, cameras and the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion_core.errors import BadInputError

__all__ = [
    "HALVES",
    "ROTATIONS",
    "MediaInput",
    "PictureCut",
    "cut_half",
    "frame_orientation",
    "parse_cut",
    "parse_media_input",
    "refuse_same_picture",
]

HALVES = ("left", "right", "top", "bottom")
ROTATIONS = (0, 90, 180, 270)
# Signs of the display matrix (a, b, c, d), which maps (x, y) to (a x + c y, b x + d y) -> orientation as EXIF counts.
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
_OPTION = re.compile(r"(?P<name>[a-z]+)=(?P<value>[A-Za-z0-9]+)")


def cut_half(pixels: np.ndarray, half: str) -> np.ndarray:
    """The named half (left, right, top, bottom) of a picture, a view. An odd middle row or column is left out."""
    height, width = pixels.shape[:2]
    return {
        "left": pixels[:, : width // 2],
        "right": pixels[:, width - width // 2 :],
        "top": pixels[: height // 2],
        "bottom": pixels[height - height // 2 :],
    }[half]


@dataclass(frozen=True, slots=True)
class PictureCut:
    """A part of each picture, turned. rotate: degrees clockwise, before `mirror`, which swaps left and right.

    counts: the bytes of a YUYV picture are 16-bit little-endian counts.
    """

    half: str | None = None
    rotate: int = 0
    mirror: bool = False
    counts: bool = False

    def turn(self, pixels: np.ndarray) -> np.ndarray:
        """Turn and mirror; the array itself where there is nothing to do."""
        if not self.rotate and not self.mirror:
            return pixels
        pixels = np.rot90(pixels, -(self.rotate // 90) % 4)
        return np.ascontiguousarray(pixels[:, ::-1] if self.mirror else pixels)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """The half, turned and mirrored."""
        return self.turn(pixels if self.half is None else cut_half(pixels, self.half))


def frame_orientation(video: Any) -> int:
    """How a decoded frame is to be turned by its display matrix, 1 to 8 as EXIF counts; to the next quarter turn."""
    for side in video.side_data:
        if side.type.name == "DISPLAYMATRIX":
            numbers = np.frombuffer(bytes(side)[:36], np.int32)
            a, b, c, d = (int(numbers[place]) for place in (0, 1, 3, 4))
            straight = abs(a) + abs(d) >= abs(b) + abs(c)
            signs = (_sign(a), 0, 0, _sign(d)) if straight else (0, _sign(b), _sign(c), 0)
            return _ORIENTATIONS[signs]
    return 1


def _sign(value: int) -> int:
    return 1 if value >= 0 else -1


@dataclass(frozen=True, slots=True)
class MediaInput:
    """A file and what of it is meant: `path`, video track `track`, and `cut`."""

    path: Path
    track: int = 0
    cut: PictureCut = PictureCut()


def parse_media_input(given: Path) -> MediaInput:
    """Take `FILE?track=1#half=left&rotate=90&mirror=1&counts=1` apart. A file of exactly this name is that file.

    Raises:
        BadInputError: an option that there is not, or a value that it cannot have.
    """
    text = str(given)
    marks = [at for mark in "?#" if (at := text.rfind(mark)) > 0]
    if not marks or _exists(given):
        return MediaInput(given)
    place = next((at for at in sorted(marks) if _exists(Path(text[:at]))), None)
    if place is None:
        return MediaInput(given)
    values: dict[str, str] = {}
    for item in filter(None, re.split(r"[?#&]", text[place:])):
        found = _OPTION.fullmatch(item)
        if found is None or found["name"] not in ("track", "half", "rotate", "mirror", "counts"):
            raise BadInputError(
                f"{given}: {item!r} is no option of a file; there are ?track=1 and #half=left, rotate=90, mirror=1,"
                " counts=1, joined by &"
            )
        values[found["name"]] = found["value"]
    return MediaInput(Path(text[:place]), _track(given, values), parse_cut(str(given), values))


def refuse_same_picture(visible: Path, thermal: Path) -> None:
    """Raises BadInputError where both are the same whole picture of one file, whatever its options are."""
    first, second = parse_media_input(visible), parse_media_input(thermal)
    try:
        same = first.path.samefile(second.path)
    except OSError:  # one is not there: its reader says so
        same = False
    if same and first.track == second.track and first.cut.half == second.cut.half:
        name = first.path.name
        if first.path.is_dir():
            raise BadInputError(f"visible and thermal are the same folder, {visible}; give each its own")
        raise BadInputError(
            f"visible and thermal are the same, {visible}. Give the thermal one; or name the track or the half "
            f"of each: '{name}?track=0' and '{name}?track=1', or '{name}#half=left' and '{name}#half=right'."
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists() or re.search(r"%0?\d*d", path.name) is not None
    except OSError:  # a name that is too long
        return False


def _track(given: Path, values: dict[str, str]) -> int:
    track = values.get("track", "0")
    if not track.isdecimal():
        raise BadInputError(f"{given}: track is {track!r}, must be a number from 0 (the first video track)")
    return int(track)


def parse_cut(shown: str, values: dict[str, str]) -> PictureCut:
    """A cut from its options as text.

    Raises:
        BadInputError: a value that an option cannot have.
    """
    half, rotate = values.get("half"), values.get("rotate", "0")
    if half is not None and half not in HALVES:
        raise BadInputError(f"{shown}: half is {half!r}, must be one of {', '.join(HALVES)}")
    if rotate not in {str(angle) for angle in ROTATIONS}:
        raise BadInputError(f"{shown}: rotate is {rotate!r}, must be one of {', '.join(map(str, ROTATIONS))}")
    flags = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    for name in ("mirror", "counts"):
        if values.get(name, "0").lower() not in flags:
            raise BadInputError(f"{shown}: {name} is {values[name]!r}, must be 0 or 1")
    mirror, counts = (flags[values.get(name, "0").lower()] for name in ("mirror", "counts"))
    return PictureCut(half, int(rotate), mirror, counts)
