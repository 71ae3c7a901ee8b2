"""Trains the estimate of the displacement that the shipped networks share: its learned features and its stages.

    python benchmarks/train_estimate.py PAIRS OUT --minutes 60    # once more: goes on where it stopped
    lumitherm evaluate --estimate --weights OUT/tiny.safetensors --pairs PAIRS --subset held-out --shifts 8 --fields 5

Starts from the shipped weights, whose estimate came about so (docs/evidence/alignment.md). Learns from registered
pairs, pseudo-thermal pictures and simulated rigs, in float32 on one thread; OUT gets `tiny` and `small` with the new
estimate.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_core.checkpoint import load_checkpoint, save_checkpoint
from fusion_core.measures.estimate import rig_moments
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif.correlation import Alignment, CorrelationAlignment
from fusion_core.rfvif.features import CELL_PX
from fusion_core.simulation.rig import SimulatedRigConfig
from fusion_core.training.config import AugmentationConfig, DataConfig, DisplacementConfig, RegistrationConfig
from fusion_core.training.dataset import CropSampler, TrainingPair, load_pairs, split_pairs
from fusion_core.training.losses import following_loss
from fusion_core.training.random_displacement import draw_displacement, move_by
from fusion_core.training.registration import PairRegistration, register_pair
from fusion_core.training.run_state import atomic_write

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

PRIORS, GAIN = (1.0, 0.1, 0.1, 0.2), 1.35
"""Of the looks while it learns: weaker priors and shorter steps than those that serve best afterwards."""

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
THERMAL_SIZES = {(480, 640): 0.25, (240, 320): 0.3, (384, 512): 0.15, (120, 160): 0.3}
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
    if rng.random() < 0.35:  # edges that thermal alone has
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
            seed=19000 + index, scene="street" if rng.random() < 0.5 else "yard",
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


def another_camera(rng: np.random.Generator, infrared: Floats, coarse: float) -> Floats:
    """The picture, (H, W) in [0, 1], as cameras of other kinds give it; coarse: share of those with few pixels."""
    height, width = infrared.shape
    out = infrared
    if rng.random() < 0.2:  # halos of sharpening
        soft = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.8, 2.5))
        out = np.asarray(out + rng.uniform(0.3, 1.5) * (out - soft), np.float32)
    if rng.random() < coarse:
        factor = rng.uniform(1.2, 4.5)
        size = max(16, int(width / factor)), max(16, int(height / factor))
        small = np.asarray(cv2.resize(out, size, interpolation=cv2.INTER_AREA), np.float32)
        if rng.random() < 0.5:
            small = small + rng.normal(0.0, rng.uniform(0.0, 0.03), small.shape).astype(np.float32)
        back = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
        out = np.asarray(cv2.resize(small, (width, height), interpolation=back), np.float32)
    if rng.random() < 0.25:  # local contrast
        sigma_px, share = rng.uniform(15.0, 60.0), rng.uniform(0.3, 1.0)
        mean = cv2.GaussianBlur(out, (0, 0), sigma_px)
        spread = np.sqrt(cv2.GaussianBlur((out - mean) ** 2, (0, 0), sigma_px)) + 0.03
        out = np.asarray(
            (1 - share) * out + share * (0.5 + (out - mean) / spread * rng.uniform(0.08, 0.25)), np.float32
        )
    if rng.random() < 0.12:  # columns that differ
        out = out + rng.normal(0.0, rng.uniform(0.003, 0.02), (1, width)).astype(np.float32)
    return np.asarray(np.clip(out, 0.0, 1.0), np.float32)


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
        crops = Crops(*(torch.cat(each) for each in zip(*parts, strict=True)))
        for i in range(crops.infrared.shape[0]):
            coarse = 0.15 if i >= REAL + PSEUDO else 0.4  # some of the simulated ones are coarse by themselves
            changed = another_camera(rng, np.ascontiguousarray(crops.infrared[i, 0].numpy()), coarse)
            crops.infrared[i, 0] = torch.from_numpy(changed)
        return crops

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
_RATES = (8e-4, 2.5e-4)  # learning rates of the features and of the stages, in the beginning
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
    return total + 0.3 * honest + 3.0 * following, last.detach().mean()


def train(pairs: Path, out: Path, minutes: float, rigs: int) -> None:
    """Train for so many minutes of processor time; what was begun in `out` is continued. Writes a running mean."""
    out.mkdir(parents=True, exist_ok=True)
    network = load_checkpoint(resolve_weights("tiny")).network.float()
    alignment = network.alignment
    assert isinstance(alignment, CorrelationAlignment) and alignment.features is not None
    alignment.look_priors, alignment.look_gain = PRIORS, GAIN
    alignment.train().requires_grad_(True)
    mean = {name: value.detach().clone() for name, value in alignment.state_dict().items()}
    groups = [alignment.features.parameters(), alignment.stages.parameters()]
    optimizer = torch.optim.Adam([{"params": list(each)} for each in groups], lr=1e-3, betas=(0.9, 0.99))
    checkpoint, step, spent_s = out / "last.pt", 0, 0.0
    if checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        alignment.load_state_dict(stored["alignment"])
        optimizer.load_state_dict(stored["optimizer"])
        mean, step, spent_s = stored["mean"], stored["step"], stored["spent_s"]
        print(f"goes on after step {step}", flush=True)
    data = TrainingData(pairs, out, rigs)
    losses: list[tuple[float, float]] = []
    began_s = time.process_time() - spent_s
    while (spent_s := time.process_time() - began_s) < 60.0 * minutes:
        done = spent_s / (60.0 * minutes)
        speed = min(1.0, (step + 1) / 40) * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done)))
        for group, rate in zip(optimizer.param_groups, _RATES, strict=True):
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
        if step % 50 == 0:
            shown, off = np.mean(losses[-50:], axis=0)
            print(f"step {step}, loss {shown:.3f}, {off:.2f} px, {spent_s:.0f} s", flush=True)
        if step % _CHECKPOINT_EVERY == 0:
            state = {"alignment": alignment.state_dict(), "optimizer": optimizer.state_dict()}
            atomic_write(checkpoint, partial(torch.save, state | {"mean": mean, "step": step, "spent_s": spent_s}))
    for preset in ("tiny", "small"):
        shipped = load_checkpoint(resolve_weights(preset))
        assert shipped.network.alignment is not None
        shipped.network.alignment.load_state_dict(mean)
        save_checkpoint(out / f"{preset}.safetensors", shipped.network, shipped.facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--minutes", type=float, required=True, help="of processor time; the rate falls towards the end"
    )
    parser.add_argument("--rigs", type=int, default=64, help="simulated rigs to learn from, rendered once into OUT")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    train(options.pairs, options.out, options.minutes, options.rigs)


if __name__ == "__main__":
    main()
