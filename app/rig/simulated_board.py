"""A simulated rig before a calibration board: to practise on, and to try calibrating without hardware."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from app.configuration.config import AppConfig

if TYPE_CHECKING:
    from app.capture.cameras.camera import Clock
    from app.capture.cameras.factory import CameraPair
    from app.pipeline.live_fusion import LiveFusion
    from calibration.board import Board
    from calibration.rig import RigCalibration

__all__ = ["BoardRig", "practice_rig"]

_PRACTICE_VIEWS, _PRACTICE_FPS = 32, 10.0


def practice_rig(board: str) -> BoardRig:
    """Make a rig before this board, held in one pose after the other. Raises ConfigError as `parse_board`."""
    from calibration.board import parse_board
    from calibration.render import synthetic_rig

    return BoardRig(synthetic_rig(), parse_board(board), _PRACTICE_VIEWS, _PRACTICE_FPS)


class BoardRig:
    """A rig before a calibration board, which is held in one pose until `show_next`; after the last comes the first.

    What `SimulatedCamera` needs of a rig. Pictures are rendered when they are first asked
    for and kept; any thread may ask.

    Args:
        rig: the truth.
        views: number of poses.
    """

    def __init__(self, rig: RigCalibration, board: Board, views: int = 24, fps: float = 15.0, seed: int = 1) -> None:
        from calibration.render import random_poses

        self.rig, self.board, self.fps = rig, board, fps
        self._seed = seed
        self._poses = random_poses(rig, board, views, seed)
        self._noise = np.random.default_rng(seed).integers(-2, 3, rig.thermal.height * rig.thermal.width, np.int32)
        self._number = 0
        self._lock = threading.Lock()
        self._views: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def show_next(self) -> None:
        """Hold the board in the next pose."""
        self._number += 1

    def visible(self, t_s: float) -> np.ndarray:
        """(H, W, 3) uint8 RGB, whatever the time."""
        return self._view()[0]

    def thermal(self, t_s: float) -> np.ndarray:
        """(Ht, Wt) uint16 counts; the noise changes with the time, since a frozen picture means a closed shutter."""
        still = self._view()[1]
        noise = np.roll(self._noise, round(t_s * 997) % self._noise.size)[: still.size].reshape(still.shape)
        return np.asarray(np.clip(still + noise, 0, 65535), np.uint16)

    def visible_time_s(self, index: int) -> float:
        """Stamp of visible frame `index`."""
        return index / self.fps

    def thermal_time_s(self, index: int) -> float:
        """Stamp of thermal frame `index`."""
        return index / self.fps

    def make_pipeline(self, config: AppConfig) -> LiveFusion:
        """A pipeline on this rig, not started; the configuration's cameras are replaced."""
        from app.pipeline.live_fusion import LiveFusion  # brings cameras and codecs along

        return LiveFusion(config, camera_factory=self._cameras)

    def _cameras(self, *_: Any, clock: Clock | None = None, **__: Any) -> CameraPair:
        from app.capture.cameras.camera import MonotonicClock, TimeBase
        from app.capture.cameras.factory import CameraPair
        from app.capture.cameras.simulated_camera import SimulatedCamera
        from fusion_core.frames import Stream

        base = TimeBase(clock if clock is not None else MonotonicClock())
        visible, thermal = (SimulatedCamera(stream, self, self.fps, base) for stream in Stream)
        return CameraPair(visible, thermal, False, None)

    def _view(self) -> tuple[np.ndarray, np.ndarray]:
        from calibration.render import render_pair

        with self._lock:
            number = self._number % len(self._poses)
            if number not in self._views:
                view = render_pair(self.rig, self._poses[number], self.board, seed=self._seed * 1000 + number)
                for pixels in (view.visible, view.thermal):
                    pixels.flags.writeable = False
                self._views[number] = (view.visible, view.thermal)
            return self._views[number]
