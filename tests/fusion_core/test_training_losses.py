"""The losses, on cases with a known answer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_core.errors import BadInputError, ConfigError
from fusion_core.training.config import LossConfig
from fusion_core.training.dataset import Batch
from fusion_core.training.losses import (
    FusionLoss,
    alignment_loss,
    displacement_loss,
    following_loss,
    gradient_loss,
    gradients,
    intensity_target,
    perception_loss,
    pixel_loss,
    pyramid_fusion,
    ssim,
)
from fusion_core.training.vgg import TAPS, Vgg16Features, load_vgg16

VGG16 = Path(__file__).resolve().parents[3] / "shared" / "data" / "vgg16_imagenet_features_fp16.safetensors"
_CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def _picture(seed: int, side: int = 32) -> Tensor:
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(seed))


def _vgg_state(depth: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    state, channels = {}, 3
    for index, out in list(zip(TAPS.values(), _CHANNELS, strict=True))[:depth]:
        state[f"features.{index}.weight"] = torch.randn(out, channels, 3, 3, generator=generator) * 0.1
        state[f"features.{index}.bias"] = torch.zeros(out)
        channels = out
    return state


class _Output(NamedTuple):
    fused: Tensor
    aligned_infrared: tuple[Tensor, ...] = ()
    displacement: tuple[Tensor, ...] = ()
    log_confidence: Tensor | None = None


def _batch(visible: Tensor, infrared: Tensor) -> Batch:
    size = visible.shape[-1]
    return Batch(
        visible, infrared, visible, infrared, torch.zeros(2, 2, size, size), torch.ones_like(visible), torch.ones(2)
    )


def test_pixel_loss_is_eq_16_as_means() -> None:
    visible, infrared = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    fused = torch.full((2, 1, 8, 8), 0.25)
    assert pixel_loss(fused, visible, infrared, 0.4).item() == pytest.approx(0.6 * 0.25 + 0.4 * 0.75)


def test_pixel_loss_leaves_out_what_is_unseen() -> None:
    visible, infrared, seen = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    infrared[..., 2:], seen[..., :2] = 100.0, 1.0
    assert pixel_loss(visible, visible, infrared, 1.0, seen).item() == pytest.approx(1.0)


def test_alignment_loss_is_eq_7_over_three_levels() -> None:
    infrared = _picture(0)
    exact = [F.avg_pool2d(infrared, 2**level) for level in (1, 2, 3)]
    assert alignment_loss(exact, infrared).item() == pytest.approx(0.0, abs=1e-6)
    assert alignment_loss([level + 0.5 for level in exact], infrared).item() == pytest.approx(1.5, rel=1e-5)
    wrong_first = [torch.cat((level[:1] + 9, level[1:])) for level in exact]
    assert alignment_loss(wrong_first, infrared, torch.tensor([0.0, 1.0])).item() == pytest.approx(0.0, abs=1e-6)
    assert alignment_loss([], infrared).item() == 0.0


def test_displacement_loss_measures_pixels_and_counts_coarse_fields_less() -> None:
    truth = torch.zeros(2, 2, 32, 32)
    truth[:, 0], truth[:, 1] = 3.0, 4.0
    zero, right = torch.zeros(2, 2, 4, 4), F.adaptive_avg_pool2d(truth, 4)
    five = math.hypot(5.0, 0.1) - 0.1
    assert displacement_loss([zero], None, truth).item() == pytest.approx(five, rel=1e-4)
    assert displacement_loss([zero, right], None, truth, scale_decay=0.7).item() == pytest.approx(0.7 * five, rel=1e-4)
    assert displacement_loss([zero], None, truth, torch.zeros(2)).item() == 0.0


def test_confidence_is_rewarded_where_right_and_punished_where_wrong() -> None:
    truth = torch.zeros(1, 2, 8, 8)
    right, wrong = torch.full((1, 2, 4, 4), 0.01), torch.full((1, 2, 4, 4), 6.0)
    sure, unsure = torch.full((1, 1, 4, 4), 3.0), torch.full((1, 1, 4, 4), -2.0)
    assert displacement_loss([right], sure, truth) < displacement_loss([right], unsure, truth)
    assert displacement_loss([wrong], unsure, truth) < displacement_loss([wrong], sure, truth)
    beyond = torch.full((1, 1, 4, 4), 1e4)
    assert math.isfinite(displacement_loss([wrong], beyond, truth).item())


def test_following_loss_is_about_what_varies_alone() -> None:
    truth = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(5)) * 3
    assert following_loss(truth + 7.0, truth).item() == pytest.approx(0.0, abs=1e-6), "an offset is no slope"
    assert following_loss(0.4 * truth, truth).item() == pytest.approx(0.36, rel=1e-4)
    half = torch.cat((truth[:1], 0 * truth[1:]))
    assert following_loss(half, truth, torch.tensor([1.0, 0.0])).item() == pytest.approx(0.0, abs=1e-6)
    still = torch.cat((truth[:1], torch.full_like(truth[1:], 5.0)))
    assert following_loss(0 * still, still).item() == pytest.approx(1.0, rel=1e-3), "a still crop counts nothing"
    assert following_loss(torch.zeros(2, 2, 4, 4), still[1:].expand(2, -1, -1, -1)).item() == 0.0


def test_gradients_of_a_ramp_are_its_slope() -> None:
    ramp = (torch.arange(16.0)[None, :] * 0.02 + torch.arange(16.0)[:, None] * 0.01).expand(1, 1, 16, 16)
    found = gradients(ramp)[..., 1:-1, 1:-1]
    torch.testing.assert_close(found[:, 0], torch.full_like(found[:, 0], 0.02))
    torch.testing.assert_close(found[:, 1], torch.full_like(found[:, 1], 0.01))


def test_gradient_loss_wants_the_stronger_edge_of_each_place() -> None:
    visible, infrared = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    visible[..., :, 4:] += 0.5
    infrared[..., :, 11:] += 0.3
    assert gradient_loss(visible + infrared, visible, infrared).item() == pytest.approx(0.0, abs=1e-6)
    assert gradient_loss(visible, visible, infrared).item() > 0.005
    assert gradient_loss(visible, visible, infrared, infrared_gain=0.0).item() == pytest.approx(0.0, abs=1e-6)
    assert gradient_loss(visible, visible, infrared, seen=torch.zeros(1, 1, 16, 16)).item() < 1e-6


def test_pyramid_fusion_of_a_picture_with_itself_is_the_picture() -> None:
    for side in (32, 45):
        picture = _picture(3, side)
        torch.testing.assert_close(pyramid_fusion(picture, picture), picture, atol=2e-6, rtol=0)


def test_intensity_targets() -> None:
    visible, infrared = _picture(1), _picture(2)
    assert torch.equal(intensity_target("mean", visible, infrared), (visible + infrared) / 2)
    assert torch.equal(intensity_target("max", visible, infrared), torch.maximum(visible, infrared))
    flat = torch.full_like(visible, 0.5)
    details = intensity_target("pyramid", visible, flat) - visible  # all details of visible, half of its base
    assert details.std() < 0.3 * visible.std()
    plain, drawn = (intensity_target("pyramid", flat, flat + 0.2 * (infrared - 0.5), boost) for boost in (1.0, 1.5))
    assert (drawn - drawn.mean()).std() > 1.3 * (plain - plain.mean()).std(), "infrared details are drawn stronger"


def test_ssim_is_one_for_equal_pictures_only() -> None:
    picture = _picture(4)
    assert ssim(picture, picture).item() == pytest.approx(1.0, abs=1e-5)
    assert ssim(picture, _picture(5)).item() < 0.3


def test_perception_loss_is_blind_to_the_scale_of_the_weights() -> None:
    state = _vgg_state()
    louder = {key: value * (50.0 if key == "features.0.weight" else 1.0) for key, value in state.items()}
    taps = {"relu1_2": 1.0, "relu2_2": 1.0}
    pictures = _picture(1), _picture(2), _picture(3)
    quiet_loss, loud_loss = (
        perception_loss(Vgg16Features(weights, list(taps)), taps, *pictures, 0.6).item() for weights in (state, louder)
    )
    assert quiet_loss == pytest.approx(loud_loss, rel=0.1)  # not to the digit: the picture's mean is subtracted before


def test_perception_loss_is_eq_17() -> None:
    vgg = Vgg16Features(_vgg_state(), ["relu2_2"])
    visible, infrared = _picture(2), _picture(3)
    at_visible = perception_loss(vgg, {"relu2_2": 2.0}, visible, visible, infrared, 0.6)
    at_infrared = perception_loss(vgg, {"relu2_2": 2.0}, infrared, visible, infrared, 0.6)
    assert at_visible.item() / at_infrared.item() == pytest.approx(0.6 / 0.4, rel=1e-2)


def test_vgg16_refuses_what_it_is_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="relu9_9"):
        Vgg16Features(_vgg_state(), ["relu9_9"])
    with pytest.raises(BadInputError, match=r"features\.10 is missing"):
        Vgg16Features(_vgg_state(), ["relu3_3"])
    path = tmp_path / "vgg.safetensors"
    with pytest.raises(BadInputError, match="cannot be read"):
        load_vgg16(path, ["relu1_2"])
    safetensors.torch.save_file({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(BadInputError, match=r"features\.0"):
        load_vgg16(path, ["relu1_2"])


@pytest.mark.skipif(not VGG16.exists(), reason="the VGG16 feature file is not beside this checkout")
def test_published_vgg16_gives_finite_features_of_unit_scale() -> None:
    vgg = load_vgg16(VGG16, ["relu1_2", "relu3_3"])
    smooth = F.interpolate(_picture(1, 12), size=64, mode="bicubic").clamp(0, 1)
    for value in vgg(smooth).values():
        assert bool(torch.isfinite(value).all())
        assert 0.2 < value.square().mean().sqrt().item() < 5.0


def test_total_is_eq_18() -> None:
    visible, infrared = _picture(1), _picture(2)
    fused = (visible + infrared) / 2
    aligned = tuple(F.avg_pool2d(infrared, 2**level) + 0.1 for level in (1, 2, 3))
    vgg = Vgg16Features(_vgg_state(), ["relu1_2"])
    config = LossConfig.model_validate({"perception": {"taps": {"relu1_2": 1.0}}})
    total, terms = FusionLoss(config, vgg)(_Output(fused, aligned), _batch(visible, infrared))
    assert set(terms) == {"align", "pixel", "perception"}
    assert total.item() == pytest.approx((terms["pixel"] + terms["perception"] + 0.3 * terms["align"]).item(), rel=1e-5)


def test_every_term_reaches_the_network() -> None:
    visible, infrared = _picture(1), _picture(2)
    fused = ((visible + infrared) / 2).requires_grad_()
    field = torch.zeros(2, 2, 4, 4).requires_grad_()
    config = LossConfig.model_validate(
        {
            "perception": {"weight": 0},
            "gradient": 1,
            "intensity": 1,
            "ssim": 1,
            "displacement": 1,
            "following": 1,
            "mask_unseen": True,
        }
    )
    ones = torch.ones(2, 2, 32, 32)
    ones[:, :, :16] = 3.0
    batch = _batch(visible, infrared)._replace(displacement=ones)
    total, terms = FusionLoss(config, None)(_Output(fused, (), (field,)), batch)
    total.backward()
    assert set(terms) == {"align", "pixel", "gradient", "intensity", "ssim", "displacement", "following"}
    assert fused.grad is not None and bool(fused.grad.abs().sum() > 0)
    assert field.grad is not None and bool((field.grad[:, :, 0] < 0).all())
    only, names = FusionLoss(config, None, alignment_only=True)(_Output(fused, (), (field,)), batch)
    assert set(names) == {"align", "displacement", "following"} and only < total


def test_the_share_of_thermals_level_by_day_is_a_setting() -> None:
    visible, infrared = torch.full((2, 1, 32, 32), 0.6), torch.full((2, 1, 32, 32), 0.35)
    fused = visible + 0.3 * (infrared - visible)
    found = {}
    for share in (0.12, 0.3):
        values = {"pixel": 0, "lambda_align": 0, "perception": {"weight": 0}, "level": 1, "level_share": share}
        criterion = FusionLoss(LossConfig.model_validate(values), None)
        found[share] = criterion(_Output(fused), _batch(visible, infrared))[1]["level"].item()
    assert found[0.3] == pytest.approx(0.0, abs=1e-6)
    assert found[0.12] == pytest.approx(0.18 * 0.25, abs=1e-3)


def test_perception_on_every_nth_step_weighs_the_same_on_average() -> None:
    config = LossConfig.model_validate(
        {"pixel": 0, "lambda_align": 0, "perception": {"taps": {"relu1_2": 1}, "every": 2}}
    )
    loss = FusionLoss(config, Vgg16Features(_vgg_state(), ["relu1_2"]))
    output, batch = _Output(_picture(1)), _batch(_picture(2), _picture(3))
    first, terms = loss(output, batch, 0)
    second, _ = loss(output, batch, 1)
    assert first.item() == pytest.approx(2 * terms["perception"].item()) and second.item() == 0.0
