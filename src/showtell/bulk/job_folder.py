"""What a job over many shards keeps in its folder, or in a store, beside the results.

- ``plan.jsonl``: which picture is in which shard. An archive or a table that the user names is a
  shard, and so is a list behind a URL; pictures of folders, globs and lists are grouped by the
  thousand. A job that is started again has the same shards; what was added to the folders comes in
  new ones.
- ``identity.json``: what the results follow from (the model, its settings, ``--dedupe``): a job
  with another model does not go on with them.

A shard is done when its file of results exists and no picture of it has failed for a reason that
may pass.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from showtell.bulk import remote, shards
from showtell.bulk.formats import FORMATS, Record
from showtell.bulk.inputs import Inputs
from showtell.bulk.journal import journal_of
from showtell.core.files import atomic_write, parse_json
from showtell.core.urls import is_url
from showtell.errors import DataError

PICTURES_A_SHARD = 1000
PLAN_FILE = "plan.jsonl"
IDENTITY_FILE = "identity.json"
SHARD_FORMATS = ("jsonl", "parquet", "webdataset")


@dataclass(frozen=True, slots=True)
class Shard:
    """Pictures that are captioned together.

    Attributes:
        name: of its results, without a suffix.
        names: what ``find_inputs`` finds its pictures by.
    """

    name: str
    names: tuple[str, ...]

    def file_name(self, kind: str) -> str:
        """The name of its file of results, in a format of ``SHARD_FORMATS``."""
        return f"{self.name}{FORMATS[kind].suffix}"


def make_plan(
    inputs: Inputs, kept: Sequence[Shard], on_failure: Callable[[str], None]
) -> Iterator[Shard]:
    """Cut into shards, in the order of the inputs, what no shard of a plan has yet.

    Args:
        kept: the shards of the plan.
        on_failure: told of each line of a list that names no picture, and of each folder that
            cannot be read; they are in no shard.

    Raises:
        DataError: a list cannot be read.
    """
    planned = {name for shard in kept for name in shard.names}
    number = len(kept)
    loose: list[str] = []
    for path in inputs.paths:
        if _absolute(path) in planned:  # a list, too: it was a shard in earlier versions
            continue
        if shards.is_shard(path) and not _is_list(path):
            planned.add(_absolute(path))
            stem = path.rstrip("/").rpartition("/")[2].partition(".")[0]
            yield Shard(f"{number:06d}-{stem}", (_absolute(path),))
            number += 1
            continue
        for picture in Inputs((path,), (path,)):
            if picture.error is not None and picture.path == path:
                raise DataError(f"{path}: {picture.error}")
            if picture.error is not None:
                on_failure(f"{picture.path}: {picture.error}")
                continue
            name = _absolute(str(picture.path))
            if name in planned:
                continue
            planned.add(name)
            loose.append(name)
            if len(loose) == PICTURES_A_SHARD:
                yield Shard(f"{number:06d}", tuple(loose))
                number, loose = number + 1, []
    if loose:
        yield Shard(f"{number:06d}", tuple(loose))


def _is_list(path: str) -> bool:
    """Whether it is a list of this machine, whose relative names an actor could not find."""
    return path.lower().endswith((".txt", ".jsonl")) and not is_url(path)


def kept_plan(folder: str, asked: tuple[str, ...]) -> list[Shard]:
    """The plan in a folder; no shards if there is none.

    Args:
        folder: of the results, or a URL.
        asked: the user's names; another job must not go on with this one's plan.

    Raises:
        DataError: the plan there is of other inputs, or is damaged.
    """
    with _at_hand(folder, PLAN_FILE) as file:
        if not file.exists():
            return []
        try:
            with open(file, encoding="utf-8") as lines:
                inputs = tuple(parse_json(next(lines, ""))["inputs"])
                values = map(parse_json, lines)
                plan = [Shard(value["shard"], tuple(value["names"])) for value in values]
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{folder.rstrip('/')}/{PLAN_FILE} is damaged: give another folder with -o"
            ) from None
    if inputs != asked:
        raise DataError(
            f"{folder} has the results of other inputs ({', '.join(map(str, inputs))}); "
            "give another folder with -o"
        )
    return plan


def keep_plan(folder: str, asked: tuple[str, ...], plan: Iterable[Shard]) -> None:
    """Write down which picture is in which shard."""
    values = ({"shard": shard.name, "names": shard.names} for shard in plan)
    _keep(folder, PLAN_FILE, [{"inputs": asked}, *values])


def look_for_done(folder: str, plan: Iterable[Shard], kind: str) -> tuple[set[str], int]:
    """Which shards need nothing more: they have results, and no failure that may pass.

    Args:
        folder: of the results, or a URL; it is listed once.
        kind: a format of ``SHARD_FORMATS``.

    Returns:
        Their names, and how many of their pictures failed.
    """
    there = _names_in(folder)
    done = set()
    for shard in plan:
        results = Path(shard.file_name(kind))
        if results.name in there and journal_of(results).name not in there:
            done.add(shard.name)
    failing = [name for name in sorted(done) if failures_of(name) in there]
    lists = list(map(failures_of, failing))
    if is_url(folder):
        contents = remote.contents_of(folder, lists)
    else:
        contents = [Path(folder, name).read_bytes() for name in lists]
    num_failed = 0
    for name, content in zip(failing, contents, strict=True):
        try:
            failures = [parse_json(line) for line in content.splitlines()]
            is_done = not any("may_pass" in failure for failure in failures)
        except (ValueError, TypeError):  # a damaged list is made again
            is_done = False
        if is_done:
            num_failed += len(failures)
        else:
            done.remove(name)
    return done, num_failed


def failures_of(shard: str) -> str:
    """The name of the list of a shard's failures."""
    return f"{shard}.failures.jsonl"


