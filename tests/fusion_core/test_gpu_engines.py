"""The GPU engines against float32 PyTorch: on a GPU where there is one, and one of them always, emulated on the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support import engine_contract as contract

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.torch_cuda_engine import GpuEngine, TorchCudaEngine
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.errors import BadInputError
from fusion_core.model_store import resolve_weights

PAIRS = Path(__file__).resolve().parents[3] / "shared" / "data" / "pairs" / "train"
PSNR_DB = 45.0
CROP = (128, 160)
GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

Maker = Callable[[LoadedCheckpoint, Path], GpuEngine]


def _tensorrt(checkpoint: LoadedCheckpoint, folder: Path) -> GpuEngine:
    if importlib.util.find_spec("torch_tensorrt") is None:
        pytest.skip("Torch-TensorRT is not installed")
    from fusion_core.engines.tensorrt_engine import TensorRtEngine

    return TensorRtEngine(checkpoint, cache=EngineCache(folder / "engines"))


MAKERS: dict[str, Maker] = {
    "emulated": lambda checkpoint, _: TorchCudaEngine(checkpoint, device="cpu", dtype=torch.float16),
    "torch-cuda": lambda checkpoint, _: TorchCudaEngine(checkpoint),
    "torch-cuda-compiled": lambda checkpoint, _: TorchCudaEngine(checkpoint, compiled=True),
    "tensorrt": _tensorrt,
}


@pytest.fixture(scope="module")
def checkpoint() -> LoadedCheckpoint:
    return load_checkpoint(resolve_weights("tiny"))


@pytest.fixture(
    params=[name if name == "emulated" else pytest.param(name, marks=GPU) for name in MAKERS], scope="module"
)
def engine(
    request: pytest.FixtureRequest, checkpoint: LoadedCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GpuEngine]:
    made = MAKERS[request.param](checkpoint, tmp_path_factory.mktemp("engines"))
    yield made
    made.close()
    made.close()


def real_pairs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Central crops: (128, 160, 3) RGB and (128, 160)."""
    if not PAIRS.is_dir():
        pytest.skip("the training pairs are not there (shared/data beside the repository)")
    files = sorted((PAIRS / "vi").glob("*"))
    out = []
    for path in files[:: max(1, len(files) // count)][:count]:
        visible = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        thermal = cv2.imread(str(next((PAIRS / "ir").glob(f"{path.stem}.*"))), cv2.IMREAD_GRAYSCALE)
        assert visible is not None
        assert thermal is not None
        top, left = (thermal.shape[0] - CROP[0]) // 2, (thermal.shape[1] - CROP[1]) // 2
        window = np.s_[top : top + CROP[0], left : left + CROP[1]]
        out.append((np.ascontiguousarray(visible[window]), np.ascontiguousarray(thermal[window])))
    return out


def test_real_pairs_agree_with_the_float32_reference(engine: GpuEngine, checkpoint: LoadedCheckpoint) -> None:
    """The whole frame, pixels to pixels; the 32 pairs on a GPU, four of them where FP16 is emulated."""
    reference = TorchEngine(checkpoint)
    values = []
    for visible, thermal in real_pairs(4 if "cpu" in engine.name else 32):
        difference = engine.fuse(visible, thermal).astype(np.float64) - reference.fuse(visible, thermal)
        values.append(-10.0 * np.log10(max(np.mean(difference**2) / 255.0**2, 1e-12)))
    print(f"{engine.name}: min {min(values):.1f} dB, median {np.median(values):.1f} dB")
    assert min(values) >= PSNR_DB


@pytest.mark.parametrize("size", contract.SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
def test_keeps_the_contract(engine: GpuEngine, size: tuple[int, int]) -> None:
    first_pair, second_pair = contract.picture_pair(0, *size), contract.picture_pair(1, *size)
    engine.warm_up(*size)
    first = engine.fuse(*first_pair)
    kept = first.copy()
    second = engine.fuse(*second_pair)
    assert first.shape == (*size, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, kept)  # not overwritten by the next frame
    assert not np.array_equal(first, second)
    engine.reset()
    assert np.array_equal(engine.fuse(*first_pair), first)
    with pytest.raises(BadInputError):
        engine.fuse(first_pair[0], first_pair[1][:-1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_frame_is_one_graph(checkpoint: LoadedCheckpoint) -> None:
    engine = TorchCudaEngine(checkpoint)
    engine.warm_up(*CROP)
    assert engine.graphed
    before = torch.cuda.memory_allocated()
    for seed in range(3):
        engine.fuse(*contract.picture_pair(seed, *CROP))
    assert torch.cuda.memory_allocated() == before  # nothing is allocated for a frame
    engine.close()
