"""Fine-tuning from a weights file: settings, the mix, the run from end to end, two processes, the collapse alarm."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from support import finetune as support

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.errors import BadInputError, ConfigError, EngineError
from fusion_core.measures.displacement import field, uniform
from fusion_core.measures.evaluation import EvaluationPair, Summary
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.finetuning import judge as finetune_judge
from fusion_core.training.finetuning.acceptance import AgainstStart, gains, why_error_rose, why_worse
from fusion_core.training.finetuning.collapse import ModalityShares, collapse_warnings, measure_shares
from fusion_core.training.finetuning.finetune import finetune, mix_pairs
from fusion_core.training.finetuning.measure import Measured, estimate_errors_px
from fusion_core.training.finetuning.settings import (
    FinetuneRequest,
    finetune_config,
    fit_crop,
    load_request,
    own_loss,
    stages_of,
)
from fusion_core.training.reporting import Reporter

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 600


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def bfloat16_engine(weights: Path) -> TorchEngine:
    return TorchEngine(load_checkpoint(weights), dtype=torch.bfloat16)


def request_in(folder: Path, *overrides: str) -> FinetuneRequest:
    return FinetuneRequest(
        support.make_weights(folder / "start.safetensors"),
        support.make_set(folder / "set"),
        overrides=(*support.SMALL, f"run.folder={folder / 'runs'}", "run.name=mine", *overrides),
    )


def test_settings_come_from_the_weights_and_the_set(tmp_path: Path) -> None:
    request = request_in(tmp_path, "optimizer.learning_rate=0.001")
    config = finetune_config(request, load_checkpoint(request.initial))
    assert config.preset == "tiny" and config.loss.gradient == 2.0 and config.loss.perception.weight == 0
    assert config.data.validation_root == tmp_path / "set" / "validation"
    assert config.stage == "fuse" and config.freeze_alignment
    estimate = finetune_config(request, load_checkpoint(request.initial), "align")
    assert estimate.stage == "align" and estimate.loss.displacement == 1.0 and estimate.loss.gradient == 0
    assert estimate.data.displacement.varying_probability > config.data.displacement.varying_probability
    assert not config.data.registration.enabled  # a built set is registered
    rates = config.optimizer.learning_rate, config.optimizer.alignment_learning_rate
    assert rates[0] == 0.001 and rates[1] is not None and rates[1] < rates[0]
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate"):
        finetune_config(request_in(tmp_path, "optimizer.learning_rate=-1"), load_checkpoint(request.initial))


def test_a_setting_can_concern_one_stage(tmp_path: Path) -> None:
    request = request_in(tmp_path, "align.schedule.max_steps=7", "fuse.optimizer.learning_rate=0.002")
    loaded = load_checkpoint(request.initial)
    align, fuse, joint = (finetune_config(request, loaded, stage) for stage in ("align", "fuse", "joint"))
    assert (align.schedule.max_steps, fuse.schedule.max_steps) == (7, 3)
    assert fuse.optimizer.learning_rate == 0.002 != align.optimizer.learning_rate
    assert joint.loss.displacement > 0 and joint.loss.gradient == fuse.loss.gradient
    with pytest.raises(ConfigError, match="--stages"):
        finetune_config(request_in(tmp_path, "stage=joint"), loaded, "fuse")
    for stages in ((), ("align", "align"), ("all",)):
        with pytest.raises(ConfigError, match="--stages"):
            stages_of(replace(request, stages=stages), loaded)
    assert stages_of(request, loaded) == ("align", "fuse")


def test_crops_fit_into_the_pictures(tmp_path: Path) -> None:
    request = replace(request_in(tmp_path), overrides=())
    config = finetune_config(request, load_checkpoint(request.initial), "align")
    assert config.data.crop_px == 384

    def pairs(*sides: int) -> list[TrainingPair]:
        return [TrainingPair("a", np.zeros((side, 600), np.uint8), np.zeros((side, 600), np.uint8)) for side in sides]

    assert fit_crop(config, pairs(300, 420, 500)) is config
    assert fit_crop(config, pairs(180, 200, 300)).data.crop_px == 160
    assert fit_crop(config, pairs(50)).data.crop_px == 64


def test_losses_of_an_estimate_are_not_taken_for_those_of_the_fusion() -> None:
    align = {"loss": {"displacement": 1.0, "pixel": 0.0, "perception": {"weight": 0.0}}}
    assert own_loss({"config": align}) is None
    found = own_loss({"config": align, "fusion": {"loss": {"gradient": 3.0}}})
    assert found is not None and found.gradient == 3.0


@pytest.mark.parametrize(("own", "generic", "share"), [(10, 200, 0.3), (100, 5, 0.3), (3, 400, 0.5), (40, 40, 0.25)])
def test_mix_holds_the_share(own: int, generic: int, share: float) -> None:
    picture = np.zeros((8, 8), np.uint8)
    mine = [TrainingPair(f"own_{i}", picture, picture) for i in range(own)]
    others = [TrainingPair(f"generic_{i}", picture, picture) for i in range(generic)]
    mixed = mix_pairs(mine, others, share)
    found = sum(pair.stem.startswith("generic") for pair in mixed) / len(mixed)
    assert found == pytest.approx(share, abs=0.03)
    assert {pair.stem for pair in mixed} >= {pair.stem for pair in mine}
    assert mix_pairs(mine, [], share) == mine and mix_pairs(mine, others, 0.0) == mine
    with pytest.raises(ConfigError, match="--generic-share"):
        mix_pairs(mine, others, 1.0)


def test_run_from_end_to_end(tmp_path: Path) -> None:
    generic = support.make_pairs(tmp_path / "generic", [f"a_{number:02d}" for number in range(12)])
    base = request_in(tmp_path)
    request = FinetuneRequest(
        base.initial, base.data, generic=generic, generic_share=0.4, overrides=base.overrides, even_if_worse=True
    )  # three steps from random weights: whether they are better is chance
    said = io.StringIO()
    result = finetune(request, console=Console(file=said, width=200), make_engine=bfloat16_engine)
    assert result is not None and result.weights is not None
    assert result.run == tmp_path / "runs" / "mine"
    exported = load_checkpoint(result.weights)
    before = load_checkpoint(request.initial)
    assert exported.config == before.config
    assert exported.facts["initial_sha256"] == before.sha256
    assert exported.facts["agc"]["plateau"] == 5.0  # the data set's contract, not the initial weights'
    assert exported.facts["parity"]["worst_db"] >= 45
    assert any(
        not torch.equal(value, before.network.state_dict()[key]) for key, value in exported.network.state_dict().items()
    )
    assert [summary.displacement.label for summary in result.after.curve] == [
        "0 px",
        "3 px",
        "5 px",
        "8 px",
        "field 5 px",
    ]
    assert [(outcome.stage, outcome.accepted) for outcome in result.stages] == [("align", True), ("fuse", True)]
    assert exported.facts["stage"] == "align+fuse" and exported.facts["fusion"]["loss"]["gradient"] == 2.0
    card = result.card.read_text()
    assert "before and after fine-tuning" in card and "Engine parity" in card and "held out: wed 2" in card
    assert "## Training: stage align" in card and "## Training: stage fuse" in card and "what was forgotten" in card
    document = json.loads((result.run / "finetune.json").read_text())
    assert document["metrics"]["before"][0]["displacement"] == "0 px"
    assert document["metrics"]["after"][3]["error_px"] > 0 and document["generic"]["after"][0]["pairs"] == 1
    assert load_request(result.run) == request
    assert "generic pairs make up 40% of the crops; 1 of 12 are held out" in said.getvalue()
    check_resume(request, result.run)


def check_resume(request: FinetuneRequest, run: Path) -> None:
    """A run that ended in its second stage goes on there, to the same weights; the first is not done again."""
    whole = load_checkpoint(run / "fuse" / "weights.safetensors")
    states = sorted((run / "fuse" / "checkpoints").glob("step-*.pt"))
    for name in ("outcome.json", "weights.safetensors", "start.json", "best.safetensors"):
        (run / "fuse" / name).unlink()
    for path in states:
        path.unlink()
    align = (run / "align" / "weights.safetensors").stat().st_mtime_ns
    said = io.StringIO()
    again = finetune(load_request(run), resume=run, console=Console(file=said, width=200), make_engine=bfloat16_engine)
    assert again is not None and "(done before)" in said.getvalue()
    assert (run / "align" / "weights.safetensors").stat().st_mtime_ns == align
    resumed = load_checkpoint(run / "fuse" / "weights.safetensors")
    differs = {k for k in set(whole.facts) | set(resumed.facts) if whole.facts.get(k) != resumed.facts.get(k)}
    assert not differs, [(whole.facts[k], resumed.facts[k]) for k in differs]
    for key, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value), key


def test_a_signal_ends_the_run_and_it_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Reporter.step

    def step_and_stop(self: Reporter, number: int, *arguments: Any) -> None:
        step(self, number, *arguments)
        signal.raise_signal(signal.SIGTERM)

    request = replace(request_in(tmp_path), even_if_worse=True)
    said = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "step", step_and_stop)
        assert finetune(request, console=Console(file=said, width=200), make_engine=bfloat16_engine) is None
    run = tmp_path / "runs" / "mine"
    assert f"lumitherm train --resume {run}" in said.getvalue().replace("\n", " ")
    assert not (run / "finetuned.safetensors").exists() and not (run / "align" / "outcome.json").exists()
    result = finetune(load_request(run), resume=run, console=Console(file=said, width=200), make_engine=bfloat16_engine)
    assert result is not None and result.weights is not None
    assert "after step 1" in said.getvalue()


def test_a_stage_that_mends_the_estimate_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that pulls to one side, and a training whose outcome is known: the shipped estimate."""
    shipped, spoiled = load_checkpoint(resolve_weights("tiny")), load_checkpoint(resolve_weights("tiny"))
    with torch.no_grad():
        for stage in spoiled.network.alignment.stages:  # type: ignore[union-attr]
            stage.prior += 3.0 * torch.linspace(-1, 1, stage.prior.shape[1])[None, :, None, None]
    save_checkpoint(tmp_path / "spoiled.safetensors", spoiled.network, spoiled.facts)

    class Trained:
        total_steps, stopped = 24, False

        def __init__(self, network: torch.nn.Module, config: Any, pairs: Any, *, reporter: Any, **_: Any):
            self.folder = reporter.folder

        def run(self) -> Path:
            for name in ("best.safetensors", "weights.safetensors"):
                save_checkpoint(self.folder / name, shipped.network, shipped.facts | {"steps": 24})
            return self.folder / "weights.safetensors"

    monkeypatch.setattr("fusion_core.training.finetuning.finetune.Trainer", Trained)
    request = FinetuneRequest(
        tmp_path / "spoiled.safetensors", support.make_set(tmp_path / "set"), stages=("align", "fuse"),
        overrides=(*support.SMALL, f"run.folder={tmp_path / 'runs'}", "run.name=mine"),
    )  # fmt: skip
    result = finetune(request, console=Console(quiet=True), make_engine=bfloat16_engine)
    assert result is not None and result.weights is not None and not result.kept_old
    assert [outcome.accepted for outcome in result.stages] == [True, False], "the second changed nothing any more"
    assert any("error of the displacement fell" in line for line in result.stages[0].gained)
    assert result.stages[1].lost == ["nothing became better by more than noise"]
    assert result.after.error_px < 0.8 * result.before.error_px
    assert load_checkpoint(result.weights).facts["stage"] == "align"


