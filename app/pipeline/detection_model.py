"""A detector of the user's as an ONNX file: reads it, runs it, and understands what YOLO and DETR kinds give out."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from app.configuration.detect import DetectConfig
from app.pipeline.onnx_file import check_onnx
from fusion_core.engines.openvino_runtime import load_openvino
from fusion_core.errors import BadInputError, EngineError
from fusion_core.frames import Detection

__all__ = ["DetectionModel", "decode_detr", "decode_yolo", "letterbox"]

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], list[Floats]]
_MEAN = np.array((0.485, 0.456, 0.406), np.float32)  # of ImageNet, which DETR models were trained with
_DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)
_GREY = 114  # around a picture of another shape, as YOLO is trained
_FREE_PX = 640  # of an input whose size the file leaves open
_MOST = 100  # boxes of a picture
_MOST_CANDIDATES = 2000  # that are held against each other
_MOST_SIDE = 4096  # of the input, px
_MOST_CLASSES = 10_000
_MOST_NAMES = 1_000_000  # characters of all names
_LABEL = 64  # characters of a name


@dataclass(frozen=True, slots=True)
class _Session:
    """A file that is open: how to run it, its input, and the names of its classes."""

    run: Run
    height: int
    width: int
    names: tuple[str, ...]
    outputs: int
    runtime: str


class DetectionModel:
    """Finds things in pictures. One owner thread.

    Raises:
        BadInputError: the file is missing, damaged, or no detector. EngineError: no runtime can run it.
    """

    def __init__(self, config: DetectConfig) -> None:
        self._config = config
        if not config.model.exists():
            raise BadInputError(f"detect.model: {config.model} does not exist; wanted an ONNX file")
        try:
            check_onnx(config.model)
        except OSError as error:
            raise BadInputError(f"detect.model: {config.model} cannot be read: {error.strerror}") from error
        self._session = _open(config)
        self._kind = config.kind
        if self._kind == "auto":
            self._kind = "yolo" if self._session.outputs == 1 else "detr"
        if self._kind == "detr" and self._session.outputs < 2:
            raise BadInputError(f"detect.model: {config.model} has one output; a DETR has boxes and logits")
        self._labels = config.labels or self._session.names

    @property
    def name(self) -> str:
        """Runtime and file, for the user."""
        return f"{self._session.runtime}:{self._config.model.stem}"

    def find(self, picture: np.ndarray) -> tuple[Detection, ...]:
        """What it sees, the surest first.

        Args:
            picture: (H, W, 3) uint8 RGB or (H, W) uint8.

        Raises:
            EngineError: the model failed, or gives out what neither kind does.
        """
        rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        config, session = self._config, self._session
        height, width = rgb.shape[:2]
        if self._kind == "yolo":
            fitted, scale, (top, left) = letterbox(rgb, session.height, session.width)
        else:
            fitted = np.asarray(cv2.resize(rgb, (session.width, session.height), interpolation=cv2.INTER_LINEAR))
        tensor = fitted.astype(np.float32) / np.float32(255.0)
        if config.normalize == "imagenet" or (config.normalize == "auto" and self._kind == "detr"):
            tensor = (tensor - _MEAN) / _DEVIATION
        try:
            outputs = [_sound(each) for each in session.run(np.ascontiguousarray(tensor.transpose(2, 0, 1)[None]))]
        except Exception as error:  # each runtime has its own; whatever it is, this picture has no boxes
            raise EngineError(f"detect.model {config.model.name} failed: {str(error)[:300]}") from error
        if self._kind == "yolo":
            boxes, classes, scores = decode_yolo(outputs[0], config.confidence, config.overlap)
            boxes = (boxes - np.array((left, top, left, top), np.float32)) / np.float32(scale)
        else:
            boxes, classes, scores = decode_detr(outputs, config.confidence, config.scores == "softmax")
            boxes = boxes * np.array((width, height, width, height), np.float32)
        return self._detections(boxes, classes, scores, height, width)

    def _detections(
        self, boxes: Floats, classes: np.ndarray, scores: Floats, height: int, width: int
    ) -> tuple[Detection, ...]:
        found = []
        for number in np.argsort(-scores)[:_MOST]:
            index = int(classes[number])
            label = self._labels[index] if 0 <= index < len(self._labels) else f"class {index}"
            if self._config.only and label not in self._config.only:
                continue
            left, right = np.clip(boxes[number][[0, 2]], 0, width)
            top, bottom = np.clip(boxes[number][[1, 3]], 0, height)
            if right - left >= 1 and bottom - top >= 1:
                confidence = round(float(scores[number]), 3)
                sides = (round(float(side), 1) for side in (top, left, bottom, right))
                found.append(Detection(label, confidence, *sides))
        return tuple(found)


def _sound(output: Floats) -> Floats:
    """Without what is no number, and within what a box, a score or a class may be."""
    return np.clip(np.nan_to_num(output, nan=0.0, posinf=0.0, neginf=0.0), -1e6, 1e6)


def letterbox(picture: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, tuple[int, int]]:
    """Fit (H, W, 3) into height x width without stretching it; (picture, scale, (top, left) of what was put in)."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    tall, wide = max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale))
    top, left = (height - tall) // 2, (width - wide) // 2
    fitted = np.full((height, width, 3), _GREY, np.uint8)
    fitted[top : top + tall, left : left + wide] = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_LINEAR)
    return fitted, scale, (top, left)


