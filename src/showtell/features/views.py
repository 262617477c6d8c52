"""Views of many pictures: decoded once each, cut by threads, in order.

Pillow lets go of the interpreter's lock while it decodes and scales, so threads do. A random
view depends on the seed, the picture's id and the view's number alone: not on order, on other
pictures or on where a run was stopped. Knows nothing of encoders or of the feature store.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from showtell.data.records import Record
from showtell.errors import ImageError
from showtell.features.images import Pixels, Preprocessing, open_image
from showtell.work_ahead import work_ahead


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to look at: its file as it was when the run began.

    Attributes:
        record: The picture.
        size: Of its file, in bytes; 0 where there is none.
        mtime_ns: When its file was last changed, in ns; 0 where there is none.
        views: How many are to be cut, the evaluation view counted.
        flips: Whether half of the random views are mirrored.
    """

    record: Record
    size: int
    mtime_ns: int
    views: int
    flips: bool


def plan(record: Record, views: int, flips: bool) -> Job:
    """The job for one record; pictures of the train split get ``views`` random views as well."""
    num_views = 1 + views if record.split == "train" else 1
    try:
        info = os.stat(record.path)
    except OSError:  # its decoding will say what is wrong
        return Job(record, 0, 0, num_views, flips)
    return Job(record, info.st_size, info.st_mtime_ns, num_views, flips)


def view_generator(seed: int, image_id: str, view: int) -> np.random.Generator:
    """The source of chance for one random view: the same in any order, run and process."""
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng([seed, view, int.from_bytes(digest[:8], "big")])


def cut(job: Job, recipe: Preprocessing, seed: int) -> list[Pixels] | str:
    """Decode a picture and cut its views, (3, S, S) each, the evaluation view first.

    Returns:
        The views; or, where the picture cannot be decoded, the reason.
    """
    try:
        image = open_image(job.record.path, min_side=recipe.decode_side)
    except ImageError as error:
        return str(error)
    cuts = [recipe.eval_view(image)]
    for view in range(1, job.views):
        rng = view_generator(seed, job.record.image_id, view)
        cuts.append(recipe.random_view(image, rng, flip=job.flips))
    return cuts


def cut_ahead(
    jobs: Sequence[Job], recipe: Preprocessing, *, seed: int, batch_size: int, is_beside: bool
) -> Iterator[tuple[Job, list[Pixels] | str]]:
    """Each job with what ``cut`` makes of it, in order.

    Args:
        jobs: Any number; only a few batches' views are in memory at a time.
        recipe: The encoder's.
        seed: Of the random views.
        batch_size: Views that the encoder takes at once.
        is_beside: Whether the encoder works elsewhere, on a GPU (``work_ahead`` says why it asks).
    """
    return work_ahead(
        jobs,
        partial(cut, recipe=recipe, seed=seed),
        batch_size=batch_size,
        is_beside=is_beside,
        weigh=lambda job: job.views,
    )
