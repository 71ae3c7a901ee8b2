"""The process that holds a connection to a media server. FFmpeg waits in it, with the interpreter's lock held; only it.

Standard input: one JSON line {url, format, options, height, width, fps}, then packets: length u32, pts i64 at 90 kHz,
key u8, H.264 bytes. Standard output: `R` when the server has accepted the stream, `A` for each packet that was sent.
Ends with its input. The address comes by standard input, so that no list of processes shows it.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import av.error
from av.video.stream import VideoStream

__all__ = ["HEADER", "main", "make_identity"]

HEADER = struct.Struct("<IqB")
_MAX_PACKET = 32_000_000
_CLOCK = 90_000
_DAYS = 30  # that a certificate holds
_DESCRIBED = {
    "tune": "zerolatency",
    "bf": "0",
    "profile": "baseline",
}  # the stream, to the server: as PushThread encodes


def main(source: BinaryIO, answers: BinaryIO) -> int:
    """Send what comes from `source`; the exit code."""
    setup = json.loads(source.readline())
    try:
        with av.open(setup["url"], "w", format=setup["format"], options=setup["options"]) as container:
            stream = container.add_stream("libx264", rate=setup["fps"], options=_DESCRIBED)
            if not isinstance(stream, VideoStream):
                raise TypeError("libx264 is no video encoder")
            stream.height, stream.width, stream.pix_fmt = setup["height"], setup["width"], "yuv420p"
            stream.codec_context.time_base = Fraction(1, _CLOCK)
            container.start_encoding()
            _tell(answers, b"R")
            while len(head := source.read(HEADER.size)) == HEADER.size:
                length, pts, key = HEADER.unpack(head)
                data = source.read(min(length, _MAX_PACKET))
                if len(data) != length:
                    break
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, _CLOCK)
                packet.pts = packet.dts = pts
                packet.is_keyframe = bool(key)
                container.mux(packet)
                _tell(answers, b"A")
    except (av.error.FFmpegError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}"[:500])
        return 1
    return 0


def make_identity(folder: Path) -> tuple[Path, Path] | None:
    """Certificate and key of one WebRTC connection, on the curve that every WebRTC program must know (RFC 8827).

    They are PEM files in `folder`, which others must not read; None where there is no `openssl`.

    FFmpeg would make its own. Built with GnuTLS, as in PyAV's wheels, that is on a smaller curve, with which OpenSSL
    and others end the handshake.

    Raises:
        OSError, subprocess.SubprocessError: it could not be made.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(_DAYS)]
    command = [openssl, "req", "-x509", *kind, "-subj", "/CN=lumitherm", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    return certificate, key


def _tell(answers: BinaryIO, word: bytes) -> None:
    answers.write(word)
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer))
