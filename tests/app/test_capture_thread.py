"""The owner thread of a camera: states, stalls, reopening, counters, bounded stop. Cameras and time are scripted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from app.capture.cameras.camera import CameraInfo
from app.capture.cameras.hotplug import HotplugMonitor
from app.capture.capture_thread import CaptureState, CaptureThread
from app.capture.config import CameraConfig, ReopenConfig
from fusion_core.errors import CameraLost, CameraTimeout, CaptureError, ConfigError, EndOfStream
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

V = Stream.VISIBLE
MS = 1_000_000
QUICK = ReopenConfig(first_backoff_s=0.05, max_backoff_s=0.1)


class FakeClock:
    def __init__(self) -> None:
        self.time_ns = 50_000_000_000

    def now_ns(self) -> int:
        return self.time_ns

    def sleep_ns(self, duration_ns: int) -> None:
        self.time_ns += max(0, duration_ns)


class ScriptedCamera:
    """Plays steps: a number = a frame after so many ms; "silence N" = N ms without one; an exception = raised.

    At the end of the script it waits for `close`-like silence: reads time out for ever, without advancing time.
    """

    def __init__(self, clock: FakeClock, script: list[object], fps: float = 30.0) -> None:
        self.clock, self.script, self.fps = clock, list(script), fps
        self.opens = self.closes = 0
        self.index = -1
        self.silence_ns = 0
        self.open_errors: list[Exception] = []
        self.used_up = threading.Event()
        self.stamp: Callable[[], int] = clock.now_ns

    def open(self) -> None:
        self.opens += 1
        if self.open_errors:
            raise self.open_errors.pop(0)
        self.index = -1
        self.silence_ns = 0

    def read(self, timeout_s: float) -> Frame:
        if self.silence_ns == 0:
            if not self.script:
                self.used_up.set()
                threading.Event().wait(0.002)
                raise CameraTimeout("script at its end")
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, str):
                self.silence_ns = int(step.split()[1]) * MS
            else:
                self.clock.sleep_ns(round(float(step) * MS))
                self.index += 1
                pixels = np.zeros((2, 2, 3), np.uint8)
                return Frame(V, pixels, self.index, self.stamp(), TimestampSource.KERNEL)
        waited_ns = min(self.silence_ns, round(timeout_s * 1e9))
        self.clock.sleep_ns(waited_ns)
        self.silence_ns -= waited_ns
        raise CameraTimeout("silent")

    def close(self) -> None:
        self.closes += 1

    @property
    def info(self) -> CameraInfo:
        return CameraInfo("test:camera", "scripted", 2, 2, self.fps, "RGB24", TimestampSource.KERNEL)


class Run:
    """A capture thread over a scripted camera, with everything it says."""

    def __init__(
        self, script: list[object], *, reopen: ReopenConfig = QUICK, fps: float = 30.0, **settings: object
    ) -> None:
        self.clock = FakeClock()
        self.camera = ScriptedCamera(self.clock, script, fps)
        self.frames: list[Frame] = []
        self.states: list[tuple[CaptureState, str, int]] = []
        self.failures: list[Exception] = []
        self.ended = threading.Event()
        self.failed = threading.Event()
        config = CameraConfig(uri="images:unused", reopen=reopen, **settings)
        self.thread = CaptureThread(
            self.camera, V, config, self.frames.append, clock=self.clock,
            on_state=lambda _s, state, why: self.states.append((state, why, self.clock.time_ns)),
            on_end=lambda _s: self.ended.set(), on_failure=self._fail,
        )  # fmt: skip

    def _fail(self, _stream: Stream, error: Exception) -> None:
        self.failures.append(error)
        self.failed.set()

    def play(self) -> Run:
        self.thread.start()
        assert self.camera.used_up.wait(20)
        self.thread.stop()
        return self

    def names(self) -> list[str]:
        return [state.value for state, _, _ in self.states]


def test_frames_are_stamped_offset_and_counted():
    run = Run([33] * 20, offset_ms=-12.5).play()
    assert len(run.frames) == 20
    assert run.frames[0].timestamp_ns == 50_000_000_000 + 33 * MS - 12_500_000
    stats = run.thread.stats()
    assert (stats.frames, stats.dropped, stats.reconnects, stats.stalls, stats.bad_stamps) == (20, 0, 0, 0, 0)
    assert stats.info.model == "scripted"
    assert run.names() == ["streaming", "ended"]
    assert not run.thread.alive
    assert run.camera.closes >= 1


@pytest.mark.parametrize("fps, limit_ms", [(30.0, 500), (9.0, 500), (2.0, 1500), (0.0, 500)])
def test_a_stall_is_noticed_in_time(fps, limit_ms):
    period = 1000 / (fps or 30)
    run = Run([period] * 10 + ["silence 1800", period, period], fps=fps).play()
    heard_ns = run.frames[9].timestamp_ns
    stalled = next(item for item in run.states if item[0] is CaptureState.STALLED)
    assert limit_ms * MS <= stalled[2] - heard_ns <= (limit_ms + 205) * MS
    assert "silent" in stalled[1]


def test_a_short_stall_recovers_without_reopening():
    run = Run([33] * 5 + ["silence 700", 33, 33]).play()
    assert run.names() == ["streaming", "stalled", "streaming", "ended"]
    assert run.camera.opens == 1
    assert run.thread.stats().stalls == 1


def test_a_long_stall_is_reopened_and_the_gap_marked():
    run = Run([33] * 5 + ["silence 5000"] + [33] * 5)
    run.thread.start()
    assert run.camera.used_up.wait(20)
    run.thread.stop()
    assert run.names()[:5] == ["streaming", "stalled", "lost", "opening", "streaming"]
    stats = run.thread.stats()
    assert (stats.stalls, stats.reconnects) == (1, 1)
    assert len(run.frames) == 10
    indices = [f.index for f in run.frames]
    assert indices[5] > indices[4] + 1  # rises over the gap
    assert run.frames[5].flags & FrameFlag.GAP_BEFORE
    assert not any(f.flags for f in run.frames if f is not run.frames[5])


def test_a_lost_camera_is_tried_for_ever():
    run = Run([33, 33, CameraLost("unplugged"), 33, 33])
    run.camera.open_errors = []
    original = run.camera.open
    failures = [CameraLost(f"not there {i}") for i in range(6)]

    def open_after_loss() -> None:
        if run.camera.opens >= 1 and failures:
            run.camera.opens += 1
            raise failures.pop()
        original()

    run.camera.open = open_after_loss
    run.thread.start()
    assert run.camera.used_up.wait(20)
    stats = run.thread.stats()
    run.thread.stop()
    assert stats.open_failures == 6
    assert stats.reconnects == 1
    assert len(run.frames) == 4
    assert any(state is CaptureState.LOST and why == "not there 0" for state, why, _ in run.states)


def test_the_back_off_doubles_up_to_its_limit():
    waits = []
    run = Run([33], reopen=ReopenConfig())
    run.camera.open_errors = [CameraLost("no")] * 7
    run.thread._nudged.wait = lambda seconds: waits.append(seconds)  # type: ignore[method-assign]
    run.play()
    assert waits == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_nudge_ends_the_back_off():
    run = Run([33], reopen=ReopenConfig(first_backoff_s=60, max_backoff_s=60))
    run.camera.open_errors = [CameraLost("not plugged in")]
    lost = threading.Event()
    run.thread._on_state = lambda _s, state, _w: lost.set() if state is CaptureState.LOST else None
    run.thread.start()
    assert lost.wait(10)
    run.thread.nudge()
    assert run.camera.used_up.wait(10)
    run.thread.stop()
    assert len(run.frames) == 1


def test_the_end_of_a_file_is_an_end():
    run = Run([33, EndOfStream("over")])
    run.thread.start()
    assert run.ended.wait(10)
    run.thread.stop()
    assert run.thread.stats().state is CaptureState.ENDED
    assert run.camera.opens == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), ConfigError("no such mode")])
def test_what_reopening_cannot_mend_goes_to_the_owner(error):
    run = Run([33, error])
    run.thread.start()
    assert run.failed.wait(10)
    run.thread.stop()
    assert run.failures == [error]
    assert run.thread.stats().state is CaptureState.FAILED
    assert not run.thread.alive


def test_lost_frames_are_counted_by_the_index():
    run = Run([33] * 3)
    read = run.camera.read

    def lossy(timeout_s: float) -> Frame:
        frame = read(timeout_s)
        return Frame(V, frame.pixels, frame.index * 3, frame.timestamp_ns, frame.ts_source)

    run.camera.read = lossy
    run.play()
    assert run.thread.stats().dropped == 4
    assert [bool(f.flags & FrameFlag.GAP_BEFORE) for f in run.frames] == [False, True, True]


@pytest.mark.parametrize("lie_ns", [60_000_000_000, -60_000_000_000])
def test_a_lying_stamp_is_replaced_by_the_arrival(lie_ns):
    run = Run([33] * 4)
    run.camera.stamp = lambda: run.clock.time_ns + lie_ns
    run.play()
    assert all(f.ts_source is TimestampSource.ARRIVAL for f in run.frames)
    assert run.frames[-1].timestamp_ns == run.clock.time_ns
    assert run.thread.stats().bad_stamps == 4


def test_stamps_always_rise():
    run = Run([33] * 4)
    stamps = iter([100, 90, 110, 105])
    start_ns = run.clock.time_ns
    run.camera.stamp = lambda: start_ns + next(stamps)
    run.play()
    times = [f.timestamp_ns for f in run.frames]
    assert times == sorted(times)


def test_a_stuck_camera_does_not_hold_up_the_stop():
    run = Run([])
    release = threading.Event()
    run.camera.read = lambda _timeout_s: release.wait(30)
    run.thread.start()
    with pytest.raises(CaptureError, match="did not end within"):
        run.thread.stop(0.2)
    release.set()
    run.thread._thread.join(10)


def test_hotplug_calls_back_and_stops():
    """No device is plugged in here; the monitor must start and end cleanly where udev can be listened to."""
    called = []
    with HotplugMonitor(lambda: called.append(1)) as monitor:
        monitor.handle("add")
        monitor.handle("change")
        monitor.handle("remove")
    assert called == [1, 1]
