"""Reports a run: progress bar, metrics.jsonl, TensorBoard scalars, example pictures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from fusion_core.errors import RunError
from fusion_core.training.dataset import Batch

__all__ = ["Reporter"]

_PICTURES = 4
_COLLAPSE = 0.1  # warn below this share of a source's edges in the fused picture


class Reporter:
    """Collects a run's figures and shows them. Only the process of rank 0 writes (`active`).

    Loss values stay on the device until they are logged: waiting for a GPU at each step would slow it.
    """

    def __init__(
        self, folder: Path, console: Console, *, log_every_steps: int, tensorboard: bool, active: bool
    ) -> None:
        self.folder, self._console, self._every, self._active = folder, console, log_every_steps, active
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._since = time.monotonic()
        self._steps = 0
        self._batch_size = 1
        self._log: TextIO | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._writer: Any = None
        if active and tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self.say("TensorBoard is not installed (pip install lumitherm[train]); metrics.jsonl has the figures")
            else:
                self._writer = SummaryWriter(str(folder / "tensorboard"))

    def say(self, text: str) -> None:
        """Show one line to the user."""
        if self._active:
            self._console.print(text, highlight=False, soft_wrap=True)

    def start(self, step: int, total_steps: int, batch_size: int) -> None:
        """Begin the progress bar at `step`."""
        self._batch_size = batch_size
        self._since = time.monotonic()
        if not self._active:
            return
        self._log = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task("training", total=total_steps, completed=step, figures="")
            self._progress.start()

    def step(
        self, step: int, epoch: float, total: Tensor, terms: dict[str, Tensor], gradient_norm: Tensor, rate: float
    ) -> None:
        """Count one step, and log its figures when they are due."""
        for name, value in {"loss": total, **terms, "gradient_norm": gradient_norm.detach()}.items():
            self._sums[name] = self._sums[name] + value.float() if name in self._sums else value.float()
            self._counts[name] = self._counts.get(name, 0) + 1
        self._steps += 1
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step)
        if step % self._every:
            return
        now = time.monotonic()
        pairs_per_s = self._steps * self._batch_size / max(now - self._since, 1e-9)
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts, self._steps, self._since = {}, {}, 0, now
        if not self._active:
            return
        line: dict[str, float] = {
            "step": step,
            "epoch": round(epoch, 4),
            **means,
            "learning_rate": rate,
            "pairs_per_s": pairs_per_s,
        }
        self._write(line)
        if self._writer is not None:
            for name, number in line.items():
                if name != "step":
                    self._writer.add_scalar(f"train/{name}", number, step)
        details = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items() if name != "gradient_norm")
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, figures=f"{details}  {pairs_per_s:.1f} pairs/s")
        else:
            self.say(f"step {step}  {details}  lr {rate:.2e}  {pairs_per_s:.1f} pairs/s")

    def validation(self, step: int, results: dict[str, float], *, best: bool) -> None:
        """Log the figures on the held-out pairs."""
        self._write({"step": step, "validation": results, "best": best})
        if self._writer is not None:
            for name, value in results.items():
                self._writer.add_scalar(f"validation/{name}", value, step)
        epe = "  ".join(f"{k.split('/')[0]} {v:.2f}" for k, v in results.items() if k.endswith("/epe_px"))
        edges = "  ".join(
            f"{k} {results[k]:.3f}" for k in ("edges_visible", "edges_infrared", "edges_ghost") if k in results
        )
        self.say(
            f"step {step}  held out: loss {results['loss']:.4f}{'  ' + edges if edges else ''}"
            f"{'  error px: ' + epe if epe else ''}{'  (best so far)' if best else ''}"
        )
        for source in ("visible", "infrared"):
            share = results.get(f"edges_{source}")
            if share is not None and share < _COLLAPSE:
                self.say(
                    f"warning: the fused picture keeps only {share:.2f} of the {source} edges (modality collapse?)"
                )
        self._since = time.monotonic()

    def pictures(self, step: int, batch: Batch, fused: Tensor) -> None:
        """Write a sheet of examples, a column each: visible, infrared as given, infrared registered, fused."""
        if not self._active:
            return
        rows = [batch.visible, batch.infrared, batch.infrared_target, fused]
        sheet = torch.cat([torch.cat(list(r[:_PICTURES, 0].float().clamp(0, 1).cpu()), dim=1) for r in rows])
        pixels = np.rint(sheet.numpy() * 255).astype(np.uint8)
        (self.folder / "samples").mkdir(exist_ok=True)
        path = self.folder / "samples" / f"step-{step:08d}.png"
        if not cv2.imwrite(str(path), pixels):
            raise RunError(f"example pictures cannot be written to {path}; is the disk full?")
        if self._writer is not None:
            self._writer.add_image("samples", pixels[None], step)

    def flush(self) -> None:
        """Force the log to disk."""
        if self._log is not None:
            self._log.flush()
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """End the progress bar and close the files."""
        if self._progress is not None:
            self._progress.stop()
        if self._log is not None:
            self._log.close()
        if self._writer is not None:
            self._writer.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()
