"""A and B on live pictures, the list of models, putting one to use and rolling back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PyQt6 import sip
from pytestqt.qtbot import QtBot
from support import gui as _support

from app.configuration.config import EngineConfig, EngineName, Preset
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import TaskRunner
from app.gui.live.agc_controller import AgcController
from app.gui.live.compare_panel import ComparePanel
from app.gui.live.comparison_controller import ComparisonController
from app.gui.live.live_controller import LiveController
from app.gui.live.model_controller import ModelController, model_of
from app.gui.live.rig_panels import EnginePanel
from app.gui.main_window import MainWindow
from app.gui.widgets.model_box import ModelBox, ModelList
from app.pipeline.live_fusion import LiveFusion
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.thermal_grid import ThermalGrid
from app.playback.comparison import Comparison, ComparisonSettings
from app.rig.setup_assistant import simulated_config
from app.view.settings import IsothermKind, Picture, ViewMode
from calibration.render import synthetic_rig
from calibration.rig import save_calibration
from fusion_core import model_store
from fusion_core.frames import FusedFrame
from fusion_core.model_store import ModelStore, StoredModel
from fusion_core.thermal.agc import AgcConfig, AgcMode

PATIENCE_MS = 120_000
TINY = Path(model_store.__file__).parent / "weights" / "tiny.safetensors"
SHIPPED = StoredModel("tiny", TINY, "shipped", True, 1)
ADDED = StoredModel("night", Path("store") / "night.safetensors", "added", False, 1, added="2026-01-02T00:00:00")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.made: list[Any] = []
        self.tasks = TaskRunner()
        self.window = MainWindow()
        page, actions = self.window.live, self.window.actions_by_name
        self.main = LiveController(page, actions, self.make, GuiSettings(folder / "window.json"), self.tasks)
        self.agc = AgcController(page.panel, actions, self.main, self.tasks)
        store = folder / "models"
        self.models = ModelController(page.panel, actions, self.main, self.tasks, lambda: ModelStore(store))
        self.comparison = ComparisonController(page, self.main, self.agc, self.models, self.tasks)

    def make(self, config: Any) -> Any:
        self.made.append(_support.FakePipeline(config))
        return self.made[-1]


@pytest.fixture
def bench(qtbot: QtBot, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.main.open_config(simulated_config())
    qtbot.waitUntil(lambda: bench.main.state is ControllerState.RUNNING)
    yield bench
    with qtbot.waitSignal(bench.main.stopped):
        bench.main.stop()
    assert bench.tasks.close()
    sip.delete(bench.window)


# ---------------------------------------------------------------------------------------------- the second fusion


def test_the_same_pair_is_fused_again_and_again_by_other_settings(qtbot: QtBot) -> None:
    slot: LatestSlot[FusedFrame] = LatestSlot()
    comparison = Comparison(slot, ComparisonSettings("average"))
    comparison.start()
    try:
        frame = _support.a_frame(value=100)
        slot.put(frame)
        qtbot.waitUntil(lambda: comparison.ready)
        compared = comparison.latest.peek()
        assert compared is not None and compared.frame is frame
        assert compared.second.shape == frame.pixels.shape and not compared.second.flags.writeable
        assert abs(int(compared.second.mean()) - 100) <= 2  # the average of two equal greys

        own_agc = ComparisonSettings("average", agc=AgcConfig(mode=AgcMode.MANUAL, manual_low=0, manual_high=24001))
        comparison.set_settings(own_agc)
        assert not comparison.ready  # what is there is by the settings before
        slot.put(frame)
        qtbot.waitUntil(lambda: comparison.ready)
        newest = comparison.latest.peek()
        assert newest is not None and newest.second.mean() > 170  # all counts are at the hot end

        comparison.set_settings(ComparisonSettings("no such engine"))
        slot.put(frame)
        qtbot.waitUntil(lambda: "no such engine" in comparison.error)
        assert not comparison.ready
        comparison.set_settings(ComparisonSettings("edges"))
        slot.put(replace(frame, thermal_8bit=None))  # a camera is missing: B waits
        slot.put(frame)
        qtbot.waitUntil(lambda: comparison.ready)
        assert comparison.error == ""
    finally:
        assert comparison.stop()


@pytest.mark.parametrize("own_agc", [False, True])
def test_b_aligns_as_a_did_and_fills_what_thermal_does_not_see(qtbot: QtBot, tmp_path: Path, own_agc: bool) -> None:
    save_calibration(
        synthetic_rig((96, 128), (48, 64), visible_hfov_deg=60, thermal_hfov_deg=30), tmp_path / "rig.yaml"
    )
    alignment = ThermalGrid(tmp_path / "rig.yaml").alignment(96, 128)
    assert alignment is not None and 0.1 < alignment.seen.mean() < 0.5
    frame = _support.a_frame(96, 128, value=120)
    counts = np.full((48, 64), 24000, np.uint16)
    assert frame.pair.thermal is not None
    thermal = replace(frame.pair.thermal, pixels=counts)
    levels = alignment.to_visible(np.full((48, 64), 120, np.uint8))
    frame = replace(frame, pair=replace(frame.pair, thermal=thermal), thermal_8bit=levels, alignment=alignment)
    agc = AgcConfig(mode=AgcMode.MANUAL, manual_low=0, manual_high=24001) if own_agc else None
    slot: LatestSlot[FusedFrame] = LatestSlot()
    comparison = Comparison(slot, ComparisonSettings("average", agc=agc))
    comparison.start()
    try:
        slot.put(frame)
        qtbot.waitUntil(lambda: comparison.ready or bool(comparison.error))
        assert comparison.error == ""
        compared = comparison.latest.peek()
        assert compared is not None
        second = compared.second[..., 1].astype(int)
        assert 118 <= second[0, 0] <= 135, "away from the field it fades to the visible picture, 120, not to half of it"
        inside = second[48, 64]
        assert abs(inside - (187 if own_agc else 120)) <= 2
        assert np.abs(np.diff(second[48])).max() <= 4, "no outline where the field ends"
    finally:
        assert comparison.stop()


def test_labels_say_what_differs() -> None:
    assert ComparisonSettings("pyramid").label == "pyramid"
    assert ComparisonSettings("torch", "small").label == "torch, small"
    night = ComparisonSettings("auto", weights=Path("x/night.safetensors"), agc=AgcConfig(mode=AgcMode.CLAHE))
    assert night.label == "auto, night, clahe"


def test_comparing_shows_both_sides_and_ending_it_shows_the_view_from_before(qtbot: QtBot, bench: Bench) -> None:
    main, comparison = bench.main, bench.comparison
    shown: list[tuple[Any, Any]] = []
    main.frame_ready.connect(lambda frame, second: shown.append((frame, second)))
    main.set_mode(ViewMode.QUAD)
    comparison.compare(ComparisonSettings("average"))
    assert main.view.mode is ViewMode.WIPE and main.view.wipe_right is Picture.SECOND
    bench.made[-1].latest.put(_support.a_frame())
    qtbot.waitUntil(lambda: bool(shown) and shown[-1][1] is not None)
    with qtbot.waitSignal(comparison.state_changed, check_params_cb=lambda text: "ms a picture" in text):
        pass
    main.frame_presented()
    assert [call[0] for call in bench.made[-1].calls] == ["start"]  # the pipeline was asked for nothing
    profile_before = main.view
    assert main._settings.save()
    assert GuiSettings(main._settings.file).profile("simulated").view.wipe_right is Picture.FUSED
    assert main.view == profile_before
    comparison.toggle()
    assert comparison.settings is None and main.view.mode is ViewMode.QUAD
    assert main.view.wipe_right is Picture.FUSED
    comparison.toggle()  # the same B again
    assert comparison.settings == ComparisonSettings("average")
    comparison.compare(ComparisonSettings("no such engine"))
    bench.made[-1].latest.put(_support.a_frame())
    with qtbot.waitSignal(comparison.state_changed, check_params_cb=lambda text: "no such engine" in text):
        pass
    main.pull_frame()
    assert shown[-1][1] is None  # A goes on alone


def test_b_is_taken_over_with_its_engine_and_agc(qtbot: QtBot, bench: Bench) -> None:
    agc = AgcConfig(mode=AgcMode.CLAHE)
    bench.comparison.compare(ComparisonSettings("edges", agc=agc))
    bench.comparison.promote()
    calls = bench.made[-1].calls
    qtbot.waitUntil(lambda: len(calls) == 3)
    assert ("set_engine", "edges", "tiny", None) in calls and ("set_agc", agc) in calls
    assert bench.comparison.settings is None
    assert bench.main.config is not None and bench.main.config.engine.name is EngineName.EDGES


def test_a_stopped_rig_ends_the_comparison(qtbot: QtBot, bench: Bench) -> None:
    bench.comparison.compare(ComparisonSettings("average"))
    with qtbot.waitSignal(bench.main.stopped):
        bench.main.stop()
    assert bench.comparison.settings is None
    with qtbot.waitSignal(bench.main.notice, check_params_cb=lambda text: "start a rig" in text):
        bench.comparison.compare(ComparisonSettings("average"))


# ---------------------------------------------------------------------------------------------- models


def test_a_model_is_added_used_and_rolled_back(qtbot: QtBot, bench: Bench, tmp_path: Path) -> None:
    night = tmp_path / "night.safetensors"
    shutil.copy(TINY, night)
    with qtbot.waitSignal(bench.models.added, timeout=PATIENCE_MS) as added:
        bench.models.add(night)
    assert added.args == ["night"]
    qtbot.waitUntil(lambda: "night" in [m.name for m in bench.models.models.models], timeout=PATIENCE_MS)
    stored = bench.models.models.models[-1]
    assert bench.models.models.active == "tiny" and bench.models.models.before == ""
    bench.models.use(EngineConfig(name=EngineName.TORCH, weights=stored.path))
    qtbot.waitUntil(lambda: bench.models.models.active == "night", timeout=PATIENCE_MS)
    assert bench.models.models.before == "tiny"
    assert bench.made[-1].calls[-1] == ("set_engine", "torch", "auto", stored.path)
    with qtbot.waitSignal(bench.main.notice, timeout=PATIENCE_MS, check_params_cb=lambda text: "tiny" in text):
        bench.models.roll_back()
    qtbot.waitUntil(lambda: bench.made[-1].calls[-1] == ("set_engine", "torch", "tiny", None))
    qtbot.waitUntil(lambda: bench.models.models.active == "tiny" and bench.models.models.before == "")
    with qtbot.waitSignal(bench.main.problems_changed, check_params_cb=lambda p: "roll back" in p[0].text):
        bench.models.roll_back()
    (tmp_path / "no.safetensors").write_bytes(b"no weights")
    with qtbot.waitSignal(bench.main.problems_changed, timeout=PATIENCE_MS):
        bench.models.add(tmp_path / "no.safetensors")


def test_the_model_in_use_fuses_where_weights_are_called_active(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`engine.weights: active` in a real pipeline: the store's model is built, and named."""
    monkeypatch.setenv("LUMITHERM_MODELS", str(tmp_path / "models"))
    night = tmp_path / "night.safetensors"
    shutil.copy(TINY, night)
    store = ModelStore()
    store.add(night)
    store.use("night")
    size = {"height": 96, "width": 128, "thermal_height": 48, "thermal_width": 64, "visible_fps": 5, "thermal_fps": 5}
    config = simulated_config(engine={"name": "torch", "weights": "active"}, simulation=size)
    live = LiveFusion(config)
    live.start()
    try:
        qtbot.waitUntil(lambda: "night" in live.stats.snapshot().engine, timeout=PATIENCE_MS)
        frame = live.latest.peek()
        assert frame is not None
        qtbot.waitUntil(lambda: "night" in getattr(live.latest.peek(), "engine", ""), timeout=PATIENCE_MS)
        assert live.stats.snapshot().fallback_reason is None
    finally:
        live.stop(20.0)


