"""Who is called a man, a woman, a boy or a girl, beside what people said of the same pictures.

What counts are words, not persons: a picture belongs to the group that at least two of its
references name, if they name no other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from showtell.data.records import Record
from showtell.text.tokenizer import tokenize_all

GROUPS: dict[str, frozenset[str]] = {
    "man": frozenset({"man", "men", "guy", "guys", "gentleman", "gentlemen", "male", "males"}),
    "woman": frozenset({"woman", "women", "lady", "ladies", "female", "females"}),
    "boy": frozenset({"boy", "boys"}),
    "girl": frozenset({"girl", "girls"}),
}
SEVERAL, NONE = "several", "none"
SAID = (*GROUPS, SEVERAL, NONE)
MALE = ("man", "boy")
LEAST_REFERENCES = 2


@dataclass(frozen=True)
class PeopleNamed:
    """Pictures by the group that people see in them and the one that the model names.

    Attributes:
        counts: ``counts[group][said]``; ``said`` is one of ``SAID``.
    """

    counts: dict[str, dict[str, int]]

    def num_of(self, groups: Iterable[str]) -> int:
        """Pictures in which people see one of these groups."""
        return sum(sum(self.counts[group].values()) for group in groups)

    def wrong_sex(self, groups: Iterable[str]) -> tuple[int, int]:
        """Of pictures of these groups in which the model names one group: (the other sex, all)."""
        wrong = total = 0
        for group in groups:
            for said in GROUPS:
                total += self.counts[group][said]
                wrong += self.counts[group][said] * ((group in MALE) != (said in MALE))
        return wrong, total


def count_people(records: Sequence[Record], captions: Mapping[str, str]) -> PeopleNamed:
    """Count ``captions`` (by image id) by what people said of the same pictures."""
    counts = {group: dict.fromkeys(SAID, 0) for group in GROUPS}
    for record in records:
        seen = _seen(record.captions)
        if seen is not None:
            [words] = tokenize_all([captions[record.image_id]])
            named = _named(words)
            said = named[0] if len(named) == 1 else SEVERAL if named else NONE
            counts[seen][said] += 1
    return PeopleNamed(counts)


def _seen(references: Sequence[str]) -> str | None:
    named = [group for words in tokenize_all(list(references)) for group in _named(words)]
    groups = set(named)
    [group] = groups if len(groups) == 1 else [None]
    return group if named.count(group or "") >= LEAST_REFERENCES else None


def _named(words: Sequence[str]) -> list[str]:
    """The groups that a caption names, each once."""
    return [group for group, names in GROUPS.items() if names.intersection(words)]
