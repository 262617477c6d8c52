"""Self-critical sequence training (SCST): captions are drawn, rewarded, and made likelier or rarer.

Rennie et al. 2017 (arXiv 1612.00563, section 3): REINFORCE whose baseline is the reward of the
decoder's own greedy caption; or, after Luo 2020 (arXiv 2003.09971, equation 7), the mean reward of
the picture's other samples, which needs no greedy caption.

A step has two passes. Captions are drawn without gradient and in eval mode, from the model that
will be measured. Then one teacher-forced pass over them, in training mode, gives their
probabilities with a gradient. So dropout acts on what is learnt from a sample and not on which
samples are drawn. Without dropout in the second pass, a decoder learns the samples' rewards by
heart: the reward on training pictures rises while the metrics on other pictures fall.

A decoder that was trained with label smoothing and dropout says little that is sensible at
temperature 1. Below it, samples are near what search would find, and the decoder learns which of
them is better instead of how to be less random.

The reward (``CaptionReward``) is a mixture of CIDEr-D and BLEU-4, computed on ids without going
through text. Captions and references end in ``<end>``, which is a word like any other in their
n-grams: a reward without it pays nothing for ending in the right place, and half of the captions
come to end in "with a". Document frequencies are of the training references, in which a word below
the vocabulary's threshold is ``<unk>``, which no caption has. Pieces of words are joined to words
first. ``objective.invention_penalty`` takes something from it for every object that a caption
invents, by the counts of CHAIR with the references as truth (Rohrbach et al. 2018, arXiv
1809.02156): CIDEr-D alone pays well for the person who is usually there.

Captions are drawn without a style, also from a model that has learnt some, and rewarded by all
references of their picture, whatever the style of these.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.decoders.base import Decoder
from showtell.decoding.arrays import Ids
from showtell.decoding.constraints import build_constraints, each_id_is_a_word
from showtell.decoding.constraints.named_words import NamedWords
from showtell.decoding.generate import most_tokens
from showtell.decoding.sampling import sample
from showtell.encoders.features import Features
from showtell.metrics.bleu import Bleu
from showtell.metrics.cider import CiderD
from showtell.metrics.ngrams import ReferenceNgrams
from showtell.metrics.object_hallucination import ObjectWords
from showtell.text.vocabulary import END, PAD, Vocabulary
from showtell.training.batches import Loader
from showtell.training.corpus import Corpus
from showtell.training.objectives.base import Batch, Loss, in_eval_mode, nothing
from showtell.training.objectives.losses import NEVER_SAID, policy_gradient

SAMPLE_STREAM = 2  # keeps the samples' random numbers apart from the views'


class SelfCritical:
    """An epoch visits each picture once, for ``objective.num_samples`` captions."""

    unit = "pictures"
    figures = ("loss", "reward", "baseline")
    shown = figures

    def __init__(
        self,
        *,
        corpus: Corpus,
        vocabulary: Vocabulary,
        load: Loader,
        runtime: Runtime,
        config: Config,
    ) -> None:
        self.load, self.runtime, self.config = load, runtime, config
        self.longest = NamedWords(vocabulary.spelling).max_tokens(config.decoding.max_length)
        self.never = (*NEVER_SAID, *vocabulary.styles.values())
        self.reward = CaptionReward(
            corpus,
            vocabulary,
            cider_weight=config.objective.cider_weight,
            bleu_weight=config.objective.bleu_weight,
            invention_penalty=config.objective.invention_penalty,
        )

    @property
    def num_items(self) -> int:
        """Pictures."""
        return len(self.reward.pictures)

    def batches(self, epoch: int) -> list[Batch]:
        """Arrays of indices of pictures."""
        order = np.random.default_rng((self.config.seed, epoch)).permutation(self.num_items)
        size = self.config.training.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def part(self, batch: Batch, processes: Processes) -> Batch:
        """Places of pictures in the batch, one after the other."""
        return np.array(processes.part(len(batch)), np.int64)

    def expect(self, batches: Sequence[Batch], step: int) -> None:
        """Their pictures."""
        self.load.expect([self.reward.pictures[batch] for batch in batches], step)

    def close(self) -> None:
        """Of the loader."""
        self.load.close()

    def __call__(
        self, decoder: Decoder, batch: Batch, part: Batch, *, epoch: int, step: int
    ) -> Loss:
        """Figures: ``loss`` a token, mean ``reward`` of the samples, mean ``baseline``."""
        if not len(part):
            return nothing(decoder)
        features = self.load.of_pictures(self.reward.pictures[batch], step, part)
        batch, first = batch[part], int(part[0])
        # An autocast of its own: it keeps the weights that it converts, here without gradient.
        with in_eval_mode(decoder), self.runtime.autocast():
            samples = self._draw(decoder, features, step, first, self.config.objective.num_samples)
            greedy = None
            if self.config.objective.baseline == "greedy":
                greedy = self._draw(decoder, features, step, first, 1, top_k=1)
        started = time.perf_counter()
        longest = self._longest(decoder)
        rewards = self._rewards(batch, samples, longest)
        if greedy is None:
            baselines = mean_of_others(rewards)
        else:
            baselines = self._rewards(batch, greedy, longest)
        seconds = time.perf_counter() - started
        advantages = torch.from_numpy((rewards - baselines).astype(np.float32).flatten())
        num_samples = samples.shape[1]
        picture_of = torch.arange(len(batch)).repeat_interleave(num_samples)
        with self.runtime.autocast():
            loss = policy_gradient(
                decoder,
                features._replace(picture_of=picture_of.to(self.runtime.device)),
                torch.from_numpy(samples.reshape(-1, samples.shape[2])).to(self.runtime.device),
                advantages.to(self.runtime.device),
                temperature=self.config.objective.temperature,
                never=self.never,
            )
        figures: dict[str, float | Tensor] = {
            "loss": loss.detach(),
            "reward": float(rewards.mean()),
            "baseline": float(baselines.mean()),
        }
        return Loss(
            loss,
            int((samples != PAD).sum()),
            figures,
            over={"reward": rewards.size, "baseline": baselines.size},
            seconds={"reward": seconds},
        )

    def _longest(self, decoder: Decoder) -> int:
        """The most tokens of a caption before ``<end>``."""
        return most_tokens(decoder, self.longest)

    def _draw(
        self,
        decoder: Decoder,
        features: Features,
        step: int,
        first: int,
        num: int,
        top_k: int | None = None,
    ) -> Ids:
        """(P, num, T) ids, ``<pad>`` after ``<end>``; ``first`` is the first one's place.

        A caption that would be longer than ``decoding.max_length`` has a token more than that in
        place of ``<end>``: the decoder chose not to end, and learns of it, but is rewarded without
        that token. No ``<end>`` is forced, as what the decoder did not choose has no gradient.
        """
        longest = self._longest(decoder)
        seed = np.random.SeedSequence((self.config.seed, step, SAMPLE_STREAM)).generate_state(1)
        return sample(
            decoder,
            features,
            num_captions=num,
            max_length=longest,
            temperature=self.config.objective.temperature,
            top_k=top_k,
            seed=int(seed[0]),
            first=first,
            constraints=build_constraints(max_tokens=longest + 1, never=self.never),
        ).tokens

    def _rewards(self, batch: Batch, captions: Ids, longest: int) -> NDArray[np.float64]:
        """(P, K, T) ids -> (P, K); of a longer caption its first ``longest`` tokens count."""
        num_captions = captions.shape[1]
        flat = captions.reshape(-1, captions.shape[2])
        beyond = flat[:, longest:]
        flat = np.concatenate([flat[:, :longest], np.where(beyond == END, END, PAD)], axis=1)
        lengths = (flat != PAD).sum(axis=1).tolist()
        rows = [row[:length] for row, length in zip(flat.tolist(), lengths, strict=True)]
        rewards = self.reward(np.repeat(batch, num_captions), rows)
        return np.reshape(rewards, (-1, num_captions))


class CaptionReward:
    """Rewards captions of a corpus's pictures.

    Args:
        vocabulary: of the corpus's ids.
        cider_weight: of CIDEr-D, which is 0 to 10.
        bleu_weight: of sentence BLEU-4 as COCO computes it, which is 0 to 1.
        invention_penalty: for each mention of an object that no reference mentions.

    Attributes:
        pictures: (P,) the corpus's pictures, rising, each once.
    """

    def __init__(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        *,
        cider_weight: float,
        bleu_weight: float,
        invention_penalty: float = 0.0,
    ) -> None:
        self.pictures = np.unique(corpus.pictures)
        self.cider_weight, self.bleu_weight = cider_weight, bleu_weight
        self._words = _word_numbers(vocabulary)
        references = corpus.references(self.pictures)
        self._ngrams = ReferenceNgrams([list(map(self._words, one)) for one in references])
        self._cider = CiderD.from_ngrams(self._ngrams, [str(p) for p in self.pictures])
        self._bleu = Bleu(self._ngrams)
        self.invention_penalty, self._vocabulary = invention_penalty, vocabulary
        self._objects: list[set[str]] = []
        if invention_penalty:
            self._objects = [set().union(*map(self._mentioned, one)) for one in references]

    def __call__(
        self, pictures: NDArray[np.int64], captions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """(N,) rewards.

        Args:
            pictures: (N,) indices into ``pictures``, of the picture of each caption.
            captions: N captions as ids, with ``<end>`` where they end.
        """
        levels, lengths = self._ngrams.count(list(map(self._words, captions)))
        rewards = np.zeros(len(captions))
        if self.cider_weight:
            rewards += self.cider_weight * self._cider.score_counts(pictures, levels, lengths)
        if self.bleu_weight:
            scores = self._bleu.score_counts(pictures, levels, lengths)
            rewards += self.bleu_weight * scores[:, -1]
        if self.invention_penalty:
            there = (self._objects[picture] for picture in pictures)
            invented = [
                sum(name not in objects for name in self._mentioned(caption))
                for caption, objects in zip(captions, there, strict=True)
            ]
            rewards -= self.invention_penalty * np.array(invented)
        return rewards

    def _mentioned(self, caption: Sequence[int]) -> list[str]:
        """The objects that a caption mentions."""
        words = [word for word, _ in self._vocabulary.split(caption)]
        return ObjectWords.default().mentioned(words)


def _word_numbers(vocabulary: Vocabulary) -> Callable[[Sequence[int]], Sequence[int]]:
    """What brings a caption's ids to a number for each word; ``<end>`` stays."""
    if each_id_is_a_word(vocabulary.spelling):
        return lambda ids: ids
    numbers: dict[str, int] = defaultdict(count(END + 1).__next__)

    def words(ids: Sequence[int]) -> list[int]:
        said = [numbers[word] for word, _ in vocabulary.split(ids)]
        return [*said, END] if len(ids) and ids[-1] == END else said

    return words


def mean_of_others(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, K) rewards -> for each sample the mean of the picture's K - 1 others."""
    total = rewards.sum(axis=1, keepdims=True)
    means: NDArray[np.float64] = (total - rewards) / (rewards.shape[1] - 1)
    return means
