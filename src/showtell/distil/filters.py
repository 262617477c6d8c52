"""Which of the teacher's captions a student learns from, and why the others are left out.

Filters look at captions one after another; the first that objects gives the reason. Every caption
that is left out is written into ``dropped.jsonl`` with its reason.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from showtell.core.files import atomic_write
from showtell.distil.request import FilterConfig
from showtell.errors import ConfigError, DataError
from showtell.text.language import a_sample, language_of, other_language
from showtell.text.segment import PTB, Segmentation

TOO_SHORT, TOO_LONG = "too short", "too long"
UNSURE, DISAGREE = "low confidence", "the teacher's captions disagree"
FOREIGN, REPEATS, LISTED = "another language", "repeats itself", "a listed word"
_LOOSER = {
    TOO_SHORT: "min_words=1",
    UNSURE: "min_confidence=0",
    DISAGREE: "min_agreement=0",
    FOREIGN: "language=any",
    REPEATS: "repeats=false",
}
"""The setting with which the captions stay that a reason took."""

KEPT, DROPPED = "kept.jsonl", "dropped.jsonl"
REPEATED = 3  # words in a row that may not come twice
REPEATED_CHARACTERS = 6  # the same where each character is cut off

_REFUSALS = ("i'm sorry", "i am sorry", "i cannot", "i can't", "i'm unable", "unable to see")
"""What a teacher says when it does not caption."""

_LITTLE_WORDS = (
    "a an the of in on at with and or is are was were be being been to by from as it its this that "
    "there while for up down out over under near next two one some his her their he she they who "
    ". , ; : ! ? "
    # Chinese, Japanese, and Thai
    "的 了 着 在 一 个 一个 和 与 有 是 这 那 "
    "の に を は が で と も て た し る いる している "
    "ที่ และ ใน มี อยู่ บน กับ ของ กำลัง"
)
_LITTLE = frozenset(_LITTLE_WORDS.split())
"""Words that say nothing of what a picture shows."""


@dataclass(frozen=True, slots=True)
class Said:
    """A caption by the teacher.

    Attributes:
        picture: the picture's name.
        file: where it lies.
        text: the caption.
        confidence: of the teacher; None where it does not tell.
        rank: its place among the picture's captions, the best first, from 0.
    """

    picture: str
    file: str
    text: str
    confidence: float | None
    rank: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "picture": self.picture,
            "file": self.file,
            "caption": self.text,
            "confidence": self.confidence,
            "rank": self.rank,
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Said":
        """Read what ``to_dict`` wrote."""
        return cls(
            value["picture"], value["file"], value["caption"], value["confidence"], value["rank"]
        )


@dataclass
class Filtered:
    """Captions that stay, and those that are left out with their reasons."""

    kept: list[Said] = field(default_factory=list)
    dropped: list[tuple[Said, str, str]] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many captions each reason took, the most frequent first."""
        return dict(Counter(reason for _, reason, _ in self.dropped).most_common())

    def drop(self, said: Said, reason: str, detail: str = "") -> None:
        """Leave a caption out."""
        self.dropped.append((said, reason, detail))

    def write(self, folder: Path) -> None:
        """Write both lists."""
        with atomic_write(folder / KEPT) as file:
            file.writelines(_line(said.to_dict()) for said in self.kept)
        with atomic_write(folder / DROPPED) as file:
            file.writelines(
                _line({**said.to_dict(), "reason": reason, "detail": detail})
                for said, reason, detail in self.dropped
            )


def read_kept(folder: Path) -> list[Said]:
    """The captions that ``Filtered.write`` kept."""
    with open(folder / KEPT, encoding="utf-8") as lines:
        return [Said.of(json.loads(line)) for line in lines]


def filter_captions(
    captions: Sequence[Said], config: FilterConfig, segmentation: Segmentation = PTB
) -> Filtered:
    """Judge each caption.

    Args:
        captions: those of a picture one after another.
        segmentation: how they are cut into words.

    Raises:
        ConfigError: the file of words cannot be read.
        DataError: nothing is left.
    """
    checks = _checks(captions, config, segmentation)
    found = Filtered()
    for group in _by_picture(captions):
        agreement = agreements([said.text for said in group], segmentation)
        seen: set[str] = set()
        for said, agreed in zip(group, agreement, strict=True):
            words = segmentation.words(said.text)
            if said.text in seen:
                found.drop(said, "said twice")
                continue
            seen.add(said.text)
            objection = next(filter(None, (check(said, words) for check in checks)), None)
            if objection:
                found.drop(said, *objection)
            elif agreed is not None and agreed < config.min_agreement:
                found.drop(said, DISAGREE, f"{agreed:.2f}")
            else:
                found.kept.append(said)
    if not captions:
        raise DataError("the teacher gave no caption; captions/failures.jsonl says why")
    if not found.kept:
        raise DataError(
            f"the filters leave none of {len(captions):,} captions ({_shown(found.counts)}): "
            f"{_advice(found)}"
        )
    return found