def test_export_is_refused_below_the_wanted_parity(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not exported"):
        finetune(
            replace(request_in(tmp_path, "schedule.max_steps=1"), even_if_worse=True),
            console=Console(quiet=True), min_psnr_db=120.0, make_engine=bfloat16_engine,
        )  # fmt: skip
    assert not (tmp_path / "runs" / "mine" / "finetuned.safetensors").exists()
    assert (tmp_path / "runs" / "mine" / "fuse" / "weights.safetensors").is_file()  # the run itself is kept


def test_weights_that_got_worse_are_not_exported(tmp_path: Path) -> None:
    said = io.StringIO()
    request = request_in(tmp_path, "optimizer.learning_rate=0.1", "optimizer.clip_norm=0", "run.ema_decay=0")
    result = finetune(request, console=Console(file=said, width=200), make_engine=bfloat16_engine)
    assert result is not None and result.weights is None and result.parity is None
    assert result.kept_old and "kept the old weights because" in said.getvalue()
    assert not (result.run / "finetuned.safetensors").exists() and result.card.is_file()
    assert json.loads((result.run / "finetune.json").read_text())["kept_old"] == result.kept_old
    best = load_checkpoint(result.run / "fuse" / "best.safetensors")
    assert best.facts["steps"] == 0, "the start is the best candidate"
    assert not any(outcome.accepted for outcome in result.stages)


def _summary(size_px: float, **values: float) -> Summary:
    whole = {"g_thermal": 0.85, "g_visible": 0.7, "ghost_share": 0.012, "qabf": 0.504, "ssim": 1.3}
    return Summary(uniform(size_px), 4, whole | values, 1.0)


def test_a_trade_is_told_at_the_displacement_where_it_is_worst() -> None:
    before = [_summary(0.0, ghost_share=float("nan")), _summary(8.0)]
    better = [_summary(0.0, ghost_share=float("nan"), qabf=0.555), _summary(8.0, qabf=0.54)]
    assert why_worse(before, better) == []
    assert why_worse(before, [before[0], _summary(8.0, g_thermal=0.80)]) == []  # noise
    traded = [_summary(0.0, ghost_share=float("nan"), qabf=0.555, g_thermal=0.72), _summary(8.0, g_thermal=0.69)]
    traded[1].values["ghost_share"] = 0.046
    assert why_worse(before, traded) == [
        f"thermal edges fell from 0.850 to 0.690 at {before[1].displacement.label}",
        f"the ghost share rose from 0.012 to 0.046 at {before[1].displacement.label}",
    ]


def _measured(errors_px: tuple[tuple[float, ...], ...], **values: float) -> Measured:
    shares = ModalityShares(0.7, 0.5, 0.5, len(errors_px[0]))
    return Measured([_summary(0.0, **values), _summary(8.0, **values)], errors_px, shares)


def test_a_gain_is_more_than_noise() -> None:
    before = _measured(((1.0, 1.0, 1.0), (2.0, 2.0, 2.0)))
    assert gains(before, before) == [] and why_error_rose(before, before) == []
    assert gains(before, _measured(((0.9, 0.9, 1.0), (1.9, 1.9, 2.1)))) == [], "only 4 % less"
    assert gains(before, _measured(((0.2, 1.1, 1.1), (0.5, 2.0, 2.1)))) == [], "in one pair of three"
    found = _measured(((0.8, 0.8, 1.1), (1.4, 1.6, 2.0)), qabf=0.52)
    assert gains(before, found) == [
        "the error of the displacement fell from 1.50 to 1.28 px (in 2 of 3 pairs)",
        "Qabf rose from 0.504 to 0.520",
    ]
    worse = _measured(((1.3, 1.3, 1.3), (2.0, 2.0, 2.0)))
    assert why_error_rose(before, worse) == ["the error of the displacement rose from 1.00 to 1.30 px at 0 px"]
    bare = Measured(before.curve, (), before.shares)
    assert gains(bare, bare) == [] and why_error_rose(bare, bare) == []


def _traded(loaded: LoadedCheckpoint) -> Measured:
    """Edges gained and ghosts brought by as much of the first weight as the training raised it."""
    way = float(next(iter(loaded.network.parameters())).detach().flatten()[0])
    return _measured(((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)), g_visible=0.7 + 0.15 * way, ghost_share=0.012 + 0.04 * way)


@pytest.mark.parametrize("way", [None, 0.4])
def test_a_stage_that_loses_something_is_taken_as_far_as_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: float | None
) -> None:
    network = Rfvif(preset_config("tiny"))
    first = next(iter(network.parameters()))
    for value, path in ((0.0, tmp_path / "start.safetensors"), (1.0, tmp_path / "best.safetensors")):
        with torch.no_grad():
            first.flatten()[0] = value
        save_checkpoint(path, network, {"preset": "tiny", "steps": 50 * value})
    monkeypatch.setattr(finetune_judge, "measure", lambda loaded, pairs: _traded(loaded))
    start = load_checkpoint(tmp_path / "start.safetensors")
    judge = finetune_judge.Judge(FinetuneRequest(start.path, tmp_path), start, [])
    if way is None:  # worse from the first step on
        monkeypatch.setattr(finetune_judge, "why_worse", lambda before, after: ["it is worse"])
    outcome = judge.decide("fuse", tmp_path, tmp_path / "best.safetensors")
    kept = float(next(iter(load_checkpoint(judge.weights).network.parameters())).detach().flatten()[0])
    if way is None:
        assert not outcome.accepted and outcome.lost == ["it is worse"] and kept == 0.0
    else:
        assert outcome.accepted and outcome.way == way and "40% of the way" in outcome.describe()
        assert kept == pytest.approx(way, abs=1e-3)
    again = finetune_judge.Judge(FinetuneRequest(start.path, tmp_path), start, [])
    assert again.take_over(tmp_path) == outcome and again.weights == judge.weights


