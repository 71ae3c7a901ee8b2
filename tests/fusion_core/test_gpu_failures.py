"""What a GPU can do wrong, at every call of its runtime: an EngineError each time, and never the end of the program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import structlog
import torch
from support import engine_contract as contract
from support import network_weights as weights
from torch import Tensor

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.engines import auto_engine
from fusion_core.engines.auto_engine import AutoEngine
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.engine import FusionEngine
from fusion_core.engines.gpu import device as gpu_device
from fusion_core.engines.gpu.device import CudaRuntime, HostRuntime, Steps, check_device
from fusion_core.engines.gpu.plan import Plan, logger_of
from fusion_core.engines.pyramid_engine import AverageEngine
from fusion_core.engines.torch_cuda_engine import GpuEngine, Program
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import DeviceMemoryError, EngineError
from fusion_core.rfvif.programs import field_size

SIZE = (64, 80)
STICKY = RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")
PLAIN = RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")
MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


class FailingRuntime(HostRuntime):
    """Fails at the n-th call, and after a sticky error at every further one."""

    def __init__(self, at: int = 0, error: Exception = PLAIN) -> None:
        self.calls = 0
        self.at, self.error = at, error
        super().__init__()

    def call(self) -> None:
        self.calls += 1
        if self.calls == self.at or (self.error is STICKY and not self.alive()):
            raise self.error

    def alive(self) -> bool:
        return self.error is not STICKY or not 0 < self.at <= self.calls

    def pinned(self, *shape: int, dtype: torch.dtype) -> Tensor:
        self.call()
        return super().pinned(*shape, dtype=dtype)

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        self.call()
        return super().empty(*shape, dtype=dtype)

    def stream(self, *, low_priority: bool = False) -> Any:
        self.call()
        return super().stream(low_priority=low_priority)

    def on(self, stream: Any) -> Any:
        self.call()
        return super().on(stream)

    def mark(self, stream: Any) -> Any:
        self.call()
        return super().mark(stream)

    def after(self, stream: Any, event: Any) -> None:
        self.call()

    def wait(self, event: Any) -> None:
        self.call()

    def program(self, stream: Any, steps: Steps) -> tuple[Steps, bool]:
        self.call()
        ready, graphed = super().program(stream, steps)

        def run() -> None:
            self.call()
            ready()

        return run, graphed


class PlainEngine(GpuEngine):
    """Everything of a GPU engine but the network, which is a mean."""

    def __init__(self, checkpoint: LoadedCheckpoint, runtime: HostRuntime) -> None:
        super().__init__("plain", checkpoint, runtime, torch.float32, VideoOptions(align_every=2))

    def _programs(self, height: int, width: int) -> Mapping[str, Program]:
        rows, columns = field_size(self._checkpoint.network, height, width)

        def estimate(*_: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(1, 2, rows, columns), torch.zeros(1, 1, rows, columns)

        return {"estimate": estimate, "refine": estimate, "fuse": lambda first, second, *_: (first + second) / 2}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    return weights.checkpoint(tmp_path_factory.mktemp("weights"), "tiny", residual_blocks=1, fab_count=1)


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_device._Process, "lost", None)
    monkeypatch.setattr(gpu_device._Process, "no_graphs", None)
    monkeypatch.setattr(auto_engine, "_FAILED", {})


def work(engine: GpuEngine) -> list[np.ndarray]:
    """All that an engine is asked to do."""
    visible, thermal = contract.picture_pair(0, *SIZE)
    engine.warm_up(*SIZE)
    fused = [engine.fuse(visible, thermal) for _ in range(4)]
    engine.begin(visible, thermal)
    fused.append(engine.finish().pixels)
    counts, table = thermal.astype(np.uint16), np.arange(65536, dtype=np.uint32).astype(np.uint8)
    fused.append(engine.fuse_counts(visible, counts, table, None).pixels)
    assert engine.displacement_px is not None
    return fused


@pytest.mark.parametrize("error", [PLAIN, MEMORY, STICKY], ids=["plain", "memory", "sticky"])
def test_a_failure_at_any_call_is_an_engine_error(checkpoint: LoadedCheckpoint, error: Exception) -> None:
    sound = FailingRuntime()
    wanted = work(PlainEngine(checkpoint, sound))
    assert all(np.array_equal(each, wanted[0]) for each in wanted)
    assert sound.calls > 100
    for at in range(1, sound.calls + 1):
        runtime = FailingRuntime(at, error)
        engine = PlainEngine(checkpoint, runtime)
        with pytest.raises(EngineError, match="GPU") as caught:
            work(engine)
        assert isinstance(caught.value, DeviceMemoryError) == (error is MEMORY), at
        assert (gpu_device._Process.lost is not None) == (error is STICKY)
        gpu_device._Process.lost = None
        if error is not STICKY:  # what has failed once may work again, and does
            assert np.array_equal(work(engine)[-1], wanted[0])
        engine.close()
        engine.close()


def test_after_a_lost_device_nothing_of_it_is_freed_and_no_engine_asks_it_again(checkpoint: LoadedCheckpoint) -> None:
    engine = PlainEngine(checkpoint, FailingRuntime(30, STICKY))
    before = sys.getrefcount(engine)
    with pytest.raises(EngineError, match=r"the GPU was lost while .*This program goes on without it"):
        work(engine)
    assert sys.getrefcount(engine) > before
    with pytest.raises(EngineError, match=r"the GPU failed in this program \(CUDA error: device-side assert"):
        check_device("cuda")
    check_device("cpu")


def test_a_capture_that_fails_is_kept_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator keeps a filter of the graph; a second capture in the same process is not to be trusted."""
    graphs: list[object] = []
    modes: list[str] = []

    class Graph:
        def __init__(self) -> None:
            graphs.append(self)

        def replay(self) -> None: ...

    class Capture:
        def __init__(self, graph: Graph, *, stream: object, capture_error_mode: str) -> None:
            modes.append(capture_error_mode)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    runtime = CudaRuntime(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(runtime, "alive", lambda: True)

    def refused() -> None:
        raise EngineError("TensorRT does not let this engine be captured")

    with structlog.testing.capture_logs() as logs:
        assert runtime._capture(None, refused) is None
        (failed,) = graphs
        assert sys.getrefcount(failed) > 3  # the list, this name, the call, and one that never ends
        assert runtime._capture(None, lambda: None) is None
    assert len(graphs) == 1
    assert modes == ["thread_local"]
    assert [entry["reason"] for entry in logs] == ["TensorRT does not let this engine be captured"]
    gpu_device._Process.no_graphs = None
    assert isinstance(runtime._capture(None, lambda: None), Graph)


# ------------------------------------------------------------------ auto


class FailingEngine(AverageEngine):
    """Fails where it is told to."""

    def __init__(self, where: str, error: EngineError) -> None:
        self.where, self.error, self.closed = where, error, False
        if where == "making":
            raise error
        super().__init__()

    @property
    def name(self) -> str:
        return f"fails at {self.where}"

    def warm_up(self, height: int, width: int) -> None:
        if self.where == "warm_up":
            raise self.error

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        if self.where == "fuse":
            raise self.error
        return super().fuse(visible, thermal)

    def close(self) -> None:
        self.closed = True


def choices(where: str, error: EngineError, tried: list[str]) -> dict[str, Callable[[], FusionEngine]]:
    def first() -> FusionEngine:
        tried.append("tensorrt")
        return FailingEngine(where, error)

    def second() -> FusionEngine:
        tried.append("openvino")
        return AverageEngine()

    return {"tensorrt": first, "openvino": second}


@pytest.mark.parametrize("where", ["making", "warm_up"])
def test_auto_takes_the_next_engine_once_and_says_why(where: str) -> None:
    tried: list[str] = []
    makers = choices(where, EngineError("no such operator"), tried)
    with structlog.testing.capture_logs() as logs:
        engine = AutoEngine(makers, "sha")
        engine.warm_up(*SIZE)
        engine.warm_up(48, 96)
    assert engine.name == "average"
    assert engine.fuse(*contract.picture_pair(0, *SIZE)).shape == (*SIZE, 3)
    assert tried == ["tensorrt", "openvino"]
    chosen = [entry for entry in logs if entry["event"] == "engine chosen" and entry["engine"] == "average"]
    assert [(entry["log_level"], entry["not_tensorrt"]) for entry in chosen] == [("warning", "no such operator")]


def test_auto_does_not_go_round_in_circles() -> None:
    """Live, an engine that failed is asked for anew after a wait."""
    tried: list[str] = []
    for _ in range(3):
        engine = AutoEngine(choices("warm_up", EngineError("TensorRT could not build"), tried), "sha")
        engine.warm_up(*SIZE)
        assert engine.name == "average"
        engine.close()
    assert tried == ["tensorrt", "openvino", "openvino", "openvino"]
    AutoEngine(choices("warm_up", EngineError("no"), tried), "another network").close()
    assert tried[-1] == "tensorrt"  # which may well be built


def test_an_engine_that_fails_on_a_frame_is_not_taken_again() -> None:
    tried: list[str] = []
    engine = AutoEngine(choices("fuse", EngineError("the GPU was lost"), tried), "sha")
    engine.warm_up(*SIZE)
    with pytest.raises(EngineError, match="the GPU was lost"):
        engine.fuse(*contract.picture_pair(0, *SIZE))
    engine.close()
    assert AutoEngine(choices("fuse", EngineError("the GPU was lost"), tried), "sha").name == "average"


def test_for_want_of_memory_an_engine_is_tried_again_later() -> None:
    tried: list[str] = []
    for _ in range(2):
        engine = AutoEngine(choices("warm_up", DeviceMemoryError("the GPU has no memory"), tried), "sha")
        engine.warm_up(*SIZE)
        assert engine.name == "average"
    assert tried == ["tensorrt", "openvino"] * 2


def test_where_none_runs_all_reasons_are_told() -> None:
    engine = AutoEngine({"tensorrt": lambda: FailingEngine("warm_up", EngineError("too old"))}, "sha")
    with pytest.raises(EngineError, match="no engine runs the network here: tensorrt: too old"):
        engine.warm_up(*SIZE)


# ------------------------------------------------------------------ plans


class FakeTensorRt(SimpleNamespace):
    """As much of TensorRT as loading a plan needs; `None` where it gives up."""

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

    TensorIOMode = SimpleNamespace(INPUT=0, OUTPUT=1)
    DataType = SimpleNamespace(HALF="half", FLOAT="float")

    def __init__(self, *, engine: bool = True, context: bool = True, shape: tuple[int, ...] = (1, 1, *SIZE)) -> None:
        made = SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=lambda index: ("in", "out")[index],
            get_tensor_shape=lambda name: shape,
            get_tensor_dtype=lambda name: "half",
            get_tensor_mode=lambda name: 0 if name == "in" else 1,
            create_execution_context=lambda: SimpleNamespace(set_tensor_address=lambda *_: True) if context else None,
        )
        runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: made if engine else None)
        super().__init__(Runtime=lambda logger: runtime)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[EngineCache, dict[str, str], list[str]]]:
    """A cache with a sound plan in it, its key, and what was built since."""
    cache, key, built = EngineCache(tmp_path / "engines"), {"kind": "tensorrt-fuse"}, list[str]()
    cache.get_or_make(key, lambda folder: folder, lambda folder: _write(folder))
    yield cache, key, built


