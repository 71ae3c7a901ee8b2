"""Which network fuses: by a fake clock, through load that comes and goes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.pipeline.engine.preset_choice import PresetAction, PresetChoice, RateReading

HZ = 30.0
KEEPS = RateReading(HZ, 30.0, 8.0)
TIGHT = RateReading(HZ, 30.0, 25.0)
SLOW = RateReading(HZ, 12.0, 60.0)


def run(choice: PresetChoice, start_s: float, seconds: float, reading: RateReading) -> list[tuple[float, PresetAction]]:
    """Observe twice a second; stops at the first action."""
    for step in range(int(seconds * 2)):
        action = choice.observe(start_s + step / 2, reading)
        if action is not None:
            return [(start_s + step / 2, action)]
    return []


def test_the_first_network_is_tried_at_once_and_the_next_when_there_is_room() -> None:
    choice = PresetChoice(["tiny", "small"])
    assert choice.trying == "tiny"
    assert run(choice, 0.0, 60.0, KEEPS) == []  # it is being built
    assert choice.tried(60.0, 12.0, KEEPS)
    assert run(choice, 60.0, 60.0, TIGHT) == []  # a larger one has no room
    assert run(choice, 120.0, 60.0, KEEPS) == [(120.0, PresetAction.TRY)]
    assert choice.trying == "small"
    assert choice.tried(130.0, 20.0, KEEPS) and choice.trying is None
    assert run(choice, 130.0, 600.0, KEEPS) == []  # nothing is larger


def test_a_network_that_would_fall_below_the_rate_is_not_taken() -> None:
    choice = PresetChoice(["tiny"])
    assert not choice.tried(10.0, 29.0, KEEPS)  # of 33.3 ms, 85 % at most
    assert choice.wait_s(10.0) == 30.0
    assert run(choice, 10.0, 60.0, KEEPS) == [(40.0, PresetAction.TRY)]
    assert not choice.tried(45.0, 29.0, KEEPS)
    assert run(choice, 45.0, 100.0, KEEPS) == [(105.0, PresetAction.TRY)]  # twice the wait
    assert choice.tried(110.0, 28.0, KEEPS)


def test_lost_pictures_lead_down_and_a_short_trouble_does_not() -> None:
    choice = PresetChoice(["tiny", "small"])
    choice.tried(0.0, 10.0, KEEPS)
    assert run(choice, 0.0, 2.5, SLOW) == []
    assert run(choice, 2.5, 2.0, TIGHT) == []
    assert run(choice, 4.5, 10.0, SLOW) == [(7.5, PresetAction.STEP_DOWN)]
    assert choice.wait_s(7.5) == 30.0
    assert run(choice, 8.0, 60.0, SLOW) == []  # the stand-in loses pictures, too: no network is tried
    assert run(choice, 68.0, 60.0, KEEPS) == [(73.0, PresetAction.TRY)]


def test_the_wait_starts_over_after_ten_sound_minutes() -> None:
    choice = PresetChoice(["tiny"])
    for start_s, wait_s in ((0.0, 30.0), (100.0, 60.0), (1000.0, 30.0)):
        if start_s:
            run(choice, start_s - 70.0, 70.0, KEEPS)
        assert choice.tried(start_s, 10.0, KEEPS)
        if wait_s == 30.0 and start_s:
            assert run(choice, start_s, 605.0, KEEPS) == []
            start_s += 605.0
        ((at_s, action),) = run(choice, start_s, 10.0, SLOW)
        assert action is PresetAction.STEP_DOWN and choice.wait_s(at_s) == pytest.approx(wait_s)


def test_a_network_that_failed_is_the_one_to_try() -> None:
    choice = PresetChoice(["tiny", "small"])
    choice.tried(0.0, 10.0, KEEPS)
    choice.lost(5.0)
    assert choice.trying == "tiny"
    assert choice.tried(20.0, 10.0, KEEPS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([KEEPS, TIGHT, SLOW]), st.integers(1, 120)), max_size=40), st.floats(1, 60))
def test_whatever_the_load_does_it_never_goes_to_and_fro(phases: list[tuple[RateReading, int]], fuse_ms: float) -> None:
    choice, now_s, downs = PresetChoice(["tiny", "small"]), 0.0, []
    choice.tried(now_s, fuse_ms, KEEPS)
    for reading, seconds in phases:
        for _ in range(seconds * 2):
            now_s += 0.5
            action = choice.observe(now_s, reading)
            if action is PresetAction.TRY:
                choice.tried(now_s, fuse_ms, reading)
            elif action is PresetAction.STEP_DOWN:
                downs.append(now_s)
    most = max((sum(at_s <= other < at_s + 600.0 for other in downs) for at_s in downs), default=0)
    assert most <= 12  # of each network within ten minutes: after 30, 60, 120 and 240 s of waiting
