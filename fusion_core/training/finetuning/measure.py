"""Measures what a fine-tuning run is judged by: held-out pairs at known displacements, before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.colour import luminance
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.measures.displacement import (
    Displacement,
    DisplacementKind,
    displace,
    displacement_field,
    field,
    uniform,
)
from fusion_core.measures.evaluation import EvaluationPair, Summary, evaluate_engine, summarize
from fusion_core.rfvif import Rfvif
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.finetuning.collapse import ModalityShares, measure_shares
from fusion_core.training.random_displacement import backward_field

__all__ = ["DISPLACEMENTS", "MEASURED_PAIRS", "Measured", "estimate_errors_px", "evaluation_pairs", "measure"]

DISPLACEMENTS = (*(uniform(size) for size in (0.0, 3.0, 5.0, 8.0)), field(5.0))
MEASURED_PAIRS = 24
_BORDER_CELLS = 2  # of 8 px: their content is out of view at the largest displacement

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one weights file on the held-out pairs.

    curve: means by displacement. errors_px: end-point error of the displacement estimate, means over the picture, by
    displacement (rows, as in `curve`) and pair; empty for a network without an estimate. shares: of aligned pairs.
    """

    curve: list[Summary]
    errors_px: tuple[tuple[float, ...], ...]
    shares: ModalityShares

    @property
    def pair_errors_px(self) -> tuple[float, ...]:
        """Mean error of each pair over all displacements."""
        return tuple(float(np.mean(column)) for column in zip(*self.errors_px, strict=True))

    @property
    def error_px(self) -> float:
        """The mean error over all displacements and pairs; NaN without an estimate."""
        return float(np.mean(self.errors_px)) if self.errors_px else math.nan

    def rows(self) -> list[dict[str, Any]]:
        """JSON-able, one mapping a displacement: label, pairs, every value of `curve`, error_px."""
        errors = [float(np.mean(row)) for row in self.errors_px] or [math.nan] * len(self.curve)
        return [
            {"displacement": s.displacement.label, "pairs": s.pairs, **s.values, "error_px": error}
            for s, error in zip(self.curve, errors, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {"curve": self.rows(), "shares": asdict(self.shares)}


def evaluation_pairs(held_out: Sequence[TrainingPair], most: int = MEASURED_PAIRS) -> list[EvaluationPair]:
    """Choose registered held-out pairs evenly; a pair of unknown registration tells nothing here."""
    usable = [pair for pair in held_out if pair.registration.reliable] or list(held_out)
    chosen = sorted({int(v) for v in np.linspace(0, len(usable) - 1, min(most, len(usable)))})
    return [
        EvaluationPair(
            usable[i].stem,
            np.repeat(usable[i].visible[..., None], 3, axis=2),
            usable[i].registration.apply(usable[i].infrared),
        )
        for i in chosen
    ]


def measure(loaded: LoadedCheckpoint, pairs: Sequence[EvaluationPair]) -> Measured:
    """Measure weights, float32 on the CPU.

    Raises:
        BadInputError: no pairs.
    """
    engine = TorchEngine(loaded, label=loaded.path.stem)
    try:
        curve = summarize(evaluate_engine(engine, pairs, DISPLACEMENTS))
        shares = measure_shares(engine.fuse, pairs)
    finally:
        engine.close()
    errors: list[tuple[float, ...]] = []
    if loaded.network.alignment is not None:
        errors = [
            tuple(estimate_errors_px(loaded.network, pair, displacement) for pair in pairs)
            for displacement in DISPLACEMENTS
        ]
    return Measured(curve, tuple(errors), shares)


@torch.inference_mode()
def estimate_errors_px(network: Rfvif, pair: EvaluationPair, displacement: Displacement) -> float:
    """Mean error of the estimated displacement of one picture, px, without its outermost cells.

    Args:
        network: with an estimate, float32, on the CPU, in evaluation mode.
    """
    given = displace(pair.thermal, displacement, pair.stem)
    pictures = [torch.from_numpy(np.ascontiguousarray(p)) for p in (luminance(pair.visible), given)]
    visible, moved = (network.pad(picture[None, None].float() / 255.0) for picture in pictures)
    found = network.estimate(visible, moved).displacements[-1]  # (1, 2, h, w)
    height, width = pair.thermal.shape[:2]
    truth = torch.from_numpy(_truth(height, width, displacement, pair.stem)).permute(2, 0, 1)[None]
    rows, columns = height // 8, width // 8  # whole cells
    there = F.avg_pool2d(truth[:, :, : 8 * rows, : 8 * columns], 8)
    off = (found[:, :, :rows, :columns] - there).square().sum(1).sqrt()[0]
    b = _BORDER_CELLS
    inner = off[b:-b, b:-b] if min(rows, columns) > 3 * b else off
    return float(inner.mean())


def _truth(height: int, width: int, displacement: Displacement, stem: str) -> FloatArray:
    """(H, W, 2) px: the thermal content of visible pixel p lies at p + d(p).

    `displace` gives the displacement where the content ends up, e(p + d(p)) = d(p): solved by the same iteration as
    its opposite.
    """
    if displacement.kind is DisplacementKind.UNIFORM:
        return np.full((height, width, 2), displacement.size_px, np.float32)
    return -backward_field(-displacement_field(height, width, displacement.size_px, stem))
