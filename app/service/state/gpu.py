"""What NVIDIA's driver says of its GPUs, through its own library: no package, no program, no CUDA context."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from typing import Any

__all__ = ["GpuReader", "GpuReading"]

_LIBRARY = "libnvidia-ml.so.1"
_TEMPERATURE_GPU = 0
_NAME_BYTES = 96


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; None for what it does not tell (a Jetson tells little)."""

    index: int
    name: str
    utilization: float | None  # 0 to 1
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_c: float | None


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class GpuReader:
    """Reads all GPUs; gives an empty tuple where there is no NVIDIA driver. Thread-safe; a reading takes about 1 ms."""

    def __init__(self, library: str = _LIBRARY) -> None:
        self._lock = threading.Lock()
        self._nvml: Any = None
        try:
            nvml = ctypes.CDLL(library)
            if nvml.nvmlInit_v2() == 0:
                self._nvml = nvml
        except (OSError, AttributeError):
            self._nvml = None  # no driver: nothing to tell

    def read(self) -> tuple[GpuReading, ...]:
        """Every GPU now."""
        with self._lock:
            if self._nvml is None:
                return ()
            count = ctypes.c_uint()
            if self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
                return ()
            return tuple(reading for i in range(count.value) if (reading := self._one(i)) is not None)

    def _one(self, index: int) -> GpuReading | None:
        nvml, device = self._nvml, ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0:
            return None
        name = ctypes.create_string_buffer(_NAME_BYTES)
        use, memory, celsius = _Utilization(), _Memory(), ctypes.c_uint()
        named = nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_NAME_BYTES)) == 0
        used = nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(use)) == 0
        sized = nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
        warm = nvml.nvmlDeviceGetTemperature(device, ctypes.c_uint(_TEMPERATURE_GPU), ctypes.byref(celsius)) == 0
        return GpuReading(
            index,
            name.value.decode("ascii", "replace") if named else "unknown",
            use.gpu / 100.0 if used else None,
            int(memory.used) if sized else None,
            int(memory.total) if sized else None,
            float(celsius.value) if warm else None,
        )
