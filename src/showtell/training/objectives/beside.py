"""What a run learns beside its own pictures: captions without pictures, old pictures,
and captions that people graded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.decoders.base import Decoder
from showtell.text.vocabulary import PAD
from showtell.training.graded import GradedCaptions
from showtell.training.objectives.base import Batch, Loss, Objective
from showtell.training.objectives.distillation import divergence
from showtell.training.objectives.losses import cross_entropy
from showtell.training.old_pictures import OldPictures
from showtell.training.text_captions import TextCaptions


class Lesson(Protocol):
    """A loss on examples of its own, drawn anew for each step.

    Attributes:
        figure: the name of what is logged of it.
        is_shown: whether the log line has it.
        weight: by which the loss counts.
    """

    @property
    def figure(self) -> str: ...
    @property
    def is_shown(self) -> bool: ...
    @property
    def weight(self) -> float: ...

    def __call__(self, decoder: Decoder, step: int) -> tuple[Tensor, Tensor]:
        """The loss, and what is logged of it; scalars, the second detached."""


class WithLessons:
    """The loss of an objective, and those of lessons beside it.

    A batch is the objective's; of the lessons each process takes all. Where its part of the batch
    is empty, they count for nothing, but norm their rows together with the other processes.
    """

    def __init__(self, inner: Objective, lessons: Sequence[Lesson]) -> None:
        self.inner, self.lessons = inner, lessons
        self.unit, self.num_items = inner.unit, inner.num_items
        self.figures = (*inner.figures, *(lesson.figure for lesson in lessons))
        self.shown = (*inner.shown, *(lesson.figure for lesson in lessons if lesson.is_shown))

    def batches(self, epoch: int) -> list[Batch]:
        """As ``Objective.batches``."""
        return self.inner.batches(epoch)

    def part(self, batch: Batch, processes: Processes) -> Batch:
        """As ``Objective.part``."""
        return self.inner.part(batch, processes)

    def expect(self, batches: Sequence[Batch], step: int) -> None:
        """As ``Objective.expect``."""
        self.inner.expect(batches, step)

    def close(self) -> None:
        """As ``Objective.close``."""
        self.inner.close()

    def __call__(
        self, decoder: Decoder, batch: Batch, part: Batch, *, epoch: int, step: int
    ) -> Loss:
        """As ``Objective.__call__``."""
        loss = self.inner(decoder, batch, part, epoch=epoch, step=step)
        objective, figures = loss.objective, dict(loss.figures)
        for lesson in self.lessons:
            own, figures[lesson.figure] = lesson(decoder, step)
            objective = objective + lesson.weight * own
        return Loss(objective, loss.num_tokens, figures, over=loss.over, seconds=loss.seconds)


@dataclass(frozen=True)
class Text:
    """Cross-entropy of captions without pictures, so that their words are not forgotten."""

    captions: TextCaptions
    runtime: Runtime
    config: Config

    figure = "text_loss"
    is_shown = False

    @property
    def weight(self) -> float:
        """As ``Lesson.weight``."""
        return self.config.training.text_weight

    def __call__(self, decoder: Decoder, step: int) -> tuple[Tensor, Tensor]:
        """As ``Lesson.__call__``."""
        settings = self.config.training
        features, inputs, targets = self.captions.batch(
            settings.text_batch_size, self.config.seed, step, self.runtime.device
        )
        with self.runtime.autocast():
            spoken = cross_entropy(
                decoder, features, inputs, targets, label_smoothing=settings.label_smoothing
            )
        return spoken.objective, spoken.nll


@dataclass(frozen=True)
class Rehearsal:
    """KL(start || model) on old pictures, of which the model is to say what it said before."""

    old: OldPictures
    runtime: Runtime
    config: Config

    figure = "old_kl"
    is_shown = True

    @property
    def weight(self) -> float:
        """As ``Lesson.weight``."""
        return self.config.training.rehearsal_weight

    def __call__(self, decoder: Decoder, step: int) -> tuple[Tensor, Tensor]:
        """As ``Lesson.__call__``."""
        features, inputs, targets = self.old.batch(
            self.config.training.rehearsal_batch_size, self.config.seed, step, self.runtime
        )
        real = targets != PAD
        with self.runtime.autocast():
            states, penalty, _ = decoder.hidden_states(features, inputs)
            logits = decoder.output(states[real])
        # An autocast of its own: it keeps the weights that it converts, here without gradient.
        with torch.no_grad(), self.runtime.autocast():
            wanted = self.old.teachers.log_probs(features, inputs, real, num_words=logits.shape[-1])
        kl = divergence(wanted, logits.float().log_softmax(dim=-1))
        return kl if penalty is None else kl + penalty, kl.detach()


@dataclass(frozen=True)
class Grades:
    """Of two graded captions of a picture the better one is to become more probable."""

    graded: GradedCaptions
    runtime: Runtime
    config: Config

    figure = "graded_loss"
    is_shown = True

    @property
    def weight(self) -> float:
        """As ``Lesson.weight``."""
        return self.config.training.graded_weight

    def __call__(self, decoder: Decoder, step: int) -> tuple[Tensor, Tensor]:
        """As ``Lesson.__call__``; the figure is in nats a pair, at first about log 2."""
        settings = self.config.training
        loss = self.graded.loss(
            decoder,
            settings.graded_batch_size,
            settings.graded_beta,
            self.config.seed,
            step,
            self.runtime,
        )
        return loss, loss.detach()
