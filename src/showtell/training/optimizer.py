"""The optimiser and the learning rate, which is a pure function of the step."""

import math

import torch
from torch import nn

from showtell.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over the parameters that train; only matrices decay, biases do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=True)


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
