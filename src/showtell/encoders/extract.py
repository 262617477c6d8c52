"""Encoding pictures: all of a data set into its feature store, or a few at once for captioning.

``features_for`` opens the store of a data set and encodes what the store lacks; by default the
store is in the cache folder. ``extract_features`` does the encoding. ``encode_pixels`` encodes
pictures that are in memory.

Threads decode views (``images/views.py``) in the order of the records; each view is one pass of the
encoder. Every batch has the same size, so a store's content does not depend on where its making was
stopped and continued.
"""

import re
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from showtell.core.device import Runtime
from showtell.core.files import cache_folder, short_digest
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.encoders.encoder import Encoder
from showtell.encoders.features import Features
from showtell.encoders.store import FeatureStore, Half, Journal, StoreSpec, read_journal, read_spec
from showtell.encoders.store_writer import StoreWriter
from showtell.errors import StoreError
from showtell.images.open import Pixels
from showtell.images.views import Job, Unreadable, cut_ahead, plan

BATCH_SIZE = 16
SECONDS_BETWEEN_FLUSHES = 2.0
HALF_MAX = 65504.0
AUGMENTED = ("train",)  # the splits whose pictures get random views
# Runs with different seeds share a store. A run's own seed decides which view of a picture is drawn
# at which step.
VIEW_SEED = 0


@dataclass(frozen=True, slots=True)
class WantedFeatures:
    """Which features of a data set's pictures are needed.

    Attributes:
        views: random views of each augmented picture, in addition to its evaluation view.
        flips: whether half of the random views are mirrored; leave it off where captions
            distinguish left from right.
        grid: whether grid features are needed too.
        augmented: splits whose pictures get random views; () if only evaluation views are read, as
            in an evaluation.
        seed: of the random views; an existing store keeps its own.
    """

    views: int = 0
    flips: bool = True
    grid: bool = False
    augmented: Collection[str] = AUGMENTED
    seed: int = VIEW_SEED

    def spec(self, encoder: Encoder, precision: str) -> StoreSpec:
        """What a store with these features of ``encoder``, computed in ``precision``, contains."""
        return StoreSpec(
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            views=self.views,
            seed=self.seed,
            pooled_size=encoder.pooled_size,
            grid_size=encoder.grid_size if self.grid else None,
            flips=self.flips,
            precision=precision,
        )

    def job(self, record: Record) -> Job:
        """The views to cut from the picture of ``record``."""
        num_random = self.views if record.split in self.augmented else 0
        return plan(record.image_id, record.path, num_random=num_random, flips=self.flips)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an extraction is.

    Attributes:
        done: pictures that are done, including those that cannot be read.
        total: pictures that this run has to encode.
        images_per_second: pictures (not views) so far, divided by the time so far.
        num_failed: pictures so far that cannot be read.
    """

    done: int
    total: int
    images_per_second: float
    num_failed: int


@dataclass(frozen=True, slots=True)
class ExtractionReport:
    """The result of an extraction.

    Attributes:
        path: the store.
        num_encoded: pictures encoded by this run.
        num_kept: pictures that the store had already.
        num_views: views encoded by this run.
        failures: image id -> why it could not be read, for all records.
        seconds: duration of this run, from decoding the first picture.
    """

    path: Path
    num_encoded: int
    num_kept: int
    num_views: int
    failures: dict[str, str]
    seconds: float

    @property
    def views_per_second(self) -> float:
        """Views encoded in a second."""
        return self.num_views / self.seconds if self.seconds else 0.0


def extract_features(
    records: Sequence[Record],
    encoder: Encoder,
    path: Path,
    wanted: WantedFeatures,
    *,
    runtime: Runtime,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExtractionReport:
    """Encode into the store at ``path`` the pictures that it lacks or whose files have changed.

    After it was stopped in any way, calling it again continues. A file with another date and the
    same bytes, such as a copy, keeps its features. A picture that cannot be read is recorded with
    the reason and skipped; where the reason may pass, the next call tries it again.

    Args:
        records: the pictures.
        encoder: on any device; it is moved to the runtime's.
        path: the store's folder; it is made if there is none.
        wanted: which features to store.
        runtime: the device and the precision.
        batch_size: views in a pass of the encoder; default: 16 on a processor, 256 on a GPU.
        progress: called after each batch.

    Raises:
        StoreError: the store has other features, is being written, or the disk is full.
    """
    spec = wanted.spec(encoder, runtime.precision)
    asked = [wanted.job(record) for record in records]
    journal = _journal(path, spec)
    if journal is not None and all(_is_current(job, journal) for job in asked):
        # Nothing to write, so no lock is needed: runs that share a store may start together.
        return _nothing_new(path, journal, records)
    try:
        opened = StoreWriter(path, spec)
    except StoreError:
        # Another try at pictures that failed can wait until the store can be written.
        if journal is None or not all(_is_known(job, journal) for job in asked):
            raise
        return _nothing_new(path, journal, records)
    with opened as writer:
        jobs = [
            replace(job, digest=writer.digest(job.image_id, job.size, job.num_views))
            for job in asked
            if not _is_current(job, writer)
        ]
        num_views = sum(job.num_views for job in jobs if not job.digest)
        _check_room(path, num_views * writer.spec.bytes_per_row)
        run = _Extraction(writer, encoder, runtime, batch_size, len(jobs), progress)
        run.encode(jobs)
    return ExtractionReport(
        path=path,
        num_encoded=len(jobs) - run.num_failed - run.num_same,
        num_kept=len(records) - len(jobs) + run.num_same,
        num_views=run.num_views,
        failures=_of(writer.failures, records),
        seconds=time.perf_counter() - run.started,
    )


def encode_pixels(
    pixels: Pixels,
    encoder: Encoder,
    runtime: Runtime,
    *,
    grid: bool = False,
    batch_size: int | None = None,
) -> Features:
    """Encode the evaluation views of pictures that are in memory.

    Args:
        pixels: (B, 3, S, S) views, ``encoder.preprocessing.eval_view`` of B >= 1 pictures.
        encoder: on the runtime's device.
        runtime: the device and the precision.
        grid: whether to return regions too.
        batch_size: pictures in a pass of the encoder; default: 256 on a GPU, on a
            processor 16 in bf16 and 1 in fp32.

    The features of a picture do not depend on the others. In bf16 no batch size changes them; in
    fp32 libraries choose kernels by the size, so on a processor a pass has one picture.

    Returns:
        Features in fp32 on the runtime's device: pooled (B, D), regions (B, R, D') or None.
    """
    is_exact = runtime.device == "cpu" and runtime.precision == "fp32"
    step = batch_size or (1 if is_exact else default_batch_size(runtime))
    parts = [
        _look(torch.from_numpy(pixels[start : start + step]), encoder, runtime, grid)
        for start in range(0, len(pixels), step)
    ]
    regions = [part.regions for part in parts if part.regions is not None]
    return Features(
        torch.cat([part.pooled for part in parts]), torch.cat(regions) if regions else None
    )


def default_batch_size(runtime: Runtime) -> int:
    """Views in a pass of the encoder; on a processor, more than 16 are not faster."""
    return BATCH_SIZE if runtime.device == "cpu" else 256


def _look(images: Tensor, encoder: Encoder, runtime: Runtime, grid: bool) -> Features:
    with runtime.inference():
        features: Features = encoder(images.to(runtime.device), regions=grid)
    return features


def _is_current(job: Job, store: StoreWriter | Journal) -> bool:
    return store.is_current(job.image_id, job.size, job.mtime_ns, job.num_views)


def _is_known(job: Job, journal: Journal) -> bool:
    """Whether the store has the picture's features, or why its file could not be read."""
    failed = journal.has_failed(job.image_id, job.size, job.mtime_ns)
    return failed or _is_current(job, journal)


