"""All who move in the simulated scene are painted once for cameras that see them alike, in time, and only on demand."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from fusion_core.simulation.figures import Figures
from fusion_core.simulation.places import build_street, build_yard
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.simulation.scene import scene_extent

SMALL = {"height": 96, "width": 128, "thermal_height": 96, "thermal_width": 128}


def painted(rig: SimulatedRig) -> set[tuple[int, int, bool]]:
    return set(rig._visible_view.figures._painted) | set(rig._thermal_view.figures._painted)


@pytest.mark.parametrize("build", [build_street, build_yard])
def test_nobody_reaches_farther_than_said(build: object) -> None:
    scene, actors = build(scene_extent(0.6, 0.5, 120.0), 0.0, 7)  # type: ignore[operator]
    for actor in actors:
        sheet = actor.draw(scene.tile, 20.0, 0.0, actor.facing)
        width = sheet.cover.shape[1]
        corners = sheet.uv_from_px @ np.array([[-0.5, width - 0.5], [0, 0], [1, 1]])  # a figure's are metres
        assert np.abs(corners[0]).max() <= actor.reach_m + 0.06


def test_cameras_that_see_the_same_size_share_the_paintings() -> None:
    rig = SimulatedRig(SimulatedRigConfig(**SMALL))
    assert rig._visible_view.figures is rig._thermal_view.figures
    rig.visible(0.5)
    both = painted(rig)
    assert {key[:2] for key in both if key[2]} == {key[:2] for key in both if not key[2]} != set()
    other = SimulatedRig(SimulatedRigConfig(**{**SMALL, "thermal_height": 48, "thermal_width": 64}))
    assert other._visible_view.figures is not other._thermal_view.figures
    other.visible(0.5)
    assert {key[2] for key in painted(other)} == {False}


def test_only_who_can_be_seen_is_painted() -> None:
    rig = SimulatedRig(SimulatedRigConfig(**SMALL))
    figures = rig._visible_view.figures
    rig.visible(0.5)
    there = {number for number, _, _ in painted(rig)}
    assert there == {number for number, _ in figures.at(0.5)}
    assert len(there) < len(figures.actors)


def test_what_is_painted_ahead_is_what_the_frames_need() -> None:
    rig = SimulatedRig(SimulatedRigConfig(**SMALL, time_skew_ms=40.0))
    rig.warm_up(0.5)
    ahead = painted(rig)
    for index in range(15):
        rig.visible(rig.visible_time_s(index))
        rig.thermal(rig.thermal_time_s(index))
    assert painted(rig) == ahead
    rig.warm_up()
    everything = painted(rig)
    assert len(everything) > len(ahead)
    for t_s in (9.0, 31.4, 77.7, 86_400.0):
        rig.visible(t_s)
        rig.thermal(t_s)
    assert painted(rig) == everything


def test_painting_ahead_stops_when_told() -> None:
    rig = SimulatedRig(SimulatedRigConfig(**SMALL))
    stopping = threading.Event()
    stopping.set()
    rig.warm_up(None, stopping)
    rig.warm_up(None, None, -1.0)
    assert painted(rig) == set()


def test_a_phase_is_painted_once_however_many_ask() -> None:
    scene, actors = build_street(scene_extent(0.6, 0.5, 120.0), 0.0, 7)
    calls: list[float] = []
    actor = actors[1]
    slow = threading.Barrier(2, timeout=20)

    def draw(*arguments: float) -> object:
        calls.append(arguments[2])
        return actor.draw(*arguments)  # type: ignore[arg-type]

    figures = Figures(scene.tile, 0.0, [replace(actor, draw=draw)], 0.6, 100.0)  # type: ignore[arg-type]
    figures.will_be_seen(thermal=True)
    figures.will_be_seen(thermal=False)
    found: list[object] = []

    def ask(thermal: bool) -> None:
        slow.wait()
        found.append(figures.get(0, 3, thermal).layer.shape)

    threads = [threading.Thread(target=ask, args=(thermal,)) for thermal in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(calls) == 1
    assert sorted(shape[2] for shape in found) == [2, 4]  # type: ignore[index]
