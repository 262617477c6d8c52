"""New splits of a data set, and samples of it: by picture, seeded, the same on every machine.

Pictures that belong together (copies, near-duplicates) go into one split, so that nothing is tested
on what it was trained on. The order of chance is that of ``sha256(seed:image_id)``, so it does not
depend on the order of reading.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from showtell.core.messages import counted
from showtell.data.records import SPLITS, Dataset, Record, Split
from showtell.data.splits import describe_counts
from showtell.errors import DataError


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of pictures, or a share of them."""

    value: float
    is_share: bool

    def of(self, total: int) -> int:
        """How many pictures that is, of ``total``."""
        return round(self.value * total) if self.is_share else round(self.value)


def parse_amount(text: str, option: str) -> Amount:
    """Read ``500``, ``0.1`` or ``10%``.

    Args:
        text: What the user wrote.
        option: Where, for the message.

    Raises:
        DataError: it is none of these.
    """
    text = text.strip()
    if re.fullmatch(r"\d+", text):
        return Amount(float(text), is_share=False)
    match = re.fullmatch(r"(\d*\.?\d+)\s*(%?)", text)
    if match:
        share = float(match[1]) / (100 if match[2] else 1)
        if share <= 1:
            return Amount(share, is_share=True)
    raise DataError(
        f"{option} {text}: expected a number of pictures such as 500, or a share such as 0.1 or 10%"
    )


def chance_order(keys: Iterable[str], seed: int) -> list[str]:
    """Keys in an order that only they and the seed determine."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())


def split_dataset(
    dataset: Dataset,
    val: Amount,
    test: Amount,
    *,
    seed: int = 0,
    groups: Sequence[Sequence[int]] = (),
) -> Dataset:
    """The data set with a new split of all its pictures.

    Args:
        dataset: Its own splits are forgotten.
        val, test: How many pictures they get; train gets the rest.
        seed: Another one gives another split.
        groups: Numbers of records that stay together. A split that would be empty gets the
            smallest group that another can spare; a note says so where it exceeds the share.

    Raises:
        DataError: nothing would be left to train on, or there are fewer groups than splits.
    """
    records = dataset.records
    num_test, num_val = test.of(len(records)), val.of(len(records))
    if num_test + num_val >= len(records):
        raise DataError(
            f"{dataset.name} has {counted(len(records), 'picture')}; {num_val:,} for val and "
            f"{num_test:,} for test leave none to train on"
        )
    units = {min(records[number].image_id for number in group): group for group in groups}
    grouped = {number for group in groups for number in group}
    for number, record in enumerate(records):
        if number not in grouped:
            units[record.image_id] = [number]
    room: dict[Split, int] = {"test": num_test, "val": num_val}
    wanted = [split for split, num in room.items() if num]
    if len(units) <= len(wanted):
        raise DataError(
            f"{dataset.name} has {counted(len(units), 'group')} of pictures that look the same, "
            f"each of which stays in one split, and train, {' and '.join(wanted)} need one each: "
            "give more pictures, or --val 0 or --test 0"
        )
    chosen: dict[str, Split] = {}
    order = chance_order(units, seed)
    for key in order:
        size = len(units[key])
        split = next((split for split, left in room.items() if size <= left), None)
        chosen[key] = split or "train"
        if split:
            room[split] -= size
    notes = []
    for split in wanted:
        num_units = Counter(chosen.values())
        if not num_units[split]:
            spare = [key for key in order if num_units[chosen[key]] > 1]
            key = min(spare, key=lambda key: len(units[key]))
            chosen[key] = split
            if (size := len(units[key])) > (num_test if split == "test" else num_val):
                notes.append(
                    f"{split} gets {size:,} pictures that look the same: there is no smaller group"
                )
    splits = {number: chosen[key] for key, unit in units.items() for number in unit}
    note = f"split anew with seed {seed}: {describe_counts(splits.values())}"
    if groups:
        note += f"; {counted(len(groups), 'group')} of pictures that look the same kept together"
    new = tuple(replace(record, split=splits[n]) for n, record in enumerate(records))
    return replace(dataset, records=new, notes=(*_without_split_notes(dataset), note, *notes))


def _without_split_notes(dataset: Dataset) -> list[str]:
    return [note for note in dataset.notes if "so one was drawn" not in note]


def sample_dataset(dataset: Dataset, amount: Amount, *, seed: int = 0) -> Dataset:
    """Some of the pictures, with all of their captions; each split keeps its share.

    Raises:
        DataError: there are fewer pictures, or none would be taken.
    """
    counts = Counter[Split](dataset.split_counts())
    total = len(dataset.records)
    wanted = amount.of(total)
    if not 1 <= wanted <= total:
        raise DataError(
            f"{dataset.name} has {counted(total, 'picture')}; {wanted:,} cannot be taken of them"
        )
    quotas = _quotas(counts, wanted)
    taken: set[str] = set()
    for split, quota in quotas.items():
        ids = chance_order((record.image_id for record in dataset.split(split)), seed)
        taken.update(ids[:quota])
    records = tuple(record for record in dataset.records if record.image_id in taken)
    note = f"a sample of {wanted:,} of {counted(total, 'picture')} with seed {seed}"
    return replace(dataset, records=records, notes=(*dataset.notes, note))


def _quotas(counts: Counter[Split], wanted: int) -> dict[Split, int]:
    """How many of each split, in proportion; each has one at least where there is room for that."""
    total = counts.total()
    exact = {split: wanted * counts[split] / total for split in SPLITS if counts[split]}
    least = 1 if wanted >= len(exact) else 0
    quotas = {split: max(least, int(share)) for split, share in exact.items()}
    while sum(quotas.values()) > wanted:  # the ones that were raised come from the largest
        quotas[max(quotas, key=lambda split: quotas[split])] -= 1
    by_rest = sorted(exact, key=lambda split: quotas[split] - exact[split])
    for split in by_rest * 2:
        if sum(quotas.values()) < wanted and quotas[split] < counts[split]:
            quotas[split] += 1
    return quotas


def only_split(dataset: Dataset, split: str) -> Dataset:
    """The data set with one of its splits, or all.

    Raises:
        DataError: as ``Dataset.select``.
    """
    records: tuple[Record, ...] = dataset.select(split)
    return replace(dataset, records=records)
