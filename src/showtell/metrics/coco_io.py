"""Files to score: captions in COCO's results format, references of COCO's or Karpathy's form.

Whatever does not fit is one line that says how many and which. Knows nothing of metrics.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from showtell.core.files import cache_folder
from showtell.core.messages import some
from showtell.data.reading import printable, read_json
from showtell.errors import DataError, ScoringError
from showtell.metrics.evaluate import Scores, evaluate


def score_files(
    results: Path,
    references: Path,
    *,
    metrics: Iterable[str] | None = None,
    subset: bool = False,
    cache: Path | None = None,
) -> Scores:
    """Score a file of captions against a file of references.

    Args:
        results: ``[{"image_id": ..., "caption": ...}, ...]``.
        references: COCO's annotations, or a Karpathy split file, of which the split is taken that
            most of the captions belong to.
        metrics: as in ``evaluate``.
        subset: score only the images that have a caption, where others of the references have
            none; otherwise those are an error.
        cache: where tokenised references are kept; default: in showtell's cache.

    Raises:
        ScoringError: a file cannot be read or is of another form, or the two do not fit.
        MissingExtraError: METEOR was asked for by name and its extra is not installed.
    """
    candidates = read_results(results)
    people = read_references(references, candidates)
    if subset:
        people = {image_id: said for image_id, said in people.items() if image_id in candidates}
    _compare(candidates, people, results, references)
    return evaluate(
        candidates, people, metrics=metrics, cache=cache or cache_folder() / "references"
    )


def read_results(path: Path) -> dict[str, str]:
    """Captions by image id (numbers as text), from COCO's results format.

    Raises:
        ScoringError: bad JSON (with its line), another form, no captions, an image twice, or a
            caption that is not a string.
    """
    value = _read(path)
    if not isinstance(value, list):
        raise ScoringError(
            f"{path}: expected a list of captions as in COCO's results, "
            '[{"image_id": 1, "caption": "a dog"}, ...], found a ' + type(value).__name__
        )
    if not value:
        raise ScoringError(f"{path}: no captions to score")
    bad = [
        number
        for number, entry in enumerate(value)
        if not (isinstance(entry, dict) and "caption" in entry and _is_id(entry.get("image_id")))
    ]
    if bad:
        raise ScoringError(
            f"{path}: {len(bad)} of {len(value)} entries lack an image_id (a number or a string) "
            f"or a caption: number {some(bad)}, counted from 0"
        )
    ids = [str(entry["image_id"]) for entry in value]
    wrong = [
        i for i, entry in zip(ids, value, strict=True) if not isinstance(entry["caption"], str)
    ]
    if wrong:
        raise ScoringError(
            f"{path}: {len(wrong)} captions are not strings: of images {_some(wrong)}"
        )
    if twice := [image_id for image_id, count in Counter(ids).items() if count > 1]:
        raise ScoringError(
            f"{path}: {len(twice)} images have more than one caption: {_some(twice)}"
        )
    return {image_id: entry["caption"] for image_id, entry in zip(ids, value, strict=True)}


def read_references(path: Path, candidates: Mapping[str, str]) -> dict[str, list[str]]:
    """References by image id (numbers as text), in the file's order.

    Args:
        path: COCO's annotations or a Karpathy split file.
        candidates: the captions to score; they say which of Karpathy's splits is meant.

    Raises:
        ScoringError: bad JSON (with its line), another form, or a reference that is not a string.
    """
    value = _read(path)
    if isinstance(value, dict):
        if isinstance(value.get("annotations"), list):
            return _coco(value, path)
        if isinstance(value.get("images"), list):
            return _karpathy(value["images"], path, candidates)
    raise ScoringError(
        f'{path}: expected COCO annotations ({{"images": ..., "annotations": ...}}) or a Karpathy '
        'split file ({"images": [{"sentences": ...}]})'
    )


def _coco(value: dict[str, Any], path: Path) -> dict[str, list[str]]:
    references: dict[str, list[str]] = {}
    images = value.get("images")
    for number, image in enumerate(images if isinstance(images, list) else []):
        if not (isinstance(image, dict) and _is_id(image.get("id"))):
            raise ScoringError(f"{path}: entry {number} of images has no id")
        references[str(image["id"])] = []
    wrong: list[object] = []
    for number, entry in enumerate(value["annotations"]):
        if not (isinstance(entry, dict) and _is_id(entry.get("image_id"))):
            raise ScoringError(f"{path}: entry {number} of annotations has no image_id")
        caption = entry.get("caption")
        if not isinstance(caption, str):
            wrong.append(entry.get("id", number))
        else:
            references.setdefault(str(entry["image_id"]), []).append(caption)
    if wrong:
        raise ScoringError(
            f"{path}: {len(wrong)} annotations have no caption that is a string: {some(wrong)}"
        )
    return {image_id: captions for image_id, captions in references.items() if captions}


def _karpathy(images: list[Any], path: Path, candidates: Mapping[str, str]) -> dict[str, list[str]]:
    splits: dict[str, dict[str, list[str]]] = {}
    for number, image in enumerate(images):
        sentences = image.get("sentences") if isinstance(image, dict) else None
        name = _karpathy_id(image, candidates) if isinstance(image, dict) else None
        if name is None or not isinstance(sentences, list):
            raise ScoringError(f"{path}: entry {number} of images lacks a name or sentences")
        captions = [s.get("raw") if isinstance(s, dict) else None for s in sentences]
        texts = [caption for caption in captions if isinstance(caption, str)]
        if len(texts) != len(captions):
            raise ScoringError(f"{path}: a sentence of image {printable(name)} is not a string")
        if texts:
            splits.setdefault(str(image.get("split")), {})[name] = texts
    if not splits:
        raise ScoringError(f"{path}: no image with sentences")
    return max(splits.values(), key=lambda images: len(images.keys() & candidates.keys()))


def _karpathy_id(image: dict[str, Any], candidates: Mapping[str, str]) -> str | None:
    """The id that the results call an image by: COCO's, its file name, or its number."""
    names = [str(image[key]) for key in ("cocoid", "filename", "imgid") if _is_id(image.get(key))]
    return next((name for name in names if name in candidates), names[0] if names else None)


def _compare(
    candidates: Mapping[str, str], people: Mapping[str, object], results: Path, references: Path
) -> None:
    if unknown := [image_id for image_id in candidates if image_id not in people]:
        raise ScoringError(
            f"{results}: {len(unknown)} of {len(candidates)} captions are of images that "
            f"{references} has no references for: {_some(unknown)}"
        )
    if missing := [image_id for image_id in people if image_id not in candidates]:
        raise ScoringError(
            f"{results}: no caption for {len(missing)} of the {len(people)} images of "
            f"{references}: {_some(missing)}; --subset scores only the images that have one"
        )


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except DataError as error:
        raise ScoringError(str(error)) from None


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _some(names: Sequence[str]) -> str:
    return some([printable(name) for name in names])
