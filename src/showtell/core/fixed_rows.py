"""Matrix products of a fixed number of rows, so that a caption does not depend on the batch.

A library of matrix products chooses its kernel by the number of rows. In fp32, kernels add in
different orders, so the last bit of a row's result depends on how many other rows there are, and
a search takes another word where two are nearly equal. Within ``FixedRows`` every product in fp32
has ``ROWS`` rows, or those of one picture; the last is filled up with zeros. Products in bf16 gave
the same bits at every number of rows from 1 to 320, on processors with avx512_bf16 and with
amx_bf16, and are left alone; the classifier that a decoder with concepts reads is in fp32 even
there.

A search of the default model in fp32 takes 1.2 times as long with it in batches of 64, and 1.55
times for a lone picture (one thread).
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ROWS = 16
ELEMENTS = 64  # more than a step of a loop over vectors, whose rest is computed in another way


class FixedRows(TorchFunctionMode):
    """A context in which linear layers, recurrent cells and products with one matrix have fixed
    shapes.

    For inference: with gradients the results are right, but slow.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func``, or its form with fixed rows; within that the mode is off."""
        return _FORMS.get(func, func)(*args, **(kwargs or {}))


def fixed_rows_for(values: Tensor) -> AbstractContextManager[object]:
    """``FixedRows`` where products of ``values`` need it: on a processor, outside of bf16.

    Not while torch traces a program: there the number of rows is a symbol.
    """
    needs_it = (
        values.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
    return FixedRows() if needs_it else nullcontext()


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As ``F.linear``, for (M, in), or (P, R, in) with a product for each of P pictures."""
    if inputs.dim() == 3 and inputs.shape[1] >= ROWS:
        return _each(lambda rows: F.linear(rows, weight, bias), inputs)
    rows = inputs.reshape(-1, inputs.shape[-1])
    parts = [F.linear(part, weight, bias) for part in _pieces(rows, dim=0)]
    return torch.cat(parts)[: len(rows)].view(*inputs.shape[:-1], len(weight))


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """As ``torch.matmul``, which would join a batch with one matrix into one product."""
    if left.dim() == 2 and right.dim() == 3:
        return _each(lambda part: torch.matmul(left, part), right)
    if left.dim() == 3 and right.dim() == 2:
        return _each(lambda part: torch.matmul(part, right), left)
    return torch.matmul(left, right)


def _each(product: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    return torch.stack([product(part) for part in batch]) if len(batch) else product(batch)


def _recurrent(func: Callable[..., Any]) -> Callable[..., Any]:
    """A form of torch's ``lstm``, ``gru`` or ``rnn_tanh`` for batches (T, B, in) or (B, T, in)."""

    def form(inputs: Tensor, state: Any, weights: Any, *rest: Any) -> tuple[Tensor, ...]:
        dim = 0 if rest[-1] else 1  # ``batch_first`` is the last argument
        is_lstm = not isinstance(state, Tensor)
        states = state if is_lstm else (state,)
        num = inputs.shape[dim]
        pieces = zip(_pieces(inputs, dim), *(_pieces(part, dim=1) for part in states), strict=True)
        found = [func(part, own if is_lstm else own[0], weights, *rest) for part, *own in pieces]
        output, *after = (list(parts) for parts in zip(*found, strict=True))
        return (
            torch.cat(output, dim=dim).narrow(dim, 0, num),
            *(torch.cat(parts, dim=1).narrow(1, 0, num) for parts in after),
        )

    return form


def _elementwise(func: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A form of a function of each element, whose last bit depends on the place in a vector."""

    def form(values: Tensor) -> Tensor:
        missing = -values.numel() % ELEMENTS
        if not missing:
            return func(values)
        flat = F.pad(values.flatten(), (0, missing))
        return func(flat)[: values.numel()].view(values.shape)

    return form


def _pieces(values: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Pieces of ``ROWS`` along ``dim``, at least one; the last is filled up with zeros."""
    missing = -values.shape[dim] % ROWS or (0 if values.shape[dim] else ROWS)
    if missing:
        shape = list(values.shape)
        shape[dim] = missing
        values = torch.cat([values, values.new_zeros(shape)], dim=dim)
    return torch.split(values, ROWS, dim=dim)


_FORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    torch.Tensor.matmul: _matmul,
    torch.Tensor.__matmul__: _matmul,
    **{func: _recurrent(func) for func in (torch.lstm, torch.gru, torch.rnn_tanh)},
    **{func: _elementwise(func) for func in (torch.tanh, torch.sigmoid, torch.exp)},
    **{
        method: _elementwise(method)
        for method in (torch.Tensor.tanh, torch.Tensor.sigmoid, torch.Tensor.exp)
    },
}
