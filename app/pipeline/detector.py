"""Runs the user's detector beside the fusion, at its own rate, and puts its boxes onto the pictures that follow."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from app.configuration.detect import DetectConfig
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineContext, Severity
from app.process import Worker
from fusion_core.errors import LumithermError
from fusion_core.frames import Detection, FusedFrame

__all__ = ["Detector", "DetectorFigures"]

_NICENESS = 10
_WAIT_S = 0.2
_FAILURES = 5  # in a row, after which it is given up


@dataclass(frozen=True, slots=True)
class DetectorFigures:
    """How it is doing. looked: pictures so far; passed: pictures that came and were not looked at, by its rate."""

    name: str = ""
    looked: int = 0
    passed: int = 0
    last_ms: float = 0.0
    failed: str = ""


class Detector:
    """Looks at the newest picture whenever it is due; pictures that come meanwhile are passed over and counted.

    Thread `detector`, below the fusion's priority, owns the model. The fusion thread calls `attach`, which never waits.
    """

    def __init__(
        self,
        config: DetectConfig,
        latest: LatestSlot[FusedFrame],
        context: PipelineContext,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._config, self._latest, self._context, self._clock_ns = config, latest, context, clock_ns
        self._found: tuple[int, tuple[Detection, ...]] = (0, ())  # when the picture was shown, and what is in it
        self.figures = DetectorFigures()
        self._worker = Worker("detector", self._run, self._failed)

    def start(self) -> None:
        """Start the thread; the model is loaded there."""
        self._worker.start()

    def stop(self, timeout_s: float = 3.0) -> bool:
        """End the thread; whether it ended in time."""
        return self._worker.stop(timeout_s)

    def attach(self, frame: FusedFrame) -> FusedFrame:
        """The picture with the newest boxes, if they are no older than `hold_ms`."""
        at_ns, found = self._found
        if not found or self._clock_ns() - at_ns > self._config.hold_ms * 1e6:
            return frame
        return replace(frame, detections=found)

    def _run(self, stopping: threading.Event) -> None:
        from app.pipeline.detector_process import open_detector

        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        model = open_detector(self._config, stopping.is_set)
        self.figures = replace(self.figures, name=model.name)
        seen, failures = 0, 0
        while not stopping.is_set():
            newer = self._latest.peek_newer(seen)
            picture = None if newer is None else _picture(newer[1], self._config.picture)
            if newer is None or picture is None:
                stopping.wait(0.02)
                continue
            began_s = time.monotonic()
            passed = newer[0] - seen - 1 if seen else 0
            seen = newer[0]
            try:
                found = model.find(picture)
            except LumithermError as error:
                if stopping.is_set():
                    return
                failures += 1
                if failures >= _FAILURES:
                    raise
                self._context.problems.add(Severity.WARNING, "detector", str(error))
                found = ()
            else:
                failures = 0
            self._found = (newer[1].fused_ns or self._clock_ns(), found)
            took_s = time.monotonic() - began_s
            now = self.figures
            self.figures = replace(
                now, looked=now.looked + 1, passed=now.passed + passed, last_ms=round(took_s * 1000, 1)
            )
            stopping.wait(max(0.0, 1.0 / self._config.max_fps - took_s))

    def _failed(self, _name: str, error: BaseException) -> None:
        """The fusion goes on without boxes, and says so."""
        self._found = (0, ())
        self.figures = replace(self.figures, failed=str(error))
        expected = error if not isinstance(error, LumithermError) else None
        self._context.problems.add(
            Severity.WARNING, "detector", f"no boxes any more: {error}", "see detect.model; pictures go on", expected
        )


def _picture(frame: FusedFrame, name: str) -> np.ndarray | None:
    if name == "fused":
        return frame.pixels
    if name == "visible":
        return None if frame.pair.visible is None else frame.pair.visible.pixels
    return frame.thermal_8bit
