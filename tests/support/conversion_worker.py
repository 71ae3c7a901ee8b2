"""`python -m support.conversion_worker FOLDER CONFIG HEIGHT WIDTH PROGRAM...`: Torch-TensorRT's own, without a GPU.

Converts these programs of a network by the code that builds engines (`fusion_core.engines.gpu.plan.build_plan`), stops
before TensorRT would look for a GPU, and computes the converted network on the CPU. Prints what it found as JSON. A
process of its own, since it makes Torch-TensorRT believe in a GPU. The fusion is always one of them. FOLDER holds the
Python part of torch-tensorrt-rtx.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections import Counter
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fusion_core.checkpoint import load_checkpoint
from fusion_core.engines.gpu.plan import build_plan
from fusion_core.errors import EngineError
from fusion_core.model_store import resolve_weights, shipped_presets
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.rfvif.inference import for_inference
from fusion_core.rfvif.programs import programs_of
from support import network_weights as weights
from support.tensorrt_layers import TensorRtNetwork


class _Enough(Exception):  # noqa: N818 - no error
    """The network is defined; TensorRT need not build it."""


def believe_in_a_gpu() -> None:
    """What Torch-TensorRT asks torch about the GPU while it is imported and converts."""
    properties = SimpleNamespace(name="none", major=8, minor=9, total_memory=8 << 30, multi_processor_count=24)

    class Nothing:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    answers: dict[str, Any] = {
        "get_device_capability": lambda *_: (8, 9),
        "get_device_properties": lambda *_: properties,
        "get_device_name": lambda *_: "none",
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "device": Nothing,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda *_: (8 << 30, 8 << 30),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    if not hasattr(torch._C, "_CudaDeviceProperties"):
        torch._C._CudaDeviceProperties = Nothing


def network_of(config: str) -> Rfvif:
    """The shipped network of a preset, or a random one."""
    if config in shipped_presets():
        return load_checkpoint(resolve_weights(config)).network.float()
    return weights.disturbed(weights.BRIEF if config == "brief" else preset_config(config))


def convert(
    name: str, module: nn.Module, inputs: tuple[Tensor, ...], torch_tensorrt: Any, tensorrt: Any
) -> tuple[TensorRtNetwork, int]:
    """The network that TensorRT would build for a program, and how many operators had no converter."""
    from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter

    defined: list[Any] = []

    def enough(self: Any, *_: object, **__: object) -> None:
        defined.append(self)
        raise _Enough

    TRTInterpreter._populate_trt_builder_config = enough
    try:
        build_plan(name, module, inputs, torch_tensorrt, torch.device("cuda", 0))
    except EngineError as error:
        if not defined:
            raise
        assert isinstance(error.__cause__, RuntimeError)
    (interpreter,) = defined
    return TensorRtNetwork(interpreter.ctx.net, tensorrt, interpreter), len(interpreter.validate_conversion())


def pictures(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Structure in both, the second moved by (3, -2) px, brighter, and with noise of its own."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, height // 8 + 2, width // 8 + 2, generator=generator)
    big = nn.functional.interpolate(coarse, size=(height + 16, width + 16), mode="bicubic").clamp(0, 1)
    noise = torch.rand(1, 1, height, width, generator=generator) * 0.02
    second = (1.0 - big[..., 10 : 10 + height, 5 : 5 + width]) * 0.8 + noise
    return big[..., 8 : 8 + height, 8 : 8 + width], second


def psnr_db(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a.float() - b.float()).square().mean().clamp(min=1e-12)))


def main() -> None:
    folder, config, height, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    programs = sys.argv[5:]
    believe_in_a_gpu()
    sys.path.append(folder)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    import tensorrt_rtx
    import torch_tensorrt

    plain = for_inference(network_of(config))
    half = for_inference(plain).half()
    sizes = {"refines": True, "carries_kernels": False}
    wanted = {name: module for name, (module, _) in programs_of(plain, height, width, **sizes).items()}
    converted: dict[str, Any] = dict(wanted)
    told = {}
    for name, (module, inputs) in programs_of(half, height, width, **sizes).items():
        if name not in programs:
            continue
        converted[name], missing = convert(name, module, inputs, torch_tensorrt, tensorrt_rtx)
        layers = Counter(" ".join(each) for each in converted[name].layers())
        told[name] = {"layers": layers, "types": converted[name].types(), "without_converter": missing}
    visible, thermal = pictures(height, width)
    with torch.inference_mode():
        field = converted["estimate"](visible, thermal)
        true_field = wanted["estimate"](visible, thermal)
        around = converted["refine"](visible, thermal, true_field[0])
        true_around = wanted["refine"](visible, thermal, true_field[0])
        (fused,) = converted["fuse"](visible, thermal, *field)
        true_fused = wanted["fuse"](visible, thermal, *true_field)
    print(
        json.dumps(
            {
                "programs": told,
                "psnr_db": psnr_db(fused, true_fused),
                "change": float((true_fused - visible).abs().mean()),
                "estimate_off_px": float((field[0] - true_field[0]).abs().median()),
                "refine_off_px": float((around[0] - true_around[0]).abs().median()),
                "moved_px": float(true_field[0].abs().median()),
            }
        )
    )


if __name__ == "__main__":
    main()
