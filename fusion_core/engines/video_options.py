"""What an engine may carry from one picture of a video to the next."""

from __future__ import annotations

from dataclasses import dataclass

from fusion_core.errors import EngineError

__all__ = ["STILL_PICTURES", "VideoOptions"]


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How often what changes slowly is computed anew. The defaults suit a fixed rig (docs/evidence/engines.md).

    Engines that run the whole network at once (torch, and those on a GPU) compute everything on every picture.

    Raises:
        EngineError: a count is below 1, or a weight is not above 0 and at most 1.
    """

    align_every: int = 5
    """Pictures between two displacement estimates. 1: on each, in line with the fusion, and not smoothed."""

    align_smoothing: float = 0.5
    """Weight of a new estimate against the running one, above 0 to 1 (no smoothing)."""

    align_waits: bool = True
    """A frame that is due to take an estimate over waits for it, so that the output is a function of the input alone.
    Live no frame waits: a late estimate is taken over by the next frame that finds it ready."""

    kernels_every: int = 1
    """Pictures between two computations of the dynamic kernels (Eq. (6)). 1: on each, and not smoothed."""

    kernels_smoothing: float = 0.5
    """Weight of new kernels against the running ones, above 0 to 1 (no smoothing)."""

    def __post_init__(self) -> None:
        for name in ("align_every", "kernels_every"):
            if getattr(self, name) < 1:
                raise EngineError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name in ("align_smoothing", "kernels_smoothing"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise EngineError(f"{name} is {getattr(self, name)}, must be above 0 and at most 1")


STILL_PICTURES = VideoOptions(align_every=1, kernels_every=1)
"""Nothing is carried over: each picture for itself."""
