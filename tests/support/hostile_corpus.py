"""Small sound files for the corpus of the fuzzer: a film, a sidecar, weights."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from support.network_weights import BRIEF


def film(av: Any, path: Path) -> None:
    """Three pictures of 32x32 in Matroska, as the visible track of a recording."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "40"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.metadata["title"] = "visible"
        frame = av.VideoFrame(32, 32, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for number in range(3):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def sidecar() -> bytes:
    """A header, a pair, a gap, an event and an end."""
    first = {"type": "header", "schema": 1, "recording": "x", "segment": 0, "start_ns": 0, "wall_start": "x"}
    at = {"i": 0, "t_ns": 0, "src": "arrival", "at": {"k": 0, "ms": 0}}
    lines = [
        first | {"wall_start_ns": 0, "tracks": [], "label": "a", "config": {"app": {}}, "versions": {}},
        {"type": "frame", "n": 0, "t_ns": 0, "visible": at, "thermal": at, "skew_ns": 0, "agc": [0, 1]},
        {"type": "gap", "cause": "lost", "from_ns": 0, "to_ns": 5},
        {"type": "event", "t_ns": 0, "label": "x"},
        {"type": "end", "reason": "stop", "frames": {"visible": 1}, "duration_ns": 1},
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def weights(path: Path) -> None:
    """The smallest network that has every part."""
    import torch

    from fusion_core.checkpoint import save_checkpoint
    from fusion_core.rfvif import Rfvif

    torch.manual_seed(0)
    save_checkpoint(path, Rfvif(BRIEF.replace(channels=4)), {})
