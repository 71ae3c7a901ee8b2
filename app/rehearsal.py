"""Live pipelines without hardware: cameras that can be unplugged and stalled, and a rig before a calibration board."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from app.capture.camera import Clock, MonotonicClock, TimeBase
from app.capture.factory import CameraPair, create_cameras
from app.capture.simulated_camera import SimulatedCamera, SimulatedFaults
from app.config import AppConfig
from app.live_fusion import LiveFusion
from fusion_core.frames import Stream

if TYPE_CHECKING:
    from calibration.board import Board
    from calibration.rig import RigCalibration

__all__ = ["BoardRig", "FaultyRig"]


class FaultyRig:
    """Makes pipelines on the simulated rig; `faults` reaches into the cameras of the newest one."""

    def __init__(self) -> None:
        self.faults: dict[Stream, SimulatedFaults] = {}

    def make_pipeline(self, config: AppConfig) -> LiveFusion:
        """A pipeline that is not started."""
        return LiveFusion(config, camera_factory=self._cameras)

    def _cameras(self, *arguments: Any, **options: Any) -> CameraPair:
        pair = create_cameras(*arguments, **options)
        for stream, camera in ((Stream.VISIBLE, pair.visible), (Stream.THERMAL, pair.thermal)):
            if isinstance(camera, SimulatedCamera):
                self.faults[stream] = camera.faults
        return pair


class BoardRig:
    """A rig before a calibration board that is held in one pose after another, each for `hold_s`, round and round.

    What `app.capture.simulated_camera.SimulatedCamera` needs of a rig. Pictures are rendered when they are first asked
    for and kept; any thread may ask.

    Args:
        rig: the truth.
        views: number of poses.
    """

    def __init__(
        self, rig: RigCalibration, board: Board, views: int = 24, hold_s: float = 0.8, fps: float = 15.0, seed: int = 1
    ) -> None:
        from calibration.render import random_poses

        self.rig, self.board, self.fps = rig, board, fps
        self._hold_s, self._seed = hold_s, seed
        self._poses = random_poses(rig, board, views, seed)
        self._lock = threading.Lock()
        self._views: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def visible(self, t_s: float) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._view(t_s)[0]

    def thermal(self, t_s: float) -> np.ndarray:
        """(Ht, Wt) uint16 counts."""
        return self._view(t_s)[1]

    def visible_time_s(self, index: int) -> float:
        """Stamp of visible frame `index`."""
        return index / self.fps

    def thermal_time_s(self, index: int) -> float:
        """Stamp of thermal frame `index`."""
        return index / self.fps

    def make_pipeline(self, config: AppConfig) -> LiveFusion:
        """A pipeline on this rig, not started; the configuration's cameras are replaced."""
        return LiveFusion(config, camera_factory=self._cameras)

    def _cameras(self, *_: Any, clock: Clock | None = None, **__: Any) -> CameraPair:
        base = TimeBase(clock if clock is not None else MonotonicClock())
        visible, thermal = (SimulatedCamera(stream, self, self.fps, base) for stream in Stream)
        return CameraPair(visible, thermal, False, None)

    def _view(self, t_s: float) -> tuple[np.ndarray, np.ndarray]:
        from calibration.render import render_pair

        number = int(t_s / self._hold_s) % len(self._poses)
        with self._lock:
            if number not in self._views:
                view = render_pair(self.rig, self._poses[number], self.board, seed=self._seed * 1000 + number)
                for pixels in (view.visible, view.thermal):
                    pixels.flags.writeable = False
                self._views[number] = (view.visible, view.thermal)
            return self._views[number]
