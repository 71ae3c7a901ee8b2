"""Damaged files of every kind: no crash, no hang, no flood of memory, one sentence each. See support/reader_fuzz.py."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest
from support.reader_fuzz import FORMATS

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 10.0  # of processor time
HANGS_S = 60.0
MOST_MB = 1000.0
WORDS_OF_LIBRARIES = ("Traceback", "libpng", "libjpeg", "av.error", "cv2.error", "<tifffile", "NoneType", "codec can't")


def lines_of(stream: IO[str]) -> queue.Queue[str | None]:
    """The lines of a stream as they come, then None; so that waiting for them can have a limit."""
    lines: queue.Queue[str | None] = queue.Queue()

    def pump() -> None:
        with stream:
            for line in stream:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=pump, daemon=True).start()
    return lines


def read_damaged(folder: Path, kind: str, first: int, last: int) -> tuple[list[dict[str, object]], list[str]]:
    """What became of each file, and what went wrong. Where a child dies, another goes on from the next file."""
    done: list[dict[str, object]] = []
    wrong: list[str] = []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    while first < last:
        command = [sys.executable, "-m", "support.reader_fuzz", str(folder), kind, str(first), str(last)]
        with (folder / "stderr").open("w") as errors:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert child.stdout is not None
        lines, at = lines_of(child.stdout), None
        try:
            # The first line waits for the imports.
            while (line := lines.get(timeout=HANGS_S if at is not None else 2 * HANGS_S)) is not None:
                event = json.loads(line)
                at = event.get("start")
                if "done" in event:
                    done.append(event)
                    first = event["done"] + 1
        except queue.Empty:
            wrong.append(f"{kind} {at}: takes more than {HANGS_S:g} s")
        finally:
            child.kill()
            code = child.wait()
        said = (folder / "stderr").read_text()
        if said:
            wrong.append(f"{kind}: {said[-500:]}")
        if first < last:
            wrong.append(f"{kind} {at}: the process ended with {code}")
            assert at is not None, wrong
            first = at + 1
    return done, wrong


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused_in_one_sentence(tmp_path: Path, kind: str, count: int) -> None:
    done, wrong = read_damaged(tmp_path, kind, 0, count)
    assert not wrong
    assert len(done) == count
    refused = 0
    for event in done:
        for said in event["said"]:  # type: ignore[attr-defined]
            refused += said.startswith("refused: ")
            assert "\n" not in said and len(said) < 600, said
            assert not any(word in said for word in WORDS_OF_LIBRARIES), said
    slowest_s = max(float(event["took_s"]) for event in done)  # type: ignore[arg-type]
    peak_mb = max(float(event["peak_mb"]) for event in done)  # type: ignore[arg-type]
    print(f"{kind}: {count} files, {refused} of {2 * count} readings refused, {slowest_s:.1f} s, {peak_mb:.0f} MB")
    assert slowest_s < LONGEST_S
    assert peak_mb < MOST_MB
    assert 0 < refused < 2 * count  # some are still good, some are not
