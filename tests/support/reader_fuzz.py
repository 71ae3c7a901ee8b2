"""Damaged media files by the hundred, and what the readers make of them. Also run as a process of its own.

Usage: reader_fuzz.py FOLDER FORMAT FIRST LAST. For each number a file is made from one of the sound files of its format
by seeded mutations and read for both streams. JSON before (`{"start": n}`) and after (`{"done": n, ...}`),
with processor time, since other work on the machine takes its own.
"""

from __future__ import annotations

import json
import random
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import tifffile

from app.media.reader import VideoReader
from fusion_core.errors import LumithermError
from fusion_core.frames import Stream
from fusion_core.picture_file import PictureReader

FORMATS = ("jpg", "png", "tif", "mp4", "mkv", "ts", "avi")
ROWS, COLUMNS = np.mgrid[0:48, 0:64]
COUNTS = (29_000 + 30 * COLUMNS + 3 * ROWS).astype(np.uint16)
COLOUR = np.dstack([COLUMNS * 3, ROWS * 5, 255 - COLUMNS * 3]).astype(np.uint8)
GREY = (COUNTS >> 7).astype(np.uint8)
_SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 16_000, 65_000)


def sound_files(folder: Path, kind: str) -> list[Path]:
    """Small files of one format as different programs write them."""
    made: list[Path] = []

    def place() -> Path:
        made.append(folder / f"sound_{len(made)}.{kind}")
        return made[-1]

    if kind == "jpg":
        options = ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])
        for picture, choice in ((COLOUR, options[0]), (GREY, options[0]), (COLOUR, options[1]), (COLOUR, options[2])):
            place().write_bytes(cv2.imencode(".jpg", picture, choice)[1].tobytes())
        place().write_bytes(_radiometric_jpeg())
    elif kind == "png":
        for picture in (COLOUR, COUNTS, GREY, np.dstack([COLOUR, GREY]), COLOUR.astype(np.uint16) * 257):
            cv2.imwrite(str(place()), picture)
    elif kind == "tif":
        _tiffs(place)
    else:
        _videos(place, kind)
    return made


