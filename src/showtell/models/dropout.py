"""Dropout whose random numbers cost little on a processor."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014, section 4), in training alone.

    torch draws a number of 53 bits for every element, one after the other: on a processor 6 % of
    a decoder's step. Here one draw of 64 bits decides on eight, so the share is a multiple of 1/256
    (0.1 is 26/256); what is kept is scaled by just that share, and the mean stays.

    Args:
        p: share of elements that become zero, 0 <= p < 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(values, self.p)
        num_dropped = min(max(round(LEVELS * self.p), 1), LEVELS - 1)
        draws = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: values.numel()].view(values.shape) >= num_dropped
        return values * kept.to(values.dtype).mul_(LEVELS / (LEVELS - num_dropped))

    def extra_repr(self) -> str:
        """As torch shows its own."""
        return f"p={self.p}"
