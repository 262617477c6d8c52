"""The interface of every decoder.

Shapes use one alphabet: ``B`` rows of a batch (captions or hypotheses), ``P`` distinct pictures,
where several rows share one, ``R`` regions, ``T`` tokens, ``D`` feature width, ``H`` hidden width,
``V`` vocabulary. Search and training use a decoder through this interface alone.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from showtell.encoders.features import Features

State = dict[str, Tensor]  # dim 0 of every entry is the batch, so search can reorder any state


class HiddenStates(NamedTuple):
    """The result of teacher forcing.

    Attributes:
        states: (B, T, H) last hidden layer; undefined at padding.
        penalty: scalar that the decoder's paper adds to the mean cross-entropy of a token; None if
            it adds nothing. Only training uses it.
        first: (B, 1, H), the state before ``<start>``, where the loss counts its prediction too.
    """

    states: Tensor
    penalty: Tensor | None = None
    first: Tensor | None = None


class Decoder(nn.Module, ABC):
    """A conditional language model over captions.

    ``forward`` (teacher forcing) and ``init_state`` + ``step`` (search) give the same numbers.
    ``hidden_states`` and ``output`` are separate so that training can drop the padded positions
    before the largest product, the one with the vocabulary.

    All tensors of a decoder are parameters or buffers, so that a checkpoint has them.

    Attributes:
        needs_regions: whether it reads ``Features.regions``, so that these must be there.
        takes_captions: whether ``hidden_states`` takes ``captions`` (B, T) after ``tokens``: the
            true ids, where scheduled sampling has replaced some of ``tokens``. A decoder whose
            penalty depends on a caption's words needs them.
        needs_pooled_size: whether its constructor takes ``pooled_size``, the width of the pooled
            features, beside ``feature_size``, which is the width of regions if it needs regions.
        picture_state: names of the entries of the state that depend on the picture alone. They
            are equal in all hypotheses of a picture, so search may leave them at (P, ...) while
            the other entries have B = P K rows, K for each picture in the pictures' order.
        output: the last layer, (..., H) to (..., V) logits.
        gains_by_compiling: whether ``training.compile`` makes it faster.
    """

    needs_regions: bool = False
    takes_captions: bool = False
    needs_pooled_size: bool = False
    picture_state: frozenset[str] = frozenset()
    gains_by_compiling: bool = True
    output: nn.Module

    @abstractmethod
    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """Last hidden layer under teacher forcing.

        Args:
            features: of the P pictures that the B captions are about.
            tokens: (B, T) ids, ``<start>`` first, ``<pad>`` after the last word.

        Returns:
            States (B, T, H); position t predicts the token after ``tokens[:, t]``.
        """

    @abstractmethod
    def init_state(self, features: Features) -> State:
        """The state before the first token, one row for each of the P pictures."""

    @abstractmethod
    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Feed one token to each row: (B,) ids -> (B, H), and the state after it.

        A decoder that attends to regions puts its weights into the state as ``attention`` (B, R).
        They sum to one, or to less if it attends to concepts as well. The state before the first
        token has the entry too; if a caller removes it there, the weights need not be computed.
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
        """The number of trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
