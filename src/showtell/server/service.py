"""From a form to its answer: wish, decoded pictures, captions.

    form -> read_wish -> for each picture: decode in a thread -> batcher -> caption -> answer

Costly work has separate lanes, so that it delays only work of its kind: one thread decodes large
pictures and another builds tables of named words. Searches with a request's own settings enter the
batcher only while their total cost is within the limit of one picture's search.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from showtell.core.prefetch import num_workers
from showtell.data.reading import printable
from showtell.errors import (
    ImageError,
    LargePictureError,
    MissingFormatError,
    NotAPictureError,
    ServerError,
    ShowtellError,
)
from showtell.images.open import open_image
from showtell.images.repair import check_scans
from showtell.inference.backends.remote_client import RESUME, ServerFull
from showtell.inference.caption import Caption, caption_record
from showtell.server.batching import Batcher, Job, QueueFullError, StoppingError
from showtell.server.limits import Lane, Limits, Shares, share
from showtell.server.models import LoadedModel
from showtell.server.problems import Problem, busy, stopping
from showtell.server.uploads import ADVICE, Form, Upload
from showtell.server.wishes import Wish, check_words, read_wish

FILES = "images"
FIELDS = frozenset({"attention", "decoding", "model"})

Result = TypeVar("Result")
Record = dict[str, Any]


class Service:
    """Captions forms with the loaded models.

    Args:
        on_picture: Told ``captioned`` or ``failed`` for each picture.
        on_failure: Told a model's name where the server behind it fails, and why.
    """

    def __init__(
        self,
        models: dict[str, LoadedModel],
        batcher: Batcher,
        limits: Limits,
        on_picture: Callable[[str], None] = lambda outcome: None,
        on_failure: Callable[[str, str], None] = lambda model, reason: None,
    ) -> None:
        self.models, self.batcher, self.limits = models, batcher, limits
        self._on_picture, self._on_failure = on_picture, on_failure
        self.started = time.time()
        self._threads = ThreadPoolExecutor(num_workers(), thread_name_prefix="decode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        self._tables = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._searches = Lane(limits.search_effort)
        each = max(limits.pictures, share(limits.queue))
        self._places = Shares(limits.queue, each, "the queue is full")

    def describe_models(self) -> list[Record]:
        """What ``description.ModelInfo`` says of each."""
        return [
            {
                "name": model.name,
                "decoder": model.captioner.decoder_kind,
                "encoder": model.captioner.encoder_name,
                "attends": model.captioner.attends,
                "default": index == 0,
                "decoding": model.captioner.decoding.model_dump(mode="json"),
                "calibrated": model.captioner.calibration is not None,
                "crop": model.crop,
            }
            for index, model in enumerate(self.models.values())
        ]

    def stop(self) -> None:
        """Work off what is queued, and end the threads."""
        self.batcher.stop()
        for threads in (self._threads, self._large, self._tables):
            threads.shutdown(cancel_futures=True)

    async def caption(self, form: Form, client: str = "") -> bytes:
        """The answer to a form, in JSON.

        Args:
            client: Whose places in the queue the pictures take.

        Raises:
            Problem: of the form, or of its pictures where none could be captioned; 429 or 503
                where the queue is full, 503 where the answer took too long.
        """
        return await self._answered(form, client, self._answer)

    async def results(
        self, form: Form, client: str = "", *, prompt: str | None = None
    ) -> list[Record]:
        """A record for each picture of a form: of its caption, or with its ``error``, a Problem.

        Args:
            client: As for ``caption``, whose errors are raised.
            prompt: Instructions, for a model that follows some.
        """

        async def as_they_are(wish: Wish, results: list[Record]) -> list[Record]:
            self._count(results)
            return results

        return await self._answered(form, client, as_they_are, prompt)

    async def aside(self, work: Callable[[], Result]) -> Result:
        """``work`` in a thread, for what would keep all clients waiting."""
        return await _in(self._threads, work)

    def follows_prompts(self, model: str) -> bool:
        """Whether a loaded model does what it is told in words."""
        return self.models[model].captioner.follows_instructions

    async def _answered(
        self,
        form: Form,
        client: str,
        finish: Callable[[Wish, list[Record]], Awaitable[Result]],
        prompt: str | None = None,
    ) -> Result:
        num = len(form.pictures)
        if self.batcher.waiting >= self.batcher.max_waiting:
            raise busy("the queue is full; try again in a second")
        wish = read_wish(form, self.models, self.limits)
        if prompt is not None:
            wish = replace(wish, model=wish.model.with_prompt(prompt))
        if not num:
            advice = ADVICE.format(files=FILES)
            raise Problem(422, f"no picture: send at least one as {FILES!r} ({advice})")
        try:
            with self._places.held_by(client) as holding, self.batcher.reserve(num):
                holding.add(num)
                async with asyncio.timeout(self.limits.answer_seconds):
                    if wish.names_words:
                        await _in(self._tables, lambda: check_words(wish, self.limits))
                    results = await self._results(wish, form)
                    return await finish(wish, results)
        except QueueFullError:
            raise busy("the queue is full; try again in a second") from None
        except StoppingError:
            raise stopping() from None
        except TimeoutError:
            seconds = self.limits.answer_seconds
            raise busy(f"no answer within {seconds:g} seconds; try again", retry_after=5) from None

    async def _results(self, wish: Wish, form: Form) -> list[Record]:
        # A request with many pictures does not make the others wait for all of them: it has no more
        # among those to be decoded than can be at a time, and only so many in the batcher.
        decoding, turns = asyncio.Semaphore(num_workers()), Turns(wish.model)

        async def result(index: int, upload: Upload) -> Record:
            place = {"index": index, "name": printable(upload.name)}
            try:
                with self.batcher.expecting():
                    async with decoding:
                        view = await self._view(wish.model, upload)
                job = Job(wish.model, view, wish.settings, wish.attention, id(form), index)
                caption = await self._search(job, wish.effort, turns)
                if caption.is_missing:
                    raise Problem(422, f"{upload.name}: no caption meets the decoding settings")
            except Problem as problem:
                return place | {"error": problem}
            except StoppingError:
                return place | {"error": stopping()}
            except ServerError as error:  # whose text is for whoever runs this server
                self._on_failure(wish.model.name, str(error).partition(RESUME)[0])
                return place | {"error": _failing(error)}
            except ShowtellError as error:  # settings that cannot be met, by this picture or any
                return place | {"error": Problem(422, f"{upload.name}: {error}")}
            return place | await self._aside(wish, lambda: caption_record(caption))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(result(*item)) for item in enumerate(form.pictures)]
        return [task.result() for task in tasks]

    async def _view(self, model: LoadedModel, upload: Upload) -> Any:
        """What the model is to see of a picture."""
        limits, recipe = self.limits, model.captioner.recipe

        def view(max_pixels: int, max_scans: int) -> Any:
            check_scans(upload.data, max_scans)
            image = open_image(upload.data, min_side=recipe.decode_side, max_pixels=max_pixels)
            return recipe.eval_view(image)

        try:
            try:
                usual = min(limits.large_pixels, limits.pixels)
                return await _in(self._threads, lambda: view(usual, USUAL_SCANS))
            except LargePictureError:
                return await _in(self._large, lambda: view(limits.pixels, limits.scans))
        except MissingFormatError:  # its text is for whoever runs the server
            reason = "is HEIC, which this server does not read"
            raise Problem(415, f"{upload.name}: {reason}") from None
        except ImageError as error:
            reason = str(error).removeprefix("picture: ")
            raise Problem(_status(error), f"{upload.name}: {reason}") from None

    async def _search(self, job: Job, effort: int, turns: "Turns") -> Caption:
        async with turns.captioning:
            async with turns.next:  # the lane is to be shared by requests, not by pictures
                taken = await self._searches.take(effort) if effort else 0
            try:
                return await asyncio.wrap_future(self.batcher.submit(job))
            finally:
                self._searches.give_back(taken)

    async def _answer(self, wish: Wish, results: list[Record]) -> bytes:
        """The whole answer, piece by piece: of attention it may have millions of bytes."""
        self._count(results)
        _raise_if_all_failed(results)
        results = _described(results)
        pieces = [await self._aside(wish, partial(_json, result)) for result in results]
        return b'{"model":%b,"results":[%b]}' % (_json(wish.model.name), b",".join(pieces))

    def _count(self, results: list[Record]) -> None:
        for result in results:
            self._on_picture("failed" if "error" in result else "captioned")

    async def _aside(self, wish: Wish, work: Callable[[], Result]) -> Result:
        """``work`` here, or in a thread where there is attention to write down."""
        return await _in(self._threads, work) if wish.attention else work()


class Turns:
    """How many pictures of one request may be where others wait, too.

    Attributes:
        captioning: In the batcher. On a processor larger batches are hardly faster.
        next: At the head of the request's pictures, for the lane of searches.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.captioning = asyncio.Semaphore(32 if model.captioner.overlaps else 8)
        self.next = asyncio.Lock()


USUAL_SCANS = 16
"""A usual progressive JPEG has about ten."""


async def _in(threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _status(error: ImageError) -> int:
    if isinstance(error, NotAPictureError):
        return 415
    return 413 if isinstance(error, LargePictureError) else 422


def _failing(error: ServerError) -> Problem:
    """503 of a model behind a server; come back when that server wants to be asked again."""
    wait = error.wait if isinstance(error, ServerFull) else 1
    return busy("the server behind this model fails", retry_after=math.ceil(wait))


def _described(results: list[Record]) -> list[Record]:
    """The same with the members of each error in place of the Problem."""
    return [
        result | {"error": result["error"].details} if "error" in result else result
        for result in results
    ]


def _raise_if_all_failed(results: list[Record]) -> None:
    errors: list[Problem] = [result["error"] for result in results if "error" in result]
    if len(errors) < len(results):
        return
    first = errors[0]
    if len(errors) == 1:
        raise first
    status = int(first.status) if len({error.status for error in errors}) == 1 else 422
    detail = f"none of {len(errors)} pictures could be captioned; {first.detail}"
    headers = first.headers if status == first.status else None
    raise Problem(status, detail, headers=headers, more={"results": _described(results)})
