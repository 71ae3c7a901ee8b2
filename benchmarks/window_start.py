"""How long the window takes to be there, and from the start of the simulated rig to its first picture.

    python benchmarks/window_start.py [--times 5] [--engine average] [--set simulation.height=1080 ...]

Each time is a fresh process (offscreen unless there is a display). Printed are median and worst of: importing the
window; making and showing it; importing the pipeline, which the window does by itself once it is shown; from the click
to the first picture on the screen, after these imports, and the work that it takes, which other programs on the machine
disturb less; the same without these imports (a click at once); and how many frames were lost in the ten seconds after.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_FIELDS = {
    "import_s": "importing the window, s",
    "shown_s": "making and showing it, s",
    "pipeline_import_s": "importing the pipeline, s",
    "picture_s": "click to first picture, s",
    "picture_work_s": "processor time of all threads for it, s",
    "cold_picture_s": "the same at once, imports included, s",
    "lost": "frames lost in the 10 s after it",
    "fused": "pictures fused in these 10 s",
}


def one(engine: str, settings: list[str], cold: bool) -> dict[str, float]:
    """One start, in this process."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen" if not os.environ.get("DISPLAY") else "xcb")
    began_s = time.perf_counter()
    from PyQt6.QtTest import QTest

    from app.configuration.config import load_config
    from app.gui.application import Session, load_pipeline
    from app.gui.common.qt_application import make_application

    figures = {"import_s": time.perf_counter() - began_s}
    began_s = time.perf_counter()
    application = make_application(["lumitherm"])
    with tempfile.TemporaryDirectory() as folder:
        session = Session(application, Path(folder) / "window.json", Path(folder))
        session.window.show()
        QTest.qWaitForWindowExposed(session.window)
        figures["shown_s"] = time.perf_counter() - began_s
        if not cold:
            began_s = time.perf_counter()
            load_pipeline()
            figures["pipeline_import_s"] = time.perf_counter() - began_s
        config = load_config(
            Path(__file__).resolve().parent.parent / "configs" / "simulated.yaml",
            [f"engine.name={engine}", f"recording.directory={folder}", *settings],
            {},
        )
        painted: list[float] = []
        session.window.live.stage.video.presented.connect(lambda _: painted.append(time.perf_counter()))
        began_s, worked_s = time.perf_counter(), time.process_time()
        session.controller.open_config(config)
        while not painted and time.perf_counter() < began_s + 120:
            QTest.qWait(1)
        figures["cold_picture_s" if cold else "picture_s"] = painted[0] - began_s
        if not cold:
            figures["picture_work_s"] = time.process_time() - worked_s
            QTest.qWait(10_000)
            snapshot = session.controller.live.snapshot_of_stats
            if snapshot is not None:
                figures["lost"] = float(snapshot.total_drops)
                figures["fused"] = float(snapshot.frames["fused"])
        ended: list[bool] = []
        session.window.closed.connect(lambda: ended.append(True))
        session.window.close()
        while not ended:
            QTest.qWait(10)
        session.close()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--engine", default="average")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--one", choices=("warm", "cold"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        print(json.dumps(one(wanted.engine, wanted.settings, wanted.one == "cold")))
        return
    every: dict[str, list[float]] = {}
    for _ in range(wanted.times):
        for kind in ("warm", "cold"):
            options = [f"--set={setting}" for setting in wanted.settings]
            command = [sys.executable, __file__, "--engine", wanted.engine, "--one", kind, *options]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                every.setdefault(name, []).append(value)
    for name, text in _FIELDS.items():
        values = every[name]
        print(f"{text:>40}: median {statistics.median(values):7.2f}, worst {max(values):7.2f}, {len(values)} times")


if __name__ == "__main__":
    main()
