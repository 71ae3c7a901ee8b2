"""The network in TensorRT, FP16, one plan a program (estimate, refined estimate, fusion).

Plans are kept on disk as TensorRT's own, which are read by TensorRT alone: nothing is unpickled. The `tensorrt` and the
`tensorrt-rtx` extras run through the same code.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.gpu.device import check_device, runtime_of
from fusion_core.engines.gpu.plan import Plan, build_plan
from fusion_core.engines.torch_cuda_engine import GpuEngine, Program
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import EngineError
from fusion_core.rfvif import NETWORK_VERSION
from fusion_core.rfvif.inference import for_inference
from fusion_core.rfvif.programs import programs_of

__all__ = ["TensorRtEngine", "engine_key", "load_tensorrt"]

_CONVERSION_VERSION = 2
"""Raised whenever the same network converts to another engine; part of the cache key."""

_OLDEST = (2, 11)
"""Of Torch-TensorRT: older ones are weakly typed by default, and would give float32 under the name float16."""

_PLAN, _KERNELS = "engine.plan", "kernels.bin"
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
    except Exception as error:  # a missing library raises plain Exception or AssertionError there
        raise _does_not_load(error) from error
    version = re.findall(r"\d+", torch_tensorrt.__version__)
    if tuple(map(int, version[:2])) < _OLDEST:
        raise EngineError(
            f"Torch-TensorRT is {torch_tensorrt.__version__}, must be {'.'.join(map(str, _OLDEST))} or newer: older "
            "ones run the network in float32 whatever they are asked for. `pip install --upgrade lumitherm[tensorrt]`"
        )
    try:
        # Where only the RTX library is installed, Torch-TensorRT registers it under TensorRT's name itself.
        name = "tensorrt" if importlib.util.find_spec("tensorrt") is not None else "tensorrt_rtx"
        return torch_tensorrt, importlib.import_module(name)
    except Exception as error:
        raise _does_not_load(error) from error


def _does_not_load(error: Exception) -> EngineError:
    return EngineError(
        f"Torch-TensorRT does not load ({type(error).__name__}: {error}); its version must fit PyTorch "
        f"{torch.__version__}, and the driver TensorRT's CUDA"
    )


def engine_key(
    weights_sha256: str,
    height: int,
    width: int,
    *,
    program: str,
    torch_tensorrt: Any,
    tensorrt: Any,
    device: torch.device,
) -> dict[str, Any]:
    """All that a plan depends on."""
    properties = torch.cuda.get_device_properties(device)
    return {
        "kind": f"tensorrt-{program}",
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


class TensorRtEngine(GpuEngine):
    """The network in TensorRT, FP16. Owner: the one thread that calls it."""

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        label: str = "",
        device: str = "cuda",
        video: VideoOptions = STILL_PICTURES,
        cache: EngineCache | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Load the libraries; the engine of a size is built (minutes) or read in `warm_up`.

        Args:
            video: what is carried over between pictures; by default nothing.
            cache: where engines are kept; None builds at every start.
            progress: told what is being done, a few times a second while building.

        Raises:
            EngineError: no CUDA device, or Torch-TensorRT is missing, too old, or does not load.
        """
        self._torch_tensorrt, self._tensorrt = load_tensorrt()
        target = check_device(device)
        flavour = "tensorrt" if self._tensorrt.__name__ == "tensorrt" else "tensorrt-rtx"
        name = f"{flavour}-float16:{label or checkpoint.path.stem}"
        super().__init__(name, checkpoint, runtime_of(target), torch.float16, video)
        self._device, self._cache, self._progress = target, cache, progress
        self._plans: dict[str, Plan] = {}

    def warm_up(self, height: int, width: int) -> None:
        """As `GpuEngine.warm_up`; and keep what TensorRT has compiled in the first frame."""
        super().warm_up(height, width)
        for plan in self._plans.values():
            plan.keep_kernels()

    def close(self) -> None:
        super().close()
        self._plans = {}

    def _programs(self, height: int, width: int) -> Mapping[str, Program]:
        video = self._video
        network = for_inference(self._checkpoint.network.float()).to(self._device, torch.float16)
        made = programs_of(
            network, height, width, refines=video.align_every > 1, carries_kernels=video.kernels_every > 1
        )
        self._plans = {}
        for name, (module, inputs) in made.items():
            self._plans[name] = self._plan(name, module, inputs)
        return self._plans

    def _plan(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Plan:
        height, width = inputs[0].shape[-2:]

        def build() -> bytes:
            folder = self._cache.folder if self._cache is not None else None
            with _reported(self._progress, f"building the {name} program for {width}x{height}"):
                return build_plan(name, module, inputs, self._torch_tensorrt, self._device, folder)

        def load(folder: Path) -> Plan:
            plan = (folder / _PLAN).read_bytes()
            return Plan(self._tensorrt, plan, inputs, self._runtime, kernels=folder / _KERNELS)

        if self._cache is None:
            try:
                return Plan(self._tensorrt, build(), inputs, self._runtime)
            except ValueError as error:
                raise EngineError(f"the engine that was just built cannot be read: {error}") from error
        key = engine_key(
            self._checkpoint.sha256,
            height,
            width,
            program=name,
            torch_tensorrt=self._torch_tensorrt,
            tensorrt=self._tensorrt,
            device=self._device,
        )
        plan: Plan = self._cache.get_or_make(key, load, lambda folder: _write(folder / _PLAN, build()))
        return plan


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
