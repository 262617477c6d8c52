"""Encoding pictures: many into a feature store, or a few at once for captioning.

Pictures are decoded and cut by threads (Pillow lets go of the interpreter's lock) while or
before the encoder works, and come to it in the order of the records. A random view depends on
the seed, the picture's id and the view's number alone, and each batch has the same size, so
that a store does not depend on where its making was stopped.
"""

import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from showtell.data.records import Record
from showtell.errors import ImageError, StoreError
from showtell.features.images import Pixels, Preprocessing, open_image
from showtell.features.store import Half, StoreSpec
from showtell.features.store_writer import StoreWriter
from showtell.models.base import Features
from showtell.models.encoders import Encoder
from showtell.runtime import Runtime

BATCH_SIZE = 32
SECONDS_BETWEEN_FLUSHES = 2.0
HALF_MAX = 65504.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an extraction is.

    Attributes:
        done: Pictures of this run that are through, broken ones counted.
        total: Pictures that this run has to encode.
        images_per_second: Pictures (not views) so far, over the time so far.
        num_failed: Broken pictures so far.
    """

    done: int
    total: int
    images_per_second: float
    num_failed: int


@dataclass(frozen=True, slots=True)
class ExtractionReport:
    """What an extraction did.

    Attributes:
        path: The store.
        num_encoded: Pictures encoded by this run.
        num_kept: Pictures that the store had already.
        num_views: Encoder passes of this run, one a view.
        failures: Image id -> why it could not be read, over all the records asked for.
        seconds: Of this run, from the first picture's decoding.
    """

    path: Path
    num_encoded: int
    num_kept: int
    num_views: int
    failures: dict[str, str]
    seconds: float

    @property
    def views_per_second(self) -> float:
        """Encoder passes a second."""
        return self.num_views / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class _Job:
    """One picture to encode: its file as it was when the run began, and how many views."""

    record: Record
    size: int
    mtime_ns: int
    views: int


def extract_features(
    records: Sequence[Record],
    encoder: Encoder,
    path: Path,
    *,
    views: int,
    grid: bool,
    seed: int,
    runtime: Runtime,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExtractionReport:
    """Encode the pictures of ``records`` into the store at ``path``, those it lacks or has older.

    Stopped in any way, it goes on where it stopped when called again. A broken picture is
    recorded with its reason and skipped.

    Args:
        records: The pictures; those of the train split get random views.
        encoder: On any device; it is moved to the runtime's.
        path: The store's folder; made where there is none.
        views: Random views of each training picture, besides its evaluation view.
        grid: Whether to keep grid features too.
        seed: Of the random views; a store that exists keeps to its own.
        runtime: Where and how precisely to compute.
        batch_size: Views a pass of the encoder; default: 32 on a processor, 256 on a GPU.
        progress: Called after each batch.

    Raises:
        StoreError: the store was made otherwise, is being written, or the disk is full.
    """
    spec = StoreSpec(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        views=views,
        seed=seed,
        pooled_size=encoder.pooled_size,
        grid_size=encoder.grid_size if grid else None,
    )
    with StoreWriter(path, spec) as writer:
        jobs = [job for job in map(_job, records, [views] * len(records)) if _is_due(job, writer)]
        _check_room(path, sum(job.views for job in jobs) * writer.spec.bytes_per_row)
        run = _Extraction(writer, encoder, runtime, batch_size, len(jobs), progress)
        run.encode(jobs)
    wanted = {record.image_id for record in records}
    failures = {key: reason for key, reason in writer.failures.items() if key in wanted}
    return ExtractionReport(
        path=path,
        num_encoded=len(jobs) - run.num_failed,
        num_kept=len(records) - len(jobs),
        num_views=run.num_views,
        failures=failures,
        seconds=time.perf_counter() - run.started,
    )


def encode_images(
    images: Sequence[Image.Image],
    encoder: Encoder,
    runtime: Runtime,
    *,
    grid: bool = False,
    batch_size: int | None = None,
) -> Features:
    """Encode pictures that are in memory, each by its evaluation view.

    Args:
        images: B pictures from ``open_image``; at least one.
        encoder: On the runtime's device.
        runtime: Where and how precisely to compute.
        grid: Whether to give regions too.
        batch_size: Pictures a pass of the encoder.

    Returns:
        Features in fp32 on the runtime's device: pooled (B, D), regions (B, R, D') or None.
    """
    assert images, "nothing to encode"
    step = batch_size or default_batch_size(runtime)
    parts = []
    for start in range(0, len(images), step):
        batch = np.stack(
            [encoder.preprocessing.eval_view(image) for image in images[start : start + step]]
        )
        parts.append(_look(torch.from_numpy(batch), encoder, runtime, grid))
    regions = [part.regions for part in parts if part.regions is not None]
    return Features(
        torch.cat([part.pooled for part in parts]), torch.cat(regions) if regions else None
    )


def default_batch_size(runtime: Runtime) -> int:
    """Views a pass of the encoder; on a processor more than 32 gains nothing."""
    return BATCH_SIZE if runtime.device == "cpu" else 256


def _look(images: Tensor, encoder: Encoder, runtime: Runtime, grid: bool) -> Features:
    with runtime.autocast():
        features: Features = encoder(images.to(runtime.device, non_blocking=True), regions=grid)
    return features


def _job(record: Record, views: int) -> _Job:
    num_views = 1 + views if record.split == "train" else 1
    try:
        info = os.stat(record.path)
    except OSError:  # its decoding will say what is wrong
        return _Job(record, 0, 0, num_views)
    return _Job(record, info.st_size, info.st_mtime_ns, num_views)


def _is_due(job: _Job, writer: StoreWriter) -> bool:
    return not writer.is_current(job.record.image_id, job.size, job.mtime_ns, job.views)


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path).free
    if needed > free:
        raise StoreError(
            f"the feature store {path} needs {needed / 1e9:.1f} GB and its disk has "
            f"{free / 1e9:.1f} GB free; make room, ask for fewer views, or give another folder"
        )


def view_generator(seed: int, image_id: str, view: int) -> np.random.Generator:
    """The source of chance for one random view: the same in any order, run and process."""
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([seed, view, int.from_bytes(digest[:8], "big")])


def _cut(job: _Job, preprocessing: Preprocessing, seed: int) -> list[Pixels] | str:
    """Decode a picture once and cut its views; the reason where it cannot be."""
    try:
        image = open_image(job.record.path, min_side=preprocessing.decode_side)
    except ImageError as error:
        return str(error)
    cuts = [preprocessing.eval_view(image)]
    for view in range(1, job.views):
        rng = view_generator(seed, job.record.image_id, view)
        cuts.append(preprocessing.random_view(image, rng))
    return cuts


class _Extraction:
    """One run: a batch being filled, and the counts for its progress."""

    def __init__(
        self,
        writer: StoreWriter,
        encoder: Encoder,
        runtime: Runtime,
        batch_size: int | None,
        total: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._writer, self._runtime, self._progress = writer, runtime, progress
        self._encoder = encoder.to(runtime.device)
        self._total = total
        size = encoder.preprocessing.size
        # Always full, so that every pass has one shape and a view's numbers one rounding.
        batch_size = batch_size or default_batch_size(runtime)
        self._batch = np.zeros((batch_size, size, size, 3), dtype=np.uint8)
        self._filled = 0
        self.num_done = self.num_failed = self.num_views = 0
        self.started = self._flushed = time.perf_counter()

    def encode(self, jobs: Sequence[_Job]) -> None:
        """Put the features of every job's picture into the store, in order."""
        for job, cuts in self._cut_ahead(jobs):
            identity = (job.record.image_id, job.size, job.mtime_ns)
            self.num_done += 1
            if isinstance(cuts, str):
                self.num_failed += 1
                self._writer.add_failure(*identity, cuts)
                continue
            self._writer.add(*identity, job.views)
            for pixels in cuts:
                self._batch[self._filled] = pixels.transpose(1, 2, 0)
                self._filled += 1
                if self._filled == len(self._batch):
                    self._encode_batch()
        self._encode_batch()
        self._writer.flush()

    def _encode_batch(self) -> None:
        images = torch.from_numpy(self._batch).permute(0, 3, 1, 2)
        grid = self._writer.spec.grid_size is not None
        if self._filled:
            features = _look(images, self._encoder, self._runtime, grid)
            regions = (
                None if features.regions is None else _to_half(features.regions[: self._filled])
            )
            self._writer.append(_to_half(features.pooled[: self._filled]), regions)
        self.num_views += self._filled
        self._filled = 0
        now = time.perf_counter()
        if now - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self._writer.flush()
            self._flushed = time.perf_counter()
        if self._progress is not None:
            rate = self.num_done / (now - self.started)
            self._progress(Progress(self.num_done, self._total, rate, self.num_failed))

    def _cut_ahead(self, jobs: Sequence[_Job]) -> Iterator[tuple[_Job, list[Pixels] | str]]:
        """Each job with its cuts, in order; as many ahead as fill two batches."""
        waiting: deque[tuple[_Job, Future[list[Pixels] | str]]] = deque()
        views_ahead = 0
        rest = iter(jobs)
        pool = ThreadPoolExecutor(num_workers(), thread_name_prefix="decode")
        try:
            while True:
                while views_ahead < 2 * len(self._batch) and (job := next(rest, None)):
                    future = pool.submit(
                        _cut, job, self._encoder.preprocessing, self._writer.spec.seed
                    )
                    waiting.append((job, future))
                    views_ahead += job.views
                if not waiting:
                    return
                job, future = waiting.popleft()
                yield job, future.result()
                views_ahead -= job.views
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def num_workers() -> int:
    """Threads that decode: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _to_half(values: Tensor) -> Half:
    half: Half = values.clamp(-HALF_MAX, HALF_MAX).half().cpu().numpy()
    return half
