"""Pieces of words by byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909), over bytes.

As in GPT-2 (Radford et al. 2019, section 2.2): a word is its UTF-8 bytes with a space before them,
so any word of any language can be said, and nothing is ``<unk>``. One class serves pieces learnt
from captions and those that a language model brings along; the id of a piece is its number there
plus 4. Encoding needs the ``tokenizers`` library (extra ``hf``); decoding ids does not.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from showtell.errors import VocabularyError, needs_extra
from showtell.text.vocabulary import SPECIAL_WORDS, UNK, Spelling, Vocabulary, said

KIND = "subwords"
NUM_SPECIAL = len(SPECIAL_WORDS)
START_OF_WORD = "Ġ"  # how GPT-2 writes the byte of a space


def _byte_letters() -> dict[str, int]:
    """GPT-2's letter for each byte: itself where it prints, else one from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + i): b for i, b in enumerate(others)}


BYTE_OF = _byte_letters()


class SubwordVocabulary(Vocabulary):
    """A fixed list of pieces, and the merges by which words fall into them.

    Args:
        pieces: by their numbers, each byte as GPT-2's letter for it.
        merges: pairs of pieces that are joined, the first first.

    Attributes:
        pieces, merges: as given.

    Raises:
        VocabularyError: a piece is there twice, or a byte has none, or a merge joins or makes what
            is not a piece.
    """

    unit = "pieces of words"

    def __init__(self, pieces: Sequence[str], merges: Sequence[tuple[str, str]]) -> None:
        self.pieces, self.merges = tuple(pieces), tuple(merges)
        known = set(self.pieces)
        if len(known) != len(self.pieces):
            raise VocabularyError("a vocabulary names one of its pieces twice")
        if missing := set(BYTE_OF) - known:
            raise VocabularyError(
                f"{len(missing)} of 256 bytes have no piece: this is not byte-level BPE"
            )
        for one, two in self.merges:
            if not {one, two, one + two} <= known:
                raise VocabularyError(
                    f"the merge {one!r} {two!r} joins or makes something that is not a piece"
                )
        self.words = (*SPECIAL_WORDS, *map(_readable, self.pieces))

    @classmethod
    def build(cls, counts: Mapping[str, int], num_merges: int) -> Self:
        """Learn pieces from words and how often captions have them.

        Args:
            num_merges: pieces beside the 256 bytes, at most; fewer where no pair is seen twice.

        Raises:
            MissingExtraError: ``tokenizers`` is not installed.
        """
        tokenizers = _import_tokenizers()
        from tokenizers.trainers import BpeTrainer

        tokenizer = _tokenizer(tokenizers.models.BPE())
        trainer = BpeTrainer(
            vocab_size=len(BYTE_OF) + num_merges,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=sorted(BYTE_OF),
        )
        # In alphabetical order, so that the same captions always give the same ids.
        texts = (f" {word}" * count for word, count in sorted(counts.items()))
        tokenizer.train_from_iterator(texts, trainer)
        return cls(*_parts(json.loads(tokenizer.to_str())))

    @classmethod
    def from_tokenizer(cls, data: Mapping[str, Any]) -> Self:
        """Of a parsed ``tokenizer.json``, as GPT-2 has it.

        Raises:
            VocabularyError: it does not cut text as GPT-2 does.
        """
        try:
            if data["model"].get("type", "BPE") != "BPE" or data.get("normalizer"):
                raise TypeError("it is not byte-level BPE without a normaliser")
            return cls(*_parts(data))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise VocabularyError(f"the tokeniser is not like GPT-2's: {error}") from None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SubwordVocabulary)
            and self.pieces == other.pieces
            and self.merges == other.merges
        )

    __hash__ = None  # type: ignore[assignment]  # equality is by content

    @cached_property
    def spelling(self) -> Spelling:
        """A piece begins a word where its first byte is a space."""
        texts = [_bytes(piece).decode("latin-1").removeprefix(" ") for piece in self.pieces]
        starts = [piece.startswith(START_OF_WORD) for piece in self.pieces]
        return Spelling(
            ("",) * NUM_SPECIAL + tuple(texts),
            (False,) * NUM_SPECIAL + tuple(starts),
            in_bytes=True,
        )

    @cached_property
    def _encoder(self) -> Any:
        tokenizers = _import_tokenizers()
        numbers = {piece: number for number, piece in enumerate(self.pieces)}
        return _tokenizer(tokenizers.models.BPE(vocab=numbers, merges=list(self.merges)))

    def encode_each(self, words: Sequence[str]) -> list[list[int]]:
        """The pieces of each word.

        Raises:
            MissingExtraError: ``tokenizers`` is not installed.
        """
        encoded = self._encoder.encode_batch([f" {word}" for word in words])
        return [[number + NUM_SPECIAL for number in one.ids] for one in encoded]

    def split(self, ids: Iterable[int]) -> list[tuple[str, int]]:
        """A new word begins with each piece that begins one; what is not UTF-8 becomes U+FFFD."""
        words: list[list[int]] = []
        for index in said(ids):
            if not words or self.spelling.starts[index]:
                words.append([])
            words[-1].append(index)
        return [(self._text(word), len(word)) for word in words]

    def _text(self, ids: Sequence[int]) -> str:
        texts = (self.words[UNK] if index == UNK else self.spelling.texts[index] for index in ids)
        return "".join(texts).encode("latin-1").decode(errors="replace")

    def to_json(self) -> str:
        """One piece a line, then one merge a line."""
        head = {"format": 1, "kind": KIND, **self._head()}
        pieces = _lines(self.pieces)
        merges = _lines(" ".join(pair) for pair in self.merges)
        start = json.dumps(head, indent=2)[:-2]
        return f'{start},\n  "pieces": [{pieces}],\n  "merges": [{merges}]\n}}\n'

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What ``to_json`` wrote, parsed.

        Raises:
            KeyError, TypeError, AttributeError, ValueError, VocabularyError: it was something
                else.
        """
        merges = [_pair(merge) for merge in data["merges"]]
        if not all(isinstance(piece, str) for piece in data["pieces"]):
            raise TypeError("a piece is not a string")
        return cls(data["pieces"], merges)


def _import_tokenizers() -> Any:
    with needs_extra("subwords", "a vocabulary of pieces of words"):
        import tokenizers
    return tokenizers


def _tokenizer(model: Any) -> Any:
    tokenizers = _import_tokenizers()
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _parts(data: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """Pieces and merges of a parsed ``tokenizer.json``."""
    numbers: dict[str, int] = dict(data["model"]["vocab"])
    numbers.update({one["content"]: one["id"] for one in data.get("added_tokens") or ()})
    pieces = sorted(numbers, key=numbers.__getitem__)
    if [numbers[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError("its pieces are not numbered from 0 on without a gap")
    return pieces, [_pair(merge) for merge in data["model"]["merges"]]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """``"a b"`` or ``["a", "b"]``; files have both forms."""
    one, two = merge.split(" ") if isinstance(merge, str) else merge
    return one, two


def _bytes(piece: str) -> bytes:
    """The bytes of a piece; of one that is not text, as ``<|endoftext|>``, its own letters'."""
    try:
        return bytes(BYTE_OF[letter] for letter in piece)
    except KeyError:
        return piece.encode()


def _readable(piece: str) -> str:
    return _bytes(piece).decode(errors="replace").removeprefix(" ")


def _lines(values: Iterable[str]) -> str:
    shown = ",\n".join(f"    {json.dumps(value, ensure_ascii=False)}" for value in values)
    return f"\n{shown}\n  " if shown else ""