def _write(folder: Path) -> None:
    (folder / "engine.plan").write_bytes(b"plan")


@pytest.mark.parametrize(
    ("tensorrt", "runtime", "said"),
    [
        (FakeTensorRt(engine=False), HostRuntime(), "does not load an engine that it built itself"),
        (FakeTensorRt(context=False), HostRuntime(), "no memory for the engine"),
        (FakeTensorRt(), FailingRuntime(1, MEMORY), "no memory for loading the TensorRT engine"),
    ],
    ids=["engine", "context", "buffers"],
)
def test_a_good_plan_is_not_thrown_away_for_want_of_memory(
    tensorrt: Any, runtime: HostRuntime, said: str, kept: tuple[EngineCache, dict[str, str], list[str]]
) -> None:
    cache, key, built = kept
    example = (torch.zeros(1, 1, *SIZE, dtype=torch.float16),)

    def load(folder: Path) -> Plan:
        return Plan(tensorrt, (folder / "engine.plan").read_bytes(), example, runtime)

    with pytest.raises(EngineError, match=said):
        cache.get_or_make(key, load, lambda folder: built.append(folder.name))
    assert not built
    assert [entry.key for entry in cache.entries()] == [key]


def test_a_plan_of_another_program_is_built_anew(kept: tuple[EngineCache, dict[str, str], list[str]]) -> None:
    cache, key, built = kept
    example = (torch.zeros(1, 1, *SIZE, dtype=torch.float16),)
    tensorrt = [FakeTensorRt(shape=(1, 1, 8, 8)), FakeTensorRt()]

    def make(folder: Path) -> None:
        built.append(folder.name)
        _write(folder)

    plan = cache.get_or_make(
        key, lambda folder: Plan(tensorrt.pop(0), (folder / "engine.plan").read_bytes(), example, HostRuntime()), make
    )
    assert isinstance(plan, Plan)
    assert len(built) == 1


