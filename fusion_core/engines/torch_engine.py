"""The reference engine: the network in eager PyTorch, and the one-call fuser for scripts.

The boundary between pixels and tensors is here: uint8 in, uint8 out, luminance in between (`fusion_core.colour`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint
from fusion_core.colour import check_pair, luminance, replace_luminance
from fusion_core.errors import BadInputError, EngineError
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import Rfvif
from fusion_core.thermal.agc import Agc, AgcConfig

__all__ = ["MIN_SIDE_PX", "TorchEngine", "check_network_pair", "load_fuser"]

MIN_SIDE_PX = 32
"""The network's three levels and reflecting border need at least this height and width."""


def check_network_pair(visible: np.ndarray, thermal: np.ndarray) -> None:
    """As `fusion_core.colour.check_pair`, and at least 32x32. Raises BadInputError."""
    check_pair(visible, thermal)
    if min(thermal.shape) < MIN_SIDE_PX:
        raise BadInputError(
            f"the pictures are {thermal.shape[0]}x{thermal.shape[1]} (height x width), "
            f"the network needs at least {MIN_SIDE_PX}x{MIN_SIDE_PX}"
        )


class TorchEngine:
    """The network in eager PyTorch on one device. Float32 on the CPU is the reference that others are held against.

    Owner: the one thread that calls it.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        label: str = "",
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """label: shown in `name`, e.g. the preset. Raises EngineError when the device cannot be used."""
        self._device = torch.device(device)
        self._dtype = dtype
        try:
            network = checkpoint.network.to(self._device, dtype)
        except (RuntimeError, AssertionError) as error:
            raise EngineError(f"the torch engine cannot use device {device!r}: {error}") from error
        self._network: Rfvif | None = network
        kind = str(dtype).removeprefix("torch.")
        self._name = f"torch-{self._device.type}-{kind}:{label or checkpoint.path.stem}"

    @property
    def name(self) -> str:
        return self._name

    def warm_up(self, height: int, width: int) -> None:
        """Run once at this size. Raises EngineError."""
        try:
            self.fuse(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8))
        except (RuntimeError, BadInputError) as error:
            raise EngineError(f"{self._name} cannot run at {height}x{width} (height x width): {error}") from error

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`."""
        check_network_pair(visible, thermal)
        if self._network is None:
            raise EngineError(f"{self._name} is closed; create a new engine")
        y = luminance(visible)
        with torch.inference_mode():
            out = self._network(self._tensor(y), self._tensor(thermal))
            fused = out[0, 0].float().mul_(255.0).round_().to(torch.uint8).cpu().numpy()
        return replace_luminance(visible, fused, old_y=y)

    def reset(self) -> None:
        """Nothing is carried over between frames."""

    def close(self) -> None:
        self._network = None

    def _tensor(self, picture: np.ndarray) -> torch.Tensor:
        contiguous = np.ascontiguousarray(picture)
        if not contiguous.flags.writeable:
            contiguous = contiguous.copy()  # torch refuses to promise not to write
        return torch.from_numpy(contiguous).to(self._device)[None, None].to(self._dtype).mul_(1.0 / 255.0)


def load_fuser(
    weights: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Callable[[npt.NDArray[np.uint8], npt.NDArray[np.integer]], npt.NDArray[np.uint8]]:
    """A function that fuses one pair: `fused = load_fuser("tiny")(visible_rgb, thermal)`.

    Args:
        weights: a preset that ships with weights, or the path of a weights file.

    Returns:
        fuse(visible, thermal): visible (H, W, 3) uint8 RGB; thermal (h, w) uint8, or uint16 counts, which go through
        the AGC that the weights were trained with (plateau equalization of this one picture by default); resized to
        (H, W) where the sizes differ. Gives (H, W, 3) uint8 RGB.

    Raises:
        CheckpointError: there are no such weights, or they are damaged.
    """
    checkpoint = load_checkpoint(resolve_weights(weights))
    engine = TorchEngine(checkpoint, label=str(weights), device=device, dtype=dtype)
    contract = checkpoint.facts.get("agc")
    agc = AgcConfig()
    if isinstance(contract, dict):
        agc = AgcConfig.model_validate({key: value for key, value in contract.items() if key != "version"})

    def fuse(visible: npt.NDArray[np.uint8], thermal: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        if thermal.ndim != 2 or thermal.dtype not in (np.uint8, np.uint16) or not thermal.size:
            raise BadInputError(f"thermal is {thermal.dtype} {thermal.shape}, must be (h, w) uint8 or uint16")
        eight_bit: np.ndarray = thermal if thermal.dtype == np.uint8 else Agc(agc).apply(thermal)
        if visible.ndim == 3 and eight_bit.shape != visible.shape[:2]:
            height, width = visible.shape[:2]
            interpolation = cv2.INTER_LINEAR if height >= thermal.shape[0] else cv2.INTER_AREA
            eight_bit = np.asarray(cv2.resize(eight_bit, (width, height), interpolation=interpolation))
        return engine.fuse(visible, eight_bit)

    return fuse
