"""Crops with their truth, registration of the pairs, the doctor, the configuration, the command."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from app.__main__ import build_cli
from fusion_core.errors import BadInputError, ConfigError
from fusion_core.pair_folder import find_pairs
from fusion_core.thermal.palettes import colorize
from fusion_core.training.config import DataConfig, DisplacementConfig, RegistrationConfig, load_training_config
from fusion_core.training.data_check import FaultKind, check_data
from fusion_core.training.dataset import (
    Batch,
    CropSampler,
    TrainingPair,
    crop_stream,
    load_pair,
    load_pairs,
    split_pairs,
    to_8bit,
)
from fusion_core.training.random_displacement import draw_displacement, move_by, smooth_field
from fusion_core.training.registration import (
    PairRegistration,
    load_registrations,
    register_pair,
    save_registrations,
)
from fusion_core.training.validation import edge_shares, evaluation_batch

ROOT = Path(__file__).resolve().parents[2]


def _scene(seed: int, height: int = 160, width: int = 200) -> np.ndarray:
    """Boxes and discs of all sizes on a slow background: edges everywhere, (H, W) uint8."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), 120, np.uint8)
    for _ in range(60):
        x, y, size = int(rng.integers(0, width)), int(rng.integers(0, height)), int(rng.integers(4, 30))
        shade = int(rng.integers(20, 235))
        if rng.random() < 0.5:
            cv2.rectangle(picture, (x, y), (x + size, y + size // 2 + 3), shade, -1)
        else:
            cv2.circle(picture, (x, y), size // 2 + 2, shade, -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8))


def _thermal(visible: np.ndarray) -> np.ndarray:
    """The same edges in another tone: inverted and bent."""
    table = (255 * (1 - np.linspace(0, 1, 256) ** 0.6)).astype(np.uint8)
    return table[visible]


def _pair(seed: int = 0, **registration: object) -> TrainingPair:
    visible = _scene(seed)
    return TrainingPair(f"a_{seed}", visible, _thermal(visible), PairRegistration(**registration))  # type: ignore[arg-type]


def _warp_back(infrared: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """infrared at p + d(p)."""
    height, width = infrared.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid_x = (x + displacement[:, 0]) * 2 / (width - 1) - 1
    grid_y = (y + displacement[:, 1]) * 2 / (height - 1) - 1
    grid = torch.stack((grid_x, grid_y), -1)
    return F.grid_sample(infrared, grid, mode="bicubic", padding_mode="border", align_corners=True)


@pytest.mark.parametrize("flips", [(False, False), (True, True)])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.7, 1.3)])
def test_crop_displacement_is_the_truth(flips: tuple[bool, bool], scale: tuple[float, float]) -> None:
    config = DataConfig.model_validate({
        "root": ".", "crop_px": 64,
        "displacement": {"max_px": 6, "varying_probability": 0.7, "varying_peak_px": [2, 5], "zero_probability": 0.1},
        "augmentation": {"flip": flips[0], "flip_vertical": flips[1], "scale": scale},
    })  # fmt: skip
    batch = CropSampler([_pair(n) for n in range(3)], config, 1).batch(range(16))
    assert batch.visible.shape == (16, 1, 64, 64) and batch.displacement.shape == (16, 2, 64, 64)
    back = _warp_back(batch.infrared, batch.displacement)
    inner = batch.seen * F.pad(torch.ones(16, 1, 56, 56), (4, 4, 4, 4))
    before = ((batch.infrared - batch.infrared_target).abs() * inner).sum() / inner.sum()
    after = ((back - batch.infrared_target).abs() * inner).sum() / inner.sum()
    assert after < 0.15 * before
    assert batch.displacement.abs().amax() <= 11.01


def test_crop_of_an_unregistered_pair_is_taken_from_the_registered_place() -> None:
    visible = _scene(3)
    infrared = move_by(_thermal(visible), np.full((160, 200, 2), (2.5, -1.5), np.float32))
    config = DataConfig.model_validate({"root": ".", "crop_px": 64, "augmentation": {"flip": False}})
    pair = TrainingPair("a", visible, infrared, PairRegistration((2.5, -1.5)))
    batch = CropSampler([pair], config, 0).batch(range(4))
    expected = torch.from_numpy(
        _thermal(np.rint(batch.visible_target.numpy() * 255).astype(np.uint8)) / np.float32(255)
    )
    assert (batch.infrared_target - expected).abs()[..., 4:-4, 4:-4].mean() < 0.02


def test_crops_depend_on_seed_and_number_alone() -> None:
    config = DataConfig.model_validate({
        "root": ".", "crop_px": 32, "displacement": {"varying_probability": 0.5},
        "augmentation": {"visible_noise": 0.05, "infrared_gain": 0.4, "infrared_blur_px": 1.0, "visible_gamma": 0.3},
    })  # fmt: skip
    pairs = [_pair(n) for n in range(3)]
    whole = CropSampler(pairs, config, 5).batch(range(12, 20))
    streams = [
        crop_stream(CropSampler(pairs, config, 5), first_step=3, batch_size=4, rank=r, world_size=2, prefetch=r * 2)
        for r in (0, 1)
    ]
    shares = [[next(stream) for _ in range(2)] for stream in streams]
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    for rank in (0, 1):
        assert torch.equal(torch.cat([batch.infrared for batch in shares[rank]]), whole.infrared[rank::2])
    assert not torch.equal(CropSampler(pairs, config, 6).batch(range(12, 20)).infrared, whole.infrared)


def test_an_epoch_shows_every_pair_once() -> None:
    sampler = CropSampler([_pair(n) for n in range(5)], DataConfig(root=Path(), crop_px=32), 0)
    for epoch in range(3):
        assert sorted(sampler.pair_of(n) for n in range(epoch * 5, epoch * 5 + 5)) == [0, 1, 2, 3, 4]


def test_small_pictures_are_enlarged_rather_than_invented() -> None:
    small = TrainingPair("a", _scene(1, 60, 70), _thermal(_scene(1, 60, 70)))
    batch = CropSampler([small], DataConfig(root=Path(), crop_px=96), 0).batch(range(4))
    assert batch.visible.shape == (4, 1, 96, 96)
    assert bool(torch.isfinite(batch.infrared).all())


def test_photometric_changes_stay_in_range_and_noise_stays_out_of_targets() -> None:
    config = DataConfig.model_validate({
        "root": ".", "crop_px": 32, "displacement": {"zero_probability": 1.0},
        "augmentation": {
            "infrared_noise": 0.2, "infrared_gain": 0.9, "infrared_offset": 0.4, "infrared_gamma": 0.5,
            "infrared_invert_probability": 0.5, "infrared_stretch_probability": 0.5, "visible_offset": 0.4,
        },
    })  # fmt: skip
    batch = CropSampler([_pair()], config, 0).batch(range(8))
    for picture in batch[:4]:
        assert float(picture.min()) >= 0.0 and float(picture.max()) <= 1.0
    assert torch.equal(batch.visible, batch.visible_target)
    assert (batch.infrared - batch.infrared_target).std() > 0.01


class _Broken(CropSampler):
    def batch(self, numbers: Sequence[int]) -> Batch:
        if 6 in numbers:
            raise BadInputError("crop 6 is broken")
        return super().batch(numbers)


def test_a_broken_crop_reaches_the_training_thread() -> None:
    sampler = _Broken([_pair()], DataConfig(root=Path(), crop_px=32), 0)
    stream = crop_stream(sampler, first_step=2, batch_size=2, prefetch=2)
    next(stream)
    with pytest.raises(BadInputError, match="crop 6"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert not any(thread.name == "training-crops" for thread in threading.enumerate())


def test_smooth_field_never_folds_and_displacements_keep_their_limits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        field = smooth_field(rng, 128, 160, peak_px=8.0, spacing_px=10.0)
        assert np.abs(field).max() == pytest.approx(8.0, rel=1e-5)
        assert max(np.abs(np.diff(field, axis=0)).max(), np.abs(np.diff(field, axis=1)).max()) < 1.0
    whole = draw_displacement(rng, 16, 16, DisplacementConfig(subpixel=False, zero_probability=0.0))
    assert np.array_equal(whole, np.rint(whole)) and np.abs(whole).max() <= 8
    assert not draw_displacement(rng, 16, 16, DisplacementConfig(zero_probability=1.0)).any()


def test_16_bit_counts_are_stretched_to_8_bit() -> None:
    counts = (7000 + 10 * np.arange(100 * 100).reshape(100, 100) // 100).astype(np.uint16)
    grey = to_8bit(counts)
    assert grey.dtype == np.uint8 and grey.min() == 0 and grey.max() == 255
    assert to_8bit(np.full((4, 4), 9000, np.uint16)).max() == 0


def test_registration_finds_a_known_shift_to_a_fraction_of_a_pixel() -> None:
    visible = _scene(4, 240, 320)
    moved = move_by(_thermal(visible), np.full((240, 320, 2), (2.4, -3.3), np.float32))
    found = register_pair(visible, moved, RegistrationConfig(field=False))
    assert found.reliable
    assert found.shift_px == pytest.approx((2.4, -3.3), abs=0.2)
    assert found.residual_px < 0.3


def test_registration_field_follows_a_varying_displacement() -> None:
    visible = _scene(5, 240, 320)
    field = smooth_field(np.random.default_rng(2), 240, 320, peak_px=2.5, spacing_px=200.0)
    moved = move_by(_thermal(visible), field)
    errors = []
    for local in (False, True):
        found = register_pair(visible, moved, RegistrationConfig(field=local))
        x, y = np.meshgrid(np.arange(320, dtype=np.float32), np.arange(240, dtype=np.float32))
        source_x, source_y = found.source_of(x, y)
        errors.append(float(np.hypot(source_x - x - field[..., 0], source_y - y - field[..., 1]).mean()))
    assert errors[1] < 0.75 * errors[0]


def test_pairs_without_common_structure_are_not_trusted() -> None:
    found = register_pair(_scene(6, 240, 320), _scene(7, 240, 320), RegistrationConfig())
    assert not found.reliable and found.shift_px == (0.0, 0.0)
    flat = np.full((240, 320), 90, np.uint8)
    assert not register_pair(flat, flat, RegistrationConfig()).reliable
    assert not register_pair(flat[:18, :18], flat[:18, :18], RegistrationConfig()).reliable


def test_registrations_come_back_from_disk_for_the_same_data_only(tmp_path: Path) -> None:
    file = tmp_path / "registration.json"
    written = {"a": PairRegistration((1.25, -2.0), np.full((5, 7, 2), 0.5, np.float32), True, 0.3, 0.1, 0.05)}
    save_registrations(file, written, "print")
    found = load_registrations(file, "print")
    assert found is not None and found["a"].shift_px == (1.25, -2.0) and found["a"].reach_px == 2.5
    assert load_registrations(file, "other") is None
    assert load_registrations(tmp_path / "none.json", "print") is None
    file.write_text("{")
    with pytest.raises(BadInputError, match="damaged"):
        load_registrations(file, "print")


def test_edge_shares_recover_a_known_mixture() -> None:
    batch = evaluation_batch(_pair(8), 0, 640, uniform_px=5.0, varying_px=0.0)
    other = evaluation_batch(_pair(9), 0, 640, uniform_px=0.0, varying_px=0.0)
    visible = other.visible
    fused = 0.6 * visible + 0.3 * batch.infrared_target + 0.1 * batch.infrared
    shares = edge_shares(fused, visible, batch.infrared_target, batch.infrared)
    assert shares == pytest.approx((0.6, 0.3, 0.1), abs=1e-4)
    assert edge_shares(visible, visible, batch.infrared_target, None) == pytest.approx((1, 0, 0), abs=1e-5)


def test_split_holds_out_the_end_of_every_source() -> None:
    flat = np.zeros((1, 1), np.uint8)
    pairs = [TrainingPair(f"{source}_{n:02d}", flat, flat) for source in ("a", "b") for n in range(10)]
    training, validation = split_pairs(pairs, 0.2)
    assert [pair.stem for pair in validation] == ["a_08", "a_09", "b_08", "b_09"]
    assert len(training) == 16
    assert split_pairs(pairs[:1], 0.9) == ([pairs[0]], [])


def _write(root: Path, stem: str, visible: np.ndarray, thermal: np.ndarray) -> None:
    for folder, picture in (("vi", visible), ("ir", thermal)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / folder / f"{stem}.png"), picture)


def _folder(root: Path, count: int = 4) -> Path:
    for number in range(count):
        visible = _scene(20 + number)
        _write(root, f"a_{number:02d}", visible, _thermal(visible).astype(np.uint16) * 100)
    return root


def test_doctor_finds_each_fault(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    visible = _scene(40, 200, 260)
    _write(root, "a_10", visible, move_by(_thermal(visible), np.full((200, 260, 2), 7.0, np.float32)))
    _write(root, "b_size", visible, _thermal(visible)[:100])
    _write(root, "b_flat", visible, np.full_like(visible, 9))
    _write(root, "b_broken", visible, _thermal(visible))
    (root / "ir" / "b_broken.png").write_bytes(b"no picture")
    (root / "vi" / "b_alone.png").write_bytes((root / "vi" / "a_00.png").read_bytes())
    _write(root, "a_99", _scene(20), _thermal(_scene(20)))
    found = check_data(root, validation_fraction=0.2)
    assert {(finding.kind, finding.stem) for finding in found.findings} == {
        (FaultKind.MISALIGNED, "a_10"),
        (FaultKind.SIZE, "b_size"),
        (FaultKind.CONSTANT, "b_flat"),
        (FaultKind.UNREADABLE, "b_broken"),
        (FaultKind.UNMATCHED, "b_alone"),
        (FaultKind.LEAK, "a_99"),
    }


def test_the_check_says_what_the_sets_builder_warned_of(tmp_path: Path) -> None:
    root = _folder(tmp_path, 2)
    assert check_data(root).notes == ()
    (root / "dataset.json").write_text('{"warnings": ["These targets are coarse."]}')
    assert check_data(root).notes == ("said when the set was built: These targets are coarse.",)
    for other in ("[]", "no JSON", '{"warnings": 3}', "{}"):
        (root / "dataset.json").write_text(other)
        assert check_data(root).notes == ()


def test_pictures_without_values_or_in_a_palette_are_read_as_everywhere_and_told(tmp_path: Path) -> None:
    """NaN and no-data are filled, too much of it is refused by name, a known palette is undone, another refused."""
    root = _folder(tmp_path, 2)
    celsius = _thermal(_scene(20)).astype(np.float32) / 10
    holed, empty = celsius.copy(), np.full_like(celsius, np.nan)
    holed[40:44, 50:90] = np.nan
    holed[3, 3] = -9999
    for stem, values in (("a_00", holed), ("a_01", empty)):
        (root / "ir" / f"{stem}.png").unlink()
        tifffile.imwrite(root / "ir" / f"{stem}.tif", values)
    levels = _thermal(_scene(22))
    _write(root, "a_02", _scene(22), colorize(levels, "iron")[..., ::-1])
    _write(root, "a_03", _scene(23), _scene(23)[..., None] * np.uint8([1, 0, 1]))
    found = check_data(root, validation_fraction=0.2)
    unreadable = {finding.stem: finding.detail for finding in found.findings if finding.kind is FaultKind.UNREADABLE}
    assert unreadable.keys() == {"a_01", "a_03"} and "NaN" in unreadable["a_01"] and "palette" in unreadable["a_03"]
    assert any("161 of" in note for note in found.notes) and any("palette iron" in note for note in found.notes)
    pairs = {files.stem: files for files in find_pairs(root)}
    plain = to_8bit(np.rint((celsius + 100) * 100).astype(np.uint16)).astype(int)
    seen = load_pair(pairs["a_00"]).infrared.astype(int)
    away = np.ones(plain.shape, bool)
    away[40:44, 50:90] = away[3, 3] = False
    assert np.abs(seen - plain)[away].max() <= 2
    undone = load_pair(pairs["a_02"]).infrared
    assert np.corrcoef(undone.ravel(), levels.ravel())[0, 1] > 0.98
    for stem in ("a_01", "a_03"):
        with pytest.raises(BadInputError, match=stem):
            load_pair(pairs[stem])


def test_doctor_command_exit_codes(tmp_path: Path) -> None:
    good = _folder(tmp_path / "good")
    result = CliRunner().invoke(build_cli(), ["train", "doctor", str(good)])
    assert result.exit_code == 0, result.output
    assert "no problems" in result.output
    _write(good, "a_50", _scene(1), np.full_like(_scene(1), 5))
    page = tmp_path / "pages" / "doctor.html"
    result = CliRunner().invoke(build_cli(), ["train", "doctor", str(good), "--html", str(page)])
    assert result.exit_code == 1
    assert "constant" in result.output
    text = page.read_text()
    assert "1 problems" in text and "a_50" in text and "<svg" in text and "http" not in text


def test_train_command_trains_the_network_and_resumes(tmp_path: Path) -> None:
    root = _folder(tmp_path / "pairs", 6)
    runs = tmp_path / "runs"
    settings = [
        f"data.root={root}", "data.crop_px=32", "data.validation_fraction=0.2", "batch_size=2", "schedule.max_steps=2",
        "loss.perception.weight=0", "loss.displacement=0.1", f"run.folder={runs}", "run.name=r", "run.device=cpu",
        "run.tensorboard=false", "validation.pairs=1", "validation.uniform_px=[3]", "validation.varying_px=[]",
    ]  # fmt: skip
    command = ["train", "--config", str(ROOT / "configs" / "train.yaml")]
    for setting in settings:
        command += ["--set", setting]
    result = CliRunner().invoke(build_cli(), command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "pairs registered" in result.output.replace("\n", " ")
    run = runs / "r"
    from fusion_core.checkpoint import load_checkpoint

    loaded = load_checkpoint(run / "weights.safetensors")
    assert loaded.facts["steps"] == 2 and loaded.facts["preset"] == "tiny"
    manifest = json.loads((run / "data.json").read_text())
    picture = hashlib.sha256((root / "vi" / "a_00.png").read_bytes() + (root / "ir" / "a_00.png").read_bytes())
    assert manifest["training"]["a_00"] == picture.hexdigest()
    assert (run / "samples" / "step-00000001.png").exists()

    more = ["train", "--resume", str(run), "--set", "schedule.max_steps=3"]
    result = CliRunner().invoke(build_cli(), more, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(run / "weights.safetensors").facts["steps"] == 3
    with pytest.raises(ConfigError, match="holds a run already"):
        CliRunner().invoke(build_cli(), command, catch_exceptions=False)


def test_registration_figure_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _folder(tmp_path / "pairs")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        build_cli(), ["train", "registration", str(root), "-o", "out/figure.png", "--rows", "2"]
    )
    assert result.exit_code == 0, result.output
    figure = cv2.imread(str(tmp_path / "out" / "figure.png"))
    assert figure is not None and figure.shape == (720, 960, 3)


def test_paper_configuration_is_the_papers() -> None:
    config = load_training_config(ROOT / "configs" / "train.yaml")
    loss, schedule = config.loss, config.schedule
    assert (loss.alpha, loss.beta, loss.lambda_align) == (0.5, 0.6, 0.3)
    assert (loss.gradient, loss.intensity, loss.ssim, loss.displacement) == (0, 0, 0, 0)
    assert (schedule.epochs, schedule.decay_every_epochs, schedule.decay_factor) == (120, 40, 0.1)
    assert (config.batch_size, config.optimizer.learning_rate, config.data.crop_px) == (8, 1e-3, 128)


def test_configuration_faults_name_file_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("preset: tiny\ndata:\n  root: x\n  crop_pixels: 128\nloss:\n  alpha: 1.5\n")
    with pytest.raises(ConfigError) as caught:
        load_training_config(file)
    assert f"{file}:4: data.crop_pixels: unknown key; did you mean crop_px?" in str(caught.value)
    assert f"{file}:6: loss.alpha: is 1.5, must be at most 1" in str(caught.value)
    file.write_text("data: {root: x}\n")
    with pytest.raises(ConfigError, match="--set: batch_size: is 0, must be at least 1"):
        load_training_config(file, ["batch_size=0"])
    for bad in ("nonsense", "data.root.x=1"):
        with pytest.raises(ConfigError, match="--set"):
            load_training_config(file, [bad])
    assert load_training_config(file, ["schedule.max_steps=7", "loss.perception.weight=0.5"]).schedule.max_steps == 7
    with pytest.raises(ConfigError, match="cannot be read"):
        load_training_config(tmp_path / "none.yaml")


def test_pairs_of_different_size_are_refused_by_name(tmp_path: Path) -> None:
    _write(tmp_path, "odd", _scene(1), _thermal(_scene(1))[:90])
    with pytest.raises(BadInputError, match="pair odd: visible is 200x160, thermal 200x90"):
        load_pairs(tmp_path)
    _write(tmp_path, "odd", _scene(1)[:20], _scene(1)[:20])
    with pytest.raises(BadInputError, match="at least 32x32"):
        load_pairs(tmp_path)
    with pytest.raises(BadInputError, match=r"data\.include"):
        load_pairs(tmp_path, ["none"])


def test_pairs_of_two_sizes_are_told_once_and_with_what_to_do(tmp_path: Path) -> None:
    for folder, size in (("vi", (48, 64, 3)), ("ir", (40, 50))):
        (tmp_path / folder).mkdir()
        for number in range(5):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), np.full(size, 40 * number, np.uint8))
    page = tmp_path / "page.html"
    result = CliRunner().invoke(build_cli(), ["train", "doctor", str(tmp_path), "--html", str(page)])
    assert result.exit_code == 1 and "5 problems" in result.output
    assert result.output.count("size mismatch") == 1 and "0 and 4 more" in result.output
    for text in (result.output, page.read_text(encoding="utf-8")):
        assert text.count("lumitherm dataset build RECORDING") == 1 and "thermal on visible" in text
