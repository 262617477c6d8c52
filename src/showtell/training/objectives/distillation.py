"""Cross-entropy of the training captions, and the distance to what teachers find probable.

Knowledge distillation by words (Hinton et al. 2015, arXiv 1503.02531, section 2; Kim and Rush 2016,
arXiv 1606.07947, section 3.1). Of each place of a caption the student learns the probabilities of
all words that its teachers give there. The captions may be people's or the teachers' own; with the
latter it is joined to distillation by sequences (Kim and Rush, section 3.2), which is training on a
teacher's captions by any objective.

Where the teacher is sure, its probabilities say what its captions say. Where it is not, they say
so, and a small student need not choose.
"""

import math

import numpy as np
import torch
from torch import Tensor

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.decoders.base import Decoder
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD
from showtell.training.batches import Loader
from showtell.training.corpus import Corpus
from showtell.training.objectives.base import Batch, Loss, nothing
from showtell.training.objectives.cross_entropy import CrossEntropy
from showtell.training.objectives.losses import smoothed_cross_entropy
from showtell.training.teacher_table import TeacherTable, is_worth_it
from showtell.training.teachers import Teachers


class Distillation(CrossEntropy):
    """(1 - w) cross-entropy + w T**2 KL(teachers || student), both at temperature T.

    The factor T**2 keeps the size of the second gradient as T changes (Hinton et al., section 2).
    At w = 0 it is cross-entropy. Where a decoder predicts ``<start>`` after the picture, that place
    counts in the cross-entropy alone: teachers say nothing there.

    Args:
        teachers: in eval mode, on the runtime's device; they see what the student sees.
    """

    figures = ("loss", "objective", "teacher_kl")
    shown = ("loss", "perplexity", "teacher_kl")

    def __init__(
        self,
        teachers: Teachers,
        *,
        corpus: Corpus,
        load: Loader,
        runtime: Runtime,
        config: Config,
        by_picture: bool,
    ) -> None:
        super().__init__(
            corpus=corpus, load=load, runtime=runtime, config=config, by_picture=by_picture
        )
        self.teachers = teachers
        self.table = self._table()

    def __call__(
        self, decoder: Decoder, batch: Batch, part: Batch, *, epoch: int, step: int
    ) -> Loss:
        """Figures: ``loss`` and ``teacher_kl`` in nats a token, ``objective`` as minimised."""
        if not len(part):
            return nothing(decoder)
        inputs, targets = self.corpus.tensors(batch[part], self.runtime.device)
        features = self.load.of_captions(self.corpus.pictures[batch], step, part)
        settings = self.config.objective
        temperature = settings.teacher_temperature
        real = targets != PAD
        with self.runtime.autocast():
            logits, firsts, penalty = _logits(decoder, features, inputs, real)
        if self.table is not None:
            wanted = self.table.log_probs(batch[part], logits.shape[-1])
        else:
            wanted = self._heard(features, inputs, real, logits.shape[-1])
        predicted, words = logits, targets[real]
        if firsts is not None:
            predicted, words = torch.cat([firsts, logits]), torch.cat([inputs[:, 0], words])
        smoothing = self.config.training.label_smoothing
        hard, nll = smoothed_cross_entropy(predicted, words, smoothing)
        soft = divergence(wanted, (logits.float() / temperature).log_softmax(dim=-1))
        weight = settings.teacher_weight
        objective = (1 - weight) * hard + weight * temperature**2 * soft
        if penalty is not None:
            objective = objective + penalty
        figures = {"loss": nll, "objective": objective.detach(), "teacher_kl": soft.detach()}
        return Loss(objective, len(words), figures, over={"teacher_kl": len(logits)})

    def _table(self) -> TeacherTable | None:
        """Where the teachers would be asked the same in every epoch."""
        num_words = len(self.teachers.vocabulary)
        if not is_worth_it(self.config, self.corpus, num_words):
            return None

        def compute(captions: Batch) -> Tensor:
            inputs, targets = self.corpus.tensors(captions, self.runtime.device)
            features = self.load.of_captions(
                self.corpus.pictures[captions], 0, np.arange(len(captions))
            )
            return self._heard(features, inputs, targets != PAD, num_words)

        return TeacherTable(self.corpus, self.batches(1), num_words, compute, self.runtime.device)

    def _heard(self, features: Features, inputs: Tensor, real: Tensor, num_words: int) -> Tensor:
        """(N, V) what the teachers say at the N places that are not padding."""
        # An autocast of its own: it keeps the weights that it converts, here without gradient.
        with torch.no_grad(), self.runtime.autocast():
            return self.teachers.log_probs(
                features,
                inputs,
                real,
                num_words=num_words,
                temperature=self.config.objective.teacher_temperature,
            )


def divergence(wanted: Tensor, given: Tensor) -> Tensor:
    """KL(wanted || given) in nats, the mean of N places.

    Args:
        wanted: (N, V) log-probabilities; -inf for what is never meant.
        given: (N, V) log-probabilities.
    """
    gap = (wanted - given).masked_fill(wanted == -math.inf, 0.0)
    return (wanted.exp() * gap).sum(dim=-1).mean()


def _logits(
    decoder: Decoder, features: Features, inputs: Tensor, real: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What the student says.

    Returns:
        (N, V) at the N places that are not padding; (B, V) at the place before these, None where
        the decoder predicts nothing there; the decoder's own penalty.
    """
    states, penalty, first = decoder.hidden_states(features, inputs)
    logits = decoder.output(states[real])
    return logits, None if first is None else decoder.output(first[:, 0]), penalty
