"""How weights lie in an export: in one file that the graphs share, or in the checkpoint's own.

A matrix that two graphs use, such as the words' embedding, is stored once. Matrices may be stored
in fp16 or int8. fp16 then goes through a ``Cast``, int8 through a ``DequantizeLinear`` with one
scale for each output channel, which runtimes compute once, when they load a graph: all runtimes
compute in fp32 with the same numbers. The numbers in int8 are those of ``showtell pack``
(``encoders/packing.py``), so that exporting a packed model rounds nothing twice. The graphs of an
export beside its checkpoint read them from the checkpoint's files (``stored.py``).
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from showtell.encoders.packing import SCALE, Storage, pack_weights
from showtell.export.stored import Found, StoredArrays

SMALLEST = 256  # numbers; smaller tensors stay in the graph
ALIGNMENT = 64  # bytes
MATRIX = "weight"
# Where the output channels of an operator's weight are; Gemm's depend on ``transB``.
CHANNELS = {"Conv": 0, "Gather": 0, "LSTM": 1, "GRU": 1, "RNN": 1}

Array = NDArray[np.generic]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where an array's bytes are."""

    file: str
    offset: int


@dataclass
class SharedWeights:
    """The bytes of the shared file.

    Attributes:
        location: the file's name.
        stored: what lies in the checkpoint's files, in the folder of the graphs; None if the
            export has a folder of its own.
        used: the names of those of the checkpoint's files that a graph reads.
        scales: of int8 weights, by the names of the initializers that have them.
    """

    location: str
    stored: StoredArrays | None = None
    content: bytearray = field(default_factory=bytearray)
    used: set[str] = field(default_factory=set)
    scales: dict[str, Floats] = field(default_factory=dict)
    _places: dict[bytes, int] = field(default_factory=dict)

    def move(
        self,
        model: onnx.ModelProto,
        storage: Storage,
        *,
        halves: Collection[str] = (),
        least: int = 0,
        whole: Collection[str] = (),
    ) -> None:
        """Move a graph's weights into the shared file, or let it read the checkpoint's.

        Args:
            model: is changed.
            storage: of its matrices, but for those that the checkpoint has.
            halves: with int8, the names of those that stay in fp16.
            least: with int8, those with fewer numbers stay in fp16.
            whole: the names of those that the graph will compute with in int8. Then runtimes do
                not compute what a ``DequantizeLinear`` gives once, so the others are multiplied.
        """
        channels = _channels(model)
        unpacking: list[onnx.NodeProto] = []
        kept: list[TensorProto] = []
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.size < SMALLEST:
                kept.append(tensor)
                continue
            found = self.stored.find(values) if self.stored is not None else None
            if found is not None:
                initializers, nodes = self._read(tensor.name, found)
            else:
                stays = tensor.name in halves or values.size < least
                kind: Storage = "fp16" if storage == "int8" and stays else storage
                kind = "int8" if tensor.name in whole else kind
                is_matrix = values.ndim >= 2 and values.dtype == np.float32
                initializers, nodes = self._write(
                    tensor.name,
                    values,
                    kind if is_matrix else "fp32",
                    channels.get(tensor.name, 0),
                )
            if whole and tensor.name not in whole:
                initializers, nodes = self._multiplied(initializers, nodes)
            kept += initializers
            unpacking += nodes
        nodes = [*unpacking, *model.graph.node]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.initializer.extend(kept)
        model.graph.node.extend(nodes)

    def _write(
        self, name: str, values: Array, storage: Storage, channel: int
    ) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
        """Put an array into the shared file; returns initializers, and nodes that unpack them."""
        data, scale = _packed(values, storage, channel)
        if data.dtype == values.dtype:
            return [_external(name, data, self._put(data))], []
        stored = _external(f"{name}.stored", data, self._put(data))
        return self._unpack(name, stored, scale, channel)

    def _read(self, name: str, found: Found) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
        """As ``_write``, for an array of the checkpoint, which stays where it is."""
        array = found.stored
        self.used.add(array.file)
        target = f"{name}.turned" if found.transposed else name
        is_packed = found.scale is not None or array.values.dtype == np.float16
        stored = _external(
            f"{target}.stored" if is_packed else target,
            array.values,
            Place(array.file, array.offset),
        )
        initializers: list[TensorProto] = [stored]
        nodes: list[onnx.NodeProto] = []
        if is_packed:
            initializers, nodes = self._unpack(target, stored, found.scale, 0)
        if found.transposed:
            nodes.append(helper.make_node("Transpose", [target], [name], perm=[1, 0]))
        return initializers, nodes

    def _unpack(
        self, name: str, stored: TensorProto, scale: Array | None, channel: int
    ) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
        """What makes the fp32 tensor ``name`` of one in fp16, or of one in int8 with its scales."""
        if scale is None:
            node = helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT)
            return [stored], [node]
        node = helper.make_node(
            "DequantizeLinear", [stored.name, f"{name}.scale"], [name], axis=channel
        )
        return [stored, self.written(f"{name}.scale", scale)], [node]

    def _multiplied(
        self, initializers: list[TensorProto], nodes: list[onnx.NodeProto]
    ) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
        """The same with a ``Cast`` and a ``Mul`` in place of each ``DequantizeLinear``."""
        dims = {tensor.name: len(tensor.dims) for tensor in initializers}
        kept, made = list(initializers), []
        for node in nodes:
            if node.op_type != "DequantizeLinear":
                made.append(node)
                continue
            (stored, scale), name = node.input, node.output[0]
            shape = [1] * dims[stored]
            shape[node.attribute[0].i] = -1
            kept = [tensor for tensor in kept if tensor.name != scale]
            kept.append(self.written(scale, self.scales[scale].reshape(shape)))
            made.append(helper.make_node("Cast", [stored], [f"{name}.wide"], to=TensorProto.FLOAT))
            made.append(helper.make_node("Mul", [f"{name}.wide", scale], [name]))
        return kept, made

    def written(self, name: str, values: Array) -> TensorProto:
        """The tensor ``name`` with its values in the shared file."""
        if name.endswith(".scale") and values.dtype == np.float32:
            self.scales[name] = values.astype(np.float32).ravel()
        return _external(name, values, self._put(values))

    def _put(self, values: Array) -> Place:
        """Write an array into the shared file, once for equal ones."""
        data = np.ascontiguousarray(values).tobytes()
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            self.content.extend(bytes(-len(self.content) % ALIGNMENT))
            self._places[key] = len(self.content)
            self.content.extend(data)
        return Place(self.location, self._places[key])


