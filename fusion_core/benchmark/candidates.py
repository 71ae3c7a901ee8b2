"""What the benchmark measures with: the engines, the pictures, the arithmetic of a network and of the machine."""

from __future__ import annotations

import contextlib
import copy
import datetime
import importlib
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.openvino_runtime import load_openvino
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import UsageError

if TYPE_CHECKING:
    from fusion_core.checkpoint import LoadedCheckpoint
    from fusion_core.engines.cache import EngineCache

__all__ = [
    "BENCHMARK_ENGINES",
    "CLASSICAL",
    "CPU_ENGINES",
    "GPU_ENGINES",
    "ON_VIDEO",
    "REFERENCE",
    "Case",
    "environment",
    "forget_peak_memory",
    "giga_macs",
    "load_libraries",
    "make_engine",
    "peak_giga_macs",
    "peak_memory_mib",
    "pictures",
    "trained",
    "weights_for",
]

REFERENCE = "torch"
"""Eager PyTorch in float32, which every ratio refers to."""

CPU_ENGINES = (
    "torch", "torch-compile", "torch-compile-bf16", "onnxruntime", "openvino-f32", "openvino", "openvino-video",
)  # fmt: skip
GPU_ENGINES = ("torch-cuda", "torch-cuda-compiled", "tensorrt")
CLASSICAL = ("pyramid", "ncc-pyramid")
ON_VIDEO = ("openvino-video", "aligned-pyramid")
BENCHMARK_ENGINES = (*CPU_ENGINES, "aligned-pyramid", *GPU_ENGINES, *CLASSICAL)
"""What can be measured. openvino: bfloat16 where the processor has it. openvino-video, aligned-pyramid: as on video,
where the displacement is estimated every few frames beside the fusion. torch-compile, torch-compile-bf16,
torch-cuda-compiled and onnxruntime are measured for comparison; the application does not use them."""

_BFLOAT16 = ("torch-compile-bf16", "openvino", "openvino-video")
_THERMAL_SIZE = (512, 640)
_TILE = (720, 1280)
_TILE_OVERLAP_PX = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement. weights: a file in place of the preset's shipped weights. threads: None = the engine's.

    preset is "-" for classical engines, which have no network.
    """

    engine: str
    preset: str
    height: int
    width: int
    weights: str | None = None
    threads: int | None = None
    seconds: float = 3.0
    tiled: bool = False

    @property
    def key(self) -> str:
        """For tables and stored ratios, e.g. "openvino/tiny/640x480"."""
        tiled = " tiled" if self.tiled else ""
        return f"{self.engine}/{self.preset}/{self.width}x{self.height}{tiled}"


def environment() -> dict[str, Any]:
    """The machine, its load and the versions, as plain JSON values."""
    import psutil
    import torch

    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "capability": capability(),
        "cores": psutil.cpu_count(logical=False),
        "usable_threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(value, 1) for value in psutil.getloadavg()],
        "cpu_busy_percent": psutil.cpu_percent(interval=0.5),
        "torch": torch.__version__,
    }
    for module in ("openvino", "onnxruntime", "cv2", "numpy"):
        try:
            facts[module] = __import__(module).__version__
        except ImportError:
            facts[module] = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts["gpu"] = properties.name
        facts["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        facts["cuda"] = torch.version.cuda
    else:
        facts["gpu"] = None
    return facts


def capability() -> str:
    """What decides the ratios between engines: the vector width, bfloat16 or not, and the GPU's generation."""
    import torch

    parts = [torch.backends.cpu.get_cpu_capability()]
    try:
        from fusion_core.engines.openvino_engine import cpu_has_bfloat16

        parts += ["BF16"] if cpu_has_bfloat16() else []
    except ImportError:
        pass  # without OpenVINO there is nothing here that would use it
    if torch.cuda.is_available():
        parts.append("SM%d.%d" % torch.cuda.get_device_capability())  # noqa: UP031 - a tuple
    return " ".join(parts)


def trained(preset: str) -> bool:
    """Whether weights ship with this preset."""
    from fusion_core.errors import CheckpointError
    from fusion_core.model_store import resolve_weights

    try:
        resolve_weights(preset)
    except CheckpointError:
        return False
    return True