def test_settings_are_matched_with_the_models_of_the_store() -> None:
    models = ModelList((SHIPPED, ADDED), "night", "tiny")
    assert model_of("tiny", None, models) == "tiny"
    assert model_of("tiny", Path("active"), models) == "night"
    assert model_of("tiny", ADDED.path, models) == "night"
    assert model_of("tiny", Path("elsewhere.safetensors"), models) == ""


# ---------------------------------------------------------------------------------------------- widgets


def test_the_model_box_lists_and_keeps_the_choice(qtbot: QtBot) -> None:
    box = ModelBox("Model")
    qtbot.addWidget(box)
    box.show_choice("small", None)
    assert box.choice() == ("small", None)
    box.show_models(ModelList((SHIPPED, ADDED), "night", "tiny"))
    assert box.choice() == ("small", None)  # chosen before the list was there
    box.show_choice("tiny", ADDED.path)
    assert box.choice() == ("tiny", ADDED.path) and "night" in box.box.currentText()
    box.show_choice("tiny", Path("active"))
    assert "night" in box.box.currentText() and box.choice()[1] == Path("active")
    box.show_choice("tiny", Path("far") / "away.safetensors")
    assert box.box.currentText() == "away.safetensors"
    box.show_models(ModelList((SHIPPED,), "tiny", ""))
    assert box.choice()[1] == Path("far") / "away.safetensors"


