"""Against a real RTSP server on the loopback: kill, restart, silence, packet loss, a new picture size, no hang."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from support import rtsp_server
from support.live import wait_until

from app.capture.cameras.av_camera import AvLiveCamera
from app.capture.cameras.camera import MonotonicClock
from app.capture.cameras.uri import parse_camera_uri
from app.capture.capture_thread import CaptureState, CaptureThread
from app.capture.config import CameraConfig, ReopenConfig
from app.capture.sync_config import SyncConfig
from app.capture.synchronizer import PairSynchronizer
from fusion_core.errors import CameraLost, CameraTimeout
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

RtspServer = rtsp_server.RtspServer

pytestmark = pytest.mark.rtsp
V, T = Stream.VISIBLE, Stream.THERMAL


@pytest.fixture(scope="module", autouse=True)
def _needs_server() -> None:
    reason = rtsp_server.missing_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer() as running:
        yield running


def camera(uri: str, stream: Stream = V, **settings: object) -> AvLiveCamera:
    config = CameraConfig(uri=uri, **settings)
    return AvLiveCamera(stream, parse_camera_uri(uri), config, MonotonicClock())


class Watched:
    """A capture thread and what came of it."""

    def __init__(self, uri: str, stream: Stream = V, sink: Callable[[Frame], None] | None = None) -> None:
        config = CameraConfig(uri=uri, reopen=ReopenConfig(max_backoff_s=1.0))
        self.states: list[CaptureState] = []
        self.frames: list[Frame] = []
        self.failures: list[Exception] = []

        def take(frame: Frame) -> None:
            self.frames.append(frame)
            if sink is not None:
                sink(frame)

        self.thread = CaptureThread(
            AvLiveCamera(stream, parse_camera_uri(uri), config, MonotonicClock()), stream, config, take,
            on_state=lambda _s, state, _w: self.states.append(state), on_failure=lambda _s, e: self.failures.append(e),
        )  # fmt: skip

    def __enter__(self) -> Watched:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.stop()
        assert not self.failures
        assert not self.thread.alive


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_come_with_the_senders_times(server, transport):
    source = camera(server.url("visible") + f"?transport={transport}")
    source.open()
    frames = [source.read(5.0) for _ in range(40)]
    arrived_ns = time.monotonic_ns()
    source.close()
    assert frames[0].pixels.shape == (144, 192, 3)
    assert source.info.ts_source is TimestampSource.SENDER
    stamps = [f.timestamp_ns for f in frames]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] <= arrived_ns
    assert (stamps[-1] - stamps[10]) / 1e6 / (frames[-1].index - frames[10].index) == pytest.approx(50, abs=5)


def test_thermal_over_rtsp_is_grey(server):
    source = camera(server.url("thermal"), T)
    source.open()
    assert source.read(5.0).pixels.ndim == 2
    source.close()
    swapped = camera(server.url("visible"), T)
    with pytest.raises(CameraLost, match="swapped"):
        swapped.open()


def test_kill_and_restart(server):
    with Watched(server.url("visible")) as watched:
        wait_until(lambda: len(watched.frames) > 10)
        server.kill()
        noticed_s = wait_until(lambda: watched.thread.stats().state is not CaptureState.STREAMING)
        assert noticed_s < 20
        before = len(watched.frames)
        with RtspServer(port=server.port):
            wait_until(lambda: len(watched.frames) > before + 10)
            assert watched.frames[before].flags & FrameFlag.GAP_BEFORE
            assert watched.frames[before].index > watched.frames[before - 1].index
            assert watched.thread.stats().reconnects >= 1


def test_a_frozen_server_is_noticed_and_comes_back(server):
    with Watched(server.url("visible")) as watched:
        wait_until(lambda: len(watched.frames) > 10)
        server.freeze()
        wait_until(lambda: CaptureState.STALLED in watched.states)
        wait_until(lambda: CaptureState.LOST in watched.states)
        server.thaw()
        before = len(watched.frames)
        wait_until(lambda: len(watched.frames) > before + 10)


def test_a_new_picture_size_reopens(server):
    with Watched(server.url("visible")) as watched:
        wait_until(lambda: len(watched.frames) > 10)
        server.change_size(160, 112)
        wait_until(lambda: watched.frames[-1].pixels.shape[:2] == (112, 160))
        info = watched.thread.stats().info
        assert info is not None
        assert (info.width, info.height) == (160, 112)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_packet_loss_costs_frames_but_not_the_stream(transport):
    with (
        RtspServer(loss=0.005) as lossy,
        Watched(lossy.url("visible") + f"?transport={transport}") as watched,
    ):
        wait_until(lambda: len(watched.frames) > 40)
        stamps = [f.timestamp_ns for f in watched.frames]
        assert stamps == sorted(set(stamps))


def test_a_server_that_accepts_and_says_nothing_never_hangs():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = camera(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", open_timeout_s=0.5)
        start_s = time.monotonic()
        with pytest.raises(CameraLost):
            source.open()
        source.close()
        assert time.monotonic() - start_s < 30  # FFmpeg alone waits for ever


def test_stopping_during_an_open_that_hangs_is_bounded():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with Watched(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x") as watched:
            wait_until(lambda: watched.thread.stats().state is CaptureState.OPENING)
        assert not watched.frames


def test_an_open_stream_that_falls_silent_times_out_on_time(server):
    source = camera(server.url("visible"))
    source.open()
    source.read(5.0)
    server.freeze()
    with pytest.raises((CameraTimeout, CameraLost)):
        for _ in range(100):
            start_s = time.monotonic()
            source.read(0.3)
    assert time.monotonic() - start_s < 20
    start_s = time.monotonic()
    source.close()
    assert time.monotonic() - start_s < 20


def test_nobody_there_and_wrong_path(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CameraLost, match="would not open"):
        camera(f"rtsp://127.0.0.1:{port}/x").open()
    with pytest.raises(CameraLost, match=r"\*\*\*@") as caught:
        camera(server.url("nothing").replace("rtsp://", "rtsp://me:secret@")).open()
    assert "secret" not in str(caught.value)


def test_a_pair_is_paired_again_after_a_restart(server):
    sync = PairSynchronizer(SyncConfig())
    with Watched(server.url("visible"), V, sync.put), Watched(server.url("thermal"), T, sync.put):

        def next_pair() -> bool:
            try:
                return sync.get(0.5).skew_ns is not None
            except CameraTimeout:
                return False

        wait_until(next_pair)
        for _ in range(20):
            sync.get(5.0)
        server.kill()
        while next_pair():
            pass
        with RtspServer(port=server.port):
            wait_until(next_pair)
            for _ in range(20):
                sync.get(5.0)
    assert sync.stats().pairs >= 20
    sync.close()
