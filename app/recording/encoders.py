"""Encoders of single tracks: H.264/HEVC in hardware or software for 8-bit RGB, ffvhuff or FFV1 for lossless thermal.

Every encoder here gives exactly one packet for one frame, at once (no B-frames, no look-ahead, slice threads only).
The probe checks it, and a run-time breach counts as a failure, because cuts, the pre-event ring and the loss bound
all rest on it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
import numpy as np
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from app.recording.config import RecordingConfig, TrackName
from fusion_core.errors import RecordingError

__all__ = [
    "OWN_CRC",
    "EncodedPacket",
    "EncoderChoice",
    "StreamParams",
    "TrackEncoder",
    "candidates",
    "open_first",
    "probe",
]

# BT.709 in libav's numbers (AVColorPrimaries, AVColorTransferCharacteristic, AVColorSpace); range 1 = limited ("MPEG").
_BT709 = 1
_LIMITED_RANGE = 1
_FULL_RANGE = 2
_TIME_BASE = Fraction(1, 1_000_000)

OWN_CRC = "ffvhuff"
"""A codec without checksums: its packets end with the CRC-32 of the pixels (little-endian), which decoders skip."""


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """A libav encoder by name, with the options that make it give each packet at once."""

    name: str
    family: str  # nvenc, qsv, vaapi, software, lossless
    options: tuple[tuple[str, str], ...]
    pixel_format: str
    threads: int


@dataclass(frozen=True, slots=True)
class StreamParams:
    """What the file's header says of a track. width and height are the picture's; the coded ones are even for 4:2:0."""

    track: TrackName
    codec: str  # h264, hevc, ffvhuff, ffv1
    encoder: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    pixel_format: str
    extradata: bytes


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One encoded picture of one track, at `t_ns` on the monotonic clock.

    data: as Matroska holds it. data_crc: of these bytes. crc: of the pixels where they are kept without loss.
    """

    data: bytes
    is_key: bool
    t_ns: int
    data_crc: int
    crc: int | None = None


def candidates(config: RecordingConfig, track: TrackName, dtype: np.dtype) -> tuple[EncoderChoice, ...]:
    """The encoders to try for a track, best first."""
    if track is TrackName.THERMAL and config.thermal_codec == OWN_CRC:
        # No frame depends on another, as with FFV1 below.
        pixel_format = "gray16le" if dtype == np.uint16 else "gray"
        return (EncoderChoice("ffvhuff", "lossless", (("pred", "median"), ("context", "0")), pixel_format, 1),)
    if track is TrackName.THERMAL:
        # level 3 with slices: threads, and a CRC a slice, so that a damaged frame is noticed. Every frame is a key
        # frame: no frame depends on another, and each ends its Matroska cluster. context 0 is as small on counts.
        options = {"level": "3", "slices": "9", "slicecrc": "1", "coder": "range_def", "context": "0", "g": "1"}
        pixel_format = "gray16le" if dtype == np.uint16 else "gray"
        if pixel_format == "gray":
            options["coder"] = "rice"
        return (EncoderChoice("ffv1", "lossless", tuple(options.items()), pixel_format, config.thermal_threads),)
    quality = str(config.quality)
    codec = config.codec
    software: dict[str, str] = {"preset": config.software_preset, "tune": "zerolatency", "crf": quality}
    if codec == "h264":
        software |= {"bf": "0", "forced-idr": "1", "x264-params": "scenecut=0:open-gop=0"}
    else:
        software |= {
            "forced-idr": "1",
            "x265-params": "log-level=none:bframes=0:frame-threads=1:scenecut=0:open-gop=0"
            f":pools={config.video_threads}",
        }
    families = {
        "nvenc": EncoderChoice(
            f"{codec}_nvenc",
            "nvenc",
            tuple(
                {
                    "preset": "p4",
                    "tune": "ull",
                    "rc": "vbr",
                    "cq": quality,
                    "b": "0",
                    "bf": "0",
                    "delay": "0",
                    "zerolatency": "1",
                    "rc-lookahead": "0",
                    "forced-idr": "1",
                }.items()
            ),
            "yuv420p",
            1,
        ),
        "qsv": EncoderChoice(
            f"{codec}_qsv",
            "qsv",
            (
                ("preset", "veryfast"),
                ("async_depth", "1"),
                ("bf", "0"),
                ("global_quality", quality),
                ("forced_idr", "1"),
            ),
            "nv12",
            1,
        ),
        "vaapi": EncoderChoice(
            f"{codec}_vaapi", "vaapi", (("bf", "0"), ("qp", quality), ("async_depth", "1")), "nv12", 1
        ),
        "software": EncoderChoice(
            "libx264" if codec == "h264" else "libx265",
            "software",
            tuple(software.items()),
            "yuv420p",
            config.video_threads,
        ),
    }
    if config.encoder == "auto":
        return tuple(families.values())
    if config.encoder == "software":
        return (families["software"],)
    return (families[config.encoder], families["software"])  # asked for by name: software is the loud fall-back


