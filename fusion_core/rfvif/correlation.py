"""Alignment that can be seen: a displacement field from cross-spectral correlation, coarse to fine.

The paper infers the shift from globally pooled features (Eq. 6), so it can at best undo one uniform shift, and in our
measurements it does not learn to (docs/evidence/alignment.md). Here the shift is made observable: fixed gradient
features, which look alike in both spectra, are compared at every candidate shift; a small network with weights shared
over all shifts and positions scores evidence of several window sizes; a soft arg-max turns them into a displacement;
a confidence decides, position by position, how wide the neighbourhood is that gets to vote. The infrared picture is
warped by the result before the paper's network sees it, so that the dynamic kernels only have to absorb what is left.

Displacements are (dx, dy) in full-resolution pixels: the infrared content that belongs to visible pixel p lies at
p + d(p). All geometry is computed in float32, whatever the network's dtype (FP16 resolves only 0.16 px at x = 640).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.features import CELL_PX, LearnedFeatures, gradient_features, reduced
from fusion_core.rfvif.padding import pad_to_multiple

__all__ = ["CELL_PX", "Alignment", "CorrelationAlignment", "settle", "warp"]

_SLOPE_PRIOR = 0.02
"""Against an affine map with much slope on evidence from one corner: what x and y vary by themselves is 0.33."""


class Alignment(NamedTuple):
    """What the alignment found. Grids are (B, C, H/8, W/8), float32."""

    displacements: tuple[Tensor, ...]  # coarse to fine, (B, 2, H/8, W/8), full-resolution pixels
    log_confidence: Tensor  # (B, 1, H/8, W/8): minus the log of the expected error in pixels


def warp(image: Tensor, displacement: Tensor, *, cubic: bool = False, inset_px: float = 0.0) -> Tensor:
    """Sample `image` at p + d(p), bilinear (cubic keeps more of fine edges), border repeated.

    Args:
        image: (B, C, H, W), any float dtype.
        displacement: (B, 2, h, w) in pixels of `image`; resized to (H, W) when it is coarser.
        inset_px: the border that is repeated lies this far inside; nothing is sampled outside of it.

    Returns:
        (B, C, H, W) in the dtype of `image`; computed in float32.
    """
    height, width = image.shape[-2:]
    if displacement.shape[-2:] != image.shape[-2:]:
        displacement = F.interpolate(displacement.float(), size=(height, width), mode="bilinear", align_corners=False)
    xs = torch.arange(width, device=image.device, dtype=torch.float32)
    ys = torch.arange(height, device=image.device, dtype=torch.float32)
    x, y = xs.view(1, 1, width) + displacement[:, 0].float(), ys.view(1, height, 1) + displacement[:, 1].float()
    if inset_px > 0.0:
        x = x.clamp(inset_px, width - 1.0 - inset_px)
        y = y.clamp(inset_px, height - 1.0 - inset_px)
    x = x * (2.0 / width) + (1.0 / width - 1.0)
    y = y * (2.0 / height) + (1.0 / height - 1.0)
    grid = torch.stack((x, y), dim=-1)  # (B, H, W, 2) in [-1, 1]
    mode = "bicubic" if cubic else "bilinear"
    out = F.grid_sample(image.float(), grid, mode=mode, padding_mode="border", align_corners=False)
    return out.to(image.dtype)


def _smooth_pyramid(values: Tensor, levels: int) -> list[Tensor]:
    """The map averaged over windows of 3, 6, 12 ... cells, each brought back to the size of the first."""
    height, width = values.shape[-2:]
    current = pad_to_multiple(values, 2 ** (levels - 1), mirror=False)
    out = []
    for level in range(levels):
        if level:
            current = F.avg_pool2d(current, 2)
        window = F.avg_pool2d(current, 3, stride=1, padding=1, count_include_pad=False)
        if level:
            window = F.interpolate(window, scale_factor=float(2**level), mode="bilinear", align_corners=False)
        out.append(window[:, :, :height, :width])
    return out


def settle(displacement: Tensor, log_confidence: Tensor, prior: float) -> Tensor:
    """Leave of a field what its confidence can pay for: calm where nothing is to be seen.

    Every part of the picture starts from the affine map that fits the field best. Windows of 24, 12, 6 and 3 cells, and
    the cell itself, then pull the field towards what they see, each by its weight against `prior`, which stands for
    what the wider ones have found. Weights are inverse squares of the expected error.

    Args:
        displacement: (B, 2, h, w) float32, pixels.
        log_confidence: (B, 1, h, w).
        prior: weight of the wider windows' word, in cells that are sure to one pixel.

    Returns:
        As `displacement`.
    """
    weight = torch.exp(2.0 * log_confidence.clamp(-4.0, 2.0))
    affine = _affine_fit(displacement, weight)
    weighted = torch.cat((weight * (displacement - affine), weight), dim=1)
    departure = torch.zeros_like(displacement)
    for window in (*reversed(_smooth_pyramid(weighted, 4)), weighted):
        departure = (window[:, :2] + prior * departure) / (window[:, 2:] + prior)
    return affine + departure


def _affine_fit(displacement: Tensor, weight: Tensor) -> Tensor:
    """The affine map nearest to a field by weighted squares, in closed form: compilers do not all solve equations."""
    height, width = displacement.shape[-2:]
    # From -1 to 1. Not by linspace, which would fix an exported program to one size.
    x = (torch.arange(width, device=weight.device) * (2.0 / (width - 1)) - 1.0).view(1, 1, 1, width)
    y = (torch.arange(height, device=weight.device) * (2.0 / (height - 1)) - 1.0).view(1, 1, height, 1)
    share = weight / weight.mean(dim=(-2, -1), keepdim=True)

    def mean(values: Tensor) -> Tensor:
        return (share * values).mean(dim=(-2, -1), keepdim=True)

    shift = mean(displacement)
    x, y, rest = x - mean(x), y - mean(y), displacement - shift
    xx, yy, xy = mean(x * x) + _SLOPE_PRIOR, mean(y * y) + _SLOPE_PRIOR, mean(x * y)
    determinant = xx * yy - xy * xy
    along_x, along_y = mean(x * rest), mean(y * rest)
    return shift + ((yy * along_x - xy * along_y) * x + (xx * along_y - xy * along_x) * y) / determinant


class CorrelationStage(nn.Module):
    """Correlate at one resolution over a square of shifts, score, and give the expected shift with its spread."""

    shifts: Tensor  # (1, 2, S, 1, 1): the candidates, in picture pixels

    def __init__(self, factor: int, radius: int, hidden: int, windows: int, whole_frame: bool) -> None:
        """Set up one stage.

        Args:
            factor: pixels of the picture per pixel of this stage's features.
            radius: shifts searched, in pixels of the features.
            hidden: width of the scoring network.
            windows: neighbourhoods of 3, 6, 12 ... cells that vote beside the cell itself.
            whole_frame: the whole frame votes too. Only coarse stages should ask it: parallax is local.
        """
        super().__init__()
        self.factor = factor
        self.radius = radius
        self.windows = windows
        self.whole_frame = whole_frame
        side = 2 * radius + 1
        voters = 1 + windows + int(whole_frame)
        # A perceptron over the channels, applied at every shift and position: one matrix product a layer.
        self.score_in = nn.Parameter(nn.init.normal_(torch.empty(hidden, 2 * voters), std=(1.0 / voters) ** 0.5))
        self.score_in_bias = nn.Parameter(torch.zeros(hidden, 1))
        self.score_mid = nn.Parameter(nn.init.normal_(torch.empty(hidden, hidden), std=(2.0 / hidden) ** 0.5))
        self.score_mid_bias = nn.Parameter(torch.zeros(hidden, 1))
        self.score_out = nn.Parameter(nn.init.normal_(torch.empty(1, hidden), std=(1.0 / hidden) ** 0.5))
        self.prior = nn.Parameter(torch.zeros(1, side * side, 1, 1))
        steps = range(-radius * factor, radius * factor + 1, factor)  # in picture pixels
        shifts = [[float(x) for _ in steps for x in steps], [float(y) for y in steps for _ in steps]]  # (2, S)
        self.register_buffer("shifts", torch.tensor(shifts).view(1, 2, -1, 1, 1), persistent=False)
        candidates = voters
        self.select = nn.Sequential(
            nn.Conv2d(5 * candidates, 24, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 24, 3, padding=2, dilation=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, candidates + 3, 3, padding=1),
        )
        last = self.select[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)

    def volume(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Products of the features at every shift, averaged over cells: (B, S, 2, h, w) float32.

        The first plane's by itself, and the sum of all others'.
        """
        pool = CELL_PX // self.factor
        r = self.radius
        height, width = visible.shape[-2:]
        padded = F.pad(infrared, (r, r, r, r), mode="replicate")
        # One product and one average over all shifts: dozens of small operators cost more than their arithmetic.
        windows = [
            padded[:, :, dy : dy + height, dx : dx + width] for dy in range(2 * r + 1) for dx in range(2 * r + 1)
        ]
        # Shifts and planes side by side as channels: vectors are wider than planes. Added up by cells, not pixels.
        products = (visible.unsqueeze(1) * torch.stack(windows, dim=1)).flatten(1, 2)
        if pool > 1:
            products = F.avg_pool2d(products, pool)
        products = products.view(visible.shape[0], len(windows), -1, *products.shape[-2:])
        return torch.cat((products[:, :, :1], products[:, :, 1:].sum(dim=2, keepdim=True)), dim=2)

    def score(self, evidence: Tensor) -> Tensor:
        """The perceptron over the channels, applied at every shift and position: (N, 2 * voters, h, w) -> (N, h, w)."""
        if self.training:  # matrix products have the faster backward pass
            x = F.relu(torch.matmul(self.score_in, evidence.flatten(2)) + self.score_in_bias)
            x = F.relu(torch.matmul(self.score_mid, x) + self.score_mid_bias)
            return torch.matmul(self.score_out, x).view(evidence.shape[0], *evidence.shape[2:])
        # As 1x1 convolutions, which compilers run without turning the layout around.
        x = F.relu(F.conv2d(evidence, self.score_in[:, :, None, None], self.score_in_bias.flatten()))
        x = F.relu(F.conv2d(x, self.score_mid[:, :, None, None], self.score_mid_bias.flatten()))
        return F.conv2d(x, self.score_out[:, :, None, None]).squeeze(1)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """Features in (B, 3, h, w); displacement (B, 2, H/8, W/8) and log-confidence (B, 1, H/8, W/8) out."""
        volume = self.volume(visible, infrared)
        batch, count, _, height, width = volume.shape
        # The evidence at a shift only means something against the other shifts: remove each position's mean.
        volume = volume - volume.mean(dim=1, keepdim=True)
        flat = volume.flatten(1, 2)  # (B, S*2, h, w)
        voters = [flat, *_smooth_pyramid(flat, self.windows)]
        if self.whole_frame:
            voters.append(flat.mean(dim=(-2, -1), keepdim=True).expand_as(flat))
        evidence = [voter.reshape(batch * count, 2, height, width) for voter in voters]
        dtype = self.prior.dtype
        scores = self.score((torch.cat(evidence, dim=1) * 4.0).to(dtype))  # (B*S, h, w)
        logits = scores.float().view(batch, count, height, width) + self.prior.float()
        weights = torch.softmax(logits, dim=1).unsqueeze(1)  # (B, 1, S, h, w)
        mean = (weights * self.shifts).sum(dim=2)
        variance = (weights * (self.shifts - mean.unsqueeze(2)) ** 2).sum(dim=2).sum(dim=1, keepdim=True)
        variance = variance / self.factor**2
        confidence = 1.0 / (variance + 0.05)
        # Normalised averaging: sure neighbours speak for those that see nothing.
        candidates, features = [], []
        weighted = torch.cat((mean * confidence, confidence, confidence * confidence), dim=1)
        averages = [weighted, *_smooth_pyramid(weighted, self.windows)]
        if self.whole_frame:
            averages.append(weighted.mean(dim=(-2, -1), keepdim=True).expand_as(weighted))
        for average in averages:
            candidate = average[:, :2] / average[:, 2:3]
            candidates.append(candidate)
            disagreement = (candidate - mean).abs().sum(dim=1, keepdim=True) / self.factor
            strength = torch.log(average[:, 2:3])
            effective = torch.log(average[:, 3:4]) - strength
            features += [candidate / (self.factor * self.radius), disagreement, strength, effective]
        out = self.select(torch.cat(features, dim=1).to(dtype)).float()
        mix = torch.softmax(out[:, :-3], dim=1)
        displacement = sum(mix[:, i : i + 1] * c for i, c in enumerate(candidates))
        assert isinstance(displacement, Tensor)
        displacement = displacement + out[:, -3:-1] * self.factor
        return displacement, out[:, -1:]


