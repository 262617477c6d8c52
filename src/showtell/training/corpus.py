"""Training captions as one flat array of ids, so that millions of them stay small.

Each caption is tokenised once. Words get provisional numbers in the order in which they appear;
when all are counted, the vocabulary is built, and each number becomes the ids of its word: one, or
those of the word's pieces. Of a picture only its number is kept.

Half a million captions take seconds to tokenise, and every run on the same data needs them, so
``tokenize_cached`` keeps the result under a hash of the captions and the segmentation's name; it is
never out of date. If the cache cannot be written or read, the captions are tokenised anew.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.core.device import Runtime
from showtell.core.files import atomic_write, cache_folder
from showtell.encoders.features import Features, load_features
from showtell.encoders.store import FeatureStore
from showtell.text.segment import PTB, Segmentation
from showtell.text.vocabulary import END, PAD, START, Vocabulary

FORMAT = 2  # of the cache; another one where a segmentation of the same name cuts otherwise
WORTH_IT = 20_000  # captions; fewer are tokenised in less than a tenth of a second


class _Numbering(dict[str, int]):
    """Gives each new word the next number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class TokenizedCaptions:
    """Captions as provisional word numbers.

    Attributes:
        words: the words by their numbers.
        numbers: the word numbers of all captions, one after the other.
        lengths: (N,) words of each caption.
    """

    words: list[str]
    numbers: NDArray[np.int32]
    lengths: NDArray[np.int32]

    @classmethod
    def tokenize(
        cls, captions: Iterable[str], segmentation: Segmentation = PTB
    ) -> "TokenizedCaptions":
        """Tokenise captions, in order."""
        numbering = _Numbering()
        number = numbering.__getitem__
        flat: list[int] = []
        lengths: list[int] = []
        for caption in captions:
            tokens = segmentation.words(caption)
            flat.extend(map(number, tokens))
            lengths.append(len(tokens))
        return cls(list(numbering), np.array(flat, np.int32), np.array(lengths, np.int32))

    def counts(self) -> dict[str, int]:
        """How often each word is there."""
        counts = np.bincount(self.numbers, minlength=len(self.words)).tolist()
        return dict(zip(self.words, counts, strict=True))


@dataclass(frozen=True)
class Corpus:
    """Captions as ids of a vocabulary, each with the number of its picture.

    Attributes:
        ids: the ids of all captions, one after the other, without start and end.
        offsets: (N + 1,) where each caption begins in ``ids``.
        pictures: (N,) the picture that each caption describes.
        is_cut: (N,) whether each caption was longer than allowed, so that its end is not here;
            None: none was.
        starts: (N,) what each caption begins with, ``<start>`` or a style; None: all with
            ``<start>``.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pictures: NDArray[np.int64]
    is_cut: NDArray[np.bool_] | None = None
    starts: NDArray[np.int32] | None = None

    @classmethod
    def encode(
        cls,
        captions: TokenizedCaptions,
        pictures: NDArray[np.int64],
        vocabulary: Vocabulary,
        max_length: int,
        starts: NDArray[np.int32] | None = None,
    ) -> "Corpus":
        """Map words to ids; captions are cut to ``max_length`` tokens, empty ones are left out.

        Args:
            starts: (N,) as the attribute.
        """
        ids, lengths = _expand(captions, vocabulary)
        kept = np.minimum(lengths, max_length)
        filled, is_long = kept > 0, lengths > kept
        offsets = np.concatenate([[0], np.cumsum(kept[filled])])
        is_cut = None
        if is_long.any():
            is_cut = is_long[filled]
            ends = np.cumsum(lengths)
            is_kept = np.ones(len(ids), np.bool_)
            for end, excess in zip(ends[is_long], (lengths - kept)[is_long], strict=True):
                is_kept[end - excess : end] = False
            ids = ids[is_kept]
        begins = None if starts is None else starts[filled]
        return cls(ids, offsets, pictures[filled], is_cut, begins)

    def only(self, wanted: NDArray[np.bool_]) -> "Corpus":
        """The captions of which ``wanted`` (N,) is True."""
        return Corpus(
            self.ids[np.repeat(wanted, self.lengths)],
            np.concatenate([[0], np.cumsum(self.lengths[wanted])]),
            self.pictures[wanted],
            None if self.is_cut is None else self.is_cut[wanted],
            None if self.starts is None else self.starts[wanted],
        )

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def num_cut(self) -> int:
        """Captions that were longer than allowed."""
        return 0 if self.is_cut is None else int(self.is_cut.sum())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each caption."""
        return np.diff(self.offsets)

    @property
    def num_targets(self) -> NDArray[np.int64]:
        """(N,) what is to be predicted of each caption: its tokens, and its end if it is here."""
        return self.lengths + (1 if self.is_cut is None else ~self.is_cut)

    def references(self, pictures: NDArray[np.int64]) -> list[list[list[int]]]:
        """For each of some pictures its captions as ids, ``<end>`` included but where one is cut.

        Args:
            pictures: (P,) distinct and rising, all that the captions are of.
        """
        found: list[list[list[int]]] = [[] for _ in pictures]
        places = np.searchsorted(pictures, self.pictures).tolist()
        flat, bounds = self.ids.tolist(), self.offsets.tolist()
        is_cut = repeat(False) if self.is_cut is None else self.is_cut.tolist()
        for place, cut, (start, end) in zip(places, is_cut, pairwise(bounds), strict=False):
            found[place].append(flat[start:end] if cut else [*flat[start:end], END])
        return found

    def batch(self, captions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets for teacher forcing.

        Args:
            captions: (B,) numbers of captions.

        Returns:
            inputs (B, T) = <start> w1 ... wn, or a style in place of <start>; targets (B, T) =
            w1 ... wn <end>, both padded; T is the longest caption's length and one. A caption that
            was cut does not end there: its last target is padding.
        """
        starts = self.offsets[captions]
        lengths = self.offsets[captions + 1] - starts
        inputs = np.full((len(captions), int(lengths.max()) + 1), PAD, np.int64)
        real = np.arange(inputs.shape[1] - 1) < lengths[:, None]
        rows, columns = np.nonzero(real)
        words = self.ids[starts[rows] + columns]
        inputs[:, 0] = START if self.starts is None else self.starts[captions]
        inputs[:, 1:][real] = words
        targets = np.full_like(inputs, PAD)
        targets[:, :-1][real] = words
        is_cut = False if self.is_cut is None else self.is_cut[captions]
        targets[np.arange(len(captions)), lengths] = np.where(is_cut, PAD, END)
        return inputs, targets

    def draw_pictures(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(P,) distinct pictures, rising, that have about ``size`` captions together."""
        pictures, counts = np.unique(self.pictures, return_counts=True)
        num = min(max(round(size / counts.mean()), 1), len(pictures))
        return np.sort(rng.choice(pictures, num, replace=False))

    def of_pictures(
        self,
        rows: NDArray[np.int64],
        store: FeatureStore,
        runtime: Runtime,
        *,
        regions: bool,
    ) -> tuple[NDArray[np.int64], Features]:
        """The numbers of all captions of some pictures, and the features that they are about.

        So what is computed of a picture is shared by its captions.

        Args:
            rows: (P,) rows of ``store``, distinct and rising.
        """
        captions = np.flatnonzero(np.isin(self.pictures, rows))
        index = torch.from_numpy(np.searchsorted(rows, self.pictures[captions]))
        features = load_features(store, rows, regions=regions, dtype=runtime.dtype)
        features = features.to(runtime.device)
        return captions, features._replace(picture_of=index.to(runtime.device))

    def tensors(self, captions: NDArray[np.int64], device: str) -> tuple[Tensor, Tensor]:
        """``batch`` as tensors on ``device``."""
        inputs, targets = self.batch(captions)
        return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)


