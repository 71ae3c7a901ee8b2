"""One Matroska file, written so that it is valid up to the last finished cluster at every moment.

libavformat makes the header, so that every player knows the tracks; clusters and index are written here. It ends a
cluster only when the next picture comes, and lets nobody tell it the time: pictures of a slow camera, or the last ones
before the power goes, would stay in memory. Here a cluster ends `cluster_ms` after it was begun, or when `flush` is
called. Stamps in the file are whole milliseconds, as Matroska has them; the exact nanoseconds are in the sidecar and in
the file's own text track.

    EBML | Segment, until the end of unknown size
             Void (in the end SeekHead) | Info (in the end with Duration) | Tracks | Tags | Cluster ... | Cues
"""

from __future__ import annotations

import io
import itertools
import struct
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error

from app.recording import ebml
from app.recording.disk_file import DiskFile
from app.recording.encoders import EncodedPacket, StreamParams
from fusion_core.errors import RecordingError

__all__ = ["METADATA_TITLE", "DiskWriteError", "MatroskaWriter"]

METADATA_TITLE = "lumitherm metadata"
_TIME_BASE = Fraction(1, 1000)
_CODEC_COLOUR = ("color_primaries", "color_trc", "colorspace")
_MOST_BYTES = 1 << 22  # of a cluster, whatever its time
_LONGEST_MS = 20_000  # from a cluster's first stamp to its last: Matroska holds 32 s
_SEEK_ROOM = 160  # bytes for the SeekHead
_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
_BITMAP = struct.Struct("<IiiHH4sIiiII")  # Microsoft's BITMAPINFOHEADER
_DURATION_ROOM = 11  # bytes of a Duration element


class DiskWriteError(RecordingError):
    """The disk did not take what was written; the file has been cut back to its last whole cluster."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} could not be written: {error.strerror or error}. Free some space or check the disk.")
        self.errno = error.errno


class _WriteOnly(io.RawIOBase):
    """Keeps what libavformat writes; without seeking, so that it leaves no places to fill in later."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: object) -> int:
        self.parts.append(bytes(data))  # type: ignore[call-overload]
        return len(self.parts[-1])


