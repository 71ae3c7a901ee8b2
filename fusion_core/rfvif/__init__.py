"""RFVIF, the fusion network: `Rfvif(preset_config("tiny"))`."""

from fusion_core.rfvif.config import NETWORK_VERSION, PRESETS, RfvifConfig, preset_config
from fusion_core.rfvif.correlation import Alignment, CorrelationAlignment, warp
from fusion_core.rfvif.features import gradient_features
from fusion_core.rfvif.network import Rfvif, RfvifOutput

__all__ = [
    "NETWORK_VERSION",
    "PRESETS",
    "Alignment",
    "CorrelationAlignment",
    "Rfvif",
    "RfvifConfig",
    "RfvifOutput",
    "gradient_features",
    "preset_config",
    "warp",
]
