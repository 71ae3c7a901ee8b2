"""A device as the GPU engines use it: memory, streams, events and graphs; CUDA's, or none on the host.

After some errors (a device assert, a lost GPU) CUDA answers every further call of the process with the same error, and
the destructors of its objects end the process. So the first such error marks CUDA as lost for this process, and what
still holds its memory is never freed.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import structlog
import torch
from torch import Tensor

from fusion_core.errors import DeviceMemoryError, EngineError

__all__ = ["CudaRuntime", "HostRuntime", "Runtime", "check_device", "device_errors", "keep_for_ever", "runtime_of"]

_WARM_UP_RUNS = 3
_LONGEST_REASON = 300
_log = structlog.get_logger("engine")

Steps = Callable[[], None]


class _Process:
    """What holds for the whole process once it has happened."""

    lost: str | None = None
    no_graphs: str | None = None


def check_device(device: str) -> torch.device:
    """The device, if tensors can be made on it. Raises EngineError with the reason if not."""
    found = torch.device(device)
    if found.type == "cuda" and _Process.lost is not None:
        raise EngineError(f"the GPU failed in this program ({_Process.lost}); start it anew to use the GPU again")
    if found.type == "cuda" and not torch.cuda.is_available():
        kind = "built without CUDA" if torch.version.cuda is None else "no usable NVIDIA driver or GPU"
        raise EngineError(f"PyTorch sees no CUDA device ({kind}); `nvidia-smi` shows what the driver sees")
    try:
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(f"device {device!r} cannot be used: {_first_line(error)}") from error
    return found


def keep_for_ever(thing: object) -> None:
    """Never free it, not even when the interpreter ends: freeing CUDA memory after a lost device aborts."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class Runtime(Protocol):
    """Memory, order and graphs of one device. Streams and events are opaque to the caller."""

    @property
    def device(self) -> torch.device: ...

    def pinned(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Host memory that the device copies from and to by itself, zeroed."""

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Device memory, not initialised."""

    def stream(self, *, low_priority: bool = False) -> Any:
        """An order of work of its own."""

    def on(self, stream: Any) -> contextlib.AbstractContextManager[Any]:
        """What is launched inside goes onto this stream."""

    def mark(self, stream: Any) -> Any:
        """An event: everything that the stream has been given so far."""

    def after(self, stream: Any, event: Any) -> None:
        """Let the stream go on only after the event. The host does not wait."""

    def reached(self, event: Any) -> bool:
        """Whether the event has happened."""

    def wait(self, event: Any) -> None:
        """Let the host wait for it."""

    def program(self, stream: Any, steps: Steps) -> tuple[Steps, bool]:
        """Warm the steps up on a stream; how to run them again on the current one, and whether as one graph."""

    def alive(self) -> bool:
        """Whether the device still answers."""


class HostRuntime:
    """Everything at once, in the caller's thread, in the host's memory."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def pinned(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(*shape, dtype=dtype)

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device=self.device)

    def stream(self, *, low_priority: bool = False) -> Any:
        return None

    def on(self, stream: Any) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def mark(self, stream: Any) -> Any:
        return None

    def after(self, stream: Any, event: Any) -> None:
        pass

    def reached(self, event: Any) -> bool:
        return True

    def wait(self, event: Any) -> None:
        pass

    def program(self, stream: Any, steps: Steps) -> tuple[Steps, bool]:
        steps()
        return steps, False

    def alive(self) -> bool:
        return True


class CudaRuntime:
    """One CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def pinned(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, pin_memory=True)

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device=self.device)

    def stream(self, *, low_priority: bool = False) -> Any:
        # Smaller is more urgent: 0 is the lowest priority that CUDA has.
        return torch.cuda.Stream(self.device, priority=0 if low_priority else -1)  # type: ignore[no-untyped-call]

    def on(self, stream: Any) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.stream(stream)

    def mark(self, stream: Any) -> Any:
        return stream.record_event()

    def after(self, stream: Any, event: Any) -> None:
        stream.wait_event(event)

    def reached(self, event: Any) -> bool:
        return bool(event.query())

    def wait(self, event: Any) -> None:
        event.synchronize()

    def program(self, stream: Any, steps: Steps) -> tuple[Steps, bool]:
        stream.wait_stream(torch.cuda.current_stream(self.device))
        # Convolution algorithms are chosen by trying them. The flag is the process's own while this lasts.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_RUNS):
                    steps()
            stream.synchronize()
            graph = self._capture(stream, steps)
        return (steps, False) if graph is None else (graph.replay, True)

    def _capture(self, stream: Any, steps: Steps) -> Any:
        if _Process.no_graphs is not None:
            return None
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may use CUDA meanwhile: only what this one does may break the capture.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                steps()
        except (RuntimeError, EngineError) as error:
            # The allocator keeps a filter of the graph, and a second attempt after a failed one is not to be trusted.
            keep_for_ever(graph)
            _Process.no_graphs = _first_line(error)
            if not self.alive():
                raise
            _log.warning("no CUDA graph: frames are launched operator by operator, slower", reason=_Process.no_graphs)
            return None
        return graph

    def alive(self) -> bool:
        try:
            torch.cuda.synchronize(self.device)
            torch.zeros(1, device=self.device).item()
        except torch.OutOfMemoryError:
            return True
        except (RuntimeError, AssertionError):
            return False
        return True


def runtime_of(device: torch.device) -> Runtime:
    """Of this device."""
    return CudaRuntime(device) if device.type == "cuda" else HostRuntime()


@contextlib.contextmanager
def device_errors(doing: str, runtime: Runtime, keep: object) -> Iterator[None]:
    """Tell what goes wrong inside as an EngineError.

    Args:
        doing: what is being done, for the message: "loading the network".
        keep: holds what would be freed; never freed when the device is lost.

    Raises:
        DeviceMemoryError: no memory. EngineError: anything else; when the device no longer answers, no engine of this
            process uses CUDA again.
    """
    try:
        yield
    except (RuntimeError, AssertionError, MemoryError, EngineError) as error:
        if not runtime.alive():
            _Process.lost = _first_line(error)
            keep_for_ever(keep)
            raise EngineError(
                f"the GPU was lost while {doing}: {_Process.lost}. This program goes on without it; start it anew to "
                "use the GPU again"
            ) from error
        if isinstance(error, EngineError):
            raise
        if _is_memory(error):
            raise DeviceMemoryError(
                f"the GPU has no memory for {doing} ({_first_line(error)}); close other programs that use the GPU"
            ) from error
        raise EngineError(f"{doing} failed on the GPU: {_first_line(error)}") from error


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in str(error).lower()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]
