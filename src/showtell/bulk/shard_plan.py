"""A big job cut into shards: each is captioned by itself, into a file of its own.

An archive, a list or a table that the user names is a shard; pictures of folders and globs are put
together by the thousand, as they come. The plan is kept beside the results, so that a job that
goes on has the same shards, whatever has come into the folders since.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from showtell.bulk import remote, shards
from showtell.bulk.inputs import Inputs
from showtell.errors import DataError
from showtell.files import atomic_write

PICTURES_A_SHARD = 1000
PLAN_FILE = "plan.jsonl"
SUFFIXES = {"jsonl": ".jsonl", "parquet": ".parquet", "webdataset": ".tar"}


@dataclass(frozen=True, slots=True)
class Shard:
    """Pictures that are captioned together.

    Attributes:
        name: of its results, without a suffix.
        names: what ``find_inputs`` finds its pictures by.
    """

    name: str
    names: tuple[str, ...]


def make_plan(inputs: Inputs) -> Iterator[Shard]:
    """Cut a job into shards, in the order of the inputs."""
    number = 0
    loose: list[str] = []
    for path in inputs.paths:
        if shards.is_shard(path):
            stem = path.rstrip("/").rpartition("/")[2].partition(".")[0]
            yield Shard(f"{number:06d}-{stem}", (_absolute(path),))
            number += 1
            continue
        for picture in Inputs((path,), (path,), frozenset()):
            loose.append(_absolute(str(picture.path)))
            if len(loose) == PICTURES_A_SHARD:
                yield Shard(f"{number:06d}", tuple(loose))
                number, loose = number + 1, []
    if loose:
        yield Shard(f"{number:06d}", tuple(loose))


def kept_plan(folder: Path, asked: tuple[str, ...], make: Iterator[Shard]) -> list[Shard]:
    """The plan in ``folder``, made and kept there if there is none.

    Args:
        folder: of the results, on this machine or a shared disk.
        asked: the user's names; another job must not go on with this one's plan.
        make: the plan, where there is none.

    Raises:
        DataError: the plan there is of other inputs.
    """
    file = folder / PLAN_FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as lines:
            lines.write(json.dumps({"inputs": asked}) + "\n")
            for shard in make:
                lines.write(json.dumps({"shard": shard.name, "names": shard.names}) + "\n")
    with open(file, encoding="utf-8") as lines:
        head = json.loads(next(lines))
        if tuple(head["inputs"]) != asked:
            raise DataError(
                f"{folder} has the results of other inputs ({', '.join(head['inputs'])}); "
                "give another folder"
            )
        values = map(json.loads, lines)
        return [Shard(value["shard"], tuple(value["names"])) for value in values]


def _absolute(path: str) -> str:
    return path if remote.is_url(path) else os.path.abspath(path)
