"""Runs a training from its configuration: data, registration, run folder, trainer, export."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from rich.console import Console
from torch import nn

from fusion_core.checkpoint import load_checkpoint, save_checkpoint
from fusion_core.errors import BadInputError, ConfigError
from fusion_core.rfvif import Rfvif, RfvifConfig, preset_config
from fusion_core.training.config import TrainingConfig, load_training_config
from fusion_core.training.dataset import TrainingPair, load_pairs, split_pairs
from fusion_core.training.distributed import processes
from fusion_core.training.registration import (
    PairRegistration,
    load_registrations,
    register_pair,
    save_registrations,
)
from fusion_core.training.reporting import Reporter
from fusion_core.training.run_state import atomic_write
from fusion_core.training.train import Trainer, TrainingPairs, new_run_folder
from fusion_core.training.vgg import load_vgg16

__all__ = [
    "build_network",
    "describe_run",
    "export_weights",
    "load_run_config",
    "prepare_pairs",
    "register_pairs",
    "train",
]


def train(config: TrainingConfig, *, resume: Path | None, console: Console) -> Path:
    """Run one training, new or resumed. Returns the exported weights' path.

    Raises:
        UsageError: configuration, data or the state to resume from cannot be used. RunError: training failed.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    cv2.setNumThreads(1)  # crops are small: OpenCV's own threads cost more than they bring
    torch.manual_seed(config.run.seed)
    with processes(config.run.device) as team:
        first = team.rank == 0
        quiet = console if first else Console(quiet=True)
        with team.first_alone():
            pairs = prepare_pairs(config, quiet)
        if resume is not None:
            folder = resume
        else:
            folder = new_run_folder(config) if first else Path()
        if first:
            describe_run(folder, config, pairs)
        run = config.run
        reporter = Reporter(
            folder, quiet, log_every_steps=run.log_every_steps, tensorboard=run.tensorboard, active=first
        )
        network = build_network(config)
        needs_vgg = config.loss.perception.weight > 0 and config.stage != "align"
        trainer = Trainer(
            network, config, pairs, processes=team, export=export_weights, reporter=reporter,
            vgg=load_vgg16(config.vgg16, list(config.loss.perception.taps)) if needs_vgg else None,
        )  # fmt: skip
        if resume is not None:
            reporter.say(f"going on with {folder} after step {trainer.resume()}")
        reporter.say(
            f"{config.preset}, stage {config.stage}: {trainer.total_steps} steps of {config.batch_size} crops "
            f"({trainer.steps_per_epoch} an epoch) on {team.device}, {team.world_size} process(es), run {folder}"
        )
        return trainer.run()


def build_network(config: TrainingConfig) -> Rfvif:
    """Build the network of a configuration, with `initial_weights` where given.

    Raises:
        CheckpointError: the initial weights do not fit.
    """
    settings = preset_config(config.preset).to_dict() | config.network
    try:
        network = Rfvif(RfvifConfig.from_dict(settings))
    except TypeError as error:
        raise ConfigError(f"network: {error}") from error
    if config.initial_weights is not None:
        loaded = load_checkpoint(config.initial_weights)
        network.load_state_dict(loaded.network.state_dict(), strict=True)
    return network


def export_weights(path: Path, network: nn.Module, facts: dict[str, Any]) -> None:
    """Write the network's weights atomically; what `Trainer` takes as `export`."""
    if not isinstance(network, Rfvif):
        raise TypeError(f"only Rfvif is exported, got {type(network).__name__}")
    atomic_write(path, lambda temporary: save_checkpoint(temporary, network, facts))


# ---- data


def prepare_pairs(config: TrainingConfig, console: Console) -> TrainingPairs:
    """Read and register the pairs."""
    data = config.data
    pairs = load_pairs(data.root, data.include)
    if data.validation_root is not None:
        training, validation = pairs, load_pairs(data.validation_root)
    else:
        training, validation = split_pairs(pairs, data.validation_fraction)
    if not training:
        raise BadInputError(f"{data.root}: holding out {data.validation_fraction} leaves no pair to train on")
    if data.registration.enabled:
        cache = config.run.folder / "registration"
        together = register_pairs(training + validation, config, cache, console)
        training, validation = together[: len(training)], together[len(training) :]
    digest = hashlib.sha256()
    for part in (training, validation):
        for pair in part:
            digest.update(f"{pair.stem}:{pair.sha256}\n".encode())
        digest.update(b"--\n")
    digest.update(data.registration.model_dump_json().encode())
    console.print(f"{len(training)} pairs to train on, {len(validation)} held out", highlight=False)
    return TrainingPairs(training, validation, digest.hexdigest())


def register_pairs(
    pairs: Sequence[TrainingPair], config: TrainingConfig, cache: Path, console: Console
) -> list[TrainingPair]:
    """Register every pair (see registration.py), or take the cache where these data were registered before."""
    settings = config.data.registration
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for pair in pairs:
        digest.update(f"{pair.stem}:{pair.sha256}\n".encode())
    fingerprint = digest.hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"{fingerprint[:16]}.json"
    found = load_registrations(file, fingerprint)
    if found is None:
        console.print(f"registering {len(pairs)} pairs ...", highlight=False)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda pair: register_pair(pair.visible, pair.infrared, settings), pairs))
        found = dict(zip((_key(pair) for pair in pairs), results, strict=True))
        save_registrations(file, found, fingerprint)
        found = load_registrations(file, fingerprint) or found  # rounded as a resumed run will read them
    registered = [dataclasses.replace(pair, registration=found[_key(pair)]) for pair in pairs]
    _say_registration([pair.registration for pair in registered], console)
    return registered


def _key(pair: TrainingPair) -> str:
    return f"{pair.stem}:{pair.sha256[:12]}"


def _say_registration(registrations: Sequence[PairRegistration], console: Console) -> None:
    reliable = [r for r in registrations if r.reliable]
    text = f"{len(reliable)} of {len(registrations)} pairs registered; the rest serve the fusion losses only"
    if reliable:
        before = np.hypot(*np.array([r.shift_px for r in reliable]).T)
        after = np.array([r.residual_px for r in reliable])
        text += (
            f". Residual shift before: median {np.median(before):.2f} px, 95 % within {np.percentile(before, 95):.2f}; "
            f"after: median {np.median(after):.2f} px, 95 % within {np.percentile(after, 95):.2f}"
        )
    console.print(text, highlight=False, soft_wrap=True)


# ---- the run's folder


def describe_run(folder: Path, config: TrainingConfig, pairs: TrainingPairs) -> None:
    """Write config.yaml, versions.json and data.json into the run's folder."""
    (folder / "config.yaml").write_text(yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False))
    (folder / "versions.json").write_text(json.dumps(_versions(), indent=1))
    manifest = {
        "sha256": pairs.sha256,
        "training": {pair.stem: pair.sha256 for pair in pairs.training},
        "validation": {pair.stem: pair.sha256 for pair in pairs.held_out},
        "registered": sorted(pair.stem for pair in pairs.training + pairs.held_out if pair.registration.reliable),
    }
    (folder / "data.json").write_text(json.dumps(manifest, indent=1))


def _versions() -> dict[str, str]:
    here = Path(__file__).resolve().parent
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        git = "unknown"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "machine": platform.processor() or platform.machine(),
        "source": git,
    }


def load_run_config(folder: Path, overrides: Sequence[str]) -> TrainingConfig:
    """Read the configuration that a run was started with, and apply changes to it."""
    return load_training_config(folder / "config.yaml", overrides)
