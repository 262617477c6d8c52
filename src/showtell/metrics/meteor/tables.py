"""METEOR's tables of paraphrases, synonyms and word forms, from the installed pycocoevalcap.

The package has them as text (5.3 million paraphrases), which takes the original program ten seconds
to read each time. Here they are converted once into sorted arrays of 64-bit hashes and memory-
mapped afterwards, so only what is looked up is read. The hash of its words stands for a phrase, so
the tables hold no text. The chance that any two of the 3 million phrases share a hash is about 1 in
4 million.
"""

import gzip
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from showtell.core.files import cache_folder
from showtell.errors import MissingExtraError, ScoringError

FORMAT = 1
"""Part of the folder's name. Increase it with any change to the contents of the arrays."""

Hashes = NDArray[np.uint64]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_LINES_AT_ONCE = 300_000  # a multiple of 3


@dataclass(frozen=True)
class Table:
    """K keys, each with some values: those of key k are ``values[starts[k]:starts[k + 1]]``."""

    keys: Hashes
    starts: NDArray[np.uint32]
    values: NDArray[np.generic]

    def find(self, hashes: Hashes) -> NDArray[np.int64]:
        """The positions of keys; -1 where there is no such key."""
        places = np.minimum(np.searchsorted(self.keys, hashes), len(self.keys) - 1)
        return np.where(self.keys[places] == hashes, places, -1)

    def of(self, place: int) -> NDArray[np.generic]:
        """The values of the key at position ``place``."""
        return self.values[int(self.starts[place]) : int(self.starts[place + 1])]


@dataclass(frozen=True)
class Tables:
    """METEOR's knowledge of English.

    Attributes:
        paraphrases: phrase -> positions of its paraphrases among the same keys, in the file's order
            (which decides between equal alignments). Pairs are listed in one direction or both.
        synsets: word -> WordNet synsets.
        forms: irregular form -> hashes of its base forms.
        longest: words in the longest phrase.
        function_words: the words that METEOR weighs less.
    """

    paraphrases: Table
    synsets: Table
    forms: Table
    longest: int
    function_words: frozenset[str]


def word_hash(word: str) -> int:
    """The 64-bit hash of a word."""
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def extend(phrases: Hashes, words: Hashes) -> Hashes:
    """The hashes of phrases that are longer by one word each."""
    return phrases * _MULTIPLIER + words


def is_installed() -> bool:
    """Whether the tables are installed: the extra ``meteor``."""
    return find_spec("pycocoevalcap") is not None


def load(folder: Path | None = None) -> Tables:
    """Open the tables; convert them first if that has not been done.

    Args:
        folder: where the converted tables lie; default: in showtell's cache.

    Raises:
        MissingExtraError: the extra ``meteor`` is not installed.
        ScoringError: the tables are not in the package, or the cache cannot be written.
    """
    if not is_installed():
        raise MissingExtraError("meteor", "METEOR")
    target = _converted(folder)
    if not target.is_dir():
        try:
            _convert(*_sources(), target)
        except OSError as error:
            raise ScoringError(
                f"cannot write METEOR's tables to {target}: {error}; set SHOWTELL_CACHE to a "
                "folder that can be written"
            ) from None
    return _open(target)


def is_converted(folder: Path | None = None) -> bool:
    """Whether the tables are converted, so that ``load`` only opens them."""
    return _converted(folder).is_dir()


def _converted(folder: Path | None) -> Path:
    sizes = "-".join(str(path.stat().st_size) for path in _sources())
    return (folder or cache_folder() / "meteor") / f"v{FORMAT}-{sizes}"


def _sources() -> tuple[Path, Path]:
    spec = find_spec("pycocoevalcap")
    assert spec is not None
    folder = Path((spec.submodule_search_locations or [""])[0]) / "meteor"
    paraphrases, jar = folder / "data" / "paraphrase-en.gz", folder / "meteor-1.5.jar"
    for path in (paraphrases, jar):
        if not path.is_file():
            raise ScoringError(f"pycocoevalcap is damaged, {path} is missing: install it again")
    return paraphrases, jar


def _open(folder: Path) -> Tables:
    def table(name: str) -> Table:
        parts = (
            np.load(folder / f"{name}-{part}.npy", mmap_mode="r", allow_pickle=False)
            for part in ("keys", "starts", "values")
        )
        return Table(*parts)

    longest = int(np.load(folder / "longest.npy", allow_pickle=False))
    words = frozenset((folder / "function-words.txt").read_text(encoding="utf-8").split())
    return Tables(table("paraphrases"), table("synsets"), table("forms"), longest, words)


