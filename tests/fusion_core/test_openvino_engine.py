"""OpenVINO against the float32 reference; its cache; and the displacement that video carries from frame to frame."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import network_weights as weights

from fusion_core.engines import openvino_engine, openvino_parts
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.detail_path import WorkingGrid
from fusion_core.engines.openvino_engine import OpenVinoEngine, bfloat16_pays
from fusion_core.engines.openvino_runtime import default_threads, load_openvino
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import EngineError

SIZE = (61, 83)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Any:
    return weights.checkpoint(folder, "tiny", working_px=3_000)  # a working grid, though the pictures are small


@pytest.fixture(scope="module")
def cache(folder: Path) -> EngineCache:
    return EngineCache(folder / "engines")


def smooth_pair(seed: int, height: int = SIZE[0], width: int = SIZE[1]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    size = (width, height)
    visible = cv2.resize(rng.integers(40, 220, (8, 10, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
    thermal = cv2.resize(rng.integers(40, 220, (8, 10), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(visible), np.asarray(thermal)


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255.0**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def test_agrees_with_the_reference_and_keeps_its_models(checkpoint: Any, cache: EngineCache) -> None:
    reference = TorchEngine(checkpoint)
    exact = OpenVinoEngine(checkpoint, precision="f32", threads=1, cache=cache)
    for seed in range(3):
        pair = smooth_pair(seed)
        assert psnr_db(exact.fuse(*pair), reference.fuse(*pair)) > 50  # two warps, each rounded to levels or not
    assert exact.name == f"openvino-f32:{checkpoint.path.stem}"
    exact.close()
    kept = {entry.name for entry in cache.entries()}
    assert {entry.key["kind"] for entry in cache.entries()} == {"openvino-estimate", "openvino-fuse"}

    again = OpenVinoEngine(checkpoint, threads=1, video=VideoOptions(align_every=3), cache=cache)
    again.warm_up(*SIZE)
    assert {entry.name for entry in cache.entries()} == kept  # converted once, for every precision
    pair = smooth_pair(0)
    floor = 40 if not bfloat16_pays() else 30
    assert psnr_db(again.fuse(*pair), reference.fuse(*pair)) > floor
    field = again.displacement_px
    assert field is not None
    for _ in range(2):
        again.fuse(*smooth_pair(1))
        assert again.displacement_px is field  # carried, not estimated
    first = again.fuse(*pair)
    again.reset()
    assert again.displacement_px is None
    assert first.shape == (*SIZE, 3)
    sequence = [smooth_pair(seed) for seed in range(8)]
    outputs = []
    for _ in range(2):
        again.reset()
        outputs.append([again.fuse(*pair) for pair in sequence])
    assert all(np.array_equal(a, b) for a, b in zip(*outputs, strict=True))  # whatever the threads' timing
    again.close()
    again.close()
    assert not any(thread.name.startswith("displacement") for thread in threading.enumerate())
    with pytest.raises(EngineError, match="is closed"):
        again.fuse(*pair)


def test_two_sizes_of_pictures_may_share_a_working_grid(checkpoint: Any, cache: EngineCache) -> None:
    config = checkpoint.network.config
    large = WorkingGrid(*SIZE, config.working_px, config.multiple)
    small = WorkingGrid(*large.size, config.working_px, config.multiple)
    assert large.factor > small.factor == 1 and small.size == large.size and small.padded != large.padded
    reference = TorchEngine(checkpoint)
    for size in (SIZE, large.size):  # the cache has the models of both
        engine = OpenVinoEngine(checkpoint, precision="f32", threads=1, cache=cache)
        pair = smooth_pair(0, *size)
        assert psnr_db(engine.fuse(*pair), reference.fuse(*pair)) > 50
        engine.close()


def test_dynamic_kernels_may_be_carried_from_picture_to_picture(folder: Path) -> None:
    checkpoint = weights.checkpoint(folder, "tiny")
    with torch.no_grad():
        for fdam in checkpoint.network.fdams:
            for block in fdam.blocks:
                for layer in block.generator.kernels:
                    layer.weight.normal_(0.0, 20.0)  # kernels that differ from picture to picture
    # Both take one model of the estimate. The cache tells networks apart by their file, which these are not written to.
    cache = EngineCache(folder / "engines-of-other-kernels")
    video = VideoOptions(1, 1.0, kernels_every=3)
    still = OpenVinoEngine(checkpoint, precision="f32", threads=1, cache=cache)
    carrying = OpenVinoEngine(checkpoint, precision="f32", threads=1, video=video, cache=cache)
    assert checkpoint.network.kernel_values == 3 * checkpoint.network.config.fab_count * 8 * 83
    one, other = smooth_pair(0), smooth_pair(1)
    first = carrying.fuse(*one)
    assert psnr_db(first, still.fuse(*one)) > 60  # nothing to carry yet
    carried = carrying.fuse(*other)
    alone = still.fuse(*other)
    assert not np.array_equal(carried, alone)  # with the kernels of another picture
    assert np.array_equal(carrying.fuse(*one), first)  # they are still those of the first
    renewed = carrying.fuse(*other)  # half new, half old
    assert 0 < np.abs(renewed.astype(int) - alone).mean() < np.abs(carried.astype(int) - alone).mean()
    carrying.reset()
    assert psnr_db(carrying.fuse(*other), alone) > 60
    for engine in (still, carrying):
        engine.close()


class _Grown(torch.nn.Module):
    def forward(self, few: torch.Tensor, many: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def grown(planes: torch.Tensor, factor: float, mode: str = "bilinear") -> torch.Tensor:
            corners = {"align_corners": False} if mode == "bilinear" else {}
            return F.interpolate(planes, scale_factor=factor, mode=mode, **corners)

        return (*(grown(few, factor) for factor in (2.0, 4.0, 8.0)), grown(few, 2.0, "nearest"), grown(many, 4.0))


def test_few_planes_grow_by_matrices_to_the_same_values() -> None:
    ov, model = load_openvino(), _Grown()
    given = (torch.rand(1, 2, 7, 10), torch.rand(1, 5, 7, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in the engine
        traced = torch.jit.trace(model, given)  # type: ignore[no-untyped-call]
    converted = ov.convert_model(traced, example_input=given, input=[tuple(each.shape) for each in given])
    openvino_parts._grow_by_matrices(converted)
    kinds = [node.get_type_name() for node in converted.get_ops()]
    assert (kinds.count("MatMul"), kinds.count("Interpolate")) == (6, 2)
    found = ov.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
        [*map(torch.Tensor.numpy, given)]
    )
    for index, wanted in enumerate(model(*given)):
        np.testing.assert_allclose(found[index], wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("told", "pays"),
    [
        ("vendor_id : GenuineIntel\nflags : avx512_bf16", False),
        ("vendor_id : GenuineIntel\nflags : avx512_bf16 amx_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx512_bf16", True),
        (None, True),
    ],
)
def test_bfloat16_is_for_processors_that_gain_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, pays: bool
) -> None:
    class Core:
        capabilities: ClassVar = ["FP32", "BF16"]

        def get_property(self, device: str, name: str) -> list[str]:
            return self.capabilities

    monkeypatch.setattr(openvino_engine, "load_openvino", lambda: SimpleNamespace(Core=Core))
    if told is not None:
        (tmp_path / "cpuinfo").write_text(told)
    assert bfloat16_pays(tmp_path / "cpuinfo") == pays
    Core.capabilities = ["FP32"]
    assert not bfloat16_pays(tmp_path / "cpuinfo")


def test_wrong_settings_and_sizes_are_refused(checkpoint: Any) -> None:
    with pytest.raises(EngineError, match="precision is 'f8'"):
        OpenVinoEngine(checkpoint, precision="f8")
    with pytest.raises(EngineError, match="at least 32x32"):
        OpenVinoEngine(checkpoint).warm_up(16, 64)
    assert default_threads() >= 1
