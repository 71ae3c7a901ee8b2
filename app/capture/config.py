"""What a user may set about cameras and the shutter freeze: frozen models, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.capture.cameras.uri import parse_camera_uri
from fusion_core.errors import ConfigError
from fusion_core.redaction import Address, redact_address

__all__ = ["CameraConfig", "FfcConfig", "ReopenConfig"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ReopenConfig(_Section):
    """When a silent camera counts as stalled, and how a lost one is reopened (for ever)."""

    stall_periods: Annotated[float, Field(ge=2, le=100)] = 3.0
    """Frame periods without a frame until the state is `stalled`."""
    min_stall_ms: Annotated[float, Field(ge=50, le=60_000)] = 500.0
    """Never call a camera stalled sooner than this: network jitter is not a fault."""
    grace_ms: Annotated[float, Field(ge=0, le=60_000)] = 500.0
    """A stalled camera may come back by itself for this long before it is closed and reopened."""
    first_backoff_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    """Wait before an attempt to reopen; doubles with each failure. The first comes at once where the camera had been
    there for 5 s."""
    max_backoff_s: Annotated[float, Field(ge=0.05, le=600)] = 10.0
    """Longest wait between two attempts."""

    @model_validator(mode="after")
    def _ordered(self) -> ReopenConfig:
        if self.max_backoff_s < self.first_backoff_s:
            raise ValueError(
                f"max_backoff_s is {self.max_backoff_s:g}, must be at least first_backoff_s ({self.first_backoff_s:g})"
            )
        return self


class CameraConfig(_Section):
    """One of the two streams: where it comes from and how it is set up."""

    uri: Address
    """v4l2:serial=... | v4l2:by-id=... | v4l2:port=... | rtsp://... | rtsps://... | file:PATH | images:DIR |
    sim:visible | sim:thermal | dshow:NAME | avfoundation:NAME; `lumitherm devices` prints what is connected."""
    offset_ms: Annotated[float, Field(ge=-5_000, le=5_000)] | None = None
    """Added to every time stamp of this camera: minus the constant delay from exposure to stamp. null for both: as the
    rig's calibration has measured, else 0. `lumitherm doctor` proposes it, too."""
    fps: Annotated[float, Field(gt=0, le=1_000)] | None = None
    """Frames a second to ask for; null takes what the source offers."""
    width: Annotated[int, Field(ge=8, le=16_384)] | None = None
    """Pixels to ask for; width and height are given together."""
    height: Annotated[int, Field(ge=8, le=16_384)] | None = None
    """Pixels to ask for; width and height are given together."""
    pixel_format: str | None = None
    """V4L2: YUYV, MJPG, NV12, GREY or Y16; null takes Y16, then GREY for thermal and MJPG, YUYV, NV12 for visible."""
    controls: dict[str, int | bool | str] = Field(default_factory=dict)
    """V4L2 controls by name (gain: 12), set at every open, read back and compared."""
    options: dict[str, str] = Field(default_factory=dict)
    """FFmpeg options for files, streams and dshow/avfoundation devices, handed on as they are."""
    accept_colour: bool = False
    """Thermal only: take a picture in colour (a palette the camera painted) as its brightness. Off, such a picture is
    refused, because it mostly means that the two cameras are swapped."""
    kelvin_per_count: Annotated[float, Field(gt=0, le=10)] | None = None
    """Thermal only: kelvin a count, where counts are temperatures from absolute zero on (0.01, 0.015625, 0.0625, ...);
    shows degrees and lets triggers use them. `lumitherm devices` tells it for cameras that it knows."""
    rotate: Literal[0, 90, 180, 270] = 0
    """Degrees clockwise by which a camera's picture is turned, for one that is mounted on its side or head."""
    mirror: bool = False
    """Swap left and right, after turning: for a camera that looks into a mirror or shows a mirrored picture."""
    credentials_env: str | None = None
    """Name of the environment variable that holds `user:password` for an rtsp uri."""
    credentials_file: str | None = None
    """File that holds `user:password` for an rtsp uri (one line; keep it readable by you alone)."""
    open_timeout_s: Annotated[float, Field(ge=0.2, le=4.5)] = 4.0
    """A camera that has not given its first picture by then counts as lost. At most 4.5 s: stopping takes 5 s."""
    own_process: bool | None = None
    """Run the camera in a process of its own, so that what it sends can neither crash the rig nor take its memory; one
    copy more of each picture. null: rtsp and rtsps do, others do not. Linux only."""
    process_memory_mb: Annotated[int, Field(ge=100, le=16_000)] = 1_000
    """10^6 bytes that the camera's own process may take beside its libraries; one that takes more is started again."""
    reopen: ReopenConfig = ReopenConfig()
    """When it counts as silent, and how it is reopened."""

    @field_validator("uri")
    @classmethod
    def _uri(cls, value: Address) -> Address:
        try:
            parse_camera_uri(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("pixel_format")
    @classmethod
    def _pixel_format(cls, value: str | None) -> str | None:
        known = ("YUYV", "MJPG", "NV12", "GREY", "Y16")
        if value is not None and value not in known:
            raise ValueError(f"pixel_format is {value!r}, must be one of {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _together(self) -> CameraConfig:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height must be given together, or neither")
        if self.credentials_env is not None and self.credentials_file is not None:
            raise ValueError("give credentials_env or credentials_file, not both")
        return self

    @property
    def shown_uri(self) -> str:
        """The URI without a password: the only form for messages and logs."""
        return redact_address(self.uri)


class FfcConfig(_Section):
    """Shutter freeze (flat-field correction) found from the picture itself, for cameras that do not tell."""

    enabled: bool = True
    """Whether freezes are looked for; false for cameras without a shutter."""
    repeated_frames: Annotated[int, Field(ge=1, le=100)] = 2
    """So many bit-identical thermal frames in a row are a freeze. Live sensors have noise and never repeat."""
    jump_fraction: Annotated[float, Field(gt=0, le=10)] = 0.25
    """Joint jump: all pixels move together by more than this share of the picture's own spread (5-95 %)..."""
    jump_counts: Annotated[float, Field(ge=0)] = 12.0
    """... and by at least so many counts (16 bit); a tenth of it for 8 bit pictures."""
    settle_ms: Annotated[float, Field(ge=0, le=10_000)] = 200.0
    """Frames this long after the last sign of a freeze are still flagged."""
