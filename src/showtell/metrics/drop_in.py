"""pycocoevalcap's classes and their calls, on showtell's metrics: change the import alone.

``PTBTokenizer().tokenize(captions)``, ``Cider().compute_score(gts, res)`` and the like, and
``COCOEvalCap(coco, coco_res).evaluate()`` have the arguments, keys and results of pycocoevalcap
1.2. As there, scorers take strings as tokenised; here they also take the tokeniser's own input,
``{id: [{"caption": ...}]}``, and tokenise it. SPICE is not among them, as it stays a Java program.

docs/moving-from-pycocoevalcap.md has one script in both, and the differences.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from showtell.core.messages import respelled, some
from showtell.errors import ScoringError
from showtell.metrics import meteor
from showtell.metrics.evaluate import Scores, evaluate
from showtell.text.tokenizer import tokenize_all

Captions = Mapping[Any, Sequence[str | Mapping[str, Any]]]


class PTBTokenizer:
    """COCO's tokeniser, without Java."""

    def tokenize(self, captions_for_image: Captions) -> dict[Any, list[str]]:
        """Tokenised captions, their words between spaces, of ``{id: [{"caption": ...}, ...]}``.

        Raises:
            ScoringError: an entry has no caption, or one that is not a string.
        """
        texts = [
            _text(image_id, entry)
            for image_id, entries in captions_for_image.items()
            for entry in entries
        ]
        words = iter(tokenize_all(texts))
        return {
            image_id: [" ".join(next(words)) for _ in said]
            for image_id, said in captions_for_image.items()
        }


class _Scorer:
    """One of the scorers; ``names`` are its metrics as ``evaluate`` calls them."""

    names: tuple[str, ...]

    def _scores(self, gts: Captions, res: Captions) -> Scores:
        _check(gts, res)
        gts, res = _tokenised(gts), _tokenised(res)
        ids = {image_id: str(number) for number, image_id in enumerate(gts)}
        return evaluate(
            {ids[image_id]: _words(image_id, said[0]) for image_id, said in res.items()},
            {ids[i]: [_words(i, caption) for caption in said] for i, said in gts.items()},
            metrics=self.names,
        )

    def _mean_and_each(self, gts: Captions, res: Captions) -> tuple[float, list[float]]:
        scores, [name] = self._scores(gts, res), self.names
        return scores.metrics[name], [each[name] for each in scores.per_image.values()]


class Bleu(_Scorer):
    """BLEU-1 to BLEU-n."""

    def __init__(self, n: int = 4) -> None:
        self.names = tuple(f"BLEU-{order}" for order in range(1, n + 1))

    def compute_score(
        self, gts: Captions, res: Captions, verbose: int = 0
    ) -> tuple[list[float], list[list[float]]]:
        """The corpus's n scores, and n lists with a score for each image."""
        scores = self._scores(gts, res)
        each = [[image[name] for image in scores.per_image.values()] for name in self.names]
        return list(scores.metrics.values()), each

    def method(self) -> str:
        return "Bleu"


class Meteor(_Scorer):
    """METEOR 1.5; needs the extra ``meteor``, for its tables."""

    names = ("METEOR",)

    def compute_score(self, gts: Captions, res: Captions) -> tuple[float, list[float]]:
        """The corpus's score, and each image's."""
        return self._mean_and_each(gts, res)

    def method(self) -> str:
        return "METEOR"


class Rouge(_Scorer):
    """ROUGE-L."""

    names = ("ROUGE-L",)

    def compute_score(self, gts: Captions, res: Captions) -> tuple[float, Any]:
        """The mean, and the images' scores as an array (N,)."""
        mean, each = self._mean_and_each(gts, res)
        return mean, np.array(each)

    def method(self) -> str:
        return "Rouge"


class Cider(_Scorer):
    """CIDEr-D with COCO's n-grams and sigma."""

    names = ("CIDEr-D",)

    def compute_score(self, gts: Captions, res: Captions) -> tuple[float, Any]:
        """The mean, and the images' scores as an array (N,)."""
        mean, each = self._mean_and_each(gts, res)
        return mean, np.array(each)

    def method(self) -> str:
        return "CIDEr"


