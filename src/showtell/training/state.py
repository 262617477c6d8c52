"""Packing all that decides how training goes on, so that it can go on to the bit."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from showtell.checkpoint import ResumeState


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


def pack(
    progress: Progress,
    optimizer: torch.optim.Optimizer,
    device: str,
    log_offsets: dict[str, int],
    data_fingerprint: str,
) -> ResumeState:
    """Everything but the model's own weights."""
    tensors: dict[str, Tensor] = {"rng.cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).contiguous()
    data = asdict(progress) | {
        "best": list(progress.best) if progress.best_epoch else None,
        "log_offsets": log_offsets,
        "data_fingerprint": data_fingerprint,
    }
    return ResumeState(tensors, data)


def unpack(state: ResumeState, optimizer: torch.optim.Optimizer, device: str) -> Progress:
    """Put the state back into ``optimizer`` and the random generators; give the progress."""
    torch.set_rng_state(state.tensors["rng.cpu"])
    if device.startswith("cuda") and "rng.cuda" in state.tensors:
        torch.cuda.set_rng_state(state.tensors["rng.cuda"], device)
    per_parameter: dict[int, dict[str, Any]] = {}
    for key, tensor in state.tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            index, _, name = rest.partition(".")
            per_parameter.setdefault(int(index), {})[name] = tensor
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": per_parameter, "param_groups": whole["param_groups"]})
    fields = {name: state.data[name] for name in ("epoch", "batch", "step", "best_epoch")}
    progress = Progress(**fields, seconds=state.data["seconds"])
    if state.data["best"] is not None:
        progress.best = (state.data["best"][0], state.data["best"][1])
    return progress