def _journal(path: Path, asked: StoreSpec) -> Journal | None:
    """The journal of the store at ``path``, which has to be as ``asked``; None if there is none."""
    made = read_spec(path)
    if made is None:
        return None
    made.check_made(path, asked)
    return read_journal(path)


def _nothing_new(path: Path, journal: Journal, records: Sequence[Record]) -> ExtractionReport:
    errors = {key: line["error"] for key, line in journal.lines.items() if "error" in line}
    return ExtractionReport(path, 0, len(records), 0, _of(errors, records), 0.0)


def _of(failures: dict[str, str], records: Sequence[Record]) -> dict[str, str]:
    return {r.image_id: failures[r.image_id] for r in records if r.image_id in failures}


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path).free
    if needed > free:
        raise StoreError(
            f"the feature store {path} needs {needed / 1e9:.1f} GB and its disk has "
            f"{free / 1e9:.1f} GB free; make room, ask for fewer views, or give another folder"
        )


class _Extraction:
    """One run of ``extract_features``: the batch being filled, and counts for its progress."""

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
        # Every pass has this shape, so that a view's features are always rounded the same way.
        batch_size = batch_size or default_batch_size(runtime)
        self._batch = np.zeros((batch_size, size, size, 3), dtype=np.uint8)
        self._filled = 0
        self.num_done = self.num_failed = self.num_same = self.num_views = 0
        self.started = self._flushed = time.perf_counter()

    def encode(self, jobs: Sequence[Job]) -> None:
        """Store the features of every job's picture, in order."""
        for job, cuts in cut_ahead(
            jobs,
            self._encoder.preprocessing,
            seed=self._writer.spec.seed,
            batch_size=len(self._batch),
            overlaps=self._runtime.device != "cpu",
        ):
            identity = (job.image_id, job.size, job.mtime_ns)
            self.num_done += 1
            if isinstance(cuts, Unreadable):
                self.num_failed += 1
                self._writer.add_failure(*identity, cuts.reason, may_pass=cuts.may_pass)
                continue
            if not cuts.views:
                self.num_same += 1
                self._writer.renew(job.image_id, job.mtime_ns)
                self._flush_now_and_then()
                continue
            self._writer.add(*identity, job.num_views, cuts.digest)
            for pixels in cuts.views:
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
        self._flush_now_and_then()

    def _flush_now_and_then(self) -> None:
        now = time.perf_counter()
        if now - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self._writer.flush()
            self._flushed = time.perf_counter()
        if self._progress is not None:
            rate = self.num_done / (now - self.started)
            self._progress(Progress(self.num_done, self._total, rate, self.num_failed))


