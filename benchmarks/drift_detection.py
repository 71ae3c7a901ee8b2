"""How soon the drift monitor finds a rig that has moved, what it mends, and how often it cries wolf.

    python benchmarks/drift_detection.py detect                   # shifts 0, 2, 4, 8, 12 px against time to detection
    python benchmarks/drift_detection.py hours --hours 8          # a rig that stands still: false alarms
    python benchmarks/drift_detection.py apply                    # closed loop on the simulated rig: residual by truth
    python benchmarks/drift_detection.py video VISIBLE THERMAL -o before_after.png

The simulated rig has depth layers (parallax up to 5 px), people and traffic. One comparison a second, as live.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from app.media.pairing import default_max_skew_ns, pair_by_time
from app.media.reader import open_reader
from app.pipeline.thermal_grid import ThermalGrid
from calibration.drift import DriftLevel, DriftMonitor, DriftState, SelfAligner
from fusion_core.frames import Stream
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc

SECOND_NS = 1_000_000_000
DIRECTION = np.array([0.8, -0.6])
CALM_S = 40  # before the rig is moved


class Feed:
    """The simulated rig once a second: luminance, thermal levels on the visible grid."""

    def __init__(self, scene: str, seed: int, shift_px: float = 0.0, **changes: object) -> None:
        values = {"scene": scene, "seed": seed, "residual_shift_px": tuple((shift_px * DIRECTION).tolist()), **changes}
        self.rig = SimulatedRig(SimulatedRigConfig.model_validate(values))
        self.agc = Agc()

    def pair(self, t_s: float, grid: ThermalGrid) -> tuple[np.ndarray, np.ndarray]:
        """Of the moment t_s."""
        visible = self.rig.visible(t_s)
        levels = self.agc.apply(self.rig.thermal(t_s), 1.0)
        return np.asarray(cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY)), grid.to_visible(levels, *visible.shape[:2])


def detect(args: argparse.Namespace) -> None:
    """Shift against time to detection."""
    plain = ThermalGrid(None)
    print("| scene, seed | shift px | notice s | warning s | alarm s | drift px: residual, moved | level after 80 s |")
    print("|---|---|---|---|---|---|---|")
    for scene in args.scenes:
        for seed in range(args.seeds):
            calm = Feed(scene, seed)
            before = [calm.pair(t, plain) for t in range(CALM_S)]
            for shift_px in (0.0, 2.0, 4.0, 8.0, 12.0):
                moved = Feed(scene, seed, shift_px)
                monitor = DriftMonitor(before[0][0].shape[:2])
                for t, (luma, levels) in enumerate(before):
                    state = monitor.update(luma, levels, t * SECOND_NS)
                assert state is not None
                at: dict[DriftLevel, int] = {}
                for t in range(CALM_S, CALM_S + 80):
                    state = monitor.update(*moved.pair(t, plain), t * SECOND_NS)
                    assert state is not None
                    for level in _reached(state.level):
                        at.setdefault(level, t - CALM_S)
                cells = [str(at.get(level, "-")) for level in (DriftLevel.NOTICE, DriftLevel.WARN, DriftLevel.ALARM)]
                print(
                    f"| {scene}, {seed} | {shift_px:g} | {' | '.join(cells)} | {state.drift_px:.1f}: "
                    f"{state.residual_px:.1f}, {state.moved_px:.1f} | {state.level} |",
                    flush=True,
                )


def _reached(level: DriftLevel) -> list[DriftLevel]:
    order = [DriftLevel.NOTICE, DriftLevel.WARN, DriftLevel.ALARM]
    return order[: order.index(level) + 1] if level in order else []


def hours(args: argparse.Namespace) -> None:
    """A rig that stands still, with people, traffic and thermal drift. Each scene's comparisons of `bank_s` seconds are
    strung together at random, in pieces of 30 s, until the hours are full: the monitor evaluates every second of them.
    """
    began = time.process_time()
    plain = ThermalGrid(None)
    rng = np.random.default_rng(0)
    every = [(scene, seed) for scene in args.scenes for seed in range(args.seeds)]
    levels: Counter[str] = Counter()
    alarms = 0
    largest = 0.0
    for scene, seed in every:
        feed = Feed(scene, seed, thermal_drift_counts_per_s=2.0)
        monitor = DriftMonitor((feed.rig.config.height, feed.rig.config.width))
        bank = [monitor._estimator.volume(*feed.pair(float(t), plain)) for t in range(args.bank_s)]
        seconds = round(args.hours * 3600 / len(every))
        before = DriftLevel.OK
        for t in range(seconds):
            if t % 30 == 0:
                start = int(rng.integers(0, len(bank) - 30))
            state = monitor.push(bank[start + t % 30], t * SECOND_NS)
            levels[state.level.value] += 1
            if np.isfinite(state.drift_px):
                largest = max(largest, state.drift_px)
            loud = state.level in (DriftLevel.WARN, DriftLevel.ALARM)
            alarms += loud and before not in (DriftLevel.WARN, DriftLevel.ALARM)
            before = state.level
        print(f"{scene}, {seed}: {seconds} s, levels so far {dict(levels)}, false alarms so far {alarms}", flush=True)
    print(
        f"{args.hours:g} h: {alarms} false alarms; largest drift {largest:.1f} px; evaluations {dict(levels)}; "
        f"{(time.process_time() - began) / 60:.1f} minutes of processor time"
    )


def apply(args: argparse.Namespace) -> None:
    """Closed loop: what the monitor does to the true residual. Also where it must do nothing: skewed traffic."""
    print("| scene, seed | shift px | true residual before, median / p95 px | after | applied px | settled after s |")
    print("|---|---|---|---|---|---|")
    cases = [(s, n, px, 0.0) for s in args.scenes for n in range(args.seeds) for px in (0.0, 4.0, 8.0, 12.0)]
    cases += [(s, 0, 0.0, 150.0) for s in args.scenes]
    for scene, seed, shift_px, skew_ms in cases:
        feed = Feed(scene, seed, shift_px, time_skew_ms=skew_ms)
        size = (feed.rig.config.height, feed.rig.config.width)
        thermal_size = (feed.rig.config.thermal_height, feed.rig.config.thermal_width)
        base = grid = ThermalGrid(None)
        aligner, monitor = SelfAligner("apply", size, limit_px=24.0), DriftMonitor(size)
        aligner.step(0)
        settled: int | None = None
        for t in range(1, 90):
            if not aligner.moving:
                state = monitor.update(*feed.pair(float(t), grid), t * SECOND_NS)
                if state is not None:
                    aligner.offer(state)
            correction = aligner.step(t * SECOND_NS)
            if correction is not None:
                grid = base.corrected(correction, size, thermal_size)
                monitor = DriftMonitor(size, mask=grid.mask(*size))
                settled = t
        label = f"{scene}, {seed}" + (f", thermal {skew_ms:g} ms late" if skew_ms else "")
        found = [residual(feed, which) for which in (np.eye(3), aligner.correction)]
        shown = " | ".join(f"{np.median(off):.2f} / {np.percentile(off, 95):.2f}" for off in found)
        print(
            f"| {label} | {shift_px:g} | {shown} | {aligner.moved_px:.1f} | {settled if settled else '-'} |", flush=True
        )


def residual(feed: Feed, correction: np.ndarray) -> np.ndarray:
    """(N,) true distances, px, below the sky: where thermal shows what visible shows, after the correction."""
    truth = feed.rig.truth(80.0)
    height, width = truth.depth_m.shape
    y, x = np.mgrid[0:height:4, 0:width:4]
    seen = truth.depth_m[::4, ::4] < 500
    points = np.stack([x[seen], y[seen]], -1).astype(np.float64)
    at = points + truth.displacement_px[::4, ::4][seen]  # thermal shows it here; the correction carries it to:
    carried = np.column_stack([at, np.ones(len(at))]) @ correction.T
    return np.linalg.norm(carried[:, :2] / carried[:, 2:] - points, axis=1)


def video(args: argparse.Namespace) -> None:
    """Closed loop on a real sequence, each `every`-th pair a second."""
    pairs = list(_pairs(args.visible, args.thermal, args.every))
    size, thermal_size = pairs[0][0].shape[:2], pairs[0][1].shape
    base = grid = ThermalGrid(None)
    aligner, monitor = SelfAligner("apply", size, limit_px=40.0), DriftMonitor(size, radius_px=24.0)
    aligner.step(0)
    first: DriftState | None = None
    state: DriftState | None = None
    for t in range(1, args.seconds):
        visible, thermal = pairs[t % len(pairs)]
        if not aligner.moving:
            luma = np.asarray(cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY))
            state = monitor.update(luma, grid.to_visible(thermal, *size), t * SECOND_NS)
            if state is not None:
                if first is None and np.isfinite(state.drift_px):
                    first = state
                    print(f"first word after {t} s: {_said(state)}")
                aligner.offer(state)
        correction = aligner.step(t * SECOND_NS)
        if correction is not None:
            grid = base.corrected(correction, size, (thermal_size[0], thermal_size[1]))
            monitor = DriftMonitor(size, radius_px=24.0, mask=grid.mask(*size))
            if not aligner.moving:
                print(f"after {t} s: corrected by {aligner.moved_px:.1f} px at the corners")
    if state is not None:
        print(f"at the end: {_said(state)}")
    if args.output is not None:
        visible, thermal = pairs[len(pairs) // 2]
        rows = [_overlay(visible, g.to_visible(thermal, *size)) for g in (base, grid)]
        cv2.imwrite(str(args.output), np.vstack(rows)[..., ::-1])
        print(f"edges of thermal (red) on visible, before above, after below: {args.output}")


def _said(state: DriftState) -> str:
    return (
        f"{state.level}, {state.drift_px:.1f} px (x {state.dx_px:+.1f}, y {state.dy_px:+.1f}), "
        f"{state.confidence:.0%} of the picture sure, trusted {state.trusted}"
    )


def _pairs(visible: Path, thermal: Path, every: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    readers = open_reader(visible, Stream.VISIBLE), open_reader(thermal, Stream.THERMAL)
    skew_ns = default_max_skew_ns(getattr(readers[1], "rate", None))
    for index, pair in enumerate(pair_by_time(readers[0].frames(), readers[1].frames(), skew_ns, max_hold_ns=0)):
        if index % every == 0 and pair.thermal is not None:
            yield pair.visible.frame.pixels, pair.thermal.frame.pixels
    for reader in readers:
        reader.close()


def _overlay(visible: np.ndarray, levels: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY)
    picture = np.repeat((grey * 0.7).astype(np.uint8)[..., None], 3, 2)
    picture[cv2.Canny(cv2.GaussianBlur(levels, (0, 0), 1.5), 30, 80) > 0] = (255, 40, 40)
    return picture


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("detect", detect), ("hours", hours), ("apply", apply)):
        command = commands.add_parser(name)
        command.set_defaults(run=function)
        command.add_argument("--scenes", nargs="+", default=["street", "yard"])
        command.add_argument("--seeds", type=int, default=1)
        command.add_argument("--hours", type=float, default=8.0)
        command.add_argument("--bank-s", type=int, default=240)
    command = commands.add_parser("video")
    command.set_defaults(run=video)
    command.add_argument("visible", type=Path)
    command.add_argument("thermal", type=Path)
    command.add_argument("--every", type=int, default=3)
    command.add_argument("--seconds", type=int, default=120)
    command.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.run(args)


if __name__ == "__main__":
    main()