def weights_for(case: Case, folder: Path) -> Path | None:
    """The weights file of a case; None for classical engines.

    A preset without shipped weights is measured with random ones, written into `folder`: the time does not depend on
    their values.

    Raises:
        UsageError: no such preset. CheckpointError: no such file.
    """
    if case.engine in CLASSICAL:
        return None
    import torch

    from fusion_core.checkpoint import save_checkpoint
    from fusion_core.model_store import resolve_weights
    from fusion_core.rfvif import PRESETS, Rfvif, preset_config

    if case.weights is not None:
        return resolve_weights(Path(case.weights))
    if case.preset in PRESETS and not trained(case.preset):
        torch.manual_seed(0)
        path = folder / f"{case.preset}.safetensors"
        save_checkpoint(path, Rfvif(preset_config(case.preset)), {"preset": case.preset})
        return path
    preset_config(case.preset)
    return resolve_weights(case.preset)


def make_engine(case: Case, weights: Path | None, cache: EngineCache) -> FusionEngine:
    """The engine of a case. Engines with files keep them in `cache`.

    Raises:
        UsageError: no such engine. EngineError, CheckpointError: it does not start here.
    """
    engine = _plain_engine(case, weights, cache)
    if case.tiled:
        from fusion_core.benchmark.tiling import TiledEngine

        engine = TiledEngine(engine, _TILE, _TILE_OVERLAP_PX)
    return engine


def _plain_engine(case: Case, weights: Path | None, cache: EngineCache) -> FusionEngine:
    if case.engine not in BENCHMARK_ENGINES:
        raise UsageError(f"there is no engine {case.engine!r} to measure; there are {', '.join(BENCHMARK_ENGINES)}")
    if weights is None:
        return create_engine(case.engine)
    import torch

    from fusion_core.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(weights)
    label = case.preset
    if case.engine == "torch":
        from fusion_core.engines.torch_engine import TorchEngine

        return TorchEngine(checkpoint, label=label)
    if case.engine.startswith("openvino"):
        return _openvino(case, checkpoint, cache)
    if case.engine == "aligned-pyramid":
        from fusion_core.engines.aligned_pyramid import AlignedPyramidEngine

        return AlignedPyramidEngine(checkpoint, threads=case.threads or 1, video=VideoOptions(), cache=cache)
    if case.engine == "onnxruntime":
        from fusion_core.benchmark.onnx_engine import OnnxEngine

        return OnnxEngine(checkpoint, label=label, threads=case.threads)
    if case.engine == "tensorrt":
        from fusion_core.engines.tensorrt_engine import TensorRtEngine

        return TensorRtEngine(checkpoint, label=label, video=VideoOptions(), cache=cache)
    from fusion_core.engines.torch_cuda_engine import TorchCudaEngine

    if case.engine.startswith("torch-cuda"):
        compiled = case.engine.endswith("compiled")
        return TorchCudaEngine(checkpoint, label=label, compiled=compiled, video=VideoOptions())
    dtype = torch.bfloat16 if case.engine.endswith("bf16") else torch.float32
    return TorchCudaEngine(checkpoint, label=label, device="cpu", dtype=dtype, compiled=True)


def _openvino(case: Case, checkpoint: LoadedCheckpoint, cache: EngineCache) -> FusionEngine:
    from fusion_core.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(
        checkpoint,
        label=case.preset,
        precision="f32" if case.engine == "openvino-f32" else "auto",
        threads=case.threads,
        video=VideoOptions() if case.engine == "openvino-video" else STILL_PICTURES,
        cache=cache,
    )


