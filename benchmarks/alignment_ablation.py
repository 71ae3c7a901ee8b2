"""Which form of alignment aligns: the paper's, one shift, a field.

Trains the three levels up to the FDAM with Eq. (7) alone, the same crops and steps for each form, and prints the error
of the aligned infrared pictures on held-out pairs beside that of doing nothing. Forms with a displacement estimate
take it from a weights file, frozen.

    python benchmarks/alignment_ablation.py PAIRS --estimate small --steps 400
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from fusion_core.checkpoint import load_checkpoint
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.training.config import TrainingConfig
from fusion_core.training.dataset import CropSampler, TrainingPair, crop_stream
from fusion_core.training.losses import alignment_loss
from fusion_core.training.session import prepare_pairs
from fusion_core.training.validation import evaluation_batch

CASES = ((0.0, 0.0), (3.0, 0.0), (5.0, 0.0), (8.0, 0.0), (0.0, 5.0))


def aligned_pictures(network: Rfvif, visible: Tensor, infrared: Tensor) -> tuple[Tensor, ...]:
    """Eq. (7)'s pictures with the batch statistics frozen."""
    network.train()  # the pictures exist in training mode only
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return network.forward_training(visible, infrared).aligned_infrared


def train(mode: str, estimate: Rfvif, sampler: CropSampler, steps: int) -> Rfvif:
    torch.manual_seed(0)
    network = Rfvif(preset_config("small").replace(alignment=mode))
    if network.alignment is not None and estimate.alignment is not None:
        network.alignment.load_state_dict(estimate.alignment.state_dict())
        network.alignment.requires_grad_(False)
    parameters = [p for p in network.fusion_parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    stream = crop_stream(sampler, first_step=0, batch_size=8)
    for _, batch in zip(range(steps), stream, strict=False):
        out = network.forward_training(batch.visible, batch.infrared)
        loss = alignment_loss(out.aligned_infrared, batch.infrared_target, batch.alignment_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    stream.close()  # type: ignore[attr-defined]
    return network


@torch.no_grad()
def errors(network: Rfvif | None, pairs: list[TrainingPair]) -> list[float]:
    """Mean over levels of the absolute error of the aligned picture, grey levels of 255, for each case."""
    found = []
    for uniform_px, varying_px in CASES:
        total = 0.0
        for number, pair in enumerate(pairs):
            batch = evaluation_batch(pair, number, 320, uniform_px=uniform_px, varying_px=varying_px)
            height, width = (side // 16 * 16 for side in batch.visible.shape[-2:])
            visible, moved, target = (
                x[:, :, :height, :width] for x in (batch.visible, batch.infrared, batch.infrared_target)
            )
            if network is None:
                pictures = tuple(torch.nn.functional.avg_pool2d(moved, 2**level) for level in (2, 3, 4))
            else:
                pictures = aligned_pictures(network, visible, moved)
            total += float(alignment_loss(pictures, target)) / len(pictures)
        found.append(255.0 * total / len(pairs))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument(
        "--estimate", default="small", help="preset or weights file whose displacement estimate is used"
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console()
    config = TrainingConfig.model_validate(
        {
            "preset": "small",
            "data": {
                "root": arguments.pairs,
                "crop_px": 128,
                "displacement": {"max_px": 8.0, "varying_probability": 0.3},
            },
        }
    )
    training, held_out, _ = prepare_pairs(config, console)
    training = [pair for pair in training if pair.registration.reliable]
    held_out = [pair for pair in held_out if pair.registration.reliable and min(pair.visible.shape) >= 256][:12]
    estimate = load_checkpoint(resolve_weights(arguments.estimate)).network
    sampler = CropSampler(training, config.data, seed=0)
    header = "".join(f"{f'{u:g} px' if not v else f'field {v:g}':>10}" for u, v in CASES)
    console.print(f"{'':<12}{header}   (grey levels; {arguments.steps} steps, {len(held_out)} held-out pairs)")
    console.print(f"{'nothing':<12}" + "".join(f"{e:10.2f}" for e in errors(None, held_out)))
    for mode in ("paper", "uniform", "field"):
        started = time.monotonic()
        network = train(mode, estimate, sampler, arguments.steps)
        row = "".join(f"{e:10.2f}" for e in errors(network, held_out))
        console.print(f"{mode:<12}{row}   {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
