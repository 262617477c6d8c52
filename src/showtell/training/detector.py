"""Learning which words people say of what an encoder sees, for the reranker.

Noisy-OR over parts of the picture (Fang et al. 2015, arXiv 1411.4952, section 3); what is learnt
becomes the linear layer of ``decoding/reranking.py``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.core.progress import Reporter
from showtell.data.records import Record
from showtell.decoders.word_detector import LEAST_EVIDENCE, commonest
from showtell.decoding.arrays import Floats, Ids
from showtell.decoding.reranking import SIGNS, Reranker, windows_along, windows_of
from showtell.encoders.features import Features
from showtell.encoders.store import FeatureStore
from showtell.inference.backends.native import NativeCaptioner
from showtell.text.vocabulary import SPECIAL_WORDS
from showtell.training.corpus import Corpus, TokenizedCaptions

MOST_TOKENS = 200  # of a caption


@dataclass(frozen=True)
class DetectorSettings:
    """How the detector is made.

    Attributes:
        num_words: the commonest words of the captions, so many at most.
        num_windows: parts along each side of the grid at most, where the model reads one.
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
    runtime = captioner.runtime
    ids, prior, targets = _targets(captioner, records, settings.num_words)
    rows = store.rows([record.image_id for record in records])
    num_windows = 0
    if captioner.needs_regions:
        num_windows = windows_along(settings.num_windows, store.grid(rows[:1]).shape[1])
    width = (store.grid if num_windows else store.pooled)(rows[:1], 0).shape[-1]
    size = min(settings.batch_size, len(records))
    num_steps = settings.num_epochs * (len(records) // size)
    with _seeded(seed, runtime.device):
        detector = _Detector(
            width, torch.from_numpy(prior), num_windows**2 or 1, settings.dropout
        ).to(runtime.device)
        optimizer = torch.optim.AdamW(
            detector.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min(1.0, (step + 1) / settings.warmup_steps) * (1 - step / num_steps),
        )
        batches = _batches(store, rows, size, settings.num_epochs, num_windows, seed)
        for step, (batch, parts) in enumerate(batches, 1):
            with runtime.autocast():
                evidence = detector(parts.to(runtime.device))
            wanted = torch.from_numpy(targets[batch].astype(np.float32)).to(runtime.device)
            found = -torch.log(-torch.expm1(-evidence.clamp(min=LEAST_EVIDENCE)))
            loss = (wanted * found + (1 - wanted) * evidence).sum() / size
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            report.progress("word detector", step, num_steps, "steps")
    weight, bias = detector.folded()
    weight = weight.astype(np.float16).astype(np.float32)  # as its file has it
    return Reranker(ids, prior, weight, bias, num_windows, np.zeros(len(SIGNS)))


def _batches(
    store: FeatureStore, rows: Ids, size: int, num_epochs: int, num_windows: int, seed: int
) -> Iterator[tuple[Ids, Tensor]]:
    """Places in ``rows`` and what the detector reads of them, of a view drawn for each."""
    random = np.random.default_rng(seed)
    views = store.num_views(rows)
    for _ in range(num_epochs):
        order = random.permutation(len(rows))
        for first in range(0, len(rows) - size + 1, size):
            batch = np.sort(order[first : first + size])
            drawn = random.integers(0, views[batch])
            yield batch, _parts(store, rows[batch], drawn, num_windows)


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
