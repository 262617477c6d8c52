"""The page of ``showtell data inspect --page``: one file about a data set, which works offline.

It shows counts, caption lengths, words by rank, picture sizes, the problems with their pictures,
and some pictures with their captions. What is counted comes from ``data/inspect.py``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from showtell.core.files import write_text
from showtell.core.progress import Progress
from showtell.data.divide import Amount, sample_dataset
from showtell.data.inspect import Inspection, ProblemGroup
from showtell.data.records import Dataset, Record
from showtell.report.page import (
    Section,
    example,
    examples,
    facts,
    heading,
    notes,
    page,
    paragraph,
    side_by_side,
    table,
    thumbnail,
)
from showtell.report.svg import bar_chart, log_curve, spots

NUM_SAMPLES = 24
NUM_LENGTHS = 30  # bars; longer captions share the last one
NUM_WORDS = 12
_TWIN = re.compile(r"(?:looks like|the same file as) (?P<name>.+) \((?:train|val|test)\)$")


def write_data_page(
    path: Path, dataset: Dataset, found: Inspection, progress: Progress | None = None
) -> None:
    """Draw what was found.

    Args:
        path: The HTML file; written in one step.
        dataset: What was inspected.
        found: What was found in it.
        progress: Called with how many pictures are drawn, and how many there are.

    Raises:
        OSError: the file cannot be written.
    """
    samples = _samples(dataset)
    total = len(samples) + sum(len(group.examples) for group in found.problems)
    drawn = _Counter(total, progress)
    sections = [
        Section("counts", "Counts", _counts(found)),
        Section("lengths", "Captions and words", _words(found)),
    ]
    if found.sizes:
        sections.append(Section("sizes", "Picture sizes", _sizes(found)))
    sections += [
        Section("problems", "Problems", _problems(dataset, found, drawn)),
        Section("samples", "Samples", _sample_cards(samples, drawn)),
    ]
    lead = paragraph(
        f"{found.format}: {len(dataset.records):,} pictures, "
        f"{sum(s.num_captions for s in found.splits.values()):,} captions"
    ) + notes(found.notes)
    write_text(path, page(f"Data: {found.name}", lead, sections, "Made by showtell data inspect."))


class _Counter:
    """Tells ``progress`` of each picture."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def one(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _samples(dataset: Dataset) -> tuple[Record, ...]:
    wanted = min(NUM_SAMPLES, len(dataset.records))
    return sample_dataset(dataset, Amount(wanted, is_share=False)).records


def _counts(found: Inspection) -> str:
    per_picture = found.captions_per_picture
    shown = {
        "pictures": f"{sum(s.num_pictures for s in found.splits.values()):,}",
        "captions": f"{sum(s.num_captions for s in found.splits.values()):,}",
        "captions per picture": f"{per_picture['mean']:.2f}",
        "pictures of one caption": f"{found.num_single:,}",
        "language": found.language or "not told",
        "repeated captions": f"{found.num_repeated_captions:,}",
    }
    if found.num_leaks is not None:
        shown["files in two splits"] = f"{found.num_leaks:,}"
    if found.num_near_leaks is not None:
        shown["near-duplicates in two splits"] = f"{found.num_near_leaks:,}"
    rows = [
        (name, f"{split.num_pictures:,}", f"{split.num_captions:,}")
        for name, split in found.splits.items()
    ]
    return facts(shown) + table("Splits", ("split", "pictures", "captions"), rows)


def _words(found: Inspection) -> str:
    lengths: dict[int, int] = {}
    for length, count in found.caption_lengths.items():
        lengths[min(length, NUM_LENGTHS)] = lengths.get(min(length, NUM_LENGTHS), 0) + count
    first, last = min(lengths), max(lengths)
    bars = [
        (f"{n}+" if n == NUM_LENGTHS else str(n), lengths.get(n, 0)) for n in range(first, last + 1)
    ]
    usual = max(lengths, key=lambda length: lengths[length])
    num_words = found.vocabulary[0].num_words
    drawings = [
        bar_chart(
            "Caption lengths",
            f"Captions have {min(found.caption_lengths)} to {max(found.caption_lengths)} words; "
            f"{usual} is the most frequent length.",
            bars,
            "words in a caption",
        )
    ]
    if found.word_ranks:
        drawings.append(
            log_curve(
                "Words by rank",
                f"{num_words:,} different words; the most frequent one comes "
                f"{found.word_ranks[0][1]:,} times.",
                found.word_ranks,
                "rank of the word; up: how often it comes",
            )
        )
    frequent = [(word, f"{count:,}") for word, count in found.frequent_words[:NUM_WORDS]]
    sizes = [
        (str(size.threshold), f"{size.num_words:,}", f"{size.coverage:.2%}")
        for size in found.vocabulary
    ]
    shared = [(caption, f"{count:,}") for caption, count in found.shared_captions]
    tables = [
        table(f"Vocabulary ({found.words_from})", ("least count", "words", "of all"), sizes),
        table("Most frequent words", ("word", "count"), frequent),
    ]
    if shared:
        tables.append(
            table(
                f"Captions of several pictures ({found.num_shared_captions:,})",
                ("caption", "pictures"),
                shared,
            )
        )
    return f'<div class="figures">{"".join(drawings)}</div>' + side_by_side(tables)


def _sizes(found: Inspection) -> str:
    widths, heights = found.widths, found.heights
    assert widths is not None and heights is not None
    drawing = spots(
        "Width and height",
        f"Widths from {widths['min']:.0f} to {widths['max']:.0f} pixels, median "
        f"{widths['median']:.0f}; heights from {heights['min']:.0f} to {heights['max']:.0f}, "
        f"median {heights['median']:.0f}.",
        found.sizes,
        "width",
        "height in pixels",
    )
    rows = [(f"{width:,} x {height:,}", f"{count:,}") for width, height, count in found.sizes[:10]]
    listed = table("Most frequent sizes", ("pixels", "pictures"), rows)
    return f'<div class="figures">{drawing}{listed}</div>'


def _problems(dataset: Dataset, found: Inspection, drawn: _Counter) -> str:
    if not found.problems:
        return paragraph("None were found.")
    rows = [(group.kind, f"{group.count:,}") for group in found.problems]
    by_name = {record.image_id: record for record in dataset.records}
    by_name |= {str(record.path): record for record in dataset.records}
    parts = [table("Kinds of problems", ("problem", "count"), rows)]
    for group in found.problems:
        parts.append(heading(f"{group.kind} ({group.count:,})"))
        parts.append(examples(_problem_cards(group, by_name, drawn)))
    return "".join(parts)


def _problem_cards(
    group: ProblemGroup, by_name: dict[str, Record], drawn: _Counter
) -> Iterator[str]:
    for problem in group.examples:
        record = by_name.get(problem.where)
        picture, reason = thumbnail(record.path) if record is not None else (None, "")
        drawn.one()
        captions = record.captions if record is not None else ()
        yield example(picture, reason, [(problem.where, problem.detail)], captions)
        twin = _TWIN.search(problem.detail)
        other = by_name.get(twin["name"]) if twin else None
        if other is not None:  # beside it, so that one sees whether they are the same
            yield example(*thumbnail(other.path), [(other.image_id, other.split)], other.captions)


def _sample_cards(samples: tuple[Record, ...], drawn: _Counter) -> str:
    cards = []
    for record in samples:
        picture, reason = thumbnail(record.path)
        drawn.one()
        cards.append(
            example(picture, reason, [(record.image_id, str(record.split))], record.captions)
        )
    return examples(cards)
