"""How weights lie in a checkpoint's files, and reading them when somebody else made the files.

Weights may be stored in half (``fp16``) or a quarter (``int8``) of their size; they are read as
fp32 in any case. Only matrices are packed: vectors (biases, gains, statistics of batch norms) are
small and stay in fp32. ``int8`` is symmetric with a scale for each row: w ~ q * scale, q from
-127 to 127 (Jacob et al. 2018, arXiv 1712.05877, section 2.1, without zero point). A decoder's
last layer is then in fp16, because its errors affect every word.

``read_weights`` compares the header of a file with the weights that are expected before it reads
any values, and refuses values that are not numbers.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from showtell.core.files import atomic_write, check_regular
from showtell.encoders.backbone import hash_state
from showtell.encoders.backbone import read_weights as read_file
from showtell.inference.files import ENCODER_WEIGHTS

Storage = Literal["fp32", "fp16", "int8"]
SCALE = ".scale"  # added to a matrix's name
LEVELS = 127
LAST_LAYER = "output.weight"
UNFIT = "does not fit config.toml, metrics.json and vocabulary.json"
SUFFIX = ".safetensors"
WHOLE_NUMBERS = {
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def pack_weights(state: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """The weights as they are stored. Unpacking and packing again gives the same bits."""
    packed: dict[str, Tensor] = {}
    for name, weight in state.items():
        is_matrix = weight.is_floating_point() and weight.dim() >= 2
        if storage == "fp32" or not is_matrix:
            packed[name] = weight
        elif storage == "fp16" or name == LAST_LAYER:
            half = weight.half()
            packed[name] = half if half.isfinite().all() else weight
        else:
            packed[name], packed[name + SCALE] = _quantise(weight)
    return packed


def unpack_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in fp32, however they were stored.

    Raises:
        KeyError: a scale is missing.
        ValueError: a scale does not have one number for each row.
    """
    scaled = {name for name, weight in state.items() if weight.dtype == torch.int8}
    weights = {}
    for name, weight in state.items():
        if name in scaled:
            scale = state[name + SCALE].float()
            if scale.shape != weight.shape[:1] or not weight.dim():
                raise ValueError(f"{name + SCALE} does not have one number for each row of {name}")
            weights[name] = weight.float() * scale.view(-1, *[1] * (weight.dim() - 1))
        elif name.removesuffix(SCALE) not in scaled:
            weights[name] = weight.float() if weight.is_floating_point() else weight
    return weights


def _quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(M, ...) fp32 -> (M, ...) int8 and (M,) bf16.

    A scale in bf16 has 8 bits: 127 times it is exact, so the largest weight of a row gives the
    same scale again. It is off by 0.4 % at most, too little to bring 127 to another level.
    """
    rows = weight.flatten(1).float()
    scale = (rows.abs().amax(dim=1) / LEVELS).bfloat16()
    steps = scale.float().where(scale > 0, torch.ones(()))
    levels = (rows / steps[:, None]).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    return levels.view_as(weight), scale


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


def store_encoder_weights(path: Path, folder: Path) -> str:
    """Put a file of an encoder's published weights into ``folder``, named by a hash of them.

    A file that has such a name already is linked where the file system can do so, so that the
    checkpoints of a run share one copy.

    Returns:
        The name of the file in ``folder``.

    Raises:
        ConfigError: it is not a file of weights.
        OSError: it cannot be written.
    """
    if path.name.startswith(ENCODER_WEIGHTS) and path.suffix == SUFFIX:
        target = folder / path.name
        try:
            os.link(path, target)
        except OSError:  # there is such a file, or the file system has no links
            shutil.copyfile(path, target)
        return path.name
    state = {name: value.contiguous().clone() for name, value in read_file(path).items()}
    name = f"{ENCODER_WEIGHTS}{hash_state(state)[:16]}{SUFFIX}"
    with atomic_write(folder / name, "wb") as file:
        file.write(serialize(state))
    return name
