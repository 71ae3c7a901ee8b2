"""The model card of a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from fusion_core.checkpoint import save_checkpoint
from fusion_core.errors import BadInputError
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.training.finetuning.model_card import read_metrics, write_model_card


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    config = {
        "preset": "tiny", "stage": "fuse", "batch_size": 8, "data": {"displacement": {"max_px": 8.0}},
        "optimizer": {"learning_rate": 1e-3}, "schedule": {"kind": "cosine"}, "run": {"seed": 4},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [
        {"step": 20 * i, "epoch": i / 10, "loss": 2.0 / i, "gradient": 1.0 / i, "learning_rate": 1e-3}
        for i in range(1, 41)
    ]
    lines.insert(
        30, {"step": 600, "best": True, "validation": {"uniform3/loss": 0.25, "uniform3/epe_px": 0.5, "loss": 0.25}}
    )
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 82')
    data = {
        "sha256": "abc",
        "training": {"a_1": "x", "a_2": "y", "b_1": "z"},
        "validation": {"c_1": "w"},
        "registered": ["a_1"],
    }
    (folder / "data.json").write_text(json.dumps(data))
    return folder


def test_card_tells_data_losses_figures_and_failures(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "vifb.csv"
    table.write_text(
        "method,pair,displacement,size_px,ce,mi,qabf,g_visible,g_thermal,g_ghost,ghost_share,fuse_ms\n"
        "tiny,p1,uniform,0.0,0.5,3.0,0.6,0.7,0.5,,,12.0\n"
        "tiny,p2,uniform,0.0,0.7,2.0,0.4,0.9,0.7,,,14.0\n"
        "tiny,p1,uniform,5.0,0.6,2.5,0.55,0.7,0.4,0.1,0.2,12.0\n"
        "tiny,p1,field,5.0,0.6,2.5,0.52,0.7,0.3,0.1,0.25,12.0\n"
    )
    torch.manual_seed(0)
    weights = tmp_path / "tiny.safetensors"
    save_checkpoint(weights, Rfvif(preset_config("tiny")), {"agc": {"mode": "plateau"}})
    card = tmp_path / "cards" / "tiny.md"
    write_model_card(
        card, run, name="tiny", evaluations=[table], weights=weights, known_failures="- glass\n\nstrong rain\n"
    )
    text = card.read_text()
    assert text.startswith("# tiny\n")
    assert "3 pairs trained on: a 2, b 1" in text and "1 pairs held out: c 1" in text
    assert "AGC contract: mode plateau." in text
    assert "| step | loss | gradient |" in text and "| 800 |" in text
    assert "| uniform3 | 0.250 | 0.500 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| tiny | 0 px"))
    assert "0.600" in row and "2.500" in row and "0.500" in row  # means of ce, mi, qabf
    shifted = next(line for line in text.splitlines() if line.startswith("| tiny | 5 px"))
    assert shifted.rstrip(" |").endswith("12.0") and "0.200" in shifted  # ghost share
    assert "| tiny | field 5 px |" in text
    assert "- glass\n- strong rain\n" in text


def test_validations_and_steps_are_told_apart(run: Path) -> None:
    steps, validations = read_metrics(run)
    assert len(steps) == 40 and len(validations) == 1  # the line cut off by a kill is left out


def test_bare_run_and_wrong_files(run: Path, tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "data.json"):
        (run / name).unlink()
    write_model_card(tmp_path / "card.md", run, name="bare")
    assert "None were written down" in (tmp_path / "card.md").read_text()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInputError, match="lumitherm evaluate --csv"):
        write_model_card(tmp_path / "card.md", run, name="x", evaluations=[tmp_path / "other.csv"])
    with pytest.raises(BadInputError, match="no folder of a training run"):
        write_model_card(tmp_path / "card.md", tmp_path / "nowhere", name="x")
