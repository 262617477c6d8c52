"""From a stream of pictures to a stream of captions, in order and in bounded memory.

Threads decode and cut pictures while the network captions the batch before. A picture that cannot
be read gives its reason, and the others go on. The network is the caller's: ``stream`` is given a
function that captions a batch of views.
"""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from PIL import Image

from showtell.config import DecodingConfig
from showtell.core.memory import give_back_memory
from showtell.core.prefetch import fetch_ahead, work_ahead
from showtell.core.urls import TooManyBytesError, fetch, is_metadata, is_url, local_path
from showtell.data.duplicates import Look, NearDuplicates, look_of
from showtell.errors import ImageError, PictureTypeError, UnavailableError
from showtell.images.open import notes_of, open_image
from showtell.inference.caption import Caption

NO_CAPTION = "no caption meets the decoding settings"
CUT = "the answer was cut at the most tokens that --max-length allows"
MOST_BETWEEN = 125  # pictures, after which freed memory is given back
USUAL_BYTES = 2**23  # of a picture in an archive, at most; a larger one counts as several
MOST_AHEAD = 2**24  # bytes of a picture that is fetched long before its turn

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
        may_pass: Whether the reason in ``error`` may pass.
        num_held: How many bytes ``read`` holds in memory already, as of a member of an archive.
    """

    path: Path | str
    read: Callable[[], bytes] | None = None
    error: str | None = None
    may_pass: bool = False
    num_held: int = 0

    @property
    def weight(self) -> int:
        """As how many pictures it counts where pictures are read ahead, by what it holds."""
        return max(1, math.ceil(self.num_held / USUAL_BYTES))


def picture_at(name: Path | str) -> Picture:
    """The picture of a file or behind a URL that a person names, fetched when its turn comes.

    Raises:
        PictureTypeError: it is not a name.
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


def fetched_ahead(pictures: Iterable[Picture]) -> Generator[Picture, None, None]:
    """The pictures in order; those behind URLs with their bytes, which are fetched many at a time.

    One that cannot be fetched raises the reason when it is read. Those of more than ``MOST_AHEAD``
    bytes are fetched shortly before their turn: few of them are to be held at a time.
    """
    return fetch_ahead(
        pictures,
        _fetched,
        is_remote=_is_remote,
        size=lambda picture: picture.num_held,
        fetch_small=_fetched_small,
    )


def _is_remote(picture: Picture) -> bool:
    return isinstance(picture.read, partial) and picture.read.func is fetch


def _fetched_small(picture: Picture) -> Picture | None:
    try:
        return _fetched(picture, MOST_AHEAD)
    except TooManyBytesError:
        return None


def _fetched(picture: Picture, most: int | None = None) -> Picture:
    assert isinstance(picture.read, partial)
    try:
        content = picture.read(most=most)
    except ImageError as error:
        if most is not None and isinstance(error, TooManyBytesError):
            raise
        return replace(picture, read=partial(_fail, error.with_traceback(None)))
    return replace(picture, read=lambda: content, num_held=len(content))


def _fail(error: ImageError) -> bytes:
    raise error


