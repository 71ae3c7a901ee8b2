"""What a recording's video file really holds, found by reading its packets without decoding them."""

from __future__ import annotations

import time
import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error

from app.media.decoded import DECODER_LIMITS, bound_decoder
from app.recording.config import TrackName
from app.recording.matroska_writer import METADATA_TITLE
from app.recording.sidecar import MAX_LINE_BYTES, MAX_LINES, MAX_VALUES, SidecarContent, decode_line
from fusion_core.errors import BadInputError
from fusion_core.files import NoPlainFileError, open_plain

__all__ = ["TrackScan", "VideoScan", "find_tracks", "open_video", "scan_video", "text_stream"]

_MAX_SIDE_PX = 16384


@dataclass(slots=True)
class TrackScan:
    """One track: stamps in ms in file order, the numbers of its key frames, and what the header says.

    crcs: CRC-32 of each picture's encoded bytes, where `scan_video` was asked for them.
    """

    name: TrackName
    stream_index: int
    codec: str
    height: int
    width: int
    pixel_format: str
    ms: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q"))
    crcs: array[int] = field(default_factory=lambda: array("L"))
    nbytes: int = 0


@dataclass(slots=True)
class VideoScan:
    """All tracks of a file, the metadata lines in it (None without), and what was wrong ("" = nothing)."""

    tracks: dict[TrackName, TrackScan]
    metadata: SidecarContent | None = None
    damage: str = ""
    complete: bool = True  # false when the deadline came first


def open_video(path: Path) -> av.container.InputContainer:
    """Open a video file for reading. Raises BadInputError when it is none."""
    try:
        open_plain(path, "recording").close()
    except NoPlainFileError as error:
        raise BadInputError(f"{error}; give one (.mkv)") from error
    except FileNotFoundError as error:
        raise BadInputError(f"{path} does not exist; give a recording (.mkv)") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); give a recording (.mkv)") from error
    try:
        return av.open(
            str(path), "r", options={"protocol_whitelist": "file", **DECODER_LIMITS}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)  # without the library's own numbers
        raise BadInputError(f"{path} is no video file that can be read: {why}") from error


def find_tracks(container: av.container.InputContainer, path: Path) -> dict[TrackName, TrackScan]:
    """The tracks by their titles. Raises BadInputError when there are none or they make no sense."""
    tracks: dict[TrackName, TrackScan] = {}
    for stream in container.streams.video:
        title = stream.metadata.get("title", "")
        if title not in set(TrackName):
            continue
        name = TrackName(title)
        context = stream.codec_context
        if context is None:  # no decoder for what the damaged header names
            raise BadInputError(f"{path}: the {name} track has an unknown codec; that is damage")
        if not (0 < context.width <= _MAX_SIDE_PX and 0 < context.height <= _MAX_SIDE_PX):
            raise BadInputError(f"{path}: the {name} track is {context.width}x{context.height} px; that is damage")
        bound_decoder(context, f"{path}: the {name} track")
        tracks.setdefault(
            name,
            TrackScan(name, stream.index, context.name, context.height, context.width, context.pix_fmt or ""),
        )
    if not tracks:
        raise BadInputError(
            f"{path} has no track named {', '.join(TrackName)}: it is no Lumitherm recording, or its header is damaged"
        )
    return tracks


def text_stream(container: av.container.InputContainer) -> int | None:
    """The number of the stream with the sidecar's lines; None where there is none."""
    texts = (s for s in container.streams if s.type == "subtitle" and s.metadata.get("title") == METADATA_TITLE)
    return next((stream.index for stream in texts), None)


def scan_video(
    path: Path, deadline: float | None = None, crcs: bool = False, progress: Callable[[int], None] | None = None
) -> VideoScan:
    """Read through a file's packets, until time.monotonic() reaches the deadline.

    Args:
        crcs: add the checksum of each picture's bytes.
        progress: called with the number of bytes read since the last call.

    Raises:
        BadInputError: the file cannot be opened as a recording. Damage further in is told in `damage`.
    """
    with open_video(path) as container:
        tracks = find_tracks(container, path)
        scan = VideoScan(tracks)
        by_stream = {track.stream_index: track for track in tracks.values()}
        text = text_stream(container)
        lines = values = 0
        wanted = [container.streams[index] for index in (*by_stream, *(() if text is None else (text,)))]
        try:
            for packet in container.demux(wanted):
                if deadline is not None and time.monotonic() > deadline:
                    scan.complete = False
                    break
                if not packet.size or packet.pts is None or packet.time_base is None:
                    continue
                track = by_stream.get(packet.stream_index)
                if track is not None:
                    if packet.is_keyframe:
                        track.keys.append(len(track.ms))
                    track.ms.append(round(packet.pts * packet.time_base * 1000))
                    track.nbytes += packet.size
                    if crcs:
                        track.crcs.append(zlib.crc32(packet))
                    if progress is not None:
                        progress(packet.size)
                elif packet.size <= MAX_LINE_BYTES:
                    data = bytes(packet)
                    lines, values = lines + 1, values + data.count(b",")
                    if lines > MAX_LINES or values > MAX_VALUES:
                        raise ValueError(f"more than {MAX_LINES} lines or {MAX_VALUES} values of metadata")
                    _take_line(scan, data)
        except (av.error.FFmpegError, ValueError) as error:
            scan.damage = (
                f"reading stopped after {max((len(t.ms) for t in tracks.values()), default=0)} pictures: {error}"
            )
        return scan


def _take_line(scan: VideoScan, data: bytes) -> None:
    if scan.metadata is None:
        scan.metadata = SidecarContent()
    try:
        scan.metadata.add(decode_line(data))
    except BadInputError as error:
        scan.metadata.damage = str(error)
