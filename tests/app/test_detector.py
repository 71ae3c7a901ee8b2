"""The detector: ONNX models of both kinds by both runtimes; boxes on pictures, in the sidecar, as a trigger."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from support.detector_model import detr, yolo

from app.configuration.detect import DetectConfig
from app.configuration.service import TriggerConfig
from app.pipeline.detection_model import DetectionModel, decode_yolo, letterbox
from app.pipeline.live_fusion import LiveFusion
from app.recording.reader import RecordingReader
from app.rig.setup_assistant import simulated_config
from app.service.state.log_ring import LogRing
from app.service.state.metrics import MetricsCollector, ServiceFigures, make_registry, render_metrics
from app.service.state.operations import Operations
from app.service.state.preview import picture_of
from app.service.tasks.triggers import Rule
from app.view.boxes import boxed
from app.view.composer import ViewComposer
from app.view.settings import Viewport, ViewSettings
from fusion_core.errors import BadInputError, EngineError
from fusion_core.frames import Detection, FramePair, FusedFrame

pytest.importorskip("onnx", reason="onnx is not installed; pip install onnx")
KINDS = {"yolo": yolo, "detr": detr}


def lamp(height: int = 120, width: int = 160) -> np.ndarray:
    """Dark, with a bright square whose middle is at row 75, column 100."""
    picture = np.full((height, width, 3), 20, np.uint8)
    picture[60:90, 85:115] = 255
    return picture


def model(path: Path, kind: str, **more: object) -> DetectionModel:
    file = KINDS[kind](path / f"{kind}.onnx")
    return DetectionModel(DetectConfig.model_validate({"model": file, "normalize": "none", **more}))


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_both_kinds_find_the_lamp_with_both_runtimes(tmp_path: Path, kind: str, runtime: str) -> None:
    if runtime == "onnxruntime":
        pytest.importorskip("onnxruntime")
    found = model(tmp_path, kind, runtime=runtime, confidence=0.4).find(lamp())
    assert found
    best = found[0]
    assert best.label == ("lamp" if runtime == "onnxruntime" else best.label) and best.confidence >= 0.4
    assert best.top <= 75 <= best.bottom and best.left <= 100 <= best.right
    assert found == tuple(sorted(found, key=lambda each: -each.confidence))


def test_grey_pictures_names_and_classes_that_count(tmp_path: Path) -> None:
    named = model(tmp_path, "yolo", labels=("hot", "cold"), only=("hot",), confidence=0.3)
    found = named.find(lamp()[..., 0])
    assert {each.label for each in found} == {"hot"}
    assert model(tmp_path, "yolo", labels=("hot", "cold"), only=("cold",)).find(lamp()) == ()


def test_a_letterbox_is_undone() -> None:
    fitted, scale, (top, left) = letterbox(lamp(), 64, 64)
    assert fitted.shape == (64, 64, 3) and scale == 0.4 and (top, left) == (8, 0)
    assert (fitted[:8] == 114).all() and fitted[top + 30, left + 40, 0] == 255


def test_outputs_of_every_yolo() -> None:
    box = (50.0, 40.0, 20.0, 10.0)  # cx, cy, w, h
    overlapping = (51.0, 40.0, 20.0, 10.0)
    new = np.array([[*box, 0.1, 0.9], [*overlapping, 0.1, 0.8], *[[0.0] * 6] * 8], np.float32).T[None]
    old = np.array([[*box, 1.0, 0.1, 0.9], *[[0.0] * 7] * 9], np.float32)[None]
    chosen = np.array([[40.0, 35.0, 60.0, 45.0, 0.9, 1.0], *[[0.0] * 6] * 9], np.float32)[None]
    for output in (new, old, chosen):
        boxes, classes, scores = decode_yolo(output, 0.5, 0.5)
        assert boxes.tolist() == [[40.0, 35.0, 60.0, 45.0]] and classes.tolist() == [1]
        assert scores[0] == pytest.approx(0.9)
    with pytest.raises(EngineError, match=r"detect\.kind"):
        decode_yolo(np.zeros((1, 3, 4, 5), np.float32), 0.5, 0.5)


def test_a_file_that_is_no_detector_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    for file, runtime in ((bad, "openvino"), (bad, "auto"), (tmp_path / "none.onnx", "auto")):
        with pytest.raises(BadInputError, match=r"detect\.model"):
            DetectionModel(DetectConfig(model=file, runtime=runtime))  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="one output"):
        DetectionModel(DetectConfig(model=yolo(tmp_path / "one.onnx"), kind="detr"))


def test_the_name_alone_is_a_configuration(tmp_path: Path) -> None:
    config = simulated_config(detect=str(tmp_path / "x.onnx"))
    assert config.detector is not None and config.detector.model == tmp_path / "x.onnx"


def frame(detections: tuple[Detection, ...]) -> FusedFrame:
    from support.recording import frame_at

    whole = frame_at(0)
    return FusedFrame(whole.pixels, FramePair(whole.pair.visible, whole.pair.thermal), 1.0, "x", detections=detections)


def test_boxes_are_drawn_on_stream_and_screen_and_nowhere_else() -> None:
    seen = frame((Detection("person", 0.9, 30.0, 40.0, 90.0, 100.0),))
    plain, shown = seen.pixels, picture_of(seen, "fused")
    assert shown is not None and not np.array_equal(shown, plain)
    assert np.array_equal(shown[45:80, 50:90], plain[45:80, 50:90])  # inside the box nothing is touched
    assert boxed(plain, ()) is plain
    for height, width in ((120, 160), (240, 320)):
        without = ViewComposer().compose(frame(()), ViewSettings(), Viewport(), height, width)
        with_box = ViewComposer().compose(seen, ViewSettings(), Viewport(), height, width)
        changed = (without != with_box).any(axis=2)[int(36 * height / 120) :]  # below the label, which is wider
        rows, columns = np.nonzero(changed)
        rows += int(36 * height / 120)
        scale = height / 120
        assert abs(columns.min() - 40 * scale) <= 4 and abs(columns.max() - 100 * scale) <= 6
        assert rows.max() == pytest.approx(90 * scale, abs=4)


def test_a_trigger_fires_on_its_labels_after_its_time() -> None:
    rule = Rule(TriggerConfig(name="p", kind="detection", labels=("person",), hold_s=1.0, cooldown_s=5.0), None)  # type: ignore[arg-type]
    person, cat = Detection("person", 0.9, 0, 0, 9, 9), Detection("cat", 0.9, 0, 0, 9, 9)
    assert not rule.on_detections(0.0, [cat]) and not rule.on_detections(1.0, [person])
    assert not rule.on_detections(1.5, [cat]) and not rule.on_detections(2.0, [person])
    assert rule.on_detections(3.0, [person, cat]) and not rule.on_detections(4.0, [person])
    assert not rule.on_time(0.0, datetime.now()) and not rule.on_picture(0.0, np.zeros((4, 4), np.uint16))


def metrics(live: LiveFusion) -> dict[str, float]:
    """What Prometheus reads of the detector."""
    assert live.detector is not None
    figures = ServiceFigures(detector=live.detector.figures)
    text = render_metrics(make_registry(MetricsCollector(live.stats.snapshot, lambda: figures, {"rig": "x"}))).decode()
    found = re.findall(r'(?m)^(lumitherm_detector_\w+)\{rig="x"\} (\S+)$', text)
    return {name: float(value) for name, value in found}


def test_live_boxes_reach_the_api_and_the_sidecar_and_fusion_does_not_wait(tmp_path: Path) -> None:
    """The detector is slowed down to two pictures a second; the fusion keeps its rate."""
    small = {"width": 160, "height": 120, "thermal_width": 160, "thermal_height": 120}
    config = simulated_config(
        detect={"model": str(yolo(tmp_path / "m.onnx")), "max_fps": 2, "confidence": 0.05, "hold_ms": 5000},
        engine={"name": "average"}, simulation=small,
        recording={"directory": tmp_path / "rec", "autostart": True, "reserve_mb": 1, "split_s": 0},
    )  # fmt: skip
    live = LiveFusion(config)
    operations = Operations(live, LogRing(), dict)
    live.start()
    try:
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s:
            status = operations.call("status", {})
            if status["detections"] and status["detector"]["looked"] >= 3:
                break
            time.sleep(0.05)
        assert status["detections"][0]["confidence"] >= 0.05 and status["detector"]["failed"] == ""
        assert live.stats.snapshot().frames["fused"] > 2 * status["detector"]["looked"]
        assert status["detector"]["passed"] > status["detector"]["looked"]
        scraped = metrics(live)
        assert scraped["lumitherm_detector_running"] == 1 and scraped["lumitherm_detector_seconds"] > 0
        assert scraped["lumitherm_detector_looked_total"] >= status["detector"]["looked"]
        assert scraped["lumitherm_detector_passed_total"] >= status["detector"]["passed"]
    finally:
        live.stop(10.0)
    assert live.recording.summary is not None
    with RecordingReader(live.recording.summary.segments[0].path) as reader:
        marked = [reader.line(index) for index in range(len(reader)) if reader.line(index).detections]
        assert marked and marked[0].detections[0][1] >= 0.05
        with_boxes = reader.fused_frame(marked[0].n if marked[0].n < len(reader) else len(reader) - 1)
        assert with_boxes is not None and all(isinstance(each, Detection) for each in with_boxes.detections)


def test_a_model_that_is_missing_is_told_and_pictures_go_on(tmp_path: Path) -> None:
    live = LiveFusion(simulated_config(
        detect=str(tmp_path / "none.onnx"), engine={"name": "average"}, recording={"directory": tmp_path},
        simulation={"width": 160, "height": 120, "thermal_width": 160, "thermal_height": 120},
    ))  # fmt: skip
    live.start()
    try:
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s and not (
            live.stats.snapshot().frames["fused"] > 5 and live.detector is not None and live.detector.figures.failed
        ):
            time.sleep(0.05)
        assert any("none.onnx" in problem.text for problem in live.problems.recent())
        assert live.failure is None and live.stats.snapshot().frames["fused"] > 5
        assert metrics(live)["lumitherm_detector_running"] == 0
    finally:
        live.stop(10.0)
