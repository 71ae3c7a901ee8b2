"""The whole pipeline with small cameras in real time: it starts at once, mends itself, loses nothing, always stops."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import live as support

from app.pipeline.fuse_step import FADING
from app.pipeline.live_fusion import LiveFusion, PipelineState, Severity
from app.pipeline.state.stats import RecordingState
from app.recording.reader import RecordingReader
from app.recording.segments import list_recordings
from benchmarks.soak.faults import FaultyCameras, FaultyEngine
from calibration.rig import plain_scaling, save_calibration
from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import (
    CheckpointError,
    ConfigError,
    EngineError,
    LumithermError,
    RecordingError,
    RunError,
)
from fusion_core.frames import FrameFlag, FusedFrame, Stream
from fusion_core.thermal.agc import AgcConfig, AgcMode

wait_until = support.wait_until


class Running:
    """A pipeline that is stopped at the end of the test, whatever happens, and leaves no thread behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives: list[LiveFusion] = []
        self.before = set(threading.enumerate())

    def __call__(self, *, start: bool = True, config: Any = None, **named: Any) -> LiveFusion:
        cameras = named.pop("cameras", None) or support.camera_factory()
        engines = named.pop("engines", create_engine)
        config = config if config is not None else support.settings(self.folder, **named)
        live = LiveFusion(config, camera_factory=cameras, engine_factory=engines)
        self.lives.append(live)
        if start:
            live.start()
        return live

    def finish(self) -> None:
        for live in self.lives:
            live.stop(20.0)
        wait_until(lambda: not [t for t in threading.enumerate() if t not in self.before and t.is_alive()])


@pytest.fixture
def running(tmp_path: Path) -> Any:
    factory = Running(tmp_path / "recordings")
    yield factory
    factory.finish()


def pictures(live: LiveFusion, count: int = 3) -> FusedFrame:
    """The newest picture once `count` more have been fused."""
    wanted = live.latest.sequence + count
    wait_until(lambda: live.latest.sequence >= wanted or live.failure is not None)
    if live.failure is not None:
        raise live.failure
    newest = live.latest.get_newer(0)
    assert newest is not None
    return newest[1]


def texts(live: LiveFusion, source: str) -> str:
    return " | ".join(problem.text for problem in live.problems.recent() if problem.source == source)


# ---------------------------------------------------------------------------------------------- life


def test_pictures_come_and_everything_ends(running: Running) -> None:
    live = running()
    frame = pictures(live, 5)
    assert live.state is PipelineState.RUNNING and live.failure is None
    assert frame.engine == "average" and frame.pixels.shape == (support.HEIGHT, support.WIDTH, 3)
    assert frame.pair.visible is not None and frame.pair.thermal is not None and frame.thermal_8bit is not None
    expected = create_engine("average").fuse(frame.pair.visible.pixels, frame.thermal_8bit)
    assert np.array_equal(frame.pixels, expected)
    for pixels in (frame.pixels, frame.thermal_8bit, frame.pair.visible.pixels):
        assert not pixels.flags.writeable
    snapshot = live.stats.snapshot()
    assert snapshot.engine == "average" and snapshot.fallback_reason is None
    assert snapshot.frames["fused"] >= 5 and snapshot.latency_ms["grab_to_fused"].count
    live.note_shown(frame)
    assert live.stats.snapshot().frames["shown"] == 1
    live.stop(20.0)
    live.stop(20.0)
    assert live.state is PipelineState.STOPPED and live.wait(0.0) and live.failure is None
    with pytest.raises(RunError, match="started before"):
        live.start()
    with pytest.raises(RecordingError, match="has stopped"):
        live.recording.start()


def test_stop_before_start(running: Running) -> None:
    live = running(start=False)
    live.stop()
    assert live.wait(0.0) and live.state is PipelineState.STOPPED
    with pytest.raises(RunError):
        live.start()