class MatroskaWriter:
    """Muxes encoded packets of fixed tracks into one file. Owner thread: the recorder's.

    Args:
        cluster_ms: how long the oldest picture waits in memory at most, if `write` or `flush_due` is called by then.

    Raises:
        RecordingError: the file exists or cannot be made. DiskWriteError: no space for the header.
    """

    def __init__(self, path: Path, tracks: Sequence[StreamParams], cluster_ms: int, metadata: dict[str, str]) -> None:
        self.path = path
        self._wait_s = cluster_ms / 1000
        self._numbers = {str(params.track): number for number, params in enumerate(tracks, 1)}
        self._text = len(tracks) + 1
        self._last_ms: dict[int, int] = {}
        self._blocks: list[ebml.Block] = []
        self._nbytes = 0
        self._since_s = 0.0
        self._cues: list[tuple[int, int, int]] = []
        self._end_ms = 0
        self._failed = False
        try:
            header = _header(tracks, metadata)
        except (av.error.FFmpegError, ValueError) as error:
            raise RecordingError(f"{path} could not be begun: {error}") from error
        self._head = _Head(header)
        try:
            self._file = DiskFile(path)
        except OSError as error:
            raise RecordingError(f"{path} could not be made: {error.strerror}") from error
        try:
            self._append(self._head.data)
        except DiskWriteError:
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """Bytes so far, those of the cluster in memory included."""
        return self._file.size + self._nbytes

    def write(self, track: str, packet: EncodedPacket, ms: int, duration_ms: int) -> None:
        """Mux one picture. `ms` must rise from picture to picture of a track.

        Raises:
            DiskWriteError: no space; nothing more can be written, call `close`.
        """
        self._put(ebml.Block(self._numbers[track], ms, packet.data, packet.is_key))
        self._end_ms = max(self._end_ms, ms + duration_ms)

    def write_text(self, line: bytes, ms: int) -> None:
        """Mux one line of metadata. Raises as `write`."""
        self._put(ebml.Block(self._text, ms, line, True, duration_ms=1))

    def _put(self, block: ebml.Block) -> None:
        last_ms = self._last_ms.get(block.track, -1)
        if block.ms <= last_ms:
            raise RecordingError(f"stamps of a track must rise, got {block.ms} ms after {last_ms} ms")
        self._last_ms[block.track] = block.ms
        full = self._nbytes >= _MOST_BYTES or any(
            abs(block.ms - other.ms) > _LONGEST_MS for other in (self._blocks[:1] + self._blocks[-1:])
        )
        if self._blocks and full:
            self.flush()
        if not self._blocks:
            self._since_s = time.monotonic()
        self._blocks.append(block)
        self._nbytes += len(block.data) + 16
        self.flush_due()

    def flush_due(self) -> None:
        """End the cluster if its time has come. Raises as `write`."""
        if self._blocks and time.monotonic() - self._since_s >= self._wait_s:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory as a cluster. Raises as `write`."""
        if not self._blocks or self._failed:
            return
        blocks, self._blocks, self._nbytes = self._blocks, [], 0
        position = self._file.size - self._head.segment
        self._append(ebml.cluster(blocks))
        first: dict[int, int] = {}
        for block in blocks:
            if block.key and block.track != self._text:
                first.setdefault(block.track, block.ms)
        self._cues += [(ms, track, position) for track, ms in first.items()]

    def _append(self, data: bytes) -> None:
        try:
            self._file.append(data)
        except OSError as error:
            self._failed = True
            raise DiskWriteError(self.path, error) from error

    def sync(self) -> None:
        """Have the disk hold everything so far, also what is in memory. Raises DiskWriteError."""
        self.flush()
        try:
            self._file.sync()
        except OSError as error:
            self._failed = True
            raise DiskWriteError(self.path, error) from error

    def close(self) -> None:
        """Write index and duration, sync, close. After a DiskWriteError: only close. Safe to call twice.

        Raises:
            DiskWriteError: no space for the last cluster or the index; the file is valid up to its last cluster.
        """
        if self._file.closed:
            return
        try:
            if not self._failed:
                self._finish()
        finally:
            self._file.close()

    def _finish(self) -> None:
        """The index is on the disk before the header names it."""
        self.flush()
        end = self._file.size
        self._append(ebml.cues(sorted(self._cues)))
        self.sync()
        try:
            for offset, data in self._head.finished(end, self._file.size, self._end_ms):
                self._file.patch(offset, data)
        except OSError as error:
            raise DiskWriteError(self.path, error) from error
        self.sync()


class _Head:
    """The header, with room for what is known only in the end. data: its bytes."""

    def __init__(self, parts: dict[bytes, bytes]) -> None:
        prefix = parts[b""] + ebml.SEGMENT
        self._size_at = len(prefix)
        self.segment = self._size_at + len(_UNKNOWN_SIZE)
        """Where the segment's content begins, from which positions count."""
        body = ebml.void(_SEEK_ROOM)
        self._places: list[tuple[bytes, int]] = []
        self._duration_at = 0
        for identity in (ebml.INFO, ebml.TRACKS, ebml.TAGS):
            content = parts.get(identity)
            if content is None:
                continue
            self._places.append((identity, len(body)))
            if identity == ebml.INFO:
                content += ebml.void(_DURATION_ROOM)
            body += ebml.element(identity, content)
            if identity == ebml.INFO:
                self._duration_at = self.segment + len(body) - _DURATION_ROOM
        self.data = prefix + _UNKNOWN_SIZE + body

    def finished(self, cues_at: int, size: int, end_ms: int) -> list[tuple[int, bytes]]:
        """What to write where once the index is at `cues_at` and the file ends at `size`: (offset, bytes)."""
        seek = ebml.seek_head([*self._places, (ebml.CUES, cues_at - self.segment)])
        return [
            (self.segment, seek + ebml.void(_SEEK_ROOM - len(seek))),
            (self._duration_at, ebml.element(ebml.DURATION, struct.pack(">d", float(end_ms)))),
            (self._size_at, (1 << 56 | (size - self.segment)).to_bytes(8, "big")),
        ]


