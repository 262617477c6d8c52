"""Graphs that compute in int8 where it costs little, and rows of embeddings that stay packed.

All of it is done to graphs whose weights were moved already (``weights.py``), so the whole numbers
are those of the file, in the checkpoint or beside it, and only how they are multiplied changes:

- Products with a matrix in int8 become ``MatMulNBits`` of onnxruntime: each row of the other
  factor is rounded in blocks of ``BLOCK`` numbers when it is there, so that a picture's numbers do
  not depend on the others of its batch. The matrix stays in int8 in memory.
- From the first large convolution on, all are wrapped in ``QuantizeLinear`` and
  ``DequantizeLinear``, which runtimes turn into convolutions in int8 (Jacob et al. 2018, arXiv
  1712.05877). How activations are rounded is measured on pictures: per tensor, by the range with
  the least squared error. In lite2 the stages before it made nine tenths of the error and saved no
  time (docs/export.md). Convolutions in between cannot stay in fp32: onnxruntime would round their
  weights itself, with one scale for all channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from showtell.core.onnxruntime import onnxruntime
from showtell.export.weights import Array, SharedWeights

MICROSOFT = "com.microsoft"
BLOCKS = (128, 64, 32, 16)  # numbers of a row that share a scale when they are rounded
INT8_PRODUCTS = 4  # MatMulNBits' accuracy_level
LEAST_PRODUCT = 2**15  # numbers; a smaller matrix gains nothing
LEVELS = 255
SHARES = np.linspace(0.3, 1.0, 29)  # of an activation's range, tried as the range to round within
MOST_VALUES = 10**6  # of an activation, which are looked at
MOST_BIAS = np.float32(2**30)
RECTIFIERS = ("Clip", "Relu")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Packed:
    """An int8 initializer that a graph unpacks.

    Attributes:
        name: of the initializer.
        scale: name of that with its scales.
        axis: its dimension of the channels, which have a scale each.
        turned: whether its transpose is what is computed with.
    """

    name: str
    scale: str
    axis: int
    turned: bool


class _Graph:
    """A graph by the names of its tensors."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def packed(self, name: str) -> Packed | None:
        """What the matrix ``name`` is unpacked from; None if it is not in int8."""
        maker, turned = self.makers.get(name), False
        if maker is not None and maker.op_type == "Transpose":
            maker, turned = self.makers.get(maker.input[0]), True
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        stored = self.tensors.get(maker.input[0])
        if stored is None or stored.data_type != TensorProto.INT8:
            return None
        return Packed(maker.input[0], maker.input[1], _attribute(maker, "axis", 1), turned)


