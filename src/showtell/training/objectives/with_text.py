"""An objective combined with captions without pictures, so that their words are not forgotten."""

from collections.abc import Sequence

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.decoders.base import Decoder
from showtell.training.objectives.base import Batch, Loss, Objective
from showtell.training.objectives.losses import cross_entropy
from showtell.training.text_captions import TextCaptions


class WithText:
    """The loss of another objective, and ``training.text_weight`` times that of some captions."""

    def __init__(
        self, inner: Objective, *, text: TextCaptions, runtime: Runtime, config: Config
    ) -> None:
        self.inner, self.text, self.runtime, self.config = inner, text, runtime, config
        self.unit, self.num_items = inner.unit, inner.num_items
        self.figures = (*inner.figures, "text_loss")
        self.shown = inner.shown

    def batches(self, epoch: int) -> list[Batch]:
        """The other's."""
        return self.inner.batches(epoch)

    def part(self, batch: Batch, processes: Processes) -> Batch:
        """The other's; of the captions without pictures each process takes all."""
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
        """Figures: the other's, and ``text_loss`` in nats a token."""
        loss = self.inner(decoder, batch, part, epoch=epoch, step=step)
        settings = self.config.training
        features, inputs, targets = self.text.batch(
            settings.text_batch_size, self.config.seed, step, self.runtime.device
        )
        with self.runtime.autocast():
            spoken = cross_entropy(
                decoder, features, inputs, targets, label_smoothing=settings.label_smoothing
            )
        return Loss(
            loss.objective + settings.text_weight * spoken.objective,
            loss.num_tokens,
            {**loss.figures, "text_loss": spoken.nll},
            over=loss.over,
            seconds=loss.seconds,
        )
