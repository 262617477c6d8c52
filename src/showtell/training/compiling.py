"""torch.compile for the parts of a decoder that training spends its time in."""

import torch

from showtell.models.base import Decoder


def compile_decoder(decoder: Decoder) -> str:
    """Compile ``decoder.compiled_parts``, in place, for batches of any size and length.

    The names of its weights stay as they are. What a decoder packs by the captions' lengths is
    not compiled, but the step that it takes between.

    Returns:
        A sentence for the user.
    """
    kind = type(decoder).__name__
    if not decoder.compiled_parts:
        return f"training.compile: {kind} runs on torch's own kernels; there is nothing to compile"
    for name in decoder.compiled_parts:
        setattr(decoder, name, torch.compile(getattr(decoder, name), dynamic=True))
    return f"training.compile: {kind} is compiled; the first steps take longer"