def pictures(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A visible picture with structure at every scale, and thermal counts of the usual 640x512 camera.

    Returns:
        (H, W, 3) uint8 RGB, (512, 640) uint16.
    """
    import cv2

    rng = np.random.default_rng(0)

    def structure(rows: int, columns: int) -> np.ndarray:
        total = np.zeros((rows, columns), np.float32)
        for cells in (4, 16, 64):
            noise = rng.standard_normal((cells, cells)).astype(np.float32) * (4.0 / cells) ** 0.5
            total += cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)
        return total

    channels = [np.clip(128 + 50 * structure(height, width), 0, 255).astype(np.uint8) for _ in range(3)]
    counts = np.clip(30_000 + 400 * structure(*_THERMAL_SIZE), 0, 65535).astype(np.uint16)
    return np.stack(channels, axis=-1), counts


def giga_macs(case: Case, weights: Path | None) -> float:
    """Multiply-accumulates (10^9) a frame by the network's definition; 0 for engines without a fusion network.

    openvino-video: with the displacement estimate's share of one frame. Tiled: of all tiles together.
    """
    if weights is None or case.engine == "aligned-pyramid":
        return 0.0
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fusion_core.benchmark.tiling import tile_starts
    from fusion_core.checkpoint import load_checkpoint

    height, width = _TILE if case.tiled else (case.height, case.width)
    network = copy.deepcopy(load_checkpoint(weights).network).to("meta")
    picture = torch.empty(1, 1, height, width, device="meta")

    def count(run: Any) -> float:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        return float(counter.get_total_flops()) / 2e9

    total = count(lambda: network(picture, picture))
    if case.engine == "openvino-video" and network.alignment is not None:
        padded = network.pad(picture)
        estimate = count(lambda: network.estimate(padded, padded))
        total -= estimate * (1.0 - 1.0 / VideoOptions().align_every)
    if case.tiled:
        rows = tile_starts(case.height, min(_TILE[0], case.height), _TILE_OVERLAP_PX)
        columns = tile_starts(case.width, min(_TILE[1], case.width), _TILE_OVERLAP_PX)
        total *= len(rows) * len(columns)
    return total


def peak_giga_macs(case: Case) -> float:
    """What this machine reaches at the engine's precision, 10^9 multiply-accumulates.

    On a CPU: a processor second, in a 3x3 convolution of 128 channels by oneDNN. On a GPU: a second, in a product of
    two 8192x8192 matrices in FP16. The best of several runs.
    """
    import torch

    best = 0.0
    if case.engine in GPU_ENGINES:
        side = 8192
        a = torch.randn(side, side, device="cuda", dtype=torch.float16)
        for _ in range(10):
            torch.cuda.synchronize()
            began_s = time.perf_counter()
            a @ a
            torch.cuda.synchronize()
            best = max(best, side**3 / 1e9 / (time.perf_counter() - began_s))
        return best
    bfloat16 = case.engine in _BFLOAT16
    if bfloat16 and case.engine.startswith("openvino"):
        from fusion_core.engines.openvino_engine import bfloat16_pays

        bfloat16 = bfloat16_pays()
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    convolution = torch.nn.Conv2d(128, 128, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    picture = torch.randn(1, 128, 120, 160, dtype=dtype).contiguous(memory_format=torch.channels_last)
    each = 128 * 128 * 9 * 120 * 160 / 1e9
    with torch.inference_mode():
        for _ in range(8):
            began_s = time.process_time()
            convolution(picture)
            best = max(best, each / max(time.process_time() - began_s, 1e-9))
    return best


def peak_memory_mib(*, on_gpu: bool) -> float:
    """The most memory that this process has held since `forget_peak_memory`, MiB.

    For GPU engines: what is taken of the GPU now, by whomever; TensorRT's own memory is not PyTorch's to know.
    """
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            return 0.0
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 2**20
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):  # unlike ru_maxrss, which begins with what the parent process held
                return float(line.split()[1]) / 2**10
    except OSError:
        pass  # not Linux
    import psutil

    facts = psutil.Process().memory_info()
    return float(getattr(facts, "peak_wset", facts.rss)) / 2**20


def forget_peak_memory() -> None:
    """Start the peak anew at what is held now, where the system can do that (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def load_libraries(engine: str) -> None:
    """Import what an engine needs, so that its libraries do not count as its memory. Raises nothing."""
    for name in ("torch", "openvino" if engine.startswith("openvino") else "onnxruntime"):
        if name != "onnxruntime" or engine == name:
            with contextlib.suppress(ImportError):
                load_openvino() if name == "openvino" else importlib.import_module(name)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
