"""The reward of captions as ids, without a way by text: a mixture of CIDEr-D and BLEU-4.

Captions and references end in ``<end>``, which is a word like any other in their n-grams. A
reward without it pays nothing for an end in the right place, and half of the captions come to
end in "with a". Document frequencies are of the training references, in which a word below the
vocabulary's threshold is ``<unk>``, which no caption has. Pieces of words are put together to
words first. Knows nothing of models.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from showtell.decoding.constraints import each_id_is_a_word
from showtell.metrics.bleu import Bleu
from showtell.metrics.cider import CiderD
from showtell.metrics.ngrams import ReferenceNgrams
from showtell.text.vocabulary import END, Vocabulary
from showtell.training.corpus import Corpus


class CaptionReward:
    """Rewards captions of a corpus's pictures.

    Args:
        vocabulary: of the corpus's ids.
        cider_weight: of CIDEr-D, which is 0 to 10.
        bleu_weight: of sentence BLEU-4 as COCO computes it, which is 0 to 1.

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
    ) -> None:
        self.pictures = np.unique(corpus.pictures)
        self.cider_weight, self.bleu_weight = cider_weight, bleu_weight
        self._words = _word_numbers(vocabulary)
        references = corpus.references(self.pictures)
        self._ngrams = ReferenceNgrams([list(map(self._words, one)) for one in references])
        self._cider = CiderD.from_ngrams(self._ngrams, [str(p) for p in self.pictures])
        self._bleu = Bleu(self._ngrams)

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
        return rewards


def _word_numbers(vocabulary: Vocabulary) -> Callable[[Sequence[int]], Sequence[int]]:
    """What brings a caption's ids to a number for each word; ``<end>`` stays."""
    if each_id_is_a_word(vocabulary.spelling):
        return lambda ids: ids
    numbers: dict[str, int] = defaultdict(count(END + 1).__next__)

    def words(ids: Sequence[int]) -> list[int]:
        said = [numbers[word] for word, _ in vocabulary.split(ids)]
        return [*said, END] if len(ids) and ids[-1] == END else said

    return words
