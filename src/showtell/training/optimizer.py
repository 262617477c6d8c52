"""The optimiser and the learning rate, which is a pure function of the step."""

import math
from typing import Any

import torch
from torch import nn

from showtell.config import OptimizerConfig

LR_FACTOR = "lr_factor"  # of a group: its learning rate as a multiple of the run's


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    encoder: nn.Module | None = None,
    encoder_lr: float = 0.0,
) -> torch.optim.Optimizer:
    """Adam or AdamW over the parameters that train; only matrices decay, biases do not.

    Args:
        encoder: what trains beside ``model``, perhaps, with a learning rate of its own.
    """
    groups = _groups(model, config.weight_decay, 1.0)
    if encoder is not None and any(p.requires_grad for p in encoder.parameters()):
        groups += _groups(encoder, config.weight_decay, encoder_lr / config.lr)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """``rate`` is the run's; each group of parameters follows it at its own multiple."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[LR_FACTOR]


def _groups(model: nn.Module, weight_decay: float, lr_factor: float) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, others = ([p for p in trained if (p.dim() >= 2) == is_matrix] for is_matrix in (1, 0))
    return [
        {"params": matrices, "weight_decay": weight_decay, LR_FACTOR: lr_factor},
        {"params": others, "weight_decay": 0.0, LR_FACTOR: lr_factor},
    ]


def learning_rate(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Rate of step ``step`` (from 0) of ``num_steps``: linear warm-up, then constant or cosine.

    The cosine ends at zero (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5). A run
    shorter than ten warm-ups warms up over its first tenth.
    """
    warmup = min(config.warmup_steps, num_steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
