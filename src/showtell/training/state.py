"""Everything that a training step changes, and packing it so that a run resumes to the bit.

That is the weights, their moving averages, the optimiser with what it remembers of each parameter,
and the position in the run. The learning rate is not part of it: it is a pure function of the step.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from showtell.config import Config, OptimizerConfig
from showtell.decoders.base import Decoder
from showtell.encoders.encoder import Encoder
from showtell.encoders.finetune import describe_trained, fill_trained
from showtell.inference.checkpoint import Checkpoint, ResumeState
from showtell.training.averages import MovingAverage

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


OPTIMIZER = "optimizer."  # before the names of what it remembers of each parameter
LIVE, LIVE_ENCODER = "decoder.", "encoder."  # of the weights that train, where others are measured


@dataclass
class Progress:
    """Where a run is, and the best it has seen.

    Attributes:
        epoch: epochs that are done, validation included.
        batch: batches done of the epoch after them.
        step: batches done in all.
        best: (CIDEr-D, -validation loss) of the best epoch.
        best_epoch: that epoch, from 1; 0 before the first validation.
        seconds: time spent training, validation included.
        num_skipped: the latest steps in a row that were skipped, as ``take_step`` does.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: tuple[float, float] = (-1.0, float("-inf"))
    best_epoch: int = 0
    seconds: float = 0.0
    num_skipped: int = 0

    @property
    def epochs_without_better(self) -> int:
        """Validated epochs since the best one."""
        return self.epoch - self.best_epoch


@dataclass
class TrainingState:
    """What a step changes, besides torch's random generators.

    Attributes:
        decoder: what is trained.
        average: of its weights; None where none is kept.
        encoder: what is trained beside it, or was once; None where it is as it was published.
        encoder_average: of the encoder's weights; None where none is kept.
    """

    decoder: Decoder
    optimizer: torch.optim.Optimizer
    average: MovingAverage[Decoder] | None
    progress: Progress
    encoder: Encoder | None = None
    encoder_average: MovingAverage[Encoder] | None = None

    @classmethod
    def of(
        cls, decoder: Decoder, config: Config, encoder: Encoder | None = None
    ) -> "TrainingState":
        """The state before the first step."""
        decay = config.training.ema_decay
        optimizer = build_optimizer(
            decoder, config.optimizer, encoder=encoder, encoder_lr=config.encoder.lr
        )
        return cls(
            decoder,
            optimizer,
            MovingAverage(decoder, decay) if decay else None,
            Progress(),
            encoder,
            MovingAverage(encoder, decay) if decay and encoder else None,
        )

    def describe(self, config: Config) -> str:
        """What is trained, in a line for the user."""
        text = (
            f"training decoder {config.decoder.kind} ({self.decoder.num_parameters():,} parameters)"
        )
        encoder = (
            describe_trained(self.encoder)
            if self.encoder and self.encoder.changed
            else f"encoder {config.encoder.name} is frozen"
        )
        return f"{text}; {encoder}"

    def train(self) -> None:
        """Be ready for steps."""
        self.decoder.train()
        if self.encoder:
            self.encoder.train()

    def eval(self) -> None:
        """Be ready to be measured."""
        self.measured.eval()
        if self.measured_encoder:
            self.measured_encoder.eval()

    def trained_parameters(self) -> list[Tensor]:
        """What the optimiser changes."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def update_averages(self) -> None:
        """Take in the weights after the step that ``progress`` counts next."""
        if self.average:
            self.average.update(self.decoder, self.progress.step + 1)
        if self.encoder_average and self.encoder:
            self.encoder_average.update(self.encoder, self.progress.step + 1)

    @property
    def measured(self) -> Decoder:
        """What is validated and kept as the model: the averaged weights where there are any."""
        return self.average.model if self.average else self.decoder

    @property
    def measured_encoder(self) -> Encoder | None:
        """As ``measured``, of the encoder."""
        return self.encoder_average.model if self.encoder_average else self.encoder

    def pack(self, device: str) -> ResumeState:
        """Everything but the weights that are measured, which are the checkpoint's own."""
        tensors = {name: generator.state() for name, generator in _generators(device).items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"{OPTIMIZER}{index}.{name}"] = torch.as_tensor(value).contiguous()
        if self.average:
            for name, value in self.decoder.state_dict().items():
                tensors[LIVE + name] = value.detach().contiguous()
        if self.encoder_average and self.encoder:
            for name, value in self.encoder.changed_weights().items():
                tensors[LIVE_ENCODER + name] = value.detach().contiguous()
        data = asdict(self.progress)
        data["best"] = list(self.progress.best) if self.progress.best_epoch else None
        return ResumeState(tensors, data)

    def unpack(self, saved: ResumeState, measured: Checkpoint, device: str) -> None:
        """Become what was packed; ``measured`` is the checkpoint that it was packed with."""
        for name, generator in _generators(device).items():
            if name in saved.tensors:  # else it was packed on another device
                generator.go_on_from(saved.tensors[name])
        self.measured.load_state_dict(measured.decoder.state_dict())
        if self.average:
            self.decoder.load_state_dict(_beginning_with(LIVE, saved.tensors))
        if self.measured_encoder and measured.encoder:
            fill_trained(self.measured_encoder, measured.encoder)
        if self.encoder_average and self.encoder:
            fill_trained(self.encoder, _beginning_with(LIVE_ENCODER, saved.tensors))
        self._unpack_optimizer(saved.tensors)
        fields = {name: saved.data[name] for name in ("epoch", "batch", "step", "best_epoch")}
        num_skipped = saved.data.get("num_skipped", 0)  # 0.1.0 did not have it
        self.progress = Progress(**fields, seconds=saved.data["seconds"], num_skipped=num_skipped)
        if saved.data["best"] is not None:
            self.progress.best = (saved.data["best"][0], saved.data["best"][1])

    def _unpack_optimizer(self, tensors: dict[str, Tensor]) -> None:
        per_parameter: dict[int, dict[str, Any]] = {}
        parameters = self.trained_parameters()
        for key, tensor in _beginning_with(OPTIMIZER, tensors).items():
            index, _, name = key.partition(".")
            parameter = parameters[int(index)]
            if tensor.shape == parameter.shape:
                # In the parameter's own layout, an encoder's being channels last: the fused
                # optimiser goes through both as they lie in memory.
                tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
            per_parameter.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})


class _Generator(NamedTuple):
    """One of torch's global generators of random numbers."""

    state: Callable[[], Tensor]
    go_on_from: Callable[[Tensor], None]


def _generators(device: str) -> dict[str, _Generator]:
    """Those that training on ``device`` draws from, by the names of their states."""
    found = {"rng.cpu": _Generator(torch.get_rng_state, torch.set_rng_state)}
    if device.startswith("cuda"):
        found["rng.cuda"] = _Generator(
            partial(torch.cuda.get_rng_state, device),
            partial(torch.cuda.set_rng_state, device=device),
        )
    elif device.startswith("mps"):
        found["rng.mps"] = _Generator(torch.mps.get_rng_state, torch.mps.set_rng_state)
    return found


def _beginning_with(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
