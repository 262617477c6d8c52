"""Teachers of a run: trained decoders whose probabilities a student learns.

They see the student's own features, so they were trained with its encoder, and their words are the
student's first words. A student may know more words than its teachers: they never say those.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.decoders.base import Decoder
from showtell.encoders.encoder import Encoder
from showtell.encoders.features import Features
from showtell.errors import CheckpointError, VocabularyError
from showtell.inference.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from showtell.inference.files import VOCABULARY
from showtell.text.vocabulary import START, UNK, Vocabulary, load_vocabulary


@dataclass(frozen=True)
class Teachers:
    """Decoders of one vocabulary and one encoder.

    Attributes:
        decoders: in eval mode, without gradient.
        vocabulary: of all of them.
    """

    decoders: tuple[Decoder, ...]
    vocabulary: Vocabulary

    @property
    def need_regions(self) -> bool:
        """Whether one of them reads the grid."""
        return any(decoder.needs_regions for decoder in self.decoders)

    def log_probs(
        self,
        features: Features,
        inputs: Tensor,
        real: Tensor,
        *,
        num_words: int,
        temperature: float = 1.0,
    ) -> Tensor:
        """The log of the mean probability of each next word, in fp32.

        The mean is that of an ensemble (``decoding/ensemble.py``): of probabilities, each at the
        temperature.

        Args:
            inputs: (B, T) ids, ``<start>`` or a style first.
            real: (B, T) the N places that are wanted.
            num_words: V, the student's words.
            temperature: divides the logits.

        Returns:
            (N, V); -inf for words that teachers lack.
        """
        known = len(self.vocabulary)
        seen = inputs.masked_fill(inputs >= known, UNK)
        seen[:, 0] = START  # whatever the student's style, which teachers may not know
        total: Tensor | None = None
        for decoder in self.decoders:
            logits = decoder.output(decoder.hidden_states(features, seen).states[real])
            own = (logits.float() / temperature).log_softmax(dim=-1)
            total = own if total is None else torch.logaddexp(total, own)
        assert total is not None
        total = total - math.log(len(self.decoders))
        return F.pad(total, (0, num_words - known), value=-math.inf)


def open_teachers(config: Config, encoder: Encoder, runtime: Runtime) -> Teachers | None:
    """The teachers that the settings name; None for an objective without any.

    Raises:
        CheckpointError: one cannot be read, or was trained with another encoder.
        VocabularyError: they have different vocabularies.
    """
    if config.objective.kind != "distil":
        return None
    names = config.objective.teachers
    checkpoints = [load_checkpoint(name) for name in names]
    first = checkpoints[0].vocabulary
    for name, checkpoint in zip(names, checkpoints, strict=True):
        if reason := why_not(checkpoint, first, encoder):
            raise (VocabularyError if checkpoint.vocabulary != first else CheckpointError)(
                f"objective.teachers: {name} {reason}"
            )
    decoders = tuple(c.decoder.to(runtime.device).requires_grad_(False) for c in checkpoints)
    return Teachers(decoders, first)


def teachers_vocabulary(config: Config) -> Vocabulary | None:
    """That of the first teacher that the settings name, whose words a student reads.

    Raises:
        CheckpointError: it is not a checkpoint.
        VocabularyError: its vocabulary cannot be read.
    """
    if config.objective.kind != "distil":
        return None
    return load_vocabulary(find_checkpoint(config.objective.teachers[0]) / VOCABULARY)


def why_not(teacher: Checkpoint, vocabulary: Vocabulary, encoder: Encoder) -> str | None:
    """Why a model cannot be a teacher beside one with this vocabulary, for this encoder."""
    trained_with = teacher.metrics.get("encoder_fingerprint")
    if teacher.vocabulary != vocabulary:
        return "has a different vocabulary from the first: teachers need one vocabulary"
    if trained_with not in (None, encoder.fingerprint):
        return (
            f"was trained with encoder {trained_with}, and this run's {encoder.name!r} is "
            f"{encoder.fingerprint}: a teacher must see what its student sees"
        )
    return None


def check_words(teachers: Teachers, vocabulary: Vocabulary) -> None:
    """Make sure that a student's first words are its teachers'.

    Raises:
        VocabularyError: they are not.
    """
    known = teachers.vocabulary.words
    if vocabulary.words[: len(known)] != known:
        raise VocabularyError(
            f"this run has a vocabulary of {len(vocabulary):,} {vocabulary.unit} that does not "
            f"begin with the {len(known):,} of its teachers: leave out data.vocab_file, "
            "data.subwords and training.init_from to take the teachers' own"
        )
