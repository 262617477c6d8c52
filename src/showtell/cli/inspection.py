"""How the findings of ``showtell data inspect`` are printed for people."""

from collections.abc import Iterator

from showtell.counts import counted
from showtell.inspect_data import Inspection

BAR_WIDTH = 40
NUM_LENGTHS = 24  # rows of the histogram; longer captions share the last one


def inspection_text(found: Inspection) -> str:
    """The findings as plain text, the most asked for first."""
    return "\n".join(_lines(found))


def _lines(found: Inspection) -> Iterator[str]:
    yield f"{found.name} ({found.format})"
    yield from (f"note: {note}" for note in found.notes)
    yield ""
    for name, split in found.splits.items():
        pictures = counted(split.num_pictures, "picture", 9)
        captions = counted(split.num_captions, "caption", 11)
        yield f"{name:>6}: {pictures:<18} {captions}"
    per_picture = found.captions_per_picture
    yield (
        f"captions a picture: {per_picture['min']:.0f} to {per_picture['max']:.0f}, "
        f"{per_picture['mean']:.2f} on average"
    )
    for name, sizes in (("width", found.widths), ("height", found.heights)):
        if sizes:
            yield (
                f"{name}: {sizes['min']:.0f} to {sizes['max']:.0f} pixels, "
                f"median {sizes['median']:.0f}"
            )
    yield ""
    yield "words a caption"
    yield from _histogram(found.caption_lengths)
    yield ""
    yield f"{counted(found.num_running_words, 'word')} in all ({found.words_from} captions)"
    for size in found.vocabulary:
        yield (
            f"  vocab_threshold {size.threshold}: "
            f"{counted(size.num_words, 'word', 7)}, {size.coverage:.2%} of all"
        )
    yield "  most frequent: " + ", ".join(f"{word} {n:,}" for word, n in found.frequent_words[:10])
    yield f"  captions that repeat another: {found.num_repeated_captions:,}"
    if found.num_leaks is not None:
        yield f"  pictures whose very file is in another split too: {found.num_leaks:,}"
    yield ""
    if not found.problems:
        yield "no problems" if found.widths else "no problems (pictures were not decoded)"
    for group in found.problems:
        yield f"{group.count:,} x {group.kind}"
        for problem in group.examples:
            yield f"    {problem.where}" + (f": {problem.detail}" if problem.detail else "")
        if group.count > len(group.examples):
            yield f"    ... and {group.count - len(group.examples):,} more"


def _histogram(lengths: dict[int, int]) -> Iterator[str]:
    rows: dict[int, int] = {}
    for length, count in lengths.items():
        row = min(length, NUM_LENGTHS)
        rows[row] = rows.get(row, 0) + count
    most = max(rows.values(), default=1)
    for row, count in rows.items():
        label = f"{row}+" if row == NUM_LENGTHS else str(row)
        yield f"{label:>6} {count:>9,} {'#' * round(BAR_WIDTH * count / most)}"
