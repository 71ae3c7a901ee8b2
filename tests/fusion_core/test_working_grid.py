"""The working grid: sizes, what the detail path keeps, and OpenCV's form of it against the reference."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from support import network_weights as weights

from fusion_core.engines import detail_path as opencv_form
from fusion_core.engines.detail_path import LargePicture, WorkingGrid
from fusion_core.rfvif import preset_config
from fusion_core.rfvif.padding import pad_to_multiple
from fusion_core.rfvif.working_grid import MAPS, RAMP, WEAKER, WorkingMaps, blend_bands, detail_path, reduction_factor

MULTIPLE = 16


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth shapes with texture, over the whole range."""
    rng = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(rng.random((height, width), np.float32), (0, 0), 2.0)
    smooth = cv2.GaussianBlur(rng.random((height, width), np.float32), (0, 0), 12.0)
    both = cv2.normalize(rough, None, 0, 90, cv2.NORM_MINMAX) + cv2.normalize(smooth, None, 0, 165, cv2.NORM_MINMAX)
    return both.astype(np.uint8)


def tensor(pixels: np.ndarray, factor: int) -> torch.Tensor:
    return pad_to_multiple(torch.from_numpy(pixels)[None, None] / 255.0, MULTIPLE * factor, mirror=True)


@pytest.mark.parametrize(
    ("height", "width", "most_px", "factor"),
    [(480, 640, 84_000, 2), (1080, 1920, 84_000, 5), (240, 320, 84_000, 1), (480, 640, 0, 1), (2160, 3840, 84_000, 10)],
)
def test_the_factor_is_the_smallest_that_fits(height: int, width: int, most_px: int, factor: int) -> None:
    assert reduction_factor(height, width, most_px) == factor
    if factor > 1:
        assert (height // (factor - 1)) * (width // (factor - 1)) > most_px


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_without_thermal_and_without_a_word_of_the_network_visible_stays(factor: int) -> None:
    visible = tensor(picture(1, 160, 240), factor)
    height, width = visible.shape[-2] // factor, visible.shape[-1] // factor
    silent = WorkingMaps.of(torch.zeros(1, MAPS, height, width))
    assert torch.allclose(detail_path(visible, torch.full_like(visible, 0.4), silent, factor), visible, atol=1e-5)
    raised = silent._replace(delta=torch.full_like(silent.delta, 0.1))
    flat = torch.full_like(visible, 0.7)
    assert torch.allclose(detail_path(visible, flat, raised, factor), visible + 0.1, atol=1e-5)


def test_of_the_weaker_band_a_share_is_added_and_the_stronger_is_drawn_in_full() -> None:
    """At every strength of both: the larger at least, both signs alike, and no leap where thermal takes over."""
    strong, weak = 0.2, 0.1
    for first in (strong, -strong):
        for second in (weak, -weak):
            visible_leads, thermal_leads = band(first, second), band(second, first)
            assert visible_leads == pytest.approx(first + WEAKER * second, abs=1e-6)
            assert thermal_leads == pytest.approx(visible_leads, abs=1e-6)
    assert band(strong, 0.0) == pytest.approx(strong)
    along = [band(0.1, 0.1 + lead) for lead in np.linspace(-0.01, RAMP + 0.01, 60)]
    assert np.diff(along).min() > 0.0
    assert np.diff(along).max() < 3.0 * (RAMP + 0.02) / 59


def band(visible: float, infrared: float) -> float:
    one = torch.ones(1, 1, 1, 1)
    return float(blend_bands(visible * one, infrared * one, one, one))


def test_an_edge_of_thermal_alone_is_drawn_at_full_size() -> None:
    visible = torch.full((1, 1, 64, 64), 0.3)
    infrared = torch.full((1, 1, 64, 64), 0.2)
    infrared[..., 33:] = 0.8  # between two cells of the working grid
    silent = WorkingMaps.of(torch.zeros(1, MAPS, 32, 32))
    fused = detail_path(visible, infrared, silent, 2)
    step = (fused[..., 1:] - fused[..., :-1])[0, 0, 32]
    assert int(step.argmax()) == 32
    assert float(step.max()) > 0.5


def test_closed_gates_leave_the_band_out() -> None:
    visible, infrared = tensor(picture(2, 96, 128), 2), tensor(picture(3, 96, 128), 2)
    channels = torch.zeros(1, MAPS, 48, 64)
    channels[:, 1:] = -30.0
    fused = detail_path(visible, infrared, WorkingMaps.of(channels), 2)
    assert float((fused[..., 1:] - fused[..., :-1]).abs().max()) < 0.03  # nothing but the coarsest level


@pytest.mark.parametrize(("height", "width"), [(240, 320), (480, 640), (271, 333), (540, 962)])
def test_opencv_draws_what_the_reference_draws(height: int, width: int) -> None:
    visible, thermal = picture(4, height, width), picture(5, height, width)
    grid = WorkingGrid(height, width, 84_000, MULTIPLE)
    rng = np.random.default_rng(6)
    channels = np.stack([cv2.GaussianBlur(rng.normal(0, 4, grid.size).astype(np.float32), (0, 0), 4) for _ in "abc"])
    channels[0] *= 0.1
    fused = grid.fuse(visible, thermal, (grid.reduce(visible), grid.reduce(thermal)), channels)
    maps = WorkingMaps.of(torch.from_numpy(channels)[None])
    wanted = detail_path(tensor(visible, grid.factor), tensor(thermal, grid.factor), maps, grid.factor)
    off = np.abs(fused - wanted[0, 0, :height, :width].clamp(0, 1).numpy() * 255.0)
    assert float(off.mean()) < 0.35
    assert float(off.max()) <= 2.0  # levels


def test_the_network_fuses_any_size_on_its_working_grid() -> None:
    config = preset_config("tiny").replace(working_px=3_000)
    network = weights.disturbed(config)
    for size in ((61, 83), (96, 128)):
        pair = torch.rand(2, 1, 1, *size)
        with torch.inference_mode():
            fused = network(pair[0], pair[1])
        assert fused.shape == pair[0].shape
        assert torch.isfinite(fused).all()
        assert network.reduction(*size) > 1


def test_a_large_picture_keeps_its_detail_and_takes_what_fusing_changed() -> None:
    visible = picture(7, 300, 401)
    large = LargePicture(300, 401, 40_000)
    assert large.factor == 2
    small = large.reduce(visible)
    assert small.shape == large.small == (150, 201)
    assert np.array_equal(large.enlarge(visible, small, small), visible)
    raised = large.enlarge(visible, small, cv2.add(small, 20.0))
    assert np.array_equal(raised, cv2.add(visible, 20.0))


def test_the_network_fuses_a_large_picture_at_a_fraction_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion_core.rfvif.network.DETAIL_PX", 20_000)
    network = weights.disturbed(preset_config("tiny").replace(working_px=3_000))
    visible, infrared = tensor(picture(8, 160, 240), 1), tensor(picture(9, 160, 240), 1)
    with torch.inference_mode():
        out = network.forward_training(visible, infrared)
        small = network.forward_training(
            torch.nn.functional.avg_pool2d(visible, 2), torch.nn.functional.avg_pool2d(infrared, 2)
        )
    assert out.fused.shape == visible.shape
    assert torch.allclose(out.displacement[-1], 2.0 * small.displacement[-1])
    back = torch.nn.functional.avg_pool2d(out.fused, 2)
    assert float((back - small.fused).abs().mean()) < 0.02


def test_bands_as_strong_as_8_bit_can_be_stay_within_16_bit() -> None:
    rng = np.random.default_rng(0)
    bands, gates = rng.uniform(-220.0, 220.0, (2, 1, 20_000)), rng.uniform(0.0, 2.0, (2, 1, 20_000))
    gates[..., :5_000] = 2.0
    fixed = [np.rint(band * opencv_form._LEVEL).astype(np.int16) for band in bands]
    fixed_gates = np.ascontiguousarray(np.rint(gates * opencv_form._GATE).astype(np.int16).transpose(1, 2, 0))
    found = opencv_form._blend(*fixed, fixed_gates) / opencv_form._LEVEL
    wanted = 255.0 * blend_bands(*torch.from_numpy(bands / 255.0), *torch.from_numpy(gates)).numpy()
    assert np.abs(found - wanted).max() < 6.0