def multiply_in_int8(model: onnx.ModelProto, weights: SharedWeights) -> None:
    """Let onnxruntime multiply with int8 matrices as they are; other products stay as they are."""
    graph, nodes = _Graph(model), []
    for node in model.graph.node:
        made = _product(node, graph, weights) if node.op_type in ("MatMul", "Gemm") else None
        nodes += made or [node]
    _replace_nodes(model, nodes)
    if not any(each.domain == MICROSOFT for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _product(node: NodeProto, graph: _Graph, weights: SharedWeights) -> list[NodeProto] | None:
    """A product in int8 in place of ``node``, with the nodes that give it the matrix."""
    packed = graph.packed(node.input[1])
    if packed is None:
        return None
    # Of the matrix as it is stored, the dimension of what comes out, N.
    is_plain = not _attribute(node, "transB", 0)
    out = 0 if packed.turned == is_plain else 1
    shape = graph.tensors[packed.name].dims
    if len(shape) != 2 or packed.axis != out or np.prod(shape) < LEAST_PRODUCT:
        return None
    others = [_attribute(node, "transA", 0), _attribute(node, "alpha", 1.0) != 1.0]
    num_out, num_in = shape[out], shape[1 - out]
    block = next((size for size in BLOCKS if num_in % size == 0), None)
    if block is None or any(others) or _attribute(node, "beta", 1.0) != 1.0:
        return None
    name = f"{node.output[0]}.matrix"
    scale = np.repeat(weights.scales[packed.scale], num_in // block)
    graph.model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(128, np.uint8), f"{name}.sign"),
            numpy_helper.from_array(np.array([num_out, num_in // block, block]), f"{name}.shape"),
            weights.written(f"{name}.scale", scale),
        ]
    )
    # From two's complement to numbers around 128, as the operator wants them.
    nodes = [
        helper.make_node("Cast", [packed.name], [f"{name}.bytes"], to=TensorProto.UINT8),
        helper.make_node("BitwiseXor", [f"{name}.bytes", f"{name}.sign"], [f"{name}.levels"]),
    ]
    last = f"{name}.levels"
    if out == 1:
        nodes.append(helper.make_node("Transpose", [last], [f"{name}.turned"], perm=[1, 0]))
        last = f"{name}.turned"
    nodes.append(helper.make_node("Reshape", [last, f"{name}.shape"], [f"{name}.blocks"]))
    inputs = [node.input[0], f"{name}.blocks", f"{name}.scale"]
    if len(node.input) > 2:
        inputs += ["", "", node.input[2]]
    product = helper.make_node(
        "MatMulNBits",
        inputs,
        list(node.output),
        name=node.name,
        domain=MICROSOFT,
        K=num_in,
        N=num_out,
        bits=8,
        block_size=block,
        accuracy_level=INT8_PRODUCTS,
    )
    return [*nodes, product]


def look_up_packed_rows(model: onnx.ModelProto) -> None:
    """Unpack the rows that an embedding looks up, instead of the whole table, which takes memory.

    The numbers are the same.
    """
    graph, nodes = _Graph(model), []
    for node in model.graph.node:
        maker = graph.makers.get(node.input[0]) if node.op_type == "Gather" else None
        stored = graph.tensors.get(maker.input[0]) if maker is not None else None
        if (
            maker is None
            or maker.op_type != "Cast"
            or stored is None
            or stored.data_type != TensorProto.FLOAT16
        ):
            nodes.append(node)
            continue
        rows = f"{node.output[0]}.stored"
        nodes.append(
            helper.make_node(
                "Gather",
                [maker.input[0], node.input[1]],
                [rows],
                name=node.name,
                axis=_attribute(node, "axis", 0),
            )
        )
        nodes.append(helper.make_node("Cast", [rows], list(node.output), to=TensorProto.FLOAT))
    _replace_nodes(model, nodes)


@dataclass(frozen=True)
class Rounding:
    """How a tensor of activations is rounded to bytes: by a scale, and which byte is 0."""

    scale: np.float32
    zero: np.uint8


def late_convolutions(model: onnx.ModelProto, least: int) -> list[NodeProto]:
    """The convolutions from the first one on whose weights have ``least`` numbers or more."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    found = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in sizes]
    large = (number for number, node in enumerate(found) if sizes[node.input[1]] >= least)
    return found[next(large, len(found)) :]


def roundings(
    model: onnx.ModelProto, convolutions: Sequence[NodeProto], views: Array
) -> dict[str, Rounding]:
    """How to round what convolutions read and give, measured on pictures.

    Args:
        model: with its weights in it.
        views: (B, 3, S, S) uint8.
    """
    outputs = _rectified(model)
    names = list(
        dict.fromkeys(name for n in convolutions for name in (n.input[0], outputs[n.output[0]]))
    )
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {value.name for value in model.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in names
        if name not in given
    )
    session = onnxruntime.InferenceSession(watched.SerializeToString())
    seen: dict[str, list[Floats]] = {name: [] for name in names}
    for view in views:
        for name, found in zip(names, session.run(names, {"pixels": view[None]}), strict=True):
            values = found.ravel()
            kept = values[:: max(1, values.size * len(views) // MOST_VALUES)]
            seen[name].append(np.concatenate([kept, [values.min(), values.max()]]))
    return {name: _best_rounding(np.concatenate(values)) for name, values in seen.items()}


def _best_rounding(values: Floats) -> Rounding:
    """The one with the least squared error."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-6)
    best: tuple[float, Rounding] | None = None
    for share in SHARES:
        scale = np.float32((high - low) * share / LEVELS)
        zero = np.float32(np.round(-low * share / scale))
        rounded = (np.clip(np.round(values / scale) + zero, 0, LEVELS) - zero) * scale
        error = float(np.square(rounded - values).mean())
        if best is None or error < best[0]:
            best = error, Rounding(scale, np.uint8(zero))
    assert best is not None
    return best[1]


def convolve_in_int8(
    model: onnx.ModelProto,
    weights: SharedWeights,
    convolutions: Sequence[NodeProto],
    rounded: Mapping[str, Rounding],
    biases: Mapping[str, Floats],
) -> None:
    """Round what convolutions read and give, so that runtimes compute them in int8.

    Args:
        model: its weights were moved, those of the convolutions to int8.
        convolutions: of the model before that.
        rounded: as ``roundings`` gives it.
        biases: values of the convolutions' biases, by name.
    """
    graph, outputs = _Graph(model), _rectified(model)
    chosen = {node.output[0] for node in convolutions}
    replaced = {outputs[name] for name in chosen}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        is_chosen = node.op_type == "Conv" and node.output[0] in chosen
        if is_chosen:
            nodes += _whole_bias(node, graph, weights, rounded[node.input[0]], biases)
        for number, name in enumerate(node.input):
            if name in replaced or (is_chosen and number == 0):
                node.input[number] = f"{name}.rounded"
        nodes.append(node)
        nodes += [each for name in node.output if name in rounded for each in _around(name)]
    if "pixels" in rounded:
        nodes = [*_around("pixels"), *nodes]
    for name, how in rounded.items():
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.array(how.scale), f"{name}.scale"),
                numpy_helper.from_array(np.array(how.zero), f"{name}.zero"),
            ]
        )
    _replace_nodes(model, nodes)


