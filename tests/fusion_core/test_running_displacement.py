"""The displacement on video: taken at fixed frames, smoothed, replaced after a jump, and never from before a reset."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from fusion_core.engines.running_displacement import RunningDisplacement, remap_maps
from fusion_core.rfvif.config import FRAME_PX


class Estimator:
    """Gives the values in turn, as a uniform displacement along x."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.seen: list[int] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, visible: np.ndarray, thermal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.go.wait(10)
        self.seen.append(int(visible[0, 0]))
        self.threads.add(threading.current_thread().name)
        field = np.zeros((2, 4, 5), np.float32)
        field[0] = self.values[min(len(self.seen), len(self.values)) - 1]
        return field, np.zeros((1, 4, 5), np.float32)


def frame(number: int) -> np.ndarray:
    return np.full((32, 40), number, np.uint8)


def drive(running: RunningDisplacement, frames: int) -> list[float]:
    return [float(running.at(frame(i), frame(i)).displacement_px[0, 0, 0]) for i in range(frames)]


def test_every_frame_is_estimated_by_itself_when_asked() -> None:
    estimator = Estimator(0.0, 1.0, 2.0)
    running = RunningDisplacement(estimator, 1)
    assert drive(running, 3) == [0.0, 1.0, 2.0]
    assert estimator.threads == {threading.main_thread().name}
    running.close()


def test_on_video_a_result_counts_from_a_fixed_frame_on() -> None:
    estimator = Estimator(0.0, 2.0, 2.0)
    running = RunningDisplacement(estimator, 3)
    # Estimated from frame 0, then from 3 (counts from 6 on, half of the way), then from 6 (from 9 on).
    assert drive(running, 10) == [0.0] * 6 + [1.0] * 3 + [1.5]
    running.close()
    assert estimator.seen[:3] == [0, 3, 6]


def test_a_frame_does_not_wait_for_a_slow_estimate() -> None:
    estimator = Estimator(0.0, 2.0)
    running = RunningDisplacement(estimator, 4)
    drive(running, 1)
    estimator.go.clear()
    assert drive(running, 7) == [0.0] * 7  # the estimate of frame 4 has not even begun
    estimator.go.set()
    running.close()


def test_live_no_frame_waits_and_a_late_result_is_taken_when_it_is_ready() -> None:
    estimator = Estimator(0.0, 2.0, 2.0)
    running = RunningDisplacement(estimator, 3, waits=False)
    drive(running, 1)
    estimator.go.clear()
    assert drive(running, 9) == [0.0] * 9  # would wait at the sixth frame
    estimator.go.set()
    assert running._pending is not None
    running._pending.result(timeout=60)
    assert drive(running, 1) == [1.0]
    running.close()


def test_a_jump_is_taken_at_once_and_a_small_step_is_smoothed() -> None:
    running = RunningDisplacement(Estimator(0.0, 8.0, 9.0), 2)
    assert drive(running, 7)[4:] == [8.0, 8.0, 8.5]
    running.close()


def test_smoothing_is_chosen_and_one_means_none() -> None:
    for smoothing, wanted in ((1.0, 2.0), (0.25, 0.5)):
        running = RunningDisplacement(Estimator(0.0, 2.0), 2, smoothing=smoothing)
        assert drive(running, 5)[-1] == wanted
        running.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_estimates_give_way_to_the_fusion() -> None:
    found: list[int] = []

    class Asking(Estimator):
        def __call__(self, visible: np.ndarray, thermal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return super().__call__(visible, thermal)

    running = RunningDisplacement(Asking(0.0), 2)
    drive(running, 5)
    running.close()
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert found[0] == own  # the first frame waits for its estimate in its own thread
    assert found[1] == min(own + 5, 19)


def test_reset_forgets_the_estimate_that_is_under_way() -> None:
    estimator = Estimator(0.0, 50.0, 1.0)
    running = RunningDisplacement(estimator, 2)
    drive(running, 3)  # submits the estimate that gives 50
    while len(estimator.seen) < 2:
        threading.Event().wait(0.001)
    running.reset()
    assert running.displacement_px is None
    assert drive(running, 2) == [1.0, 1.0]
    running.close()
    running.close()
    assert not any(thread.name.startswith("displacement") for thread in threading.enumerate())


def test_an_estimator_that_fails_is_heard() -> None:
    class Broken(Estimator):
        def __call__(self, visible: np.ndarray, thermal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if self.seen:
                raise RuntimeError("broken")
            return super().__call__(visible, thermal)

    running = RunningDisplacement(Broken(0.0), 2)
    with pytest.raises(RuntimeError, match="broken"):
        drive(running, 5)
    running.close()


def test_maps_sample_at_the_displaced_position() -> None:
    field = np.zeros((2, 4, 5), np.float32)
    field[0], field[1] = 2.25, -1.5
    whole, fraction = remap_maps(field, 30, 39)
    assert whole.shape == (30, 39, 2)
    x = whole[..., 0] + (fraction & 31) / 32.0
    y = whole[..., 1] + (fraction >> 5) / 32.0
    assert np.allclose(x[10], np.clip(np.arange(39) + 2.25, FRAME_PX, 38 - FRAME_PX))
    assert np.allclose(y[:, 10], np.clip(np.arange(30) - 1.5, FRAME_PX, 29 - FRAME_PX))


class Refining(Estimator):
    """Looks around the field it is given: moves it by what comes next in `steps`, with the confidence of `sure`."""

    def __init__(self, *values: float, steps: float = 0.0, sure: float = 0.0) -> None:
        super().__init__(*values)
        self.steps, self.sure = steps, sure
        self.whole: list[int] = []
        self.around: list[int] = []

    def __call__(self, visible: np.ndarray, thermal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.whole.append(int(visible[0, 0]))
        return super().__call__(visible, thermal)

    def refine(
        self, visible: np.ndarray, thermal: np.ndarray, displacement_px: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        self.around.append(int(visible[0, 0]))
        return displacement_px + np.float32(self.steps), np.full((1, 4, 5), self.sure, np.float32)


def test_video_is_mostly_looked_at_around_the_running_field() -> None:
    estimator = Refining(1.0, steps=0.0)
    running = RunningDisplacement(estimator, 2)
    assert drive(running, 7)[-1] == 1.0
    drive(running, 100)
    running.close()
    assert estimator.whole == [0, 33, 73]  # frames 40 and 80 of all: the 20th and the 40th renewal
    assert estimator.around[:3] == [2, 4, 6]


@pytest.mark.parametrize("loss", [{"steps": 1.0}, {"sure": -1.0}])
def test_the_whole_range_is_searched_when_a_look_around_is_at_a_loss(loss: dict[str, float]) -> None:
    estimator = Refining(1.0, 9.0, **loss)
    running = RunningDisplacement(estimator, 2)
    found = drive(running, 7)
    running.close()
    assert estimator.whole == [0, 4]
    assert found[-1] == 9.0
