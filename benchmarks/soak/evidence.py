"""Is evidence lost because fusion is slow, or because the process is killed?

    python -m benchmarks.soak.evidence whole --minutes 10 --out out/evidence
    python -m benchmarks.soak.evidence kills --count 200 --out out/evidence

`whole` runs the simulated rig at 640x480 with the network at its limit, records, and holds what is in the files against
what the cameras delivered; then it counts the pairs that the recording gives. `kills` starts rigs one after the other
(30 frames/s, cameras of 0.5 frames/s, a shutter event a second, programs beside it that eat both cores), ends each with
SIGKILL at a random moment, and measures for each track how long before the kill the oldest of the lost pictures was
offered to the recorder. Both print a table and write OUT/whole.json or OUT/kills.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from app.configuration.config import AppConfig, load_config
from app.pipeline.live_fusion import LiveFusion
from app.pipeline.state.stats import Latency
from app.process import bound_heap
from app.recording.config import TrackName
from app.recording.reader import RecordingReader
from app.recording.recover import recover
from app.recording.segments import list_recordings
from app.recording.self_check import check_recording
from app.recording.sidecar import FrameLine, read_sidecar, sidecar_path
from app.recording.writing.encoder_bank import track_of
from app.recording.writing.load import LoadStep
from fusion_core.errors import LumithermError
from fusion_core.frames import Frame, FrameFlag, FusedFrame

__all__ = ["main"]

CONFIG = Path("configs/simulated.yaml")
SMALL = (
    "simulation.width=320", "simulation.height=240", "simulation.thermal_width=320", "simulation.thermal_height=240",
    "engine.name=average",
)  # fmt: skip
VICTIMS: dict[str, tuple[str, ...]] = {
    "30 frames/s": (),
    "0.5 frames/s": ("simulation.visible_fps=0.5", "simulation.thermal_fps=0.5"),
    "shutter events": ("simulation.ffc_period_s=1.5", "simulation.ffc_duration_s=0.5"),
    "load": (),
}
_NOTE = struct.Struct("<Bqq")  # number of the track, stamp, when it was offered, ns; track 9: all are in the file
_ALL_BEGUN = 9
_ALONE = FrameFlag.VISIBLE_ONLY | FrameFlag.THERMAL_ONLY


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["whole", "kills"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--load", type=int, default=0, help="programs beside it, each of which eats a core")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/evidence"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    bound_heap()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "whole":
        result = whole(given.out, given.minutes, given.load, given.set)
    else:
        result = kills(given.out, given.count, given.seed)
    (given.out / f"{given.what}.json").write_text(json.dumps(result, indent=2))


# ---- is the recording whole?


def whole(out: Path, minutes: float, load: int, changes: list[str]) -> dict[str, Any]:
    """Record with the network at its limit; the figures."""
    folder = out / "whole"
    shutil.rmtree(folder, ignore_errors=True)
    config = _config(folder, "engine.name=openvino", "engine.preset=tiny", *changes)
    live = LiveFusion(config)
    with _load(load):
        live.start()
        while not live.latest.sequence and live.failure is None:
            time.sleep(0.05)
        end_s = time.monotonic() + 60 * minutes
        memory_mb = []
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 15.0))
            memory_mb.append(round(psutil.Process().memory_info().rss / 2**20))
        live.stop(30.0)
    stats, summary = live.stats.snapshot(), live.recording.summary
    frames, latency = stats.frames, stats.latency_total_ms[Latency.FUSED]
    if summary is None:
        raise RuntimeError(f"nothing was recorded: {live.failure or live.problems.recent()}")
    result: dict[str, Any] = {
        "minutes": minutes,
        "load": load,
        "engine": stats.engine,
        "delivered": {name: frames[name] for name in ("visible", "thermal")},
        "recorded": summary.frames,
        "refused": dict(summary.refused),
        "left_out_fused": summary.left_out,
        "fused_live": frames["fused"],
        "grab_to_fused_ms": {"p50": latency.p50, "p95": latency.p95},
        "memory_mb": memory_mb,
        "problems": list(summary.problems),
        "files": len(summary.segments),
    }
    thermal = pairs = alone = 0
    for segment in summary.segments:
        with RecordingReader(segment.path) as reader:
            thermal += segment.frames["thermal"]
            lines = [reader.line(index) for index in range(len(reader))]
            pairs += sum(
                line.thermal is not None and line.visible is not None and not line.flags & FrameFlag.HELD
                for line in lines
            )
        pictures = read_sidecar(sidecar_path(segment.path)).pictures
        alone += sum(isinstance(line, FrameLine) and bool(line.flags & _ALONE) for line in pictures)
    result["pairs_to_be_had"], result["of_one_camera"] = pairs, alone
    share = frames["fused"] / max(frames["thermal"], 1)
    print(f"{minutes:g} minutes, {load} programs beside it, {stats.engine}: fused live {frames['fused']} ({share:.3f})")
    print(f"grab to fused, ms: {latency}; pictures of one camera: {alone}; memory, MB: {memory_mb}")
    print("| track | delivered | recorded | share | refused |\n|---|---|---|---|---|")
    for name, delivered in result["delivered"].items():
        recorded = summary.frames.get(name, 0)
        share = 100 * recorded / max(delivered, 1)
        print(f"| {name} | {delivered} | {recorded} | {share:.2f} % | {summary.refused.get(name, 0)} |")
    print(f"pairs that the recording gives: {pairs} of {thermal} thermal frames; problems: {result['problems']}")
    return result


@contextlib.contextmanager
def _load(count: int) -> Iterator[None]:
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.wait()


def _config(folder: Path, *changes: str) -> AppConfig:
    fixed = ["recording.autostart=true", f"recording.directory={folder}", "recording.reserve_mb=1"]
    return load_config(CONFIG, [*fixed, *changes], {})


# ---- what does a kill cost?


def kills(out: Path, count: int, seed: int) -> dict[str, Any]:
    """Kill rigs; the losses by kind and track, and how many pictures could not be read."""
    rng = np.random.default_rng(seed)
    losses: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in TrackName} for kind in VICTIMS}
    unreadable = 0
    kinds = list(VICTIMS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        folder = out / "kill"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        beside = 2 if kind == "load" else 0
        with _load(beside):
            offered = _kill_one(folder, kind, float(rng.uniform(0.5, 4.0)))
        with multiprocessing.get_context("fork").Pool(1) as pool:  # whose libraries start threads: a fork lacks them
            lost, damaged = pool.apply(_inspect, (folder, offered))
        unreadable += damaged
        for name, seconds in lost.items():
            losses[kind][name].append(seconds)
        print(f"{number + 1:4} {kind:16} " + "  ".join(f"{n} {s:.2f}" for n, s in lost.items()), flush=True)
    print("| rig | kills | " + " | ".join(f"{name}: median, worst s" for name in TrackName) + " |")
    print("|---|---|" + "---|" * len(TrackName))
    for kind, found in losses.items():
        cells = [f"{np.median(v):.2f}, {max(v):.2f}" if v else "-" for v in found.values()]
        print(f"| {kind} | {len(next(iter(found.values())))} | " + " | ".join(cells) + " |")
    worst = max(max(v, default=0.0) for found in losses.values() for v in found.values())
    print(f"worst loss {worst:.2f} s; unreadable: {unreadable}")
    return {"count": count, "seed": seed, "worst_s": worst, "unreadable": unreadable, "losses_s": losses}


def _kill_one(folder: Path, kind: str, after_s: float) -> dict[TrackName, list[tuple[int, int]]]:
    """Fork a rig, kill it `after_s` after all its tracks are in the file; stamp and age at the kill, ns, of what it had
    offered."""
    note = folder / "note"
    note.write_bytes(b"")
    child = os.fork()
    if child == 0:
        try:
            _victim(folder / "recordings", note, VICTIMS[kind])
        finally:
            os._exit(3)
    try:
        end_s = time.monotonic() + 120
        while not any(track == _ALL_BEGUN for track, _, _ in _NOTE.iter_unpack(_whole_notes(note))):
            if time.monotonic() > end_s:
                raise RuntimeError(f"the rig ({kind}) gives no pictures")
            time.sleep(0.01)
        time.sleep(after_s)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    killed_ns = time.monotonic_ns()
    offered: dict[TrackName, list[tuple[int, int]]] = {name: [] for name in TrackName}
    for track, t_ns, at_ns in _NOTE.iter_unpack(_whole_notes(note)):
        if track != _ALL_BEGUN:
            offered[list(TrackName)[track]].append((t_ns, killed_ns - at_ns))
    return offered


def _whole_notes(note: Path) -> bytes:
    data = note.read_bytes()
    return data[: len(data) // _NOTE.size * _NOTE.size]


def _victim(folder: Path, note: Path, changes: tuple[str, ...]) -> None:
    """A rig that records until it is killed, and notes each picture before it offers it."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until the end of the process
    file = note.open("ab", buffering=0)
    live = LiveFusion(_config(folder, *SMALL, *changes))
    offer = live.recording.offer
    order = list(TrackName)

    def noted(picture: Frame | FusedFrame) -> bool:
        taken = offer(picture)
        if taken:
            t_ns = picture.pair.timestamp_ns if isinstance(picture, FusedFrame) else picture.timestamp_ns
            file.write(_NOTE.pack(order.index(track_of(picture)), t_ns, time.monotonic_ns()))
            status = live.recording.status
            raw = status.step is not LoadStep.FULL  # fused is left out
            if all(status.frames.get(name) for name in order if not (raw and name is TrackName.FUSED)):
                file.write(_NOTE.pack(_ALL_BEGUN, 0, 0))
        return taken

    live.recording.offer = noted  # type: ignore[method-assign]
    live.start()
    while True:
        time.sleep(1.0)


def _inspect(folder: Path, offered: dict[TrackName, list[tuple[int, int]]]) -> tuple[dict[str, float], int]:
    """Seconds lost at the end of each track, and pictures and files that cannot be read."""
    newest: dict[TrackName, int] = {}
    unreadable = 0
    for video in list_recordings(folder / "recordings"):
        try:
            recover(video)
            unreadable += sum("damaged" in problem for problem in check_recording(video).problems)
            for line in read_sidecar(sidecar_path(video)).pictures:
                name = TrackName.FUSED if isinstance(line, FrameLine) else line.track
                newest[name] = max(newest.get(name, 0), line.t_ns)
        except LumithermError as error:
            print(error)
            unreadable += 1
    return {
        str(name): max((age_ns for t_ns, age_ns in found if t_ns > newest.get(name, 0)), default=0) / 1e9
        for name, found in offered.items()
    }, unreadable


if __name__ == "__main__":
    main()
