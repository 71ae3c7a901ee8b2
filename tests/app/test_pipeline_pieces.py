"""The parts of the live pipeline one by one: slot, worker, engine builder, problems, snapshot, thermal grid, faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
from support import live as support

from app.capture.cameras.camera import MonotonicClock
from app.configuration.config import EngineConfig
from app.media.snapshot import save_snapshot
from app.pipeline.engine import builder as engine_builder
from app.pipeline.engine.builder import BuildFailure, BuiltEngine, EngineBuilder, EngineSpec
from app.pipeline.engine.seat import EngineSeat
from app.pipeline.fuse_step import Fade
from app.pipeline.monitor import Monitor, RecorderReport
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineContext, ProblemLog, Severity
from app.pipeline.state.stats import RecordingState, Stats
from app.pipeline.thermal_grid import ThermalGrid
from app.process import Worker
from app.recording.writing.status import RecordingStatus
from benchmarks.soak.faults import FaultyCamera, FaultyCameras, full_disk
from fusion_core.engines.auto_engine import AutoEngine
from fusion_core.engines.cache import BEFORE_MAKING
from fusion_core.engines.pyramid_engine import AverageEngine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import CameraLost, CameraTimeout, CheckpointError, EngineError, RunError, UsageError
from fusion_core.frames import Frame, FrameFlag, FramePair, FusedFrame, Stream, TimestampSource

# ---------------------------------------------------------------------------------------------- slot


def test_slot_keeps_the_newest_and_counts_what_nobody_saw() -> None:
    slot: LatestSlot[str] = LatestSlot()
    assert slot.get_newer(0) is None
    assert slot.put("a") == 1
    slot.put("b")
    assert slot.get_newer(0) == (2, "b")
    assert slot.get_newer(2) is None
    slot.put("c")
    assert slot.get_newer(2) == (3, "c")
    assert slot.overwritten == 1
    assert slot.sequence == 3
    slot.clear()
    assert slot.get_newer(0) is None and slot.peek() is None
    assert slot.put("d") == 4


def test_slot_wakes_who_waits() -> None:
    slot: LatestSlot[int] = LatestSlot()
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(slot.wait_newer(0, 20.0)))
    reader.start()
    slot.put(5)
    reader.join(20.0)
    assert got == [(1, 5)]
    assert slot.wait_newer(1, 0.001) is None


# ---------------------------------------------------------------------------------------------- worker


def test_worker_reports_failure_and_end() -> None:
    failures: list[tuple[str, BaseException]] = []
    ends: list[str] = []

    def fail(_stopping: threading.Event) -> None:
        raise SystemExit("even this")

    broken = Worker("broken", fail, lambda name, error: failures.append((name, error)), lambda: ends.append("broken"))
    sound = Worker("sound", lambda stopping: None, lambda *_: None, lambda: ends.append("sound"))
    waiting = Worker("waiting", lambda stopping: stopping.wait(60) and None, lambda *_: None)
    for worker in (broken, sound, waiting):
        assert worker.native_id is None
        worker.start()
    assert broken.join(20.0) and sound.join(20.0)
    assert not waiting.join(0.01) and waiting.alive
    assert waiting.stop(20.0) and not waiting.alive
    assert [(name, str(error)) for name, error in failures] == [("broken", "even this")]
    assert ends == ["sound"]


def test_worker_that_never_started_is_stopped() -> None:
    assert Worker("idle", lambda stopping: None, lambda *_: None).stop(0.0)


# ---------------------------------------------------------------------------------------------- fade


def test_a_camera_comes_and_goes_without_a_jump() -> None:
    fade, dark, bright = Fade(0.4), np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 200, np.uint8)
    both, alone = (False, False), (False, True)
    assert fade.lead_over(dark, both, 0) is dark
    steps = [int(fade.lead_over(bright, alone, round(at_s * 1e9))[0, 0, 0]) for at_s in (1.0, 1.1, 1.2, 1.3)]
    assert steps == [0, 50, 100, 150]
    back = fade.lead_over(dark, both, 1_350_000_000)  # from what is shown, not from what was to come
    assert int(back[0, 0, 0]) == 150
    assert fade.lead_over(dark, both, 1_750_000_000) is dark
    larger = np.zeros((8, 8, 3), np.uint8)
    assert fade.lead_over(larger, alone, 1_800_000_000) is larger  # of another size: at once


# ---------------------------------------------------------------------------------------------- engine builder


class Factory:
    """Makes engines as told: each entry is an error to raise, or a word for the engine's name."""

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.made: list[NamedEngine] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(
        self, name: str, preset: str, weights: Path | None, threads: int | None, *, video: VideoOptions
    ) -> object:
        self.gate.wait(30)
        step = self.script.pop(0) if self.script else name
        if isinstance(step, Exception):
            raise step
        self.made.append(NamedEngine(str(step)))
        return self.made[-1]


class NamedEngine(AverageEngine):
    def __init__(self, name: str) -> None:
        self.label, self.closed, self.warm = name, 0, []

    @property
    def name(self) -> str:
        return self.label

    def warm_up(self, height: int, width: int) -> None:
        self.warm.append((height, width))

    def close(self) -> None:
        self.closed += 1


def spec(name: str = "average") -> EngineSpec:
    return EngineSpec(name, "tiny", None, None, VideoOptions())


@pytest.fixture
def failures() -> list[object]:
    return []


def make_builder(factory: Factory, failures: list[object]) -> EngineBuilder:
    builder = EngineBuilder(factory, lambda name, error: failures.append((name, error)))
    builder.start()
    return builder


def result_of(builder: EngineBuilder) -> object:
    found: list[object] = []
    support.wait_until(lambda: found.append(builder.take()) or found[-1] is not None)
    return found[-1]


def test_builder_waits_for_the_size_and_warms_up(failures: list[object]) -> None:
    factory = Factory("one")
    builder = make_builder(factory, failures)
    builder.request(spec())
    support.wait_until(lambda: factory.made)
    assert builder.take() is None and builder.busy
    builder.set_size(10, 20)
    built = result_of(builder)
    assert isinstance(built, BuiltEngine) and built.engine.name == "one"
    assert factory.made[0].warm == [(10, 20)] and built.size == (10, 20)
    assert not builder.busy
    builder.request_stop()
    assert builder.join(20.0) and not failures
    assert factory.made[0].closed == 0  # it belongs to who took it


def test_builder_tells_what_is_being_built_and_for_how_long(failures: list[object]) -> None:
    factory = Factory("one")
    factory.gate.clear()
    builder = make_builder(factory, failures)
    assert builder.building is None
    builder.set_size(4, 4)
    builder.request(spec())
    support.wait_until(lambda: builder.building is not None)
    told = builder.building
    assert told is not None and told[0] == spec() and told[1] >= 0.0
    support.wait_until(lambda: builder.building is not None and builder.building[1] > told[1])
    factory.gate.set()
    assert isinstance(result_of(builder), BuiltEngine)
    assert builder.building is None
    builder.request_stop()
    assert builder.join(20.0) and not failures


def test_builder_closes_what_nobody_wants_any_more(failures: list[object]) -> None:
    factory = Factory("old", "new")
    factory.gate.clear()
    builder = make_builder(factory, failures)
    builder.set_size(4, 4)
    builder.request(spec())
    support.wait_until(lambda: builder.busy)
    builder.request(spec("edges"))
    factory.gate.set()
    built = result_of(builder)
    assert isinstance(built, BuiltEngine) and built.engine.name == factory.made[-1].name
    assert all(engine.closed for engine in factory.made[:-1])
    builder.request(spec())
    support.wait_until(lambda: not builder.busy)
    builder.request_stop()
    assert builder.join(20.0)
    assert factory.made[-1].closed == 1  # never taken


