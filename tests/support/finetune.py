"""Small training sets and untrained weights for the tests of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from fusion_core.checkpoint import save_checkpoint
from fusion_core.rfvif import Rfvif, preset_config

SMALL = (
    "schedule.max_steps=3", "schedule.warmup_steps=0", "batch_size=2", "data.crop_px=64", "run.device=cpu",
    "run.threads=1", "run.tensorboard=false", "run.images_every_steps=0", "run.log_every_steps=1",
    "validation.every_steps=2", "validation.pairs=1", "validation.uniform_px=[0, 3]", "validation.varying_px=[]",
)  # fmt: skip


def make_pairs(root: Path, stems: list[str], height: int = 96, width: int = 128) -> Path:
    """The same boxes in both pictures, aligned, of random brightness in the visible and another in the infrared one."""
    for folder in ("vi", "ir"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem in stems:
        rng = np.random.default_rng(list(stem.encode()))
        pictures = np.zeros((2, height, width), np.float32)
        for _ in range(60):
            y, x = rng.integers(0, height), rng.integers(0, width)
            down, right = rng.integers(8, 40, 2)
            pictures[:, y : y + down, x : x + right] = rng.uniform(0, 1, (2, 1, 1))
        grey, heat = (cv2.GaussianBlur(np.uint8(30 + 190 * p), (0, 0), 0.8) for p in pictures)  # type: ignore[call-overload]
        if not cv2.imwrite(str(root / "vi" / f"{stem}.png"), np.dstack([grey] * 3)):
            raise OSError(stem)
        cv2.imwrite(str(root / "ir" / f"{stem}.png"), heat)
    return root


def make_set(root: Path) -> Path:
    """As `lumitherm dataset build` leaves it: two sessions to train on, one held out."""
    make_pairs(root, ["mon_000000", "mon_000010", "tue_000000", "tue_000010"])
    make_pairs(root / "validation", ["wed_000000", "wed_000010"])
    manifest = {"format": 1, "agc_contract": {"version": 1, "mode": "plateau", "plateau": 5.0}}
    (root / "dataset.json").write_text(json.dumps(manifest))
    return root


def make_weights(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    facts = {
        "preset": "tiny",
        "steps": 5,
        "agc": {"version": 1, "mode": "linear"},
        "config": {"loss": {"gradient": 2.0}},
    }
    save_checkpoint(path, Rfvif(preset_config("tiny")), facts)
    return path
