"""What engines cost: build time, latency, processor time, memory, and how near they come to the arithmetic peak.

Every figure is relative to something measured in the same run: eager float32 PyTorch on the same pictures, and the
arithmetic that a large convolution reaches. Seconds depend on the machine and its load; processor time and ratios do
so much less, and only they are held against stored values (`check_ratios`).
"""

from __future__ import annotations

import copy
import datetime
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion_core.engine import ENGINE_NAMES, VIDEO_ALIGN_EVERY, FusionEngine, create_engine
from fusion_core.errors import EngineError, LumithermError, UsageError

__all__ = [
    "BENCHMARK_ENGINES",
    "Case",
    "Failure",
    "Result",
    "check_ratios",
    "environment",
    "measure_case",
    "run_case",
    "with_ratios",
]

REFERENCE = "torch"
"""Eager PyTorch in float32, which every ratio refers to."""

BENCHMARK_ENGINES = (
    "torch", "torch-compile-bf16", "onnxruntime", "openvino-f32", "openvino", "openvino-video", "torch-cuda",
    "torch-cuda-compiled", "tensorrt", "pyramid", "ncc-pyramid",
)  # fmt: skip
"""What can be measured. openvino-video: as on video, the displacement estimated every few frames beside the fusion.
torch-compile-bf16 and onnxruntime are measured for comparison; the application does not use them."""

_CPU = ("torch", "torch-compile-bf16", "onnxruntime", "openvino-f32", "openvino", "openvino-video")
_BFLOAT16 = ("torch-compile-bf16", "openvino", "openvino-video")
_THERMAL_SIZE = (512, 640)
_CASE_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement. weights: a file in place of the preset's shipped weights. threads: None = the engine's own."""

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


@dataclass(frozen=True, slots=True)
class Result:
    """What one case took. Times in ms a frame; cpu_ms: processor time of all threads together."""

    case: Case
    name: str
    build_s: float
    frames: int
    median_ms: float
    p95_ms: float
    best_ms: float
    cpu_ms: float
    fps: float
    path_ms: float
    """Median of the whole path: AGC of 16-bit counts, thermal onto the visible grid, fusion."""
    memory_mib: float
    """Peak of the process (of the GPU for GPU engines) above what it was before the engine was made."""
    giga_macs: float
    """Multiply-accumulates a frame by the network's definition; 0 for engines without one."""
    peak_giga_macs: float
    """Multiply-accumulates a second that a large convolution or product reached in this run, at the engine's precision:
    for CPU engines a processor second."""
    peak_share: float
    ratio: float = 0.0
    """Median time of eager float32 over this one's; 0 where the reference was not measured."""
    cpu_ratio: float = 0.0
    """The same of processor time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not run, and why."""

    case: Case
    reason: str


def environment() -> dict[str, Any]:
    """The machine, its load and the versions, as plain JSON values."""
    import psutil
    import torch

    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "usable_threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(value, 1) for value in psutil.getloadavg()],
        "cpu_busy_percent": psutil.cpu_percent(interval=0.5),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
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


