"""Fine-tuning an encoder: choosing the stages that train, and loading trained weights.

Parameters of the stages before the first trained one need no gradient, so torch keeps nothing of
them for the backward pass. Batch norms stay in eval mode with their published statistics, unless
``live_norms`` is asked for; their gains and offsets train like other weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from showtell.encoders.encoder import Encoder
from showtell.errors import CheckpointError, ConfigError, unknown_name


def train_from(encoder: Encoder, first: str | int, *, live_norms: bool = False) -> None:
    """Make the stage ``first`` of an encoder and the stages after it train.

    Args:
        first: a stage's name, or its number from 0.
        live_norms: whether their batch norms update their statistics.

    Raises:
        ConfigError: there is no such stage, or its batch norms are folded into trained weights.
    """
    backbone = encoder.backbone
    chosen = _stages_from(encoder, first)
    if live_norms:
        folded = [name for stage in chosen for name in backbone.stages()[stage]]
        backbone.unfold_norms(chosen)
        if encoder.changed.intersection(folded) - backbone.state_dict().keys():
            raise ConfigError(
                "encoder.batch_norm = train: the encoder of training.init_from was "
                "trained with its batch norms folded in; use frozen, or train it from a model "
                "with the encoder as published"
            )
    parameters = dict(backbone.named_parameters())
    trained = [name for stage in chosen for name in backbone.stages()[stage]]
    for name in trained:
        parameters[name].requires_grad_(True)
    norms = _norms_of(backbone, set(trained)) if live_norms else {}
    if live_norms and not norms:
        raise ConfigError(
            f"encoder.batch_norm = train: {encoder.name!r} has no batch norm from stage "
            f"{chosen[0]!r} on; leave it frozen"
        )
    statistics = [
        f"{name}.{key}" for name, norm in norms.items() for key, _ in norm.named_buffers()
    ]
    encoder.live_norms = tuple(norms.values())
    encoder.changed = encoder.changed.union(trained, statistics)


def load_trained(encoder: Encoder, weights: Mapping[str, Tensor]) -> None:
    """Load weights that ``Encoder.changed_weights`` returned.

    Raises:
        CheckpointError: they are of another encoder.
    """
    try:
        encoder.backbone.fit(weights.keys())
        state = encoder.backbone.state_dict()
        for name, value in weights.items():
            if state[name].shape != value.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}")
    except ValueError as error:
        raise CheckpointError(
            f"the trained weights of the encoder do not fit {encoder.name!r}: {error}"
        ) from None
    fill_trained(encoder, weights)
    encoder.requires_grad_(False)
    encoder.changed = encoder.changed.union(weights)


@torch.no_grad()
def fill_trained(encoder: Encoder, weights: Mapping[str, Tensor]) -> None:
    """Copy ``weights``, which must fit, into an encoder."""
    state = encoder.backbone.state_dict()
    for name, value in weights.items():
        state[name].copy_(value)


def describe_trained(encoder: Encoder) -> str:
    """Which part of an encoder trains, in a few words for the user."""
    parameters = dict(encoder.backbone.named_parameters())
    num_trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    if not num_trained:
        return f"encoder {encoder.name} is frozen, as it was trained before"
    stages = encoder.backbone.stages()
    trained = [s for s, names in stages.items() if parameters[names[0]].requires_grad]
    total = sum(parameters[name].numel() for names in stages.values() for name in names)
    norms = "live" if encoder.live_norms else "frozen"
    return (
        f"encoder {encoder.name} from {trained[0]} on ({num_trained:,} of {total:,} parameters, "
        f"batch norm's statistics {norms})"
    )


def _stages_from(encoder: Encoder, first: str | int) -> list[str]:
    known = list(encoder.backbone.stages())
    if not known:
        raise ConfigError(
            f"encoder.train_from: {encoder.name!r} does not say what its stages are; leave it out"
        )
    if isinstance(first, str) and first in known:
        return known[known.index(first) :]
    if isinstance(first, int) and 0 <= first < len(known):
        return known[first:]
    if isinstance(first, int):
        raise ConfigError(
            f"encoder.train_from = {first}: {encoder.name!r} has the stages 0 to "
            f"{len(known) - 1}: {', '.join(known)}"
        )
    raise ConfigError(f"encoder.train_from: {unknown_name('stage', first, known)}")


def _norms_of(backbone: nn.Module, parameters: set[str]) -> dict[str, _BatchNorm]:
    """The batch norms that have some of ``parameters``, by name."""
    return {
        name: module
        for name, module in backbone.named_modules()
        if isinstance(module, _BatchNorm) and f"{name}.weight" in parameters
    }
