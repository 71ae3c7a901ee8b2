"""Trains and measures another estimate of the displacement: learned features on top of the correlated gradients.

Not part of the product: docs/evidence/alignment.md tells what it gains and what it costs. Gradients alone meet what one
spectrum has and the other has not: shadows and print are visible only, warm walls thermal only. So a small network sees
each picture's gradients and light, weighs the gradients place by place, adds to them, and adds planes of its own. The
shipped stages correlate them, trained on with the network. What a soft arg-max finds falls short of the peak: steps of
the finest stage are made longer by `GAIN`, in training too.

    python benchmarks/learned_features.py train PAIRS OUT --steps 2000    # once more: goes on where it stopped
    python benchmarks/learned_features.py train PAIRS OUT2 --steps 600 --from OUT/weights.safetensors
    python benchmarks/learned_features.py measure PAIRS --every 3         # learned_features.safetensors and shipped
    python benchmarks/learned_features.py measure VIFB --subset vifb-aligned
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from fusion_core.checkpoint import load_checkpoint
from fusion_core.colour import luminance
from fusion_core.engines.pyramid_engine import fuse_pyramid
from fusion_core.engines.running_displacement import Estimator, RunningDisplacement
from fusion_core.engines.torch_engine import torch_estimator
from fusion_core.measures import evaluation
from fusion_core.measures.displacement import Displacement, displace, field, uniform
from fusion_core.measures.estimate import RIG_FRAMES, RIGS, pair_errors, rig_errors, rig_moments
from fusion_core.measures.ghost import gradient_shares
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import Rfvif
from fusion_core.rfvif.correlation import (
    CELL_PX,
    Alignment,
    CorrelationAlignment,
    CorrelationStage,
    _reduced,
    gradient_features,
    settle,
    warp,
)
from fusion_core.rfvif.padding import pad_to_multiple
from fusion_core.simulation.rig import SimulatedRigConfig
from fusion_core.training.config import AugmentationConfig, DataConfig, DisplacementConfig, RegistrationConfig
from fusion_core.training.dataset import CropSampler, TrainingPair, held_out_stems, load_pairs, split_pairs
from fusion_core.training.losses import following_loss
from fusion_core.training.random_displacement import draw_displacement, move_by
from fusion_core.training.registration import PairRegistration, register_pair
from fusion_core.training.run_state import atomic_write

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

WEIGHTS = Path(__file__).with_suffix(".safetensors")
PRIORS, GAIN = (1.0, 0.1, 0.1, 0.2), 1.35

_WIDTH_4, _WIDTH_8 = 16, 24  # feature maps of each picture at 1/4 and 1/8 of the resolution
_OWN_4, _OWN_8 = 6, 8  # planes there beside the three of the gradients
_LIGHT_CELL = 4  # pixels of the quarter resolution over which light is compared
_LIGHT_FLOOR = 1e-3  # variance of light below which there is nothing to compare


# --- The estimate ---


class LearnedFeatures(nn.Module):
    """Planes to correlate at 1/2, 1/4 and 1/8 of the resolution. A layer serves both pictures, each by its group."""

    def __init__(self) -> None:
        super().__init__()

        def layer(of: int, to: int, side: int = 1, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
            return nn.Conv2d(2 * of, 2 * to, side, stride, dilation * (side // 2), dilation, groups=2)

        self.first = layer(7, _WIDTH_4, 3)
        self.down, self.edges = layer(_WIDTH_4, _WIDTH_8, 3, stride=2), layer(3, _WIDTH_8)
        self.around = nn.ModuleList(layer(_WIDTH_8, _WIDTH_8, 3, dilation=wide) for wide in (2, 4))
        self.up, self.mix = layer(_WIDTH_8, _WIDTH_4), layer(_WIDTH_4, _WIDTH_4, 3)
        # A weight for the gradients, what is added to the three of them, own planes; at 1/4 also the weight for 1/2.
        self.out8, self.out4 = layer(_WIDTH_8, 4 + _OWN_8), layer(_WIDTH_4, 4 + _OWN_4 + 1)
        for out, own in ((self.out8, _OWN_8), (self.out4, _OWN_4)):  # begins as the gradients, and planes at random
            assert out.bias is not None
            nn.init.zeros_(out.bias)
            nn.init.zeros_(out.weight)
            for group in out.weight.detach().chunk(2):
                nn.init.normal_(group[4 : 4 + own], std=0.1)

    def forward(self, visible_y: Tensor, infrared: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Of the visible and the infrared picture, (B, 1, H, W) in [0, 1], H and W multiples of 8.

        Returns:
            By 1/resolution, for each picture (B, C, H / factor, W / factor) float32.
        """
        batch = visible_y.shape[0]
        pictures = torch.cat((visible_y, infrared), dim=1).flatten(0, 1).unsqueeze(1)  # one after the other
        edges = {f: gradient_features(_reduced(pictures, f), max(2 * CELL_PX // f, 4)) for f in (8, 4, 2)}

        def side_by_side(planes: Tensor) -> Tensor:
            return planes.reshape(batch, -1, *planes.shape[-2:])

        def apart(maps: Tensor) -> Tensor:
            return maps.reshape(2 * batch, -1, *maps.shape[-2:])

        seen = torch.cat((edges[4], _light(_reduced(pictures, 4)), F.avg_pool2d(edges[2], 2)), dim=1)
        fine = F.relu(self.first(side_by_side(seen)))
        coarse = F.relu(self.down(fine) + self.edges(side_by_side(edges[8])))
        for layer in self.around:
            coarse = coarse + F.relu(layer(coarse))
        fine = F.relu(_grown(self.up(coarse), 2) + self.mix(fine))
        planes = {}
        out = apart(self.out8(coarse))
        planes[8] = torch.cat((_weighed(edges[8], out), out[:, 4:]), dim=1)
        out = apart(self.out4(fine))
        planes[4] = torch.cat((_weighed(edges[4], out), out[:, 4 : 4 + _OWN_4]), dim=1)
        planes[2] = edges[2] * torch.exp(_grown(out[:, 4 + _OWN_4 :], 2).clamp(-4.0, 2.0))
        both = {factor: each.view(batch, 2, -1, *each.shape[-2:]) for factor, each in planes.items()}
        return {factor: (each[:, 0], each[:, 1]) for factor, each in both.items()}


def _weighed(edges: Tensor, out: Tensor) -> Tensor:
    return edges * torch.exp(out[:, :1].clamp(-4.0, 2.0)) + out[:, 1:4]


def _grown(maps: Tensor, factor: int) -> Tensor:
    return F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _light(image: Tensor) -> Tensor:
    """Luminance less its local mean, over its local spread: (B, 1, h, w)."""
    height, width = image.shape[-2:]
    padded = pad_to_multiple(torch.cat((image, image * image), dim=1), _LIGHT_CELL, mirror=False)
    moments = F.avg_pool2d(F.avg_pool2d(padded, _LIGHT_CELL), 3, stride=1, padding=1, count_include_pad=False)
    mean = moments[:, :1]
    spread = torch.rsqrt((moments[:, 1:] - mean * mean).clamp(min=0.0) + _LIGHT_FLOOR)
    local = _grown(torch.cat((mean, spread), dim=1), _LIGHT_CELL)[:, :, :height, :width]
    return (image - local[:, :1]) * local[:, 1:]


class LearnedStage(CorrelationStage):
    """Takes any number of planes."""

    def volume(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """The first plane's products by themselves, and the sum of all others': (B, S, 2, h, w) float32."""
        r, (height, width) = self.radius, visible.shape[-2:]
        padded = F.pad(infrared, (r, r, r, r), mode="replicate")
        found = []
        for dy in range(2 * r + 1):
            for dx in range(2 * r + 1):
                products = visible * padded[:, :, dy : dy + height, dx : dx + width]
                both = torch.stack((products[:, 0], products[:, 1:].sum(dim=1)), dim=1)
                found.append(F.avg_pool2d(both, CELL_PX // self.factor))
        return torch.stack(found, dim=1)


class LearnedAlignment(CorrelationAlignment):
    """The shipped search on learned features, with longer steps and weaker priors."""

    features: LearnedFeatures

    def forward(self, visible_y: Tensor, infrared: Tensor) -> Alignment:
        coarse: list[tuple[nn.Module, float | None]] = [(stage, None) for stage in list(self.stages)[:-1]]
        looks = [(self.stages[-1], prior) for prior in PRIORS]
        return self._look(visible_y, infrared, None, [*coarse, *looks])

    def refine(self, visible_y: Tensor, infrared: Tensor, displacement: Tensor) -> Alignment:
        return self._look(visible_y, infrared, displacement, [(self.stages[-1], PRIORS[-1])])

    def _look(
        self,
        visible_y: Tensor,
        infrared: Tensor,
        displacement: Tensor | None,
        looks: Iterable[tuple[nn.Module, float | None]],
    ) -> Alignment:
        features = self.features(visible_y.float(), infrared.float())
        displacements = []
        log_confidence = visible_y
        for stage, prior in looks:
            factor = stage.factor
            assert isinstance(factor, int)
            fixed, other = features[factor]
            if displacement is not None:
                other = warp(other, displacement / factor)
            step, log_confidence = stage(fixed, other)
            if prior is not None:
                step = step * GAIN
            displacement = step if displacement is None else displacement + step
            if prior is not None:
                displacement = settle(displacement, log_confidence, prior)
            displacements.append(displacement)
        return Alignment(tuple(displacements), log_confidence)


def learned_network(weights: Path | None) -> tuple[Rfvif, LearnedAlignment]:
    """The shipped `tiny` with its alignment exchanged; without `weights` its features are still to be learned."""
    network = load_checkpoint(resolve_weights("tiny")).network.float()
    alignment = network.alignment
    assert isinstance(alignment, CorrelationAlignment)
    alignment.__class__ = LearnedAlignment
    assert isinstance(alignment, LearnedAlignment)
    torch.manual_seed(0)
    alignment.features = LearnedFeatures()
    for stage in alignment.stages:
        stage.__class__ = LearnedStage
    if weights is not None:
        stored = safetensors.torch.load_file(weights)
        alignment.load_state_dict({name: value.float() for name, value in stored.items()})
    return network, alignment


# --- What it learns from ---

CROP_PX = 320
DISPLACEMENT = DisplacementConfig(
    max_px=10.0, varying_probability=0.75, varying_peak_px=(1.0, 9.0), varying_spacing_px=(90.0, 400.0)
)
RIG_DISPLACEMENT = DISPLACEMENT.model_copy(
    update={"max_px": 4.0, "varying_peak_px": (0.5, 4.0), "varying_probability": 0.4}
)
AUGMENTATION = AugmentationConfig(
    scale=(0.7, 1.5), visible_gain=0.3, visible_gamma=0.6, visible_offset=0.05, visible_noise=0.04, visible_blur_px=1.2,
    infrared_gain=0.3, infrared_gamma=0.6, infrared_offset=0.05, infrared_noise=0.04, infrared_blur_px=1.5,
    infrared_stretch_probability=0.4, infrared_equalize_probability=0.3, infrared_invert_probability=0.3,
)  # fmt: skip
REAL, PSEUDO, SIMULATED = 3, 2, 1  # crops of each kind in a step
_SEED = 7
THERMAL_SIZES = {(480, 640): 0.35, (240, 320): 0.35, (384, 512): 0.2, (120, 160): 0.1}
"""Of the simulated rigs, height and width, with their shares."""


class Crops(NamedTuple):
    """Pictures (B, 1, H, W) in [0, 1]; the true displacement (B, 2, H, W), px."""

    visible: Tensor
    infrared: Tensor
    displacement: Tensor


def _smooth_mask(rng: np.random.Generator, shape: tuple[int, ...], spacing: tuple[int, int], offset: float) -> Floats:
    """Blobs of 0 and 1 with soft borders; a larger offset leaves fewer of 1."""
    height, width = shape
    cell = int(rng.integers(*spacing))
    nodes = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
    blobs = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(1.0 / (1.0 + np.exp(-6.0 * (blobs - offset))), np.float32)


def _tone_curve(rng: np.random.Generator) -> Floats:
    count = int(rng.integers(3, 7))
    levels = rng.uniform(0.0, 255.0, count)
    return np.asarray(np.interp(np.arange(256), np.linspace(0, 255, count), levels), np.float32)


def pseudo_thermal(rng: np.random.Generator, visible: Picture, another: Picture) -> Picture:
    """A picture as a thermal camera might give of the same place: the truth of its displacement is exact.

    Tones by region, edges dropped, edges of `another` thermal picture added, a lower resolution, little contrast.
    """
    height, width = visible.shape
    base = cv2.bilateralFilter(visible, 5, 30, 3) if rng.random() < 0.5 else visible
    if rng.random() < 0.5:  # hide fine texture
        base = cv2.medianBlur(base, int(rng.choice([3, 5, 7])))
    first = _smooth_mask(rng, visible.shape, (40, 160), 0.0)
    out = _tone_curve(rng)[base] * first + _tone_curve(rng)[base] * (1.0 - first)
    soft = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(4.0, 12.0)))
    dropped = _smooth_mask(rng, visible.shape, (24, 100), rng.uniform(0.0, 1.0)) * rng.uniform(0.5, 1.0)
    out = out * (1.0 - dropped) + soft * dropped
    if rng.random() < 0.7:  # edges that thermal alone has
        if another.shape[0] < height or another.shape[1] < width:
            another = cv2.resize(another, (max(width, another.shape[1]), max(height, another.shape[0])))  # type: ignore[assignment]
        added = _smooth_mask(rng, visible.shape, (24, 120), rng.uniform(0.2, 1.2)) * rng.uniform(0.3, 1.0)
        out = out * (1.0 - added) + another[:height, :width].astype(np.float32) * added
    if rng.random() < 0.6:
        factor = rng.uniform(1.0, 4.0)
        small = cv2.resize(out, (int(width / factor), int(height / factor)), interpolation=cv2.INTER_AREA)
        out = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    low, high = np.percentile(out, (0.5, 99.5))
    span = rng.uniform(0.4, 1.0) * 255.0
    levels = (out - low) / max(float(high - low), 8.0) * span + rng.uniform(0.0, 255.0 - span)
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


def shaded(rng: np.random.Generator, visible: Picture) -> Picture:
    """With shadows and bright patches that thermal does not have."""
    height, width = visible.shape
    out = visible.astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        centre = rng.uniform((0, 0), (width, height))
        corners = centre + rng.normal(0.0, rng.uniform(20.0, 120.0), (int(rng.integers(3, 7)), 2))
        mask = np.zeros((height, width), np.float32)
        cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 1.0)
        mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 4.0)))  # type: ignore[assignment]
        out *= 1.0 - mask * np.float32(rng.uniform(-0.4, 0.6))
    return np.clip(out, 0, 255).astype(np.uint8)


