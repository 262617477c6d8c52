"""Which weights of a graph lie in a checkpoint's own files already, and where.

A ``.safetensors`` file has raw arrays behind its header, and ONNX may take an initializer's values
from any place of a file in the graph's folder. So the graphs of an export that lies in the
checkpoint's folder read the checkpoint's numbers where they are; only what differs is written anew.

Weights are found by their values and not by their names: the tracer names transposed matrices anew
and multiplies batch norms into convolutions. An array is found if it is a stored one, or its
transpose, exactly, or, for int8, the stored whole numbers with other scales: a folded batch norm
changes the scales alone. An array that is not found exactly so counts as not stored.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from showtell.core.files import read_bounded
from showtell.encoders.packing import SCALE, Storage
from showtell.inference.weights import SUFFIX

Array = NDArray[Any]

DTYPES = {"F32": "<f4", "F16": "<f2", "I8": "|i1", "I64": "<i8", "I32": "<i4"}
BF16 = "BF16"
MOST_BYTES = 2**33
# Of a weight's size; a scale that was multiplied in fp32 is off by less.
TOLERANCE = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Stored:
    """An array in a file.

    Attributes:
        file: its name.
        offset: of its first byte.
        values: as they are stored.
        scale: (M,) fp32, of the rows of int8 values (M, ...); None for other types.
    """

    file: str
    offset: int
    values: Array
    scale: Array | None


@dataclass(frozen=True)
class Found:
    """How a graph's array is made from a stored one.

    Attributes:
        stored: the array.
        scale: as ``Stored.scale``, with what was multiplied into it.
        transposed: whether the graph has its transpose.
    """

    stored: Stored
    scale: Array | None
    transposed: bool


class StoredArrays:
    """The arrays in the files of a checkpoint.

    Args:
        folder: of the checkpoint.
        files: names of its ``.safetensors`` files.

    Attributes:
        storage: how most of the matrices are stored.

    Raises:
        OSError, ValueError: one cannot be read.
    """

    def __init__(self, folder: Path, files: list[str]) -> None:
        self._by_size: dict[int, list[Stored]] = defaultdict(list)
        self.storage: Storage = "fp32"
        for name in files:
            for stored in _arrays_of(folder / name):
                self._by_size[stored.values.size].append(stored)
                if stored.scale is not None:
                    self.storage = "int8"
                elif stored.values.dtype == np.float16 and self.storage == "fp32":
                    self.storage = "fp16"

    def find(self, values: Array) -> Found | None:
        """Where the values of a graph's initializer are stored; None if nowhere."""
        for stored in self._by_size[values.size]:
            for transposed in (False, True):
                turned = values.T if transposed else values
                if transposed and (values.ndim != 2 or min(values.shape) == 1):
                    continue
                if turned.shape != stored.values.shape:
                    continue
                scale = None
                if stored.scale is not None and turned.dtype == np.float32:
                    scale = _scale_of(turned, stored.values, stored.scale)
                    if scale is None:
                        continue
                elif not _equal(turned, stored.values):
                    continue
                return Found(stored, scale, transposed)
        return None


def _arrays_of(path: Path) -> Iterator[Stored]:
    content = read_bounded(path, MOST_BYTES)
    (length,) = struct.unpack_from("<Q", content)
    header: Mapping[str, Any] = json.loads(content[8 : 8 + length])

    def read(name: str) -> tuple[int, Array]:
        entry = header[name]
        first, last = entry["data_offsets"]
        raw = content[8 + length + first : 8 + length + last]
        if entry["dtype"] == BF16:  # the upper half of fp32, which NumPy does not know
            wide = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
            return 8 + length + first, wide.reshape(entry["shape"])
        return 8 + length + first, np.frombuffer(raw, DTYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )

    for name, entry in header.items():
        if entry.get("dtype") not in DTYPES:  # scales, and what the file says of itself
            continue
        offset, values = read(name)
        scale = read(name + SCALE)[1] if values.dtype == np.int8 else None
        yield Stored(path.name, offset, values, scale)


def _equal(values: Array, stored: Array) -> bool:
    if values.dtype == np.float32 and stored.dtype == np.float16:
        return bool(np.array_equal(values, stored.astype(np.float32)))
    return values.dtype == stored.dtype and bool(np.array_equal(values, stored))


def _scale_of(values: Array, levels: Array, scale: Array) -> Array | None:
    """The (M,) scales with which ``levels`` (M, ...) are ``values``; None if there are none."""
    rows, whole = values.reshape(len(values), -1), levels.reshape(len(levels), -1)
    if np.array_equal(rows, whole * scale[:, None]):
        return scale
    largest = np.abs(whole.astype(np.int16)).argmax(axis=1)[:, None]
    most = np.take_along_axis(whole, largest, axis=1)[:, 0].astype(np.float32)
    reached = np.take_along_axis(rows, largest, axis=1)[:, 0]
    folded = np.divide(reached, most, out=np.zeros_like(reached), where=most != 0)
    error = np.abs(rows - whole * folded[:, None]).max(axis=1)
    is_close = bool((error <= TOLERANCE * np.abs(reached)).all())
    return folded.astype(np.float32) if is_close else None


def weight_files(folder: Path) -> list[str]:
    """The names of a checkpoint's files of weights, without what training resumes from."""
    return sorted(
        path.name for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("resume")
    )
