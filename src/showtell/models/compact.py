"""Weights on disk in half or a quarter of the room.

Matrices take the room; vectors (biases, gains, statistics of batch norms) stay in fp32. ``int8`` is
symmetric, with a scale for each row: w ~ q * scale, q from -127 to 127 (Jacob et al. 2018,
arXiv 1712.05877, section 2.1, without zero point); a decoder's last layer is in fp16 then, for its
errors are those of every word. Knows nothing of files.
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
    """The weights as they are stored; packing what was unpacked gives the same to the bit."""
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
    """The weights in fp32, whichever way they were stored.

    Raises:
        KeyError: a scale is missing.
    """
    scaled = {name for name, weight in state.items() if weight.dtype == torch.int8}
    weights = {}
    for name, weight in state.items():
        if name in scaled:
            scale = state[name + SCALE].float()
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
