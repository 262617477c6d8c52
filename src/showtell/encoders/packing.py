"""Weights in half (``fp16``) or a quarter (``int8``) of their size.

Only matrices are packed: vectors (biases, gains, statistics of batch norms) are small and stay in
fp32. ``int8`` is symmetric with a scale for each row: w ~ q * scale, q from -127 to 127 (Jacob et
al. 2018, arXiv 1712.05877, section 2.1, without zero point). A decoder's last layer is then in
fp16, because its errors affect every word, and so is what has a single row of many axes.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Storage = Literal["fp32", "fp16", "int8"]
SCALE = ".scale"  # added to a matrix's name
LEVELS = 127
LAST_LAYER = "output.weight"


def pack_weights(state: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """The weights as they are stored. Unpacking and packing again gives the same bits."""
    packed: dict[str, Tensor] = {}
    for name, weight in state.items():
        is_matrix = weight.is_floating_point() and weight.dim() >= 2
        one_row = weight.dim() > 2 and len(weight) == 1  # such as the positions of patches
        if storage == "fp32" or not is_matrix:
            packed[name] = weight
        elif storage == "fp16" or name == LAST_LAYER or one_row:
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


def as_read(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors with those in int8 unpacked; a file without any is as it is."""
    is_packed = any(weight.dtype == torch.int8 for weight in state.values())
    return unpack_weights(state) if is_packed else dict(state)
