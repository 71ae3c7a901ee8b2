"""Makes the sidecar of an interrupted recording agree with its video, and can rebuild a lost one."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import av
import av.error

from app.recording.agreement import agree
from app.recording.config import TrackName
from app.recording.encoders import EncodedPacket, StreamParams
from app.recording.matroska_writer import MatroskaWriter
from app.recording.segments import wall_iso
from app.recording.sidecar import (
    SCHEMA_VERSION,
    EndLine,
    EventLine,
    GapLine,
    HeaderLine,
    PictureLine,
    SidecarContent,
    TrackInfo,
    encode_line,
    read_sidecar,
    sidecar_path,
)
from app.recording.video_scan import TrackScan, VideoScan, find_tracks, open_video, scan_video, text_stream
from fusion_core.errors import BadInputError, RecordingError
from fusion_core.files import put_in_place, replacing

__all__ = ["RecoverReport", "recover", "remux"]


@dataclass(frozen=True, slots=True)
class RecoverReport:
    """What `recover` found and did. `source` says where the metadata came from: sidecar, embedded, container."""

    path: Path
    source: str
    frames: dict[str, int]  # pictures in the video, by track; the sidecar now names exactly these
    lines: int  # of pictures in the sidecar
    dropped: int
    trimmed: int
    rebuilt: int
    rewritten: bool
    remuxed: bool
    damage: tuple[str, ...]


def recover(path: Path, finish_video: bool = False) -> RecoverReport:
    """Make sidecar and video agree to the frame. Safe to run on a sound recording: nothing is changed then.

    The video is not touched unless `finish_video` asks for duration and index, which an interrupted file lacks and
    which make seeking fast. The sidecar is replaced as a whole (written beside, synced, renamed).

    Raises:
        BadInputError: the video cannot be opened as a recording. RecordingError: the result cannot be written.
    """
    path = Path(path)
    scan = scan_video(path)
    damage = [scan.damage] if scan.damage else []
    content, source = _best_metadata(path, scan, damage)
    agreement = agree(content, scan)
    frames = {str(name): len(track.ms) for name, track in scan.tracks.items()}
    complete = source == "sidecar" and content is not None and content.end is not None and not content.damage
    rewrite = agreement.changed or not complete
    if rewrite:
        _write_sidecar(path, content, agreement.lines, scan, frames)
    if finish_video:
        remux(path)
    return RecoverReport(
        path=path,
        source=source,
        frames=frames,
        lines=len(agreement.lines),
        dropped=agreement.dropped,
        trimmed=agreement.trimmed,
        rebuilt=agreement.rebuilt,
        rewritten=rewrite,
        remuxed=finish_video,
        damage=tuple(damage),
    )


def _best_metadata(path: Path, scan: VideoScan, damage: list[str]) -> tuple[SidecarContent | None, str]:
    """The sidecar, unless the copy in the video knows more of it."""
    embedded = scan.metadata if scan.metadata is not None and scan.metadata.header is not None else None
    sidecar: SidecarContent | None = None
    if sidecar_path(path).exists():
        try:
            sidecar = read_sidecar(sidecar_path(path))
        except BadInputError as error:
            damage.append(str(error))
    if sidecar is not None and sidecar.damage:
        damage.append(f"{sidecar_path(path).name} is damaged: {sidecar.damage}")
    if sidecar is not None and sidecar.end is not None and not sidecar.damage:
        return sidecar, "sidecar"
    if embedded is not None and (sidecar is None or len(embedded.pictures) > len(sidecar.pictures)):
        return embedded, "embedded"
    return (sidecar, "sidecar") if sidecar is not None else (None, "container")


def _write_sidecar(
    path: Path,
    content: SidecarContent | None,
    lines: list[PictureLine],
    scan: VideoScan,
    frames: dict[str, int],
) -> None:
    header = content.header if content is not None and content.header is not None else _new_header(path, scan)
    marks: list[GapLine | EventLine] = list(content.others) if content is not None else []
    last_ms = max((track.ms[-1] for track in scan.tracks.values() if track.ms), default=0)
    ordered: list[tuple[int, PictureLine | GapLine | EventLine]] = [(line.t_ns, line) for line in lines]
    ordered += [(mark.from_ns if isinstance(mark, GapLine) else mark.t_ns, mark) for mark in marks]
    ordered.sort(key=lambda entry: entry[0])
    target = sidecar_path(path)
    end = EndLine("recovered", frames, last_ms * 1_000_000)
    try:
        with replacing(target) as part, part.open("wb") as file:
            for line in (header, *(entry for _, entry in ordered), end):
                file.write(encode_line(line) + b"\n")
    except OSError as error:
        raise RecordingError(
            f"{target} could not be written: {error.strerror}. Free some space and try again."
        ) from error


def _new_header(path: Path, scan: VideoScan) -> HeaderLine:
    wall_ns = time.time_ns()
    return HeaderLine(
        schema=SCHEMA_VERSION,
        recording=path.stem,
        segment=0,
        start_ns=0,
        wall_start=wall_iso(wall_ns),
        wall_start_ns=wall_ns,
        tracks=[
            TrackInfo(str(t.name), t.codec, "unknown", t.height, t.width, t.pixel_format) for t in scan.tracks.values()
        ],
        reason="rebuilt without metadata; wall_start is the time of the recovery",
    )


def remux(path: Path) -> None:
    """Copy the packets into a file with duration and index, then put it in the old one's place.

    Raises:
        BadInputError: the video cannot be opened. RecordingError: the copy cannot be written; the original is kept.
    """
    beside = path.with_suffix(".mkv.new")
    try:
        beside.unlink(missing_ok=True)
        with open_video(path) as source:
            _copy(source, find_tracks(source, path), beside)
        put_in_place(beside, path)
    except (av.error.FFmpegError, OSError, ValueError, RecordingError) as error:
        beside.unlink(missing_ok=True)
        raise RecordingError(f"{path} could not be finished: {error}. The original is unchanged.") from error


def _copy(source: av.container.InputContainer, tracks: dict[TrackName, TrackScan], target: Path) -> None:
    params = {track.stream_index: _params(source, track) for track in tracks.values()}
    text = text_stream(source)
    wanted = [source.streams[index] for index in (*params, *(() if text is None else (text,)))]
    writer = MatroskaWriter(target, tuple(params.values()), 1000, dict(source.metadata))
    with contextlib.closing(writer):
        try:
            for packet in source.demux(wanted):
                if packet.pts is None or packet.time_base is None or not packet.size:
                    continue
                data, ms = bytes(packet), round(packet.pts * packet.time_base * 1000)
                if packet.stream_index == text:
                    writer.write_text(data, ms)
                    continue
                lasts_ms = round((packet.duration or 0) * packet.time_base * 1000)
                picture = EncodedPacket(data, bool(packet.is_keyframe), ms * 1_000_000, 0)
                writer.write(str(params[packet.stream_index].track), picture, ms, lasts_ms)
        except av.error.InvalidDataError:  # the torn end: everything before it is copied
            pass


def _params(source: av.container.InputContainer, track: TrackScan) -> StreamParams:
    context = source.streams[track.stream_index].codec_context
    codec = context.codec.canonical_name
    return StreamParams(
        track.name, codec, codec, track.width, track.height, track.width, track.height, track.pixel_format,
        bytes(context.extradata or b""),
    )  # fmt: skip
