"""Tries another search for the displacement field: evidence at each cell, balanced against bending of the whole field.

Not part of the product: docs/evidence/alignment.md tells what it gains and what it costs. A soft arg-max reads each
place by itself, and what is averaged over windows afterwards has lost how sure each place was in which direction: along
an edge a place knows nothing. Here evidence is kept as it is. Around the field that is there, correlation is a hill at
every cell: its slope says where to go, its curvature how much the cell knows, in two directions. The field then
minimises, over the whole picture at once,

    sum over cells of (e H e / 2 - b e)  +  (stiffness |bending of e|^2 + tension |slope of e|^2 + rest |e|^2) / 2,

with e what the field departs by from an affine map, H a cell's curvature and b = slope + H e0 where it stands now.
Conjugate gradients solve it, with the bending exact in the cosine basis as preconditioner.

    python benchmarks/field_by_evidence.py PAIRS --weights tiny --bending 0.5 --bending 1 --limit 8
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fusion_core.checkpoint import load_checkpoint
from fusion_core.engines.running_displacement import Estimator
from fusion_core.engines.torch_engine import torch_estimator
from fusion_core.measures.displacement import field, uniform
from fusion_core.measures.estimate import RIGS, pair_errors, rig_errors, rig_moments
from fusion_core.measures.evaluation import load_pairs
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif.correlation import (
    CELL_PX,
    Alignment,
    CorrelationAlignment,
    CorrelationStage,
    _affine_fit,
    _reduced,
    gradient_features,
    settle,
    warp,
)
from fusion_core.training.dataset import held_out_stems

DISPLACEMENTS = (uniform(8), field(3), field(5), field(8))


class FieldForm(NamedTuple):
    """What bending, slope and size of a field cost, against evidence in products of features for each squared pixel."""

    stiffness: float
    tension: float
    rest: float


FORMS = (FieldForm(2.0, 0.02, 5e-4), FieldForm(1.0, 0.015, 5e-4), FieldForm(0.8, 0.012, 5e-4))
"""Of each step, the first from an affine map; `--bending` scales them."""

_FIRST_PRIOR = 20.0
"""What `settle` holds against departures from wider windows after the network's last look: little but the affine map is
left, so that the steps by evidence start from the simplest field, and depart where they see reason."""

_STEPS = 6  # of conjugate gradients; from step to step they go on where they were
_LIMIT_PX = 2.0  # the hill is known no further


class Evidence(NamedTuple):
    """What each cell says about a change of the field.

    information: (B, 3, h, w), xx, xy and yy of a positive semidefinite matrix, 1/px^2. slope: (B, 2, h, w), 1/px.
    """

    information: Tensor
    slope: Tensor


def gather(fixed: Tensor, other: Tensor, factor: int, cell: int) -> Evidence:
    """Correlate at shifts of one pixel of the features, and describe the hill at each cell.

    Args:
        fixed, other: features (B, 3, H, W), float32, other warped by the field that is there.
        factor: pixels of the picture per pixel of the features.
        cell: side of a cell in pixels of the features.
    """
    fixed, other = _centred(fixed, cell), _centred(other, cell)
    height, width = fixed.shape[-2:]
    padded = F.pad(other, (1, 1, 1, 1), mode="replicate")
    windows = [padded[:, :, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    # Averaged as channels and added up by cells: sums over three planes cost more than their arithmetic.
    products = F.avg_pool2d((fixed.unsqueeze(1) * torch.stack(windows, dim=1)).flatten(1, 2), cell)
    products = _window(products, 3).view(fixed.shape[0], 9, 3, *products.shape[-2:])
    hill = products.sum(dim=2)
    # The parabola that fits the 3x3 values best, by least squares.
    z = [hill[:, i] for i in range(9)]
    left, middle, right = (z[column] + z[column + 3] + z[column + 6] for column in range(3))
    top, centre, bottom = (z[row] + z[row + 1] + z[row + 2] for row in (0, 3, 6))
    slope = torch.stack((right - left, bottom - top), dim=1) / (6.0 * factor)
    scale = 1.0 / (3.0 * factor**2)
    xx, yy = (2.0 * middle - left - right) * scale, (2.0 * centre - top - bottom) * scale
    xy = (z[2] + z[6] - z[0] - z[8]) * (0.25 / factor**2)
    information = _semidefinite(xx, xy, yy)
    trust = _trust(products[:, 4, :1], fixed, other, information, slope, cell)
    return Evidence(trust * information, trust * slope)


def simplest_field(displacement: Tensor, evidence: Evidence, form: FieldForm) -> Tensor:
    """Move a field to where evidence and its own cost balance, at most 2 px.

    Args:
        displacement: (B, 2, h, w) float32, pixels: what `evidence` was gathered around.

    Returns:
        As `displacement`.
    """
    information = evidence.information
    affine = _affine_fit(displacement, information[:, :1] + information[:, 2:] + 1e-4)
    before = displacement - affine
    wanted = evidence.slope + _applied(information, before)
    change = _solved(information, wanted, before, form) - before
    length = torch.sqrt((change * change).sum(dim=1, keepdim=True) + 1e-6)
    return displacement + change * (_LIMIT_PX / length).clamp(max=1.0)


def _window(values: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(values, side, stride=1, padding=side // 2, count_include_pad=False)


def _centred(features: Tensor, cell: int) -> Tensor:
    """Magnitudes less their local mean: alone they are positive, and any two places agree."""
    mean = _window(F.avg_pool2d(features[:, :1], cell), 5)
    mean = F.interpolate(mean, scale_factor=float(cell), mode="bilinear", align_corners=False)
    return torch.cat((features[:, :1] - mean, features[:, 1:]), dim=1)


def _trust(agreement: Tensor, fixed: Tensor, other: Tensor, information: Tensor, slope: Tensor, cell: int) -> Tensor:
    """What a cell's evidence counts for, (B, 1, h, w), learned from fields whose truth is exact.

    Strong outlines agree by chance more strongly, so products count by the root of their energies. Agreement of the
    magnitudes speaks for a cell, a slope that its curvature cannot account for speaks against it.
    """
    first, second = (_window(F.avg_pool2d(each * each, cell), 3) for each in (fixed, other))
    alike = agreement / torch.sqrt(first[:, :1] * second[:, :1] + 1e-4)
    known = (information[:, :1] + information[:, 2:]) * 0.5
    unrest = (torch.linalg.vector_norm(slope, dim=1, keepdim=True) / (known + 3e-3)).clamp(max=3.0)
    energies = (torch.log(each.sum(dim=1, keepdim=True) + 1e-3) for each in (first, second))
    energy = 0.22 * next(energies) + 0.26 * next(energies)
    return torch.exp((0.33 + 0.32 * alike - energy + 0.06 * torch.log(known + 1e-4) - 0.25 * unrest).clamp(-6.0, 3.0))


def _semidefinite(xx: Tensor, xy: Tensor, yy: Tensor) -> Tensor:
    """(B, 3, h, w) of planes (B, h, w), negative eigenvalues made zero: a hollow says nothing of where the hill is."""
    middle, half = (xx + yy) * 0.5, (xx - yy) * 0.5
    radius = torch.sqrt(half * half + xy * xy + 1e-12)
    larger, smaller = (middle + radius).clamp(min=0.0), (middle - radius).clamp(min=0.0)
    mean, lead = (larger + smaller) * 0.5, (larger - smaller) * 0.5 / radius
    return torch.stack((mean + lead * half, lead * xy, mean - lead * half), dim=1)


def _applied(information: Tensor, field: Tensor) -> Tensor:
    x, y, across = field[:, :1], field[:, 1:], information[:, 1:2]
    return torch.cat((information[:, :1] * x + across * y, across * x + information[:, 2:] * y), dim=1)


def _bend(field: Tensor) -> Tensor:
    """Minus the sum of second differences both ways; the field goes on level beyond the border."""
    padded = F.pad(field, (1, 1, 1, 1), mode="replicate")
    beside = padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:] + padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
    return 4.0 * field - beside


def _cosines(like: Tensor, *, down: bool) -> tuple[Tensor, Tensor]:
    """The orthonormal cosine basis along a side, rows are waves; and what second differences make of each."""
    # By sums of ones: converters make integers of a traced size, and of what is reckoned with it.
    steps = torch.cumsum(torch.ones_like(like[0, 0, :, 0] if down else like[0, 0, 0]), dim=0) - 1.0
    turn = math.pi / (steps[-1:] + 1.0)
    waves = torch.cos((steps + 0.5).view(1, -1) * (steps * turn).view(-1, 1)) * torch.sqrt(turn * (2.0 / math.pi))
    constant = (steps == 0.0).to(torch.float32).view(-1, 1)
    return waves * (1.0 - (1.0 - math.sqrt(0.5)) * constant), 2.0 - 2.0 * torch.cos(steps * turn)


def _solved(information: Tensor, wanted: Tensor, start: Tensor, form: FieldForm) -> Tensor:
    """Conjugate gradients on (information + cost) e = wanted, from `start`; all pictures of the batch side by side."""
    (down, rows), (across, columns) = _cosines(start, down=True), _cosines(start, down=False)
    waves = rows.view(-1, 1) + columns.view(1, -1)
    cost = form.stiffness * waves * waves + form.tension * waves + form.rest
    mean = (information[:, :1] + information[:, 2:]).mean(dim=(-2, -1), keepdim=True) * 0.5
    nearly = 1.0 / (cost + mean)  # as if every cell knew the same

    def nearly_solved(field: Tensor) -> Tensor:
        # As 1x1 convolutions: OpenVINO 2026 gives wrong numbers for a product of matrices around a product of elements.
        seen = F.conv2d(field.permute(0, 3, 1, 2), across[:, :, None, None]).permute(0, 3, 2, 1)
        held = F.conv2d(seen, down[:, :, None, None]) * nearly.permute(0, 2, 1, 3)
        back = F.conv2d(held, down.t()[:, :, None, None]).permute(0, 3, 2, 1)
        return F.conv2d(back, across.t()[:, :, None, None]).permute(0, 2, 3, 1)

    def pushed_back(field: Tensor) -> Tensor:
        once = _bend(field)
        return _applied(information, field) + form.stiffness * _bend(once) + form.tension * once + form.rest * field

    def product(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).sum(dim=(-3, -2, -1), keepdim=True)

    found = start
    residual = wanted - pushed_back(start)
    step = ahead = nearly_solved(residual)
    size = product(residual, ahead)
    for _ in range(_STEPS):
        pushed = pushed_back(step)
        length = size / (product(step, pushed) + 1e-12)
        found = found + length * step
        residual = residual - length * pushed
        ahead = nearly_solved(residual)
        before, size = size, product(residual, ahead)
        step = ahead + (size / (before + 1e-12)) * step
    return found


class EvidenceAlignment(CorrelationAlignment):
    """The stages once each, then three steps by evidence in place of the looks of the finest stage."""

    forms: tuple[FieldForm, ...] = FORMS

    def forward(self, visible_y: Tensor, infrared: Tensor) -> Alignment:
        displacements: list[Tensor] = []
        log_confidence = visible_y
        for stage in self.stages:
            fixed, other = _features(visible_y, infrared, stage)
            if displacements:
                other = warp(other, displacements[-1] / _factor(stage))
            step, log_confidence = stage(fixed, other)
            displacements.append(displacements[-1] + step if displacements else step)
        displacements[-1] = settle(displacements[-1], log_confidence, _FIRST_PRIOR)
        fixed, other = _features(visible_y, infrared, self.stages[-1])
        factor = _factor(self.stages[-1])
        for form in self.forms:
            moved = warp(other, displacements[-1] / factor)
            evidence = gather(fixed, moved, factor, CELL_PX // factor)
            displacements.append(simplest_field(displacements[-1], evidence, form))
        return Alignment(tuple(displacements), log_confidence)


def _factor(stage: torch.nn.Module) -> int:
    assert isinstance(stage, CorrelationStage)
    return stage.factor


def _features(visible_y: Tensor, infrared: Tensor, stage: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Of both pictures, at the stage's resolution."""
    factor = _factor(stage)
    cell = max(2 * CELL_PX // factor, 4)
    fixed, other = (gradient_features(_reduced(picture, factor), cell) for picture in (visible_y, infrared))
    return fixed, other


def estimators(weights: str, bendings: list[float]) -> dict[str, Estimator]:
    """The shipped search, and the one by evidence with each cost of bending."""
    network = load_checkpoint(resolve_weights(weights)).network
    found: dict[str, Estimator] = {"as shipped": torch_estimator(network)}
    for bending in bendings:
        changed = copy.deepcopy(network)
        assert isinstance(changed.alignment, CorrelationAlignment)
        changed.alignment.__class__ = EvidenceAlignment
        changed.alignment.forms = tuple(  # type: ignore[assignment]
            FieldForm(bending * form.stiffness, bending * form.tension, form.rest) for form in FORMS
        )
        found[f"by evidence, bending x {bending:g}"] = torch_estimator(changed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", default="tiny")
    parser.add_argument("--bending", type=float, action="append", help="times the cost of bending; may be repeated")
    parser.add_argument("--limit", type=int, default=8, help="held-out pairs")
    parser.add_argument("--frames", type=int, default=24, help="of each simulated rig, of which the first 20 settle")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = list(load_pairs(options.pairs, tuple(held_out_stems(options.pairs)[: options.limit])))
    moments = {name: list(rig_moments(rig, options.frames)) for name, rig in RIGS.items()}
    table = Table(title=f"{len(pairs)} held-out pairs, {options.frames} frames of each rig; median / 90 %, px")
    for heading in ("search", *(each.label for each in DISPLACEMENTS), "peaks", "affine map", *moments):
        table.add_column(heading)
    for name, estimator in estimators(options.weights, options.bending or [1.0]).items():
        errors = pair_errors(estimator, pairs, DISPLACEMENTS)
        figures = [*(errors.following_px[each] for each in DISPLACEMENTS), errors.peaks_px, errors.affine_px]
        figures += [rig_errors(estimator, shown, standing=False).off_px for shown in moments.values()]
        table.add_row(name, *(f"{np.median(each):.2f} / {np.percentile(each, 90):.2f}" for each in figures))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
