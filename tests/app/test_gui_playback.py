"""Playback: any pair by number, A and B, the clock, rendering; and the set-up assistant without hardware."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PyQt6 import sip
from PyQt6.QtCore import QPoint, Qt
from pytestqt.qtbot import QtBot
from support.gui import FakePipeline
from support.recording import feed, frame_at, pair_at

from app.gui.common.qt_image import preview_image
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import TaskRunner
from app.gui.live.live_controller import LiveController
from app.gui.live.model_controller import ModelController
from app.gui.main_window import MainWindow
from app.gui.playback.playback_controller import PlaybackController
from app.gui.setup.assistant_controller import AssistantController
from app.gui.setup.assistant_page import AssistantPage
from app.media.reader import VideoReader
from app.playback.fuser import FuseSettings, PlaybackFuser
from app.playback.player import PlaybackSession
from app.playback.render import RenderJob
from app.playback.sources import open_source, recorded_calibration
from app.recording.config import RecordingConfig, TrackName
from app.recording.writing.recorder import Recorder
from app.rig.setup_assistant import config_text, list_sources, simulated_config, write_config
from app.view.recorder import ViewRecorder
from app.view.settings import Picture, ViewMode
from calibration.render import synthetic_rig
from calibration.rig import file_sha256, load_calibration, save_calibration
from fusion_core.engines.pyramid_engine import AverageEngine
from fusion_core.errors import BadInputError, ConfigError, UsageError
from fusion_core.frames import Frame, FrameFlag, FramePair, Stream, TimestampSource
from fusion_core.thermal.agc import AgcConfig, AgcMode

PAIRS = 12


class Numbered:
    """Pair n is visible grey n; 10 pairs a second."""

    name = "numbered"

    def __init__(self, calibration: Path | None = None) -> None:
        self.calibration = calibration
        self.config: dict[str, Any] = {}
        self.closed = False
        self.broken = -1

    def __len__(self) -> int:
        return PAIRS

    def seconds(self, index: int) -> float:
        return index / 10

    def pair(self, index: int) -> FramePair:
        if index == self.broken:
            raise BadInputError("pair is broken")
        stamp = index * 100_000_000
        counts = np.tile(np.linspace(1000, 2000, 40).astype(np.uint16), (32, 1))
        return FramePair(
            Frame(Stream.VISIBLE, np.full((64, 80, 3), 10 * index, np.uint8), index, stamp, TimestampSource.FILE),
            Frame(Stream.THERMAL, counts, index, stamp, TimestampSource.FILE),
        )

    def fused(self, index: int) -> np.ndarray:
        return np.full((64, 80, 3), 200 + index, np.uint8)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def player(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    now = [100.0]
    tasks = TaskRunner()
    window = MainWindow()
    actions, settings = window.actions_by_name, GuiSettings(tmp_path / "window.json")
    live = LiveController(window.live, actions, FakePipeline, settings, tasks)
    models = ModelController(window.live.panel, actions, live, tasks)
    control = PlaybackController(window.player, actions, models, tasks, clock_s=lambda: now[0])
    source = Numbered()
    monkeypatch.setattr("app.gui.playback.playback_controller.open_source", lambda path, thermal: source)
    with qtbot.waitSignal(control.opened):
        control.open_files(Path("x.mkv"))
    qtbot.waitUntil(lambda: not control._session.busy)  # type: ignore[union-attr]
    yield control, now, source
    with qtbot.waitSignal(control.closed):
        control.close()
    assert source.closed
    assert tasks.close()
    sip.delete(window)


def test_scrub_step_and_the_recorded_picture(qtbot: QtBot, player: Any) -> None:
    control, _, _ = player
    with qtbot.waitSignal(control.frame_ready, check_params_cb=lambda p: p.index == 7) as seen:
        control.seek(7)
    assert seen.args[0].frame.pixels[0, 0, 0] == 207 and seen.args[0].second is None
    with qtbot.waitSignal(control.frame_ready, check_params_cb=lambda p: p.index == 6):
        control.step(-1)
    control.step(99)
    assert control.index == PAIRS - 1


def test_strength_moves_the_recorded_and_the_fused_picture_between_visible_and_exaggerated(
    qtbot: QtBot, player: Any
) -> None:
    control, _, _ = player
    slider = control._page.view._strength.slider
    for percent, wanted in ((50, 138), (0, 70), (150, 255), (100, 207)):  # visible is 70, recorded 207
        value = wanted
        with qtbot.waitSignal(
            control.frame_ready, check_params_cb=lambda p, v=value: abs(int(p.frame.pixels[0, 0, 0]) - v) <= 1
        ):
            control.seek(7)
            slider.setValue(percent)
    slider.setValue(0)
    control.set_first(FuseSettings("average"))
    assert control.first.strength == 0.0
    with qtbot.waitSignal(
        control.frame_ready,
        check_params_cb=lambda p: p.frame.engine != "recorded" and bool((p.frame.pixels == 70).all()),
    ):
        control.seek(7)


def test_the_time_line_goes_to_where_it_is_clicked_and_is_dragged_from_there(qtbot: QtBot, player: Any) -> None:
    control, _, _ = player
    line = control._page.slider
    line.resize(600, 30)
    for index in (9, 3):  # once forwards, once backwards: paging would move by one page
        at = QPoint(round(600 * index / (PAIRS - 1)), 15)
        qtbot.mousePress(line, Qt.MouseButton.LeftButton, pos=at)
        assert line.value() == control.index == index
        qtbot.mouseMove(line, at + QPoint(60, 0))
        qtbot.mouseRelease(line, Qt.MouseButton.LeftButton, pos=at + QPoint(60, 0))
        assert control.index == index + 1


def test_speed_loop_and_end(qtbot: QtBot, player: Any) -> None:
    control, now, _ = player
    control.set_speed(2.0)
    control.set_playing(True)
    now[0] += 0.26  # 0.52 s of the recording
    control.tick()
    assert control.index == 5
    qtbot.waitUntil(lambda: not control._session.busy)
    now[0] += 10
    control.tick()
    assert not control.playing and control.index == PAIRS - 1
    control.set_range(3, 6)
    control.set_loop(True)
    control.set_playing(True)
    now[0] += 10
    control.tick()
    assert control.playing and control.index == 3


def test_a_and_b_on_the_same_pair(qtbot: QtBot, player: Any) -> None:
    control, _, _ = player
    control.set_first(FuseSettings("average"))
    with qtbot.waitSignal(control.frame_ready, check_params_cb=lambda p: p.second is not None) as seen:
        control.set_second(FuseSettings("average", agc=AgcConfig(mode=AgcMode.LINEAR, max_gain=0.1)))
    played = seen.args[0]
    assert played.frame.engine == "average" and played.second.shape == played.frame.pixels.shape
    assert (played.second != played.frame.pixels).any()
    assert control.view.mode is ViewMode.WIPE and control.view.wipe_right is Picture.SECOND
    control.set_second(None)
    assert control.view.wipe_right is not Picture.SECOND


def test_a_broken_pair_is_told_and_the_next_one_plays(qtbot: QtBot, player: Any) -> None:
    control, _, source = player
    source.broken = 4
    with qtbot.waitSignal(control.failed, check_params_cb=lambda text: "broken" in text):
        control.seek(4)
    with qtbot.waitSignal(control.frame_ready, check_params_cb=lambda p: p.index == 5):
        control.seek(5)


def test_rendering_a_range_reports_and_can_be_cancelled(qtbot: QtBot, player: Any, tmp_path: Path) -> None:
    control, _, _ = player
    control.set_range(2, 6)
    output = tmp_path / "out.mkv"
    with qtbot.waitSignal(control.render_changed, check_params_cb=lambda d, t, r, x: not r, timeout=60_000) as seen:
        control.render(output)
    assert seen.args[:2] == [5, 5] and str(output) in seen.args[3]
    reader = VideoReader(output, Stream.VISIBLE)
    levels = [int(frame.frame.pixels.mean()) for frame in reader.frames()]
    reader.close()
    assert levels == pytest.approx([202, 203, 204, 205, 206], abs=2)
    slow = threading.Event()

    class Slow(Numbered):
        def pair(self, index: int) -> FramePair:
            slow.wait(10)
            return super().pair(index)

    job = RenderJob(Slow, FuseSettings("average"), 0, PAIRS, tmp_path / "cut.mkv")
    job.cancel()
    slow.set()
    assert job.wait(20) and job.cancelled and job.done <= 1 and not job.error


def test_a_file_that_is_no_recording_is_told(qtbot: QtBot, tmp_path: Path) -> None:
    file = tmp_path / "no.mkv"
    file.write_bytes(b"no video")
    session = PlaybackSession(lambda: open_source(file), FuseSettings(), None)
    try:
        qtbot.waitUntil(lambda: bool(session.error))
        assert not session.opened and "no.mkv" in session.error
    finally:
        session.close()


def test_a_recording_is_aligned_by_the_calibration_it_was_made_with(qtbot: QtBot, tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    save_calibration(synthetic_rig((64, 80), (32, 40), visible_hfov_deg=60, thermal_hfov_deg=30), file)
    identity = file_sha256(file)[:16]
    config = {"app": {"calibration": {"file": str(file)}}}
    assert recorded_calibration(config, identity) == file
    assert recorded_calibration(config, f"{identity}+01234567") == file  # self-alignment on top
    assert recorded_calibration(config, "0" * 16) is None  # changed since
    assert recorded_calibration(config, "none") is None and recorded_calibration({}, identity) is None
    other = tmp_path / "other.yaml"
    save_calibration(synthetic_rig((48, 64), (24, 32)), other)
    for calibration, seen in ((file, True), (other, False), (None, False)):
        session = PlaybackSession(lambda file=calibration: Numbered(file), FuseSettings("average"), None)  # type: ignore[misc]
        try:
            session.show(9)
            qtbot.waitUntil(lambda: session.latest.peek() is not None or bool(session.error))  # noqa: B023
            played = session.latest.peek()
            assert played is not None and session.error == ""
            frame = played.frame
            assert (frame.alignment is not None) == seen and frame.thermal_8bit is not None
            assert (frame.thermal_8bit[0, 0] == 0) == seen or calibration is not file
            if frame.alignment is not None and frame.pair.visible is not None:
                visible = frame.pair.visible.pixels
                whole = frame.alignment.filled(frame.thermal_8bit, visible)
                assert np.array_equal(frame.pixels, AverageEngine().fuse(visible, whole))
        finally:
            session.close()


@pytest.mark.parametrize("left_out", [TrackName.VISIBLE, TrackName.THERMAL])
def test_a_picture_of_both_cameras_is_not_said_to_be_of_one_where_the_file_has_one(
    tmp_path: Path, left_out: TrackName
) -> None:
    tracks = tuple(track for track in TrackName if track is not left_out)
    recorder = Recorder(RecordingConfig(directory=tmp_path, reserve_mb=1, tracks=tracks))
    recorder.start()
    for index in range(3):
        feed(recorder, frame_at(index))
    feed(
        recorder, pair_at(None, 3, 1_100_000_000) if left_out is TrackName.VISIBLE else pair_at(3, None, 1_100_000_000)
    )
    recorder.close()
    (file,) = tmp_path.glob("*.mkv")
    source, flags = open_source(file), []
    one = FrameFlag.THERMAL_ONLY if left_out is TrackName.VISIBLE else FrameFlag.VISIBLE_ONLY
    for settings in (FuseSettings(), FuseSettings("average")):
        fuser = PlaybackFuser(settings, None)
        flags.append([fuser.fuse(source.pair(at), source.fused(at)).pair.flags & one for at in (1, 3)])
        fuser.close()
    source.close()
    assert flags[0] == [FrameFlag.NONE, one]  # as it was recorded
    fused_anew = FrameFlag.NONE if left_out is TrackName.VISIBLE else one  # the recorded picture stands in for visible
    assert flags[1] == [fused_anew, one]


def test_two_files_become_pairs_at_any_place(tmp_path: Path) -> None:
    from fractions import Fraction

    from app.media.writer import VideoFormat, VideoWriter

    visible, thermal = tmp_path / "visible.mkv", tmp_path / "thermal.mkv"
    writer = VideoWriter(visible, 64, 80, Fraction(1, 1000), Fraction(10))
    for number in range(10):
        writer.write(np.full((64, 80, 3), 20 * number, np.uint8), number * 100, 100)
    writer.close()
    writer = VideoWriter(thermal, 32, 40, Fraction(1, 1000), Fraction(10), VideoFormat("ffv1", "gray16le"))
    for number in range(10):
        writer.write(np.full((32, 40), 1000 * number, np.uint16), number * 100 + 7, 100)
    writer.close()
    source = open_source(visible, thermal)
    assert len(source) == 10 and source.seconds(9) == pytest.approx(0.9)
    for index in (7, 2, 3, 9, 0):
        pair = source.pair(index)
        assert pair.visible is not None and pair.thermal is not None
        assert int(pair.visible.pixels.mean()) == pytest.approx(20 * index, abs=3)
        assert int(pair.thermal.pixels[0, 0]) == 1000 * index
        assert pair.skew_ns == 0  # each file's start is zero
    assert source.fused(0) is None
    source.close()


def test_the_view_recorder_keeps_one_size(tmp_path: Path) -> None:
    recorder = ViewRecorder(tmp_path / "made" / "view.mkv")
    for size in ((48, 64), (96, 128), (48, 64)):
        recorder.offer(np.full((*size, 4), 120, np.uint8))
        threading.Event().wait(0.02)  # stamps are milliseconds of real time
    recorder.close()
    assert recorder.error == ""
    reader = VideoReader(recorder.path, Stream.VISIBLE)
    assert (reader.height, reader.width) == (48, 64) and len(list(reader.frames())) == 3
    reader.close()


# ---------------------------------------------------------------------------------------------- set-up assistant


def test_the_assistant_shows_both_and_writes_a_file_that_loads(qtbot: QtBot, tmp_path: Path) -> None:
    tasks = TaskRunner()
    small = simulated_config(simulation={"height": 96, "width": 128, "thermal_height": 48, "thermal_width": 64})
    page = AssistantPage()
    qtbot.addWidget(page)
    control = AssistantController(page, tasks, tmp_path, lambda v, t: _small_preview(v, t, small))
    seen: set[Stream] = set()
    control.frame_ready.connect(lambda stream, frame, error: seen.add(stream) if frame is not None else None)
    with qtbot.waitSignal(control.sources_ready) as found:
        control.list_cameras()
    assert {"sim:visible", "sim:thermal"} <= {choice.uri for choice in found.args[0]}
    control.preview("sim:visible", "sim:thermal")
    qtbot.waitUntil(lambda: seen == set(Stream), timeout=60_000)
    with qtbot.waitSignal(control.saved, timeout=60_000) as saved:
        control.save("my rig/1")
    assert saved.args[0].name == "my-rig-1.yaml" and 'rig: "my rig/1"' in saved.args[0].read_text()
    with qtbot.waitSignal(control.failed, check_params_cb=lambda text: "exists" in text, timeout=60_000):
        control.preview("sim:visible", "sim:thermal")
        control.save("my rig/1")
    with qtbot.waitSignal(control.stopped, timeout=60_000):
        control.stop()
    assert tasks.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("preview")]


def _small_preview(visible: str, thermal: str, config: Any) -> Any:
    from app.rig.setup_assistant import PairPreview

    return PairPreview(visible, thermal, config)


def test_written_configurations_are_checked(tmp_path: Path) -> None:
    text = config_text('a "rig"', "v4l2:serial=123", "rtsp://cam/1", 12.34)
    config = write_config(tmp_path / "a.yaml", text)
    assert config.rig == 'a "rig"' and config.thermal.offset_ms == -12.3
    with pytest.raises(UsageError):
        write_config(tmp_path / "a.yaml", text)
    with pytest.raises(ConfigError):
        write_config(tmp_path / "b.yaml", config_text("r", "v4l2:0", "sim:thermal", None))
    assert not list(tmp_path.glob("*b.yaml*"))


def test_the_assistant_finds_unequal_lenses_from_the_scene_and_keeps_what_it_found(tmp_path: Path) -> None:
    from app.rig.setup_assistant import FoundAlignment, found_alignment, write_rig
    from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

    rig = SimulatedRig(
        SimulatedRigConfig(
            height=240, width=320, thermal_height=96, thermal_width=128, hfov_visible_deg=66.0, hfov_thermal_deg=46.0
        )
    )
    pairs = [(rig.visible(t), rig.thermal(t)) for t in (0.0, 1.5, 3.0, 4.5)]
    found = found_alignment(pairs, lambda *_: None)
    assert found.off_px is not None and found.off_px > 15 and found.left_px < 2

    def stop(*_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):  # as a preview that is closed meanwhile does
        found_alignment(pairs, stop)
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    assert found_alignment([(noise, rig.thermal(0.0))], lambda *_: None).calibration is None
    config = write_rig(tmp_path / "roof.yaml", "roof", ("v4l2:serial=1", "v4l2:serial=2"), None, found)
    assert config.calibration.file == (tmp_path / "roof.calibration.yaml").resolve()
    kept = load_calibration(config.calibration.file)
    middle = kept.visible_from_thermal(np.array([[63.5, 47.5], [126.0, 47.5]]))
    assert middle[0] == pytest.approx([159.5, 119.5], abs=4) and middle[1, 0] - middle[0, 0] == pytest.approx(
        102, abs=6
    )
    with pytest.raises(UsageError, match="exists"):
        write_rig(tmp_path / "roof.yaml", "roof", ("v4l2:serial=1", "v4l2:serial=2"), None, found)
    with pytest.raises(ConfigError):
        write_rig(tmp_path / "bad.yaml", "bad", ("v4l2:0", "sim:thermal"), None, found)
    assert not list(tmp_path.glob("*bad*"))
    assert (
        write_rig(
            tmp_path / "plain.yaml", "r", ("v4l2:serial=1", "v4l2:serial=2"), None, FoundAlignment()
        ).calibration.file
        is None
    )


def test_previews_stretch_counts() -> None:
    counts = np.tile(np.linspace(20000, 21000, 64).astype(np.uint16), (48, 1))
    image = preview_image(Frame(Stream.THERMAL, counts, 0, 0, TimestampSource.FILE))
    assert (image.width(), image.height()) == (32, 24)
    assert image.pixelColor(0, 0).getRgb()[:3] == (0, 0, 0) and image.pixelColor(31, 0).getRgb()[:3] == (255, 255, 255)
    assert list_sources()[-1].uri == "sim:thermal"
