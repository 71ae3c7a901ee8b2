"""From recordings to a training set: varied frames, without what is stale or frozen, aligned to the pixel.

    DIR/vi/SESSION_000123.png   DIR/ir/SESSION_000123.png      to train on
    DIR/validation/vi, ir                                      sessions held out whole
    DIR/dataset.json                                           every pair kept or rejected, and why
    DIR/report.html                                            these pairs to look at

Thermal pictures are stored in 8 bit after the AGC that the model is trained for, on the visible grid, registered.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.dataset.advice import ALIKE, NEAR_THINGS, NO_AGREEMENT, NO_STRUCTURE, TOO_FAR, advice
from app.dataset.choice import choose
from app.dataset.pixel_alignment import BaseAlignment, align_pixels, linear_levels, warp_by
from app.dataset.sources import Candidate, Source
from app.media.pictures import write_picture
from calibration.align import ThermalAligner
from calibration.coarse_search import pick_evenly
from calibration.rig import Calibration, RigCalibration, file_sha256, load_calibration, plain_scaling
from calibration.targetless import align_from_nothing, judge_fit
from fusion_core.colour import luminance
from fusion_core.errors import BadInputError, RunError, UsageError
from fusion_core.thermal.agc import Agc, AgcConfig, contract_of
from fusion_core.thermal.field_of_view import to_grid

__all__ = ["BuildSettings", "DatasetSummary", "PairRecord", "build_dataset"]

_FORMAT = 1
_BASE_FRAMES = 24
_FEW_PAIRS = 20
_LEAST_PAIRS = 3
_CLOSER = ((1.0, 1.0), (0.5, 0.5), (0.2, 1 / 3))  # of the interval and of the distance, where too few pairs differ
_SMALLER_PART, _ROUGHER = 0.6, 1.75  # of what is wanted, where a session would give too few pairs
_ALIGN_BY = 8  # pairs that an alignment is found by
_GOOD_EXPECTED_PX = 1.7  # about 1.5 px against the truth
_BAD_PX = 2.5  # a cell with a larger residual is cut off


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How pairs are chosen and what they must fulfil.

    interval_s: candidates are at least this far apart. min_distance: of a candidate from all that were taken, see
    `dataset_choice.distance`. max_pairs: of a session. The rest judges the alignment, in pixels of the visible grid,
    for a thermal camera of as many pixels; see `for_pitch`.
    wanted_pairs: where a session offers fewer that differ as asked, frames that are nearer in time and more alike are
    taken too, in two steps; 0: never.
    """

    interval_s: float = 0.2
    min_distance: float = 0.06
    max_pairs: int = 200
    wanted_pairs: int = _FEW_PAIRS
    max_skew_ms: float = 20.0
    search_px: float = 12.0
    parallax_px: float = 6.0
    max_median_px: float = 0.7
    max_expected_p95_px: float = 2.0
    min_correlation: float = 0.35
    min_judged: float = 0.3
    max_departure_px: float = 2.0
    max_change_px: float = 1.5
    max_bad: float = 0.03
    min_side: float = 0.5
    validation_fraction: float = 0.2
    agc: AgcConfig = field(default_factory=AgcConfig)

    def for_pitch(self, pitch_px: float) -> BuildSettings:
        """The limits for a thermal camera whose pixels are that large on the visible grid.

        Its edges agree less with the visible ones; that a pair belongs together is seen by how much of it can be
        judged (0.6 to 0.9 of it, against 0.1 and less of two pictures that have nothing in common, at any pitch). The
        windows that measure grow with the pixel (`align_pixels`), so that what they measure stays about what is left.
        Beyond a pitch of 2 the last percent cannot be as good, and somewhat more is let pass; the report says so.
        """
        return replace(
            self,
            min_correlation=self.min_correlation * 2.0 / (1.0 + pitch_px),
            max_expected_p95_px=self.max_expected_p95_px * (1.0 + 0.125 * max(0.0, min(pitch_px, 6.0) - 2.0)),
        )


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One candidate that got as far as alignment. part: training, validation, or "" when rejected for `reason`."""

    stem: str
    session: str
    source: str
    index: int
    time_s: float
    skew_ms: float
    part: str = ""
    reason: str = ""
    correlation: float = float("nan")
    judged: float = 0.0
    residual_median_px: float = float("nan")
    residual_p95_px: float = float("nan")
    expected_p95_px: float = float("nan")
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, height, width on the visible grid
    displacement_px: float = 0.0  # median length of what was undone, on top of the calibration


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What a build gave. frames_left_out: how many frames were no candidates, by reason."""

    output: Path
    kept: list[PairRecord]
    rejected: list[PairRecord]
    frames_left_out: dict[str, int]
    warnings: list[str]
    thermal_pitch_px: float = 1.0  # the largest of the sessions

    def count(self, part: str) -> int:
        """Pairs kept in "training" or "validation"."""
        return sum(record.part == part for record in self.kept)


