"""The fusion network and what runs it.

    from fusion_core import load_fuser
    fuse = load_fuser("tiny")
    fused = fuse(visible_rgb, thermal)

Importing this package does not import torch; the first use of `load_fuser` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion_core.fuser import load_fuser

__all__ = ["load_fuser"]


def __getattr__(name: str) -> Any:
    if name == "load_fuser":
        from fusion_core.fuser import load_fuser

        return load_fuser
    raise AttributeError(f"module 'fusion_core' has no attribute {name!r}")
