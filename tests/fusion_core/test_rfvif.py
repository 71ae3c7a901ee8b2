"""The network: cost of the presets, every ablation of Table 3, sizes and dtypes, export, and what alignment must do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import network_weights as weights
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fusion_core.benchmark.export import export_network
from fusion_core.errors import CheckpointError, UsageError
from fusion_core.rfvif import PRESETS, Rfvif, RfvifConfig, gradient_features, preset_config, warp
from fusion_core.rfvif.fdam import DynamicKernelGenerator, FeatureDynamicAlignment
from fusion_core.rfvif.features import LearnedFeatures
from fusion_core.rfvif.mgfrm import LocalFeatureRefinement

FULL = RfvifConfig(channels=8)
ABLATIONS: dict[str, dict[str, object]] = {
    "w/o CM": {"cross_modulation": False},
    "w/o FDAM": {"fdam": False},
    "w/o DKG": {"dynamic_kernels": False},
    "1 FAB": {"fab_count": 1},
    "3 FABs": {"fab_count": 3},
    "w/o CMF": {"complementary_mask": False},
    "w/o PFFM": {"pyramid_fusion": False},
    "w/o LFR": {"refine_visible": False, "refine_infrared": False},
    "w/o upper branch": {"refine_visible": False},
    "w/o lower branch": {"refine_infrared": False},
}


def pictures(height: int = 64, width: int = 64, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 2, height // 8, width // 8, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return smooth[:, :1].contiguous(), smooth[:, 1:].contiguous()


def build(config: RfvifConfig) -> Rfvif:
    torch.manual_seed(0)
    return Rfvif(config)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("preset", "limit"), [("small", 1.6), ("tiny", 1.05)])
def test_presets_keep_their_promised_cost(preset: str, limit: float) -> None:
    network = build(preset_config(preset)).eval()
    picture = torch.rand(1, 1, 480, 640)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(picture, picture)
    giga_multiply_accumulates = counter.get_total_flops() / 2e9
    assert 0.3 < giga_multiply_accumulates <= limit


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_removes_its_part_and_still_trains(name: str) -> None:
    config = FULL.replace(**ABLATIONS[name])
    full, network = build(FULL), build(config)
    assert count(network) != count(full)
    visible, infrared = pictures()
    with torch.no_grad():
        assert not torch.allclose(full.eval()(visible, infrared), network.eval()(visible, infrared))
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    out = network.forward_training(visible, infrared)
    assert len(out.aligned_infrared) == (3 if config.fdam else 0)
    loss = (out.fused - visible).abs().mean() + sum(picture.abs().mean() for picture in out.aligned_infrared)
    before = {key: value.clone() for key, value in network.named_parameters()}
    loss.backward()
    optimizer.step()
    moved = [key for key, value in network.named_parameters() if not torch.equal(before[key], value)]
    assert len(moved) > 0.9 * len(before)


def test_ablated_parts_have_no_parameters_left() -> None:
    def names(**changes: object) -> str:
        return " ".join(key for key, _ in build(FULL.replace(**changes)).named_parameters())

    assert "parameters_visible" not in names(cross_modulation=False)
    assert "fdams" not in names(fdam=False)
    assert "generator" not in names(dynamic_kernels=False)
    assert "masks.0.mask" not in names(complementary_mask=False)
    assert "mask12" not in names(pyramid_fusion=False)
    assert "visible_features" not in names(refine_visible=False)
    assert "infrared_features" not in names(refine_infrared=False)


@pytest.mark.parametrize("alignment", ["paper", "uniform", "field"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (75, 96)])
def test_any_size_from_32_and_every_alignment(alignment: str, size: tuple[int, int]) -> None:
    network = build(FULL.replace(alignment=alignment, light=True)).eval()
    visible, infrared = torch.rand(2, 1, *size), torch.rand(2, 1, *size)
    with torch.no_grad():
        fused = network(visible, infrared)
    assert fused.shape == visible.shape
    assert torch.isfinite(fused).all()
    assert fused.min() >= 0
    assert fused.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_dtypes_stay_near_float32(preset: str, dtype: torch.dtype) -> None:
    network = build(preset_config(preset)).eval()
    for block in (network.reconstruction.convs[-1],):
        torch.nn.init.normal_(block.weight, std=0.02)
    visible, infrared = pictures(96, 96, 1)
    with torch.no_grad():
        reference = network(visible, infrared)
        out = network.to(dtype)(visible.to(dtype), infrared.to(dtype))
    assert out.dtype == dtype
    error = (out.float() - reference).square().mean()
    assert error < {torch.float32: 1e-10, torch.bfloat16: 4e-4, torch.float16: 1e-5}[dtype]


def test_batch_members_do_not_see_each_other() -> None:
    network = build(preset_config("tiny")).eval()
    visible, infrared = pictures(64, 64, 2)
    with torch.no_grad():
        both = network(visible, infrared)
        single = network(visible[1:], infrared[1:])
    torch.testing.assert_close(both[1:], single, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("preset", weights.TINY_OR_SLOW)
def test_export_static_at_an_odd_size(preset: str) -> None:
    network = build(preset_config(preset))
    program = export_network(network, 45, 70).module()
    visible, infrared = torch.rand(1, 1, 45, 70), torch.rand(1, 1, 45, 70)
    with torch.no_grad():
        torch.testing.assert_close(program(visible, infrared), network(visible, infrared), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny", "base"])  # `small` has the operators of `tiny`
def test_export_with_dynamic_height_and_width(preset: str) -> None:
    network = build(preset_config(preset))
    program = export_network(network, 128, 192, dynamic=True).module()
    for height, width in ((128, 192), (192, 128)):
        visible, infrared = torch.rand(1, 1, height, width), torch.rand(1, 1, height, width)
        with torch.no_grad():
            torch.testing.assert_close(program(visible, infrared), network(visible, infrared), atol=1e-5, rtol=1e-4)


def test_dynamic_export_refuses_sizes_it_would_get_wrong() -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        export_network(build(preset_config("tiny")), 100, 128, dynamic=True)


def test_warp_samples_at_the_displaced_position() -> None:
    picture = torch.arange(40.0).view(1, 1, 1, 40).expand(1, 1, 32, 40).contiguous()
    shift = torch.tensor([2.5, 1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    moved = warp(picture, shift)
    torch.testing.assert_close(moved[0, 0, 8, 5:30], picture[0, 0, 8, 5:30] + 2.5)


def test_warp_repeats_the_border_from_inside_the_dark_lines_at_the_edge() -> None:
    picture = torch.full((1, 1, 32, 40), 0.5)
    picture[..., 0], picture[..., -1], picture[..., 0, :] = 0.0, 0.0, 0.0
    for dx in (-6.0, 6.0):
        shift = torch.tensor([dx, -6.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
        assert warp(picture, shift, cubic=True).min() < 0.01
        torch.testing.assert_close(warp(picture, shift, cubic=True, inset_px=2.0), torch.full((1, 1, 32, 40), 0.5))


def test_learned_features_of_a_picture_depend_on_that_picture_alone() -> None:
    torch.manual_seed(3)
    features = LearnedFeatures().eval()
    for parameter in features.parameters():  # weights that are not trained leave planes out
        torch.nn.init.normal_(parameter, std=0.2)
    visible, infrared, other = torch.rand(3, 2, 1, 48, 64)
    with torch.inference_mode():
        found, beside = features(visible, infrared), features(visible, other)
        alone = features(visible[1:], infrared[1:])
    for factor, channels in ((2, 3), (4, 9), (8, 11)):
        assert found[factor][0].shape == found[factor][1].shape == (2, channels, 48 // factor, 64 // factor)
        torch.testing.assert_close(beside[factor][0], found[factor][0])
        assert not torch.allclose(beside[factor][1], found[factor][1], atol=0.05)
        for mine, of_both in zip(alone[factor], found[factor], strict=True):
            torch.testing.assert_close(mine, of_both[1:], atol=1e-5, rtol=1e-4)


def test_gradient_features_ignore_contrast_sign_and_gain() -> None:
    visible, _ = pictures(64, 64, 1)
    features = gradient_features(visible, 8)
    torch.testing.assert_close(gradient_features(1.0 - visible, 8), features, atol=1e-4, rtol=1e-3)
    weaker = gradient_features(visible * 0.5, 8)
    assert (weaker - features).abs().mean() < 0.1 * features.abs().mean()


def test_dynamic_kernels_start_as_the_identity_and_differ_by_input() -> None:
    torch.manual_seed(0)
    generator = DynamicKernelGenerator(8)
    first = generator(torch.rand(2, 8, 16, 16), torch.rand(2, 8, 16, 16))
    assert [tuple(kernel.shape) for kernel in first] == [(2, 8, 3, 3), (2, 8, 5, 5), (2, 8, 7, 7)]
    for kernel in first:
        side = kernel.shape[-1]
        centre = kernel[:, :, side // 2, side // 2]
        assert (centre > 0.5).all()
        assert not torch.equal(kernel[0], kernel[1])


def test_fdam_learns_to_move_a_known_shift_back() -> None:
    """Infrared identical in content to the visible features and shifted by 2: the dynamic kernels must undo it."""
    torch.manual_seed(0)
    module = FeatureDynamicAlignment(4, 2, dynamic=True)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(1)

    def sample() -> tuple[Tensor, Tensor]:
        base = torch.rand(4, 4, 28, 28, generator=generator)
        return base[:, :, 4:24, 4:24], base[:, :, 4:24, 6:26]

    def error(x: Tensor, target: Tensor) -> Tensor:
        return (x - target)[:, :, 4:-4, 4:-4].abs().mean()

    visible, shifted = sample()
    unaligned = error(shifted, visible).item()
    for _ in range(120):
        visible, shifted = sample()
        aligned, _ = module(visible, shifted)
        optimizer.zero_grad()
        loss = error(aligned, visible)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * unaligned


def test_refinement_reweights_by_similarity() -> None:
    """Eq. (9)-(11) against the unfolded definition; Eq. (12) leaves what is unlike the infrared edges alone."""
    torch.manual_seed(0)
    module = LocalFeatureRefinement(4, visible=True, infrared=False)
    fused, guide = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
    norm = torch.rsqrt(fused.pow(2).sum(1, keepdim=True) + 1e-6)
    ours = module._enhance(fused, norm, guide)
    padded = F.pad(fused, (1, 1, 1, 1), mode="replicate")
    patches = F.unfold(padded, 3).view(1, 4, 9, 36)
    similarity = F.cosine_similarity(patches, guide.view(1, 4, 1, 36), dim=1)
    expected = (patches * torch.softmax(similarity, dim=1).unsqueeze(1)).sum(2).view(1, 4, 6, 6)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)


def test_configurations_are_checked_and_round_trip() -> None:
    for config in PRESETS.values():
        assert RfvifConfig.from_dict(config.to_dict()) == config
    with pytest.raises(UsageError, match="presets are"):
        preset_config("huge")
    with pytest.raises(UsageError, match="fab_count"):
        RfvifConfig(fab_count=4)
    with pytest.raises(CheckpointError, match="unknown keys"):
        RfvifConfig.from_dict({"channels": 8, "from_the_future": 1})