def test_sources_that_end_end_the_pipeline(running: Running) -> None:
    cameras = support.camera_factory(
        support.PatternCamera(Stream.VISIBLE, frames=8), support.PatternCamera(Stream.THERMAL, frames=8)
    )
    live = running(cameras=cameras, recording={"autostart": True})
    assert live.wait(60.0)
    assert live.state is PipelineState.STOPPED and live.failure is None
    assert live.recording.summary is not None and live.recording.summary.frames["fused"] >= 6
    assert live.recording.summary.problems == ()


def test_a_wrong_configuration_stops_with_its_reason(running: Running) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("thermal.uri: no such thing")

    live = running(cameras=refuse)
    assert live.wait(30.0)
    assert live.state is PipelineState.FAILED and isinstance(live.failure, ConfigError)
    assert "no such thing" in texts(live, "pipeline")


def test_a_wrong_camera_setting_found_at_open_stops_too(running: Running) -> None:
    visible = support.PatternCamera(Stream.VISIBLE)
    visible.error = ConfigError("visible.controls.gain: the camera has no such control")
    live = running(cameras=support.camera_factory(visible))
    assert live.wait(30.0)
    assert isinstance(live.failure, ConfigError) and "no such control" in texts(live, "visible")


def test_a_missing_calibration_stops(running: Running, tmp_path: Path) -> None:
    live = running(calibration={"file": str(tmp_path / "none.yaml")})
    assert live.wait(30.0)
    assert isinstance(live.failure, LumithermError) and live.failure.exit_code == 2


# ---------------------------------------------------------------------------------------------- cameras


def test_the_other_stream_goes_on_alone_and_the_lost_one_comes_back(running: Running) -> None:
    faulty = FaultyCameras(support.camera_factory())
    live = running(cameras=faulty)
    pictures(live)
    faulty.camera(Stream.THERMAL).unplug()
    wait_until(lambda: live.state is PipelineState.DEGRADED_VISIBLE_ONLY)
    assert FADING in pictures(live).notes
    wait_until(lambda: FADING not in pictures(live, 1).notes)
    frame = pictures(live)
    assert frame.pair.visible is not None and frame.pair.flags & FrameFlag.VISIBLE_ONLY
    assert frame.pixels is frame.pair.visible.pixels and frame.thermal_8bit is None  # shared, not copied
    faulty.camera(Stream.THERMAL).mend()
    wait_until(lambda: live.state is PipelineState.RUNNING)
    faulty.camera(Stream.VISIBLE).stall()
    wait_until(lambda: live.state is PipelineState.DEGRADED_THERMAL_ONLY)
    frame = pictures(live)
    assert frame.pixels.shape == (support.HEIGHT, support.WIDTH, 3) and frame.pair.visible is None
    faulty.camera(Stream.THERMAL).stall()
    wait_until(lambda: live.state is PipelineState.NO_CAMERAS)
    for stream in Stream:
        faulty.camera(stream).mend()
    wait_until(lambda: live.state is PipelineState.RUNNING)
    wait_until(lambda: live.stats.snapshot().reconnects["thermal"] >= 1)
    assert "unplugged" in texts(live, "thermal") and "is back" in texts(live, "thermal")
    assert live.failure is None


def test_cameras_that_are_not_there_are_waited_for(running: Running) -> None:
    visible, thermal = support.PatternCamera(Stream.VISIBLE), support.PatternCamera(Stream.THERMAL)
    visible.absent = thermal.absent = True
    live = running(cameras=support.camera_factory(visible, thermal))
    wait_until(lambda: live.state is PipelineState.NO_CAMERAS)
    visible.absent = thermal.absent = False
    pictures(live)
    wait_until(lambda: live.state is PipelineState.RUNNING)