def _external(name: str, values: Array, place: Place) -> TensorProto:
    """A tensor whose values are in a file."""
    tensor = TensorProto(
        name=name,
        dims=values.shape,
        data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    # In this order, by which ``read_export`` knows references (``inference/exported.py``).
    entries = {"location": place.file, "offset": place.offset, "length": values.nbytes}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _packed(values: Array, storage: Storage, channel: int) -> tuple[Array, Array | None]:
    """As it is stored: the values, in int8 also the scales of its channels."""
    if storage == "fp32":
        return values, None
    rows = torch.from_numpy(np.moveaxis(values, channel, 0).copy())
    packed = pack_weights({MATRIX: rows}, storage)
    scale = packed.get(MATRIX + SCALE)
    stored = np.moveaxis(packed[MATRIX].numpy(), 0, channel)
    return stored, None if scale is None else scale.float().numpy()


def _channels(model: onnx.ModelProto) -> Mapping[str, int]:
    """For each initializer that an operator reads, which of its dimensions has the channels."""
    found: dict[str, int] = {}
    shapes = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        for name in node.input:
            if name not in shapes:
                continue
            if node.op_type == "MatMul":
                found[name] = shapes[name] - 1
            elif node.op_type == "Gemm":
                flags = {attribute.name: attribute.i for attribute in node.attribute}
                found[name] = 0 if flags.get("transB") else 1
            else:
                found.setdefault(name, CHANNELS.get(node.op_type, 0))
    return found
