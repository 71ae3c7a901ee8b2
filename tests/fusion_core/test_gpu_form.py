"""The network as GPUs run it: the same function in fewer launches, and the Triton kernels by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from support import network_weights as weights
from torch.utils._python_dispatch import TorchDispatchMode

from fusion_core.engines.gpu.frame import GpuField, GpuFrame
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.rfvif.gpu_form import for_gpu
from fusion_core.rfvif.inference import for_inference
from fusion_core.rfvif.kernels import refine_features, refine_features_plain
from fusion_core.rfvif.programs import field_size, programs_of
from fusion_core.rfvif.working_grid import DETAIL_PX, reduction_factor

ROOT = Path(__file__).resolve().parents[2]
FREE = {"aten::empty", "aten::empty_strided", "aten::empty_like", "aten::new_empty", "aten::detach", "aten::lift_fresh"}


class Launches(TorchDispatchMode):
    """Counts operators that a GPU would be given: views and allocations are free."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = func._schema
        is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in schema.returns)
        if not is_view and schema.name not in FREE:
            self.count[schema.name] += 1
        return func(*args, **(kwargs or {}))

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


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_a_frame_takes_few_launches(preset: str) -> None:
    """One network without rewriting is 2,084 launches for `tiny`, of which an estimate from nothing is 1,241."""
    found = launches_of(preset, 480, 640)
    every = found["fuse"] + found["around"] + found["refine"] / 5
    print(preset, found, f"a frame of video: {every:.0f}")
    assert found["fuse"] < 470
    assert found["around"] < 50
    assert every < 570


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


@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_the_form_for_gpus_is_the_same_function(preset: str) -> None:
    network = weights.disturbed(preset_config(preset).replace(residual_blocks=1, channels=8))
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
        got = for_gpu(network).refinements[0](fused, visible, infrared)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    torch.library.opcheck(refine_features, (fused[:1], fused[1:], fused[:1].flip(-1)))


INTERPRET = """
import torch
from fusion_core.rfvif.kernels import refine_features_plain
from fusion_core.rfvif.triton_kernels import blend, refine
from fusion_core.rfvif.working_grid import blend_bands
torch.manual_seed(0)
for shape, dtype, off in (((2, 8, 9, 13), torch.float32, 1e-5), ((1, 12, 8, 8), torch.float16, 4e-3)):
    given = [torch.randn(shape).to(dtype) for _ in range(3)]
    torch.testing.assert_close(refine(*given), refine_features_plain(*given), atol=off, rtol=off)
for dtype, off in ((torch.float32, 1e-6), (torch.float16, 2e-3)):
    given = [(torch.randn(1, 1, 37, 41) * 0.05).to(dtype) for _ in range(2)]
    given += [torch.rand(1, 1, 37, 41).to(dtype) * 2 for _ in range(2)]
    torch.testing.assert_close(blend(*given), blend_bands(*given), atol=off, rtol=off)
print("same")
"""


def test_the_triton_kernel_gives_what_the_plain_form_gives() -> None:
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
