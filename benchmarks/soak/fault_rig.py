"""The service of one rig as `lumitherm run --headless --service` runs it, with an engine that obeys switches.

    python -m benchmarks.soak.fault_rig --config rig.yaml --switches FOLDER

While the file FOLDER/engine-fails exists, fusing raises; while FOLDER/engine-hangs exists, it does not return. Each
picture that comes out adds a line to FOLDER/pictures: monotonic time in ns, number, flags of its pair. For drills and
for benchmarks.soak.service; nothing in the service itself knows of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import typer

from app.commands.run import run_headless
from app.configuration.config import AppConfig, load_config
from app.logging_setup import configure_logging
from app.pipeline.live_fusion import LiveFusion
from app.process import bound_heap
from benchmarks.soak.faults import FaultyEngine
from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import LumithermError
from fusion_core.frames import FrameFlag

__all__ = ["FAILS", "HANGS", "PICTURES", "main"]

FAILS: Final = "engine-fails"
HANGS: Final = "engine-hangs"
PICTURES: Final = "pictures"
_LOOK_S = 0.05


class _HangingEngine(FaultyEngine):
    """An engine that fails while `broken` is set, and does not return while `hanging` is."""

    def __init__(self, engine: FusionEngine, broken: threading.Event, hanging: threading.Event) -> None:
        super().__init__(engine, broken)
        self._hanging = hanging

    def fuse(self, visible: Any, thermal: Any) -> Any:
        while self._hanging.is_set():
            time.sleep(_LOOK_S)
        return super().fuse(visible, thermal)


class _Drill:
    """Makes the pipeline with its switches. Threads: `switches`, which looks for the files, and `tap`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._broken, self._hanging = threading.Event(), threading.Event()

    def make_live(self, config: AppConfig) -> LiveFusion:
        """The pipeline; its switches and its tap begin to work."""
        live = LiveFusion(config, engine_factory=self._engine)
        threading.Thread(target=self._watch, name="switches", daemon=True).start()
        threading.Thread(target=self._tap, args=(live,), name="tap", daemon=True).start()
        return live

    def _engine(
        self, name: str, preset: str, weights: Path | None, threads: int | None, *, video: VideoOptions
    ) -> FusionEngine:
        engine = create_engine(name, preset, weights, threads, video=video)
        return _HangingEngine(engine, self._broken, self._hanging)

    def _watch(self) -> None:
        while True:
            for name, event in ((FAILS, self._broken), (HANGS, self._hanging)):
                if (self._folder / name).exists():
                    event.set()
                else:
                    event.clear()
            time.sleep(_LOOK_S)

    def _tap(self, live: LiveFusion) -> None:
        file = os.open(self._folder / PICTURES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        sequence = 0
        while True:
            newer = live.latest.wait_newer(sequence, 0.5)
            if newer is not None:
                sequence, frame = newer
                flags = frame.pair.flags
                for part in (frame.pair.visible, frame.pair.thermal):
                    flags |= part.flags & FrameFlag.GAP_BEFORE if part is not None else FrameFlag.NONE
                os.write(file, f"{time.monotonic_ns()} {sequence} {int(flags)}\n".encode())


def main() -> int:
    """Run until a signal; the exit code."""
    bound_heap()  # as the command does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--switches", type=Path, required=True)
    wanted = parser.parse_args()

    def read() -> AppConfig:
        return load_config(wanted.config, (), os.environ)

    try:
        settings = read()
        configure_logging(settings.logging)
        run_headless(settings, None, read, _Drill(wanted.switches).make_live)
    except typer.Exit as end:
        return end.exit_code
    except LumithermError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
