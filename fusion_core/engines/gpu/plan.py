"""One program of the network as a TensorRT plan: built by Torch-TensorRT, run by TensorRT alone.

Strongly typed: precision is what the program's own tensors say, half everywhere but in the float32 islands that the
network casts to itself (correlation geometry, feature norms, global pooling). The whole program must convert; an
operator that does not is an error, never a silent piece of PyTorch.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from fusion_core.engines.gpu.device import Runtime, device_errors
from fusion_core.errors import EngineError

__all__ = ["Plan", "build_plan", "logger_of"]

_LONGEST_REASON = 300
_log = structlog.get_logger("engine")


def build_plan(
    name: str,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    torch_tensorrt: Any,
    device: torch.device,
    folder: Path | None = None,
) -> bytes:
    """Export and convert.

    Args:
        name: of the program, for messages.
        module, inputs: see `fusion_core.rfvif.programs.programs_of`.
        torch_tensorrt: the module.
        folder: where TensorRT's timings of its own kernels are kept, which make a second size faster to build; nobody
            else may write there. None: they are thrown away.

    Returns:
        TensorRT's plan.

    Raises:
        EngineError: an operator does not convert, or there is no memory.
    """
    with contextlib.ExitStack() as after, torch.no_grad():
        if folder is None:
            folder = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="lumitherm-tensorrt-")))
        # By default a file in the folder for temporary files, where anybody may put one for us to read.
        timings = folder / f"timings-{device.type}.bin"
        try:
            program = torch.export.export(module.eval(), inputs, strict=False)
            # One engine for the whole program: this conversion knows no partitions, so nothing can fall back to
            # PyTorch.
            plan = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                program,
                arg_inputs=inputs,
                require_full_compilation=True,
                min_block_size=1,
                truncate_double=True,
                device=device,
                timing_cache_path=str(timings),
            )
        except Exception as error:  # its own exception classes differ between versions
            timings.unlink(missing_ok=True)  # should a crash have left half of it, the next attempt is without
            _log.error("TensorRT cannot build a program", program=name, reason=str(error))  # may hold the whole graph
            first = (str(error).strip().splitlines() or ["no reason given"])[0][:_LONGEST_REASON]
            raise EngineError(
                f"TensorRT cannot build the {name} program for {tuple(inputs[0].shape[-2:])} "
                f"({type(error).__name__}): {first}. The log has all of it; the torch-cuda engine runs any network"
            ) from error
    return bytes(plan)


def logger_of(tensorrt: Any) -> Any:
    """TensorRT's messages into the log; of its own accord they go to standard error."""
    severity = tensorrt.ILogger.Severity
    say = {severity.INTERNAL_ERROR: _log.error, severity.ERROR: _log.error, severity.WARNING: _log.warning}

    class Logger(tensorrt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            say.get(severity, _log.debug)("TensorRT", message=message)

    return Logger()


class Plan:
    """A deserialized plan, called like the program. It runs on the current stream, so a CUDA graph can hold it."""

    def __init__(
        self,
        tensorrt: Any,
        plan: bytes,
        inputs: Sequence[Tensor],
        runtime: Runtime,
        *,
        kernels: Path | None = None,
    ) -> None:
        """Load it.

        Args:
            plan: bytes that are known to be what was written.
            inputs: examples, in the program's order.
            kernels: file of the kernels that TensorRT for RTX compiles when they first run; None: compiled each time.

        Raises:
            ValueError: the plan is of another program. DeviceMemoryError: no memory. EngineError: it does not load.
        """
        self._tensorrt, self._kernels_file = tensorrt, kernels
        self._kernels: Any = None
        with device_errors("loading the TensorRT engine", runtime, self):
            self._logger = logger_of(tensorrt)
            self._runtime = tensorrt.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            # It is byte for byte what TensorRT wrote for this GPU, driver and version, so the file is not to blame.
            if self._engine is None:
                raise EngineError(
                    "TensorRT does not load an engine that it built itself; the log has its message. If no other "
                    "program fills the GPU's memory, `lumitherm engine clean --all` builds it anew"
                )
            self._context = self._make_context()
            if self._context is None:
                raise EngineError("TensorRT has no memory for the engine; close other programs that use the GPU")
            self._inputs, self._outputs = self._bind(inputs, runtime)

    def __call__(self, *inputs: Tensor) -> Any:
        """The program's result: one tensor or a tuple, buffers that the next call overwrites. Raises EngineError."""
        for buffer, given in zip(self._inputs, inputs, strict=True):
            buffer.copy_(given)
        stream = torch.cuda.current_stream().cuda_stream
        if torch.cuda.is_current_stream_capturing():
            capturable = getattr(self._context, "is_stream_capturable", None)
            if capturable is not None and not capturable(stream):
                raise EngineError("TensorRT does not let this engine be captured")
        if not self._context.execute_async_v3(stream):
            raise EngineError("TensorRT failed on a frame; the log has its message")
        return self._outputs[0] if len(self._outputs) == 1 else self._outputs

    def keep_kernels(self) -> None:
        """Write the kernels compiled so far beside the plan, for the next start; after the first run."""
        if self._kernels is None or self._kernels_file is None:
            return
        blob = bytes(self._kernels.serialize())
        new = self._kernels_file.with_suffix(".new")
        try:
            new.write_bytes(hashlib.sha256(blob).digest() + blob)
            new.replace(self._kernels_file)
        except OSError as error:
            _log.warning("compiled kernels are not kept: the next start compiles them again", reason=str(error))

    def _make_context(self) -> Any:
        if self._kernels_file is None or not hasattr(self._tensorrt, "IRuntimeCache"):
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        self._kernels = config.create_runtime_cache()
        with contextlib.suppress(OSError):
            data = self._kernels_file.read_bytes()
            digest, blob = data[:32], data[32:]
            if hashlib.sha256(blob).digest() == digest:
                self._kernels.deserialize(blob)
        config.set_runtime_cache(self._kernels)
        return self._engine.create_execution_context(config)

    def _bind(self, inputs: Sequence[Tensor], runtime: Runtime) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Fixed buffers, so that the addresses in a captured graph stay valid."""
        engine, mode = self._engine, self._tensorrt.TensorIOMode
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        kinds = self._tensorrt.DataType
        types = {kinds.HALF: torch.float16, kinds.FLOAT: torch.float32}
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        dtypes = {name: types.get(engine.get_tensor_dtype(name)) for name in names}
        taken = [name for name in names if engine.get_tensor_mode(name) == mode.INPUT]
        found = [(shapes[name], dtypes[name]) for name in taken]
        wanted = [(tuple(tensor.shape), tensor.dtype) for tensor in inputs]
        if found != wanted or len(taken) == len(names) or None in dtypes.values():
            raise ValueError(f"the engine file takes {found}, wanted {wanted}")
        buffers = {name: runtime.empty(*shapes[name], dtype=dtypes[name]).zero_() for name in names}  # type: ignore[arg-type]
        for name, buffer in buffers.items():
            self._context.set_tensor_address(name, buffer.data_ptr())
        return tuple(buffers[name] for name in taken), tuple(buffers[name] for name in names if name not in taken)
