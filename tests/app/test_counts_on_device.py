"""Live, files and playback give raw counts to an engine that maps and aligns them itself; the picture is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from app.pipeline.fuse_step import EngineOnDemand, FuseStep
from app.pipeline.thermal_grid import ThermalGrid
from calibration.rig import CameraIntrinsics, RigCalibration, save_calibration
from fusion_core.checkpoint import load_checkpoint
from fusion_core.engines.torch_cuda_engine import TorchCudaEngine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.frames import Frame, FramePair, Stream, TimestampSource
from fusion_core.model_store import resolve_weights
from fusion_core.thermal.agc import Agc, AgcConfig, AgcMode

SIZE, THERMAL_SIZE = (96, 128), (60, 80)


class CountedEngine(TorchCudaEngine):
    """The GPU's frame on the CPU, which counts what it was asked."""

    asked: list[str]

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        self.asked.append("levels")
        return super().fuse(visible, thermal)

    def fuse_counts(self, *given: object) -> object:  # type: ignore[override]
        self.asked.append("counts")
        return super().fuse_counts(*given)  # type: ignore[arg-type]


class LevelsOnly:
    """The same engine as one that takes levels alone."""

    def __init__(self, engine: TorchCudaEngine) -> None:
        self._engine = engine
        self.name = engine.name
        self.fuse, self.reset, self.warm_up, self.close = engine.fuse, engine.reset, engine.warm_up, engine.close


def engine_of() -> CountedEngine:
    checkpoint = load_checkpoint(resolve_weights("tiny"))
    engine = CountedEngine(checkpoint, device="cpu", dtype=torch.float32, video=VideoOptions(align_every=2))
    engine.asked = []
    return engine


@pytest.fixture
def engine() -> Iterator[CountedEngine]:
    made = engine_of()
    yield made
    made.close()


def pair(number: int, thermal_size: tuple[int, int] = THERMAL_SIZE) -> FramePair:
    rng = np.random.default_rng(number)
    height, width = thermal_size
    smooth = cv2.resize(rng.random((6, 8)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    counts = (40_000 + 900 * smooth + 10 * rng.standard_normal(thermal_size)).astype(np.uint16)
    visible = cv2.resize(rng.integers(30, 220, (12, 16, 3), np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    stamp = number * 33_000_000
    source = TimestampSource.FILE
    return FramePair(
        Frame(Stream.VISIBLE, np.asarray(visible), number, stamp, source),
        Frame(Stream.THERMAL, counts, number, stamp, source),
    )


def calibration(folder: Path) -> Path:
    """The thermal camera sees less than the visible one, and is turned a little."""
    visible = CameraIntrinsics("v", 96, 128, "", fx_px=120.0, fy_px=120.0, cx_px=63.5, cy_px=47.5)
    thermal = CameraIntrinsics("t", 60, 80, "", fx_px=90.0, fy_px=90.0, cx_px=39.5, cy_px=29.5)
    turn = cv2.Rodrigues(np.array([0.0, 0.0, 0.03]))[0]
    rig = RigCalibration(visible, thermal, np.asarray(turn), np.array([0.02, 0.0, 0.0]), 0.3, working_distance_m=5.0)
    path = folder / "rig.yaml"
    save_calibration(rig, path)
    return path


@pytest.mark.parametrize("how", ["scaled", "same", "calibrated"])
def test_counts_give_the_picture_that_levels_give(how: str, engine: CountedEngine, tmp_path: Path) -> None:
    size = SIZE if how == "same" else THERMAL_SIZE
    path = calibration(tmp_path) if how == "calibrated" else None
    step = FuseStep(EngineOnDemand(lambda: engine), Agc(), ThermalGrid(path))
    other = engine_of()
    plain = FuseStep(EngineOnDemand(lambda: LevelsOnly(other)), Agc(), ThermalGrid(path))
    for number in range(4):
        got, wanted = step.fuse(pair(number, size)), plain.fuse(pair(number, size))
        assert got.thermal_8bit is not None and wanted.thermal_8bit is not None
        seen = np.ones(SIZE, np.uint8) if wanted.alignment is None else wanted.alignment.seen.astype(np.uint8)
        inside = cv2.erode(seen, np.ones((3, 3), np.uint8)) > 0
        off = np.abs(got.thermal_8bit.astype(int) - wanted.thermal_8bit)[inside]
        assert off.max() <= 2  # OpenCV's positions are rounded to 1/32 px
        assert not got.thermal_8bit.flags.writeable
        difference = np.abs(got.pixels.astype(int) - wanted.pixels)
        assert difference.mean() < 0.6
        assert got.agc_limits == pytest.approx(wanted.agc_limits)
        assert got.engine == wanted.engine
    # The engine is made by the first pair, which it fuses from levels; `warm_up` runs it once more before.
    assert engine.asked == ["levels"] * 2 + ["counts"] * 3
    other.close()


def test_what_is_more_than_a_table_goes_through_opencv(engine: CountedEngine) -> None:
    step = FuseStep(EngineOnDemand(lambda: engine), Agc(AgcConfig(mode=AgcMode.CLAHE)), ThermalGrid(None))
    for number in range(3):
        step.fuse(pair(number))
    eight = pair(3)
    assert eight.thermal is not None
    levels = Frame(Stream.THERMAL, (eight.thermal.pixels >> 8).astype(np.uint8), 3, 0, TimestampSource.FILE)
    step.use_agc(Agc())
    step.fuse(FramePair(eight.visible, levels))
    assert set(engine.asked) == {"levels"}


def test_a_held_thermal_frame_is_mapped_by_the_table_that_it_had(engine: CountedEngine) -> None:
    step = FuseStep(EngineOnDemand(lambda: engine), Agc(AgcConfig(damping_s=5.0)), ThermalGrid(None))
    first, second = pair(0), pair(1)
    for each in (first, second, FramePair(pair(2).visible, second.thermal)):
        last = step.fuse(each)
    again = step.fuse(FramePair(pair(2).visible, second.thermal))
    assert last.thermal_8bit is not None and again.thermal_8bit is not None
    assert np.array_equal(last.thermal_8bit, again.thermal_8bit)
    assert engine.asked[-2:] == ["counts", "counts"]
