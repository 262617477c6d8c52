"""Cross-entropy of the training captions, with scheduled sampling if asked for.

Scheduled sampling (Bengio et al. 2015, arXiv 1506.03099, section 2.4) feeds the decoder, with a
probability that grows from epoch to epoch, what it would itself have said, so that it learns to
go on after its own mistakes. It is done in two passes for every decoder, as Mihaylova and Martins
2019 (arXiv 1906.07651, section 3.1) do it for the transformer: a first pass over the true words,
without gradient, from whose predictions the words are drawn, and a second one over the mixture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from showtell.config import Config, ObjectiveConfig
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.data.sampler import drawn_batches, epoch_batches
from showtell.decoders.base import Decoder
from showtell.decoding.sampling import draw
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START
from showtell.training.batches import Loader
from showtell.training.corpus import Corpus
from showtell.training.objectives.base import Batch, Loss, in_eval_mode, nothing
from showtell.training.objectives.losses import cross_entropy


class CrossEntropy:
    """An epoch visits each caption once.

    Args:
        by_picture: whether a batch holds whole pictures rather than captions of one length.
        styles: ids of the vocabulary's styles, which are not words.
    """

    unit = "captions"
    figures: tuple[str, ...] = ("loss", "objective")
    shown: tuple[str, ...] = ("loss", "perplexity")

    def __init__(
        self,
        *,
        corpus: Corpus,
        load: Loader,
        runtime: Runtime,
        config: Config,
        by_picture: bool,
        styles: Sequence[int] = (),
    ) -> None:
        self.corpus, self.load, self.runtime = corpus, load, runtime
        self.config, self.by_picture, self.styles = config, by_picture, styles

    @property
    def num_items(self) -> int:
        """Captions."""
        return len(self.corpus)

    def batches(self, epoch: int) -> list[Batch]:
        """Arrays of caption numbers."""
        if self.config.training.batch_by == "drawn_length":
            return drawn_batches(
                self.corpus.lengths,
                self.config.training.batch_size,
                seed=self.config.seed,
                epoch=epoch,
            )
        return epoch_batches(
            self.corpus.lengths,
            self.config.training.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            pictures=self.corpus.pictures if self.by_picture else None,
        )

    def part(self, batch: Batch, processes: Processes) -> Batch:
        """Places of captions in the batch."""
        return self.load.part_of_captions(self.corpus.pictures[batch], processes)

    def expect(self, batches: Sequence[Batch], step: int) -> None:
        """Their pictures."""
        self.load.expect([self.corpus.pictures[batch] for batch in batches], step)

    def close(self) -> None:
        """Of the loader."""
        self.load.close()

    def __call__(
        self, decoder: Decoder, batch: Batch, part: Batch, *, epoch: int, step: int
    ) -> Loss:
        """Figures: ``loss`` in nats a token, and ``objective`` as minimised."""
        if not len(part):
            return nothing(decoder)
        inputs, targets = self.corpus.tensors(batch[part], self.runtime.device)
        features = self.load.of_captions(self.corpus.pictures[batch], step, part)
        captions = None
        if share := sampled_share(epoch, self.config.objective):
            # An autocast of its own: it keeps the weights that it converts, here without gradient.
            with in_eval_mode(decoder), self.runtime.autocast():
                captions = inputs
                inputs = mix_in_samples(decoder, features, captions, share, self.styles)
        with self.runtime.autocast():
            loss = cross_entropy(
                decoder,
                features,
                inputs,
                targets,
                captions=captions,
                label_smoothing=self.config.training.label_smoothing,
            )
        figures = {"loss": loss.nll, "objective": loss.objective.detach()}
        return Loss(loss.objective, loss.num_tokens, figures)


def sampled_share(epoch: int, config: ObjectiveConfig) -> float:
    """Probability that an input word is the model's own in ``epoch``, from 1 on: linear, capped."""
    rising = max(epoch - config.scheduled_sampling_start, 0)
    share = rising * config.scheduled_sampling_increase_prob
    return min(share, config.scheduled_sampling_max_prob)


@torch.no_grad()
def mix_in_samples(
    decoder: Decoder,
    features: Features,
    inputs: Tensor,
    share: float,
    styles: Sequence[int] = (),
) -> Tensor:
    """Replace words by what the decoder says after the true words before them.

    Args:
        decoder: in eval mode.
        inputs: (B, T) ids, ``<start>`` or a style first; it and padding stay.
        share: probability with which a word is replaced.
        styles: ids that are not words.

    Returns:
        (B, T) ids. A caption's length is given, so no word becomes ``<end>``.
    """
    is_word = inputs[:, 1:] != PAD
    replaced = is_word & (torch.rand(is_word.shape, device=inputs.device) < share)
    states = decoder.hidden_states(features, inputs).states
    log_probs = decoder.output(states[:, :-1][replaced]).float().log_softmax(dim=-1)
    log_probs[:, [PAD, START, END, *styles]] = float("-inf")
    drawn = draw(log_probs, torch.rand(len(log_probs), device=inputs.device))
    mixed = inputs.clone()
    mixed[:, 1:][replaced] = drawn
    return mixed
