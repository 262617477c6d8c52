"""The built-in data set: coloured shapes on everyday backgrounds, five captions each, in English,
German or Chinese.

showtell renders the pictures on first use. Each follows from its name alone, so ``train-00017`` is
the same picture on every machine and in a set of any size.

Captions say what is left and what is right, so a flipped picture no longer fits its captions:
features of ``scenes`` are made without flips.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

from showtell.core.files import cache_folder
from showtell.core.progress import Progress
from showtell.data.records import Record, Split
from showtell.data.scenes.draw import paint
from showtell.data.scenes.words import LANGUAGES as LANGUAGES
from showtell.data.scenes.words import describe
from showtell.data.scenes.world import KINDS, Scene, draw_scene

VERSION = 2  # raise it with any change to what is drawn or said: it names the cache folder
SEED = 2015
NUM_TRAIN = 1_600
HELD_OUT_PREFIX = "heldout-"
SECONDS_TO_STALE = 3_600  # no picture takes that long to paint
MIN_TEST = 10  # one of each kind of scene, however small the set


def is_held_out(image_id: str) -> bool:
    """Whether a test picture shows a combination that no training picture shows."""
    return image_id.startswith(HELD_OUT_PREFIX)


def image_ids(num_train: int = NUM_TRAIN) -> Iterator[tuple[str, Split]]:
    """The ids and splits of a set: val and test are an eighth of train each, held-out half that."""
    num_test = max(MIN_TEST, num_train // 8)
    counts: tuple[tuple[str, Split, int], ...] = (
        ("train-", "train", num_train),
        ("val-", "val", num_test),
        ("test-", "test", num_test),
        (HELD_OUT_PREFIX, "test", max(MIN_TEST, num_test // 2)),
    )
    for prefix, split, count in counts:
        for number in range(count):
            yield f"{prefix}{number:05d}", split


def scene_of(image_id: str) -> tuple[Scene, Random]:
    """The facts of a picture, and the random generator in its state after they were drawn."""
    random = Random(f"showtell scenes {VERSION} {SEED} {image_id}")
    kind = KINDS[int(image_id.rpartition("-")[2]) % len(KINDS)]
    return draw_scene(random, kind, held_out=is_held_out(image_id)), random


def scenes_folder() -> Path:
    """Where the rendered pictures are kept."""
    return cache_folder() / "scenes" / f"v{VERSION}-seed{SEED}"


def render_scenes(
    num_train: int = NUM_TRAIN, *, language: str = "en", progress: Progress | None = None
) -> tuple[Record, ...]:
    """The records of a set; pictures that the cache lacks are painted first.

    Each picture is written under a temporary name and renamed, so processes may render at the
    same time, and the next run continues where a killed one stopped.

    Args:
        num_train: How many training pictures; the other splits follow from it.
        language: Of the captions, one of ``LANGUAGES``; the pictures are the same.
        progress: Called with how many pictures are there, and how many are wanted.

    Raises:
        OSError: the cache folder cannot be written.
    """
    folder = scenes_folder()
    folder.mkdir(parents=True, exist_ok=True)
    there = _rendered(folder)
    ids = list(image_ids(num_train))
    records = []
    for number, (image_id, split) in enumerate(ids, 1):
        scene, random = scene_of(image_id)
        captions = describe(scene, random, language)
        path = folder / f"{image_id}.png"
        if path.name not in there:
            _write(path, scene, random)
        records.append(Record(image_id, path, captions, split))
        if progress is not None:
            progress(number, len(ids))
    return tuple(records)


def _rendered(folder: Path) -> set[str]:
    """Names of the pictures that are there; clears away what killed processes left."""
    names = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".png"):
                # An empty file is what a machine that lost power leaves of one.
                if entry.stat().st_size:
                    names.add(entry.name)
            elif entry.name.endswith(".tmp"):
                with suppress(OSError):  # another process may just have renamed it
                    if time.time() - entry.stat().st_mtime > SECONDS_TO_STALE:
                        os.unlink(entry.path)
    return names


def _write(path: Path, scene: Scene, random: Random) -> None:
    # Not files.atomic_write: flushing 2,000 small files to the disk one by one takes half a
    # minute on slow disks, and what is lost here is painted again.
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            paint(scene, random).save(file, "PNG", compress_level=1)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
