"""A stand-in for Ray: what showtell uses of it, in this process, one shard after the other."""

import pickle
from collections.abc import Callable, Iterator
from itertools import cycle
from types import SimpleNamespace
from typing import Any


class LocalRay:
    """A cluster of one machine with two processors; what goes to an actor is pickled on the way."""

    def __init__(self) -> None:
        self.data = SimpleNamespace(from_items=LocalDataset, ActorPoolStrategy=SimpleNamespace)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.cluster_resources()}]

    def remote(self, **_: object) -> Callable[[Callable[..., Any]], Any]:
        return lambda function: SimpleNamespace(remote=lambda *given: function(*sent(given)))

    def get(self, found: Any) -> Any:
        return sent(found)

    def shutdown(self) -> None:
        pass


class LocalDataset:
    """Rows, which a pool of actors takes by turns."""

    def __init__(self, items: list[dict[str, Any]], override_num_blocks: int) -> None:
        assert override_num_blocks == len(items)
        self.items = items

    def map_batches(
        self,
        actor: Callable[..., Any],
        *,
        fn_constructor_kwargs: dict[str, Any],
        batch_size: int,
        compute: Any,
        **_: object,
    ) -> "LocalDataset":
        assert batch_size == 1
        self.actors = [actor(**sent(fn_constructor_kwargs)) for _ in range(compute.size)]
        return self

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for actor, item in zip(cycle(self.actors), self.items, strict=False):
            told = sent(actor({key: [value] for key, value in item.items()}))
            yield {key: value for key, [value] in told.items()}


def sent(value: Any) -> Any:
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(value))
