"""What engines cost: build time, latency, processor time, memory, and how near they come to the arithmetic peak.

Every figure is relative to something measured in the same run: eager float32 PyTorch on the same pictures, and the
arithmetic that a large convolution reaches. Seconds depend on the machine and its load. Processor time and ratios
depend on them much less, so only these are compared with stored values (`check_ratios`).
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusion_core.benchmark.candidates import (
    BENCHMARK_ENGINES,
    GPU_ENGINES,
    ON_VIDEO,
    REFERENCE,
    Case,
    forget_peak_memory,
    giga_macs,
    load_libraries,
    make_engine,
    peak_giga_macs,
    peak_memory_mib,
    pictures,
    weights_for,
)
from fusion_core.errors import LumithermError, UsageError

if TYPE_CHECKING:
    from fusion_core.engines.cache import EngineCache
    from fusion_core.engines.engine import FusionEngine
    from fusion_core.thermal.agc import Agc

__all__ = [
    "Failure",
    "Result",
    "as_json",
    "check_ratios",
    "from_json",
    "measure_case",
    "run_case",
    "stored_ratio",
    "with_ratios",
]

_CASE_TIMEOUT_S = 1800.0
_LEAST_CALLS = 5
_PATIENCE = 4  # times `Case.seconds`, after which three calls are enough


@dataclass(frozen=True, slots=True)
class Result:
    """What one case took. Times in ms a frame; cpu_ms: processor time of all threads together."""

    case: Case
    name: str
    build_s: float
    """Until the first frame could be fused, with no files from earlier starts."""
    start_s: float
    """Until the first frame, for engines that keep files, once the files are there; else 0."""
    frames: int
    median_ms: float
    """One pair of 8-bit pictures on one grid to a fused colour picture: luminance, network, colour."""
    p95_ms: float
    best_ms: float
    cpu_ms: float
    fps: float
    path_ms: float
    """Median of the whole path: AGC of 16-bit counts, thermal onto the visible grid, fusion."""
    memory_mib: float
    """Peak of the process (of the GPU for GPU engines) above what it held before the engine was made."""
    giga_macs: float
    """Multiply-accumulates (10^9) a frame by the network's definition; 0 for engines without one."""
    peak_giga_macs: float
    """Multiply-accumulates a second that a large convolution or product reached in this run, at the engine's precision:
    for CPU engines a processor second."""
    peak_share: float
    ratio: float = 0.0
    """Median time of eager float32 over this one's; 0 where the reference was not measured."""
    cpu_ratio: float = 0.0
    """Processor time of eager float32 over this one's; 0 where the reference was not measured."""
    build_cpu_s: float = 0.0
    """Processor time of the build, compilers that it starts included; other programs hardly change it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not run, and why."""

    case: Case
    reason: str


def run_case(case: Case) -> Result | Failure:
    """Measure one case in a separate process, so that its memory and threads do not show in another case."""
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
    if case.engine not in BENCHMARK_ENGINES:
        raise UsageError(f"there is no engine {case.engine!r} to measure; there are {', '.join(BENCHMARK_ENGINES)}")
    with tempfile.TemporaryDirectory(prefix="lumitherm-benchmark-", ignore_cleanup_errors=True) as folder:
        return _measure(case, Path(folder))


def _measure(case: Case, folder: Path) -> Result:
    import torch

    from fusion_core.engines.cache import EngineCache
    from fusion_core.thermal.agc import Agc
    from fusion_core.thermal.field_of_view import to_grid

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")  # every build from nothing
    if case.threads:
        torch.set_num_threads(case.threads)
    load_libraries(case.engine)
    weights = weights_for(case, folder)
    cache = EngineCache(folder / "engines")
    visible, counts = pictures(case.height, case.width)
    on_gpu = case.engine in GPU_ENGINES
    forget_peak_memory()
    before_mib = peak_memory_mib(on_gpu=on_gpu)

    engine, building = _built(case, weights, cache)
    try:
        agc = Agc()
        thermal = to_grid(agc.apply(counts), case.height, case.width)
        walls_ms, cpus_ms = _times(lambda: engine.fuse(visible, thermal), case.seconds)
        path_ms, _ = _times(_path(engine, agc, visible, counts), case.seconds / 2)
        memory_mib = max(0.0, peak_memory_mib(on_gpu=on_gpu) - before_mib)
        name = engine.name
    finally:
        engine.close()
    median_ms = float(np.median(walls_ms))
    # The estimate of the displacement falls on some frames of a video only, but belongs to all of them.
    cpu_ms = float(np.mean(cpus_ms) if case.engine in ON_VIDEO else np.median(cpus_ms))
    macs = giga_macs(case, weights)
    peak = peak_giga_macs(case) if macs else 0.0
    # On a CPU by processor time: other programs hardly change it.
    reached = macs / ((median_ms if on_gpu else cpu_ms) / 1e3) if macs else 0.0
    return Result(
        case=case,
        name=name,
        build_s=building.build_s,
        start_s=building.start_s,
        frames=len(walls_ms),
        median_ms=median_ms,
        p95_ms=float(np.percentile(walls_ms, 95)),
        best_ms=float(np.min(walls_ms)),
        cpu_ms=cpu_ms,
        fps=1e3 / float(np.mean(walls_ms)),
        path_ms=float(np.median(path_ms)),
        memory_mib=memory_mib,
        giga_macs=macs,
        peak_giga_macs=peak,
        peak_share=reached / peak if peak else 0.0,
        build_cpu_s=building.build_cpu_s,
    )


