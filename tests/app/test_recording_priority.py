"""What goes first on a busy processor, and what keeps thermal whole: cheap encoders, waiting by age, checksums."""

from __future__ import annotations

import os
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from support import recording as support

from app.configuration.config import load_config
from app.pipeline import live_fusion
from app.pipeline.live_fusion import LiveFusion
from app.process import go_first
from app.recording import sidecar
from app.recording.config import RecordingConfig, TrackName
from app.recording.reader import RecordingReader
from app.recording.recover import recover
from app.recording.segments import list_recordings
from app.recording.sidecar import Ref, read_sidecar, sidecar_path
from app.recording.track_reader import TrackReader
from app.recording.video_scan import scan_video
from app.recording.writing import load, recorder_loop
from app.recording.writing.load import LoadLadder, LoadStep
from app.recording.writing.recorder import Recorder
from app.recording.writing.track_thread import TrackThread
from fusion_core.errors import BadInputError, RecordingError

CODECS = ("ffvhuff", "ffv1")


def recorded(folder: Path, pictures: int = 12, size: tuple[int, int] = (49, 63), bits: int = 16, **changes: object):
    """The files of a recording of so many pairs."""
    config = RecordingConfig(**{"directory": folder, "reserve_mb": 1, "self_check": False, **changes})  # type: ignore[arg-type]
    recorder = Recorder(config)
    recorder.start()
    for index in range(pictures):
        support.feed(recorder, support.frame_at(index, size=size, thermal_bits=bits), depth=3)
    recorder.stop(60)
    recorder.close()
    return list_recordings(folder)


# ---- thermal's codecs


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("codec", CODECS)
def test_thermal_is_exact_in_either_codec_also_in_a_finished_copy(tmp_path: Path, codec: str, bits: int) -> None:
    (video,) = recorded(tmp_path, bits=bits, thermal_codec=codec)
    for _ in range(2):
        with RecordingReader(video) as reader:
            assert reader.info.tracks["thermal"].startswith(f"{codec} 49x63")
            for index, pair in enumerate(reader):
                want = support.frame_at(index, size=(49, 63), thermal_bits=bits).pair.thermal.pixels
                assert pair.thermal.pixels.dtype == want.dtype and np.array_equal(pair.thermal.pixels, want)
            assert index == 11
        scan = scan_video(video)
        assert scan.metadata is not None and len(scan.metadata.pictures) == 36
        before = {name: list(track.ms) for name, track in scan.tracks.items()}
        assert recover(video, finish_video=True).remuxed
        assert {name: list(track.ms) for name, track in scan_video(video).tracks.items()} == before


@pytest.mark.parametrize("codec", CODECS)
def test_thermal_that_was_changed_in_the_file_is_never_shown(tmp_path: Path, codec: str) -> None:
    """By the checksum in its line; in ffvhuff also where no line is left that tells one."""
    (video,) = recorded(tmp_path, thermal_codec=codec)
    data, rng = bytearray(video.read_bytes()), np.random.default_rng(3)
    lines = [line for line in read_sidecar(sidecar_path(video)).pictures if getattr(line, "track", "") == "thermal"]
    truths = {support.thermal_pixels(index, 49, 63).tobytes() for index in range(12)}
    refused = 0
    for _ in range(40):
        torn = bytearray(data)
        at = int(rng.integers(len(data) // 4, len(data) - 512))
        torn[at : at + 64] = bytes(64)
        video.write_bytes(torn)
        try:
            scan = scan_video(video)
            reader = TrackReader(video, scan.tracks[TrackName.THERMAL], 49, 63)
        except (BadInputError, KeyError):
            continue
        for line in lines:
            try:
                pixels = reader.picture(line.at.ms)
                told = codec == "ffvhuff" or zlib.crc32(pixels.data) == line.at.crc
                refused += not told
                assert not told or pixels.tobytes() in truths
            except RecordingError:
                refused += 1
        reader.close()
    assert refused > 5


def test_a_picture_whose_line_tells_another_checksum_is_refused(tmp_path: Path) -> None:
    (video,) = recorded(tmp_path)
    with RecordingReader(video) as reader:
        place = reader.line(3).thermal.at
        assert place.crc is not None
        reader._picture(TrackName.THERMAL, place)
        with pytest.raises(RecordingError, match="checksum"):
            reader._picture(TrackName.THERMAL, Ref(place.k, place.ms, crc=place.crc ^ 1))


# ---- who goes first


def test_capture_and_encoders_of_raw_pictures_go_before_the_rest() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has a niceness for each thread")
    allowed: list[bool] = []
    trial = threading.Thread(target=lambda: allowed.append(go_first()))
    trial.start()
    trial.join()
    found: list[int] = []
    for first in (True, False):
        thread = TrackThread("thermal", first=first)
        thread.submit(lambda: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))).result(10)
        assert thread.close(10)
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert found == [-5 if allowed[0] else mine, mine]


def test_what_is_recorded_depends_on_how_long_raw_pictures_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_PATIENCE_S", 0.3)
    ladder = LoadLadder(tuple(TrackName))
    steps: dict[float, LoadStep] = {}
    waits = [(0.0, 0.5), (0.05, 1.0), (0.5, 1.2), (0.05, 1.3), (0.5, 4.0), (0.05, 60.0)]  # so long, until then
    for tick in range(600):
        now_s = tick / 10
        ladder.observe(next(wait for wait, until in waits if now_s < until), now_s)
        steps[now_s] = ladder.step
    assert steps[1.3] is LoadStep.FULL  # a short pause is no load
    assert steps[1.8] is LoadStep.WITHOUT_FUSED and steps[3.5] is LoadStep.VISIBLE_REDUCED
    assert steps[59.9] is LoadStep.FULL


def test_fusion_waits_for_raw_pictures_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveFusion(load_config(Path("configs/simulated.yaml"), [], {}))
    live._give_way()
    assert live.stats.snapshot().warnings == ()
    monkeypatch.setattr(live_fusion, "_RAW_WAIT_S", 0.0)  # so that whatever waits is too much
    before_s = time.monotonic()
    live._give_way()
    assert time.monotonic() - before_s >= 0.25 and "goes first" in str(live.stats.snapshot().warnings)
    monkeypatch.setattr(live_fusion, "_RAW_WAIT_S", 1.0)
    live._give_way()
    assert live.stats.snapshot().warnings == ()
    live.stop()


# ---- sidecars stay readable


def test_a_file_ends_before_its_sidecar_is_more_than_a_reader_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar, "MAX_LINES", 100)
    monkeypatch.setattr(recorder_loop, "_LOAD_S", 3600.0)
    videos = recorded(tmp_path, 90, gop_s=0.2)
    assert len(videos) > 2
    found = 0
    for video in videos:
        with RecordingReader(video) as reader:  # which would refuse it
            found += len(reader)
    assert found == 90


@pytest.mark.parametrize("name", ["MAX_LINES", "MAX_VALUES"])
def test_a_sidecar_with_too_much_in_it_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (video,) = recorded(tmp_path)
    monkeypatch.setattr(sidecar, name, 20)
    monkeypatch.setattr(sidecar, "decode_line", None)
    with pytest.raises(BadInputError, match="more than 20"):
        read_sidecar(sidecar_path(video))
