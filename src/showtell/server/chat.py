"""What the routes of other servers' clients share: a JSON body with pictures in it, and captions.

``openai_api.py`` and ``ollama_api.py`` have the forms of questions and answers; here a body is read
within the same limits as a form (``uploads.py``), pictures are taken out of base64, and the same
service makes the captions. A picture's address is fetched only from hosts that the server's owner
has named, and a redirect is never followed.
"""

import asyncio
import base64
import binascii
import json
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import BaseModel, Field, ValidationError

from showtell.config import DecodingConfig
from showtell.data.reading import printable
from showtell.errors import UsageError, unknown_name
from showtell.server.description import Said
from showtell.server.limits import Limits
from showtell.server.problems import Problem
from showtell.server.service import Record, Service
from showtell.server.uploads import Form, Intake, Upload, large_picture, too_many_pictures

Asked = TypeVar("Asked", bound=BaseModel)

FETCH_SECONDS = 15.0
CHUNK = 64 * 1024


@dataclass(slots=True)
class Question:
    """What a client asks, in whatever form.

    Attributes:
        model: the name that it gives; empty: the default model.
        pictures: base64, data URLs, or addresses.
        prompt: its words.
        num_captions: captions of each picture.
        ignored: parameters that it gives and that mean nothing here.
    """

    model: str
    pictures: list[str] = field(default_factory=list)
    prompt: str = ""
    num_captions: int = 1
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reply:
    """The captions for a question.

    Attributes:
        model: the name of the model that answers.
        results: a record for each picture, as ``POST /v1/captions`` has them.
        prompt_followed: whether the model was given the question's words.
        ignored: as in the question.
    """

    model: str
    results: list[Record]
    prompt_followed: bool
    ignored: list[str]

    @property
    def answers(self) -> list[tuple[Record, ...]]:
        """For each answer, best first, its caption of each picture."""
        said = [[one, *one.get("alternatives", ())] for one in self.results]
        return list(zip(*said, strict=False))

    @property
    def texts(self) -> list[str]:
        """The answers, best first: of several pictures a line each."""
        return ["\n".join(one["caption"] for one in answer) for answer in self.answers]

    @property
    def num_tokens(self) -> int:
        """Words of all answers, and an end of each caption."""
        return sum(len(one["words"]) + 1 for answer in self.answers for one in answer)

    def tokens(self, rank: int) -> list[Record]:
        """The words of an answer as tokens; what has no log-probability is left out.

        Their texts together are the answer's, where no clean-up has changed it.

        Args:
            rank: the answer's place in ``answers``.
        """
        tokens: list[Record] = []
        for said in self.answers[rank]:
            pairs = zip(said["words"], said["log_probs"], strict=False)
            for number, (word, value) in enumerate(pairs):
                text = f" {word}" if number else f"\n{word}" if tokens else word
                token = {"token": text, "logprob": value, "bytes": list(text.encode())}
                tokens.append({**token, "top_logprobs": []})
        return tokens

    def about(self) -> Record:
        """The field ``showtell`` of an answer, as ``About``."""
        return {
            "prompt_followed": self.prompt_followed,
            "ignored": self.ignored,
            "captions": self.results,
        }


class About(BaseModel):
    """What the forms of other servers have no place for."""

    prompt_followed: bool = Field(description="Whether the model was given the request's words.")
    ignored: list[str] = Field(description="Parameters of the request that mean nothing here.")
    captions: list[Said] = Field(description="As `/v1/captions` gives them.")


def words_of(text: str) -> list[str]:
    """A text in pieces for a stream: words, each with the space before it."""
    words = text.split(" ")
    return [word if number == 0 else f" {word}" for number, word in enumerate(words)]