def training_rigs(path: Path, count: int) -> dict[str, np.ndarray]:
    """Four moments of each of `count` rigs, stacked: visible, thermal (N, H, W) uint8, truth (N, 2, H, W) float16."""
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    rng = np.random.default_rng(5)
    moments = []
    for index in range(count):
        height, width = list(THERMAL_SIZES)[int(rng.choice(len(THERMAL_SIZES), p=list(THERMAL_SIZES.values())))]
        dx, dy = rng.uniform(-6.0, 6.0, 2)
        config = SimulatedRigConfig(
            seed=9000 + index, scene="street" if rng.random() < 0.5 else "yard",
            night=float(rng.choice([0.0, 0.3, 0.6, 0.9])),
            thermal_height=height, thermal_width=width, thermal_blur_px=rng.uniform(0.5, 1.2),
            thermal_gain=rng.uniform(15.0, 60.0), thermal_noise_counts=rng.uniform(1.0, 4.0), pan_deg_per_s=15.0,
            baseline_m=rng.uniform(-0.15, 0.15), aligned_distance_m=rng.uniform(8.0, 40.0),
            hfov_visible_deg=rng.uniform(40.0, 75.0), residual_shift_px=(dx, dy),
            residual_rotation_deg=rng.uniform(-0.8, 0.8), residual_scale=rng.uniform(0.99, 1.01),
        )  # fmt: skip
        moments += list(rig_moments(config, 16))[::5]
    found = {
        "visible": np.stack([each.visible for each in moments]),
        "thermal": np.stack([each.thermal for each in moments]),
        "truth": np.stack([each.true_px.astype(np.float16) for each in moments]),
    }
    np.savez(path, **found)  # type: ignore[arg-type]
    return found


