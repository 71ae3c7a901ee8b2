"""Setting a rig up in the window: addresses, files and known cameras, offsets worth saving, practising, two files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot
from support.gui import Fakes

from app.capture.offset_estimator import OffsetEstimate
from app.gui.live.comparison_controller import same_as_running
from app.gui.setup.assistant_page import AssistantPage
from app.gui.setup.calibration_controller import CalibrationPhase
from app.playback.comparison import ComparisonSettings
from app.playback.fuser import FuseSettings, PlaybackFuser
from app.rig.setup_assistant import address_uri, config_text, list_profiles, offset_to_save
from fusion_core.frames import Frame, FramePair, Stream, TimestampSource
from fusion_core.thermal.agc import AgcConfig, AgcMode


@pytest.fixture
def fakes(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Fakes]:
    fakes = Fakes(qapp, tmp_path, qtbot)
    yield fakes
    fakes.close()


# ---------------------------------------------------------------------------------------------- the assistant


def test_what_is_pasted_becomes_an_address(tmp_path: Path) -> None:
    assert address_uri("  rtsp://u:p@10.0.0.2:554/main ") == "rtsp://u:p@10.0.0.2:554/main"
    assert address_uri('"/data/therm 1.mkv"') == "file:/data/therm 1.mkv"
    assert address_uri("file:///data/a%20b.mkv") == "file:/data/a b.mkv"
    assert address_uri(str(tmp_path)) == f"images:{tmp_path}"
    assert address_uri("v4l2:serial=1") == "v4l2:serial=1" and address_uri("  ") == ""


def test_an_address_and_a_file_are_picked_for_the_preview(qtbot: QtBot) -> None:
    page = AssistantPage()
    qtbot.addWidget(page)
    page.show_sources([])
    page.address_given.connect(lambda stream, text: page.add_source(stream, address_uri(text)))
    asked: list[tuple[str, str]] = []
    page.preview_asked.connect(lambda *uris: asked.append(uris))
    page.addresses[Stream.VISIBLE].setText("rtsp://admin:secret@10.0.0.2/main")
    page.addresses[Stream.VISIBLE].returnPressed.emit()
    page.address_given.emit(Stream.THERMAL, "/data/t.mkv")
    assert asked[-1] == ("rtsp://admin:secret@10.0.0.2/main", "file:/data/t.mkv")
    assert "secret" not in page.boxes[Stream.VISIBLE].currentText()
    page.show_sources([])  # searched again: what was added stays
    assert page.uris() == asked[-1]


def test_a_known_camera_fills_in_both_addresses(qtbot: QtBot) -> None:
    page = AssistantPage()
    qtbot.addWidget(page)
    page.show_profiles(list_profiles())
    assert page.profile.count() >= 3
    name, visible, thermal = list_profiles()[0]
    page.profile.setCurrentIndex(page.profile.findText(name))
    page.host.setText("10.1.2.3")
    page.host.returnPressed.emit()
    assert page.uris() == (visible.replace("HOST", "10.1.2.3"), thermal.replace("HOST", "10.1.2.3"))


@pytest.mark.parametrize(
    ("offset_ms", "sigma_ms", "sure", "saved"),
    [
        (-7.0, 1.5, True, None),  # simulated cameras are in step: what is measured there must not be written down
        (-4.0, 0.5, True, None),
        (42.0, 2.0, True, 42.0),
        (-35.0, 3.0, True, -35.0),
        (25.0, 12.0, True, None),  # not known well enough
        (80.0, 1.0, False, None),
    ],
)
def test_an_offset_is_saved_when_it_is_better_than_none(
    offset_ms: float, sigma_ms: float, sure: bool, saved: float | None
) -> None:
    assert offset_to_save(OffsetEstimate(offset_ms, 0.8, sure, sigma_ms=sigma_ms)) == saved
    assert offset_to_save(None) is None
    text = config_text("r", "sim:visible", "sim:thermal", saved)
    assert ("offset_ms: null  # ms" in text) == (saved is None)


# ---------------------------------------------------------------------------------------------- A and B


def test_a_is_never_compared_with_itself(fakes: Fakes) -> None:
    agc = AgcConfig()
    assert same_as_running(ComparisonSettings("pyramid"), "pyramid", agc)
    assert same_as_running(ComparisonSettings("auto", "tiny"), "openvino-bf16:tiny", agc)
    assert same_as_running(ComparisonSettings("pyramid", agc=agc), "pyramid", agc)
    assert not same_as_running(ComparisonSettings("auto", "small"), "openvino-bf16:tiny", agc)
    assert not same_as_running(ComparisonSettings("pyramid", agc=AgcConfig(mode=AgcMode.LINEAR)), "pyramid", agc)
    pipeline = fakes.start()
    pipeline.stats.engine("pyramid", "auto:tiny is being built")  # the fallback runs
    fakes.show()
    comparison = fakes.controller.comparison
    comparison.compare(ComparisonSettings("pyramid"))
    assert comparison.settings == ComparisonSettings("average")
    assert any("fused in the same way" in text for text in fakes.window.live.stage.banners.texts())
    pipeline.stats.engine("average")
    fakes.show()
    comparison.tick()  # A has become what B is
    assert comparison.settings == ComparisonSettings("pyramid")
    comparison.compare(None)


def test_in_playback_neither(fakes: Fakes) -> None:
    playback = fakes.controller.playback
    playback.set_first(FuseSettings("pyramid"))
    playback.set_second(FuseSettings("pyramid"))
    assert playback.second is not None and playback.second.engine == "average"
    playback.set_first(FuseSettings("average"))
    assert playback.second is not None and playback.second.engine != "average"


# ---------------------------------------------------------------------------------------------- two files


def test_two_files_are_fused_by_the_network_and_aligned_until_it_is_ready(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        "app.gui.playback.playback_controller.PlaybackSession", lambda _, first, second: opened.append(first) or Stub()
    )
    fakes.controller.playback.open_files(Path("v.mkv"), Path("t.mkv"))
    assert opened[0].engine == "auto" and opened[0].preset == "tiny"
    fakes.controller.playback.close()
    random = np.random.default_rng(3)
    scene = np.repeat(np.repeat(random.integers(0, 255, (12, 16), np.uint8), 10, 0), 10, 1)
    visible = np.repeat(scene[..., None], 3, axis=2)
    counts = (np.roll(scene, 6, axis=1).astype(np.uint16) * 20) + 20_000  # 6 px beside it
    pair = FramePair(
        Frame(Stream.VISIBLE, visible, 0, 0, TimestampSource.FILE),
        Frame(Stream.THERMAL, counts, 0, 0, TimestampSource.FILE),
    )
    fuser = PlaybackFuser(FuseSettings("auto"), None, background=True)
    try:
        frame = fuser.fuse(pair, None)
        assert frame.engine == "ncc-pyramid"  # no network yet: it undoes the shift
        building = fuser.building
        assert building is not None and building[0] >= 0.0
    finally:
        fuser.close()


class Stub:
    """A session that never opens."""

    opened, seconds, name = False, (), ""

    def show(self, index: int) -> None: ...
    def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------- practising


@pytest.mark.slow
def test_calibrating_can_be_practised_with_a_simulated_board(fakes: Fakes, qtbot: QtBot) -> None:
    fakes.start()
    fakes.show()
    control, page = fakes.controller.calibration, fakes.window.calibration
    fakes.window.actions_by_name["calibrate"].trigger()
    assert page.views_text.text() and page.coverage_text.text()  # the bars are labelled from the start
    page.practise.click()
    qtbot.waitUntil(lambda: control.phase is CalibrationPhase.CAPTURING, timeout=120_000)
    assert page.note.isVisible() and not page.apply.isVisibleTo(page)
    qtbot.waitUntil(lambda: page.views.value() >= 3, timeout=240_000)
    assert control._practice is not None
    folder = control._practice.folder
    control.discard()
    assert not page.note.isVisible() and control.phase is CalibrationPhase.CHOOSING
    qtbot.waitUntil(lambda: not folder.exists(), timeout=60_000)
    assert not (fakes.folder / "calibration").exists()
