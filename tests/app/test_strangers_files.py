"""Attacks on what the rig writes beside others, and by what others gave: links, text that is none, detectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import recording as support

from app.configuration.config import load_config
from app.configuration.detect import DetectConfig
from app.pipeline.detection_model import DetectionModel, decode_yolo
from app.pipeline.live_fusion import LiveFusion
from app.playback.export import to_folder, to_mcap
from app.playback.recorded_views import DamagedPairs
from app.playback.sources import open_source
from app.recording.config import RecordingConfig
from app.recording.reader import RecordingReader
from app.recording.segments import is_protected, list_recordings, protect
from app.recording.sidecar import EventLine, SidecarContent, decode_line, encode_line, read_sidecar, sidecar_path
from app.recording.timing import write_timing_page
from app.recording.writing import disk
from app.recording.writing.disk import require_writable
from app.recording.writing.recorder import Recorder
from app.rig.radiometry import recorded_scale, scale_of
from app.service.state.log_ring import LogRing
from app.service.state.operations import Operations
from fusion_core.errors import BadInputError
from fusion_core.files import replacing, write_atomic

# ---- links in a folder that others may write to


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    return path


def test_a_link_where_a_file_is_to_be_written_leads_nowhere(victim: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in ("a.md", "a.keep", "b.keep", "page.json"):
        (folder / name).symlink_to(victim)
    (folder / "a.mkv").write_bytes(b"")
    write_timing_page(folder / "a.mkv", SidecarContent(), ())
    write_atomic(folder / "page.json", "{}")
    protect(folder / "b.mkv")
    config = load_config(Path("configs/simulated.yaml"), [f"recording.directory={folder}", "recording.prefix=a"], {})
    live = LiveFusion(config)
    operations = Operations(live, LogRing(), dict)
    operations.recording_file = lambda name: folder / name  # type: ignore[method-assign] - a name as listed
    operations.call("protect", {"name": "a.mkv"})
    live.stop()
    assert victim.read_text() == "mine" and not (folder / "a.keep").is_symlink()
    assert is_protected(folder / "b.mkv") and (folder / "a.md").read_text().startswith("# a")


def test_names_of_passing_files_cannot_be_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for _ in range(8):
        with replacing(tmp_path / "x.json") as part:
            seen.add(part.name)
            part.write_text("1")
    assert len(seen) == 8 and all(name.endswith(".part.json") for name in seen)
    opened: list[tuple[str, str]] = []
    real = Path.open

    def noted(self: Path, mode: str = "r", *arguments: object, **more: object) -> object:
        opened.append((self.name, mode))
        return real(self, mode, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(disk.Path, "open", noted)
    require_writable(tmp_path)
    require_writable(tmp_path)
    assert len(set(opened)) == 2 and {mode for _, mode in opened} == {"xb"}  # x follows no link
    assert not list(tmp_path.glob(".write-probe*"))


# ---- text that is none


def test_what_is_no_text_costs_no_recording(tmp_path: Path) -> None:
    assert decode_line(encode_line(EventLine(5, "gate \udcff"))) == EventLine(5, "gate ?")
    recorder = Recorder(RecordingConfig(directory=tmp_path, reserve_mb=1, self_check=False))
    recorder.describe(calibration="\ud800", settings={"app": {"\udcff": ["/mnt/\udcff", 1, {"x": "\ud800"}]}})
    recorder.start()
    recorder.mark("\ud800")
    for index in range(6):
        support.feed(recorder, support.frame_at(index))
    summary = recorder.stop(60)
    recorder.close()
    assert summary is not None and summary.frames["thermal"] == 6
    (video,) = list_recordings(tmp_path)
    content = read_sidecar(sidecar_path(video))
    assert content.damage == "" and content.header.config["app"] == {"?": ["/mnt/?", 1, {"x": "?"}]}
    assert [event.label for event in content.others if isinstance(event, EventLine)] == ["?"]


# ---- a stranger's detector


def detector(path: Path, names: str = "", shape: tuple[object, ...] = (1, 3, 32, 32), output: object = None) -> Path:
    """A model that gives out the same (1, N, 6) rows for every picture."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed; pip install onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rows = np.asarray([[[1, 1, 20, 20, 0.9, 0]]] if output is None else output, np.float32)
    rows = np.concatenate([rows, np.zeros((1, 5, 6), np.float32)], axis=1)  # a detector has some boxes
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stranger",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("output0", onnx.TensorProto.FLOAT, list(rows.shape))],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"names": names})
    onnx.save(model, str(path))
    return path


@pytest.fixture
def runtime() -> str:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; it alone tells names")
    return "onnxruntime"


@pytest.mark.parametrize(
    "names",
    [
        "{100000000000: 'a'}", "{-1: 'a', 2.5: 'b', (1, 2): 'c', 'd': 'e'}", "[" * 5000, "{0: " + "-" * 20000 + "1}",
        "{[]: 1}", "9" * 5000, "{True: 'x'}", "\x00", "('a',) * 10**9",
    ],
)  # fmt: skip
def test_names_of_a_strangers_model_take_neither_memory_nor_the_detector(
    tmp_path: Path, names: str, runtime: str
) -> None:
    model = DetectionModel(DetectConfig(model=detector(tmp_path / "a.onnx", names), runtime=runtime))  # type: ignore[arg-type]
    assert len(model._labels) <= 10_000
    (found,) = model.find(np.zeros((48, 64, 3), np.uint8))
    assert len(found.label) <= 64


