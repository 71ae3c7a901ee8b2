"""Measures before an export whether the engine that will run the weights gives the reference's pictures.

The reference is eager PyTorch in float32; the engine is what `create_engine` would pick here (OpenVINO in bfloat16 on
CPUs that have it, FP16 on GPUs). Below 45 dB on any pair the weights are not exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.errors import BadInputError, EngineError
from fusion_core.measures.evaluation import EvaluationPair

__all__ = ["MAX_PAIRS", "MIN_PSNR_DB", "ParityReport", "check_parity", "psnr_db", "require_parity"]

MIN_PSNR_DB = 45.0  # the detail path in integers reaches 50 to 54 with the shipped weights
MAX_PAIRS = 32
_EQUAL_DB = 99.0  # shown for pictures without any difference


@dataclass(frozen=True, slots=True)
class ParityReport:
    """PSNR of the engine's pictures against the reference's, a value each pair."""

    engine: str
    reference: str
    stems: tuple[str, ...]
    psnr_db: tuple[float, ...]
    min_db: float

    @property
    def worst_db(self) -> float:
        """PSNR of the pair that agrees least."""
        return min(self.psnr_db)

    @property
    def passed(self) -> bool:
        """Whether every pair agrees well enough."""
        return self.worst_db >= self.min_db

    def facts(self) -> dict[str, object]:
        """For the weights file, JSON-able."""
        return {
            "engine": self.engine,
            "reference": self.reference,
            "pairs": len(self.psnr_db),
            "worst_db": round(self.worst_db, 2),
            "median_db": round(float(np.median(self.psnr_db)), 2),
            "min_db": self.min_db,
        }


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures of one shape; 99 for equal ones."""
    if first.shape != second.shape or first.dtype != np.uint8 or second.dtype != np.uint8:
        raise BadInputError(
            f"pictures are {first.dtype} {first.shape} and {second.dtype} {second.shape}, must be uint8 and alike"
        )
    mean_square = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return _EQUAL_DB if mean_square == 0 else min(_EQUAL_DB, float(10 * np.log10(255.0**2 / mean_square)))


def check_parity(
    weights: Path,
    pairs: Sequence[EvaluationPair],
    *,
    min_psnr_db: float = MIN_PSNR_DB,
    make_engine: Callable[[Path], FusionEngine] | None = None,
) -> ParityReport:
    """Fuse up to 32 pairs, evenly chosen, with the engine and with the reference.

    All are cut to the centre of the smallest: an engine compiles anew for each size.

    Args:
        make_engine: from the weights file; the fastest engine of this machine by default.

    Raises:
        BadInputError: no pairs. CheckpointError: the weights. EngineError: the engine failed.
    """
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.engines.torch_engine import TorchEngine

    if not pairs:
        raise BadInputError("no pairs to compare the engine on, want at least one held-out pair")
    chosen = [pairs[i] for i in sorted({int(v) for v in np.linspace(0, len(pairs) - 1, min(MAX_PAIRS, len(pairs)))})]
    reference = TorchEngine(load_checkpoint(weights), label=weights.stem)
    engine = make_engine(weights) if make_engine is not None else create_engine("auto", weights=weights)
    values = []
    try:
        height, width = (min(pair.thermal.shape[axis] for pair in chosen) for axis in (0, 1))
        for pair in chosen:
            engine.reset()
            visible, thermal = (_centre(picture, height, width) for picture in (pair.visible, pair.thermal))
            found = psnr_db(engine.fuse(visible, thermal), reference.fuse(visible, thermal))
            values.append((pair.stem, found))
    finally:
        engine.close()
        reference.close()
    return ParityReport(
        engine.name, reference.name, tuple(stem for stem, _ in values), tuple(v for _, v in values), min_psnr_db
    )


def _centre(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def require_parity(report: ParityReport) -> None:
    """Refuse an export that does not agree.

    Raises:
        EngineError: says which pair, and what to do.
    """
    if report.passed:
        return
    worst = report.stems[int(np.argmin(report.psnr_db))]
    raise EngineError(
        f"{report.engine} does not give the pictures of {report.reference}: {report.worst_db:.1f} dB on {worst}, "
        f"at least {report.min_db:g} dB is wanted. The weights were not exported; train again with a lower learning "
        "rate, or run them in float32"
    )
