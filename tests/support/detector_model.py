"""Tiny ONNX detectors made by hand: they find the brightest place, and give it out as YOLO or DETR do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32  # of the input; a cell of the answer is CELL pixels
CELL = 8
_CELLS = (SIDE // CELL) ** 2


def _constant(name: str, values: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def _brightness() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """(1, 3, SIDE, SIDE) to `bright` (1, 1, cells): the mean of each cell."""
    nodes = [
        helper.make_node("ReduceMean", ["images", "axis"], ["grey"], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["pooled"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["pooled", "flat"], ["bright"]),
    ]
    shapes = [
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array([1, 1, _CELLS], np.int64), "flat"),
    ]
    return nodes, shapes


def _centres() -> np.ndarray:
    """(cells, 2): x and y of each cell's middle, px."""
    rows, columns = np.mgrid[0 : SIDE // CELL, 0 : SIDE // CELL]
    return np.stack([columns.ravel(), rows.ravel()], axis=1) * CELL + CELL / 2


def _save(
    path: Path, nodes: list[onnx.NodeProto], outputs: dict[str, list[int]], constants: list[onnx.TensorProto]
) -> Path:
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "brightest", [picture], given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"names": "{0: 'lamp', 1: 'nothing'}"})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def yolo(path: Path) -> Path:
    """`output0` (1, 4 + 2, cells): cx, cy, w, h in pixels of the input, then the score of `lamp`, and of `nothing`."""
    nodes, constants = _brightness()
    boxes = np.concatenate([_centres().T, np.full((2, _CELLS), CELL)], axis=0)[None]
    constants += [_constant("boxes", boxes), _constant("zero", np.zeros((1, 1, _CELLS)))]
    nodes.append(helper.make_node("Concat", ["boxes", "bright", "zero"], ["output0"], axis=1))
    return _save(path, nodes, {"output0": [1, 6, _CELLS]}, constants)


def detr(path: Path) -> Path:
    """`logits` (1, cells, 2) and `pred_boxes` (1, cells, 4), fractions of the picture. Not normalized by ImageNet."""
    nodes, constants = _brightness()
    boxes = np.concatenate([_centres(), np.full((_CELLS, 2), CELL)], axis=1)[None] / SIDE
    constants += [_constant("boxes", boxes), _constant("half", 0.5), _constant("steep", 12.0)]
    constants += [_constant("low", np.full((1, _CELLS, 1), -9.0))]
    nodes += [
        helper.make_node("Transpose", ["bright"], ["column"], perm=[0, 2, 1]),
        helper.make_node("Sub", ["column", "half"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["lamp"]),
        helper.make_node("Concat", ["lamp", "low"], ["logits"], axis=2),
        helper.make_node("Identity", ["boxes"], ["pred_boxes"]),
    ]
    return _save(path, nodes, {"logits": [1, _CELLS, 2], "pred_boxes": [1, _CELLS, 4]}, constants)
