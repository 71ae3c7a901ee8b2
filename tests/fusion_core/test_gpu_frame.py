"""The GPU's whole frame, run on the CPU: its numbers against the engines and the OpenCV path there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support import engine_contract as contract
from support import network_weights as weights

from fusion_core.checkpoint import load_checkpoint
from fusion_core.colour import luminance
from fusion_core.engines.gpu.device import check_device
from fusion_core.engines.gpu.frame import GpuFrame, gpu_luminance
from fusion_core.engines.gpu.runner import FrameRunner
from fusion_core.engines.torch_cuda_engine import TorchCudaEngine
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.errors import BadInputError, EngineError
from fusion_core.model_store import resolve_weights
from fusion_core.thermal.agc import Agc
from fusion_core.thermal.field_of_view import FieldFiller, ThermalWarp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def engine(folder: Path) -> Iterator[TorchCudaEngine]:
    made = TorchCudaEngine(weights.checkpoint(folder, "tiny"), device="cpu", dtype=torch.float32)
    yield made
    made.close()


def test_luminance_is_opencvs_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert np.array_equal(gpu_luminance(torch.from_numpy(rgb)).numpy(), luminance(rgb))


def test_the_whole_frame_agrees_with_the_reference_engine(engine: TorchCudaEngine, folder: Path) -> None:
    reference = TorchEngine(weights.checkpoint(folder, "tiny"))
    for size in ((64, 80), (61, 83), (64, 80)):
        visible, thermal = contract.picture_pair(1, *size)
        wanted, got = reference.fuse(visible, thermal).astype(int), engine.fuse(visible, thermal).astype(int)
        assert np.abs(got - wanted).max() <= 1
        assert np.abs(got - visible).mean() > 2  # the network does something


def test_counts_go_through_the_agcs_table_and_the_calibration_warp(engine: TorchCudaEngine) -> None:
    rng = np.random.default_rng(2)
    visible, _ = contract.picture_pair(2, 96, 128)
    smooth = cv2.resize(rng.random((6, 8)).astype(np.float32), (80, 60), interpolation=cv2.INTER_CUBIC)
    counts = (20_000 + 3_000 * smooth).astype(np.uint16)
    table = np.clip((np.arange(65536) - 19_000) / 20.0, 0, 255).astype(np.uint8)
    ys, xs = np.mgrid[0:96, 0:128].astype(np.float32)
    points = np.stack((xs * 0.6 + 2.3, ys * 0.6 + 1.1), axis=-1)  # visible pixel -> place in the thermal picture
    grid = ((points + 0.5) * np.array([2 / 80, 2 / 60]) - 1).astype(np.float32)
    levels = cv2.remap(table[counts], points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    inside = (points >= 0).all(axis=-1) & (points[..., 0] <= 79) & (points[..., 1] <= 59)
    levels = FieldFiller(inside).fill(levels, luminance(visible))
    got = engine.fuse_counts(visible, counts, table, ThermalWarp(grid, (60, 80), FieldFiller(inside).matrices()))
    difference = got.pixels.astype(int) - engine.fuse(visible, levels)
    assert got.levels is not None
    assert np.abs(got.levels.astype(int) - levels)[inside].max() <= 6
    assert not got.levels[:1, :1][~inside[:1, :1]].any()
    assert np.abs(difference).mean() < 0.2  # OpenCV's positions are rounded to 1/32 px
    assert np.percentile(np.abs(difference), 99) <= 2


def test_what_thermal_does_not_see_is_filled_on_the_device_as_on_the_cpu(engine: TorchCudaEngine) -> None:
    visible, _ = contract.picture_pair(2, 96, 128)
    counts = np.full((60, 80), 20_000, np.uint16)
    counts[20:35, 30:55] = 23_000
    table = np.clip((np.arange(65536) - 19_000) / 20.0, 0, 255).astype(np.uint8)
    ys, xs = np.mgrid[0:96, 0:128].astype(np.float32)
    points = np.stack((xs - 30.0, ys - 20.0), axis=-1)  # whole pixels: nothing is interpolated
    grid = ((points + 0.5) * np.array([2 / 80, 2 / 60]) - 1).astype(np.float32)
    seen = np.zeros((96, 128), bool)
    seen[20:80, 30:110] = True
    levels = np.zeros((96, 128), np.uint8)
    levels[seen] = table[counts].ravel()
    whole = FieldFiller(seen).fill(levels, luminance(visible))
    warp = ThermalWarp(grid, (60, 80), FieldFiller(seen).matrices())
    got = engine.fuse_counts(visible, counts, table, warp).pixels.astype(int)
    difference = np.abs(got - engine.fuse(visible, whole))
    assert np.percentile(difference, 99) <= 2 and difference.mean() < 0.3  # levels; rounding decides between bands
    assert np.abs(got - engine.fuse(visible, levels)).max() > 10  # it makes a difference


def test_another_table_applies_to_the_next_frame_without_a_new_runner(engine: TorchCudaEngine) -> None:
    visible, _ = contract.picture_pair(3, 64, 80)
    counts = np.full((64, 80), 1000, np.uint16)
    counts[20:40, 30:50] = 2000
    dark, bright = np.zeros(65536, np.uint8), np.zeros(65536, np.uint8)
    bright[2000] = 255
    first = engine.fuse_counts(visible, counts, dark, None).pixels
    runner = engine._counts
    second = engine.fuse_counts(visible, counts, bright, None).pixels
    assert engine._counts is runner
    assert not np.array_equal(first, second)
    assert np.array_equal(first, engine.fuse(visible, dark[counts]))
    assert np.array_equal(second, engine.fuse(visible, bright[counts]))


def test_the_agcs_own_picture_can_be_given_as_a_table(engine: TorchCudaEngine) -> None:
    """What the AGC does to counts is a table, so the GPU's lookup can stand in for it."""
    rng = np.random.default_rng(4)
    counts = (30_000 + 200 * rng.standard_normal((64, 80))).astype(np.uint16)
    levels = Agc().apply(counts)
    table = np.zeros(65536, np.uint8)
    table[counts.ravel()] = levels.ravel()
    assert np.array_equal(table[counts], levels)


