"""`lumitherm demo`: the simulated rig through the same path as anybody's files."""

from __future__ import annotations

import itertools
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import app.__main__ as command_line
from app.jobs.demo import DemoFiles, DemoScene, record_rig, run_demo, visible_at
from app.media.reader import VideoReader
from app.recording.config import TrackName
from app.recording.reader import RecordingReader
from app.recording.self_check import check_recording
from app.recording.sidecar import RawLine, read_sidecar, sidecar_path
from fusion_core.engines.engine import FusionEngine
from fusion_core.engines.pyramid_engine import AverageEngine, LaplacianPyramidEngine
from fusion_core.errors import CheckpointError, RecordingError
from fusion_core.frames import Stream
from fusion_core.simulation.rig import SimulatedRig

SMALL = DemoScene(
    seconds=1.0, height=96, width=128, thermal_height=60, thermal_width=80, visible_fps=12, thermal_fps=9
)  # fmt: skip


def stamps_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoFiles, list[int]]:
    recorded: list[int] = []
    folder = tmp_path_factory.mktemp("demo") / "a" / "b"
    engine = LaplacianPyramidEngine()
    return run_demo(folder, SMALL, AverageEngine, engine, lambda p: recorded.append(p.done)), recorded


def test_the_demonstration_leaves_two_sources_a_fused_video_and_a_sheet(demo: tuple[DemoFiles, list[int]]) -> None:
    files, recorded = demo
    assert recorded == list(range(1, 13))
    assert stamps_of(files.fused) == stamps_of(files.visible)
    assert len(stamps_of(files.fused)) == 12 and len(stamps_of(files.thermal)) == 9
    assert files.report.frames == 12 and files.report.visible_only == 0
    sheet = cv2.imread(str(files.contact_sheet))
    assert sheet is not None and sheet.shape == (3 * 360 + 12, 4 * 480 + 18, 3)
    by_day, by_night = sheet[:360, :480].mean(), sheet[-360:, :480].mean()
    assert by_day > 1.5 * by_night


def test_the_thermal_recording_holds_the_rigs_counts_bit_for_bit(demo: tuple[DemoFiles, list[int]]) -> None:
    rig = SimulatedRig(SMALL.rig_config(0.0))
    reader = VideoReader(demo[0].thermal, Stream.THERMAL)
    for number, frame in enumerate(reader.frames()):
        assert np.array_equal(frame.frame.pixels, rig.thermal(rig.thermal_time_s(number)))
    reader.close()


def test_it_leaves_a_recording_that_opens_as_any_other(demo: tuple[DemoFiles, list[int]]) -> None:
    recording = demo[0].recording
    assert recording is not None and recording.with_suffix(".jsonl").is_file()
    assert check_recording(recording).problems == ()
    raw = [
        (line.track, line.t_ns) for line in read_sidecar(sidecar_path(recording)).pictures if isinstance(line, RawLine)
    ]
    assert len(raw) == len(set(raw)) > 12  # the slower camera's frames are recorded once, whatever they are paired with
    with RecordingReader(recording) as reader:
        assert len(reader) == 12 and set(reader.tracks) == set(TrackName) and not reader.info.damage
        assert reader.info.closed_in_order and reader.info.duration_s == pytest.approx(11 / 12, abs=0.01)
        rig = SimulatedRig(SMALL.rig_config(0.0))
        thermal = reader.pair(0).thermal
        assert thermal is not None and np.array_equal(thermal.pixels, rig.thermal(rig.thermal_time_s(0)))


def test_times_of_day_fade_into_each_other() -> None:
    rigs = [SimulatedRig(SMALL.rig_config(night)) for night in (0.0, 1.0)]
    levels = [visible_at(rigs, t_s, 4.0).mean() for t_s in (1.0, 1.6, 1.75, 1.9, 2.1)]
    assert all(earlier > later for earlier, later in itertools.pairwise(levels[1:]))
    assert levels[0] == pytest.approx(rigs[0].visible(1.0).mean())


def test_a_stop_ends_the_recording(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(RecordingError, match="stopped"):
        record_rig(SMALL, tmp_path / "v.mkv", tmp_path / "t.mkv", stop=stop)


def test_the_command_falls_back_loudly_where_the_network_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create_engine(name: str, *_: object, **__: object) -> FusionEngine:
        if name == "auto":
            raise CheckpointError("no weights for tiny")
        assert name == "ncc-pyramid"
        return AverageEngine()

    monkeypatch.setattr("fusion_core.engines.engine.create_engine", create_engine, raising=False)
    monkeypatch.setattr("app.jobs.demo._LIGHTS", (("day", 0.0),))  # one rig to build instead of three
    monkeypatch.setattr("app.jobs.demo.DemoScene", lambda seconds, seed: SMALL)
    monkeypatch.setattr(sys, "argv", ["lumitherm", "demo", "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        sys.exit(command_line.run())
    captured = capsys.readouterr()
    assert not ended.value.code, captured.err
    assert "no weights for tiny" in captured.err
    assert f"fused video: {tmp_path / 'out' / 'fused.mkv'}" in captured.out
    assert f"contact sheet: {tmp_path / 'out' / 'contact_sheet.png'}" in captured.out
