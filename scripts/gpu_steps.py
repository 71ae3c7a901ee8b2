"""The steps of `gpu_check.py`, each run in a child process: a function of a `Machine` that gives figures or fails."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.gpu import device as gpu_device
from fusion_core.engines.gpu.device import Runtime
from fusion_core.engines.torch_cuda_engine import GpuEngine, TorchCudaEngine
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import EngineError
from fusion_core.model_store import resolve_weights, shipped_presets
from fusion_core.rfvif import Rfvif, preset_config
from fusion_core.thermal.field_of_view import FieldFiller, ThermalWarp

CROPS = Path(__file__).with_name("gpu_crops.npz")
PARITY_DB = 45.0
CROP = (80, 112)  # height, width
ASSERT_ON_DEVICE = """
import pathlib, torch, gpu_steps
machine = gpu_steps.Machine("cuda", pathlib.Path(OUT), True, 60.0)
engine = machine.engine("torch-cuda", machine.checkpoint("tiny"))
engine.warm_up(*gpu_steps.CROP)
engine._runner._prepare = lambda: torch.zeros(1, device="cuda")[torch.tensor([9], device="cuda")]
try:
    engine.fuse(*gpu_steps.crops()[0])
    print("no error")
except gpu_steps.EngineError as error:
    print("engine error:", error)
engine.close()
"""
Figures = dict[str, Any]


class Skip(Exception):  # noqa: N818 - says what it does
    """The step, or a part of it, cannot be run here; the text says why."""


@dataclass(frozen=True)
class Machine:
    """What the steps run on. small: a rehearsal, with few and small pictures."""

    device: str
    out: Path
    small: bool
    limit_s: float
    pairs: Path | None = None  # to train on

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    def engine(self, kind: str, checkpoint: LoadedCheckpoint, video: VideoOptions = STILL_PICTURES) -> GpuEngine:
        """kind: torch-cuda, compiled or tensorrt. Raises Skip where the flavour is not installed."""
        if kind == "tensorrt":
            from fusion_core.engines.tensorrt_engine import TensorRtEngine

            try:
                return TensorRtEngine(
                    checkpoint, device=self.device, video=video, cache=EngineCache(self.out / "engines")
                )
            except EngineError as error:
                raise Skip(f"tensorrt: {error}") from error
        if kind == "compiled" and not self.cuda:
            raise Skip("compiled: only on a GPU")
        compiled = kind == "compiled"
        return TorchCudaEngine(checkpoint, device=self.device, dtype=torch.float16, compiled=compiled, video=video)

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("torch-cuda", "compiled", "tensorrt")

    def checkpoint(self, preset: str) -> LoadedCheckpoint:
        """The shipped weights, or random ones that do something."""
        if preset in shipped_presets():
            return load_checkpoint(resolve_weights(preset))
        torch.manual_seed(0)
        network = Rfvif(preset_config(preset)).eval()
        torch.nn.init.normal_(network.reconstruction.convs[-1].weight, std=0.02)
        path = self.out / f"{preset}-random.safetensors"
        save_checkpoint(path, network, {})
        return load_checkpoint(path)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def crops() -> list[tuple[np.ndarray, np.ndarray]]:
    """32 pairs (80, 112, 3) and (80, 112) uint8 from the simulated rig."""
    with np.load(CROPS) as stored:
        return list(zip(stored["visible"], stored["thermal"], strict=True))


def pair_of(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A crop, enlarged."""
    import cv2

    visible, thermal = crops()[3]
    return tuple(
        np.asarray(cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC)) for each in (visible, thermal)
    )  # type: ignore[return-value]


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255.0**2 / max(1e-4, float(np.mean((a.astype(float) - b) ** 2)))))


def want(holds: bool, what: str) -> None:
    """Fail the step unless it holds."""
    if not holds:
        raise AssertionError(what)


@contextmanager
def running(engine: Any) -> Iterator[Any]:
    try:
        yield engine
    finally:
        engine.close()


# ------------------------------------------------------------------ the steps


