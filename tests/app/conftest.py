"""Windows in tests: on Qt's offscreen platform where there is no display."""

from __future__ import annotations

import os
import sys

import pytest

if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The offscreen platform warns of what it lacks at every window; that is not about us."""
    for item in items:
        if "test_gui" in item.nodeid:
            item.add_marker(pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints"))


@pytest.fixture(autouse=True)
def a_busy_test_machine_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures wait long for their encoder where tests run side by side; tests of the load set their own patience."""
    from app.recording.writing import load

    monkeypatch.setattr(load, "_PATIENCE_S", 3600.0)
