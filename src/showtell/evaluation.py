"""Caption the pictures of a data set and score what was said.

Works on features from a store, so it serves training's validation and ``showtell evaluate``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from showtell.captioner import Captioner
from showtell.captions import Caption
from showtell.config import DecodingConfig
from showtell.data.records import Record
from showtell.features.store import FeatureStore
from showtell.metrics import References, Scores, evaluate
from showtell.models.base import Features
from showtell.processes import ALONE, Processes


@dataclass(frozen=True)
class Evaluation:
    """Captions of a split with their scores.

    Attributes:
        captions: by image id, in the records' order.
        scores: against the records' captions.
    """

    captions: dict[str, Caption]
    scores: Scores

    def coco_results(self) -> list[dict[str, str | int]]:
        """The captions in COCO's results format; ids that are numbers become numbers again."""
        return [
            {
                "image_id": int(image_id) if _is_plain_number(image_id) else image_id,
                "caption": caption.text,
            }
            for image_id, caption in self.captions.items()
        ]


def evaluate_captioner(
    captioner: Captioner,
    records: Sequence[Record],
    store: FeatureStore,
    *,
    references: References | None = None,
    decoding: DecodingConfig | None = None,
    batch_size: int = 128,
    progress: Callable[[int, int], None] | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Caption ``records`` from their stored features (view 0) and score the captions.

    Args:
        references: of the same records, where they are scored against more than once.
        batch_size: pictures at a time; of many processes, each one's.
        progress: called with (pictures done, pictures in all) after each batch.
        processes: among which the pictures are shared out; all get the result.
    """
    captions: list[Caption] = []
    for start in range(0, len(records), batch_size * processes.size):
        batch = records[start : start + batch_size * processes.size]
        part = processes.part(len(batch))
        found: list[Caption] = []
        if part:
            own = [batch[place].image_id for place in part]
            features = load_features(
                store,
                store.rows(own),
                regions=captioner.needs_regions,
                dtype=captioner.runtime.dtype,
            )
            found = captioner.caption_features(
                features, decoding=decoding, first=start + part.start
            )
        for captions_of_part in processes.gather(found):
            captions += captions_of_part
        if progress:
            progress(len(captions), len(records))
    by_id = dict(zip((record.image_id for record in records), captions, strict=True))
    texts = {image_id: caption.text for image_id, caption in by_id.items()}
    scores = processes.from_first(lambda: evaluate(texts, references or references_of(records)))
    return Evaluation(by_id, scores)


def references_of(records: Sequence[Record]) -> References:
    """The captions of ``records``, tokenised and counted for scoring."""
    return References({record.image_id: record.captions for record in records})


def load_features(
    store: FeatureStore,
    rows: NDArray[np.int64],
    views: NDArray[np.int64] | None = None,
    *,
    regions: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Features:
    """Features of some rows of a store on the processor.

    Args:
        rows: (P,) pictures.
        views: (P,) which view of each; None is view 0, the one without augmentation.
        regions: whether the grid is wanted too.
        dtype: of the grid; the pooled features, which are small, are in fp32.
    """
    if views is None:
        views = np.zeros_like(rows)
    pooled = torch.from_numpy(store.pooled(rows, views)).float()
    if not regions:
        return Features(pooled)
    # By way of fp32, which processors convert to and from: three times as fast as fp16 to bf16.
    return Features(pooled, torch.from_numpy(store.grid(rows, views)).float().to(dtype))


def _is_plain_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text