def _whole_bias(
    node: NodeProto,
    graph: _Graph,
    weights: SharedWeights,
    given: Rounding,
    biases: Mapping[str, Floats],
) -> list[NodeProto]:
    """Give a convolution its bias in int32, in units of what the products are in.

    Of a channel that hardly depends on its input, the bias is too large a number for that. Its
    scale is then raised: what the input gives stays far below the bias.
    """
    packed = graph.packed(node.input[1])
    assert packed is not None and packed.axis == 0, node.input[1]
    if len(node.input) < 3:
        return []
    bias, name = biases[node.input[2]], f"{node.output[0]}.bias"
    scale = np.maximum(weights.scales[packed.scale], np.abs(bias) / (given.scale * MOST_BIAS))
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    unit = (scale * given.scale).astype(np.float32)
    raised = f"{name}.raised"
    graph.makers[node.input[1]].input[1] = raised
    node.input[2] = name
    graph.model.graph.initializer.extend(
        [
            weights.written(raised, scale),
            weights.written(f"{name}.stored", np.round(bias / unit).astype(np.int32)),
            weights.written(f"{name}.scale", unit),
        ]
    )
    inputs = [f"{name}.stored", f"{name}.scale"]
    return [helper.make_node("DequantizeLinear", inputs, [name], axis=0)]


def _around(name: str) -> list[NodeProto]:
    how = [f"{name}.scale", f"{name}.zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *how], [f"{name}.bytes"]),
        helper.make_node("DequantizeLinear", [f"{name}.bytes", *how], [f"{name}.rounded"]),
    ]


def _rectified(model: onnx.ModelProto) -> dict[str, str]:
    """For what each convolution gives, the name of it after ReLU, if that alone reads it."""
    readers = _Graph(model).readers
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            after = readers.get(node.output[0], [])
            is_rectified = len(after) == 1 and after[0].op_type in RECTIFIERS
            found[node.output[0]] = after[0].output[0] if is_rectified else node.output[0]
    return found


def _replace_nodes(model: onnx.ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Put nodes in place of a graph's, without those, and the weights, that nothing reads."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(copies)
    model.graph.initializer.extend(tensors)


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or what it is where the node has none."""
    found = (each for each in node.attribute if each.name == name)
    return next(map(helper.get_attribute_value, found), default)