def test_a_bug_in_a_camera_costs_a_restart_not_the_pipeline(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.pipeline.capture_supervisor._RESTART_S", 0.1)
    thermal = support.PatternCamera(Stream.THERMAL)
    live = running(cameras=support.camera_factory(None, thermal))
    pictures(live)
    thermal.error = ZeroDivisionError("a bug")
    wait_until(lambda: "a bug" in texts(live, "thermal"))
    # At least: on a starved machine a stall may cost one more.
    wait_until(lambda: thermal.opened >= 2)
    wait_until(lambda: live.state is PipelineState.RUNNING)
    wait_until(lambda: live.stats.snapshot().reconnects["thermal"] >= 1)
    assert live.failure is None


def test_a_shutter_freeze_holds_then_falls_back_and_the_agc_starts_anew(running: Running) -> None:
    faulty = FaultyCameras(support.camera_factory())
    live = running(cameras=faulty, sync={"hold_ms": 300.0})
    pictures(live, 5)
    seen: list[FusedFrame] = []
    faulty.camera(Stream.THERMAL).freeze()

    def follow(flag: FrameFlag) -> FusedFrame:
        wait_until(lambda: seen.append(pictures(live, 1)) or flag in seen[-1].pair.flags)
        return seen[-1]

    held = follow(FrameFlag.HELD)
    assert FrameFlag.FFC in held.pair.flags and held.thermal_8bit is not None
    follow(FrameFlag.VISIBLE_ONLY)
    assert live.stats.snapshot().ffc_active
    faulty.camera(Stream.THERMAL).mend()
    wait_until(lambda: live.state is PipelineState.RUNNING and not live.stats.snapshot().ffc_active)
    assert live.stats.snapshot().ffc_count == 1
    holds = [frame.thermal_8bit for frame in seen if frame.pair.flags & FrameFlag.HELD]
    assert all(levels is holds[0] for levels in holds)  # not mapped again


# ---------------------------------------------------------------------------------------------- engine


class SlowFactory:
    """Builds the wanted engine only when `gate` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.error: Exception | None = None
        self.broken = threading.Event()

    def __call__(
        self, name: str, preset: str, weights: Path | None, threads: int | None, *, video: VideoOptions
    ) -> FusionEngine:
        assert video == VideoOptions(align_every=5, align_waits=False)
        self.gate.wait(30.0)
        if self.error is not None:
            raise self.error
        return FaultyEngine(create_engine("average"), self.broken)


def test_a_fallback_shows_at_once_while_the_engine_is_built(running: Running) -> None:
    factory = SlowFactory()
    live = running(engines=factory, engine={"name": "auto", "fallback": "edges"})
    frame = pictures(live)
    snapshot = live.stats.snapshot()
    assert frame.engine == "edges" and snapshot.engine == "edges"
    assert snapshot.fallback_reason == "auto:tiny is being built"
    factory.gate.set()
    wait_until(lambda: live.stats.snapshot().engine == "average")
    assert live.stats.snapshot().fallback_reason is None
    assert pictures(live, 2).engine == "average"


class AlignedFirst(SlowFactory):
    """Gives the engine that stands in when `aligned` is open, and the wanted one when `gate` is."""

    def __init__(self) -> None:
        super().__init__()
        self.aligned = threading.Event()
        self.lame = threading.Event()

    def __call__(
        self, name: str, preset: str, weights: Path | None, threads: int | None, *, video: VideoOptions
    ) -> FusionEngine:
        if name != "aligned-pyramid":
            return super().__call__(name, preset, weights, threads, video=video)
        self.aligned.wait(30.0)
        return FaultyEngine(create_engine("edges"), self.lame)


def test_what_stands_in_has_no_ghosts_from_the_first_picture_on(running: Running) -> None:
    factory = AlignedFirst()
    live = running(engines=factory, engine={"name": "auto", "fallback": "aligned-pyramid"})
    assert pictures(live).engine == "ncc-pyramid"  # at once, by the shift of the whole picture
    factory.aligned.set()
    wait_until(lambda: live.stats.snapshot().engine == "edges")  # the better one takes over
    assert "auto:tiny is being built" in (live.stats.snapshot().fallback_reason or "")
    factory.lame.set()
    wait_until(lambda: live.stats.snapshot().engine == "ncc-pyramid")  # and costs no picture when it fails
    assert pictures(live).engine == "ncc-pyramid"
    factory.lame.clear()
    factory.gate.set()
    wait_until(lambda: live.stats.snapshot().engine == "average")
    assert live.stats.snapshot().fallback_reason is None and live.failure is None


class HeavyEngine(FaultyEngine):
    """Takes `seconds` a picture."""

    seconds = 0.0

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        threading.Event().wait(self.seconds)
        return super().fuse(visible, thermal)


def test_a_network_that_cannot_keep_the_rate_does_not_take_over(running: Running) -> None:
    engine = HeavyEngine(create_engine("average"), threading.Event())
    engine.seconds = 0.1  # of the 33 ms between two pictures
    live = running(engines=lambda *_, **__: engine, engine={"name": "auto", "fallback": "edges"})
    wait_until(lambda: "would take" in (live.stats.snapshot().fallback_reason or ""))
    assert pictures(live).engine == "edges"
    assert "goes on, for 30 s at least" in texts(live, "engine")


def test_a_network_that_becomes_too_slow_gives_way(running: Running) -> None:
    engine = HeavyEngine(create_engine("average"), threading.Event())
    live = running(engines=lambda *_, **__: engine, engine={"name": "auto", "fallback": "edges"})
    wait_until(lambda: live.stats.snapshot().engine == "average")
    engine.seconds = 0.2
    wait_until(lambda: live.stats.snapshot().engine == "edges")
    assert "too slow for this computer just now" in (live.stats.snapshot().fallback_reason or "")
    assert "edges fuses instead" in texts(live, "engine")


def test_a_network_that_was_asked_for_by_name_is_used_however_slow(running: Running) -> None:
    engine = HeavyEngine(create_engine("average"), threading.Event())
    engine.seconds = 0.1
    live = running(engines=lambda *_, **__: engine, engine={"name": "auto", "preset": "tiny", "fallback": "edges"})
    wait_until(lambda: live.stats.snapshot().engine == "average")
    assert live.stats.snapshot().fallback_reason is None


def test_an_engine_that_stands_in_is_built_anew_for_another_size(running: Running) -> None:
    factory = AlignedFirst()
    factory.aligned.set()
    factory.gate.set()
    factory.error = CheckpointError("no weights")
    visible = support.PatternCamera(Stream.VISIBLE)
    cameras = support.camera_factory(visible)
    live = running(engines=factory, cameras=cameras, engine={"name": "auto", "fallback": "aligned-pyramid"})
    wait_until(lambda: live.stats.snapshot().engine == "edges")
    factory.aligned.clear()
    visible.size = (48, 64)
    wait_until(lambda: live.stats.snapshot().engine == "ncc-pyramid")
    factory.aligned.set()
    wait_until(lambda: live.stats.snapshot().engine == "edges")
    assert pictures(live).pixels.shape == (48, 64, 3)


def test_an_engine_that_cannot_be_built_is_told_loudly(running: Running) -> None:
    factory = SlowFactory()
    factory.error = CheckpointError("preset 'tiny' is untrained")
    factory.gate.set()
    live = running(engines=factory, engine={"name": "auto"})
    wait_until(lambda: "untrained" in (live.stats.snapshot().fallback_reason or ""))
    assert pictures(live).engine == "pyramid" and live.state is PipelineState.RUNNING
    told = [problem for problem in live.problems.recent() if problem.source == "engine"]
    assert told and told[-1].severity is Severity.ERROR and told[-1].advice


def test_an_engine_that_fails_while_running_is_replaced_without_losing_a_picture(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.pipeline.engine.builder._FIRST_RETRY_S", 0.2)
    factory = SlowFactory()
    factory.gate.set()
    live = running(engines=factory, engine={"name": "auto"})
    wait_until(lambda: live.stats.snapshot().engine == "average")
    before = live.stats.snapshot()
    factory.broken.set()
    wait_until(lambda: live.stats.snapshot().engine == "pyramid")
    assert "failed" in (live.stats.snapshot().fallback_reason or "")
    pictures(live)
    factory.broken.clear()
    wait_until(lambda: live.stats.snapshot().engine == "average")
    assert live.stats.snapshot().fallback_reason is None
    after = live.stats.snapshot()
    paired = after.frames["paired"] - before.frames["paired"]
    assert abs(paired - (after.frames["fused"] - before.frames["fused"])) <= 1
    assert live.failure is None


def test_engines_are_swapped_while_it_runs(running: Running) -> None:
    live = running()
    pictures(live)
    live.engine.request("edges")
    wait_until(lambda: live.stats.snapshot().engine == "edges")
    live.engine.request("openvino", "tiny", Path("no/such/weights.safetensors"))
    wait_until(lambda: "no/such/weights" in (live.stats.snapshot().fallback_reason or ""), 120.0)
    assert pictures(live).engine == "edges"


def test_another_picture_size_builds_the_engine_anew(running: Running) -> None:
    factory = SlowFactory()
    factory.gate.set()
    visible = support.PatternCamera(Stream.VISIBLE)
    live = running(engines=factory, cameras=support.camera_factory(visible), engine={"name": "auto"})
    wait_until(lambda: live.stats.snapshot().engine == "average")
    factory.gate.clear()
    visible.size = (48, 64)
    wait_until(lambda: live.stats.snapshot().engine == "pyramid")
    assert "64x48" in (live.stats.snapshot().fallback_reason or "")
    assert pictures(live).pixels.shape == (48, 64, 3)
    factory.gate.set()
    wait_until(lambda: live.stats.snapshot().engine == "average")


def test_a_fallback_that_fails_stops_the_pipeline_in_order(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise EngineError("nothing works")

    monkeypatch.setattr("fusion_core.engines.pyramid_engine.LaplacianPyramidEngine.fuse", fail)
    live = running(engine={"name": "pyramid"}, recording={"autostart": True})
    assert live.wait(30.0)
    assert live.state is PipelineState.FAILED and "nothing works" in str(live.failure)


# ---------------------------------------------------------------------------------------------- settings


def test_agc_changes_take_effect_and_its_histogram_is_there(running: Running) -> None:
    live = running()
    empty = running(start=False).fusion.agc_histogram()
    assert empty.counts.sum() == 0
    pictures(live)
    live.fusion.set_agc(AgcConfig(mode=AgcMode.MANUAL, manual_low=20000, manual_high=22000))
    wait_until(lambda: pictures(live, 1).agc_limits == (20000.0, 22000.0))
    counts, edges, limits = live.fusion.agc_histogram()
    assert limits == (20000.0, 22000.0) and counts.sum() > 0 and len(edges) == len(counts) + 1
    assert 19999 <= edges[0] < edges[-1] <= 23000
    with pytest.raises(ConfigError):
        live.fusion.set_agc(AgcConfig(exclude_mask=Path("no_such_mask.png")))
    assert live.fusion.agc.mode is AgcMode.MANUAL


def test_a_snapshot_is_taken_beside_the_running_picture(running: Running, tmp_path: Path) -> None:
    live = running()
    with pytest.raises(RunError, match="no picture yet"):
        running(start=False).snapshot(tmp_path)
    pictures(live)
    bundle = live.snapshot(tmp_path / "shots")
    facts = json.loads((bundle / "snapshot.json").read_text())
    assert facts["rig"] == "test" and facts["agc"]["mode"] == "plateau" and facts["engine"] == "average"
    assert (bundle / "thermal.tiff").exists()


def test_a_calibration_that_does_not_fit_leaves_the_old_one(running: Running, tmp_path: Path) -> None:
    live = running()
    pictures(live)
    with pytest.raises(LumithermError):
        live.alignment.use(tmp_path / "none.yaml")
    live.alignment.use(None)
    pictures(live)
    assert live.state is PipelineState.RUNNING


def test_the_alignment_budget_is_told_once_a_second(running: Running) -> None:
    live = running(budget={"baseline_m": 0.05, "focal_px": 500.0})
    wait_until(lambda: live.stats.snapshot().budget is not None)
    budget = live.stats.snapshot().budget
    assert budget is not None and budget.parallax_px == pytest.approx(5.0)


# ---------------------------------------------------------------------------------------------- recording


def test_recording_holds_the_very_frames_and_marks_an_outage(running: Running, tmp_path: Path) -> None:
    faulty = FaultyCameras(support.camera_factory())
    live = running(cameras=faulty)
    assert live.recording.stop() is None
    pictures(live)
    live.recording.start("first")
    wait_until(lambda: live.stats.snapshot().recording is RecordingState.RECORDING)
    pictures(live, 10)
    faulty.camera(Stream.THERMAL).unplug()
    faulty.camera(Stream.VISIBLE).unplug()
    wait_until(lambda: live.state is PipelineState.NO_CAMERAS)
    for stream in Stream:
        faulty.camera(stream).mend()
    wait_until(lambda: live.state is PipelineState.RUNNING)
    live.recording.mark("here")
    pictures(live, 10)
    summary = live.recording.stop(20.0)
    assert summary is not None and summary.problems == () and summary.refused == {}
    assert live.stats.snapshot().recording is RecordingState.OFF
    (path,) = [segment.path for segment in summary.segments]
    assert "first" in path.name
    with RecordingReader(path) as reader:
        assert reader.info.duration_s > 1.0  # the gap is kept
        causes = [getattr(mark, "cause", getattr(mark, "label", "")) for mark in reader.info.marks]
        assert "outage" in causes and "here" in causes
        for pair in reader:
            if pair.thermal is not None:
                assert pair.thermal.pixels.dtype == np.uint16
        header = reader.info.header
    assert header is not None and header.config["app"]["rig"] == "test"
    live.recording.start()
    pictures(live, 3)
    live.stop(20.0)
    assert live.recording.summary is not None and live.recording.summary.frames["fused"] >= 1
    assert len(list_recordings(tmp_path / "recordings")) == 2


def test_a_folder_that_cannot_be_written_is_tried_again(running: Running, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("app.recording.writing.recorder.RETRY_S", 0.2)
    blocked = tmp_path / "recordings"
    blocked.write_text("a file in the way")
    live = running(recording={"autostart": True})
    wait_until(lambda: live.stats.snapshot().recording is RecordingState.FAILED)
    pictures(live)
    assert live.state is PipelineState.RUNNING and "is no folder" in texts(live, "recording")
    with pytest.raises(RecordingError):
        live.recording.start()
    blocked.unlink()
    wait_until(lambda: live.stats.snapshot().recording is RecordingState.RECORDING)


def test_a_recorder_that_fails_is_replaced(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.recording.writing.recorder.RETRY_S", 0.2)
    live = running(recording={"autostart": True})
    wait_until(lambda: live.stats.snapshot().recording is RecordingState.RECORDING)
    from app.recording.writing.recorder_loop import RecorderLoop

    original = RecorderLoop.take

    def fail(self: RecorderLoop, *_: object) -> None:
        monkeypatch.setattr(RecorderLoop, "take", original)
        raise ValueError("a bug in the recorder")

    monkeypatch.setattr(RecorderLoop, "take", fail)
    wait_until(lambda: "a bug in the recorder" in texts(live, "recording"))
    wait_until(lambda: live.stats.snapshot().recording is RecordingState.RECORDING)
    assert live.failure is None and live.state is PipelineState.RUNNING
    live.stop(20.0)
    assert live.recording.summary is not None and live.recording.summary.problems == ()


# ---------------------------------------------------------------------------------------------- replay


def test_a_replay_as_fast_as_possible_records_every_pair(running: Running) -> None:
    """Nothing is dropped: the cameras wait for the fusion, the fusion for the recorder."""
    cameras = support.camera_factory(
        *(support.PatternCamera(stream, frames=120, paced=False) for stream in (Stream.VISIBLE, Stream.THERMAL))
    )
    live = running(cameras=cameras, recording={"autostart": True, "queue_frames": 4})
    assert live.wait(120.0) and live.failure is None
    summary = live.recording.summary
    assert summary is not None and summary.refused == {} and summary.problems == ()
    with RecordingReader(summary.segments[0].path) as reader:
        for index, pair in enumerate(reader):
            assert pair.visible is not None and pair.thermal is not None
            assert pair.visible.index == pair.thermal.index == index and pair.skew_ns == 3_000_000
            assert np.array_equal(pair.thermal.pixels, support.picture(Stream.THERMAL, index))
        assert index == 119
    snapshot = live.stats.snapshot()
    assert snapshot.total_drops == 0 and snapshot.latency_total_ms["grab_to_fused"].count == 0


# ---------------------------------------------------------------------------------------------- drift


def test_the_drift_monitor_runs_beside_the_pictures_and_can_be_switched_off(running: Running) -> None:
    live = running()
    pictures(live, 3)
    wait_until(lambda: live.stats.snapshot().drift is not None)
    reading = live.stats.snapshot().drift
    assert reading is not None and reading.mode == "propose" and reading.applied_px == 0
    live.alignment.accept()  # nothing is proposed: nothing happens
    live.alignment.discard()
    pictures(live, 3)
    live.stop(20.0)
    assert live.failure is None and not live.problems.recent()
    off = running(calibration={"self_align": "off"})
    pictures(off, 2)
    assert off.stats.snapshot().drift is None
    with pytest.raises(RunError, match="self_align is off"):
        off.alignment.accept()


def test_a_replay_as_fast_as_possible_is_watched_but_not_corrected(running: Running) -> None:
    cameras = support.camera_factory(
        support.PatternCamera(Stream.VISIBLE, frames=40, paced=False),
        support.PatternCamera(Stream.THERMAL, frames=40, paced=False),
    )
    live = running(cameras=cameras, calibration={"self_align": "apply"})
    assert live.wait(30.0) and live.failure is None
    assert "not corrected on the way" in texts(live, "calibration")
    assert any("propose here" in warning for warning in live.stats.snapshot().warnings)


def test_a_calibration_of_other_cameras_is_put_aside(running: Running, tmp_path: Path) -> None:
    size = (support.HEIGHT, support.WIDTH)
    fits = plain_scaling(size, size)
    shifted = fits.with_correction(np.array([[1, 0, 20], [0, 1, 0], [0, 0, 1.0]]))
    own = replace(shifted, visible=replace(shifted.visible, identity="test:camera"))
    other = replace(shifted, thermal=replace(shifted.thermal, identity="v4l2:serial=4711"))
    for name, calibration in (("own", own), ("other", other)):
        save_calibration(calibration, tmp_path / f"{name}.yaml")
    live = running(calibration={"file": tmp_path / "own.yaml", "self_align": "off"})
    frame = pictures(live, 5)
    assert frame.thermal_8bit is not None and not frame.thermal_8bit[:, :19].any()
    assert live.cameras.devices() == ("test:camera", "test:camera")
    live.alignment.use(tmp_path / "other.yaml")
    wait_until(lambda: "belongs to 'v4l2:serial=4711'" in texts(live, "calibration"))
    frame = pictures(live, 3)
    assert frame.thermal_8bit is not None and frame.thermal_8bit[:, :19].any(), "only scaled meanwhile"
    assert any("belongs to other cameras" in warning for warning in live.stats.snapshot().warnings)
    live.alignment.use(tmp_path / "own.yaml")
    pictures(live, 3)
    assert not any("belongs to other cameras" in warning for warning in live.stats.snapshot().warnings)
