"""Pieces of words: exact, the same every time, and GPT-2's own where they are GPT-2's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from showtell.errors import MissingExtraError, VocabularyError
from showtell.text.subwords import BYTE_OF, SubwordVocabulary
from showtell.text.tokenizer import tokenize
from showtell.text.vocabulary import (
    END,
    PAD,
    START,
    UNK,
    Vocabulary,
    WordVocabulary,
    load_vocabulary,
)

COUNTS = {"a": 40, "dog": 9, "dogs": 5, "running": 6, "runs": 4, "café": 3, "n't": 2, "once": 1}
PIECES = SubwordVocabulary.build(COUNTS, 30)
WORDS = WordVocabulary.build(COUNTS)


@given(st.text() | st.lists(st.sampled_from([*COUNTS, "5 1/2", "doesn't", "🐕"])).map(" ".join))
def test_decoding_gives_back_the_words(caption: str) -> None:
    ids = PIECES.encode(caption)
    assert UNK not in ids
    assert PIECES.decode(ids) == " ".join(tokenize(caption))
    assert [START, *ids, END, 9, PAD] == [START, *PIECES.encode(caption), END, 9, PAD]
    assert PIECES.decode([START, *ids, END, 9, PAD]) == PIECES.decode(ids)


@given(st.lists(st.sampled_from([*COUNTS, "zebra", "dogrunning", "naïve", "它"])))
@pytest.mark.parametrize("vocabulary", [PIECES, WORDS])
def test_split_counts_the_tokens_of_each_word(vocabulary: Vocabulary, words: list[str]) -> None:
    each = vocabulary.encode_each(words)
    ids = vocabulary.encode_words(words)
    assert [index for one in each for index in one] == ids
    assert [count for _, count in vocabulary.split([*ids, END, PAD])] == [len(one) for one in each]
    assert vocabulary.decode_words(ids) == [
        word if word in COUNTS or vocabulary is PIECES else "<unk>" for word in words
    ]


@given(st.sampled_from([*COUNTS, "zebra", "naïve", "它"]))
def test_the_spelling_of_tokens_makes_words(word: str) -> None:
    """What decoding relies on to forbid and require words."""
    for vocabulary in (PIECES, WORDS):
        spelling, [ids] = vocabulary.spelling, vocabulary.encode_each([word])
        assert len(spelling.texts) == len(spelling.starts) == len(vocabulary)
        assert spelling.texts[:4] == ("",) * 4
        assert spelling.starts[:4] == (False,) * 4
        if UNK not in ids:
            assert "".join(spelling.texts[index] for index in ids) == spelling.spell(word)
            assert [spelling.starts[index] for index in ids] == [True, *(False,) * (len(ids) - 1)]


def test_frequent_words_are_one_piece_and_new_ones_several() -> None:
    assert "dog" in PIECES
    assert "zebra" not in PIECES
    assert len(PIECES) == 4 + 256 + len(PIECES.merges)
    assert PIECES.words[PIECES.encode("dog")[0]] == "dog"


def test_any_ids_decode() -> None:
    """Half a character, and pieces of words before any word began."""
    half = 4 + PIECES.pieces.index("Ã")  # the first byte of é
    assert PIECES.decode([half, *PIECES.encode("dog"), UNK]) == "� dog<unk>"


def test_the_same_captions_give_the_same_ids() -> None:
    backwards = dict(reversed(COUNTS.items()))
    assert SubwordVocabulary.build(backwards, 30).to_json() == PIECES.to_json()
    code = (
        "from showtell.text.subwords import SubwordVocabulary as S; import sys\n"
        f"sys.stdout.buffer.write(S.build({COUNTS!r}, 30).to_json().encode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode() == PIECES.to_json()


@pytest.mark.parametrize("vocabulary", [PIECES, WORDS])
def test_a_file_gives_back_the_vocabulary(tmp_path: Path, vocabulary: Vocabulary) -> None:
    vocabulary.save(tmp_path / "v.json")
    loaded = load_vocabulary(tmp_path / "v.json")
    assert type(loaded) is type(vocabulary)
    assert loaded == vocabulary
    assert loaded != (WORDS if vocabulary is PIECES else PIECES)
    assert loaded.to_json() == vocabulary.to_json()
    assert loaded.encode("a dog runs") == vocabulary.encode("a dog runs")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pieces", ["a"], "bytes have no piece"),
        ("pieces", [*PIECES.pieces, "a"], "twice"),
        ("pieces", [*PIECES.pieces, 3], "not a string"),
        ("merges", ["a"], "not enough values"),
        ("merges", ["a zzz"], "joins or makes something that is not a piece"),
        ("merges", 5, "not iterable"),
        ("tokenizer", "old", "made with tokeniser 'old'"),
    ],
)
def test_a_damaged_file(tmp_path: Path, key: str, value: object, message: str) -> None:
    data = json.loads(PIECES.to_json()) | {key: value}
    (tmp_path / "v.json").write_text(json.dumps(data))
    with pytest.raises(VocabularyError, match=message):
        load_vocabulary(tmp_path / "v.json")


def test_bytes_are_written_as_gpt2_writes_them() -> None:
    assert set(BYTE_OF) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_OF.values()) == list(range(256))
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("é it's\n", "a\u00a0\x00\x7f~¡ÿ", "它🐕"):
        letters = "".join(piece for piece, _ in split.pre_tokenize_str(text))
        assert bytes(BYTE_OF[letter] for letter in letters) == text.encode()


def test_a_language_models_tokeniser_gives_its_own_numbers() -> None:
    """Numbers of pieces are those of the ``tokenizers`` library for the same text, and 4."""
    numbers = {piece: number for number, piece in enumerate(PIECES.pieces)}
    tokenizer = Tokenizer(BPE(vocab=numbers, merges=list(PIECES.merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    vocabulary = SubwordVocabulary.from_tokenizer(json.loads(tokenizer.to_str()))
    assert vocabulary.pieces == (*PIECES.pieces, "<|endoftext|>")
    text = "a dog runs <|endoftext|> café"
    plain = Tokenizer(BPE(vocab=numbers, merges=list(PIECES.merges)))
    plain.pre_tokenizer = tokenizer.pre_tokenizer
    expected = plain.encode(" " + " ".join(tokenize(text))).ids
    assert vocabulary.encode(text) == [number + 4 for number in expected]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "WordPiece", "vocab": {}}},
        {"normalizer": {"type": "Lowercase"}},
        {"model": {"type": "BPE", "vocab": {"a": 5}, "merges": []}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}},
        {"model": None},
    ],
)
def test_a_tokeniser_of_another_make(change: dict) -> None:
    with pytest.raises(VocabularyError):
        SubwordVocabulary.from_tokenizer(change)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[subwords\]"):
        SubwordVocabulary.build(COUNTS, 9)
    again = SubwordVocabulary(PIECES.pieces, PIECES.merges)
    assert again.decode([START, 4, END]) == "!"  # what ids mean is known without it
    with pytest.raises(MissingExtraError):
        again.encode("a dog")