def decode_yolo(output: Floats, confidence: float, overlap: float) -> tuple[Floats, np.ndarray, Floats]:
    """Boxes (N, 4) x0, y0, x1, y1 in pixels of the input, classes (N,), scores (N,).

    Args:
        output: (1, 4 + C, N) as YOLOv8 and later give it, (1, N, 5 + C) as YOLOv5, or (1, N, 6) of models that end in
            their own choice of boxes.

    Raises:
        EngineError: another shape.
    """
    if output.ndim != 3 or output.shape[0] != 1 or min(output.shape[1:]) < 5:
        raise EngineError(f"a YOLO output is (1, 4 + classes, boxes), got {output.shape}; set detect.kind")
    rows = output[0]
    if rows.shape[1] == 6 and rows.shape[0] <= 1000 and _ends_in_choice(rows):
        kept = rows[rows[:, 4] >= confidence]
        return kept[:, :4], kept[:, 5].astype(np.int64), kept[:, 4]
    if rows.shape[0] < rows.shape[1]:
        rows, scores = rows.T, rows.T[:, 4:]
    else:
        scores = rows[:, 5:] * rows[:, 4:5]
    classes = scores.argmax(axis=1)
    best = scores.max(axis=1)
    sure = best >= confidence
    rows, classes, best = rows[sure], classes[sure], best[sure]
    if len(best) > _MOST_CANDIDATES:
        first = np.argpartition(-best, _MOST_CANDIDATES)[:_MOST_CANDIDATES]
        rows, classes, best = rows[first], classes[first], best[first]
    half = rows[:, 2:4] / 2
    boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1).astype(np.float32)
    if not len(boxes):
        return boxes, classes, best
    flat = np.concatenate([boxes[:, :2], rows[:, 2:4]], axis=1).tolist()
    kept = np.asarray(cv2.dnn.NMSBoxesBatched(flat, best.tolist(), classes.tolist(), confidence, overlap), np.int64)
    return boxes[kept], classes[kept], best[kept]


def _ends_in_choice(rows: Floats) -> bool:
    """Whether rows are x0, y0, x1, y1, score, class: whole classes, and right of left."""
    whole = bool(np.all(rows[:, 5] == np.round(rows[:, 5])))
    return whole and bool(np.all(rows[:, 2] >= rows[:, 0])) and bool(np.all(rows[:, 3] >= rows[:, 1]))


def decode_detr(outputs: Sequence[Floats], confidence: float, softmax: bool) -> tuple[Floats, np.ndarray, Floats]:
    """Boxes (N, 4) x0, y0, x1, y1 as fractions of the picture, classes (N,), scores (N,).

    Args:
        outputs: boxes (1, N, 4) cx, cy, w, h in [0, 1] and logits (1, N, C), in either order.

    Raises:
        EngineError: there are no such two.
    """
    boxes = next((each for each in reversed(outputs) if each.ndim == 3 and each.shape[2] == 4), None)
    logits = next((e for e in outputs if e is not boxes and e.ndim == 3 and boxes is not None
                   and e.shape[1] == boxes.shape[1]), None)  # fmt: skip
    if boxes is None or logits is None:
        shapes = ", ".join(str(each.shape) for each in outputs)
        raise EngineError(f"a DETR gives out boxes (1, N, 4) and logits (1, N, classes), got {shapes}; set detect.kind")
    if softmax:
        raised = np.exp(logits[0] - logits[0].max(axis=1, keepdims=True))
        scores = (raised / raised.sum(axis=1, keepdims=True))[:, :-1]
    else:
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits[0], -60.0, 60.0)))
    classes, best = scores.argmax(axis=1), scores.max(axis=1).astype(np.float32)
    sure = best >= confidence
    centre, half = boxes[0][sure, :2], boxes[0][sure, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1), classes[sure], best[sure]


