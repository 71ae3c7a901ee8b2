"""The losses of Section 3.6, Eq. (7) and (16)-(18), and further terms that the configuration can add.

The paper writes sums; here every norm is a mean over pixels (and per level or tap), so that the weights alpha 0.5,
beta 0.6, lambda 0.3 mean the same at every crop and batch size. Eq. (17)'s Frobenius norm is likewise divided by the
square root of the number of elements, and by the layer's own scale (see `vgg.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif import warp
from fusion_core.training.config import LossConfig
from fusion_core.training.dataset import Batch
from fusion_core.training.picture_losses import edge_share_loss, gradients, level_loss, qabf
from fusion_core.training.vgg import Vgg16Features

__all__ = [
    "FusionLoss",
    "TrainingOutput",
    "alignment_loss",
    "displacement_loss",
    "following_loss",
    "gradient_loss",
    "gradient_target",
    "gradients",
    "intensity_target",
    "perception_loss",
    "pixel_loss",
    "pyramid_fusion",
    "ssim",
]

_CHARBONNIER_PX = 0.1  # below this an end-point error counts quadratically
_VARYING_PX = 1.0  # root mean square of a field's variation at which it counts half
_LOG_CONFIDENCE_LIMIT = 4.0  # log-precision is kept within +-this: an expected error of 0.02 to 55 px


class TrainingOutput(Protocol):
    """What the network's `forward_training` gives."""

    @property
    def fused(self) -> Tensor:
        """(B, 1, H, W), not clamped."""

    @property
    def aligned_infrared(self) -> tuple[Tensor, ...]:
        """(B, 1, H / 2^l, W / 2^l) for l = 1, 2, 3; empty without FDAM."""

    @property
    def displacement(self) -> tuple[Tensor, ...]:
        """(B, 2, h, w) fields, coarse to fine, in full-resolution pixels; may be empty."""

    @property
    def log_confidence(self) -> Tensor | None:
        """(B, 1, h, w) log-precision of the finest field."""


