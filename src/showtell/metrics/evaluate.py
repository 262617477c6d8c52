"""Score captions against references with COCO's metrics.

The figures equal those of the official scorer. ``Scores`` has them, for the corpus and for each
image, with a signature that makes them repeatable. ``coco_io.py`` scores files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from showtell.core.memory import paused_collector
from showtell.core.messages import some
from showtell.errors import ScoringError, unknown_name
from showtell.metrics import bleu, cider, meteor, rouge, spice
from showtell.metrics.references import References, is_caption, split_spaces
from showtell.text.tokenizer import BAD_ENDINGS, TOKENIZER, words_of_all

METRICS = (
    "BLEU-1",
    "BLEU-2",
    "BLEU-3",
    "BLEU-4",
    "METEOR",
    "ROUGE-L",
    "CIDEr-D",
    "SPICE",
)
"""Every metric, in the order of tables. All run from 0 to 1, CIDEr-D from 0 to 10."""


@dataclass(frozen=True)
class Scores:
    """Scores of a set of captions.

    Attributes:
        metrics: corpus scores by name, in ``METRICS``' order.
        per_image: the same for each image id.
        num_images: how many captions were scored.
        bad_endings: share of captions whose last word is one like "with" or "a".
        signature: tokeniser, numbers of references and images, versions; cite it with the scores.
        warnings: sentences about what to keep in mind when reading the scores.
    """

    metrics: dict[str, float]
    per_image: dict[str, dict[str, float]]
    num_images: int
    bad_endings: float
    signature: str
    warnings: list[str] = field(default_factory=list)

    def to_dict(self, *, per_image: bool = False) -> dict[str, Any]:
        """The scores as JSON has them; ``per_image`` adds the scores of each image."""
        values: dict[str, Any] = {
            "metrics": self.metrics,
            "num_images": self.num_images,
            "bad_endings": self.bad_endings,
            "signature": self.signature,
            "warnings": self.warnings,
        }
        if per_image:
            values["per_image"] = self.per_image
        return values

    def table(self, *, per_image: bool = False) -> str:
        """A table for people: one line a metric, then the rest."""
        lines = [f"{name:<12}{value:8.4f}" for name, value in self.metrics.items()]
        lines.append(f"{'bad endings':<12}{self.bad_endings:8.2%}")
        lines.append(f"{'images':<12}{self.num_images:8d}")
        lines.append(self.signature)
        if per_image:
            width = max(map(len, self.per_image), default=0)
            lines += ["", " " * width + "".join(f"{name:>9}" for name in self.metrics)]
            lines += [
                f"{image_id:<{width}}" + "".join(f"{value:9.4f}" for value in values.values())
                for image_id, values in self.per_image.items()
            ]
        return "\n".join(lines)


_BLEU = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")

_Columns = dict[str, tuple[float, Sequence[float]]]  # metric -> the corpus's, each image's


@paused_collector()  # a tenth faster: millions of words and counts, and no cycle among them
def evaluate(
    candidates: Mapping[str, str | Sequence[str]],
    references: Mapping[str, Sequence[str | Sequence[str]]] | References,
    *,
    metrics: Iterable[str] | None = None,
    cache: Path | None = None,
) -> Scores:
    """Score one caption an image.

    Args:
        candidates: a caption for each image id: a text, or the list of its words where it is
            tokenised already; likewise the references.
        references: captions by people for the same image ids. Make a ``References`` of them when
            they are scored against more than once.
        metrics: names from ``METRICS``. Default: all except SPICE, which needs Java, and except
            METEOR where its extra is not installed.
        cache: a folder where tokenised references are kept by content hash.

    Raises:
        ScoringError: the image ids of the two differ, a caption is not a string, an image has no
            references, or a metric is unknown or cannot run.
        MissingExtraError: METEOR was asked for by name and its extra is not installed.
    """
    wanted, notes = _wanted(metrics)
    if not isinstance(references, References):
        _check(candidates, list(references))
        references = References(references, cache=cache)
    else:
        _check(candidates, references.image_ids)
    captions = words_of_all([candidates[image_id] for image_id in references.image_ids])
    columns = _columns(captions, references, wanted)
    names = [name for name in METRICS if name in wanted]
    return Scores(
        metrics={name: float(columns[name][0]) for name in names},
        per_image={
            image_id: {name: float(columns[name][1][index]) for name in names}
            for index, image_id in enumerate(references.image_ids)
        },
        num_images=len(captions),
        bad_endings=sum(words[-1] in BAD_ENDINGS for words in captions if words) / len(captions),
        signature=_signature(references, names),
        warnings=[*notes, *_warnings(references, captions, names)],
    )


def _wanted(metrics: Iterable[str] | None) -> tuple[set[str], list[str]]:
    """The metrics to compute, and a warning where METEOR is installed but cannot run."""
    if metrics is not None:
        wanted = set(metrics)
        for name in sorted(wanted - set(METRICS)):
            raise ScoringError(unknown_name("metric", name, METRICS))
        return wanted, []
    wanted = set(METRICS) - {"SPICE"}
    if not meteor.is_installed():
        return wanted - {"METEOR"}, []
    try:
        meteor.prepare()
    except ScoringError as error:
        return wanted - {"METEOR"}, [f"METEOR is left out: {error}"]
    return wanted, []


def _check(candidates: Mapping[str, str | Sequence[str]], image_ids: Sequence[str]) -> None:
    known = set(image_ids)
    if missing := [image_id for image_id in image_ids if image_id not in candidates]:
        raise ScoringError(
            f"{len(missing)} of {len(image_ids)} images have no caption to score: {some(missing)}"
        )
    if unknown := [image_id for image_id in candidates if image_id not in known]:
        raise ScoringError(
            f"{len(unknown)} captions are of images without references: {some(unknown)}"
        )
    wrong = [image_id for image_id, text in candidates.items() if not is_caption(text)]
    if wrong:
        raise ScoringError(f"{len(wrong)} captions are not strings: of images {some(wrong)}")


def _columns(captions: list[list[str]], references: References, wanted: set[str]) -> _Columns:
    columns: _Columns = {}
    if wanted & {*_BLEU, "CIDEr-D"}:
        levels, lengths = references.ngrams.count(split_spaces(captions))
        if wanted & set(_BLEU):
            corpus, each = bleu.bleu(references.ngrams, levels, lengths)
            columns.update(
                zip(_BLEU, zip(corpus.tolist(), each.T.tolist(), strict=True), strict=True)
            )
        if "CIDEr-D" in wanted:
            images = np.arange(len(captions))
            values = references.cider.score_counts(images, levels, lengths)
            columns["CIDEr-D"] = float(values.mean()), values.tolist()
    if "ROUGE-L" in wanted:
        rouges = [rouge.rouge_l(*pair) for pair in zip(captions, references.captions, strict=True)]
        columns["ROUGE-L"] = float(np.mean(rouges)), rouges
    if "METEOR" in wanted:
        columns["METEOR"] = meteor.meteor(captions, references.captions)
    if "SPICE" in wanted:
        columns["SPICE"] = spice.spice(captions, references.captions)
    return columns


def _signature(references: References, names: Sequence[str]) -> str:
    """One line, like the signatures of sacreBLEU (Post 2018)."""
    counts = sorted({len(captions) for captions in references.captions})
    refs = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    versions = {
        "BLEU": bleu.VERSION,
        "METEOR": meteor.VERSION,
        "ROUGE-L": rouge.VERSION,
        "CIDEr-D": cider.VERSION,
        "SPICE": spice.VERSION,
    }
    families = dict.fromkeys("BLEU" if name in _BLEU else name for name in names)
    parts = [
        "+".join(f"{family}.{versions[family]}" for family in families),
        f"tok:{TOKENIZER}",
        f"refs:{refs}",
        f"images:{len(references.image_ids)}",
        "df:references",
        f"showtell:{version('showtell')}",
    ]
    return "|".join(parts)


def _warnings(references: References, captions: list[list[str]], names: Sequence[str]) -> list[str]:
    warnings = []
    if "CIDEr-D" in names and len(captions) == 1:
        warnings.append(
            "CIDEr-D of a single image is always 0: it weighs words by how few of the images "
            "mention them, and here every word is in all of them"
        )
    if empty := [i for i, words in zip(references.image_ids, captions, strict=True) if not words]:
        warnings.append(f"{len(empty)} captions have no words: {some(empty)}")
    return warnings