@dataclass(frozen=True, slots=True)
class Clients:
    """What is granted to other servers' clients.

    Attributes:
        aliases: further names of models, for clients whose model's name cannot be changed; an
            empty value means the default model.
        hosts: from which pictures may be fetched, with or without a port.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset()

    def check(self, models: Iterable[str]) -> None:
        """Raise UsageError where an alias is for a model that is not loaded."""
        models = list(models)
        for alias, name in self.aliases.items():
            if name and name not in models:
                raise UsageError(f"--alias {alias}={name}: {unknown_name('model', name, models)}")


class Chat:
    """Answers questions with captions."""

    def __init__(self, service: Service, intake: Intake, clients: Clients) -> None:
        self.service, self._intake = service, intake
        self.limits: Limits = service.limits
        self.aliases, self._hosts = clients.aliases, clients.hosts
        self._fetching = ThreadPoolExecutor(4, thread_name_prefix="fetch")

    def stop(self) -> None:
        """Fetch no further pictures; waits for none."""
        self._fetching.shutdown(wait=False, cancel_futures=True)

    def model_named(self, name: str) -> str:
        """The model that a client means; ``:latest`` may stand behind its name.

        Raises:
            Problem: 404, there is none.
        """
        models = self.service.models
        if not name:
            return next(iter(models))
        for given in (name, name.removesuffix(":latest")):
            if given in models:
                return given
            if given in self.aliases:
                return self.aliases[given] or next(iter(models))
        known = [*models, *self.aliases]
        raise Problem(404, unknown_name("model", name, known), code="model_not_found")

    @asynccontextmanager
    async def asked(
        self, request: Request, client: str, kind: type[Asked]
    ) -> AsyncIterator[tuple[Asked, Callable[[int], None]]]:
        """A request's body, read and checked; and what further bytes in memory are told to.

        Raises:
            Problem: 400 it is no such JSON, and those of ``Intake``.
        """
        async with self._intake.body(request, client) as (body, count):
            asked = await self.service.aside(lambda: parsed(body, kind))
            body.clear()
            yield asked, count

    async def reply(self, question: Question, client: str, count: Callable[[int], None]) -> Reply:
        """The captions.

        Raises:
            Problem: there is no picture, or one of them has no caption; 413, the model would be
                given more words than a form's field may have.
        """
        name = self.model_named(question.model)
        if not question.pictures:
            raise Problem(400, "no picture: this server captions pictures and does nothing else")
        if len(question.pictures) > self.limits.pictures:
            raise too_many_pictures(self.limits)
        prompt = question.prompt.strip() if self.service.follows_prompts(name) else ""
        if len(prompt.encode("utf-8", "replace")) > self.limits.field_bytes:
            raise Problem(
                413,
                f"the words that go with the pictures have more than {self.limits.field_bytes:,} "
                "bytes, which is this server's limit",
            )
        form = Form(fields={"model": name})
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                for number, given in enumerate(question.pictures, 1):
                    data = await self._picture(given, f"picture {number}")
                    count(len(data))
                    form.pictures.append(Upload(f"picture {number}", data))
        except TimeoutError:
            seconds = self.limits.answer_seconds
            raise Problem(422, f"the pictures did not come within {seconds:g} seconds") from None
        if question.num_captions > 1:
            own = self.service.models[name].captioner.decoding
            form.fields["decoding"] = json.dumps(_for_several(question.num_captions, own))
        results = await self.service.results(form, client, prompt=prompt or None)
        for result in results:
            if "error" in result:
                raise result["error"]
        return Reply(name, results, bool(prompt), question.ignored)

    async def _picture(self, given: str, name: str) -> bytes:
        if given.lower().startswith(("http://", "https://")):
            loop = asyncio.get_running_loop()
            self._check_host(given, name)
            return await loop.run_in_executor(self._fetching, lambda: self._fetched(given, name))
        if len(given) * 3 // 4 > self.limits.picture_bytes + 100:
            raise large_picture(name, self.limits)
        return await self.service.aside(lambda: decoded(given, name))

    def _check_host(self, url: str, name: str) -> None:
        try:
            place = urlsplit(url).netloc.rpartition("@")[2].lower()
            host = urlsplit(url).hostname or ""
        except ValueError:
            raise Problem(400, f"{name}: {printable(url[:200])} is not an address") from None
        if not self._hosts & {place, host}:
            raise Problem(
                400,
                f"{name}: this server fetches nothing from {place or 'there'}; send the picture "
                "itself, in base64 (the server's owner can allow a host by --fetch-from)",
            )

    def _fetched(self, url: str, name: str) -> bytes:
        request = urllib.request.Request(url, headers={"User-Agent": "showtell"})
        most, until = self.limits.picture_bytes, time.monotonic() + FETCH_SECONDS
        try:
            with _OPENER.open(request, timeout=FETCH_SECONDS) as answer:
                data = bytearray()
                while chunk := answer.read1(CHUNK):
                    data += chunk
                    if len(data) > most:
                        raise large_picture(name, self.limits)
                    if time.monotonic() > until:
                        raise TimeoutError(f"not within {FETCH_SECONDS:g} seconds")
                return bytes(data)
        except urllib.error.HTTPError as error:
            raise Problem(422, f"{name}: its host answers {error.code}") from None
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Problem(422, f"{name}: cannot be fetched: {reason}") from None


class _Nowhere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it could lead to a host that is not allowed."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Nowhere())


def _for_several(num: int, own: DecodingConfig) -> dict[str, Any]:
    """Changes to a model's own settings for ``num`` captions; a search becomes no narrower.

    So the first caption of a beam that is wide enough is that of a request for one.
    """
    if own.method == "greedy":  # finds one caption alone
        return {"method": "beam", "num_captions": num, "beam_size": max(num, 3)}
    if own.method == "sample" or num <= own.beam_size:
        return {"num_captions": num}
    groups = own.groups or 1
    return {"num_captions": num, "beam_size": math.ceil(num / groups) * groups}


MOST_VALUES = 100_000


def parsed(body: bytes | bytearray, kind: type[Asked]) -> Asked:
    """A body as what it should be.

    Raises:
        Problem: 400, it is not; 413, it has so many values that they would take a hundred times the
            body's memory, and seconds in which no other thread gets far.
    """
    # An upper bound, as words may have these, too; a picture in base64 has none.
    if sum(map(body.count, (b"[", b"{", b","))) > MOST_VALUES:
        raise Problem(413, f"more than {MOST_VALUES:,} values or commas")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Problem(400, f"{where}: {first['msg']}" if where else first["msg"]) from None


_DATA_URL = re.compile(r"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)


def decoded(given: str, name: str) -> bytes:
    """The bytes of a picture in base64, or in a data URL.

    Raises:
        Problem: 400, it is neither.
    """
    head = _DATA_URL.match(given[:300])
    if head and head[1] is None:
        raise Problem(400, f"{name}: a data URL that is not in base64")
    text = given[head.end() :] if head else given
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, f"{name}: not base64") from None
    if not data:
        raise Problem(400, f"{name}: empty")
    return data
