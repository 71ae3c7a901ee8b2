"""Keeps a run on disk: atomic checkpoints of the whole training state, logs, the EMA."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusion_core.errors import CheckpointError, RunError
from fusion_core.files import replacing

__all__ = [
    "Ema",
    "atomic_write",
    "checkpoint_path",
    "latest_state",
    "list_checkpoints",
    "prune_checkpoints",
    "save_state",
    "truncate_metrics",
]

_NAME = re.compile(r"^step-(\d{8})\.pt$")


def atomic_write(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, force it to disk, and rename it onto `path`.

    A kill at any moment leaves the old file or the new one whole. Left-over temporaries (.NAME.*) are harmless.

    Raises:
        RunError: the file cannot be written, e.g. the disk is full.
    """
    try:
        with replacing(path) as part:
            write(part)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise RunError(f"{path} cannot be written: {error}. The last good checkpoint is untouched.") from error


def checkpoint_path(folder: Path, step: int) -> Path:
    """File of the training state after `step` steps."""
    return folder / f"step-{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """Training states in a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.match(path.name))


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state atomically, then delete all but the newest `keep` (and temporaries of killed runs)."""
    path = checkpoint_path(folder, step)
    atomic_write(path, lambda temporary: torch.save(state, temporary))
    prune_checkpoints(folder, keep)
    return path


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` states, and temporaries that a killed run left."""
    for path in list_checkpoints(folder)[:-keep]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".step-*"):
        path.unlink(missing_ok=True)


def latest_state(folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Load the newest sound training state; report and skip damaged ones.

    Raises:
        CheckpointError: there is none.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
            report(f"{path.name} is damaged ({type(error).__name__}), trying the one before")
            continue
        if isinstance(state, dict) and "step" in state:
            return state
        report(f"{path.name} is not a training state, trying the one before")
    raise CheckpointError(f"{folder} holds no training state to resume from; start the run anew without --resume")


def truncate_metrics(path: Path, step: int) -> None:
    """Drop lines of metrics.jsonl that were logged after `step` (they will be computed again) or are cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # a line cut off by a kill
    atomic_write(path, lambda temporary: _write_lines(temporary, kept))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class Ema:
    """Exponential moving average of a network's parameters; its buffers (batch-norm statistics) are copied.

    The decay rises from 0.1 to its final value, min(decay, (1 + step) / (10 + step)), so that early weights are
    forgotten in short runs too.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._names = {name for name, _ in network.named_parameters()}
        self.values: dict[str, Tensor] = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Average in the network's present values; `step` counts from 0."""
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        state = network.state_dict()
        averaged = [key for key in self.values if key in self._names and self.values[key].is_floating_point()]
        torch._foreach_lerp_([self.values[k] for k in averaged], [state[k] for k in averaged], 1.0 - decay)
        for key in self.values.keys() - set(averaged):
            self.values[key].copy_(state[key])

    def load(self, values: dict[str, Tensor]) -> None:
        """Replace the averages by saved ones; the keys must be those of the network."""
        if values.keys() != self.values.keys():
            raise CheckpointError("the saved EMA is of another network; resume with the configuration of the run")
        for key, value in values.items():
            self.values[key].copy_(value)