def test_refuses_what_does_not_fit(engine: TorchCudaEngine) -> None:
    visible, thermal = contract.picture_pair(5, 64, 80)
    table = np.zeros(65536, np.uint8)
    with pytest.raises(BadInputError, match="uint16"):
        engine.fuse_counts(visible, thermal, table, None)
    with pytest.raises(BadInputError, match="a warp is needed"):
        engine.fuse_counts(visible, np.zeros((32, 40), np.uint16), table, None)
    small = ThermalWarp(np.zeros((32, 40, 2), np.float32), (32, 40), FieldFiller(np.ones((32, 40), bool)).matrices())
    with pytest.raises(BadInputError, match="sampling grid is"):
        engine.fuse_counts(visible, np.zeros((32, 40), np.uint16), table, small)
    other = ThermalWarp(np.zeros((64, 80, 2), np.float32), (30, 40), FieldFiller(np.ones((64, 80), bool)).matrices())
    with pytest.raises(BadInputError, match="warp is for thermal pictures of"):
        engine.fuse_counts(visible, np.zeros((32, 40), np.uint16), table, other)
    with pytest.raises(BadInputError, match="table is"):
        engine.fuse_counts(visible, thermal.astype(np.uint16), table[:256], None)
    with pytest.raises(EngineError, match="at least 32x32"):
        engine.warm_up(16, 64)


def test_buffers_are_made_once_a_size(engine: TorchCudaEngine) -> None:
    visible, thermal = contract.picture_pair(6, 64, 80)
    engine.warm_up(64, 80)
    runner = engine._runner
    assert isinstance(runner, FrameRunner)
    addresses = [t.data_ptr() for buffers in runner._sets for t in (*buffers.host, *buffers.device, *buffers.out)]
    first, second = engine.fuse(visible, thermal), engine.fuse(visible, thermal)
    assert engine._runner is runner
    assert addresses == [t.data_ptr() for each in runner._sets for t in (*each.host, *each.device, *each.out)]
    assert first is not second
    assert not engine.graphed