def _path(engine: FusionEngine, agc: Agc, visible: np.ndarray, counts: np.ndarray) -> Callable[[], object]:
    """A whole frame as live pictures take it: on a GPU table and warp run there."""
    from fusion_core.thermal.field_of_view import FieldFiller, ThermalWarp, to_grid

    height, width = visible.shape[:2]
    fuse_counts = getattr(engine, "fuse_counts", None)
    if fuse_counts is None:
        return lambda: engine.fuse(visible, to_grid(agc.apply(counts), height, width))
    ys, xs = (np.linspace(-1.0, 1.0, side + 1, dtype=np.float32)[:-1] + 1.0 / side for side in (height, width))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1)
    matrices = FieldFiller(np.ones((height, width), bool)).matrices()
    warp = ThermalWarp(grid, (counts.shape[0], counts.shape[1]), matrices)
    return lambda: fuse_counts(visible, counts, agc.level_table(counts), warp)


class _Building(NamedTuple):
    """What making the engine took; as in `Result`."""

    build_s: float
    build_cpu_s: float
    start_s: float


def _built(case: Case, weights: Path | None, cache: EngineCache) -> tuple[FusionEngine, _Building]:
    """The engine, ready for its size: built, and where that left files, started a second time from these."""

    def ready() -> FusionEngine:
        engine = make_engine(case, weights, cache)
        try:
            engine.warm_up(case.height, case.width)
        except BaseException:
            engine.close()
            raise
        return engine

    began_s, began_cpu_s = time.perf_counter(), _cpu_s()
    engine = ready()
    build_s, build_cpu_s, start_s = time.perf_counter() - began_s, _cpu_s() - began_cpu_s, 0.0
    if cache.entries():
        engine.close()
        forget_peak_memory()  # converting takes more than running, and happens once
        began_s = time.perf_counter()
        engine = ready()
        start_s = time.perf_counter() - began_s
    return engine, _Building(build_s, build_cpu_s, start_s)


def _cpu_s() -> float:
    """Processor time of this process and of its children that have ended, s."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _times(run: Callable[[], object], seconds: float) -> tuple[list[float], list[float]]:
    """Wall and processor time of each call, ms: at least 5 calls (slow ones: 3) after 2 to warm up, for `seconds`.

    Where one call takes longer than that, on a machine busy with other work, one warms up.
    """
    began_s = time.perf_counter()
    run()
    if time.perf_counter() - began_s < seconds:
        run()
    walls_ms: list[float] = []
    cpus_ms: list[float] = []
    began_s = time.perf_counter()
    while True:
        spent_s = time.perf_counter() - began_s
        least = 3 if spent_s > _PATIENCE * seconds else _LEAST_CALLS
        if len(walls_ms) >= least and (spent_s > seconds or len(walls_ms) >= 2000):
            return walls_ms, cpus_ms
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        run()
        cpus_ms.append((time.process_time() - cpu_s) * 1e3)
        walls_ms.append((time.perf_counter() - wall_s) * 1e3)


def with_ratios(results: Iterable[Result]) -> list[Result]:
    """Fill in each result's ratios to eager float32 at its preset and size.

    A classical engine has no preset: it is compared with the first preset that was measured at its size.
    """
    kept = list(results)
    reference: dict[tuple[str, int, int], Result] = {}
    for r in kept:
        if r.case.engine == REFERENCE:
            reference[r.case.preset, r.case.height, r.case.width] = r
            reference.setdefault(("-", r.case.height, r.case.width), r)
    out = []
    for result in kept:
        base = reference.get((result.case.preset, result.case.height, result.case.width))
        if base is not None:
            cpu_ratio = base.cpu_ms / result.cpu_ms if result.cpu_ms > 0 else 0.0
            result = replace(result, ratio=base.median_ms / result.median_ms, cpu_ratio=cpu_ratio)
        out.append(result)
    return out


def check_ratios(results: Sequence[Result], stored: Mapping[str, float], tolerance: float = 0.35) -> list[str]:
    """Tell which engines have become slower than stored ratios say; each ratio is to eager float32 in its run.

    Args:
        stored: `Case.key` -> ratio; of processor time for CPU engines, of time for GPU engines.
        tolerance: a ratio may fall by this share before it counts.

    Returns:
        One line a regression; empty if all is well. Stored keys that were not measured are skipped.
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
    return result.ratio if result.case.engine in GPU_ENGINES else result.cpu_ratio


def as_json(result: Result) -> dict[str, Any]:
    """Plain JSON values."""
    return asdict(result) | {"key": result.case.key}


def from_json(values: Mapping[str, Any]) -> Result:
    """What `as_json` made. Raises UsageError for anything else."""
    try:
        known = {field.name for field in fields(Result)}
        rest = {key: value for key, value in values.items() if key in known and key != "case"}
        return Result(case=Case(**values["case"]), **rest)
    except (KeyError, TypeError) as error:
        raise UsageError(f"not a result of this version's benchmark ({error}); measure anew") from error
