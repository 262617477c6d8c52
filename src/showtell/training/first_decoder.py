"""The decoder of a run with its first weights: new, or of the model that the run starts from.

``check_agreement`` makes sure that all processes of a run begin with the same.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.decoders.base import Decoder
from showtell.decoders.language_model import LanguageModel
from showtell.decoders.layers import FeatureEmbedding
from showtell.decoders.prefix_lm import PrefixLm
from showtell.decoders.registry import build_decoder
from showtell.decoders.word_detector import WordDetector
from showtell.encoders.backbone import hash_state
from showtell.encoders.concepts import ConceptReader
from showtell.inference.checkpoint import (
    Checkpoint,
)
from showtell.training.checkpoints import start_with
from showtell.training.new_words import grown, likeness
from showtell.training.prepare import TrainingData
from showtell.version import __version__


def build_first_decoder(
    config: Config,
    data: TrainingData,
    provenance: dict[str, Any],
    runtime: Runtime,
    *,
    language_model: LanguageModel | None,
    start: Checkpoint | None,
    reads_anew: bool = False,
) -> Decoder:
    """The decoder of a run, with the weights that it begins with.

    Args:
        data: has the vocabulary, and the encoder's classifier for a decoder that wants its words.
        provenance: has the sizes of what the encoder sees.
        reads_anew: whether ``start`` has another encoder, so that what reads features begins anew.

    Raises:
        CheckpointError: ``start`` is of another shape.
    """
    decoder = build_decoder(
        config.decoder,
        vocab_size=len(data.vocabulary),
        feature_size=provenance["feature_size"],
        region_size=provenance.get("region_size"),
    ).to(runtime.device)
    if start is not None:
        # Rows for new words go by the sizes of what the start was trained to see.
        weights = start_weights(start, data, start.metrics if reads_anew else provenance)
        if reads_anew:
            weights = _with_own_eyes(decoder, start.decoder, weights)
        start_with(decoder, weights, start, config)
    elif language_model is not None:
        assert isinstance(decoder, PrefixLm)
        language_model.fill(decoder)
    detector = getattr(decoder, "detector", None)
    if isinstance(detector, WordDetector) and (start is None or reads_anew):
        assert data.detectable is not None
        detector.fill(*data.detectable)
    concepts = getattr(decoder, "concepts", None)
    if isinstance(concepts, ConceptReader):
        counts = torch.from_numpy(np.bincount(data.train.ids, minlength=len(data.vocabulary)))
        if start is not None and not reads_anew:
            # It has a classifier; how often words come is of this run's captions.
            had = concepts.counts[: len(start.vocabulary)].clone()
            concepts.counts.copy_(counts)
            if config.data.new_words:  # the captions that the model was trained with count, too
                concepts.counts[: len(had)] += had.cpu()
            if data.classes is not None and len(had) < len(counts):
                concepts.name_classes(data.classes, data.vocabulary)
        else:
            assert data.classes is not None  # ``check_classifier`` saw to it
            concepts.fill(data.classes, data.vocabulary, counts)
    return decoder


CONCEPTS = ("concept_embedding.", "concept_score.")  # what reads words by an encoder or detector


def _with_own_eyes(
    decoder: Decoder, other: Decoder, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights of ``other``, but what reads an encoder's features is as ``decoder`` has it.

    Args:
        weights: of ``other``, with rows for new words.
    """
    own, theirs = decoder.state_dict(), _eyes(other)
    taken = {
        name: weight
        for name, weight in weights.items()
        if not name.startswith(theirs) and (name in own or not name.startswith(CONCEPTS))
    }
    anew = (*_eyes(decoder), *CONCEPTS)
    return taken | {n: w for n, w in own.items() if n.startswith(anew) and n not in taken}


def _eyes(decoder: Decoder) -> tuple[str, ...]:
    """Beginnings of the names of weights that read features: the embedding, word detectors."""
    kinds = (FeatureEmbedding, ConceptReader, WordDetector)
    return tuple(f"{name}." for name, part in decoder.named_modules() if isinstance(part, kinds))


def start_weights(
    start: Checkpoint, data: TrainingData, provenance: dict[str, Any]
) -> dict[str, Tensor]:
    """The weights that a decoder begins with; new words have rows of words like them."""
    weights = start.decoder.state_dict()
    num_known = len(start.vocabulary)
    if num_known == len(data.vocabulary):
        return weights
    return grown(
        weights,
        start.config.decoder,
        likeness(data.vocabulary, num_known, data.train),
        feature_size=provenance["feature_size"],
        region_size=provenance.get("region_size"),
    )


def check_agreement(
    processes: Processes, config: Config, data: TrainingData, runtime: Runtime, decoder: Decoder
) -> None:
    """Make sure that all processes begin with the same; else each would train something else.

    Raises:
        ConfigError: naming what differs.
    """
    processes.agree(
        {
            "software": (__version__, torch.__version__),
            "settings": config.to_toml(),
            "precision": runtime.precision,
            "data": data.fingerprint(),
            "weights": hash_state(decoder.state_dict()),
        }
    )
