"""What every encoder gives and every decoder does.

Shapes use one alphabet: ``B`` images (or rows of a batch), ``P`` distinct images where several
rows of a batch share one, ``R`` regions, ``T`` tokens, ``D`` feature width, ``H`` hidden width,
``V`` vocabulary. Knows nothing of vocabularies, search or training.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from showtell.encoders.features import Features

State = dict[str, Tensor]  # the batch is dim 0 of every entry: one reorder serves every decoder


class HiddenStates(NamedTuple):
    """What teacher forcing gives.

    Attributes:
        states: (B, T, H) last hidden layer; whatever it likes where a token is padding.
        penalty: scalar, what the decoder's own paper adds to the mean cross-entropy of a token;
            None where it adds nothing. Only training asks for it.
    """

    states: Tensor
    penalty: Tensor | None = None


class Decoder(nn.Module, ABC):
    """A conditional language model over captions.

    ``forward`` (teacher forcing) and ``init_state`` + ``step`` (search) give the same numbers.
    ``hidden_states`` and ``output`` are apart so that training can drop the padded positions
    before the largest product, that with the vocabulary.

    Attributes:
        needs_regions: Whether ``Features.regions`` must be there.
        picture_state: Names of the entries of the state that follow from the picture alone. They
            are equal in all hypotheses of a picture, so search may leave them at (P, ...) while
            the rest has B = P K rows, K for each picture in the pictures' order.
        output: The last layer, (..., H) to (..., V) logits.
        gains_by_compiling: Whether ``training.compile`` has anything to do here.
    """

    needs_regions: bool = False
    picture_state: frozenset[str] = frozenset()
    gains_by_compiling: bool = True
    output: nn.Module

    @abstractmethod
    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """Last hidden layer under teacher forcing.

        Args:
            features: of the pictures that ``B`` captions are about.
            tokens: (B, T) ids, ``<start>`` first, ``<pad>`` after the last word.

        Returns:
            States (B, T, H); position t is to predict the token after ``tokens[:, t]``.
        """

    @abstractmethod
    def init_state(self, features: Features) -> State:
        """The state before the first token, a row for each of ``P`` pictures."""

    @abstractmethod
    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Feed one token a row: (B,) ids -> (B, H), and the state after it.

        A decoder that attends gives in the state, as ``attention`` (B, R), what it looked at; it
        sums to one, or to less where concepts were looked at as well. The first state has it, too;
        one that comes without asks for none.
        """

    def forward(self, features: Features, tokens: Tensor) -> Tensor:
        """Teacher forcing: (B, T) ids -> (B, T, V) logits of each next token."""
        logits: Tensor = self.output(self.hidden_states(features, tokens).states)
        return logits

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of search: (B,) ids -> (B, V) log-probabilities in nats, and the new state."""
        hidden, state = self.step_hidden(tokens, state)
        return self.output(hidden).float().log_softmax(dim=-1), state

    def num_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
