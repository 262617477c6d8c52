"""Hand-written forms of what training repeats most, and the switch between them and plain forms.

Each fast form equals a plain form beside it in ``decoders/``, which is the reference: the tests
compare the two, values and gradients. ``takes`` decides which of them runs; ``plain_forms``
turns fast forms off, for tests and for benchmarks/up_down.py, which measures what each form gains.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Form:
    """Where a fast form runs.

    Attributes:
        devices: types of device; empty: any.
        training_only: whether it is faster with gradients alone.
        compiles: whether it runs within torch.compile too.
    """

    devices: frozenset[str] = frozenset({"cpu"})
    training_only: bool = True
    compiles: bool = False


ANY_DEVICE: frozenset[str] = frozenset()
FORMS = {
    "dropout": Form(training_only=False),
    "attention": Form(compiles=True),
    "lstm_cell": Form(ANY_DEVICE),
    "deferred_weight_grads": Form(ANY_DEVICE),
    "unrolled_attention": Form(ANY_DEVICE),
}
_turned_off: set[str] = set()


def takes(name: str, device: torch.device) -> bool:
    """Whether the fast form ``name``, a key of ``FORMS``, runs on ``device`` at this moment."""
    form = FORMS[name]
    return (
        (form.compiles or not torch.compiler.is_compiling())
        and (not form.devices or device.type in form.devices)
        and (not form.training_only or torch.is_grad_enabled())
        and name not in _turned_off
    )


@contextmanager
def plain_forms(*names: str) -> Iterator[None]:
    """Use the plain forms of ``names``; without names, of all."""
    chosen = set(names or FORMS) - _turned_off
    assert chosen <= FORMS.keys(), names
    _turned_off.update(chosen)
    try:
        yield
    finally:
        _turned_off.difference_update(chosen)
