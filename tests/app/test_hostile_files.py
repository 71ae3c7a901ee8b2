"""Files made to hurt: each is refused in one sentence that names its limit, within 10 s and 1 GB, by every parser.

One harness (support.hostile) runs them all, each in a process of its own, and measures what the refusal took.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import safetensors.numpy
import tifffile
import torch
from support.hostile import MOST_MB, MOST_S
from support.network_weights import BRIEF

from app.recording.sidecar import MAX_LINES
from calibration.rig import plain_scaling, save_calibration
from fusion_core.checkpoint import save_checkpoint
from fusion_core.rfvif import Rfvif

TESTS = Path(__file__).parents[1]
RIG = "rig: a\nvisible: {uri: sim:visible}\nthermal: {uri: sim:thermal}\n"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)


# ---------------------------------------------------------------------------------------------- how they are made


def png_part(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, whole: bool = True) -> bytes:
    """Black throughout: a thousandth of what it takes decoded."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packer, row = zlib.compressobj(1), bytes(1 + width * channels * bits // 8)
    body = b"".join(packer.compress(row) for _ in range(height if whole else 1)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_part(b"IHDR", head) + png_part(b"IDAT", body) + png_part(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A small one whose header tells of another size."""
    data = bytearray(cv2.imencode(".jpg", np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))[1].tobytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + canvas


def jpeg2000(width: int, height: int, tile: int) -> bytes:
    sizes = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, tile, tile, 0, 0, 3)
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 41 + 6) + sizes + b"\x07\x01\x01" * 3 + bytes(100)


def tiff(path: Path, width: int, height: int, bits: int) -> None:
    """Says that it is large, and holds one strip."""
    tifffile.imwrite(path, np.arange(64 * 64, dtype=f"u{bits // 8}").reshape(64, 64))
    data = bytearray(path.read_bytes())
    for tag, value in ((256, width), (257, height)):
        at = data.index(struct.pack("<HHI", tag, 3, 1)) if struct.pack("<HHI", tag, 3, 1) in data else -1
        if at < 0:
            at = data.index(struct.pack("<HHI", tag, 4, 1))
        data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    path.write_bytes(data)


def tiff_chain(path: Path, pages: int) -> None:
    """Pages without end, each of a few bytes."""
    parts = [b"II*\0" + struct.pack("<I", 8)]
    for number in range(pages):
        following = 8 + 18 * (number + 1) if number + 1 < pages else 0
        parts.append(struct.pack("<HHHIII", 1, 256, 3, 1, 8, following))
    path.write_bytes(b"".join(parts))


def video(path: Path, width: int, height: int, title: str = "") -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "40"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.metadata["title"] = title
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for number in range(3):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def video_of_pngs(path: Path, data: bytes, title: str = "") -> None:
    """The container says 64x64, its pictures say something else."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        stream.metadata["title"] = title
        for number in range(3):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = True
            container.mux(packet)


def sidecar(frame: dict[str, Any], **header: Any) -> bytes:
    first = {"type": "header", "schema": 1, "recording": "x", "segment": 0, "start_ns": 0, "wall_start": "x"}
    first |= {"wall_start_ns": 0, "tracks": [], **header}
    lines = [first, {"type": "frame", "n": 0, "t_ns": 0, **frame}]
    lines.append({"type": "end", "reason": "stop", "frames": {"visible": 3}, "duration_ns": 1})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def recording(folder: Path, number: str, frame: dict[str, Any], **header: Any) -> Path:
    """A container that opens, with a sidecar that lies."""
    path = folder / f"recording-{number}.mkv"
    video(path, 64, 64, "visible")
    path.with_suffix(".jsonl").write_bytes(sidecar(frame, **header))
    return path


def weights(path: Path, **changes: Any) -> None:
    """Sound tensors under a header that asks for another network."""
    save_checkpoint(path, Rfvif(BRIEF), {})
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["lumitherm"])
    header["config"] |= changes
    path.write_bytes(safetensors.numpy.save(tensors, metadata={"lumitherm": json.dumps(header)}))


def archive(path: Path, claimed: int, real: int) -> None:
    """A NumPy archive whose array claims to have so many values."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({claimed},), }}".ljust(117).encode() + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(8 * real)
        packed.writestr("added_ms.npy", array)


def calibration(path: Path, change: Callable[[str], str]) -> None:
    save_calibration(plain_scaling((480, 640), (240, 320)), path)
    path.write_text(change(path.read_text()))


# ---------------------------------------------------------------------------------------------- what is tried


def make_pictures(folder: Path) -> dict[str, Path]:
    made = {
        "PNG 20000x20000 RGB": png(20000, 20000, 8, 2),
        "PNG 12000x12000 RGBA16": png(12000, 12000, 16, 6, whole=False),
        "PNG 8100x8100 RGBA16": png(8100, 8100, 16, 6, whole=False),
        "PNG 2^31": png(2**31 - 1, 1, 8, 0, whole=False)[:60] + b"",
        "JPEG 65000x65000": jpeg(65000, 65000),
        "JPEG of 100 scans": jpeg(64, 64)[:-2] + b"\xff\xda\x00\x02" * 100 + b"\xff\xd9",
        "BMP 30000x30000": b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 30000, 30000, 1, 24, 0) + bytes(200),
        "WebP 16384x16384": webp(16384, 16384),
        "JPEG 2000 60000x60000": jpeg2000(60000, 60000, 60000),
        "JPEG 2000 of 16 M tiles": jpeg2000(4096, 4096, 1),
        "PNM 100000x100000": b"P6\n100000 100000\n255\n" + bytes(100),
        "PNM endless comment": b"P6\n#" + b"x" * 5_000_000,
        "HDR": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(100),
        "sun raster": struct.pack(">8I", 0x59A66A95, 60000, 60000, 24, 0, 1, 0, 0),
    }
    files = {}
    for name, data in made.items():
        files[name] = folder / f"{name.replace(' ', '-')}.png"
        files[name].write_bytes(data)
    files["TIFF 60000x60000"] = folder / "large.tiff"
    tiff(files["TIFF 60000x60000"], 60000, 60000, 16)
    files["TIFF 8000x8000 of 64 bits"] = folder / "deep.tiff"
    tiff(files["TIFF 8000x8000 of 64 bits"], 8000, 8000, 64)
    files["TIFF of 500,000 pages"] = folder / "chain.tiff"
    tiff_chain(files["TIFF of 500,000 pages"], 500_000)
    files["300 MB of nothing"] = folder / "sparse.png"
    with files["300 MB of nothing"].open("wb") as file:
        file.truncate(300_000_000)
    files["a pipe"] = folder / "pipe.png"
    os.mkfifo(files["a pipe"])
    files["a device"] = folder / "zero.png"
    files["a device"].symlink_to("/dev/zero")
    return files


YAML = {
    "depth 20,000": "a: " + "[" * 20_000,
    "depth 20,000 in blocks": "\n".join(" " * n + "a:" for n in range(1400)),
    "12 MB": "# x\n" * 3_000_000,
    "999 kB of values": "a: [" + "1," * 497_000 + "1]\n",
    "999 kB of keys": "".join(f"k{n}: 1\n" for n in range(98_000)),
    "alias bomb": BOMB,
    "alias of itself": "a: &a [*a]\n",
    "tag": "a: !!python/object/apply:os.system [x]\n",
    "no text": "a: \udcff",
    "6,000 digits": "schema_version: " + "9" * 6000 + "\n",
}


def make_yaml(folder: Path) -> dict[str, Path]:
    files = {}
    for name, text in YAML.items():
        files[name] = folder / f"{name.replace(' ', '-').replace(',', '')}.yaml"
        files[name].write_bytes(text.encode("utf-8", "surrogateescape"))
    files["a pipe"] = folder / "pipe.yaml"
    os.mkfifo(files["a pipe"])
    files["a device"] = folder / "device.yaml"
    files["a device"].symlink_to("/dev/zero")
    files["a folder"] = folder / "folder.yaml"
    files["a folder"].mkdir()
    return files


CALIBRATIONS: dict[str, Callable[[str], str]] = {
    "date that is none": lambda text: "\n".join(
        "created: 2024-99-99" if line.startswith("created") else line for line in text.split("\n")
    ),
    "version by a bomb": lambda text: BOMB + text.replace("schema_version: 1", "schema_version: *j"),
    "version of 6,000 digits": lambda text: text.replace("schema_version: 1", "schema_version: " + "9" * 6000),
    "width of 10^12": lambda text: text.replace("width: 640", f"width: {10**12}"),
    "numbers that overflow": lambda text: text.replace("2.0", "1.0e308"),
    "no number": lambda text: text.replace("2.0", ".nan"),
}


def make_weights(folder: Path) -> dict[str, Path]:
    wrong: dict[str, dict[str, Any]] = {
        "channels=1000000": {"channels": 1_000_000},
        "channels=10^30": {"channels": 10**30},
        "channels=1024": {"channels": 1024},
        "channels=8.0": {"channels": 8.0},
        "residual_blocks=1000000": {"residual_blocks": 1_000_000},
        "residual_blocks=200": {"residual_blocks": 200},
        "residual_blocks=-5": {"residual_blocks": -5},
        "radius 100000": {"stages": [[8, 100_000]]},
        "10,000 stages": {"stages": [[8, 2]] * 10_000},
        "working_px=10^15": {"working_px": 10**15},
        "fdam='x'": {"fdam": "x"},
    }
    files = {}
    for number, (name, changes) in enumerate(wrong.items()):
        files[name] = folder / f"wrong{number}.safetensors"
        weights(files[name], **changes)
    many = {f"t{n}": np.zeros(1, np.float32) for n in range(20_000)}
    header = {"format_version": 1, "network_version": 1, "config": BRIEF.to_dict(), "facts": {}}
    files["20,000 tensors"] = folder / "many.safetensors"
    files["20,000 tensors"].write_bytes(safetensors.numpy.save(many, metadata={"lumitherm": json.dumps(header)}))
    header["facts"] = "depth"
    deep = json.dumps(header).replace('"depth"', "[" * 100_000 + "]" * 100_000)
    files["header of depth 100,000"] = folder / "deep.safetensors"
    files["header of depth 100,000"].write_bytes(safetensors.numpy.save(many, metadata={"lumitherm": deep}))
    return files


def make_videos(folder: Path) -> dict[str, Path]:
    files = {"8192x8192 H.264": folder / "large.mkv", "PNG of 20000x20000": folder / "pngs.mov"}
    video(files["8192x8192 H.264"], 8192, 8192, "visible")
    video_of_pngs(files["PNG of 20000x20000"], png(20000, 20000, 8, 2, whole=False), "visible")
    return files


def make_recordings(folder: Path) -> dict[str, Path]:
    ref = {"k": 0, "ms": 0}
    source = {"i": 0, "t_ns": 0, "src": "arrival", "at": ref}
    return {
        "ms of 2^63-1": recording(folder, "a", {"visible": source | {"at": {"k": 0, "ms": 2**63 - 1}}}),
        "ms of -2^63": recording(folder, "b", {"visible": source | {"at": {"k": 0, "ms": -(2**63)}}}),
        "t_ns of 10^30": recording(folder, "c", {"t_ns": 10**30, "visible": source}),
        "k of 2^62": recording(folder, "d", {"visible": source | {"at": {"k": 2**62, "ms": 0}}}),
        "start of 2^63-1": recording(folder, "e", {"visible": source}, start_ns=2**63 - 1),
        "wall of 10^25": recording(folder, "f", {"visible": source}, wall_start_ns=10**25),
    }


def full_recording(folder: Path, kind: str) -> Path:
    """As many sidecar lines as are read, all sound by themselves, to a video of three pictures."""
    path = recording(folder, f"full{kind}", {}, schema=2)
    head, *_, end = path.with_suffix(".jsonl").read_bytes().splitlines()
    at = b'"at":{"k":%d,"ms":%d}'
    raw = b'{"type":"raw","track":"%s","i":%d,"t_ns":%d,"src":"arrival",' + at + b"}"
    frame = b'{"type":"frame","n":7,"t_ns":%d,"fused":{"k":%d,"ms":%d},"visible":{"i":1,"t_ns":%d,"src":"arrival"}}'
    lines = [head]
    for number in range(MAX_LINES - 2):
        t_ns, ms = number // 2 * 33_333_333, number // 2 * 33
        if kind == "raw":
            lines.append(raw % ((b"visible", b"thermal")[number % 2], number // 2, t_ns, number // 2, ms))
        else:
            lines.append(frame % (2 * t_ns, number, ms, t_ns))
    path.with_suffix(".jsonl").write_bytes(b"\n".join([*lines, end, b""]))
    return path


def all_jobs(folder: Path) -> list[tuple[str, str, Path]]:
    """(parser, name, file) of every attack."""
    jobs = []
    for name, path in make_pictures(folder).items():
        jobs += [(parser, name, path) for parser in ("visible picture", "thermal picture", "mask")]
    for name, path in make_yaml(folder).items():
        jobs += [(parser, name, path) for parser in ("configuration", "configuration edit", "calibration", "board")]
    for number, (name, change) in enumerate(CALIBRATIONS.items()):
        calibration(folder / f"rig{number}.yaml", change)
        jobs.append(("calibration", name, folder / f"rig{number}.yaml"))
    jobs += [("weights", name, path) for name, path in make_weights(folder).items()]
    for name, path in make_videos(folder).items():
        jobs += [(parser, name, path) for parser in ("video", "video player", "recording")]
    for name, path in make_recordings(folder).items():
        jobs += [("recording", name, path), ("sidecar", name, path.with_suffix(".jsonl"))]
    for name, claimed, real in (("claims 10^12", 10**12, 10), ("80 MB in 80 kB", 10**7, 10**7)):
        path = folder / f"seen{claimed}.npz"
        archive(path, claimed, real)
        jobs.append(("board sightings", name, path))
    deep = folder / "deep.json"
    deep.write_text("[" * 1_000_000)
    jobs.append(("json", "depth 1,000,000", deep))
    return jobs


# Damage that is got over: the parser goes on with what is left, and says so elsewhere.
GOT_OVER = {("recording", name) for name in ("ms of 2^63-1", "ms of -2^63", "t_ns of 10^30", "k of 2^62")} | {
    ("mask", "JPEG of 100 scans"),
    ("recording", "start of 2^63-1"), ("recording", "wall of 10^25"), ("sidecar", "ms of 2^63-1"),
    ("sidecar", "ms of -2^63"), ("sidecar", "t_ns of 10^30"), ("sidecar", "k of 2^62"),
    ("calibration", "date that is none"),
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, dict[str, Any]]]:
    """(name, what the harness says) of every attack."""
    torch.manual_seed(0)
    return run(all_jobs(tmp_path_factory.mktemp("hostile")))


def run(jobs: list[tuple[str, str, Path]]) -> list[tuple[str, dict[str, Any]]]:
    asked = json.dumps([(parser, str(path)) for parser, _, path in jobs])
    environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "support.hostile"], input=asked, capture_output=True, text=True, env=environment,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout)
    return [(name, found) for (_, name, _), found in zip(jobs, answers, strict=True)]


def test_every_hostile_file_is_refused_in_a_sentence(judged: list[tuple[str, dict[str, Any]]]) -> None:
    for name, found in judged:
        wanted = ("refused", "read") if (found["parser"], name) in GOT_OVER else ("refused",)
        assert found["outcome"] in wanted, (name, found)
        assert all(len(line) < 500 for line in found["said"].splitlines()), (name, found)
        assert "Traceback" not in found["said"], (name, found)
        assert "\n" not in found["said"] or "problems" in found["said"], (name, found)


def test_a_refusal_takes_little_memory_and_time(
    judged: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    worst: dict[str, tuple[float, float, str]] = {}
    for name, found in judged:
        assert found["peak_mb"] <= MOST_MB, (name, found)
        assert found["cpu_s"] <= MOST_S, (name, found)
        before = worst.get(found["parser"], (0.0, 0.0, ""))
        worst[found["parser"]] = max(before, (found["more_mb"], found["cpu_s"], name))
    with capsys.disabled():
        print(f"\n{len(judged)} hostile files; the libraries alone take about {judged[0][1]['peak_mb']:.0f} MB")
        for parser, (more_mb, cpu_s, name) in sorted(worst.items()):
            print(f"  {parser}: at most {more_mb:.0f} MB more, {cpu_s:.1f} s ({name})")


@pytest.mark.slow
@pytest.mark.alone
def test_a_sidecar_with_all_lines_that_are_read_takes_no_more(tmp_path: Path) -> None:
    for name, found in run([("recording", kind, full_recording(tmp_path, kind)) for kind in ("raw", "fused")]):
        print(f"{name}: {found}")
        # The first picture behind the video's end is refused; of a track that is not there none is asked for.
        assert found["outcome"] == ("refused" if name == "raw" else "read"), (name, found)
        assert found["peak_mb"] <= MOST_MB, (name, found)
        assert found["cpu_s"] <= 2 * MOST_S, (
            name,
            found,
        )  # the longest read: 7 to 11 s here and there


def test_limits_are_named(judged: list[tuple[str, dict[str, Any]]]) -> None:
    wanted = {
        "PNG 20000x20000 RGB": ("67108864", "16777216"),
        "12 MB": ("1000000",),
        "depth 20,000": ("30 levels",),
        "999 kB of values": ("20000 values",),
        "channels=1000000": ("1024",),
        "residual_blocks=1000000": ("256",),
        "residual_blocks=200": ("does not fit",),
        "8192x8192 H.264": ("36000000",),
        "300 MB of nothing": ("at most 256", "16777216"),
        "a pipe": ("a pipe", "no ordinary file"),
        "a device": ("a device", "no ordinary file"),
    }
    for attack, words in wanted.items():
        said = [found["said"] for name, found in judged if name == attack]
        assert said and all(any(word in text for word in words) for text in said), (attack, said)
