"""Draws what registration does to the training pairs: both spectra overlaid, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.errors import RunError
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.registration import gradient_plane

__all__ = ["edge_overlay", "write_registration_figure"]

UInt8Array = npt.NDArray[np.uint8]
_PANEL_PX = (480, 360)  # width, height


def edge_overlay(visible: UInt8Array, infrared: UInt8Array) -> UInt8Array:
    """Draw the edges of both, (H, W, 3) uint8 RGB: visible red, infrared cyan, white where they coincide."""
    red, cyan = (np.clip(gradient_plane(picture) * 90.0, 0, 255) for picture in (visible, infrared))
    return np.asarray(np.rint(np.stack((red, cyan, cyan), axis=-1)), np.uint8)


def write_registration_figure(pairs: Sequence[TrainingPair], path: Path, *, rows: int = 6) -> list[str]:
    """Write a PNG with one row a pair: the overlay as published, and registered. The pairs with the largest shift
    come first. Returns their stems.

    Raises:
        RunError: the file cannot be written.
    """
    chosen = sorted((p for p in pairs if p.registration.reliable), key=lambda p: -p.registration.reach_px)[:rows]
    panels = []
    for pair in chosen:
        after = pair.registration.apply(pair.infrared)
        dx, dy = pair.registration.shift_px
        labels = (f"{pair.stem}  as published", f"registered ({dx:+.2f}, {dy:+.2f}) px and field")
        row = []
        for picture, label in zip((pair.infrared, after), labels, strict=True):
            overlay = cv2.resize(edge_overlay(pair.visible, picture), _PANEL_PX, interpolation=cv2.INTER_AREA)
            cv2.putText(overlay, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 0), 1, cv2.LINE_AA)
            row.append(overlay)
        panels.append(np.hstack(row))
    sheet = np.vstack(panels) if panels else np.zeros((_PANEL_PX[1], 2 * _PANEL_PX[0], 3), np.uint8)
    encoded, data = cv2.imencode(".png", sheet[..., ::-1])
    if not encoded:
        raise RunError(f"the figure {path} could not be encoded")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}") from error
    return [pair.stem for pair in chosen]
