"""Beam search over a batch of pictures at once; greedy search is a beam of 1.

The search is the usual one of sequence models (Sutskever et al. 2014, section 3.2): at each step
the ``2 K`` best continuations of a picture's ``K`` hypotheses are taken; those that end and lie
among the first ``K`` are finished, the best ``K`` others live on; a picture is done when ``K``
hypotheses are finished. Pictures that are done leave the batch. Knows a decoder only by
``init_state`` and ``step``, and nothing of words.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from showtell.models.base import Features, State
from showtell.text.vocabulary import END, PAD, START, UNK

NEVER = float("-inf")


class Hypotheses(NamedTuple):
    """The ``K`` best captions of each of ``B`` pictures, best first.

    Attributes:
        tokens: (B, K, T) ids without ``<start>``; ``<end>`` is kept, then ``<pad>``.
        token_log_probs: (B, K, T) log-probability of each token in nats, 0 on padding.
        log_probs: (B, K) their sum, ``<end>`` included; -inf where there are fewer than K.
        scores: (B, K) what they are ordered by: log_probs / length ** length_penalty.
    """

    tokens: Tensor
    token_log_probs: Tensor
    log_probs: Tensor
    scores: Tensor


class Steps(Protocol):
    """What search needs of a decoder."""

    def init_state(self, features: Features) -> State:
        """The state before the first token."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) ids -> (B, V) log-probabilities, and the new state."""


@torch.inference_mode()
def beam_search(
    decoder: Steps,
    features: Features,
    *,
    beam_size: int,
    max_length: int,
    length_penalty: float = 0.0,
    banned: tuple[int, ...] = (PAD, START, UNK),
) -> Hypotheses:
    """Find the most probable captions.

    Args:
        decoder: in eval mode.
        features: of ``B`` pictures.
        beam_size: K.
        max_length: words at most; after so many only ``<end>`` may follow.
        length_penalty: alpha; a finished hypothesis of n tokens (``<end>`` counted) scores
            log p / n**alpha.
        banned: ids that never come out.
    """
    num_images, device = features.pooled.shape[0], features.pooled.device
    state = decoder.init_state(features)
    beams = _Beams(num_images, beam_size, max_length + 1, length_penalty, device)
    rows = torch.arange(num_images, device=device).repeat_interleave(beam_size)
    state = {name: part[rows] for name, part in state.items()}
    for length in range(max_length + 1):
        if beams.active.numel() == 0:
            break
        log_probs, state = decoder.step(beams.last_tokens(), state)
        log_probs[:, list(banned)] = NEVER
        if length == max_length:
            log_probs = _only_end(log_probs)
        rows = beams.advance(log_probs)
        state = {name: part[rows] for name, part in state.items()}
    return beams.finished()


def _only_end(log_probs: Tensor) -> Tensor:
    only = torch.full_like(log_probs, NEVER)
    only[:, END] = log_probs[:, END]
    return only


