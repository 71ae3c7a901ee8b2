"""Live pipelines without hardware, whose cameras can be unplugged and stalled."""

from __future__ import annotations

from typing import Any

from app.capture.cameras.factory import CameraPair, create_cameras
from app.capture.cameras.simulated_camera import SimulatedCamera, SimulatedFaults
from app.configuration.config import AppConfig
from app.pipeline.live_fusion import LiveFusion
from fusion_core.frames import Stream

__all__ = ["FaultyRig"]


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
