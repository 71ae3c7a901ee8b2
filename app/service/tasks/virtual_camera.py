"""A virtual camera: the picture as a video device (v4l2loopback), for OBS, browsers, meetings and ROS.

The thread takes the newest picture whenever it has written the former one; a device that is missing or stuck costs
pictures of this output alone, and is tried again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import av.error
import cv2
import numpy as np
import structlog

from app.configuration.service import VirtualCameraConfig
from app.pipeline.state.latest_slot import LatestSlot
from app.service.state.health import ServiceWorker
from app.service.state.metrics import VirtualCameraFigures
from app.service.state.preview import picture_of
from fusion_core.frames import FusedFrame

__all__ = ["VirtualCamera"]

_RETRY_S = 2.0
_WAIT_S = 0.2
_OPEN_S = 10.0  # a device may take its time


class VirtualCamera(ServiceWorker):
    """One device. Thread: `virtual camera`, which owns it.

    Args:
        muxer: of FFmpeg; "v4l2" for devices. Tests take "rawvideo", which writes the same bytes to a pipe.
    """

    def __init__(
        self,
        config: VirtualCameraConfig,
        latest: LatestSlot[FusedFrame],
        on_failure: Callable[[BaseException], None],
        muxer: str = "v4l2",
    ) -> None:
        super().__init__("virtual camera", self._work, on_failure)
        self._config, self._latest, self._muxer = config, latest, muxer
        self.figures = VirtualCameraFigures()

    def _work(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.heartbeat.beat()
            newest = self._latest.peek_newer(0)
            picture = None if newest is None else picture_of(newest[1], self._config.picture.value)
            if picture is None:
                stopping.wait(_WAIT_S)
                continue
            try:
                self._feed(stopping, *picture.shape[:2])
            except (av.error.FFmpegError, OSError, ValueError) as error:
                self._told(f"{self._config.device}: {getattr(error, 'strerror', None) or error}")
            self.figures = replace(self.figures, connected=False)
            self.heartbeat.allow(_RETRY_S + _OPEN_S)
            stopping.wait(_RETRY_S)

    def _told(self, problem: str) -> None:
        if problem != self.figures.problem:
            structlog.get_logger("service").warning(
                "virtual camera cannot be written",
                reason=problem,
                advice="sudo modprobe v4l2loopback exclusive_caps=1 card_label=Lumitherm makes one",
            )
        self.figures = replace(self.figures, problem=problem)

    def _feed(self, stopping: threading.Event, height: int, width: int) -> None:
        """Write pictures of one size until they change, or it is to end. Raises what the device does."""
        height, width = height // 2 * 2, width // 2 * 2  # 4:2:0
        rate = Fraction(self._config.max_fps).limit_denominator(1001)
        with av.open(self._config.device, "w", format=self._muxer) as container:
            stream: Any = container.add_stream("rawvideo", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            seen, number = 0, 0
            while not stopping.is_set():
                self.heartbeat.beat()
                newer = self._latest.peek_newer(seen)
                picture = None if newer is None else picture_of(newer[1], self._config.picture.value)
                if newer is None or picture is None:
                    stopping.wait(0.01)
                    continue
                if picture.shape[0] // 2 * 2 != height or picture.shape[1] // 2 * 2 != width:
                    return
                began_s = time.monotonic()
                frame = _frame(picture[:height, :width])
                frame.pts, frame.time_base = number, 1 / rate
                for packet in stream.encode(frame):
                    container.mux(packet)
                number += 1
                self.figures = VirtualCameraFigures(
                    True, self.figures.written + 1, self.figures.passed + (newer[0] - seen - 1 if seen else 0)
                )
                seen = newer[0]
                stopping.wait(max(0.0, 1.0 / self._config.max_fps - (time.monotonic() - began_s)))


def _frame(picture: np.ndarray) -> Any:
    """(H, W, 3) RGB or (H, W) grey as YUV 4:2:0, full range of RGB to the limited one of video."""
    rgb = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    source = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return source.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
