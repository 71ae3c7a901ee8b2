"""Weights on disk: one safetensors file with the network's configuration and origin in its header. Never pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fusion_core.errors import CheckpointError, UsageError
from fusion_core.rfvif import NETWORK_VERSION, Rfvif, RfvifConfig

__all__ = ["FORMAT_VERSION", "LoadedCheckpoint", "load_checkpoint", "save_checkpoint"]

FORMAT_VERSION = 1
OLDEST_NETWORK = 1
"""The first network version whose weights fit today's network: tensors and configuration are the same since."""
_KEY = "lumitherm"
_MAX_HEADER_BYTES = 16 << 20
_MAX_FILE_BYTES = 1 << 27  # ten times the largest preset
_MAX_TENSORS = 10_000
_DTYPES = {"F16", "BF16", "F32", "F64", "I64"}


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A network with its weights, in evaluation mode and float32, and what the file says about them."""

    network: Rfvif
    config: RfvifConfig
    facts: dict[str, Any]
    """What the trainer knew: training data, steps, AGC contract, metrics. JSON-able."""
    sha256: str
    """Of the file."""
    path: Path


def save_checkpoint(path: Path, network: Rfvif, facts: dict[str, Any], dtype: torch.dtype = torch.float16) -> None:
    """Write the network's weights with its configuration and `facts`. Not atomic by itself.

    Args:
        facts: JSON-able; the keys "preset", "agc", "data", "steps", "metrics" are shown by `lumitherm models`.
        dtype: of the floating-point tensors on disk; the statistics of batch normalisation stay float32.

    Raises:
        CheckpointError: a weight is not finite, or leaves the range of `dtype`.
    """
    tensors = {}
    for name, value in network.state_dict().items():
        tensor = value.detach().cpu()
        if tensor.is_floating_point() and "running_" not in name:
            tensor = tensor.to(dtype)
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name} is not finite in {dtype}; weights like that cannot be saved")
        tensors[name] = tensor.contiguous()
    header = {
        "format_version": FORMAT_VERSION,
        "network_version": NETWORK_VERSION,
        "config": network.config.to_dict(),
        "facts": facts,
    }
    path.write_bytes(save(tensors, metadata={_KEY: json.dumps(header, sort_keys=True)}))


def load_checkpoint(path: Path) -> LoadedCheckpoint:
    """Read weights written by `save_checkpoint` and build their network.

    Raises:
        CheckpointError: the file is missing, damaged, not Lumitherm's, of a newer version, or its tensors do not fit.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}; `lumitherm models list` shows what is installed")
    size = path.stat().st_size
    if size > _MAX_FILE_BYTES:
        raise CheckpointError(f"{path} has {size >> 20} MiB, a weights file has at most {_MAX_FILE_BYTES >> 20}")
    _check_header_size(path, size)
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, file.metadata() or {})
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names[:_MAX_TENSORS]}
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes = {part.get_dtype() for part in slices.values()}
            if len(names) > _MAX_TENSORS or not dtypes <= _DTYPES:
                raise CheckpointError(
                    f"{path} holds {len(names)} tensors of {', '.join(sorted(dtypes)[:4])}; wanted at most"
                    f" {_MAX_TENSORS} of {', '.join(sorted(_DTYPES))}"
                )
            config = _fitting_config(path, header["config"], shapes)
            state: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error}); get the file again") from error
    network = Rfvif(config)
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = tensor.float()
            if not torch.isfinite(state[name]).all():
                raise CheckpointError(f"{path}: {name} holds values that are not finite; get the file again")
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()
        raise CheckpointError(f"{path} does not fit its own network: {' '.join(first[:3])}") from error
    network.eval()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = header.get("facts")
    return LoadedCheckpoint(network, config, facts if isinstance(facts, dict) else {}, digest, path)


def _fitting_config(path: Path, values: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> RfvifConfig:
    """The configuration, once it is known that it describes these tensors and no others. Nothing of its size is built.

    What it may ask for is bounded by what the file holds: no more residual blocks than tensors, no more channels than
    their longest side. Then the network is laid out without memory, and compared.
    """
    longest = max((side for shape in shapes.values() for side in shape), default=0)
    try:
        config = RfvifConfig.from_dict(values)
    except (UsageError, TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: the network configuration in its header is unusable: {error}") from error
    for what, asked, most in (
        ("channels", config.channels, longest),
        ("residual_blocks", config.residual_blocks, len(shapes)),
    ):
        if asked > most:
            raise CheckpointError(
                f"{path}: the header asks for {what}={asked}, its tensors have room for {most}; get the file again"
            )
    try:
        with torch.device("meta"), _WithoutInitialValues():
            wanted = {name: tuple(tensor.shape) for name, tensor in Rfvif(config).state_dict().items()}
    except (UsageError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: the network configuration in its header is unusable: {first}") from error
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            raise CheckpointError(
                f"{path} does not fit its own network: {name[:80]} is {shapes.get(name, 'missing')} in the file, its"
                f" configuration makes it {wanted.get(name, 'unknown')}; get the file again"
            )
    return config


class _WithoutInitialValues(TorchFunctionMode):
    """Leaves new weights as they are: to fill them where there is no memory torch would import its whole compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _check_header_size(path: Path, size: int) -> None:
    """Refuse a header of nonsense length before a parser sees it; the first eight bytes hold the length."""
    with path.open("rb") as file:
        first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(_MAX_HEADER_BYTES, size - 8):
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({size} bytes); get the file again")


def _header(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        header = json.loads(metadata[_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} holds no Lumitherm weights: its header has no readable {_KEY!r} entry"
        ) from error
    if not isinstance(header, dict) or not isinstance(header.get("config"), dict):
        raise CheckpointError(f"{path} holds no Lumitherm weights: its {_KEY!r} entry has no configuration")
    for key, oldest, newest in (
        ("format_version", FORMAT_VERSION, FORMAT_VERSION),
        ("network_version", OLDEST_NETWORK, NETWORK_VERSION),
    ):
        found = header.get(key)
        if type(found) is not int or not oldest <= found <= newest:
            reads = f"{oldest}" if oldest == newest else f"{oldest} to {newest}"
            raise CheckpointError(
                f"{path} has {key} {str(found)[:40]}, this Lumitherm reads {reads}; "
                "use the Lumitherm that wrote it, or train again"
            )
    return header