def agreements(texts: Sequence[str], segmentation: Segmentation = PTB) -> list[float | None]:
    """How far each caption shares its content words with the others: their mean F1, 0 to 1.

    None where there are no others, or a caption has no content word.
    """
    sets = [frozenset(segmentation.words(text)) - _LITTLE for text in texts]
    found: list[float | None] = []
    for place, own in enumerate(sets):
        others = [other for at, other in enumerate(sets) if at != place and other]
        if not own or not others:
            found.append(None)
            continue
        shares = [2 * len(own & other) / (len(own) + len(other)) for other in others]
        found.append(sum(shares) / len(shares))
    return found


Check = Callable[[Said, Sequence[str]], tuple[str, str] | None]


def _checks(
    captions: Sequence[Said], config: FilterConfig, segmentation: Segmentation
) -> list[Check]:
    phrases = _phrases(config.words, segmentation) if config.words else []
    # Two things in one Chinese picture share words of two or three characters ("a man in ...").
    in_a_row = REPEATED_CHARACTERS if segmentation.kind == "characters" else REPEATED
    language: str | None = None
    if config.language != "any":
        is_set = config.language != "auto"
        language = config.language if is_set else _usual([said.text for said in captions])

    def confidence(said: Said, words: Sequence[str]) -> tuple[str, str] | None:
        if said.confidence is None or said.confidence >= config.min_confidence:
            return None
        return UNSURE, f"{said.confidence:.2f}"

    def length(said: Said, words: Sequence[str]) -> tuple[str, str] | None:
        number = sum(any(map(str.isalnum, word)) for word in words)
        if number < config.min_words:
            return TOO_SHORT, f"{number} words"
        return (TOO_LONG, f"{number} words") if number > config.max_words else None

    def refusal(said: Said, words: Sequence[str]) -> tuple[str, str] | None:
        text = said.text.lower().replace("’", "'")
        return next((("a refusal", phrase) for phrase in _REFUSALS if phrase in text), None)

    def repeats(said: Said, words: Sequence[str]) -> tuple[str, str] | None:
        phrase = repeated(words, in_a_row) if config.repeats else None
        return (REPEATS, phrase) if phrase else None

    def foreign(said: Said, words: Sequence[str]) -> tuple[str, str] | None:
        is_other = language is not None and other_language(said.text, language)
        return (FOREIGN, f"not {language}") if is_other else None

    def listed(said: Said, words: Sequence[str]) -> tuple[str, str] | None:
        text = f" {' '.join(words)} "
        return next(((LISTED, p) for p in phrases if f" {p} " in text), None)

    return [refusal, length, confidence, foreign, repeats, listed]


def _usual(texts: Sequence[str]) -> str | None:
    """The language of most captions; None where fewer than half of them may be in it."""
    language = language_of(texts)
    sample = a_sample(texts)
    num_others = sum(bool(other_language(text, language)) for text in sample)
    return None if language is None or 2 * num_others > len(sample) else language


def repeated(words: Sequence[str], in_a_row: int = REPEATED) -> str | None:
    """A word that comes three times in a row, or so many words in a row that come twice."""
    for one, two, three in zip(words, words[1:], words[2:], strict=False):
        if one == two == three:
            return one
    grams = Counter(zip(*(words[start:] for start in range(in_a_row)), strict=False))
    return next((" ".join(gram) for gram, count in grams.items() if count > 1), None)


def _phrases(path: Path, segmentation: Segmentation) -> list[str]:
    """The words and phrases of a list, as captions are cut."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--filter words={path}: cannot be read: {error}") from None
    found = [" ".join(segmentation.words(line)) for line in lines if not line.startswith("#")]
    return [phrase for phrase in found if phrase]


def _by_picture(captions: Iterable[Said]) -> Iterator[list[Said]]:
    group: list[Said] = []
    for said in captions:
        if group and group[0].picture != said.picture:
            yield group
            group = []
        group.append(said)
    if group:
        yield group


def _advice(found: Filtered) -> str:
    """What to do about the reason that took most captions."""
    largest = next(iter(found.counts))
    setting = _LOOSER.get(largest)
    if largest == TOO_LONG:
        longest = max(int(how.split()[0]) for _, why, how in found.dropped if why == TOO_LONG)
        setting = f"max_words={longest}"
    if setting is not None:
        return f"loosen them with --filter {setting}"
    if largest == LISTED:
        return "give --filter words=FILE with another file, or leave it out"
    return "the teacher does not caption these pictures, so give another one"


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.items())


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
