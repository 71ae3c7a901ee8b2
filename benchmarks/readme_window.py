"""Makes docs/images/window.webp: the real window on the simulated rig at night, a few seconds of it.

xvfb-run -a -s "-screen 0 1320x820x24" python -m benchmarks.readme_window docs/images/window.webp
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from PyQt6.QtGui import QImage
from PyQt6.QtTest import QTest

from app.gui.application import Session
from app.gui.common.qt_application import make_application
from app.rig.setup_assistant import simulated_config
from app.view.settings import ViewMode

_WIDTH, _HEIGHT = 1000, 620
_EVERY_MS = 160
_SHOWN = ((ViewMode.VISIBLE, 8), (ViewMode.THERMAL, 8), (ViewMode.FUSED, 14), (ViewMode.QUAD, 10))
_TEST: Any = QTest  # its stubs take the static functions for methods


def main(output: Path) -> int:
    """Drive the window, grab it, write the animation."""
    application = make_application(["lumitherm"])
    with tempfile.TemporaryDirectory() as work:
        session = Session(application, Path(work) / "settings.ini", Path(work))
        window, control = session.window, session.controller.live
        window.resize(_WIDTH, _HEIGHT)
        window.show()
        session.controller.open_config(simulated_config(
            engine={"name": "aligned-pyramid"}, recording={"directory": work},
            simulation={"night": 0.75, "visible_fps": 8.0, "thermal_fps": 8.0, "width": 480, "height": 360,
                        "thermal_width": 320, "thermal_height": 240},
        ))  # fmt: skip
        end_s = time.monotonic() + 240
        while not _fuses(control) and time.monotonic() < end_s:
            _TEST.qWait(200)
        _TEST.qWait(4000)
        frames: list[Image.Image] = []
        for mode, count in _SHOWN:
            control.set_mode(mode)
            _TEST.qWait(500)
            for _ in range(count):
                _TEST.qWait(_EVERY_MS)
                frames.append(_picture(window.grab().toImage()))
        window.close()
        session.close()
    frames[0].save(output, save_all=True, append_images=frames[1:], duration=_EVERY_MS, loop=0, quality=40, method=4)
    print(f"{output}: {len(frames)} pictures, {output.stat().st_size / 1e3:.0f} kB")
    return 0


def _fuses(control: Any) -> bool:
    """Whether what was asked for fuses, and nothing stands in for it."""
    snapshot = None if control.pipeline is None else control.pipeline.stats.snapshot()
    return snapshot is not None and control.frame is not None and not snapshot.fallback_reason


def _picture(image: QImage) -> Image.Image:
    rgb = image.convertToFormat(QImage.Format.Format_RGB888)
    bits = rgb.constBits()
    assert bits is not None
    bits.setsize(rgb.sizeInBytes())
    return Image.frombytes("RGB", (rgb.width(), rgb.height()), bytes(bits), "raw", "RGB", rgb.bytesPerLine())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
