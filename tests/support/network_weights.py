"""Weights for engine tests: random, and disturbed wherever the network starts as the identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from fusion_core.rfvif import PRESETS, Rfvif, RfvifConfig, preset_config

BRIEF = preset_config("tiny").replace(stages=((8, 1),), fab_count=1, residual_blocks=1)
"""Every part of the network, each as few times as possible: half the operators of the smallest preset."""

TINY_OR_SLOW = [name if name == "tiny" else pytest.param(name, marks=pytest.mark.slow) for name in PRESETS]
"""The presets as a test's parameter: the smallest always, the others with the slow tests."""


def disturbed(config: RfvifConfig) -> Rfvif:
    """A network that does something everywhere: normalisation, last convolution and displacement included."""
    torch.manual_seed(0)
    network = Rfvif(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(network.reconstruction.convs[-1].weight, std=0.3)
    if network.alignment is not None:
        for stage in network.alignment.stages:
            torch.nn.init.normal_(stage.select[-1].weight, std=0.05)
    return network


def checkpoint(folder: Path, preset: str, **changes: Any) -> LoadedCheckpoint:
    """Such a network of a preset, with some fields of its configuration changed, written and read back."""
    path = folder / f"{preset}.safetensors"
    save_checkpoint(path, disturbed(preset_config(preset).replace(**changes)), {})
    return load_checkpoint(path)