# ------------------------------------------------------------------ compiled kernels and messages


class FakeKernels:
    """TensorRT for RTX's cache of compiled kernels."""

    def __init__(self) -> None:
        self.blob = b""

    def serialize(self) -> bytes:
        return self.blob + b"+run"

    def deserialize(self, blob: bytes) -> None:
        self.blob = blob


class FakeRtx(FakeTensorRt):
    """As `FakeTensorRt`, with a cache of kernels."""

    IRuntimeCache = object

    def __init__(self) -> None:
        super().__init__()
        self.caches: list[FakeKernels] = []
        self.given: list[object] = []
        made = self.Runtime(None).deserialize_cuda_engine(b"")
        plain = made.create_execution_context

        def runtime_config() -> SimpleNamespace:
            def cache() -> FakeKernels:
                self.caches.append(FakeKernels())
                return self.caches[-1]

            return SimpleNamespace(create_runtime_cache=cache, set_runtime_cache=self.given.append)

        made.create_runtime_config = runtime_config
        made.create_execution_context = lambda *config: plain()


def rtx_plan(tensorrt: FakeRtx, kernels: Path | None) -> Plan:
    example = (torch.zeros(1, 1, *SIZE, dtype=torch.float16),)
    return Plan(tensorrt, b"plan", example, HostRuntime(), kernels=kernels)


