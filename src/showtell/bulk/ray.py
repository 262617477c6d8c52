"""Bulk captioning on Ray Data: each actor loads one model and captions one shard at a time.

An archive, a list or a table that the user names is a shard; pictures of folders and globs are
grouped by the thousand. The plan is stored beside the results, so that a resumed job has the same
shards even if pictures were added to the folders.

An actor captions a shard with the code that captions a folder locally, and writes one file of
results for it. A shard is done when that file exists. A shard that was lost with its machine is
done again; if the results are on a shared disk, it continues from its journal.

What the results follow from (the model, its settings, ``--dedupe``) is kept beside them: a job with
another model does not go on with them.
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from showtell.bulk import remote, shards
from showtell.bulk.formats import FORMATS, Record, model_id
from showtell.bulk.inputs import Inputs, find_inputs
from showtell.bulk.run import Summary, caption_all
from showtell.bulk.targets import OneFile
from showtell.core.files import atomic_write, parse_json, write_text
from showtell.core.progress import Reporter, SilentReporter
from showtell.core.urls import is_url
from showtell.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ShowtellError,
    needs_extra,
    one_line,
)
from showtell.inference.backends.remote_run import MOST_REFUSED_AT_FIRST, PicturesRefused
from showtell.inference.captioner import Captioner

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
        for picture in Inputs((path,), (path,)):
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
        head = parse_json(next(lines))
        if tuple(head["inputs"]) != asked:
            raise DataError(
                f"{folder} has the results of other inputs ({', '.join(head['inputs'])}); "
                "give another folder"
            )
        values = map(parse_json, lines)
        return [Shard(value["shard"], tuple(value["names"])) for value in values]


def check_identity(folder: str, identity: Record, *, overwrite: bool) -> None:
    """See that the results in a folder follow from the same as those that come; then keep that.

    Args:
        folder: of the results, or a URL.
        identity: what the results follow from.
        overwrite: replace results that follow from something else. Until ``keep_identity`` is
            called at its end, only a job that does so, too, may go on.

    Raises:
        DataError: they do not.
    """
    if not overwrite:
        kept = _kept_identity(folder)
        if kept not in (None, identity):
            raise DataError(
                f"{folder} was begun with another model or other settings; continue with those, "
                "give another folder with -o, or begin anew with --overwrite"
            )
    keep_identity(folder, {**identity, "overwrite": True} if overwrite else identity)


def keep_identity(folder: str, identity: Record) -> None:
    """Write down what all results of a folder follow from."""
    text = json.dumps(identity) + "\n"
    if not is_url(folder):
        os.makedirs(folder, exist_ok=True)
        write_text(Path(folder, IDENTITY_FILE), text)
        return
    with tempfile.TemporaryDirectory() as here:
        file = Path(here, IDENTITY_FILE)
        file.write_text(text, encoding="utf-8")
        remote.put(str(file), f"{folder.rstrip('/')}/{IDENTITY_FILE}")


def _kept_identity(folder: str) -> Record | None:
    """None where there is none."""
    place = f"{folder.rstrip('/')}/{IDENTITY_FILE}"
    try:
        content = remote.content_of(place) if is_url(folder) else Path(place).read_bytes()
    except FileNotFoundError:
        return None
    try:
        value = parse_json(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DataError(
            f"{place} is damaged: give another folder with -o, or begin anew with --overwrite"
        )
    return value


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)


@dataclass(frozen=True, slots=True)
class Job:
    """What every actor has to know.

    Attributes:
        loading: the arguments of ``Captioner.load``.
        decoding: changes of the model's own decoding settings.
        output: a folder that every machine sees, or a URL.
        kind: a format of ``SHARD_FORMATS``.
        dedupe, overwrite: as ``caption_all``; duplicates are found within a shard.
        threads: that each actor computes with.
        model: ``model_id`` of the job; an actor with another model does nothing.
    """

    loading: dict[str, Any]
    decoding: dict[str, Any]
    output: str
    kind: str
    dedupe: bool
    overwrite: bool
    threads: int = 1
    model: str = ""


class ShardCaptioner:
    """An actor: it holds one model, and is called with a shard at a time."""

    def __init__(self, job: Job) -> None:
        from showtell.core.memory import tune_process

        tune_process()
        os.environ["OMP_NUM_THREADS"] = str(job.threads)  # which runtimes read as they start
        self._job = job
        self._captioner = Captioner.load(**job.loading)
        if "torch" in sys.modules:  # it may have started before
            import torch

            torch.set_num_threads(job.threads)
        self._decoding = self._captioner.resolve(job.decoding)
        self.model = model_id(self._captioner, self._decoding)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        [line] = batch["shard"]
        value = parse_json(str(line))
        shard = Shard(value["name"], tuple(value["names"]))
        try:
            summary, error = self._caption(shard), ""
        except (ShowtellError, OSError) as failure:  # a shard that cannot be read is no one else's
            summary, error = Summary(), one_line(failure)
        return {
            "shard": [shard.name],
            "captioned": [summary.num_captioned + summary.num_kept],
            "failed": [summary.num_failed],
            "seconds": [summary.seconds],
            "error": [error],
        }

    def _caption(self, shard: Shard) -> Summary:
        if self.model != self._job.model:
            raise DataError("the model on this machine is not the job's")
        if not is_url(self._job.output):
            return self._caption_into(shard, Path(self._job.output))
        with tempfile.TemporaryDirectory() as folder:
            summary = self._caption_into(shard, Path(folder))
            # The results last: where they are, the shard is done.
            files = sorted(Path(folder).iterdir(), key=lambda file: "failures" not in file.name)
            for file in files:
                remote.put(str(file), f"{self._job.output.rstrip('/')}/{file.name}")
        return summary

    def _caption_into(self, shard: Shard, folder: Path) -> Summary:
        job = self._job
        target = OneFile(
            folder / shard.file_name(job.kind),
            job.kind,
            folder / f"{shard.name}.failures.jsonl",
            overwrite=job.overwrite,
        )
        left = len(shard.names) // MOST_REFUSED_AT_FIRST  # each time so many more are recorded
        while True:
            try:
                return caption_all(
                    self._captioner,
                    Inputs(shard.names, shard.names),
                    target,
                    decoding=self._decoding,
                    report=SilentReporter(),
                    dedupe=job.dedupe,
                    overwrite=job.overwrite,
                )
            except PicturesRefused:  # the folder's journal has them: the next call gets past them
                if left == 0:
                    raise
                left -= 1


def caption_shards(
    pictures: list[str], job: Job, *, address: str | None, workers: int | None, report: Reporter
) -> int:
    """Caption every shard that has no results yet.

    Args:
        pictures: as the user names them; every machine must see them under these names.
        address: of a running cluster; None starts one on this machine.
        workers: actors; default: one a GPU, else one for every two processors.

    Returns:
        How many pictures and shards failed.

    Raises:
        ConfigError: no shard format, or the cluster cannot be reached.
        DataError: the folder has results of other inputs, of another model or of other settings.
        CheckpointError: the model cannot be loaded.
        MissingExtraError: Ray is not installed.
    """
    if job.kind not in SHARD_FORMATS:
        raise ConfigError(f"--engine ray writes {', '.join(SHARD_FORMATS)}; not {job.kind}")
    inputs = find_inputs(pictures)
    if skipped := inputs.describe_skipped():
        report.note(skipped)
    is_remote = is_url(job.output)
    output = job.output if is_remote else os.path.abspath(job.output)
    made = make_plan(inputs)
    plan = list(made) if is_remote else kept_plan(Path(output), inputs.names, made)
    left = [shard for shard in plan if job.overwrite or not _is_done(shard, output, job.kind)]
    ray = _connect(address, workers)
    num_failed = num_lost = 0
    try:
        job = replace(job, model=_model_of(ray, job))
        identity = {"model": job.model, "dedupe": job.dedupe}
        check_identity(output, identity, overwrite=job.overwrite)
        report.note(f"{len(plan):,} shards, {len(plan) - len(left):,} done before")
        if not left:
            return 0
        rows = _results(ray, left, replace(job, output=output), workers)
        for number, row in enumerate(rows, 1):
            num_failed += int(row["failed"])
            num_lost += bool(row["error"])
            if row["error"]:
                report.note(f"error: shard {row['shard']}: {row['error']}")
            report.progress(
                "captioning", number, len(left), "shards", num_failed=num_failed + num_lost
            )
        if job.overwrite and not num_lost:
            keep_identity(output, identity)
    finally:
        ray.shutdown()
    return num_failed + num_lost


def _is_done(shard: Shard, output: str, kind: str) -> bool:
    file = f"{output.rstrip('/')}/{shard.file_name(kind)}"
    return remote.exists(file) if is_url(file) else os.path.exists(file)


def _connect(address: str | None, workers: int | None) -> Any:
    with needs_extra("ray", "--engine ray"):
        import ray
        import ray.data
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init("local", num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"--address {address}: {one_line(error)}") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray


def _model_of(ray: Any, job: Job) -> str:
    """``model_id`` of a job, by a process that loads the model as an actor does.

    The machine that starts a job need not have the model, a GPU or a server's key.

    Raises:
        CheckpointError: the model cannot be loaded there.
    """

    def look(job: Job) -> tuple[str, str]:
        try:
            return ShardCaptioner(job).model, ""
        except ShowtellError as failure:
            return "", one_line(failure)

    # In a process of its own, which gives back its memory, and the GPU's, when it ends.
    gpus = 1 if int(ray.cluster_resources().get("GPU", 0)) else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=1)(look)
    model, error = ray.get(task.remote(job))
    if error:
        raise CheckpointError(error)
    return str(model)


def _results(ray: Any, left: list[Shard], job: Job, workers: int | None) -> Iterator[Any]:
    resources = ray.cluster_resources()
    num_gpus, num_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    actors = min(workers or num_gpus or max(1, num_cpus // 2), len(left))
    # An actor lives on one machine: more than the largest has would be waited for without end.
    largest = max(int(n["Resources"].get("CPU", 1)) for n in ray.nodes() if n["Alive"])
    cpus = max(1, min(num_cpus // actors, largest))
    items = [{"shard": json.dumps({"name": s.name, "names": s.names})} for s in left]
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        ShardCaptioner,
        fn_constructor_kwargs={"job": replace(job, threads=cpus)},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cpus,
        num_gpus=1 if num_gpus else 0,
    )
    yield from done.iter_rows()
