"""CLIPScore and RefCLIPScore (Hessel et al. 2021, arXiv 2104.08718, section 3), with a local CLIP.

With the vectors c of a caption, v of its picture and r of its references, each of length 1:

    CLIPScore    = 2.5 max(cos(c, v), 0)
    RefCLIPScore = harmonic mean of CLIPScore and max(max_r cos(c, r), 0)

Captions and references are preceded by "A photo depicts ", as in the paper. Scores of different
CLIPs cannot be compared: the paper's are those of ViT-B/32. CLIP reads 77 tokens; longer captions
are cut.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from showtell.errors import ScoringError
from showtell.images.open import open_image
from showtell.metrics.local_models import LocalModel, batches, load_model
from showtell.metrics.statistics import Floats, Statistics

if TYPE_CHECKING:
    import torch

VERSION = "1"

NAMES = ("CLIPScore", "RefCLIPScore")
WEIGHT = 2.5
PREFIX = "A photo depicts "

BATCH_SIZE = 32


class ClipScore:
    """CLIPScore by one model."""

    def __init__(self, name: str) -> None:
        """Load a CLIP from a folder, or from the hub's cache.

        Raises:
            MissingExtraError: transformers is not installed.
            ScoringError: there is no such model, or it is not a CLIP.
        """
        self.model: LocalModel = load_model(name, option="--clip", with_pictures=True)
        if not all(hasattr(self.model.model, f"get_{kind}_features") for kind in ("image", "text")):
            kind = type(self.model.model).__name__
            raise ScoringError(f"--clip {name}: expected a CLIP; this is a {kind}")

    def statistics(
        self, captions: Sequence[str], pictures: Sequence[Path], references: Sequence[Sequence[str]]
    ) -> Statistics:
        """Both scores of N captions: means of the images' scores.

        Args:
            captions: as they are written.
            pictures: of the captions.
            references: for each picture one or more.

        Raises:
            ImageError: a picture cannot be read.
        """
        said = self.text_vectors(captions)
        seen = self.picture_vectors(pictures)
        clip = WEIGHT * np.maximum((said * seen).sum(axis=1), 0.0)
        flat = self.text_vectors([text for texts in references for text in texts])
        ends = np.cumsum([len(texts) for texts in references])[:-1]
        groups = zip(said, np.split(flat, ends), strict=True)
        nearest = np.array([max(float((group @ vector).max()), 0.0) for vector, group in groups])
        total = clip + nearest
        mean = np.divide(2 * clip * nearest, total, out=np.zeros_like(total), where=total != 0)
        scores = zip(NAMES, (clip, mean), strict=True)
        return Statistics.joined([Statistics.mean(name, values) for name, values in scores])

    def text_vectors(self, texts: Sequence[str]) -> Floats:
        """(N, D) of length 1; each different text is read once."""
        config = self.model.model.config
        most = getattr(config, "text_config", config).max_position_embeddings

        def encode(batch: list[Any]) -> Any:
            tokens = self.model.tokenized([PREFIX + text for text in batch], most)
            return self.model.model.get_text_features(**tokens)

        distinct = list(dict.fromkeys(texts))
        places = {text: place for place, text in enumerate(distinct)}
        return self._vectors(distinct, encode)[[places[text] for text in texts]]

    def picture_vectors(self, pictures: Sequence[Path]) -> Floats:
        """(N, D) of length 1."""

        def encode(batch: list[Any]) -> Any:
            opened = [open_image(path) for path in batch]
            pixels = self.model.preprocessor(opened, return_tensors="pt")["pixel_values"]
            return self.model.model.get_image_features(
                pixel_values=pixels.to(self.model.runtime.device)
            )

        return self._vectors(pictures, encode)

    def _vectors(self, items: Sequence[Any], encode: Callable[[list[Any]], Any]) -> Floats:
        with self.model.runtime.inference():
            encoded = [_pooled(encode(batch)) for batch in batches(items, BATCH_SIZE)]
        vectors: Floats = np.concatenate([batch.double().cpu().numpy() for batch in encoded])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def _pooled(features: Any) -> "torch.Tensor":
    """The projected vectors: transformers 4 gives them alone, transformers 5 in an output."""
    found: torch.Tensor = getattr(features, "pooler_output", features)
    return found
