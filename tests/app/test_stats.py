"""Statistics: rates, percentiles, bounds of memory, and what the views make of them."""

from __future__ import annotations

import dataclasses
import io
import json
import threading

import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from app.commands.stats_view import StatsView, budget_text, log_fields, render_table
from app.pipeline.state.histogram import Histogram, WindowedHistogram
from app.pipeline.state.stats import BudgetLevel, BudgetReading, Latency, RecordingState, Stage, Stats, StatsSnapshot
from fusion_core.frames import Stream


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stats(clock: FakeClock) -> Stats:
    return Stats(clock)


def run_at(stats: Stats, clock: FakeClock, rate_hz: float, seconds: float) -> None:
    for _ in range(round(rate_hz * seconds)):
        clock.advance(1.0 / rate_hz)
        stats.frame(Stage.FUSED)


@pytest.mark.parametrize("rate_hz", [1.0, 8.7, 29.97, 60.0, 240.0])
def test_rate_is_exact_for_a_steady_stream(stats: Stats, clock: FakeClock, rate_hz: float) -> None:
    run_at(stats, clock, rate_hz, 10.0)
    assert stats.snapshot().fps["fused"] == pytest.approx(rate_hz, rel=0.01 if rate_hz > 1 else 0.6)


def test_rate_falls_to_zero_when_frames_stop(stats: Stats, clock: FakeClock) -> None:
    run_at(stats, clock, 30.0, 5.0)
    clock.advance(1.0)
    assert 10.0 < stats.snapshot().fps["fused"] < 20.0
    clock.advance(1.5)
    snapshot = stats.snapshot()
    assert snapshot.fps["fused"] == 0.0
    assert snapshot.frames["fused"] == 150


def test_latency_recent_forgets_total_remembers(stats: Stats, clock: FakeClock) -> None:
    for _ in range(100):
        clock.advance(0.03)
        stats.latency(Latency.FUSED, 20.0)
    stats.latency(Latency.FUSED, 500.0)
    recent = stats.snapshot().latency_ms["grab_to_fused"]
    assert recent.p50 == pytest.approx(20.0, rel=0.026)
    assert recent.p95 == pytest.approx(20.0, rel=0.026)
    assert recent.maximum == 500.0
    clock.advance(60.0)
    later = stats.snapshot()
    assert later.latency_ms["grab_to_fused"].count == 0
    assert later.latency_ms["grab_to_fused"].p50 is None
    assert later.latency_total_ms["grab_to_fused"].count == 101
    assert later.latency_ms["grab_to_shown"].count == 0


def test_skew_has_size_and_sign(stats: Stats, clock: FakeClock) -> None:
    for _ in range(200):
        clock.advance(0.03)
        stats.skew(-8_000_000)
    snapshot = stats.snapshot()
    assert snapshot.skew_ms.p50 == pytest.approx(8.0, rel=0.026)
    assert snapshot.skew_mean_ms == pytest.approx(-8.0)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0.02, 9e4), min_size=1, max_size=200), percent=st.sampled_from([50.0, 95.0, 99.0]))
def test_percentiles_are_right_to_a_bucket(values: list[float], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.026)


def test_histogram_takes_any_number() -> None:
    histogram = Histogram()
    for value in (float("nan"), float("inf"), float("-inf")):
        histogram.add(value)
    assert histogram.count == 0
    assert histogram.percentile(50.0) is None
    for value in (-5.0, 0.0, 1e12):
        histogram.add(value)
    assert histogram.count == 3
    assert histogram.percentile(1.0) == pytest.approx(0.005)
    assert histogram.maximum == 1e12


def test_windowed_histogram_keeps_a_bounded_number_of_slices() -> None:
    window = WindowedHistogram(slices=5, slice_ns=1_000)
    for now_ns in range(0, 1_000_000, 100):
        window.add(1.0, now_ns)
    assert len(window._slices) == 5
    assert window.merged(999_900).count == 50


def test_drops_queues_states(stats: Stats) -> None:
    stats.drop("recorder full")
    stats.drop("recorder full", 3)
    stats.set_drops("synchronizer: too old", 7)
    stats.queue("recorder", 9, 64)
    stats.queue("recorder", 2, 64)
    stats.reconnect(Stream.THERMAL)
    stats.camera_state(Stream.THERMAL, "stalled")
    for active in (True, True, False, True):
        stats.ffc(active)
    stats.engine("pyramid", "openvino: model is being compiled")
    stats.recording(RecordingState.RECORDING, "a.mkv", 12.0, 3600.0)
    stats.warn("agc", "mode: live linear, trained with plateau")
    stats.warn("disk", "low")
    stats.warn("disk", None)
    snapshot = stats.snapshot()
    assert dict(snapshot.drops) == {"recorder full": 4, "synchronizer: too old": 7}
    assert snapshot.total_drops == 11
    assert snapshot.queues["recorder"].depth == 2
    assert snapshot.queues["recorder"].most == 9
    assert dict(snapshot.reconnects) == {"visible": 0, "thermal": 1}
    assert snapshot.cameras["thermal"] == "stalled"
    assert (snapshot.ffc_count, snapshot.ffc_active) == (2, True)
    assert snapshot.fallback_reason == "openvino: model is being compiled"
    assert snapshot.warnings == ("mode: live linear, trained with plateau",)


