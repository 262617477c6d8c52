"""The notebook's vocabulary is read; a hostile pickle is refused, and nothing in it runs."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from course_files import WORDS, Vocabulary, pickled

from showtell.course.pickled import read_pickled_vocabulary
from showtell.errors import VocabularyError


class Reduced:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "module", ["vocabulary", "build_vocab", "__main__", "data_loader", "src.vocabulary"]
)
def test_the_vocabulary_of_each_protocol(tmp_path: Path, protocol: int, module: str) -> None:
    data = pickled(Vocabulary(), module, protocol)
    found = read_pickled_vocabulary(write(tmp_path / "vocab.pkl", data))
    assert found == vars(Vocabulary())
    assert found["word2idx"] == {word: i for i, word in enumerate(WORDS)}


def nested(value: Any) -> bytes:
    vocabulary = Vocabulary()
    vocabulary.idx2word[99] = value
    return pickled(vocabulary, protocol=4)


def hostile(folder: Path) -> dict[str, bytes]:
    mark = folder / "ran"
    touch = f"touch {mark}"
    code = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system by reduce": pickle.dumps(Reduced(os.system, touch)),
        "eval": pickle.dumps(Reduced(eval, code)),
        "exec, old protocol": pickle.dumps(Reduced(exec, code), protocol=0),
        "nested in attributes": nested(Reduced(os.system, touch)),
        "getattr": nested(Reduced(getattr, "a", "upper")),
        "posix by GLOBAL": b"cposix\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",
        "BUILD on another class": b"ccollections\nOrderedDict\n)R}S'a'\nI1\nsb.",
        "BUILD on the class itself": b"cvocabulary\nVocabulary\n}S'__init__'\nI1\nsb.",
        "arguments for the class": b"cvocabulary\nVocabulary\n(I1\ntR.",
        "a call of a call": b"cvocabulary\nVocabulary\n)R)R.",
        "a path below the class": b"\x80\x04\x8c\nvocabulary\x8c\x13Vocabulary.__init__\x93.",
        "reconstructor of another": b"ccopy_reg\n_reconstructor\n(cbuiltins\nobject\nI1\nI1\ntR.",
        "persistent id": b"Psomewhere\n.",
        "extension registry": b"\x80\x02\x82\x01.",
        "huge memo": b"\x80\x02}r" + struct.pack("<I", 2**32 - 2) + b"(lp9999999999999\n.",
        "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"I1\n.",
        "huge bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
        "memo that was not filled": b"\x80\x02h\x07.",
        "no end": b"\x80\x02}",
        "empty stack": b".",
        "no mark": b"}(s.",
        "unhashable key": b"}}I1\ns.",
        "deep tuples": b"(" * 50_000 + b"t" * 50_000 + b".",
        "not a pickle": b"hello",
        "empty": b"",
    }


NAMES = list(hostile(Path()))


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "vocab.pkl", hostile(tmp_path)[name])
    with pytest.raises(VocabularyError) as caught:
        read_pickled_vocabulary(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_hostile_ones_would_have_run(tmp_path: Path) -> None:
    """The examples are real: pickle itself runs them."""
    pickle.loads(hostile(tmp_path)["eval"])
    assert (tmp_path / "ran").exists()


def test_a_plain_dictionary_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "vocab.pkl", pickle.dumps({"<start>": 0, "<end>": 1}))
    assert read_pickled_vocabulary(path) == {"word2idx": {"<start>": 0, "<end>": 1}}