def _open(config: DetectConfig) -> _Session:
    """With ONNX Runtime, or OpenVINO."""
    if config.runtime != "openvino":
        try:
            return _open_onnxruntime(config, importlib.import_module("onnxruntime"))
        except ImportError as error:
            if config.runtime == "onnxruntime":
                raise EngineError("detect.runtime is onnxruntime, which is missing; pip install onnxruntime") from error
    try:
        return _open_openvino(config, load_openvino())
    except ImportError as error:
        raise EngineError("the detector needs ONNX Runtime or OpenVINO; pip install onnxruntime") from error


def _open_onnxruntime(config: DetectConfig, runtime: Any) -> _Session:
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = config.threads, 1
    options.log_severity_level = 3
    wanted = [name for name in runtime.get_available_providers() if name.startswith(("CUDA", "CPU"))]
    try:
        session = runtime.InferenceSession(str(config.model), options, providers=wanted)
    except Exception as error:  # its own kinds
        raise BadInputError(f"detect.model: {config.model} cannot be opened: {str(error)[:300]}") from error
    (first, *more) = session.get_inputs()
    _check_input(config, first.shape, len(more))
    height, width = (side if isinstance(side, int) else _FREE_PX for side in first.shape[2:])
    count = len(session.get_outputs())
    names = _names(session.get_modelmeta().custom_metadata_map)
    run: Run = lambda tensor: [np.asarray(each, np.float32) for each in session.run(None, {first.name: tensor})]  # noqa: E731
    return _Session(run, height, width, names, count, "onnxruntime")


def _open_openvino(config: DetectConfig, ov: Any) -> _Session:
    core = ov.Core()
    try:
        model = core.read_model(str(config.model))
        shape = [None if side.is_dynamic else side.get_length() for side in model.inputs[0].get_partial_shape()]
        _check_input(config, shape, len(model.inputs) - 1)
        height, width = (side if isinstance(side, int) else _FREE_PX for side in shape[2:])
        model.reshape({model.inputs[0]: [1, 3, height, width]})
        compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": config.threads})
    except RuntimeError as error:
        raise BadInputError(f"detect.model: {config.model} cannot be opened: {str(error)[:300]}") from error
    info = model.get_rt_info() if hasattr(model, "get_rt_info") else {}
    names = _names({"names": str(info["framework"]["names"].value)} if "framework" in info else {})
    run: Run = lambda tensor: [np.asarray(each, np.float32) for each in compiled([tensor]).values()]  # noqa: E731
    return _Session(run, height, width, names, len(model.outputs), "openvino")


def _check_input(config: DetectConfig, shape: Sequence[Any], more: int) -> None:
    if more or len(shape) != 4 or (shape[1] not in (3, None) and isinstance(shape[1], int)):
        raise BadInputError(
            f"detect.model: {config.model} takes {shape} and {more} more inputs; wanted one picture (1, 3, H, W)"
        )
    if not all(1 <= side <= _MOST_SIDE for side in shape[2:] if isinstance(side, int)):
        raise BadInputError(
            f"detect.model: {config.model} takes pictures of {shape[2]}x{shape[3]}; wanted 1 to {_MOST_SIDE} px a side"
        )


def _names(facts: Mapping[str, str]) -> tuple[str, ...]:
    """The classes that a file names itself, as Ultralytics writes them: {0: 'person', ...}."""
    text = facts.get("names", "")
    if len(text) > _MOST_NAMES:
        raise BadInputError(f"detect.model: its names have {len(text)} characters; at most {_MOST_NAMES} are read")
    try:
        named = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ()
    if isinstance(named, list | tuple):
        named = dict(enumerate(named[:_MOST_CLASSES]))
    if not isinstance(named, dict):
        return ()
    known = {n: name for n, name in named.items() if isinstance(n, int) and 0 <= n < _MOST_CLASSES}
    return tuple(_label(known.get(number, f"class {number}")) for number in range(max(known, default=-1) + 1))


def _label(name: object) -> str:
    """A name as text that can stand in a line: no control characters, nothing that cannot be encoded."""
    text = str(name)[:_LABEL].encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "?" for letter in text)
