"""BERTScore's F1 (Zhang et al. 2020, arXiv 1904.09675, section 3), with a local encoder of text.

With the token vectors c of a caption and r of a reference, each of length 1:

    precision = mean over c of max over r of cos(c, r)
    recall    = mean over r of max over c of cos(c, r)

and F1 is their harmonic mean; of several references the best counts. As in the authors' program,
the tokens that begin and end a text may be matched but have no weight in the means. There is no
idf weighting and no rescaling. The layer is the last unless another is asked for; the paper's table
of best layers has 9 for bert-base and 17 for roberta-large.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from showtell.errors import ScoringError
from showtell.metrics.local_models import LocalModel, batches, load_model
from showtell.metrics.statistics import Statistics

VERSION = "1"

NAME = "BERTScore"

BATCH_SIZE = 64
_IMAGES = 256  # whose vectors are in memory at once


@dataclass(frozen=True)
class _Vectors:
    """Of one text: its tokens' vectors (T, D), and which tokens count (T,)."""

    values: NDArray[np.float32]
    counts: NDArray[np.bool_]


class BertScore:
    """BERTScore by one model and layer.

    Attributes:
        layer: whose vectors are compared; 0 is the embeddings.
    """

    def __init__(self, name: str, layer: int | None = None) -> None:
        """Load an encoder from a folder, or from the hub's cache.

        Raises:
            MissingExtraError: transformers is not installed.
            ScoringError: there is no such model, or it lacks the layer.
        """
        self.model: LocalModel = load_model(name, option="--bert", with_pictures=False)
        num_layers = getattr(self.model.model.config, "num_hidden_layers", None)
        if not isinstance(num_layers, int):
            kind = type(self.model.model).__name__
            raise ScoringError(f"--bert {name}: expected an encoder of text; this is a {kind}")
        self.layer = num_layers if layer is None else layer
        if not 0 <= self.layer <= num_layers:
            raise ScoringError(f"--bert-layer {layer}: {name} has layers 0 to {num_layers}")

    def statistics(
        self, captions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Statistics:
        """F1 of N captions: the mean of the images' scores.

        Args:
            captions: as they are written.
            references: for each caption one or more.
        """
        scores: list[float] = []
        for pairs in batches(list(zip(captions, references, strict=True)), _IMAGES):
            vectors = self._vectors(list(dict.fromkeys(chain(*([c, *rs] for c, rs in pairs)))))
            scores += [max(_f1(vectors[c], vectors[r]) for r in rs) for c, rs in pairs]
        return Statistics.mean(NAME, np.array(scores, np.float64))

    def _vectors(self, texts: list[str]) -> dict[str, _Vectors]:
        """By text; texts of like length are read together."""
        model, tokenizer = self.model.model, self.model.tokenizer
        most = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        # A word of RoBERTa and GPT-2 is another where no space precedes it (as in bert-score).
        space = " " * (model.config.model_type in ("roberta", "gpt2"))
        found = {}
        for batch in batches(sorted(texts, key=len), BATCH_SIZE):
            tokens = self.model.tokenized([space + text.strip() for text in batch], most)
            with self.model.runtime.inference():
                states = model(**tokens, output_hidden_states=True).hidden_states[self.layer]
            states = (states / states.norm(dim=-1, keepdim=True)).cpu().numpy()
            ids, masks = tokens["input_ids"].cpu().numpy(), tokens["attention_mask"].bool().cpu()
            special: list[Any] = [tokenizer.cls_token_id, tokenizer.sep_token_id]
            ends = np.isin(ids, [number for number in special if number is not None])
            for text, values, mask, end in zip(batch, states, masks.numpy(), ends, strict=True):
                found[text] = _Vectors(values[mask], ~end[mask])
        return found


def _f1(caption: _Vectors, reference: _Vectors) -> float:
    """0 where either has no token that counts."""
    if not caption.counts.any() or not reference.counts.any():
        return 0.0
    cosines = caption.values @ reference.values.T
    precision = float(cosines.max(axis=1)[caption.counts].mean())
    recall = float(cosines.max(axis=0)[reference.counts].mean())
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
