"""Averages of weights: over the steps of a run, and over checkpoints.

Both average a batch norm's running mean and variance like weights. The mean is linear in the
weights before it, so it fits the averaged ones; the variance does so nearly.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from showtell.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
from showtell.errors import CheckpointError
from showtell.models.base import Decoder


class MovingAverage:
    """Exponential moving average of a decoder's weights (Polyak and Juditsky 1992).

    Early on the decay is (1 + n) / (10 + n) after n steps, where that is smaller, so that the
    random weights of the start are soon forgotten.

    Attributes:
        decoder: has the averaged weights; in eval mode.
    """

    def __init__(self, decoder: Decoder, decay: float) -> None:
        self.decoder = deepcopy(decoder).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, decoder: Decoder, step: int) -> None:
        """Take in the weights after step ``step``, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new = decoder.state_dict()
        for name, mean in self.decoder.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(new[name], 1 - decay)
            else:
                mean.copy_(new[name])


def average_checkpoints(folders: Sequence[Path], output: Path) -> None:
    """Write a checkpoint whose weights are the mean of others'; the last gives the rest.

    Args:
        folders: checkpoints, or runs, of which the best is taken.

    Raises:
        CheckpointError: one cannot be read, they are not of one make, or ``output`` is there.
    """
    if output.exists():
        raise CheckpointError(f"{output} is there already: give another -o, or remove it")
    folders = [find_checkpoint(folder) for folder in folders]
    checkpoints = [load_checkpoint(folder) for folder in folders]
    *_, last = checkpoints
    for folder, checkpoint in zip(folders, checkpoints, strict=True):
        if reason := _difference(checkpoint, last):
            raise CheckpointError(
                f"{folder} and {folders[-1]} cannot be averaged: {reason}; give checkpoints of "
                "one run"
            )
    states = [checkpoint.decoder.state_dict() for checkpoint in checkpoints]
    last.decoder.load_state_dict({name: _mean([s[name] for s in states]) for name in states[-1]})
    # The figures are not of these weights; what remains says where the weights come from.
    metrics = {**last.metrics, "metrics": None, "averaged": [str(folder) for folder in folders]}
    averaged = Checkpoint(last.decoder, last.vocabulary, last.config, metrics)
    try:
        save_checkpoint(output, averaged)
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {error.strerror or error}") from error


def _difference(one: Checkpoint, other: Checkpoint) -> str | None:
    """Why two checkpoints have no mean; None where they have."""
    if one.vocabulary != other.vocabulary:
        return "their vocabularies differ"
    if one.metrics.get("encoder_fingerprint") != other.metrics.get("encoder_fingerprint"):
        return "their encoders differ"
    shapes = [{n: t.shape for n, t in c.decoder.state_dict().items()} for c in (one, other)]
    return "their decoders differ" if shapes[0] != shapes[1] else None


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """In double precision; counts, which are whole numbers, are the last's."""
    if not tensors[-1].is_floating_point():
        return tensors[-1]
    return torch.stack([t.double() for t in tensors]).mean(dim=0).to(tensors[-1].dtype)
