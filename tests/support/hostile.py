"""Runs the project's parsers on hostile files, each in a process of its own, and measures what a refusal costs.

    python -m support.hostile < JOBS > RESULTS      one JSON list each: [[parser, path], ...] and [{...}, ...]

The libraries are loaded once; every job is a fork, whose peak of memory counts from its start.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_MB = 1000.0
MOST_S = 10.0


def parsers() -> dict[str, Callable[[Path], object]]:
    """Every way in of a file from outside."""
    from app.configuration.config import load_config
    from app.configuration.yaml_edit import set_value
    from app.media.reader import open_reader
    from app.playback.video_files import _SeekableVideo
    from app.recording.reader import RecordingReader
    from app.recording.sidecar import read_sidecar
    from app.recording.video_scan import scan_video
    from calibration.board import parse_board
    from calibration.rig import load_calibration
    from calibration.time_offset import BoardMovement
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.files import read_json
    from fusion_core.frames import Stream
    from fusion_core.model_store import ModelStore
    from fusion_core.picture_file import PictureReader
    from fusion_core.thermal.agc import Agc, AgcConfig

    def video(path: Path) -> None:
        reader = open_reader(path, Stream.VISIBLE)
        try:
            for _ in reader.frames():
                pass
            if reader.damage:
                raise ValueError(reader.damage)
        finally:
            reader.close()

    def recording(path: Path) -> None:
        with RecordingReader(path) as reader:
            for index in range(len(reader)):
                for track in reader.tracks:
                    reader.picture(track, index)

    return {
        "configuration": lambda path: load_config(path, (), {}),
        "configuration edit": lambda path: set_value(path, "calibration", "file", "x.yaml"),
        "calibration": load_calibration,
        "board": lambda path: parse_board(str(path)),
        "visible picture": lambda path: PictureReader(Stream.VISIBLE).read(path),
        "thermal picture": lambda path: PictureReader(Stream.THERMAL).read(path),
        "mask": lambda path: Agc(AgcConfig(exclude_mask=path)),
        "weights": load_checkpoint,
        "video": video,
        "video player": lambda path: _SeekableVideo(path, Stream.VISIBLE),
        "recording": recording,
        "recording scan": scan_video,
        "sidecar": read_sidecar,
        "board sightings": BoardMovement.load,
        "json": read_json,
        "model store": lambda path: ModelStore(path.parent).models(),
    }


def peak_mb() -> float:
    """Most memory of this process since the last reset, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def judge(parse: Callable[[Path], object], path: Path) -> dict[str, Any]:
    """What became of one file, and what it took."""
    from fusion_core.errors import LumithermError

    before = peak_mb()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        before = peak_mb()
    began_s, cpu_s = time.monotonic(), time.process_time()
    outcome, said = "read", ""
    try:
        parse(path)
    except LumithermError as error:
        outcome, said = "refused", str(error)
    except (ValueError, OSError) as error:  # of readers whose callers put it into words
        outcome, said = "refused", f"{error}"
        if type(error) not in (ValueError, OSError, FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
            outcome = type(error).__name__
    except BaseException as error:
        outcome, said = type(error).__name__, str(error)[:300]
    return {
        "outcome": outcome,
        "said": said,
        "wall_s": round(time.monotonic() - began_s, 2),
        "cpu_s": round(time.process_time() - cpu_s, 2),
        "peak_mb": round(peak_mb(), 1),
        "more_mb": round(peak_mb() - before, 1),
    }


def in_a_fork(parse: Callable[[Path], object], path: Path) -> dict[str, Any]:
    """`judge` in a child that may take 12 GB and a minute of the processor: more is told as such."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (12_000_000_000, 12_000_000_000))
        signal.setitimer(signal.ITIMER_PROF, 60)
        signal.alarm(600)  # for what waits; a busy machine takes many times as long
        data = json.dumps(judge(parse, path)).encode()
        os.write(writing, data)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(data) if data else {"outcome": f"ended by {status}", "said": "", "cpu_s": 60, "peak_mb": 0}


def main() -> None:
    import av
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    av.logging.set_level(None)
    known = parsers()
    json.dump(
        [{"parser": name, **in_a_fork(known[name], Path(path))} for name, path in json.load(sys.stdin)], sys.stdout
    )


if __name__ == "__main__":
    main()