def _expand(
    captions: TokenizedCaptions, vocabulary: Vocabulary
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The ids of all captions, one after the other, and (N,) how many each caption has.

    Each word is encoded once; its ids then take the place of its number wherever that comes.
    """
    pieces = vocabulary.encode_each(captions.words)
    sizes = np.array([len(ids) for ids in pieces], np.int64)
    flat = np.array(list(chain.from_iterable(pieces)), np.int32)
    if np.all(sizes == 1):
        return flat[captions.numbers], captions.lengths.astype(np.int64)
    counts = sizes[captions.numbers]
    ends = np.cumsum(counts)
    # Where each word's ids begin in ``flat``, less where they begin in the result.
    shift = (np.cumsum(sizes) - sizes)[captions.numbers] - (ends - counts)
    ids = flat[np.arange(counts.sum()) + np.repeat(shift, counts)]
    words_before = np.concatenate([[0], np.cumsum(captions.lengths, dtype=np.int64)])
    return ids, np.diff(np.concatenate([[0], ends])[words_before])


def tokenize_cached(captions: Sequence[str], segmentation: Segmentation = PTB) -> TokenizedCaptions:
    """As ``TokenizedCaptions.tokenize``, from the cache where it has them."""
    if len(captions) < WORTH_IT:
        return TokenizedCaptions.tokenize(captions, segmentation)
    file = _cache_file(captions, segmentation)
    kept = _read(file, len(captions))
    if kept is not None:
        return kept
    tokenized = TokenizedCaptions.tokenize(captions, segmentation)
    words = np.frombuffer(json.dumps(tokenized.words).encode(), np.uint8)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, "wb") as target:
            np.savez(target, words=words, numbers=tokenized.numbers, lengths=tokenized.lengths)
    return tokenized


def _cache_file(captions: Sequence[str], segmentation: Segmentation) -> Path:
    name = " ".join(filter(None, (segmentation.rules, segmentation.cutting_language)))
    digest = hashlib.sha256(f"{FORMAT} {name} {len(captions)}\n".encode())
    # With the lengths, as any character may be in a caption and nothing could part them.
    digest.update(np.fromiter(map(len, captions), np.int64, len(captions)).tobytes())
    digest.update("".join(captions).encode())
    return cache_folder() / "captions" / f"{digest.hexdigest()[:32]}.npz"


def _read(file: Path, num_captions: int) -> TokenizedCaptions | None:
    try:
        with open(file, "rb") as source, np.load(source, allow_pickle=False) as arrays:
            words = json.loads(arrays["words"].tobytes())
            kept = TokenizedCaptions(words, arrays["numbers"], arrays["lengths"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    is_whole = len(kept.lengths) == num_captions and kept.lengths.sum() == len(kept.numbers)
    return kept if is_whole else None