def probe(machine: Machine) -> Figures:
    """Card, driver, libraries; which flavours can run."""
    found: Figures = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    if machine.cuda:
        gpu_device.check_device(machine.device)
        properties = torch.cuda.get_device_properties(machine.device)
        found |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "free_gib": round(torch.cuda.mem_get_info()[0] / 2**30, 1),
        }
        driver = Path("/proc/driver/nvidia/version")
        found["driver"] = driver.read_text().splitlines()[0] if driver.is_file() else "unknown"
    libraries = subprocess.run(
        ["find", "/usr", "/opt", sys.prefix, "-xdev", "-name", "libnvinfer*.so*"], capture_output=True, text=True
    )
    found["libnvinfer"] = sorted({Path(line).name for line in libraries.stdout.split()})
    flavours = {}
    for kind in machine.kinds:
        try:
            machine.engine(kind, machine.checkpoint("tiny")).close()
            flavours[kind] = "runs"
        except (Skip, EngineError) as error:
            flavours[kind] = str(error)
    found["engines"] = flavours
    return found


def smoke(machine: Machine) -> Figures:
    """Every unusual operator of the frame alone, against the CPU."""
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(-32768, 32767, (40, 50), generator=generator, dtype=torch.int16)
    table = torch.randint(0, 255, (65536,), generator=generator, dtype=torch.uint8)
    picture = torch.rand(1, 8, 40, 50, generator=generator)
    grid = torch.rand(1, 40, 50, 2, generator=generator) * 2.2 - 1.1
    kernel = torch.rand(24, 1, 7, 7, generator=generator)
    weight = torch.rand(8, 8, 3, 3, generator=generator) - 0.5
    perceptron = [torch.rand(size, generator=generator) - 0.5 for size in ((4, 8), (4,), (8, 4), (8,))]
    operators: dict[str, Callable[[Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]] = {
        "lookup": lambda to: to(table)[to(counts).to(torch.int32) & 0xFFFF].float(),
        "grid_sample bilinear": lambda to: F.grid_sample(
            to(picture), to(grid), padding_mode="zeros", align_corners=False
        ),
        "grid_sample bicubic": lambda to: F.grid_sample(
            to(picture), to(grid), mode="bicubic", padding_mode="border", align_corners=False
        ),
        "replicate pad half": lambda to: F.pad(to(picture).half(), (1, 1, 1, 1), mode="replicate").float(),
        "depthwise 7x7 half": lambda to: F.conv2d(
            to(picture).half().contiguous(memory_format=torch.channels_last), to(kernel).half(), padding=3, groups=8
        ).float(),
        "refine": lambda to: torch.ops.lumitherm.refine_features(*(to(picture).half() for _ in range(3))).float(),
        "attend": lambda to: torch.ops.lumitherm.attend(
            to(picture).half(), to(picture).mean(dim=(2, 3)), *(to(each).half() for each in perceptron)
        ).float(),
        "warp": lambda to: torch.ops.lumitherm.warp_cubic(to(picture)[:, :1], to(picture)[:, :2, :5, :7] * 9 - 4, 2.0),
        "band": lambda to: torch.ops.lumitherm.draw_band(
            to(picture)[:, :2], to(picture)[:, 2:4, :20, :25], to(picture)[:, 4:6], to(picture)[:, 6:7, :20, :25]
        ),
        "convolution and relu": lambda to: torch.ops.lumitherm.conv_relu(
            to(picture).half().contiguous(memory_format=torch.channels_last),
            to(weight).half(),
            to(weight)[:, 0, 0, 0].half(),
            [1, 1],
            [1, 1],
            [1, 1],
        ).float(),
        "sort": lambda to: to(picture).flatten().sort().values,
    }
    import fusion_core.rfvif.kernels  # noqa: F401 - registers the operators

    off = {}
    for name, operator in operators.items():
        got = operator(lambda tensor: tensor.to(machine.device)).cpu()
        wanted = operator(lambda tensor: tensor)
        off[name] = float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3))
        want(off[name] < 5e-3, f"{name} is off by {off[name]:.2g} of its range")
    return {"worst": max(off.values()), "off": {name: round(value, 6) for name, value in off.items()}}


