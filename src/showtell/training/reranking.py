"""Learning to choose among a model's captions: a word detector, then the weights of the signs.

The detector learns from the captions of the training pictures which words are said of what the
encoder sees (``decoding/reranking.py``). Then the model captions the validation pictures, and the
weights of the signs are those that raise the expected CIDEr-D of a choice by softmax (minimum risk:
Smith and Eisner 2006, "Minimum Risk Annealing for Training Log-Linear Models", section 3). What
choosing gains is cross-validated: each fold's captions are chosen by weights that were fitted to
the others. The confidence is calibrated with the same signs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.config import DecodingConfig
from showtell.core.files import read_json, write_json
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.data.request import DataRequest
from showtell.data.splits import usable_splits
from showtell.decoders.word_detector import LEAST_EVIDENCE, commonest
from showtell.decoding.arrays import Floats, Ids
from showtell.decoding.reranking import RERANKER, SIGNS, Reranker, Signs, windows_of
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.features import Features
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, DataError, ScoringError
from showtell.evaluation.calibration import ACCEPTABLE, NUM_FOLDS, fit_calibration
from showtell.evaluation.compare import Comparison, compare
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.caption import CALIBRATION, Calibration, Caption
from showtell.inference.checkpoint import (
    CONFIG,
    METRICS,
    MOST_JSON,
    VOCABULARY,
    find_checkpoint,
)
from showtell.inference.specs import spec_of
from showtell.metrics.cider import CiderD
from showtell.pretrained import shipped_folder
from showtell.text.vocabulary import SPECIAL_WORDS, load_vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions

MOST_TOKENS = 200  # of a caption
FEWEST = 20  # validation pictures


@dataclass(frozen=True)
class DetectorSettings:
    """How the detector is made.

    Attributes:
        num_words: the commonest words of the captions, so many at most.
        num_windows: parts along each side of the grid, where the model reads one.
        dropout: on what it reads.
    """

    num_words: int = 1000
    num_windows: int = 3
    num_epochs: int = 8
    batch_size: int = 64
    lr: float = 2e-3
    warmup_steps: int = 50
    weight_decay: float = 1e-3
    dropout: float = 0.3


DETECTOR = DetectorSettings()


@dataclass(frozen=True)
class Learnt:
    """A reranker, and what it gains on the validation pictures.

    Attributes:
        calibration: that goes with it; None where there can be none.
        first: by picture, what search found most probable.
        chosen: the cross-validated choice.
        best_of_all: CIDEr-D of the best hypothesis of each picture: what no choice surpasses.
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
        ScoringError: choosing gains nothing on the validation pictures.
    """
    if len(train) < FEWEST or len(val) < FEWEST:
        raise DataError(
            f"{len(train)} training and {len(val)} validation pictures with captions: a reranker "
            f"needs {FEWEST} of each"
        )
    with _seeded(seed, captioner.runtime.device):
        detector = learn_detector(
            captioner, train, store, report=report, settings=settings, seed=seed
        )
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
            f"choosing among captions gains nothing on these pictures (CIDEr-D {gained:+.3f}): "
            "give more pictures; nothing was written"
        )
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
        lines.append(f"{'best':<10} CIDEr-D {self.best_of_all:.3f}: what no choice surpasses")
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
    dataset = usable_splits(data.load())
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
    if captioner.decoding.beam_size < 2:
        raise CheckpointError(
            f"{folder}: its search keeps one caption, so there is none to choose; set beam_size = "
            f"5 under [decoding] in {folder / CONFIG}"
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
    metrics: dict[str, Any] = read_json(folder / METRICS, MOST_JSON)
    metrics.pop(CALIBRATION, None)
    if calibrates and learnt.calibration is not None:
        metrics[CALIBRATION] = learnt.calibration.to_dict()
    # A calibration without its reranker cannot be read: the reranker comes first.
    learnt.reranker.save(folder / RERANKER)
    write_json(folder / METRICS, metrics)
    return learnt


class _Detector(nn.Module):
    """Evidence of words in the parts of a picture; it folds into one linear layer."""

    def __init__(self, width: int, prior: Tensor, num_parts: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.logits = nn.Linear(width, len(prior))
        self.dropout = dropout
        nn.init.normal_(self.logits.weight, std=0.01)
        # Before anything is learnt each word has its prior probability.
        evidence = -torch.log1p(-prior.clamp(1e-4, 0.99)) / num_parts
        self.logits.bias.data = torch.log(torch.expm1(evidence))

    def forward(self, parts: Tensor) -> Tensor:
        """(P, parts, D) -> (P, W) in nats: minus the log-probability that no part shows a word."""
        flat = F.dropout(self.norm(parts.flatten(0, 1)), self.dropout, self.training)
        each = F.softplus(self.logits(flat).float())
        return each.view(*parts.shape[:2], -1).sum(dim=1)

    @torch.no_grad()
    def folded(self) -> tuple[Floats, Floats]:
        """(W, D), (W,): what ``forward`` computes before the softplus."""
        assert self.norm.running_var is not None and self.norm.running_mean is not None
        scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        shift = self.norm.bias - self.norm.running_mean * scale
        weight = self.logits.weight * scale
        bias = self.logits.bias + self.logits.weight @ shift
        return weight.cpu().numpy(), bias.cpu().numpy()


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Within it torch draws from a seed; the host's random state is as before at the end."""
    devices = [torch.cuda.current_device()] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def learn_detector(
    captioner: NativeCaptioner,
    records: Sequence[Record],
    store: FeatureStore,
    *,
    report: Reporter,
    settings: DetectorSettings,
    seed: int,
) -> Reranker:
    """Learn which words people say of what the encoder sees.

    Each word's target is the share of a picture's captions that have it (cross-entropy).

    Returns:
        A reranker whose signs have no weights yet.
    """
    with_grid = captioner.needs_regions
    num_windows = settings.num_windows if with_grid else 0
    ids, prior, targets = _targets(captioner, records, settings.num_words)
    rows = store.rows([record.image_id for record in records])
    views = store.num_views(rows)
    device = captioner.runtime.device
    random = np.random.default_rng(seed)
    width = store.grid(rows[:1], 0).shape[-1] if with_grid else store.pooled(rows[:1], 0).shape[-1]
    num_parts = num_windows**2 or 1
    detector = _Detector(width, torch.from_numpy(prior), num_parts, settings.dropout).to(device)
    optimizer = torch.optim.AdamW(
        detector.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    size = min(settings.batch_size, len(records))
    num_steps = settings.num_epochs * (len(records) // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / settings.warmup_steps) * (1 - step / num_steps),
    )
    step = 0
    for _ in range(settings.num_epochs):
        order = random.permutation(len(records))
        for first in range(0, len(records) - size + 1, size):
            batch = np.sort(order[first : first + size])
            drawn = random.integers(0, views[batch])
            parts = _parts(store, rows[batch], drawn, num_windows).to(device)
            with captioner.runtime.autocast():
                evidence = detector(parts)
            wanted = torch.from_numpy(targets[batch].astype(np.float32)).to(device)
            found = -torch.log(-torch.expm1(-evidence.clamp(min=LEAST_EVIDENCE)))
            loss = (wanted * found + (1 - wanted) * evidence).sum() / size
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            report.progress("word detector", step, num_steps, "steps")
    weight, bias = detector.folded()
    weight = weight.astype(np.float16).astype(np.float32)  # as its file has it
    return Reranker(ids, prior, weight, bias, num_windows, np.zeros(len(SIGNS)))


def _targets(
    captioner: NativeCaptioner, records: Sequence[Record], num_words: int
) -> tuple[Ids, Floats, NDArray[np.float16]]:
    """The words' ids, their priors, and (P, W) the share of each picture's captions with each."""
    vocabulary = captioner.vocabulary
    counts = np.array([len(record.captions) for record in records])
    captions = TokenizedCaptions.tokenize(
        (caption for record in records for caption in record.captions), vocabulary.segmentation
    )
    corpus = Corpus.encode(
        captions, np.repeat(np.arange(len(records)), counts), vocabulary, MOST_TOKENS
    )
    of_caption = np.repeat(np.arange(len(corpus.lengths)), corpus.lengths)
    pairs = np.unique(of_caption * len(vocabulary) + corpus.ids)  # once a caption
    which, said = np.divmod(pairs, len(vocabulary))
    which, said = which[said >= len(SPECIAL_WORDS)], said[said >= len(SPECIAL_WORDS)]
    num = torch.from_numpy(np.bincount(said, minlength=len(vocabulary)))
    ids, prior = commonest(num, len(corpus.lengths), num_words)
    place = np.full(len(vocabulary), -1)
    place[ids.numpy()] = np.arange(len(ids))
    known = place[said] >= 0
    targets = np.zeros((len(records), len(ids)), np.float32)
    pictures = corpus.pictures[which[known]]
    np.add.at(targets, (pictures, place[said[known]]), 1)
    targets /= np.maximum(np.bincount(corpus.pictures, minlength=len(records)), 1)[:, None]
    return ids.numpy(), prior.numpy(), targets.astype(np.float16)


def _parts(store: FeatureStore, rows: Ids, views: Ids | int, num_windows: int) -> Tensor:
    """(P, parts, D) what the detector reads of stored features."""
    pooled = torch.from_numpy(np.asarray(store.pooled(rows, views)).astype(np.float32))
    grid = None
    if num_windows:
        grid = torch.from_numpy(np.asarray(store.grid(rows, views)).astype(np.float32))
    return torch.from_numpy(windows_of(Features(pooled, grid), num_windows))


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
    """The same search, with all of its hypotheses in its own order."""
    size = decoding.beam_size
    changes: dict[str, Any] = {"num_captions": size, "rerank": False, "min_confidence": 0.0}
    return decoding.with_changes({"method": "beam", **changes})


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
