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
THERMAL_NAMES = (
    "ir", "infrared", "thermal", "lwir", "t", "inf", "cropinfrared", "cropinfrared2", "tir", "therm",
    "thermal_8_bit", "thermal_16_bit",
)  # fmt: skip
_DEEPEST = 3  # KAIST: set00/V000/visible
_MOST_FOLDERS = 2000  # that are looked into to say where pairs lie
_FLIR_ADAS_2 = re.compile(r"(?:images|video)_(?:rgb|thermal)_\w+")
_MARKS = ("vi", "vis", "visible", "rgb", "ir", "lwir", "t", "thermal", "infrared", "inf", "co", "th", "previewdata")
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
        raise BadInputError(
            _where_pairs_are(root)
            or f"{root} has no folder of {kind} pictures, expected {wanted}; rename the one you have"
        )
    have = " and ".join(f"{entry.name}/" for entry in found)
    raise BadInputError(f"{root} has {have}, expected only one folder of {kind} pictures; move one away")


def _where_pairs_are(root: Path) -> str:
    """How to point to what lies otherwise than `list_pairs` expects; "" where nothing is found."""
    if any(_FLIR_ADAS_2.fullmatch(path.name.lower()) for path in _folders(root)):
        return (
            f"{root} is laid out as FLIR ADAS 2, whose two pictures of a pair have different names: copy those that"
            " rgb_to_thermal_vid_map.json lists into vi/ and ir/ of a new folder, both under one name, and give that"
        )
    inside = _folders_of_pairs(root)
    if inside:
        others = f" ({len(inside)} such folders)" if len(inside) > 1 else ""
        return f"{root} holds its pairs deeper; give a folder that has both kinds, e.g. {inside[0]}{others}"
    stems = sorted(path.stem for path in root.iterdir() if is_picture(path))
    plain = [_MARK.sub("", stem) for stem in stems]
    if len(set(plain)) < len(plain):
        return (
            f"{root} holds both pictures of a pair side by side ({stems[0]}, {stems[1]}, ...); move the visible ones"
            f" into {root / 'vi'} and the thermal ones into {root / 'ir'}"
        )
    return ""


def _folders_of_pairs(root: Path) -> list[Path]:
    """Folders at most `_DEEPEST` below that hold a folder of visible and one of thermal pictures, in order."""
    found: list[Path] = []
    level, seen = [root], 0
    for _ in range(_DEEPEST):
        below = []
        for folder in level:
            seen += 1
            if seen > _MOST_FOLDERS:
                return found
            try:
                inside = _folders(folder)
            except OSError:  # one that may not be read
                continue
            names = {path.name.lower() for path in inside}
            if folder != root and names & set(VISIBLE_NAMES) and names & set(THERMAL_NAMES):
                found.append(folder)
            else:
                below += [path for path in inside if not path.is_symlink()]
        level = below
    return found


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
