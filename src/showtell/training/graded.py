"""Captions of training pictures that people graded: the better of two is to become more probable.

Human captions say what a picture may be called, and rewards how near a caption comes to them.
Neither says which of the model's own captions are false: CIDEr-D pays for the words that five
people use, and takes little for one invented detail. Grades do. Of two captions of a picture, the
better one is to gain more than the worse one, against the model that the run starts from (direct
preference optimisation, Rafailov et al. 2023, arXiv 2305.18290, equation 7):

    -log sigmoid(beta ((log p(better) - log p0(better)) - (log p(worse) - log p0(worse))))

Every two captions of a picture whose grades differ are compared; each counts by that difference,
and each picture as much as another. docs/experiments.md has what it gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from showtell.core.device import Runtime
from showtell.core.files import short_digest
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.graded import read_graded
from showtell.data.records import Record
from showtell.decoders.base import Decoder
from showtell.encoders.features import Features, load_features
from showtell.encoders.store import FeatureStore
from showtell.errors import DataError
from showtell.inference.checkpoint import load_checkpoint
from showtell.metrics.coco_io import same_image
from showtell.text.vocabulary import PAD, UNK, Vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

GRADED_STREAM = 7  # keeps its random numbers apart from the others'
LEAST_APART = 1e-6  # grades that are nearer are the same


@dataclass(frozen=True)
class GradedCaptions:
    """Graded captions as ids, and the model that they are compared by.

    Attributes:
        name: of their file.
        store: the features of the run's pictures.
        corpus: the captions; ``pictures`` are rows of ``store``. Every picture has two captions or
            more of different grades.
        grades: (N,) from 0 to 1.
        start: the decoder that the run starts from, in eval mode, without gradient.
        num_words: V, the words that ``start`` has.
    """

    name: str
    store: FeatureStore
    corpus: Corpus
    grades: NDArray[np.float64]
    start: Decoder
    num_words: int
    _before: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says of them."""
        parts = (self.corpus.ids, self.corpus.pictures, self.grades)
        return {
            "file": self.name,
            "num_captions": len(self.corpus),
            "num_pictures": len(np.unique(self.corpus.pictures)),
            "fingerprint": short_digest(*(part.tobytes() for part in parts)),
        }

    def loss(
        self, decoder: Decoder, size: int, beta: float, seed: int, step: int, runtime: Runtime
    ) -> Tensor:
        """The loss on all graded captions of pictures drawn at random; log 2 before any step.

        Args:
            size: about how many captions; they are of whole pictures.
            beta: of the equation above.
        """
        captions, features = self._batch(size, seed, step, runtime)
        with torch.no_grad(), runtime.autocast():
            before = self._log_probs_before(features, captions, runtime)
        with runtime.autocast():
            gained = log_probs(decoder, features, self.corpus, captions, runtime) - before
        grades = torch.from_numpy(self.grades[captions]).to(gained)
        assert features.picture_of is not None
        return preference_loss(gained, grades, features.picture_of, beta)

    def _batch(
        self, size: int, seed: int, step: int, runtime: Runtime
    ) -> tuple[NDArray[np.int64], Features]:
        rng = np.random.default_rng((seed, step, GRADED_STREAM))
        pictures, counts = np.unique(self.corpus.pictures, return_counts=True)
        num_pictures = min(max(round(size / counts.mean()), 1), len(pictures))
        rows = np.sort(rng.choice(pictures, num_pictures, replace=False))
        captions = np.flatnonzero(np.isin(self.corpus.pictures, rows))
        features = load_features(
            self.store, rows, regions=self.start.needs_regions, dtype=runtime.dtype
        )
        index = torch.from_numpy(np.searchsorted(rows, self.corpus.pictures[captions]))
        features = features.to(runtime.device)
        return captions, features._replace(picture_of=index.to(runtime.device))

    def _log_probs_before(
        self, features: Features, captions: NDArray[np.int64], runtime: Runtime
    ) -> Tensor:
        """(B,) by the model of the start, computed once for each picture."""
        if any(int(caption) not in self._before for caption in captions):
            found = log_probs(self.start, features, self.corpus, captions, runtime)
            self._before.update(zip(captions.tolist(), found, strict=True))
        return torch.stack([self._before[int(caption)] for caption in captions])


def log_probs(
    decoder: Decoder,
    features: Features,
    corpus: Corpus,
    captions: NDArray[np.int64],
    runtime: Runtime,
) -> Tensor:
    """(B,) log-probability of each caption, its end included, in fp32.

    Args:
        captions: (B,) numbers of captions of ``corpus``, of the pictures of ``features``.
    """
    inputs, targets = corpus.tensors(captions, str(runtime.device))
    real = targets != PAD
    states = decoder.hidden_states(features, inputs).states[real]
    each = -F.cross_entropy(decoder.output(states).float(), targets[real], reduction="none")
    rows = torch.arange(len(targets), device=targets.device)[:, None].expand_as(targets)[real]
    return torch.zeros(len(targets), device=each.device).index_add(0, rows, each)


