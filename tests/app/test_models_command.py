"""`lumitherm models` from end to end, with untrained weights made here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.network_weights import BRIEF

import app.__main__ as command_line
from fusion_core.checkpoint import save_checkpoint
from fusion_core.rfvif import Rfvif


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run `lumitherm models ...`; gives exit code, standard output and standard error."""
    monkeypatch.setenv("LUMITHERM_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lumitherm", "models", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            sys.exit(command_line.run())
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run_command


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        path = folder / f"model{seed}.safetensors"
        save_checkpoint(path, Rfvif(BRIEF), {"preset": "tiny", "steps": seed, "agc": {"mode": "plateau"}})
        paths.append(path)
    return paths


def test_add_list_use_roll_back(run, weights: list[Path]) -> None:  # type: ignore[no-untyped-def]
    assert run("list")[0] == 0
    assert run("add", weights[0])[0] == 0
    assert run("add", weights[1], "--name", "rig")[0] == 0
    code, out, _ = run("use", "model1")
    assert code == 0 and "model1 is in use" in out
    run("use", "rig")
    _, out, _ = run("list")
    assert any(line.startswith("*") and "rig" in line for line in out.splitlines())
    code, out, _ = run("rollback")
    assert code == 0 and "model1 is in use again" in out
    code, out, _ = run("show", "rig")
    assert code == 0 and "training steps  2" in out and "plateau" in out
    assert run("remove", "rig")[0] == 0
    assert " rig " not in run("list")[1]


def test_errors_are_one_line_with_code_2(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    for arguments in (("use", "nowhere"), ("rollback",), ("add", tmp_path / "bad.safetensors"), ("show", "nowhere")):
        code, _, err = run(*arguments)
        assert code == 2, arguments
        assert len(err.strip().splitlines()) == 1 and err.startswith("lumitherm:")


def test_compare_measures_and_writes_pictures(run, weights: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    for folder in ("vi", "ir"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
    for number in range(2):
        grey = cv2.GaussianBlur(rng.integers(0, 255, (96, 128), np.uint8), (0, 0), 2)
        cv2.imwrite(str(tmp_path / "pairs" / "vi" / f"p{number}.png"), np.dstack([grey] * 3))
        cv2.imwrite(str(tmp_path / "pairs" / "ir" / f"p{number}.png"), 255 - grey)
    run("add", weights[0])
    code, out, err = run(
        "compare", "model1", weights[1], "--pairs", tmp_path / "pairs", "--shifts", "0,3", "-o", tmp_path / "ab"
    )
    assert code == 0, err
    assert "model1" in out and "model2" in out
    errors = out[out.index("error of the displacement estimate") :].splitlines()
    measured = [float(value) for line in errors if "model" in line for value in re.findall(r"\d+\.\d\d", line)]
    assert len(measured) == 4 and all(0.0 <= value < 20.0 for value in measured)
    lines = (tmp_path / "ab" / "comparison.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 2
    picture = cv2.imread(str(tmp_path / "ab" / "ab_p0.png"))
    assert picture is not None and picture.shape == (96, 4 * 128, 3)


def test_compare_refuses_one_model_and_bad_shifts(run, weights: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert run("compare", weights[0], "--pairs", tmp_path)[0] == 2
    assert run("compare", weights[0], weights[1], "--pairs", tmp_path, "--shifts", "x")[0] == 2
