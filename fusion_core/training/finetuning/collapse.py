"""Measures what the fused picture took from each source, and warns when it has collapsed to one of them.

There is no ground truth for fusion, and a network that hands the visible picture through looks well in many metrics.
Two measures tell: the least-squares shares of the gradients (`fusion_core.measures.ghost`), and how the mutual
information with the two sources divides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fusion_core.colour import luminance
from fusion_core.errors import BadInputError
from fusion_core.measures.evaluation import EvaluationPair
from fusion_core.measures.ghost import gradient_shares

__all__ = ["MIN_GRADIENT_SHARE", "MIN_INFORMATION_SHARE", "ModalityShares", "collapse_warnings", "measure_shares"]

MIN_GRADIENT_SHARE = 0.1
"""Of a source's edges that the fused picture must keep."""

MIN_INFORMATION_SHARE = 0.15
"""Of the mutual information with both sources that either must have."""

_MAX_LOSS = 0.5
"""Of a share that the initial weights had: losing more is a warning too."""

_BINS = 32  # more would find chance agreement in small pictures

Fuser = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class ModalityShares:
    """Means over pairs. gradient_*: 1 = all edges of that source are there at full strength. information_thermal: of
    the mutual information with both, 0..1; the visible share is the rest."""

    gradient_visible: float
    gradient_thermal: float
    information_thermal: float
    pairs: int

    @property
    def information_visible(self) -> float:
        """The visible picture's share."""
        return 1.0 - self.information_thermal


def measure_shares(fuse: Fuser, pairs: Sequence[EvaluationPair]) -> ModalityShares:
    """Fuse aligned pairs and measure what the result took from each.

    Args:
        fuse: visible (H, W, 3) uint8, thermal (H, W) uint8 to fused (H, W, 3) uint8.

    Raises:
        BadInputError: no pairs.
    """
    if not pairs:
        raise BadInputError("no pairs to measure the modalities' shares on, want at least one")
    visible, thermal, information = [], [], []
    for pair in pairs:
        fused = luminance(fuse(pair.visible, pair.thermal))
        visible_y = luminance(pair.visible)
        shares = gradient_shares(fused, visible_y, pair.thermal)
        visible.append(shares.g_visible)
        thermal.append(shares.g_thermal)
        from_visible, from_thermal = (mutual_information_bits(fused, source) for source in (visible_y, pair.thermal))
        information.append(from_thermal / max(from_visible + from_thermal, 1e-12))
    means = [float(np.nanmean(values)) if np.isfinite(values).any() else 0.0 for values in (visible, thermal)]
    return ModalityShares(means[0], means[1], float(np.mean(information)), len(pairs))


def mutual_information_bits(first: np.ndarray, second: np.ndarray) -> float:
    """Mutual information of two (H, W) uint8 pictures, in bits, from a joint histogram of 32x32 bins."""
    joint = np.histogram2d(first.ravel(), second.ravel(), _BINS, ((0, 256), (0, 256)))[0]
    joint /= joint.sum()
    independent = joint.sum(1)[:, None] * joint.sum(0)[None, :]
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / independent[there])).sum())


def collapse_warnings(after: ModalityShares, before: ModalityShares | None = None) -> list[str]:
    """Tell what is wrong, one line each; empty when both sources are there.

    Args:
        before: the shares of the weights that the training began with.
    """
    warnings = []
    for name in ("visible", "thermal"):
        edges = getattr(after, f"gradient_{name}")
        if edges < MIN_GRADIENT_SHARE:
            warnings.append(
                f"the fused picture keeps only {edges:.2f} of the {name} edges, at least {MIN_GRADIENT_SHARE} is "
                "wanted: it follows the other camera alone"
            )
        elif before is not None and edges < _MAX_LOSS * getattr(before, f"gradient_{name}"):
            warnings.append(
                f"the share of {name} edges fell from {getattr(before, f'gradient_{name}'):.2f} to {edges:.2f}"
            )
        information = getattr(after, f"information_{name}")
        if information < MIN_INFORMATION_SHARE:
            warnings.append(
                f"only {information:.2f} of the mutual information is with the {name} picture, "
                f"at least {MIN_INFORMATION_SHARE} is wanted"
            )
    return warnings
