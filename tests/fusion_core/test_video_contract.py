"""One meaning of `VideoOptions` over all engines that run the network: the same fields count on the same frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint
from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.gpu.device import HostRuntime, Steps
from fusion_core.engines.openvino_engine import OpenVinoEngine
from fusion_core.engines.torch_cuda_engine import TorchCudaEngine
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.model_store import resolve_weights

SIZE = (96, 128)
OPTIONS = {
    "video": VideoOptions(align_every=3, align_smoothing=0.5),
    "still": STILL_PICTURES,
    "unsmoothed": VideoOptions(align_every=2, align_smoothing=1.0),
    "kernels": VideoOptions(align_every=2, kernels_every=3),
}


@pytest.fixture(scope="module")
def checkpoint() -> LoadedCheckpoint:
    return load_checkpoint(resolve_weights("tiny"))


def frames(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """A rig that is hit after half of them: thermal is moved by (2, -1) px, then by (7, 2) px."""
    rng = np.random.default_rng(0)
    coarse = rng.random((14, 18)).astype(np.float32)
    scene = cv2.normalize(cv2.resize(coarse, (168, 136), interpolation=cv2.INTER_CUBIC), None, 20, 230, cv2.NORM_MINMAX)
    made = []
    for number in range(count):
        x, y = (2, -1) if number < count // 2 else (7, 2)
        noise = rng.integers(-2, 3, (2, *SIZE))
        visible = scene[20 : 20 + SIZE[0], 20 : 20 + SIZE[1]] + noise[0]
        thermal = 250 - scene[20 - y : 20 - y + SIZE[0], 20 - x : 20 - x + SIZE[1]] + noise[1]
        made.append((np.repeat(visible[..., None], 3, axis=2).clip(0, 255).astype(np.uint8), thermal.astype(np.uint8)))
    return made


def drive(engine: FusionEngine, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The displacement and the picture of each frame."""
    fields, pictures = [], []
    for pair in frames(count):
        pictures.append(engine.fuse(*pair))
        found = getattr(engine, "displacement_px")  # noqa: B009 - the protocol does not have it
        assert found is not None and found.shape[0] == 2
        fields.append(np.array(found))
    return fields, pictures


@pytest.mark.parametrize(
    "name", [name if name == "video" else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]
)
def test_the_same_fields_count_on_the_same_frames(name: str, checkpoint: LoadedCheckpoint) -> None:
    options = OPTIONS[name]
    cpu = OpenVinoEngine(checkpoint, precision="f32", threads=1, video=options)
    gpu = TorchCudaEngine(checkpoint, device="cpu", dtype=torch.float32, video=options)
    try:
        wanted, pictures = drive(cpu, 12)
        got, others = drive(gpu, 12)
        for number in range(12):
            assert wanted[number].shape == got[number].shape
            off_px = float(np.median(np.abs(wanted[number] - got[number])))
            assert off_px < 0.1, (number, off_px)
            difference = np.abs(pictures[number].astype(int) - others[number])
            assert difference.mean() < 1.0, number
        changes = [
            [bool(np.abs(after - before).max() > 1e-4) for before, after in pairwise(each)] for each in (wanted, got)
        ]
        assert changes[0] == changes[1]
        assert float(np.median(wanted[-1][0])) > float(np.median(wanted[0][0])) + 0.8  # the rig was hit
        for engine in (cpu, gpu):
            engine.reset()
        first = [engine.fuse(*frames(12)[0]) for engine in (cpu, gpu)]
        assert np.array_equal(first[1], others[0])
        assert np.abs(first[0].astype(int) - first[1]).mean() < 1.0
    finally:
        cpu.close()
        gpu.close()


def test_torch_carries_over_what_it_is_told(checkpoint: LoadedCheckpoint) -> None:
    """Eager PyTorch is what `auto` ends at; its own engine is for still pictures."""
    engine = create_engine("torch", "tiny", video=VideoOptions(align_every=4))
    assert isinstance(engine, TorchCudaEngine)
    assert engine.name == create_engine("torch", "tiny").name
    engine.close()


