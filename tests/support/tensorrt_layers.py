"""Computes a TensorRT network definition in torch on the CPU, layer by layer, each in the type that it has there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TensorRtNetwork"]

Compute = Callable[[Any, list[Tensor]], Tensor]


class TensorRtNetwork:
    """`tensorrt.INetworkDefinition`, run without a GPU and without building an engine."""

    def __init__(self, network: Any, tensorrt: Any, keep: object) -> None:
        """keep: holds the memory that the network's constants lie in."""
        self._network, self._trt, self._keep = network, tensorrt, keep
        kinds = tensorrt.DataType
        self._dtypes = {
            kinds.HALF: torch.float16, kinds.FLOAT: torch.float32, kinds.INT32: torch.int32, kinds.INT64: torch.int64,
            kinds.BOOL: torch.bool, kinds.INT8: torch.int8, kinds.UINT8: torch.uint8,
        }  # fmt: skip

    def layers(self) -> list[tuple[str, str]]:
        """Kind and type of the result of each layer: ("CONVOLUTION", "HALF")."""
        found = []
        for index in range(self._network.num_layers):
            layer = self._network.get_layer(index)
            found.append((layer.type.name, layer.get_output(0).dtype.name))
        return found

    def types(self) -> tuple[list[str], list[str]]:
        """Of the inputs and the outputs."""
        net = self._network
        inputs = [net.get_input(index).dtype.name for index in range(net.num_inputs)]
        return inputs, [net.get_output(index).dtype.name for index in range(net.num_outputs)]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        net = self._network
        values: dict[str, Tensor] = {}
        for index, given in enumerate(inputs):
            tensor = net.get_input(index)
            assert tuple(tensor.shape) == tuple(given.shape), (tensor.name, tensor.shape, given.shape)
            values[tensor.name] = given.to(self._dtypes[tensor.dtype])
        waiting = [net.get_layer(index) for index in range(net.num_layers)]
        while waiting:  # layers are not listed in the order in which they depend on each other
            later = []
            for layer in waiting:
                if not self._compute(layer, values):
                    later.append(layer)
            assert len(later) < len(waiting), f"{later[0].name} waits for itself"
            waiting = later
        return [values[net.get_output(index).name] for index in range(net.num_outputs)]

    def _compute(self, layer: Any, values: dict[str, Tensor]) -> bool:
        """Put the result of a layer with the other values; False while one that it needs is missing."""
        tensors = [layer.get_input(index) for index in range(layer.num_inputs)]
        if any(tensor is not None and tensor.name not in values for tensor in tensors):
            return False
        given = [values[tensor.name] if tensor is not None else None for tensor in tensors]
        kind = layer.type.name
        layer.__class__ = getattr(self._trt, _CLASSES.get(kind, f"I{kind.title().replace('_', '')}Layer"))
        result = getattr(self, f"_{kind.lower()}")(layer, given)
        target = layer.get_output(0)
        assert result.dtype == self._dtypes[target.dtype], (layer.name, result.dtype, target.dtype)
        assert tuple(result.shape) == tuple(target.shape), (layer.name, result.shape, target.shape)
        values[target.name] = result
        return True

    # ------------------------------------------------------------------ a method for each kind of layer

    def _activation(self, layer: Any, given: list[Tensor]) -> Tensor:
        known = {"RELU": torch.relu, "SIGMOID": torch.sigmoid, "TANH": torch.tanh}
        if layer.type.name == "CLIP":
            return given[0].clamp(layer.alpha, layer.beta)
        return known[layer.type.name](given[0])

    def _cast(self, layer: Any, given: list[Tensor]) -> Tensor:
        return given[0].to(self._dtypes[layer.to_type])

    def _identity(self, layer: Any, given: list[Tensor]) -> Tensor:
        return given[0].to(self._dtypes[layer.get_output(0).dtype])

    def _concatenation(self, layer: Any, given: list[Tensor]) -> Tensor:
        return torch.cat(given, dim=layer.axis)

    def _constant(self, layer: Any, given: list[Tensor]) -> Tensor:
        dtype = self._dtypes[layer.get_output(0).dtype]
        return _weights(layer.weights).to(dtype).reshape(tuple(layer.shape))

    def _convolution(self, layer: Any, given: list[Tensor]) -> Tensor:
        x = given[0]
        kernel = given[1] if len(given) > 1 and given[1] is not None else None
        if kernel is None:
            side = tuple(layer.kernel_size_nd)
            kernel = _weights(layer.kernel).to(x.dtype)
            kernel = kernel.reshape(layer.num_output_maps, x.shape[1] // layer.num_groups, *side)
        bias = given[2] if len(given) > 2 and given[2] is not None else None
        if bias is None:
            stored = _weights(layer.bias)
            bias = stored.to(x.dtype) if stored.numel() else None
        assert tuple(layer.pre_padding) == tuple(layer.post_padding)
        return F.conv2d(
            x, kernel, bias, tuple(layer.stride_nd), tuple(layer.padding_nd), tuple(layer.dilation_nd), layer.num_groups
        )

    def _elementwise(self, layer: Any, given: list[Tensor]) -> Tensor:
        a, b = given
        name = layer.op.name
        if name == "DIV" and not a.is_floating_point():
            return torch.div(a, b, rounding_mode="trunc")
        known: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "SUM": torch.add, "SUB": torch.sub, "PROD": torch.mul, "DIV": torch.div, "MAX": torch.maximum,
            "MIN": torch.minimum, "POW": torch.pow, "EQUAL": torch.eq, "LESS": torch.lt, "GREATER": torch.gt,
            "AND": torch.logical_and, "OR": torch.logical_or, "FLOOR_DIV": torch.floor_divide,
        }  # fmt: skip
        return known[name](a, b)

    def _gather(self, layer: Any, given: list[Tensor]) -> Tensor:
        x, index = given
        assert layer.num_elementwise_dims == 0
        assert layer.mode.name == "DEFAULT"
        found = torch.index_select(x, layer.axis, index.flatten().long())
        return found.reshape(*x.shape[: layer.axis], *index.shape, *x.shape[layer.axis + 1 :])

    def _grid_sample(self, layer: Any, given: list[Tensor]) -> Tensor:
        mode = {"LINEAR": "bilinear", "CUBIC": "bicubic", "NEAREST": "nearest"}[layer.interpolation_mode.name]
        padding = {"FILL": "zeros", "CLAMP": "border", "REFLECT": "reflection"}[layer.sample_mode.name]
        return F.grid_sample(given[0], given[1], mode=mode, padding_mode=padding, align_corners=layer.align_corners)

    def _matrix_multiply(self, layer: Any, given: list[Tensor]) -> Tensor:
        sides = []
        for x, op in zip(given, (layer.op0, layer.op1), strict=True):
            assert op.name in ("NONE", "TRANSPOSE")
            sides.append(x.transpose(-1, -2) if op.name == "TRANSPOSE" else x)
        return sides[0] @ sides[1]

    def _pooling(self, layer: Any, given: list[Tensor]) -> Tensor:
        assert tuple(layer.pre_padding) == tuple(layer.post_padding)
        window, stride, padding = tuple(layer.window_size_nd), tuple(layer.stride_nd), tuple(layer.padding_nd)
        if layer.type.name == "MAX":
            return F.max_pool2d(given[0], window, stride, padding)
        assert layer.type.name == "AVERAGE"
        with_padding = not layer.average_count_excludes_padding
        return F.avg_pool2d(given[0], window, stride, padding, count_include_pad=with_padding)

    def _reduce(self, layer: Any, given: list[Tensor]) -> Tensor:
        dims = _dims(layer.axes, given[0].dim())
        known: dict[str, Compute] = {"SUM": torch.sum, "AVG": torch.mean}  # type: ignore[dict-item]
        if layer.op.name == "MAX":
            return torch.amax(given[0], dims, keepdim=layer.keep_dims)
        return known[layer.op.name](given[0], dims, keepdim=layer.keep_dims)  # type: ignore[call-arg, arg-type]

    def _resize(self, layer: Any, given: list[Tensor]) -> Tensor:
        size = tuple(layer.get_output(0).shape)[2:]
        how, where = layer.resize_mode.name, layer.coordinate_transformation.name
        if how == "NEAREST":
            assert where == "ASYMMETRIC"
            return F.interpolate(given[0], size=size, mode="nearest")
        assert how == "LINEAR"
        corners = where == "ALIGN_CORNERS"
        assert corners or where == "HALF_PIXEL"
        return F.interpolate(given[0], size=size, mode="bilinear", align_corners=corners)

    def _select(self, layer: Any, given: list[Tensor]) -> Tensor:
        return torch.where(given[0], given[1], given[2])

    def _shape(self, layer: Any, given: list[Tensor]) -> Tensor:
        return torch.tensor(given[0].shape, dtype=torch.int64)

    def _shuffle(self, layer: Any, given: list[Tensor]) -> Tensor:
        x = given[0]
        x = x.permute([layer.first_transpose[i] for i in range(x.dim())])
        # The dimensions after the reshape are those of the result before the second transpose.
        out = tuple(layer.get_output(0).shape)
        second = [layer.second_transpose[i] for i in range(len(out))]
        middle = [0] * len(out)
        for position, source in enumerate(second):
            middle[source] = out[position]
        return x.reshape(middle).permute(second)

    def _slice(self, layer: Any, given: list[Tensor]) -> Tensor:
        x = given[0]

        def numbers(position: int, stored: Any) -> list[int]:
            if len(given) > position and given[position] is not None:
                return [int(value) for value in given[position].flatten()]
            return list(stored)

        start, stride = numbers(1, layer.start), numbers(3, layer.stride)
        shape = tuple(layer.get_output(0).shape)
        assert len(start) == x.dim()
        for dim in range(x.dim()):
            index = start[dim] + stride[dim] * torch.arange(shape[dim])
            if layer.mode.name == "CLAMP":
                index = index.clamp(0, x.shape[dim] - 1)
            elif layer.mode.name == "REFLECT":
                last = x.shape[dim] - 1
                index = last - (last - index.abs()).abs()
            else:
                assert layer.mode.name in ("STRICT_BOUNDS", "DEFAULT"), layer.mode
            x = x.index_select(dim, index)
        return x

    def _softmax(self, layer: Any, given: list[Tensor]) -> Tensor:
        (dim,) = _dims(layer.axes, given[0].dim())
        return torch.softmax(given[0], dim)

    def _unary(self, layer: Any, given: list[Tensor]) -> Tensor:
        known = {
            "EXP": torch.exp, "LOG": torch.log, "SQRT": torch.sqrt, "RECIP": torch.reciprocal, "ABS": torch.abs,
            "NEG": torch.neg, "NOT": torch.logical_not, "ROUND": torch.round, "FLOOR": torch.floor,
        }  # fmt: skip
        return known[layer.op.name](given[0])

    def _unsqueeze(self, layer: Any, given: list[Tensor]) -> Tensor:
        return given[0].reshape(tuple(layer.get_output(0).shape))

    _squeeze = _unsqueeze


_CLASSES = {
    "ELEMENTWISE": "IElementWiseLayer",
    "SOFTMAX": "ISoftMaxLayer",
    "CONCATENATION": "IConcatenationLayer",
}


def _weights(stored: Any) -> Tensor:
    return torch.from_numpy(np.array(stored if isinstance(stored, np.ndarray) else stored.numpy()))


def _dims(mask: int, count: int) -> tuple[int, ...]:
    return tuple(dim for dim in range(count) if mask >> dim & 1)
