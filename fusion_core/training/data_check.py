"""Looks through a folder of training pairs for what would spoil a training, before time is spent on one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.colour import luminance
from fusion_core.errors import BadInputError
from fusion_core.files import read_json
from fusion_core.frames import Stream
from fusion_core.pair_folder import PairFiles, list_pairs
from fusion_core.picture_file import PictureReader, gathered_notes
from fusion_core.training.config import RegistrationConfig
from fusion_core.training.dataset import TrainingPair, split_pairs, to_8bit
from fusion_core.training.registration import PairRegistration, register_pair

__all__ = ["UNALIGNED", "DataCheck", "DataFault", "FaultKind", "check_data"]

UNALIGNED = (
    "Training wants both pictures of a pair in one size, thermal on visible's grid. `recording export` writes them as "
    "the cameras gave them: make the pairs of the recording itself by `lumitherm dataset build RECORDING -o DIR`, with "
    "--calibration where there is one."
)
"""What to do about pairs of two sizes."""

_CONSTANT_DEVIATION = 1.0  # grey levels of 255: below this a picture holds nothing
_HASH_BITS = 6  # pictures whose difference hashes (64 bits) are this close may be duplicates
_DUPLICATE_GREY_LEVELS = 3.0  # and are, when their 32x32 thumbnails differ by less than this on average


class FaultKind(StrEnum):
    """What can be wrong with a pair."""

    UNREADABLE = "unreadable"
    UNMATCHED = "no partner"
    SIZE = "size mismatch"
    CONSTANT = "constant"
    LEAK = "near-duplicate across splits"
    MISALIGNED = "misaligned"


@dataclass(frozen=True)
class DataFault:
    """One problem of one pair."""

    kind: FaultKind
    stem: str
    detail: str


@dataclass(frozen=True)
class DataCheck:
    """What was found in a folder."""

    pairs: int
    findings: tuple[DataFault, ...]
    shifts_px: tuple[float, ...]  # residual shift of every pair whose spectra correlate clearly
    unclear: int  # pairs whose spectra do not: their alignment cannot be told
    sizes: tuple[tuple[str, int], ...]  # "640x480, 8 bit": number of pairs, most frequent first
    repeated: int  # near-duplicates inside the training part: no fault, but they weigh more
    notes: tuple[str, ...] = ()  # what the set's builder warned of, and what was done to pictures while they were read
    unaligned: int = 0  # pairs whose pictures have two sizes; see `UNALIGNED`


@dataclass(frozen=True)
class _Look:
    pair: TrainingPair | None
    findings: tuple[DataFault, ...]
    kind: str = ""
    registration: PairRegistration | None = None
    thumbnail: npt.NDArray[np.float32] | None = None
    bits: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    unaligned: bool = False


def check_data(
    root: Path,
    *,
    validation_root: Path | None = None,
    validation_fraction: float = 0.06,
    max_shift_px: float = 8.0,
    workers: int = 2,
) -> DataCheck:
    """Look at every pair of a folder (and of the one held out, if it is another).

    Args:
        validation_fraction: share that training would hold out of `root` when there is no `validation_root`.
        max_shift_px: a clear residual shift above this is a problem; the trainer registers smaller ones.

    Raises:
        BadInputError: the folder itself is missing, or holds no pair at all.
    """
    listing = list_pairs(root)
    findings = [DataFault(FaultKind.UNMATCHED, path.stem, str(path)) for path in listing.unmatched]
    files: list[PairFiles] = list(listing.pairs)
    own = len(files)
    if validation_root is not None:
        other = list_pairs(validation_root)
        findings += [DataFault(FaultKind.UNMATCHED, path.stem, str(path)) for path in other.unmatched]
        files += other.pairs
    with ThreadPoolExecutor(workers) as pool:
        looks = list(pool.map(lambda item: _look(item, max_shift_px), files))
    for look in looks:
        findings += look.findings
    sound = [(number, look) for number, look in enumerate(looks) if look.pair is not None]
    if validation_root is not None:
        held = {number for number, _ in sound if number >= own}
    else:
        pairs = [look.pair for _, look in sound if look.pair is not None]
        validation = {id(pair) for pair in split_pairs(pairs, validation_fraction)[1]}
        held = {number for number, look in sound if id(look.pair) in validation}
    training = [look for number, look in sound if number not in held]
    findings += _leaks(training, [look for number, look in sound if number in held])
    kinds: dict[str, int] = {}
    for _, look in sound:
        kinds[look.kind] = kinds.get(look.kind, 0) + 1
    registrations = [look.registration for _, look in sound if look.registration is not None]
    return DataCheck(
        len(files),
        tuple(sorted(findings, key=lambda f: (list(FaultKind).index(f.kind), f.stem))),
        tuple(float(np.hypot(*r.shift_px)) for r in registrations if r.reliable),
        sum(not r.reliable for r in registrations),
        tuple(sorted(kinds.items(), key=lambda item: -item[1])),
        _repeated(training),
        (*_said_when_built(root), *gathered_notes(note for look in looks for note in look.notes)),
        sum(look.unaligned for look in looks),
    )


def _said_when_built(root: Path) -> list[str]:
    """What `dataset build` warned of, which the pictures alone do not show: this check must not sound better."""
    try:
        warnings = read_json(root / "dataset.json")["warnings"]
        return [f"said when the set was built: {text}" for text in warnings if isinstance(text, str)]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # other pairs than those of `dataset build`


def _look(files: PairFiles, max_shift_px: float) -> _Look:
    """What there is to say of a pair."""
    readers = PictureReader(Stream.VISIBLE), PictureReader(Stream.THERMAL)
    try:
        visible, thermal = luminance(readers[0].read(files.visible)), readers[1].read(files.thermal)
    except BadInputError as error:
        return _Look(None, (DataFault(FaultKind.UNREADABLE, files.stem, str(error)),))
    look = _look_at(files.stem, visible, thermal, max_shift_px)
    return replace(look, notes=tuple(note for reader in readers for note in reader.notes))


def _look_at(
    stem: str,
    visible: npt.NDArray[np.uint8],
    thermal: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    max_shift_px: float,
) -> _Look:
    if visible.shape != thermal.shape:
        sizes = f"visible {visible.shape[1]}x{visible.shape[0]}, thermal {thermal.shape[1]}x{thermal.shape[0]}"
        return _Look(None, (DataFault(FaultKind.SIZE, stem, sizes),), unaligned=True)
    if min(visible.shape) < 32:
        return _Look(None, (DataFault(FaultKind.SIZE, stem, f"{visible.shape[1]}x{visible.shape[0]} is below 32x32"),))
    infrared = to_8bit(thermal)
    findings = [
        DataFault(FaultKind.CONSTANT, stem, f"{name} picture: standard deviation {picture.std():.2f} grey levels")
        for name, picture in (("visible", visible), ("thermal", infrared))
        if picture.std() < _CONSTANT_DEVIATION
    ]
    if thermal.dtype == np.uint16 and int(thermal.max()) == int(thermal.min()) and not findings:
        findings = [DataFault(FaultKind.CONSTANT, stem, "thermal picture: one count everywhere")]
    kind = f"{visible.shape[1]}x{visible.shape[0]}, {8 * thermal.dtype.itemsize} bit"
    nothing = np.zeros((1, 1), np.uint8)
    pair = TrainingPair(stem, nothing, nothing)  # keep the name alone: pictures would fill the memory
    if findings:
        return _Look(None, tuple(findings), kind)
    registration = register_pair(visible, infrared, RegistrationConfig(field=False, search_px=16))
    if registration.reliable:
        dx, dy = registration.shift_px
        if float(np.hypot(dx, dy)) > max_shift_px:
            findings.append(
                DataFault(FaultKind.MISALIGNED, stem, f"thermal content is off by ({dx:+.1f}, {dy:+.1f}) px")
            )
    thumbnail = np.asarray(cv2.resize(visible, (32, 32), interpolation=cv2.INTER_AREA), np.float32)
    small = np.asarray(cv2.resize(visible, (9, 8), interpolation=cv2.INTER_AREA), np.int16)
    return _Look(pair, tuple(findings), kind, registration, thumbnail, (small[:, 1:] > small[:, :-1]).reshape(-1))


def _alike(first: _Look, others: Sequence[_Look]) -> list[_Look]:
    """Those of `others` whose visible pictures are nearly the one given."""
    if first.bits is None or first.thumbnail is None or not others:
        return []
    bits = np.stack([look.bits for look in others if look.bits is not None])
    near = np.flatnonzero((bits != first.bits).sum(1) <= _HASH_BITS).tolist()
    return [
        others[i]
        for i in near
        if float(np.abs(np.asarray(others[i].thumbnail) - first.thumbnail).mean()) < _DUPLICATE_GREY_LEVELS
    ]


def _leaks(training: Sequence[_Look], held: Sequence[_Look]) -> list[DataFault]:
    found = []
    for look in held:
        twins = [twin.pair.stem for twin in _alike(look, training) if twin.pair is not None]
        if twins and look.pair is not None:
            more = f" and {len(twins) - 1} more" if len(twins) > 1 else ""
            found.append(
                DataFault(FaultKind.LEAK, look.pair.stem, f"held out, but nearly {twins[0]}{more} is trained on")
            )
    return found


def _repeated(training: Sequence[_Look]) -> int:
    return sum(bool(_alike(look, training[number + 1 :])) for number, look in enumerate(training))