def _convert(paraphrases: Path, jar: Path, target: Path) -> None:
    """Write the arrays into a temporary folder, then rename it.

    Two processes may do so at once: the second to finish finds the folder there and deletes its
    own.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        left, right, longest = _read_paraphrases(paraphrases)
        np.save(temporary / "longest.npy", np.int64(longest))
        _save_paraphrases(temporary, left, right)
        with zipfile.ZipFile(jar) as archive:
            _save(temporary, "synsets", *_read_synsets(archive))
            _save(temporary, "forms", *_read_forms(archive))
            words = archive.read("function/english.words")
            (temporary / "function-words.txt").write_bytes(words)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_paraphrases(path: Path) -> tuple[Hashes, Hashes, int]:
    """Hashes of both phrases of every pair, in the file's order, and the most words in one.

    The file has three lines a pair: a probability, which METEOR 1.5 does not use, and the two
    phrases.
    """
    left: list[Hashes] = []
    right: list[Hashes] = []
    longest = 0
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        while lines := list(islice(file, _LINES_AT_ONCE)):
            for start, found in ((1, left), (2, right)):
                hashes, words = hash_phrases(lines[start::3])
                found.append(hashes)
                longest = max(longest, words)
    return np.concatenate(left), np.concatenate(right), longest


def hash_phrases(phrases: Sequence[str]) -> tuple[Hashes, int]:
    """Hashes of phrases of words between single spaces, and how many words the longest has."""
    lengths = np.fromiter((phrase.count(" ") for phrase in phrases), np.int64, len(phrases)) + 1
    words = " ".join(phrases).split()
    known = {word: word_hash(word) for word in set(words)}
    flat = np.fromiter(map(known.__getitem__, words), np.uint64, len(words))
    first = np.cumsum(lengths) - lengths
    hashes = np.zeros(len(phrases), np.uint64)
    longest = int(lengths.max(initial=0))
    for place in range(longest):
        has = lengths > place
        hashes[has] = extend(hashes[has], flat[first[has] + place])
    return hashes, longest


def _save_paraphrases(folder: Path, left: Hashes, right: Hashes) -> None:
    keys = np.concatenate([left, right])
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    one = np.searchsorted(keys, left).astype(np.uint32)
    two = np.searchsorted(keys, right).astype(np.uint32)
    order = np.argsort(one, kind="stable")
    _save(folder, "paraphrases", keys, np.bincount(one, minlength=len(keys)), two[order])


def _read_synsets(
    archive: zipfile.ZipFile,
) -> tuple[Hashes, NDArray[np.int64], NDArray[np.generic]]:
    return _group(
        (
            (word_hash(word), int(synset))
            for word, synsets in _pairs_of_lines(archive, "synonym/english.synsets")
            for synset in synsets.split()
        ),
        np.uint32,
    )


def _read_forms(archive: zipfile.ZipFile) -> tuple[Hashes, NDArray[np.int64], NDArray[np.generic]]:
    return _group(
        (
            (word_hash(form), word_hash(base))
            for base, forms in _pairs_of_lines(archive, "synonym/english.exceptions")
            for form in forms.split()
        ),
        np.uint64,
    )


def _pairs_of_lines(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, str]]:
    lines = archive.read(name).decode("utf-8").split("\n")
    return zip(lines[0::2], lines[1::2], strict=False)


def _group(
    pairs: Iterator[tuple[int, int]], dtype: type[np.generic]
) -> tuple[Hashes, NDArray[np.int64], NDArray[np.generic]]:
    """Distinct keys, how many values each has, and the values in the order of keys."""
    both = list(pairs)
    keys = np.fromiter((key for key, _ in both), np.uint64, len(both))
    values = np.fromiter((value for _, value in both), np.uint64, len(both))
    order = np.argsort(keys, kind="stable")
    distinct, counts = np.unique(keys, return_counts=True)
    return distinct, counts, values[order].astype(dtype)


def _save(
    folder: Path, name: str, keys: Hashes, counts: NDArray[np.int64], values: NDArray[np.generic]
) -> None:
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    for part, array in (("keys", keys), ("starts", starts), ("values", values)):
        np.save(folder / f"{name}-{part}.npy", array, allow_pickle=False)
