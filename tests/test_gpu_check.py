"""The GPU acceptance, rehearsed on the CPU, so that it never fails for a typo on a machine with a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import gpu_check
import gpu_steps
import pytest


def test_the_crops_are_few_and_small() -> None:
    pairs = gpu_steps.crops()
    assert len(pairs) == 32
    assert gpu_steps.CROPS.stat().st_size < 1_000_000
    assert all(visible.shape == (*gpu_steps.CROP, 3) and thermal.shape == gpu_steps.CROP for visible, thermal in pairs)
    assert all(visible.std() > 3 and thermal.std() > 3 for visible, thermal in pairs)


def test_a_skip_that_was_not_named_is_a_failure_and_what_has_passed_is_kept(tmp_path: Path) -> None:
    state = {"device": "cpu", "steps": {name: {"state": "passed"} for name in gpu_steps.STEPS}}
    state["steps"].pop("faults")
    state["steps"]["base"] = {"state": "skipped by name"}
    (tmp_path / "gpu.json").write_text(json.dumps(state))
    call = ["--out", str(tmp_path), "--device", "cpu", "--skip", "base"]
    assert gpu_check.main(call) == 1  # the faults of CUDA cannot be tried here
    told = (tmp_path / "gpu.md").read_text()
    assert "- **faults**: skipped. faults of CUDA need a GPU" in told
    assert gpu_check.main([*call, "--skip", "faults"]) == 0
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["steps"]["faults"] == {"state": "skipped by name"}
    kept["steps"].pop("probe")
    (tmp_path / "gpu.json").write_text(json.dumps(kept))
    assert gpu_check.main([*call, "--budget-s", "1"]) == 1  # it does not fit: the next call goes on with it
    assert "left for the next call" in (tmp_path / "gpu.md").read_text()


def test_a_step_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--out", str(tmp_path), "--step", "smok"])
    assert ended.value.code == 2
    assert "there is no step 'smok'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(3600)  # each step has a limit of its own
def test_every_step_runs_on_the_cpu(tmp_path: Path) -> None:
    call = ["--out", str(tmp_path), "--device", "cpu", "--budget-s", "3000", "--skip", "faults"]
    assert gpu_check.main(call) == 0, (tmp_path / "gpu.md").read_text()
    state = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    assert set(state) == set(gpu_steps.STEPS)
    assert state["parity"]["figures"]["tiny torch-cuda"]["worst_db"] >= gpu_steps.PARITY_DB
    rows = state["benchmark"]["figures"]["rows"]
    assert {row["engine"] for row in rows} == {"eager", "torch-cuda"}
    assert all(row["median_ms"] > 0 for row in rows)
    (of_parts,) = state["parts"]["figures"]["rows"]
    names = "upload", "agc_warp", "estimate_whole", "estimate_around", "network", "colour", "download"
    assert all(of_parts[f"{name}_ms"] > 0 for name in names)
    trained = state["base"]["figures"]
    assert (trained["from_step"], trained["to_step"]) == (0, 2)
    assert (tmp_path / "training" / "base" / "weights.safetensors").is_file()
    told = (tmp_path / "gpu.md").read_text()
    assert told.startswith("# GPU check (rehearsal without a GPU)")
    assert "| what | engine | median_ms |" in told


def test_the_last_step_takes_what_is_left_of_the_time_and_goes_on_with_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def step(name: str, limit_s: float, given: object) -> dict[str, object]:
        assert name == "base"
        limits.append(limit_s)
        return {"state": "passed", "seconds": 1.0}

    monkeypatch.setattr(gpu_check, "_step", step)
    state = {"device": "cpu", "steps": {name: {"state": "passed"} for name in gpu_steps.STEPS}}
    (tmp_path / "gpu.json").write_text(json.dumps(state))
    call = ["--out", str(tmp_path), "--device", "cpu"]
    for budget_s in (300.0, 500.0, 60.0):  # the last is too short to begin
        assert gpu_check.main([*call, "--budget-s", str(budget_s)]) == 0
    assert limits == [pytest.approx(300.0, abs=20.0), pytest.approx(500.0, abs=20.0)]


@pytest.mark.slow
def test_the_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    machine = gpu_steps.Machine("cpu", tmp_path, small=True, limit_s=600.0)
    first, second = gpu_steps.base(machine), gpu_steps.base(machine)
    assert (first["from_step"], first["to_step"]) == (0, 2)
    assert (second["from_step"], second["to_step"]) == (2, 3)
    with pytest.raises(gpu_steps.Skip, match="no time is left"):
        gpu_steps.base(gpu_steps.Machine("cpu", tmp_path, small=True, limit_s=10.0))
