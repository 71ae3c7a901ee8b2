"""A stranger's ONNX file: judged before a runtime builds it, and what it does then costs the detector, not the rig."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.configuration.detect import DetectConfig
from app.pipeline.detector_process import DetectionProcess
from app.pipeline.onnx_file import check_onnx
from fusion_core.errors import BadInputError, EngineError

onnx = pytest.importorskip("onnx", reason="onnx is not installed; pip install onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from support.detector_model import yolo  # noqa: E402

PICTURE = np.zeros((32, 32, 3), np.uint8)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the detector has a process of its own on Linux alone")


def model(path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> Path:
    """(1, 3, 32, 32) to `output0` (1, 6, 16), by these nodes."""
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "hostile", [given], [output], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def outside(location: str, **more: str) -> Callable[[Path], Path]:
    """A tensor whose values are elsewhere."""

    def make(path: Path) -> Path:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=value)
        return model(path, [helper.make_node("Identity", ["w"], ["output0"])], [tensor])

    return make


def claims(dims: list[int], data: bytes) -> Callable[[Path], Path]:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=data)
    return lambda path: model(path, [helper.make_node("Identity", ["w"], ["output0"])], [tensor])


def deep(path: Path) -> Path:
    graph = helper.make_graph([], "g", [], [])
    for _ in range(25):
        node = helper.make_node("If", ["c"], ["x"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [])
    onnx.save(helper.make_model(graph), str(path))
    return path


def many_nodes(path: Path) -> Path:
    nodes = [helper.make_node("Relu", [f"a{n}"], [f"a{n + 1}"]) for n in range(60_000)]
    return model(path, nodes, [])


def in_an_attribute(path: Path) -> Path:
    """The tensor that leads elsewhere is a node's constant in a graph inside a node."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secret")
    inner = helper.make_graph([helper.make_node("Constant", [], ["x"], value=tensor)], "g", [], [])
    return model(path, [helper.make_node("If", ["c"], ["output0"], then_branch=inner, else_branch=inner)], [])


