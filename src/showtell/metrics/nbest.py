"""Diversity of several captions of each picture, from a file that has them.

Such a file is one for ``showtell score`` with more than one caption for an image: several rows of
an image, or a list of captions in a row. No other metric takes it.
"""

from collections.abc import Iterable
from pathlib import Path

from showtell.metrics import diversity
from showtell.metrics.caption_files import read_references, read_results
from showtell.metrics.coco_io import match_images, references_cache, segmentation_of
from showtell.metrics.diversity import DocumentFrequencies
from showtell.metrics.evaluate import Scores, scores_of, share_of_bad_endings
from showtell.metrics.references import References, split_spaces
from showtell.version import __version__

METRICS = diversity.NBEST_NAMES


def score_nbest(
    results: Path,
    references: Path,
    *,
    metrics: Iterable[str] = METRICS,
    subset: bool = False,
    cache: Path | None = None,
    segmentation: str = "auto",
    language: str = "auto",
) -> Scores:
    """Div-1, Div-2 and self-CIDEr of a file with several captions of each image.

    Args:
        results: the captions.
        references: for the document frequencies of self-CIDEr; those of all its images.
        metrics: names from ``METRICS``.
        subset: score only the images that have captions. Otherwise an image without one is an
            error.
        cache: where tokenised references are kept; default: in showtell's cache.
        segmentation: as of ``score_files``; so is ``language``.

    Raises:
        ScoringError: a file cannot be read or has another form, or the two do not fit.
    """
    notes: list[str] = []
    said = read_results(results, notes, several=True)
    people = read_references(references, notes)
    match = match_images(said, people, results, references, subset=subset)
    captions = {i: entry.captions for i, entry in zip(match.image_ids, said, strict=True)}
    cut, note = segmentation_of(match.references, segmentation, language)
    notes += [note] if note else []
    tokenised = References(match.references, cache=cache or references_cache(), segmentation=cut)
    frequencies = DocumentFrequencies(split_spaces(texts) for texts in tokenised.captions)
    words = [split_spaces(cut.words_of_all(texts)) for texts in captions.values()]
    found = diversity.of_each_picture(words, frequencies).only(set(metrics))
    flat = [caption for each in words for caption in each]
    counts = sorted({len(each) for each in words})
    signature = (
        f"diversity.{diversity.VERSION}|tok:{cut.signature}|captions:{counts[0]}-{counts[-1]}|"
        f"images:{len(words)}|df:references|showtell:{__version__}"
    )
    if single := sum(len(each) == 1 for each in words):
        notes.append(f"{single} images have a single caption, and are left out of the means")
    return scores_of(
        (found,),
        list(captions),
        bad_endings=share_of_bad_endings(flat, cut),
        signature=signature,
        warnings=[*notes, *match.notes],
    )
