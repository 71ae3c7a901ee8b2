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

from fusion_core.colour import luminance
from fusion_core.engines.gpu_frame import FrameRunner, GpuFrame, gpu_luminance
from fusion_core.engines.torch_cuda_engine import TorchCudaEngine, check_device
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.errors import BadInputError, EngineError
from fusion_core.thermal.agc import Agc
from fusion_core.thermal.field_of_view import FieldFiller


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
    difference = engine.fuse_counts(visible, counts, table, grid).astype(int) - engine.fuse(visible, levels)
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
    got = engine.fuse_counts(visible, counts, table, grid).astype(int)
    difference = np.abs(got - engine.fuse(visible, whole))
    assert np.percentile(difference, 99) <= 2 and difference.mean() < 0.3  # levels; rounding decides between bands
    assert np.abs(got - engine.fuse(visible, levels)).max() > 10  # it makes a difference


def test_another_table_applies_to_the_next_frame_without_a_new_runner(engine: TorchCudaEngine) -> None:
    visible, _ = contract.picture_pair(3, 64, 80)
    counts = np.full((64, 80), 1000, np.uint16)
    counts[20:40, 30:50] = 2000
    dark, bright = np.zeros(65536, np.uint8), np.zeros(65536, np.uint8)
    bright[2000] = 255
    first = engine.fuse_counts(visible, counts, dark, None)
    runner = engine._counts_runner
    second = engine.fuse_counts(visible, counts, bright, None)
    assert engine._counts_runner is runner
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
    with pytest.raises(BadInputError, match="sampling grid is needed"):
        engine.fuse_counts(visible, np.zeros((32, 40), np.uint16), table, None)
    with pytest.raises(BadInputError, match="sampling grid is"):
        engine.fuse_counts(visible, np.zeros((32, 40), np.uint16), table, np.zeros((32, 40, 2), np.float32))
    with pytest.raises(BadInputError, match="table is"):
        engine.fuse_counts(visible, thermal.astype(np.uint16), table[:256], None)
    with pytest.raises(EngineError, match="at least 32x32"):
        engine.warm_up(16, 64)


def test_buffers_are_made_once_a_size(engine: TorchCudaEngine) -> None:
    visible, thermal = contract.picture_pair(6, 64, 80)
    engine.warm_up(64, 80)
    runner = engine._runner
    assert isinstance(runner, FrameRunner)
    addresses = [t.data_ptr() for t in (runner._visible, runner._thermal, runner._host_out)]
    first, second = engine.fuse(visible, thermal), engine.fuse(visible, thermal)
    assert engine._runner is runner
    assert addresses == [t.data_ptr() for t in (runner._visible, runner._thermal, runner._host_out)]
    assert first is not second
    assert not runner.graphed


def test_saturated_colours_are_clipped_not_wrapped() -> None:
    frame = GpuFrame(lambda visible, thermal: torch.ones_like(visible), torch.float32)
    rgb = torch.tensor([[[255, 10, 0], [0, 0, 255]]], dtype=torch.uint8)
    out = frame(rgb, torch.zeros(1, 2, dtype=torch.uint8), None, None).numpy()
    assert out[0, 0].tolist() == [255, 255 - 82 + 10, 255 - 82]
    assert out[0, 1].tolist() == [226, 226, 255]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_the_reason_is_told() -> None:
    with pytest.raises(EngineError, match="PyTorch sees no CUDA device"):
        check_device("cuda")
