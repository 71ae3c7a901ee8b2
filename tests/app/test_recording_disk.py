"""A disk that fills up, comes back, or swallows what is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import recording as support
from support.live import wait_until

from app.recording.config import RecordingConfig
from app.recording.reader import RecordingReader
from app.recording.recover import recover
from app.recording.segments import list_recordings, protect
from app.recording.self_check import check_recording
from app.recording.sidecar import GapLine, read_sidecar, sidecar_path
from app.recording.writing import disk as disk_module
from app.recording.writing.disk import DiskGuard, DiskLevel
from app.recording.writing.recorder import Recorder
from app.recording.writing.status import RecordingState, RecordingStatus
from benchmarks.soak import pipeline as soak
from fusion_core.frames import FrameFlag

SECOND = 1_000_000_000


def settings(folder: Path, **changes: object) -> RecordingConfig:
    return RecordingConfig(**{"directory": folder, "reserve_mb": 1, "reserve_s": 0, **changes})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, mounted for the test."""
    with soak.small_disk(tmp_path / "disk", 24) as mounted:
        if not mounted:
            pytest.skip("mounting a small tmpfs needs root")
        yield tmp_path / "disk"


def test_a_small_disk_that_a_killed_process_left_is_let_go_of(tmp_path: Path) -> None:
    left = tmp_path / "left behind"
    script = "import sys, time; from pathlib import Path; from benchmarks.soak.pipeline import small_disk\n" + (
        "with small_disk(Path(sys.argv[1]), 1) as mounted:\n print(mounted, flush=True)\n time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(left)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    if told != "True\n":
        pytest.skip("mounting a small tmpfs needs root")
    assert left.is_mount()
    with soak.small_disk(tmp_path / "disk", 1):
        assert not left.is_mount()


def check_frames(videos: list[Path]) -> list[int]:
    """Indices of all thermal frames, each compared bit for bit; every file must pass its self-check."""
    indices: list[int] = []
    for video in videos:
        assert check_recording(video).problems == ()
        with RecordingReader(video) as reader:
            for pair in reader:
                if pair.thermal is None or FrameFlag.HELD in pair.flags:
                    continue  # at an end: a fused picture whose thermal frame is in another file, or came no more
                assert np.array_equal(pair.thermal.pixels, support.thermal_pixels(pair.thermal.index))
                indices.append(pair.thermal.index)
    return indices


def test_a_disk_that_runs_full_leaves_a_valid_file_and_recording_resumes(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reserve is switched off here by a free-space figure that lies, as a quota or another writer makes it lie.
    truth = disk_module.free_bytes
    lie = [True]
    monkeypatch.setattr(
        "app.recording.writing.recorder_loop.DiskGuard",
        lambda config: DiskGuard(config, lambda folder: 10**9 if lie[0] else truth(folder)),
    )
    monkeypatch.setattr("app.recording.writing.recorder_loop._CHECK_S", 0.1)
    monkeypatch.setattr("app.recording.writing.recorder_loop._RETRY_S", 0.1)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(20_000_000))
    states: list[RecordingStatus] = []
    recorder = Recorder(
        settings(small_disk, pre_event_s=2, reserve_mb=4, cluster_ms=100), listener=support.Listener(states)
    )
    recorder.start()
    index = 0
    while recorder.status.state is not RecordingState.PAUSED:
        support.feed(recorder, support.frame_at(index))
        time.sleep(0.005)  # a cluster holds what comes in 100 ms
        index += 1
        assert index < 400, "the disk never ran full"
    lie[0] = False
    assert "Free some space" in recorder.status.reason and recorder.status.recording
    full_at = index
    for _ in range(90):
        support.feed(recorder, support.frame_at(index))
        index += 1
    assert recorder.status.state is RecordingState.PAUSED
    ballast.unlink()
    wait_until(lambda: recorder.status.state is RecordingState.RECORDING)
    for _ in range(20):
        support.feed(recorder, support.frame_at(index))
        index += 1
    summary = recorder.stop(30)
    recorder.close()
    assert summary.problems == () and len(summary.segments) == 2
    videos = list_recordings(small_disk)
    indices = check_frames(videos)
    assert indices == sorted(set(indices)) and indices[-1] == index - 1
    missing = sorted(set(range(index)) - set(indices))
    # One gap, but for what fitted of the last cluster: its tracks end where the disk did.
    assert len(missing) >= missing[-1] + 1 - missing[0] - 6
    assert missing[0] >= full_at - 40  # until about the last second before the fault everything is there
    assert missing[-1] < full_at + 90 - 55  # and the buffer's 2 s before space came back
    second = read_sidecar(sidecar_path(videos[1]))
    assert second.header.reason == "disk"
    assert [m.cause for m in second.others if isinstance(m, GapLine)] == ["disk"]
    assert [status.state for status in states].count(RecordingState.PAUSED) >= 1


class _Disk:
    """Free space as a test wants it: what is given, less what the folder holds."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def free(self, folder: Path) -> int:
        return self.capacity - sum(path.stat().st_size for path in folder.iterdir())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> _Disk:
    simulated = _Disk(10**9)
    monkeypatch.setattr(
        "app.recording.writing.recorder_loop.DiskGuard", lambda config: DiskGuard(config, simulated.free)
    )
    monkeypatch.setattr("app.recording.writing.recorder_loop._CHECK_S", 0.02)
    monkeypatch.setattr("app.recording.writing.recorder_loop._RETRY_S", 0.02)
    return simulated


def run_until(recorder: Recorder, index: int, condition: Callable[[], object], limit: int = 900) -> int:
    end = index + limit
    while not condition():
        support.feed(recorder, support.frame_at(index))
        index += 1
        assert index < end, f"waited in vain: {recorder.status}"
    return index


def test_at_the_reserve_the_file_is_closed_and_recording_waits(tmp_path: Path, disk: _Disk) -> None:
    disk.capacity = 4_000_000
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    index = run_until(recorder, 0, lambda: recorder.status.state is RecordingState.PAUSED)
    assert "reserve of 1 MB" in recorder.status.reason
    (first,) = list_recordings(tmp_path)
    assert read_sidecar(sidecar_path(first)).end is not None  # closed in order
    disk.capacity = 10**9
    index = run_until(recorder, index, lambda: recorder.status.segments == 2)
    summary = recorder.stop(20)
    recorder.close()
    assert summary.problems == ()
    indices = check_frames(list_recordings(tmp_path))
    assert indices == sorted(set(indices)) and indices[0] == 0 and indices[-1] == index - 1


def test_fused_only_goes_on_with_one_track_and_returns_to_all(tmp_path: Path, disk: _Disk) -> None:
    recorder = Recorder(settings(tmp_path, disk_policy="fused_only", reserve_mb=20))
    recorder.start()
    index = run_until(recorder, 0, lambda: recorder.status.frames.get("thermal", 0) > 5)
    disk.capacity = sum(p.stat().st_size for p in tmp_path.iterdir()) + 19_000_000
    index = run_until(recorder, index, lambda: recorder.status.segments == 2)
    assert recorder.status.state is RecordingState.RECORDING and "only the fused" in recorder.status.reason
    disk.capacity = 10**9
    run_until(recorder, index, lambda: recorder.status.segments == 3)
    summary = recorder.stop(20)
    recorder.close()
    tracks = [set(info.frames) for info in summary.segments]
    assert tracks == [{"fused", "visible", "thermal"}, {"fused"}, {"fused", "visible", "thermal"}]
    assert summary.problems == ()


def test_ring_deletes_the_oldest_that_nobody_protected(tmp_path: Path, disk: _Disk) -> None:
    recorder = Recorder(settings(tmp_path, disk_policy="ring", split_s=0.5))
    recorder.start()
    index = run_until(recorder, 0, lambda: recorder.status.segments >= 4)
    kept, gone = list_recordings(tmp_path)[:2]
    protect(kept)
    stranger = tmp_path / "holiday.mkv"
    stranger.write_bytes(b"not ours")
    disk.capacity = sum(p.stat().st_size for p in tmp_path.iterdir()) + 1_100_000
    run_until(recorder, index, lambda: not gone.exists())
    summary = recorder.stop(20)
    recorder.close()
    assert kept.exists() and stranger.exists() and not sidecar_path(gone).exists()
    assert summary.problems == ()


def test_warning_and_time_left(tmp_path: Path) -> None:
    space = [10_000_000_000]
    guard = DiskGuard(settings(tmp_path, reserve_mb=256, reserve_s=30, warn_min=10), lambda _: space[0])
    assert guard.level() is DiskLevel.OK and guard.seconds_left() is None
    for second in range(8):
        guard.note(float(second), second * 10_000_000)
    assert guard.reserve_bytes == 300_000_000  # 30 s at 10 MB/s is more than 256 MB
    assert guard.seconds_left() == pytest.approx(970)
    space[0] = 6_000_000_000
    assert guard.level() is DiskLevel.WARN
    space[0] = 299_000_000
    assert guard.level() is DiskLevel.RESERVE
    space[0] = 310_000_000
    assert guard.level() is DiskLevel.RESERVE  # hysteresis
    space[0] = 380_000_000
    assert guard.level() is DiskLevel.WARN


def test_a_file_that_vanishes_is_noticed_and_replaced(tmp_path: Path, disk: _Disk) -> None:
    recorder = Recorder(settings(tmp_path))
    recorder.start()
    index = run_until(recorder, 0, lambda: recorder.status.frames.get("fused", 0) > 20)
    (first,) = list_recordings(tmp_path)
    first.unlink()
    run_until(recorder, index, lambda: recorder.status.segments == 2)
    assert recorder.status.state is RecordingState.RECORDING and "is gone" in recorder.status.reason
    recorder.stop(20)
    recorder.close()
    (second,) = list_recordings(tmp_path)
    assert check_recording(second).problems == ()


def test_the_first_picture_after_a_pause_is_given_time_to_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both cameras were away: their pictures' time jumps, the file has not grown, and nothing is wrong."""
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time_ns=time.time_ns)
    monkeypatch.setattr("app.recording.writing.recorder_loop.time", clock)
    recorder = Recorder(settings(tmp_path, split_s=0))
    recorder.start()
    index, told = 0, []
    for _ in range(4):
        for _ in range(30):
            now[0] += support.PERIOD_NS / 1e9
            support.feed(recorder, support.frame_at(index), depth=2)
            index += 1
        for _ in range(8):  # seven seconds without a picture, but with looks at the file
            now[0] += 0.9
            time.sleep(0.05)
            told.append(recorder.status.reason)
        index += round(7 * SECOND / support.PERIOD_NS)
    recorder.stop(20)
    recorder.close()
    assert len(list_recordings(tmp_path)) == 1 and not any("grow" in text for text in told), told


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds out by /proc which file is synced")
def test_a_power_cut_loses_at_most_three_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time_ns=time.time_ns)
    monkeypatch.setattr("app.recording.writing.recorder_loop.time", clock)
    synced: dict[str, int] = {}
    folder = tmp_path / "before"
    fsync = os.fsync

    def spy(fd: int) -> None:
        fsync(fd)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.parent == folder and path.suffix in (".mkv", ".jsonl"):
            synced[str(path)] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fsync", spy)
    after = tmp_path / "after"
    after.mkdir()
    recorder = Recorder(settings(folder, split_s=0))
    recorder.start()
    lost: list[float] = []
    for index in range(250):
        now[0] += support.PERIOD_NS / 1e9
        support.feed(recorder, support.frame_at(index), depth=2)
        if index >= 100 and index % 37 == 0:  # the power fails here: only what was synced is left
            for path, size in dict(synced).items():
                (after / Path(path).name).write_bytes(Path(path).read_bytes()[:size])
            (video,) = after.glob("*.mkv")
            recover(video)
            assert check_recording(video).problems == ()
            with RecordingReader(video) as reader:
                last = max(reader.line(i).thermal.i for i in range(len(reader)) if reader.has_pair(i))
                lost.append((index - last) * support.PERIOD_NS / 1e9)
    recorder.stop(20)
    recorder.close()
    assert len(lost) >= 4 and max(lost) <= 3.0
