"""The commands on recordings, and recordings that are damaged, foreign or without their sidecar."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import recording as support
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.playback.recorded_views import DamagedPairs, half_blocks, play_in_terminal
from app.recording.config import RecordingConfig, TrackName
from app.recording.reader import RecordingReader
from app.recording.recover import recover
from app.recording.self_check import check_recording
from app.recording.sidecar import SidecarContent, encode_line, read_sidecar, sidecar_path
from app.recording.writing.recorder import Recorder
from app.view.views import FileView
from fusion_core.errors import BadInputError, LumithermError, RecordingError
from fusion_core.thermal.agc import AgcConfig

PAIRS = 40


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sound recording of 40 pairs; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("recording")
    recorder = Recorder(RecordingConfig(directory=folder, reserve_mb=1))
    recorder.start()
    for index in range(PAIRS):
        support.feed(recorder, support.frame_at(index))
    recorder.close()
    (video,) = folder.glob("*.mkv")
    return video


@pytest.fixture
def video(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy.mkv"
    shutil.copy(original, copy)
    shutil.copy(sidecar_path(original), sidecar_path(copy))
    return copy


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output, errors turned into codes as `main` does."""
    result = CliRunner().invoke(build_cli(), list(arguments))
    if isinstance(result.exception, LumithermError):
        return result.exception.exit_code, result.output + str(result.exception)
    return result.exit_code, result.output


def test_info_and_check_of_a_sound_recording(video: Path) -> None:
    code, text = run("recording", "info", str(video))
    assert code == 0 and f"{PAIRS} pairs" in text and "ffvhuff 120x160 gray16le" in text and "Skew" in text
    assert "Self-check" not in text and "Not checked" in text  # it reads no picture
    code, text = run("recording", "info", "--json", str(video))
    assert json.loads(text)["pairs"] == PAIRS and json.loads(text)["closed_in_order"]
    code, text = run("recording", "check", "--every-frame", str(video))
    assert code == 0 and f"{3 * PAIRS} pictures decoded" in text and "sound" in text
    before = sidecar_path(video).read_bytes()
    code, text = run("recover", str(video))
    assert code == 0 and "nothing was changed" in text and sidecar_path(video).read_bytes() == before


def test_export_gives_the_exact_counts_and_every_view(video: Path, tmp_path: Path) -> None:
    code, _ = run("play", str(video), "--view", "thermal", "--export", str(tmp_path / "t"))
    assert code == 0
    for index in (0, 17, PAIRS - 1):
        counts = cv2.imread(str(tmp_path / "t" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert counts.dtype == np.uint16 and np.array_equal(counts, support.thermal_pixels(index))
    for view, shape in (("fused", (120, 160)), ("visible", (120, 160)), ("side-by-side", (120, 480))):
        folder = tmp_path / view
        code, text = run(
            "play", str(video), "--view", view, "--export", str(folder), "--start", "0.5", "--seconds", "0.2"
        )
        names = sorted(path.name for path in folder.iterdir())
        assert code == 0 and names[0] == "000015.png" and len(names) == 7 == int(text.split()[0])
        assert cv2.imread(str(folder / names[0])).shape[:2] == shape


def test_play_needs_a_terminal_and_shows_pictures_there(video: Path) -> None:
    code, text = run("play", str(video))
    assert code == 2 and "recording export" in text
    code, text = run("play", str(video), "--start", "99")
    assert code == 2 and "behind the end" in text
    screen = io.StringIO()
    with RecordingReader(video) as reader:
        shown = play_in_terminal(reader, screen, FileView.QUAD, 0, 10, 64.0, AgcConfig(), DamagedPairs())
    assert 0 < shown <= 10 and screen.getvalue().count("▀") > 100 and screen.getvalue().endswith("\x1b[?25h\n")
    lines = half_blocks(np.zeros((100, 200, 3), np.uint8), 40, 30).split("\n")
    assert len(lines) == 10 and lines[0].count("▀") == 40


def test_a_recording_without_its_sidecar_reads_the_same(video: Path) -> None:
    sidecar = sidecar_path(video)
    with RecordingReader(video) as reader:
        wanted = [reader.line(index) for index in range(PAIRS)]
    before = read_sidecar(sidecar)
    sidecar.unlink()
    with RecordingReader(video) as reader:
        assert reader.info.metadata == "embedded"
        assert [reader.line(index) for index in range(len(reader))] == wanted
        assert reader.pair(31).thermal.timestamp_ns == support.frame_at(31).pair.thermal.timestamp_ns
    report = recover(video)
    assert report.source == "embedded" and report.rewritten and report.rebuilt == 0
    assert read_sidecar(sidecar).frames == before.frames
    assert check_recording(video).problems == ()


def test_a_recording_without_any_metadata_is_rebuilt_from_the_container(tmp_path: Path) -> None:
    recorder = Recorder(RecordingConfig(directory=tmp_path, reserve_mb=1, embed_metadata=False))
    recorder.start()
    for index in range(20):
        support.feed(recorder, support.frame_at(index))
    recorder.close()
    (video,) = tmp_path.glob("*.mkv")
    sidecar_path(video).unlink()
    with RecordingReader(video) as reader:
        assert reader.info.metadata == "embedded" and len(reader) == 20  # of its lines only the header
        assert all(line.rebuilt for line in (reader.line(i) for i in range(20)))
        assert np.array_equal(reader.pair(9).thermal.pixels, support.thermal_pixels(9))
        assert reader.pair(9).skew_ns == 3_000_000
    recover(video)
    assert check_recording(video).problems == ()


def test_finishing_a_torn_video_gives_it_duration_and_index(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: int(len(data) * 0.6)])
    report = recover(video, finish_video=True)
    assert report.remuxed and report.dropped > 0
    with RecordingReader(video) as reader:
        assert 15 < len(reader) < PAIRS
        for index, pair in enumerate(reader):
            assert np.array_equal(pair.thermal.pixels, support.thermal_pixels(index))
    assert check_recording(video).problems == ()
    assert not recover(video).rewritten


def test_a_torn_video_can_be_entered_anywhere(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: int(len(data) * 0.7)])
    with RecordingReader(video) as reader:
        for index in (20, 3, 15, 0, 19, 18):
            pair = reader.pair(index)
            assert np.array_equal(pair.thermal.pixels, support.thermal_pixels(index))
            assert np.abs(pair.visible.pixels.astype(int) - support.visible_pixels(index)).mean() < 6


