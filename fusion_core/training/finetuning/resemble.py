"""Makes generic pairs look as if the rig's thermal camera had taken them, with its larger pixels and its noise.

The pairs of a public set are registered better than footage of a coarse camera can be. Degraded this way, they show
the estimate what the camera sees, and the truth is exact.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.files import read_json
from fusion_core.training.dataset import TrainingPair

__all__ = ["noise_levels", "resembling", "thermal_pitch_of"]

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # Immerkaer 1996: blind to edges along the axes


def thermal_pitch_of(data: Path) -> float:
    """Size of a thermal pixel of a built set, in pixels of the visible grid; 1 where the set does not tell."""
    try:
        pitch = read_json(data / "dataset.json")["thermal_pitch_px"]
        return max(1.0, float(pitch))
    except (OSError, ValueError, KeyError, TypeError):
        return 1.0


def noise_levels(infrared: npt.NDArray[np.generic], pitch_px: float) -> float:
    """Noise of a picture resized back to thermal pixels, `pitch_px` apart: standard deviation in 8-bit levels.

    Less than that of the camera, since resizing to the visible grid and back smooths. (H, W) uint8 or float32.
    """
    small = _reduced(infrared.astype(np.float32), pitch_px)
    return float(np.median(np.abs(cv2.filter2D(small, cv2.CV_32F, _KERNEL)[1:-1, 1:-1])) / (0.6745 * 6.0))


def resembling(generic: Sequence[TrainingPair], own: Sequence[TrainingPair], pitch_px: float) -> list[TrainingPair]:
    """Give the generic pairs infrared pictures of the rig's pitch and noise. Every call gives equal pictures."""
    if not own or pitch_px <= 1.0:
        return list(generic)
    wanted = float(np.median([noise_levels(pair.infrared, pitch_px) for pair in own]))
    return [dataclasses.replace(pair, infrared=_degraded(pair, pitch_px, wanted)) for pair in generic]


def _degraded(pair: TrainingPair, pitch_px: float, wanted_levels: float) -> UInt8Array:
    size = pair.infrared.shape
    small = _reduced(pair.infrared.astype(np.float32), pitch_px)
    noise = np.random.default_rng(zlib.crc32(pair.stem.encode())).standard_normal(small.shape).astype(np.float32)
    kept = noise_levels(_enlarged(noise, size), pitch_px)  # what resizing leaves of noise of 1 level
    missing = max(0.0, wanted_levels**2 - noise_levels(_enlarged(small, size), pitch_px) ** 2) ** 0.5
    noisy = small + noise * np.float32(missing / max(kept, 1e-3))
    return np.asarray(np.clip(np.rint(_enlarged(noisy, size)), 0, 255), np.uint8)


def _enlarged(small: FloatArray, size: tuple[int, ...]) -> FloatArray:
    return np.asarray(cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _reduced(infrared: FloatArray, pitch_px: float) -> FloatArray:
    height, width = infrared.shape
    size = max(8, round(width / pitch_px)), max(8, round(height / pitch_px))
    return np.asarray(cv2.resize(infrared, size, interpolation=cv2.INTER_AREA), np.float32)
