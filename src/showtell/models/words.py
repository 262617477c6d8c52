"""Input words as every decoder treats them in training."""

import torch
from torch import Tensor

from showtell.text.vocabulary import PAD, START, UNK


def drop_words(tokens: Tensor, share: float) -> Tensor:
    """Replace a random share of the words by ``<unk>``.

    The decoder then has to look at the picture rather than at the words before (Bowman et al.
    2016, arXiv 1511.06349, section 3.1). ``<start>`` and padding stay.

    Args:
        tokens: ids of any shape.
        share: 0 to 1.
    """
    if share == 0:
        return tokens
    drop = torch.rand(tokens.shape, device=tokens.device) < share
    return tokens.masked_fill(drop & (tokens != START) & (tokens != PAD), UNK)
