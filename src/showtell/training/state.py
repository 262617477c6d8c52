"""All that changes as training goes on, and packing it so that it can go on to the bit."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from showtell.checkpoint import ResumeState
from showtell.config import Config
from showtell.models.base import Decoder
from showtell.training.averages import MovingAverage
from showtell.training.optimizer import build_optimizer

LIVE = "decoder."  # before the names of the weights that are trained, where others are measured


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
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: tuple[float, float] = (-1.0, float("-inf"))
    best_epoch: int = 0
    seconds: float = 0.0

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
    """

    decoder: Decoder
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    progress: Progress

    @classmethod
    def of(cls, decoder: Decoder, config: Config) -> "TrainingState":
        """The state before the first step."""
        decay = config.training.ema_decay
        average = MovingAverage(decoder, decay) if decay else None
        return cls(decoder, build_optimizer(decoder, config.optimizer), average, Progress())

    @property
    def measured(self) -> Decoder:
        """What is validated and kept as the model: the averaged weights where there are any."""
        return self.average.decoder if self.average else self.decoder

    def pack(self, device: str) -> ResumeState:
        """Everything but the weights of ``measured``, which are the checkpoint's own."""
        tensors: dict[str, Tensor] = {"rng.cpu": torch.get_rng_state()}
        if device.startswith("cuda"):
            tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).contiguous()
        if self.average:
            for name, value in self.decoder.state_dict().items():
                tensors[LIVE + name] = value.detach().contiguous()
        data = asdict(self.progress)
        data["best"] = list(self.progress.best) if self.progress.best_epoch else None
        return ResumeState(tensors, data)

    def unpack(self, saved: ResumeState, measured: Decoder, device: str) -> None:
        """Become what was packed; ``measured`` has the checkpoint's weights."""
        torch.set_rng_state(saved.tensors["rng.cpu"])
        if device.startswith("cuda") and "rng.cuda" in saved.tensors:
            torch.cuda.set_rng_state(saved.tensors["rng.cuda"], device)
        self.measured.load_state_dict(measured.state_dict())
        if self.average:
            live = {k.removeprefix(LIVE): t for k, t in saved.tensors.items() if k.startswith(LIVE)}
            self.decoder.load_state_dict(live)
        self._unpack_optimizer(saved.tensors)
        fields = {name: saved.data[name] for name in ("epoch", "batch", "step", "best_epoch")}
        self.progress = Progress(**fields, seconds=saved.data["seconds"])
        if saved.data["best"] is not None:
            self.progress.best = (saved.data["best"][0], saved.data["best"][1])

    def _unpack_optimizer(self, tensors: dict[str, Tensor]) -> None:
        per_parameter: dict[int, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "optimizer":
                index, _, name = rest.partition(".")
                per_parameter.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
