"""Decides whether fine-tuned weights are better than those they came from, and worse in nothing that matters.

A short training on one rig's footage easily trades: some metrics rise while the thermal edges fade or ghosts come
back. So the start is the first candidate, and every validation is compared with it. The result must pass three
questions on the held-out pairs, at every displacement: nothing that matters got worse (`why_worse`), something got
better by more than noise (`gains`), and the fused picture follows both cameras (`collapse`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fusion_core.errors import ConfigError
from fusion_core.files import read_json
from fusion_core.measures.evaluation import Summary
from fusion_core.training.finetuning.measure import Measured
from fusion_core.training.run_state import atomic_write

__all__ = ["AgainstStart", "gains", "why_error_rose", "why_worse"]

START_FILE = "start.json"

_FREE = {"edges_infrared": 0.01, "edges_ghost": 0.01, "edges_visible": 0.02}  # changes that are noise
_PRICE = {"edges_infrared": 4.0, "edges_ghost": 4.0, "edges_visible": 2.0}  # of a whole share lost, in losses of 1

# name of the value, what it is called, by how much it may change for the worse (absolute; share of the start), sign
_LIMITS = (
    ("g_thermal", "thermal edges", 0.03, 0.08, -1),
    ("g_visible", "visible edges", 0.03, 0.08, -1),
    ("ghost_share", "the ghost share", 0.02, 0.0, 1),
    ("qabf", "Qabf", 0.02, 0.04, -1),
    ("ssim", "SSIM", 0.03, 0.04, -1),
)
# by value: how much the mean over the displacements must gain to count
_GAINS = (
    ("g_thermal", "thermal edges", 0.02, 1),
    ("g_visible", "visible edges", 0.02, 1),
    ("ghost_share", "the ghost share", 0.01, -1),
    ("qabf", "Qabf", 0.01, 1),
    ("ssim", "SSIM", 0.01, 1),
)
_ERROR_GAIN = 0.05  # of the mean error of the displacement estimate
_ERROR_LOSS = 0.05  # of it, and at least
_ERROR_LOSS_PX = 0.1  # at any displacement
_OF_PAIRS = 2 / 3  # in so many pairs it must have fallen


class AgainstStart:
    """Scores validations against the one of the start: 1 = as good, less is better.

    A displacement estimate alone scores its error over the start's. Everything else scores the loss over the start's,
    plus a price for every displacement at which the edges of a camera were lost or ghosts came. The start's figures
    lie in the run's folder, where a resumed run finds them.

    Args:
        folder: of the run.

    Raises:
        ConfigError: the figures of the start cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / START_FILE
        self._start: dict[str, float] | None = None
        if self._file.is_file():
            try:
                values = read_json(self._file)
                self._start = {str(key): float(value) for key, value in values.items()}
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise ConfigError(f"{self._file} cannot be read ({error}); begin the run anew") from error

    def score(self, results: Mapping[str, float]) -> float:
        """Score a validation (`validation.validate`); the first one given becomes the start."""
        if self._start is None:
            self._start = {key: float(value) for key, value in results.items() if math.isfinite(value)}
            text = json.dumps(self._start, indent=1)
            atomic_write(self._file, lambda path: _write_text(path, text))
        start = self._start
        if "edges_visible" not in results and "epe_px" in results:
            return float(results["epe_px"]) / max(start.get("epe_px", 1.0), 1e-9)
        score = float(results["loss"]) / max(start.get("loss", 1.0), 1e-9)
        places = [key.removesuffix("/loss") for key in results if key.endswith("/loss")]
        for place in places:
            for name, price in _PRICE.items():
                now, before = results.get(f"{place}/{name}"), start.get(f"{place}/{name}")
                if now is None or before is None:
                    continue
                lost = abs(now) - abs(before) if name == "edges_ghost" else before - now
                score += price * max(0.0, lost - _FREE[name]) / len(places)
        return score


def why_worse(before: Sequence[Summary], after: Sequence[Summary]) -> list[str]:
    """Tell in what the weights are worse than before on the held-out pairs, one line each.

    Args:
        before, after: means by displacement, the same displacements in the same order.
    """
    reasons = []
    for key, name, absolute, share, sign in _LIMITS:
        worst = 0.0
        text = ""
        for old, new in zip(before, after, strict=True):
            was, now = old.values[key], new.values[key]
            if not (math.isfinite(was) and math.isfinite(now)):
                continue
            change = sign * (now - was)
            if change > max(absolute, share * abs(was)) and change > worst:
                worst = change
                text = (
                    f"{name} {'rose' if sign > 0 else 'fell'} from {was:.3f} to {now:.3f} at {old.displacement.label}"
                )
        if text:
            reasons.append(text)
    return reasons


def why_error_rose(before: Measured, after: Measured) -> list[str]:
    """Tell at which displacement the estimate got worse most, in one line; empty where it got worse at none."""
    worst = 0.0
    reasons: list[str] = []
    for row, was_px, now_px in zip(before.curve, before.errors_px, after.errors_px, strict=False):  # or no errors
        was, now = float(np.mean(was_px)), float(np.mean(now_px))
        if now - was > max(_ERROR_LOSS_PX, _ERROR_LOSS * was, worst):
            worst = now - was
            reasons = [f"the error of the displacement rose from {was:.2f} to {now:.2f} px at {row.displacement.label}"]
    return reasons


def gains(before: Measured, after: Measured) -> list[str]:
    """Tell in what the weights are better than before by more than noise, one line each.

    The displacement estimate: its mean error fell by 5 %, and it fell in two thirds of the pairs. The picture: the
    mean over the displacements rose (of the ghost share: fell) by a third to two thirds of what `why_worse` forbids.
    """
    found = []
    was, now = before.error_px, after.error_px
    fell = [b > a for b, a in zip(before.pair_errors_px, after.pair_errors_px, strict=True)]
    if fell and now < (1 - _ERROR_GAIN) * was and sum(fell) >= _OF_PAIRS * len(fell):
        found.append(
            f"the error of the displacement fell from {was:.2f} to {now:.2f} px (in {sum(fell)} of {len(fell)} pairs)"
        )
    for key, name, least, sign in _GAINS:
        old, new = (_mean(curve, key) for curve in (before.curve, after.curve))
        if math.isfinite(old) and math.isfinite(new) and sign * (new - old) > least:
            found.append(f"{name} {'rose' if sign > 0 else 'fell'} from {old:.3f} to {new:.3f}")
    return found


def _mean(curve: Sequence[Summary], key: str) -> float:
    values = [s.values[key] for s in curve if math.isfinite(s.values[key])]
    return float(np.mean(values)) if values else math.nan


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
