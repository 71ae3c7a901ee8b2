"""The network as GPUs run it: the same function in fewer launches, and the Triton kernels by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import torch
from support import engine_contract as contract
from support import network_weights as weights
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fusion_core.engines.gpu.frame import GpuField, GpuFrame
from fusion_core.engines.running_displacement import _WHOLE_EVERY
from fusion_core.engines.torch_cuda_engine import TorchCudaEngine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.rfvif import Rfvif, RfvifConfig, kernels, preset_config
from fusion_core.rfvif.gpu_form import for_gpu
from fusion_core.rfvif.inference import for_inference
from fusion_core.rfvif.kernels import refine_features, refine_features_plain
from fusion_core.rfvif.programs import field_size, programs_of
from fusion_core.rfvif.working_grid import DETAIL_PX, reduction_factor

ROOT = Path(__file__).resolve().parents[2]
FREE = {"aten::empty", "aten::empty_strided", "aten::empty_like", "aten::new_empty", "aten::detach", "aten::lift_fresh"}


class Launches(TorchDispatchMode):
    """Counts operators that a GPU would be given: views and allocations are free, casts are not.

    cuDNN adds a convolution's bias in a launch of its own, where the two are not one operator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        schema = func._schema
        given = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        is_view = all(each.untyped_storage()._cdata in given for each in tree_leaves(made) if isinstance(each, Tensor))
        if (not is_view or schema.is_mutable) and schema.name not in FREE:
            self.count[schema.name] += 1
            if schema.name == "aten::conv2d" and len(args) > 2 and args[2] is not None:
                self.count["bias"] += 1
        return made

    @property
    def total(self) -> int:
        return sum(self.count.values())


def launches_of(preset: str, height: int, width: int) -> dict[str, int]:
    """Launches of each program, and of what the frame does around them, counts path included; nothing is computed."""
    network = for_gpu(Rfvif(preset_config(preset)).eval()).half().to("meta")
    outer = reduction_factor(height, width, DETAIL_PX)
    frame = GpuFrame((height, width), outer)
    found = {}
    for name, (module, inputs) in programs_of(network, *frame.small, refines=True, carries_kernels=False).items():
        with torch.inference_mode(), Launches() as seen:
            module(*inputs)
        found[name] = seen.total
    with torch.inference_mode(), Launches() as seen:
        walk(frame)
    found["around"] = seen.total
    return found


