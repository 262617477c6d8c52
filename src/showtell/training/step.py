"""One training step: the loss of a batch, its gradient, clipping, and the optimiser's update.

A step whose loss or gradient is not finite changes nothing. One infinite number in a gradient is
enough: clipping divides by the norm, which makes it NaN, and the optimiser would write NaN into
the weights. Such a step is skipped and told (``Step.fault``); the loop decides when to give up.

Several processes share a batch and come to the same weights as one process would. A loss is a
mean over tokens, so each process's part counts by its tokens; a process whose part is empty takes
part with zeros. Random numbers for dropout and for sampled words follow from the seed, the step
and the process, so that no generator's state has to be saved for each process.

``compile_decoder`` compiles teacher forcing with ``torch.compile``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.config import Config
from showtell.core.distributed import Processes
from showtell.decoders.base import Decoder, HiddenStates
from showtell.decoding.generate import most_tokens
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD
from showtell.training.objectives.base import Batch, Loss, Objective
from showtell.training.state import TrainingState, set_learning_rate

STEP_STREAM = 4  # keeps torch's random numbers apart from those of views, samples and pictures


@dataclass(frozen=True)
class Step:
    """What came of a step.

    Attributes:
        loss: of the whole batch.
        fault: why the step was skipped and the weights are as they were; None where it was taken.
    """

    loss: Loss
    fault: str | None = None


def take_step(
    state: TrainingState,
    objective: Objective,
    batch: Batch,
    *,
    rate: float,
    config: Config,
    processes: Processes,
) -> Step:
    """Update ``state`` by a batch, unless its loss or gradient is not finite.

    Args:
        batch: the whole batch, of which this process takes its part.
        rate: the run's learning rate; an encoder that trains has its own multiple of it.
    """
    progress, optimizer, trained = state.progress, state.optimizer, state.trained_parameters()
    set_learning_rate(optimizer, rate)
    if processes.are_many:
        seed_torch((config.seed, progress.step, processes.rank, STEP_STREAM), trained[0].device)
    statistics = [(buffer, buffer.clone()) for buffer in _running_statistics(state)]
    part = objective.part(batch, processes)
    loss = objective(state.decoder, batch, part, epoch=progress.epoch + 1, step=progress.step)
    loss, value = together(loss, objective.figures, processes)
    optimizer.zero_grad()
    fault = None if math.isfinite(value) else f"the loss is {value}"
    if fault is None:
        loss.objective.backward()  # type: ignore[no-untyped-call]
        processes.sum_gradients(trained)
        norm = float(nn.utils.clip_grad_norm_(trained, config.optimizer.max_grad_norm))
        fault = None if math.isfinite(norm) else f"the norm of the gradient is {norm}"
    if fault is None:
        optimizer.step()
        state.update_averages()
    else:
        for buffer, before in statistics:
            buffer.copy_(before)
    return Step(loss, fault)


def _running_statistics(state: TrainingState) -> Iterator[Tensor]:
    """What batch norms change as they run forward: their mean, variance and count."""
    for model in (state.decoder, state.encoder):
        for module in model.modules() if model else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                yield from module.buffers(recurse=False)


def together(loss: Loss, figures: Sequence[str], processes: Processes) -> tuple[Loss, float]:
    """From the losses of all processes' parts that of the batch.

    Args:
        figures: the names that the loss has, but for a part that is nothing.

    Returns:
        The loss, whose objective is this process's share of the batch's; and the value of that.
    """
    if not processes.are_many:
        return loss, loss.objective.item()
    over = {name: loss.over.get(name, loss.num_tokens) for name in figures}
    values = [float(loss.figures.get(name, 0.0)) * over[name] for name in figures]
    summed = processes.sums(
        (loss.num_tokens, loss.objective.item() * loss.num_tokens, *values, *over.values())
    )
    num_tokens, value, *sums = summed
    totals, counts = sums[: len(figures)], sums[len(figures) :]
    means = {n: total / count for n, total, count in zip(figures, totals, counts, strict=True)}
    share = loss.objective * (loss.num_tokens / num_tokens)
    whole = replace(loss, objective=share, num_tokens=int(num_tokens), figures=means)
    return whole, value / num_tokens


def seed_torch(key: Sequence[int], device: torch.device) -> None:
    """Seed the generators that training draws from; ``torch.manual_seed`` visits more, slowly."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


BUCKET = 8  # captions are padded to a multiple of so many tokens, as far as a decoder has room


def compile_decoder(decoder: Decoder, *, backend: str = "inductor") -> str:
    """Compile ``decoder.hidden_states``, in place, for batches of any size.

    A recurrence is compiled for each number of steps; padding leaves only a few numbers. The names
    of the decoder's weights stay as they are.

    Returns:
        A sentence for the user.
    """
    kind = type(decoder).__name__
    if not decoder.gains_by_compiling:
        return f"training.compile: {kind} runs on torch's own kernels; there is nothing to compile"
    compiled = torch.compile(decoder.hidden_states, dynamic=True, backend=backend)

    def hidden_states(
        features: Features, tokens: Tensor, captions: Tensor | None = None
    ) -> HiddenStates:
        num_tokens = tokens.shape[1]
        num_padded = num_tokens + -num_tokens % BUCKET
        padding = max(most_tokens(decoder, num_padded - 1) + 1 - num_tokens, 0)  # with <start>
        given = (tokens,) if captions is None else (tokens, captions)
        padded = [F.pad(ids, (0, padding), value=PAD) for ids in given]
        states, penalty, first = compiled(features, *padded)
        return HiddenStates(states[:, :num_tokens], penalty, first)

    decoder.hidden_states = hidden_states  # type: ignore[method-assign]
    return f"training.compile: {kind} is compiled; the first steps take longer"
