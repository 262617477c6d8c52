"""Choosing among the captions that a search found, by the words that a detector sees.

A search returns what a decoder finds probable, and a decoder finds probable what people usually say
("a man in a red shirt"). A detector of caption words that learnt apart from it, from the same
captions, knows better which of these words are true: it says how probable each is in some part of
the picture (noisy-OR; Fang et al. 2015, arXiv 1411.4952, section 3), and has no grammar to please.
So several captions of a picture are compared by signs of both, and the one with the largest
weighted sum is the best (their section 5, with MERT; ``training/reranking.py`` fits the weights).
The same signs say how far a caption can be relied on (``inference.caption.Calibration``).

Everything is in NumPy, for all runtimes. Shapes: ``P`` pictures, ``K`` captions a picture, ``W``
words of the detector, ``D`` width of features, ``F`` signs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from showtell.core.files import atomic_write, read_bounded
from showtell.decoding.arrays import Floats, Ids, arrays_of
from showtell.decoding.hypotheses import Hypotheses
from showtell.encoders.features import Features
from showtell.errors import CheckpointError
from showtell.text.vocabulary import PAD

RERANKER = "reranker.safetensors"  # its file in a model's folder
MOST_BYTES = 2**27
MOST_ALONE = 2**18  # multiplications of a product for which OpenBLAS takes one thread
MOST_SHOWN = 10  # words of a picture that a caption is expected to be about
LEAST = 1e-5  # probability; keeps logarithms finite

SIGNS = (
    "mean log-probability",
    "tokens",
    "smallest log-probability of a token",
    "words that are detected",
    "sum of log p",
    "mean of log p",
    "smallest log p",
    "sum of log p / prior",
    "mean of log p / prior",
    "smallest log p / prior",
    "what is said of the likeliest words",
)
"""What captions are compared by; p is the detector's probability of a word."""

Signs = NDArray[np.float64]