def _to_half(values: Tensor) -> Half:
    half: Half = values.clamp(-HALF_MAX, HALF_MAX).half().cpu().numpy()
    return half


def features_for(
    dataset: Dataset,
    encoder: Encoder,
    wanted: WantedFeatures,
    *,
    runtime: Runtime,
    report: Reporter,
    folder: Path | None = None,
) -> FeatureStore:
    """Open a store with the features of a data set's records, and encode what it lacks.

    Args:
        wanted: which features are needed. If no split is augmented, a store in ``folder`` may have
            any random views, since only evaluation views are read.
        folder: the store's folder; default: one in the cache folder for this data set, encoder,
            number of views and precision. A store in it may have any precision.

    Raises:
        StoreError: the store has other features, or cannot be written.
    """
    if not wanted.augmented and folder and (spec := read_spec(folder)):
        wanted = replace(wanted, views=spec.views, flips=spec.flips)
    path = folder or _default_folder(dataset, encoder, wanted, runtime.precision)
    watch = _watch(report, path)
    result = extract_features(
        dataset.records, encoder, path, wanted, runtime=runtime, progress=watch
    )
    if result.num_encoded:
        report.note(
            f"encoded {counted(result.num_encoded, 'picture')} in {result.seconds:.0f} s "
            f"({result.views_per_second:.0f} views/s) into {path}"
        )
    else:
        report.note(f"features: {path}")
    store = FeatureStore.open(
        path, fingerprint=encoder.fingerprint, views=wanted.views, grid=wanted.grid
    )
    if store.spec.precision not in (None, runtime.precision):
        report.note(
            f"the features in {path} were computed in {store.spec.precision}, and this run "
            f"computes in {runtime.precision}"
        )
    return store


def _watch(report: Reporter, path: Path) -> Callable[[Progress], None]:
    """Report the store's folder with the first features, then the progress."""
    told = False

    def watch(progress: Progress) -> None:
        nonlocal told
        if progress.total == 0:
            return
        if not told:
            report.note(f"encoding {counted(progress.total, 'picture')} into {path}")
            told = True
        report.progress("encoding", progress.done, progress.total, "pictures")

    return watch


def _default_folder(
    dataset: Dataset, encoder: Encoder, wanted: WantedFeatures, precision: str
) -> Path:
    """A name that people can read (data set, encoder, views, precision), and a hash of the rest.

    Earlier versions left the precision out: such a folder is used where it is there.
    """
    where = dataset.name if dataset.format == "scenes" else str(Path(dataset.name).resolve())
    content = f"{where}\n{encoder.fingerprint}\n{wanted.flips}"
    key = short_digest(content, length=10)
    name = re.sub(r"[^\w.-]+", "-", Path(dataset.name).stem) or "data"
    kind = re.sub(r"[^\w.-]+", "-", encoder.name)
    grid = "-grid" if wanted.grid else ""
    start = cache_folder() / "features" / f"{name}-{kind}-v{wanted.views}{grid}"
    path, earlier = Path(f"{start}-{precision}-{key}"), Path(f"{start}-{key}")
    return earlier if not path.exists() and _is_usable(earlier, precision) else path


def _is_usable(path: Path, precision: str) -> bool:
    try:
        spec = read_spec(path)
    except StoreError:
        return False
    return spec is not None and spec.precision in (None, precision)
