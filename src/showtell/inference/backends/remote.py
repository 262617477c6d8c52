"""Captioners that a server computes: pictures are shrunk, sent as JPEG, and asked about.

``RemoteCaptioner`` has what all of them share: so many requests at a time, parameters that a server
does not take, and the caption that an answer becomes. The forms of questions and answers are the
subclasses' (``openai.py``, ``ollama.py``; ``remote_answer.py`` is what both read in an answer).
``remote_run.py`` keeps results in order, and knows when a run ends because no picture gets through;
everything about HTTP is ``remote_client.py``'s, and how fast it asks ``remote_pace.py``'s.
"""

import base64
import hashlib
import io
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image

from showtell.config import DecodingConfig
from showtell.errors import ConfigError, ServerError
from showtell.inference.backends.pictures import PictureCaptioner, WholePicture, read_calibration
from showtell.inference.backends.remote_answer import Answer, word_log_probs
from showtell.inference.backends.remote_client import (
    Client,
    Endpoint,
    RequestFailed,
    Worker,
    worker,
)
from showtell.inference.backends.remote_pace import Patience
from showtell.inference.backends.remote_run import OrderedResults, Outcome, Requests
from showtell.inference.caption import Caption, geometric_mean
from showtell.inference.captioner import ModelInfo
from showtell.inference.specs import CONCURRENCY, MAX_SIDE, PROMPTS, BackendSettings
from showtell.inference.stream import (
    Described,
    Picture,
    PictureResult,
    Streaming,
    prepared_ahead,
)
from showtell.text.clean import as_text

if TYPE_CHECKING:
    from showtell.inference.loading import ModelRequest

TAKES = frozenset({"prompt", "base_url", "max_side", "concurrency", "timeout", "retries"})
UNDERSTOOD = frozenset({"method", "max_length", "temperature", "top_k", "top_p", "seed"})
"""The decoding settings that mean the same to a server."""

QUALITY = 90  # of JPEG
MAX_WORDS = 100
TOKENS_A_WORD = 2  # room enough for any language's words; a caption ends where the model ends it


@dataclass(slots=True)
class Usage:
    """What a captioner has asked for so far.

    Attributes:
        answers: that had a caption.
        tokens_in, tokens_out: as the server counts them.
    """

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def describe(self) -> str:
        """One line for the user."""
        return (
            f"{self.answers:,} answers, {self.tokens_in:,} tokens in and {self.tokens_out:,} out, "
            "as the server counts"
        )


