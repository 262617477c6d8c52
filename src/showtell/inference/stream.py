"""From a stream of pictures to a stream of captions, in order and in bounded memory.

Threads decode and cut pictures while the network captions the batch before. A picture that cannot
be read gives its reason, and the others go on. The network is the caller's: ``stream`` is given a
function that captions a batch of views.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from PIL import Image

from showtell.config import DecodingConfig
from showtell.core.memory import give_back_memory
from showtell.core.prefetch import work_ahead
from showtell.core.urls import fetch, is_metadata, is_url, local_path
from showtell.data.duplicates import Look, NearDuplicates, look_of
from showtell.errors import ImageError, PictureTypeError, UnavailableError
from showtell.images.open import notes_of, open_image
from showtell.inference.caption import Caption

NO_CAPTION = "no caption meets the decoding settings"
MOST_BETWEEN = 125  # pictures, after which freed memory is given back
USUAL_BYTES = 2**23  # of a picture in an archive, at most; a larger one counts as several

View = TypeVar("View")
Seen = TypeVar("Seen", covariant=True)

Described = Sequence[Caption | str]
"""For each picture its caption, or the reason why it has none."""


class Cutter(Protocol[Seen]):
    """How a captioner wants its pictures; ``Preprocessing`` is one."""

    @property
    def decode_side(self) -> int | None:
        """The ``min_side`` for ``open_image``."""

    def eval_view(self, image: Image.Image) -> Seen:
        """What the captioner sees of an RGB picture."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is still to be read.

    Attributes:
        path: Its name in results: a path, a URL, or an archive's path with the name within.
        read: Returns its bytes; called in a thread; raises ImageError if it cannot. None means
            that ``path`` is a file.
        error: Why it fails, where that is known before it is read; ``read`` raises it.
        num_held: How many bytes ``read`` holds in memory already, as of a member of an archive.
    """

    path: Path | str
    read: Callable[[], bytes] | None = None
    error: str | None = None
    num_held: int = 0

    @property
    def weight(self) -> int:
        """As how many pictures it counts where pictures are read ahead, by what it holds."""
        return max(1, math.ceil(self.num_held / USUAL_BYTES))


def picture_at(name: Path | str) -> Picture:
    """The picture of a file or behind a URL that a person names, fetched when its turn comes.

    Raises:
        PictureTypeError: it is no name.
    """
    if isinstance(name, os.PathLike):
        return Picture(Path(name))
    if not isinstance(name, str):
        raise PictureTypeError(
            f"not a path or a URL: {type(name).__name__}; pictures in memory are for caption(...)"
        )
    if is_url(name):
        return Picture(name, partial(fetch, name, is_metadata))
    return Picture(local_path(name))


@dataclass(frozen=True, slots=True)
class PictureResult:
    """A picture with its caption, or with the reason why it has none.

    Attributes:
        path: As it was given.
        caption: None if it failed.
        error: The reason, if it failed.
        look: A hash of its looks, if near duplicates are searched for.
        same_as: The picture whose caption it took because both look the same.
        notes: What had to be assumed or left out to read the picture (``notes_of``).
        may_pass: Whether it failed for a reason that may pass: a busy host, a time out.
    """

    path: Path | str
    caption: Caption | None
    error: str | None = None
    look: Look | None = None
    same_as: Path | str | None = None
    notes: tuple[str, ...] = ()
    may_pass: bool = False

    @property
    def text(self) -> str:
        """The caption's text; empty if it failed."""
        return self.caption.text if self.caption else ""

    @property
    def confidence(self) -> float:
        """The caption's confidence; 0 if it failed."""
        return self.caption.confidence if self.caption else 0.0