def contract(machine: Machine) -> Figures:
    """Each engine at several sizes: shape, captured, no allocation a frame, counts as levels, video as on a CPU."""
    sizes = [(96, 128), (61, 83)] + ([] if machine.small else [(480, 640)])
    found: Figures = {}
    for kind in machine.kinds:
        try:
            engine = machine.engine(kind, machine.checkpoint("tiny"), VideoOptions(align_every=2))
        except Skip as why:
            found[kind] = f"skipped: {why}"
            continue
        with running(engine):
            for size in sizes:
                visible, thermal = pair_of(*size)
                engine.warm_up(*size)
                want(engine.graphed or not machine.cuda, f"{kind} is not captured at {size}")
                first = engine.fuse(visible, thermal)
                engine.reset()
                want(
                    first.shape == (*size, 3) and np.array_equal(first, engine.fuse(visible, thermal)), f"{kind} {size}"
                )
                before = torch.cuda.memory_allocated() if machine.cuda else 0
                for _ in range(5):
                    engine.fuse(visible, thermal)
                want(not machine.cuda or torch.cuda.memory_allocated() == before, f"{kind} allocates for a frame")
                engine.reset()
                levels = np.arange(65536, dtype=np.uint32).astype(np.uint8)
                counted = engine.fuse_counts(visible, thermal.astype(np.uint16), levels, None).pixels
                want(psnr_db(counted, first) > 50, f"{kind} gives another picture from counts")
        found[kind] = f"{len(sizes)} sizes"
    return found


def parity(machine: Machine) -> Figures:
    """32 crops, every preset and engine against float32 on the CPU."""
    pairs = crops()[:: 8 if machine.small else 1]
    found: Figures = {}
    for preset in ("tiny",) if machine.small else ("tiny", "small", "base"):
        checkpoint = machine.checkpoint(preset)
        with running(TorchEngine(checkpoint)) as reference:
            wanted = [reference.fuse(*pair) for pair in pairs]
        for kind in machine.kinds:
            try:
                engine = machine.engine(kind, checkpoint)
            except Skip as why:
                found[f"{preset} {kind}"] = f"skipped: {why}"
                continue
            with running(engine):
                engine.warm_up(*pairs[0][1].shape)
                values = []
                for pair, other in zip(pairs, wanted, strict=True):
                    engine.reset()
                    values.append(psnr_db(engine.fuse(*pair), other))
            found[f"{preset} {kind}"] = {"worst_db": round(min(values), 1), "median_db": round(median(values), 1)}
            want(min(values) >= PARITY_DB, f"{preset} {kind}: {min(values):.1f} dB, wanted {PARITY_DB}")
    return found


def threads(machine: Machine) -> Figures:
    """One engine is built and captured in a thread while another fuses, and the picture's size changes."""
    checkpoint = machine.checkpoint("tiny")
    failures: list[BaseException] = []
    fusing, built = machine.engine("torch-cuda", checkpoint), machine.engine("torch-cuda", checkpoint)
    fusing.warm_up(*CROP)
    pair = crops()[0]
    wanted = fusing.fuse(*pair)
    done = threading.Event()

    def build() -> None:
        try:
            for size in ((128, 160), CROP):
                built.warm_up(*size)
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=build)
    thread.start()
    frames = 0
    while not done.is_set() or frames < 3:
        fusing.reset()
        want(np.array_equal(fusing.fuse(*pair), wanted), "the picture changed while another engine was built")
        frames += 1
    thread.join()
    want(not failures, f"building beside a fusing engine: {failures}")
    want(np.array_equal(built.fuse(*pair), wanted), "two engines differ")
    fusing.close()
    built.close()
    return {"frames_meanwhile": frames}


