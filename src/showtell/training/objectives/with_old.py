"""An objective combined with old pictures, of which the model is to say what it said before."""

from collections.abc import Sequence

import torch

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.decoders.base import Decoder
from showtell.text.vocabulary import PAD
from showtell.training.objectives.base import Batch, Loss, Objective
from showtell.training.objectives.distillation import divergence
from showtell.training.old_pictures import OldPictures


class WithOldPictures:
    """The loss of another objective, and a multiple of KL(start || model) on old pictures.

    The multiple is ``training.rehearsal_weight``.
    """

    def __init__(
        self, inner: Objective, *, old: OldPictures, runtime: Runtime, config: Config
    ) -> None:
        self.inner, self.old, self.runtime, self.config = inner, old, runtime, config
        self.unit, self.num_items = inner.unit, inner.num_items
        self.figures = (*inner.figures, "old_kl")
        self.shown = (*inner.shown, "old_kl")

    def batches(self, epoch: int) -> list[Batch]:
        """The other's."""
        return self.inner.batches(epoch)

    def part(self, batch: Batch, processes: Processes) -> Batch:
        """The other's; of the old pictures each process takes all."""
        return self.inner.part(batch, processes)

    def expect(self, batches: Sequence[Batch], step: int) -> None:
        """The other's."""
        self.inner.expect(batches, step)

    def close(self) -> None:
        """The other's."""
        self.inner.close()

    def __call__(
        self, decoder: Decoder, batch: Batch, part: Batch, *, epoch: int, step: int
    ) -> Loss:
        """Figures: the other's, and ``old_kl`` in nats a token."""
        loss = self.inner(decoder, batch, part, epoch=epoch, step=step)
        settings = self.config.training
        features, inputs, targets = self.old.batch(
            settings.rehearsal_batch_size, self.config.seed, step, self.runtime
        )
        real = targets != PAD
        with self.runtime.autocast():
            states, penalty, _ = decoder.hidden_states(features, inputs)
            logits = decoder.output(states[real])
        # An autocast of its own: it keeps the weights that it converts, here without gradient.
        with torch.no_grad(), self.runtime.autocast():
            wanted = self.old.teachers.log_probs(features, inputs, real, num_words=logits.shape[-1])
        kl = divergence(wanted, logits.float().log_softmax(dim=-1))
        kept = kl if penalty is None else kl + penalty
        return Loss(
            loss.objective + settings.rehearsal_weight * kept,
            loss.num_tokens,
            {**loss.figures, "old_kl": kl.detach()},
            over=loss.over,
            seconds=loss.seconds,
        )