def test_a_torn_sidecar_is_completed_from_the_video(video: Path) -> None:
    sidecar = sidecar_path(video)
    sidecar.write_bytes(sidecar.read_bytes()[:5000] + b'{"type":"fra')
    code, text = run("recording", "check", str(video))
    assert f"recording recover {video}" in text and "FILE" not in text
    assert code == 1 and "damaged" in text
    code, text = run("recover", str(video))
    assert code == 0 and "embedded" in text
    assert check_recording(video).problems == ()


def test_foreign_and_missing_files_are_told_apart(tmp_path: Path) -> None:
    missing, text_file = tmp_path / "no.mkv", tmp_path / "text.mkv"
    text_file.write_text("hello")
    for command in (("recording", "info"), ("recording", "check"), ("recover",), ("play",)):
        assert run(*command, str(missing))[0] == 2 and "does not exist" in run(*command, str(missing))[1]
        assert run(*command, str(text_file))[0] == 2 and "no video file" in run(*command, str(text_file))[1]
    with pytest.raises(BadInputError):
        RecordingReader(tmp_path)


def test_a_sidecar_from_the_future_is_named(video: Path) -> None:
    sidecar = sidecar_path(video)
    sidecar.write_bytes(sidecar.read_bytes().replace(b'"schema":2', b'"schema":99', 1))
    with RecordingReader(video) as reader:
        assert any("newer" in text for text in reader.info.damage) and len(reader) == PAIRS


def test_a_flipped_bit_in_thermal_is_noticed_not_shown(video: Path) -> None:
    with RecordingReader(video) as reader:
        packets = len(reader)
    with av.open(str(video)) as container:
        thermal = [bytes(packet) for packet in container.demux(container.streams[2]) if packet.size]
    data = bytearray(video.read_bytes())
    middle = data.index(thermal[PAIRS // 2]) + len(thermal[PAIRS // 2]) // 2
    data[middle : middle + 40] = bytes(40)
    video.write_bytes(data)
    wrong = 0
    with RecordingReader(video) as reader:
        for index in range(packets):
            try:
                pair = reader.pair(index)
            except RecordingError:
                wrong += 1
                continue
            if pair.thermal is not None:
                assert np.array_equal(pair.thermal.pixels, support.thermal_pixels(pair.thermal.index))
    assert 0 < wrong <= 35
    assert check_recording(video, quick=False).problems


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12),
    in_sidecar=st.booleans(),
    keep=st.floats(0.01, 1.0),
)
def test_damage_never_crashes_the_reader(
    original: Path, tmp_path: Path, places: list[tuple[float, int]], in_sidecar: bool, keep: float
) -> None:
    video = tmp_path / "damaged.mkv"
    shutil.copy(original, video)
    shutil.copy(sidecar_path(original), sidecar_path(video))
    target = sidecar_path(video) if in_sidecar else video
    data = bytearray(target.read_bytes()[: max(1, int(target.stat().st_size * keep))])
    for place, value in places:
        data[int(place * len(data))] = value
    target.write_bytes(data)
    try:
        with RecordingReader(video) as reader:
            for index in range(0, len(reader), 13):
                try:
                    reader.pair(index)
                except LumithermError as error:
                    assert str(error)
        recover(video)
        check_recording(video)
    except LumithermError as error:
        assert str(error)


