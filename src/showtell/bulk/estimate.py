"""What a run at a model's server would send, cost and take, before it is begun.

A sample of the pictures is shrunk as they would be sent. How many tokens a picture is depends on
the model, so two rules give a range: one token for 28 x 28 pixels (Wang et al. 2024, "Qwen2-VL",
arXiv 2409.12191, section 2.1), and 85 tokens and 170 for each tile of 512 x 512 pixels (OpenAI's
guide "Images and vision", for GPT-4o). What ``measure`` finds out from real answers takes their
place.
"""

import math
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from showtell.errors import DataError, ImageError, UsageError
from showtell.inference.backends.remote import RemoteCaptioner, sent_bytes
from showtell.inference.captioner import Captioner
from showtell.inference.loading import ModelRequest, cleaning_of
from showtell.inference.specs import find_backend, spec_of
from showtell.inference.stream import Picture, opened

SAMPLE = 20  # pictures
TOKENS_A_SENTENCE, TOKENS_A_PARAGRAPH = 25, 150
CHARACTERS_A_TOKEN = 4  # of a prompt, about


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens, in any currency: of what is sent, and of what is answered."""

    tokens_in: float
    tokens_out: float

    @classmethod
    def of(cls, text: str) -> "Price":
        """A price as ``0.15,0.60``, or one number for both.

        Raises:
            UsageError: it is something else.
        """
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) not in (1, 2) or not all(0 <= value < math.inf for value in values):
            raise UsageError(
                f"--price {text}: expected the price of a million tokens sent, and received, such "
                "as 0.15,0.60"
            )
        return cls(values[0], values[-1])

    @classmethod
    def given(cls, text: str | None) -> "Price | None":
        """As ``of``; None of None."""
        return None if text is None else cls.of(text)

    def total(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens cost."""
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out) / 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """What real requests took.

    Attributes:
        num: answers.
        seconds: for all of them, as many at a time as in the run.
        tokens_in, tokens_out: of all of them; 0 where the server does not count.
    """

    num: int
    seconds: float
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would send, cost and take.

    Attributes:
        num: pictures to caption.
        num_seen: of which so many were looked at.
        num_bytes: of a picture as it is sent, on average.
        tokens_in: of a picture, from the one rule to the other.
        tokens_out: of an answer.
        measured: None where nothing was sent.
    """

    num: int
    num_seen: int
    num_bytes: float
    tokens_in: tuple[float, float]
    tokens_out: float
    measured: Measured | None = None

    def describe(self, captioner: RemoteCaptioner, price: Price | None) -> str:
        """Lines for the user."""
        low, high = (self.num * each for each in self.tokens_in)
        out = self.num * self.tokens_out
        about = _count(low) if low == high else f"{_count(low)} to {_count(high)}"
        by = "a rule of thumb"
        if self.measured is not None and self.measured.tokens_in:
            by = f"{self.measured.num:,} answers"
        lines = [
            f"{captioner.spec} at {captioner.endpoint.url}: {self.num:,} pictures, about "
            f"{self.num * self.num_bytes / 1e6:,.1f} MB to send ({self.num_seen:,} looked at)",
            f"about {about} tokens in and {_count(out)} out, by {by}",
        ]
        if price is not None:
            least, most = price.total(low, out), price.total(high, out)
            cost = _money(most) if low == high else f"{_money(least)} to {_money(most)}"
            lines.append(f"price: about {cost}")
        if self.measured is not None and self.measured.num:
            seconds = self.num * self.measured.seconds / self.measured.num
            rate = self.measured.num / self.measured.seconds
            lines.append(
                f"time: about {_duration(seconds)}, {rate:.2f} images/s with "
                f"{captioner.concurrency} requests at a time"
            )
        else:
            lines.append("time: not known; --measure 10 sends 10 pictures and measures it")
        return "\n".join(lines)


def remote_class(model: str | Path) -> type[RemoteCaptioner] | None:
    """The class of a captioner behind a server; None of any other model.

    Raises:
        ConfigError: no captioner has that prefix.
    """
    spec = spec_of(model)
    backend = None if spec is None else find_backend(spec.kind)
    if isinstance(backend, type) and issubclass(backend, RemoteCaptioner):
        return backend
    return None


def unasked(request: ModelRequest) -> RemoteCaptioner | None:
    """The captioner behind a server that is wanted, which is not asked for anything yet.

    Returns:
        None where the captioner is behind no server.

    Raises:
        ConfigError: a setting is impossible, or a key is missing.
    """
    spec, backend = spec_of(request.model), remote_class(request.model)
    if spec is None or backend is None:
        return None
    captioner = backend.unchecked(spec.name, request.settings)
    captioner.cleaning = cleaning_of(captioner, request.settings.prompt, request.cleaning)
    return captioner


def cost_of(captioner: Captioner, price: Price | None) -> str | None:
    """What a run has asked a server for, in a line; None: it asked none."""
    if not isinstance(captioner, RemoteCaptioner) or not captioner.usage.answers:
        return None
    usage = captioner.usage
    cost = ""
    if price is not None:
        cost = f"; price: {price.total(usage.tokens_in, usage.tokens_out):,.4f}"
    return usage.describe() + cost


class Sample:
    """A few of any number of pictures, each as likely as any other."""

    def __init__(self, most: int = SAMPLE) -> None:
        self.pictures: list[Picture] = []
        self.num = 0
        self._most = most
        self._chance = random.Random(0)

    def add(self, picture: Picture) -> None:
        """Look at one more (reservoir sampling: Vitter 1985, algorithm R)."""
        self.num += 1
        if len(self.pictures) < self._most:
            self.pictures.append(picture)
        elif (place := self._chance.randrange(self.num)) < self._most:
            self.pictures[place] = picture


def estimate(captioner: RemoteCaptioner, sample: Sample, *, measure: int = 0) -> Estimate:
    """What a run would send, cost and take.

    Args:
        sample: of the pictures to caption.
        measure: how many of the sample's pictures are sent for it.

    Raises:
        DataError: no picture of the sample can be read, or none that was sent has a caption.
        ServerError: pictures are to be sent, and the server cannot be used.
    """
    sizes: list[int] = []
    tokens: list[tuple[float, float]] = []
    prompt = len(captioner.prompt or "") / CHARACTERS_A_TOKEN
    for picture in sample.pictures:
        try:
            image = opened(picture, captioner.recipe.decode_side)
        except ImageError:
            continue
        view = captioner.recipe.eval_view(image)
        sizes.append(sent_bytes(view))
        rules = sorted((patches(*view.size), tiles(*view.size)))
        tokens.append((rules[0] + prompt, rules[1] + prompt))
    if sample.pictures and not sizes:
        raise DataError(f"none of {len(sample.pictures)} pictures can be read")
    measured = _measured(captioner, sample.pictures[:measure]) if measure else None
    is_long = captioner.cleaning.max_sentences is None
    out = float(TOKENS_A_PARAGRAPH if is_long else TOKENS_A_SENTENCE)
    span = (_mean(low for low, _ in tokens), _mean(high for _, high in tokens))
    if measured is not None and measured.tokens_in:
        span = (measured.tokens_in / measured.num,) * 2
        out = measured.tokens_out / measured.num
    return Estimate(sample.num, len(sizes), _mean(sizes), span, out, measured)


def _measured(captioner: RemoteCaptioner, pictures: Sequence[Picture]) -> Measured:
    captioner.check_server()
    started = time.perf_counter()
    results = list(captioner.caption_stream(pictures))
    seconds = time.perf_counter() - started
    usage = captioner.usage
    if not usage.answers:
        reason = next((result.error for result in results if result.error), "no picture")
        raise DataError(f"none of {len(results)} pictures that were sent has a caption: {reason}")
    return Measured(usage.answers, seconds, usage.tokens_in, usage.tokens_out)


def patches(width: int, height: int) -> float:
    """Tokens of a picture by Qwen2-VL's rule: one for 28 x 28 pixels."""
    return float(math.ceil(width / 28) * math.ceil(height / 28))


def tiles(width: int, height: int) -> float:
    """Tokens of a picture by GPT-4o's rule: shrunk to 768 pixels of its short side, then tiled."""
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    return 85.0 + 170.0 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _count(number: float) -> str:
    return f"{number / 1e6:,.1f} million" if number >= 1e6 else f"{number:,.0f}"


def _money(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{max(seconds, 0.1):,.1f} seconds"
