"""The trainer: one loop for one process or many, resumable to the bit on the CPU."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusion_core.errors import BadInputError, ConfigError, RunError
from fusion_core.training.config import ScheduleConfig, TrainingConfig, config_hash
from fusion_core.training.dataset import Batch, CropSampler, TrainingPair, crop_stream
from fusion_core.training.distributed import Processes
from fusion_core.training.losses import FusionLoss
from fusion_core.training.reporting import Reporter
from fusion_core.training.run_state import Ema, latest_state, save_state, truncate_metrics
from fusion_core.training.validation import validate
from fusion_core.training.vgg import Vgg16Features

__all__ = [
    "Selection", "Trainer", "TrainingPairs", "learning_rate_factor", "new_finetune_folder", "new_run_folder",
]  # fmt: skip

_STATE_FORMAT = 1


class TrainingPairs(NamedTuple):
    """What a run learns from, and what it is measured on; sha256: of all of it, "" where nobody asked."""

    training: list[TrainingPair]
    held_out: list[TrainingPair]
    sha256: str = ""


class Selection(Protocol):
    """Says which validation is best; `acceptance.AgainstStart` fulfils this."""

    def score(self, results: dict[str, float]) -> float:
        """Score `results` of `validation.validate`; less is better."""


class _Estimate(NamedTuple):
    """The part of `TrainingOutput` that the displacement loss needs."""

    fused: Tensor
    aligned_infrared: tuple[Tensor, ...]
    displacement: tuple[Tensor, ...]
    log_confidence: Tensor | None


class _TrainingForward(nn.Module):
    """Gives `forward_training` the name that data-parallel training calls.

    Args:
        alignment_only: run the displacement estimate alone where the network offers it (`estimate`): much cheaper.
    """

    def __init__(self, network: nn.Module, *, alignment_only: bool) -> None:
        super().__init__()
        self.network = network
        self._run: Callable[[Tensor, Tensor], Any] = network.forward_training  # type: ignore[assignment]
        if alignment_only and hasattr(network, "estimate"):
            self._run = self._estimate

    def forward(self, visible: Tensor, infrared: Tensor) -> Any:
        return self._run(visible, infrared)

    def _estimate(self, visible: Tensor, infrared: Tensor) -> _Estimate:
        found = self.network.estimate(visible, infrared)  # type: ignore[operator]
        return _Estimate(visible, (), tuple(found.displacements), found.log_confidence)


def learning_rate_factor(step: int, total_steps: int, schedule: ScheduleConfig) -> float:
    """Learning rate of step `step` (from 0) over the configured one: a pure function, nothing to save."""
    if step < schedule.warmup_steps:
        return (step + 1) / (schedule.warmup_steps + 1)
    progress = min(step / max(total_steps, 1), 1.0)
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "cosine":
        return schedule.final_factor + (1 - schedule.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))
    epoch = progress * schedule.epochs  # Section 4.2: x0.1 every 40 of 120 epochs, whatever the length of an epoch
    return float(schedule.decay_factor ** int((epoch + 1e-9) // schedule.decay_every_epochs))


def new_run_folder(config: TrainingConfig) -> Path:
    """Create the folder of a new run.

    Raises:
        ConfigError: a run of this name exists.
    """
    return _make_run_folder(config, config.stage, "checkpoints")


def new_finetune_folder(config: TrainingConfig) -> Path:
    """Create the folder of a new run of several stages; each stage makes a folder inside. Raises ConfigError."""
    return _make_run_folder(config, "finetune", "")


def _make_run_folder(config: TrainingConfig, kind: str, inner: str) -> Path:
    name = config.run.name or f"{config.preset}-{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = config.run.folder / name
    try:
        (folder / inner).mkdir(parents=True)
    except FileExistsError as error:
        raise ConfigError(
            f"{folder} holds a run already; go on with it: --resume {folder}, or name this one: --set run.name=NAME"
        ) from error
    except OSError as error:
        raise RunError(f"run folder {folder} cannot be made: {error}") from error
    return folder


class Trainer:
    """Trains one network. One thread uses it; a second thread makes the crops.

    Args:
        network: has `forward_training`, `alignment_parameters` and `fusion_parameters` as `Rfvif` has; moved to the
            device.
        reporter: says how it goes. Its folder is the run's: training states and weights go there, too.
        vgg: needed unless the perception loss is off.
        export: writes the network's weights to a file: export(path, network, facts).
        selection: judges validations, less is better, and sees the weights as they are before the first step; None:
            the loss, or the end-point error of the displacement, decides.

    Raises:
        ConfigError: the batch does not divide over the processes, or nothing would be trained.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        pairs: TrainingPairs,
        *,
        processes: Processes,
        vgg: Vgg16Features | None,
        export: Callable[[Path, nn.Module, dict[str, Any]], None],
        reporter: Reporter,
        selection: Selection | None = None,
    ) -> None:
        if config.batch_size % processes.world_size:
            raise ConfigError(f"batch_size {config.batch_size} does not divide over {processes.world_size} processes")
        self._config, self._folder, self._processes = config, reporter.folder, processes
        self._export, self._reporter, self._pairs = export, reporter, pairs
        self._selection = selection
        self._device = processes.device
        self._sampler = CropSampler(pairs.training, config.data, config.run.seed)
        self.steps_per_epoch = max(1, math.ceil(self._sampler.crops_per_epoch / config.batch_size))
        self.total_steps = config.schedule.max_steps or config.schedule.epochs * self.steps_per_epoch

        network.to(self._device)
        if config.run.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        self._alignment_only = config.stage == "align" and config.loss.lambda_align == 0
        self._optimizer = self._make_optimizer()
        self._loss = FusionLoss(config.loss, vgg, alignment_only=config.stage == "align").to(self._device)
        self._scaler = torch.amp.GradScaler("cuda", enabled=config.run.amp == "float16" and self._device.type == "cuda")
        self._ema = Ema(network, config.run.ema_decay) if config.run.ema_decay > 0 else None
        self._step = 0
        self._skipped_in_a_row = 0
        self._best: float | None = None
        self._validations_since_best = 0
        self._stop_reason: str | None = None
        self._resumed = False

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config, network = self._config, self.network
        alignment: list[nn.Parameter] = list(network.alignment_parameters())  # type: ignore[operator]
        fusion: list[nn.Parameter] = list(network.fusion_parameters())  # type: ignore[operator]
        trained: tuple[list[nn.Parameter], list[nn.Parameter]]
        if self._alignment_only:
            trained = (alignment, [])
        elif config.stage == "fuse" and config.freeze_alignment:
            trained = ([], fusion)
        else:  # with Eq. (7) the alignment terms reach the levels before FDAM too
            trained = (alignment, fusion)
        network.requires_grad_(False)
        for parameter in (*trained[0], *trained[1]):
            parameter.requires_grad_(True)
        optimizer = config.optimizer
        rates = (optimizer.alignment_learning_rate or optimizer.learning_rate, optimizer.learning_rate)
        groups = [
            {"params": parameters, "lr": rate, "initial_lr": rate}
            for parameters, rate in zip(trained, rates, strict=True)
            if parameters
        ]
        if not groups:
            raise ConfigError(
                f"stage {config.stage} trains nothing: this network has no displacement estimate; "
                "give loss.lambda_align a weight to train its kernels by Eq. (7)"
            )
        if optimizer.weight_decay > 0:
            return torch.optim.AdamW(groups, betas=optimizer.betas, weight_decay=optimizer.weight_decay)
        return torch.optim.Adam(groups, betas=optimizer.betas)

    # ---- the loop

    @property
    def stopped(self) -> bool:
        """Whether a signal ended the run before its end."""
        return self._stop_reason is not None

    def run(self) -> Path:
        """Train to the end, a signal, or the time limit. Returns the exported weights' path.

        Raises:
            RunError: the loss stays non-finite, or the disk is full.
        """
        config, schedule = self._config, self._config.schedule
        started = last_saved = time.monotonic()
        forward: nn.Module = _TrainingForward(self.network, alignment_only=self._alignment_only)
        self._set_mode()
        if self._processes.world_size > 1:
            forward = DistributedDataParallel(forward, find_unused_parameters=True)
        batches = crop_stream(
            self._sampler,
            first_step=self._step,
            batch_size=config.batch_size,
            rank=self._processes.rank,
            world_size=self._processes.world_size,
            prefetch=config.data.prefetch_batches,
        )
        self._reporter.start(self._step, self.total_steps, config.batch_size)
        try:
            with self._stop_on_signals():
                if self._step == 0 and self._selection is not None and self._best is None:
                    self._validate()  # after a kill again: measured is not yet kept as the best
                    self._save()
                while self._step < self.total_steps and not self._should_stop(started):
                    self._train_step(forward, next(batches))
                    every = config.validation.every_steps
                    if every and self._step % every == 0 and self._step < self.total_steps:
                        self._validate()
                    now = time.monotonic()
                    if (
                        self._step % config.run.checkpoint_every_steps == 0
                        or now - last_saved > 60 * config.run.checkpoint_every_minutes
                    ):
                        self._save()
                        last_saved = now
            finished = self._step >= self.total_steps
            if self._stop_reason is not None:
                self._reporter.say(f"stopped by {self._stop_reason} after step {self._step}")
            elif self._out_of_patience():
                self._reporter.say(f"no better for {self._validations_since_best} validations, ended at {self._step}")
            elif not finished:
                self._reporter.say(f"time limit of {schedule.max_minutes:g} minutes reached at step {self._step}")
            if self._stop_reason is None and finished:
                self._validate()
            self._save()
            weights = self._folder / "weights.safetensors"
            self._export_averaged(weights)
            return weights
        finally:
            batches.close()  # type: ignore[attr-defined]
            self._reporter.close()

    def _train_step(self, forward: nn.Module, batch: Batch) -> None:
        config = self._config
        factor = learning_rate_factor(self._step, self.total_steps, config.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        batch = Batch(*(tensor.to(self._device, non_blocking=True) for tensor in batch))
        if config.run.channels_last:
            batch = Batch(*(t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in batch))
        buffers = [buffer.clone() for buffer in self.network.buffers()]  # a non-finite step must not leave its mark
        with self._autocast():
            output = forward(batch.visible, batch.infrared)
        total, terms = self._loss(output, batch, self._step)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(total).backward()
        self._scaler.unscale_(self._optimizer)
        parameters = [p for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(total.detach()))
        finite = not self._processes.any(not finite)
        if finite:
            if config.optimizer.clip_norm > 0:
                torch.nn.utils.clip_grads_with_norm_(parameters, config.optimizer.clip_norm, norm)
            self._scaler.step(self._optimizer)
            if self._ema is not None:
                self._ema.update(self.network, self._step)
            self._skipped_in_a_row = 0
        else:
            for buffer, before in zip(self.network.buffers(), buffers, strict=True):
                buffer.copy_(before)
            self._skipped_in_a_row += 1
            self._reporter.say(f"step {self._step}: loss or gradient is not finite, step skipped")
            if self._skipped_in_a_row >= config.run.max_nonfinite_steps:
                raise RunError(
                    f"{self._skipped_in_a_row} steps in a row were not finite, stopped at step {self._step}. Lower "
                    "optimizer.learning_rate, or set run.amp to off or bfloat16; the last good state is kept."
                )
        self._scaler.update()
        self._step += 1
        rate = self._optimizer.param_groups[-1]["lr"]
        self._reporter.step(self._step, self._step / self.steps_per_epoch, total.detach(), terms, norm, rate)
        every = config.run.images_every_steps
        if every and (self._step % every == 0 or self._step == 1) and self._config.stage != "align":
            self._reporter.pictures(self._step, batch, output.fused.detach())

    def _autocast(self) -> torch.autocast:
        amp = self._config.run.amp
        dtype = torch.float16 if amp == "float16" else torch.bfloat16
        return torch.autocast(self._device.type, dtype=dtype, enabled=amp != "off")

    def _set_mode(self) -> None:
        """Training mode, but frozen parts keep their batch-norm statistics."""
        self.network.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    # ---- stopping, saving, resuming

    def _should_stop(self, started: float) -> bool:
        limit = self._config.schedule.max_minutes
        timed_out = limit is not None and time.monotonic() - started > 60 * limit
        return self._processes.any(timed_out or self._out_of_patience() or self._stop_reason is not None)

    def _out_of_patience(self) -> bool:
        patience = self._config.validation.patience
        return patience is not None and self._validations_since_best >= patience

    @contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run after the present step, with a saved state. Main thread only."""

        def stop(number: int, _: FrameType | None) -> None:
            self._stop_reason = signal.Signals(number).name

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _save(self) -> None:
        if self._processes.rank != 0:
            return
        state = {
            "format": _STATE_FORMAT,
            "step": self._step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "ema": self._ema.values if self._ema is not None else None,
            "best": self._best,
            "validations_since_best": self._validations_since_best,
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state() if self._device.type == "cuda" else None,
            "skipped_in_a_row": self._skipped_in_a_row,
            "config_hash": config_hash(self._config),
            "manifest_sha256": self._pairs.sha256,
        }
        self._reporter.flush()
        save_state(self._folder / "checkpoints", self._step, state, self._config.run.keep_checkpoints)

    def resume(self) -> int:
        """Load the newest training state of the run's folder. Returns its step.

        Raises:
            CheckpointError: there is none that loads. BadInputError: it is of another network.
        """
        state = latest_state(self._folder / "checkpoints", self._reporter.say)
        if state.get("format") != _STATE_FORMAT:
            raise BadInputError(f"the training state has format {state.get('format')}, {_STATE_FORMAT} is wanted")
        try:
            self.network.load_state_dict(state["network"], strict=True)
            rates = [group["initial_lr"] for group in self._optimizer.param_groups]
            self._optimizer.load_state_dict(state["optimizer"])
            for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
                group["initial_lr"] = rate
        except (RuntimeError, ValueError, KeyError) as error:
            raise BadInputError(
                f"the training state of {self._folder} is of another network or stage ({str(error).splitlines()[0]})"
            ) from error
        self._scaler.load_state_dict(state["scaler"])
        if self._ema is not None and state["ema"] is not None:
            self._ema.load(state["ema"])
        torch.set_rng_state(state["rng_cpu"])
        if state["rng_cuda"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_cuda"])
        self._step, self._best = int(state["step"]), state["best"]
        self._validations_since_best = int(state.get("validations_since_best", 0))
        self._skipped_in_a_row = int(state["skipped_in_a_row"])
        if state["manifest_sha256"] != self._pairs.sha256:
            self._reporter.say("the data are not those of the saved state: this run cannot be repeated exactly")
        if self._processes.rank == 0:
            truncate_metrics(self._folder / "metrics.jsonl", self._step)
        return self._step

    # ---- validation and export

    @contextmanager
    def _averaged(self) -> Iterator[nn.Module]:
        """Put the network into evaluation mode with the EMA weights while the block runs."""
        before = {key: value.clone() for key, value in self.network.state_dict().items()}
        try:
            if self._ema is not None:
                self.network.load_state_dict(self._ema.values)
            self.network.eval()
            yield self.network
        finally:
            self.network.load_state_dict(before)
            self._set_mode()

    def _validate(self) -> None:
        if self._processes.rank != 0 or not self._pairs.held_out:
            return
        with self._averaged() as network:
            results = validate(
                _TrainingForward(network, alignment_only=self._alignment_only).eval(),
                self._pairs.held_out,
                self._config.validation,
                self._config.loss,
                self._device,
                alignment_only=self._config.stage == "align",
                stop=lambda: self._stop_reason is not None,
            )
            if results is None:  # stopped half-way: the state is saved, validation comes after the resume
                return
            if self._selection is not None:
                score = self._selection.score(results)
            else:
                score = results.get("epe_px", math.inf) if self._config.stage == "align" else results["loss"]
            better = math.isfinite(score) and (self._best is None or score < self._best)
            self._validations_since_best = 0 if better else self._validations_since_best + 1
            if better:
                self._best = score
                self._export(self._folder / "best.safetensors", network, self._facts() | {"validation": results})
        self._reporter.validation(self._step, results, best=better)

    def _export_averaged(self, path: Path) -> None:
        if self._processes.rank == 0:
            with self._averaged() as network:
                self._export(path, network, self._facts())

    def _facts(self) -> dict[str, Any]:
        """The facts that a weights file tells about its training."""
        config = self._config
        return {
            "preset": config.preset,
            "stage": config.stage,
            "steps": self._step,
            "batch_size": config.batch_size,
            "config": json.loads(config.model_dump_json()),
            "config_hash": config_hash(config),
            "data_manifest_sha256": self._pairs.sha256,
        }
