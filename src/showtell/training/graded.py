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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
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
from showtell.data.graded import GradedCaption, read_graded
from showtell.data.records import Record
from showtell.decoders.base import Decoder
from showtell.encoders.features import Features
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, DataError
from showtell.inference.checkpoint import load_checkpoint
from showtell.metrics.coco_io import same_image
from showtell.text.vocabulary import PAD, UNK, Vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

GRADED = "graded"  # in run.json and checkpoints: what of them was learnt from
GRADED_STREAM = 7  # keeps its random numbers apart from the others'
TOGETHER = 32  # pictures whose captions are computed together
ANY_LENGTH = 2**30
LEAST_APART = 1e-6  # grades that are nearer are the same


@dataclass(frozen=True)
class GradedCaptions:
    """Graded captions as ids, and what the model of the start finds of them.

    Attributes:
        name: of their file.
        store: the features of the run's pictures.
        regions: whether the decoder reads the grid.
        corpus: the captions; ``pictures`` are rows of ``store``. Every picture has two captions or
            more of different grades.
        grades: (N,) from 0 to 1.
        before: (N,) log-probability by the model of the start.
    """

    name: str
    store: FeatureStore
    regions: bool
    corpus: Corpus
    grades: NDArray[np.float64]
    before: Tensor

    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says of them."""
        parts = (self.corpus.ids, self.corpus.offsets, self.corpus.pictures, self.grades)
        return {
            "file": self.name,
            "num_captions": len(self.corpus),
            "num_pictures": len(np.unique(self.corpus.pictures)),
            "fingerprint": short_digest(*(part.tobytes() for part in parts)),
        }

    def loss(
        self, decoder: Decoder, size: int, beta: float, seed: int, step: int, runtime: Runtime
    ) -> Tensor:
        """The loss on all graded captions of pictures drawn at random.

        Without dropout it is log 2 before the first step.

        Args:
            size: about how many captions; they are of whole pictures.
            beta: of the equation above.
        """
        rng = np.random.default_rng((seed, step, GRADED_STREAM))
        rows = self.corpus.draw_pictures(size, rng)
        captions, features = self.corpus.of_pictures(
            rows, self.store, runtime, regions=self.regions
        )
        with runtime.autocast():
            after = log_probs(decoder, features, self.corpus, captions, runtime)
        gained = after - self.before[torch.from_numpy(captions)].to(after)
        grades = torch.from_numpy(self.grades[captions]).to(gained)
        assert features.picture_of is not None
        return preference_loss(gained, grades, features.picture_of, beta)


def log_probs_before(
    start: Decoder, corpus: Corpus, store: FeatureStore, runtime: Runtime, report: Reporter
) -> Tensor:
    """(N,) log-probability of each caption by the model of the start, on the processor.

    Some pictures are computed together, always the same ones, so that a run that goes on has the
    same numbers.
    """
    found = torch.zeros(len(corpus))
    pictures = np.unique(corpus.pictures)
    for first in range(0, len(pictures), TOGETHER):
        rows = pictures[first : first + TOGETHER]
        captions, features = corpus.of_pictures(rows, store, runtime, regions=start.needs_regions)
        with torch.no_grad(), runtime.autocast():
            own = log_probs(start, features, corpus, captions, runtime)
        found[torch.from_numpy(captions)] = own.cpu()
        done = min(first + TOGETHER, len(pictures))
        report.progress("reading graded captions", done, len(pictures), "pictures")
    return found


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
    inputs, targets = corpus.tensors(captions, runtime.device)
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
    _read(path)


def _read(path: Path) -> list[GradedCaption]:
    try:
        return read_graded(path)
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
    """Read graded captions, and what the model of the start finds of them.

    A caption that is graded several times has the mean of its grades.

    Args:
        records: all pictures of the data set; those of the train split count.
        vocabulary: of the run; it begins with the words of ``init_from``.

    Raises:
        ShowtellError: the file or the model cannot be read, or no training picture has two captions
            of different grades that the model can say.
    """
    graded = _read(path)
    find = _finder(records)
    found: dict[tuple[int, str], list[float]] = {}
    for row in graded:
        place = find(row.image)
        if place is not None and _is_learnt(records[place], store):
            found.setdefault((place, row.caption), []).append(row.grade)
    start = load_checkpoint(init_from)
    rows = store.rows([records[place].image_id for place, _ in found])
    corpus, grades = _usable(
        [caption for _, caption in found],
        rows,
        np.array([fmean(given) for given in found.values()], np.float64),
        vocabulary,
        num_words=len(start.vocabulary),
        max_length=max_length,
    )
    if not len(corpus):
        raise DataError(
            f"data.graded = {path}: {counted(len(found), 'caption')} of "
            f"{counted(len(graded), 'row')} are of training pictures, and no picture has two that "
            "the model can say and whose grades differ"
        )
    decoder = start.decoder.to(runtime.device).requires_grad_(False).eval()
    before = log_probs_before(decoder, corpus, store, runtime, report)
    opened = GradedCaptions(path.name, store, decoder.needs_regions, corpus, grades, before)
    num_pictures = opened.provenance()["num_pictures"]
    report.note(
        f"{len(corpus):,} of {counted(len(graded), 'graded caption')} to learn from, of "
        f"{counted(num_pictures, 'training picture')} (data.graded)"
    )
    return opened


def check_same_grades(graded: GradedCaptions, known: Mapping[str, Any], folder: Path) -> None:
    """Make sure that a resumed run learns from the grades that it has learnt from before.

    Args:
        known: its ``run.json``.

    Raises:
        CheckpointError: it would not.
    """
    before = known.get(GRADED)
    if before and before.get("fingerprint") != graded.provenance()["fingerprint"]:
        raise CheckpointError(
            f"{folder} learns from {before.get('num_captions', 0):,} graded captions of "
            f"{before.get('file')}, and data.graded does not have the same now: put the file back, "
            "or start a new run"
        )


def _is_learnt(record: Record, store: FeatureStore) -> bool:
    return record.split == "train" and record.image_id not in store.failures


def _finder(records: Sequence[Record]) -> Callable[[str], int | None]:
    """From what names a picture to its place; None for what names none, or several.

    A name is an id, or else the end of a path, or else another way of writing either of them.
    """
    ids = {record.image_id: place for place, record in enumerate(records)}
    tails: dict[str, int | None] = {}
    loose: dict[str, int | None] = {}
    for place, record in enumerate(records):
        parts = record.path.parts
        for first in range(len(parts)):
            _name(tails, "/".join(parts[first:]), place)
        for name in {same_image(record.path.name), same_image(record.image_id)}:
            _name(loose, name, place)

    def find(image: str) -> int | None:
        if image in ids:
            return ids[image]
        parts = [part for part in image.replace("\\", "/").split("/") if part]
        for first in range(len(parts)):
            if (tail := "/".join(parts[first:])) in tails:
                return tails[tail]
        return loose.get(same_image(image))

    return find


def _name(names: dict[str, int | None], name: str, place: int) -> None:
    """Let a name stand for a place; for none where it stands for another already."""
    names[name] = place if names.get(name, place) == place else None


def _usable(
    captions: Sequence[str],
    rows: NDArray[np.int64],
    grades: NDArray[np.float64],
    vocabulary: Vocabulary,
    *,
    num_words: int,
    max_length: int,
) -> tuple[Corpus, NDArray[np.float64]]:
    """The captions that both models can say, of pictures with different grades.

    Args:
        num_words: that the model of the start has; they are the first of the vocabulary.
        max_length: tokens; a longer caption is left out.
    """
    tokenized = TokenizedCaptions.tokenize(captions, vocabulary.segmentation)
    corpus = Corpus.encode(tokenized, rows, vocabulary, ANY_LENGTH)
    grades = grades[tokenized.lengths > 0]
    caption_of = np.repeat(np.arange(len(corpus)), corpus.lengths)
    unknown = (corpus.ids == UNK) | (corpus.ids >= num_words)
    kept = np.bincount(caption_of[unknown], minlength=len(corpus)) == 0
    kept &= corpus.lengths <= max_length
    if kept.any():
        pictures, place = np.unique(corpus.pictures[kept], return_inverse=True)
        least, most = np.full(len(pictures), np.inf), np.full(len(pictures), -np.inf)
        np.minimum.at(least, place, grades[kept])
        np.maximum.at(most, place, grades[kept])
        kept &= np.isin(corpus.pictures, pictures[most - least > LEAST_APART])
    return corpus.only(kept), grades[kept]
