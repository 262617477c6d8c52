"""Captions that fit other pictures as well as their own, as students judge that never saw them.

A teacher that mixes up pictures is sure of what it says, and its captions of a picture agree. Only
the pictures tell. The pictures are parted into two halves, and a first short student is trained on
each. Each judges the captions of the half that it has not seen, so none can have learnt a wrong
caption by heart (out-of-sample predictions, as confident learning asks for them: Northcutt et al.
2021, arXiv 1911.00068, section 3).

A judge is asked how probable a caption is for its own picture and for some others, drawn at random.
The ratio of the first probability to the mean of the others says how much the picture tells of the
caption. It cancels how common the caption's words are: its logarithm is the pointwise mutual
information of caption and picture (Li et al. 2016, arXiv 1510.03055, rank answers by it). A wrong
caption is no more probable for its picture than for any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from showtell.config import Config
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.distil.dataset import drawn, mix, open_mixture, write_mixture
from showtell.distil.filters import Filtered, Said
from showtell.distil.request import DistilRequest
from showtell.distil.student import Plan, train_student
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.store import FeatureStore
from showtell.inference.backends.native import NativeCaptioner
from showtell.text.vocabulary import PAD, Vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

OTHERS = 20  # pictures that a caption is compared with
BATCH = 256  # captions
EPOCHS, STEPS = 3, 300  # of a judge: the fewest epochs, and about so many steps
LEAST_MEAN = 0.75
"""The mean share of other pictures that captions fit worse than their own, from which on a judge
has learnt enough; one that has learnt nothing has 0.5."""

NO_FIT = "fits other pictures as well"


@dataclass(frozen=True)
class Judges:
    """Two first students, and what they need.

    Attributes:
        plan: of the student.
        human: people's captions, with all three splits, from which both judges learn.
        folder: gets a folder for each judge.
    """

    request: DistilRequest
    plan: Plan
    human: Dataset | None
    folder: Path
    report: Reporter

    def losses(self, said: Sequence[Said]) -> NDArray[np.float64] | None:
        """How improbable captions are for their own picture and for others.

        Returns:
            (N, 1 + OTHERS) negative log-likelihoods in nats, the own picture's first; NaN of
            pictures that could not be encoded. None where training was stopped.

        Raises:
            DataError: there are too few pictures.
        """
        is_second = in_second_half(said)
        sides = [
            [one for one, second in zip(said, is_second, strict=True) if second is bool(side)]
            for side in range(2)
        ]
        config = first_student(self.plan.config, min(map(len, sides)))
        self.report.note(
            f"two first students learn from one half of the pictures each, for "
            f"{config.training.num_epochs} epochs, and judge the other half"
        )
        found = np.full((len(said), 1 + OTHERS), np.nan)
        for side, (own, unseen) in enumerate((sides, sides[::-1])):
            judge = self._trained(own, config, self.folder / f"judge-{side + 1}")
            if judge is None:
                return None
            places = [at for at, second in enumerate(is_second) if second is not bool(side)]
            store = self.request.store_of(judge.config, self.folder / f"features-{side + 1}")
            found[places] = self._judged(judge, unseen, store)
        return found

    def _trained(
        self, said: Sequence[Said], config: Config, folder: Path
    ) -> NativeCaptioner | None:
        mixture = mix(said, self.human, human_weight=self.request.human_weight, styles=())
        data_folder = folder.with_name(f"{folder.name}-data")
        data_folder.mkdir(exist_ok=True)
        data = write_mixture(mixture.records, data_folder)
        dataset = open_mixture(data, self.report)
        plan = Plan(config, self.plan.probabilities, "it is a judge")
        if train_student(dataset, plan, self.request, data, folder, self.report).stopped:
            return None
        # The person's own settings are trusted, wherever they have their encoder from.
        return NativeCaptioner.load(folder, device=self.request.device, trust_model=True)

    def _judged(
        self, judge: NativeCaptioner, said: Sequence[Said], folder: Path
    ) -> NDArray[np.float64]:
        """As ``losses``, of captions that a judge has not seen, with features in ``folder``."""
        files = {f"teacher/{one.picture}": one.file for one in said}
        records = tuple(Record(name, Path(file), (), "test") for name, file in files.items())
        settings = judge.config.encoder
        store = features_for(
            Dataset("judged", "jsonl", records),
            judge.encoder,
            WantedFeatures(settings.views, settings.flips, judge.needs_regions, augmented=()),
            runtime=judge.runtime,
            folder=folder,
            report=self.report,
        )
        return compared_losses(said, judge, store, report=self.report)


def in_second_half(said: Sequence[Said]) -> list[bool]:
    """For each caption whether its picture is in the second half: every other of those drawn."""
    second = set(drawn({one.picture for one in said})[1::2])
    return [one.picture in second for one in said]


def first_student(config: Config, num_captions: int) -> Config:
    """The settings of a judge: the student's, for a few epochs of so many captions.

    With half of the pictures, twice the student's epochs are as many steps as it takes.
    """
    steps = max(1, num_captions // config.training.batch_size)
    epochs = min(max(EPOCHS, -(-STEPS // steps)), 2 * config.training.num_epochs)
    return config.changed("training", num_epochs=epochs, save_every=epochs)


def gains(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) in nats, how much more probable captions are for their own picture than on average.

    Args:
        losses: (N, 1 + OTHERS) as ``Judges.losses``; NaN gives infinity: nothing is known.
    """
    found, known = np.full(len(losses), np.inf), ~np.isnan(losses[:, 0])
    likely = -losses[known]
    others = np.logaddexp.reduce(likely[:, 1:], axis=1) - np.log(losses.shape[1] - 1)
    found[known] = likely[:, 0] - others
    return found


