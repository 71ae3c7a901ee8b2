"""Fuzzes every parser of files from outside, guided by the lines that an input reaches.

    python scripts/fuzz.py [--seconds 600] [--only PARSER]     what `make fuzz` runs
    python scripts/fuzz.py --make-corpus                        writes tests/data/fuzz anew

Hypothesis mutates the corpus and aims for inputs that run more of the project's own lines; what reaches a new line
joins the corpus of the run. Each parser has its own process, so that a crash of a library is told and not the end.
A finding (anything but success or an error meant for it, or one that took too long) is kept in out/fuzz; exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
CORPUS = ROOT / "tests" / "data" / "fuzz"
FOUND = ROOT / "out" / "fuzz"
# Parser of support.hostile, and the files of the corpus that it begins with.
PARSERS = {
    "configuration": ("*.yaml",),
    "configuration edit": ("*.yaml",),
    "calibration": ("*.yaml",),
    "board": ("*.yaml",),
    "visible picture": ("picture-*",),
    "thermal picture": ("picture-*",),
    "mask": ("picture-*",),
    "weights": ("weights*",),
    "video": ("film*",),
    "video player": ("film*",),
    "recording": ("film*",),
    "sidecar": ("*.jsonl",),
    "board sightings": ("*.npz",),
    "json": ("*.jsonl", "*.json"),
}
SUFFIX = {"video": ".mkv", "video player": ".mkv", "recording": ".mkv", "sidecar": ".jsonl", "board sightings": ".npz"}
WORDS = (b"\x00", b"\xff" * 8, b"&a [*a]", b"*a", b"[" * 40, b"9" * 40, b"-1", b"1e308", b".nan", b"null")
NUMBERS = (0, 1, 2**16, 2**31 - 1, 2**32 - 1)
MOST_S = 10.0
MOST_BYTES = 2_500_000_000


def make_corpus() -> None:
    """Small files, each of a few hundred bytes, by our own writers."""
    import av
    import cv2
    import numpy as np
    import tifffile
    from support.hostile_corpus import film, sidecar, weights

    from calibration.rig import plain_scaling, save_calibration

    CORPUS.mkdir(parents=True, exist_ok=True)
    grey = (np.arange(64 * 64).reshape(64, 64) % 251).astype(np.uint8)
    for suffix in ("png", "jpg", "bmp", "webp", "jp2", "pgm"):
        (CORPUS / f"picture-grey.{suffix}").write_bytes(cv2.imencode(f".{suffix}", grey)[1].tobytes())
    (CORPUS / "picture-deep.png").write_bytes(cv2.imencode(".png", grey.astype(np.uint16) * 257)[1].tobytes())
    for name, pixels in (("deep", grey.astype(np.uint16)), ("float", grey.astype(np.float32))):
        target = io.BytesIO()
        tifffile.imwrite(target, pixels)
        (CORPUS / f"picture-{name}.tiff").write_bytes(target.getvalue())
    save_calibration(plain_scaling((480, 640), (240, 320)), CORPUS / "rig.yaml")
    (CORPUS / "board.yaml").write_text("kind: charuco\ncolumns: 8\nrows: 6\nsquare_m: 0.03\nmarker_m: 0.02\n")
    (CORPUS / "minimal.yaml").write_text("rig: a\nvisible: {uri: sim:visible}\nthermal: {uri: sim:thermal}\n")
    (CORPUS / "recording.jsonl").write_bytes(sidecar())
    np.savez_compressed(CORPUS / "seen.npz", added_ms=np.array(1.0), counts=np.zeros((0, 2), np.int64))
    weights(CORPUS / "weights.safetensors")
    film(av, CORPUS / "film.bin")


class Lines:
    """The lines of the project that an input runs, and whether one of them is new."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.now: set[tuple[str, int]] = set()

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith((str(ROOT / "app"), str(ROOT / "fusion_core"), str(ROOT / "calibration"))):
            return None
        if event == "line":
            self.now.add((file, frame.f_lineno))
        return self._trace

    def __enter__(self) -> Lines:
        self.now = set()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def are_new(self) -> bool:
        new = not self.now <= self.seen
        self.seen |= self.now
        return new


def fuzz(parser: str, seconds: float) -> int:
    """One parser in this process; how many findings."""
    import av
    import cv2
    import hypothesis
    import torch
    from hypothesis import strategies as st
    from support.hostile import parsers

    from fusion_core.errors import LumithermError

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    parse, lines, found = parsers()[parser], Lines(), 0
    corpus = [path.read_bytes() for pattern in PARSERS[parser] for path in sorted(CORPUS.glob(pattern))]
    FOUND.mkdir(parents=True, exist_ok=True)
    suffix = SUFFIX.get(parser, ".yaml" if PARSERS[parser] == ("*.yaml",) else "")
    target = FOUND / f"{parser.replace(' ', '-')}-last{suffix}"
    with contextlib.suppress(LumithermError, ValueError, OSError):  # libraries load now, not in an input's time
        target.write_bytes(corpus[0])
        parse(target)
    end_s, inputs = time.monotonic() + seconds, 0
    edits = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2**31), st.integers(0, 2**31)), min_size=1, max_size=8)

    def one(which: int, changes: list[tuple[int, int, int]]) -> None:
        nonlocal inputs, found
        if time.monotonic() > end_s:
            return
        data = mutated(corpus[which % len(corpus)], changes, corpus)
        target.write_bytes(data)
        inputs, began_s = inputs + 1, time.process_time()
        why = ""
        with lines:
            try:
                parse(target)
            except (LumithermError, ValueError, OSError):
                pass
            except BaseException as error:
                why = f"{type(error).__name__}: {error}"
        spent_s = time.process_time() - began_s
        if spent_s > 4 * MOST_S:  # tracing makes it slow
            why = why or f"took {spent_s:.0f} s"
        if why:
            found += 1
            kept = FOUND / f"{parser.replace(' ', '-')}-{found}.bin"
            kept.write_bytes(data)
            print(f"{parser}: {why[:300]}; the input is {kept}", flush=True)
        hypothesis.target(float(len(lines.now)), label="lines")
        if lines.are_new() and len(corpus) < 2000:
            corpus.append(data)

    begun = len(corpus)
    while time.monotonic() < end_s and found < 20:
        run = hypothesis.given(st.integers(0, 2**31), edits)(one)
        checks = list(hypothesis.HealthCheck)
        run = hypothesis.settings(max_examples=300, deadline=None, database=None, suppress_health_check=checks)(run)
        hypothesis.seed(inputs)(run)()
    target.unlink(missing_ok=True)
    print(f"| {parser} | {inputs} | {len(lines.seen)} | {len(corpus) - begun} | {found} |", flush=True)
    return found


def mutated(data: bytes, changes: list[tuple[int, int, int]], corpus: list[bytes]) -> bytes:
    """The input with each change (kind, place, value) made."""
    changed = bytearray(data)
    for kind, place, value in changes:
        at, length = place % (len(changed) + 1), 1 + value % 64
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << value % 8
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = WORDS[value % len(WORDS)]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            number = NUMBERS[value % 5] if value % 3 else value
            changed[at : at + 4] = number.to_bytes(4, "big" if place % 2 else "little")
        elif kind == 5:
            other = corpus[value % len(corpus)]
            changed[at : at + length] = other[at : at + length]
        elif value % 5 == 0:
            del changed[at:]
    return bytes(changed)


def main() -> int:
    """The command; its exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--only", choices=PARSERS)
    options.add_argument("--make-corpus", action="store_true")
    options.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.make_corpus:
        make_corpus()
        return 0
    if given.here:
        return min(1, fuzz(given.only, given.seconds))
    chosen = [given.only] if given.only else list(PARSERS)
    print(
        "| parser | inputs | lines reached | inputs that reached new ones | findings |\n|---|---|---|---|---|",
        flush=True,
    )
    failed = 0
    for name in chosen:
        command = [sys.executable, __file__, "--here", "--only", name, "--seconds", str(given.seconds / len(chosen))]
        code = subprocess.run(command, check=False).returncode
        if code not in (0, 1):
            print(f"{name}: the process ended with {code}; its last input is {FOUND}/{name.replace(' ', '-')}-last*")
        failed += code != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
