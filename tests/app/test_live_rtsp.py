"""The live pipeline on a pair of real RTSP streams whose server is killed and started again while recording."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support import live as support
from support import rtsp_server

from app.capture.cameras.factory import create_cameras
from app.pipeline.live_fusion import LiveFusion, PipelineState
from app.recording.reader import RecordingReader
from app.recording.sidecar import GapLine

pytestmark = pytest.mark.rtsp


def test_a_server_that_dies_and_returns_is_fused_and_recorded_again(tmp_path: Path) -> None:
    reason = rtsp_server.missing_reason()
    if reason is not None:
        pytest.skip(reason)
    with rtsp_server.RtspServer() as server:
        reopen = {"first_backoff_s": 0.5, "max_backoff_s": 60.0}  # the port is watched meanwhile
        config = support.settings(
            tmp_path / "recordings",
            visible={"uri": server.url("visible"), "reopen": reopen},
            thermal={"uri": server.url("thermal"), "reopen": reopen},
        )
        live = LiveFusion(config, camera_factory=create_cameras)
        live.start()
        try:
            support.wait_until(lambda: live.state is PipelineState.RUNNING, 60.0)
            live.recording.start()
            support.wait_until(lambda: live.stats.snapshot().frames["recorded"] >= 20, 60.0)
            server.kill()
            support.wait_until(lambda: live.state is not PipelineState.RUNNING, 30.0)
            support.wait_until(lambda: live.state is PipelineState.NO_CAMERAS, 30.0)
            with rtsp_server.RtspServer(port=server.port):
                back_s = time.monotonic()
                support.wait_until(lambda: live.state is PipelineState.RUNNING, 60.0)
                print(f"fused again {time.monotonic() - back_s:.2f} s after the server was back")
                recorded = live.stats.snapshot().frames["recorded"]
                support.wait_until(lambda: live.stats.snapshot().frames["recorded"] >= recorded + 20, 60.0)
                summary = live.recording.stop(20.0)
        finally:
            live.stop(20.0)
    assert live.failure is None and summary is not None and summary.problems == ()
    gaps = []
    for segment in summary.segments:
        with RecordingReader(segment.path) as reader:
            gaps += [mark for mark in reader.info.marks if isinstance(mark, GapLine)]
    assert any(gap.cause == "outage" and gap.to_ns - gap.from_ns > 500_000_000 for gap in gaps), gaps
