"""Live pipelines without hardware: cameras that can be unplugged and stalled, and a rig before a calibration board."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from app.capture.cameras.camera import Clock, MonotonicClock, TimeBase
from app.capture.cameras.factory import CameraPair, create_cameras
from app.capture.cameras.simulated_camera import SimulatedCamera, SimulatedFaults
from app.configuration.config import AppConfig
from app.pipeline.live_fusion import LiveFusion
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
        return LiveFusion(config, camera_factory=self._cameras)

    def _cameras(self, *_: Any, clock: Clock | None = None, **__: Any) -> CameraPair:
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