def _mean(value: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of (B, C, H, W), weighted by a tensor that broadcasts to it. 0 where all weights are 0."""
    if weight is None:
        return value.mean()
    weight = weight.expand_as(value)
    return (value * weight).sum() / weight.sum().clamp_min(1.0)


def _reduce(picture: Tensor, like: Tensor) -> Tensor:
    """Area mean at the height and width of `like`."""
    return F.adaptive_avg_pool2d(picture, (like.shape[-2], like.shape[-1]))


def pixel_loss(fused: Tensor, visible: Tensor, infrared: Tensor, alpha: float, seen: Tensor | None = None) -> Tensor:
    """Eq. (16). `infrared` is the registered picture; all (B, 1, H, W)."""
    return (1 - alpha) * _mean((fused - visible).abs(), None) + alpha * _mean((fused - infrared).abs(), seen)


def perception_loss(
    vgg: Vgg16Features, taps: dict[str, float], fused: Tensor, visible: Tensor, infrared: Tensor, beta: float
) -> Tensor:
    """Eq. (17) over several taps: their weighted mean. All pictures (B, 1, H, W) in [0, 1]."""
    features = vgg(fused)
    with torch.no_grad():
        sources = vgg(torch.cat((visible, infrared)))
    total = fused.new_zeros((), dtype=torch.float32)
    for name, weight in taps.items():
        of_visible, of_infrared = sources[name].float().chunk(2)
        of_fused = features[name].float()
        total = total + weight * (
            (1 - beta) * _frobenius(of_fused - of_visible) + beta * _frobenius(of_fused - of_infrared)
        )
    return total / max(sum(taps.values()), 1e-9)


def _frobenius(difference: Tensor) -> Tensor:
    """Frobenius norm per picture over the root of its element count, mean over the batch."""
    return (difference.square().mean(dim=(1, 2, 3)) + 1e-8).sqrt().mean()


def alignment_loss(aligned: Sequence[Tensor], infrared: Tensor, weight: Tensor | None = None) -> Tensor:
    """Eq. (7): L1 between each level's aligned infrared picture and the registered one, reduced to its size.

    Args:
        aligned: (B, 1, H / 2^l, W / 2^l) for l = 1, 2, 3.
        infrared: (B, 1, H, W), registered. Bilinear reduction by exactly 2 is a 2x2 mean, repeated per level.
        weight: (B,) share of each pair.
    """
    if not aligned:
        return infrared.new_zeros(())
    per_pair = None if weight is None else weight.view(-1, 1, 1, 1)
    total = infrared.new_zeros(())
    for level in aligned:
        target = _reduce(infrared, level)  # (B, 1, H / 2^l, W / 2^l)
        total = total + _mean((level.float() - target).abs(), per_pair)
    return total


def displacement_loss(
    fields: Sequence[Tensor],
    log_confidence: Tensor | None,
    truth: Tensor,
    weight: Tensor | None = None,
    scale_decay: float = 0.7,
) -> Tensor:
    """Robust end-point error in pixels, coarser fields counting `scale_decay` times the next finer one.

    The finest field is weighed by its own log-precision s where given, as the negative log-likelihood of a Laplace
    distribution: exp(s) |e| - s, s kept within +-4.

    Args:
        fields: (B, 2, h, w) each, coarse to fine, full-resolution pixels.
        log_confidence: (B, 1, h, w) of the finest field, or None.
        truth: (B, 2, H, W) pixels; reduced to a field's size by averaging.
        weight: (B,) share of each pair.
    """
    if not fields:
        return truth.new_zeros(())
    per_pair = None if weight is None else weight.view(-1, 1, 1, 1)
    total = truth.new_zeros(())
    for steps_to_finest, found in enumerate(reversed(fields)):
        target = _reduce(truth, found)
        error = ((found.float() - target).square().sum(1, keepdim=True) + _CHARBONNIER_PX**2).sqrt() - _CHARBONNIER_PX
        term = _mean(error, per_pair)
        if steps_to_finest == 0 and log_confidence is not None:
            s = log_confidence.float().clamp(-_LOG_CONFIDENCE_LIMIT, _LOG_CONFIDENCE_LIMIT)
            # half of the weight stays plain, so that hard places cannot give themselves up for good
            term = 0.5 * term + 0.5 * _mean(s.exp() * error - s, per_pair)
        total = total + scale_decay**steps_to_finest * term
    return total


def following_loss(field: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """(1 - s)^2, s the slope of the found field on the true one, both without their mean over the crop.

    An estimate from noisy pictures has the least error where it varies less than the truth (s below 1). Of a field that
    does not vary nothing is known: such a crop counts little.

    Args:
        field: (B, 2, h, w), full-resolution pixels.
        truth: (B, 2, H, W) pixels; reduced to the field's size by averaging.
        weight: (B,) share of each pair.
    """
    found = field.float() - field.float().mean((2, 3), keepdim=True)
    target = _reduce(truth, field)
    target = target - target.mean((2, 3), keepdim=True)
    power = target.square().sum(1).mean((1, 2))  # (B,) px^2
    slope = (found * target).sum(1).mean((1, 2)) / power.clamp_min(1e-3)
    counts = power / (power + _VARYING_PX**2)
    if weight is not None:
        counts = counts * weight
    return (counts * (1 - slope).square()).sum() / counts.sum().clamp_min(1e-3)


def gradient_loss(
    fused: Tensor,
    visible: Tensor,
    infrared: Tensor,
    infrared_gain: float = 1.0,
    seen: Tensor | None = None,
    *,
    infrared_boost: float = 1.0,
    weaker: tuple[float, float] = (0.0, 0.0),
    squared: bool = False,
) -> Tensor:
    """Distance of the fused gradient to, per pixel, the source gradient of the larger magnitude (both components).

    Args:
        infrared_gain: infrared gradients count this much when the larger is chosen.
        infrared_boost: and are drawn this much stronger where they are.
        weaker: see `gradient_target`.
        squared: mean square instead of mean absolute difference. Where the alignment leaves an edge's place uncertain,
            the absolute difference asks for no edge at all (the median), the square for a fainter one (the mean).
    """
    target = gradient_target(visible, infrared, infrared_gain, infrared_boost, seen, weaker)
    difference = gradients(fused) - target
    return difference.square().mean() if squared else difference.abs().mean()


def gradient_target(
    visible: Tensor,
    infrared: Tensor,
    infrared_gain: float,
    infrared_boost: float,
    seen: Tensor | None = None,
    weaker: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Per pixel the gradient of the stronger source, (B, 2, H, W); see `gradient_loss`.

    weaker: shares of the visible and of the infrared gradient that are added where that picture is the weaker one.
    """
    of_visible, of_infrared = gradients(visible), gradients(infrared)
    strength_visible = of_visible.square().sum(1, keepdim=True)
    strength_infrared = of_infrared.square().sum(1, keepdim=True) * infrared_gain**2
    if seen is not None:
        strength_infrared = strength_infrared * seen
    with_infrared = of_infrared * infrared_boost + weaker[0] * of_visible
    return torch.where(strength_infrared > strength_visible, with_infrared, of_visible + weaker[1] * of_infrared)


def intensity_target(kind: str, visible: Tensor, infrared: Tensor, infrared_boost: float = 1.0) -> Tensor:
    """Target luminance from the visible and the registered infrared picture: "mean", "max" or "pyramid".

    infrared_boost: pyramid only, infrared detail is drawn this much stronger where it is the stronger one.
    """
    if kind == "mean":
        return (visible + infrared) / 2
    if kind == "max":
        return torch.maximum(visible, infrared)
    return pyramid_fusion(visible, infrared, infrared_boost=infrared_boost)


_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def _smooth(picture: Tensor, gain: float) -> Tensor:
    row = picture.new_tensor(_BINOMIAL) / 16.0
    kernel = (gain * torch.outer(row, row))[None, None]
    return F.conv2d(F.pad(picture, (2, 2, 2, 2), mode="reflect"), kernel)


def _expand(small: Tensor, like: Tensor) -> Tensor:
    """Burt and Adelson's EXPAND: zeros between the samples, then the binomial filter with gain 4."""
    spread = small.new_zeros(like.shape)
    spread[..., ::2, ::2] = small
    return _smooth(spread, 4.0)


def pyramid_fusion(visible: Tensor, infrared: Tensor, levels: int = 4, infrared_boost: float = 1.0) -> Tensor:
    """Laplacian pyramid fusion: the larger detail by absolute value at each level, mean base. (B, 1, H, W).

    infrared_boost: infrared detail is drawn this much stronger where it is the larger.
    """
    details = []
    for _ in range(levels):
        if min(visible.shape[-2:]) < 8:
            break
        small_visible, small_infrared = (_smooth(p, 1.0)[..., ::2, ::2] for p in (visible, infrared))
        of_visible = visible - _expand(small_visible, visible)
        of_infrared = infrared - _expand(small_infrared, infrared)
        details.append(torch.where(of_infrared.abs() > of_visible.abs(), infrared_boost * of_infrared, of_visible))
        visible, infrared = small_visible, small_infrared
    fused = (visible + infrared) / 2
    for detail in reversed(details):
        fused = _expand(fused, detail) + detail
    return fused.clamp(0, 1)


def ssim(first: Tensor, second: Tensor, window_sigma_px: float = 1.5) -> Tensor:
    """Mean SSIM of (B, 1, H, W) pictures in [0, 1]: Gaussian window of 11 px, no padding (Wang et al. 2004)."""
    taps = torch.arange(-5, 6, device=first.device, dtype=first.dtype)
    row = torch.exp(-taps.square() / (2 * window_sigma_px**2))
    row = row / row.sum()

    def local(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, row.view(1, 1, 1, -1)), row.view(1, 1, -1, 1))

    mean_first, mean_second = local(first), local(second)
    variance_first = local(first * first) - mean_first.square()
    variance_second = local(second * second) - mean_second.square()
    covariance = local(first * second) - mean_first * mean_second
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_first * mean_second + c1) * (2 * covariance + c2)
    return (
        numerator / ((mean_first.square() + mean_second.square() + c1) * (variance_first + variance_second + c2))
    ).mean()