class _Beams:
    """Live and finished hypotheses of a batch; ``A`` pictures are still active."""

    def __init__(
        self, num_images: int, beam_size: int, length: int, penalty: float, device: torch.device
    ) -> None:
        self.beam_size, self.penalty = beam_size, penalty
        self.length = 0
        self.active = torch.arange(num_images, device=device)
        shape = (num_images, beam_size)
        # Live hypotheses, (A, K, ...). One is live at the start; the others are its copies and
        # must not be counted twice.
        self.log_probs = torch.full(shape, NEVER, device=device)
        self.log_probs[:, 0] = 0.0
        self.tokens = torch.full((*shape, length), PAD, device=device)
        self.token_log_probs = torch.zeros((*shape, length), device=device)
        # Finished hypotheses of every picture, (B, K, ...), the best first.
        self.done = Hypotheses(
            tokens=self.tokens.clone(),
            token_log_probs=self.token_log_probs.clone(),
            log_probs=torch.full(shape, NEVER, device=device),
            scores=torch.full(shape, NEVER, device=device),
        )
        self.num_done = torch.zeros(num_images, dtype=torch.long, device=device)

    def last_tokens(self) -> Tensor:
        """(A K,) the token to feed next."""
        if self.length == 0:
            return torch.full((self.log_probs.numel(),), START, device=self.tokens.device)
        return self.tokens[:, :, self.length - 1].reshape(-1)

    def advance(self, log_probs: Tensor) -> Tensor:
        """Take one step.

        Args:
            log_probs: (A K, V) of the next token.

        Returns:
            (A' K,) for each hypothesis that lives on, the row of ``log_probs`` it comes from.
        """
        num_active, beam_size = self.log_probs.shape
        vocab_size = log_probs.shape[-1]
        step_log_probs = log_probs.view(num_active, beam_size * vocab_size)
        totals = self.log_probs.repeat_interleave(vocab_size, dim=1) + step_log_probs
        totals, index = totals.topk(min(2 * beam_size, totals.shape[1]), dim=1)
        beam, token = index // vocab_size, index % vocab_size
        last = step_log_probs.gather(1, index)
        self.length += 1

        is_end = token == END
        self._finish(beam, last, totals.masked_fill(~is_end, NEVER))

        # At most K of the 2 K candidates end, so K others can live on, unless V is tiny.
        totals = totals.masked_fill(is_end, NEVER)
        self.log_probs, choice = _top(totals, beam_size)
        beam, token, last = (part.gather(1, choice) for part in (beam, token, last))
        self.tokens = _pick(self.tokens, beam)
        self.tokens[:, :, self.length - 1] = token
        self.token_log_probs = _pick(self.token_log_probs, beam)
        self.token_log_probs[:, :, self.length - 1] = last
        return self._leave(beam)

    def _finish(self, beam: Tensor, last: Tensor, totals: Tensor) -> None:
        """Merge the candidates that ended, among the first K, into the finished ones."""
        size = self.beam_size
        beam, last, totals = beam[:, :size], last[:, :size], totals[:, :size]
        tokens = _pick(self.tokens, beam)
        tokens[:, :, self.length - 1] = END
        token_log_probs = _pick(self.token_log_probs, beam)
        token_log_probs[:, :, self.length - 1] = last
        scores = totals / self.length**self.penalty
        new = Hypotheses(tokens, token_log_probs, totals, scores)
        old = (part[self.active] for part in self.done)
        merged = [torch.cat(pair, dim=1) for pair in zip(old, new, strict=True)]
        best = merged[-1].topk(size, dim=1).indices
        for target, part in zip(self.done, merged, strict=True):
            target[self.active] = _pick(part, best)
        self.num_done[self.active] += (totals > NEVER).sum(dim=1)

    def _leave(self, beam: Tensor) -> Tensor:
        """Drop the pictures that are done; return the state rows of the others' hypotheses."""
        size = self.beam_size
        stays = (self.num_done[self.active] < size) & (self.log_probs[:, 0] > NEVER)
        first_row = torch.arange(len(self.active), device=beam.device)[:, None] * size
        rows = (first_row + beam)[stays].view(-1)
        if not bool(stays.all()):
            self.active = self.active[stays]
            self.log_probs = self.log_probs[stays]
            self.tokens = self.tokens[stays]
            self.token_log_probs = self.token_log_probs[stays]
        return rows

    def finished(self) -> Hypotheses:
        """The finished hypotheses, cut to the longest."""
        longest = (
            int((self.done.tokens != PAD).sum(dim=-1).max()) if self.done.tokens.numel() else 0
        )
        # Places that no hypothesis took hold leftovers of the merge; blank them.
        empty = (self.done.log_probs == NEVER)[:, :, None]
        return Hypotheses(
            tokens=self.done.tokens.masked_fill(empty, PAD)[:, :, :longest],
            token_log_probs=self.done.token_log_probs.masked_fill(empty, 0.0)[:, :, :longest],
            log_probs=self.done.log_probs,
            scores=self.done.scores,
        )


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Gather along dim 1: values (A, N) or (A, N, T) at index (A, K)."""
    if values.dim() == 2:
        return values.gather(1, index)
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))


def _top(values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """topk that fills up with -inf where there are fewer than ``size`` values."""
    count = min(size, values.shape[1])
    best, index = values.topk(count, dim=1)
    if count < size:
        missing = (values.shape[0], size - count)
        best = torch.cat([best, best.new_full(missing, NEVER)], dim=1)
        index = torch.cat([index, index.new_zeros(missing)], dim=1)
    return best, index
