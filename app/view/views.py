"""Compose what is looked at: fused, visible, thermal, side by side, four in a square, contact sheets.

Pure functions on arrays. Every picture is (H, W, 3) uint8 RGB; thermal comes in as (H, W) uint8 on the visible grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import cv2
import numpy as np

from fusion_core.errors import BadInputError

__all__ = ["FileView", "compose", "contact_sheet", "grey_to_rgb", "label", "needs_fused"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX


class FileView(StrEnum):
    """What a picture in a file shows: the views of `app.view.settings.ViewMode` that need no window."""

    FUSED = "fused"
    VISIBLE = "visible"
    THERMAL = "thermal"
    SIDE_BY_SIDE = "side-by-side"  # visible, thermal, fused in a row
    QUAD = "quad"  # visible, thermal / fused, the plain average (whose double edges show the misalignment)


def needs_fused(view: FileView) -> bool:
    """Whether the view shows the fused picture, so that the engine has to run."""
    return view not in (FileView.VISIBLE, FileView.THERMAL)


def compose(
    view: FileView,
    visible: np.ndarray,
    thermal: np.ndarray | None,
    fused: np.ndarray | None,
    labels: bool = True,
) -> np.ndarray:
    """Put one view together.

    Args:
        visible: (H, W, 3) uint8 RGB.
        thermal: (H, W) uint8 on the visible grid; None shows black (no thermal frame at that moment).
        fused: (H, W, 3) uint8 RGB; None shows the visible picture in its place.
        labels: name the panels of composed views in their upper left corners.

    Returns:
        uint8 RGB: (H, 3 W, 3) side by side, (2 H, 2 W, 3) as quad, else (H, W, 3). Single views are
        the arrays given, not copies.

    Raises:
        BadInputError: the sizes differ.
    """
    shown = visible if fused is None else fused
    if view is FileView.FUSED:
        return shown
    if view is FileView.VISIBLE:
        return visible
    height, width = visible.shape[:2]
    if thermal is not None and thermal.shape != (height, width):
        raise BadInputError(
            f"thermal is {thermal.shape}, wanted ({height}, {width}): bring it to the visible grid before composing"
        )
    if shown.shape != visible.shape:
        raise BadInputError(f"fused is {shown.shape}, wanted {visible.shape}")
    thermal_rgb = np.zeros_like(visible) if thermal is None else grey_to_rgb(thermal)
    if view is FileView.THERMAL:
        return thermal_rgb
    panels = [("visible", visible), ("thermal", thermal_rgb), ("fused", shown)]
    if view is FileView.QUAD:
        panels.append(("average, unaligned", cv2.addWeighted(visible, 0.5, thermal_rgb, 0.5, 0.0)))
    pictures = [label(picture, name) if labels else picture for name, picture in panels]
    if view is FileView.SIDE_BY_SIDE:
        return np.hstack(pictures)
    return np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:])])


def grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """(H, W) uint8 as (H, W, 3) uint8 with equal channels."""
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))


def label(picture: np.ndarray, text: str) -> np.ndarray:
    """A copy with white text on a dark bar in the upper left corner, sized to the picture."""
    labelled = np.ascontiguousarray(picture).copy()
    scale = max(0.35, min(picture.shape[:2]) / 900.0)
    thickness = max(1, round(scale * 1.6))
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(2, round(6 * scale))
    bottom, right = text_height + baseline + 2 * margin, text_width + 2 * margin
    corner = labelled[:bottom, :right]
    corner[:] = corner // 4
    cv2.putText(labelled, text, (margin, margin + text_height), _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return labelled


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    columns: Sequence[str],
    panel_width: int = 480,
    gap_px: int = 6,
) -> np.ndarray:
    """A table of pictures with the names of columns and rows written into the panels.

    Args:
        rows: (row name, one (H, W, 3) uint8 RGB picture a column).
        columns: names of the columns.
        panel_width: each picture is brought to this width, its shape kept.

    Raises:
        BadInputError: no row, or a row with another number of pictures than `columns`.
    """
    if not rows:
        raise BadInputError("a contact sheet needs at least one row of pictures, got none")
    lines = []
    for row_name, pictures in rows:
        if len(pictures) != len(columns):
            raise BadInputError(f"row {row_name!r} has {len(pictures)} pictures for {len(columns)} columns")
        panels: list[np.ndarray] = []
        for column, picture in zip(columns, pictures, strict=True):
            height, width = picture.shape[:2]
            size = (panel_width, max(1, round(height * panel_width / width)))
            shrinks = panel_width < width
            panel = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
            panels.append(label(panel, f"{row_name}: {column}" if not panels else column))
        line_height = max(panel.shape[0] for panel in panels)
        padded = [
            cv2.copyMakeBorder(p, 0, line_height - p.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(24, 24, 24))
            for p in panels
        ]
        lines.append(_joined(padded, gap_px, axis=1))
    return _joined(lines, gap_px, axis=0)


def _joined(pictures: Sequence[np.ndarray], gap_px: int, axis: int) -> np.ndarray:
    first = pictures[0]
    shape = (gap_px, first.shape[1], 3) if axis == 0 else (first.shape[0], gap_px, 3)
    gap = np.full(shape, 24, dtype=np.uint8)
    parts: list[np.ndarray] = []
    for picture in pictures:
        if parts:
            parts.append(gap)
        parts.append(picture)
    return np.concatenate(parts, axis=axis)
