"""What ``showtell data inspect`` finds out: counts, lengths, words, sizes, and all that is wrong.

``inspect_dataset`` looks at a data set as it was read, before any split is drawn for training. What
is odd about pictures is found by ``check_pictures.py``, about captions by ``check_captions.py``.
Printing the findings is up to ``cli/data.py``, drawing them to ``report/data_page.py``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from showtell.core.progress import Progress
from showtell.data.check_captions import check_captions, pictures_of_captions
from showtell.data.check_pictures import (
    PictureCheck,
    broken_pictures,
    check_pictures,
    near_duplicates,
    pictures_with_notes,
    same_pictures,
)
from showtell.data.duplicates import can_look
from showtell.data.records import Dataset, Problem, Record
from showtell.errors import install_line
from showtell.text.segment import Segmentation, choose

THRESHOLDS = (1, 2, 3, 4, 5)
NUM_FREQUENT = 20
NUM_EXAMPLES = 5
NUM_RANKS = 60  # points of the curve of words by rank
NUM_SIZES = 200  # different picture sizes that are listed


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
        num_near_leaks: Pictures that look like one of another split; None if not compared.
        language: Of most captions, such as "English"; its script where it cannot be told.
        num_single: Pictures that have one caption alone.
        num_shared_captions: Different captions that several pictures have, whatever their case.
        shared_captions: Those of most pictures, with the number of pictures.
        word_ranks: Rank and count of words, from the most frequent on, in growing steps.
        sizes: Width, height and number of the most frequent picture sizes.
        problems: What was skipped while reading, broken and duplicate pictures, odd captions.
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
    num_near_leaks: int | None
    language: str
    num_single: int
    num_shared_captions: int
    shared_captions: tuple[tuple[str, int], ...]
    word_ranks: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int, int], ...]
    problems: tuple[ProblemGroup, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: names as above, tuples as lists, lengths as strings."""
        value = asdict(self)
        value["caption_lengths"] = {str(key): n for key, n in self.caption_lengths.items()}
        return value


@dataclass(frozen=True, slots=True)
class Checks:
    """What to look at beside the captions.

    Attributes:
        pictures: Decode every picture and compare the files.
        near: Also compare what the pictures look like; needs ``imagehash``.
    """

    pictures: bool = True
    near: bool = True


def inspect_dataset(
    dataset: Dataset, *, checks: Checks | None = None, progress: Progress | None = None
) -> Inspection:
    """Count, measure and check a data set.

    Args:
        dataset: As ``load_dataset`` gave it.
        checks: What to look at; all by default.
        progress: Called with how many pictures are decoded, and how many there are.
    """
    checks = checks or Checks()
    records = dataset.records
    segmentation, why = choose([text for record in records for text in record.captions])
    words, lengths, words_from = _count_words(dataset, segmentation)
    counts = [len(record.captions) for record in records]
    repeated = _repeated(records)
    shared = pictures_of_captions(records)
    language, problems = check_captions(records)
    notes = [*dataset.notes, *([why] if why else [])]
    found = None
    leaks: tuple[int | None, int | None] = (None, None)
    if checks.pictures:
        bare = [Record(str(path), path, (), "train") for path in dataset.uncaptioned]
        found = check_pictures([*records, *bare], looks=checks.near, progress=progress)
        problems += broken_pictures(bare, found[len(records) :], "broken picture without captions")
        found = found[: len(records)]
        near = checks.near and can_look()
        if checks.near and not near:
            notes.append(f"near-duplicates were not looked for: {install_line('dedupe')}")
        of_pictures, leaks = _picture_problems(records, found, near)
        problems += of_pictures
    decoded = [check for check in found or () if not check.error]
    sizes = Counter((check.width, check.height) for check in decoded)
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
        num_leaks=leaks[0],
        num_near_leaks=leaks[1],
        language=language,
        num_single=counts.count(1),
        num_shared_captions=len(shared),
        shared_captions=tuple(shared.most_common(NUM_EXAMPLES)),
        word_ranks=_ranks(words),
        sizes=tuple((*size, num) for size, num in sizes.most_common(NUM_SIZES)),
        problems=_grouped([*dataset.problems, *problems]),
        notes=tuple(notes),
    )


def _count_words(
    dataset: Dataset, segmentation: Segmentation
) -> tuple[Counter[str], Counter[int], str]:
    """The words of the training captions, the lengths of all captions, and whose words they are."""
    lengths: Counter[int] = Counter()
    words: Counter[str] = Counter()
    words_from = "train" if dataset.split("train") else "all"
    for record in dataset.records:
        for caption in record.captions:
            tokens = segmentation.words(caption)
            lengths[len(tokens)] += 1
            if words_from in (record.split, "all"):
                words.update(tokens)
    return words, lengths, words_from


def _ranks(words: Counter[str]) -> tuple[tuple[int, int], ...]:
    counts = sorted(words.values(), reverse=True)
    if not counts:
        return ()
    ranks = np.unique(np.geomspace(1, len(counts), NUM_RANKS).astype(int))
    return tuple((int(rank), counts[rank - 1]) for rank in ranks)


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


def _picture_problems(
    records: Sequence[Record], checks: list[PictureCheck], near: bool
) -> tuple[list[Problem], tuple[int, int | None]]:
    """The problems of pictures, and how many are in two splits, as copies and near-duplicates."""
    within, across = same_pictures(records, checks)
    problems = [*broken_pictures(records, checks), *across, *within]
    num_near = None
    if near:
        near_within, near_across = near_duplicates(records, checks)
        problems += [*near_across, *near_within]
        num_near = len(near_across)
    problems += pictures_with_notes(records, checks)
    return problems, (len(across), num_near)


def _grouped(problems: Sequence[Problem]) -> tuple[ProblemGroup, ...]:
    """All problems by kind, the most frequent first."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    groups = [
        ProblemGroup(kind, len(found), tuple(found[:NUM_EXAMPLES])) for kind, found in kinds.items()
    ]
    return tuple(sorted(groups, key=lambda group: -group.count))