class RemoteCaptioner(PictureCaptioner):
    """Captions pictures by asking a server.

    Args:
        model: its name at the server.
        endpoint: the server.
        settings: how it is asked.

    Attributes:
        usage: what was asked for so far.

    Raises:
        ConfigError: a setting is impossible.
    """

    takes = TAKES
    kind: ClassVar[str]

    def __init__(self, model: str, endpoint: Endpoint, settings: BackendSettings) -> None:
        self.model, self.endpoint = model, endpoint
        self.spec = f"{self.kind}:{model}"
        self.prompt = settings.instruction or PROMPTS["short"]
        self.recipe = WholePicture(MAX_SIDE.chosen(settings.max_side))
        self.concurrency = CONCURRENCY.chosen(settings.concurrency)
        self.batch_size = 4 * self.concurrency
        self.patience = Patience.of(settings)
        self.usage = Usage()
        self.digest = ""  # of the weights, where the server tells
        self._refused: set[str] = set()  # parameters that the server does not take

    @property
    def card(self) -> ModelInfo:
        """What is known without asking the server's maker."""
        return ModelInfo(
            name=self.model,
            prompt=True,
            kind=self.kind,
            calibrated=self.calibration is not None,
            revision=self.digest or None,
            likelihoods="logprobs" not in self._refused,
            decoding=UNDERSTOOD,
        )

    @property
    def decoding(self) -> DecodingConfig:
        """The likeliest words, up to 100 of them."""
        return DecodingConfig(method="greedy", max_length=MAX_WORDS)

    @property
    def fingerprint(self) -> str:
        """12 digits that stand for model, question and how pictures are shrunk.

        The server's address is not part of it: a run goes on where the model has moved.
        """
        side = self.recipe.max_side
        parts = [self.kind, self.model, self.digest, self.prompt, side, QUALITY]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @classmethod
    def of(cls, request: "ModelRequest") -> Self:
        """The captioner that a user asks for, with its server looked at.

        Raises:
            ConfigError: a setting is impossible, or a key is missing.
            ServerError: the server cannot be used.
        """
        captioner = cls.unchecked(str(request.model).partition(":")[2], request.settings)
        captioner.check_server()
        return captioner

    @classmethod
    def unchecked(cls, model: str, settings: BackendSettings) -> Self:
        """A captioner whose server was not asked for anything yet; raises ConfigError."""
        return cls(model, cls.endpoint_of(settings.base_url), settings)

    @staticmethod
    @abstractmethod
    def endpoint_of(base_url: str | None) -> Endpoint:
        """The server at an address; None: the one that the environment names, or the usual one.

        Raises:
            ConfigError: it is not an address, or a key is missing.
        """

    @abstractmethod
    async def _check_server(self, client: Client) -> None:
        """Raise ServerError where the server shows at once that it cannot caption."""

    @abstractmethod
    def _question(
        self, jpeg: str, settings: DecodingConfig, number: int
    ) -> tuple[str, dict[str, Any]]:
        """The path and the body of a request."""

    @abstractmethod
    def _answer(self, value: Mapping[str, Any]) -> Answer:
        """What an answer says.

        Raises:
            RequestFailed: it says that there is no caption.
            KeyError, TypeError, ValueError, IndexError: it is no such answer.
        """

    def check_server(self) -> None:
        """Ask the server whether it is there and has the model; no picture is sent.

        Then it is known what the model is, and which calibration is its.

        Raises:
            ServerError: it is not, or has not.
        """

        async def check() -> None:
            seconds = self._check_seconds
            patience = replace(self.patience, timeout=seconds, longest_wait=seconds)
            client = Client(self.endpoint, patience)
            try:
                await self._check_server(client)
            finally:
                await client.close()

        with worker() as threads:
            threads.start(check()).result()
        self.calibration = read_calibration(self.spec, self.fingerprint)

    @property
    def _check_seconds(self) -> float:
        return min(self.patience.timeout, 10.0)

    def describe_runtime(self) -> str:
        """As ``Captioner.describe_runtime``."""
        return f"Captions by {self.spec} at {self.endpoint.url}, {self.concurrency} at a time"

    def caption_images(
        self, images: Sequence[Image.Image], *, decoding: DecodingConfig, first: int = 0
    ) -> Described:
        """As ``PictureCaptioner.caption_images``.

        Raises:
            ServerError: no picture can be captioned there, or all of these fail by its fault.
        """
        with worker() as threads, self._requests(threads, decoding) as requests:
            asked = [requests.ask(_jpeg(image), first + n) for n, image in enumerate(images)]
            outcomes = [future.result() for future in asked]
        if outcomes and all(outcome.is_servers_fault for outcome in outcomes):
            raise ServerError(f"{self.endpoint.url}, model {self.model!r}: {outcomes[0].said}")
        return [outcome.said for outcome in outcomes]

    def stream_pictures(
        self, pictures: Iterator[Picture], how: Streaming
    ) -> Iterator[PictureResult]:
        """As ``Captioner.stream_pictures``; in place of ``batch_size``, ``concurrency`` counts.

        Raises:
            ServerError: no picture gets through any more.
        """
        window = 2 * self.concurrency
        prepared = prepared_ahead(
            pictures,
            lambda image: _jpeg(self.recipe.eval_view(image)),
            min_side=self.recipe.decode_side,
            originals=how.originals,
            batch_size=self.concurrency,
            overlaps=True,  # with waiting for answers, however few cores there are
        )
        with (
            worker() as threads,
            self._requests(threads, how.decoding, how.is_stopped) as requests,
        ):
            results = OrderedResults(self.endpoint.url, requests.ask)
            for picture in prepared:
                if how.is_stopped():  # of what was read ahead nothing is asked
                    break
                results.add(picture)
                while len(results) > window or results.is_first_done:
                    yield from results.take()
            while len(results):
                yield from results.take()
            yield from results.rest()

    def _requests(
        self,
        threads: Worker,
        settings: DecodingConfig,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Requests:
        connect = partial(Client, self.endpoint, self.patience, self.concurrency, tell=self.tell)
        return Requests(threads, connect, partial(self._outcome, settings), is_stopped)

    async def _outcome(
        self, settings: DecodingConfig, client: Client, jpeg: str, number: int
    ) -> Outcome:
        """What comes of asking about a picture.

        Raises:
            ServerError: no picture can be captioned there.
        """
        try:
            answer = await self._ask(settings, client, jpeg, number)
            caption = self.caption_of(answer, settings)
        except RequestFailed as error:
            if error.status in (404, 405):
                raise ServerError(
                    f"{self.endpoint.url}, model {self.model!r}: {str(error).rstrip('.')}; is it "
                    "the right --base-url and model?"
                ) from None
            return Outcome(str(error), is_servers_fault=error.is_servers)
        self.usage.answers += 1
        self.usage.tokens_in += answer.tokens_in
        self.usage.tokens_out += answer.tokens_out
        return Outcome(caption)

    async def _ask(
        self, settings: DecodingConfig, client: Client, jpeg: str, number: int
    ) -> Answer:
        """The answer to a question, asked again without each parameter that is refused."""
        while True:
            path, body = self._question(jpeg, settings, number)
            try:
                value = await client.post(path, body)
                return self._answer(value)
            except RequestFailed as error:
                if not self._learn(error, body):
                    raise
            except (KeyError, TypeError, ValueError, IndexError, AttributeError):
                shown = self.endpoint.shown(json.dumps(value))
                raise RequestFailed(
                    f"the server's answer has no caption: {shown}", is_servers=True
                ) from None

    def check(self, decoding: DecodingConfig, attention: bool = False) -> None:
        """As ``PictureCaptioner.check``."""
        super().check(decoding, attention)
        if decoding.method not in ("greedy", "sample"):
            raise ConfigError(
                f"method = {decoding.method}: {self.spec} cannot be asked for that, only for "
                "greedy and sample"
            )

    def _optional(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that are given, without those that the server has refused."""
        return {
            name: value
            for name, value in values.items()
            if value is not None and (name not in self._refused or _is_chosen(name, value))
        }

    def _learn(self, error: RequestFailed, body: Mapping[str, Any]) -> bool:
        """Whether the server refuses a parameter that another request does without."""
        if error.status not in (400, 422) or error.refusal is None:
            return False
        for name in ("logprobs", "max_tokens", "temperature", "think"):
            if name in body and not _is_chosen(name, body[name]) and error.refusal.is_of(name):
                self._refused.add(name)
                return True
        return False

    def caption_of(self, answer: Answer, settings: DecodingConfig) -> Caption:
        """The caption in an answer.

        Raises:
            RequestFailed: there is none.
            ConfigError: a confidence is wanted, and the server does not tell how sure it is.
        """
        # What ``as_text`` leaves out may have stood within the key.
        text = self.endpoint.scrubbed(as_text(answer.text)).strip()
        if not text:
            cut = (
                f" within {settings.max_length * TOKENS_A_WORD} tokens (a model that thinks first "
                "needs more: raise max_length)"
            )
            raise RequestFailed(f"the model said nothing{cut * answer.is_cut}", is_servers=False)
        log_probs = word_log_probs(answer.tokens)
        sure = geometric_mean(log_probs) if log_probs else math.nan
        if settings.min_confidence and not log_probs:
            raise ConfigError(
                f"min_confidence = {settings.min_confidence:g}: {self.endpoint.url} gives no "
                "log-probabilities, so it is not known how sure the model is"
            )
        caption = Caption(text, tuple(text.split()), log_probs, sure, is_cut=answer.is_cut)
        return self.finished(caption, settings)


def _jpeg(image: Image.Image) -> str:
    """A picture as it is sent: JPEG in base64.

    Args:
        image: RGB, shrunk already.
    """
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def sent_bytes(image: Image.Image) -> int:
    """How many bytes of a request a picture is.

    Args:
        image: RGB, shrunk already.
    """
    return len(_jpeg(image))


def _is_chosen(name: str, value: Any) -> bool:
    """Whether a parameter is what somebody asked for, so that it cannot be left out."""
    return name == "temperature" and value != 0
