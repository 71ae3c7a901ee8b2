"""Train the fusion of shipped weights on, the estimate as it is, on frames that it has aligned beforehand.

    python benchmarks/finetune_fusion.py small PAIRS out/small.safetensors --set loss.ssim=2

`lumitherm train --config configs/train_fuse.yaml` does the same and aligns each crop as it is drawn, which costs more
than the training itself. Here every pair is displaced and aligned once, then crops are cut; losses, tones and noise are
those of the configuration. The estimate and the statistics of normalisation stay as they are, to the bit: with another
estimate, the same command from its weights.

With `--teacher small` the losses are others: what the network gives stays as it is, but for what is put right.
Visible's gate is raised to the teacher's where visible is well lit, since a narrow network takes faint texture for
noise; the level there comes nearer to visible's, and what is hot nearer to thermal's.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_core.checkpoint import load_checkpoint, save_checkpoint
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import Rfvif, warp
from fusion_core.rfvif.config import FRAME_PX
from fusion_core.rfvif.working_grid import WorkingMaps, detail_path, reduce
from fusion_core.training.config import TrainingConfig, load_training_config
from fusion_core.training.dataset import Batch, TrainingPair, _equalizing, _noisy, _tone, load_pairs, split_pairs
from fusion_core.training.losses import FusionLoss
from fusion_core.training.random_displacement import draw_displacement, move_by
from fusion_core.training.registration import register_pair
from fusion_core.training.run_state import Ema
from fusion_core.training.train import learning_rate_factor

FACTORS = (2, 3, 3, 3, 4)  # of the working grid, in turn: pictures of other sizes have others
CELL_PX = 8  # of the estimate's confidence
LIGHT_PX = 32  # over which the visible picture's light is averaged
DARK, LIT = 0.08, 0.30  # light between which the teacher's gate sets in, as in `level_target`
LIT_LEVEL = 0.75  # share of the change of level that is kept where visible is lit
HEAT = 0.35  # of the way to thermal's level that hot places go further
COOL_SD, HOT_SD = 1.0, 2.0  # from where on a place is hot, in standard deviations above the mean of thermal
SOFT_PX = 10  # over which heat is averaged


class Frame(NamedTuple):
    """A pair as the network gets it behind its estimate."""

    visible: np.ndarray  # (H, W) uint8
    thermal: np.ndarray  # (H, W) uint8, displaced and aligned again
    log_confidence: Tensor  # (1, H / 8, W / 8)


@torch.inference_mode()
def aligned(network: Rfvif, pair: TrainingPair, number: int, config: TrainingConfig) -> Frame:
    """Displace the registered pair by what `number` draws, and align it by the network's estimate."""
    height, width = pair.visible.shape
    registered = register_pair(pair.visible, pair.infrared, config.data.registration).apply(pair.infrared)
    drawn = draw_displacement(np.random.default_rng([config.run.seed, number]), height, width, config.data.displacement)
    visible, moved = (
        torch.from_numpy(picture.copy())[None, None].float() / 255.0
        for picture in (pair.visible, move_by(registered, drawn))
    )
    padded = network.pad(visible)
    found = network.estimate(padded, network.pad(moved))
    field, confidence = (
        F.interpolate(each, size=padded.shape[-2:], mode="bilinear", align_corners=False)[:, :, :height, :width]
        for each in (found.displacements[-1], found.log_confidence)
    )
    back = warp(moved, field, cubic=True, inset_px=FRAME_PX).clamp(0.0, 1.0)
    thermal = (back[0, 0] * 255.0).round().to(torch.uint8).numpy()
    return Frame(pair.visible, thermal, confidence[0, :, ::CELL_PX, ::CELL_PX].clone())


