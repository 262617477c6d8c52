"""How weights lie in a checkpoint's files, and reading them when somebody else made the files.

Weights may be packed (``encoders/packing.py``); they are read as fp32 in any case.
``read_weights`` compares the header of a file with the weights that are expected before it reads
any values, and refuses values that are not numbers.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from showtell.core.files import atomic_write, check_regular
from showtell.encoders.backbone import hash_state
from showtell.encoders.backbone import read_weights as read_file
from showtell.encoders.packing import SCALE, Storage, as_read, pack_weights, unpack_weights
from showtell.inference.files import ENCODER_WEIGHTS

UNFIT = "does not fit config.toml, metrics.json and vocabulary.json"
SUFFIX = ".safetensors"
WHOLE_NUMBERS = {
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a .safetensors file and flush it to the disk.

    Raises:
        OSError: also on a full disk, where safetensors' own ``save_file`` raises none.
    """
    with open(path, "wb") as file:
        file.write(serialize(tensors))
        file.flush()
        os.fsync(file.fileno())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file.

    Raises:
        OSError, SafetensorError: it cannot be read, or is damaged.
    """
    check_regular(path)
    return load_file(path)


def read_weights(path: Path, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The weights of a file in fp32, however they were stored.

    Args:
        expected: tensors, which need no memory, of the shapes and types that the weights must
            have; default: any.

    Raises:
        OSError, SafetensorError: the file cannot be read, or is damaged.
        ValueError, KeyError: its weights are others than expected, or some are not numbers.
    """
    check_regular(path)
    if expected is not None:
        _check_header(path, expected)
    weights = unpack_weights(load_file(path))
    for name, weight in weights.items():
        if weight.is_floating_point() and weight.numel() and not _are_numbers(weight):
            raise ValueError(
                f"the weights have values that are not numbers ({name} in {path.name}): the model "
                "is damaged; use another checkpoint of the run"
            )
    return weights


def _are_numbers(weight: Tensor) -> bool:
    low, high = weight.aminmax()  # of anything and NaN: NaN
    return bool(low.isfinite() & high.isfinite())


def _check_header(path: Path, expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError where a file has other weights than expected; no values are read."""
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        stored = {name: tuple(part.get_shape()) for name, part in slices.items()}
        kinds = {name: part.get_dtype() for name, part in slices.items()}
    scales = {name + SCALE for name, kind in kinds.items() if kind == "I8"}
    if missing := sorted(expected.keys() - stored.keys()):
        raise ValueError(f"{path.name} {UNFIT}: it has no {missing[0]}")
    if unknown := sorted(stored.keys() - expected.keys() - scales):
        raise ValueError(f"{path.name} {UNFIT}: they describe no {unknown[0]}")
    for name, tensor in expected.items():
        if stored[name] != tuple(tensor.shape):
            raise ValueError(
                f"{path.name} {UNFIT}: {name} has the shape {stored[name]}, and they describe "
                f"{tuple(tensor.shape)}"
            )
        if kinds[name] not in _stored_types(tensor):
            raise ValueError(f"{path.name} {UNFIT}: {name} has numbers of type {kinds[name]}")


def _stored_types(tensor: Tensor) -> tuple[str, ...]:
    """safetensors' names of the types in which a weight may be stored."""
    if tensor.is_floating_point():
        return ("F32", "F16", "BF16", "F64", *(("I8",) if tensor.dim() > 1 else ()))
    return (WHOLE_NUMBERS.get(tensor.dtype, ""),)


def store_encoder_weights(path: Path, folder: Path, storage: Storage = "fp32") -> str:
    """Put a file of an encoder's published weights into ``folder``, named by a hash of them.

    A file that has such a name already is linked where the file system can do so, so that the
    checkpoints of a run share one copy; if it is to be packed, another is written.

    Args:
        storage: how matrices are stored; fp32 leaves them as they are in ``path``.

    Returns:
        The name of the file in ``folder``.

    Raises:
        ConfigError: it is not a file of weights.
        OSError: it cannot be written.
    """
    if storage == "fp32" and path.name.startswith(ENCODER_WEIGHTS) and path.suffix == SUFFIX:
        target = folder / path.name
        try:
            os.link(path, target)
        except OSError:  # there is such a file, or the file system has no links
            shutil.copyfile(path, target)
        return path.name
    state = {name: value.contiguous().clone() for name, value in read_file(path).items()}
    state = pack_weights(state, storage)
    name = f"{ENCODER_WEIGHTS}{hash_state(as_read(state))[:16]}{SUFFIX}"
    with atomic_write(folder / name, "wb") as file:
        file.write(serialize(state))
    return name
