"""What every encoder gives and every decoder does.

Shapes use one alphabet: ``B`` images (or rows of a batch), ``R`` regions, ``T`` tokens, ``D``
feature width, ``H`` hidden width, ``V`` vocabulary. Knows nothing of vocabularies, search or
training.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

State = dict[str, Tensor]  # the batch is dim 0 of every entry: one reorder serves every decoder


class Features(NamedTuple):
    """What an encoder says of ``B`` pictures.

    Attributes:
        pooled: (B, D) one vector a picture.
        regions: (B, R, D') grid features, None where the decoder needs none.
        mask: (B, R) True where a region is real, None where all are.
    """

    pooled: Tensor
    regions: Tensor | None = None
    mask: Tensor | None = None

    def to(self, device: torch.device | str) -> "Features":
        """The same features on another device."""
        return Features(
            self.pooled.to(device),
            None if self.regions is None else self.regions.to(device),
            None if self.mask is None else self.mask.to(device),
        )


class Decoder(nn.Module, ABC):
    """A conditional language model over captions.

    ``forward`` (teacher forcing) and ``init_state`` + ``step`` (search) give the same numbers.
    ``hidden_states`` and ``output`` are apart so that training can drop the padded positions
    before the largest product, that with the vocabulary.

    Attributes:
        needs_regions: Whether ``Features.regions`` must be there.
        output: The last layer, (..., H) to (..., V) logits.
    """

    needs_regions: bool = False
    output: nn.Module

    @abstractmethod
    def hidden_states(self, features: Features, tokens: Tensor) -> Tensor:
        """Last hidden layer under teacher forcing.

        Args:
            features: of ``B`` pictures.
            tokens: (B, T) ids, ``<start>`` first.

        Returns:
            (B, T, H); position t is to predict the token after ``tokens[:, t]``.
        """

    @abstractmethod
    def init_state(self, features: Features) -> State:
        """The state before the first token, for ``B`` pictures."""

    @abstractmethod
    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Feed one token a row: (B,) ids -> (B, H), and the state after it."""

    def forward(self, features: Features, tokens: Tensor) -> Tensor:
        """Teacher forcing: (B, T) ids -> (B, T, V) logits of each next token."""
        logits: Tensor = self.output(self.hidden_states(features, tokens))
        return logits

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of search: (B,) ids -> (B, V) log-probabilities in nats, and the new state."""
        hidden, state = self.step_hidden(tokens, state)
        return self.output(hidden).float().log_softmax(dim=-1), state

    def num_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
