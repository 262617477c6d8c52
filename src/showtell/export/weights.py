"""How weights lie in an export: all in one file that the graphs share, each of them once.

A matrix that two graphs use, such as the words' embedding, is stored once. Matrices may be stored
in fp16 or int8. Each then goes through a ``Cast``, in int8 also through a ``Mul`` with one scale
for each output channel, which runtimes compute once, when they load a graph: all runtimes compute
in fp32 with the same numbers. The numbers in int8 are those of ``showtell pack``
(``inference/weights.py``), so that exporting a packed model rounds nothing twice.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from showtell.inference.weights import SCALE, Storage, pack_weights

SMALLEST = 256  # numbers; smaller tensors stay in the graph
ALIGNMENT = 64  # bytes
MATRIX = "weight"
# Where the output channels of an operator's weight are; Gemm's depend on ``transB``.
CHANNELS = {"Conv": 0, "Gather": 0, "LSTM": 1, "GRU": 1, "RNN": 1}


@dataclass
class SharedWeights:
    """The bytes of the shared file.

    Attributes:
        location: the file's name.
    """

    location: str
    content: bytearray = field(default_factory=bytearray)
    _places: dict[bytes, int] = field(default_factory=dict)

    def move(
        self,
        model: onnx.ModelProto,
        storage: Storage,
        *,
        halves: Collection[str] = (),
        least: int = 0,
    ) -> None:
        """Move a graph's weights into the shared file.

        Args:
            model: is changed.
            storage: of its matrices.
            halves: with int8, the names of those that stay in fp16.
            least: with int8, those with fewer numbers stay in fp16.
        """
        channels = _channels(model)
        unpacking: list[onnx.NodeProto] = []
        kept: list[TensorProto] = []
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.size < SMALLEST:
                kept.append(tensor)
                continue
            stays = tensor.name in halves or values.size < least
            kind: Storage = "fp16" if storage == "int8" and stays else storage
            is_matrix = values.ndim >= 2 and values.dtype == np.float32
            parts = _packed(values, kind if is_matrix else "fp32", channels.get(tensor.name, 0))
            if len(parts) == 1 and parts[0].dtype == values.dtype:
                kept.append(self._stored(tensor.name, parts[0]))
                continue
            stored, *scale = parts
            kept.append(self._stored(f"{tensor.name}.stored", stored))
            wide = f"{tensor.name}.wide" if scale else tensor.name
            unpacking.append(
                helper.make_node("Cast", [f"{tensor.name}.stored"], [wide], to=TensorProto.FLOAT)
            )
            if scale:
                kept.append(numpy_helper.from_array(scale[0], f"{tensor.name}.scale"))
                unpacking.append(
                    helper.make_node("Mul", [wide, f"{tensor.name}.scale"], [tensor.name])
                )
        nodes = [*unpacking, *model.graph.node]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.initializer.extend(kept)
        model.graph.node.extend(nodes)

    def _stored(self, name: str, values: NDArray[np.generic]) -> TensorProto:
        """A tensor whose values are in the shared file, once for equal ones."""
        data = np.ascontiguousarray(values).tobytes()
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            self.content.extend(bytes(-len(self.content) % ALIGNMENT))
            self._places[key] = len(self.content)
            self.content.extend(data)
        tensor = TensorProto(
            name=name,
            dims=values.shape,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": self.location, "offset": self._places[key], "length": len(data)}
        for entry, value in place.items():
            tensor.external_data.add(key=entry, value=str(value))
        return tensor


def _packed(
    values: NDArray[np.generic], storage: Storage, channel: int
) -> list[NDArray[np.generic]]:
    """As it is stored: the values, in int8 also the scales, in a shape that multiplies them."""
    if storage == "fp32":
        return [values]
    rows = torch.from_numpy(np.moveaxis(values, channel, 0).copy())
    packed = pack_weights({MATRIX: rows}, storage)
    stored = [np.moveaxis(packed[MATRIX].numpy(), 0, channel)]
    scale = packed.get(MATRIX + SCALE)
    if scale is not None:
        shape = [1] * values.ndim
        shape[channel] = values.shape[channel]
        stored.append(scale.float().numpy().reshape(shape))
    return stored


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
