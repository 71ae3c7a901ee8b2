"""Power cuts below the file system's promise: lost, torn and reordered writes, by a simulated disk."""

from __future__ import annotations

import functools
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import recording as support
from support.torn_disk import TornDisk

from app.recording import matroska_writer, sidecar
from app.recording.config import RecordingConfig, TrackName
from app.recording.reader import RecordingReader
from app.recording.recover import recover
from app.recording.self_check import check_recording
from app.recording.sidecar import FrameLine, read_sidecar, sidecar_path
from app.recording.track_reader import TrackReader, picture_size
from app.recording.video_scan import scan_video
from app.recording.writing import recorder_loop
from app.recording.writing.recorder import Recorder
from fusion_core.errors import LumithermError

SIZE = (48, 64)
FRAMES = 60
BATCH = 50  # seeds of one test, so that the runs share the recording


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TornDisk, Path]]:
    """A recording of two seconds with a split and five syncs a second, and everything that it asked of the disk."""
    folder, disk = tmp_path_factory.mktemp("torn"), TornDisk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matroska_writer, "DiskFile", disk.file)
        patch.setattr(sidecar, "DiskFile", disk.file)
        patch.setattr(recorder_loop, "_LOAD_S", 3600.0)
        config = RecordingConfig(directory=folder, reserve_mb=1, split_s=1.2, cluster_ms=100, self_check=False)
        recorder = Recorder(config.model_copy(update={"sync_s": 0.15}))
        recorder.start()
        for index in range(FRAMES):
            support.feed(recorder, support.frame_at(index, size=SIZE), depth=3)
        recorder.stop(60)
        recorder.close()
    yield disk, folder


@functools.lru_cache(maxsize=FRAMES)
def truth(index: int) -> np.ndarray:
    """The thermal frame of that index."""
    return support.thermal_pixels(index, *SIZE)


@functools.cache
def _truths() -> dict[bytes, int]:
    return {truth(index).tobytes(): index for index in range(FRAMES)}


def truth_of(pixels: bytes) -> int | None:
    """The index of the thermal frame with these pixels; None where there is none."""
    return _truths().get(pixels)


@pytest.mark.parametrize("batch", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))])
def test_what_was_synced_survives_and_what_was_not_is_told_and_never_shown_wrong(
    made: tuple[TornDisk, Path], tmp_path: Path, batch: int
) -> None:
    disk, _ = made
    survived = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        rng = np.random.default_rng(seed)
        until = int(rng.integers(1, len(disk.journal) + 1))
        place = tmp_path / f"{seed}"
        place.mkdir()
        disk.crash(place, until, rng)
        for video in sorted(path for path in disk.files if path.suffix == ".mkv"):
            survived += _inspect(place / video.name, _synced_pictures(disk, video, until, tmp_path), seed)
        shutil.rmtree(place)
    assert survived > BATCH * FRAMES // 4  # else the test would look at little; a busy disk syncs less often


def _synced_pictures(disk: TornDisk, video: Path, until: int, scratch: Path) -> dict[TrackName, int]:
    """Pictures of each track in the part of the video that was safe."""
    safe = disk.synced_size(video, until)
    part = scratch / "safe.mkv"
    part.write_bytes(video.read_bytes()[:safe])
    try:
        return {name: len(track.ms) for name, track in scan_video(part).tracks.items()}
    except LumithermError:
        return {}


def _inspect(video: Path, synced: dict[TrackName, int], seed: int) -> int:
    """Recover and read a file; returns how many pictures came back."""
    if not video.exists():
        assert not synced, f"seed {seed}: {video.name} was synced and is gone"
        return 0
    try:
        recover(video)
        with RecordingReader(video) as reader:
            assert len(reader) >= 0
    except LumithermError:  # nothing that could be read had reached the disk
        assert not any(synced.values()), f"seed {seed}: {video.name} was synced and cannot be opened"
        return 0
    found = dict.fromkeys(TrackName, 0)
    content, scan = read_sidecar(sidecar_path(video)), scan_video(video)
    readers = {n: TrackReader(video, track, *picture_size(content.header, track)) for n, track in scan.tracks.items()}
    for line in content.pictures:
        name, ref = (TrackName.FUSED, line.fused) if isinstance(line, FrameLine) else (line.track, line.at)
        assert ref is not None
        try:
            pixels = readers[name].picture(ref.ms)
        except LumithermError:
            continue
        found[name] += 1
        if name is TrackName.THERMAL:
            assert line.rebuilt or ref.crc == zlib.crc32(pixels.data)
            seen = truth_of(pixels.tobytes())
            assert seen is not None, f"seed {seed}: a picture was shown that no camera gave"
            assert line.rebuilt or seen == line.i, f"seed {seed}: picture {seen} was shown as {line.i}"
    for each in readers.values():
        each.close()
    for name, count in synced.items():
        assert found[name] >= count, f"seed {seed}: {name} {found[name]} of {count} synced pictures"
    report = check_recording(video)
    assert not any("disagree" in problem for problem in report.problems), f"seed {seed}: {report.problems}"
    return sum(found.values())
