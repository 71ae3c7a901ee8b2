"""Which time offset each camera gets, and that a calibration's measurement reaches the pairs and the recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.capture.config import CameraConfig
from app.capture.offsets import resolve_offsets
from app.commands.calibrate.sources import _added_ms
from app.configuration.config import AppConfig
from app.pipeline.live_fusion import LiveFusion
from app.recording.reader import RecordingReader
from calibration.rig import load_calibration, plain_scaling, save_calibration
from fusion_core.frames import Stream

V, T = Stream.VISIBLE, Stream.THERMAL


def resolved(visible_ms: float | None, thermal_ms: float | None, measured_ms: float | None, kind: str = "sim:"):
    uris = ("sim:visible", "sim:thermal") if kind == "sim:" else ("file:a.mkv", "file:b.mkv")
    configs, problem = resolve_offsets(
        CameraConfig(uri=uris[0], offset_ms=visible_ms), CameraConfig(uri=uris[1], offset_ms=thermal_ms), measured_ms
    )
    return configs[V].offset_ms, configs[T].offset_ms, problem


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((None, None, None), (0.0, 0.0)),
        ((None, None, 33.0), (0.0, 33.0)),  # visible stamps are 33 ms later: thermal ones are moved after them
        ((None, -5.0, None), (0.0, -5.0)),
        ((0.0, 33.0, 35.0), (0.0, 33.0)),
        ((-30.0, None, 33.0), (-30.0, 0.0)),
    ],
)
def test_what_is_configured_comes_first(given, wanted):
    assert resolved(*given) == (*wanted, None)


def test_a_contradiction_is_told_and_a_replay_is_left_alone():
    visible_ms, thermal_ms, problem = resolved(0.0, 0.0, 33.0)
    assert (visible_ms, thermal_ms) == (0.0, 0.0)
    assert "33 ms" in problem
    assert "null" in problem
    assert resolved(None, None, 33.0, "file:") == (0.0, 0.0, None)
    assert resolved(0.0, 0.0, 33.0, "file:") == (0.0, 0.0, None)


@pytest.mark.parametrize(("thermal_ms", "added_ms", "problems"), [(None, -40.0, 0), (0.0, 0.0, 1)])
def test_the_calibrations_offset_reaches_the_recording(
    tmp_path: Path, thermal_ms: float | None, added_ms: float, problems: int
):
    """Visible stamps are 40 ms earlier than thermal ones of the same moment, as the calibration says."""
    size = {"height": 96, "width": 128, "thermal_height": 96, "thermal_width": 128}
    file = tmp_path / "rig.yaml"
    plain = plain_scaling((96, 128), (96, 128))
    save_calibration(replace(plain, visible_minus_thermal_ms=-40.0), file)
    assert load_calibration(file).visible_minus_thermal_ms == -40.0
    config = AppConfig.model_validate(
        {
            "rig": "r",
            "visible": {"uri": "sim:visible"},
            "thermal": {"uri": "sim:thermal", "offset_ms": thermal_ms},
            "simulation": size,
            "engine": {"name": "average", "fallback": "average"},
            "calibration": {"file": str(file), "self_align": "off"},
            "recording": {"directory": str(tmp_path / "recordings"), "reserve_mb": 1},
        }
    )
    live = LiveFusion(config)
    live.start()
    try:
        assert live.latest.wait_newer(0, 30.0) is not None
        live.recording.start()
        sequence = 0
        for _ in range(8):
            sequence, _ = live.latest.wait_newer(sequence, 30.0)
        summary = live.recording.stop()
        assert live.cameras.offset_between_ms == added_ms
        told = [problem for problem in live.problems.recent() if "offset_ms" in problem.text]
        assert len(told) == problems
    finally:
        live.stop()
    with RecordingReader(summary.segments[0].path) as reader:
        line = reader.line(0)
        assert line.offsets_ns == {"visible": 0, "thermal": round(added_ms * 1e6)}
        assert _added_ms(reader) == added_ms  # what calibrating from a recording takes off again