def test_a_result_is_not_copied_and_its_memory_comes_back_when_nobody_holds_it(engine: TorchCudaEngine) -> None:
    visible, thermal = contract.picture_pair(6, 64, 80)
    engine.warm_up(64, 80)
    first = engine.fuse(visible, thermal)
    address, view = first.ctypes.data, first[::2]
    del first
    assert engine.fuse(visible, thermal).ctypes.data != address  # a view still holds it
    del view
    engine.fuse(visible, thermal)
    kept = [engine.fuse(visible, thermal) for _ in range(12)]
    assert address in [each.ctypes.data for each in kept]
    assert len({each.ctypes.data for each in kept}) == 12
    runner = engine._runner
    assert runner is not None
    assert runner._pools[0]._made <= 10  # pinned memory is scarce: the rest are plain copies
    assert all(np.array_equal(each, kept[0]) for each in kept)


def test_two_frames_may_be_under_way(engine: TorchCudaEngine) -> None:
    pairs = [contract.picture_pair(seed, 64, 80) for seed in range(3)]
    alone = [engine.fuse(*pair) for pair in pairs]
    engine.begin(*pairs[0])
    engine.begin(*pairs[1])
    with pytest.raises(EngineError, match="2 frames are under way"):
        engine.begin(*pairs[2])
    got = [engine.finish().pixels]
    engine.begin(*pairs[2])
    got += [engine.finish().pixels, engine.finish().pixels]
    assert all(np.array_equal(one, other) for one, other in zip(got, alone, strict=True))
    with pytest.raises(EngineError, match="no frame is under way"):
        engine.finish()


def test_saturated_colours_are_clipped_not_wrapped() -> None:
    frame = GpuFrame((1, 2), 1)
    rgb = torch.tensor([[[255, 10, 0], [0, 0, 255]]], dtype=torch.uint8)
    prepared = frame.prepare(rgb, torch.zeros(1, 2, dtype=torch.uint8), None, None)
    out = frame.colour(rgb, prepared, torch.ones(1, 1, 1, 2)).numpy()
    assert out[0, 0].tolist() == [255, 255 - 82 + 10, 255 - 82]
    assert out[0, 1].tolist() == [226, 226, 255]


def test_counts_above_half_of_the_range_are_looked_up_as_they_are() -> None:
    """The device holds them as int16."""
    frame = GpuFrame((1, 3), 1)
    counts = np.array([[0, 32768, 65535]], np.uint16)
    table = torch.zeros(65536, dtype=torch.uint8)
    table[0], table[32768], table[65535] = 7, 8, 9
    rgb = torch.zeros(1, 3, 3, dtype=torch.uint8)
    prepared = frame.prepare(rgb, torch.from_numpy(counts.view(np.int16)), table, None)
    assert prepared.levels.tolist() == [[7, 8, 9]]


@pytest.mark.parametrize("most_px", [5_000, 4_800])
def test_a_large_picture_is_fused_at_a_fraction_as_the_reference_does(
    monkeypatch: pytest.MonkeyPatch, most_px: int
) -> None:
    """Reduced it is 60x81 px: more than 4,800 of them are not reduced again."""
    size = 119, 161
    for place in ("fusion_core.engines.torch_cuda_engine", "fusion_core.rfvif.network"):
        monkeypatch.setattr(f"{place}.DETAIL_PX", most_px)
    checkpoint = load_checkpoint(resolve_weights("tiny"))
    engine = TorchCudaEngine(checkpoint, device="cpu", dtype=torch.float32)
    visible, thermal = contract.picture_pair(8, *size)
    wanted = TorchEngine(checkpoint).fuse(visible, thermal).astype(int)
    got = engine.fuse(visible, thermal).astype(int)
    assert engine._prepared is not None
    assert engine._prepared.frame.outer == 2
    difference = np.abs(got - wanted)
    assert difference.mean() < 0.2
    assert np.percentile(difference, 98) <= 1  # the reference cuts to the range after enlarging, engines before
    assert np.abs(got - visible).mean() > 2
    engine.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_the_reason_is_told() -> None:
    with pytest.raises(EngineError, match="PyTorch sees no CUDA device"):
        check_device("cuda")
