"""The ghost measure: which edges of a fused picture are the thermal picture's edges in the wrong place.

A misaligned thermal picture leaves its outlines beside the objects they belong to. Qabf, SSIM and MI hardly see it:
they reward leaving the thermal picture out. So the fused gradient field is explained, by least squares, by three
others,

    grad F ~ g_visible grad V + g_thermal grad T_aligned + g_ghost grad T_given,

with T_given the thermal picture as the engine got it and T_aligned the same picture where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion_core.colour import luminance
from fusion_core.errors import BadInputError

__all__ = ["CENTRAL_WINDOW_PX", "GhostResult", "central_window", "gradient_shares"]

CENTRAL_WINDOW_PX = (256, 320)  # height, width: free of border effects for displacements that are tried here


@dataclass(frozen=True, slots=True)
class GhostResult:
    """Least-squares shares of the fused gradients, 1 = the edges are there at full strength.

    g_visible: edges of the visible picture kept (want high). g_thermal: edges of the thermal picture drawn where they
    belong (want high). g_ghost: drawn where the misaligned thermal picture had them (want 0). ghost_share: of the
    thermal edges that were drawn, the part in the wrong place, 0..1; NaN when none was drawn. g_ghost and
    ghost_share are NaN where the thermal picture was not displaced, since then there is no wrong place.
    A share is NaN when its source has no gradients at all.
    """

    g_visible: float
    g_thermal: float
    g_ghost: float
    ghost_share: float


def central_window(height: int, width: int) -> tuple[slice, slice]:
    """The central window of CENTRAL_WINDOW_PX, or as much of it as the picture has along either side."""
    rows, columns = min(height, CENTRAL_WINDOW_PX[0]), min(width, CENTRAL_WINDOW_PX[1])
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def gradient_shares(
    fused: np.ndarray,
    visible: np.ndarray,
    thermal_aligned: np.ndarray,
    thermal_given: np.ndarray | None = None,
    *,
    central: bool = False,
) -> GhostResult:
    """Explain the gradients of a fused picture by those of its sources.

    Args:
        fused, visible: (H, W) or (H, W, 3) RGB, uint8 or float; of colour pictures the luminance is used.
        thermal_aligned: (H, W), the thermal picture where it belongs.
        thermal_given: (H, W), the thermal picture as it was fused. None, or equal to thermal_aligned: no third term.
        central: measure in `central_window` alone. Gradients are taken inside it.

    Raises:
        BadInputError: sizes differ, or the window is smaller than 3x3.
    """
    pictures = [fused, visible, thermal_aligned]
    if thermal_given is not None and not np.array_equal(thermal_given, thermal_aligned):
        pictures.append(thermal_given)
    size = fused.shape[:2]
    if any(picture.shape[:2] != size for picture in pictures) or min(size) < 3:
        shapes = ", ".join(str(picture.shape[:2]) for picture in pictures)
        raise BadInputError(f"the pictures are {shapes} (height, width), must be of one size and at least 3x3")
    window = central_window(*size) if central else (slice(None), slice(None))
    target, *terms = (_gradients(luminance(picture)[window]) for picture in pictures)
    # A source without gradients explains nothing: leave it out, so that the normal equations stay solvable.
    known = [k for k, term in enumerate(terms) if term.any()]
    shares = [float("nan")] * 3
    if known:
        matrix = np.stack([terms[k] for k in known], axis=1)
        solution = np.linalg.lstsq(matrix.T @ matrix, matrix.T @ target, rcond=1e-10)[0]
        for k, share in zip(known, solution, strict=True):
            shares[k] = float(share)
    g_visible, g_thermal, g_ghost = shares
    drawn = max(g_thermal, 0.0) + max(g_ghost, 0.0)
    ghost_share = max(g_ghost, 0.0) / drawn if len(terms) == 3 and drawn > 0.0 else float("nan")
    return GhostResult(g_visible, g_thermal, g_ghost, ghost_share)


def _gradients(picture: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Central differences inside the picture, horizontal and vertical, stacked into one vector."""
    values = picture.astype(np.float64)
    horizontal = (values[1:-1, 2:] - values[1:-1, :-2]) / 2.0
    vertical = (values[2:, 1:-1] - values[:-2, 1:-1]) / 2.0
    return np.concatenate([horizontal.ravel(), vertical.ravel()])
