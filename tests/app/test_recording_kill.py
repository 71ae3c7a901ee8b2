"""SIGKILL at random moments, six or thirty of them: how much is lost, and is what survives whole?"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import recording as support

from app.recording.config import TrackName
from app.recording.reader import RecordingReader
from app.recording.recover import recover
from app.recording.self_check import check_recording
from app.recording.video_scan import scan_video

ROOT = Path(__file__).parents[2]
MOST_LOST_S = 1.0
PERIOD_S = support.PERIOD_NS / 1e9


def _progress(path: Path) -> int:
    return struct.unpack("<q", path.read_bytes())[0]


@pytest.mark.parametrize("kills", [6, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.alone])])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the kill test forks its victims")
def test_kills_lose_at_most_a_second_and_leave_whole_frames(
    tmp_path: Path, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2026)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, support.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdin is not None and server.stdout is not None
    lost: dict[str, list[float]] = {name: [] for name in TrackName}
    try:
        for kill in range(kills):
            folder = tmp_path / f"kill{kill:02d}"
            folder.mkdir()
            progress = folder / "progress"
            progress.write_bytes(struct.pack("<q", -1))
            # Every third victim has lost its thermal camera: then only the cluster's length bounds the loss.
            thermal_until = 20 if kill % 3 == 2 else 1_000_000
            print(folder, progress, thermal_until, file=server.stdin, flush=True)
            victim = int(server.stdout.readline())
            target = int(rng.integers(25, 60))
            end = time.monotonic() + 60
            while _progress(progress) < target:
                assert time.monotonic() < end, "the victim records nothing"
                time.sleep(0.002)
            time.sleep(float(rng.uniform(0, 0.03)))
            os.kill(victim, signal.SIGKILL)
            time.sleep(0.01)
            _inspect(folder, _progress(progress), thermal_until, lost)
    finally:
        server.stdin.close()
        server.wait(timeout=30)
        server.stdout.close()
    with capsys.disabled():
        print(f"\n{kills} kills at 30 pairs/s, {support.WIDTH}x{support.HEIGHT}: seconds lost at the end of each track")
        print(f"{'track':10}{'median':>10}{'p95':>10}{'worst':>10}")
        for name, values in lost.items():
            print(f"{name:10}{np.median(values):10.3f}{np.percentile(values, 95):10.3f}{max(values):10.3f}")
    for name, values in lost.items():
        assert max(values) <= MOST_LOST_S, f"{name} lost {max(values):.3f} s"


def _inspect(folder: Path, offered: int, thermal_until: int, lost: dict[str, list[float]]) -> None:
    (video,) = folder.glob("*.mkv")
    with RecordingReader(video) as reader:  # opens without repair
        last = dict.fromkeys(TrackName, -1)
        for index in range(len(reader)):
            line = reader.line(index)
            if line.fused is not None:
                assert reader.fused(index) is not None
                last[TrackName.FUSED] = max(last[TrackName.FUSED], round((line.t_ns - 1_000_000_000) / 1e9 / PERIOD_S))
            if not reader.has_pair(index):
                continue  # only the fused picture of the last pair survived
            pair = reader.pair(index)
            if pair.visible is not None:
                last[TrackName.VISIBLE] = max(last[TrackName.VISIBLE], pair.visible.index)
            if pair.thermal is not None:
                assert np.array_equal(pair.thermal.pixels, support.thermal_pixels(pair.thermal.index))
                last[TrackName.THERMAL] = max(last[TrackName.THERMAL], pair.thermal.index)
    for name in TrackName:
        newest = min(offered, thermal_until - 1) if name is TrackName.THERMAL else offered
        lost[name].append(max(0.0, (newest - last[name]) * PERIOD_S))
    recover(video)
    report = check_recording(video)
    assert report.problems == ()
    assert report.frames == {str(name): len(track.ms) for name, track in scan_video(video).tracks.items()}
    assert not recover(video).rewritten  # a second run finds nothing to do
