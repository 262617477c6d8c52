"""Bulk captioning on Ray Data: each actor loads one model and captions one shard at a time.

An actor captions a shard (``job_folder.py``) with the code that captions a folder locally, and
writes one file of results for it. A shard that was lost with its machine is done again; if the
results are on a shared disk, it continues from its journal.
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from showtell.bulk import remote, shards
from showtell.bulk.formats import model_id
from showtell.bulk.inputs import Inputs, find_inputs
from showtell.bulk.job_folder import (
    SHARD_FORMATS,
    Shard,
    begin_job,
    failures_of,
    keep_identity,
    keep_plan,
    kept_plan,
    look_for_done,
    make_plan,
)
from showtell.bulk.run import Summary, caption_all
from showtell.bulk.targets import OneFile
from showtell.core.files import parse_json
from showtell.core.prefetch import num_workers
from showtell.core.progress import Reporter, SilentReporter
from showtell.core.urls import is_url
from showtell.data.reading import printable
from showtell.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ShowtellError,
    needs_extra,
    one_line,
)
from showtell.inference.backends.remote_run import PicturesRefused
from showtell.inference.captioner import Captioner
from showtell.inference.stream import picture_at

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Job:
    """What every actor has to know.

    Attributes:
        loading: the arguments of ``Captioner.load``.
        decoding: changes of the model's own decoding settings.
        output: a folder that every machine sees, or a URL.
        kind: a format of ``SHARD_FORMATS``.
        dedupe: as ``caption_all``; duplicates are found within a shard.
        overwrite: whether the job begins anew; an actor finds only what the job itself has left.
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
        except Exception as failure:  # Ray would end the whole job
            bug = f"{type(failure).__name__}: {one_line(failure)} (a bug in showtell)"
            summary, error = Summary(), bug
        return {
            "shard": [shard.name],
            "captioned": [summary.num_captioned + summary.num_kept],
            "failed": [summary.num_failed],
            "passing": [summary.num_passing],
            "seconds": [summary.seconds],
            "error": [error],
        }

    def _caption(self, shard: Shard) -> Summary:
        if self.model != self._job.model:
            raise DataError("the model on this machine is not the job's")
        output = self._job.output.rstrip("/")
        if not is_url(output):
            return self._caption_into(shard, Path(output))
        results, failures = shard.file_name(self._job.kind), failures_of(shard.name)
        with tempfile.TemporaryDirectory() as folder:
            is_again = remote.get(f"{output}/{results}", str(Path(folder, results)))
            summary = self._caption_into(shard, Path(folder))
            # A new shard is done where its results are, so they come last. One that is done again
            # is not done while it has its old list of failures, so that goes last.
            for name in (results, failures) if is_again else (failures, results):
                if Path(folder, name).exists():
                    remote.put(str(Path(folder, name)), f"{output}/{name}")
                elif is_again:
                    remote.remove(output, [name])
        return summary

    def _caption_into(self, shard: Shard, folder: Path) -> Summary:
        kind = self._job.kind
        failures = folder / failures_of(shard.name)
        target = OneFile(folder / shard.file_name(kind), kind, failures, overwrite=False)
        size = 0  # of the journal
        while True:
            try:
                return caption_all(
                    self._captioner,
                    _inputs_of(shard),
                    target,
                    decoding=self._decoding,
                    report=SilentReporter(),
                    dedupe=self._job.dedupe,
                )
            except PicturesRefused:  # the journal has them: the next call gets past them
                size_before, size = size, target.journal.stat().st_size
                if size <= size_before:
                    raise


def _inputs_of(shard: Shard) -> Inputs:
    """The pictures of a group, whatever their names are like, or those in the shard's one file."""
    is_group = len(shard.names) > 1 or not shards.is_shard(shard.names[0])
    known = {name: picture_at(name) for name in shard.names} if is_group else {}
    return Inputs(shard.names, shard.names, known=known)