def has_learnt(losses: NDArray[np.float64]) -> bool:
    """Whether judges can tell captions of a picture from those of others."""
    known = losses[~np.isnan(losses[:, 0])]
    return bool(len(known) and (known[:, :1] < known[:, 1:]).mean() >= LEAST_MEAN)


def drop_misfits(
    said: Sequence[Said], losses: NDArray[np.float64], least: float, found: Filtered
) -> bool:
    """Sort captions into ``found`` by how much better they fit their own picture than others.

    How many nats are usual depends on pictures and judges, so captions are compared with the
    middle one (confident learning compares with the mean of a class: Northcutt et al., section 3).

    Args:
        losses: as ``Judges.losses``.
        least: share of the median gain.

    Returns:
        Whether the judges could judge; if not, every caption stays.
    """
    if not has_learnt(losses):
        found.kept += said
        return False
    found_gains = gains(losses)
    usual = float(np.median(found_gains[np.isfinite(found_gains)]))
    for one, gain in zip(said, found_gains.tolist(), strict=True):
        if gain < least * usual:
            found.drop(one, NO_FIT, f"{gain:.1f} nats more than for others; usual: {usual:.1f}")
        else:
            found.kept.append(one)
    return True


def compared_losses(
    said: Sequence[Said], captioner: NativeCaptioner, store: FeatureStore, *, report: Reporter
) -> NDArray[np.float64]:
    """(N, 1 + OTHERS) the losses of captions for their own picture and for others.

    The other pictures are drawn from those of the captions; they follow from the model's seed.
    """
    found = np.full((len(said), 1 + OTHERS), np.nan)
    ids = [f"teacher/{one.picture}" for one in said]
    usable = np.array([at for at, name in enumerate(ids) if name not in store.failures], np.int64)
    own = store.rows([ids[place] for place in usable])
    pictures = np.unique(own)
    if len(pictures) < 2:
        return found
    corpus = _corpus([said[place].text for place in usable], captioner.vocabulary)
    rng = np.random.default_rng(captioner.config.seed)
    # Another picture than its own: a step of 1 to P - 1 around the circle of all.
    places = np.searchsorted(pictures, own)
    steps = rng.integers(1, len(pictures), (len(own), OTHERS))
    others = pictures[(places[:, None] + steps) % len(pictures)]
    candidates = np.concatenate([own[:, None], others], axis=1)  # (N, 1 + OTHERS)
    for start in range(0, len(own), BATCH):
        numbers = np.arange(start, min(start + BATCH, len(own)))
        found[usable[numbers]] = np.stack(
            [
                caption_losses(captioner, store, corpus, numbers, candidates[numbers, column])
                for column in range(candidates.shape[1])
            ],
            axis=1,
        )
        report.progress("judging", int(numbers[-1]) + 1, len(own), "captions")
    return found


@torch.no_grad()
def caption_losses(
    captioner: NativeCaptioner,
    store: FeatureStore,
    corpus: Corpus,
    captions: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(B,) the negative log-likelihood in nats of captions, each for a picture.

    Args:
        captions: (B,) numbers of captions in ``corpus``.
        rows: (B,) pictures of the store.
    """
    inputs, targets = corpus.tensors(captions, captioner.runtime.device)
    pictures, picture_of = np.unique(rows, return_inverse=True)
    features = captioner.stored_features(store, pictures).to(captioner.runtime.device)
    features = features._replace(picture_of=torch.from_numpy(picture_of).to(inputs.device))
    with captioner.runtime.inference():
        logits = captioner.decoder(features, inputs).float()
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none"
    )
    summed: NDArray[np.float64] = losses.view(targets.shape).sum(dim=1).double().cpu().numpy()
    return summed


def _corpus(texts: Sequence[str], vocabulary: Vocabulary) -> Corpus:
    tokenized = TokenizedCaptions.tokenize(texts, vocabulary.segmentation)
    corpus = Corpus.encode(tokenized, np.arange(len(texts)), vocabulary, 200)
    assert len(corpus) == len(texts), "a caption has no word"
    return corpus