def faults(machine: Machine) -> Figures:
    """A capture that fails, no memory, a damaged plan, and a device assert in a child."""
    found: Figures = {}
    checkpoint = machine.checkpoint("tiny")
    pair = crops()[0]
    if not machine.cuda:
        raise Skip("faults of CUDA need a GPU; the tests try each with a runtime that fails")
    gpu_device._Process.no_graphs = "forced by this check"
    with running(machine.engine("torch-cuda", checkpoint)) as engine:
        engine.fuse(*pair)
        want(not engine.graphed, "a graph was captured although none is to be")
    gpu_device._Process.no_graphs = None
    found["without graph"] = "fuses"
    hold = torch.empty(max(1, torch.cuda.mem_get_info()[0] - (64 << 20)), dtype=torch.uint8, device=machine.device)
    try:
        with running(machine.engine("torch-cuda", checkpoint)) as engine:
            engine.warm_up(2160, 3840)
        found["memory"] = "4K fits into 64 MiB"
    except EngineError as error:
        found["memory"] = type(error).__name__
    del hold
    torch.cuda.empty_cache()
    with running(machine.engine("torch-cuda", checkpoint)) as engine:
        engine.fuse(*pair)
    folders, out = [str(CROPS.parents[1]), str(CROPS.parent)], str(machine.out)
    script = f"import sys\nsys.path[:0] = {folders!r}\nOUT = {out!r}\n{ASSERT_ON_DEVICE}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    found["device assert"] = {"code": done.returncode, "said": done.stdout.strip()[-200:]}
    want(
        done.returncode == 0 and "the GPU was lost" in done.stdout,
        f"a lost device ends the process: {done.stderr[-400:]}",
    )
    return found


def ceilings(machine: Machine) -> Figures:
    """What the device reaches: copies and FP16 products."""
    size = 256 if machine.small else 4096
    a = torch.rand(size, size, device=machine.device).half()
    b = a.t().contiguous()
    took_s = _seconds(machine, lambda: a @ b)
    big = torch.empty((1 if machine.small else 256) << 20, dtype=torch.uint8, device=machine.device)
    other = torch.empty_like(big)
    copy_s = _seconds(machine, lambda: other.copy_(big))
    return {
        "fp16_tflops": round(2 * size**3 / took_s / 1e12, 3),
        "copy_gb_s": round(2 * big.numel() / copy_s / 1e9, 1),
    }


def benchmark(machine: Machine) -> Figures:
    """Every preset and engine at three sizes: a whole frame of video from counts, against eager FP32 on this device."""
    sizes = [(96, 128)] if machine.small else [(480, 640), (1080, 1920), (2160, 3840)]
    table = np.arange(65536, dtype=np.uint32).astype(np.uint8)
    rows, skipped = [], {}
    began_s = time.monotonic()
    for preset in ("tiny",) if machine.small else ("tiny", "small", "base"):
        checkpoint = machine.checkpoint(preset)
        for size in sizes:
            visible, thermal = pair_of(*size)
            counts = thermal.astype(np.uint16)
            for kind in ("eager", *machine.kinds):
                if time.monotonic() - began_s > 0.85 * machine.limit_s:
                    skipped[f"{preset} {size} {kind}"] = "no time left"
                    continue
                try:
                    rows.append(_row(machine, preset, kind, checkpoint, (visible, counts, thermal), table))
                except (Skip, EngineError) as why:
                    skipped[f"{preset} {kind}"] = str(why)
    for row in rows:
        eager = [each for each in rows if each["engine"] == "eager" and each["what"] == row["what"]]
        row["eager_over_it"] = round(eager[0]["median_ms"] / row["median_ms"], 2) if eager else None
    return {"rows": rows, "not_measured": skipped}


