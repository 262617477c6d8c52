"""Score a file of captions against a file of references (``caption_files.py`` has their formats).

The two files may write an image's id in different ways: 139, 139.0, "000000000139" and
"COCO_val2014_000000000139.jpg" are one image, unless the references have two of them. A file may
also have several names for an image (its id, its file name); the kind of name by which most
captions have references is taken. Files of captions that are read together may go by different
kinds of names. Whatever does not fit is one line that says how many and which.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.core.files import cache_folder
from showtell.data.reading import printable
from showtell.errors import ScoringError
from showtell.metrics.caption_files import (
    Entry,
    read_references,
    read_results,
    repeated,
    some_names,
)
from showtell.metrics.evaluate import Scores, evaluate
from showtell.text.segment import AS_OPTION, Segmentation, choose_for_scores

if TYPE_CHECKING:
    from showtell.metrics.extra_files import Extras

_NUMBER = re.compile(r"(?:COCO_[a-z]+\d+_)?0*(\d+)(?:\.0+)?", re.IGNORECASE)
_PICTURE_SUFFIX = re.compile(r"\.(?:jpe?g|jfif|png|webp|gif|bmp|tiff?|heic|avif)$", re.IGNORECASE)


def score_files(
    results: Path,
    references: Path,
    *,
    metrics: Iterable[str] | None = None,
    extras: "Extras | None" = None,
    subset: bool = False,
    cache: Path | None = None,
    segmentation: str = "auto",
    language: str = "auto",
) -> Scores:
    """Score a file of captions against a file of references.

    Args:
        results: one caption an image.
        references: one or more captions an image. If the file has splits, the split that most of
            the captions belong to is taken, or all where they belong to several.
        metrics: as in ``evaluate``.
        extras: what to compute besides, from other files, pictures or models.
        subset: score only the images that have a caption. Otherwise an image without a caption is
            an error.
        cache: where tokenised references are kept; default: in showtell's cache.
        segmentation: how captions are cut into words, and their language: as ``choose_for_scores``
            has them, by the references' letters.

    Raises:
        ScoringError: a file cannot be read or has another form, or the two do not fit.
        MissingExtraError: METEOR was asked for by name and its extra is not installed.
    """
    pair = read_pair(results, references, subset=subset)
    cut, note = segmentation_of(pair.references, segmentation, language)
    scores = evaluate(
        pair.candidates,
        pair.references,
        metrics=metrics,
        families=extras.families(pair, cut) if extras else (),
        cache=cache or references_cache(),
        segmentation=cut,
    )
    notes = [*pair.notes, *([note] if note else [])]
    return replace(scores, warnings=[*notes, *scores.warnings])


def segmentation_of(
    references: Mapping[str, Sequence[str]],
    kind: str = "auto",
    language: str = "auto",
    *,
    written: str = AS_OPTION,
) -> tuple[Segmentation, str]:
    """How captions and references are cut into words, and a line that says why.

    Args:
        kind: as of ``choose``; so are ``language`` and ``written``.

    Raises:
        ConfigError: there is no such kind or language.
        MissingExtraError: the kind needs an extra that is not installed.
    """
    captions = [text for said in references.values() for text in said if isinstance(text, str)]
    return choose_for_scores(captions, kind, language, written=written)


@dataclass(frozen=True)
class Pair:
    """The captions of one file, and the references of another.

    Attributes:
        candidates: a caption for each image id, as the references' file writes it.
        references: of the same images, in their file's order.
        notes: what a person should know about the two files.
    """

    candidates: dict[str, str]
    references: dict[str, list[str]]
    notes: list[str]


def read_pair(results: Path, references: Path, *, subset: bool = False) -> Pair:
    """Read both files, and find out which captions belong to which images.

    Args and errors are those of ``score_files``.
    """
    [pair] = read_pairs([results], references, subset=subset)
    return pair


def read_pairs(results: Sequence[Path], references: Path, *, subset: bool = False) -> list[Pair]:
    """The same for several files of captions; an image has the same id in all pairs.

    Ids are names of the kind by which all files found their images. Where these kinds differ, an
    image's id is the first of its names in the references' file.
    """
    notes: list[str] = []
    people = read_references(references, notes)
    files = []
    for path in results:
        own: list[str] = []
        said = read_results(path, own)
        files.append((path, said, own, best_match(said, people)))
    several_kinds = len({match.kind for *_, match in files}) > 1
    pairs = []
    for path, said, own, match in files:
        if several_kinds:
            match = match.by_first_name()
        _check(match, said, path, references, subset=subset)
        captions = [entry.captions[0] for entry in said]
        candidates = dict(zip(match.image_ids, captions, strict=True))
        texts = {i: captions for i, captions in match.references.items() if i in candidates}
        pairs.append(Pair(candidates, texts, [*own, *notes, *match.notes]))
    return pairs


def match_images(
    said: list[Entry], people: list[Entry], results: Path, references: Path, *, subset: bool
) -> "Match":
    """Which captions are of which images, by the names of both.

    Raises:
        ScoringError: two captions are of one image, a caption is of an image without references,
            or, unless ``subset``, an image has no caption.
    """
    match = best_match(said, people)
    _check(match, said, results, references, subset=subset)
    return match


def _check(
    match: "Match", said: list[Entry], results: Path, references: Path, *, subset: bool
) -> None:
    """Raise what ``match_images`` raises."""
    if twice := repeated(match.image_ids):
        raise ScoringError(
            f"{results}: {len(twice)} images have more than one caption: {some_names(twice)}; keep "
            "one of each"
        )
    if match.unknown:
        raise ScoringError(
            f"{results}: {len(match.unknown)} of {len(said)} captions are of images that "
            f"{references} has no references for: {some_names(match.unknown)}"
        )
    captioned = set(match.image_ids)
    missing = [image_id for image_id in match.references if image_id not in captioned]
    if missing and not subset:
        raise ScoringError(
            f"{results}: no caption for {len(missing)} of the {len(match.references)} images of "
            f"{references}: {some_names(missing)}; --subset scores only the images that have one"
        )


def references_cache() -> Path:
    """Where tokenised references are kept."""
    return cache_folder() / "references"


def same_image(name: str) -> str:
    """What ways of writing one image's id have in common.

    139, 139.0, 000000000139 and COCO_val2014_000000000139.jpg give 139; ``photos/a.jpg`` gives
    ``a``.
    """
    stem = _PICTURE_SUFFIX.sub("", re.split(r"[/\\]", name)[-1])
    number = _NUMBER.fullmatch(stem)
    return number[1] if number else stem


@dataclass
class Match:
    """Captions and the images that they are of.

    Attributes:
        of_each: the image id of each caption, as the references write it; None where they have
            none.
        unknown: names of the captions that have none.
        references: captions by people for each image of the split that was taken.
        notes: which ids were taken for the same although they are written differently, where
            others are written alike; and which images for one because they have one name.
        kind: of the names that are the image ids.
        first_names: of each image of ``references``, the first name of its entry.
    """

    of_each: list[str | None]
    unknown: list[str]
    references: dict[str, list[str]]
    notes: list[str]
    kind: str
    first_names: dict[str, str]

    @property
    def image_ids(self) -> list[str]:
        """Those of the captions that have references."""
        return [image_id for image_id in self.of_each if image_id is not None]

    def by_first_name(self) -> "Match":
        """The same with first names as image ids."""
        references: dict[str, list[str]] = {}
        for name, captions in self.references.items():
            references.setdefault(self.first_names[name], []).extend(captions)
        of_each = [None if name is None else self.first_names[name] for name in self.of_each]
        return replace(self, of_each=of_each, references=references)


def best_match(said: list[Entry], people: list[Entry]) -> "Match":
    """The split, and the kinds of names, by which most captions have references.

    All splits together are taken where more captions have references so than in any one.
    """
    splits: dict[str | None, list[Entry]] = {}
    for entry in people:
        splits.setdefault(entry.split, []).append(entry)
    best: Match | None = None
    for references in [*splits.values(), people]:
        for ours in _kinds(said):
            for theirs in _kinds(references):
                match = _match(said, references, ours, theirs)
                if best is None or len(match.unknown) < len(best.unknown):
                    best = match
                if not match.unknown:
                    return match
    assert best is not None
    return best


def _kinds(entries: list[Entry]) -> list[str]:
    return list(dict.fromkeys(kind for entry in entries for kind in entry.names))


def _match(said: list[Entry], people: list[Entry], ours: str, theirs: str) -> "Match":
    """Compare names as they are; where one is not found, by ``same_image``."""
    references: dict[str, list[str]] = {}
    first_names: dict[str, str] = {}
    of_several: set[str] = set()
    for entry in people:
        name = entry.names.get(theirs, entry.image_id)
        references.setdefault(name, []).extend(entry.captions)  # a file may list an image again
        if first_names.setdefault(name, entry.image_id) != entry.image_id:
            of_several.add(name)
    alike: dict[str, list[str]] = {}
    for name in references:
        alike.setdefault(same_image(name), []).append(name)
    of_each: list[str | None] = []
    unknown, respelled = [], []
    for entry in said:
        name = entry.names.get(ours, entry.image_id)
        found = [name] if name in references else alike.get(same_image(name), [])
        of_each.append(found[0] if len(found) == 1 else None)
        if len(found) != 1:
            unknown.append(name)
        elif found != [name]:
            respelled.append((name, found[0]))
    notes = []
    if shared := [name for name in of_each if name is not None and name in of_several]:
        notes.append(
            f"{len(shared)} names stand for several images of the references, whose captions are "
            f"taken together: {some_names(shared)}"
        )
    # Where all ids are written in another way, that is how the files are; where some are, a few
    # may be taken for the same by mistake.
    if 0 < len(respelled) < len(said):
        (one, other), num = respelled[0], len(respelled)
        notes.append(
            f"{num} of {len(said)} image ids are written differently in the two files, and taken "
            f"for the same: {printable(one)!r} for {printable(other)!r}"
        )
    return Match(of_each, unknown, references, notes, theirs, first_names)