class CorrelationAlignment(nn.Module):
    """Displacement field of the infrared picture against the visible one, in stages coarse to fine."""

    def __init__(
        self,
        stages: tuple[tuple[int, int], ...],
        look_priors: tuple[float, ...],
        look_gain: float = 1.0,
        *,
        learned_features: bool = False,
        hidden: int = 16,
        windows: int = 4,
    ) -> None:
        """Set up.

        Args:
            stages: (factor, radius) coarse to fine: 1/factor of the resolution (8, 4, 2 or 1), shifts searched there.
            look_priors, look_gain: of the looks of the finest stage, see `RfvifConfig`.
            learned_features: correlate what a network makes of both pictures (factors 8, 4 and 2), not gradients alone.
            hidden: width of the scoring network.
            windows: neighbourhoods that vote.
        """
        super().__init__()
        self.look_priors, self.look_gain = look_priors, look_gain
        self.features = LearnedFeatures() if learned_features else None
        self.stages = nn.ModuleList(
            CorrelationStage(factor, radius, hidden, windows if index < 2 else windows - 1, whole_frame=index == 0)
            for index, (factor, radius) in enumerate(stages)
        )

    def forward(self, visible_y: Tensor, infrared: Tensor) -> Alignment:
        """Find the field.

        Args:
            visible_y, infrared: (B, 1, H, W) in [0, 1]; H and W multiples of 8.
        """
        coarse = [(stage, None, 1.0) for stage in list(self.stages)[:-1]]  # their confidence is not trained
        last = len(self.look_priors) - 2  # what these two find is compared with looks of later pictures
        gains = [self.look_gain if index < last else 1.0 for index in range(len(self.look_priors))]
        looks = [(self.stages[-1], prior, gain) for prior, gain in zip(self.look_priors, gains, strict=True)]
        return self._look(visible_y, infrared, None, [*coarse, *looks])

    def refine(self, visible_y: Tensor, infrared: Tensor, displacement: Tensor) -> Alignment:
        """One more look of the finest stage, around a field that is known to a pixel or two: on video, the one before.

        Args:
            visible_y, infrared: as in `forward`.
            displacement: (B, 2, H/8, W/8) float32, pixels.
        """
        return self._look(visible_y, infrared, displacement, [(self.stages[-1], self.look_priors[-1], 1.0)])

    def _look(
        self,
        visible_y: Tensor,
        infrared: Tensor,
        displacement: Tensor | None,
        looks: Sequence[tuple[nn.Module, float | None, float]],
    ) -> Alignment:
        wanted = {int(stage.factor) for stage, _, _ in looks}  # type: ignore[arg-type]
        features = self.features(visible_y, infrared, wanted) if self.features is not None else {}
        displacements = []
        log_confidence = visible_y
        for stage, prior, gain in looks:
            factor = stage.factor
            assert isinstance(factor, int)
            if factor not in features:
                cell = max(2 * CELL_PX // factor, 4)
                fixed, other = (gradient_features(reduced(each, factor), cell) for each in (visible_y, infrared))
                features[factor] = fixed, other
            fixed, other = features[factor]
            if displacement is not None:
                other = warp(other, displacement / factor)
            step, log_confidence = stage(fixed, other)
            displacement = step * gain if displacement is None else displacement + step * gain
            if prior is not None:
                displacement = settle(displacement, log_confidence, prior)
            displacements.append(displacement)
        return Alignment(tuple(displacements), log_confidence)
