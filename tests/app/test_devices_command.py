"""`lumitherm devices` and `lumitherm doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.capture.cameras.identity import DeviceRecord
from app.capture.capture_thread import CaptureState, CaptureStats
from app.capture.config import CameraConfig
from app.capture.doctor import Measurement, check_disk, judge
from app.capture.offset_estimator import OffsetEstimate
from app.capture.sync_config import SyncConfig
from app.capture.synchronizer import PairSynchronizer
from fusion_core.frames import Stream

V, T = Stream.VISIBLE, Stream.THERMAL
RIG = """
rig: test
visible: {uri: sim:visible, fps: 10}
thermal: {uri: sim:thermal, fps: 10}
engine: {name: average}
simulation: {height: 64, width: 96, thermal_height: 48, thermal_width: 64}
"""


def test_devices_without_a_camera(monkeypatch):
    monkeypatch.setattr("app.capture.cameras.identity.list_devices", list)
    result = CliRunner().invoke(build_cli(), ["devices"])
    assert result.exit_code == 0
    assert "no USB camera" in result.output
    assert "sim:visible" in result.output


def test_devices_says_which_uri_and_why(monkeypatch):
    twins = [
        DeviceRecord(f"/dev/video90{i}", "C920", serial="ABC", port=f"usb-0000:00:14.0-{i}", interface="1.0")
        for i in (1, 2)
    ]
    monkeypatch.setattr("app.capture.cameras.identity.list_devices", lambda: twins)
    result = CliRunner().invoke(build_cli(), ["devices"])
    assert "v4l2:port=usb-0000:00:14.0-1" in result.output
    assert "2 devices say they are serial number ABC" in result.output
    assert "/dev/video901 is gone" in result.output  # there is no such node here: said, not raised


def test_doctor_passes_on_the_simulated_rig(tmp_path):
    (tmp_path / "rig.yaml").write_text(RIG)
    result = CliRunner().invoke(build_cli(), ["doctor", "--config", str(tmp_path / "rig.yaml"), "--seconds", "2"])
    print(result.output)
    assert "visible camera: simulated rig 96x64" in result.output
    assert "stamps: simulated" in result.output
    assert "skew: median" in result.output
    assert "engine: average" in result.output
    assert result.exit_code == (1 if "FAIL" in result.output else 0)


def test_doctor_names_a_missing_camera_and_the_fix(tmp_path):
    text = RIG.replace("sim:thermal, fps: 10", "rtsp://127.0.0.1:9/none, open_timeout_s: 0.5")
    (tmp_path / "rig.yaml").write_text(text)
    result = CliRunner().invoke(build_cli(), ["doctor", "--config", str(tmp_path / "rig.yaml"), "--seconds", "1"])
    assert result.exit_code == 1
    assert "FAIL  thermal camera: rtsp://127.0.0.1:9/none" in result.output
    assert "->" in result.output


def measurement(**changes: object) -> Measurement:
    stats = CaptureStats(CaptureState.LOST, "gone", None, 0, 0, 0, 0, 0, 0, 0, 0.0)
    sync = PairSynchronizer(SyncConfig()).stats()
    values = {
        "stamps_ns": {V: [0, 33_000_000], T: [0, 33_000_000]}, "capture": {V: stats, T: stats}, "sync": sync,
        "offset": OffsetEstimate(48.0, 0.8, True), "failures": {},
    }  # fmt: skip
    return Measurement(**(values | changes))


def test_judge_proposes_the_offset_on_top_of_the_configured_one():
    configs = {V: CameraConfig(uri="sim:visible", offset_ms=-10), T: CameraConfig(uri="sim:thermal")}
    findings = {f.name: f for f in judge(measurement(), configs, SyncConfig())}
    assert findings["offset"].fix == "set visible.offset_ms: 38"
    assert "early" in findings["offset"].text
    assert "buffer_frames" in findings["skew"].fix
    assert "gone" in findings["visible camera"].fix
    small = judge(measurement(offset=OffsetEstimate(2.0, 0.8, True)), configs, SyncConfig())
    assert small[-1].ok


@pytest.mark.parametrize("free, ok", [(50e9, True), (1e9, False)])
def test_disk(monkeypatch, tmp_path, free, ok):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("app.capture.doctor.shutil.disk_usage", lambda _: usage(1e12, 1e12 - free, free))
    finding = check_disk(tmp_path / "not" / "yet" / "there")
    assert finding.ok is ok
    assert str(tmp_path) in finding.text
    assert isinstance(tmp_path, Path)