@pytest.mark.parametrize("track", list(TrackName))
def test_a_flipped_bit_in_the_middle_is_found_located_and_passed_over(
    video: Path, tmp_path: Path, track: TrackName
) -> None:
    """In each track: `check` names track and time, `play --export` and `fuse` go on behind it."""
    with av.open(str(video)) as container:
        stream = next(s for s in container.streams if s.metadata.get("title") == track)
        packets = [(packet.pts, bytes(packet)) for packet in container.demux(stream) if packet.size]
    ms, data = packets[len(packets) // 2]
    whole = bytearray(video.read_bytes())
    at = whole.index(data) + len(data) // 2
    whole[at] ^= 0x10
    video.write_bytes(whole)
    report = check_recording(video)
    assert any(text.startswith(f"{track}: ") and f"{ms / 1000:.3f} s" in text for text in report.problems)
    assert all(text.startswith(f"{track}: ") for text in report.problems)
    code, text = run("recording", "check", str(video))
    assert code == 1 and f"{ms / 1000:.3f} s" in text and "--quick" in run("recording", "check", "--help")[1]
    code, text = run("play", str(video), "--view", str(track), "-o", str(tmp_path / "png"))
    written = sorted(int(path.stem) for path in (tmp_path / "png").glob("*.png"))
    assert written[0] == 0 and written[-1] == PAIRS - 1 and PAIRS - len(written) <= 31
    assert (code == 1 and "left out" in text) == (len(written) < PAIRS)


def _meaning(content: SidecarContent) -> tuple[object, ...]:
    return content.header, content.pictures, content.others, content.end


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_the_sidecar_is_found(video: Path, seed: int) -> None:
    """Its lines have no checksums; their copy in the video gives it away, wherever it changes what a line says."""
    path = sidecar_path(video)
    sound, before = path.read_bytes(), _meaning(read_sidecar(path))
    rng = random.Random(seed)
    data = bytearray(sound)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try:
        changed = _meaning(read_sidecar(path)) != before
    except LumithermError:
        changed = True
    assert bool(check_recording(video, quick=True).problems) is changed


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (b'"engine":"average"', b'"engine":"evenage"', "40 line"),
        (b'"reason":"start"', b'"reason":"split"', "its header"),
        (b'"src":"simulated"', b'"src":"simuloted"', "line"),
    ],
)
def test_what_was_rewritten_in_the_sidecar_is_told(video: Path, old: bytes, new: bytes, where: str) -> None:
    path = sidecar_path(video)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    (problem,) = check_recording(video, quick=True).problems
    assert "differ in" in problem and where in problem


def test_the_check_reads_everything_and_tells_how_far_it_is(video: Path) -> None:
    told: list[float] = []
    report = check_recording(video, progress=told.append)
    assert report.problems == () and report.decoded == sum(report.frames.values()) == 3 * PAIRS
    assert told == sorted(told) and told[-1] == pytest.approx(1.0) and len(set(told)) > PAIRS
    quick = check_recording(video, quick=True)
    assert quick.problems == () and quick.frames == report.frames


def test_recordings_of_schema_1_read_as_they_did(tmp_path: Path) -> None:
    """There a line was a pair as it had been fused, with its places in all tracks; nothing is paired anew."""
    recorder = Recorder(RecordingConfig(directory=tmp_path, reserve_mb=1, embed_metadata=False))
    recorder.start()
    for index in range(20):
        support.feed(recorder, support.frame_at(index))
    recorder.close()
    (video,) = tmp_path.glob("*.mkv")
    with RecordingReader(video) as reader:
        lines = [reader.line(index) for index in range(20)]
    content = read_sidecar(sidecar_path(video))
    held = msgspec.structs.replace(lines[10], visible=lines[11].visible, n=11)  # shown twice, as fusion had it then
    header, end = msgspec.structs.replace(content.header, schema=1), content.end
    paired = [*lines[:11], held, *lines[12:]]
    sidecar_path(video).write_bytes(b"".join(encode_line(line) + b"\n" for line in (header, *paired, end)))
    with RecordingReader(video) as reader:
        assert [reader.line(index) for index in range(20)] == paired
        assert [pair.thermal.index for pair in reader] == [*range(11), 10, *range(12, 20)]
        assert np.array_equal(reader.pair(15).thermal.pixels, support.thermal_pixels(15))
        assert reader.fused(12) is not None
    data = video.read_bytes()
    video.write_bytes(data[: int(0.7 * len(data))])
    report = recover(video)
    assert report.source == "sidecar" and report.dropped > 0
    assert read_sidecar(sidecar_path(video)).header.schema == 1
    with RecordingReader(video) as reader:
        assert 5 < len(reader) < 20 and np.array_equal(reader.pair(3).thermal.pixels, support.thermal_pixels(3))
