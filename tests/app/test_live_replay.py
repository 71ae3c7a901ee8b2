"""A video pair replayed through the pipeline and recorded: same pairs, same thermal, same fusion when fused again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import live as support

from app.capture.cameras.camera import Camera
from app.capture.cameras.factory import create_cameras
from app.pipeline.live_fusion import LiveFusion
from app.recording.reader import RecordingReader
from fusion_core.engines.pyramid_engine import AverageEngine
from fusion_core.errors import EndOfStream
from fusion_core.frames import Frame
from fusion_core.thermal.agc import Agc
from fusion_core.thermal.field_of_view import to_grid

VIDEO = Path(__file__).resolve().parents[3] / "shared" / "data" / "video"


class Remembering(AverageEngine):
    """Keeps what it was given and what it made of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def warm_up(self, height: int, width: int) -> None:
        pass

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        self.calls.append((visible, thermal, super().fuse(visible, thermal)))
        return self.calls[-1][2]


def read_all(camera: Camera) -> list[Frame]:
    frames = []
    camera.open()
    try:
        while True:
            frames.append(camera.read(10.0))
    except EndOfStream:
        return frames
    finally:
        camera.close()


def test_a_recorded_replay_holds_the_same_pairs_and_fuses_to_the_same(tmp_path: Path) -> None:
    videos = sorted(VIDEO.glob("*_vi.mp4"))
    if not videos:
        pytest.skip("the shared video pairs are not there (../shared/data/video)")
    visible_path = videos[0]
    thermal_path = visible_path.with_name(visible_path.name.replace("_vi.mp4", "_ir.mp4"))
    config = support.settings(
        tmp_path / "recordings",
        visible={"uri": f"file:{visible_path}"},
        thermal={"uri": f"file:{thermal_path}"},
        recording={"autostart": True, "quality": 12},
    )
    cameras = create_cameras(config.visible, config.thermal)
    visible, thermal = read_all(cameras.visible), read_all(cameras.thermal)
    engine = Remembering()
    live = LiveFusion(config, camera_factory=create_cameras, engine_factory=lambda *_, **__: engine)
    live.start()
    assert live.wait(120.0) and live.failure is None
    live.stop()
    assert live.stats.snapshot().total_drops == 0
    summary = live.recording.summary
    assert summary is not None and summary.problems == () and len(summary.segments) == 1

    agc, again = Agc(config.agc), AverageEngine()
    last_ns: int | None = None
    with RecordingReader(summary.segments[0].path) as reader:
        pairs = list(reader)
        for number, pair in enumerate(pairs):
            assert pair.visible is not None and pair.thermal is not None
            # the same pairing, frame by frame, and the thermal picture to the bit
            assert (pair.visible.index, pair.thermal.index) == (number, number)
            assert pair.skew_ns == visible[number].timestamp_ns - thermal[number].timestamp_ns
            assert np.array_equal(pair.thermal.pixels, thermal[number].pixels)
            # what the engine saw then is what it sees now
            dt_s = None if last_ns is None else (pair.thermal.timestamp_ns - last_ns) / 1e9
            last_ns = pair.thermal.timestamp_ns
            levels = to_grid(agc.apply(pair.thermal.pixels, dt_s), *pair.visible.pixels.shape[:2])
            seen_visible, seen_thermal, fused = engine.calls[number]
            assert np.array_equal(seen_visible, visible[number].pixels)
            assert np.array_equal(seen_thermal, levels)
            # the visible track is lossy, so the fusion of the recording is near, not equal
            refused = again.fuse(pair.visible.pixels, levels)
            assert np.mean(np.abs(refused.astype(int) - fused.astype(int))) < 2.0
            assert np.array_equal(again.fuse(seen_visible, levels), fused)
    assert len(pairs) == len(thermal) == len(visible) == len(engine.calls)
