"""Captions that fit other pictures as well as their own, as a first short student judges.

A teacher that mixes up pictures is sure of what it says, and its captions of a picture agree. Only
the pictures tell. A student that has seen all captions a few times has learnt what most of them
share, and hardly yet which wrong caption belongs to which picture (Arpit et al. 2017, arXiv
1706.05394, section 3; that small losses mark clean labels is used by Han et al. 2018, arXiv
1804.06872). It is asked how probable a caption is for its own picture and for some others, drawn
at random. A right caption is more probable for its own picture than for nearly all others; a wrong
one is one of many.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from showtell.config import Config
from showtell.data.records import Record
from showtell.distil.filters import Filtered, Said
from showtell.encoders.store import FeatureStore
from showtell.inference.backends.native import NativeCaptioner
from showtell.text.vocabulary import PAD, Vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

OTHERS = 10  # pictures that a caption is compared with
BATCH = 256  # captions
EPOCHS, STEPS = 3, 300  # of the judge: the fewest epochs, and about so many steps
LEAST_MEAN = 0.75
"""The mean share from which on a judge has learnt enough; one that has learnt nothing has 0.5."""

NO_FIT = "fits other pictures as well"
Progress = Callable[[int, int], None]


def first_student(config: Config, num_captions: int) -> Config:
    """The settings of the judge: the student's, for a few epochs of so many captions."""
    values = config.model_dump()
    steps = max(1, num_captions // config.training.batch_size)
    epochs = min(max(EPOCHS, -(-STEPS // steps)), config.training.num_epochs)
    values["training"] |= {"num_epochs": epochs, "save_every": epochs}
    return Config.of(values)


def drop_misfits(
    said: Sequence[Said], shares: NDArray[np.float64], least: float, found: Filtered
) -> bool:
    """Sort captions into ``found`` by the share of other pictures that they fit worse.

    Returns:
        Whether the judge could judge; if not, every caption stays.
    """
    if shares.mean() < LEAST_MEAN:
        found.kept += said
        return False
    for one, share in zip(said, shares.tolist(), strict=True):
        if share < least:
            found.drop(one, NO_FIT, f"worse than {1 - share:.0%} of others")
        else:
            found.kept.append(one)
    return True


def fit_shares(
    said: Sequence[Said],
    captioner: NativeCaptioner,
    store: FeatureStore,
    *,
    seed: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """(N,) of each caption the share of other pictures that it fits worse than its own.

    Captions of pictures that could not be encoded get 1. The other pictures are drawn from those of
    the captions; they follow from ``seed``.
    """
    shares = np.ones(len(said))
    ids = [f"teacher/{one.picture}" for one in said]
    usable = [place for place, name in enumerate(ids) if name not in store.failures]
    own = store.rows([ids[place] for place in usable])
    pictures = np.unique(own)
    if len(pictures) < 2:
        return shares
    corpus = _corpus([said[place].text for place in usable], captioner.vocabulary)
    rng = np.random.default_rng(seed)
    # Another picture than its own: a step of 1 to P - 1 around the circle of all.
    places = np.searchsorted(pictures, own)
    steps = rng.integers(1, len(pictures), (len(own), OTHERS))
    others = pictures[(places[:, None] + steps) % len(pictures)]
    candidates = np.concatenate([own[:, None], others], axis=1)  # (N, 1 + OTHERS)
    for start in range(0, len(own), BATCH):
        numbers = np.arange(start, min(start + BATCH, len(own)))
        losses = np.stack(
            [
                caption_losses(captioner, store, corpus, numbers, candidates[numbers, column])
                for column in range(candidates.shape[1])
            ],
            axis=1,
        )
        found = (losses[:, :1] < losses[:, 1:]).mean(axis=1)
        shares[[usable[number] for number in numbers]] = found
        progress(int(numbers[-1]) + 1, len(own))
    return shares


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


def judged_records(said: Sequence[Said], records: Sequence[Record]) -> tuple[Record, ...]:
    """The records of pictures that have captions to judge."""
    names = {f"teacher/{one.picture}" for one in said}
    return tuple(record for record in records if record.image_id in names)


def _corpus(texts: Sequence[str], vocabulary: Vocabulary) -> Corpus:
    tokenized = TokenizedCaptions.tokenize(texts)
    corpus = Corpus.encode(tokenized, np.arange(len(texts)), vocabulary, 200)
    assert len(corpus) == len(texts), "a caption has no word"
    return corpus
