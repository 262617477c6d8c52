"""Vocabularies: the tokens of a model and their ids, how tokens spell words, and their JSON file.

Ids are ``<pad>`` 0, ``<start>`` 1, ``<end>`` 2, ``<unk>`` 3, then the tokens. In a vocabulary of
words these are the words, the most frequent first; ties are in alphabetical order, so that the
same captions always give the same ids. Vocabularies of pieces of words are in ``subwords.py``.

Decoding reads a vocabulary's ``Spelling`` to find which tokens can make up a word.
``load_vocabulary`` reads ``vocabulary.json``, whichever kind of vocabulary is in it.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self

from showtell.core.files import read_json, write_text
from showtell.core.messages import counted
from showtell.errors import VocabularyError
from showtell.text.segment import Segmentation
from showtell.text.tokenizer import TOKENIZER

MOST_BYTES = 40_000_000  # of a vocabulary file: more than a million pieces and their merges take
PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
_STYLE = re.compile(r"<Style:([a-z]+)>")


def is_style(name: str) -> bool:
    """Whether a style of captions can have this name: lower-case letters, as in ``short``."""
    return _STYLE.fullmatch(f"<Style:{name}>") is not None


@dataclass(frozen=True, slots=True)
class Spelling:
    """The text of each id.

    Attributes:
        texts: by id, without any marker; "" for the special ones.
        starts: by id, whether it begins a new word.
        in_bytes: whether ``texts`` are bytes of UTF-8, each as the latin-1 character of its value,
            as a piece of a word may end within a character.
    """

    texts: tuple[str, ...]
    starts: tuple[bool, ...]
    in_bytes: bool = False

    def spell(self, word: str) -> str:
        """What the texts of a word's tokens, one after the other, are equal to."""
        return word.encode().decode("latin-1") if self.in_bytes else word


class Vocabulary(ABC):
    """A fixed list of tokens; text in, ids out, and back.

    Training and scoring cut captions into words in one way, ``segmentation``; a vocabulary says
    which ids a word has.

    Attributes:
        words: what each id says, the four special ones first.
        unit: what its tokens are, for messages: ``words``.
        tokenizer: name and version of the tokeniser whose words it has; a vocabulary that was made
            by an earlier version keeps that version's name, and so its model's fingerprint.
        language: of the captions, as ``Segmentation.language``; None is English, or not known.
    """

    words: tuple[str, ...]
    unit: str
    tokenizer: str = TOKENIZER
    language: str | None = None

    @property
    @abstractmethod
    def spelling(self) -> Spelling:
        """How the tokens make words, for decoding."""

    @abstractmethod
    def encode_each(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each word."""

    @abstractmethod
    def split(self, ids: Iterable[int]) -> list[tuple[str, int]]:
        """The words up to the first ``<end>``, each with the number of its tokens.

        ``<pad>`` and ``<start>`` are passed over.
        """

    @abstractmethod
    def to_json(self) -> str:
        """One token a line; the same for the same vocabulary."""

    @property
    def segmentation(self) -> Segmentation:
        """How captions are cut into its words, and how its words make captions."""
        return Segmentation(self.tokenizer, self.language)

    def cut_by(self, segmentation: Segmentation) -> Self:
        """Take over how captions are cut into words; gives the vocabulary itself."""
        self.tokenizer, self.language = segmentation.tokenizer, segmentation.language
        return self

    @property
    def styles(self) -> Mapping[str, int]:
        """The styles that were learnt, with their ids.

        A style's id stands in the place of ``<start>``, and never later.
        """
        return {}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        """Whether the word is one token."""
        return len([index for index in self.encode_words([word]) if index != UNK]) == 1

    def encode_words(self, words: Iterable[str]) -> list[int]:
        """Ids of words, one after the other; no start or end is added."""
        return list(chain.from_iterable(self.encode_each(list(words))))

    def encode(self, caption: str) -> list[int]:
        """Tokenise a caption and give its ids; no start or end is added."""
        return self.encode_words(self.segmentation.words(caption))

    def decode_words(self, ids: Iterable[int]) -> list[str]:
        """Words up to the first ``<end>``; ``<pad>`` and ``<start>`` are passed over."""
        return [word for word, _ in self.split(ids)]

    def decode(self, ids: Iterable[int]) -> str:
        """The caption that ids stand for."""
        return self.segmentation.join(self.decode_words(ids))

    def _head(self) -> dict[str, Any]:
        """What its file says of its words; English is not named, as it was before."""
        named = {} if self.language is None else {"language": self.language}
        return {"tokenizer": self.tokenizer, **named}

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, self.to_json())


def said(ids: Iterable[int]) -> Iterable[int]:
    """The ids up to the first ``<end>`` that stand for text or for ``<unk>``."""
    for index in ids:
        if index == END:
            return
        if index not in (PAD, START):
            yield index


class WordVocabulary(Vocabulary):
    """A fixed list of words; any other is ``<unk>``.

    Args:
        counts: each word with how often the training captions have it; the order gives the ids.
        threshold: the count below which words were left out.

    Attributes:
        counts: as given.
    """

    unit = "words"

    def __init__(self, counts: Mapping[str, int], threshold: int) -> None:
        self.words: tuple[str, ...] = (*SPECIAL_WORDS, *counts)
        self.counts = dict(counts)
        self.threshold = threshold
        if len({*self.words}) != len(self.words):
            raise VocabularyError("a vocabulary names one of its words twice")
        # Without the special ones: "<end>" in a caption ends nothing, it is a word not known here.
        self._ids = {word: index for index, word in enumerate(counts, len(SPECIAL_WORDS))}

    @classmethod
    def build(
        cls, counts: Mapping[str, int], threshold: int = 1, *, styles: Iterable[str] = ()
    ) -> Self:
        """Keep the words that are seen ``threshold`` times or more, and add styles.

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
            raise VocabularyError(_no_word(counts, threshold))
        return cls(dict(kept), threshold).with_styles(styles)

    def with_styles(self, styles: Iterable[str]) -> Self:
        """The same words and then the styles that it lacks; itself where it lacks none."""
        missing = [style for style in sorted(set(styles)) if style not in self.styles]
        if not missing:
            return self
        tokens = {f"<Style:{name}>": 0 for name in missing}
        return type(self)(self.counts | tokens, self.threshold).cut_by(self.segmentation)

    @cached_property
    def styles(self) -> Mapping[str, int]:
        """The words ``<Style:NAME>``, which no caption has: the tokeniser writes lower case."""
        found = ((_STYLE.fullmatch(word), index) for index, word in enumerate(self.words))
        return {match[1]: index for match, index in found if match}

    def extended(self, counts: Mapping[str, int], threshold: int) -> "WordVocabulary":
        """The same with further words after its own, whose ids stay.

        Args:
            counts: words and how often they are seen; those that are here already are passed over.
            threshold: the count from which on a word is added; the most frequent come first.
        """
        added = sorted(
            (
                (word, count)
                for word, count in counts.items()
                if count >= threshold and word not in self and word not in SPECIAL_WORDS
            ),
            key=lambda item: (-item[1], item[0]),
        )
        if not added:
            return self
        larger = WordVocabulary({**self.counts, **dict(added)}, self.threshold)
        return larger.cut_by(self.segmentation)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordVocabulary) and self.words == other.words

    __hash__ = None  # type: ignore[assignment]  # equality is by content

    @cached_property
    def spelling(self) -> Spelling:
        """Each word by itself."""
        num_special = len(SPECIAL_WORDS)
        texts = ("",) * num_special + self.words[num_special:]
        return Spelling(texts, (False,) * num_special + (True,) * (len(self) - num_special))

    def encode_each(self, words: Sequence[str]) -> list[list[int]]:
        """One id a word; ``<unk>`` for a word that is not here."""
        get = self._ids.get
        return [[get(word, UNK)] for word in words]

    def split(self, ids: Iterable[int]) -> list[tuple[str, int]]:
        """Each id is a word."""
        return [(self.words[index], 1) for index in said(ids)]

    def to_json(self) -> str:
        """One word a line, with its count."""
        head = {"format": 1, **self._head(), "threshold": self.threshold}
        lines = ",\n".join(
            f"    {json.dumps(word, ensure_ascii=False)}: {count}"
            for word, count in self.counts.items()
        )
        start = json.dumps(head, indent=2)[:-2]
        return f'{start},\n  "words": {{\n{lines}\n  }}\n}}\n'

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What ``to_json`` wrote, parsed.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it was something else.
        """
        counts, threshold = data["words"], data["threshold"]
        if not all(isinstance(count, int) for count in (threshold, *counts.values())):
            raise TypeError("a count is not a number")
        "".join(counts).encode()  # half of a surrogate pair is not text
        return cls(counts, threshold)


def _no_word(counts: Mapping[str, int], threshold: int) -> str:
    problem = f"no word is seen data.vocab_threshold = {threshold} times"
    if not counts:
        return f"{problem}: there is none at all"
    most = max(counts.values())
    return (
        f"{problem} (the most frequent is seen {counted(most, 'time')}); lower it: "
        f"-s data.vocab_threshold={most}, or give more captions"
    )


def load_vocabulary(path: Path) -> Vocabulary:
    """Read what ``Vocabulary.save`` wrote.

    Raises:
        VocabularyError: missing, not JSON, not a vocabulary, larger than any real one, or for
            another tokeniser.
    """
    from showtell.text.subwords import KIND, SubwordVocabulary  # which is built on this module

    try:
        data = read_json(path, MOST_BYTES)
        is_subwords = data.get("kind") == KIND
        kind = SubwordVocabulary if is_subwords else WordVocabulary
        vocabulary: Vocabulary = kind.from_json(data)
        if not isinstance(tokenizer := data["tokenizer"], str):
            raise TypeError("its tokenizer is not a name")
        language = data.get("language")
    except UnicodeDecodeError:
        kind_of_file = "a Python pickle" if path.read_bytes()[:1] == b"\x80" else "a binary file"
        raise VocabularyError(
            f"{path} is {kind_of_file}, which showtell does not read; expected a vocabulary.json, "
            "as the folder of every trained model has one (leave data.vocab_file out to build a "
            "vocabulary from the captions)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VocabularyError) as error:
        raise VocabularyError(f"{path} is not a showtell vocabulary: {error}") from None
    try:
        return vocabulary.cut_by(Segmentation.named(tokenizer, language))
    except VocabularyError as error:
        raise VocabularyError(
            f"{path} was made with tokeniser {tokenizer!r}: {error}; this version has "
            f"{TOKENIZER!r} and others; build the vocabulary again"
        ) from None
