"""Learning to choose among a model's captions: a word detector, then the weights of the signs.

The detector learns from the captions of the training pictures which words are said of what the
encoder sees (``decoding/reranking.py``). Then the model captions the validation pictures, and the
weights of the signs are those that raise the expected CIDEr-D of a choice by softmax (minimum risk:
Smith and Eisner 2006, "Minimum Risk Annealing for Training Log-Linear Models", section 3). What
choosing gains is cross-validated: each fold's captions are chosen by weights that were fitted to
the others. The confidence is calibrated with the same signs. A model that has a reranker already
gets another only where the validation pictures show that it chooses better.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from showtell.config import DecodingConfig
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.data.request import DataRequest, open_data
from showtell.decoding.reranking import RERANKER, Reranker, Signs
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, DataError, ScoringError
from showtell.evaluation.calibration import ACCEPTABLE, NUM_FOLDS, fit_calibration
from showtell.evaluation.compare import Comparison, compare
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.caption import Calibration, Caption
from showtell.inference.checkpoint import find_checkpoint
from showtell.inference.exported import write_calibration
from showtell.inference.files import CONFIG, VOCABULARY
from showtell.inference.specs import spec_of
from showtell.metrics.cider import CiderD
from showtell.pretrained import shipped_folder
from showtell.text.vocabulary import load_vocabulary
from showtell.training.detector import DETECTOR, DetectorSettings, learn_detector
from showtell.training.validation import is_better

FEWEST = 20  # validation pictures


@dataclass(frozen=True)
class Learnt:
    """A reranker, and what it gains on the validation pictures.

    Attributes:
        calibration: that goes with it; None where there can be none.
        first: by picture, what search found most probable.
        chosen: the cross-validated choice.
        best_of_all: CIDEr-D of the best hypothesis of each picture: the most that choosing can
            reach.
    """

    reranker: Reranker
    calibration: Calibration | None
    first: dict[str, str]
    chosen: dict[str, str]
    best_of_all: float


def learn_reranker(
    captioner: NativeCaptioner,
    train: Sequence[Record],
    val: Sequence[Record],
    store: FeatureStore,
    *,
    report: Reporter,
    settings: DetectorSettings = DETECTOR,
    seed: int = 0,
    data: str = "",
) -> Learnt:
    """Make a model's reranker.

    Args:
        train: pictures for the detector.
        val: pictures for the weights of the signs and for the calibration; none of ``train``.
        store: features of both, by the model's encoder.
        data: the name of the pictures, for people.

    Raises:
        DataError: there are too few pictures.
        ScoringError: choosing gains nothing on the validation pictures, or not more than by the
            reranker that the model has.
    """
    if len(train) < FEWEST or len(val) < FEWEST:
        raise DataError(
            f"{len(train)} training and {len(val)} validation pictures with captions: a reranker "
            f"needs {FEWEST} of each"
        )
    had = captioner.reranker
    detector = learn_detector(captioner, train, store, report=report, settings=settings, seed=seed)
    captioner.reranker, captioner.calibration = detector, None
    found = list(_hypotheses(captioner, val, store, report))
    scores = _ciders(captioner, val, found)
    signs = [np.array([caption.signs for caption in captions]) for captions in found]
    picked = np.zeros(len(val), np.int64)
    for fold in range(NUM_FOLDS):
        own = np.arange(len(val)) % NUM_FOLDS == fold
        rest = np.flatnonzero(~own)
        choice = fit_choice([signs[i] for i in rest], [scores[i] for i in rest])
        picked[own] = [int((signs[i] @ choice).argmax()) for i in np.flatnonzero(own)]
    gained = np.mean([s[k] - s[0] for s, k in zip(scores, picked, strict=True)])
    if gained <= 0:
        raise ScoringError(
            f"choosing among captions gains nothing on {len(val)} validation pictures (CIDEr-D "
            f"{gained:+.3f}), so the model stays as it is; a few hundred of them can show more"
        )
    reached = np.array([s[k] for s, k in zip(scores, picked, strict=True)])
    if had is not None:
        captioner.reranker = had
        _check_better(reached, _ciders_chosen(captioner, val, store, scores, report))
    reranker = replace(detector, choice=fit_choice(signs, scores))
    best = [int((each @ reranker.choice).argmax()) for each in signs]
    said = [found[i][k] for i, k in enumerate(best)]
    try:
        calibration = fit_calibration(
            [caption.mean_log_prob for caption in said],
            [float(scores[i][k]) for i, k in enumerate(best)],
            signs=[caption.signs for caption in said],
            threshold=ACCEPTABLE,
            data=data,
        )
    except ScoringError as error:
        report.note(f"confidence is not calibrated: {error}")
        calibration = None
    names = [record.image_id for record in val]
    return Learnt(
        reranker,
        calibration,
        first={name: captions[0].text for name, captions in zip(names, found, strict=True)},
        chosen={name: found[i][picked[i]].text for i, name in enumerate(names)},
        best_of_all=float(np.mean([each.max() for each in scores])),
    )


def _ciders_chosen(
    captioner: NativeCaptioner,
    records: Sequence[Record],
    store: FeatureStore,
    scores: Sequence[Signs],
    report: Reporter,
) -> Signs:
    """(P,) CIDEr-D of what the model chooses by the reranker that it has.

    Args:
        scores: of all hypotheses of each picture.
    """
    assert captioner.reranker is not None
    choice = captioner.reranker.choice
    found = _hypotheses(captioner, records, store, report)
    picked = [int((np.array([c.signs for c in each]) @ choice).argmax()) for each in found]
    return np.array([own[k] for own, k in zip(scores, picked, strict=True)])


def _check_better(new: Signs, had: Signs) -> None:
    """Raise ScoringError unless a new reranker is better than the one that the model has.

    Args:
        new, had: (P,) CIDEr-D of what each chooses of the validation pictures.
    """
    if not is_better([new], [had]):
        raise ScoringError(
            f"on {len(new)} validation pictures a new reranker chooses no better, beyond chance, "
            f"than the one that the model has (CIDEr-D {new.mean():.3f} and {had.mean():.3f}), so "
            "the model stays as it is; more pictures can show more"
        )


@dataclass(frozen=True)
class Reranked:
    """What a model gained, for people.

    Attributes:
        num_words: that its detector knows.
        comparison: of what search found most probable and of what was chosen, cross-validated.
        best_of_all: as in ``Learnt``.
        is_calibrated: whether its confidence is.
    """

    num_words: int
    comparison: Comparison
    best_of_all: float
    is_calibrated: bool

    def describe(self) -> str:
        """A line for each figure."""
        lines = [
            f"{system.name:<10} CIDEr-D {system.scores.metrics['CIDEr-D']:.3f} "
            f"{system.scores.intervals['CIDEr-D']}"
            for system in self.comparison.systems
        ]
        lines.append(
            f"{'best':<10} CIDEr-D {self.best_of_all:.3f}: the most that choosing can reach"
        )
        lines += self.comparison.sentences()
        lines.append(
            f"the model chooses now, by {self.num_words:,} words that it looks for; its confidence "
            f"is {'' if self.is_calibrated else 'not '}calibrated"
        )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "num_words": self.num_words,
            "CIDEr-D": {s.name: s.scores.metrics["CIDEr-D"] for s in self.comparison.systems},
            "best": self.best_of_all,
            "difference": self.comparison.contrasts[0].differences["CIDEr-D"].value,
            "calibrated": self.is_calibrated,
        }


def rerank_model(
    model: str,
    data: DataRequest,
    *,
    device: str = "auto",
    trust_model: bool = False,
    report: Reporter,
) -> Reranked:
    """As ``add_reranker``, as a user asks for it.

    Raises:
        ShowtellError: the model comes with showtell and is not changed, or as ``add_reranker``.
    """
    if spec_of(model) is not None:
        raise CheckpointError(
            f"{model}: only showtell's own models choose among captions; give the folder of a run "
            "or a checkpoint"
        )
    if shipped_folder(model):
        raise CheckpointError(
            f"{model} comes with showtell and is not changed: pack it into a folder of yours "
            f"(showtell pack {model} -o FOLDER) and rerank that"
        )
    folder = find_checkpoint(model)
    dataset = open_data(data, report=report)
    learnt = add_reranker(
        folder,
        dataset,
        device=device,
        trust_model=trust_model,
        store=data.store,
        report=report,
    )
    people = {r.image_id: r.captions for r in dataset.split("val") if r.image_id in learnt.first}
    cut = load_vocabulary(folder / VOCABULARY).segmentation
    said = {"search": learnt.first, "chosen": learnt.chosen}
    return Reranked(
        num_words=len(learnt.reranker.words),
        comparison=compare(said, people, metrics=["CIDEr-D"], segmentation=cut),
        best_of_all=learnt.best_of_all,
        is_calibrated=learnt.calibration is not None,
    )


def add_reranker(
    folder: Path,
    dataset: Dataset,
    *,
    device: str = "auto",
    trust_model: bool = False,
    store: Path | None = None,
    calibrates: bool = True,
    seed: int = 0,
    report: Reporter,
) -> Learnt:
    """Make the reranker of a checkpoint, and write it into its folder with the calibration.

    Args:
        folder: the checkpoint's.
        dataset: its train split is for the detector, its val split for the rest.
        store: a folder for the pictures' features; default: the one that training used.
        calibrates: whether its confidence is calibrated as well.

    Raises:
        ShowtellError: as ``learn_reranker``, or the model or the pictures cannot be read; nothing
            is written then.
    """
    captioner = NativeCaptioner.load(folder, device=device, trust_model=trust_model)
    if not captioner.decoding.chooses:
        raise CheckpointError(
            f"{folder}: it is set to caption without choosing, and would not use a reranker; set "
            'method = "beam", beam_size = 5 and rerank = true under [decoding] in '
            f"{folder / CONFIG}"
        )
    settings = captioner.config.encoder
    features = features_for(
        dataset,
        captioner.encoder,
        WantedFeatures(settings.views, settings.flips, captioner.needs_regions),
        runtime=captioner.runtime,
        folder=store,
        report=report,
    )
    train, val = (
        [record for record in dataset.split(split) if record.image_id in features]
        for split in ("train", "val")
    )
    name = f"{Path(dataset.name).name} val"
    learnt = learn_reranker(captioner, train, val, features, report=report, seed=seed, data=name)
    # A calibration without its reranker cannot be read: the reranker comes first.
    learnt.reranker.save(folder / RERANKER)
    write_calibration(folder, learnt.calibration if calibrates else None)
    return learnt


def _hypotheses(
    captioner: NativeCaptioner, records: Sequence[Record], store: FeatureStore, report: Reporter
) -> Iterator[list[Caption]]:
    """All that the model's search finds of each picture, the most probable first."""
    decoding = searching(captioner.decoding)
    rows = store.rows([record.image_id for record in records])
    for first in range(0, len(rows), 64):
        features = captioner.stored_features(store, rows[first : first + 64])
        for best in captioner.caption_features(features, decoding=decoding):
            yield [best, *best.alternatives]
        report.progress("captioning", min(first + 64, len(rows)), len(rows), "pictures")