class Originals:
    """The first picture of each look, whose caption later pictures with that look take.

    Every picture with a new look adds its caption and 44 bytes.
    """

    def __init__(self) -> None:
        self._looks = NearDuplicates()
        self._results: list[PictureResult | None] = []

    def find(self, look: Look) -> int | None:
        """The number of a picture that looks the same; None if there is none."""
        return self._looks.find(look)

    def expect(self, look: Look) -> int:
        """Add a picture whose result comes later; returns its number."""
        self._results.append(None)
        return self._looks.add(look)

    def remember(self, result: PictureResult) -> None:
        """Add a result of an earlier run."""
        if result.look is not None and result.same_as is None:
            self._results[self.expect(result.look)] = result

    def __getitem__(self, number: int) -> PictureResult:
        result = self._results[number]
        assert result is not None, number
        return result

    def __setitem__(self, number: int, result: PictureResult) -> None:
        self._results[number] = result


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a stream of pictures is captioned: the arguments of ``Captioner.caption_stream``.

    Attributes:
        decoding: complete settings, which the model can meet.
        batch_size: None: what suits the model.
        is_stopped: whether no further picture is to be asked about, though some were read ahead;
            those have no result then. Called from any thread. Where captions cost nothing, a model
            may go on with what was read.
    """

    decoding: DecodingConfig
    attention: bool = False
    batch_size: int | None = None
    originals: Originals | None = None
    is_stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Prepared(Generic[View]):
    view: View
    look: Look | None
    notes: tuple[str, ...]


def stream(
    pictures: Iterable[Picture],
    recipe: Cutter[View],
    describe: Callable[[list[View], int], Described],
    *,
    batch_size: int,
    overlaps: bool,
    originals: Originals | None = None,
) -> Iterator[PictureResult]:
    """Caption pictures as they come. A picture that no caption fits is a failure, too.

    Args:
        pictures: Any number.
        recipe: How the captioner wants them.
        describe: Captions a batch of views; called with the number that the first one's picture
            has among those that are captioned.
        batch_size: Pictures a batch.
        overlaps: Whether ``describe`` computes on a GPU, beside the threads that decode.
        originals: If given, a picture that looks like one of these takes its caption.
    """

    def prepare(picture: Picture) -> _Prepared[View] | ImageError:
        try:
            return _prepare(picture, recipe, with_look=originals is not None)
        except ImageError as error:
            return error.with_traceback(None)  # which holds the picture's bytes

    ahead = work_ahead(
        pictures,
        prepare,
        batch_size=batch_size,
        overlaps=overlaps,
        weigh=lambda picture: picture.weight,
    )
    prepared = ((picture.path, found) for picture, found in ahead)  # a batch holds no file's bytes
    num_described = num_since = 0
    while batch := list(islice(prepared, batch_size)):
        if (num_since := num_since + len(batch)) > MOST_BETWEEN:
            give_back_memory()
            num_since = 0
        batch_run = _Batch(batch, originals)
        fresh = batch_run.fresh
        captions = describe(fresh, num_described) if fresh else ()
        num_described += len(fresh)
        yield from batch_run.results(captions)


class _Batch(Generic[View]):
    """Which pictures of a batch the network has to see, and the results of all of them."""

    def __init__(
        self,
        batch: list[tuple[Path | str, _Prepared[View] | ImageError]],
        originals: Originals | None,
    ) -> None:
        self._batch, self._originals = batch, originals
        self.fresh: list[View] = []
        self._numbers: list[tuple[int | None, bool]] = []  # of the original; whether it is itself
        for _, found in batch:
            number, is_new = None, not isinstance(found, ImageError)
            if isinstance(found, _Prepared):
                if originals is not None and found.look is not None:
                    number = originals.find(found.look)
                    is_new = number is None
                    number = originals.expect(found.look) if number is None else number
                if is_new:
                    self.fresh.append(found.view)
            self._numbers.append((number, is_new))

    def results(self, captions: Described) -> Iterator[PictureResult]:
        said = iter(captions)
        for (path, found), (number, is_new) in zip(self._batch, self._numbers, strict=True):
            if isinstance(found, ImageError):
                yield failure_of(path, found)
            elif is_new:
                result = _result(path, next(said), found)
                if number is not None and self._originals is not None:
                    self._originals[number] = result
                yield result
            else:
                assert self._originals is not None and number is not None
                yield _same(path, self._originals[number], found)


def _prepare(picture: Picture, recipe: Cutter[View], *, with_look: bool) -> _Prepared[View]:
    image = opened(picture, recipe.decode_side)
    look = look_of(image) if with_look else None
    return _Prepared(recipe.eval_view(image), look, notes_of(image))


def opened(picture: Picture, min_side: int | None) -> Image.Image:
    """A picture, decoded as by ``open_image``; its errors begin with the picture's name."""
    if picture.read is None:
        return open_image(picture.path, min_side=min_side)
    try:
        content = picture.read()
    except ImageError as error:
        error.args = (f"{picture.path}: {error}",)
        raise error from None
    return open_image(content, min_side=min_side, name=str(picture.path))


def failure_of(path: Path | str, error: ImageError) -> PictureResult:
    """The result of a picture that cannot be read."""
    return PictureResult(path, None, str(error), may_pass=isinstance(error, UnavailableError))


def _result(path: Path | str, said: Caption | str, found: _Prepared[View]) -> PictureResult:
    error = f"{path}: {said}" if isinstance(said, str) else None
    if isinstance(said, Caption) and said.is_missing:
        error = f"{path}: {NO_CAPTION}"
    caption = None if error or isinstance(said, str) else said
    return PictureResult(path, caption, error, look=found.look, notes=found.notes)


def _same(path: Path | str, original: PictureResult, found: _Prepared[View]) -> PictureResult:
    error = original.error
    if error is not None:
        error = f"{path}: {error.removeprefix(f'{original.path}: ')}"
    return replace(
        original,
        path=path,
        error=error,
        look=found.look,
        same_as=original.path,
        notes=found.notes,
    )
