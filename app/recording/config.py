"""What to record, how, and what to do when the disk runs out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["DiskPolicy", "RecordingConfig", "TrackName"]


class TrackName(StrEnum):
    """The three video tracks of a recording, in the order in which the file holds them."""

    FUSED = "fused"
    VISIBLE = "visible"
    THERMAL = "thermal"


class DiskPolicy(StrEnum):
    """What happens when the free space falls to the reserve."""

    STOP = "stop"  # close the file cleanly and wait for space
    RING = "ring"  # delete the oldest recordings that nobody protected
    FUSED_ONLY = "fused_only"  # go on with the fused track alone


class RecordingConfig(BaseModel):
    """Settings of the recorder. Every default is what survived a kill test at 640x512, 30 pairs a second."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    autostart: bool = Field(False, description="Start recording with the first frame, without being asked.")
    directory: Path = Field(Path("recordings"), description="Folder for the files; made when it is missing.")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,31}$")] = Field(
        "lumitherm", description="First part of each file name (letters, digits, underscore)."
    )
    tracks: tuple[TrackName, ...] = Field(
        (TrackName.FUSED, TrackName.VISIBLE, TrackName.THERMAL),
        min_length=1,
        description="Which pictures to keep. visible + thermal are needed to fuse the recording again later.",
    )

    codec: Literal["h264", "hevc"] = Field(
        "h264", description="Codec of the fused and visible tracks. hevc halves the size but needs a hardware encoder."
    )
    encoder: Literal["auto", "nvenc", "qsv", "vaapi", "software"] = Field(
        "auto", description="auto tries nvenc, qsv, vaapi, then software, and keeps the first that encodes a frame."
    )
    software_preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = Field(
        "ultrafast", description="x264/x265 speed. ultrafast costs about half the CPU time of veryfast, +40 % size."
    )
    quality: int = Field(20, ge=0, le=51, description="Constant quality (CRF, CQ, QP); lower is better and larger.")
    video_threads: int = Field(1, ge=1, le=16, description="Threads a software encoder of one 8-bit track may use.")
    thermal_codec: Literal["ffvhuff", "ffv1"] = Field(
        "ffvhuff",
        description="Both keep every count. ffv1, an archive standard, takes 9 times the CPU; 8 to 17 % smaller.",
    )
    thermal_threads: int = Field(2, ge=1, le=16, description="Threads of ffv1; ffvhuff needs one.")
    gop_s: float = Field(1.0, ge=0.2, le=1.0, description="Longest time between key frames, s: bounds seek and cut.")
    encoder_stall_s: float = Field(
        1.0, ge=0.2, le=10, description="An encoder silent for so long, s, is replaced by the next one."
    )

    cluster_ms: int = Field(
        250,
        ge=100,
        le=1000,
        description="Longest time that encoded pictures wait in memory, ms: bounds the loss at a kill.",
    )
    sync_s: float = Field(2.0, ge=0.5, le=30, description="Seconds between fsync: bounds the loss at a power cut.")
    queue_frames: int = Field(
        64, ge=4, le=256, description="Pictures of a track waiting for its encoder; above, they are refused."
    )
    embed_metadata: bool = Field(
        True, description="Keep the sidecar's lines in the video file too (a text track), so that it can be rebuilt."
    )

    split_s: float = Field(900, ge=0, description="Start a new file after so many seconds; 0 = never.")
    split_mb: float = Field(0, ge=0, description="Start a new file after so many megabytes (10^6 bytes); 0 = never.")

    pre_event_s: float = Field(
        0, ge=0, le=120, description="Seconds kept in memory, encoded, before an event; 0 = off."
    )
    post_event_s: float = Field(
        0, ge=0, le=3600, description="Seconds after the last event at which its recording ends; 0 = when told to stop."
    )
    pre_event_max_mb: float = Field(
        512, ge=8, le=16384, description="Memory that the pre-event buffer may take, 10^6 bytes; it gets shorter above."
    )

    disk_policy: DiskPolicy = Field(DiskPolicy.STOP, description="What to do when free space falls to the reserve.")
    reserve_s: float = Field(30, ge=0, le=3600, description="Reserve as seconds of all tracks; the larger one counts.")
    reserve_mb: float = Field(256, ge=1, description="Reserve in 10^6 bytes; the larger of the two counts.")
    warn_min: float = Field(10, ge=0, le=1440, description="Warn when space is left for fewer minutes than this.")

    self_check: bool = Field(
        True, description="After stop, decode the ends of each track and count against the sidecar."
    )

    @model_validator(mode="after")
    def _tracks_are_sound(self) -> Self:
        if len(set(self.tracks)) != len(self.tracks):
            raise ValueError(f"recording.tracks names a track twice: {', '.join(self.tracks)}")
        if self.disk_policy is DiskPolicy.FUSED_ONLY and TrackName.FUSED not in self.tracks:
            raise ValueError("recording.disk_policy is fused_only, but recording.tracks does not contain fused")
        return self

    @property
    def ordered_tracks(self) -> tuple[TrackName, ...]:
        """The tracks in file order: fused first, because players show the first track."""
        return tuple(name for name in TrackName if name in self.tracks)