def _header(tracks: Sequence[StreamParams], metadata: dict[str, str]) -> dict[bytes, bytes]:
    """What libavformat writes of these tracks: the content of the segment's parts by their identity, and under b""
    everything before the segment."""
    sink = _WriteOnly()
    container = av.open(
        sink, "w", format="matroska", container_options={"write_crc32": "0", "default_mode": "infer_no_subs"}
    )  # infer_no_subs, or players would show the metadata as subtitles
    container.metadata.update(metadata)
    for params in tracks:
        _add_stream(container, params)
    text = container.add_mux_stream("subrip")
    text.metadata["title"] = METADATA_TITLE
    text.time_base = _TIME_BASE
    container.start_encoding()
    container.close()  # flushes the header; what it adds as an end is left aside
    data = b"".join(sink.parts)
    parts: dict[bytes, bytes] = {}
    for part in ebml.children(data, 0, len(data)):
        if part.identity != ebml.SEGMENT:
            continue
        parts[b""] = data[: part.start]
        end = len(data) if part.size is None else part.end
        for inner in ebml.children(data, part.content, end):
            parts.setdefault(inner.identity, data[inner.content : inner.end])
    parts[ebml.TRACKS] = _with_own_names(parts[ebml.TRACKS], tracks)
    return parts


def _with_own_names(data: bytes, tracks: Sequence[StreamParams]) -> bytes:
    """The content of Tracks, with the true names of codecs for which `_add_stream` took a stand-in."""
    named = b""
    for params, entry in itertools.zip_longest(tracks, ebml.children(data, 0, len(data))):
        if params is None or params.codec != "ffvhuff":
            named += data[entry.start : entry.end]
            continue
        kept = [
            data[each.start : each.end]
            for each in ebml.children(data, entry.content, entry.end)
            if each.identity not in (ebml.CODEC_ID, ebml.CODEC_PRIVATE)
        ]
        width, height, bits = params.coded_width, params.coded_height, 16 if "16" in params.pixel_format else 8
        size = width * height * bits // 8
        bitmap = _BITMAP.pack(_BITMAP.size + len(params.extradata), width, height, 1, bits, b"FFVH", size, 0, 0, 0, 0)
        kept.append(ebml.element(ebml.CODEC_ID, b"V_MS/VFW/FOURCC"))
        kept.append(ebml.element(ebml.CODEC_PRIVATE, bitmap + params.extradata))
        named += ebml.element(entry.identity, b"".join(kept))
    return named


def _add_stream(container: av.container.OutputContainer, params: StreamParams) -> None:
    # The encoder lives elsewhere; a stream that was never opened lends its type, and the parameters are copied.
    lender = av.open(io.BytesIO(), "w", format="matroska")
    # PyAV puts no codec into Matroska that has no name of its own there: `_with_own_names` gives it one.
    encoder = "ffv1" if params.codec == "ffvhuff" else params.encoder
    stream = container.add_stream_from_template(lender.add_stream(encoder), opaque=False)
    context = stream.codec_context
    if not isinstance(stream, av.VideoStream) or not isinstance(context, av.VideoCodecContext):
        raise RecordingError(f"{params.encoder} encodes no video")
    context.width, context.height = params.coded_width, params.coded_height
    context.pix_fmt = params.pixel_format
    context.extradata = params.extradata or None
    if params.codec in ("h264", "hevc"):
        for name in _CODEC_COLOUR:
            setattr(context, name, 1)  # BT.709
        context.color_range = 1  # limited
    stream.time_base = _TIME_BASE
    stream.metadata["title"] = str(params.track)
