"""A small training for the tests: synthetic pairs, a tiny network of Rfvif's interface. Also run as a process.

Usage: training_worker.py FOLDER STEPS [--resume] [--batch-norm] [--slow-ms N]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from fusion_core.training.config import TrainingConfig
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.distributed import processes
from fusion_core.training.reporting import Reporter
from fusion_core.training.train import Selection, Trainer, TrainingPairs


class TinyOutput(NamedTuple):
    fused: Tensor
    aligned_infrared: tuple[Tensor, ...]
    displacement: tuple[Tensor, ...]
    log_confidence: Tensor | None


class TinyNetwork(nn.Module):
    """Of Rfvif's interface: a displacement from pooled features, a fused picture from three convolutions."""

    def __init__(self, *, batch_norm: bool) -> None:
        super().__init__()
        self.estimator = nn.Sequential(nn.Conv2d(2, 4, 5, 4, 2), nn.ReLU(), nn.Conv2d(4, 3, 3, 2, 1))
        norm = nn.BatchNorm2d(4) if batch_norm else nn.Identity()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), norm, nn.ReLU())
        self.output = nn.Conv2d(4, 1, 3, padding=1)

    def alignment_parameters(self) -> Any:
        return self.estimator.parameters()

    def fusion_parameters(self) -> Any:
        yield from self.features.parameters()
        yield from self.output.parameters()

    def forward_training(self, visible_y: Tensor, infrared: Tensor) -> TinyOutput:
        both = torch.cat((visible_y, infrared), 1)
        found = self.estimator(both)
        fused = self.output(self.features(both))
        aligned = tuple(F.avg_pool2d(fused, 2**level) for level in (1, 2, 3))
        return TinyOutput(fused, aligned, (found[:, :2],), found[:, 2:])


def make_pairs(count: int = 6, height: int = 72, width: int = 88) -> list[TrainingPair]:
    """Blurred noise in the visible picture, and its inverted edges in the infrared one."""
    pairs = []
    for number in range(count):
        rng = np.random.default_rng([5, number])
        noise = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 2.0)
        visible = np.clip(127 + 300 * noise, 0, 255).astype(np.uint8)
        infrared = np.clip(200 - 0.5 * visible.astype(np.float32), 0, 255).astype(np.uint8)
        pairs.append(TrainingPair(f"made_{number:03d}", visible, infrared, sha256=str(number)))
    return pairs


def make_config(folder: Path, steps: int, **changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "batch_size": 4,
        "data": {"root": folder, "crop_px": 32, "prefetch_batches": 2, "displacement": {"varying_probability": 0.5}},
        "loss": {"perception": {"weight": 0.0}, "displacement": 0.1, "gradient": 1.0, "intensity": 1.0},
        "schedule": {"kind": "cosine", "max_steps": steps},
        "validation": {"every_steps": 0, "pairs": 2, "uniform_px": [0, 3], "varying_px": [3]},
        "run": {
            "device": "cpu", "checkpoint_every_steps": 3, "log_every_steps": 1, "tensorboard": False,
            "images_every_steps": 0,
        },
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return TrainingConfig.model_validate(values)


def make_trainer(
    folder: Path,
    config: TrainingConfig,
    team: Any,
    *,
    batch_norm: bool = True,
    network: nn.Module | None = None,
    selection: Selection | None = None,
) -> Trainer:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    console = Console(file=sys.stdout, width=200)
    reporter = Reporter(folder, console, log_every_steps=1, tensorboard=False, active=team.rank == 0)
    pairs = make_pairs()
    return Trainer(
        network or TinyNetwork(batch_norm=batch_norm), config, TrainingPairs(pairs[:4], pairs[4:], "made"),
        processes=team, vgg=None, reporter=reporter,
        export=lambda path, network, facts: torch.save(network.state_dict(), path), selection=selection,
    )  # fmt: skip


def main(arguments: list[str]) -> None:
    folder, steps = Path(arguments[0]), int(arguments[1])
    torch.set_num_threads(1)
    with processes("cpu") as team:
        trainer = make_trainer(folder, make_config(folder, steps), team, batch_norm="--batch-norm" in arguments)
        if "--slow-ms" in arguments:  # give the test time to interrupt
            pause_s = int(arguments[arguments.index("--slow-ms") + 1]) / 1000
            original = trainer.network.forward_training

            def slowed(visible: Tensor, infrared: Tensor) -> Any:
                time.sleep(pause_s)
                return original(visible, infrared)

            trainer.network.forward_training = slowed  # type: ignore[method-assign, assignment]
        if "--resume" in arguments:
            trainer.resume()
        trainer.run()


if __name__ == "__main__":
    main(sys.argv[1:])
