"""The one place that imports OpenVINO, without its telemetry, and how many threads it takes.

OpenVINO's Python package sends a report over the network at every import and at every conversion, unless a file in the
user's home folder says no. A rig tells nobody about itself, and each report is a process of its own, started from the
middle of a live pipeline. The package works without `openvino_telemetry`, so it does not get to see it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["default_threads", "load_openvino"]

_TELEMETRY = "openvino_telemetry"


def load_openvino() -> Any:
    """The module `openvino`.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    if _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it raises ImportError from now on
    return importlib.import_module("openvino")


def default_threads() -> int:
    """Threads for a network on the CPU: all cores of this process, less one for capture and encoding from three on.

    On two cores both are taken: the scheduler shares them out better than a thread that never runs (17 against 12
    pictures a second live).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return cores - 1 if cores > 2 else cores
