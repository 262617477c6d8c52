"""Tables of constraints, kept between batches and between requests that have the same settings."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import TypeVar, cast

import numpy as np

MAX_BYTES = 128 * 2**20
MAX_TABLES = 32


class Table:
    """Arrays that follow from settings alone. Nobody changes one after it is built."""

    @property
    def num_bytes(self) -> int:
        """Bytes of its arrays."""
        return sum(map(_num_bytes, vars(self).values()))


def _num_bytes(part: object) -> int:
    if isinstance(part, np.ndarray):
        return part.nbytes
    return part.num_bytes if isinstance(part, Table) else 0


AnyTable = TypeVar("AnyTable", bound=Table)


class TableCache:
    """The tables that were used last, up to a number of bytes.

    A table that alone exceeds the limit is not kept. Threads may use the cache at the same time;
    two that need the same new table both build it.

    Args:
        max_bytes: of all tables together.
        max_tables: the most tables; each also keeps its key, and with it a vocabulary's texts.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_tables: int = MAX_TABLES) -> None:
        self.max_bytes, self.max_tables = max_bytes, max_tables
        self.num_bytes = 0
        self._tables: OrderedDict[Hashable, Table] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._tables)

    def get(self, key: Hashable, build: Callable[[], AnyTable]) -> AnyTable:
        """The table of ``key``; one that is new is built."""
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return cast(AnyTable, self._tables[key])
        table = build()
        with self._lock:
            if key not in self._tables and table.num_bytes <= self.max_bytes:
                self._tables[key] = table
                self.num_bytes += table.num_bytes
            while self.num_bytes > self.max_bytes or len(self._tables) > self.max_tables:
                _, oldest = self._tables.popitem(last=False)
                self.num_bytes -= oldest.num_bytes
        return table
