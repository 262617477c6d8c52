"""What a request asks for: its fields are checked, and the work that they cause is bounded.

The bounds are in ``Limits``. They apply to what a request itself asks for; a model's own settings
may exceed them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from showtell.config import DecodingConfig
from showtell.decoding.constraints.named_words import named_words
from showtell.errors import ConfigError, ShowtellError, unknown_name
from showtell.server.limits import Limits
from showtell.server.models import LoadedModel
from showtell.server.problems import Problem
from showtell.server.uploads import Form

NAMING_WORDS = ("forbidden_words", "required_words", "no_repeat_around")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for.

    Attributes:
        model: That answers.
        settings: For its captions.
        attention: Whether they say where the model looked.
        effort: What a picture's search may cost; 0 where the settings are the model's own.
    """

    model: LoadedModel
    settings: DecodingConfig
    attention: bool
    effort: int

    @property
    def names_words(self) -> bool:
        """Whether ``check_words`` has work to do."""
        return bool(
            self.settings.required_words
            or self.settings.forbidden_words
            or self.settings.no_bad_endings
            or self.settings.no_repeat_around != self.model.captioner.decoding.no_repeat_around
        )


def read_wish(form: Form, models: Mapping[str, LoadedModel], limits: Limits) -> Wish:
    """The fields of a form, but for ``check_words``.

    Raises:
        Problem: 422, one of them is wrong or asks for too much.
    """
    name = form.fields.get("model", next(iter(models)))
    if name not in models:
        raise Problem(422, unknown_name("model", name, models))
    model = models[name]
    attention = form.fields.get("attention", "false")
    if attention not in ("true", "false"):
        raise Problem(422, f"attention is {attention!r}: expected true or false")
    changes = _changes(form.fields.get("decoding", "{}"))
    own = model.captioner.decoding
    try:
        _check_numbers(changes, limits)  # first: what all models may do is more than is asked here
        settings = own.with_changes(changes)
        if model.captioner.vocabulary is None:  # else ``check_words`` does it
            model.captioner.check(settings)
        effort = 0 if settings == own else search_effort(settings)
        _check_settings(settings, changes, limits)
        if effort > max(limits.search_effort, search_effort(own)):
            raise ConfigError(
                f"a picture's search would cost {effort:,} and this server's limit is "
                f"{limits.search_effort:,}: {EFFORT}"
            )
    except ShowtellError as error:
        raise Problem(422, f"decoding: {error}") from None
    if attention == "true":
        _check_attention(model, settings, len(form.pictures), limits)
    return Wish(model, settings, attention == "true", effort)


def check_words(wish: Wish, limits: Limits) -> None:
    """Look up the words that the settings name, and build the table for the search.

    It takes up to a second, so it is no work for the thread that answers all clients.

    Raises:
        Problem: 422, a word that the model does not know, too large a table, or settings that no
            caption can meet.
    """
    captioner = wish.model.captioner
    is_own = wish.settings == captioner.decoding
    most = None if is_own else limits.table_bytes
    try:
        if captioner.vocabulary is None:
            captioner.check(wish.settings)
        else:
            named_words(wish.settings, captioner.vocabulary, max_table_bytes=most)
    except ShowtellError as error:
        raise Problem(422, f"decoding: {error}") from None


EFFORT = (
    "hypotheses (beam_size, or num_captions of method sample) times max_length, times one more "
    "than there are required_words, and twice that with method diverse or with top_p"
)


def search_effort(settings: DecodingConfig) -> int:
    """What a picture's search may cost: rows of the decoder's steps, about."""
    rows = {"greedy": 1, "sample": settings.num_captions}.get(settings.method, settings.beam_size)
    # A step of diverse search looks at its groups one after the other; top_p may sort all words.
    weight = 2 if settings.method == "diverse" or settings.top_p is not None else 1
    return weight * rows * (1 + len(settings.required_words)) * settings.max_length


def _changes(text: str) -> dict[str, Any]:
    try:
        changes = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(422, f"decoding is not JSON: {error}") from None
    if not isinstance(changes, dict):
        raise Problem(422, 'decoding: expected a JSON object such as {"beam_size": 5}')
    return changes


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _check_numbers(values: Mapping[str, Any], limits: Limits) -> None:
    """Raise ConfigError where a whole number goes past its limit."""
    for name, limit in (
        ("beam_size", limits.beam_size),
        ("num_captions", limits.beam_size),
        ("min_length", limits.caption_words),
        ("max_length", limits.caption_words),
        ("no_repeat_ngram", limits.caption_words),
    ):
        value = values.get(name)
        if isinstance(value, int) and value > limit:
            raise ConfigError(f"{name} = {value}: this server's limit is {limit}")


def _check_settings(settings: DecodingConfig, changes: Mapping[str, Any], limits: Limits) -> None:
    """Raise ConfigError where one that the request changes goes past its limit."""
    _check_numbers({name: getattr(settings, name) for name in changes}, limits)
    named = 0
    for name in NAMING_WORDS:
        if name not in changes:
            continue
        phrases = getattr(settings, name)
        if len(phrases) > limits.named_words:
            raise ConfigError(f"{name}: this server's limit is {limits.named_words} of them")
        if any(len(phrase) > limits.phrase_characters for phrase in phrases):
            raise ConfigError(
                f"{name}: this server's limit is {limits.phrase_characters} characters each"
            )
        named += sum(map(len, phrases))
    if named > limits.named_characters:
        raise ConfigError(
            f"{', '.join(NAMING_WORDS)} have {named:,} characters together: this server's limit "
            f"is {limits.named_characters:,}"
        )


def _check_attention(
    model: LoadedModel, settings: DecodingConfig, num_pictures: int, limits: Limits
) -> None:
    if not model.captioner.attends:
        kind = model.captioner.decoder_kind
        raise Problem(
            422, f"attention: decoder {kind!r} of {model.name!r} does not attend to regions"
        )
    num = num_pictures * settings.num_captions
    if num > max(limits.attention_captions, limits.pictures):
        raise Problem(
            422,
            f"attention: {num} captions; this server gives the attention of up to "
            f"{limits.attention_captions} a request",
        )
