"""The shutter freeze is found from repeated frames and joint jumps, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from app.capture.config import FfcConfig
from app.capture.ffc import FfcDetector
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

PERIOD_NS = 33_000_000


class Scene:
    """A noisy thermal scene with a gradient; frames on demand."""

    def __init__(self, dtype: type = np.uint16) -> None:
        self.random = np.random.default_rng(5)
        scale = 1.0 if dtype is np.uint16 else 0.05
        self.base = (np.linspace(0, 200, 160)[None, :] + np.zeros((128, 1)) + 24_000) * (1 if scale == 1 else 0)
        if scale != 1:
            self.base = np.linspace(60, 180, 160)[None, :] + np.zeros((128, 1))
        self.dtype, self.index = dtype, 0

    def frame(self, *, level: float = 0, pixels: np.ndarray | None = None, hot: slice | None = None) -> Frame:
        if pixels is None:
            picture = self.base + level + self.random.normal(0, 2, self.base.shape)
            if hot is not None:
                picture[40:110, hot] += 600 if self.dtype is np.uint16 else 60
            pixels = picture.clip(0, 255 if self.dtype is np.uint8 else 65535).astype(self.dtype)
        self.index += 1
        return Frame(Stream.THERMAL, pixels, self.index, self.index * PERIOD_NS, TimestampSource.SIMULATED)


def flagged(detector: FfcDetector, frames: list[Frame]) -> list[bool]:
    return [bool(detector.mark(frame).flags & FrameFlag.FFC) for frame in frames]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint8])
def test_repeated_frames_are_a_freeze_until_they_move_again(dtype):
    scene, detector = Scene(dtype), FfcDetector(FfcConfig())
    assert not any(flagged(detector, [scene.frame() for _ in range(60)]))
    frozen = scene.frame().pixels
    marks = flagged(detector, [scene.frame(pixels=frozen.copy()) for _ in range(20)])
    assert marks == [False] + [True] * 19  # the second identical frame: 33 ms, well within 200
    after = flagged(detector, [scene.frame() for _ in range(30)])
    assert after[:5] == [True] * 5  # it settles
    assert not any(after[8:])
    assert detector.count == 1
    assert not detector.active


@pytest.mark.parametrize("level", [80, -80])
def test_a_joint_jump_is_found_within_200_ms(level):
    scene, detector = Scene(), FfcDetector(FfcConfig())
    flagged(detector, [scene.frame() for _ in range(30)])
    marks = flagged(detector, [scene.frame(level=level) for _ in range(30)])
    assert marks[0]
    assert not any(marks[8:])  # the new level is the normal one
    assert detector.count == 1


def test_a_jump_spread_over_several_frames_is_found():
    scene, detector = Scene(), FfcDetector(FfcConfig())
    flagged(detector, [scene.frame() for _ in range(30)])
    marks = flagged(detector, [scene.frame(level=20 * i) for i in range(1, 6)])
    assert any(marks)


def test_a_hot_object_and_slow_drift_are_no_freeze():
    scene, detector = Scene(), FfcDetector(FfcConfig())
    frames = [scene.frame() for _ in range(20)]
    frames += [scene.frame(hot=slice(i, i + 60)) for i in range(0, 90, 3)]
    frames += [scene.frame(level=0.5 * i) for i in range(120)]
    assert not any(flagged(detector, frames))


def test_it_can_be_switched_off():
    scene, detector = Scene(), FfcDetector(FfcConfig(enabled=False))
    same = scene.frame().pixels
    assert not any(flagged(detector, [scene.frame(pixels=same.copy()) for _ in range(5)]))