def begin_job(folder: str, identity: Record, plan: Iterable[Shard], *, overwrite: bool) -> None:
    """See that the results in a folder follow from the same as those that come; then keep that.

    Args:
        folder: of the results, or a URL.
        identity: what the results follow from.
        plan: the shards.
        overwrite: remove the results of these shards first, in every format. A job that did so and
            was stopped goes on; once ``keep_identity`` is called at its end, it would begin again.

    Raises:
        DataError: they do not.
    """
    anew = {**identity, "begun_anew": True}
    kept = _kept_identity(folder, is_replaced=overwrite)
    if kept == anew:
        return
    if overwrite:
        _remove_results(folder, plan)
    elif kept not in (None, identity):
        raise DataError(
            f"{folder} was begun with another model or other settings; continue with those, "
            "give another folder with -o, or begin anew with --overwrite"
        )
    keep_identity(folder, anew if overwrite else identity)


def _remove_results(folder: str, plan: Iterable[Shard]) -> None:
    """Remove all that a job writes, but the plan."""
    names = []
    for shard in plan:
        results = [Path(shard.file_name(kind)) for kind in SHARD_FORMATS]
        names += [failures_of(shard.name), *(file.name for file in results)]
        names += [journal_of(file).name for file in results]
    there = _names_in(folder)
    left = [name for name in names if name in there]
    if is_url(folder):
        remote.remove(folder, left)
    else:
        for name in left:
            os.unlink(os.path.join(folder, name))


def keep_identity(folder: str, identity: Record) -> None:
    """Write down what all results of a folder follow from."""
    _keep(folder, IDENTITY_FILE, [identity])


def _kept_identity(folder: str, *, is_replaced: bool) -> Record | None:
    """None where there is none, or where a damaged one is replaced anyway."""
    with _at_hand(folder, IDENTITY_FILE) as file:
        if not file.exists():
            return None
        try:
            value = parse_json(file.read_bytes())
        except ValueError:
            value = None
    if not isinstance(value, dict) and not is_replaced:
        raise DataError(
            f"{folder.rstrip('/')}/{IDENTITY_FILE} is damaged: give another folder with -o, or "
            "begin anew with --overwrite"
        )
    return value if isinstance(value, dict) else None


def _names_in(folder: str) -> set[str]:
    if is_url(folder):
        return remote.names_in(folder)
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


@contextmanager
def _at_hand(folder: str, name: str) -> Iterator[Path]:
    """A file of a folder, or a copy of it, on this machine; not there if the folder has none."""
    if not is_url(folder):
        yield Path(folder, name)
        return
    with tempfile.TemporaryDirectory() as here:
        file = Path(here, name)
        remote.get(f"{folder.rstrip('/')}/{name}", str(file))
        yield file


def _keep(folder: str, name: str, values: Iterable[Record]) -> None:
    """Write a file of JSON lines into a folder; it appears when it is whole."""
    if not is_url(folder):
        os.makedirs(folder, exist_ok=True)
        with atomic_write(Path(folder, name)) as file:
            file.writelines(f"{json.dumps(value)}\n" for value in values)
        return
    with tempfile.TemporaryDirectory() as here:
        _keep(here, name, values)
        remote.put(os.path.join(here, name), f"{folder.rstrip('/')}/{name}")


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)
