"""What a model never heard of: words that people say of pictures and no training caption has."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from showtell.data.records import Record
from showtell.text.tokenizer import tokenize_all

LEAST_REFERENCES = 2


@dataclass(frozen=True)
class UnknownWords:
    """Words of some pictures' references that a model cannot say.

    Attributes:
        num_pictures: how many there are.
        num_affected: of how many two references or more have such a word.
        words: such words with the number of those pictures, the most frequent first.
    """

    num_pictures: int
    num_affected: int
    words: tuple[tuple[str, int], ...]


def unknown_words(records: Sequence[Record], known: Iterable[str]) -> UnknownWords:
    """Words that at least two references of a picture have and ``known`` has not."""
    vocabulary = frozenset(known)
    counts: Counter[str] = Counter()
    affected = 0
    for record in records:
        mentions = Counter(
            word for words in tokenize_all(list(record.captions)) for word in set(words)
        )
        missing = [
            word
            for word, count in mentions.items()
            if count >= LEAST_REFERENCES and word not in vocabulary
        ]
        affected += bool(missing)
        counts.update(missing)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return UnknownWords(len(records), affected, tuple(ordered))


def words_of(captions: Iterable[str]) -> set[str]:
    """Every word of ``captions``."""
    return {word for words in tokenize_all(list(captions)) for word in words}