def thermal_pitch_px(calibration: Calibration | None, thermal_size: tuple[int, ...], size: tuple[int, ...]) -> float:
    """How large a thermal pixel is on the visible grid, 1 or more. Sizes are (height, width)."""
    if calibration is None:
        return max(1.0, size[0] / thermal_size[0], size[1] / thermal_size[1])
    middle = np.array([thermal_size[1] / 2, thermal_size[0] / 2])
    at = calibration.visible_from_thermal(middle + np.array([[0, 0], [1, 0], [0, 1]]))
    on_calibrated = float(np.linalg.norm(at[1:] - at[0], axis=1).mean())
    return max(1.0, on_calibrated * size[1] / calibration.visible.width)


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    """A kept pair: visible (h, w, 3), registered thermal (h, w), and the field (h, w, 2) px that was undone."""

    visible: np.ndarray
    thermal: np.ndarray
    field_px: np.ndarray


class _Session:
    """Aligns and writes the pairs of one session."""

    def __init__(self, name: str, settings: BuildSettings, calibration: Calibration | None) -> None:
        self.name = name
        self._settings = settings
        self._calibration = calibration
        self.pitch_px = 1.0
        self.notes: list[str] = []
        self._aligner: ThermalAligner | None = None

    def _chosen(self, source: Source, agc: Agc, frames_left_out: Counter[str]) -> list[tuple[Candidate, np.ndarray]]:
        """Candidates that differ, and their thermal levels; where they are few, more that are more alike."""
        settings = self._settings
        chosen: list[tuple[Candidate, np.ndarray]] = []
        left_out: Counter[str] = Counter()
        note = ""
        for in_time, in_look in _CLOSER:
            looked_at: Counter[str] = Counter()
            before = source.offered
            interval_s, min_distance = settings.interval_s * in_time, settings.min_distance * in_look
            candidates = source.candidates(interval_s, settings.max_skew_ms, looked_at)
            found = list(choose(candidates, agc, min_distance=min_distance, max_pairs=settings.max_pairs))
            looked_at[ALIKE] += source.offered - before - len(found)
            if chosen and len(found) <= len(chosen):
                continue
            if chosen:
                note = (
                    f"{self.name}: too few frames differ; taken were frames from {interval_s:.2g} s apart on, more "
                    f"alike than wanted ({min_distance:.2g} in place of {settings.min_distance:.2g}). A rig or a scene "
                    "that moves gives better ones"
                )
            chosen, left_out = found, looked_at
            if len(chosen) >= settings.wanted_pairs:
                break
        frames_left_out.update(left_out)
        self.notes += [note] if note else []
        return chosen

    def _align_from_nothing(self, chosen: list[tuple[Candidate, np.ndarray]]) -> None:
        """Without a calibration: find one from the footage where thermal lies far off, as unequal lenses have it."""
        first = chosen[0][0]
        sizes = first.visible.shape[:2], first.thermal.shape[:2]
        pairs = [(c.visible, c.thermal) for c, _ in chosen if (c.visible.shape[:2], c.thermal.shape[:2]) == sizes]
        some = pick_evenly(pairs, _ALIGN_BY)
        try:
            if not judge_fit(plain_scaling(first.visible.shape[:2], (sizes[1][0], sizes[1][1])), some).far:
                return
            found = align_from_nothing(some)
        except BadInputError:  # too small, or the scene does not tell: each pair is judged by itself
            return
        if found.start is None or found.problem:
            return
        self._calibration = found.calibration
        self.notes.append(
            f"{self.name}: thermal lies far off by plain scaling; aligned from the footage itself: "
            f"{found.start.words()}. `lumitherm calibrate refine` keeps it as a file for --calibration"
        )

    def records(self, source: Source, frames_left_out: Counter[str]) -> Iterator[tuple[PairRecord, _Aligned | None]]:
        """Each chosen pair: its record, and its pictures; None where rejected."""
        settings = self._settings
        agc = Agc(settings.agc)
        chosen = self._chosen(source, agc, frames_left_out)
        if not chosen:
            return
        if self._calibration is None:
            self._align_from_nothing(chosen)
        size = chosen[0][0].visible.shape[:2]
        self._to_grid(chosen[0][1], size)  # makes the maps, and so what is seen
        window = self._seen(size)
        self.pitch_px = thermal_pitch_px(self._calibration, chosen[0][1].shape, size)
        self._settings = settings.for_pitch(self.pitch_px)
        base = BaseAlignment(
            (window[0].stop - window[0].start, window[1].stop - window[1].start), search_px=settings.search_px
        )
        for at in sorted({int(v) for v in np.linspace(0, len(chosen) - 1, min(_BASE_FRAMES, len(chosen)))}):
            if chosen[at][0].visible.shape[:2] == size:
                base.add(luminance(chosen[at][0].visible)[window], self._linear(chosen[at][0], size)[window])
        base_px, across = base.solve(square=self._square(chosen[0][1].shape, size))
        if isinstance(self._calibration, RigCalibration):
            offset = np.abs(self._calibration.t_visible_thermal_m[:2])
            if max(offset) > 3 * min(offset):
                across = bool(offset[0] > offset[1])
        judged = self._judged(source, chosen, size, base_px, across, window)
        kept, rejected = 0, []
        for record, aligned in judged:
            if aligned is None:
                rejected.append(record)
                continue
            kept += 1
            yield record, aligned
        near = {record.index for record in rejected if record.reason in (TOO_FAR, NEAR_THINGS)}
        if kept >= _LEAST_PAIRS or kept + len(near) < _LEAST_PAIRS:
            yield from ((record, None) for record in rejected)
            return
        yield from ((record, None) for record in rejected if record.index not in near)
        settings = self._settings
        self._settings = replace(
            settings,
            min_side=_SMALLER_PART * settings.min_side,
            max_expected_p95_px=_ROUGHER * settings.max_expected_p95_px,
        )
        again = [pair for pair in chosen if pair[0].index in near]
        before = kept
        for record, aligned in self._judged(source, again, size, base_px, across, window):
            kept += aligned is not None
            yield record, aligned
        self._settings = settings
        if kept > before:
            self.notes.append(
                f"{self.name}: hardly a pair is aligned as well as wanted; smaller parts were taken, of which 5 % may "
                f"be off by up to {_ROUGHER * settings.max_expected_p95_px:.1f} px in place of "
                f"{settings.max_expected_p95_px:.1f}. Film with nothing near the rig for better ones"
            )

    def _judged(
        self,
        source: Source,
        chosen: list[tuple[Candidate, np.ndarray]],
        size: tuple[int, ...],
        base_px: np.ndarray,
        across: bool | None,
        window: tuple[slice, slice],
    ) -> Iterator[tuple[PairRecord, _Aligned | None]]:
        """Each pair aligned and judged by the present limits."""
        for candidate, levels in chosen:
            record = PairRecord(
                f"{self.name}_{candidate.index:06d}", self.name, str(source.path), candidate.index,
                round(candidate.time_s, 3), round(candidate.skew_ms, 2),
            )  # fmt: skip
            if candidate.visible.shape[:2] != size:
                yield replace(record, reason="another picture size than the session began with"), None
                continue
            thermal, linear = self._to_grid(levels, size), self._linear(candidate, size)
            pictures = candidate.visible[window], thermal[window], linear[window]
            yield self._align(record, pictures, base_px, across, window)

    def _align(
        self,
        record: PairRecord,
        pictures: tuple[np.ndarray, np.ndarray, np.ndarray],
        base_px: np.ndarray,
        across: bool | None,
        window: tuple[slice, slice],
    ) -> tuple[PairRecord, _Aligned | None]:
        """pictures: visible, thermal to be stored, thermal to align by."""
        s = self._settings
        visible, thermal, linear = pictures
        found = align_pixels(
            luminance(visible), linear, base_px, across=across, parallax_px=s.parallax_px, pitch_px=self.pitch_px
        )
        left = found.residuals()
        record = replace(
            record,
            correlation=round(found.correlation, 4),
            judged=round(found.judged, 4),
            residual_median_px=round(left.median_px, 3),
            residual_p95_px=round(left.p95_px, 3),
            expected_p95_px=round(left.expected_p95_px, 3),
            displacement_px=round(float(np.median(np.linalg.norm(found.field_px, axis=-1))), 2),
        )
        if found.judged < s.min_judged:
            reason = NO_STRUCTURE
        elif found.correlation < s.min_correlation:
            reason = NO_AGREEMENT
        elif not left.median_px <= s.max_median_px:
            reason = TOO_FAR
        else:
            reason = ""
        if reason:
            return replace(record, reason=reason), None
        part = found.best_part(
            departure_px=s.max_departure_px, residual_px=_BAD_PX, change_px=s.max_change_px, max_bad=s.max_bad,
            min_side=s.min_side, min_judged=s.min_judged,
        )  # fmt: skip
        part = None if part is None else _inside(part, found.field_px)
        if part is None:
            return replace(record, reason=NEAR_THINGS), None
        left = found.residuals(part)
        record = replace(
            record,
            residual_median_px=round(left.median_px, 3),
            residual_p95_px=round(left.p95_px, 3),
            expected_p95_px=round(left.expected_p95_px, 3),
        )
        if not left.median_px <= s.max_median_px or not left.expected_p95_px <= s.max_expected_p95_px:
            return replace(record, reason=TOO_FAR), None
        crop = (
            window[0].start + part[0].start, window[1].start + part[1].start,
            part[0].stop - part[0].start, part[1].stop - part[1].start,
        )  # fmt: skip
        aligned = _Aligned(visible[part], warp_by(thermal, found.field_px)[part], found.field_px[part])
        return replace(record, crop=crop), aligned

    def _to_grid(self, levels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        height, width = size
        if self._calibration is None:
            return to_grid(levels, height, width)
        if self._aligner is None or self._aligner.size != (height, width):
            self._aligner = ThermalAligner(self._calibration, (height, width))
        return self._aligner.to_visible(levels)

    def _linear(self, candidate: Candidate, size: tuple[int, ...]) -> np.ndarray:
        """The candidate's thermal picture on the visible grid to align by."""
        return self._to_grid(linear_levels(candidate.thermal), size)

    def _square(self, thermal_size: tuple[int, ...], size: tuple[int, ...]) -> bool:
        """Whether thermal pixels, brought onto the visible grid, have the shape of visible ones."""
        proportion = size[0] / size[1] * thermal_size[1] / thermal_size[0]
        return self._calibration is not None or abs(proportion - 1.0) < 0.01

    def _seen(self, size: tuple[int, ...]) -> tuple[slice, slice]:
        """A large rectangle that the thermal camera sees."""
        return largest_rectangle(np.ones(size, bool) if self._aligner is None else self._aligner.mask)


def _inside(part: tuple[slice, slice], field_px: np.ndarray) -> tuple[slice, slice] | None:
    """The rectangle without the border where the field reaches outside the picture (mirrored content)."""
    height, width = field_px.shape[:2]
    low, high = np.percentile(field_px, (1, 99), axis=(0, 1))
    rows, columns = part
    top, left = (int(np.ceil(max(0.0, -v) / 8)) * 8 for v in (low[1], low[0]))
    bottom, right = (size - int(np.ceil(max(0.0, v) / 8)) * 8 for size, v in ((height, high[1]), (width, high[0])))
    rows = slice(max(rows.start, top), min(rows.stop, bottom // 8 * 8))
    columns = slice(max(columns.start, left), min(columns.stop, right // 8 * 8))
    if rows.stop - rows.start < 96 or columns.stop - columns.start < 96:
        return None
    return rows, columns


def largest_rectangle(mask: np.ndarray) -> tuple[slice, slice]:
    """A large rectangle of True: the whole shrunk side by side, always at the side with most False.

    Raises:
        BadInputError: hardly anything is True.
    """
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while not mask[top:bottom, left:right].all():
        if bottom - top < 96 or right - left < 96:
            raise BadInputError(
                "the two cameras of this calibration hardly see the same: no 96x96 pixels in common. Is it this rig's?"
            )
        part = mask[top:bottom, left:right]
        missing = [1 - part[0].mean(), 1 - part[-1].mean(), 1 - part[:, 0].mean(), 1 - part[:, -1].mean()]
        side = int(np.argmax(missing))
        top, bottom, left, right = top + (side == 0), bottom - (side == 1), left + (side == 2), right - (side == 3)
        if max(missing) == 0:  # a hole inside: give up a row
            top += 1
    return slice(top, bottom), slice(left, right)


def build_dataset(
    sources: Sequence[Source],
    output: Path,
    settings: BuildSettings,
    *,
    calibration: Path | None = None,
    validation_sessions: Sequence[str] = (),
    on_pair: Callable[[PairRecord], None] | None = None,
    on_field: Callable[[PairRecord, np.ndarray], None] | None = None,
) -> DatasetSummary:
    """Build a training set. Sources of one session name are one session.

    Args:
        output: a new or empty folder.
        validation_sessions: held out; none given: the last sessions by name, about validation_fraction of the pairs.
            With a single session its end is held out.
        on_pair: called with each decided pair.
        on_field: called with each kept pair and the displacement that was undone in its crop, on top of the
            calibration: (h, w, 2) float32 px of the visible grid.

    Raises:
        UsageError: the folder is not empty, or no such session. BadInputError: a source cannot be used, or no pair
        was kept. ConfigError: the calibration. RunError: disk full.
    """
    names = _check_request(sources, output, validation_sessions)
    rig = load_calibration(calibration) if calibration is not None else None
    _make_folders(output)
    taken = _Taken(output, on_pair, on_field)
    for source in sources:
        taken.add(_Session(source.session, settings, rig), source)
    if len(taken.kept) < _LEAST_PAIRS:
        raise BadInputError(taken.why_too_few())
    kept, warnings = _split(taken.kept, output, settings.validation_fraction, validation_sessions)
    summary = DatasetSummary(
        output,
        kept,
        taken.rejected,
        dict(taken.left_out),
        taken.notes + warnings + _quality_warnings(taken, kept, names),
        round(taken.pitch_px, 3),
    )
    _write_manifest(summary, settings, calibration)
    return summary


def _check_request(sources: Sequence[Source], output: Path, validation_sessions: Sequence[str]) -> list[str]:
    """The names of the sessions. Raises UsageError."""
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty; give a new folder, so that no old pair stays among the new ones")
    names = sorted({source.session for source in sources})
    unknown = sorted(set(validation_sessions) - set(names))
    if unknown:
        raise UsageError(f"there is no session {', '.join(unknown)}; the sessions are {', '.join(names)}")
    return names


def _make_folders(output: Path) -> None:
    try:
        for part in ("", "validation"):
            for kind in ("vi", "ir"):
                (output / part / kind).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{output} cannot be made: {error.strerror}") from error


class _Taken:
    """What was kept and rejected so far; writes what is kept."""

    def __init__(
        self,
        output: Path,
        on_pair: Callable[[PairRecord], None] | None,
        on_field: Callable[[PairRecord, np.ndarray], None] | None,
    ) -> None:
        self._output, self._on_pair, self._on_field = output, on_pair, on_field
        self._stems: set[str] = set()
        self.kept: list[PairRecord] = []
        self.rejected: list[PairRecord] = []
        self.left_out: Counter[str] = Counter()
        self.pitch_px = 1.0
        self.notes: list[str] = []

    def add(self, session: _Session, source: Source) -> None:
        """Decide on every pair of a source."""
        for record, aligned in session.records(source, self.left_out):
            if aligned is None:
                self.rejected.append(record)
            else:
                record = self._keep(record, aligned)
            if self._on_pair is not None:
                self._on_pair(record)
        self.pitch_px = max(self.pitch_px, session.pitch_px)
        self.notes += session.notes

    def _keep(self, record: PairRecord, aligned: _Aligned) -> PairRecord:
        while record.stem in self._stems:  # segments of one recording number their pairs anew
            record = replace(record, stem=record.stem + "b")
        self._stems.add(record.stem)
        write_picture(self._output / "vi" / f"{record.stem}.png", aligned.visible)
        write_picture(self._output / "ir" / f"{record.stem}.png", aligned.thermal)
        self.kept.append(record)
        if self._on_field is not None:
            self._on_field(record, aligned.field_px)
        return record

    def advice(self) -> str:
        """What may bring more pairs."""
        return advice((record.reason for record in self.rejected), self.left_out)

    def why_too_few(self) -> str:
        """Message for a set that nothing can be trained on and judged by."""
        reasons = Counter(record.reason for record in self.rejected) + self.left_out
        said = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(4)) or "no frames"
        if not self.kept:
            return f"no pair was kept: {said}. {self.advice()}"
        kept = "1 pair was" if len(self.kept) == 1 else f"{len(self.kept)} pairs were"
        return (
            f"only {kept} kept, at least {_LEAST_PAIRS} are needed (one is held out) and {_FEW_PAIRS} wanted; "
            f"left out: {said}. {self.advice().rstrip('.')}. Film some minutes more of other places, on another day if "
            "you can, into a new folder."
        )


def _quality_warnings(taken: _Taken, kept: list[PairRecord], names: list[str]) -> list[str]:
    """What is wrong with a set as a whole."""
    warnings = []
    expected_px = float(np.mean([record.expected_p95_px for record in kept]))
    if expected_px > _GOOD_EXPECTED_PX:
        cause = f": a thermal pixel is {taken.pitch_px:.1f} px of the grid" if taken.pitch_px > 2.05 else ""
        warnings.append(
            f"These targets are coarse{cause}. {expected_px:.1f} px must be expected to be left at 95 %, where 1.5 px "
            "and less make a good target; a model tuned to them may learn it. Hold its figures against other pairs"
        )
    barren = sorted(set(names) - {record.session for record in kept})
    if barren:
        warnings.append(f"no pair was kept of {', '.join(barren)}; the tables of rejected pairs and frames say why")
    if len(kept) < _FEW_PAIRS:
        few = f"{len(kept)} pairs are few to train on, {_FEW_PAIRS} or more are wanted."
        warnings.append(f"{few} {taken.advice()}")
    return warnings


def _split(
    kept: list[PairRecord], output: Path, fraction: float, chosen: Sequence[str]
) -> tuple[list[PairRecord], list[str]]:
    """Say which part each pair belongs to, and move those held out."""
    sessions = Counter(record.session for record in kept)
    warnings = []
    held: set[str] = set()
    if chosen:
        stems = {record.stem for record in kept if record.session in chosen}
    elif len(sessions) > 1:
        wanted = fraction * len(kept)
        for name in sorted(sessions, reverse=True):
            if wanted <= 0 or len(held) + 1 == len(sessions):
                break
            held.add(name)
            wanted -= sessions[name]
        stems = {record.stem for record in kept if record.session in held}
    else:
        count = min(round(fraction * len(kept)), len(kept) - 1)
        ordered = sorted(kept, key=lambda record: record.time_s)
        stems = {record.stem for record in ordered[len(ordered) - count :]}
        warnings.append(
            "there is one session only: its end is held out, which flatters the figures. Add a recording of another day"
        )
    if len(stems) == len(kept):
        raise UsageError("every kept pair would be held out; leave a session to train on (--validate)")
    if not stems:
        warnings.append("nothing is held out: fine-tuning will not be able to tell whether it helped")
    records = []
    for record in kept:
        part = "validation" if record.stem in stems else "training"
        if part == "validation":
            for kind in ("vi", "ir"):
                (output / kind / f"{record.stem}.png").replace(output / "validation" / kind / f"{record.stem}.png")
        records.append(replace(record, part=part))
    return records, warnings


def _write_manifest(summary: DatasetSummary, settings: BuildSettings, calibration: Path | None) -> None:
    values: dict[str, Any] = asdict(replace(settings, agc=AgcConfig())) | {
        "agc": settings.agc.model_dump(mode="json", exclude_defaults=True)
    }
    manifest = {
        "format": _FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "agc_contract": contract_of(settings.agc),
        "thermal_pitch_px": summary.thermal_pitch_px,
        "calibration_sha256": file_sha256(calibration) if calibration is not None else None,
        "settings": values,
        "frames_left_out": summary.frames_left_out,
        "warnings": summary.warnings,
        "kept": [_plain(record) for record in summary.kept],
        "rejected": [_plain(record) for record in summary.rejected],
    }
    path = summary.output / "dataset.json"
    try:
        path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; is the disk full?") from error


def _plain(record: PairRecord) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in asdict(record).items()}
