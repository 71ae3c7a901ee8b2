"""Holds the displacement field to what is left behind a calibration: parallax along one line, and an affine map.

Not part of the product: docs/evidence/alignment.md tells what it gains. The three rigs of `finetune_simulated_rig.py`,
moved ahead by the map of their own footage, on sessions that the map never saw. In each look of the finest stage
`settle` is replaced: across the baseline only the affine map stays; along it the field departs first row by row (ground
comes nearer towards the bottom), then place by place. A search of the line follows: evidence at 21 displacements from
self-similarity (a place against its neighbours, in each picture by itself) and from correlated gradients; the best path
of displacements down the rows; and around it each place's mean, pulled to the path and to the field of the looks.
Beside it stand bounds that take a part of the field from the truth: what an estimate that knew this much would reach.

    python benchmarks/field_along_line.py lepton       # double-height, boson
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from finetune_simulated_rig import (  # beside this file
    CAMERA,
    MAP_FRAMES,
    MAP_INTERVAL_S,
    RIGS,
    SESSIONS,
    STRUCTURE,
    _left_by,
    rig_of,
)
from torch import Tensor

from app.pipeline.thermal_grid import ThermalGrid
from calibration.rig import Calibration
from calibration.targetless import align_from_nothing
from fusion_core.checkpoint import load_checkpoint
from fusion_core.colour import luminance
from fusion_core.engines.pyramid_engine import fuse_pyramid
from fusion_core.measures.ghost import gradient_shares
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import correlation
from fusion_core.rfvif.correlation import _affine_fit, _smooth_pyramid
from fusion_core.rfvif.features import gradient_features
from fusion_core.simulation.rig import SimulatedRig
from fusion_core.thermal.agc import Agc
from fusion_core.thermal.field_of_view import to_grid
from fusion_core.training.random_displacement import move_by
from fusion_core.training.registration import gradient_plane

_ROW_PRIOR = 0.1
_ROWS = (13, 7, 3)  # cells over which rows are averaged, wide to narrow
_BORDER_PX = 16

_REACH = 10  # displacements of two pixels, each way along the line
_STEPS_PX = (torch.arange(2 * _REACH + 1) - _REACH).view(-1, 1, 1) * 2.0
_PATH, _PULL, _PULL_PX, _SHARPNESS = 0.1, 0.3, 10.0, 1.5

Settle = Callable[[Tensor, Tensor, float], Tensor]


class Moment(NamedTuple):
    """(H, W) uint8 thrice, the true field (H, W, 2), where both cameras see structure, and where depth jumps nearby."""

    visible: np.ndarray
    given: np.ndarray
    aligned: np.ndarray
    there: np.ndarray
    seen: np.ndarray
    jump: np.ndarray


def along_line(displacement: Tensor, log_confidence: Tensor, prior: float, *, rows: bool) -> Tensor:
    """As `settle`, with departures from the affine map along x alone: the baseline of these rigs."""
    weight = torch.exp(2.0 * log_confidence.clamp(-4.0, 2.0))
    affine = _affine_fit(displacement, weight)
    departure = (displacement - affine) * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    base = torch.zeros_like(departure)
    of_rows = torch.cat((weight * departure, weight), dim=1).mean(dim=-1, keepdim=True)
    for height in _ROWS if rows else ():
        window = F.avg_pool2d(of_rows, (height, 1), 1, (height // 2, 0), count_include_pad=False)
        base = (window[:, :2] + _ROW_PRIOR * base) / (window[:, 2:] + _ROW_PRIOR)
    weighted = torch.cat((weight * (departure - base), weight), dim=1)
    rest = torch.zeros_like(departure)
    for window in (*reversed(_smooth_pyramid(weighted, 4)), weighted):
        rest = (window[:, :2] + prior * rest) / (window[:, 2:] + prior)
    return affine + base + rest


def _box(planes: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(F.pad(planes, (side // 2,) * 4, mode="replicate"), side, 1)


def _at_each_step(planes: Tensor) -> list[Tensor]:
    padded = F.pad(planes, (_REACH, _REACH, 0, 0), mode="replicate")
    return [padded[..., step : step + planes.shape[-1]] for step in range(2 * _REACH + 1)]


def _self_similarity(picture: Tensor, away: int) -> Tensor:
    """(1, 8, h, w): how alike a place and its neighbours in eight directions are; the same where a contrast flips."""
    around = F.pad(picture, (away,) * 4, mode="replicate")
    height, width = picture.shape[-2:]
    places = [(dy, dx) for dy in (0, away, 2 * away) for dx in (0, away, 2 * away) if (dy, dx) != (away, away)]
    unlike = torch.cat([(picture - around[..., y : y + height, x : x + width]) ** 2 for y, x in places], dim=1)
    unlike = _box(unlike, 3)
    usual = unlike.mean(dim=1, keepdim=True)
    return torch.exp(-unlike / (usual + 0.05 * usual.mean() + 1e-6))


def _similarity(first: Tensor, second: Tensor) -> Tensor:
    """(S, h / 4, w / 4), of two pictures at half size."""
    found: list[Tensor] = [torch.zeros(()) for _ in range(2 * _REACH + 1)]
    for away in (1, 2, 4):
        fixed, other = _self_similarity(first, away), _self_similarity(second, away)
        for step, moved in enumerate(_at_each_step(other)):
            found[step] = found[step] - (fixed - moved).abs().mean(dim=1, keepdim=True)
    return F.avg_pool2d(_box(torch.cat(found), 7), 4)[:, 0]


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """As `_similarity`: normalised correlation of each gradient feature over windows of 14 px, added up."""
    fixed, other = (gradient_features(picture, 8) for picture in (first, second))
    (mean, power), (other_mean, other_power) = ((_box(each, 7), _box(each * each, 7)) for each in (fixed, other))
    spread, other_spread = power - mean * mean, other_power - other_mean * other_mean
    floor, other_floor = (0.02 * each.mean(dim=(-2, -1), keepdim=True) for each in (spread, other_spread))
    moments = zip(*(_at_each_step(each) for each in (other, other_mean, other_spread)), strict=True)
    found = [
        ((_box(fixed * moved, 7) - mean * m) / torch.sqrt((spread + floor) * (s + other_floor))).sum(1, keepdim=True)
        for moved, m, s in moments
    ]
    return F.avg_pool2d(torch.cat(found), 4)[:, 0]


def _path_down_rows(evidence: Tensor) -> Tensor:
    """(S, h, w) -> (h, 1), px: the displacement of each row on the best path, between steps by a parabola."""
    rows = evidence.mean(dim=-1).t()
    rows = F.avg_pool1d(F.pad(rows.t()[None], (2, 2), mode="replicate"), 5, 1)[0].t()
    steps = torch.arange(len(evidence), dtype=torch.float32)
    price = _PATH * (steps[:, None] - steps).abs()
    down, up = rows.clone(), torch.zeros_like(rows)
    for y in range(1, len(rows)):
        down[y] += (down[y - 1] - price).amax(dim=1)
    for y in range(len(rows) - 2, -1, -1):
        up[y] = (rows[y + 1] + up[y + 1] - price).amax(dim=1)
    total = down + up
    best = total.argmax(dim=1).clamp(1, len(evidence) - 2)[:, None]
    before, at, after = (total.gather(1, best + offset) for offset in (-1, 0, 1))
    bend = (2.0 * at - before - after).clamp(min=1e-6)
    return (best - _REACH + (0.5 * (after - before) / bend).clamp(-0.5, 0.5)) * 2.0


def searched_line(pictures: list[Tensor], looks: Tensor, affine: Tensor) -> Tensor:
    """(1, 2, h, w): the field of the looks, with a search of the line in place of what it has along it."""
    first, second = (F.avg_pool2d(each, 2) for each in pictures)
    second = correlation.warp(second, affine / 2.0)
    evidence = torch.zeros(())
    for part in (_similarity(first, second), _correlation(first, second)):
        part = part - part.mean(dim=0)
        evidence = evidence + 0.5 * part / part.std()
    path = _path_down_rows(evidence)
    places = (torch.arange(len(evidence)).view(-1, 1, 1) + path / 2.0).clamp(0, len(evidence) - 1)
    below = places.floor().long().expand_as(evidence)
    above = (below + 1).clamp(max=len(evidence) - 1)
    around = torch.lerp(evidence.gather(0, below), evidence.gather(0, above), (places - below).expand_as(evidence))
    around = _SHARPNESS * _box(around[:, None], 5)[:, 0]
    held = looks[0, 0] - affine[0, 0] - path
    pull = _STEPS_PX.abs().clamp(max=_PULL_PX) + (_STEPS_PX - held).abs().clamp(max=_PULL_PX)
    share = torch.softmax(around - _PULL * pull, dim=0)
    along = affine[0, 0] + path + (share * _STEPS_PX).sum(dim=0)
    return torch.stack((along, looks[0, 1]))[None]


def map_of_footage(name: str) -> Calibration:
    """As `finetune_simulated_rig.py calibrate` makes it."""
    CAMERA.clear()
    CAMERA.update(RIGS[name])
    pairs = []
    for seed in SESSIONS["train"]:
        rig = rig_of("train", seed)
        times_s = [1.0 + MAP_INTERVAL_S * number for number in range(MAP_FRAMES)]
        pairs += [(rig.visible(time_s), rig.thermal(time_s)) for time_s in times_s]
    return align_from_nothing(pairs, "lens", near="affine", search_px=24.0).calibration


def moment(rig: SimulatedRig, time_s: float, calibration: Calibration) -> Moment:
    visible, truth = rig.visible(time_s), rig.truth(time_s)
    height, width = visible.shape[:2]
    grid = ThermalGrid.of(calibration)
    given = grid.filled(grid.to_visible(Agc().apply(rig.thermal(time_s)), height, width), visible)
    aligned = to_grid(Agc().apply(truth.thermal_aligned), height, width)
    planes = [gradient_plane(picture) for picture in (luminance(truth.visible_clean), aligned)]
    seen = (planes[0] > STRUCTURE) & (planes[1] > STRUCTURE)
    shown = grid.mask(height, width)
    seen = seen if shown is None else seen & shown
    inside = np.zeros_like(seen)
    inside[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = True
    jump = cv2.morphologyEx(truth.displacement_px[..., 0], cv2.MORPH_GRADIENT, np.ones((17, 17), np.uint8)) > 2.0
    there = _left_by(calibration, truth.displacement_px)
    return Moment(luminance(visible), given, aligned, there, seen & inside, jump)


def of_truth(found: np.ndarray, true: Moment) -> dict[str, np.ndarray]:
    """What knowing a part of the truth would give; found: (H, W, 2), across the line its affine map is kept."""
    across = found.copy()
    row = np.full(len(found), np.nan)
    for y in range(len(found)):
        rows = slice(max(0, y - 8), y + 9)
        left = (true.there - found)[rows, :, 0][true.seen[rows]]
        row[y] = np.median(left) if left.size > 20 else np.nan
    known = np.flatnonzero(~np.isnan(row))
    across[..., 0] += np.interp(np.arange(len(found)), known, row[known])[:, None]
    bounds = {"that affine map, and the true median of each row of the moment": across}
    for side in (96, 24):
        bounds[f"truth, averaged over {side} px"] = np.dstack(
            (cv2.blur(true.there[..., 0], (side, side)), found[..., 1])
        )
    return bounds


def measured(field: np.ndarray, true: Moment) -> list[float]:
    """Mean, median, 90 % and median at depth edges of the error, px; thermal edges and ghosts behind a pyramid."""
    length = np.linalg.norm(field - true.there, axis=-1)
    off, at_jumps = length[true.seen], length[true.seen & true.jump]
    x, y = np.meshgrid(np.arange(field.shape[1], dtype=np.float32), np.arange(field.shape[0], dtype=np.float32))
    places = (x + field[..., 0], y + field[..., 1])
    moved = cv2.remap(true.given, *places, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    misplaced = move_by(true.aligned, cv2.GaussianBlur(true.there, (0, 0), 2.0))
    shares = gradient_shares(
        fuse_pyramid(true.visible, np.asarray(moved)), true.visible, true.aligned, misplaced, central=True
    )
    edge = float(np.median(at_jumps)) if at_jumps.size else float("nan")
    errors = float(off.mean()), float(np.median(off)), float(np.percentile(off, 90))
    return [*errors, edge, shares.g_thermal, shares.g_ghost]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rig", choices=RIGS)
    parser.add_argument("--weights", default="tiny")
    parser.add_argument("--frames", type=int, default=3, help="of each session")
    options = parser.parse_args()
    torch.set_num_threads(1)
    calibration = map_of_footage(options.rig)
    network = load_checkpoint(resolve_weights(options.weights)).network.float().eval()
    ways: dict[str, Settle] = {
        "as shipped": correlation.settle,
        "across the line the affine map alone": lambda *given: along_line(*given, rows=False),
        "the same, along it by rows first": lambda *given: along_line(*given, rows=True),
    }
    rows: dict[str, list[list[float]]] = {}
    for seed in SESSIONS["unseen"]:
        rig = rig_of("unseen", seed)
        for number in range(options.frames):
            true = moment(rig, 2.0 + 2.3 * number, calibration)
            pictures = [torch.from_numpy(each).float()[None, None] / 255.0 for each in (true.visible, true.given)]
            fields = {}
            for label, settle in ways.items():
                with patch.object(correlation, "settle", settle), torch.inference_mode():
                    found = network.estimate(*pictures)
                looks = found.displacements[-1]
                fields[label] = _enlarged(looks, true.visible.shape)
            affine = _affine_fit(looks, torch.exp(2.0 * found.log_confidence.clamp(-4.0, 2.0)))
            line = searched_line(pictures, looks, affine)
            fields["and then a search of the line"] = _enlarged(line, true.visible.shape)
            fields |= of_truth(_enlarged(affine, true.visible.shape), true)
            for label, field in fields.items():
                rows.setdefault(label, []).append(measured(field, true))
    print("| | mean px | median | 90 % | at depth edges | gIR | gGhost |\n|---|---|---|---|---|---|---|")
    for label, values in rows.items():
        means = np.nanmean(values, axis=0)
        shown = [f"{value:.2f}" for value in means[:4]] + [f"{value:.3f}" for value in means[4:]]
        print(f"| {label} | {' | '.join(shown)} |")


def _enlarged(coarse: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """(1, 2, h, w) on the 8-pixel grid to (H, W, 2)."""
    planes = [cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in coarse[0].numpy()]
    return np.stack(planes, axis=-1).astype(np.float32)


if __name__ == "__main__":
    main()
