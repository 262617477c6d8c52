"""The server's models: captioners under the names that requests ask for them by."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.remote import RemoteCaptioner
from showtell.inference.captioner import Captioner
from showtell.inference.loading import ModelRequest, cleaning_of, load_request
from showtell.inference.specs import find_backend, spec_of

SECONDS_BEHIND = 25.0
"""For an answer of a model behind a server; it is asked twice, and clients wait for a minute."""

LONGEST_WAIT_BEHIND = 5.0
"""Seconds that such a server may ask to wait; where it asks for more, the client is told."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A captioner under the name that requests ask for it by.

    Attributes:
        cleaning: changes to what usually becomes of its texts, which depends on the prompt.
    """

    name: str
    captioner: Captioner
    cleaning: Mapping[str, Any] = field(default_factory=dict)

    def with_prompt(self, prompt: str) -> "LoadedModel":
        """The same model with other instructions; itself where it takes none."""
        if not self.captioner.follows_instructions:
            return self
        if (captioner := self.captioner.with_prompt(prompt)) is self.captioner:
            return self
        captioner.cleaning = cleaning_of(captioner, prompt, self.cleaning)
        return replace(self, captioner=captioner)

    @property
    def lane(self) -> str | None:
        """What it shares the batcher's thread with: its own name where another machine computes."""
        return self.name if self.captioner.runtime is None else None

    @property
    def concurrency(self) -> int | None:
        """Pictures that its server is asked about at a time, each by itself; None: in batches."""
        return self.captioner.concurrency if isinstance(self.captioner, RemoteCaptioner) else None

    @property
    def crop(self) -> float | None:
        """The share of a picture's short side that it sees; None: the whole picture."""
        recipe = self.captioner.recipe
        return recipe.crop if isinstance(recipe, Preprocessing) and not recipe.squash else None


def load_models(models: Sequence[ModelRequest]) -> dict[str, LoadedModel]:
    """Load models, and caption a grey square with each so that the first request is no slower.

    Those that were trained with the same encoder share it, if they are to compute on the same
    device in the same precision.

    Returns:
        The models by the names that requests know them by; the first is the default.

    Raises:
        CheckpointError: a model is not there, or damaged.
        ConfigError: a model cannot run so.
        MissingExtraError: it needs torch, and torch is not installed.
    """
    loaded: dict[str, LoadedModel] = {}
    by_place: defaultdict[tuple[str, str], list[Captioner]] = defaultdict(list)
    for request in models:
        beside = by_place[request.device, request.precision]
        captioner = load_request(_impatient(request), beside)
        if isinstance(captioner, RemoteCaptioner):
            captioner.patience = replace(captioner.patience, longest_wait=LONGEST_WAIT_BEHIND)
        captioner.caption(Image.new("RGB", (64, 64), "grey"))
        beside.append(captioner)
        name = _unique(captioner.card.name, loaded)
        loaded[name] = LoadedModel(name, captioner, request.cleaning)
    return loaded


def _impatient(request: ModelRequest) -> ModelRequest:
    """A model behind a server is to answer, or to fail, before a client gives up."""
    spec, settings = spec_of(request.model), request.settings
    if spec is None or "retries" not in find_backend(spec.kind).takes:
        return request
    settings = settings.with_changes(
        timeout=SECONDS_BEHIND if settings.timeout is None else settings.timeout,
        retries=1 if settings.retries is None else settings.retries,
    )
    return replace(request, settings=settings)


def _unique(name: str, taken: dict[str, LoadedModel]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique
