"""Fusing from Python in one call: the fastest engine of the machine, with the AGC that its weights expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.colour import STRENGTH_MAX, with_strength
from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.video_options import STILL_PICTURES, VideoOptions
from fusion_core.errors import BadInputError, UsageError
from fusion_core.thermal.agc import Agc, AgcConfig

__all__ = ["Fuser", "load_fuser"]

_ENGINES: dict[str, tuple[str, ...]] = {"cpu": ("openvino", "torch"), "cuda": ("tensorrt", "torch-cuda")}


class Fuser:
    """Fuses pairs: `fused = fuser(visible_rgb, thermal)`. One thread calls it; `close` or a `with` block ends it."""

    def __init__(self, engine: FusionEngine, agc: AgcConfig, *, video: bool, strength: float = 1.0) -> None:
        """Take over an engine.

        Args:
            agc: how uint16 counts become levels.
            video: each pair follows the one before: AGC and displacement are carried over.
            strength: see `strength`.
        """
        self._engine, self._agc, self._video = engine, Agc(agc), video
        self.strength = strength

    @property
    def name(self) -> str:
        """Of the engine, e.g. "openvino-bf16:tiny"."""
        return self._engine.name

    @property
    def displacement_px(self) -> npt.NDArray[np.float32] | None:
        """The displacement that the newest pair was fused with, (2, H/8, W/8): (dx, dy) in pixels of the picture.

        The thermal content that belongs to a visible pixel p lies at p + d(p). None before the first pair, and with
        engines that estimate none.
        """
        return getattr(self._engine, "displacement_px", None)

    @property
    def strength(self) -> float:
        """0 gives the visible picture, 1 what the engine fused, up to 1.5 exaggerates heat. May change at any time."""
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        if not 0.0 <= value <= STRENGTH_MAX:
            raise UsageError(f"strength is {value}, must be from 0 to {STRENGTH_MAX}")
        self._strength = value

    def __call__(self, visible: npt.NDArray[np.uint8], thermal: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Fuse one pair.

        Args:
            visible: (H, W, 3) uint8 RGB.
            thermal: (h, w) uint8, or uint16 counts, which go through the AGC; resized to (H, W) where sizes differ.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            BadInputError: shape or dtype is wrong. EngineError: the engine failed.
        """
        if thermal.ndim != 2 or thermal.dtype not in (np.uint8, np.uint16) or not thermal.size:
            raise BadInputError(f"thermal is {thermal.dtype} {thermal.shape}, must be (h, w) uint8 or uint16")
        if not self._video:
            self.reset()
        levels: np.ndarray = thermal if thermal.dtype == np.uint8 else self._agc.apply(thermal)
        if visible.ndim == 3 and levels.shape != visible.shape[:2]:
            height, width = visible.shape[:2]
            interpolation = cv2.INTER_LINEAR if height >= thermal.shape[0] else cv2.INTER_AREA
            levels = np.asarray(cv2.resize(levels, (width, height), interpolation=interpolation))
        return np.asarray(with_strength(visible, self._engine.fuse(visible, levels), self._strength), np.uint8)

    def reset(self) -> None:
        """Forget earlier pairs: a cut, another source."""
        self._agc.reset()
        self._engine.reset()

    def close(self) -> None:
        """Let go of the engine. Safe to call twice."""
        self._engine.close()

    def __enter__(self) -> Fuser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_fuser(
    weights: str | Path = "tiny",
    *,
    engine: str = "auto",
    device: Literal["cpu", "cuda"] | None = None,
    threads: int | None = None,
    video: bool = False,
    strength: float = 1.0,
) -> Fuser:
    """A fuser on the fastest engine that runs here; `.name` says which.

    The first pair of a size compiles the network for it, in seconds, and keeps it on disk for the next start.

    Args:
        weights: a preset that ships with weights, a model of the store, or the path of a weights file.
        engine: one of `fusion_core.engines.engine.ENGINE_NAMES`; "torch" is the float32 reference.
        device: "cpu" or "cuda": the fastest engine there; only with engine "auto".
        threads: of an engine on the CPU; None: all cores but one, of two both.
        video: pairs follow each other: the displacement is estimated every few pairs, beside the fusion, and smoothed.
            Without it each pair is fused for itself.
        strength: 0..1.5, see `Fuser.strength`.

    Raises:
        CheckpointError: there are no such weights, or they are damaged. UsageError: no such engine, or a wrong option.
        EngineError: no engine runs here.
    """
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.model_store import resolve_weights

    path = resolve_weights(weights)
    names: tuple[str, ...] = (engine,)
    if device is not None:
        if engine != "auto" or device not in _ENGINES:
            raise UsageError(f"device is {device!r} with engine {engine!r}; give cpu or cuda, and no engine beside it")
        names = _ENGINES[device]
    options = STILL_PICTURES if not video else VideoOptions()
    made = _first_that_runs(names, path, threads, options)
    contract: Any = load_checkpoint(path).facts.get("agc")
    agc = AgcConfig()
    if isinstance(contract, dict):
        agc = AgcConfig.model_validate({key: value for key, value in contract.items() if key != "version"})
    return Fuser(made, agc, video=video, strength=strength)


def _first_that_runs(names: tuple[str, ...], path: Path, threads: int | None, video: VideoOptions) -> FusionEngine:
    from fusion_core.errors import EngineError

    for name in names[:-1]:
        try:
            return create_engine(name, weights=path, threads=threads, video=video)
        except EngineError:
            continue
    return create_engine(names[-1], weights=path, threads=threads, video=video)