def test_memory_is_bounded(stats: Stats, clock: FakeClock) -> None:
    for number in range(10_000):
        stats.drop(f"cause {number}")
        stats.queue(f"queue {number}", 1, 2)
        stats.warn(f"warning {number}", "text")
        stats.frame(Stage.SHOWN)
    snapshot = stats.snapshot()
    assert len(snapshot.drops) <= 65
    assert snapshot.total_drops == 10_000
    assert len(snapshot.queues) <= 65
    assert len(snapshot.warnings) <= 65
    assert len(stats._times[Stage.SHOWN]) <= 2048


def test_snapshot_is_frozen_and_json(stats: Stats) -> None:
    stats.budget(BudgetReading(BudgetLevel.UNKNOWN, 8.0, float("nan"), None, 1.0, None, notes=("too dark",)))
    snapshot = stats.snapshot()
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.engine = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        snapshot.drops["x"] = 1  # type: ignore[index]
    plain = json.loads(json.dumps(snapshot.to_dict(), allow_nan=False))
    assert plain["recording"] == "off"
    assert plain["budget"]["total_px"] is None
    assert plain["latency_ms"]["grab_to_fused"]["count"] == 0


def test_counts_from_many_threads_are_complete() -> None:
    stats = Stats()

    def work() -> None:
        for _ in range(500):
            stats.frame(Stage.VISIBLE)
            stats.drop("x")
            stats.latency(Latency.SHOWN, 5.0)
            stats.snapshot() if stats.snapshot().total_drops % 100 == 0 else None

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    snapshot = stats.snapshot()
    assert snapshot.frames["visible"] == snapshot.total_drops == 2000
    assert snapshot.latency_total_ms["grab_to_shown"].count == 2000


# ------------------------------------------------------------------------------------------------ views


@pytest.fixture
def busy(stats: Stats, clock: FakeClock) -> StatsSnapshot:
    run_at(stats, clock, 25.0, 4.0)
    stats.latency(Latency.FUSED, 31.0)
    stats.skew(3_000_000)
    stats.fuse_time(22.0)
    stats.engine("pyramid", "openvino: no such device")
    stats.recording(RecordingState.RECORDING, "roof.mkv", 4.0, 7200.0)
    stats.drop("screen overwritten", 2)
    stats.queue("recorder", 3, 64)
    stats.reconnect(Stream.VISIBLE)
    stats.budget(BudgetReading(BudgetLevel.AMBER, 8.0, 7.1, 4.0, 1.1, 2.0))
    stats.warn("agc", "AGC differs")
    return stats.snapshot()


def test_table_shows_what_matters_on_a_terminal_of_100_columns(busy: StatsSnapshot) -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(render_table(busy))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("25.0/s", "no such device", "p95 30.6", "roof.mkv", "space for 2:00:00", "screen overwritten 2",
                  "amber: 7.1 of 8 px", "3/64", "reconnected 1x", "AGC differs", "3.0 ms later"):  # fmt: skip
        assert words in text, f"{words!r} is missing in\n{text}"


def test_budget_text_marks_what_cannot_be_told() -> None:
    reading = BudgetReading(BudgetLevel.UNKNOWN, 8.0, 4.0, 4.0, None, None, notes=("no common outlines",))
    assert budget_text(reading) == "unknown: 4.0 of 8 px = parallax 4.0 + skew ? + shift ? (no common outlines)"


def test_without_terminal_one_log_line_an_interval(busy: StatsSnapshot) -> None:
    now_s = [100.0]
    console = Console(file=io.StringIO(), force_terminal=False)
    with structlog.testing.capture_logs() as lines, StatsView(console, 5.0, lambda: now_s[0]) as view:
        for _ in range(12):
            view.update(busy)
            now_s[0] += 1.0
        view.update(busy, final=True)
    assert len(lines) == 4
    assert lines[0]["event"] == "stats"
    assert lines[0]["fps_fused"] == 25.0
    assert lines[0]["drops"] == {"screen overwritten": 2}
    json.dumps(log_fields(busy), allow_nan=False)


def test_on_a_terminal_a_live_table_and_no_log_lines(busy: StatsSnapshot) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120, height=40, color_system=None, _environ={})
    with structlog.testing.capture_logs() as lines, StatsView(console) as view:
        view.update(busy)
        view.update(busy)
    assert lines == []
    assert "roof.mkv" in output.getvalue()


def test_an_empty_snapshot_can_be_shown(stats: Stats) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(render_table(stats.snapshot()))
    assert log_fields(stats.snapshot())["engine"] == "none"