def test_what_rtx_has_compiled_is_kept_beside_the_plan_for_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "kernels.bin"
    first = FakeRtx()
    plan = rtx_plan(first, file)
    assert first.given == first.caches and first.caches[0].blob == b""  # the context uses it, and it is empty
    assert not file.exists()
    plan.keep_kernels()
    second = FakeRtx()
    rtx_plan(second, file).keep_kernels()
    assert second.caches[0].blob == b"+run"
    assert [each.name for each in tmp_path.iterdir()] == ["kernels.bin"]  # written beside, and renamed
    data = bytearray(file.read_bytes())
    data[40 % len(data)] ^= 1  # damaged: never handed to a parser
    file.write_bytes(data)
    third = FakeRtx()
    rtx_plan(third, file)
    assert third.caches[0].blob == b""


def test_kernels_that_cannot_be_kept_are_compiled_again_and_said(tmp_path: Path) -> None:
    plan = rtx_plan(FakeRtx(), tmp_path / "missing" / "kernels.bin")
    with structlog.testing.capture_logs() as logs:
        plan.keep_kernels()
    assert [entry["event"] for entry in logs] == ["compiled kernels are not kept: the next start compiles them again"]
    without = FakeRtx()
    rtx_plan(without, None).keep_kernels()  # no cache folder: nothing is kept, and nothing asked for
    assert not without.caches
    rtx_plan(FakeTensorRt(), tmp_path / "kernels.bin").keep_kernels()  # type: ignore[arg-type]
    assert not (tmp_path / "kernels.bin").exists()  # the other flavour compiles nothing at the first run


def test_tensorrts_messages_go_into_the_log_and_not_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logger_of(FakeTensorRt)
    severity = FakeTensorRt.ILogger.Severity
    said = [(severity.INTERNAL_ERROR, "error"), (severity.ERROR, "error"), (severity.WARNING, "warning"), (3, "debug")]
    with structlog.testing.capture_logs() as logs:
        for each, _ in said:
            logger.log(each, f"message {each}")
    assert [(entry["log_level"], entry["message"]) for entry in logs] == [
        (level, f"message {each}") for each, level in said
    ]
    assert {entry["event"] for entry in logs} == {"TensorRT"}
    assert capfd.readouterr().err == ""


# ------------------------------------------------------------------ a lost device, for real

LOST = """
import sys
import numpy as np
import torch
from pathlib import Path
from support import network_weights as weights
from fusion_core.engines.auto_engine import AutoEngine
from fusion_core.engines.gpu import device
from fusion_core.engines.pyramid_engine import AverageEngine
from fusion_core.engines.torch_cuda_engine import TorchCudaEngine
from fusion_core.errors import EngineError

where = sys.argv[2]
runtime = device.runtime_of(torch.device(where))
checkpoint = weights.checkpoint(Path(sys.argv[1]), "tiny", residual_blocks=1, fab_count=1)
dtype = torch.float32 if where == "cpu" else torch.float16
make = lambda: TorchCudaEngine(checkpoint, device=where, dtype=dtype, runtime=runtime)
engine = AutoEngine({"torch-cuda": make, "average": AverageEngine}, "sha")
pair = np.zeros((64, 80, 3), np.uint8), np.zeros((64, 80), np.uint8)
engine.warm_up(64, 80)
if where == "cpu":  # as CUDA does: this call and each further one fails
    def lost(*_):
        raise RuntimeError("CUDA error: device-side assert triggered")
    engine._engine._runner._prepare = lost
    runtime.alive = lambda: False
else:
    engine._engine._runner._prepare = lambda: torch.zeros(1, device=where)[torch.tensor([9], device=where)]
try:
    engine.fuse(*pair)
except EngineError as error:
    print(error)
engine.close()
again = AutoEngine({"torch-cuda": make, "average": AverageEngine}, "sha")
again.warm_up(64, 80)
again.fuse(*pair)
print("goes on with", again.name)
"""


@pytest.mark.parametrize(
    "where",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
            ],
        ),
    ],
)
def test_a_program_whose_device_is_lost_goes_on_and_ends_by_itself(tmp_path: Path, where: str) -> None:
    """In a process of its own: on a GPU by an assert on the device, else by a runtime that stays lost."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", LOST, str(tmp_path), where],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the GPU was lost while fusing a frame" in done.stdout
    assert done.stdout.strip().endswith("goes on with average")
