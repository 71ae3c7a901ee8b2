"""Are the published pairs aligned where the estimate says they are not?

`lumitherm evaluate` holds fused pictures against the infrared picture as published. If the pairs themselves are a pixel
or two off in places, a network that aligns is punished for it. Two checks, on the pairs as published and displaced:

1. Local agreement of the visible and the infrared picture, in windows of 96 px, by three measures: normalised mutual
   information of the grey values (knows nothing of edges, unlike the estimate), correlation of gradient magnitudes, and
   agreement of gradient directions. For the infrared picture as published, moved by the mean of the estimate, by the
   estimate, and by the estimate with its variation reversed, which is what noise of that size would do.
2. Edge shares (gVI, gIR, gGhost, Qabf, SSIM) against the infrared picture registered by the classical method that
   prepares training pairs (`fusion_core.training.registration`), instead of as published.

    python benchmarks/published_alignment.py PAIRS --weights small
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from fusion_core.checkpoint import load_checkpoint
from fusion_core.colour import luminance
from fusion_core.engines.engine import create_engine
from fusion_core.measures.displacement import displace, field, uniform
from fusion_core.measures.evaluation import WELL_ALIGNED_VIFB, EvaluationPair, load_pairs
from fusion_core.measures.ghost import central_window, gradient_shares
from fusion_core.measures.metrics import MetricReference
from fusion_core.model_store import resolve_weights
from fusion_core.rfvif import Rfvif, warp
from fusion_core.training.config import RegistrationConfig
from fusion_core.training.registration import register_pair

WINDOW_PX = 96
BORDER_PX = 16


def normalised_mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """(H(a) + H(b)) / H(a, b) of grey values in 24 bins; 1 for independent pictures."""
    joint, _, _ = np.histogram2d(first.ravel(), second.ravel(), 24)
    joint /= joint.sum()

    def entropy(p: np.ndarray) -> float:
        positive = p[p > 0]
        return float(-(positive * np.log(positive)).sum())

    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / max(entropy(joint), 1e-9)


def gradients(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitude, and the direction at twice the angle weighted by it: contrast may flip between the spectra."""
    x = cv2.Sobel(picture.astype(np.float32), cv2.CV_32F, 1, 0)
    y = cv2.Sobel(picture.astype(np.float32), cv2.CV_32F, 0, 1)
    magnitude = cv2.magnitude(x, y)
    scale = 1.0 / np.sqrt(magnitude**2 + 1.0)
    return magnitude, (x * x - y * y) * scale, 2.0 * x * y * scale


def agreement(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """(3,) means over half-overlapping windows: mutual information, gradient correlation, gradient direction."""
    magnitude_v, cos_v, sin_v = gradients(visible)
    magnitude_i, cos_i, sin_i = gradients(infrared)
    found = []
    for top in range(0, visible.shape[0] - WINDOW_PX + 1, WINDOW_PX // 2):
        for left in range(0, visible.shape[1] - WINDOW_PX + 1, WINDOW_PX // 2):
            w = np.s_[top : top + WINDOW_PX, left : left + WINDOW_PX]
            both = (cos_v[w] * cos_i[w] + sin_v[w] * sin_i[w]).sum()
            energy = (cos_v[w] ** 2 + sin_v[w] ** 2).sum() * (cos_i[w] ** 2 + sin_i[w] ** 2).sum()
            spread = magnitude_v[w].std() * magnitude_i[w].std()
            covariance = (magnitude_v[w] * magnitude_i[w]).mean() - magnitude_v[w].mean() * magnitude_i[w].mean()
            found.append(
                (
                    normalised_mutual_information(visible[w], infrared[w]),
                    covariance / max(float(spread), 1e-6),
                    both / np.sqrt(energy + 1e-6),
                )
            )
    return np.mean(found, axis=0)


def check_agreement(network: Rfvif, pairs: list[EvaluationPair]) -> None:
    found: dict[str, list[np.ndarray]] = {}
    for pair in pairs:
        y = luminance(pair.visible)
        height, width = y.shape
        visible, infrared = (
            network.pad(torch.from_numpy(picture.astype(np.float32) / 255.0)[None, None])
            for picture in (y, pair.thermal)
        )
        with torch.inference_mode():
            estimate = network.estimate(visible, infrared)
            d, weight = estimate.displacements[-1], torch.exp(estimate.log_confidence)
            mean = ((d * weight).sum((-2, -1), keepdim=True) / weight.sum((-2, -1), keepdim=True)).expand_as(d)
            inner = np.s_[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
            for name, by in (
                ("as published", torch.zeros_like(d)),
                ("moved by the estimate's mean", mean),
                ("by the estimate", d),
                ("by the estimate, variation reversed", 2 * mean - d),
            ):
                moved = warp(infrared, by, cubic=True).clamp(0, 1)[0, 0, :height, :width].numpy()
                grey = np.round(moved * 255.0).astype(np.uint8)
                found.setdefault(name, []).append(agreement(y[inner], grey[inner]))
    print("| infrared picture | mutual information | gradient magnitude | gradient direction | best of all four in |")
    print("|---|---|---|---|---|")
    best = np.max([np.array(values) for values in found.values()], axis=0)
    for name, values in found.items():
        means, wins = np.mean(values, axis=0), (np.array(values) == best).sum(axis=0)
        print(f"| {name} | {means[0]:.4f} | {means[1]:.3f} | {means[2]:.3f} | {', '.join(map(str, wins))} |")


def check_registered(weights: str, pairs: list[EvaluationPair]) -> None:
    print("\n| method | displaced | Qabf | SSIM | gVI | gIR | gGhost |\n|---|---|---|---|---|---|---|")
    registrations = {
        pair.stem: register_pair(luminance(pair.visible), pair.thermal, RegistrationConfig()) for pair in pairs
    }
    kept = [pair for pair in pairs if registrations[pair.stem].reliable]
    for name in ("ncc-pyramid", "torch"):
        engine = create_engine(name, weights, None, None)
        for displacement in (uniform(0.0), uniform(5.0), uniform(8.0), field(3.0), field(5.0), field(8.0)):
            rows = []
            for pair in kept:
                engine.reset()
                given = displace(pair.thermal, displacement, pair.stem)
                y, fused = luminance(pair.visible), luminance(engine.fuse(pair.visible, given))
                truth = registrations[pair.stem].apply(pair.thermal)
                shares = gradient_shares(fused, y, truth, given, central=True)
                window = central_window(*y.shape)
                metrics = MetricReference(y[window], truth[window]).evaluate(fused[window])
                rows.append((metrics["qabf"], metrics["ssim"], shares.g_visible, shares.g_thermal, shares.g_ghost))
            cells = " | ".join("–" if np.isnan(v) else f"{v:.3f}" for v in np.mean(rows, axis=0))
            print(f"| {name if name != 'torch' else weights} | {displacement.label} | {cells} |", flush=True)
    print(f"\n{len(kept)} of {len(pairs)} pairs registered")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", default="small")
    wanted = parser.parse_args()
    pairs = list(load_pairs(wanted.pairs, WELL_ALIGNED_VIFB))
    check_agreement(load_checkpoint(resolve_weights(wanted.weights)).network.eval(), pairs)
    check_registered(wanted.weights, pairs)


if __name__ == "__main__":
    main()