def preference_loss(gained: Tensor, grades: Tensor, picture_of: Tensor, beta: float) -> Tensor:
    """The mean over pictures of the weighted mean over their pairs; scalar.

    Args:
        gained: (B,) log p - log p0 of each caption.
        grades: (B,)
        picture_of: (B,) the picture of each caption, from 0 to P - 1.
        beta: of the equation above.
    """
    apart = (grades[:, None] - grades).clamp(min=0)
    weights = apart * (picture_of[:, None] == picture_of)  # the row's caption is the better
    losses = F.softplus(-beta * (gained[:, None] - gained))
    num_pictures = int(picture_of.max()) + 1
    sums = torch.zeros(2, num_pictures, device=gained.device)
    sums = sums.index_add(
        1, picture_of, torch.stack([(weights * losses).sum(dim=1), weights.sum(dim=1)])
    )
    return (sums[0] / sums[1].clamp(min=LEAST_APART)).mean()


def check_readable(path: Path) -> None:
    """Raise DataError where the file cannot be used."""
    try:
        read_graded(path)
    except DataError as error:
        raise DataError(f"data.graded: {error}") from None


def open_graded(
    path: Path,
    records: Sequence[Record],
    store: FeatureStore,
    *,
    vocabulary: Vocabulary,
    init_from: str,
    max_length: int,
    runtime: Runtime,
    report: Reporter,
) -> GradedCaptions:
    """Read graded captions, and open the model that they are compared by.

    Args:
        records: the run's training pictures, which ``store`` has.
        vocabulary: of the run; it begins with the words of ``init_from``.

    Raises:
        ShowtellError: the file or the model cannot be read, or none of its pictures is among
            ``records`` with two captions of different grades.
    """
    check_readable(path)
    graded = read_graded(path)
    places = _places(records)
    pictures = [places.get(same_image(row.image)) for row in graded]
    known = [place is not None for place in pictures]
    start = load_checkpoint(init_from)
    captions = TokenizedCaptions.tokenize(
        (row.caption for row, own in zip(graded, known, strict=True) if own),
        vocabulary.segmentation,
    )
    rows = store.rows([records[place].image_id for place in pictures if place is not None])
    grades = np.array([row.grade for row, own in zip(graded, known, strict=True) if own])
    corpus, grades = _usable(captions, rows, grades, vocabulary, len(start.vocabulary), max_length)
    if not len(corpus):
        raise DataError(
            f"data.graded = {path}: of {counted(len(graded), 'graded caption')}, "
            f"{sum(known):,} are of training pictures, and no picture has two that the model can "
            "say and whose grades differ"
        )
    found = GradedCaptions(
        path.name,
        store,
        corpus,
        grades,
        start.decoder.to(runtime.device).requires_grad_(False).eval(),
        len(start.vocabulary),
    )
    about = found.provenance()
    report.note(
        f"{about['num_captions']:,} of {counted(len(graded), 'graded caption')} to learn from, of "
        f"{counted(about['num_pictures'], 'training picture')} (data.graded)"
    )
    return found


def _places(records: Sequence[Record]) -> dict[str, int]:
    """From what names a picture to its place."""
    found: dict[str, int] = {}
    for place, record in enumerate(records):
        for name in (record.path.name, record.image_id):
            found[same_image(name)] = place
    return found


def _usable(
    captions: TokenizedCaptions,
    rows: NDArray[np.int64],
    grades: NDArray[np.float64],
    vocabulary: Vocabulary,
    num_words: int,
    max_length: int,
) -> tuple[Corpus, NDArray[np.float64]]:
    """The captions in words that both models have, of pictures with different grades."""
    filled = captions.lengths > 0
    corpus = Corpus.encode(captions, rows, vocabulary, max_length)
    grades = grades[filled]
    caption_of = np.repeat(np.arange(len(corpus)), corpus.lengths)
    unknown = (corpus.ids == UNK) | (corpus.ids >= num_words)
    kept = np.bincount(caption_of[unknown], minlength=len(corpus)) == 0
    if kept.any():
        pictures, place = np.unique(corpus.pictures[kept], return_inverse=True)
        least, most = np.full(len(pictures), np.inf), np.full(len(pictures), -np.inf)
        np.minimum.at(least, place, grades[kept])
        np.maximum.at(most, place, grades[kept])
        kept &= np.isin(corpus.pictures, pictures[most - least > LEAST_APART])
    return (
        Corpus(
            corpus.ids[kept[caption_of]],
            np.concatenate([[0], np.cumsum(corpus.lengths[kept])]),
            corpus.pictures[kept],
        ),
        grades[kept],
    )