# ------------------------------------------------------------------ overlap, by a fake clock


@dataclass
class FakeStream:
    """When what it was given last ends, s."""

    ends_s: float = 0.0
    work: list[tuple[str, float, float]] = field(default_factory=list)


class TimedRuntime(HostRuntime):
    """Computes at once, and keeps account of when a device with streams would: each program and copy takes its time."""

    def __init__(self, program_s: float, copy_s: float) -> None:
        super().__init__()
        self.program_s, self.copy_s = program_s, copy_s
        self.streams: list[FakeStream] = []
        self.host_s = 0.0
        self._current: deque[FakeStream] = deque()

    def stream(self, *, low_priority: bool = False) -> FakeStream:
        self.streams.append(FakeStream())
        return self.streams[-1]

    def on(self, stream: FakeStream) -> Any:
        runtime = self

        class Inside:
            def __enter__(self) -> None:
                runtime._current.append(stream)

            def __exit__(self, *_: object) -> None:
                runtime._current.pop()

        return Inside()

    def spend(self, what: str, seconds: float) -> None:
        stream = self._current[-1]
        began_s = max(stream.ends_s, self.host_s)
        stream.ends_s = began_s + seconds
        stream.work.append((what, began_s, stream.ends_s))

    def mark(self, stream: FakeStream) -> float:
        return stream.ends_s

    def after(self, stream: FakeStream, event: float) -> None:
        stream.ends_s = max(stream.ends_s, event)

    def reached(self, event: float) -> bool:
        return event <= self.host_s

    def wait(self, event: float) -> None:
        self.host_s = max(self.host_s, event)

    def program(self, stream: FakeStream, steps: Steps) -> tuple[Steps, bool]:
        steps()

        def run() -> None:
            self.spend("program", self.program_s)
            steps()

        return run, True


class TimedEngine(TorchCudaEngine):
    """Copies between the host and the device take time too."""

    def _programs(self, height: int, width: int) -> Any:
        return {"whole": lambda visible, thermal: (visible + thermal) / 2}


def timed(run: Callable[[TimedEngine], None], checkpoint: LoadedCheckpoint, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that the frames took by the fake clock: programs 3 s each (two a frame), each copy over the bus 2 s."""
    runtime = TimedRuntime(3.0, 2.0)
    engine = TimedEngine(checkpoint, device="cpu", dtype=torch.float32, runtime=runtime)
    engine.warm_up(32, 48)
    plain = Tensor.copy_

    def copy(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if non_blocking and runtime._current:
            runtime.spend("copy", runtime.copy_s / (2 if source.dim() == 2 else 1))
        return plain(self, source, non_blocking)

    monkeypatch.setattr(Tensor, "copy_", copy)
    began_s = runtime.host_s
    for stream in runtime.streams:
        stream.ends_s = began_s
    run(engine)
    monkeypatch.undo()
    engine.close()
    return runtime.host_s - began_s


def test_upload_computation_and_download_of_three_frames_overlap(
    checkpoint: LoadedCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upload 3 s (visible 2, thermal 1), computation 6 s, download 2 s: 11 s for a frame, 6 s more for each further."""
    visible, thermal = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
    count = 6

    def one_by_one(engine: TimedEngine) -> None:
        for _ in range(count):
            engine.fuse(visible, thermal)

    def ahead(engine: TimedEngine) -> None:
        engine.begin(visible, thermal)
        for _ in range(count - 1):
            engine.begin(visible, thermal)
            engine.finish()
        engine.finish()

    assert timed(one_by_one, checkpoint, monkeypatch) == pytest.approx(count * 11.0)
    assert timed(ahead, checkpoint, monkeypatch) == pytest.approx(11.0 + (count - 1) * 6.0)