def caption_shards(
    pictures: list[str], job: Job, *, address: str | None, workers: int | None, report: Reporter
) -> int:
    """Caption every shard that is not done; a line at the end sums up.

    Args:
        pictures: as the user names them; every machine must see them under these names.
        address: of a running cluster; None starts one on this machine.
        workers: actors; default: one a GPU, else one for every two processors.

    Returns:
        How many pictures and shards failed, those of shards done before too.

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
    output = job.output if is_url(job.output) else os.path.abspath(job.output)
    kept = kept_plan(output, inputs.names)
    unreadable: list[str] = []
    added = list(make_plan(inputs, kept, unreadable.append))
    plan = [*kept, *added]
    for reason in unreadable[:MOST_SHOWN]:
        report.note(f"error: {printable(reason)}")
    totals = Totals(output, num_unreadable=len(unreadable))
    ray = _connect(address, workers)
    try:
        job = replace(job, output=output, model=_model_of(ray, job))
        identity = {"model": job.model, "dedupe": job.dedupe}
        begin_job(output, identity, plan, overwrite=job.overwrite)
        if added:
            keep_plan(output, inputs.names, plan)
        done, totals.num_failed_before = look_for_done(output, plan, job.kind)
        left = [shard for shard in plan if shard.name not in done]
        new = f", {len(added):,} added" if kept and added else ""
        report.note(f"{len(plan):,} shards, {len(done):,} done before{new}")
        rows = _results(ray, left, job, workers) if left else iter(())
        for number, row in enumerate(rows, 1):
            totals.add(row)
            if row["error"]:
                report.note(f"error: shard {row['shard']}: {row['error']}")
            report.progress("captioning", number, len(left), "shards", num_failed=totals.num_failed)
        keep_identity(output, identity)  # lost shards have no results: the next run begins them
    finally:
        ray.shutdown()
    report.note(totals.describe())
    return totals.num_failed


@dataclass(slots=True)
class Totals:
    """What came of a job.

    Attributes:
        output: the folder of the results, or a URL.
        num_unreadable: lines of lists that name no picture, and folders that cannot be read.
        num_failed_before: pictures without a caption of shards that were done before.
        num_failed_now: those of the other shards.
        num_passing: those of these that failed for a reason that may pass.
        num_captions: captions in the other shards, with those that were there before.
        num_lost: shards that could not be captioned.
    """

    output: str
    num_unreadable: int
    num_failed_before: int = 0
    num_failed_now: int = 0
    num_passing: int = 0
    num_captions: int = 0
    num_lost: int = 0

    @property
    def num_failed(self) -> int:
        """All that has no caption; a lost shard counts as one."""
        failed = self.num_failed_before + self.num_failed_now + self.num_unreadable
        return failed + self.num_lost

    def add(self, row: Mapping[str, Any]) -> None:
        """Count what an actor has told of a shard."""
        self.num_captions += int(row["captioned"])
        self.num_failed_now += int(row["failed"])
        self.num_passing += int(row["passing"])
        self.num_lost += bool(row["error"])

    def describe(self) -> str:
        """One line for the user."""
        said = [f"{self.num_captions:,} captions in the shards of this run"]
        if failed := self.num_failed_before + self.num_failed_now:
            before = f", {self.num_failed_before:,} of them before" * bool(self.num_failed_before)
            said.append(f"{failed:,} pictures failed ({self.output}/*.failures.jsonl{before})")
        if self.num_unreadable:
            said.append(f"{self.num_unreadable:,} lines of lists or folders cannot be read")
        if self.num_lost:
            said.append(f"{self.num_lost:,} shards failed as a whole")
        may_pass = self.num_passing or self.num_unreadable or self.num_lost
        again = "; the same command tries again what may pass" if may_pass else ""
        return ", ".join(said) + again


def _connect(address: str | None, workers: int | None) -> Any:
    with needs_extra("ray", "--engine ray"):
        import ray
        import ray.data
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            cpus = max(workers or 0, num_workers())
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray has errors of many kinds, also of its processes' time outs
        where = "Ray cannot be started here" if address is None else f"--address {address}"
        raise ConfigError(f"{where}: {one_line(error)}") from None
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
