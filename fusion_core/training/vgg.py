"""Loads VGG16's convolutional features for the perception loss, from a local file or torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.errors import BadInputError, ConfigError

__all__ = ["TAPS", "Vgg16Features", "load_vgg16"]

# torchvision's numbering of `features`: (index of the convolution, its output channels), "pool" between the blocks
_LAYERS: tuple[tuple[int, int] | str, ...] = (
    (0, 64), (2, 64), "pool", (5, 128), (7, 128), "pool", (10, 256), (12, 256), (14, 256), "pool",
    (17, 512), (19, 512), (21, 512), "pool", (24, 512), (26, 512), (28, 512),
)  # fmt: skip
TAPS = {
    "relu1_1": 0, "relu1_2": 2, "relu2_1": 5, "relu2_2": 7, "relu3_1": 10, "relu3_2": 12, "relu3_3": 14,
    "relu4_1": 17, "relu4_2": 19, "relu4_3": 21, "relu5_1": 24, "relu5_2": 26, "relu5_3": 28,
}  # fmt: skip
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Vgg16Features(nn.Module):
    """VGG16 up to the deepest tap asked for. Frozen; grey pictures are repeated to three channels.

    Features are divided by the layer's root mean square on a fixed picture (1/f noise), so that taps weigh the same
    whatever the scale of the weights: known files of the same network differ by a factor of 100 in their activations.

    Args:
        state: torchvision's keys "features.N.weight" / "features.N.bias".
        taps: names of `TAPS`.

    Raises:
        ConfigError: unknown tap. BadInputError: `state` lacks a layer or has it in another shape.
    """

    def __init__(self, state: dict[str, Tensor], taps: Sequence[str]) -> None:
        super().__init__()
        unknown = sorted(set(taps) - set(TAPS))
        if unknown or not taps:
            raise ConfigError(
                f"loss.perception.taps: {', '.join(unknown) or 'none given'}; choose from {', '.join(TAPS)}"
            )
        self._names = {TAPS[name]: name for name in taps}
        deepest = max(self._names)
        self._plan: list[int | None] = []  # index of a convolution, None: pool
        self.convolutions = nn.ModuleDict()
        channels = 3
        for layer in _LAYERS:
            if isinstance(layer, str):
                self._plan.append(None)
                continue
            index, out_channels = layer
            if index > deepest:
                break
            weight, bias = state.get(f"features.{index}.weight"), state.get(f"features.{index}.bias")
            if weight is None or bias is None or tuple(weight.shape) != (out_channels, channels, 3, 3):
                got = "missing" if weight is None or bias is None else f"of shape {tuple(weight.shape)}"
                raise BadInputError(
                    f"VGG16 weights: features.{index} is {got}, must be ({out_channels}, {channels}, 3, 3) with a bias"
                )
            convolution = nn.Conv2d(channels, out_channels, 3, padding=1)
            convolution.load_state_dict({"weight": weight.float(), "bias": bias.float()})
            self.convolutions[str(index)] = convolution
            self._plan.append(index)
            channels = out_channels
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        with torch.no_grad():
            features = self._features(_reference_picture())
            self.scales = {
                name: float(value.square().mean().sqrt().clamp_min(1e-6)) for name, value in features.items()
            }

    def forward(self, grey: Tensor) -> dict[str, Tensor]:
        """Normalised features of grey pictures, (B, 1, H, W) in [0, 1], by tap name."""
        return {name: value / self.scales[name] for name, value in self._features(grey).items()}

    def _features(self, grey: Tensor) -> dict[str, Tensor]:
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        x = (grey.expand(-1, 3, -1, -1) - mean) / std
        out = {}
        for index in self._plan:
            if index is None:
                x = F.max_pool2d(x, 2)
                continue
            x = F.relu(self.convolutions[str(index)](x))
            if index in self._names:
                out[self._names[index]] = x
        return out


def _reference_picture() -> Tensor:
    """(1, 1, 128, 128): 1/f noise of a fixed seed, mean 0.4 and deviation 0.2, as natural pictures have."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(128, 128, generator=generator)
    radius = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.fftfreq(128)[None, :]).clamp_min(1 / 128)
    picture = torch.fft.ifft2(torch.fft.fft2(noise) / radius).real
    picture = (picture - picture.mean()) / picture.std()
    grey: Tensor = (0.4 + 0.2 * picture).clamp(0, 1)
    return grey[None, None]


def load_vgg16(path: Path | None, taps: Sequence[str]) -> Vgg16Features:
    """VGG16's features from a .safetensors file, or from torchvision (which downloads them once) when path is None.

    Raises:
        BadInputError: the file is missing or not VGG16. ConfigError: no path and no torchvision.
    """
    if path is None:
        return Vgg16Features(_torchvision_state(), taps)
    try:
        state = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise BadInputError(f"VGG16 weights {path} cannot be read: {error}") from error
    return Vgg16Features(state, taps)


def _torchvision_state() -> dict[str, Tensor]:
    try:
        from torchvision.models import VGG16_Weights, vgg16
    except ImportError as error:
        raise ConfigError(
            "the perception loss needs VGG16: give --vgg16 FILE.safetensors, install torchvision, "
            "or set loss.perception.weight to 0"
        ) from error
    try:
        state: dict[str, Tensor] = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).state_dict()
    except OSError as error:
        raise ConfigError(f"torchvision could not download VGG16 ({error}); give --vgg16 FILE.safetensors") from error
    return state
