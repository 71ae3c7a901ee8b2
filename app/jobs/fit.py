"""Whether thermal lies on visible in what a job fuses: looked at on some of its pairs, found anew where asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from app.pipeline.thermal_grid import ThermalGrid
from calibration.rig import plain_scaling
from calibration.targetless import align_from_nothing, judge_fit
from fusion_core.errors import BadInputError
from fusion_core.frames import FramePair

__all__ = ["FitWatch", "found_grid"]

_LOOKED_AT = (0, 15, 45, 135)  # pairs of a job by number: within five seconds of a video
_PAIRS = 12  # that an alignment is found by
_EVERY = 10  # frames of a video between two of them: what stands still tells the same again

Pair = tuple[np.ndarray, np.ndarray]


class FitWatch:
    """Keeps some pairs of a job while it runs, and says at its end whether they fit. One owner thread."""

    def __init__(self) -> None:
        self._pairs: list[Pair] = []
        self._seen = 0

    def offer(self, pair: FramePair) -> None:
        """Look at one pair; a few of the first are kept."""
        pixels = _pixels(pair)
        if pixels is None:
            return
        if self._seen in _LOOKED_AT and (not self._pairs or _sizes(self._pairs[0]) == _sizes(pixels)):
            self._pairs.append(pixels)
        self._seen += 1

    def note(self, grid: ThermalGrid) -> str:
        """What the user should know; "" where thermal fits, or the scene does not tell. A few seconds of work."""
        if not self._pairs:
            return ""
        calibration = grid.calibration or plain_scaling(*_sizes(self._pairs[0]))
        try:
            verdict = judge_fit(calibration, self._pairs)
        except BadInputError:  # too small to be judged, or a calibration for another size of the same shape
            return ""
        if verdict.found is None:
            return ""
        under = "plainly scaled" if grid.calibration is None else "under this calibration"
        return (
            f"thermal does not lie on visible: {under} it is {verdict.off_px:.0f} px off (median), and everything is "
            f"drawn twice; {verdict.found.words()}. --align auto fuses it so; `lumitherm calibrate refine` keeps it"
        )


def found_grid(pairs: Iterator[FramePair], apart: bool) -> tuple[ThermalGrid, str]:
    """Find the alignment from the pairs alone; and say what was found.

    Args:
        pairs: of one rig. apart: every one is looked at, not each tenth.

    Raises:
        BadInputError: they do not tell where thermal belongs.
    """
    whole = (pixels for pixels in map(_pixels, pairs) if pixels is not None)
    some = list(islice(whole, 0, _PAIRS if apart else _PAIRS * _EVERY, 1 if apart else _EVERY))
    if not some:
        raise BadInputError("there is no pair with a thermal picture to find the alignment by")
    some = [pair for pair in some if _sizes(pair) == _sizes(some[0])]
    try:
        found = align_from_nothing(some)
    except BadInputError as error:
        raise BadInputError(
            f"--align auto: these pictures do not tell where thermal belongs ({error}) Give a --calibration, or pick "
            "points in both pictures: lumitherm calibrate points."
        ) from error
    if found.start is None and found.problem:
        return ThermalGrid(None), f"aligned by itself: plain scaling is left as it is ({found.problem})"
    left = f"{found.after.magnitude_px:.1f} px are left (median, 95 % {found.after.p95_px:.1f})"
    how = "plain scaling was near, and corrected" if found.start is None else found.start.words()
    return ThermalGrid.of(found.calibration), f"aligned by itself from {len(some)} pairs: {how}; {left}"


def _pixels(pair: FramePair) -> Pair | None:
    return None if pair.visible is None or pair.thermal is None else (pair.visible.pixels, pair.thermal.pixels)


def _sizes(pair: Pair) -> tuple[tuple[int, int], tuple[int, int]]:
    (height, width), (rows, columns) = pair[0].shape[:2], pair[1].shape[:2]
    return (height, width), (rows, columns)
