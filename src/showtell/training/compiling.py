"""torch.compile for teacher forcing, which is what training spends its time in."""

import torch
from torch import Tensor
from torch.nn import functional as F

from showtell.models.base import Decoder, Features, HiddenStates
from showtell.text.vocabulary import PAD

BUCKET = 8  # captions are padded to a multiple of so many tokens


def compile_decoder(decoder: Decoder, *, backend: str = "inductor") -> str:
    """Compile ``decoder.hidden_states``, in place, for batches of any size.

    A recurrence is compiled for each number of steps; padding leaves only a few numbers. The names
    of the decoder's weights stay as they are.

    Returns:
        A sentence for the user.
    """
    kind = type(decoder).__name__
    if not decoder.gains_by_compiling:
        return f"training.compile: {kind} runs on torch's own kernels; there is nothing to compile"
    compiled = torch.compile(decoder.hidden_states, dynamic=True, backend=backend)

    def hidden_states(features: Features, tokens: Tensor) -> HiddenStates:
        num_tokens = tokens.shape[1]
        padded = F.pad(tokens, (0, -num_tokens % BUCKET), value=PAD)
        states, penalty = compiled(features, padded)
        return HiddenStates(states[:, :num_tokens], penalty)

    decoder.hidden_states = hidden_states  # type: ignore[method-assign]
    return f"training.compile: {kind} is compiled; the first steps take longer"
