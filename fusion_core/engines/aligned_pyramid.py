"""The Laplacian pyramid behind the network's displacement estimate: what no fusion network costs, without ghosts."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.checkpoint import LoadedCheckpoint
from fusion_core.colour import check_pair, luminance, replace_luminance
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.detail_path import LargePicture
from fusion_core.engines.pyramid_engine import fuse_pyramid
from fusion_core.engines.running_displacement import Estimator, RunningDisplacement
from fusion_core.engines.torch_engine import MIN_SIDE_PX, torch_estimator
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import EngineError

__all__ = ["AlignedPyramidEngine"]


class AlignedPyramidEngine:
    """Aligns thermal by the running displacement field and fuses both by their pyramids.

    The choice of the smallest computers, and the baseline that a fusion network has to beat. Owner: the one thread
    that calls it; `warm_up` may run in another before that.
    """

    name = "aligned-pyramid"

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        threads: int = 1,
        video: VideoOptions = STILL_PICTURES,
        cache: EngineCache | None = None,
    ) -> None:
        """Set up; the estimate is compiled by `warm_up` or for the first picture of a size.

        Args:
            checkpoint: weights whose network estimates the displacement.
            threads: of the estimate.
            video: how often it runs; its dynamic kernels do not concern this engine.
            cache: where the converted estimate is kept.

        Raises:
            EngineError: the network estimates no displacement.
        """
        if checkpoint.network.alignment is None:
            raise EngineError(f"{checkpoint.path.name} estimates no displacement, which {self.name} needs; use pyramid")
        self._checkpoint, self._threads, self._video, self._cache = checkpoint, threads, video, cache
        self._size: tuple[int, int] | None = None
        self._large = LargePicture(1, 1)
        self._running: RunningDisplacement | None = None

    @property
    def displacement_px(self) -> npt.NDArray[np.float32] | None:
        """The running displacement estimate, (2, H/8, W/8): (dx, dy) in pixels, None before the first frame."""
        found = self._running.displacement_px if self._running is not None else None
        return found if found is None or self._large.factor == 1 else found * np.float32(self._large.factor)

    def warm_up(self, height: int, width: int) -> None:
        """Compile the estimate for this size and run it once. Raises EngineError."""
        if min(height, width) < 1:
            raise EngineError(f"{self.name} cannot run at {height}x{width} (height x width), needs 1x1 or more")
        picture = np.zeros((height, width), np.uint8)
        self._fuse(picture, picture)
        self.reset()

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`."""
        check_pair(visible, thermal)
        y = luminance(visible)
        return replace_luminance(visible, self._fuse(y, np.ascontiguousarray(thermal)), old_y=y)

    def reset(self) -> None:
        """Forget the running displacement: the next frame is estimated anew."""
        if self._running is not None:
            self._running.reset()

    def close(self) -> None:
        """End the estimate's thread. Safe to call twice."""
        if self._running is not None:
            self._running.close()
        self._running = self._size = None

    def _fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        height, width = visible.shape
        if min(height, width) < MIN_SIDE_PX:  # too small to hold outlines
            return fuse_pyramid(visible, thermal)
        if self._running is None or self._size != (height, width):
            self.close()
            self._large = LargePicture(height, width)
            self._running = RunningDisplacement(
                self._estimator(*self._large.small),
                self._video.align_every,
                smoothing=self._video.align_smoothing,
                waits=self._video.align_waits,
            )
            self._size = height, width
        small, moved = self._large.reduce(visible), self._large.reduce(thermal)
        maps = self._running.at(small, moved).maps
        aligned = cv2.remap(moved, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return self._large.enlarge(visible, small, fuse_pyramid(small, np.asarray(aligned)))

    def _estimator(self, height: int, width: int) -> Estimator:
        try:
            from fusion_core.engines.openvino_parts import openvino_estimator

            return openvino_estimator(self._checkpoint, height, width, threads=self._threads, cache=self._cache)
        except ImportError:
            return torch_estimator(self._checkpoint.network)
