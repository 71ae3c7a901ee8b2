"""Which candidates become pairs of a training set: those that differ from each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from app.dataset.sources import Candidate
from fusion_core.colour import luminance
from fusion_core.thermal.agc import Agc

__all__ = ["choose", "distance", "signature"]

_SIGNATURE = (24, 32)


def signature(visible_y: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """A small description of a pair for comparing scenes, float32: both pictures at 24x32, and both histograms."""
    rows, columns = _SIGNATURE
    parts = []
    for picture in (visible_y, thermal):
        small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        low, high = np.percentile(small, (2, 98))
        parts.append(np.clip((small - low) / max(float(high - low), 8.0), 0, 1).ravel())
        counts = np.histogram(picture, 16, (0, 256))[0].astype(np.float32)
        parts.append(counts / counts.sum() * 16.0)
    return np.concatenate(parts)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """0 for equal pictures, about 0.02 for neighbouring frames of a still scene, 0.3 and more for other scenes.

    The larger of: mean difference of the small pictures' changed places (its upper tenth), and of the histograms.
    """
    n = _SIGNATURE[0] * _SIGNATURE[1]
    difference = np.abs(first - second)
    found = 0.0
    for start in (0, n + 16):
        picture, histogram = difference[start : start + n], difference[start + n : start + n + 16]
        top = np.partition(picture, -n // 10)[-n // 10 :]
        found = max(found, 0.5 * float(top.mean()), 0.1 * float(histogram.mean()))
    return found


def choose(
    candidates: Iterator[Candidate], agc: Agc, *, min_distance: float, max_pairs: int
) -> Iterator[tuple[Candidate, np.ndarray]]:
    """Candidates that differ from all taken before, with their thermal picture after AGC; at most max_pairs, those
    that are furthest from each other."""
    taken: list[tuple[Candidate, np.ndarray, np.ndarray]] = []
    for candidate in candidates:
        agc.reset()
        levels = agc.apply(candidate.thermal)
        found = signature(luminance(candidate.visible), levels)
        if taken and min(distance(found, other) for _, _, other in taken) < min_distance:
            continue
        taken.append((candidate, levels, found))
        if len(taken) > max_pairs:
            taken.pop(_most_alike([entry[2] for entry in taken]))
    for candidate, levels, _ in taken:
        yield candidate, levels


def _most_alike(signatures: Sequence[np.ndarray]) -> int:
    """Index of the one whose nearest neighbour is nearest (the later of the two)."""
    nearest = [
        min(distance(a, b) for j, b in enumerate(signatures) if j != i) for i, a in enumerate(signatures)
    ]  # fmt: skip
    return int(len(nearest) - 1 - np.argmin(nearest[::-1]))
