"""One Matroska file, written so that it is valid up to the last finished cluster at every moment.

libavformat does the muxing, into a file object from here: that gives control over write errors, fsync and the place to
which a failed file is cut back. Its settings are those that survive a kill: clusters of at most `cluster_ms`, each
flushed when it ends, and a short interleaving window (the default of 10 s would keep the pictures of one camera in
memory while the other one is away). Stamps in the file are whole milliseconds, which is what libavformat's Matroska
holds; the exact nanoseconds are in the sidecar and in the file's own text track.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error

from app.recording.encoders import EncodedPacket, StreamParams
from fusion_core.errors import RecordingError

__all__ = ["METADATA_TITLE", "DiskWriteError", "MatroskaWriter"]

METADATA_TITLE = "lumitherm metadata"
_TIME_BASE = Fraction(1, 1000)
_INTERLEAVE_MS = 100
_CODEC_COLOUR = ("color_primaries", "color_trc", "colorspace")


class DiskWriteError(RecordingError):
    """The disk did not take what was written; the file has been cut back to its last whole cluster."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} could not be written: {error.strerror or error}. Free some space or check the disk.")
        self.errno = error.errno


class _GuardedFile(io.RawIOBase):
    """The file under libavformat. After the first write error it swallows everything and keeps the error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._raw = path.open("xb", buffering=0)
        self.error: OSError | None = None
        self.size = 0
        self._position = 0

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        done = 0
        while self.error is None and done < len(view):
            try:
                self._raw.seek(self._position + done)
                done += self._raw.write(view[done:]) or 0
            except OSError as error:
                self.error = error
        self._position += len(view)
        self.size = max(self.size, self._position)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def cut(self, size: int) -> None:
        """Cut the file back. Shrinking needs no space, so it works on a full disk."""
        self._raw.truncate(size)

    def sync(self) -> None:
        os.fsync(self._raw.fileno())

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class MatroskaWriter:
    """Muxes encoded packets of fixed tracks into one file. Owner thread: the recorder's.

    Raises:
        RecordingError: the file exists or cannot be made. DiskWriteError: no space for the header.
    """

    def __init__(
        self, path: Path, tracks: Sequence[StreamParams], cluster_ms: int, metadata: dict[str, str], with_text: bool
    ) -> None:
        self.path = path
        self._safe_size = 0
        self._last_ms: dict[int, int] = {}
        try:
            self._file = _GuardedFile(path)
        except OSError as error:
            raise RecordingError(f"{path} could not be made: {error.strerror}") from error
        self._container = av.open(
            self._file,
            "w",
            format="matroska",
            buffer_size=1 << 20,
            container_options={
                "cluster_time_limit": str(cluster_ms),
                "flush_packets": "1",
                "max_interleave_delta": str(_INTERLEAVE_MS * 1000),
                "default_mode": "infer_no_subs",  # or players would show the metadata as subtitles
            },
        )
        self._container.metadata.update(metadata)
        self._streams = {params.track: self._add_stream(params) for params in tracks}
        self._text = self._container.add_mux_stream("subrip") if with_text else None
        if self._text is not None:
            self._text.metadata["title"] = METADATA_TITLE
            self._text.time_base = _TIME_BASE
        try:
            self._container.start_encoding()
        except av.error.FFmpegError as error:
            self._file.close()
            path.unlink(missing_ok=True)
            raise RecordingError(f"{path} could not be begun: {error}") from error
        try:
            self._after_write()
        except DiskWriteError:
            path.unlink(missing_ok=True)
            raise

    def _add_stream(self, params: StreamParams) -> av.VideoStream:
        # The encoder lives elsewhere; a stream that was never opened lends its type, and the parameters are copied.
        lender = av.open(io.BytesIO(), "w", format="matroska")
        stream = self._container.add_stream_from_template(lender.add_stream(params.encoder), opaque=False)
        context = stream.codec_context
        if not isinstance(stream, av.VideoStream) or not isinstance(context, av.VideoCodecContext):
            raise RecordingError(f"{params.encoder} encodes no video")
        context.width, context.height = params.coded_width, params.coded_height
        context.pix_fmt = params.pixel_format
        context.extradata = params.extradata or None
        if params.codec != "ffv1":
            for name in _CODEC_COLOUR:
                setattr(context, name, 1)  # BT.709
            context.color_range = 1  # limited
        stream.time_base = _TIME_BASE
        stream.metadata["title"] = str(params.track)
        return stream

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def write(self, track: str, packet: EncodedPacket, ms: int, duration_ms: int) -> None:
        """Mux one picture. `ms` must rise from picture to picture of a track.

        Raises:
            DiskWriteError: no space; nothing more can be written, call `close`.
        """
        self._mux(self._streams[track], packet.data, ms, duration_ms, packet.is_key)  # type: ignore[index]

    def write_text(self, line: bytes, ms: int, duration_ms: int) -> None:
        """Mux one line of metadata, where the file has a track for it. Raises as `write`."""
        if self._text is not None:
            self._mux(self._text, line, ms, duration_ms, True)

    def _mux(self, stream: av.stream.Stream, data: bytes, ms: int, duration_ms: int, key: bool) -> None:
        if ms <= self._last_ms.get(stream.index, -1):
            raise RecordingError(f"stamps of a track must rise, got {ms} ms after {self._last_ms[stream.index]} ms")
        self._last_ms[stream.index] = ms
        packet = av.Packet(data)
        packet.stream = stream
        packet.time_base = _TIME_BASE
        packet.pts = packet.dts = ms
        packet.duration = duration_ms
        packet.is_keyframe = key
        try:
            self._container.mux_one(packet)
        except av.error.FFmpegError as error:
            raise RecordingError(f"{self.path} could not be muxed: {error}") from error
        self._after_write()

    def _after_write(self) -> None:
        """libavformat writes whole clusters only, all within one call: what was whole before the call stays whole."""
        if self._file.error is not None:
            self._file.cut(self._safe_size)
            raise DiskWriteError(self.path, self._file.error)
        self._safe_size = self._file.size

    def sync(self) -> None:
        """Have the disk hold everything written so far. Raises DiskWriteError."""
        try:
            self._file.sync()
        except OSError as error:
            self._file.error = error
            raise DiskWriteError(self.path, error) from error

    def close(self) -> None:
        """Write duration and index, sync, close. After a DiskWriteError: only close. Safe to call twice.

        Raises:
            DiskWriteError: no space for the last cluster or the index; the file is valid up to its last cluster.
        """
        if self._file.closed:
            return
        failed_before = self._file.error is not None
        try:
            try:
                self._container.close()
            except av.error.FFmpegError as error:
                if not failed_before:
                    raise RecordingError(f"{self.path} could not be finished: {error}") from error
            if self._file.error is None:
                self.sync()
            elif not failed_before:
                self._file.cut(self._safe_size)
                raise DiskWriteError(self.path, self._file.error)
        finally:
            self._file.close()