class FusionLoss(nn.Module):
    """Eq. (18), plus the further terms of the configuration.

    Args:
        vgg: features for Eq. (17); may be None when the perception weight is 0.
        alignment_only: leave out every term of the fused picture (stage align).
    """

    def __init__(self, config: LossConfig, vgg: Vgg16Features | None, *, alignment_only: bool = False) -> None:
        super().__init__()
        self._config = config
        self._alignment_only = alignment_only
        self.vgg = vgg

    def forward(self, output: TrainingOutput, batch: Batch, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and each term before weighting (detached) by name."""
        config = self._config
        terms: dict[str, tuple[float, Tensor]] = {}
        infrared = batch.infrared_target
        if config.lambda_align > 0:  # Eq. (7)
            value = alignment_loss(output.aligned_infrared, infrared, batch.alignment_weight)
            terms["align"] = (config.lambda_align, value)
        if config.displacement > 0:
            value = displacement_loss(
                output.displacement,
                output.log_confidence if config.confidence else None,
                batch.displacement,
                batch.alignment_weight,
                config.displacement_scale_decay,
            )
            terms["displacement"] = (config.displacement, value)
        if config.following > 0 and output.displacement:
            value = following_loss(output.displacement[-1], batch.displacement, batch.alignment_weight)
            terms["following"] = (config.following, value)
        if not self._alignment_only:
            terms |= self._fusion_terms(output.fused.float(), self._fusion_target(output, batch), step)
        total = infrared.new_zeros(())  # Eq. (18)
        for weight, value in terms.values():
            total = total + weight * value
        return total, {name: value.detach() for name, (_, value) in terms.items()}

    def _fusion_target(self, output: TrainingOutput, batch: Batch) -> Batch:
        """The batch whose infrared target the fused picture is held against, see `LossConfig.fusion_target`."""
        if self._config.fusion_target == "registered" or not output.displacement:
            return batch
        with torch.no_grad():
            own = warp(batch.infrared, output.displacement[-1].detach(), cubic=True).clamp(0.0, 1.0)
        return batch._replace(infrared_target=own)

    def _fusion_terms(self, fused: Tensor, batch: Batch, step: int) -> dict[str, tuple[float, Tensor]]:
        config = self._config
        visible, infrared = batch.visible_target, batch.infrared_target
        seen = batch.seen if config.mask_unseen else None
        terms: dict[str, tuple[float, Tensor]] = {}
        if config.pixel > 0:
            terms["pixel"] = (config.pixel, pixel_loss(fused, visible, infrared, config.alpha, seen))  # Eq. (16)
        perception = config.perception
        if perception.weight > 0 and self.vgg is not None and step % perception.every == 0:
            f, v, r = (F.avg_pool2d(picture, perception.scale) for picture in (fused, visible, infrared))
            low_precision = perception.dtype == "bfloat16"
            with torch.autocast(fused.device.type, dtype=torch.bfloat16, enabled=low_precision):
                value = perception_loss(self.vgg, perception.taps, f, v, r, config.beta)  # Eq. (17)
            terms["perception"] = (perception.weight * perception.every, value)
        if config.gradient > 0:
            value = gradient_loss(
                fused,
                visible,
                infrared,
                config.gradient_infrared_gain,
                seen,
                infrared_boost=config.gradient_infrared_boost,
                weaker=config.gradient_weaker,
                squared=config.gradient_norm == "l2",
            )
            terms["gradient"] = (config.gradient, value)
        if config.intensity > 0:
            with torch.no_grad():
                shown = infrared if seen is None else torch.where(seen > 0, infrared, visible)
                target = intensity_target(config.intensity_target, visible, shown, config.intensity_infrared_boost)
            terms["intensity"] = (config.intensity, (fused - target).abs().mean())
        if config.ssim > 0:
            value = 1 - (1 - config.alpha) * ssim(fused, visible) - config.alpha * ssim(fused, infrared)
            terms["ssim"] = (config.ssim, value)
        if config.qabf > 0:
            terms["qabf"] = (config.qabf, 1 - qabf(fused, visible, infrared))
        if config.edge_share > 0:
            terms["edge_share"] = (config.edge_share, edge_share_loss(fused, visible, infrared, config.edge_shares))
        if config.level > 0:
            terms["level"] = (config.level, level_loss(fused, visible, infrared, config.level_share))
        return terms