def _row(
    machine: Machine, preset: str, kind: str, checkpoint: LoadedCheckpoint, given: Any, table: np.ndarray
) -> Figures:
    visible, counts, thermal = given
    height, width = thermal.shape
    fuse: Callable[[], object]
    free = torch.cuda.mem_get_info()[0] if machine.cuda else 0
    if kind == "eager":
        engine: Any = TorchEngine(checkpoint, device=machine.device)
        fuse = lambda: engine.fuse(visible, thermal)  # noqa: E731
    else:
        engine = machine.engine(kind, checkpoint, VideoOptions(align_waits=False))
        fuse = lambda: engine.fuse_counts(visible, counts, table, None)  # noqa: E731
    with running(engine):
        engine.warm_up(height, width)
        fuse()
        taken_ms: list[float] = []
        while len(taken_ms) < (3 if machine.small else 200) and sum(taken_ms) < 6000:
            began_s = time.perf_counter()
            fuse()
            machine.wait()
            taken_ms.append((time.perf_counter() - began_s) * 1e3)
        used = free - torch.cuda.mem_get_info()[0] if machine.cuda else 0
    return {
        "what": f"{preset} {width}x{height}",
        "engine": kind,
        "median_ms": round(median(taken_ms), 3),
        "p95_ms": round(float(np.percentile(taken_ms, 95)), 3),
        "frames_s": round(1e3 / median(taken_ms), 1),
        "memory_mib": round(used / 2**20),
    }


def parts(machine: Machine) -> Figures:
    """What each part of a video frame from counts takes alone on the device, by its own events, ms."""
    sizes = [(96, 128)] if machine.small else [(480, 640), (1080, 1920)]
    rows, skipped = [], {}
    for preset in ("tiny",) if machine.small else ("tiny", "small", "base"):
        checkpoint = machine.checkpoint(preset)
        for size in sizes:
            for kind in machine.kinds:
                try:
                    engine = machine.engine(kind, checkpoint, VideoOptions(align_every=5))
                    with running(engine):
                        rows.append(_parts_of(machine, engine, f"{preset} {size[1]}x{size[0]}", kind, size))
                except (Skip, EngineError) as why:
                    skipped[f"{preset} {kind}"] = str(why)
    return {"rows": rows, "not_measured": skipped}


