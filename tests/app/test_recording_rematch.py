"""Raw frames of a recording are paired by the live code, and fused pictures find their pair."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import recording as support
from support.live import wait_until

from app.recording import matroska_writer
from app.recording.config import RecordingConfig, TrackName
from app.recording.rematch import rematch
from app.recording.sidecar import FrameLine, HeaderLine, RawLine, Ref, SourceRef
from app.recording.video_scan import scan_video
from app.recording.writing.recorder import Recorder
from app.recording.writing.rounds import Rounds
from fusion_core.errors import LumithermError
from fusion_core.frames import FrameFlag

MS = 1_000_000
PERIOD = support.PERIOD_NS


def raw(track: TrackName, index: int, t_ns: int, flags: FrameFlag = FrameFlag.NONE) -> RawLine:
    return RawLine(track, index, t_ns, "kernel", int(flags), Ref(index, t_ns // MS))


def streams(visible_ns: list[int], thermal_ns: list[int]) -> list[RawLine]:
    lines = [raw(TrackName.VISIBLE, i, t) for i, t in enumerate(visible_ns)]
    return lines + [raw(TrackName.THERMAL, i, t) for i, t in enumerate(thermal_ns)]


def fused(visible: RawLine | None, thermal: RawLine | None, k: int, flags: FrameFlag = FrameFlag.NONE) -> FrameLine:
    sources = [None if line is None else SourceRef(line.i, line.t_ns, line.src) for line in (visible, thermal)]
    t_ns = (thermal or visible).t_ns  # type: ignore[union-attr]
    return FrameLine(
        n=k, t_ns=t_ns, fused=Ref(k, t_ns // MS), visible=sources[0], thermal=sources[1], flags=int(flags),
        engine="average", calibration="rig-7",
    )  # fmt: skip


def indices(lines: list[FrameLine]) -> list[tuple[int | None, int | None]]:
    return [tuple(None if s is None else s.i for s in (line.visible, line.thermal)) for line in lines]  # type: ignore[misc]


@settings(max_examples=60, deadline=None)
@given(
    jitter_ms=st.floats(0, 8),
    offset_ms=st.floats(-12, 12),
    seed=st.integers(0, 2**31),
    every=st.integers(1, 7),
)
def test_each_thermal_frame_has_its_nearest_visible_one_whatever_was_fused(
    jitter_ms: float, offset_ms: float, seed: int, every: int
) -> None:
    rng = np.random.default_rng(seed)
    stamps = [
        [round(1e9 + k * PERIOD + o * 1e6 + rng.uniform(-1, 1) * jitter_ms * 5e5) for k in range(90)]
        for o in (offset_ms, 0)
    ]
    raws = streams(*stamps)
    visible, thermal = raws[:90], raws[90:]
    made = [fused(visible[i], thermal[i], n) for n, i in enumerate(range(2, 88, every))]
    lines = rematch([*raws, *made], None)
    with_thermal = [line for line in lines if line.thermal is not None]
    assert {line.thermal.i for line in with_thermal} >= set(range(1, 89))
    for line in with_thermal:
        if 1 <= line.thermal.i < 89 and line.visible is not None and not line.flags & FrameFlag.HELD:
            assert abs(line.visible.t_ns - line.thermal.t_ns) <= PERIOD / 2 + (jitter_ms + 12) * 1e6
    shown = [line.fused.k for line in lines if line.fused is not None]
    assert sorted(shown) == list(range(len(made)))  # each fused picture once
    for line in lines:
        if line.fused is not None:
            assert line.thermal.i == made[line.fused.k].thermal.i
    assert [line.t_ns for line in lines] == sorted(line.t_ns for line in lines)
    assert [line.n for line in lines] == list(range(len(lines)))
    assert all(line.calibration == "rig-7" for line in lines[5:])


def test_a_lost_camera_leaves_the_other_one_alone_as_it_does_live() -> None:
    times = [round(1e9 + k * PERIOD) for k in range(240)]
    lines = rematch(streams([t for k, t in enumerate(times) if not 60 <= k < 180], times), None)
    alone = [line for line in lines if line.visible is None]
    assert 60 < len(alone) < 120 and all(line.flags & FrameFlag.THERMAL_ONLY for line in alone)
    paired = [line.thermal.i for line in lines if line.thermal is not None and not line.flags & FrameFlag.HELD]
    assert paired == sorted(set(paired)) and len(paired) >= 234  # a few while nobody knows yet that it is away


def test_the_shutters_pictures_are_replaced_as_live_and_the_raw_ones_are_not_lost() -> None:
    times = [round(1e9 + k * PERIOD) for k in range(60)]
    raws = streams(times, times)
    raws = [
        raw(line.track, line.i, line.t_ns, FrameFlag.FFC)
        if line.track is TrackName.THERMAL and 20 <= line.i < 30
        else line
        for line in raws
    ]
    lines = rematch(raws, None)
    assert indices(lines)[18:32] == [(18, 18), (19, 19), *((k, 19) for k in range(20, 30)), (30, 30), (31, 31)]
    assert all(line.flags & FrameFlag.HELD and line.flags & FrameFlag.FFC for line in lines[20:30])
    assert [line.thermal.at.new for line in lines[18:22]] == [True, True, False, False]


def test_a_fused_picture_of_other_frames_keeps_a_line_of_its_own() -> None:
    times = [round(1e9 + k * PERIOD) for k in range(20)]
    raws = streams(times, times)
    visible, thermal = raws[:20], raws[20:]
    odd = fused(visible[9], thermal[7], 0, FrameFlag.HELD)
    both = [fused(visible[9], thermal[9], 1), odd]
    lines = rematch([*raws, *both], None)
    assert len(lines) == 21 and sorted(line.fused.k for line in lines if line.fused is not None) == [0, 1]
    own = next(line for line in lines if line.fused is not None and line.fused.k == 0)
    assert (own.visible.i, own.thermal.i, own.visible.at.k, own.thermal.at.k) == (9, 7, 9, 7)


def test_the_recordings_own_settings_decide_how_it_is_paired() -> None:
    times = [round(1e9 + k * PERIOD) for k in range(30)]
    slow = times[::3]
    header = HeaderLine(2, "r", 0, 0, "", 0, [], config={"app": {"sync": {"output_rate": "visible"}}})
    pairs, every = rematch(streams(times, slow), None), rematch(streams(times, slow), header)
    assert sum(not line.flags & FrameFlag.HELD for line in pairs) == 10 and len(pairs) <= 11
    assert 28 <= len(every) <= 30 and sum(bool(line.flags & FrameFlag.HELD) for line in every) >= 18


def test_one_track_alone_gives_its_pictures_one_by_one() -> None:
    lines = rematch([raw(TrackName.THERMAL, k, 10**9 + k * PERIOD) for k in range(9)], None)
    assert indices(lines) == [(None, k) for k in range(9)]
    assert rematch([], None) == []


@pytest.mark.parametrize("thermal_hz", [9.0, 25.0, 30.0])
def test_a_round_begins_between_two_pairs_not_within_one(thermal_hz: float) -> None:
    """So that a split puts both frames of a pair into the same file."""
    rng = np.random.default_rng(5)
    arrivals = sorted(
        [(10**9 + k * PERIOD + 4 * MS + round(rng.uniform(-3, 3) * MS), TrackName.VISIBLE) for k in range(300)]
        + [(10**9 + round(k * 1e9 / thermal_hz), TrackName.THERMAL) for k in range(round(10 * thermal_hz))]
    )
    rounds, placed = Rounds(1.0), {name: {} for name in TrackName}  # type: tuple[Rounds, dict[TrackName, dict[int, int]]]
    keys: dict[TrackName, list[int]] = {name: [] for name in TrackName}
    for t_ns, track in arrivals:
        place, fresh = rounds.place(track, t_ns)
        placed[track][t_ns] = place.number
        keys[track] += [t_ns] if fresh else []
    assert rounds.newest >= 9
    for track in (TrackName.VISIBLE, TrackName.THERMAL):
        assert max(np.diff(keys[track])) <= 1.0e9  # gop_s
    visible = sorted(placed[TrackName.VISIBLE])
    apart = 0
    for t_ns, number in placed[TrackName.THERMAL].items():
        nearest = min(visible, key=lambda v: abs(v - t_ns))
        apart += placed[TrackName.VISIBLE][nearest] != number
    assert apart <= 1  # the first round begins with whatever comes first


def test_the_newest_pictures_are_written_whether_or_not_another_follows(tmp_path: Path) -> None:
    """A camera that gives one picture and then nothing: half a second later a kill loses nothing."""
    recorder = Recorder(RecordingConfig(directory=tmp_path, reserve_mb=1))
    recorder.start()
    for index in range(3):
        support.feed(recorder, support.frame_at(index))
    wait_until(lambda: recorder.status.frames.get("thermal") == 3 and recorder.status.frames.get("fused") == 3)
    written = time.monotonic()

    def on_disk() -> bool:
        try:
            (video,) = tmp_path.glob("*.mkv")
            return all(len(track.ms) == 3 for track in scan_video(video).tracks.values())
        except (LumithermError, ValueError):
            return False

    wait_until(on_disk, 20)
    assert time.monotonic() - written < 0.5 + 0.5  # the second half is for a busy machine
    recorder.close()


def test_sync_syncs_what_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync = matroska_writer.DiskFile.sync

    def noted(self: matroska_writer.DiskFile) -> None:
        sync(self)
        if self.path.suffix == ".mkv":
            synced.append(self.path.stat().st_size)

    monkeypatch.setattr(matroska_writer.DiskFile, "sync", noted)
    config = RecordingConfig(directory=tmp_path, reserve_mb=1, cluster_ms=1000, sync_s=0.5)
    recorder = Recorder(config)
    recorder.start()
    support.feed(recorder, support.frame_at(0))
    wait_until(lambda: len(synced) >= 3)
    (video,) = tmp_path.glob("*.mkv")
    part = tmp_path / "part.mkv"
    part.write_bytes(video.read_bytes()[: synced[2]])
    assert {len(track.ms) for track in scan_video(part).tracks.values()} == {1}
    recorder.close()