@dataclass(frozen=True)
class Reranker:
    """A word detector, and the weights of the signs.

    Attributes:
        words: (W,) the ids of the words that are detected.
        prior: (W,) the share of captions that have each.
        weight, bias: (W, D), (W,) from a part of the picture to the evidence of each word.
        num_windows: parts along each side of the grid; 0: the pooled features alone are read.
        choice: (F,) the weight of each sign.
    """

    words: Ids
    prior: Floats
    weight: Floats
    bias: Floats
    num_windows: int
    choice: Signs

    def can_read(self, features: Features) -> bool:
        """Whether the features have what its detector looks at."""
        return self.num_windows == 0 or features.regions is not None

    def probabilities(self, features: Features) -> Floats:
        """(P, W) how probable it is that a caption of each picture has each word.

        Each picture is computed alone, so that the others of a batch change nothing.
        """
        evidence = [
            np.logaddexp(0, self._logits(parts)).sum(axis=0)
            for parts in windows_of(features, self.num_windows)
        ]
        found = -np.expm1(-np.stack(evidence)) if evidence else np.zeros((0, len(self.words)))
        clipped: Floats = np.clip(found, LEAST, 1 - LEAST).astype(np.float32)
        return clipped

    def _logits(self, parts: Floats) -> Floats:
        """(parts, D) -> (parts, W)."""
        blocks = np.matmul(parts, self._blocks)  # (blocks, parts, words of a block)
        flat = blocks.transpose(1, 0, 2).reshape(len(parts), -1)
        logits: Floats = flat[:, : len(self.words)] + self.bias
        return logits

    @cached_property
    def _blocks(self) -> Floats:
        """(blocks, D, words of a block): the weight, in parts that one thread multiplies.

        NumPy's BLAS takes several threads for the whole product. It is no faster for that, and the
        threads then wait busily for the next one while the network computes.
        """
        num, width = self.weight.shape
        size = max(MOST_ALONE // (max(self.num_windows**2, 1) * width), 1)
        padded = np.pad(self.weight, ((0, -num % size), (0, 0)))
        blocks: Floats = padded.reshape(-1, size, width).transpose(0, 2, 1)
        return blocks

    def rerank(self, found: Hypotheses, num_captions: int, among: int | None = None) -> Hypotheses:
        """The best ``num_captions`` of captions with signs, best first.

        Args:
            among: so many change places with each other, then so many that follow on these;
                default: all.
        """
        assert found.signs is not None
        scores = np.where(np.isfinite(found.log_probs), found.signs @ self.choice, -np.inf)
        place = np.arange(scores.shape[1])
        part = np.broadcast_to(place // (among or len(place)), scores.shape)
        order = np.lexsort((-scores, part), axis=1)[:, :num_captions]
        rows = np.arange(len(order))[:, None]
        parts = found._asdict().items()
        chosen = {name: part[rows, order] for name, part in parts if part is not None}
        return Hypotheses(**chosen)

    def save(self, path: Path) -> None:
        """Write it; the detector's weights in fp16."""
        with atomic_write(path, "wb") as file:
            file.write(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file's content."""
        from safetensors.numpy import save  # models without a reranker need it not

        return save(
            {
                "words": self.words,
                "prior": self.prior,
                "weight": self.weight.astype(np.float16),
                "bias": self.bias,
                "num_windows": np.array([self.num_windows]),
                "choice": self.choice,
            }
        )

    @classmethod
    def read(cls, folder: Path, vocab_size: int, sizes: Mapping[str, Any]) -> Self | None:
        """That of a model; None if it has none.

        Args:
            folder: the model's.
            vocab_size: V, of its vocabulary.
            sizes: its ``metrics``, which have the widths of the encoder's features.

        Raises:
            CheckpointError: the file is damaged, or is another model's.
        """
        path = folder / RERANKER
        if not path.is_file():
            return None
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            parts = load(read_bounded(path, MOST_BYTES))
            found = cls(
                words=parts["words"].astype(np.int64),
                prior=parts["prior"].astype(np.float32),
                weight=parts["weight"].astype(np.float32),
                bias=parts["bias"].astype(np.float32),
                num_windows=int(parts["num_windows"].item()),
                choice=parts["choice"].astype(np.float64),
            )
            found._check(vocab_size, sizes)
        except (KeyError, ValueError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from None
        return found

    def _check(self, vocab_size: int, sizes: Mapping[str, Any]) -> None:
        """Raise ValueError where it does not fit itself, or the model."""
        num = len(self.words)
        width = sizes.get("region_size" if self.num_windows else "feature_size")
        expected = {
            "words": (num,),
            "prior": (num,),
            "bias": (num,),
            "weight": (num, self.weight.shape[-1] if width is None else width),
            "choice": (len(SIGNS),),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        if not 0 <= self.num_windows <= 64:
            raise ValueError(f"num_windows = {self.num_windows}")
        if num == 0 or not ((self.words > 0) & (self.words < vocab_size)).all():
            raise ValueError("it has words that the vocabulary does not have")
        if not ((self.prior > 0) & (self.prior <= 1)).all():
            raise ValueError("prior is not a share")
        if not all(np.isfinite(getattr(self, n)).all() for n in ("weight", "bias", "choice")):
            raise ValueError("it has values that are not numbers")


def windows_of(features: Features, num: int) -> Floats:
    """(P, parts, D): the means of a grid's windows, ``num`` along each side; 0: pooled features."""
    if num == 0:
        pooled: Floats = _host(features.pooled)[:, None]
        return pooled
    assert features.regions is not None
    grid = _host(features.regions)
    means: Floats = np.matmul(_averaging(math.isqrt(grid.shape[1]), num), grid)
    return means


def windows_along(most: int, num_regions: int) -> int:
    """How many windows each side of a grid is cut into; 0 where the grid is not a square."""
    side = math.isqrt(num_regions)
    return min(most, side) if side * side == num_regions else 0


@lru_cache
def _averaging(side: int, num: int) -> Floats:
    """(parts, R): rows that average the windows of a square grid."""
    num = min(num, side)
    window = np.arange(side) * num // side  # of a row, or of a column
    inside = window[:, None] * num + window
    rows = (np.arange(num * num)[:, None] == inside.ravel()).astype(np.float32)
    averaging: Floats = rows / rows.sum(axis=1, keepdims=True)
    return averaging


def _host(values: Any) -> Floats:
    arrays = arrays_of(values)
    found: Floats = arrays.to_host(arrays.cast(values, "float32"))
    return found


def signs_of(found: Hypotheses, probabilities: Floats, reranker: Reranker) -> Signs:
    """(P, K, F) what captions are compared by; 0 where there is no caption.

    Args:
        probabilities: (P, W) of the detector's words.
    """
    signs = np.zeros((*found.log_probs.shape, len(SIGNS)))
    place = {word: index for index, word in enumerate(reranker.words.tolist())}
    log_prior = np.log(reranker.prior)
    for picture, p in enumerate(probabilities):
        log_p = np.log(p)
        lift = log_p - log_prior
        likeliest = np.argsort(-p * lift, kind="stable")[:MOST_SHOWN]
        for rank, tokens in enumerate(found.tokens[picture]):
            length = int((tokens != PAD).sum())
            if not length:
                continue
            each = found.token_log_probs[picture, rank, :length]
            said = [place[token] for token in dict.fromkeys(tokens.tolist()) if token in place]
            row = signs[picture, rank]
            row[:4] = each.mean(dtype=np.float64), length, each.min(), len(said)
            if said:
                for first, values in ((4, log_p[said]), (7, lift[said])):
                    row[first : first + 3] = values.sum(), values.mean(), values.min()
                row[10] = p[np.intersect1d(likeliest, said)].sum()
    return signs
