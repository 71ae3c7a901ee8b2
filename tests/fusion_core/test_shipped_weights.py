"""Weights on disk: strict loading, clear errors; and that the shipped ones fuse without ghosts on a known truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fusion_core
from fusion_core.checkpoint import load_checkpoint, save_checkpoint
from fusion_core.colour import luminance
from fusion_core.engines.pyramid_engine import LaplacianPyramidEngine
from fusion_core.engines.running_displacement import SMOOTHING, RefiningEstimator, is_doubtful
from fusion_core.engines.torch_engine import torch_estimator
from fusion_core.errors import BadInputError, CheckpointError, UsageError
from fusion_core.measures.estimate import RIGS, rig_moments
from fusion_core.measures.ghost import gradient_shares
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc, contract_differences

SHIPPED = ("tiny", "small")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, Rfvif(preset_config("tiny")), {"steps": 3})
    return path


def test_weights_round_trip_in_half_precision(weights: Path) -> None:
    loaded = load_checkpoint(weights)
    assert loaded.facts == {"steps": 3}
    assert loaded.config == preset_config("tiny")
    assert not loaded.network.training
    torch.manual_seed(0)
    original = Rfvif(preset_config("tiny")).state_dict()
    for name, value in loaded.network.state_dict().items():
        torch.testing.assert_close(value, original[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "text", "foreign"])
def test_damaged_and_foreign_files_are_refused(weights: Path, damage: str) -> None:
    data = weights.read_bytes()
    if damage == "empty":
        weights.write_bytes(b"")
    elif damage == "cut":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "noise":
        weights.write_bytes(np.random.default_rng(0).bytes(5000))
    elif damage == "text":
        weights.write_text("not weights at all\n" * 10)
    else:
        save_file({"a": torch.zeros(2)}, weights)
    with pytest.raises(CheckpointError):
        load_checkpoint(weights)


def test_missing_tensors_versions_and_values_are_refused(weights: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        header = json.loads(file.metadata()["lumitherm"])
    state = load_file(weights)
    first = next(name for name in state if name.endswith(".weight"))
    other = tmp_path / "o.safetensors"

    def write(tensors: dict[str, torch.Tensor], **changes: object) -> None:
        save_file(tensors, other, {"lumitherm": json.dumps(header | changes)})

    write({name: value for name, value in state.items() if name != first})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(other)
    for version in (99, 0, True, "2", None):
        write(state, network_version=version)
        with pytest.raises(CheckpointError, match=f"network_version {version}"):
            load_checkpoint(other)
    write(state, network_version=1)  # of the time before the weaker band's share: the same tensors
    assert load_checkpoint(other).config == preset_config("tiny")
    write(state, config=header["config"] | {"alignment": "observed"})  # a form that an earlier version had
    with pytest.raises(CheckpointError, match="must be paper, uniform or field"):
        load_checkpoint(other)
    floating = next(name for name, value in state.items() if value.is_floating_point())
    write(state | {floating: torch.full_like(state[floating], float("nan"))})
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(other)


def test_an_untrained_preset_says_so() -> None:
    with pytest.raises(CheckpointError, match="untrained"):
        resolve_weights("base")
    with pytest.raises(CheckpointError, match="neither a preset"):
        fusion_core.load_fuser("nowhere/file.safetensors")


@pytest.mark.parametrize("preset", SHIPPED)
def test_shipped_weights_name_the_agc_they_were_trained_with(preset: str) -> None:
    checkpoint = load_checkpoint(resolve_weights(preset))
    assert contract_differences(Agc().contract(), checkpoint.facts["agc"]) == []
    assert checkpoint.path.with_suffix(".md").is_file()
    text = json.dumps(checkpoint.facts)
    assert "/home" not in text
    assert "/tmp" not in text


@pytest.mark.parametrize("preset", SHIPPED)
def test_shipped_weights_draw_heat_without_ghosts(preset: str) -> None:
    """The simulated rig 6 px out: the pyramid draws infrared edges in the wrong place, the network does not."""
    rig = SimulatedRig(SimulatedRigConfig(night=0.7, residual_shift_px=(6.0, -4.0)))
    fuse = fusion_core.load_fuser(preset, engine="torch")
    agc = Agc()
    visible, counts = rig.visible(1.5), rig.thermal(1.5)
    moved = agc.apply(counts)
    aligned = Agc().apply(rig.truth(1.5).thermal_aligned)
    y = luminance(visible)
    ours = gradient_shares(luminance(fuse(visible, counts)), y, aligned, moved)
    plain = gradient_shares(luminance(LaplacianPyramidEngine().fuse(visible, moved)), y, aligned, moved)
    assert plain.g_ghost > 0.3
    assert ours.g_ghost < 0.15
    assert ours.g_thermal > 0.25
    assert ours.g_visible > 0.5


def test_a_whole_search_of_a_sound_rig_is_not_taken_for_a_knock() -> None:
    """Were it less sure than the looks around its field, each would call for another."""
    estimate = torch_estimator(load_checkpoint(resolve_weights("tiny")).network)
    assert isinstance(estimate, RefiningEstimator)
    shown = next(iter(rig_moments(RIGS["street, standing"], 1)))
    field, sure = estimate(shown.visible, shown.thermal)
    for _ in range(3):
        step, sure_of_look = estimate.refine(shown.visible, shown.thermal, field)
        field = field + SMOOTHING * (step - field)
    lost = SMOOTHING * float(np.mean(sure_of_look - sure))
    assert abs(lost) < 0.12
    assert not is_doubtful(float(np.median(np.abs(step - field))), lost)


def test_the_fuser_resizes_and_refuses() -> None:
    fuse = fusion_core.load_fuser("tiny", engine="torch")
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 255, (70, 90, 3), np.uint8)
    assert fuse(visible, rng.integers(0, 255, (35, 45), np.uint8)).shape == visible.shape
    with pytest.raises(BadInputError, match="uint8 or uint16"):
        fuse(visible, rng.random((70, 90)))
    with pytest.raises(BadInputError, match="at least 32x32"):
        fuse(visible[:20], rng.integers(0, 255, (20, 90), np.uint8))


def test_the_fuser_takes_the_fastest_engine_and_says_which() -> None:
    rng = np.random.default_rng(0)
    visible, thermal = rng.integers(0, 255, (64, 96, 3), np.uint8), rng.integers(0, 255, (64, 96), np.uint8)
    with fusion_core.load_fuser("tiny", device="cpu", threads=1) as fuse:
        assert fuse.name.startswith("openvino")
        assert fuse.displacement_px is None
        fused = fuse(visible, thermal)
        assert fuse.displacement_px is not None
        assert fuse.displacement_px.shape == (2, 8, 12)
        reference = fusion_core.load_fuser("tiny", engine="torch")(visible, thermal)
        assert np.abs(fused.astype(int) - reference).mean() < 2.0
        fuse.strength = 0.0
        assert np.array_equal(fuse(visible, thermal), visible)
        fuse.strength = 0.5
        between = fuse(visible, thermal).astype(int)
        assert np.abs(between - (visible.astype(int) + fused) / 2).max() <= 1
        with pytest.raises(UsageError, match=r"from 0 to 1\.5"):
            fuse.strength = 2.0
    with pytest.raises(UsageError, match="device"):
        fusion_core.load_fuser("tiny", engine="torch", device="cpu")
