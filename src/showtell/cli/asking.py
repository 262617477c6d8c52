"""What a run at a model's server will cost and take, told before it and after it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from showtell.bulk.estimate import Price, Sample, estimate
from showtell.inference.backends.remote import RemoteCaptioner
from showtell.inference.captioner import usual_cleaning
from showtell.inference.specs import BackendSettings, find_backend, spec_of

if TYPE_CHECKING:
    from showtell.cli.caption import Asking, Request
    from showtell.inference.captioner import Captioner


@dataclass(frozen=True)
class Asked:
    """The captioner behind a server, which is not asked for anything yet, and a sample for it."""

    captioner: RemoteCaptioner
    sample: Sample = field(default_factory=Sample)

    @classmethod
    def of(cls, request: "Request") -> Self | None:
        """That of a request; None if its captioner is behind no server."""
        spec = spec_of(request.model.name)
        backend = None if spec is None else find_backend(spec.kind)
        if spec is None or not isinstance(backend, type):
            return None
        if not issubclass(backend, RemoteCaptioner):
            return None
        settings = BackendSettings.of(request.model.settings)
        captioner = backend.unchecked(spec.name, settings)
        captioner.cleaning = usual_cleaning(settings.prompt).with_changes(request.model.cleaning)
        return cls(captioner)

    def estimate(self, asking: "Asking") -> str:
        """What would be sent, cost and take."""
        is_long = self.captioner.cleaning.max_sentences is None
        found = estimate(self.captioner, self.sample, detailed=is_long, measure=asking.measure)
        price = None if asking.price is None else Price.of(asking.price)
        return found.describe(self.captioner, price)


def cost_of(captioner: "Captioner", price: str | None) -> str | None:
    """What a run has asked a server for, in a line; None: it asked none."""
    if not isinstance(captioner, RemoteCaptioner) or not captioner.usage.answers:
        return None
    usage = captioner.usage
    cost = ""
    if price is not None:
        cost = f"; price: {Price.of(price).total(usage.tokens_in, usage.tokens_out):,.4f}"
    return usage.describe() + cost
