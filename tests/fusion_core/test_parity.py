"""The parity check between an engine and the reference."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_core.checkpoint import load_checkpoint, save_checkpoint
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.errors import BadInputError, EngineError
from fusion_core.measures.evaluation import EvaluationPair
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.training.finetuning.parity import MAX_PAIRS, check_parity, psnr_db, require_parity


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "made.safetensors"
    save_checkpoint(path, Rfvif(preset_config("tiny")), {"preset": "tiny"})
    return path


def pairs(count: int) -> list[EvaluationPair]:
    rng = np.random.default_rng(2)

    def smooth(*channels: int) -> np.ndarray:
        small = rng.integers(0, 256, (6, 8, *channels), np.uint8)
        return np.asarray(cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC))

    return [EvaluationPair(f"p{i}", smooth(3), smooth()) for i in range(count)]


class Wrong(TorchEngine):
    """The reference with an error of one level in four on every pixel."""

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        fused = super().fuse(visible, thermal)
        return np.where(fused < 250, fused + 4, fused - 4).astype(np.uint8)


def test_psnr() -> None:
    flat = np.full((8, 8), 100, np.uint8)
    assert psnr_db(flat, flat) == 99.0
    assert psnr_db(flat, flat + np.uint8(1)) == pytest.approx(48.13, abs=0.01)
    with pytest.raises(BadInputError, match="alike"):
        psnr_db(flat, flat[:4])


def test_equal_engine_passes_and_few_pairs_are_taken(weights: Path) -> None:
    report = check_parity(weights, pairs(MAX_PAIRS + 8), make_engine=lambda path: TorchEngine(load_checkpoint(path)))
    assert report.passed and report.worst_db == 99.0 and len(report.psnr_db) == MAX_PAIRS
    assert report.facts()["pairs"] == MAX_PAIRS
    require_parity(report)


def test_engine_of_this_machine_agrees(weights: Path) -> None:
    report = check_parity(weights, pairs(2))
    assert report.passed, report
    assert report.engine != report.reference


def test_disagreeing_engine_is_refused(weights: Path) -> None:
    report = check_parity(weights, pairs(2), make_engine=lambda path: Wrong(load_checkpoint(path)))
    assert not report.passed and report.worst_db == pytest.approx(36.1, abs=0.3)
    with pytest.raises(EngineError, match=r"36\.1 dB on p"):
        require_parity(report)


def test_no_pairs(weights: Path) -> None:
    with pytest.raises(BadInputError, match="at least one"):
        check_parity(weights, [])
