"""The network's programs of one size on a device, with the displacement field and kernels that they carry over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fusion_core.engines.gpu.device import Runtime
from fusion_core.engines.gpu.field import DeviceField

__all__ = ["CarriedKernels", "DeviceNetwork", "FieldSchedule"]

Program = Callable[..., Any]


class FieldSchedule(Protocol):
    """When the field is renewed: `fusion_core.engines.running_displacement.RunningField` over a `DeviceField`."""

    def of(self, pictures: tuple[Tensor, Tensor], /) -> object: ...
    def reset(self) -> None: ...


@dataclass(slots=True)
class CarriedKernels:
    """The dynamic kernels in use, renewed on every n-th picture; see `VideoOptions.kernels_every`."""

    kernels: Tensor  # (N,)
    weight: Tensor  # (1,): share of new ones
    every: int
    smoothing: float
    age: int = 0
    known: bool = False

    def next_key(self) -> str:
        """The fusion program of the next picture."""
        return "fuse-kernels" if self.known and self.age else "fuse-renew"

    def advance(self) -> None:
        """The next picture begins: set the weight that its program reads."""
        if self.next_key() == "fuse-renew":
            self.weight.fill_(self.smoothing if self.known else 1.0)


class DeviceNetwork:
    """A `fusion_core.engines.gpu.runner.Network`. Owner: the thread that fuses."""

    def __init__(
        self,
        programs: Mapping[str, Program],
        field: DeviceField | None,
        schedule: FieldSchedule | None,
        runtime: Runtime,
        main: Any,
        carried: CarriedKernels | None = None,
    ) -> None:
        """programs: as `fusion_core.rfvif.programs.programs_of` names them; field, schedule: None without estimate."""
        self._programs, self._runtime, self._main = programs, runtime, main
        self.field, self._schedule, self._carried = field, schedule, carried
        self._key = self.graph_keys()[0]
        self.started = False
        """Whether a picture has been fused since the last `reset`."""

    @property
    def carries_kernels(self) -> bool:
        """Whether the fusion changes what the next one sees."""
        return self._carried is not None

    def choose(self, visible: Tensor, thermal: Tensor) -> None:
        self.started = True
        if self._schedule is not None:
            self._schedule.of((visible, thermal))
        carried = self._carried
        if carried is None:
            return
        with self._runtime.on(self._main), torch.inference_mode():
            carried.advance()
        self._key = carried.next_key()
        carried.known = True
        carried.age = (carried.age + 1) % carried.every

    def graph_key(self) -> str:
        return self._key

    def graph_keys(self) -> tuple[str, ...]:
        return tuple(name for name in self._programs if name not in ("estimate", "refine"))

    def fuse(self, key: str, visible: Tensor, thermal: Tensor) -> Tensor:
        program, field, carried = self._programs[key], self.field, self._carried
        if field is None:
            return program(visible, thermal)  # type: ignore[no-any-return]
        inputs = visible, thermal, field.displacement, field.log_confidence
        if key == "fuse":
            return program(*inputs)  # type: ignore[no-any-return]
        assert carried is not None  # the programs with kernels are made where they are carried
        if key == "fuse-kernels":
            return program(*inputs, carried.kernels)  # type: ignore[no-any-return]
        fused, kernels = program(*inputs, carried.kernels, carried.weight)
        carried.kernels.copy_(kernels)
        return fused  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget what was carried over."""
        self.started = False
        if self._schedule is not None:
            self._schedule.reset()
        if self._carried is not None:
            self._carried.known, self._carried.age = False, 0