def run_case(case: Case) -> Result | Failure:
    """Measure one case in a process of its own, so that memory and threads of one do not show in another."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(case, theirs), name="benchmark")
    process.start()
    theirs.close()
    try:
        if not ours.poll(_CASE_TIMEOUT_S):
            process.kill()
            return Failure(case, f"did not end within {_CASE_TIMEOUT_S:.0f} s")
        outcome: Result | Failure = ours.recv()
    except EOFError:
        process.join(10)
        outcome = Failure(case, f"its process ended with exit code {process.exitcode}; out of memory?")
    finally:
        ours.close()
        process.join(30)
    return outcome


def _child(case: Case, connection: Any) -> None:
    try:
        connection.send(measure_case(case))
    except LumithermError as error:
        connection.send(Failure(case, str(error)))
    except Exception as error:  # a library's own failure is a result of the benchmark too
        connection.send(Failure(case, f"{type(error).__name__}: {error}"))
    finally:
        connection.close()


def measure_case(case: Case) -> Result:
    """Measure in this process.

    Raises:
        UsageError: no such engine or preset. EngineError, CheckpointError: the engine does not run here.
    """
    import torch

    from fusion_core.agc import Agc

    if case.engine not in BENCHMARK_ENGINES:
        raise UsageError(f"there is no engine {case.engine!r} to measure; there are {', '.join(BENCHMARK_ENGINES)}")
    if case.threads:
        torch.set_num_threads(case.threads)
    visible, counts = _pictures(case.height, case.width)
    on_gpu = case.engine.startswith(("torch-cuda", "tensorrt"))
    before = _memory_mib(on_gpu)
    began_s = time.perf_counter()
    engine = _make(case)
    try:
        engine.warm_up(case.height, case.width)
        build_s = time.perf_counter() - began_s
        agc = Agc()
        thermal = _to_grid(agc.apply(counts), case.height, case.width)
        walls_ms, cpus_ms = _times(lambda: engine.fuse(visible, thermal), case.seconds)
        path_ms, _ = _times(
            lambda: engine.fuse(visible, _to_grid(agc.apply(counts), case.height, case.width)), case.seconds / 2
        )
        memory_mib = _memory_mib(on_gpu) - before
        name = engine.name
    finally:
        engine.close()
    median_ms, cpu_ms = float(np.median(walls_ms)), float(np.median(cpus_ms))
    giga_macs = _giga_macs(case)
    peak = _peak_giga_macs(case) if giga_macs else 0.0
    # On a CPU by processor time: what else runs on the machine then matters little.
    reached = giga_macs / ((median_ms if on_gpu else cpu_ms) / 1e3) if giga_macs else 0.0
    return Result(
        case=case,
        name=name,
        build_s=build_s,
        frames=len(walls_ms),
        median_ms=median_ms,
        p95_ms=float(np.percentile(walls_ms, 95)),
        best_ms=float(np.min(walls_ms)),
        cpu_ms=cpu_ms,
        fps=1e3 / median_ms,
        path_ms=float(np.median(path_ms)),
        memory_mib=memory_mib,
        giga_macs=giga_macs,
        peak_giga_macs=peak,
        peak_share=reached / peak if peak else 0.0,
    )


def with_ratios(results: Iterable[Result]) -> list[Result]:
    """The same, with the ratios to eager float32 at the same preset and size filled in."""
    from dataclasses import replace

    kept = list(results)
    reference = {(r.case.preset, r.case.height, r.case.width): r for r in kept if r.case.engine == REFERENCE}
    out = []
    for result in kept:
        base = reference.get((result.case.preset, result.case.height, result.case.width))
        if base is not None:
            cpu_ratio = base.cpu_ms / result.cpu_ms if result.cpu_ms > 0 else 0.0
            result = replace(result, ratio=base.median_ms / result.median_ms, cpu_ratio=cpu_ratio)
        out.append(result)
    return out


def check_ratios(results: Sequence[Result], stored: Mapping[str, float], tolerance: float = 0.35) -> list[str]:
    """What has become slower, against eager float32 in the same run, than stored ratios say.

    Args:
        stored: `Case.key` -> ratio; of processor time for CPU engines, of time for GPU engines.
        tolerance: a ratio may fall by this share before it counts.

    Returns:
        One line a regression; nothing if all is well. Stored keys that were not measured are passed over.
    """
    lines = []
    for result in results:
        wanted = stored.get(result.case.key)
        found = stored_ratio(result)
        if wanted is None or found <= 0.0:
            continue
        if found < wanted * (1.0 - tolerance):
            lines.append(f"{result.case.key}: {found:.2f} times eager float32, stored is {wanted:.2f}")
    return lines


def stored_ratio(result: Result) -> float:
    """The ratio that is compared between runs."""
    return result.cpu_ratio if result.case.engine in _CPU else result.ratio


def as_json(result: Result) -> dict[str, Any]:
    """Plain JSON values."""
    return asdict(result) | {"key": result.case.key}


# ---------------------------------------------------------------- inside


def _make(case: Case) -> FusionEngine:
    weights = Path(case.weights) if case.weights is not None else None
    engine: FusionEngine
    if case.engine in ("torch-compile-bf16", "onnxruntime", "openvino-f32", "torch-cuda-compiled"):
        from fusion_core.checkpoint import load_checkpoint, resolve_weights

        checkpoint = load_checkpoint(resolve_weights(weights if weights is not None else case.preset))
        if case.engine == "openvino-f32":
            from fusion_core.engine_cache import EngineCache
            from fusion_core.openvino_engine import OpenVinoEngine

            engine = OpenVinoEngine(checkpoint, precision="f32", threads=case.threads, cache=EngineCache())
        elif case.engine == "torch-cuda-compiled":
            from fusion_core.torch_cuda_engine import TorchCudaEngine

            engine = TorchCudaEngine(checkpoint, compiled=True)
        elif case.engine == "torch-compile-bf16":
            import torch

            from fusion_core.torch_cuda_engine import TorchCudaEngine

            engine = TorchCudaEngine(checkpoint, device="cpu", dtype=torch.bfloat16, compiled=True)
        else:
            from fusion_core.onnx_engine import OnnxEngine

            engine = OnnxEngine(checkpoint, threads=case.threads)
    else:
        name, every = case.engine, 1
        if name == "openvino-video":
            name, every = "openvino", VIDEO_ALIGN_EVERY
        if name not in ENGINE_NAMES:
            raise EngineError(f"there is no engine {name!r}")
        engine = create_engine(name, case.preset, weights, case.threads, align_every=every)
    if case.tiled:
        from fusion_core.tiling import TiledEngine

        engine = TiledEngine(engine)
    return engine


def _pictures(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A visible picture with structure at every scale, and thermal counts of the usual 640x512 camera."""
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


