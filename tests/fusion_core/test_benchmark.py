"""What the benchmark reckons, a real measurement of a small case, and tiling without seams."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_core.benchmark.candidates import Case, environment
from fusion_core.benchmark.measure import Failure, Result, check_ratios, measure_case, run_case, with_ratios
from fusion_core.benchmark.tiling import TiledEngine, tile_starts
from fusion_core.checkpoint import save_checkpoint
from fusion_core.engines.pyramid_engine import AverageEngine, LaplacianPyramidEngine
from fusion_core.errors import UsageError
from fusion_core.rfvif import Rfvif, preset_config


def result(engine: str, median_ms: float, cpu_ms: float) -> Result:
    case = Case(engine, "tiny", 480, 640)
    return Result(
        case, engine, 1.0, 0.0, 9, median_ms, median_ms, median_ms, cpu_ms, 1e3 / median_ms, 1.0, 1.0, 1.0, 1.0, 1.0
    )


def test_ratios_refer_to_eager_at_the_same_size() -> None:
    other = result("openvino", 10.0, 10.0)
    other = replace(other, case=replace(other.case, height=720))
    eager, fast, alone = with_ratios([result("torch", 100.0, 180.0), result("openvino", 25.0, 30.0), other])
    assert (eager.ratio, eager.cpu_ratio) == (1.0, 1.0)
    assert (fast.ratio, fast.cpu_ratio) == (4.0, 6.0)
    assert alone.ratio == 0.0


def test_the_check_compares_ratios_never_times() -> None:
    stored = {"openvino/tiny/640x480": 6.0, "tensorrt/tiny/640x480": 50.0}
    slow_machine = with_ratios([result("torch", 10_000.0, 18_000.0), result("openvino", 2_500.0, 3_000.0)])
    assert check_ratios(slow_machine, stored) == []
    slow_engine = with_ratios([result("torch", 100.0, 180.0), result("openvino", 60.0, 60.0)])
    (line,) = check_ratios(slow_engine, stored)
    assert line == "openvino/tiny/640x480: 3.00 times eager float32, stored is 6.00"


def test_the_environment_is_recorded() -> None:
    facts = environment()
    assert {"processor", "usable_threads", "load_average", "torch", "openvino", "gpu", "date"} <= set(facts)


def test_a_small_case_in_full(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, Rfvif(preset_config("tiny")), {})
    found = measure_case(Case("torch", "mine", 64, 96, weights=str(path), threads=1, seconds=0.2))
    assert found.frames >= 5
    assert 0 < found.best_ms <= found.median_ms <= found.p95_ms
    assert found.cpu_ms > 0
    assert 0.005 < found.giga_macs < 0.2
    assert found.peak_giga_macs > 1
    assert 0 < found.peak_share < 1.5
    assert found.build_s > 0


def test_the_pyramid_behind_the_estimate_is_measured_beside_the_networks(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, Rfvif(preset_config("tiny")), {})
    found = measure_case(Case("aligned-pyramid", "mine", 96, 128, weights=str(path), threads=1, seconds=0.2))
    assert found.name == "aligned-pyramid"
    assert found.frames >= 5
    assert found.giga_macs == 0


def test_a_case_runs_in_a_process_of_its_own_and_its_failure_comes_back() -> None:
    done = run_case(Case("pyramid", "-", 64, 96, seconds=0.1))
    assert isinstance(done, Result)
    assert done.giga_macs == 0
    missing = run_case(Case("torch", "mine", 64, 96, weights="missing.safetensors"))
    assert isinstance(missing, Failure)
    assert "missing.safetensors" in missing.reason


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="no engine 'abacus'"):
        measure_case(Case("abacus", "tiny", 64, 64))


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(2160, 720, 64), (100, 100, 10), (101, 100, 10), (1000, 128, 64)]
)
def test_tiles_cover_the_side_and_overlap(size: int, tile: int, overlap: int) -> None:
    starts = tile_starts(size, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] + tile == size
    assert all(a + tile - b >= overlap for a, b in itertools.pairwise(starts))


def smooth(height: int, width: int, channels: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, channels), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize("size", [(200, 300), (96, 300), (97, 129), (300, 96)])
def test_a_local_engine_gives_the_same_picture_in_tiles(size: tuple[int, int]) -> None:
    visible, thermal = smooth(*size, 3), smooth(*size, 1)
    whole = AverageEngine().fuse(visible, thermal).astype(int)
    tiled = TiledEngine(AverageEngine(), (96, 128), 32)
    tiled.warm_up(*size)
    assert np.abs(tiled.fuse(visible, thermal) - whole).max() <= 1


def test_no_seam_shows_where_tiles_differ() -> None:
    """An engine whose result depends on the whole tile: steps at tile borders must be no larger than elsewhere."""

    class Brightness(AverageEngine):
        def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
            return np.full_like(visible, int(visible.mean()))

    ramp = np.repeat(np.linspace(0, 255, 400).astype(np.uint8)[None, :, None], 120, axis=0).repeat(3, axis=2)
    fused = TiledEngine(Brightness(), (96, 128), 48).fuse(np.ascontiguousarray(ramp), ramp[..., 0].copy())
    steps = np.abs(np.diff(fused[60, :, 0].astype(int)))
    assert int(fused[60, -1, 0]) - int(fused[60, 0, 0]) > 100  # the tiles do differ
    assert steps.max() <= 4


def test_tiles_close_to_the_whole_for_a_pyramid() -> None:
    visible, thermal = smooth(240, 320, 3), smooth(240, 320, 1)
    whole = LaplacianPyramidEngine().fuse(visible, thermal).astype(int)
    tiled = TiledEngine(LaplacianPyramidEngine(), (160, 192), 64).fuse(visible, thermal)
    assert np.abs(tiled - whole).mean() < 3


def test_an_overlap_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="overlap is 100 px"):
        TiledEngine(AverageEngine(), (128, 128), 100)
