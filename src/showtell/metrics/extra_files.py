"""Metrics that need more than captions and references: other files, pictures, or a model.

``Extras`` is what a user names; ``families`` makes metrics of it, for ``evaluate``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from showtell.core.messages import some
from showtell.errors import ScoringError, UsageError
from showtell.metrics import diversity, object_hallucination
from showtell.metrics.caption_files import read_references
from showtell.metrics.coco_io import Pair, same_image
from showtell.metrics.evaluate import CHECKS, Family
from showtell.metrics.object_hallucination import ObjectWords, read_instances
from showtell.metrics.picture_folder import PictureFolder
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Statistics
from showtell.text.segment import PTB, Segmentation

_TRAINING_SPLITS = ("train", "restval")


@dataclass(frozen=True)
class Extras:
    """What to compute besides COCO's metrics.

    Attributes:
        check: every family of ``CHECKS``.
        instances: COCO's instances, for CHAIR; without it references alone say what is there.
        train_captions: captions that the captioner was trained on, for the share of novel captions.
        clip: a CLIP, for CLIPScore; needs ``pictures``.
        pictures: the folder of the pictures; each is found by its image id.
        bert: an encoder of text, for BERTScore.
        bert_layer: whose vectors it compares; None: the last.
    """

    check: bool = False
    instances: Path | None = None
    train_captions: Path | None = None
    clip: str | None = None
    pictures: Path | None = None
    bert: str | None = None
    bert_layer: int | None = None

    def families(self, pair: Pair, segmentation: Segmentation = PTB) -> list[Family]:
        """The metrics, for the captions of ``pair``, cut into words by ``segmentation``.

        Raises:
            UsageError: an option lacks the one that it needs.
            MissingExtraError: transformers is not installed.
            ScoringError: a file or a model cannot be read, or pictures are missing.
        """
        if bool(self.clip) != bool(self.pictures):
            raise UsageError("--clip MODEL and --images FOLDER need each other")
        if self.bert_layer is not None and not self.bert:
            raise UsageError("--bert-layer needs --bert MODEL")
        found = {family.name: family for family in CHECKS} if self.check else {}
        if self.instances:
            found["CHAIR"] = _chair(self.instances)
        if self.train_captions:
            found["novel"] = _novel(self.train_captions, segmentation)
        if self.clip and self.pictures:
            found["CLIPScore"] = _clip_score(self.clip, self.pictures, pair)
        if self.bert:
            found["BERTScore"] = _bert_score(self.bert, self.bert_layer, pair)
        return list(found.values())


def _chair(path: Path) -> Family:
    """CHAIR with what annotators outlined and what references mention as the truth."""
    words = ObjectWords.default()
    outlined = _by_image(read_instances(path, words), path)

    def compute(captions: Captions) -> Statistics:
        references = captions.references
        images = [same_image(image_id) for image_id in references.image_ids]
        if not any(image in outlined for image in images):
            raise ScoringError(f"{path}: has none of the {len(images)} images of the captions")
        mentioned = object_hallucination.objects_of_references(references.captions, words)
        truth = [
            objects | outlined.get(image, frozenset())
            for image, objects in zip(images, mentioned, strict=True)
        ]
        return object_hallucination.chair([words.mentions(said) for said in captions.words], truth)

    version = f"{object_hallucination.VERSION}-instances"
    return Family(
        "CHAIR",
        object_hallucination.NAMES,
        version,
        compute,
        better=object_hallucination.BETTER,
    )


def _by_image(found: Mapping[str, frozenset[str]], path: Path) -> dict[str, frozenset[str]]:
    """By what all spellings of an image's id have in common."""
    images = {same_image(image_id): objects for image_id, objects in found.items()}
    if len(images) < len(found):
        raise ScoringError(f"{path}: two images have ids that are spellings of one number")
    return images


def _novel(path: Path, segmentation: Segmentation) -> Family:
    entries = read_references(path)
    training = [entry for entry in entries if entry.split in _TRAINING_SPLITS]
    texts = [text for entry in training or entries for text in entry.captions]
    known = {tuple(words) for words in segmentation.words_of_all(texts)}
    compute = partial(diversity.novel, training=known)
    return Family("novel", ("novel",), diversity.VERSION, compute, better=None)


def _clip_score(name: str, folder: Path, pair: Pair) -> Family:
    from showtell.metrics import clip_score

    paths = find_pictures(folder, pair.candidates)
    scorer = clip_score.ClipScore(name)

    def compute(captions: Captions) -> Statistics:
        image_ids = captions.references.image_ids
        return scorer.statistics(
            captions.texts,
            [paths[image_id] for image_id in image_ids],
            [pair.references[image_id] for image_id in image_ids],
        )

    version = f"{clip_score.VERSION}-{scorer.model.name}"
    return Family("CLIPScore", clip_score.NAMES, version, compute)


def _bert_score(name: str, layer: int | None, pair: Pair) -> Family:
    from showtell.metrics import bert_score

    scorer = bert_score.BertScore(name, layer)

    def compute(captions: Captions) -> Statistics:
        references = [pair.references[image_id] for image_id in captions.references.image_ids]
        return scorer.statistics(captions.texts, references)

    version = f"{bert_score.VERSION}-{scorer.model.name}-L{scorer.layer}"
    return Family("BERTScore", (bert_score.NAME,), version, compute)


def find_pictures(folder: Path, image_ids: Iterable[str]) -> dict[str, Path]:
    """The picture of each image: a file in ``folder``, or below it, whose name is a form of its id.

    Raises:
        ScoringError: an image has no picture there, or two, or that of another image.
    """
    found = PictureFolder(folder).of_ids(image_ids)
    wrong = {name: one for name, one in found.items() if isinstance(one, str)}
    if wrong:
        what = next(iter(wrong.values()))
        raise ScoringError(
            f"{folder}: {what} for {len(wrong)} of {len(found)} images: {some(list(wrong))}; a "
            "picture's file name is its image's id, as 139.jpg or COCO_val2014_000000000139.jpg "
            "for 139"
        )
    return {name: path for name, path in found.items() if isinstance(path, Path)}
