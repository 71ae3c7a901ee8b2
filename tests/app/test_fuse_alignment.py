"""`fuse` says when a pair does not fit, with its pixels, and finds the alignment itself where asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import app.__main__ as command_line
from calibration.rig import plain_scaling, save_calibration
from calibration.targetless import judge_fit
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs of a rig whose thermal camera sees a third less, and is turned."""
    folder = tmp_path_factory.mktemp("unequal")
    rig = SimulatedRig(
        SimulatedRigConfig(
            height=360, thermal_height=192, thermal_width=256, hfov_visible_deg=70.0, hfov_thermal_deg=52.0,
            residual_rotation_deg=2.0,
        )
    )  # fmt: skip
    for kind in ("vi", "ir"):
        (folder / kind).mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / "vi" / f"{index}.png"), cv2.cvtColor(rig.visible(index * 2.0), cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(folder / "ir" / f"{index}.png"), rig.thermal(index * 2.0))
    return folder


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the whole command line in this process, with an engine that averages: exit code and stdout."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lumitherm", "fuse", *map(str, arguments), "--engine", "average"])
        with pytest.raises(SystemExit) as ended:
            sys.exit(command_line.run())
        return int(ended.value.code or 0), capsys.readouterr().out

    return call


def test_a_pair_that_does_not_fit_is_said(folders: Path, tmp_path: Path, fuse: Run) -> None:
    code, said = fuse(folders / "vi" / "0.png", folders / "ir" / "0.png", "-o", tmp_path / "fused.png")
    assert code == 0
    assert "does not lie on visible" in said and "px off" in said and "--align auto" in said


def test_the_alignment_is_found_and_then_fits(folders: Path, tmp_path: Path, fuse: Run) -> None:
    inputs = (folders / "vi", folders / "ir")
    code, said = fuse(*inputs, "-o", tmp_path / "thermal", "--align", "auto", "--view", "thermal")
    assert code == 0 and "aligned by itself from 3 pairs" in said and "does not lie" not in said
    pairs = [
        (cv2.imread(str(folders / "vi" / f"{i}.png")), cv2.imread(str(tmp_path / "thermal" / f"{i}.png"), 0))
        for i in range(3)
    ]
    assert np.mean(pairs[0][1] == 0) > 0.2  # what thermal does not see of the wider picture
    verdict = judge_fit(plain_scaling((360, 640), (360, 640)), pairs)
    assert not verdict.far and verdict.off_px < 3


def test_two_ways_of_aligning_are_one_too_many(folders: Path, tmp_path: Path, fuse: Run) -> None:
    save_calibration(plain_scaling((360, 640), (192, 256)), tmp_path / "rig.yaml")
    pair = (folders / "vi" / "0.png", folders / "ir" / "0.png", "-o", tmp_path / "fused.png")
    assert fuse(*pair, "--align", "auto", "--calibration", tmp_path / "rig.yaml")[0] == 2