class COCOEvalCap:
    """The whole table of two ``pycocotools.coco.COCO`` objects, or of any with their two members.

    METEOR is left out where its extra is not installed.

    Attributes:
        params: ``image_id``, the images to score; may be set before ``evaluate``.
        eval: the corpus's scores, by pycocoevalcap's names.
        imgToEval, evalImgs: those of each image.
    """

    def __init__(self, coco: Any, cocoRes: Any) -> None:
        self.coco, self.cocoRes = coco, cocoRes
        self.params = {"image_id": coco.getImgIds()}
        self.eval: dict[str, float] = {}
        self.imgToEval: dict[Any, dict[str, Any]] = {}
        self.evalImgs: list[dict[str, Any]] = []

    def evaluate(self) -> None:
        """Fill ``eval``, ``imgToEval`` and ``evalImgs``, and print the table."""
        ids = self.params["image_id"]
        tokenizer = PTBTokenizer()
        gts = tokenizer.tokenize({image_id: self.coco.imgToAnns[image_id] for image_id in ids})
        res = tokenizer.tokenize({image_id: self.cocoRes.imgToAnns[image_id] for image_id in ids})
        whole = _Scorer()
        whole.names = tuple(n for n in _KEYS if n != "METEOR" or meteor.is_installed())
        scores = whole._scores(gts, res)
        self.eval = {_KEYS[name]: value for name, value in scores.metrics.items()}
        self.imgToEval = {
            image_id: {"image_id": image_id} | {_KEYS[name]: each[name] for name in each}
            for image_id, each in zip(gts, scores.per_image.values(), strict=True)
        }
        self.evalImgs = list(self.imgToEval.values())
        for name, value in self.eval.items():
            print(f"{name}: {value:0.3f}")


_KEYS = {
    "BLEU-1": "Bleu_1",
    "BLEU-2": "Bleu_2",
    "BLEU-3": "Bleu_3",
    "BLEU-4": "Bleu_4",
    "METEOR": "METEOR",
    "ROUGE-L": "ROUGE_L",
    "CIDEr-D": "CIDEr",
}


def _check(gts: Captions, res: Captions) -> None:
    """What pycocoevalcap asserts, said in one line."""
    if gts.keys() != res.keys():
        bare = [image_id for image_id in gts if image_id not in res]
        unknown = [image_id for image_id in res if image_id not in gts]
        raise ScoringError(
            f"{len(bare)} images of gts have no caption in res ({some(bare)}), and {len(unknown)} "
            f"of res are not in gts ({some(unknown)}){respelled(bare, unknown)}"
        )
    if several := [image_id for image_id, said in res.items() if len(_list(image_id, said)) != 1]:
        raise ScoringError(
            f"{len(several)} images of res do not have exactly one caption: {some(several)}"
        )
    if none := [image_id for image_id, said in gts.items() if not _list(image_id, said)]:
        raise ScoringError(f"{len(none)} images of gts have no reference: {some(none)}")


def _list(image_id: Hashable, said: object) -> Sequence[object]:
    if isinstance(said, list | tuple):
        return said
    raise ScoringError(f"the captions of image {image_id} are not a list: {said!r}")


def _tokenised(captions: Captions) -> Captions:
    """The captions as they are, or tokenised where they are the tokeniser's input."""
    if any(isinstance(entry, Mapping) for said in captions.values() for entry in said):
        return PTBTokenizer().tokenize(captions)
    return captions


def _text(image_id: Hashable, entry: object) -> str:
    caption = entry.get("caption") if isinstance(entry, Mapping) else None
    if not isinstance(caption, str):
        raise ScoringError(
            f'expected {{"caption": "..."}} as an entry of image {image_id}, but got {entry!r}'
        )
    return caption


def _words(image_id: Hashable, caption: object) -> list[str]:
    """The words of tokenised text as the original's ROUGE-L cuts it, at each space."""
    if not isinstance(caption, str):
        raise ScoringError(f"a caption of image {image_id} is not a string: {caption!r}")
    return caption.split(" ") if caption else []
