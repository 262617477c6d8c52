"""torch.compile for the parts of a decoder that training spends its time in."""

import torch

from showtell.models.base import Decoder


def compile_decoder(decoder: Decoder) -> None:
    """Compile ``decoder.compiled_parts``, in place, for batches of any size and length.

    The names of its weights stay as they are.
    """
    for name in decoder.compiled_parts:
        setattr(decoder, name, torch.compile(getattr(decoder, name), dynamic=True))