def test_the_engine_panel_rolls_back_only_where_there_is_something(qtbot: QtBot) -> None:
    panel = EnginePanel()
    qtbot.addWidget(panel)
    assert not panel._back.isEnabled()
    panel.show_models(ModelList((SHIPPED, ADDED), "night", "tiny"))
    assert panel._back.isEnabled() and "tiny" in panel._back.toolTip()
    panel.show_engine(EngineConfig(name=EngineName.AUTO, preset=Preset.TINY, weights=ADDED.path))
    with qtbot.waitSignal(panel.engine_chosen) as chosen:
        panel._apply.click()
    assert chosen.args[0].weights == ADDED.path
    with qtbot.waitSignal(panel.engine_chosen) as classical:
        panel.choose(EngineName.PYRAMID)
    assert classical.args[0].weights is None


def test_the_compare_panel_asks_for_b_and_its_end(qtbot: QtBot) -> None:
    panel = ComparePanel()
    qtbot.addWidget(panel)
    panel.show_agc(AgcConfig(max_gain=7.0))
    panel.engine.setCurrentIndex(panel.engine.findData("torch"))
    panel.agc.setCurrentIndex(panel.agc.findData("clahe"))
    with qtbot.waitSignal(panel.settings_chosen) as on:
        panel.on.click()
    settings = on.args[0]
    assert settings.engine == "torch" and settings.agc.mode is AgcMode.CLAHE and settings.agc.max_gain == 7.0
    with qtbot.waitSignal(panel.settings_chosen) as off:
        panel.on.click()
    assert off.args == [None]