@dataclass(frozen=True, slots=True)
class PictureResult:
    """A picture with its caption, or with the reason why it has none.

    Attributes:
        path: As it was given.
        caption: None if it failed.
        error: The reason, if it failed.
        look: A hash of its looks, if near duplicates are searched for.
        same_as: The picture whose caption it took because both look the same.
        notes: What had to be assumed or left out to read the picture (``notes_of``), and whether
            the model's answer was cut.
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


@dataclass(frozen=True, slots=True)
class Prepared(Generic[View]):
    """A picture that was read.

    Attributes:
        view: What the captioner sees of it.
        look: A hash of its looks, if near duplicates are searched for.
        notes: As of ``PictureResult``.
    """

    view: View
    look: Look | None
    notes: tuple[str, ...]


class Originals:
    """The first picture of each look, whose caption later pictures with that look take.

    Every picture with a new look adds its caption and 108 bytes.
    """

    def __init__(self) -> None:
        self._looks = NearDuplicates()
        self._results: list[PictureResult | None] = []

    def number_of(self, look: Look) -> tuple[int, bool]:
        """The number of the first picture that looks the same, and whether this is the first.

        The first one's result is to follow: ``originals[number] = result``.
        """
        number = self._looks.find(look)
        return (self._add(look, None), True) if number is None else (number, False)

    def remember(self, result: PictureResult) -> None:
        """Add a result of an earlier run."""
        if result.look is not None and result.same_as is None:
            self._add(result.look, result)

    def _add(self, look: Look, result: PictureResult | None) -> int:
        self._results.append(result)
        return self._looks.add(look)

    def __getitem__(self, number: int) -> PictureResult:
        result = self._results[number]
        assert result is not None, number
        return result

    def __setitem__(self, number: int, result: PictureResult) -> None:
        self._results[number] = result


@dataclass(slots=True)
class Pending(Generic[View]):
    """A picture that was read, or cannot be, and whose result is still to come.

    Its look joins those of the originals at once: what comes after it may take its caption.

    Attributes:
        path: As it was given.
        found: The picture, or why it cannot be read.
        originals: The pictures whose captions it may take; None: it takes none.
        number: Of the original with its look; None where looks are not compared.
        is_new: Whether the model has to caption it: it was read, and looks like no other.
    """

    path: Path | str
    found: Prepared[View] | ImageError
    originals: Originals | None
    number: int | None = field(init=False, default=None)
    is_new: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if isinstance(self.found, ImageError):
            return
        self.is_new = True
        if self.originals is not None and self.found.look is not None:
            self.number, self.is_new = self.originals.number_of(self.found.look)

    def result(self, said: Caption | str | None = None, *, may_pass: bool = False) -> PictureResult:
        """Its result; a picture that looks like an original needs that one's result first.

        Args:
            said: Its caption, or the reason why it has none; given if the picture ``is_new``.
            may_pass: As of ``PictureResult``; what came of captioning it.
        """
        path, found = self.path, self.found
        if isinstance(found, ImageError):
            return PictureResult(
                path, None, str(found), may_pass=isinstance(found, UnavailableError)
            )
        if not self.is_new:
            assert self.originals is not None and self.number is not None
            return _like(self.originals[self.number], path, found)
        assert said is not None, path
        caption, error = (None, f"{path}: {said}") if isinstance(said, str) else (said, None)
        notes = (*found.notes, *(CUT,) * (caption is not None and caption.is_cut))
        result = PictureResult(path, caption, error, found.look, notes=notes, may_pass=may_pass)
        if self.originals is not None and self.number is not None:
            self.originals[self.number] = result
        return result


def _like(original: PictureResult, path: Path | str, found: Prepared[View]) -> PictureResult:
    """The result of a picture that looks like an original."""
    error = original.error
    if error is not None:
        reason = error.removeprefix(f"{original.path}: ")
        error = f"{path}: looks like {original.path}, which failed: {reason}"
    return replace(
        original,
        path=path,
        error=error,
        look=found.look,
        same_as=original.path,
        notes=found.notes,
    )


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a stream of pictures is captioned: the arguments of ``Captioner.caption_stream``.

    Attributes:
        decoding: complete settings, which the model can meet.
        batch_size: None: what suits the model.
    """

    decoding: DecodingConfig
    attention: bool = False
    batch_size: int | None = None
    originals: Originals | None = None
    is_stopped: Callable[[], bool] = lambda: False


def prepared_ahead(
    pictures: Iterable[Picture],
    view_of: Callable[[Image.Image], View],
    *,
    min_side: int | None,
    originals: Originals | None,
    batch_size: int,
    overlaps: bool,
) -> Iterator[Pending[View]]:
    """Pictures in order, read by threads ahead of their use; their files' bytes are not held.

    Args:
        pictures: Any number.
        view_of: What the captioner sees of an RGB picture; called in threads.
        min_side: As of ``open_image``.
        originals: If given, a picture that looks like one of these takes its caption.
        batch_size, overlaps: As of ``work_ahead``.
    """

    def prepare(picture: Picture) -> Prepared[View] | ImageError:
        try:
            image = opened(picture, min_side)
            look = None if originals is None else look_of(image)
            return Prepared(view_of(image), look, notes_of(image))
        except ImageError as error:
            return error.with_traceback(None)  # which holds the picture's bytes

    ahead = work_ahead(
        pictures,
        prepare,
        batch_size=batch_size,
        overlaps=overlaps,
        weigh=lambda picture: picture.weight,
    )
    return (Pending(picture.path, found, originals) for picture, found in ahead)


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
    pending = prepared_ahead(
        pictures,
        recipe.eval_view,
        min_side=recipe.decode_side,
        originals=originals,
        batch_size=batch_size,
        overlaps=overlaps,
    )
    num_described = num_since = 0
    while batch := list(islice(pending, batch_size)):
        if (num_since := num_since + len(batch)) > MOST_BETWEEN:
            give_back_memory()
            num_since = 0
        views = [one.found.view for one in batch if one.is_new and isinstance(one.found, Prepared)]
        found = describe(views, num_described) if views else ()
        assert len(found) == len(views), (len(found), len(views))
        described = iter(found)
        num_described += len(views)
        for one in batch:
            said = next(described) if one.is_new else None
            is_missing = isinstance(said, Caption) and said.is_missing
            yield one.result(NO_CAPTION if is_missing else said)


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
