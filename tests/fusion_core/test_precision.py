"""FP16 against float32 on real pairs, a GPU's arithmetic emulated on the CPU; and values at the ends of the range."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support import network_weights as weights
from torch import Tensor

from fusion_core.checkpoint import load_checkpoint
from fusion_core.errors import CheckpointError
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import PRESETS, Rfvif, preset_config
from fusion_core.rfvif.inference import for_inference

PAIRS = Path(__file__).resolve().parents[3] / "shared" / "data" / "pairs" / "train"
HALF_PSNR_DB = 45.0  # the worst of 32 real pairs
CROP = (128, 160)


def psnr_db(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a.float() - b.float()).square().mean().clamp(min=1e-12)))


def real_pairs(count: int) -> list[tuple[Tensor, Tensor]]:
    """The central crop of as many pairs, luminance and thermal, (1, 1, h, w) in [0, 1]."""
    visible_files = sorted((PAIRS / "vi").glob("*"))
    step = max(1, len(visible_files) // count)
    out = []
    for path in visible_files[::step][:count]:
        other = next((PAIRS / "ir").glob(f"{path.stem}.*"), None)
        if other is None:
            continue
        planes = []
        for file in (path, other):
            picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            assert picture is not None, file
            top, left = (picture.shape[0] - CROP[0]) // 2, (picture.shape[1] - CROP[1]) // 2
            crop = picture[top : top + CROP[0], left : left + CROP[1]]
            planes.append(torch.from_numpy(crop.astype(np.float32) / 255.0)[None, None])
        out.append((planes[0], planes[1]))
    return out


def in_half_and_full(network: Rfvif, visible: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
    full = for_inference(network)
    half = for_inference(network).half()
    with torch.inference_mode():
        return half(visible, thermal), full(visible, thermal)


@pytest.mark.parametrize(
    ("preset", "pair_count"), [("tiny", 4), *(pytest.param(preset, 32, marks=pytest.mark.slow) for preset in PRESETS)]
)
def test_half_precision_agrees_on_real_pairs(preset: str, pair_count: int) -> None:
    if not PAIRS.is_dir():
        pytest.skip(f"the training pairs are not there ({PAIRS.name} beside the repository)")
    try:
        checkpoint = load_checkpoint(resolve_weights(preset))
    except CheckpointError:
        pytest.skip(f"no weights ship with {preset}")
    pairs = real_pairs(pair_count)
    assert len(pairs) == pair_count
    full, half = for_inference(checkpoint.network), for_inference(checkpoint.network).half()
    values = []
    for visible, thermal in pairs:
        with torch.inference_mode():
            assert torch.isfinite(half(visible, thermal)).all()  # min() does not see a nan
            values.append(psnr_db(half(visible, thermal), full(visible, thermal)))
    print(f"{preset}: FP16 against FP32, dB: min {min(values):.1f} median {np.median(values):.1f}")
    assert min(values) >= HALF_PSNR_DB


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_half_precision_agrees_with_random_weights(preset: str) -> None:
    """Weights that no training has made tame."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 2, 12, 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(96, 128), mode="bicubic").clamp(0, 1)
    half, full = in_half_and_full(weights.disturbed(preset_config(preset)), smooth[:, :1], smooth[:, 1:])
    assert torch.isfinite(half).all()
    assert psnr_db(half, full) > 40


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_pictures_stay_finite_in_half_precision(level: float) -> None:
    """No gradient anywhere: every norm and every spread is zero, which FP16 cannot divide by."""
    flat = torch.full((1, 1, 64, 80), level)
    half, full = in_half_and_full(weights.disturbed(preset_config("tiny")), flat, 1.0 - flat)
    assert torch.isfinite(half).all()
    assert psnr_db(half, full) > 40


def test_features_beyond_the_square_root_of_half_do_not_overflow() -> None:
    """Squared norms and pooled sums run in float32: features of 500 have squares that FP16 cannot hold."""
    network = weights.disturbed(preset_config("tiny"))
    with torch.no_grad():
        for mixing in network.mixing.mix:
            mixing.weight *= 100.0
            mixing.bias += 500.0
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(1, 1, 64, 80, generator=generator)
    half, _ = in_half_and_full(network, picture, picture.flip(-1))
    assert torch.isfinite(half).all()


def test_large_dynamic_kernels_do_not_overflow() -> None:
    """As those of a picture in hard light are: what they make of its features leaves FP16's range."""
    network = weights.disturbed(preset_config("tiny"))
    assert network.fdams is not None
    with torch.no_grad():
        for block in network.fdams[2].blocks:
            for layer in block.generator.kernels:
                layer.weight *= 3e4
            block.fuse.weight *= 1e-4
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(1, 1, 64, 80, generator=generator)
    half, full = in_half_and_full(network, picture, picture.flip(-1))
    assert torch.isfinite(half).all()
    assert psnr_db(half, full) > 40


def test_the_network_for_inference_is_the_same_function() -> None:
    """Merged convolutions and folded normalisation change nothing but rounding."""
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(1, 1, 61, 83, generator=generator)
    for preset in ("tiny", "small"):
        network = weights.disturbed(preset_config(preset))
        before = {key: value.clone() for key, value in network.state_dict().items()}
        rewritten = for_inference(network)
        with torch.no_grad():
            wanted = network(picture, picture.flip(-1))
            torch.testing.assert_close(rewritten(picture, picture.flip(-1)), wanted, atol=2e-5, rtol=1e-4)
        assert (wanted - picture).abs().mean() > 0.01
        assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
        assert sum(1 for _ in rewritten.modules()) < sum(1 for _ in network.modules())


def test_scores_are_alike_in_training_and_in_evaluation() -> None:
    """Matrix products in training, convolutions in evaluation."""
    network = weights.disturbed(preset_config("tiny"))
    assert network.alignment is not None
    generator = torch.Generator().manual_seed(3)
    picture = torch.rand(1, 1, 64, 80, generator=generator)
    with torch.no_grad():
        evaluated = network.alignment.eval()(picture, picture.roll(2, -1)).displacements[-1]
        trained = network.alignment.train()(picture, picture.roll(2, -1)).displacements[-1]
    torch.testing.assert_close(trained, evaluated, atol=1e-4, rtol=1e-4)
