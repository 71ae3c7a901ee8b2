"""What a fuse job is asked for: its inputs, its output and how it fuses, checked before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.media.geometry import parse_media_input
from app.media.reader import is_sequence
from app.media.writer import VIDEO_SUFFIXES
from app.view.views import FileView
from fusion_core.errors import BadInputError, UsageError
from fusion_core.picture_file import PICTURE_SUFFIXES, is_picture
from fusion_core.thermal.agc import AgcConfig

__all__ = ["AlignBy", "FuseOptions", "FuseRequest", "InputKind", "kind_of", "output_of", "unnamed"]


_LONGEST_NAME = 255


class AlignBy(StrEnum):
    """How a job brings thermal onto visible."""

    CALIBRATION = "calibration"  # the rig's file; without one, thermal is plainly scaled
    AUTO = "auto"  # found from the pictures themselves


class InputKind(StrEnum):
    """What an input path is."""

    PICTURE = "picture"
    FOLDER = "folder"
    VIDEO = "video"  # also a numbered sequence of pictures


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """How a job fuses and writes.

    crf: H.264 quality, 0 lossless. limit: most pairs to fuse. calibration: the rig's file, None for plain scaling.
    align: whether the alignment is found from the pictures instead.
    strength: see `fusion_core.colour.with_strength`.
    max_skew_ns, max_hold_ns, thermal_offset_ns: of two videos, see `pair_by_time`; None takes the largest skew from the
    thermal frame rate. encoder_threads: None takes one up to 1280x720, so that the network keeps the other cores, and
    a quarter of the cores above. agc_range: values shown black and white, in the thermal input's own unit; None leaves
    it to `agc`. accept_colour: take the brightness of thermal pictures in an unknown palette.
    """

    view: FileView = FileView.FUSED
    crf: int = 18
    limit: int | None = None
    max_skew_ns: int | None = None
    max_hold_ns: int = 500_000_000
    thermal_offset_ns: int = 0
    agc: AgcConfig = field(default_factory=AgcConfig)
    calibration: Path | None = None
    align: AlignBy = AlignBy.CALIBRATION
    strength: float = 1.0
    encoder_threads: int | None = None
    agc_range: tuple[float, float] | None = None
    accept_colour: bool = False


@dataclass(frozen=True, slots=True)
class FuseRequest:
    """What to fuse, where to, and how. `overwrite` allows replacing what is at `output`.

    thermal: None when `visible` is a recording, which holds both.
    """

    visible: Path
    thermal: Path | None
    output: Path
    options: FuseOptions = field(default_factory=FuseOptions)
    overwrite: bool = False
    allow_unmatched: bool = False
    sequence_fps: float = 25.0
    decoder_threads: int = 1


def kind_of(path: Path) -> InputKind:
    """Tell what an input is by its name and by what lies there.

    Raises:
        BadInputError: nothing is there.
    """
    path = parse_media_input(path).path
    if is_sequence(path):
        return InputKind.VIDEO
    try:
        if path.is_dir():
            return InputKind.FOLDER
        if not path.exists():
            lead = "is a link to nothing" if path.is_symlink() else "does not exist"
            raise BadInputError(f"{path} {lead}. Check the name.")
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}. Check the name.") from error
    return InputKind.PICTURE if is_picture(path) else InputKind.VIDEO


def unnamed(request: FuseRequest) -> str:
    """What an input without an ending was taken for, as the end of a message; "" where each has one."""
    names = [path.name for path in (request.visible, request.thermal) if path and not path.suffix and path.is_file()]
    return f" {names[0]} has no ending, so it is taken as a video: a picture needs one, such as .png." if names else ""


def output_of(request: FuseRequest, kind: InputKind) -> Path:
    """Where the result goes: a name is made up in a folder, and a missing suffix added.

    Raises:
        UsageError: the suffix does not fit, the folder is missing, or the output is in the way or an input.
    """
    output = request.output
    if str(output) == "-":
        if kind is InputKind.FOLDER:
            raise UsageError("folders are fused into a folder, not to standard output; give -o FOLDER")
        return output
    _refuse_long_name(output)
    if kind is not InputKind.FOLDER:
        suffix, wanted = (
            (".png", PICTURE_SUFFIXES) if kind is InputKind.PICTURE else (".mkv", frozenset(VIDEO_SUFFIXES))
        )
        if output.is_dir():
            name = parse_media_input(request.visible).path.stem.replace("%", "")
            output = output / f"{name}_fused{suffix}"
        elif not output.suffix:
            output = output.with_name(output.name + suffix)
        if output.suffix.lower() not in wanted:
            raise UsageError(
                f"{output}: a fused {kind} is written as {', '.join(sorted(wanted))}, got {output.suffix!r}."
                f"{unnamed(request)}"
            )
    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} for the output does not exist. Create it first.")
    sources = [parse_media_input(path).path for path in (request.visible, request.thermal) if path is not None]
    for source in sources:
        if source.exists() and output.exists() and output.samefile(source):
            raise UsageError(f"{output} is also an input; it would be overwritten. Give another output.")
    if kind is InputKind.FOLDER:
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file; two folders are fused into a folder.")
    elif output.exists() and not request.overwrite:
        raise UsageError(f"{output} already exists. Give another name, or --overwrite to replace it.")
    return output


def _refuse_long_name(path: Path) -> None:
    """Raises UsageError for a name that no file system takes."""
    size = len(os.fsencode(path.name))
    if size > _LONGEST_NAME:
        raise UsageError(f"{path.name[:40]}... has {size} bytes, and a file name at most {_LONGEST_NAME}; shorten it.")
