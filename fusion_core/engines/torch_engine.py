"""The reference engine: the network in eager PyTorch.

The boundary between pixels and tensors is here: uint8 in, uint8 out, luminance in between (`fusion_core.colour`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.colour import check_pair, luminance, replace_luminance
from fusion_core.engines.running_displacement import Estimator, Floats
from fusion_core.errors import BadInputError, EngineError
from fusion_core.rfvif import Rfvif

__all__ = ["MIN_SIDE_PX", "TorchEngine", "check_network_pair", "torch_estimator"]

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
        self._displacement_px: Floats | None = None
        kind = str(dtype).removeprefix("torch.")
        self._name = f"torch-{self._device.type}-{kind}:{label or checkpoint.path.stem}"

    @property
    def name(self) -> str:
        return self._name

    @property
    def displacement_px(self) -> Floats | None:
        """What the newest picture was fused with, (2, H/8, W/8): (dx, dy) in pixels; None before, and without one."""
        return self._displacement_px

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
            out = self._network.forward_training(self._tensor(y), self._tensor(thermal))
            fused = out.fused[0, 0].float().clamp_(0.0, 1.0).mul_(255.0).round_().to(torch.uint8).cpu().numpy()
            if out.displacement:
                self._displacement_px = out.displacement[-1][0].float().cpu().numpy()
        return replace_luminance(visible, fused, old_y=y)

    def reset(self) -> None:
        """Forget what the newest picture was fused with; nothing is carried over between frames."""
        self._displacement_px = None

    def close(self) -> None:
        self._network = None

    def _tensor(self, picture: np.ndarray) -> torch.Tensor:
        contiguous = np.ascontiguousarray(picture)
        if not contiguous.flags.writeable:
            contiguous = contiguous.copy()  # torch refuses to promise not to write
        return torch.from_numpy(contiguous).to(self._device)[None, None].to(self._dtype).mul_(1.0 / 255.0)


class _TorchEstimator:
    """A `RefiningEstimator` in eager PyTorch."""

    def __init__(self, network: Rfvif) -> None:
        self._network = network.float().cpu().eval()

    @torch.inference_mode()
    def __call__(self, visible: np.ndarray, thermal: np.ndarray) -> tuple[Floats, Floats]:
        found = self._network.estimate(*self._padded(visible, thermal))
        return found.displacements[-1][0].numpy(), found.log_confidence[0].numpy()

    @torch.inference_mode()
    def refine(self, visible: np.ndarray, thermal: np.ndarray, displacement_px: Floats) -> tuple[Floats, Floats]:
        start = torch.from_numpy(displacement_px)[None]
        found = self._network.refine(*self._padded(visible, thermal), start)
        return found.displacements[-1][0].numpy(), found.log_confidence[0].numpy()

    def _padded(self, visible: np.ndarray, thermal: np.ndarray) -> tuple[Tensor, Tensor]:
        factor = self._network.reduction(*visible.shape)
        first, second = (torch.from_numpy(each.copy())[None, None] * (1.0 / 255.0) for each in (visible, thermal))
        return self._network.pad(first, factor), self._network.pad(second, factor)


def torch_estimator(network: Rfvif) -> Estimator:
    """The displacement estimate of a network in eager PyTorch, float32 on the CPU, for pictures of any size."""
    return _TorchEstimator(network)