class TrackEncoder:
    """One open encoder. Owner thread: its track's encoder thread.

    Raises:
        RecordingError: libav has no such encoder, or it would not open at this size.
    """

    def __init__(self, choice: EncoderChoice, track: TrackName, shape: tuple[int, ...], gop_s: float) -> None:
        height, width = shape[:2]
        self.choice = choice
        self.shape = shape
        self._rgb = len(shape) == 3
        self._last_pts = -1
        self._to_yuv = VideoReformatter()  # kept: to prepare one takes as long as the conversion
        coded_height, coded_width = (height + height % 2, width + width % 2) if self._rgb else (height, width)
        try:
            context = av.CodecContext.create(choice.name, "w")
            if not isinstance(context, av.VideoCodecContext):
                raise RecordingError(f"{choice.name} is no video encoder")
            context.width, context.height = coded_width, coded_height
            context.pix_fmt = choice.pixel_format
            context.time_base = _TIME_BASE
            context.framerate = Fraction(30)
            context.flags |= Flags.global_header
            context.options = dict(choice.options)
            context.thread_type = "SLICE"  # frame threads would hold frames back
            context.thread_count = choice.threads
            if self._rgb:
                context.color_primaries = context.color_trc = context.colorspace = _BT709
                context.color_range = _LIMITED_RANGE
                context.gop_size = max(1, round(gop_s * 240))  # a ceiling only: key frames are forced by time
            else:
                context.color_range = _FULL_RANGE
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            raise RecordingError(
                f"the {choice.name} encoder would not open for {track} {width}x{height}: {error}"
            ) from error
        self._context = context
        self.params = StreamParams(
            track=track,
            codec=context.codec.canonical_name,
            encoder=choice.name,
            width=width,
            height=height,
            coded_width=coded_width,
            coded_height=coded_height,
            pixel_format=choice.pixel_format,
            extradata=bytes(context.extradata or b""),
        )

    def encode(self, pixels: np.ndarray, t_ns: int, key: bool) -> EncodedPacket:
        """Encode one picture of this encoder's shape and type: (H, W, 3) uint8 RGB, or (H, W) uint8/uint16.

        Raises:
            RecordingError: the encoder failed, or kept the frame back.
        """
        pts = max(self._last_pts + 1, t_ns // 1000)
        try:
            packets = list(self._context.encode(self._to_frame(pixels, pts, key)))
        except (av.error.FFmpegError, ValueError) as error:
            raise RecordingError(f"the {self.choice.name} encoder failed: {error}") from error
        self._last_pts = pts
        if len(packets) != 1:
            raise RecordingError(
                f"the {self.choice.name} encoder gave {len(packets)} packets for one frame; exactly one was wanted"
            )
        crc = None if self._rgb else zlib.crc32(np.ascontiguousarray(pixels).data)
        data = _with_lengths(bytes(packets[0])) if self._rgb else bytes(packets[0])
        if crc is not None and self.choice.name == OWN_CRC:
            data += crc.to_bytes(4, "little")
        return EncodedPacket(data, bool(packets[0].is_keyframe), t_ns, zlib.crc32(data), crc)

    def _to_frame(self, pixels: np.ndarray, pts: int, key: bool) -> av.VideoFrame:
        if self._rgb:
            pad_y, pad_x = self.params.coded_height - pixels.shape[0], self.params.coded_width - pixels.shape[1]
            if pad_y or pad_x:
                pixels = np.pad(pixels, ((0, pad_y), (0, pad_x), (0, 0)), mode="edge")
            frame = self._to_yuv.reformat(
                av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24"),
                format=self.choice.pixel_format,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
            frame.pict_type = PictureType.I if key else PictureType.NONE
        else:
            frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format=self.choice.pixel_format)
        frame.pts = pts
        frame.time_base = _TIME_BASE
        return frame


def _with_lengths(data: bytes) -> bytes:
    """H.264 or HEVC units with their lengths before them, as Matroska holds them, in place of start codes."""
    if not data.startswith((b"\0\0\1", b"\0\0\0\1")):
        return data
    units = data.split(b"\0\0\1")[1:]
    last = len(units) - 1
    # A zero before a start code belongs to the code; units end with a stop bit, never with a zero.
    whole = (unit.rstrip(b"\0") if number < last else unit for number, unit in enumerate(units))
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in whole)


def open_first(
    choices: tuple[EncoderChoice, ...], track: TrackName, shape: tuple[int, ...], gop_s: float
) -> tuple[TrackEncoder, tuple[str, ...]]:
    """Open the first encoder of the list that works at this size, tried with two grey frames.

    Returns:
        The encoder, fresh, and why each one before it was passed over.

    Raises:
        RecordingError: none of them works; the message gives each reason.
    """
    reasons: list[str] = []
    for choice in choices:
        try:
            probe(choice, track, shape, gop_s)
            return TrackEncoder(choice, track, shape, gop_s), tuple(reasons)
        except RecordingError as error:
            reasons.append(str(error))
    raise RecordingError(f"no encoder works for the {track} track: " + "; ".join(reasons or ["none is left to try"]))


def probe(choice: EncoderChoice, track: TrackName, shape: tuple[int, ...], gop_s: float) -> None:
    """Encode two grey frames, the first as key frame; raises RecordingError if the encoder does not do as it must."""
    encoder = TrackEncoder(choice, track, shape, gop_s)
    dtype = np.uint16 if choice.pixel_format == "gray16le" else np.uint8
    grey = np.full(shape, 128, dtype)
    first = encoder.encode(grey, 0, key=True)
    encoder.encode(grey, 33_000_000, key=False)
    forced = encoder.encode(grey, 66_000_000, key=True)
    if not (first.is_key and forced.is_key):
        raise RecordingError(f"the {choice.name} encoder does not make key frames on request")
