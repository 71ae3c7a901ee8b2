"""Measures held-out pairs while training: the error of the displacement, and edges and ghosts of the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.training.config import LossConfig, ValidationConfig
from fusion_core.training.dataset import Batch, TrainingPair
from fusion_core.training.losses import FusionLoss, TrainingOutput
from fusion_core.training.random_displacement import move_by, smooth_field

__all__ = ["edge_shares", "evaluation_batch", "validate"]

_VARYING_SPACING_PX = 160.0


def evaluation_batch(
    pair: TrainingPair, number: int, max_side_px: int, *, uniform_px: float, varying_px: float
) -> Batch:
    """One whole held-out pair (its centre, sides a multiple of 8) with a displacement that depends on `number` alone.

    uniform_px moves both axes by that much, the signs changing from pair to pair; varying_px adds a smooth field.
    """
    registered = pair.registration.apply(pair.infrared)
    height, width = (min(side, max_side_px) // 8 * 8 for side in pair.visible.shape)
    top, left = (pair.visible.shape[0] - height) // 2, (pair.visible.shape[1] - width) // 2
    full_height, full_width = pair.visible.shape
    signs = ((1, 1), (-1, 1), (1, -1), (-1, -1))[number % 4]
    field = np.empty((full_height, full_width, 2), np.float32)
    field[...] = np.float32(uniform_px) * np.asarray(signs, np.float32)
    if varying_px > 0:
        rng = np.random.default_rng([97, number])
        field += smooth_field(rng, full_height, full_width, peak_px=varying_px, spacing_px=_VARYING_SPACING_PX)
    moved = move_by(registered, field)
    window = (slice(top, top + height), slice(left, left + width))
    visible, target, shifted = (_tensor(picture[window]) for picture in (pair.visible, registered, moved))
    truth = torch.from_numpy(np.ascontiguousarray(field[window])).permute(2, 0, 1)[None]
    rows = torch.arange(height, dtype=torch.float32)[None, :, None] + truth[:, 1]
    columns = torch.arange(width, dtype=torch.float32)[None, None, :] + truth[:, 0]
    seen = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    reliable = torch.tensor([1.0 if pair.registration.reliable else 0.0])
    return Batch(visible, shifted, visible, target, truth.contiguous(), seen[:, None].float(), reliable)


def _tensor(picture: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32) / np.float32(255.0))[None, None]


def edge_shares(fused: Tensor, visible: Tensor, registered: Tensor, moved: Tensor | None) -> tuple[float, float, float]:
    """Least squares of the fused gradient field on those of the sources: shares (visible, infrared at its place,
    infrared where it was given). The last is 0 when `moved` is None. All (1, 1, H, W)."""
    sources = [visible, registered] + ([] if moved is None else [moved])
    columns = torch.stack([_central_gradients(picture) for picture in sources], dim=1).double()
    target = _central_gradients(fused).double()
    normal = columns.t() @ columns
    normal += 1e-9 * torch.eye(len(sources), dtype=torch.float64, device=normal.device) * normal.trace().clamp_min(1e-9)
    shares = torch.linalg.solve(normal, columns.t() @ target).tolist()
    return float(shares[0]), float(shares[1]), float(shares[2]) if moved is not None else 0.0


def _central_gradients(picture: Tensor) -> Tensor:
    x = (picture[..., 1:-1, 2:] - picture[..., 1:-1, :-2]) / 2
    y = (picture[..., 2:, 1:-1] - picture[..., :-2, 1:-1]) / 2
    return torch.cat((x.flatten(), y.flatten()))


@torch.no_grad()
def validate(
    network: nn.Module,
    pairs: Sequence[TrainingPair],
    config: ValidationConfig,
    loss: LossConfig,
    device: torch.device,
    *,
    alignment_only: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Measure the network (in the mode and with the weights it has) on up to `config.pairs` pairs.

    Args:
        alignment_only: leave out the fused picture.
        stop: asked before each picture; True ends the measurement.

    Returns:
        None when stopped. For each displacement NAME ("uniform3", "varying5"): `NAME/epe_px` (mean end-point error
        over the part of the picture whose content is in view) and `NAME/epe_median_px` (median over pairs), when the
        network gives a field; `NAME/edges_visible`, `/edges_infrared`, `/edges_ghost`; `NAME/loss`: the configured
        loss without Eq. (17), which whole pictures would make slow, and without Eq. (7), whose pictures a network
        gives in training only. Pairs of unknown registration give no error and no edges. Also `epe_px`, `loss`
        and `edges_*`: means over the displacements.
    """
    chosen = [pairs[i] for i in sorted({int(v) for v in np.linspace(0, len(pairs) - 1, min(config.pairs, len(pairs)))})]
    without_vgg = loss.model_copy(update={"perception": loss.perception.model_copy(update={"weight": 0.0})})
    criterion = FusionLoss(without_vgg, None, alignment_only=alignment_only)
    names = [(f"uniform{v:g}", v, 0.0) for v in config.uniform_px] + [
        (f"varying{v:g}", 0.0, v) for v in config.varying_px
    ]
    results: dict[str, float] = {}
    for name, uniform_px, varying_px in names:
        values: dict[str, list[float]] = {}
        for number, pair in enumerate(chosen):
            if stop():
                return None
            batch = evaluation_batch(pair, number, config.max_side_px, uniform_px=uniform_px, varying_px=varying_px)
            batch = Batch(*(tensor.to(device) for tensor in batch))
            output = network(batch.visible, batch.infrared)
            moved = uniform_px > 0 or varying_px > 0
            for key, value in _measure(output, batch, criterion, moved=moved, edges=not alignment_only).items():
                values.setdefault(key, []).append(value)
        for key, numbers in values.items():
            results[f"{name}/{key}"] = float(np.mean(numbers))
            if key == "epe_px":
                results[f"{name}/epe_median_px"] = float(np.median(numbers))
    for key in ("epe_px", "loss", "edges_visible", "edges_infrared", "edges_ghost"):
        over_all = [results[f"{name}/{key}"] for name, _, _ in names if f"{name}/{key}" in results]
        if over_all:
            results[key] = float(np.mean(over_all))
    return results


def _measure(output: Any, batch: Batch, criterion: FusionLoss, *, moved: bool, edges: bool) -> dict[str, float]:
    found: TrainingOutput = output
    values = {"loss": float(criterion(found, batch)[0])}
    if float(batch.alignment_weight) == 0:
        return values
    if found.displacement:
        field = found.displacement[-1].float()
        seen = F.adaptive_avg_pool2d(batch.seen, (field.shape[-2], field.shape[-1])) > 0.99
        truth = F.adaptive_avg_pool2d(batch.displacement, (field.shape[-2], field.shape[-1]))
        error = (field - truth).square().sum(1, keepdim=True).sqrt()
        values["epe_px"] = float(error[seen].mean())
    if not edges:
        return values
    fused = found.fused.float().clamp(0, 1)
    shares = edge_shares(fused, batch.visible, batch.infrared_target, batch.infrared if moved else None)
    values |= dict(zip(("edges_visible", "edges_infrared", "edges_ghost"), shares, strict=True))
    return values
