"""Hostile inputs: mutated configurations, sidecars, weights, containers and requests end in the errors meant for them.

LUMITHERM_FUZZ: inputs for each parser; a short run by default. The seed is fixed, so that a finding can be repeated.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import safetensors.numpy
from support.service import TOKEN, client, running, secret_file, service_settings

from app.configuration.config import load_config
from app.recording.reader import RecordingReader
from app.recording.sidecar import read_sidecar
from app.service.start import RequestedRecordingFile
from app.service.systemd import StartLedger
from app.service.tasks.retention import AgeBook
from fusion_core.checkpoint import load_checkpoint
from fusion_core.errors import LumithermError

COUNT = int(os.environ.get("LUMITHERM_FUZZ", "60"))
CONFIGS = Path(__file__).parents[2] / "configs"
WORDS = (b"\x00", b"\xff\xfe", b"&a", b"*a", b"!!python/object/apply:os.system", b"[" * 500, b"{" * 500, b"9" * 400)
MORE_WORDS = (b"-1", b"1e999", b".nan", b"null", b"\r\n\r\n", b"../../", b"%00", b"\xed\xa0\x80", b'"' * 3, b": ")


def mutate(data: bytes, random_: random.Random) -> bytes:
    """One to eight changes: bits, cuts, doubles, strange words."""
    changed = bytearray(data)
    for _ in range(random_.randint(1, 8)):
        kind, at = random_.randrange(6), random_.randrange(len(changed) + 1)
        length = random_.randint(1, 64)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = random_.choice(WORDS + MORE_WORDS)
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            changed[at : at + length] = random_.randbytes(min(length, max(0, len(changed) - at)))
        elif random_.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def fuzz(name: str, seeds: list[bytes], file: Path, parse: Callable[[Path], object]) -> None:
    """Feed mutations to a parser; anything but success or one of our own errors is a finding."""
    random_ = random.Random(name)
    refused = 0
    for number in range(COUNT):
        data = mutate(random_.choice(seeds), random_)
        file.write_bytes(data)
        try:
            parse(file)
        except LumithermError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name}, input {number}: {type(error).__name__}: {error}") from error
    print(f"fuzz {name}: {COUNT} inputs, {refused} refused")


def test_configuration(tmp_path: Path) -> None:
    seeds = [path.read_bytes() for path in CONFIGS.glob("*.yaml") if path.name != "train.yaml"]
    fuzz("configuration", seeds, tmp_path / "fuzzed.yaml", lambda path: load_config(path, (), {}))


def test_sidecar_and_container(tmp_path: Path) -> None:
    with running(service_settings(tmp_path, {"enabled": False})) as (live, handle):
        handle.operations.call("start", {})
        handle.operations.call("event", {"label": "x"})
        while live.stats.snapshot().frames["recorded"] < 15:
            live.wait(0.05)
        (name,) = handle.operations.call("stop", {})["files"]
    video = tmp_path / "recordings" / name
    sidecar, container = video.with_suffix(".jsonl").read_bytes(), video.read_bytes()
    target = tmp_path / "fuzzed" / name
    target.parent.mkdir()
    fuzz("sidecar", [sidecar], target.with_suffix(".jsonl"), read_sidecar)

    def read(path: Path) -> None:
        with RecordingReader(path) as reader:
            for index in range(min(3, len(reader))):
                for track in reader.tracks:
                    reader.picture(track, index)

    previous = av.logging.get_level()
    av.logging.set_level(None)
    try:
        target.with_suffix(".jsonl").unlink()
        target.write_bytes(container.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XVC"))
        with pytest.raises(LumithermError, match="unknown codec"):  # found by fuzzing
            read(target)
        fuzz("container", [container], target, read)
        target.with_suffix(".jsonl").write_bytes(sidecar)
        fuzz("container with sidecar", [container], target, read)
    finally:
        av.logging.set_level(previous)


def test_weights(tmp_path: Path) -> None:
    whole = safetensors.numpy.save({"a": np.zeros((2, 3), np.float32)}, metadata={"lumitherm": "{}"})
    header = int.from_bytes(whole[:8], "little")
    huge = (2**62).to_bytes(8, "little") + whole[8:]
    overlap = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    seeds = [whole, whole[: 8 + header], huge, len(overlap).to_bytes(8, "little") + overlap + bytes(64)]
    fuzz("safetensors", seeds, tmp_path / "w.safetensors", load_checkpoint)


def test_header_of_sound_weights(tmp_path: Path) -> None:
    """Weights that load, with changes in their header alone: metadata, names, shapes, places."""
    shipped = min(
        (CONFIGS.parent / "fusion_core" / "weights").glob("*.safetensors"), key=lambda path: path.stat().st_size
    )
    whole = shipped.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    load_checkpoint(shipped)

    def load(path: Path) -> None:
        header = path.read_bytes()[8:]
        path.write_bytes(len(header).to_bytes(8, "little") + header + whole[end:])
        load_checkpoint(path)

    fuzz("safetensors header", [whole[:end]], tmp_path / "w.safetensors", load)


def test_our_own_state_files(tmp_path: Path) -> None:
    ledger = json.dumps({"boot": "x", "running": True, "restarts": [1.0, 2.0]}).encode()
    fuzz("start ledger", [ledger], tmp_path / "s.json", lambda path: StartLedger(path, 600, lambda: 5.0, "x").begin())
    book = json.dumps({"clock_s": 5.0, "wall_s": 1.0, "first_seen": {"a": 1.0}}).encode()
    fuzz("age book", [book], tmp_path / "a.json", lambda path: AgeBook(path).age_s("a"))
    wish = json.dumps({"recording": True, "label": "night", "boot": "x"}).encode()
    fuzz("wish to record", [wish], tmp_path / "w.json", lambda path: RequestedRecordingFile(path, "x").read())


def test_http(tmp_path: Path) -> None:
    body = b'{"label": "x", "name": "edges"}'
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n".encode()
    seeds = [
        b"POST /api/v1/event HTTP/1.1\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        b"GET /api/v1/recordings/x.mkv HTTP/1.1\r\nRange: bytes=0-\r\n" + head + b"\r\n",
        b"GET /api/v1/log?since=1 HTTP/1.1\r\nCookie: lumitherm_session=x\r\n" + head + b"\r\n",
        b'POST /api/v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 16\r\n\r\n{"token": "wro"}',
    ]
    web = {"token_file": secret_file(tmp_path, "token", TOKEN), "slow_client_s": 0.5, "failures_per_min": 1000}
    random_, answers, broken = random.Random("http"), 0, []
    with running(service_settings(tmp_path, web)) as (_, handle):
        assert handle.web is not None
        for _ in range(COUNT):
            data = mutate(random_.choice(seeds), random_)
            with socket.create_connection(("127.0.0.1", handle.web.port), 30) as raw:
                try:
                    raw.sendall(data)
                    raw.shutdown(socket.SHUT_WR)
                    answer = raw.recv(200)
                except (ConnectionResetError, BrokenPipeError):
                    continue
            answers += bool(answer)
            if answer.startswith(b"HTTP/1.1 5") and b" 503 " not in answer[:16]:
                broken.append(data)
        with client(handle, TOKEN) as http:
            assert http.get("/api/v1/status").status_code == 200
    print(f"fuzz http: {COUNT} inputs, {answers} answered, {len(broken)} internal errors")
    assert not broken, broken[0]


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"a: &x [*x]\n", b"a: b: c\n", b"- 1\n" * 30000])
def test_known_troublemakers(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(data)
    with pytest.raises(LumithermError):
        load_config(file, (), {})
