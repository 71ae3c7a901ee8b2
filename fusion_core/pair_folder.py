"""The one on-disk layout of aligned pairs: a folder of visible pictures beside one of thermal pictures.

    ROOT/vi/NAME.png  and  ROOT/ir/NAME.tiff      (or visible/ with infrared/ or thermal/; upper or lower case)

Two pictures are a pair when their names without the extension are equal. Reading checks every picture and refuses a
damaged one, which decoders would show in part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion_core.errors import BadInputError
from fusion_core.frames import Stream
from fusion_core.picture_file import PICTURE_SUFFIXES, PictureReader, is_picture

__all__ = [
    "PICTURE_SUFFIXES",
    "PairFiles",
    "PairListing",
    "find_pairs",
    "list_pairs",
    "read_thermal",
    "read_visible",
    "without_marks",
]

# Folders of ours and of published sets: LLVIP, M3FD, MSRS, RoadScene, KAIST, FLIR and what people make of them.
VISIBLE_NAMES = ("vi", "visible", "vis", "rgb", "visual", "viscrop", "crop_lr_visible", "color", "colour")
THERMAL_NAMES = ("ir", "infrared", "thermal", "lwir", "t", "inf", "cropinfrared", "cropinfrared2", "tir", "therm")
_PARTS = ("train", "test", "val", "valid", "validation", "images")
_MARKS = ("vi", "vis", "visible", "rgb", "ir", "lwir", "t", "thermal", "infrared", "inf", "co", "th")
_MARK = re.compile(rf"[-_. ](?:{'|'.join(_MARKS)})$|^(?:{'|'.join(_MARKS)})[-_. ]", re.IGNORECASE)


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
    if not visible and not thermal:
        _refuse_deeper(root, visible_dir, thermal_dir)
    if not visible.keys() & thermal.keys():
        visible, thermal = without_marks(visible), without_marks(thermal)
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
    wanted = " or ".join(f"{name}/" for name in names[:3])
    if not found:
        deeper = [path.name for path in _folders(root) if path.name.lower() in _PARTS]
        if deeper:
            raise BadInputError(
                f"{root} is divided into {', '.join(deeper)}, each with its own folders of pictures; give one of them,"
                f" e.g. {root / deeper[0]}"
            )
        raise BadInputError(f"{root} has no folder of {kind} pictures, expected {wanted}; rename the one you have")
    have = " and ".join(f"{entry.name}/" for entry in found)
    raise BadInputError(f"{root} has {have}, expected only one folder of {kind} pictures; move one away")


def without_marks(pictures: dict[str, Path]) -> dict[str, Path]:
    """Names without what only tells the stream (000_vis, 000_ir); as they were where two names would become one."""
    plain = {_MARK.sub("", stem): path for stem, path in pictures.items()}
    return plain if len(plain) == len(pictures) else pictures


def _refuse_deeper(root: Path, visible_dir: Path, thermal_dir: Path) -> None:
    """Raises BadInputError that says how to point to pictures that lie one folder deeper."""
    deeper = sorted({inside.name for folder in (visible_dir, thermal_dir) for inside in _folders(folder)})
    if deeper:
        raise BadInputError(
            f"{root} holds its pictures one folder deeper, in {visible_dir.name}/ and {thermal_dir.name}/ of"
            f" {', '.join(deeper)}; make a folder for each part, e.g. {deeper[0]}/{visible_dir.name} and"
            f" {deeper[0]}/{thermal_dir.name} (links will do), and give that"
        )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures by name without extension; hidden files and other types are no pictures."""
    pictures: dict[str, Path] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BadInputError(f"{folder} cannot be read ({error.strerror}); check its permissions") from error
    for path in entries:
        if not is_picture(path) or not path.is_file():
            continue
        if path.stem in pictures:
            raise BadInputError(
                f"{folder} has both {pictures[path.stem].name} and {path.name}, expected one picture a name; "
                "remove or rename one"
            )
        pictures[path.stem] = path
    return pictures


def read_visible(path: Path | str) -> NDArray[np.uint8]:
    """Read a visible picture: (H, W, 3) uint8 RGB; see `PictureReader`, which raises BadInputError."""
    return PictureReader(Stream.VISIBLE).read(path)


def read_thermal(path: Path | str, accept_colour: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a thermal picture: (H, W), uint8 or uint16 counts; see `PictureReader`, which raises BadInputError."""
    return PictureReader(Stream.THERMAL, accept_colour).read(path)
