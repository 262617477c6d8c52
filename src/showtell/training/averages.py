"""Averages of weights: over the steps of a run, and over checkpoints.

Both average a batch norm's running mean and variance like weights. The mean is linear in the
weights before it, so it fits the averaged ones; the variance does so nearly.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from showtell.encoders.encoder import trained_fingerprint
from showtell.errors import CheckpointError, reason_of
from showtell.inference.caption import CALIBRATION
from showtell.inference.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from showtell.text.vocabulary import Vocabulary, WordVocabulary

Model = TypeVar("Model", bound=nn.Module)

OF_ONE_MODEL = (CALIBRATION, "weights", "measured_on", "signature", "others")
"""What ``metrics.json`` says of a model's own weights, as packed, and of its captions."""


class MovingAverage(Generic[Model]):
    """Exponential moving average of a model's weights (Polyak and Juditsky 1992).

    Early on the decay is (1 + n) / (10 + n) after n steps, where that is smaller, so that the
    random weights of the start are soon forgotten.

    Attributes:
        model: has the averaged weights; in eval mode.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Take in the weights after step ``step``, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new = model.state_dict()
        for name, mean in self.model.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(new[name], 1 - decay)
            else:
                mean.copy_(new[name])


def average_checkpoints(models: Sequence[str | Path], output: Path) -> None:
    """Write a checkpoint whose weights are the mean of others'; the last gives the rest.

    The last may know further words, as a run does that added some to its start's: where another
    lacks them, the last's rows count as its own.

    Args:
        models: checkpoints, runs, of which the best is taken, or names of models that come with
            showtell.

    Raises:
        CheckpointError: one cannot be read, they are not of one make, or ``output`` is there.
    """
    if output.exists():
        raise CheckpointError(f"{output} already exists: give another folder with -o, or remove it")
    folders = [find_checkpoint(model) for model in models]
    checkpoints = [load_checkpoint(folder) for folder in folders]
    *_, last = checkpoints
    for folder, checkpoint in zip(folders, checkpoints, strict=True):
        if reason := _difference(checkpoint, last):
            raise CheckpointError(
                f"{folder} and {folders[-1]} cannot be averaged: {reason}; give checkpoints of "
                "one run, or the model that a run started from and then those of the run"
            )
    states = [_with_rows_of(last, checkpoint) for checkpoint in checkpoints]
    last.decoder.load_state_dict({name: _mean([s[name] for s in states]) for name in states[-1]})
    encoder = None
    encoders = [checkpoint.encoder for checkpoint in checkpoints if checkpoint.encoder is not None]
    if encoders:
        encoder = {name: _mean([e[name] for e in encoders]) for name in encoders[-1]}
    metrics = {**last.metrics, "metrics": None, "averaged": [str(folder) for folder in folders]}
    for name in OF_ONE_MODEL:
        metrics.pop(name, None)
    if encoder is not None:
        base = metrics["base_encoder_fingerprint"]
        metrics["encoder_fingerprint"] = trained_fingerprint(base, encoder)
    averaged = replace(last, metrics=metrics, encoder=encoder, reranker=None)
    try:
        save_checkpoint(output, averaged)
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {reason_of(error)}") from error


def _difference(one: Checkpoint, other: Checkpoint) -> str | None:
    """Why two checkpoints have no mean; None where they have."""
    if one.vocabulary != other.vocabulary and not _begins(one.vocabulary, other.vocabulary):
        return "their vocabularies differ"
    if _encoder_of(one) != _encoder_of(other):
        return "their encoders differ"
    shapes = [{n: t.shape for n, t in c.decoder.state_dict().items()} for c in (one, other)]
    added = len(other.vocabulary) - len(one.vocabulary)
    same = shapes[0].keys() == shapes[1].keys() and all(
        shape == shapes[1][name] or _added_rows(shape, shapes[1][name]) == added
        for name, shape in shapes[0].items()
    )
    return None if same else "their decoders differ"


def _begins(vocabulary: Vocabulary, other: Vocabulary) -> bool:
    """Whether ``other`` has the same words with the same ids, and then more."""
    both = isinstance(vocabulary, WordVocabulary) and isinstance(other, WordVocabulary)
    return both and other.words[: len(vocabulary)] == vocabulary.words


def _added_rows(shape: torch.Size, larger: torch.Size) -> int | None:
    """How much longer one axis is, if all others are equal."""
    longer = [new - old for old, new in zip(shape, larger, strict=False) if new != old]
    return longer[0] if len(shape) == len(larger) and len(longer) == 1 else None


def _with_rows_of(last: Checkpoint, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights of a checkpoint, with the rows of ``last`` for words that it lacks."""
    own, theirs = checkpoint.decoder.state_dict(), last.decoder.state_dict()
    whole = {}
    for name, weight in own.items():
        more = theirs[name]
        for axis, size in enumerate(weight.shape):
            if more.shape[axis] > size:
                added = more.narrow(axis, size, more.shape[axis] - size)
                weight = torch.cat([weight, added], dim=axis)
        whole[name] = weight
    return whole


def _encoder_of(checkpoint: Checkpoint) -> tuple[str | None, dict[str, torch.Size] | None]:
    """The encoder as published, and the shapes of what was trained of it."""
    if checkpoint.encoder is None:
        return checkpoint.metrics.get("encoder_fingerprint"), None
    shapes = {name: weight.shape for name, weight in checkpoint.encoder.items()}
    return checkpoint.metrics.get("base_encoder_fingerprint"), shapes


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """In double precision; counts, which are whole numbers, are the last's."""
    if not tensors[-1].is_floating_point():
        return tensors[-1]
    return torch.stack([t.double() for t in tensors]).mean(dim=0).to(tensors[-1].dtype)
