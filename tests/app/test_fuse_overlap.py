"""File jobs on an engine that takes a pair before the one before is done: the same pictures in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import network_weights as weights

from app.jobs.fuse_loop import fuse_pairs
from app.jobs.request import FuseOptions
from app.jobs.sources import TimedPair
from fusion_core.engines.auto_engine import AutoEngine
from fusion_core.engines.torch_cuda_engine import TorchCudaEngine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import EngineError
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.picture_file import COUNTS

SIZE = (48, 64)


class Source:
    """`count` pairs; the thermal camera has none at one place and holds one, the visible one changes its size."""

    noun, total, left_out, apart, timing, damage, notes, scale = "frames", None, 0, False, None, (), (), COUNTS

    def __init__(self, count: int, bits: int) -> None:
        self._count, self._bits = count, bits

    def complaint(self) -> None: ...

    def pairs(self) -> Iterator[TimedPair]:
        rng = np.random.default_rng(3)
        thermal: Frame | None = None
        for index in range(self._count):
            height, width = SIZE if index < self._count - 2 else (SIZE[0] + 8, SIZE[1])
            pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
            visible = Frame(Stream.VISIBLE, pixels, index, index * 40_000_000, TimestampSource.FILE)
            if index != 4:
                kind, low, high = (np.uint16, 20_000, 21_000) if self._bits == 16 else (np.uint8, 10, 240)
                counts = rng.integers(low, high, (height, width)).astype(kind)
                thermal = Frame(Stream.THERMAL, counts, index, index * 40_000_000, TimestampSource.FILE)
            yield TimedPair(FramePair(visible, None if index == 2 else thermal), index, 1)


class Sink:
    """Keeps what it is given."""

    path, kept = Path("nowhere"), True

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []
        self.order: list[int] = []

    @property
    def written(self) -> int:
        return len(self.shown)

    def write(self, shown: np.ndarray, timed: TimedPair, engine: str) -> None:
        self.shown.append(shown.copy())
        self.order.append(timed.pts)

    def close(self) -> None: ...
    def discard(self) -> None: ...


class Watched(TorchCudaEngine):
    """Tells how many were under way at most."""

    most = 0

    def finish(self) -> Any:
        self.most = max(self.most, len(self._begun))
        return super().finish()


def one_at_a_time(engine: TorchCudaEngine) -> Any:
    """The same engine without `begin`, `begin_counts` and `finish`."""
    names = "warm_up", "fuse", "fuse_counts", "reset", "close"
    return SimpleNamespace(name=engine.name, **{name: getattr(engine, name) for name in names})


@pytest.fixture
def engine(tmp_path: Path) -> Watched:
    checkpoint = weights.checkpoint(
        tmp_path, "tiny", **{key: getattr(weights.BRIEF, key) for key in ("stages", "fab_count", "residual_blocks")}
    )
    return Watched(checkpoint, device="cpu", dtype=torch.float32, video=VideoOptions(align_every=2))


@pytest.mark.parametrize("bits", [16, 8])
def test_pictures_and_order_are_those_of_one_at_a_time(engine: Watched, bits: int) -> None:
    frames: dict[str, list[FusedFrame]] = {"alone": [], "ahead": []}
    sinks = {name: Sink() for name in frames}
    engine.close = lambda: None  # type: ignore[method-assign]
    for name, made in (("alone", one_at_a_time(engine)), ("ahead", AutoEngine({"gpu": lambda: engine}, "sha"))):
        engine.reset()
        report = fuse_pairs(
            Source(9, bits), sinks[name], lambda made=made: made, FuseOptions(), observe=frames[name].append
        )
        assert report.frames == 9 and report.visible_only == 1
        assert engine.most == (1 if name == "alone" else 2)
    alone, ahead = sinks["alone"], sinks["ahead"]
    assert alone.order == ahead.order == list(range(9))
    assert all(np.array_equal(one, other) for one, other in zip(alone.shown, ahead.shown, strict=True))
    for one, other in zip(frames["alone"], frames["ahead"], strict=True):
        assert one.pair.timestamp_ns == other.pair.timestamp_ns
        assert (one.agc_limits, one.thermal_8bit is None) == (other.agc_limits, other.thermal_8bit is None)
        assert one.thermal_8bit is None or np.array_equal(one.thermal_8bit, other.thermal_8bit)
    assert len({shown.tobytes() for shown in ahead.shown}) == 9


def test_a_failure_keeps_the_frames_before_it_and_no_frame_is_taken_for_another(engine: Watched) -> None:
    sink, finish, calls = Sink(), engine.finish, [0]

    def fails_later() -> Any:
        calls[0] += 1
        if calls[0] == 6:  # warming up is the first
            raise EngineError("the GPU was lost")
        return finish()

    engine.finish = fails_later  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="The 5 frames before it are in nowhere"):
        fuse_pairs(Source(9, 16), sink, lambda: engine, FuseOptions())
    assert sink.order == [0, 1, 2, 3, 4]  # the third without thermal


def test_a_picture_alone_is_refused_while_others_are_under_way(engine: Watched) -> None:
    visible, thermal = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8)
    engine.begin(visible, thermal)
    with pytest.raises(EngineError, match=r"frames are under way \(1\)"):
        engine.fuse(visible, thermal)
    engine.finish()
    engine.close()
