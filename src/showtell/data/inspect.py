"""What ``showtell data inspect`` finds out: counts, lengths, words, sizes, and all that is wrong.

``inspect_dataset`` looks at a data set as it was read, before any split is drawn for training.
``decode_pictures`` reads each picture file once: it decodes the bytes and, where another file has
the same size, hashes them, so that files which are there twice are found. Printing the findings is
up to ``cli/data.py``.
"""

import hashlib
import io
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from PIL import Image

from showtell.data.reading import printable
from showtell.data.records import Dataset, Problem, Record
from showtell.errors import ImageError
from showtell.images.open import notes_of, open_image
from showtell.text.segment import choose

THRESHOLDS = (1, 2, 3, 4, 5)
NUM_FREQUENT = 20
NUM_EXAMPLES = 5
PICTURES_PER_TASK = 64

Decode = Callable[[bytes], tuple[int, int, tuple[str, ...]]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """How many pictures and captions one split has."""

    num_pictures: int
    num_captions: int


@dataclass(frozen=True, slots=True)
class VocabularySize:
    """The size of the vocabulary at one count threshold.

    Attributes:
        threshold: Words that occur less often are left out.
        num_words: How many words are kept.
        coverage: The share of all running words of the captions that are kept, 0 to 1.
    """

    threshold: int
    num_words: int
    coverage: float


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Problems of one kind: how many, and the first few."""

    kind: str
    count: int
    examples: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything there is to know about a data set before training on it.

    Attributes:
        name: What the user called it.
        format: The source that read it.
        splits: Counts of each split that has pictures.
        captions_per_picture: Their min, mean and max.
        caption_lengths: Number of captions of each length in words.
        words_from: The split whose captions the words below are counted in.
        num_running_words: Words in all of those captions, every occurrence counted.
        vocabulary: Its size at each of ``THRESHOLDS``.
        frequent_words: The most frequent words with their counts.
        num_repeated_captions: Captions that are the same, to the letter, as an earlier one.
        repeated_captions: The most repeated captions with their counts.
        widths: Of decoded pictures in pixels: min, median and max; None if not decoded.
        heights: Likewise.
        num_leaks: Pictures whose exact file is also in another split; None if not compared.
        problems: What was skipped while reading, broken pictures, duplicate files.
        notes: Decisions that were made for the user.
    """

    name: str
    format: str
    splits: dict[str, SplitCounts]
    captions_per_picture: dict[str, float]
    caption_lengths: dict[int, int]
    words_from: str
    num_running_words: int
    vocabulary: tuple[VocabularySize, ...]
    frequent_words: tuple[tuple[str, int], ...]
    num_repeated_captions: int
    repeated_captions: tuple[tuple[str, int], ...]
    widths: dict[str, float] | None
    heights: dict[str, float] | None
    num_leaks: int | None
    problems: tuple[ProblemGroup, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: names as above, tuples as lists, lengths as strings."""
        value = asdict(self)
        value["caption_lengths"] = {str(key): n for key, n in self.caption_lengths.items()}
        return value


@dataclass(frozen=True, slots=True)
class PictureCheck:
    """What was found about one record's picture.

    Attributes:
        width: In pixels, as stored (before any EXIF rotation); 0 where it does not decode.
        height: Likewise.
        digest: sha256 of the file where another file has the same size, else "".
        error: Why it does not decode, else "".
        notes: What had to be assumed or left out to decode it.
    """

    width: int
    height: int
    digest: str
    error: str
    notes: tuple[str, ...] = ()


def inspect_dataset(
    dataset: Dataset, *, check_pictures: bool = True, progress: Progress | None = None
) -> Inspection:
    """Count, measure and check a data set.

    Args:
        dataset: As ``load_dataset`` gave it.
        check_pictures: Also decode every picture and compare the files.
        progress: Called with how many pictures are decoded, and how many there are.
    """
    lengths: Counter[int] = Counter()
    words: Counter[str] = Counter()
    words_from = "train" if dataset.split("train") else "all"
    segmentation, why = choose([text for record in dataset.records for text in record.captions])
    for record in dataset.records:
        for caption in record.captions:
            tokens = segmentation.words(caption)
            lengths[len(tokens)] += 1
            if words_from in (record.split, "all"):
                words.update(tokens)
    counts = [len(record.captions) for record in dataset.records]
    repeated = _repeated(dataset.records)
    checks = None
    if check_pictures:
        checks = decode_pictures(dataset.records, _decode, progress=progress)
    decoded = [check for check in checks or () if not check.error]
    problems, num_leaks = _problems(dataset, checks)
    return Inspection(
        name=dataset.name,
        format=dataset.format,
        splits=_split_counts(dataset),
        captions_per_picture={
            "min": min(counts),
            "mean": sum(counts) / len(counts),
            "max": max(counts),
        },
        caption_lengths=dict(sorted(lengths.items())),
        words_from=words_from,
        num_running_words=words.total(),
        vocabulary=_vocabulary_sizes(words),
        frequent_words=tuple(words.most_common(NUM_FREQUENT)),
        num_repeated_captions=sum(count - 1 for _, count in repeated),
        repeated_captions=tuple(repeated[:NUM_EXAMPLES]),
        widths=_spread([check.width for check in decoded]),
        heights=_spread([check.height for check in decoded]),
        num_leaks=num_leaks,
        problems=problems,
        notes=(*dataset.notes, *([why] if why else [])),
    )


def _decode(raw: bytes) -> tuple[int, int, tuple[str, ...]]:
    """Decode as feature extraction will; the size is the stored one, before any rotation."""
    if not raw:
        raise ImageError("the file is empty")
    # The smallest scale of a JPEG is quick and still reads the file to its end.
    image = open_image(raw, min_side=1)
    width, height = image.size
    # Where Pillow refuses the file, that is its size: only a sound JPEG is decoded smaller.
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(raw)) as picture:
            width, height = picture.size
    return width, height, notes_of(image)


def _split_counts(dataset: Dataset) -> dict[str, SplitCounts]:
    counts = {}
    for split, num_pictures in dataset.split_counts().items():
        num_captions = sum(len(record.captions) for record in dataset.split(split))
        counts[str(split)] = SplitCounts(num_pictures, num_captions)
    return counts


def _vocabulary_sizes(words: Counter[str]) -> tuple[VocabularySize, ...]:
    total = max(1, words.total())
    sizes = []
    for threshold in THRESHOLDS:
        kept = [count for count in words.values() if count >= threshold]
        sizes.append(VocabularySize(threshold, len(kept), sum(kept) / total))
    return tuple(sizes)


def _repeated(records: Sequence[Record]) -> list[tuple[str, int]]:
    counts = Counter(caption for record in records for caption in record.captions)
    return [(caption, count) for caption, count in counts.most_common() if count > 1]


def _spread(lengths: Sequence[int]) -> dict[str, float] | None:
    if not lengths:
        return None
    return {"min": min(lengths), "median": float(median(lengths)), "max": max(lengths)}


def _problems(
    dataset: Dataset, checks: list[PictureCheck] | None
) -> tuple[tuple[ProblemGroup, ...], int | None]:
    """All problems by kind, the most frequent first, and the number of leaks."""
    problems = list(dataset.problems)
    num_leaks = None
    if checks is not None:
        within, across = same_pictures(dataset.records, checks)
        problems += broken_pictures(dataset.records, checks)
        problems += [*across, *within, *pictures_with_notes(dataset.records, checks)]
        num_leaks = len(across)
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    groups = [
        ProblemGroup(kind, len(found), tuple(found[:NUM_EXAMPLES])) for kind, found in kinds.items()
    ]
    return tuple(sorted(groups, key=lambda group: -group.count)), num_leaks


def decode_pictures(
    records: Sequence[Record], decode: Decode, *, progress: Progress | None = None
) -> list[PictureCheck]:
    """Decode every record's picture, in threads.

    Args:
        records: The records whose pictures are decoded; the result has their order.
        decode: Takes a file's bytes and returns width, height and notes; raises ImageError.
        progress: Called with how many pictures are done, and how many there are.
    """
    sizes = [_num_bytes(record) for record in records]
    counts = Counter(sizes)
    tasks = [
        [(record, counts[size] > 1) for record, size in pairs]
        for pairs in _chunks(list(zip(records, sizes, strict=True)))
    ]

    def run(task: list[tuple[Record, bool]]) -> list[PictureCheck]:
        return [_check(record, needs_digest, decode) for record, needs_digest in task]

    checks: list[PictureCheck] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(run, tasks):
            checks += done
            if progress is not None:
                progress(len(checks), len(records))
    return checks


def broken_pictures(records: Sequence[Record], checks: Sequence[PictureCheck]) -> list[Problem]:
    """A problem for each picture that does not decode."""
    return [
        Problem("broken picture", printable(str(record.path)), printable(check.error))
        for record, check in zip(records, checks, strict=True)
        if check.error
    ]


def pictures_with_notes(records: Sequence[Record], checks: Sequence[PictureCheck]) -> list[Problem]:
    """A problem for each picture that is read, but not as its file says."""
    return [
        Problem("picture read with a note", printable(str(record.path)), printable(note))
        for record, check in zip(records, checks, strict=True)
        for note in check.notes
    ]


def same_pictures(
    records: Sequence[Record], checks: Sequence[PictureCheck]
) -> tuple[list[Problem], list[Problem]]:
    """Files that are the same byte for byte: first those within a split, then those across splits.

    The second kind is a leak: the model is tested or validated on pictures it was trained on.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record, check in zip(records, checks, strict=True):
        if check.digest:
            groups[check.digest].append(record)
    within, across = [], []
    for first, *others in groups.values():
        for other in others:
            detail = f"{other.split}; the same file as {first.image_id} ({first.split})"
            if other.split == first.split:
                within.append(Problem("same picture twice", other.image_id, detail))
            else:
                across.append(Problem("same picture in two splits", other.image_id, detail))
    return within, across


def _num_bytes(record: Record) -> int:
    try:
        return os.stat(record.path).st_size
    except OSError:
        return -1


def _chunks(pairs: list[tuple[Record, int]]) -> list[list[tuple[Record, int]]]:
    return [
        pairs[start : start + PICTURES_PER_TASK]
        for start in range(0, len(pairs), PICTURES_PER_TASK)
    ]


def _check(record: Record, needs_digest: bool, decode: Decode) -> PictureCheck:
    try:
        raw = record.path.read_bytes()
    except OSError as error:
        return PictureCheck(0, 0, "", error.strerror or str(error))
    digest = hashlib.sha256(raw).hexdigest() if needs_digest else ""
    try:
        width, height, notes = decode(raw)
    except ImageError as error:
        return PictureCheck(0, 0, digest, str(error).removeprefix("picture: "))
    return PictureCheck(width, height, digest, "", notes)
