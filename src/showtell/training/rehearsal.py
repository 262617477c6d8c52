"""Captions that a model makes up before it is trained on, to be learnt again beside the new ones.

A network that learns something new forgets less of the old if it rehearses what it used to say,
even if the old data is gone (pseudo-rehearsal, Robins 1995, "Catastrophic forgetting, rehearsal and
pseudorehearsal"). Here the model captions pictures that do not exist: a few words of its
classifier or detector stand for each, as in ``text_captions.py``.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.files import write_text
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.decoders.base import Decoder
from showtell.decoders.word_detector import WordDetector
from showtell.encoders.concepts import ConceptReader
from showtell.encoders.features import Concepts, Features
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint
from showtell.text.vocabulary import PAD

REHEARSAL_FILE = "rehearsal.txt"
MOST_SHOWN = 3  # words that stand for a picture
BATCH_SIZE = 100
LEAST_WORDS = 4  # a shorter caption is not a sentence
REHEARSAL_STREAM = 4  # keeps its random numbers apart from the others'


def rehearsal_captions(
    folder: Path, start: Checkpoint, config: Config, runtime: Runtime, report: Reporter
) -> list[str]:
    """``training.rehearsal`` captions that ``start`` makes up, kept in the run's folder.

    Returns:
        Fewer where some are equal, and none for a decoder that reads no words beside the picture.
    """
    if (words := known_words(start.decoder)) is None:
        return []
    captions = make_up(start, words, config.training.rehearsal, config.seed, runtime, report)
    path = folder / REHEARSAL_FILE
    write_text(path, "".join(f"{caption}\n" for caption in captions))
    report.note(f"{counted(len(captions), 'caption')} made up by the model, to rehearse: {path}")
    return captions


def kept_captions(folder: Path) -> list[str]:
    """Those that the run in ``folder`` rehearses, for one that is resumed."""
    path = folder / REHEARSAL_FILE
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def known_words(decoder: Decoder) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """The ids that can stand for a picture, and how often to show each; None where none can."""
    concepts, detector = (getattr(decoder, name, None) for name in ("concepts", "detector"))
    if isinstance(detector, WordDetector):
        ids, counts = detector.known()
    elif isinstance(concepts, ConceptReader):
        ids = torch.unique(concepts.class_words)
        ids = ids[ids != PAD].cpu()
        counts = concepts.counts[ids].double().cpu() + 1.0
    else:
        return None
    if not len(ids):  # the classes have English names, of which another language has no word
        return None
    return ids.numpy(), counts.double().numpy()


def make_up(
    start: Checkpoint,
    words: tuple[NDArray[np.int64], NDArray[np.float64]],
    num: int,
    seed: int,
    runtime: Runtime,
    report: Reporter,
) -> list[str]:
    """Distinct captions of ``num`` pictures that do not exist, in the order of making."""
    ids, counts = words
    # Square roots, so that rare words are rehearsed, too.
    shares = np.sqrt(counts) / np.sqrt(counts).sum()
    rng = np.random.default_rng((seed, REHEARSAL_STREAM))
    captioner = NativeCaptioner(start, runtime, trust_model=True)
    captioner.decoder.to(runtime.device)
    width, segmentation = start.metrics["feature_size"], start.vocabulary.segmentation
    # What a model may be set to say of a photo (several captions, a required word, only what it is
    # sure of) is not what it knows. Settings of beams alone go with the method.
    decoding = captioner.resolve({"method": "greedy", "style": None, "min_confidence": 0.0})
    found: dict[str, None] = {}
    for first in range(0, num, BATCH_SIZE):
        size = min(BATCH_SIZE, num - first)
        shown = rng.choice(ids, (size, MOST_SHOWN), p=shares)
        shown[np.arange(MOST_SHOWN) >= rng.integers(1, MOST_SHOWN + 1, size)[:, None]] = PAD
        scores = np.where(shown == PAD, 0.0, rng.uniform(0.2, 1.0, shown.shape))
        concepts = Concepts(torch.from_numpy(shown), torch.from_numpy(scores).float())
        features = Features(torch.zeros(size, width), concepts=concepts)
        said = captioner.caption_features(features, decoding=decoding, first=first)
        texts = (caption.text for caption in said)
        found |= dict.fromkeys(t for t in texts if len(segmentation.words(t)) >= LEAST_WORDS)
        report.progress("rehearsing", first + size, num, "captions")
    return list(found)
