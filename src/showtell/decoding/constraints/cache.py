"""Tables of constraints, kept between batches and between requests that have the same settings."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from copy import copy
from threading import Lock
from typing import Self, TypeVar, cast

import torch
from torch import Tensor

MAX_BYTES = 128 * 2**20
MAX_TABLES = 32


class Table:
    """Tensors that follow from settings alone. Nobody changes one after it is built.

    A cached table may be in use by several threads, so it is copied to another device, never moved.
    """

    def to(self, device: torch.device) -> Self:
        """The table with its tensors on ``device``: itself where they are there, else a copy."""
        moved = {name: _to(part, device) for name, part in vars(self).items()}
        if all(moved[name] is part for name, part in vars(self).items()):
            return self
        table = copy(self)
        vars(table).update(moved)
        return table

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(map(_num_bytes, vars(self).values()))


def _to(part: object, device: torch.device) -> object:
    return part.to(device) if isinstance(part, Tensor | Table) else part


def _num_bytes(part: object) -> int:
    if isinstance(part, Tensor):
        return part.nbytes
    return part.num_bytes if isinstance(part, Table) else 0


AnyTable = TypeVar("AnyTable", bound=Table)


class TableCache:
    """The tables that were used last, up to a number of bytes.

    The device is part of a table's key. A table that alone exceeds the limit is not kept. Threads
    may use the cache at the same time; two that need the same new table both build it.

    Args:
        max_bytes: of all tables together.
        max_tables: the most tables; each also keeps its key, and with it a vocabulary's texts.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_tables: int = MAX_TABLES) -> None:
        self.max_bytes, self.max_tables = max_bytes, max_tables
        self.num_bytes = 0
        self._tables: OrderedDict[tuple[Hashable, torch.device], Table] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._tables)

    def get(self, key: Hashable, device: torch.device, build: Callable[[], AnyTable]) -> AnyTable:
        """The table of ``key`` on ``device``; one that is new is built, on any device."""
        own = key, device
        with self._lock:
            if own in self._tables:
                self._tables.move_to_end(own)
                return cast(AnyTable, self._tables[own])
            others = [table for (known, _), table in self._tables.items() if known == key]
        table = (cast(AnyTable, others[0]) if others else build()).to(device)
        with self._lock:
            if own not in self._tables and table.num_bytes <= self.max_bytes:
                self._tables[own] = table
                self.num_bytes += table.num_bytes
            while self.num_bytes > self.max_bytes or len(self._tables) > self.max_tables:
                _, oldest = self._tables.popitem(last=False)
                self.num_bytes -= oldest.num_bytes
        return table
