"""The arrays that decoding computes with: NumPy's, or torch's on any device.

The bookkeeping of a search (hypotheses, candidates, constraints, random numbers) is in NumPy on the
processor for every model: its arrays are small, and a search has to know on the processor at each
step whether it goes on. A model's own arrays stay where the model computes: the log-probabilities
of the next token, (N, V), and the entries of a decoder's state. All that is done to those goes
through ``Arrays``, which has one implementation for NumPy (here) and one for torch
(``torch_arrays.py``). This module imports no torch.

Shapes: ``N`` rows of a step, ``V`` vocabulary, ``K`` tokens of a row.
"""

import math
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any  # numpy.ndarray or torch.Tensor
State: TypeAlias = dict[str, Array]  # dim 0 of every entry is the batch, so search can reorder it
Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Flags: TypeAlias = NDArray[np.bool_]

NEVER = float("-inf")


class Arrays(Protocol):
    """What decoding does with arrays of a model.

    Attributes:
        xp: the module ``numpy`` or ``torch``, for functions that both have under one name and
            with the same arguments (``exp``, ``where``, ``logaddexp``, ...).
    """

    xp: Any

    def from_host(self, values: NDArray[Any]) -> Array:
        """A NumPy array as one of the model's; it may share memory."""

    def to_host(self, values: Array) -> NDArray[Any]:
        """One of the model's arrays in NumPy; it may share memory."""

    def cast(self, values: Array, dtype: str) -> Array:
        """In ``"float32"`` or ``"float64"``."""

    def take(self, values: Array, rows: Array) -> Array:
        """(N', ...) rows of (N, ...) ``values``; ``rows`` are the model's, (N',)."""

    def gather(self, values: Array, index: Array) -> Array:
        """(N, K) the entries of (N, V) ``values`` at (N, K) ``index``."""

    def cumsum(self, values: Array) -> Array:
        """(N, K) sums of fp32 along each row, added up in fp64 where the device has it."""

    def top_k(self, values: Array, num: int) -> tuple[Array, Array]:
        """(N, num) both: the largest of (N, V) values, largest first, and their places."""

    def best(self, values: Array, num: int) -> tuple[Floats, Ids]:
        """As ``top_k``, in NumPy; of equal values, the one of the lowest place comes first."""

    def forbid(self, log_probs: Array, rows: Ids | Flags | slice, tokens: Ids | Flags) -> None:
        """Write -inf into (N, V) ``log_probs``.

        Args:
            rows, tokens: integers that broadcast with each other, one entry for each pair; or
                (N,) and (V,) True for the rows and the tokens that are crossed.
        """

    def no_grad(self) -> AbstractContextManager[object]:
        """A context in which no gradients are kept."""

    def fixed_rows(self, values: Array) -> AbstractContextManager[object]:
        """A context in which a row's numbers do not depend on the other rows, where possible."""


def arrays_of(values: Array) -> Arrays:
    """What computes with arrays like this one."""
    if isinstance(values, np.ndarray):
        return NUMPY
    assert "torch" in sys.modules, f"expected an array, not {type(values).__name__}"
    from showtell.decoding.torch_arrays import TorchArrays

    return TorchArrays(values.device)


class NumpyArrays:
    """``Arrays`` of NumPy."""

    xp: Any = np

    def from_host(self, values: NDArray[Any]) -> Array:
        """The same array."""
        return values

    def to_host(self, values: Array) -> NDArray[Any]:
        """The same array."""
        found: NDArray[Any] = values
        return found

    def cast(self, values: Array, dtype: str) -> Array:
        """By ``astype``."""
        return values.astype(dtype, copy=False)

    def take(self, values: Array, rows: Array) -> Array:
        """By ``numpy.take``."""
        return np.take(values, rows, axis=0)

    def gather(self, values: Array, index: Array) -> Array:
        """By ``numpy.take_along_axis``."""
        return np.take_along_axis(values, index, axis=1)

    def cumsum(self, values: Array) -> Array:
        """In fp64, as torch does on a processor."""
        return np.cumsum(values, axis=1, dtype=np.float64).astype(np.float32)

    def top_k(self, values: Array, num: int) -> tuple[Array, Array]:
        """Of equal values, the one of the lowest place comes first.

        The ``num`` largest values are in the ``num`` pieces of a row with the largest maxima. The
        rest is not looked at again, which is several times as fast as ``numpy.argpartition``.
        """
        num_rows, size = values.shape
        width = math.isqrt(size)
        num_pieces = size // width if width else 0
        if num_pieces <= 2 * num:
            places = _largest(values, num)
            return np.take_along_axis(values, places, axis=1), places
        whole = num_pieces * width
        maxima = values[:, :whole].reshape(num_rows, num_pieces, width).max(axis=2)
        pieces = np.sort(_largest(maxima, num), axis=1)
        inside = (pieces[:, :, None] * width + np.arange(width)).reshape(num_rows, num * width)
        rest = np.broadcast_to(np.arange(whole, size), (num_rows, size - whole))
        index = np.concatenate([inside, rest], axis=1)
        part = np.take_along_axis(values, index, axis=1)
        places = _largest(part, num)
        return np.take_along_axis(part, places, axis=1), np.take_along_axis(index, places, axis=1)

    def best(self, values: Array, num: int) -> tuple[Floats, Ids]:
        """``top_k``."""
        return self.top_k(values, num)

    def forbid(self, log_probs: Array, rows: Ids | Flags | slice, tokens: Ids | Flags) -> None:
        """By indexing."""
        if isinstance(rows, np.ndarray) and rows.dtype == bool:
            log_probs[np.ix_(rows, tokens)] = NEVER
        else:
            log_probs[rows, tokens] = NEVER

    def no_grad(self) -> AbstractContextManager[object]:
        """NumPy keeps none."""
        return nullcontext()

    def fixed_rows(self, values: Array) -> AbstractContextManager[object]:
        """Nothing to do: NumPy computes no products of matrices here."""
        return nullcontext()


NUMPY = NumpyArrays()


def _largest(values: NDArray[Any], num: int) -> Ids:
    """(N, num) places of the largest of (N, K) values, largest first, equal ones by place."""
    num_rows, size = values.shape
    chosen: Ids | None = None
    if size > num > 0:
        least = np.partition(values, size - num, axis=1)[:, size - num, None]
        above, equal = values > least, values == least
        wanted = num - above.sum(axis=1, keepdims=True)
        _, found = np.nonzero(above | (equal & (equal.cumsum(axis=1) <= wanted)))
        if len(found) == num_rows * num:  # always, unless values are not numbers
            chosen = found.reshape(num_rows, num)
    if chosen is None:
        return np.argsort(-values, axis=1, kind="stable")[:, :num]
    order = np.argsort(-np.take_along_axis(values, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)
