"""Where the example configurations are: beside this package in an installation, in `configs/` of a checkout."""

from __future__ import annotations

from pathlib import Path

from fusion_core.errors import RunError

__all__ = ["EXAMPLES", "example"]

EXAMPLES = ("simulated", "usb_pair", "rtsp_pair", "replay", "train", "train_align", "train_fuse")


def example(name: str) -> Path:
    """The file of an example configuration, one of EXAMPLES. Raises RunError: this installation lacks it."""
    here = Path(__file__).resolve().parent
    for folder in (here / "examples", here.parents[1] / "configs"):
        file = folder / f"{name}.yaml"
        if file.is_file():
            return file
    raise RunError(f"the example configuration {name!r} is not where it should be ({here / 'examples'}); install anew")