def test_error_of_a_known_field_is_measured() -> None:
    """A network that says "no displacement" is wrong by just what was put between the pictures."""

    class Still:
        def pad(self, picture: torch.Tensor) -> torch.Tensor:
            return picture

        def estimate(self, visible: torch.Tensor, moved: torch.Tensor) -> Any:
            zero = torch.zeros(1, 2, visible.shape[2] // 8, visible.shape[3] // 8)
            return SimpleNamespace(displacements=(zero,))

    pair = _pairs()[0]
    network: Any = Still()
    assert estimate_errors_px(network, pair, uniform(3.0)) == pytest.approx(3.0 * 2**0.5, abs=1e-3)
    assert 0.5 < estimate_errors_px(network, pair, field(5.0)) < 5.0


def test_selection_of_an_estimate_goes_by_its_error(tmp_path: Path) -> None:
    selection = AgainstStart(tmp_path)
    assert selection.score({"loss": -0.5, "epe_px": 2.0}) == 1.0
    assert selection.score({"loss": -0.9, "epe_px": 2.2}) == pytest.approx(1.1)


def test_selection_prefers_the_start_to_a_lower_loss_with_fainter_heat(tmp_path: Path) -> None:
    def results(loss: float, infrared: float, ghost: float) -> dict[str, float]:
        return {
            "loss": loss, "uniform8/loss": loss, "uniform8/edges_infrared": infrared, "uniform8/edges_ghost": ghost,
            "uniform8/edges_visible": 0.7,
        }  # fmt: skip

    selection = AgainstStart(tmp_path)
    assert selection.score(results(0.4, 0.85, 0.01)) == pytest.approx(1.0)
    assert selection.score(results(0.36, 0.84, 0.015)) == pytest.approx(0.9)
    assert selection.score(results(0.34, 0.69, 0.046)) > 1.0
    resumed = AgainstStart(tmp_path)
    assert resumed.score(results(0.36, 0.84, 0.015)) == pytest.approx(0.9)
    (tmp_path / "start.json").write_text("[1")
    with pytest.raises(ConfigError, match="begin the run anew"):
        AgainstStart(tmp_path)


def test_without_held_out_pairs_it_does_not_start(tmp_path: Path) -> None:
    data = support.make_pairs(tmp_path / "bare", ["one_0"])
    request = FinetuneRequest(
        support.make_weights(tmp_path / "start.safetensors"), data,
        overrides=(*support.SMALL, f"run.folder={tmp_path / 'runs'}"),
    )  # fmt: skip
    with pytest.raises(BadInputError, match="holds out no pairs"):
        finetune(request, console=Console(quiet=True))


def test_request_of_another_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lumitherm train --from"):
        load_request(tmp_path)


@pytest.mark.slow
def test_two_processes_fine_tune(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    options = [option for override in request.overrides for option in ("--set", override)]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "app", "train",
        "--from", str(request.initial), "--data", str(request.data), "--even-if-worse", "--stages", "fuse", *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "mine" / "finetuned.safetensors").is_file()
    lines = (tmp_path / "runs" / "mine" / "fuse" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"loss"' in line and "validation" not in line] == [
        1,
        2,
        3,
    ]


# ---- the alarm


def _pairs() -> list[EvaluationPair]:
    rng = np.random.default_rng(3)
    pairs = []
    for number in range(2):
        visible, thermal = (rng.integers(0, 256, (96, 128), np.uint8) for _ in range(2))
        pairs.append(EvaluationPair(str(number), np.repeat(visible[..., None], 3, axis=2), thermal))
    return pairs


def _mean(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    grey = (visible[..., 0].astype(np.uint16) + thermal) // 2
    return np.repeat(grey[..., None].astype(np.uint8), 3, axis=2)


def test_alarm_tells_the_followed_camera() -> None:
    pairs = _pairs()
    both = measure_shares(_mean, pairs)
    assert both.gradient_visible == pytest.approx(0.5, abs=0.05)
    assert both.information_thermal == pytest.approx(0.5, abs=0.1)
    assert collapse_warnings(both) == []
    visible_only = measure_shares(lambda visible, thermal: visible, pairs)
    assert any("thermal edges" in warning for warning in collapse_warnings(visible_only))
    assert any("mutual information is with the thermal" in warning for warning in collapse_warnings(visible_only))
    thermal_only = measure_shares(lambda visible, thermal: np.repeat(thermal[..., None], 3, axis=2), pairs)
    assert any("visible edges" in warning for warning in collapse_warnings(thermal_only))
    with pytest.raises(BadInputError, match="at least one"):
        measure_shares(_mean, [])


def test_alarm_tells_a_fall_against_before() -> None:
    before, after = ModalityShares(0.6, 0.5, 0.5, 4), ModalityShares(0.6, 0.2, 0.4, 4)
    assert collapse_warnings(after, before) == ["the share of thermal edges fell from 0.50 to 0.20"]
    assert collapse_warnings(after) == []