def searching(decoding: DecodingConfig) -> DecodingConfig:
    """The same search, with all of its hypotheses in its own order and words."""
    size = decoding.beam_size
    changes: dict[str, Any] = {"num_captions": size, "rerank": False, "min_confidence": 0.0}
    return decoding.with_changes({"method": "beam", "doubt": 0.0, **changes})


def _ciders(
    captioner: NativeCaptioner, records: Sequence[Record], found: Sequence[Sequence[Caption]]
) -> list[Signs]:
    """CIDEr-D of all hypotheses of each picture."""
    cut = captioner.vocabulary.segmentation
    people = {r.image_id: [tuple(cut.words(c)) for c in r.captions] for r in records}
    names = [r.image_id for r, captions in zip(records, found, strict=True) for _ in captions]
    flat = CiderD(people).score(names, [caption.words for each in found for caption in each])
    ends = np.cumsum([len(captions) for captions in found])[:-1]
    return [np.asarray(part, np.float64) for part in np.split(flat, ends)]


def fit_choice(
    signs: Sequence[Signs],
    scores: Sequence[Signs],
    *,
    num_steps: int = 400,
    lr: float = 0.5,
    sharpness: float = 2.0,
    decay: float = 1e-3,
) -> Signs:
    """(F,) weights of the signs that raise the expected score of a choice by softmax.

    Args:
        signs: for each picture (K, F).
        scores: for each picture (K,), CIDEr-D from 0 to 10.
    """
    rows, values = np.concatenate(signs), np.concatenate(scores)
    sizes = np.array([len(each) for each in scores])
    firsts, of = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sizes)), sizes)
    scale = np.maximum(rows.std(axis=0), 1e-6)
    unit = (rows - rows.mean(axis=0)) / scale
    weights = np.zeros(rows.shape[1])
    weights[0] = 1.0  # the decoder's own order, to begin with
    spread = max(float(values.std()), 1e-6)
    for _ in range(num_steps):
        logits = sharpness * unit @ weights
        powers = np.exp(logits - np.maximum.reduceat(logits, firsts)[of])
        chance = powers / np.add.reduceat(powers, firsts)[of]
        expected = np.add.reduceat(chance * values, firsts)[of]
        gradient = (chance * (values - expected) / spread) @ unit / len(sizes)
        weights += lr * (sharpness * gradient - decay * weights)
    return np.asarray(weights / scale, np.float64)