def walk(frame: GpuFrame) -> None:
    """A whole frame from 16-bit counts to colour, without the network."""
    height, width = frame.size
    meta = torch.device("meta")
    cells = -(-height // 8), -(-width // 8)
    visible = torch.empty(height, width, 3, dtype=torch.uint8, device=meta)
    counts = torch.empty(512, 640, dtype=torch.int16, device=meta)
    table = torch.empty(65536, dtype=torch.uint8, device=meta)
    grid = torch.empty(1, height, width, 2, device=meta)
    sides = ((cells[0], height), (cells[1], width), cells, (height, cells[0]), (width, cells[1]))
    seen = torch.empty(height, width, dtype=torch.bool, device=meta)
    field = GpuField(*(torch.empty(*side, device=meta) for side in sides), seen)
    prepared = frame.prepare(visible, counts, table, grid, field)
    assert prepared.levels.shape == prepared.luminance.shape == frame.size
    assert prepared.visible.shape == prepared.thermal.shape == (1, 1, *frame.small)
    out = frame.colour(visible, prepared, torch.empty_like(prepared.visible))
    assert (out.shape, out.dtype) == ((height, width, 3), torch.uint8)


@pytest.mark.parametrize(("preset", "most"), [("tiny", 395), ("small", 408)])
def test_a_frame_takes_few_launches(preset: str, most: int) -> None:
    """The review counted 1,525 for `tiny`, without casts and biases."""
    found = launches_of(preset, 480, 640)
    looks = found["refine"] + (found["estimate"] - found["refine"]) / _WHOLE_EVERY
    every = found["fuse"] + found["around"] + looks / VideoOptions().align_every
    print(preset, found, f"a frame of video: {every:.0f}")
    assert found["fuse"] < 290
    assert found["around"] < 50
    assert every < most


def test_the_engines_copies_do_not_bring_the_launches_of_a_frame_above_400(tmp_path: Path) -> None:
    """All of a frame as the engine runs it: copies between buffers, and renewing the field, too."""
    # In bfloat16, which has FP16's casts and is faster here.
    checkpoint, video = weights.checkpoint(tmp_path, "tiny"), VideoOptions()
    engine = TorchCudaEngine(checkpoint, device="cpu", dtype=torch.bfloat16, video=video)
    visible, thermal = contract.picture_pair(1, 64, 80)
    table = np.arange(65536, dtype=np.uint32).astype(np.uint8)
    for _ in range(2):
        engine.fuse_counts(visible, thermal.astype(np.uint16), table, None)
    with Launches() as seen:
        for _ in range(10):
            engine.fuse_counts(visible, thermal.astype(np.uint16), table, None)
    engine.close()
    print(f"a frame of video, all copies included: {seen.total / 10:.0f}")
    assert 250 < seen.total / 10 < 400, seen.count


@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840), (61, 83)])
def test_the_whole_frame_fits_together_at_any_size(size: tuple[int, int]) -> None:
    found = launches_of("tiny", *size)
    assert found["fuse"] < 470
    network = Rfvif(preset_config("tiny"))
    outer = reduction_factor(*size, DETAIL_PX)
    small = -(-size[0] // outer), -(-size[1] // outer)
    assert small[0] * small[1] <= DETAIL_PX * 1.01
    rows, columns = field_size(network, *small)
    assert rows * 8 >= small[0] and columns * 8 >= small[1]


VARIANTS: dict[str, RfvifConfig] = {
    "tiny": preset_config("tiny"),
    "small": preset_config("small").replace(channels=8),
    "base": preset_config("base").replace(channels=8),
    "paper": RfvifConfig(channels=8),
    "at full size": preset_config("tiny").replace(working_px=0),
    "one shift": preset_config("tiny").replace(alignment="uniform"),
    "fixed kernels": preset_config("tiny").replace(dynamic_kernels=False),
    "without": preset_config("tiny").replace(
        fdam=False, cross_modulation=False, complementary_mask=False, pyramid_fusion=False, refine_visible=False
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_form_for_gpus_is_the_same_function(name: str) -> None:
    network = weights.disturbed(VARIANTS[name].replace(residual_blocks=1, fab_count=2))
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(1, 1, 61, 83, generator=generator)
    with torch.no_grad():
        wanted = network(picture, picture.flip(-1))
        got = for_gpu(network)(picture, picture.flip(-1))
    torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)
    assert (wanted - picture).abs().mean() > 0.01


def test_the_refinement_in_one_operator_is_that_of_the_network() -> None:
    network = for_inference(weights.disturbed(preset_config("tiny")))
    block = network.refinements[0]
    torch.manual_seed(3)
    fused, visible, infrared = torch.randn(2, 8, 13, 17), torch.rand(2, 1, 13, 17), torch.rand(2, 1, 13, 17)
    with torch.no_grad():
        wanted = block(fused, visible, infrared)
        got = for_gpu(network).refinements[0](fused, torch.cat((visible, infrared), dim=1))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    torch.library.opcheck(refine_features, (fused[:1], fused[1:], fused[:1].flip(-1)))


INTERPRET = """
import torch
from fusion_core.rfvif import kernels, triton_kernels
torch.manual_seed(0)
def rand(*shape): return torch.rand(*shape)
def both(x): return x, x.contiguous(memory_format=torch.channels_last)
def same(name, plain, off, *given):
    got, wanted = getattr(triton_kernels, name)(*given), plain(*given)
    torch.testing.assert_close(got, wanted, atol=off, rtol=off)
    return got
for shape, dtype, off in (((2, 8, 9, 13), torch.float32, 1e-5), ((1, 12, 8, 8), torch.float16, 4e-3)):
    x = torch.randn(shape).to(dtype)
    guides = torch.randn(shape[0], 2 * shape[1], *shape[2:]).to(dtype)
    for fused, pair in zip(both(x), both(guides)):
        got = same("refine", kernels.refine_features_plain, off, fused, *pair.chunk(2, dim=1))
        assert got.stride() == kernels.empty_as(fused, 3 * shape[1]).stride()
    sizes = (4, shape[1]), 4, (shape[1], 4), shape[1]
    parts = (torch.randn(shape[0], shape[1]), *(torch.randn(size).to(dtype) for size in sizes))
    for each in both(x):
        got = same("attend", kernels.attend_plain, off, each, *parts)
        assert got.stride() == each.stride()
for size, cells in (((37, 41), (6, 7)), ((32, 48), (4, 6))):
    field = torch.randn(2, 2, *cells) * 4
    same("warp_cubic", kernels.warp_cubic_plain, 2e-5, rand(2, 1, *size), field, 2.0)
for factor in (2, 3):
    small = rand(2, 2, 6, 7)
    pictures = rand(2, 2, 6 * factor, 7 * factor)
    for gates in (torch.rand_like(pictures) * 2, torch.rand_like(small) * 2):
        same("draw_band", kernels.draw_band_plain, 2e-5, pictures, small, gates, small[:, :1])
print("same")
"""


def test_each_triton_kernel_gives_what_the_plain_form_gives() -> None:
    """By Triton's interpreter, in a process of its own: it runs on the CPU, and is chosen when Triton is imported."""
    place = os.environ.get("LUMITHERM_TRITON", "")
    path = os.pathsep.join([str(ROOT), *([place] if place else [])])
    has = subprocess.run([sys.executable, "-c", "import triton"], env={**os.environ, "PYTHONPATH": path})
    if has.returncode:
        pytest.skip("Triton is not installed; it comes with PyTorch for CUDA (LUMITHERM_TRITON names a folder with it)")
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRET], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_features_of_any_size_do_not_overflow() -> None:
    given = [torch.full((1, 8, 6, 6), value).half() for value in (500.0, 400.0, 0.0)]
    assert torch.isfinite(refine_features_plain(*given)).all()


def test_what_cudnn_does_not_join_is_computed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tensors on `meta` that say they were on a GPU."""
    asked: list[int] = []

    def refuses(*_: object) -> Tensor:
        asked.append(1)
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    class Given(Tensor):
        is_cuda = True

    monkeypatch.setattr(torch, "cudnn_convolution_relu", refuses)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(kernels._Process, "no_joint_relu", False)
    x, weight, bias = torch.randn(1, 4, 6, 6).as_subclass(Given), torch.randn(8, 4, 3, 3), torch.randn(8)
    body = kernels.conv_relu._init_fn
    wanted = torch.relu(torch.conv2d(x, weight, bias, padding=1))
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert torch.equal(body(x, weight, bias, [1, 1], [1, 1], [1, 1]), wanted)
    assert len(asked) == len(logs) == 1
    monkeypatch.setattr(kernels._Process, "no_joint_relu", False)

    def no_memory(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        body(x, weight, bias, [1, 1], [1, 1], [1, 1])
    assert not kernels._Process.no_joint_relu


def test_each_operator_tells_the_compiler_what_it_makes() -> None:
    x = torch.randn(1, 8, 9, 12)
    torch.library.opcheck(kernels.attend, (x, torch.randn(1, 8), *(torch.randn(s) for s in ((4, 8), 4, (8, 4), 8))))
    torch.library.opcheck(kernels.warp_cubic, (x[:, :1].abs(), torch.randn(1, 2, 2, 2), 2.0))
    pictures, small = torch.rand(1, 2, 8, 12), torch.rand(1, 2, 4, 6)
    torch.library.opcheck(kernels.draw_band, (pictures, small, pictures, small[:, :1]))
    torch.library.opcheck(kernels.conv_relu, (x, torch.randn(4, 8, 3, 3), torch.randn(4), [1, 1], [1, 1], [1, 1]))