def _to_grid(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    interpolation = cv2.INTER_LINEAR if height >= levels.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(levels, (width, height), interpolation=interpolation))


def _times(run: Callable[[], object], seconds: float) -> tuple[list[float], list[float]]:
    """Wall and processor time of each call, ms: at least 5 calls after 2 to warm up, for about `seconds`."""
    for _ in range(2):
        run()
    walls_ms: list[float] = []
    cpus_ms: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(walls_ms) < 5 or (time.perf_counter() < end_s and len(walls_ms) < 2000):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        run()
        cpus_ms.append((time.process_time() - cpu_s) * 1e3)
        walls_ms.append((time.perf_counter() - wall_s) * 1e3)
    return walls_ms, cpus_ms


def _giga_macs(case: Case) -> float:
    """Counted on tensors without contents. 0 for engines without a network."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if case.engine not in (*_CPU, "torch-cuda", "torch-cuda-compiled", "tensorrt"):
        return 0.0
    from fusion_core.checkpoint import load_checkpoint, resolve_weights

    checkpoint = load_checkpoint(resolve_weights(Path(case.weights) if case.weights is not None else case.preset))
    height, width = (720, 1280) if case.tiled else (case.height, case.width)
    network = copy.deepcopy(checkpoint.network).to("meta")
    picture = torch.empty(1, 1, height, width, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(picture, picture)
    one = float(counter.get_total_flops()) / 2e9
    if case.tiled:
        from fusion_core.tiling import tile_starts

        return one * len(tile_starts(case.height, 720, 64)) * len(tile_starts(case.width, 1280, 64))
    return one


def _peak_giga_macs(case: Case) -> float:
    """Best of several runs of a large 3x3 convolution (CPU, a processor second) or matrix product (GPU, a second)."""
    import torch

    best = 0.0
    if case.engine not in _CPU:
        side = 8192
        a = torch.randn(side, side, device="cuda", dtype=torch.float16)
        for _ in range(10):
            torch.cuda.synchronize()
            began_s = time.perf_counter()
            a @ a
            torch.cuda.synchronize()
            best = max(best, side**3 / 1e9 / (time.perf_counter() - began_s))
        return best
    dtype = torch.bfloat16 if case.engine in _BFLOAT16 else torch.float32
    convolution = torch.nn.Conv2d(128, 128, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    picture = torch.randn(1, 128, 120, 160, dtype=dtype).contiguous(memory_format=torch.channels_last)
    giga_macs = 128 * 128 * 9 * 120 * 160 / 1e9
    with torch.inference_mode():
        for _ in range(8):
            began_s = time.process_time()
            convolution(picture)
            best = max(best, giga_macs / max(time.process_time() - began_s, 1e-9))
    return best


def _memory_mib(on_gpu: bool) -> float:
    """Peak so far."""
    if on_gpu:
        import torch

        return float(torch.cuda.max_memory_reserved()) / 2**20 if torch.cuda.is_available() else 0.0
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
