"""Whether fine-tuned weights are better than those they came from, without having paid for it elsewhere.

A short training on one rig's footage easily trades: some metrics rise while the thermal edges fade or ghosts come
back. So the start is the first candidate, every validation is held against it, and what is exported in the end must
not be worse at any displacement in what matters: the edges of both cameras, ghosts, Qabf and SSIM.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusion_core.errors import ConfigError
from fusion_core.evaluation import Summary
from fusion_core.training.run_state import atomic_write

__all__ = ["AgainstStart", "why_worse"]

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


class AgainstStart:
    """Scores validations against the one of the start: 1 = as good, less is better.

    The loss over the start's, and on top a price for every displacement at which the edges of a camera were lost or
    ghosts came. The start's figures are kept in the run's folder, so that a run that is resumed has them.

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
                values = json.loads(self._file.read_text(encoding="utf-8"))
                self._start = {str(key): float(value) for key, value in values.items()}
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise ConfigError(f"{self._file} cannot be read ({error}); begin the run anew") from error

    @property
    def wants_start(self) -> bool:
        """Whether the weights have to be validated before the first step."""
        return self._start is None

    def score(self, results: Mapping[str, float]) -> float:
        """Of a validation (`validation.validate`); the first one given becomes the start."""
        if self._start is None:
            self._start = {key: float(value) for key, value in results.items() if math.isfinite(value)}
            text = json.dumps(self._start, indent=1)
            atomic_write(self._file, lambda path: _write_text(path, text))
        start = self._start
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
    """In what the weights are worse than before on the held-out pairs, one line each; empty where in nothing.

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


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