def raw_file(data: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return make


def damaged(path: Path) -> Path:
    data = yolo(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "weights above": (outside("../secret"), "in its own folder"),
    "weights by their whole path": (outside("/etc/passwd"), "in its own folder"),
    "weights of a device": (outside("/dev/zero", length="9999999999"), "in its own folder"),
    "weights below": (outside("sub/w.bin"), "in its own folder"),
    "weights with a backslash": (outside("..\\w.bin"), "in its own folder"),
    "weights of no name": (outside(""), "in its own folder"),
    "weights in the folder": (outside("."), "in its own folder"),
    "weights that are not there": (outside("none.bin"), "not there"),
    "weights by a link": (outside("link.bin"), "no plain file"),
    "weights behind the end": (outside("w.bin", offset="8", length="16"), "which has 16"),
    "weights from behind": (outside("w.bin", offset="-8"), "which has 16"),
    "weights of 10^30": (outside("w.bin", length="1" + "0" * 30), "which has 16"),
    "weights in a graph in a node": (in_an_attribute, "in its own folder"),
    "10^12 values": (claims([10**6, 10**6], b"\0" * 16), "10\\d* values|1000000000000 values"),
    "more values than it holds": (claims([4096, 4096], b"\0" * 16), "holds 18 bytes"),
    "dimensions that overflow": (claims([2**62, 2**62, 2**62], b"\0" * 16), "values"),
    "dimensions below zero": (claims([-4, 4], b"\0" * 16), "values"),
    "1,000 dimensions": (claims([1] * 1000, b"\0" * 16), "dimensions"),
    "graphs in graphs": (deep, "more than 20 deep"),
    "60,000 nodes": (many_nodes, "50000 nodes"),
    "2 million parts": (raw_file(b"\x08\x01" * 2_000_000), "1000000 parts"),
    "a length of 2^63": (raw_file(b"\x3a" + b"\xff" * 9 + b"\x01" + b"x" * 50), "no ONNX file"),
    "a number without end": (raw_file(b"\x08" + b"\xff" * 500), "no ONNX file"),
    "half of it": (damaged, "no ONNX file|no graph"),
    "nothing": (raw_file(b""), "0 bytes"),
    "text": (raw_file(b"no model at all"), "no ONNX file"),
    "a device": (device, "no plain file"),
    "a pipe": (pipe, "no plain file"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_model_is_refused_before_a_runtime_sees_it(tmp_path: Path, what: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (tmp_path / "link.bin").symlink_to("w.bin")
    make, said = HOSTILE[what]
    spent_s = time.process_time()
    path = make(tmp_path / "model.onnx")
    spent_s = time.process_time()
    with pytest.raises(BadInputError, match=said) as caught:
        check_onnx(path)
    assert time.process_time() - spent_s < 10
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_sound_models_pass_and_so_do_weights_beside_them(tmp_path: Path) -> None:
    check_onnx(yolo(tmp_path / "a.onnx"))
    (tmp_path / "w.bin").write_bytes(bytes(32))
    for more in ({}, {"offset": "16"}, {"offset": "8", "length": "16"}):
        check_onnx(outside("w.bin", **more)(tmp_path / "b.onnx"))
    check_onnx(model(tmp_path / "c.onnx", [], [numpy_helper.from_array(np.zeros((0, 4), np.float32), "empty")]))


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_are_refused_in_words_or_pass(tmp_path: Path, seed: int) -> None:
    data = bytearray(yolo(tmp_path / "a.onnx").read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(data), 4):
        data[at] ^= 1 << int(rng.integers(0, 8))
    (tmp_path / "a.onnx").write_bytes(data)
    try:
        check_onnx(tmp_path / "a.onnx")
    except BadInputError as error:
        assert "detect.model" in str(error)


# ---- what a sound file does


def endless(path: Path) -> Path:
    """A loop of 2^62 rounds over the picture."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    constants = [
        numpy_helper.from_array(np.int64(2**62), "rounds"),
        numpy_helper.from_array(np.bool_(True), "yes"),
        numpy_helper.from_array(np.array([1, 6, 512], np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["start"]),
        helper.make_node("Loop", ["rounds", "yes", "start"], ["output0"], body=body),
    ]
    return model(path, nodes, constants)


def greedy(path: Path) -> Path:
    """Makes 40 GB of zeros from a shape of 24 bytes and sums them up."""
    constants = [
        numpy_helper.from_array(np.array([10, 1000, 1_000_000], np.int64), "huge"),
        numpy_helper.from_array(np.array([1, 6, 512], np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["images", "shape"], ["start"]),
        helper.make_node("Add", ["start", "sum"], ["output0"]),
    ]
    return model(path, nodes, constants)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def _config(path: Path) -> DetectConfig:
    return DetectConfig(model=path)


@linux
def test_a_model_that_takes_memory_takes_its_own_processes_alone(tmp_path: Path) -> None:
    before_mb = _resident_mb()
    with pytest.raises((BadInputError, EngineError), match=r"detect\.model"):
        DetectionProcess(_config(greedy(tmp_path / "a.onnx")), memory_bytes=1_000_000_000).find(PICTURE)
    assert _resident_mb() - before_mb < 100


@linux
def test_a_model_without_end_is_ended_and_the_next_picture_is_tried_anew(tmp_path: Path) -> None:
    found = DetectionProcess(_config(endless(tmp_path / "a.onnx")), picture_s=1.5)
    first = found._process
    with pytest.raises(EngineError, match="took more than"):
        found.find(PICTURE)
    assert first.poll() is not None
    with pytest.raises(EngineError, match="took more than"):
        found.find(PICTURE)
    found.close()


@linux
def test_stopping_does_not_wait_for_a_model(tmp_path: Path) -> None:
    stopping = threading.Event()
    found = DetectionProcess(_config(endless(tmp_path / "a.onnx")), stopping.is_set, picture_s=300)
    threading.Timer(0.5, stopping.set).start()
    with pytest.raises(EngineError, match="stopped"):
        found.find(PICTURE)
    assert found._process.poll() is not None


@linux
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV])
def test_a_crash_of_the_runtime_is_told_and_got_over(tmp_path: Path, sent: signal.Signals) -> None:
    lamp = np.full((64, 64, 3), 20, np.uint8)
    lamp[16:32, 16:32] = 255
    found = DetectionProcess(_config(yolo(tmp_path / "a.onnx")))
    seen = found.find(lamp)
    assert seen and found.find(lamp[..., 0]) and "a" in found.name
    os.kill(found._process.pid, sent)
    with pytest.raises(EngineError, match=sent.name):
        found.find(lamp)
    assert found.find(lamp) == seen
    process = found._process
    del found
    assert process.poll() is not None


@linux
def test_a_file_that_is_refused_apart_is_refused_here_in_the_same_words(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="in its own folder"):
        DetectionProcess(_config(outside("/etc/passwd")(tmp_path / "a.onnx")))
    with pytest.raises(BadInputError, match="does not exist"):
        DetectionProcess(_config(tmp_path / "none.onnx"))
