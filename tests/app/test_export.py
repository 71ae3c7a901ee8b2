"""`lumitherm recording export`: video, pictures with a table, MCAP; each read back by its own library."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from support.recording import feed, frame_at
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.recording.config import RecordingConfig, TrackName
from app.recording.reader import RecordingReader
from app.recording.writing.recorder import Recorder
from calibration.render import synthetic_rig
from calibration.rig import save_calibration

PAIRS = 12


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recorder = Recorder(RecordingConfig(directory=tmp_path_factory.mktemp("rec"), split_s=0, reserve_mb=1))
    recorder.start()
    for index in range(PAIRS):
        feed(recorder, frame_at(index))
    summary = recorder.stop(30.0)
    recorder.close()
    assert summary is not None and not summary.problems
    return summary.segments[0].path


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    file = tmp_path / "rig.yaml"
    save_calibration(synthetic_rig(), file)
    return file


def export(*words: object) -> str:
    result = CliRunner().invoke(build_cli(), ["recording", "export", *map(str, words)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_has_the_times_of_the_recording(recording: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"clip{suffix}"
    assert f"{PAIRS} pairs" in export(recording, "-o", output, "--view", "visible")
    with av.open(str(output)) as container:
        stamps = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert len(stamps) == PAIRS and np.allclose(np.diff(stamps), 1 / 30, atol=0.0011)


def test_a_part_alone(recording: Path, tmp_path: Path) -> None:
    export(recording, "-o", tmp_path / "clip.mp4", "--start-s", "0.1", "--duration-s", "0.1")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert 3 <= sum(1 for _ in container.decode(video=0)) <= 5


def test_a_folder_has_counts_bit_for_bit_and_a_line_for_each_pair(
    recording: Path, calibration: Path, tmp_path: Path
) -> None:
    output = tmp_path / "pictures"
    export(recording, "-o", output, "--calibration", calibration)
    rows = list(csv.DictReader(io.StringIO((output / "pairs.csv").read_text())))
    assert len(rows) == PAIRS and (output / "calibration.yaml").read_bytes() == calibration.read_bytes()
    with RecordingReader(recording) as reader:
        for index, row in enumerate(rows):
            counts = cv2.imread(str(output / row["thermal_file"]), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(counts, reader.picture(TrackName.THERMAL, index)) and counts.dtype == np.uint16
            visible = cv2.imread(str(output / row["visible_file"]))[..., ::-1]
            assert np.array_equal(visible, reader.picture(TrackName.VISIBLE, index))
            assert float(row["skew_ms"]) == 3.0 and int(row["t_ns"]) == reader.line(index).t_ns


def test_mcap_is_read_back_by_its_library(recording: Path, calibration: Path, tmp_path: Path) -> None:
    mcap = pytest.importorskip("mcap_ros2.reader")
    output = tmp_path / "out.mcap"
    export(recording, "-o", output, "--calibration", calibration)
    seen: dict[str, int] = {}
    with RecordingReader(recording) as reader:
        for message in mcap.read_ros2_messages(str(output)):
            topic, ros = message.channel.topic, message.ros_msg
            index = seen[topic] = seen.get(topic, -1) + 1
            if topic == "/thermal/image":
                counts = np.frombuffer(ros.data, "<u2").reshape(ros.height, ros.width)
                assert ros.encoding == "mono16" and np.array_equal(counts, reader.picture(TrackName.THERMAL, index))
            elif topic == "/visible/image/compressed":
                pixels = cv2.imdecode(np.frombuffer(ros.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
                assert np.array_equal(pixels, reader.picture(TrackName.VISIBLE, index))
            elif topic == "/thermal/camera_info":
                assert ros.k[0] == pytest.approx(synthetic_rig().thermal.fx_px)
            stamp_ns = ros.header.stamp.sec * 10**9 + ros.header.stamp.nanosec
            assert stamp_ns == message.log_time_ns
    assert seen == dict.fromkeys(
        ["/fused/image/compressed", "/visible/image/compressed", "/thermal/image", "/visible/camera_info",
         "/thermal/camera_info"], PAIRS - 1
    )  # fmt: skip


def test_standard_output_carries_the_video_alone(recording: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "recording", "export", str(recording), "-o", "-"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    (tmp_path / "x.mkv").write_bytes(done.stdout)
    with av.open(str(tmp_path / "x.mkv")) as container:
        assert sum(1 for _ in container.decode(video=0)) == PAIRS
    assert b"pairs" in done.stderr
