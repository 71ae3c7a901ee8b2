"""What a fuse job is asked for: its inputs, its output and how it fuses, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.media.pictures import PICTURE_SUFFIXES, is_picture
from app.media.reader import is_sequence
from app.media.writer import VIDEO_SUFFIXES
from app.view.views import FileView
from fusion_core.errors import BadInputError, UsageError
from fusion_core.thermal.agc import AgcConfig

__all__ = ["FuseOptions", "FuseRequest", "InputKind", "kind_of", "output_of"]


class InputKind(StrEnum):
    """What an input path is."""

    PICTURE = "picture"
    FOLDER = "folder"
    VIDEO = "video"  # also a numbered sequence of pictures


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """How a job fuses and writes.

    crf: H.264 quality, 0 lossless. limit: most pairs to fuse. calibration: the rig's file, None for plain scaling.
    strength: see `fusion_core.colour.with_strength`.
    max_skew_ns, max_hold_ns, thermal_offset_ns: of two videos, see `pair_by_time`; None takes the largest skew from the
    thermal frame rate. encoder_threads: None takes one up to 1280x720, so that the network keeps the other cores, and
    a quarter of the cores above.
    """

    view: FileView = FileView.FUSED
    crf: int = 18
    limit: int | None = None
    max_skew_ns: int | None = None
    max_hold_ns: int = 500_000_000
    thermal_offset_ns: int = 0
    agc: AgcConfig = field(default_factory=AgcConfig)
    calibration: Path | None = None
    strength: float = 1.0
    encoder_threads: int | None = None


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
    if is_sequence(path) and not path.exists():
        return InputKind.VIDEO
    if path.is_dir():
        return InputKind.FOLDER
    if not path.exists():
        raise BadInputError(f"{path} does not exist. Check the name.")
    return InputKind.PICTURE if is_picture(path) else InputKind.VIDEO


def output_of(request: FuseRequest, kind: InputKind) -> Path:
    """Where the result goes: a name is made up in a folder, and a missing suffix added.

    Raises:
        UsageError: the suffix does not fit, the folder is missing, or the output is in the way or an input.
    """
    output = request.output
    if kind is not InputKind.FOLDER:
        suffix, wanted = (
            (".png", PICTURE_SUFFIXES) if kind is InputKind.PICTURE else (".mkv", frozenset(VIDEO_SUFFIXES))
        )
        if output.is_dir():
            name = request.visible.stem.replace("%", "")
            output = output / f"{name}_fused{suffix}"
        elif not output.suffix:
            output = output.with_name(output.name + suffix)
        if output.suffix.lower() not in wanted:
            raise UsageError(f"{output}: a fused {kind} is written as {suffix}, got {output.suffix!r}.")
    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} for the output does not exist. Create it first.")
    for source in (request.visible, request.thermal):
        if source is not None and source.exists() and output.exists() and output.samefile(source):
            raise UsageError(f"{output} is also an input; it would be overwritten. Give another output.")
    if kind is InputKind.FOLDER:
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file; two folders are fused into a folder.")
    elif output.exists() and not request.overwrite:
        raise UsageError(f"{output} already exists. Give another name, or --force to replace it.")
    return output