def _radiometric_jpeg() -> bytes:
    raw = struct.pack("<HHH", 2, 64, 48) + bytes(26) + cv2.imencode(".png", COUNTS)[1].tobytes()
    head = b"FFF\0" + b"CAMERA".ljust(16, b"\0") + struct.pack("<III", 101, 64, 1) + bytes(32)
    records = head + struct.pack("<HHIIII", 1, 0, 0, 0, 96, len(raw)) + bytes(12) + raw
    segment = b"FLIR\0\x01\0\0" + records
    painted = cv2.imencode(".jpg", COLOUR)[1].tobytes()
    return painted[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + painted[2:]


def _tiffs(place: Callable[[], Path]) -> None:
    tifffile.imwrite(place(), COUNTS)
    tifffile.imwrite(place(), (COUNTS / 100).astype(np.float32), byteorder=">")
    tifffile.imwrite(place(), COUNTS, tile=(16, 16), compression="zlib", predictor=True)
    tifffile.imwrite(place(), COLOUR, photometric="rgb", planarconfig="separate", rowsperstrip=8)
    tifffile.imwrite(place(), GREY, bigtiff=True, photometric="miniswhite")
    cv2.imwrite(str(place()), COUNTS, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    with tifffile.TiffWriter(place()) as writer:
        writer.write(COUNTS, extratags=[(274, 3, 1, 6, True)])
        writer.write(COUNTS[::4, ::4], subfiletype=1)


def _videos(place: Callable[[], Path], kind: str) -> None:
    codecs = {
        "mp4": (("libx264", "yuv420p"), ("mpeg4", "yuv420p"), ("libx265", "yuv420p10le")),
        "mkv": (("ffv1", "gray16le"), ("libx264", "yuv420p"), ("ffv1", "bgr0"), ("mjpeg", "yuvj444p")),
        "ts": (("libx264", "yuv420p"), ("mpeg2video", "yuv420p")),
        "avi": (("mjpeg", "yuvj420p"), ("libx264", "yuv420p"), ("rawvideo", "yuyv422"), ("ffv1", "gray16le")),
    }[kind]
    for number, (codec, pixel_format) in enumerate(codecs):
        with av.open(str(place()), "w") as container:
            options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            stream: Any = container.add_stream(codec, rate=15, options=options)
            stream.height, stream.width, stream.pix_fmt = 48, 64, pixel_format
            if kind == "mp4" and number == 0:
                stream.set_display_rotation(90)
            for at in range(6):
                if pixel_format == "gray16le":
                    frame = av.VideoFrame.from_ndarray(COUNTS + np.uint16(at), format=pixel_format)
                else:
                    frame = av.VideoFrame.from_ndarray(np.roll(COLOUR, at, 1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to eight changes: bits, numbers, zeroes, pieces cut out, doubled or moved, the end cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not out:
            break
        # Headers are a small part of a file, and what is in them does the most.
        at = rng.randrange(min(len(out), 400) if rng.random() < 0.5 else len(out))
        length = rng.choice((1, 4, 40, 400))
        change = rng.randrange(8)
        if change == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            out[at : at + length] = rng.randbytes(len(out[at : at + length]))
        elif change == 2:
            out[at : at + length] = bytes(len(out[at : at + length]))
        elif change == 3:
            order, size = rng.choice("<>"), rng.choice("BHI")
            value = rng.choice(_SIZES) & ((1 << 8 * struct.calcsize(size)) - 1)
            out[at : at + struct.calcsize(size)] = struct.pack(order + size, value)
        elif change == 4:
            del out[at : at + length]
        elif change == 5:
            out[at:at] = out[at : at + length]
        elif change == 6:
            out[at:at] = rng.randbytes(length)
        else:
            del out[max(1, at) :]
    return bytes(out)


def mutated_png(data: bytes, rng: random.Random) -> bytes:
    """A PNG with one part changed, or its rows before they are packed, under the right length and check sum."""
    parts, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = rng.randrange(len(parts))
    kind, content = parts[chosen]
    if kind == b"IDAT" and rng.random() < 0.8:
        parts[chosen] = (kind, zlib.compress(mutated(zlib.decompress(content), rng)))
    else:
        parts[chosen] = (kind, mutated(content, rng))
    extra = rng.choice((b"gAMA", b"sBIT", b"eXIf", b"acTL", b"tRNS", b"iCCP", b"zTXt"))
    parts.insert(1, (extra, rng.randbytes(rng.choice((1, 4, 30)))))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    return data[:8] + body


def _read(path: Path, kind: str, stream: Stream) -> str:
    """What was said: "" for a file that was read without a word."""
    try:
        if kind in ("jpg", "png", "tif"):
            pictures = PictureReader(stream)
            pictures.read(path)
            return "; ".join(pictures.notes)
        video = VideoReader(path, stream)
        try:
            for frame in video.frames():
                assert frame.frame.pixels.shape[:2] == (video.height, video.width)
            return "; ".join([*video.notes, *([video.damage] if video.damage else [])])
        finally:
            video.close()
    except LumithermError as error:
        return f"refused: {error}"


def _peak_mb() -> float:
    # Where the kernel tells, of this program alone: what `getrusage` gives began with the size of who started it.
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """See the module."""
    folder, kind, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    sound = sound_files(folder, kind)
    for number in range(first, last):
        rng = random.Random(f"{kind} {number}")
        path = folder / f"file_{number}.{kind}"
        data = rng.choice(sound).read_bytes()
        path.write_bytes(mutated_png(data, rng) if kind == "png" and rng.random() < 0.7 else mutated(data, rng))
        print(json.dumps({"start": number}), flush=True)
        began_s = time.process_time()
        said = [_read(path, kind, stream) for stream in (Stream.VISIBLE, Stream.THERMAL)]
        took_s = time.process_time() - began_s
        print(json.dumps({"done": number, "said": said, "took_s": took_s, "peak_mb": _peak_mb()}), flush=True)
        path.unlink()


if __name__ == "__main__":
    main()
