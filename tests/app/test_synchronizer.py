"""Pairing: the rule, skew and waiting at mixed rates and over a day, degraded modes, the shutter freeze."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.capture.pairing import DropCause, PairMatcher, match_nearest, output_time_ns
from app.capture.sync_config import FfcFallback, OutputRate, SyncConfig
from app.capture.synchronizer import PairSynchronizer
from fusion_core.errors import CameraTimeout, EndOfStream
from fusion_core.frames import Frame, FrameFlag, FramePair, Stream, TimestampSource

MS = 1_000_000
V, T = Stream.VISIBLE, Stream.THERMAL
PIXELS = {V: np.zeros((1, 1, 3), np.uint8), T: np.zeros((1, 1), np.uint16)}


def frame(stream: Stream, index: int, time_ms: float, flags: FrameFlag = FrameFlag.NONE) -> Frame:
    return Frame(stream, PIXELS[stream], index, round(time_ms * MS), TimestampSource.SIMULATED, flags)


class Source:
    """Frames of one stream: stamps at `fps` with jitter and drift, each arriving `delay_ms` after its stamp."""

    def __init__(self, stream: Stream, fps: float, *, phase_ms=0.0, jitter_ms=0.0, ppm=0.0, delay_ms=5.0, seed=0):
        self.stream, self.period_ms = stream, 1000 / fps * (1 + ppm * 1e-6)
        self.phase_ms, self.jitter_ms, self.delay_ms = phase_ms, jitter_ms, delay_ms
        self.random = np.random.default_rng(seed)

    def arrivals(self, start_ms: float, end_ms: float) -> Iterator[tuple[float, Frame]]:
        index = int(np.ceil((start_ms - self.phase_ms) / self.period_ms))
        while (beat := self.phase_ms + index * self.period_ms) < end_ms:
            stamp = beat + self.random.uniform(-self.jitter_ms, self.jitter_ms)
            yield max(stamp, beat) + self.delay_ms, frame(self.stream, index, stamp)
            index += 1


def simulate(
    matcher: PairMatcher, sources: list[Source], start_ms: float, end_ms: float
) -> list[tuple[float, FramePair]]:
    """Play arrivals into the matcher and take every pair at the moment it can leave; (leaving time in ms, pair)."""
    out: list[tuple[float, FramePair]] = []
    merged = heapq.merge(*(s.arrivals(start_ms, end_ms) for s in sources), key=lambda item: item[0])

    def drain(now_ns: int) -> None:
        while (pair := matcher.poll(now_ns)) is not None:
            out.append((now_ns / MS, pair))

    now_ns = round(start_ms * MS)
    for time_ms, arrived in merged:
        arrival_ns = round(time_ms * MS)
        while (event_ns := matcher.next_event_ns(now_ns)) is not None and event_ns < arrival_ns:
            now_ns = event_ns
            drain(now_ns)
        now_ns = arrival_ns
        matcher.push(arrived, now_ns)
        drain(now_ns)
    return out


# ---------------------------------------------------------------------- the rule


def test_match_nearest_on_known_answers():
    assert match_nearest([0, 10, 20], 14, 10) == 1
    assert match_nearest([0, 10, 20], 16, 10) == 2
    assert match_nearest([0, 10, 20], 15, 10) == 1  # the earlier of two equally near
    assert match_nearest([0, 10, 20], 31, 10) is None
    assert match_nearest([], 5, 10) is None


@given(st.lists(st.integers(0, 10**12), unique=True, max_size=40), st.integers(0, 10**12), st.integers(0, 10**12))
def test_match_nearest_is_the_nearest(stamps, time_ns, limit_ns):
    stamps.sort()
    found = match_nearest(stamps, time_ns, limit_ns)
    best = min((abs(s - time_ns) for s in stamps), default=None)
    if best is None or best > limit_ns:
        assert found is None
    else:
        assert abs(stamps[found] - time_ns) == best


# ---------------------------------------------------------------------- the promises

RATES = [(30, 30), (30, 9), (25, 50), (60, 8.7), (25, 30), (30, 60)]


def check_promises(
    out: list[tuple[float, FramePair]], visible: Source, thermal: Source, after_ms: float = 1_000
) -> None:
    """The promises of pairing, for what left after `after_ms` (the rates have to be learned first)."""
    used = Counter()
    for _, pair in out:
        if pair.visible is not None:
            used[pair.visible.index] += 1
            assert (used[pair.visible.index] > 1) == bool(pair.flags & FrameFlag.REUSED_VISIBLE)
    out = [(t, p) for t, p in out if t > after_ms]
    pairs = [(t, p) for t, p in out if p.visible is not None and p.thermal is not None]
    skews_ms = np.abs([p.skew_ns / MS for _, p in pairs])
    waits_ms = [t - (p.thermal.timestamp_ns / MS + thermal.delay_ms) for t, p in pairs]
    assert np.percentile(skews_ms, 95) <= visible.period_ms / 2 + 1
    assert np.percentile(skews_ms, 99) <= visible.period_ms
    assert (
        max(waits_ms)
        <= visible.period_ms / 2 + max(0, visible.delay_ms - thermal.delay_ms) + 2 * thermal.jitter_ms + 0.01
    )


@pytest.mark.parametrize("visible_fps, thermal_fps", RATES)
@pytest.mark.parametrize("jitter_ms", [0.0, 5.0])
def test_promises_hold_at_mixed_and_drifting_rates(visible_fps, thermal_fps, jitter_ms):
    jitter = {V: min(jitter_ms, 400 / visible_fps / 2), T: min(jitter_ms, 400 / thermal_fps / 2)}
    visible = Source(V, visible_fps, jitter_ms=jitter[V], seed=1)
    thermal = Source(T, thermal_fps, phase_ms=7, jitter_ms=jitter[T], ppm=400, seed=2)  # slips a frame every 80 s
    matcher = PairMatcher(SyncConfig())
    out = simulate(matcher, [visible, thermal], 0, 90_000)
    check_promises(out, visible, thermal)
    expected = 90_000 / thermal.period_ms
    assert len(out) >= 0.99 * expected - 5
    lost = {cause: n for cause, n in matcher.dropped.items() if cause is not DropCause.VISIBLE_UNUSED}
    assert sum(lost.values()) <= 0.005 * expected, lost


def test_a_day_changes_nothing():
    """24 simulated hours; ten seconds played of every ten minutes, drift going on all the time."""
    visible = Source(V, 30, jitter_ms=5, seed=3)
    thermal = Source(T, 9, phase_ms=11, jitter_ms=5, ppm=400, seed=4)
    matcher = PairMatcher(SyncConfig())
    hours: list[list[float]] = [[] for _ in range(24)]
    for start_ms in range(0, 24 * 3600 * 1000, 600_000):
        out = simulate(matcher, [visible, thermal], start_ms, start_ms + 10_000)
        settled = [(t, p) for t, p in out if t > start_ms + 1_000]
        assert len(settled) >= 79
        assert not any(p.flags for _, p in settled)
        assert (
            max(t - p.thermal.timestamp_ns / MS - thermal.delay_ms for t, p in settled) <= visible.period_ms / 2 + 10.1
        )
        hours[start_ms // 3_600_000] += [abs(p.skew_ns) / MS for _, p in settled]
    every = np.concatenate(hours)
    assert np.percentile(every, 95) <= visible.period_ms / 2 + 1
    assert np.percentile(every, 99) <= visible.period_ms
    first, last = np.concatenate(hours[:3]), np.concatenate(hours[-3:])
    assert abs(first.mean() - last.mean()) < 1.0
    assert abs(np.percentile(first, 95) - np.percentile(last, 95)) < 1.0
    assert matcher.depth(V) <= 4
    assert matcher.depth(T) <= 4


def test_visible_that_is_delivered_late_is_waited_for():
    visible = Source(V, 30, delay_ms=70)
    thermal = Source(T, 30, phase_ms=3, delay_ms=2)
    matcher = PairMatcher(SyncConfig())
    out = simulate(matcher, [visible, thermal], 0, 10_000)[30:]
    assert max(abs(p.skew_ns) / MS for _, p in out) <= 17
    assert not any(p.flags for _, p in out)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(7, 65), st.floats(7, 65), st.floats(0, 100), st.sampled_from(OutputRate), st.integers(0, 2**20), st.data()
)
def test_any_streams_give_ordered_flagged_pairs(visible_fps, thermal_fps, phase_ms, rate, seed, data):
    """Whatever comes, with holes in both streams: outputs rise, nothing is used twice unflagged, all is counted."""
    sources = [Source(V, visible_fps, seed=seed), Source(T, thermal_fps, phase_ms=phase_ms, jitter_ms=2, seed=seed)]
    holes = {s: data.draw(st.lists(st.integers(0, 3_000), max_size=2)) for s in (V, T)}
    arrivals = sorted(
        (item for s in sources for item in s.arrivals(0, 3_000)), key=lambda item: (item[0], item[1].stream)
    )
    arrivals = [(t, f) for t, f in arrivals if not any(start <= t < start + 500 for start in holes[f.stream])]
    matcher = PairMatcher(SyncConfig(output_rate=rate))
    pushed, outputs = Counter(), []
    for time_ms, arrived in arrivals:
        now_ns = round(time_ms * MS)
        matcher.push(arrived, now_ns)
        pushed[arrived.stream] += 1
        while (pair := matcher.poll(now_ns)) is not None:
            outputs.append(pair)
    seen = {V: set(), T: set()}
    last_ns = None
    for pair in outputs:
        time_ns = output_time_ns(pair)
        if last_ns is not None and not pair.flags & (FrameFlag.THERMAL_ONLY | FrameFlag.VISIBLE_ONLY):
            assert time_ns > last_ns - 100 * MS
        last_ns = time_ns
        if pair.visible is not None:
            again = pair.visible.index in seen[V]
            assert not again or pair.flags & FrameFlag.REUSED_VISIBLE
            seen[V].add(pair.visible.index)
        if pair.thermal is not None:
            again = pair.thermal.index in seen[T]
            assert not again or pair.flags & FrameFlag.HELD
            seen[T].add(pair.thermal.index)
    for stream in (V, T):
        dropped = sum(n for cause, n in matcher.dropped.items() if cause.startswith(stream.value))
        assert len(seen[stream]) + dropped <= pushed[stream]
        assert pushed[stream] - len(seen[stream]) - dropped <= matcher.depth(stream)


# ---------------------------------------------------------------------- degraded modes


ALONE = FrameFlag.VISIBLE_ONLY | FrameFlag.THERMAL_ONLY


@pytest.mark.parametrize("gone, flag", [(T, FrameFlag.VISIBLE_ONLY), (V, FrameFlag.THERMAL_ONLY)])
@pytest.mark.parametrize("visible_fps, thermal_fps", [(30, 30), (60, 8.7), (25, 50)])
def test_a_lost_stream_is_stood_in_for_then_left_out_until_it_is_steady(gone, flag, visible_fps, thermal_fps):
    sources = {V: Source(V, visible_fps, delay_ms=0), T: Source(T, thermal_fps, phase_ms=4, delay_ms=0)}
    matcher = PairMatcher(SyncConfig())
    simulate(matcher, list(sources.values()), 0, 2_000)
    last_ms = max(t for t, _ in sources[gone].arrivals(1_000, 2_000))
    other = sources[T if gone is V else V]
    without = simulate(matcher, [other], 2_000, 4_000)
    first_ms = next(t for t, p in without if p.flags & flag)
    assert 1_000 <= first_ms - last_ms <= 1_000 + 2 * other.period_ms
    stands_in = FrameFlag.HELD if gone is T else FrameFlag.REUSED_VISIBLE | FrameFlag.SKEW_EXCEEDED
    late = [p for t, p in without if last_ms + 200 < t < first_ms]
    assert len(late) >= 0.7 * 800 / other.period_ms and all(p.flags & stands_in for p in late)
    assert all(p.flags & flag for t, p in without if t > first_ms)
    back = simulate(matcher, list(sources.values()), 4_000, 6_000)
    steady_ms = max(300, 3 * sources[gone].period_ms)
    assert all(p.flags & flag for t, p in back if t < 4_000 + 0.9 * steady_ms)
    assert not any(p.flags & ALONE for t, p in back if t > 4_000 + steady_ms + 2 * sources[gone].period_ms)


def test_one_frame_of_a_lost_stream_changes_nothing():
    matcher = PairMatcher(SyncConfig())
    simulate(matcher, [Source(V, 30), Source(T, 30)], 0, 1_000)
    simulate(matcher, [Source(V, 30)], 1_000, 3_000)
    now_and_then = [Source(V, 30), Source(T, 3)]
    assert all(p.flags & FrameFlag.VISIBLE_ONLY for _, p in simulate(matcher, now_and_then, 3_000, 6_000))


@settings(max_examples=80, deadline=None)
@given(st.floats(8, 60), st.floats(8, 60), st.sampled_from(OutputRate), st.integers(0, 2**20), st.data())
def test_no_load_makes_pictures_of_one_camera_alone(visible_fps, thermal_fps, rate, seed, data):
    """Stalls of a capture thread (a burst after it), holes, jitter, and a consumer that takes its time."""
    sources = {V: Source(V, visible_fps, jitter_ms=2, seed=seed), T: Source(T, thermal_fps, phase_ms=9, seed=seed + 1)}
    longest = data.draw(st.sampled_from([150, 400, 700, 2_500]), label="longest trouble, ms")
    arrivals, gaps = [], {V: 0, T: 0}
    for stream, source in sources.items():
        troubles = data.draw(st.lists(st.tuples(st.integers(0, 8_000), st.integers(20, longest), st.booleans())))
        previous_ms = None
        for time_ms, each in source.arrivals(0, 8_000):
            hit = [(start + length, drops) for start, length, drops in troubles if start <= time_ms < start + length]
            if any(drops for _, drops in hit):
                continue
            time_ms = max([end for end, _ in hit] + [time_ms, previous_ms or 0.0])
            gaps[stream] += previous_ms is not None and time_ms - previous_ms >= 1_000
            gaps[stream] += previous_ms is None and time_ms >= 1_000
            previous_ms = time_ms
            arrivals.append((time_ms, each))
        gaps[stream] += previous_ms is None or previous_ms < 7_000
    arrivals.sort(key=lambda item: (item[0], item[1].stream))
    matcher = PairMatcher(SyncConfig(output_rate=rate))
    random, outputs, ready_ms = np.random.default_rng(seed), [], 0.0
    for time_ms, arrived in arrivals:
        while ready_ms < time_ms:  # the consumer comes back between two arrivals
            pair = matcher.poll(round(ready_ms * MS))
            ready_ms += random.choice([3, 30, 300]) if pair is not None else 2
            outputs += [pair] if pair is not None else []
        matcher.push(arrived, round(time_ms * MS))
    alone = [bool(p.flags & ALONE) for p in outputs]
    assert alone == [p.visible is None or p.thermal is None for p in outputs]
    changes = sum(a != b for a, b in zip([False, *alone], alone, strict=False))
    assert changes <= 2 * (gaps[V] + gaps[T])  # none without a silence of a second, and no flicker
    whole = [p for p in outputs if not p.flags & (ALONE | FrameFlag.SKEW_EXCEEDED | FrameFlag.HELD)]
    assert all(abs(p.skew_ns) <= 40 * MS for p in whole)
    times = [output_time_ns(p) for p in outputs if not p.flags & ALONE]
    assert all(later > earlier - 100 * MS for earlier, later in itertools.pairwise(times))


def test_a_pause_of_everything_is_not_a_missing_stream():
    """The process is stopped for 5 s: afterwards no frame goes out alone."""
    sources = [Source(V, 30), Source(T, 30, phase_ms=6)]
    matcher = PairMatcher(SyncConfig())
    simulate(matcher, sources, 0, 2_000)
    after = simulate(matcher, sources, 7_000, 8_000)
    assert not any(p.flags & (FrameFlag.VISIBLE_ONLY | FrameFlag.THERMAL_ONLY) for _, p in after)


def test_a_slow_consumer_gets_the_newest_pair():
    matcher = PairMatcher(SyncConfig())
    for i in range(60):
        matcher.push(frame(V, i, i * 33), round((i * 33 + 1) * MS))
        matcher.push(frame(T, i, i * 33 + 2), round((i * 33 + 3) * MS))
    pair = matcher.poll(round((59 * 33 + 4) * MS))
    assert pair is not None
    assert pair.thermal.index == 59
    assert matcher.poll(round((59 * 33 + 5) * MS)) is None
    assert matcher.dropped[DropCause.THERMAL_OVERFLOW] + matcher.dropped[DropCause.THERMAL_SUPERSEDED] == 59


def test_streams_out_of_step_are_shown_with_the_flag():
    """Stamps 300 ms apart for good: nothing fits, but the picture does not stay black."""
    out = simulate(
        PairMatcher(SyncConfig()), [Source(V, 30, delay_ms=5), Source(T, 30, phase_ms=0, delay_ms=305)], 0, 5_000
    )
    late = [p for t, p in out if 2_000 < t < 5_000]
    assert len(late) > 85  # at the full rate
    assert all(p.flags & FrameFlag.SKEW_EXCEEDED for p in late)


def test_stamps_that_step_back_far_start_the_stream_anew():
    matcher = PairMatcher(SyncConfig())
    simulate(matcher, [Source(V, 30), Source(T, 30)], 100_000, 101_000)
    out = simulate(matcher, [Source(V, 30), Source(T, 30)], 0, 1_000)
    assert len(out) > 20


def test_disordered_frames_are_dropped_and_counted():
    matcher = PairMatcher(SyncConfig())
    matcher.push(frame(V, 0, 100), 100 * MS)
    matcher.push(frame(V, 1, 90), 110 * MS)
    assert matcher.dropped[DropCause.VISIBLE_OUT_OF_ORDER] == 1


# ---------------------------------------------------------------------- visible rate, shutter freeze


def test_at_the_visible_rate_thermal_is_held_and_its_age_known():
    matcher = PairMatcher(SyncConfig(output_rate=OutputRate.VISIBLE))
    out = [p for t, p in simulate(matcher, [Source(V, 30), Source(T, 9, phase_ms=3)], 0, 10_000) if t > 1_000]
    assert len(out) == pytest.approx(270, abs=3)
    assert not any(p.thermal is None for p in out)
    held = [p for p in out if p.flags & FrameFlag.HELD]
    assert len(held) == pytest.approx(len(out) * 21 / 30, abs=12)
    assert all(p.thermal.flags & FrameFlag.HELD for p in held)
    assert max(p.skew_ns for p in held) <= 115 * MS
    times = [output_time_ns(p) for p in out]
    assert times == sorted(set(times))


def freeze(matcher: PairMatcher, flagged_ms: tuple[int, int]) -> list[FramePair]:
    out = []
    for i in range(120):
        t_ms = i * 33
        flags = FrameFlag.FFC if flagged_ms[0] <= t_ms < flagged_ms[1] else FrameFlag.NONE
        matcher.push(frame(V, i, t_ms), t_ms * MS)
        matcher.push(frame(T, i, t_ms + 1, flags), (t_ms + 1) * MS)
        while (pair := matcher.poll((t_ms + 1) * MS)) is not None:
            out.append(pair)
    return out


def test_a_shutter_freeze_holds_the_last_good_thermal_for_a_second():
    out = freeze(PairMatcher(SyncConfig()), (1_000, 2_800))
    frozen = [p for p in out if 1_000 <= p.visible.timestamp_ns / MS < 2_800]
    assert all(p.flags & FrameFlag.FFC for p in frozen)
    held = [p for p in frozen if p.flags & FrameFlag.HELD]
    assert {p.thermal.index for p in held} == {30}
    assert max(p.skew_ns for p in held) <= 1_000 * MS
    rest = frozen[len(held) :]
    assert rest
    assert all(p.thermal is None and p.flags & FrameFlag.VISIBLE_ONLY for p in rest)
    assert not any(p.flags for p in out if p.visible.timestamp_ns / MS >= 2_805)


def test_after_the_hold_the_other_fallback_keeps_the_old_picture_marked():
    out = freeze(PairMatcher(SyncConfig(ffc_fallback=FfcFallback.HELD)), (1_000, 2_800))
    late = [p for p in out if 2_100 <= p.visible.timestamp_ns / MS < 2_800]
    assert all(p.thermal.index == 30 and p.flags & FrameFlag.STALE for p in late)


def test_thermal_that_falls_silent_in_a_freeze_is_held_too():
    matcher = PairMatcher(SyncConfig())
    out = []
    for i in range(90):
        t_ms = i * 33
        matcher.push(frame(V, i, t_ms), t_ms * MS)
        if t_ms < 1_000:
            matcher.push(frame(T, i, t_ms + 1), (t_ms + 1) * MS)
        elif t_ms < 1_050:
            matcher.push(frame(T, i, t_ms + 1, FrameFlag.FFC), (t_ms + 1) * MS)
        while (pair := matcher.poll((t_ms + 1) * MS)) is not None:
            out.append(pair)
    at_1500 = [p for p in out if 1_400 < p.visible.timestamp_ns / MS < 1_900]
    assert at_1500
    assert all(p.flags & FrameFlag.FFC and p.flags & FrameFlag.HELD for p in at_1500)
    assert all(p.flags == FrameFlag.VISIBLE_ONLY for p in out if p.visible.timestamp_ns / MS > 2_100)


# ---------------------------------------------------------------------- the shell


class FakeClock:
    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    def sleep_ns(self, duration_ns: int) -> None:
        self.time_ns += max(0, duration_ns)


def test_shell_counts_and_reports():
    clock = FakeClock()
    sync = PairSynchronizer(SyncConfig(), clock)
    for i in range(30):
        clock.time_ns = i * 33 * MS
        sync.put(frame(V, i, i * 33))
        sync.put(frame(T, i, i * 33 - 4))
        assert sync.poll(clock.time_ns) is not None
    stats = sync.stats()
    assert stats.pairs == stats.outputs == 30
    assert stats.skew_median_ms == pytest.approx(4)
    assert stats.skew_abs_p95_ms == pytest.approx(4)
    assert stats.frames_in == {V: 30, T: 30}
    assert stats.period_ms[T] == pytest.approx(33)


def test_get_times_out_then_ends():
    sync = PairSynchronizer(SyncConfig())
    with pytest.raises(CameraTimeout, match="doctor"):
        sync.get(0.01)
    sync.end(V)
    sync.end(T)
    with pytest.raises(EndOfStream):
        sync.get(0.5)
    sync.close()
    with pytest.raises(EndOfStream):
        sync.get(0.5)
    sync.put(frame(V, 0, 0))  # after close: ignored


@pytest.mark.parametrize("visible_fps, thermal_fps", [(30, 30), (30, 9), (25, 50), (10, 60)])
def test_lossless_mode_gives_every_thermal_frame_its_nearest_visible(visible_fps, thermal_fps):
    """Two producers as fast as they can, one slow consumer: no thermal frame is lost, each has its nearest partner."""
    sync = PairSynchronizer(SyncConfig(max_skew_ms=60), lossless=True)
    stamps = {
        V: [i * 1000 / visible_fps for i in range(visible_fps * 3)],
        T: [i * 1000 / thermal_fps for i in range(thermal_fps * 3)],
    }

    def produce(stream: Stream) -> None:
        for i, time_ms in enumerate(stamps[stream]):
            sync.put(frame(stream, i, time_ms))
        sync.end(stream)

    threads = [threading.Thread(target=produce, args=(stream,)) for stream in (V, T)]
    for thread in threads:
        thread.start()
    out = []
    with pytest.raises(EndOfStream):
        while True:
            out.append(sync.get(10))
    for thread in threads:
        thread.join(10)
    thermal = [p for p in out if p.thermal is not None]
    assert [p.thermal.index for p in thermal] == list(range(len(stamps[T])))
    visible = np.array(stamps[V])
    for pair in thermal:
        if pair.visible is not None:
            nearest = np.abs(visible - pair.thermal.timestamp_ns / MS).min()
            within = abs(pair.skew_ns) / MS
            assert within <= nearest + 1e-3 or not pair.flags & FrameFlag.REUSED_VISIBLE
            assert within <= 60
