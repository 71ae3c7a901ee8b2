"""Data-parallel training by torchrun: which process this is, and what all processes agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from fusion_core.errors import ConfigError

__all__ = ["Processes", "processes"]


@dataclass(frozen=True)
class Processes:
    """This process among its peers. World size 1: there are none."""

    rank: int
    world_size: int
    device: torch.device

    def any(self, flag: bool) -> bool:
        """True on all processes when `flag` is true on one. All must call it."""
        if self.world_size == 1:
            return flag
        tensor = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return bool(tensor.item())

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Run the block on rank 0 first, then on the others, which find its files."""
        if self.world_size > 1 and self.rank != 0:
            dist.barrier()
        yield
        if self.world_size > 1 and self.rank == 0:
            dist.barrier()


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started (gloo on the CPU, nccl on CUDA); alone without torchrun.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: the device does not exist here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"run.device is {device!r}, must be auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"run.device is {device!r}, but torch sees no CUDA GPU here; use --set run.device=cpu")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()
