"""From a form to its answer: settings, pictures decoded in threads, captions from the batcher."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from showtell.config import DecodingConfig
from showtell.core.prefetch import num_workers
from showtell.data.reading import printable
from showtell.decoding.constraints.named_words import named_words
from showtell.errors import (
    ConfigError,
    ImageError,
    LargePictureError,
    NotAPictureError,
    ShowtellError,
    unknown_name,
)
from showtell.images.open import Pixels, open_image
from showtell.images.preprocess import Preprocessing
from showtell.inference.caption import caption_record
from showtell.server.batching import Batcher, Job, LoadedModel, QueueFullError, StoppingError
from showtell.server.limits import Limits
from showtell.server.problems import Problem, busy, stopping
from showtell.server.uploads import Form, Upload

FILES = "images"
FIELDS = frozenset({"attention", "decoding", "model"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for, checked."""

    model: LoadedModel
    settings: DecodingConfig
    attention: bool


class Service:
    """Captions forms with the loaded models."""

    def __init__(
        self,
        models: dict[str, LoadedModel],
        batcher: Batcher,
        limits: Limits,
        on_picture: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self.models, self.batcher, self.limits = models, batcher, limits
        self._on_picture = on_picture
        self._threads = ThreadPoolExecutor(num_workers(), thread_name_prefix="decode")

    def describe_models(self) -> list[dict[str, Any]]:
        """What ``ModelInfo`` says of each."""
        return [
            {
                "name": model.name,
                "decoder": model.captioner.config.decoder.kind,
                "encoder": model.captioner.config.encoder.name,
                "attends": model.attends,
                "default": index == 0,
                "decoding": model.captioner.config.decoding.model_dump(mode="json"),
                "calibrated": model.captioner.calibration is not None,
                "crop": _crop(model.captioner.encoder.preprocessing),
            }
            for index, model in enumerate(self.models.values())
        ]

    def stop(self) -> None:
        """Work off what is queued, and end the threads."""
        self.batcher.stop()
        self._threads.shutdown(cancel_futures=True)

    async def caption(self, form: Form) -> dict[str, Any]:
        """The answer to a form.

        Raises:
            Problem: of the form, or of its pictures where none could be captioned; 503 where the
                queue is full or the answer took too long.
        """
        wish = self._wish(form)
        if not form.pictures:
            raise Problem(422, f"no picture: send at least one as {FILES!r}")
        try:
            with self.batcher.reserve(len(form.pictures)):
                async with asyncio.timeout(self.limits.answer_seconds):
                    results = await self._results(wish, form)
        except QueueFullError:
            raise busy("the queue is full; try again in a second") from None
        except StoppingError:
            raise stopping() from None
        except TimeoutError:
            seconds = self.limits.answer_seconds
            raise busy(f"no answer within {seconds:g} seconds; try again", retry_after=5) from None
        for result in results:
            self._on_picture("failed" if "error" in result else "captioned")
        _raise_if_all_failed(results)
        return {"model": wish.model.name, "results": results}

    def _wish(self, form: Form) -> Wish:
        default = next(iter(self.models))
        name = form.fields.get("model", default)
        if name not in self.models:
            raise Problem(422, unknown_name("model", name, self.models))
        model = self.models[name]
        attention = form.fields.get("attention", "false")
        if attention not in ("true", "false"):
            raise Problem(422, f"attention is {attention!r}: expected true or false")
        if attention == "true" and not model.attends:
            kind = model.captioner.config.decoder.kind
            raise Problem(
                422, f"attention: decoder {kind!r} of {name!r} does not attend to regions"
            )
        settings = self._settings(model, form.fields.get("decoding", "{}"))
        return Wish(model, settings, attention == "true")

    def _settings(self, model: LoadedModel, text: str) -> DecodingConfig:
        try:
            changes = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Problem(422, f"decoding is no JSON: {error}") from None
        if not isinstance(changes, dict):
            raise Problem(422, 'decoding: expected a JSON object such as {"beam_size": 5}')
        try:
            settings = model.captioner.config.decoding.with_changes(changes)
            self._check_effort(settings, changes)
            named_words(settings, model.captioner.vocabulary)
        except ShowtellError as error:
            raise Problem(422, f"decoding: {error}") from None
        return settings

    def _check_effort(self, settings: DecodingConfig, changes: dict[str, Any]) -> None:
        """Raise where a request asks for more work than a model's own settings or the limits."""
        limits = self.limits
        for name, limit in (
            ("beam_size", limits.beam_size),
            ("num_captions", limits.beam_size),
            ("min_length", limits.caption_words),
            ("max_length", limits.caption_words),
        ):
            if name in changes and getattr(settings, name) > limit:
                raise ConfigError(
                    f"{name} = {getattr(settings, name)}: this server's limit is {limit}"
                )
        for name in ("forbidden_words", "required_words"):
            if name in changes and len(getattr(settings, name)) > limits.named_words:
                raise ConfigError(f"{name}: this server's limit is {limits.named_words}")

    async def _results(self, wish: Wish, form: Form) -> list[dict[str, Any]]:
        # A request has no more pictures among those to be decoded than can be at a time, so that
        # one with many, or with huge ones, does not make the others wait for all of them.
        turn = asyncio.Semaphore(num_workers())
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._result(wish, form, index, turn))
                for index in range(len(form.pictures))
            ]
        return [task.result() for task in tasks]

    async def _result(
        self, wish: Wish, form: Form, index: int, turn: asyncio.Semaphore
    ) -> dict[str, Any]:
        upload = form.pictures[index]
        place = {"index": index, "name": printable(upload.name)}
        try:
            with self.batcher.expecting():
                async with turn:
                    loop = asyncio.get_running_loop()
                    view = await loop.run_in_executor(self._threads, self._view, wish.model, upload)
                job = Job(wish.model, view, wish.settings, wish.attention, id(form), index)
                waiting = self.batcher.submit(job)
            caption = await asyncio.wrap_future(waiting)
            if not caption.log_probs:
                raise Problem(422, f"{upload.name}: no caption meets the decoding settings")
        except Problem as problem:
            return place | {"error": problem.details}
        except StoppingError:
            return place | {"error": stopping().details}
        except ShowtellError as error:  # settings that cannot be met, by this picture or any
            return place | {"error": Problem(422, f"{upload.name}: {error}").details}
        return place | caption_record(caption)

    def _view(self, model: LoadedModel, upload: Upload) -> Pixels:
        recipe = model.captioner.encoder.preprocessing
        try:
            image = open_image(
                upload.data, min_side=recipe.decode_side, max_pixels=self.limits.pixels
            )
        except ImageError as error:
            reason = str(error).removeprefix("picture: ")
            raise Problem(_status(error), f"{upload.name}: {reason}") from None
        return recipe.eval_view(image)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _crop(recipe: Preprocessing) -> float | None:
    return None if recipe.squash else recipe.crop


def _status(error: ImageError) -> int:
    if isinstance(error, NotAPictureError):
        return 415
    return 413 if isinstance(error, LargePictureError) else 422


def _raise_if_all_failed(results: list[dict[str, Any]]) -> None:
    errors = [result["error"] for result in results if "error" in result]
    if len(errors) < len(results):
        return
    if len(errors) == 1:
        raise Problem(errors[0]["status"], errors[0]["detail"])
    statuses = {error["status"] for error in errors}
    status = statuses.pop() if len(statuses) == 1 else 422
    detail = f"none of {len(errors)} pictures could be captioned; {errors[0]['detail']}"
    raise Problem(status, detail, more={"results": results})
