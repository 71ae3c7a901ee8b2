"""Any camera, turned: for one that is mounted on its side or head, or looks into a mirror."""

from __future__ import annotations

from dataclasses import replace

from app.capture.cameras.camera import Camera, CameraInfo
from app.media.geometry import PictureCut
from fusion_core.frames import Frame

__all__ = ["TurnedCamera"]


class TurnedCamera:
    """Turns and mirrors the frames of a camera as they come. One thread reads it; it starts none."""

    def __init__(self, camera: Camera, cut: PictureCut) -> None:
        self._camera, self._cut = camera, cut

    def open(self) -> None:
        """Open the camera; see `Camera`."""
        self._camera.open()

    def read(self, timeout_s: float) -> Frame:
        """Read the next frame, turned; see `Camera`."""
        frame = self._camera.read(timeout_s)
        return replace(frame, pixels=self._cut.turn(frame.pixels))

    def close(self) -> None:
        """Close the camera."""
        self._camera.close()

    @property
    def info(self) -> CameraInfo:
        """The camera's, with the size of the turned picture."""
        info = self._camera.info
        if self._cut.rotate not in (90, 270):
            return info
        return replace(info, width=info.height, height=info.width)