def _parts_of(machine: Machine, engine: GpuEngine, what: str, kind: str, size: tuple[int, int]) -> Figures:
    visible, thermal = pair_of(*size)
    counts = thermal[::2, ::2].astype(np.uint16)
    seen = np.ones(size, bool)
    seen[:, : size[1] // 8] = False
    ys, xs = (np.arange(side, dtype=np.float32) * (2.0 / side) - 1.0 for side in size)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1)
    warp = ThermalWarp(grid, (counts.shape[0], counts.shape[1]), FieldFiller(seen).matrices())
    table = np.arange(65536, dtype=np.uint32).astype(np.uint8)
    for _ in range(2):
        engine.fuse_counts(visible, counts, table, warp)
    prepared, runner, runtime = engine._prepared, engine._counts, engine._runtime
    assert prepared is not None and runner is not None
    network, frame, made, buffers = prepared.network, prepared.frame, runner._prepared, runner._sets[0]
    key = network.graph_key()

    def network_alone() -> None:
        with torch.inference_mode():
            network.fuse(key, made.visible, made.thermal)

    def colour() -> None:
        with torch.inference_mode():
            runner._out[0].copy_(frame.colour(runner._in[0], made, made.visible))

    def copies(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Callable[[], None]:
        known = list(pairs)

        def copy() -> None:
            for to, of in known:
                to.copy_(of, non_blocking=True)

        return copy

    results = [runtime.pinned(*out.shape, dtype=out.dtype) for out in buffers.out]
    work: dict[str, tuple[Any, Callable[[], object]]] = {
        "upload": (runner._up, copies(zip(buffers.device, buffers.host, strict=True))),
        "agc_warp": (prepared.main, runner._prepare),
        "network": (prepared.main, runtime.program(prepared.main, network_alone)[0]),
        "colour": (prepared.main, runtime.program(prepared.main, colour)[0]),
        "download": (runner._down, copies(zip(results, buffers.out, strict=True))),
    }
    if network.field is not None:
        work["estimate_whole"] = network.field._own, network.field._whole
        work["estimate_around"] = network.field._own, network.field._around
    row: Figures = {"what": what, "engine": kind}
    for name, (stream, steps) in work.items():
        row[f"{name}_ms"] = round(_event_ms(machine, runtime, stream, steps), 4)
    every = sum(row[f"{name}_ms"] for name in ("agc_warp", "network", "colour"))
    row["computing_a_frame_ms"] = round(every + row.get("estimate_around_ms", 0.0) / 5, 4)
    return row


def _event_ms(machine: Machine, runtime: Runtime, stream: Any, work: Callable[[], object]) -> float:
    """Median on the device; of the rehearsal, on the CPU."""
    taken_ms = []
    for _ in range(3 if machine.small else 50):
        if not machine.cuda:
            began_s = time.perf_counter()
            work()
            taken_ms.append((time.perf_counter() - began_s) * 1e3)
            continue
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with runtime.on(stream):
            first.record(stream)
            work()
            last.record(stream)
        last.synchronize()
        taken_ms.append(first.elapsed_time(last))
    return median(taken_ms)


def profile(machine: Machine) -> Figures:
    """The dearest kernels of `tiny` and `base`."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    found: Figures = {}
    cases = [("tiny", (96, 128))] if machine.small else [("tiny", (1080, 1920)), ("base", (480, 640))]
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if machine.cuda else [])
    for preset, size in cases:
        with running(machine.engine("torch-cuda", machine.checkpoint(preset))) as engine:
            pair = pair_of(*size)
            engine.warm_up(*size)
            with profiler(activities=activities) as seen:
                engine.fuse(*pair)
                machine.wait()
        key = "self_device_time_total" if machine.cuda else "self_cpu_time_total"
        events = sorted(seen.key_averages(), key=lambda event: -getattr(event, key))[:15]
        found[f"{preset} {size[1]}x{size[0]}"] = {
            event.key[:60]: round(getattr(event, key) / 1e3, 3) for event in events
        }
    return found


def train(machine: Machine) -> Figures:
    """Training steps a second of `base` in bfloat16, forward and backward."""
    preset, size, batch, steps = ("tiny", 64, 1, 2) if machine.small else ("base", 128, 8, 50)
    network = Rfvif(preset_config(preset)).to(machine.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    pictures = torch.rand(2, batch, 1, size, size, device=machine.device)
    losses: list[float] = []

    def step() -> None:
        with torch.autocast(torch.device(machine.device).type, torch.bfloat16):
            fused = network.forward_training(pictures[0], pictures[1]).fused
        loss = (fused.float() - pictures.amax(dim=0)).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))

    step()
    machine.wait()
    began_s = time.perf_counter()
    for _ in range(steps):
        step()
    machine.wait()
    took_s = time.perf_counter() - began_s
    want(all(np.isfinite(losses)) and losses[-1] < losses[0], f"the loss does not fall: {losses[0]} to {losses[-1]}")
    return {"preset": preset, "steps_s": round(steps / took_s, 2), "loss": [round(losses[0], 4), round(losses[-1], 4)]}


def base(machine: Machine) -> Figures:
    """Train `base` for what is left of the time, from where the call before stopped.

    On the pairs of `--pairs`, else on the crops, which are no more than enough to see that it runs.
    """
    import logging

    from rich.console import Console

    from fusion_core.training.config import TrainingConfig
    from fusion_core.training.run_state import list_checkpoints
    from fusion_core.training.session import train as train_network

    logging.disable(logging.WARNING)
    runs = machine.out / "training"
    root = machine.pairs or _crops_as_files(machine.out / "pairs")
    minutes = (machine.limit_s - 45.0) / 60.0  # starting, and the last checkpoint
    if minutes <= 0.0:
        raise Skip("no time is left")
    config = TrainingConfig.model_validate(
        {
            "preset": "tiny" if machine.small else "base",
            "batch_size": 2 if machine.small else 16,
            "data": {"root": root, "crop_px": 64, "displacement": {"varying_probability": 0.5}},
            "loss": {"perception": {"weight": 0.0}, "gradient": 1.0, "intensity": 1.0, "displacement": 0.3},
            "optimizer": {"learning_rate": 2e-3 if machine.small else 5e-4},
            "schedule": {
                "kind": "constant", "max_steps": 2 if machine.small else 1_000_000, "max_minutes": minutes,
                "warmup_steps": 0 if machine.small else 200,
            },
            "validation": {"every_steps": 0, "pairs": 2, "uniform_px": [3.0], "varying_px": []},
            "run": {
                "folder": runs, "name": "base", "device": machine.device, "amp": "bfloat16", "tensorboard": False,
                "checkpoint_every_minutes": 1.0, "images_every_steps": 0, "log_every_steps": 1 if machine.small else 20,
            },
        }
    )  # fmt: skip
    before = list_checkpoints(runs / "base" / "checkpoints")
    if machine.small and before:  # one more, to rehearse going on
        more = config.schedule.model_copy(update={"max_steps": _step_of(before[-1]) + 1})
        config = config.model_copy(update={"schedule": more})
    weights = train_network(config, resume=runs / "base" if before else None, console=Console(quiet=True))
    step = _step_of(list_checkpoints(runs / "base" / "checkpoints")[-1])
    lines = [json.loads(line) for line in (runs / "base" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    want(bool(losses) and bool(np.isfinite(losses).all()), "the loss is not finite")
    return {
        "pairs": "the crops" if machine.pairs is None else str(machine.pairs),
        "from_step": _step_of(before[-1]) if before else 0,
        "to_step": step,
        "loss": [round(losses[0], 4), round(losses[-1], 4)],
        "weights": str(weights),
    }


def _step_of(checkpoint: Path) -> int:
    return int("".join(filter(str.isdigit, checkpoint.stem)))


def _crops_as_files(folder: Path) -> Path:
    """The crops as the pairs of a training set."""
    import cv2

    for index, (visible, thermal) in enumerate(crops()):
        for kind, picture in (("vi", visible[..., ::-1]), ("ir", thermal)):
            path = folder / kind / f"crop_{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                cv2.imwrite(str(path), np.ascontiguousarray(picture))
    return folder


def _seconds(machine: Machine, work: Callable[[], object]) -> float:
    for _ in range(2):
        work()
    machine.wait()
    best = float("inf")
    for _ in range(3 if machine.small else 20):
        began_s = time.perf_counter()
        work()
        machine.wait()
        best = min(best, time.perf_counter() - began_s)
    return best


STEPS: dict[str, tuple[Callable[[Machine], Figures], float]] = {
    "probe": (probe, 60.0),
    "smoke": (smoke, 60.0),
    "contract": (contract, 240.0),
    "parity": (parity, 240.0),
    "threads": (threads, 90.0),
    "faults": (faults, 120.0),
    "ceilings": (ceilings, 60.0),
    "benchmark": (benchmark, 400.0),
    "parts": (parts, 180.0),
    "profile": (profile, 120.0),
    "train": (train, 180.0),
    "base": (base, 120.0),
}
"""Each with the seconds that it may take; the last takes what is left, and at least so many."""


def make_crops(path: Path = CROPS) -> None:
    """32 crops of the simulated rig: two places, day and dusk, out of calibration by up to 5 px."""
    from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
    from fusion_core.thermal.agc import Agc

    visible, thermal = [], []
    rng = np.random.default_rng(0)
    for scene in ("street", "yard"):
        for night in (0.0, 0.7):
            shift = tuple(float(value) for value in rng.uniform(-5, 5, 2))
            rig = SimulatedRig(SimulatedRigConfig(scene=scene, night=night, residual_shift_px=shift))  # type: ignore[arg-type]
            for index in range(8):
                t_s = 0.7 * index
                picture, levels = rig.visible(t_s), Agc().apply(rig.thermal(t_s))
                top, left = int(rng.integers(0, 480 - CROP[0])), int(rng.integers(0, 640 - CROP[1]))
                cut = slice(top, top + CROP[0]), slice(left, left + CROP[1])
                visible.append(picture[cut])
                thermal.append(levels[cut])
    with tempfile.TemporaryFile() as file:
        np.savez_compressed(file, visible=np.stack(visible), thermal=np.stack(thermal))
        file.seek(0)
        path.write_bytes(file.read())
