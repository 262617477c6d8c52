"""Words and their ids, built with a count threshold and kept as readable JSON.

Ids: ``<pad>`` 0, ``<start>`` 1, ``<end>`` 2, ``<unk>`` 3, then the words, the most frequent
first (ties in alphabetical order, so that the same captions always give the same ids).
"""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

from showtell.errors import VocabularyError
from showtell.files import write_text
from showtell.text.spelling import Spelling
from showtell.text.tokenizer import TOKENIZER, tokenize

PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")


class Vocabulary:
    """A fixed list of words; text in, ids out, and back.

    Args:
        counts: each word with how often the training captions have it; the order gives the ids.
        threshold: the count below which words were left out.

    Attributes:
        words: every word by its id, the four special ones first.
        counts: as given.
    """

    def __init__(self, counts: Mapping[str, int], threshold: int) -> None:
        self.words: tuple[str, ...] = (*SPECIAL_WORDS, *counts)
        self.counts = dict(counts)
        self.threshold = threshold
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise VocabularyError("a vocabulary names one of its words twice")

    @classmethod
    def build(cls, counts: Mapping[str, int], threshold: int = 1) -> Self:
        """Keep the words that are seen ``threshold`` times or more.

        Raises:
            VocabularyError: no word is seen so often.
        """
        kept = sorted(
            (
                (word, count)
                for word, count in counts.items()
                if count >= threshold and word not in SPECIAL_WORDS
            ),
            key=lambda item: (-item[1], item[0]),
        )
        if not kept:
            most = f" (the most frequent is seen {max(counts.values())} times)" if counts else ""
            raise VocabularyError(
                f"no word is seen data.vocab_threshold = {threshold} times{most}; lower it"
            )
        return cls(dict(kept), threshold)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    __hash__ = None  # type: ignore[assignment]  # equality is by content

    @cached_property
    def spelling(self) -> Spelling:
        """Each id is a word."""
        num_special, num_words = len(SPECIAL_WORDS), len(self.counts)
        return Spelling(
            ("",) * num_special + self.words[num_special:],
            (False,) * num_special + (True,) * num_words,
        )

    def encode_words(self, words: Iterable[str]) -> list[int]:
        """Ids of words; ``<unk>`` for a word that is not here. No start or end is added."""
        get = self._ids.get
        return [get(word, UNK) for word in words]

    def encode(self, caption: str) -> list[int]:
        """Tokenise a caption and give its ids; no start or end is added."""
        return self.encode_words(tokenize(caption))

    def decode_words(self, ids: Iterable[int]) -> list[str]:
        """Words up to the first ``<end>``; ``<pad>`` and ``<start>`` are passed over."""
        words = []
        for index in ids:
            if index == END:
                break
            if index not in (PAD, START):
                words.append(self.words[index])
        return words

    def decode(self, ids: Iterable[int]) -> str:
        """The caption that ids stand for, its words joined by spaces."""
        return " ".join(self.decode_words(ids))

    def to_json(self) -> str:
        """One word a line, with its count."""
        head = {"format": 1, "tokenizer": TOKENIZER, "threshold": self.threshold}
        lines = ",\n".join(
            f"    {json.dumps(word, ensure_ascii=False)}: {count}"
            for word, count in self.counts.items()
        )
        start = json.dumps(head, indent=2)[:-2]
        return f'{start},\n  "words": {{\n{lines}\n  }}\n}}\n'

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            VocabularyError: missing, not JSON, not a vocabulary, or for another tokeniser.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            counts, threshold = data["words"], data["threshold"]
            if not all(isinstance(count, int) for count in counts.values()):
                raise TypeError("a count is not a number")
            tokenizer = data["tokenizer"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise VocabularyError(f"{path} is not a showtell vocabulary: {error}") from None
        if tokenizer != TOKENIZER:
            raise VocabularyError(
                f"{path} was made with tokeniser {tokenizer!r}, this version has {TOKENIZER!r}; "
                "build the vocabulary again"
            )
        return cls(counts, threshold)
