"""References and the captions to score, tokenised and counted once for all metrics."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from showtell.core.files import write_text
from showtell.core.memory import paused_collector
from showtell.core.messages import some
from showtell.errors import ScoringError
from showtell.metrics.cider import CiderD
from showtell.metrics.ngrams import HypothesisLevel, Ints, ReferenceNgrams
from showtell.text.segment import PTB, Segmentation


class References:
    """Tokenised references, and what metrics compute from references alone.

    Attributes:
        image_ids: in the order given.
        captions: for each image, for each reference, its words.
        broken: images with a reference that has a line break inside; see ``broken_lines``.
        segmentation: how captions and references are cut into words.
    """

    @paused_collector()
    def __init__(
        self,
        references: Mapping[str, Sequence[str | Sequence[str]]],
        *,
        cache: Path | None = None,
        segmentation: Segmentation = PTB,
    ) -> None:
        """Tokenise ``references``, or read them from ``cache``, a folder, by content hash.

        A reference that is a list of words counts as tokenised. A cache that cannot be read or
        written is ignored.

        Raises:
            ScoringError: no images, an image without references, or one that is not text.
        """
        _check(references)
        self.image_ids = list(references)
        flat = [caption for captions in references.values() for caption in captions]
        texts = [caption for caption in flat if isinstance(caption, str)]
        self.broken = [name for name, said in references.items() if broken_lines(said)]
        self.segmentation = segmentation
        found = (
            _tokenize_cached(texts, cache, segmentation)
            if cache
            else segmentation.words_of_all(texts)
        )
        tokens = iter(found)
        self.captions = [
            [next(tokens) if isinstance(caption, str) else list(caption) for caption in captions]
            for captions in references.values()
        ]

    @cached_property
    def ngrams(self) -> ReferenceNgrams:
        """Counts of n-grams, for BLEU and CIDEr-D."""
        return ReferenceNgrams([split_spaces(captions) for captions in self.captions])

    @cached_property
    def cider(self) -> CiderD:
        """CIDEr-D against these references."""
        return CiderD.from_ngrams(self.ngrams, self.image_ids)


class Captions:
    """One caption for each image of ``references``: what every metric is computed from.

    Attributes:
        references: of the same images.
        texts: the captions as they were given, in the order of ``references.image_ids``; of a list
            of words, the words between spaces.
        words: of each caption, by the references' segmentation.
    """

    def __init__(self, captions: Sequence[str | Sequence[str]], references: References) -> None:
        self.references = references
        self.texts = [said if isinstance(said, str) else " ".join(said) for said in captions]
        texts = [caption for caption in captions if isinstance(caption, str)]
        tokens = iter(references.segmentation.words_of_all(texts))
        self.words = [next(tokens) if isinstance(s, str) else list(s) for s in captions]

    @cached_property
    def counted(self) -> tuple[list[HypothesisLevel], Ints]:
        """Their n-grams, counted against the references', and their lengths (N,)."""
        return self.references.ngrams.count(split_spaces(self.words))


_LINE_ENDS = re.compile(r"[\r\v\f\u2028\u2029]")


def broken_lines(captions: Sequence[str | Sequence[str]]) -> list[int]:
    """Which captions have a line break inside, other than a line feed.

    Here it parts words, as a space does. The official scorer writes the captions as lines of a file
    and replaces only line feeds, so each caption after such a break moves to another image.
    """
    return [
        number
        for number, caption in enumerate(captions)
        if isinstance(caption, str) and _LINE_ENDS.search(caption)
    ]


def split_spaces(captions: Sequence[list[str]]) -> list[list[str]]:
    """The words as BLEU and CIDEr have them: none is empty, and none has white space inside.

    The official program joins tokens with spaces, and its BLEU and CIDEr split them at any white
    space; its ROUGE-L does not. A fraction such as ``5 1/2`` is one token with a no-break space
    inside. Text that was tokenised elsewhere may have tabs, line feeds or two spaces in a row.
    """
    split = (" ".join(words).split() for words in captions)
    # The given words where nothing changes, as the tokeniser's are shared: less memory.
    return [
        words if words == again else again for words, again in zip(captions, split, strict=True)
    ]


def is_caption(value: object) -> bool:
    """Whether it is a text, or a list of words; a list that holds a whole text is neither."""
    return isinstance(value, str) or (
        isinstance(value, list | tuple)
        and all(isinstance(word, str) and " " not in word for word in value)
    )


def _check(references: Mapping[str, Sequence[str | Sequence[str]]]) -> None:
    if not references:
        raise ScoringError("no references to score against")
    if bare := [image_id for image_id, captions in references.items() if not captions]:
        raise ScoringError(f"{len(bare)} images have no reference caption: {some(bare)}")
    wrong = [
        image_id
        for image_id, captions in references.items()
        if isinstance(captions, str) or not all(map(is_caption, captions))
    ]
    if wrong:
        raise ScoringError(
            f"references of {len(wrong)} images are not lists of strings: {some(wrong)}"
        )


def _tokenize_cached(
    captions: list[str], folder: Path, segmentation: Segmentation
) -> list[list[str]]:
    """The captions' words, kept as a text file: one caption a line, its words between spaces."""
    name = " ".join(filter(None, (segmentation.rules, segmentation.cutting_language)))
    digest = hashlib.sha256(name.encode())
    for caption in captions:
        text = caption.encode("utf-8", "surrogatepass")
        digest.update(f"\n{len(text)} ".encode() + text)
    path = folder / f"references-{digest.hexdigest()[:32]}.txt"
    try:
        # Words never contain a plain space or a line break.
        lines = path.read_text(encoding="utf-8").split("\n")
        if len(lines) == len(captions) + 1:
            return [line.split(" ") if line else [] for line in lines[:-1]]
    except (OSError, UnicodeDecodeError):
        pass
    tokens = segmentation.words_of_all(captions)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(" ".join(words) + "\n" for words in tokens))
    except (OSError, UnicodeEncodeError):
        pass
    return tokens
