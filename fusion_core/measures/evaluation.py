"""How well an engine fuses pairs whose thermal picture is displaced by a known amount.

For each pair and displacement the thermal picture is displaced, the engine fuses it with the visible picture, and the
luminance of the result is measured inside the central window (320 px wide and 256 px high, or as much of it as the
picture has) against the visible picture and the thermal picture where it belongs: the eight metrics of
`fusion_core.measures.metrics` and the gradient shares of `fusion_core.measures.ghost`. The window keeps the mirrored
border out, except in pictures that are hardly larger than it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion_core.colour import check_pair, luminance
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError
from fusion_core.frames import Stream
from fusion_core.measures.displacement import Displacement, displace
from fusion_core.measures.ghost import central_window, gradient_shares
from fusion_core.measures.metrics import METRIC_KEYS, MetricReference
from fusion_core.pair_folder import find_pairs, read_visible
from fusion_core.picture_file import PictureReader, stored_pixels
from fusion_core.thermal.agc import Agc

__all__ = [
    "SHARE_KEYS",
    "VALUE_KEYS",
    "WELL_ALIGNED_VIFB",
    "EvaluationPair",
    "EvaluationRow",
    "Summary",
    "evaluate_engine",
    "load_pairs",
    "measure",
    "read_measured",
    "summarize",
]

SHARE_KEYS = ("g_visible", "g_thermal", "g_ghost", "ghost_share")
VALUE_KEYS = (*METRIC_KEYS, *SHARE_KEYS)

# VIFB pairs whose own alignment is good to about a pixel: judge alignment on these.
WELL_ALIGNED_VIFB = (
    "carShadow",
    "carWhite",
    "fight",
    "labMan",
    "manCar",
    "manWalking",
    "peopleshadow",
    "running",
    "walking",
    "walkingnight",
)

Fuser = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationPair:
    """An aligned pair: visible (H, W, 3) uint8 RGB, thermal (H, W) uint8. notes: what was done to make them so."""

    stem: str
    visible: np.ndarray
    thermal: np.ndarray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One pair at one displacement. values: by VALUE_KEYS, NaN where not defined. fuse_ms: wall time of the engine."""

    stem: str
    displacement: Displacement
    values: dict[str, float]
    fuse_ms: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over pairs at one displacement.

    values: by VALUE_KEYS; the mean over the pairs where a value is defined, NaN if nowhere. ghost_share is formed
    from the mean shares, since a quotient of two small numbers of one pair means little.
    """

    displacement: Displacement
    pairs: int
    values: dict[str, float]
    fuse_ms: float


def load_pairs(root: Path, stems: Collection[str] | None = None, limit: int | None = None) -> Iterator[EvaluationPair]:
    """Read the pairs of a folder one by one, in the order of their names. 16-bit thermal goes through the default AGC.

    Args:
        stems: read these only. limit: read at most this many.

    Raises:
        BadInputError: when the iteration starts, if the folder has no pairs or lacks one of `stems`; later, if a pair
            cannot be read or its two pictures differ in size.
    """
    files = find_pairs(root)
    if stems is not None:
        missing = sorted(set(stems) - {pair.stem for pair in files})
        if missing:
            raise BadInputError(f"{root} has no pair called {', '.join(missing)}")
        files = [pair for pair in files if pair.stem in stems]
    for pair in files[:limit]:
        readers = PictureReader(Stream.VISIBLE), PictureReader(Stream.THERMAL)
        visible, thermal = readers[0].read(pair.visible), readers[1].read(pair.thermal)
        if thermal.dtype != np.uint8:
            thermal = Agc().apply(thermal)
        try:
            check_pair(visible, thermal)
        except BadInputError as error:
            raise BadInputError(f"pair {pair.stem} in {root}: {error}") from error
        notes = tuple(note for reader in readers for note in reader.notes)
        yield EvaluationPair(pair.stem, visible, thermal, notes)


def evaluate_engine(
    engine: FusionEngine | Fuser,
    pairs: Iterable[EvaluationPair],
    displacements: Sequence[Displacement],
    *,
    seed: int = 0,
    on_row: Callable[[EvaluationRow], None] | None = None,
) -> list[EvaluationRow]:
    """Fuse and measure every pair at every displacement.

    Args:
        engine: an engine, reset before each picture, or a function (visible, thermal) -> fused of the same shapes.
        pairs: read as they are needed, so a generator keeps memory small.
        seed: chooses the displacement fields, together with the pair's name.
        on_row: called with each row as it is ready.

    Raises:
        BadInputError: no displacements, no pairs, or an engine that returns another shape or dtype.
    """
    if not displacements:
        raise BadInputError("no displacements to evaluate, want at least one")
    fuse: Fuser = engine.fuse if isinstance(engine, FusionEngine) else engine
    rows: list[EvaluationRow] = []
    for pair in pairs:
        window = central_window(*pair.thermal.shape)
        visible_y = luminance(pair.visible)
        reference = MetricReference(visible_y[window], pair.thermal[window])
        for displacement in displacements:
            given = displace(pair.thermal, displacement, pair.stem, seed)
            if isinstance(engine, FusionEngine):
                engine.reset()
            started = time.perf_counter()
            fused = fuse(pair.visible, given)
            fuse_ms = 1e3 * (time.perf_counter() - started)
            if fused.shape != pair.visible.shape or fused.dtype != np.uint8:
                raise BadInputError(
                    f"fused picture of {pair.stem} is {fused.dtype} {fused.shape}, must be uint8 {pair.visible.shape}"
                )
            fused_y = luminance(fused)
            shares = gradient_shares(fused_y, visible_y, pair.thermal, given, central=True)
            values = reference.evaluate(fused_y[window]) | {key: getattr(shares, key) for key in SHARE_KEYS}
            row = EvaluationRow(pair.stem, displacement, values, fuse_ms)
            rows.append(row)
            if on_row is not None:
                on_row(row)
    if not rows:
        raise BadInputError("no pairs to evaluate, want at least one")
    return rows


def read_measured(path: Path, *, counts: bool = False) -> np.ndarray:
    """Read a picture as the metrics want it: grey stays (H, W), colour is (H, W, 3) RGB, uint8.

    Args:
        counts: 16-bit grey is raw thermal counts, which go through the default AGC; else its upper 8 bits are taken.

    Raises:
        BadInputError: the file is missing, damaged or no picture.
    """
    picture = read_visible(path)
    stored = stored_pixels(path)
    if stored.ndim != 2:
        return picture
    if counts and stored.dtype == np.uint16:
        return Agc().apply(stored.astype(np.uint16, copy=False))
    return np.ascontiguousarray(picture[..., 0])


def measure(
    fused: np.ndarray, visible: np.ndarray, thermal: np.ndarray, thermal_given: np.ndarray | None = None
) -> dict[str, float]:
    """Measure a picture that somebody fused: the whole picture, the eight metrics channel by channel as VIFB does.

    Args:
        fused, visible, thermal: as in `fusion_core.measures.metrics.evaluate`.
        thermal_given: (H, W), the displaced thermal picture that was fused, if there was one; for the ghost share.

    Returns:
        Values by VALUE_KEYS, NaN where not defined.
    """
    values = MetricReference(visible, thermal).evaluate(fused)
    shares = gradient_shares(fused, visible, luminance(thermal), thermal_given)
    return values | {key: float(getattr(shares, key)) for key in SHARE_KEYS}


def summarize(rows: Iterable[EvaluationRow], stems: Collection[str] | None = None) -> list[Summary]:
    """Means by displacement, in the order in which the displacements first come; `stems` restricts the pairs."""
    groups: dict[Displacement, list[EvaluationRow]] = {}
    for row in rows:
        if stems is None or row.stem in stems:
            groups.setdefault(row.displacement, []).append(row)
    return [_summary(displacement, group) for displacement, group in groups.items()]


def _summary(displacement: Displacement, rows: list[EvaluationRow]) -> Summary:
    values = {key: _mean([row.values[key] for row in rows]) for key in VALUE_KEYS}
    right, wrong = max(values["g_thermal"], 0.0), values["g_ghost"]
    drawn = right + max(wrong, 0.0)
    values["ghost_share"] = max(wrong, 0.0) / drawn if drawn > 0.0 and not math.isnan(wrong) else math.nan
    return Summary(displacement, len(rows), values, float(np.median([row.fuse_ms for row in rows])))


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