class TrainingData:
    """Crops of registered pairs, of pseudo-thermal pictures and of simulated rigs: a pure function of the step."""

    def __init__(self, pairs: Path, out: Path, rigs: int) -> None:
        self._config = DataConfig(root=pairs, crop_px=CROP_PX, displacement=DISPLACEMENT, augmentation=AUGMENTATION)
        self._pairs = split_pairs(load_pairs(pairs), self._config.validation_fraction)[0]
        registered = []
        for pair in self._pairs:
            found = register_pair(pair.visible, pair.infrared, RegistrationConfig())
            if found.reliable:
                registered.append(TrainingPair(pair.stem, pair.visible, pair.infrared, found))
        print(f"{len(registered)} of {len(self._pairs)} pairs registered", flush=True)
        self._real = CropSampler(registered, self._config, _SEED)
        self._rigs = training_rigs(out / f"rigs-{rigs}.npz", rigs)

    def batch(self, step: int) -> Crops:
        """What one step sees."""
        rng = np.random.default_rng([70 + _SEED, step])
        real = self._real.batch(range(step * REAL, (step + 1) * REAL))
        parts = [Crops(real.visible, real.infrared, real.displacement)]
        for _ in range(PSEUDO):
            pair, another = (self._pairs[int(rng.integers(len(self._pairs)))] for _ in range(2))
            base = pair.infrared if rng.random() < 0.15 else pair.visible
            made = pseudo_thermal(rng, base, another.infrared)
            made_pair = TrainingPair(pair.stem, shaded(rng, base), made, PairRegistration())
            crop = CropSampler([made_pair], self._config, int(rng.integers(1 << 30))).batch([0])
            parts.append(Crops(crop.visible, crop.infrared, crop.displacement))
        parts += [self._rig_crop(rng) for _ in range(SIMULATED)]
        return Crops(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _rig_crop(self, rng: np.random.Generator) -> Crops:
        index = int(rng.integers(len(self._rigs["visible"])))
        visible, thermal = self._rigs["visible"][index], self._rigs["thermal"][index]
        truth = self._rigs["truth"][index].astype(np.float32).transpose(1, 2, 0)
        height, width = visible.shape
        more = draw_displacement(rng, height, width, RIG_DISPLACEMENT)
        thermal = move_by(thermal, more)
        xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        at_x, at_y = xs + truth[..., 0], ys + truth[..., 1]
        truth = truth + cv2.remap(more, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        top, left = int(rng.integers(height - CROP_PX + 1)), int(rng.integers(width - CROP_PX + 1))
        window = (slice(top, top + CROP_PX), slice(left, left + CROP_PX))
        visible, thermal, truth = visible[window], thermal[window], truth[window]
        if rng.random() < 0.5:
            visible, thermal, truth = visible[:, ::-1], thermal[:, ::-1], truth[:, ::-1] * np.array([-1, 1], np.float32)
        toned = []
        for each in (visible, thermal):
            curved = (each.astype(np.float32) / 255.0) ** np.exp(rng.uniform(-0.4, 0.4))
            noise = rng.normal(0.0, 1.0, each.shape) * rng.uniform(0.0, 0.03)
            toned.append(torch.from_numpy(np.clip(curved + noise, 0.0, 1.0).astype(np.float32))[None, None])
        if rng.random() < 0.3:
            toned[1] = 1.0 - toned[1]
        known = torch.from_numpy(np.ascontiguousarray(truth.transpose(2, 0, 1), np.float32))[None]
        return Crops(toned[0], toned[1], known)


# --- Training ---

_SHARES = (0.15, 0.2, 0.2, 0.4, 0.7, 1.0)  # of the error after each stage and look
_FOLLOWING = {-3: 0.3, -2: 0.6, -1: 1.0}  # of `following_loss` after the last three looks
_FROM_NOTHING, _FROM_WEIGHTS = (2e-3, 4e-4), (8e-4, 2.5e-4)  # learning rates of the features and of the stages
_CHECKPOINT_EVERY = 100


def loss_of(found: Alignment, crops: Crops) -> tuple[Tensor, Tensor]:
    """The loss, and the mean error of the last look, px. Errors count more where the thermal picture has edges."""
    truth = F.avg_pool2d(crops.displacement, CELL_PX)
    across = F.pad((crops.infrared[:, :, :, 1:] - crops.infrared[:, :, :, :-1]).abs(), (0, 1, 0, 0))
    edges = F.avg_pool2d(F.avg_pool2d(across, CELL_PX), 3, 1, 1)
    edges = (edges / edges.mean((2, 3), keepdim=True).clamp_min(1e-4)).clamp(max=3.0)
    counts = 0.7 + 0.3 * edges
    total = last = counts.new_zeros(())
    for share, each in zip(_SHARES, found.displacements, strict=True):
        last = ((each - truth).square().sum(1, keepdim=True) + 0.01).sqrt() - 0.1
        total = total + share * (counts * last).mean()
    sure = found.log_confidence.clamp(-4.0, 4.0)
    honest = (counts * (sure.exp() * (last.detach() + last) * 0.5 - sure)).mean()  # Laplace likelihood
    following = sum(
        share * following_loss(found.displacements[i], crops.displacement) for i, share in _FOLLOWING.items()
    )
    return total + 0.3 * honest + 1.5 * following, last.detach().mean()


def train(pairs: Path, out: Path, steps: int, start: Path | None, rigs: int) -> None:
    """Train on one thread; what was begun in `out` is continued. Writes weights.safetensors, their running mean."""
    out.mkdir(parents=True, exist_ok=True)
    alignment = learned_network(start)[1].train().requires_grad_(True)
    mean = {name: value.detach().clone() for name, value in alignment.state_dict().items()}
    rates = _FROM_NOTHING if start is None else _FROM_WEIGHTS
    groups = [alignment.features.parameters(), alignment.stages.parameters()]
    optimizer = torch.optim.Adam([{"params": list(each)} for each in groups], lr=1e-3, betas=(0.9, 0.99))
    checkpoint, step = out / "last.pt", 0
    if checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        alignment.load_state_dict(stored["alignment"])
        optimizer.load_state_dict(stored["optimizer"])
        mean, step = stored["mean"], stored["step"]
        print(f"goes on after step {step}", flush=True)
    data = TrainingData(pairs, out, rigs)
    losses: list[tuple[float, float]] = []
    began_s = time.process_time()
    while step < steps:
        speed = min(1.0, (step + 1) / 40) * (0.03 + 0.97 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * speed
        crops = data.batch(step)
        loss, error_px = loss_of(alignment(crops.visible, crops.infrared), crops)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(alignment.parameters(), 2.0)):
            optimizer.step()
        step += 1
        kept = min(0.997, (step + 1) / (step + 10))
        for name, value in alignment.state_dict().items():
            mean[name].lerp_(value, 1.0 - kept)
        losses.append((loss.item(), error_px.item()))
        if step % 50 == 0 or step == steps:
            shown, off = np.mean(losses[-50:], axis=0)
            print(f"step {step}, loss {shown:.3f}, {off:.2f} px, {time.process_time() - began_s:.0f} s", flush=True)
        if step % _CHECKPOINT_EVERY == 0 or step == steps:
            state = {"alignment": alignment.state_dict(), "optimizer": optimizer.state_dict()}
            atomic_write(checkpoint, partial(torch.save, state | {"mean": mean, "step": step}))
            save_weights(out / "weights.safetensors", mean)


def save_weights(path: Path, state: dict[str, Tensor]) -> None:
    """In FP16."""
    safetensors.torch.save_file({name: value.half().contiguous() for name, value in state.items()}, path)


# --- Measuring ---

FOLLOWED = (uniform(8), field(3), field(5), field(8))
FUSED = (uniform(8), field(5))


def shares(estimator: Estimator, pairs: Sequence[evaluation.EvaluationPair], displacement: Displacement) -> str:
    """gIR and gGhost before a pyramid, against pairs registered by correlation; without those that cannot be."""
    found = []
    for pair in pairs:
        visible = luminance(pair.visible)
        registration = register_pair(visible, pair.thermal, RegistrationConfig())
        if not registration.reliable:
            continue
        registered = registration.apply(pair.thermal)
        moved = displace(registered, displacement, pair.stem, 0)
        maps = RunningDisplacement(estimator, 1).at(visible, moved).maps
        aligned = cv2.remap(moved, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        fused = fuse_pyramid(visible, np.asarray(aligned, np.uint8))
        share = gradient_shares(fused, visible, registered, moved, central=True)
        found.append((share.g_thermal, share.g_ghost))
    return " / ".join(f"{each:.3f}" for each in np.mean(found, axis=0)) if found else "-"


def measure(pairs: Sequence[evaluation.EvaluationPair], weights: Path, frames: int) -> None:
    """Shipped and learned side by side; frames: of each simulated rig, the first 20 settle, 0 leaves the rigs out."""
    networks = {"shipped": load_checkpoint(resolve_weights("tiny")).network, "learned": learned_network(weights)[0]}
    estimators = {name: torch_estimator(network) for name, network in networks.items()}

    def both(errors: Floats) -> str:
        return f"{np.median(errors):.2f} / {np.percentile(errors, 90):.2f}"

    table = Table(title=f"{len(pairs)} pairs, px: median / 90 % (affine map: 90 % / worst); gIR / gGhost, registered")
    for heading in ("", *(each.label for each in FOLLOWED), "peaks", "affine map", *(each.label for each in FUSED)):
        table.add_column(heading)
    for name, estimator in estimators.items():
        errors = pair_errors(estimator, pairs, FOLLOWED)
        figures = [both(each) for each in (*(errors.following_px[d] for d in FOLLOWED), errors.peaks_px)]
        figures.append(f"{np.percentile(errors.affine_px, 90):.2f} / {errors.affine_px.max():.1f}")
        table.add_row(name, *figures, *(shares(estimator, pairs, each) for each in FUSED))
    Console(width=160).print(table)
    if not frames:
        return
    table = Table("", *RIGS, title=f"simulated rigs, {frames} frames of video, px: all pixels; near depth edges")
    moments = {name: list(rig_moments(rig, frames)) for name, rig in RIGS.items()}
    for name, estimator in estimators.items():
        found = [rig_errors(estimator, shown, standing=False) for shown in moments.values()]
        table.add_row(name, *(f"{both(each.off_px)}; {both(each.edge_px)}" for each in found))
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("pairs", type=Path)
    training.add_argument("out", type=Path)
    training.add_argument("--steps", type=int, required=True)
    training.add_argument("--from", type=Path, dest="start", help="weights to start from, at lower learning rates")
    training.add_argument("--rigs", type=int, default=56, help="simulated rigs to learn from, rendered once into OUT")
    measuring = commands.add_parser("measure")
    measuring.add_argument("pairs", type=Path)
    measuring.add_argument("--weights", type=Path, default=WEIGHTS)
    measuring.add_argument("--subset", choices=("held-out", "vifb-aligned"), default="held-out")
    measuring.add_argument("--every", type=int, default=1, help="take every Nth pair of the subset")
    measuring.add_argument("--frames", type=int, default=RIG_FRAMES, help="of each simulated rig; 0: none of them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.command == "train":
        train(options.pairs, options.out, options.steps, options.start, options.rigs)
    else:
        held_out = options.subset == "held-out"
        stems = held_out_stems(options.pairs) if held_out else list(evaluation.WELL_ALIGNED_VIFB)
        pairs = list(evaluation.load_pairs(options.pairs, tuple(stems[:: options.every])))
        measure(pairs, options.weights, options.frames)


if __name__ == "__main__":
    main()
