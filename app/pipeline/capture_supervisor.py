"""Both capture threads and the synchronizer they feed: started, watched, restarted and stopped together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from app.capture.cameras.camera import Camera
from app.capture.cameras.factory import CameraPair
from app.capture.cameras.hotplug import HotplugMonitor
from app.capture.cameras.uri import parse_camera_uri
from app.capture.capture_thread import CaptureState, CaptureStats, CaptureThread
from app.capture.config import CameraConfig
from app.capture.ffc import FfcDetector
from app.capture.synchronizer import PairSynchronizer
from app.configuration.config import AppConfig
from app.pipeline.state.problems import PipelineContext, Severity
from app.pipeline.state.stats import Stage
from fusion_core.errors import CaptureError, UsageError
from fusion_core.frames import Frame, Stream

__all__ = ["CaptureSupervisor", "device_identity"]

_RESTART_S: Final = 2.0
_TROUBLE: Final = (CaptureState.STALLED, CaptureState.LOST, CaptureState.FAILED)


def device_identity(identity: str) -> str | None:
    """A camera's identity where it names a device; None for files, pictures and simulated cameras."""
    return None if identity.partition(":")[0] in ("file", "images", "sim") else identity or None


class CaptureSupervisor:
    """Two capture threads. A wrong configuration of a camera ends the pipeline; a bug in one restarts its thread.

    `prepare`, `start`, `tick` and `stop` belong to the pipeline's thread. Before `prepare` there is no camera.

    Args:
        record: gets every frame in its capture thread, before anything else does; it must not wait.
    """

    def __init__(
        self,
        config: AppConfig,
        context: PipelineContext,
        record: Callable[[Frame], None] = lambda _: None,
    ) -> None:
        self._config, self._clock, self._record = config, context.clock, record
        self._stats, self._problems, self._on_failure = context.stats, context.problems, context.fail
        self._configs: Mapping[Stream, CameraConfig] = {Stream.VISIBLE: config.visible, Stream.THERMAL: config.thermal}
        self._cameras: dict[Stream, Camera] = {}
        self.synchronizer = PairSynchronizer(config.sync, context.clock)
        self._ffc = FfcDetector(config.ffc)
        self._threads: dict[Stream, CaptureThread] = {}
        self._lock = threading.Lock()
        self._restart_at_s: dict[Stream, float] = {}
        self._in_trouble: set[Stream] = set()
        self._lost_before = dict.fromkeys(Stream, 0)
        self._reconnects_before = dict.fromkeys(Stream, 0)
        self._hotplug: HotplugMonitor | None = None

    def prepare(self, cameras: CameraPair, configs: Mapping[Stream, CameraConfig]) -> None:
        """Take these cameras, closed, with their configuration as it is to be applied."""
        self._configs = configs
        self._cameras = {Stream.VISIBLE: cameras.visible, Stream.THERMAL: cameras.thermal}
        self.synchronizer = PairSynchronizer(self._config.sync, self._clock, lossless=cameras.lossless)
        self._threads = {stream: self._make(stream) for stream in Stream}

    @property
    def offsets_ns(self) -> Mapping[Stream, int]:
        """What is added to each camera's stamps, since the start."""
        return {
            stream: round((config.offset_ms or 0.0) * 1e6) if self._threads else 0
            for stream, config in self._configs.items()
        }

    @property
    def offset_between_ms(self) -> float:
        """What is added to thermal stamps less what is added to visible ones, since the start."""
        offsets = self.offsets_ns
        return (offsets[Stream.THERMAL] - offsets[Stream.VISIBLE]) / 1e6

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads.values():
            thread.start()
        uris = (self._config.visible.uri, self._config.thermal.uri)
        if any(parse_camera_uri(uri).kind == "v4l2" for uri in uris):
            try:
                self._hotplug = HotplugMonitor(self.nudge)
            except (ImportError, OSError) as error:
                self._problems.add(
                    Severity.INFO, "pipeline", f"no news of plugged cameras ({error}); they are found a little later"
                )

    def nudge(self) -> None:
        """Reopen lost cameras now rather than later; from any thread."""
        for thread in list(self._threads.values()):
            thread.nudge()

    def request_stop(self) -> None:
        """Ask everything to end, without waiting."""
        for thread in self._threads.values():
            thread.request_stop()
        self.synchronizer.close()

    def stop(self, timeout_s: float) -> None:
        """End both threads; one that hangs in a driver becomes a problem."""
        deadline_s = time.monotonic() + timeout_s
        if self._hotplug is not None:
            self._hotplug.close()
        for stream, thread in self._threads.items():
            try:
                thread.stop(max(0.1, deadline_s - time.monotonic()))
            except CaptureError as error:
                self._problems.add(Severity.ERROR, stream.value, str(error))

    def tick(self) -> None:
        """Restart a thread that ended by a bug, once its wait is over."""
        now_s = time.monotonic()
        with self._lock:
            due = [stream for stream, at_s in self._restart_at_s.items() if now_s >= at_s]
            for stream in due:
                del self._restart_at_s[stream]
        for stream in due:
            before = self._threads[stream].stats()
            self._lost_before[stream] += before.dropped
            self._reconnects_before[stream] += before.reconnects + 1
            self._threads[stream] = self._make(stream)
            self._threads[stream].start()

    def figures(self, stream: Stream) -> CaptureStats:
        """State and counters of one camera."""
        return self._threads[stream].stats()

    def device(self, stream: Stream) -> str | None:
        """Which very device gives the pictures, as a URI that finds it again; None while it gives none, and for files
        and simulated cameras, which are no devices."""
        if not self._threads or self._threads[stream].stats().state is not CaptureState.STREAMING:
            return None
        return device_identity(self._cameras[stream].info.identity)

    def devices(self) -> tuple[str, str]:
        """Which devices give visible and thermal, as a calibration names them; "" for files and simulated cameras."""
        return self.device(Stream.VISIBLE) or "", self.device(Stream.THERMAL) or ""

    def progress(self) -> dict[str, int]:
        """For each capture thread a number that rises while it is not stuck, but not during a back-off."""
        found = {}
        for stream in Stream if self._threads else ():
            seen = self.figures(stream)
            found[f"{stream.value} capture"] = (
                seen.frames + seen.timeouts + seen.open_failures + self.reconnects(stream)
            )
        return found

    def lost_frames(self, stream: Stream) -> int:
        """Frames that the source produced and we never got, since the start."""
        return self._lost_before[stream] + self._threads[stream].stats().dropped

    def reconnects(self, stream: Stream) -> int:
        """How often the camera came back, since the start."""
        return self._reconnects_before[stream] + self._threads[stream].stats().reconnects

    @property
    def all_in_trouble(self) -> bool:
        """Whether both cameras are silent, lost or broken."""
        with self._lock:
            return len(self._in_trouble) == len(Stream)

    # ------------------------------------------------------------------ in the capture threads

    def _make(self, stream: Stream) -> CaptureThread:
        visible = stream is Stream.VISIBLE
        stage = Stage.VISIBLE if visible else Stage.THERMAL
        count, record, put = self._stats.frame, self._record, self.synchronizer.put

        def sink(frame: Frame) -> None:
            count(stage)
            record(frame)
            put(frame)

        extra: dict[str, Any] = {} if visible else {"mark": self._ffc.mark}
        return CaptureThread(
            self._cameras[stream],
            stream,
            self._configs[stream],
            sink,
            clock=self._clock,
            on_state=self._on_state,
            on_end=self.synchronizer.end,
            on_note=lambda stream, note: self._problems.add(Severity.INFO, stream.value, note),
            on_failure=self._on_camera_failure,
            **extra,
        )

    def _on_state(self, stream: Stream, state: CaptureState, reason: str) -> None:
        self._stats.camera_state(stream, state.value)
        with self._lock:
            before = stream in self._in_trouble
            if state in _TROUBLE:
                self._in_trouble.add(stream)
            elif state is CaptureState.STREAMING:
                self._in_trouble.discard(stream)
        if state in _TROUBLE and not before and state is not CaptureState.FAILED:
            self._problems.add(
                Severity.WARNING,
                stream.value,
                f"the {stream.value} camera is {state.value}: {reason}",
                "it is reopened automatically; `lumitherm devices` shows what is connected",
            )
        elif state is CaptureState.STREAMING and before:
            self._problems.add(Severity.INFO, stream.value, f"the {stream.value} camera is back")

    def _on_camera_failure(self, stream: Stream, error: Exception) -> None:
        if isinstance(error, UsageError):
            self._on_failure(stream.value, error)
            return
        with self._lock:
            self._restart_at_s[stream] = time.monotonic() + _RESTART_S
        self._problems.add(
            Severity.ERROR,
            stream.value,
            f"reading the {stream.value} camera failed: {error}; it is started again in {_RESTART_S:.0f} s",
            "this is a bug; please report it with the log",
            error,
        )
