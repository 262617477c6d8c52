"""``Arrays`` of torch, on any device."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.core.fixed_rows import fixed_rows_for
from showtell.decoding.arrays import NEVER, Flags, Floats, Ids


class TorchArrays:
    """``Arrays`` of torch.

    Args:
        device: where the model computes.
    """

    xp: Any = torch

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def from_host(self, values: NDArray[Any]) -> Tensor:
        """On the device."""
        if not (values.flags.c_contiguous and values.flags.writeable):
            values = values.copy()
        return torch.from_numpy(values).to(self.device)

    def to_host(self, values: Tensor) -> NDArray[Any]:
        """Waits until the device has computed them. NumPy has no bf16: it becomes fp32."""
        if values.dtype == torch.bfloat16:
            values = values.float()
        found: NDArray[Any] = values.cpu().numpy()
        return found

    def cast(self, values: Tensor, dtype: str) -> Tensor:
        """By ``to``."""
        return values.to(getattr(torch, dtype))

    def take(self, values: Tensor, rows: Tensor) -> Tensor:
        """By ``index_select``."""
        return values.index_select(0, rows)

    def gather(self, values: Tensor, index: Tensor) -> Tensor:
        """By ``gather``."""
        return values.gather(1, index)

    def cumsum(self, values: Tensor) -> Tensor:
        """By ``cumsum``."""
        return values.cumsum(dim=1)

    def top_k(self, values: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """The order of equal values is torch's."""
        return values.topk(num, dim=1)

    def best(self, values: Tensor, num: int) -> tuple[Floats, Ids]:
        """``topk`` of one more, which shows where others are equal to the last one.

        Only in such rows are the places of the equal values looked up.
        """
        found, places = map(self.to_host, self.top_k(values, min(num + 1, values.shape[1])))
        if found.shape[1] > num:
            last, following = found[:, num - 1], found[:, num]
            (rows,) = np.nonzero((last == following) & (last > NEVER))
            found, places = found[:, :num], places[:, :num].copy()
            if len(rows):
                places[rows] = self._lowest_equal(values, rows, found[rows], places[rows])
        (rows,) = np.nonzero((found[:, 1:] == found[:, :-1]).any(axis=1))
        if len(rows):
            order = np.lexsort((places[rows], -found[rows]), axis=1)
            places[rows] = np.take_along_axis(places[rows], order, axis=1)
        return found, places

    def _lowest_equal(self, values: Tensor, rows: Ids, found: Floats, places: Ids) -> Ids:
        """``places`` (M, K) of some rows, with the lowest ones of those equal to the last."""
        least = found[:, -1:]
        equal = self.take(values, self.from_host(rows)) == self.from_host(least)
        row, place = map(self.to_host, equal.nonzero(as_tuple=True))
        # In each row, the first of them go where ``found`` has the last value.
        starts = np.searchsorted(row, np.arange(len(rows)))
        above = (found > least).sum(axis=1, keepdims=True)
        number = np.arange(found.shape[1]) - above
        return np.where(number < 0, places, place[starts[:, None] + np.maximum(number, 0)])

    def forbid(self, log_probs: Tensor, rows: Ids | Flags | slice, tokens: Ids | Flags) -> None:
        """By ``masked_fill_`` for flags, else by indexing."""
        columns = self.from_host(tokens)
        if isinstance(rows, slice):
            log_probs[rows].index_fill_(1, columns, NEVER)
        elif rows.dtype == bool:
            log_probs.masked_fill_(self.from_host(rows)[:, None] & columns, NEVER)
        else:
            log_probs[self.from_host(rows), columns] = NEVER

    def no_grad(self) -> AbstractContextManager[object]:
        """Not ``inference_mode``: see ``Runtime.inference``."""
        return torch.no_grad()

    def fixed_rows(self, values: Tensor) -> AbstractContextManager[object]:
        """As ``core.fixed_rows`` has it."""
        return fixed_rows_for(values)
