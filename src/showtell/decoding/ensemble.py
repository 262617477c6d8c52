"""An ensemble: at each step, the probabilities of several decoders are averaged.

The arithmetic mean of probabilities, as in Vinyals et al. 2016 (arXiv 1609.06647, section 4.3).
The decoders share one vocabulary and one encoder.
"""

import math
from collections.abc import Sequence

from showtell.decoding.arrays import Array, State, arrays_of
from showtell.decoding.hypotheses import ATTENTION, Steps
from showtell.encoders.features import Features
from showtell.errors import CheckpointError


class Ensemble:
    """Several decoders that search sees as one.

    Args:
        decoders: in eval mode; their ids mean the same words.
    """

    def __init__(self, decoders: Sequence[Steps]) -> None:
        assert decoders
        self.decoders = tuple(decoders)
        self.picture_state = frozenset(
            f"{number}.{name}"
            for number, decoder in enumerate(decoders)
            for name in getattr(decoder, "picture_state", ())
        )

        limits = (getattr(decoder, "max_tokens", None) for decoder in decoders)
        self.max_tokens = min((limit for limit in limits if limit is not None), default=None)

    def init_state(self, features: Features) -> State:
        """The states of all decoders, each under its number, and one common attention."""
        states = [decoder.init_state(features) for decoder in self.decoders]
        entries = {
            f"{number}.{name}": part
            for number, state in enumerate(states)
            for name, part in state.items()
        }
        attention = [state[ATTENTION] for state in states if ATTENTION in state]
        return {**entries, ATTENTION: attention[0]} if attention else entries

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        """(N,) ids -> (N, V) log of the mean probability; attention is averaged likewise.

        Raises:
            CheckpointError: the decoders' vocabularies are of different sizes.
        """
        total: Array | None = None
        new_state: State = {}
        attention = []
        for number, decoder in enumerate(self.decoders):
            start = f"{number}."
            own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            if ATTENTION not in state:
                own.pop(ATTENTION, None)
            log_probs, own = decoder.step(tokens, own)
            if ATTENTION in state and ATTENTION in own:
                attention.append(own[ATTENTION])
            new_state.update({start + name: part for name, part in own.items()})
            if total is None:
                total = log_probs
                continue
            if total.shape != log_probs.shape:
                raise CheckpointError(
                    f"models of an ensemble need one vocabulary: one has {total.shape[1]} words, "
                    f"another {log_probs.shape[1]}"
                )
            total = arrays_of(total).xp.logaddexp(total, log_probs)
        assert total is not None
        if attention:
            new_state[ATTENTION] = arrays_of(total).xp.stack(attention).mean(axis=0)
        if len(self.decoders) > 1:
            total -= math.log(len(self.decoders))
        return total, new_state