class CachedEngine(NamedEngine):
    """Warms up as an engine does that finds two parts missing in the cache."""

    kind = "openvino-estimate"

    def warm_up(self, height: int, width: int) -> None:
        super().warm_up(height, width)
        for _ in range(2):
            ahead = BEFORE_MAKING.get()
            assert ahead is not None
            ahead(self.kind)


def test_builder_has_the_network_converted_in_another_process_once(
    failures: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, seen = [], []

    def convert(*what: object, wanted: Callable[[], bool], progress: Callable[[float], None]) -> str:
        calls.append(what)
        progress(0.4)
        seen.append(builder.progress)
        return "no memory left"  # it is then converted here

    monkeypatch.setattr(engine_builder, "convert_in_child", convert)
    engine = CachedEngine("one")
    builder = make_builder(lambda *_, **__: engine, failures)
    builder.set_size(10, 20)
    builder.request(spec())
    assert isinstance(result_of(builder), BuiltEngine) and not failures
    assert calls == [("average", "tiny", None, None, VideoOptions(), (10, 20))] and seen == [0.4]
    assert builder.progress is None
    builder.request_stop()
    assert builder.join(20.0)


def test_builder_gives_up_a_conversion_that_nobody_wants(
    failures: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), []

    def convert(*_: object, wanted: Callable[[], bool], progress: object) -> str:
        began.set()
        support.wait_until(lambda: not wanted())
        ended.append("child")
        return ""

    monkeypatch.setattr(engine_builder, "convert_in_child", convert)
    old = CachedEngine("old")

    def auto() -> AutoEngine:
        return AutoEngine({"openvino": lambda: old, "torch": lambda: NamedEngine("slow")}, "weights of this test")

    engines = [auto(), NamedEngine("new")]
    builder = make_builder(lambda *_, **__: engines.pop(0), failures)
    builder.set_size(4, 4)
    builder.request(spec())
    assert began.wait(60.0)
    builder.request(spec("edges"))
    built = result_of(builder)
    assert isinstance(built, BuiltEngine) and built.engine.name == "new"
    assert ended == ["child"] and old.closed == 1 and not failures
    assert auto().name == "old"  # what was given up has not failed
    builder.request_stop()
    assert builder.join(20.0)


def test_what_tensorrt_cannot_build_in_a_child_is_not_built_beside_the_live_picture(
    failures: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def convert(*what: object, wanted: object, progress: object) -> str:
        calls.append(what)
        return "ended with code -11"

    monkeypatch.setattr(engine_builder, "convert_in_child", convert)
    engine = CachedEngine("gpu")
    engine.kind = "tensorrt-fuse"
    builder = make_builder(lambda *_, **__: engine, failures)
    builder.set_size(10, 20)
    builder.request(spec("auto"))
    failed = result_of(builder)
    assert isinstance(failed, BuildFailure) and isinstance(failed.error, EngineError)
    assert "could not build the network in a process of its own: ended with code -11" in str(failed.error)
    assert [call[0] for call in calls] == ["tensorrt"]  # of all that auto may be, this one
    builder.request_stop()
    assert builder.join(20.0)


def test_the_status_says_what_is_being_built_and_how_far_it_is() -> None:
    stats = Stats()
    context = PipelineContext(MonotonicClock(), stats, ProblemLog(), lambda *_: None)
    seat = EngineSeat(EngineConfig(), Factory(), context)  # type: ignore[arg-type]
    told = []
    for building, progress in (
        ((spec("aligned-pyramid"), 12.0), None),
        ((spec("auto"), 0.5), None),
        ((spec("auto"), 3.0), 0.4),
        ((spec("auto"), 31.0), None),
    ):
        seat._builder = SimpleNamespace(  # type: ignore[assignment]
            building=building, progress=progress, take=lambda: None, take_stand_in=lambda: None
        )
        seat.take_built()
        told.append(stats.snapshot().fallback_reason)
    assert told == [
        "aligned-pyramid is being built, 10 s so far",
        "auto:tiny is being built",
        "preparing auto:tiny, 40 %",
        "auto:tiny is being built, 30 s so far",
    ]


def test_builder_gives_back_what_a_closed_engine_held(failures: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(engine_builder, "return_free_memory", lambda: given.append(threading.current_thread().name))
    builder = make_builder(Factory(), failures)
    builder.tidy()
    support.wait_until(lambda: bool(given))
    builder.request_stop()
    assert builder.join(10.0)
    assert given == ["engine builder"]  # once, and not in the thread that fuses


def test_builder_tells_failures_and_retries_only_what_may_mend(failures: list[object]) -> None:
    builder = make_builder(Factory(CheckpointError("no weights"), EngineError("no driver")), failures)
    builder.set_size(4, 4)
    builder.request(spec())
    wrong = result_of(builder)
    assert isinstance(wrong, BuildFailure) and wrong.retry_s is None
    assert not builder.busy
    builder.request(spec())
    passing = result_of(builder)
    assert isinstance(passing, BuildFailure) and passing.retry_s == 5.0
    assert builder.busy  # the next attempt is due in five seconds
    builder.request_stop()
    assert builder.join(20.0) and not failures


def test_spec_is_shown_with_what_it_runs() -> None:
    assert spec().shown == "average"
    assert spec("auto").shown == "auto:tiny"
    assert EngineSpec("torch", "tiny", Path("a/mine.safetensors"), 1, VideoOptions()).shown == "torch:mine.safetensors"


# ---------------------------------------------------------------------------------------------- problems


def test_problem_log_is_bounded() -> None:
    log = ProblemLog()
    for number in range(150):
        log.add(Severity.WARNING, "visible", f"number {number}", "do this")
    recent = log.recent()
    assert len(recent) == 100
    assert recent[-1].text == "number 149" and recent[-1].advice == "do this"
    assert recent[0].when <= recent[-1].when


# ---------------------------------------------------------------------------------------------- snapshot


def fused(flags: FrameFlag = FrameFlag.NONE) -> FusedFrame:
    visible = Frame(Stream.VISIBLE, support.picture(Stream.VISIBLE, 1), 1, 2_000_000, TimestampSource.ARRIVAL)
    thermal = Frame(Stream.THERMAL, support.picture(Stream.THERMAL, 1), 1, 1_000_000, TimestampSource.KERNEL, flags)
    return FusedFrame(
        support.picture(Stream.VISIBLE, 9), FramePair(visible, thermal, flags), 1.5, "average", agc_limits=(1.0, 2.0)
    )


def test_snapshot_holds_the_moment_exactly(tmp_path: Path) -> None:
    frame = fused(FrameFlag.HELD | FrameFlag.FFC)
    bundle = save_snapshot(frame, tmp_path / "shots", {"calibration": "abc", "weights_sha256": None})
    again = save_snapshot(frame, tmp_path / "shots", {})
    assert bundle != again
    assert sorted(path.name for path in bundle.iterdir()) == [
        "fused.png",
        "snapshot.json",
        "thermal.tiff",
        "visible.png",
    ]
    assert [path.name for path in (tmp_path / "shots").iterdir() if path.name.startswith(".")] == []
    assert np.array_equal(cv2.imread(str(bundle / "fused.png"))[:, :, ::-1], frame.pixels)
    assert frame.pair.visible is not None and frame.pair.thermal is not None
    assert np.array_equal(cv2.imread(str(bundle / "visible.png"))[:, :, ::-1], frame.pair.visible.pixels)
    counts = tifffile.imread(bundle / "thermal.tiff")
    assert counts.dtype == np.uint16 and np.array_equal(counts, frame.pair.thermal.pixels)
    facts = json.loads((bundle / "snapshot.json").read_text())
    assert facts["skew_ms"] == 1.0 and facts["calibration"] == "abc" and facts["agc_limits_counts"] == [1.0, 2.0]
    assert facts["flags"] == ["ffc", "held"] and facts["thermal"]["ts_source"] == "kernel"


def test_snapshot_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="could not be written"):
        save_snapshot(fused(), tmp_path / "file", {})


# ---------------------------------------------------------------------------------------------- thermal grid


def test_plain_grid_copies_nothing_that_fits() -> None:
    grid = ThermalGrid(None)
    levels = np.zeros((4, 6), np.uint8)
    assert grid.to_visible(levels, 4, 6) is levels
    assert grid.to_visible(levels, 8, 12).shape == (8, 12)
    assert grid.identity is None and grid.baseline_m is None and grid.focal_px is None


# ---------------------------------------------------------------------------------------------- faults


def test_faulty_camera_obeys() -> None:
    camera = FaultyCamera(support.PatternCamera(Stream.THERMAL, fps=500), Stream.THERMAL)
    camera.open()
    first = camera.read(5.0)
    camera.freeze()
    held = camera.read(5.0)
    assert held.pixels is first.pixels and held.index == first.index + 1
    camera.mend()
    assert not np.array_equal(camera.read(5.0).pixels, first.pixels)
    camera.stall()
    with pytest.raises(CameraTimeout):
        camera.read(0.02)
    camera.unplug()
    with pytest.raises(CameraLost):
        camera.read(0.02)
    with pytest.raises(CameraLost):
        camera.open()
    camera.mend()
    camera.open()
    assert camera.info.model == "pattern"
    camera.close()


def test_faulty_cameras_need_a_pipeline_first() -> None:
    cameras = FaultyCameras(support.camera_factory())
    with pytest.raises(UsageError, match="no cameras yet"):
        cameras.camera(Stream.VISIBLE)
    pair = cameras(None, None)
    assert pair.visible is cameras.camera(Stream.VISIBLE)


def test_a_large_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.soak.faults._LARGEST_BALLAST", -1)
    with pytest.raises(UsageError, match="mount a small tmpfs"), full_disk(tmp_path):
        pass


# ------------------------------------------------------------------------------------------- monitor


def test_an_engine_that_is_stuck_is_told_once_and_so_is_its_recovery() -> None:
    problems = ProblemLog()
    fusion = SimpleNamespace(busy_since_ns=1_000_000_000)
    nothing = SimpleNamespace()
    context = SimpleNamespace(stats=nothing, problems=problems, clock=nothing)
    monitor = Monitor(nothing, fusion, nothing, context, 8)  # type: ignore[arg-type]
    told = []
    for now_s, busy in ((3, True), (7, True), (9, True), (10, False), (11, False)):
        fusion.busy_since_ns = 1_000_000_000 if busy else None
        monitor._watch_fusion(now_s * 1_000_000_000)
        told.append([problem.severity for problem in problems.recent()])
    error, info = Severity.ERROR, Severity.INFO
    assert told == [[], [error], [error], [error, info], [error, info]]


def test_a_recording_that_goes_on_after_a_full_disk_says_so_even_if_the_disk_is_nearly_full() -> None:
    problems = ProblemLog()
    report = RecorderReport(Stats(), problems, 8)
    waits, nearly = RecordingState.PAUSED, RecordingState.RECORDING
    for state, reason in ((waits, "no space left"), (nearly, "the disk is full in 9 min"), (waits, "no space left")):
        report.show(RecordingStatus(state, reason, recording=True))
        report.show(RecordingStatus(state, reason.replace("9", "8"), recording=True))
    told = [problem.text for problem in problems.recent()]
    assert told[1] == "there is space again, the recording goes on" and told[2] == "the disk is full in 9 min"
    assert len(told) == 4
