"""The trainer: resume to the bit, interruption, damaged checkpoints, non-finite steps, data-parallel processes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support import training_worker as worker

from fusion_core.errors import CheckpointError, ConfigError, RunError
from fusion_core.training.config import ScheduleConfig
from fusion_core.training.distributed import Processes
from fusion_core.training.finetuning import acceptance
from fusion_core.training.finetuning.acceptance import AgainstStart
from fusion_core.training.run_state import Ema, atomic_write, latest_state, list_checkpoints, save_state
from fusion_core.training.train import Trainer, learning_rate_factor

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(worker.__file__)
ALONE = Processes(0, 1, torch.device("cpu"))
HANG_S = 600  # generous: a busy machine needs minutes to start a process

pytestmark = [pytest.mark.timeout(3 * HANG_S), pytest.mark.usefixtures("one_torch_thread")]


def _start(*arguments: str, processes: int = 1) -> subprocess.Popen[str]:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-port=0", "--standalone"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, str(WORKER), *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        found = list_checkpoints(folder / "checkpoints")
        if found and int(found[-1].stem[5:]) >= step:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    pytest.fail(f"no checkpoint of step {step} within {HANG_S} s")


def _train(folder: Path, steps: int, *, resume: bool = False, **changes: Any) -> dict[str, Any]:
    trainer = worker.make_trainer(folder, worker.make_config(folder, steps, **changes), ALONE)
    if resume:
        trainer.resume()
    trainer.run()
    return latest_state(folder / "checkpoints", print)


def _assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["step"] == second["step"]
    for part in ("network", "ema"):
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), (part, key)
    for key, moments in first["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, second["optimizer"]["state"][key][name]), (key, name)


def test_killed_run_resumes_to_the_bit(tmp_path: Path) -> None:
    reference = _train(tmp_path / "whole", 14)
    process = _start(str(tmp_path / "killed"), "14", "--batch-norm", "--slow-ms", "100")
    _wait_for_step(tmp_path / "killed", 6, process)
    process.kill()
    process.communicate(timeout=HANG_S)
    assert process.returncode == -signal.SIGKILL
    resumed = _train(tmp_path / "killed", 14, resume=True)
    _assert_same(reference, resumed)
    logged = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "loss" in line] == list(range(1, 15))  # none twice, none missing
    whole = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in logged if "loss" in line] == [line["loss"] for line in whole if "loss" in line]


def test_sigterm_saves_and_ends_in_order(tmp_path: Path) -> None:
    process = _start(str(tmp_path), "100000", "--slow-ms", "20")
    _wait_for_step(tmp_path, 3, process)
    process.terminate()
    out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, out
    assert "stopped by SIGTERM" in out
    step = latest_state(tmp_path / "checkpoints", print)["step"]
    assert f"after step {step}" in out
    assert (tmp_path / "weights.safetensors").stat().st_size > 0


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    single = worker.make_trainer(tmp_path / "one", worker.make_config(tmp_path, 5), ALONE, batch_norm=False)
    single.run()
    process = _start(str(tmp_path / "two"), "5", processes=2)
    out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, out
    one = latest_state(tmp_path / "one" / "checkpoints", print)["network"]
    two = latest_state(tmp_path / "two" / "checkpoints", print)["network"]
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-5)


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    reference = _train(tmp_path, 8)
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    said: list[str] = []
    assert latest_state(tmp_path / "checkpoints", said.append)["step"] == 6
    assert "damaged" in said[0]
    _assert_same(reference, _train(tmp_path, 8, resume=True))


def test_failed_save_leaves_the_last_good_one(tmp_path: Path) -> None:
    path = save_state(tmp_path, 1, {"step": 1}, keep=3)

    def fails(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        atomic_write(path, fails)
    assert latest_state(tmp_path, print) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    (tmp_path / ".step-00000000.pt.77.partial").write_bytes(b"left by a killed run")
    for step in range(5):
        save_state(tmp_path, step, {"step": step}, keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000003.pt", "step-00000004.pt"]


class _Killed(BaseException):
    """Stands for SIGKILL: nothing of the trainer catches it, so nothing is saved on the way out."""


def _exported(folder: Path) -> dict[str, torch.Tensor]:
    """The best weights, which the worker exports with torch.save."""
    return dict(torch.load(io.BytesIO((folder / "best.safetensors").read_bytes())))


class _StartIsBest(AgainstStart):
    """Whatever differs from the start counts as worse, so that a run that forgets its start shows it."""

    def score(self, results: Mapping[str, float]) -> float:
        return 1.0 + abs(super().score(results) - 1.0)


def test_a_run_killed_at_any_step_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write of a file and each training step is a place to be killed at; the start's measure is the first."""
    place, fatal = 0, -1

    def at_place(original: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal place
            result = original(*arguments, **named)
            place += 1
            if place - 1 == fatal:
                raise _Killed
            return result

        return counted

    def go(folder: Path) -> Trainer:
        config = worker.make_config(folder, 4, validation={"every_steps": 2})
        trainer = worker.make_trainer(folder, config, ALONE, selection=_StartIsBest(folder))
        if list_checkpoints(folder / "checkpoints"):
            trainer.resume()
        trainer.run()
        return trainer

    monkeypatch.setattr(acceptance, "atomic_write", at_place(atomic_write))
    monkeypatch.setattr(torch, "save", at_place(torch.save))
    monkeypatch.setattr(Trainer, "_train_step", at_place(Trainer._train_step))
    go(tmp_path / "whole")
    places, best = place, _exported(tmp_path / "whole")
    reference = latest_state(tmp_path / "whole" / "checkpoints", print)
    assert places >= 8
    for number in range(places):
        place, fatal = 0, number
        folder = tmp_path / str(number)
        with pytest.raises(_Killed):
            go(folder)
        fatal = -1
        go(folder)
        state = latest_state(folder / "checkpoints", print)
        _assert_same(reference, state)
        assert state["best"] == reference["best"] == 1.0
        kept = _exported(folder)
        assert all(torch.equal(kept[key], value) for key, value in best.items())


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training state"):
        latest_state(tmp_path, print)


class _Explodes(worker.TinyNetwork):  # type: ignore[misc, name-defined]
    """Gives a non-finite picture at some steps."""

    def __init__(self, bad_steps: range) -> None:
        super().__init__(batch_norm=True)
        self.bad_steps, self.count = bad_steps, 0

    def forward_training(self, visible_y: torch.Tensor, infrared: torch.Tensor) -> Any:
        bad, self.count = self.count in self.bad_steps, self.count + 1
        return super().forward_training(visible_y * float("nan") if bad and self.training else visible_y, infrared)


def test_non_finite_step_is_skipped_without_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = worker.make_config(tmp_path, 4)
    worker.make_trainer(tmp_path, config, ALONE, network=_Explodes(range(1, 2))).run()
    state = latest_state(tmp_path / "checkpoints", print)
    assert all(bool(torch.isfinite(value).all()) for value in state["network"].values())
    assert "step 1: loss or gradient is not finite" in capsys.readouterr().out


def test_run_that_stays_non_finite_is_stopped(tmp_path: Path) -> None:
    config = worker.make_config(tmp_path, 50, run={"max_nonfinite_steps": 3})
    trainer = worker.make_trainer(tmp_path, config, ALONE, network=_Explodes(range(2, 50)))
    with pytest.raises(RunError, match="3 steps in a row were not finite"):
        trainer.run()


def test_training_lowers_the_loss_and_validates(tmp_path: Path) -> None:
    config = worker.make_config(tmp_path, 60, optimizer={"learning_rate": 0.01}, data={"displacement": {"max_px": 2.0}})
    trainer = worker.make_trainer(tmp_path, config, ALONE)
    trainer.run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    results = lines[-1]["validation"]
    assert {"uniform0/epe_px", "uniform3/edges_ghost", "varying3/epe_median_px", "loss"} <= results.keys()
    assert (tmp_path / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("stage", "loss", "moved", "kept"),
    [
        ("align", {"lambda_align": 0.0}, "estimator", "output"),
        ("fuse", {}, "output", "estimator"),
    ],
)
def test_stage_trains_its_part_alone(tmp_path: Path, stage: str, loss: dict[str, Any], moved: str, kept: str) -> None:
    trainer = worker.make_trainer(tmp_path, worker.make_config(tmp_path, 2, stage=stage, loss=loss), ALONE)
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    trainer.run()
    after = trainer.network.state_dict()
    assert any(not torch.equal(after[key], before[key]) for key in after if key.startswith(moved))
    assert all(torch.equal(after[key], before[key]) for key in after if key.startswith(kept))


def test_time_limit_and_patience_end_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = worker.make_config(tmp_path / "time", 10**6, schedule={"max_minutes": 1e-9})
    worker.make_trainer(tmp_path / "time", config, ALONE).run()
    assert "time limit" in capsys.readouterr().out
    config = worker.make_config(
        tmp_path / "patience", 10**6, optimizer={"learning_rate": 1e-12}, run={"ema_decay": 0.0},
        validation={"every_steps": 1, "patience": 2},
    )  # fmt: skip
    worker.make_trainer(tmp_path / "patience", config, ALONE, batch_norm=False).run()
    assert "no better for 2 validations" in capsys.readouterr().out


def test_batch_must_divide_over_the_processes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size 4 does not divide over 3"):
        worker.make_trainer(tmp_path, worker.make_config(tmp_path, 1), Processes(0, 3, torch.device("cpu")))


def test_learning_rate_of_the_paper() -> None:
    schedule = ScheduleConfig()
    factors = [learning_rate_factor(step, 1200, schedule) for step in (0, 399, 400, 799, 800, 1199)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = ScheduleConfig(kind="cosine", final_factor=0.0, warmup_steps=4)
    assert learning_rate_factor(0, 100, cosine) == pytest.approx(0.2)
    assert learning_rate_factor(50, 100, cosine) == pytest.approx(0.5)
    assert learning_rate_factor(100, 100, cosine) == pytest.approx(0.0, abs=1e-9)


def test_ema_follows_parameters_and_copies_statistics() -> None:
    network = worker.TinyNetwork(batch_norm=True)
    ema = Ema(network, 0.9)
    weight = network.output.weight.detach().clone()
    with torch.no_grad():
        network.output.weight += 1.0
        network.features[1].running_mean += 5.0
    ema.update(network, 10**6)
    torch.testing.assert_close(ema.values["output.weight"], weight + 0.1)
    assert torch.equal(ema.values["features.1.running_mean"], network.features[1].running_mean)