def test_a_label_is_text_of_one_line(tmp_path: Path, runtime: str) -> None:
    names = "{0: 'a\\ud800\\n\\x1b[31m" + "x" * 200 + "'}"
    model = DetectionModel(DetectConfig(model=detector(tmp_path / "a.onnx", names), runtime=runtime))  # type: ignore[arg-type]
    (found,) = model.find(np.zeros((48, 64, 3), np.uint8))
    assert found.label == "a???[31m" + "x" * 56
    json.dumps(found.label, ensure_ascii=False).encode()


def test_a_model_that_wants_gigabytes_is_refused(tmp_path: Path) -> None:
    for side in (1_000_000, 0):
        file = detector(tmp_path / f"{side}.onnx", shape=(1, 3, side, side))
        with pytest.raises(BadInputError, match=r"detect\.model"):
            DetectionModel(DetectConfig(model=file))
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(600_000_000)
    with pytest.raises(BadInputError, match="600000000 bytes"):
        DetectionModel(DetectConfig(model=large))


def test_whatever_a_model_gives_out_the_detector_goes_on(tmp_path: Path) -> None:
    odd = [np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0]
    rows = np.asarray([[[a, b, 20, 20, 0.9, c] for a in odd for b in odd for c in odd]], np.float32)
    for number, output in enumerate((rows, [[[1, 1, 20, 20, 0.9, -3]]], [[[1, 1, 20, 20, 0.9, np.inf]]])):
        model = DetectionModel(DetectConfig(model=detector(tmp_path / f"{number}.onnx", output=output)))
        for each in model.find(np.zeros((48, 64, 3), np.uint8)):
            assert 0 <= each.left <= each.right <= 64 and each.label.startswith("class")
    many = np.random.default_rng(1).uniform(0, 1, (1, 84, 200_000)).astype(np.float32)
    boxes, _, scores = decode_yolo(many, 0.4, 0.5)
    assert 0 < len(boxes) <= 2000 and len(scores) == len(boxes)


# ---- the header of a stranger's recording


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    recorder = Recorder(RecordingConfig(directory=folder, reserve_mb=1, self_check=False))
    recorder.describe(calibration="0123456789abcdef")
    recorder.start()
    for index in range(4):
        support.feed(recorder, support.frame_at(index))
    recorder.stop(60)
    recorder.close()
    (video,) = list_recordings(folder)
    return video


NAMES = (5, [], {}, "\x00", "a" * 100_000, "/proc/kcore", "/dev/zero", "/dev/stdin", "/", ".", "../" * 5000, "\udcff")


@pytest.mark.parametrize(
    "app",
    [
        5, "x", [], [1], None, {"calibration": 5}, {"calibration": []}, {"sync": 5}, {"sync": {"hold_ms": 1e300}},
        {"sync": {"buffer_frames": 10**12}}, {"thermal": {"kelvin_per_count": 10**400}, "rig": {}},
        {"thermal": {"kelvin_per_count": 1e-320}}, {"thermal": {"kelvin_per_count": True, "uri": []}},
        {"simulation": {"thermal_gain": 10**400}}, *({"calibration": {"file": name}} for name in NAMES),
    ],
)  # fmt: skip
def test_a_header_may_say_what_it_likes(recorded: Path, app: object, tmp_path: Path) -> None:
    video = tmp_path / recorded.name
    video.write_bytes(recorded.read_bytes())
    first, _, rest = sidecar_path(recorded).read_bytes().partition(b"\n")
    header = json.loads(first)
    header["config"]["app"] = app
    sidecar_path(video).write_bytes(json.dumps(header).encode() + b"\n" + rest)
    try:
        source = open_source(video)
    except BadInputError as error:  # what is no JSON of ours is refused in words
        assert "sidecar" in str(error) or "line 1" in str(error)
        return
    assert len(source) == 4 and source.pair(3).thermal is not None
    assert source.calibration is None
    scale = scale_of(recorded_scale(source.config))
    assert scale is None or 0 <= scale.counts(20.0) <= 65535
    source.close()


@pytest.mark.parametrize("wall_ns", [2**62, -(2**62), 0])
def test_exports_take_any_time_and_no_formula(recorded: Path, tmp_path: Path, wall_ns: int) -> None:
    video = tmp_path / recorded.name
    video.write_bytes(recorded.read_bytes())
    lines = [json.loads(line) for line in sidecar_path(recorded).read_text().splitlines()]
    lines[0]["wall_start_ns"] = wall_ns
    for line in lines:
        if line["type"] == "frame":
            line["engine"] = "=HYPERLINK(1)"
    sidecar_path(video).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with RecordingReader(video) as reader:
        damaged = DamagedPairs()
        assert to_folder(reader, tmp_path / "pictures", 0, 2, None, damaged) == 2
        assert ",'=HYPERLINK" in (tmp_path / "pictures" / "pairs.csv").read_text()
        pytest.importorskip("mcap_ros2", reason="MCAP's library is not installed")
        assert to_mcap(reader, tmp_path / "a.mcap", 0, 2, None, damaged) == 2
