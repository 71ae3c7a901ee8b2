"""The network as one TensorRT engine, built by Torch-TensorRT from the exported program in FP16.

Strongly typed: precision is what the network's own tensors say, half everywhere but in the float32 islands that it
casts to itself (correlation geometry, feature norms, global pooling). The whole network must convert; an operator that
does not is an error, never a silent piece of PyTorch. The engine is kept on disk as TensorRT's own plan, which is read
by TensorRT alone: nothing is unpickled. The `tensorrt` and the `tensorrt-rtx` extras run through the same code.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.torch_cuda_engine import GpuEngine, Network, check_device
from fusion_core.errors import EngineError
from fusion_core.rfvif import NETWORK_VERSION
from fusion_core.rfvif.export import export_network
from fusion_core.rfvif.inference import for_inference

__all__ = ["TensorRtEngine", "engine_key", "load_tensorrt", "plan_network"]

_CONVERSION_VERSION = 1
"""Raised whenever the same network converts to another engine; part of the cache key."""

_PLAN = "engine.plan"
_LONGEST_REASON = 300
_log = structlog.get_logger("engine")

Progress = Callable[[str, float], None]
"""(what is being done, seconds since the start); called from the thread that builds."""


def load_tensorrt() -> tuple[Any, Any]:
    """The modules (torch_tensorrt, tensorrt); of the RTX flavour, tensorrt_rtx in the second place.

    Raises:
        EngineError: no CUDA, not installed, or its libraries do not load.
    """
    check_device("cuda")
    if importlib.util.find_spec("torch_tensorrt") is None:
        raise EngineError("Torch-TensorRT is not installed; `pip install lumitherm[tensorrt]` (or [tensorrt-rtx])")
    try:
        import torch_tensorrt

        # Where only the RTX library is installed, Torch-TensorRT registers it under TensorRT's name itself.
        name = "tensorrt" if importlib.util.find_spec("tensorrt") is not None else "tensorrt_rtx"
        return torch_tensorrt, importlib.import_module(name)
    except Exception as error:  # a missing library raises plain Exception or AssertionError there
        raise EngineError(
            f"Torch-TensorRT does not load ({type(error).__name__}: {error}); its version must fit PyTorch "
            f"{torch.__version__}, and the driver TensorRT's CUDA"
        ) from error


def engine_key(
    weights_sha256: str, height: int, width: int, *, torch_tensorrt: Any, tensorrt: Any, device: torch.device
) -> dict[str, Any]:
    """All that a plan depends on."""
    properties = torch.cuda.get_device_properties(device)
    return {
        "kind": "tensorrt",
        "weights": weights_sha256,
        "network": NETWORK_VERSION,
        "conversion": _CONVERSION_VERSION,
        "height": height,
        "width": width,
        "precision": "float16",
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": _driver_version(),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "torch_tensorrt": torch_tensorrt.__version__,
        "flavour": tensorrt.__name__,
        "tensorrt": tensorrt.__version__,
    }


def _driver_version() -> str:
    """Of the NVIDIA kernel driver, "" where it cannot be told (the key then leaves it out)."""
    try:
        for word in Path("/proc/driver/nvidia/version").read_text().split():
            if word[:1].isdigit() and "." in word:
                return word
    except OSError:
        pass
    version = getattr(torch._C, "_cuda_getDriverVersion", None)
    return str(version()) if version is not None else ""


def plan_network(
    checkpoint: LoadedCheckpoint,
    height: int,
    width: int,
    torch_tensorrt: Any,
    device: torch.device,
    folder: Path | None = None,
) -> bytes:
    """Export and convert.

    Args:
        folder: where TensorRT's timings of its own kernels are kept, which make a second size faster to build; nobody
            else may write there. None: they are thrown away.

    Returns:
        TensorRT's plan.

    Raises:
        EngineError: an operator does not convert, or there is no memory.
    """
    with contextlib.ExitStack() as after:
        if folder is None:
            folder = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="lumitherm-tensorrt-")))
        return _plan_network(checkpoint, height, width, torch_tensorrt, device, folder)


def _plan_network(
    checkpoint: LoadedCheckpoint, height: int, width: int, torch_tensorrt: Any, device: torch.device, folder: Path
) -> bytes:
    network = for_inference(checkpoint.network.float()).to(device, torch.float16)
    program = export_network(network, height, width)
    picture = torch.zeros(1, 1, height, width, dtype=torch.float16, device=device)
    # By default a file in the folder for temporary files, where anybody may put one for us to read.
    timings = folder / f"timings-{device.type}.bin"
    try:
        # One engine for the whole program: this conversion knows no partitions, so nothing can fall back to PyTorch.
        plan = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            program,
            arg_inputs=(picture, picture.clone()),
            require_full_compilation=True,
            min_block_size=1,
            truncate_double=True,
            device=device,
            timing_cache_path=str(timings),
        )
    except Exception as error:  # its own exception classes differ between versions
        timings.unlink(missing_ok=True)  # should a crash have left half of it, the next attempt is without
        _log.error("TensorRT cannot build the network", reason=str(error))  # may hold the whole graph
        first = (str(error).strip().splitlines() or ["no reason given"])[0][:_LONGEST_REASON]
        raise EngineError(
            f"TensorRT cannot build the network at {height}x{width} ({type(error).__name__}): {first}. "
            "The log has all of it; the torch-cuda engine runs any network"
        ) from error
    return bytes(plan)


class _Plan:
    """A deserialized engine, called like the network. It runs on the current stream, so a CUDA graph can hold it."""

    def __init__(self, tensorrt: Any, plan: bytes, size: tuple[int, int], device: torch.device) -> None:
        """Raises ValueError for a plan that is not ours or damaged, EngineError where the GPU has no memory for it."""
        self._logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        self._runtime = tensorrt.Runtime(self._logger)
        with torch.cuda.device(device):
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise ValueError("TensorRT refuses the engine file: it was built by another version or is damaged")
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError("TensorRT has no memory for the engine; close other programs that use the GPU")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == tensorrt.TensorIOMode.INPUT]
        outputs = [n for n in names if n not in inputs]
        wanted = (1, 1, *size)
        shapes = [tuple(self._engine.get_tensor_shape(name)) for name in names]
        if len(inputs) != 2 or len(outputs) != 1 or any(shape != wanted for shape in shapes):
            raise ValueError(f"the engine file has {len(inputs)} inputs of {shapes}, wanted 2 and 1 output of {wanted}")
        # Fixed buffers, so that the addresses in a captured graph stay valid.
        types = {tensorrt.DataType.HALF: torch.float16, tensorrt.DataType.FLOAT: torch.float32}
        self._buffers = {
            name: torch.zeros(wanted, dtype=types[self._engine.get_tensor_dtype(name)], device=device) for name in names
        }
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.data_ptr())
        self._inputs, self._output = inputs, outputs[0]

    def __call__(self, visible: Tensor, thermal: Tensor) -> Tensor:
        """(1, 1, H, W) twice -> (1, 1, H, W): a buffer that the next call overwrites."""
        self._buffers[self._inputs[0]].copy_(visible)
        self._buffers[self._inputs[1]].copy_(thermal)
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise EngineError("TensorRT failed on a frame; the log has its message")
        return self._buffers[self._output]


class TensorRtEngine(GpuEngine):
    """The network in TensorRT, FP16, the whole frame as one CUDA graph. Owner: the one thread that calls it."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        label: str = "",
        device: str = "cuda",
        cache: EngineCache | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Load the libraries; the engine of a size is built (minutes) or read in `warm_up`.

        Args:
            cache: where engines are kept; None builds at every start.
            progress: told what is being done, a few times a second while building.

        Raises:
            EngineError: no CUDA device, or Torch-TensorRT is missing or does not load.
        """
        self._torch_tensorrt, self._tensorrt = load_tensorrt()
        target = check_device(device)
        flavour = "tensorrt" if self._tensorrt.__name__ == "tensorrt" else "tensorrt-rtx"
        super().__init__(f"{flavour}-float16:{label or checkpoint.path.stem}", target, torch.float16)
        self._checkpoint, self._cache, self._progress = checkpoint, cache, progress

    def _network(self, height: int, width: int) -> Network:
        def build() -> bytes:
            folder = self._cache.folder if self._cache is not None else None
            with _reported(self._progress, f"building the TensorRT engine for {width}x{height}"):
                return plan_network(self._checkpoint, height, width, self._torch_tensorrt, self._device, folder)

        def load(plan: bytes) -> _Plan:
            return _Plan(self._tensorrt, plan, (height, width), self._device)

        if self._cache is None:
            try:
                return load(build())
            except ValueError as error:
                raise EngineError(f"the engine that was just built cannot be read: {error}") from error
        key = engine_key(
            self._checkpoint.sha256,
            height,
            width,
            torch_tensorrt=self._torch_tensorrt,
            tensorrt=self._tensorrt,
            device=self._device,
        )
        network: Network = self._cache.get_or_make(
            key,
            load=lambda folder: load((folder / _PLAN).read_bytes()),
            make=lambda folder: _write(folder / _PLAN, build()),
        )
        return network


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


class _reported:  # noqa: N801 - used as a function
    """While the block runs, tell `progress` twice a second how long it has been at it."""

    def __init__(self, progress: Progress | None, what: str) -> None:
        self._progress, self._what = progress, what
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="engine progress")

    def __enter__(self) -> None:
        self._began_s = time.monotonic()
        _log.info(self._what)
        if self._progress is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        _log.info("done", what=self._what, seconds=round(time.monotonic() - self._began_s, 1))

    def _tell(self) -> None:
        assert self._progress is not None
        while True:
            self._progress(self._what, time.monotonic() - self._began_s)
            if self._done.wait(0.5):
                return
