"""The recorder from the outside: what goes in comes back, at the right time, in the right file."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError
from support import recording as support
from support.live import wait_until

from app.recording.config import RecordingConfig, TrackName
from app.recording.encoders import EncodedPacket, EncoderChoice, TrackEncoder, candidates, probe
from app.recording.reader import RecordingReader
from app.recording.segments import list_recordings
from app.recording.self_check import check_recording
from app.recording.sidecar import EventLine, GapLine, read_sidecar, sidecar_path
from app.recording.writing import encoder_bank, load
from app.recording.writing.load import LoadStep
from app.recording.writing.recorder import Recorder
from app.recording.writing.status import RecordingState, RecordingStatus
from fusion_core.errors import RecordingError
from fusion_core.frames import FrameFlag

SECOND = 1_000_000_000


def settings(folder: Path, **changes: object) -> RecordingConfig:
    return RecordingConfig(**{"directory": folder, "reserve_mb": 1, **changes})


def record(recorder: Recorder, frames: object) -> None:
    for frame in frames:
        support.feed(recorder, frame)


def recorded_indices(videos: list[Path]) -> list[int]:
    found: list[int] = []
    for video in videos:
        with RecordingReader(video) as reader:
            found += [pair.thermal.index for pair in reader if pair.thermal is not None]
    return found


def test_every_pair_comes_back_with_exact_stamps_and_lossless_thermal(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.describe(calibration="rig-7", offsets_ns={"visible": -1_500_000}, drops={"skew": 3})
    assert not recorder.offer(support.frame_at(0))  # nobody asked for a recording yet
    recorder.start("bench test")
    record(recorder, (support.frame_at(i) for i in range(45)))
    summary = recorder.stop(20)
    recorder.close()
    assert summary.frames == {"fused": 45, "visible": 45, "thermal": 45}
    assert summary.problems == () and summary.refused == {} and all(check.complete for check in summary.checks)
    (video,) = list_recordings(tmp_path)
    assert video.stem.endswith("-bench_test")
    assert "Self-check: sound." in video.with_suffix(".md").read_text()
    with RecordingReader(video) as reader:
        assert len(reader) == 45 and reader.info.closed_in_order and reader.info.metadata == "sidecar"
        for index, pair in enumerate(reader):
            original = support.frame_at(index)
            for got, want in ((pair.visible, original.pair.visible), (pair.thermal, original.pair.thermal)):
                assert got is not None and want is not None
                assert (got.timestamp_ns, got.index, got.ts_source) == (want.timestamp_ns, want.index, want.ts_source)
            assert pair.thermal.pixels.dtype == np.uint16
            assert np.array_equal(pair.thermal.pixels, original.pair.thermal.pixels)
            assert np.abs(pair.visible.pixels.astype(int) - original.pair.visible.pixels).mean() < 6
            assert pair.skew_ns == original.pair.skew_ns
        line = reader.line(20)
        assert line.calibration == "rig-7" and line.offsets_ns == {"visible": -1_500_000} and line.drops == {"skew": 3}
        assert line.agc == (100.0, 900.5) and line.engine == "average"
        # Any order of access gives the same picture.
        for index in (44, 0, 31, 30, 7):
            assert np.array_equal(reader.pair(index).thermal.pixels, support.thermal_pixels(index))
            fused = reader.fused_frame(index)
            assert fused is not None and fused.fused_ns == support.frame_at(index).fused_ns
        assert reader.index_at(0.0) == 0 and reader.index_at(1.0) == 30 and reader.index_at(99.0) == 44


def test_the_threads_end_with_the_recorder(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    record(recorder, (support.frame_at(i) for i in range(5)))
    recorder.close()
    names = {thread.name for thread in threading.enumerate()}
    assert not any(name == "recorder" or name.startswith("encode-") for name in names)
    with pytest.raises(RecordingError, match="closed"):
        recorder.start()


def test_colours_survive_and_the_file_says_bt709(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path, tracks=("fused",), quality=4))
    recorder.start()
    patches = np.zeros((96, 128, 3), np.uint8)
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    for number, colour in enumerate(colours):
        patches[:, number * 20 : number * 20 + 20] = colour
    for index in range(3):
        frame = support.frame_at(index)
        support.feed(recorder, type(frame)(patches.copy(), frame.pair, 1.0, "average"))
    recorder.stop(20)
    recorder.close()
    (video,) = list_recordings(tmp_path)
    with RecordingReader(video) as reader:
        got = reader.fused(2)
        assert got is not None
        for number, colour in enumerate(colours):
            middle = got[20:76, number * 20 + 8 : number * 20 + 12].reshape(-1, 3).astype(int)
            assert np.abs(middle.mean(axis=0) - colour).max() < 5
    with av.open(str(video)) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.colorspace), int(context.color_primaries), int(context.color_range)) == (1, 1, 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_odd_sizes_and_8_bit_cameras_are_kept_exactly(tmp_path: Path, bits: int) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    frames = [support.frame_at(i, size=(61, 83), thermal_bits=bits) for i in range(6)]
    record(recorder, frames)
    recorder.stop(20)
    recorder.close()
    (video,) = list_recordings(tmp_path)
    with RecordingReader(video) as reader:
        for index, pair in enumerate(reader):
            want = frames[index].pair.thermal.pixels
            assert pair.thermal.pixels.dtype == want.dtype and np.array_equal(pair.thermal.pixels, want)
            assert pair.visible.pixels.shape == (61, 83, 3)


@pytest.mark.parametrize("fps", [9.0, 15.0, 25.0, 30.0])
@pytest.mark.parametrize("jitter_ms", [0.0, 8.0])
def test_playback_lasts_as_long_as_the_recording(tmp_path: Path, fps: float, jitter_ms: float) -> None:
    rng = np.random.default_rng(1)
    period = 1e9 / fps
    stamps = [round(i * period + rng.uniform(-1, 1) * jitter_ms * 1e6) + SECOND for i in range(round(2 * fps))]
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    record(recorder, (support.pair_at(i, i, t_ns) for i, t_ns in enumerate(stamps)))
    recorder.stop(20)
    recorder.close()
    (video,) = list_recordings(tmp_path)
    wall_s = (stamps[-1] - stamps[0]) / 1e9 + 1 / fps
    with av.open(str(video)) as container:
        assert container.duration is not None
        assert abs(container.duration / 1e6 - wall_s) <= 1 / fps
        shown = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert np.allclose(np.diff(shown), np.diff(stamps) / 1e9, atol=0.0015)


def test_an_outage_keeps_its_length_and_is_marked(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    start = SECOND
    record(recorder, (support.frame_at(i, start) for i in range(20)))
    record(recorder, (support.pair_at(i, None, start + i * support.PERIOD_NS) for i in range(20, 170)))
    record(recorder, (support.frame_at(i, start) for i in range(170, 190)))
    recorder.stop(20)
    recorder.close()
    (video,) = list_recordings(tmp_path)
    content = read_sidecar(sidecar_path(video))
    gaps = [mark for mark in content.others if isinstance(mark, GapLine)]
    assert [(gap.cause, gap.track) for gap in gaps] == [("outage", "thermal")]
    assert abs((gaps[0].to_ns - gaps[0].from_ns) / 1e9 - 151 / 30) < 0.001
    with RecordingReader(video) as reader:
        assert abs(reader.info.duration_s - 189 / 30) < 0.04
        assert reader.pair(100).thermal is None and FrameFlag.VISIBLE_ONLY in reader.pair(100).flags
        assert np.array_equal(reader.pair(180).thermal.pixels, support.thermal_pixels(180))


def test_held_thermal_and_reused_visible_frames_are_stored_once(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    frames = []
    for index in range(60):  # 30 Hz output, 10 Hz thermal: each thermal frame serves three pairs
        held = index - index % 3
        frames.append(
            support.pair_at(
                index, held, SECOND + index * support.PERIOD_NS, thermal_t_ns=SECOND + held * support.PERIOD_NS
            )
        )
    record(recorder, frames)
    summary = recorder.stop(20)
    recorder.close()
    assert summary.frames == {"fused": 60, "visible": 60, "thermal": 20} and summary.problems == ()
    (video,) = list_recordings(tmp_path)
    with RecordingReader(video) as reader:
        for index, pair in enumerate(reader):
            assert pair.thermal.index == index - index % 3
            assert np.array_equal(pair.thermal.pixels, support.thermal_pixels(pair.thermal.index))


@pytest.mark.parametrize("limits", [{"split_s": 2.0}, {"split_s": 0, "split_mb": 0.8}])
def test_a_split_loses_and_doubles_nothing(tmp_path: Path, limits: dict[str, float]) -> None:
    recorder = Recorder(settings(tmp_path, **limits))
    recorder.start()
    record(recorder, (support.frame_at(i) for i in range(200)))
    summary = recorder.stop(30)
    recorder.close()
    videos = list_recordings(tmp_path)
    assert len(videos) >= 3 and [info.path for info in summary.segments] == videos
    assert summary.problems == ()
    assert recorded_indices(videos) == list(range(200))
    headers = [read_sidecar(sidecar_path(video)).header for video in videos]
    assert [header.segment for header in headers] == list(range(len(videos)))
    assert {header.recording for header in headers} == {videos[0].stem}
    assert [header.reason for header in headers] == ["start"] + ["split"] * (len(videos) - 1)


def test_names_stay_in_order_when_the_wall_clock_jumps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(100, -1)
    monkeypatch.setattr("app.recording.writing.recorder_loop.time.time_ns", lambda: next(hours) * 3600 * SECOND)
    for number in range(3):
        recorder = Recorder(settings(tmp_path))
        recorder.start()
        record(recorder, [support.frame_at(number)])
        recorder.stop(20)
        recorder.close()
    assert recorded_indices(sorted(tmp_path.glob("*.mkv"))) == [0, 1, 2]


def test_a_new_size_and_a_new_track_begin_a_new_file(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    record(recorder, (support.pair_at(i, None, SECOND + i * support.PERIOD_NS) for i in range(10)))
    wait_until(lambda: recorder.status.frames == {"fused": 10, "visible": 10})
    record(recorder, (support.frame_at(i) for i in range(10, 20)))
    wait_until(lambda: recorder.status.frames == {"fused": 20, "visible": 20, "thermal": 10})
    record(recorder, (support.frame_at(i, size=(60, 80)) for i in range(20, 30)))
    summary = recorder.stop(20)
    recorder.close()
    assert summary.problems == () and summary.frames == {"fused": 30, "visible": 30, "thermal": 20}
    with RecordingReader(summary.segments[0].path) as reader:
        assert [pair.visible.index for pair in reader] == list(range(10)) and TrackName.THERMAL not in reader.tracks
    # Each camera begins a file with its new size, when its first picture of that size comes.
    assert 3 <= len(summary.segments) <= 5
    assert recorded_indices([info.path for info in summary.segments]) == list(range(10, 30))


def test_stamps_that_fall_back_begin_a_new_file(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    record(recorder, (support.frame_at(i, 100 * SECOND) for i in range(10)))
    record(recorder, (support.frame_at(i, 50 * SECOND) for i in range(10)))
    summary = recorder.stop(20)
    recorder.close()
    assert [info.frames for info in summary.segments] == 2 * [dict.fromkeys(TrackName, 10)] and summary.problems == ()
    for info in summary.segments:
        with RecordingReader(info.path) as reader:
            assert 0.298 < reader.info.duration_s < 0.305  # the cameras are 3 ms apart, and either may come first


def test_one_recorder_makes_several_recordings_and_can_start_by_itself(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path, autostart=True))
    recorder.tick()
    record(recorder, (support.frame_at(i) for i in range(5)))
    assert recorder.stop(20).frames["fused"] == 5
    assert not recorder.offer(support.frame_at(5))
    recorder.start("again")
    recorder.start("no effect")
    record(recorder, (support.frame_at(i) for i in range(6, 9)))
    recorder.mark("bell")
    assert recorder.stop(20).frames["fused"] == 3
    assert recorder.stop(20) is None
    recorder.close()
    recorder.close()
    videos = list_recordings(tmp_path)
    assert recorded_indices(videos) == [0, 1, 2, 3, 4, 6, 7, 8] and videos[1].stem.endswith("-again")


def test_the_pre_event_buffer_reaches_back_and_keeps_to_its_memory(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path, pre_event_s=3))
    assert recorder.status.state is RecordingState.OFF
    recorder.tick()
    assert recorder.status.state is RecordingState.BUFFERING
    record(recorder, (support.frame_at(i) for i in range(300)))
    wait_until(lambda: recorder.status.queue_depth == 0)
    assert not list(tmp_path.glob("*.mkv"))
    status = recorder.status
    assert not status.recording and 0 < status.pre_event_bytes < 512e6
    recorder.mark("door")
    record(recorder, (support.frame_at(i) for i in range(300, 330)))
    summary = recorder.stop(20)
    recorder.close()
    (info,) = summary.segments
    indices = recorded_indices([info.path])
    assert indices == list(range(indices[0], 330)) and summary.problems == ()
    assert 3.0 <= (300 - indices[0]) / 30 <= 4.1  # exact to the key-frame interval
    content = read_sidecar(sidecar_path(info.path))
    assert content.header.reason == "event" and content.header.label == "door"
    assert [mark.label for mark in content.others if isinstance(mark, EventLine)] == ["door"]
    assert info.path.with_suffix(".keep").exists()


def test_a_small_pre_event_budget_shortens_the_buffer(tmp_path: Path) -> None:
    recorder = Recorder(settings(tmp_path, pre_event_s=120, pre_event_max_mb=8, tracks=("thermal",)))
    recorder.tick()
    record(recorder, (support.frame_at(i, size=(240, 320)) for i in range(150)))
    wait_until(lambda: recorder.status.queue_depth == 0)
    status = recorder.status
    assert 0 < status.pre_event_bytes <= 8e6 and status.pre_event_seconds < 4.9
    recorder.close()


def test_an_event_recording_ends_by_itself(tmp_path: Path) -> None:
    now = [10 * SECOND]
    states: list[RecordingStatus] = []
    recorder = Recorder(settings(tmp_path, pre_event_s=1, post_event_s=2), lambda: now[0], support.Listener(states))
    recorder.tick()
    record(recorder, (support.frame_at(i, 10 * SECOND) for i in range(40)))
    now[0] = 12 * SECOND
    recorder.mark("alarm")
    record(recorder, (support.frame_at(i, 10 * SECOND) for i in range(40, 80)))
    assert recorder.status.recording
    now[0] = 15 * SECOND
    wait_until(lambda: not recorder.status.recording)
    wait_until(lambda: list(tmp_path.glob("*.md")) != [])
    recorder.close()
    assert RecordingState.RECORDING in {status.state for status in states}
    (video,) = list_recordings(tmp_path)
    assert check_recording(video).problems == ()


@pytest.mark.parametrize("hung", list(TrackName))
def test_a_hung_encoder_costs_its_own_track_alone_and_the_gap_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hung: TrackName
) -> None:
    gate = threading.Event()
    encode = TrackEncoder.encode

    def slow(self: TrackEncoder, pixels: np.ndarray, t_ns: int, key: bool) -> EncodedPacket:
        if t_ns > SECOND and self.params.track is hung:
            gate.wait(60)
        return encode(self, pixels, t_ns, key)

    monkeypatch.setattr(TrackEncoder, "encode", slow)
    monkeypatch.setattr(load, "_PATIENCE_S", 60.0)  # this is about queues; what is left out under load is another test
    recorder = Recorder(settings(tmp_path, queue_frames=8))
    recorder.start()
    taken: dict[TrackName, list[bool]] = {name: [] for name in TrackName}
    for index in range(60):
        frame = support.frame_at(index)
        for name, picture in zip(TrackName, (frame, frame.pair.visible, frame.pair.thermal), strict=True):
            wait_until(lambda name=name: name is hung or recorder.has_room(name))
            began = time.monotonic()
            taken[name].append(recorder.offer(picture))
            assert time.monotonic() - began < 15  # it never waited for the encoder
    gate.set()
    wait_until(lambda: recorder.status.queue_depth == 0)
    record(recorder, [support.frame_at(60)])
    summary = recorder.stop(20)
    recorder.close()
    refused = taken[hung].count(False)
    assert refused > 0 and summary.refused == {str(hung): refused} and summary.problems == ()
    assert summary.frames == {name: 61 - (refused if name is hung else 0) for name in TrackName}
    (video,) = list_recordings(tmp_path)
    gaps = [m for m in read_sidecar(sidecar_path(video)).others if isinstance(m, GapLine) and m.cause == "refused"]
    assert sum(gap.frames for gap in gaps) == refused and {gap.track for gap in gaps} == {str(hung)}


def test_raw_frames_are_recorded_whole_whatever_fusion_does(tmp_path: Path) -> None:
    """Fusion takes every third pair, late and with a pause; of the recording each pair can be had."""
    recorder = Recorder(settings(tmp_path))
    recorder.patient = True
    recorder.start()
    late: list[object] = []
    for index in range(90):
        frame = support.frame_at(index)
        for picture in (frame.pair.visible, frame.pair.thermal):
            wait_until(lambda picture=picture: recorder.has_room(TrackName(picture.stream.value)))
            assert recorder.offer(picture)
        if index % 3 == 0 and not 30 <= index < 60:
            late.append(frame)
        if len(late) > 4 or (index == 89 and late):
            wait_until(lambda: recorder.has_room(TrackName.FUSED))
            assert recorder.offer(late.pop(0))
    summary = recorder.stop(20)
    recorder.close()
    assert summary.problems == () and summary.frames["visible"] == summary.frames["thermal"] == 90
    (video,) = list_recordings(tmp_path)
    with RecordingReader(video) as reader:
        assert [(pair.visible.index, pair.thermal.index) for pair in reader] == [(i, i) for i in range(90)]
        fused = [index for index in range(len(reader)) if reader.line(index).fused is not None]
        assert fused == [i for i in range(0, 90, 3) if not 30 <= i < 60][: summary.frames["fused"]]
        for index in fused:  # with the pair that it was made of
            want = support.frame_at(index)
            assert reader.line(index).fused_ns == want.fused_ns
            assert np.abs(reader.fused(index).astype(int) - want.pixels).mean() < 6


def test_under_load_the_fused_track_goes_first_then_visibles_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = threading.Event()
    heavy.set()
    encode = TrackEncoder.encode

    def slow(self: TrackEncoder, pixels: np.ndarray, t_ns: int, key: bool) -> EncodedPacket:
        if heavy.is_set():
            time.sleep(0.02)
        return encode(self, pixels, t_ns, key)

    monkeypatch.setattr(TrackEncoder, "encode", slow)
    for name, value in (("_PATIENCE_S", 0.05), ("_SETTLE_S", 0.2), ("_CALM_S", 0.3)):
        monkeypatch.setattr(load, name, value)
    states: list[RecordingStatus] = []
    recorder = Recorder(settings(tmp_path, queue_frames=32), listener=support.Listener(states))
    recorder.start()
    index, end_s = 0, time.monotonic() + 60
    steps: list[LoadStep] = []
    while time.monotonic() < end_s and not (len(steps) > 3 and steps[-1] is LoadStep.FULL):
        status = recorder.status
        if not steps or steps[-1] is not status.step:
            steps.append(status.step)
        if status.step is LoadStep.VISIBLE_REDUCED:
            heavy.clear()
        if heavy.is_set() and status.queue_depth > 24:
            time.sleep(0.005)
            continue
        frame = support.frame_at(index)
        for picture in (frame.pair.visible, frame.pair.thermal, frame):
            recorder.offer(picture)
        index += 1
        time.sleep(0.005 if heavy.is_set() else 0.03)
    left_out = recorder.status.left_out
    summary = recorder.stop(30)
    recorder.close()
    assert steps[:3] == [LoadStep.FULL, LoadStep.WITHOUT_FUSED, LoadStep.VISIBLE_REDUCED] and steps[-1] is LoadStep.FULL
    assert summary.refused == {} and summary.problems == () and summary.left_out == left_out > 0
    assert summary.frames == {"fused": index - left_out, "visible": index, "thermal": index}
    reasons = {status.reason for status in states}
    assert {LoadStep.WITHOUT_FUSED.reason, LoadStep.VISIBLE_REDUCED.reason} <= reasons
    gaps = [
        mark
        for info in summary.segments
        for mark in read_sidecar(sidecar_path(info.path)).others
        if isinstance(mark, GapLine) and mark.cause == "load"
    ]
    assert sum(gap.frames for gap in gaps) == left_out and {gap.track for gap in gaps} == {"fused"}


@pytest.mark.parametrize("how", ["error", "stall"])
def test_a_failing_hardware_encoder_is_replaced_without_losing_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    good = encoder_bank.candidates
    hang = threading.Event()

    def with_fake_hardware(config: RecordingConfig, track: TrackName, dtype: np.dtype) -> tuple[EncoderChoice, ...]:
        choices = tuple(c for c in good(config, track, dtype) if c.family in ("software", "lossless"))
        if track is not TrackName.FUSED:
            return choices
        return (dataclasses.replace(choices[0], family="nvenc"), *choices)

    encode = TrackEncoder.encode

    def failing(self: TrackEncoder, pixels: np.ndarray, t_ns: int, key: bool) -> EncodedPacket:
        if self.choice.family == "nvenc" and t_ns > SECOND + 30 * support.PERIOD_NS:
            if how == "error":
                raise RecordingError("the card has gone")
            hang.wait(30)
        return encode(self, pixels, t_ns, key)

    monkeypatch.setattr(encoder_bank, "candidates", with_fake_hardware)
    monkeypatch.setattr(TrackEncoder, "encode", failing)
    states: list[RecordingStatus] = []
    recorder = Recorder(settings(tmp_path, encoder_stall_s=0.3), listener=support.Listener(states))
    recorder.start()
    record(recorder, (support.frame_at(i) for i in range(60)))
    summary = recorder.stop(20)
    hang.set()
    recorder.close()
    assert summary.frames == {"fused": 60, "visible": 60, "thermal": 60} and summary.problems == ()
    assert recorded_indices([info.path for info in summary.segments]) == list(range(60))
    degraded = [status for status in states if status.state is RecordingState.RECORDING and status.reason]
    assert degraded and "another encoder" in degraded[0].reason


def test_a_track_without_any_encoder_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = encoder_bank.candidates
    monkeypatch.setattr(
        encoder_bank, "candidates", lambda c, track, d: () if track is TrackName.VISIBLE else good(c, track, d)
    )
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    record(recorder, (support.frame_at(i) for i in range(10)))
    summary = recorder.stop(20)
    assert summary.frames == {"fused": 10, "thermal": 10} and summary.problems == ()
    recorder.close()


def test_an_error_inside_reaches_whoever_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    states: list[RecordingStatus] = []
    recorder = Recorder(settings(tmp_path), listener=support.Listener(states))
    monkeypatch.setattr("app.recording.writing.recorder_loop.Segment.write", broken)
    recorder.start()
    recorder.offer(support.frame_at(0))
    wait_until(lambda: states and states[-1].state is RecordingState.FAILED)
    assert "a bug" in recorder.status.reason
    assert not recorder.offer(support.frame_at(1)) and recorder.status.refused == {"fused": 1}
    with pytest.raises(RecordingError, match="a bug") as caught:
        recorder.stop(5)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    recorder.close()


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder(settings(tmp_path / "file" / "recordings"))
    with pytest.raises(RecordingError, match=r"recording\.directory"):
        recorder.start()


def test_software_encodes_here_and_every_other_encoder_says_why_not(tmp_path: Path) -> None:
    results = {}
    for choice in candidates(settings(tmp_path), TrackName.FUSED, np.dtype(np.uint8)):
        try:
            probe(choice, TrackName.FUSED, (480, 640, 3), 1.0)
            results[choice.name] = ""
        except RecordingError as error:
            results[choice.name] = str(error)
    assert results["libx264"] == ""
    assert all(name in reason for name, reason in results.items() if reason)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tracks": ("fused", "fused")}, "names a track twice"),
        ({"tracks": ("thermal",), "disk_policy": "fused_only"}, "does not contain fused"),
        ({"pre_event_s": 121}, "less than or equal to 120"),
        ({"gop": 1}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RecordingConfig(**change)
