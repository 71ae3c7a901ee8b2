"""Sizes and switches of the network, and the named presets of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from fusion_core.errors import CheckpointError, UsageError

__all__ = ["FRAME_PX", "NETWORK_VERSION", "PRESETS", "RfvifConfig", "preset_config"]

FRAME_PX = 2.0
"""Sensors and frame grabbers leave dark lines at the picture's edge, which the warp would draw out into broad strips:
it repeats what lies this far inside instead."""

NETWORK_VERSION = 2
"""Raised whenever the same weights would give other pictures; part of every engine's cache key. Since version 2 a share
of the weaker band is added; weights of version 1 are read, and drawn by that rule."""

_MOST: Final = {
    "channels": 1024,
    "residual_blocks": 256,
    "space_to_depth": 2,
    "working_px": 36_000_000,
    "fab_count": 3,
}
"""Beyond every network of ours by far; weights of strangers may ask for no more."""

AlignmentMode = Literal["paper", "uniform", "field"]


@dataclass(frozen=True, slots=True)
class RfvifConfig:
    """One RFVIF network. The switches in the second block are the rows of the paper's Table 3."""

    channels: int = 64
    """C, the width of every feature map. The paper does not give it."""
    light: bool = False
    """Light MSRB (one 3x3 and one 5x5 path of C/2 each) instead of two crossed paths of C, and shared stride-2
    convolutions."""
    residual_blocks: int = 6
    """Before the reconstruction (Section 3.5: six)."""
    space_to_depth: int = 1
    """2: every convolution runs on the 2x2-to-channels rearranged input, a quarter of the positions."""
    detail_path: bool = False
    """The reconstruction's last convolutions also see both pictures at full resolution (the infrared one aligned), and
    their output is added to the visible luminance: fine texture survives narrow feature maps."""
    alignment: AlignmentMode = "paper"
    """paper: Eq. (6) alone. uniform: the infrared picture is shifted by one estimated displacement. field: it is warped
    by a field of them."""
    working_px: int = 0
    """The network runs on pictures reduced to at most so many pixels, and a detail path brings back what lies above
    (`fusion_core.rfvif.working_grid`). 0: at full size, as in the paper."""
    stages: tuple[tuple[int, int], ...] = ((8, 2), (4, 2), (2, 1))
    """Of the correlation: (1/resolution, radius searched), coarse to fine."""
    learned_features: bool = False
    """It compares what a small network makes of both pictures (factors 8, 4 and 2), not their gradients alone."""
    look_priors: tuple[float, ...] = (20.0, 0.3, 0.3, 1.0)
    """What `correlation.settle` holds against departures from wider windows, after each look of the finest stage."""
    look_gain: float = 1.0
    """What a soft arg-max finds falls short of the peak: the finest stage's steps are made longer by this, but not
    those of the last two looks. Where evidence is sharp a longer step overshoots, and these put that right."""

    cross_modulation: bool = True
    fdam: bool = True
    dynamic_kernels: bool = True
    fab_count: int = 2
    complementary_mask: bool = True
    pyramid_fusion: bool = True
    refine_visible: bool = True
    refine_infrared: bool = True

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= most:
                raise UsageError(f"{name} is {str(value)[:40]}, must be a whole number from 0 to {most}")
        if not 1 <= len(self.stages) <= 8 or not all(1 <= f <= 64 and 0 <= r <= 64 for f, r in self.stages):
            raise UsageError("stages must be 1 to 8 pairs of a factor from 1 to 64 and a radius from 0 to 64")
        if not 1 <= len(self.look_priors) <= 16 or not all(0.0 < prior <= 1e6 for prior in self.look_priors):
            raise UsageError("look_priors must be 1 to 16 numbers above 0, at most 1e6")
        if not 0.5 <= self.look_gain <= 2.0:
            raise UsageError(f"look_gain is {self.look_gain}, must be from 0.5 to 2")
        if self.learned_features and not {factor for factor, _ in self.stages} <= {2, 4, 8}:
            raise UsageError("learned_features takes stages of 8, 4 and 2 alone")
        for field in fields(self):
            if field.type == "bool" and not isinstance(getattr(self, field.name), bool):
                raise UsageError(f"{field.name} must be true or false")
        if self.channels < 4 or self.channels % 4:
            raise UsageError(f"channels is {self.channels}, must be a multiple of 4, at least 4")
        if self.fab_count not in (1, 2, 3):
            raise UsageError(f"fab_count is {self.fab_count}, must be 1, 2 or 3 (Table 3)")
        if self.space_to_depth not in (1, 2):
            raise UsageError(f"space_to_depth is {self.space_to_depth}, must be 1 or 2")
        if self.alignment not in ("paper", "uniform", "field"):
            raise UsageError(f"alignment is {self.alignment!r}, must be paper, uniform or field")

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this inside the network."""
        return 8 * self.space_to_depth

    def replace(self, **changes: Any) -> RfvifConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RfvifConfig:
        """Raises CheckpointError for unknown keys, so that weights of a newer network are not misread."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise CheckpointError(
                f"the network configuration has unknown keys {unknown}; it comes from another version of Lumitherm"
            )
        values = dict(values)
        if "stages" in values:
            values["stages"] = tuple((int(factor), int(radius)) for factor, radius in values["stages"])
        if "look_priors" in values:
            values["look_priors"] = tuple(float(prior) for prior in values["look_priors"])
        return cls(**values)


_ALIGNED = RfvifConfig(
    alignment="field", learned_features=True, look_priors=(20.0, 0.05, 0.05, 0.05, 0.15), look_gain=1.8
)

PRESETS: dict[str, RfvifConfig] = {
    "base": _ALIGNED.replace(channels=32, light=False, working_px=84_000),
    "small": _ALIGNED.replace(channels=16, light=True, detail_path=True, space_to_depth=2, working_px=36_000),
    "tiny": _ALIGNED.replace(
        channels=8, light=True, detail_path=True, space_to_depth=2, residual_blocks=3, working_px=20_000
    ),
}
"""Named presets of the one network. docs/evidence/network.md gives their cost and quality."""


def preset_config(name: str) -> RfvifConfig:
    """The configuration of a preset; raises UsageError with the known names for any other."""
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
