"""The card of a model: a template in which each ``{{name}}`` becomes a section of measured figures.

The template has the text that a person wrote; every number comes from here.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from showtell.errors import ConfigError, unknown_name
from showtell.evaluation.calibration import MeasuredConfidence, Reliability
from showtell.metrics import Scores, object_hallucination
from showtell.publish.measure import SAID, PeopleNamed, Speed, UnknownWords

COLUMNS = ("CIDEr-D", "BLEU-1", "BLEU-4", "METEOR", "ROUGE-L")
NUM_WORDS = 40
PLACE = re.compile(r"\{\{\s*([\w-]+)\s*\}\}")


@dataclass(frozen=True)
class Size:
    """What a model takes.

    Attributes:
        num_parameters: of the decoder.
        num_bytes: of the folder, with the card's pictures.
        weights: how they are stored.
        vocabulary: number of tokens.
    """

    num_parameters: int
    num_bytes: int
    weights: str
    vocabulary: int


def render_card(template: str, sections: Mapping[str, str]) -> str:
    """The template with its sections.

    Raises:
        ConfigError: it names a section that there is not.
    """

    def section(found: re.Match[str]) -> str:
        if found[1] not in sections:
            raise ConfigError(f"card: {unknown_name('section', found[1], sections)}")
        return sections[found[1]]

    return PLACE.sub(section, template).rstrip("\n") + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures_section(scores: Mapping[str, Scores], runtime: str) -> str:
    """Scores by the title of what they are of, with their intervals, and their signatures.

    Args:
        runtime: what computed the captions.
    """
    signatures = "\n".join(f"- {title}: `{s.signature}`" for title, s in scores.items())
    note = f"In brackets are 95 % intervals, by resampling the pictures. {runtime}."
    return f"{_scores_table(scores, COLUMNS)}\n\n{note}\n\nSignatures:\n\n{signatures}"


def inventions_section(scores: Mapping[str, Scores]) -> str:
    """CHAIR by the title of what it is of."""
    return _scores_table(scores, object_hallucination.NAMES)


def _scores_table(scores: Mapping[str, Scores], columns: Sequence[str]) -> str:
    """Those of ``columns`` that all scores have, with their intervals."""
    shown = [name for name in columns if all(name in s.metrics for s in scores.values())]
    rows = [
        [
            title,
            f"{s.num_images:,}",
            *(_with_interval(s, name) for name in shown),
        ]
        for title, s in scores.items()
    ]
    return table(["pictures", "number", *shown], rows)


def _with_interval(scores: Scores, name: str) -> str:
    """A figure with its interval; "none" for a share of nothing, as where no object is named."""
    if name not in scores.intervals:
        return "none" if math.isnan(scores.metrics[name]) else f"{scores.metrics[name]:.3f}"
    return f"{scores.metrics[name]:.3f} {scores.intervals[name]}"


def people_section(named: PeopleNamed) -> str:
    """Who people see, who the model names, and how often the sex is another."""
    rows = [
        [group, *(str(counts[said]) for said in SAID), str(sum(counts.values()))]
        for group, counts in named.counts.items()
    ]
    parts = [table(["people see only", *(f'says "{said}"' for said in SAID), "all"], rows)]
    for groups in (("woman", "girl"), ("man", "boy")):
        wrong, total = named.wrong_sex(groups)
        if total:
            other = "a man or boy" if "woman" in groups else "a woman or girl"
            parts.append(
                f"Of {total} captions that name one group where people see {' or '.join(groups)}, "
                f"{wrong} ({wrong / total:.0%}) say {other}."
            )
    return "\n\n".join(parts)


def words_section(unknown: UnknownWords) -> str:
    """Words that it cannot say."""
    if not unknown.words:
        return f"None of the words that people said twice of these {unknown.num_pictures} pictures."
    listed = ", ".join(f"{word} ({count})" for word, count in unknown.words[:NUM_WORDS])
    more = len(unknown.words) - NUM_WORDS
    return (
        f"Of {unknown.num_affected} of {unknown.num_pictures} pictures at least two people use a "
        f"word that is not in the captions it was trained on: {listed}"
        + (f", and {more} more." if more > 0 else ".")
    )


def reliability_section(
    measured: MeasuredConfidence, elsewhere: Mapping[str, Reliability] | None = None
) -> str:
    """The bins of confidence, before and after calibration; and what it is worth ``elsewhere``."""
    after = measured.then or measured.now
    rows = [
        [
            f"{part.low:.2f} to {part.high:.2f}",
            str(part.num),
            f"{part.acceptable:.0%}",
            f"{part.cider:.3f}",
        ]
        for part in after.bins
    ]
    text = table(["confidence", "captions", "acceptable", "mean CIDEr-D"], rows)
    text += f"\n\n{_summary(after)}"
    if measured.then is not None:
        text += (
            f" Without calibration, by the geometric mean of the words' probabilities, the "
            f"calibration error is {measured.now.error:.3f}. Each caption's figure here is by a "
            "calibration that was fitted without it."
        )
    for title, other in (elsewhere or {}).items():
        said = sum(part.num * part.confidence for part in other.bins) / other.num_captions
        text += (
            f"\n\nOn {title} the mean confidence is {said:.2f}, and {other.acceptable:.0%} of "
            f"{other.num_captions} captions are acceptable; rank correlation "
            f"{other.rank_correlation:.2f}."
        )
    return text


def _summary(found: Reliability) -> str:
    return (
        f"Acceptable is a CIDEr-D of {found.threshold:g} or more, which {found.acceptable:.0%} of "
        f"{found.num_captions:,} captions have. Rank correlation of confidence and CIDEr-D: "
        f"{found.rank_correlation:.2f}. Mean distance of confidence from the share of acceptable "
        f"captions: {found.error:.3f}."
    )


def speed_section(speed: Speed, size: Size) -> str:
    """Times and sizes."""
    rows = [
        ["first caption from the shell, one photo", f"{speed.first:.2f} s"],
        ["one picture at a time", f"{speed.single * 1e3:.0f} ms a picture"],
        ["32 at a time", f"{speed.many:.0f} pictures/s"],
        ["decoder", f"{size.num_parameters / 1e6:.1f} million parameters, {size.weights}"],
        ["vocabulary", f"{size.vocabulary:,} tokens"],
        ["folder", f"{size.num_bytes / 1e6:.1f} MB"],
    ]
    return f"{table(['what', 'figure'], rows)}\n\n{speed.runtime}."
