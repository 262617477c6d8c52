import json
import pickle
from pathlib import Path

import pytest

from showtell.errors import VocabularyError
from showtell.text.segment import Segmentation
from showtell.text.vocabulary import END, PAD, START, UNK, WordVocabulary, load_vocabulary

COUNTS = {"dog": 3, "a": 5, "cat": 3, "rare": 1}


def test_ids_follow_frequency_then_the_alphabet() -> None:
    vocabulary = WordVocabulary.build(COUNTS, threshold=2)
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "a", "cat", "dog")
    assert vocabulary.encode("A dog, a RARE cat.") == [4, 6, 4, UNK, 5]


def test_decoding_stops_at_the_end() -> None:
    vocabulary = WordVocabulary.build(COUNTS)
    ids = [START, *vocabulary.encode("a dog"), END, 4, PAD]
    assert vocabulary.decode(ids) == "a dog"


def test_is_kept_as_readable_json(tmp_path: Path) -> None:
    vocabulary = WordVocabulary.build({**COUNTS, "café": 2}, threshold=2)
    vocabulary.save(tmp_path / "v.json")
    text = (tmp_path / "v.json").read_text(encoding="utf-8")
    assert '    "café": 2' in text.splitlines()
    assert json.loads(text)["threshold"] == 2
    assert load_vocabulary(tmp_path / "v.json") == vocabulary


def test_words_of_the_text_cannot_pass_for_special_ones() -> None:
    vocabulary = WordVocabulary.build({"<end>": 9, "a": 9}, threshold=1)
    assert vocabulary.words.count("<end>") == 1
    assert vocabulary.encode("<start> a <pad> <end>") == [UNK, 4, UNK, UNK]
    assert "<end>" not in vocabulary
    assert vocabulary.extended({"<end>": 9, "dog": 9}, 1).words[4:] == ("a", "dog")


def test_a_threshold_that_leaves_nothing() -> None:
    with pytest.raises(VocabularyError, match=r"vocab_threshold = 9 times.*seen 5 times.*lower"):
        WordVocabulary.build(COUNTS, threshold=9)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"words": ["a"], "threshold": 1, "tokenizer": "x"}', "\xff"]
)
def test_a_file_that_is_no_vocabulary(tmp_path: Path, content: str) -> None:
    (tmp_path / "v.json").write_text(content, encoding="latin-1")
    with pytest.raises(VocabularyError, match=r"v\.json"):
        load_vocabulary(tmp_path / "v.json")


def test_a_vocabulary_of_another_tokeniser(tmp_path: Path) -> None:
    WordVocabulary.build(COUNTS).save(tmp_path / "v.json")
    text = (tmp_path / "v.json").read_text().replace('"tokenizer": "ptb', '"tokenizer": "old')
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(VocabularyError, match=r"made with tokeniser 'old.*build the vocabulary"):
        load_vocabulary(tmp_path / "v.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"dog": 1, "café": 2}), "a Python pickle"),
        (b"PK\x03\x04\xff", "a binary file"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "vocab.pkl"
    path.write_bytes(content)
    with pytest.raises(
        VocabularyError, match=rf"vocab\.pkl is {said}.*expected a vocabulary\.json"
    ):
        load_vocabulary(path)


def test_a_vocabulary_of_showtell_0_1_0_loads(tmp_path: Path) -> None:
    """Its tokeniser cut words at combining marks; the words that it wrote are kept as they are."""
    WordVocabulary.build({"a": 5, "dog": 3, "नमस": 2, "्": 2}).save(tmp_path / "v.json")
    text = (tmp_path / "v.json").read_text(encoding="utf-8")
    old = text.replace('"ptb-corenlp3.4.1-coco-v2"', '"ptb-corenlp3.4.1-coco-v1"')
    assert old != text
    (tmp_path / "v.json").write_text(old, encoding="utf-8")
    vocabulary = load_vocabulary(tmp_path / "v.json")
    assert vocabulary.words[4:] == ("a", "dog", "नमस", "्")
    assert vocabulary.encode("A dog.") == [4, 5]
    assert vocabulary.to_json() == old  # a model's fingerprint follows from it


def test_a_vocabulary_that_grows_keeps_its_language() -> None:
    spaces = Segmentation.of("spaces", "de")
    vocabulary = WordVocabulary.build({"ein": 5, "hund": 3}).cut_by(spaces)
    assert vocabulary.extended({"katze": 2}, 1).segmentation == spaces
    assert vocabulary.with_styles(["short"]).segmentation == spaces