# ---------------------------------------------------------------------------------------------- keys of the AGC


def test_the_span_is_locked_and_let_go(qtbot: QtBot, bench: Bench) -> None:
    agc, main = bench.agc, bench.main
    with qtbot.waitSignal(main.notice):
        agc.lock_span()  # there is no picture yet
    bench.made[-1].latest.put(replace(_support.a_frame(), agc_limits=(23000.4, 25000.6)))
    main.pull_frame()
    agc.lock_span()
    assert main.config is not None and main.config.agc.mode is AgcMode.MANUAL
    assert (main.config.agc.manual_low, main.config.agc.manual_high) == (23000, 25001)
    agc.lock_span()
    assert main.config.agc == AgcConfig()
    seen = []
    for _ in range(4):
        agc.next_agc()
        seen.append(main.config.agc.mode)
    assert set(seen) == set(AgcMode) - {AgcMode.MANUAL}


def test_the_isotherm_goes_round_from_the_middle_of_what_is_mapped(qtbot: QtBot, bench: Bench) -> None:
    main = bench.main
    bench.made[-1].latest.put(replace(_support.a_frame(), agc_limits=(20000.0, 28000.0)))
    main.pull_frame()
    kinds = []
    for _ in range(4):
        main.next_isotherm()
        kinds.append(main.view.isotherm.kind if main.view.isotherm else None)
    assert kinds == [*IsothermKind, None]
    main.next_isotherm()
    assert main.view.isotherm is not None and (main.view.isotherm.low, main.view.isotherm.high) == (22000, 26000)


def test_counts_are_not_touched_by_comparing(qtbot: QtBot) -> None:
    """B shares A's pictures and must not write into them."""
    slot: LatestSlot[FusedFrame] = LatestSlot()
    frame = _support.a_frame(value=90)
    assert frame.thermal_8bit is not None
    before = frame.thermal_8bit.copy(), frame.pixels.copy()
    comparison = Comparison(slot, ComparisonSettings("pyramid"))
    comparison.start()
    try:
        slot.put(frame)
        qtbot.waitUntil(lambda: comparison.ready or bool(comparison.error))
        assert comparison.error == ""
    finally:
        assert comparison.stop()
    assert np.array_equal(before[0], frame.thermal_8bit) and np.array_equal(before[1], frame.pixels)