def crop(frame: Frame, rng: np.random.Generator, config: TrainingConfig) -> tuple[Tensor, ...]:
    """Both pictures with noise, both without, and the confidence, of one place, each (1, n, n); and the mean and
    deviation of the whole thermal picture, (2, 1, 1)."""
    side, augment = config.data.crop_px, config.data.augmentation
    top, left = (int(rng.integers(0, (length - side) // CELL_PX + 1)) * CELL_PX for length in frame.visible.shape)
    window = slice(top, top + side), slice(left, left + side)
    low, high = np.percentile(frame.thermal, (1, 99))
    visible = _tone(rng, augment, "visible", (0.0, 255.0))[frame.visible[window]]
    tone = _tone(rng, augment, "infrared", (float(low), float(high)), _equalizing(frame.thermal))
    thermal = tone[frame.thermal[window]]
    noisy = _noisy(rng, augment.visible_noise, visible), _noisy(rng, augment.infrared_noise, thermal)
    cells = tuple(slice(part.start // CELL_PX, part.stop // CELL_PX) for part in window)
    pictures = [*(torch.from_numpy(each.copy())[None] for each in (*noisy, visible, thermal))]
    pictures.append(frame.log_confidence[(slice(None), *cells)])
    whole = tone[frame.thermal]
    pictures.append(torch.tensor([whole.mean(), whole.std()], dtype=torch.float32)[:, None, None])
    return tuple(each.flip(-1) for each in pictures) if augment.flip and rng.random() < 0.5 else tuple(pictures)


Loss = Callable[[tuple[Tensor, ...], int, int], tuple[Tensor, dict[str, Tensor]]]
"""Of what `crop` gives, stacked, the factor of the working grid and the step: the total, and its terms by name."""


def configured(network: Rfvif, config: TrainingConfig) -> Loss:
    """The losses of the configuration."""
    criterion = FusionLoss(config.loss, None)

    def loss(stacked: tuple[Tensor, ...], factor: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        noisy_visible, noisy_thermal, visible, thermal, confidence, _ = stacked
        output = network.fuse_warped(noisy_visible, noisy_thermal, confidence, factor=factor)
        everywhere = torch.ones_like(visible)
        nothing = everywhere.new_zeros(())
        batch = Batch(noisy_visible, noisy_thermal, visible, thermal, nothing, everywhere, nothing)
        return criterion(output, batch, step)

    return loss


def put_right(
    own: WorkingMaps, other: WorkingMaps, reduced: tuple[Tensor, Tensor], heat: Tensor, lit: Tensor
) -> WorkingMaps:
    """The maps that are wanted of a network that gives `own`, whose teacher gives `other`; all on the working grid."""
    levels = own.delta * (1.0 - (1.0 - LIT_LEVEL) * lit)
    levels = levels + HEAT * heat * (reduced[1] - reduced[0] - levels).clamp(min=0.0)
    return WorkingMaps(levels, torch.maximum(own.visible_gate, lit * other.visible_gate), own.thermal_gate)


def around(picture: Tensor, side_px: int, factor: int) -> Tensor:
    """The mean over a square of so many pixels of the picture around each place of the working grid."""
    reach = max(side_px // 2 // factor, 1)
    return F.avg_pool2d(F.pad(picture, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1)


def taught(network: Rfvif, teacher: Rfvif) -> Loss:
    """What the network gave before, `put_right`."""
    before = copy.deepcopy(network).eval().requires_grad_(False)
    teacher.eval().requires_grad_(False)

    def loss(stacked: tuple[Tensor, ...], factor: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        visible, thermal, *_, confidence, whole = stacked  # both with noise: they are what is drawn
        reduced = reduce(visible, factor), reduce(thermal, factor)
        with torch.no_grad():
            own, other = (WorkingMaps.of(each.fuse_reduced(*reduced, confidence)[0]) for each in (before, teacher))
            lit = ((around(reduced[0], LIGHT_PX, factor) - DARK) / (LIT - DARK)).clamp(0.0, 1.0)
            lit = lit * lit * (3.0 - 2.0 * lit)
            deviations = (around(reduced[1], SOFT_PX, factor) - whole[:, :1]) / whole[:, 1:].clamp_min(8.0 / 255.0)
            heat = ((deviations - COOL_SD) / (HOT_SD - COOL_SD)).clamp(0.0, 1.0)
            wanted = put_right(own, other, reduced, heat, lit)
            picture = detail_path(visible, thermal, wanted, factor)
        maps = WorkingMaps.of(network.fuse_reduced(*reduced, confidence)[0])
        level_error = F.avg_pool2d(detail_path(visible, thermal, maps, factor) - picture, CELL_PX).abs()
        counts = 1.0 + 3.0 * F.adaptive_avg_pool2d(heat, level_error.shape[-2:])
        terms = {
            "visible_gate": (maps.visible_gate - wanted.visible_gate).abs().mean(),
            "thermal_gate": 2.0 * (maps.thermal_gate - wanted.thermal_gate).abs().mean(),
            "level": 4.0 * (counts * level_error).mean(),
        }
        return torch.stack(list(terms.values())).sum(), terms

    return loss


def train(network: Rfvif, frames: list[Frame], config: TrainingConfig, criterion: Loss) -> None:
    """Train the fusion, and leave the running mean of its weights."""
    steps = config.schedule.max_steps or 1
    network.eval().requires_grad_(False)
    trained = list(network.fusion_parameters())
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, betas=config.optimizer.betas)
    ema = Ema(network, config.run.ema_decay)
    sums: dict[str, float] = {}
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * learning_rate_factor(step, steps, config.schedule)
        rng = np.random.default_rng([config.run.seed, 1, step])
        chosen = [frames[int(i)] for i in rng.choice(len(frames), config.batch_size, replace=False)]
        stacked = tuple(torch.stack(each) for each in zip(*(crop(f, rng, config) for f in chosen), strict=True))
        total, terms = criterion(stacked, FACTORS[step % len(FACTORS)], step)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.optimizer.clip_norm)
        optimizer.step()
        ema.update(network, step)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / 50
        if step % 50 == 49:
            print(step + 1, f"{time.process_time():.0f} s", {k: round(v, 4) for k, v in sums.items()}, flush=True)
            sums.clear()
    network.load_state_dict(ema.values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="preset or file to start from")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/train_fuse.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--every", type=int, default=2, help="take every n-th pair")
    parser.add_argument(
        "--teacher", help="preset or file whose gate of the visible picture is taken, with levels put right"
    )
    parser.add_argument("--frames", type=Path, help="keep the aligned frames in this file, for further trials")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    config = load_training_config(wanted.config, [f"data.root={wanted.pairs}", *wanted.set])
    start = load_checkpoint(resolve_weights(wanted.weights))
    if wanted.frames is not None and wanted.frames.is_file():
        stored = torch.load(wanted.frames, weights_only=True)
        frames = [Frame(visible.numpy(), thermal.numpy(), confidence) for visible, thermal, confidence in stored]
    else:
        pairs = split_pairs(load_pairs(wanted.pairs), config.data.validation_fraction)[0][:: wanted.every]
        pairs = [pair for pair in pairs if min(pair.visible.shape) >= config.data.crop_px]
        frames = [aligned(start.network, pair, number, config) for number, pair in enumerate(pairs)]
        if wanted.frames is not None:
            stored = [(torch.from_numpy(each.visible), torch.from_numpy(each.thermal), each[2]) for each in frames]
            torch.save(stored, wanted.frames)
    print(f"{len(frames)} frames, {time.process_time():.0f} s of processor time", flush=True)
    if wanted.teacher is None:
        criterion, loss = configured(start.network, config), config.loss.model_dump(mode="json")
    else:
        criterion = taught(start.network, load_checkpoint(resolve_weights(wanted.teacher)).network)
        loss = {"teacher": Path(wanted.teacher).stem}
    train(start.network, frames, config, criterion)
    wanted.output.parent.mkdir(parents=True, exist_ok=True)
    facts = start.facts | {"fusion": {"loss": loss, "steps": config.schedule.max_steps}}
    save_checkpoint(wanted.output, start.network, facts)


if __name__ == "__main__":
    main()
