"""The feature store of a data set: where it lies by default, and making it when there is none."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from showtell.counts import counted
from showtell.data.records import Dataset, Record
from showtell.features.extract import Progress, extract_features
from showtell.features.store import FeatureStore
from showtell.features.store_files import read_spec
from showtell.files import cache_folder
from showtell.models.encoders import Encoder
from showtell.progress import Reporter
from showtell.runtime import Runtime

# Not the run's seed, so that runs with other seeds share a store; theirs decides which view of a
# picture is drawn when.
VIEW_SEED = 0


def features_for(
    dataset: Dataset,
    encoder: Encoder,
    *,
    runtime: Runtime,
    report: Reporter,
    records: Sequence[Record] | None = None,
    folder: Path | None = None,
    views: int = 0,
    flips: bool = True,
    grid: bool = False,
    any_views: bool = False,
) -> FeatureStore:
    """Open a store that has features of ``records``, encoding what it lacks.

    Args:
        records: of ``dataset``; all of them by default.
        folder: the store's; by default one in the cache folder that belongs to this data set,
            encoder and number of views.
        views: random views of each training picture beside the one without augmentation.
        flips: whether half of them are mirrored.
        grid: whether grid features are needed.
        any_views: whether a store that is in ``folder`` may have been made with other random views,
            as where only the view without augmentation is read.

    Raises:
        StoreError: the store was made by something else, or cannot be written.
    """
    if any_views and folder and (spec := read_spec(folder)):
        views, flips = spec.views, spec.flips
    path = folder or _default_folder(dataset, encoder, views, flips, grid)
    result = extract_features(
        dataset.records if records is None else records,
        encoder,
        path,
        views=views,
        flips=flips,
        seed=VIEW_SEED,
        grid=grid,
        runtime=runtime,
        progress=_watch(report, path),
    )
    if result.num_encoded:
        report.note(
            f"encoded {counted(result.num_encoded, 'picture')} in {result.seconds:.0f} s "
            f"({result.views_per_second:.0f} views/s) into {path}"
        )
    else:
        report.note(f"features: {path}")
    return FeatureStore.open(path, fingerprint=encoder.fingerprint, views=views, grid=grid)


def _watch(report: Reporter, path: Path) -> Callable[[Progress], None]:
    """Says where the features go when the first are there, then moves the bar."""
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
    dataset: Dataset, encoder: Encoder, views: int, flips: bool, grid: bool
) -> Path:
    """Named for people first (data set, encoder, views), then a hash that tells apart the rest."""
    where = dataset.name if dataset.format == "scenes" else str(Path(dataset.name).resolve())
    key = hashlib.sha256(f"{where}\n{encoder.fingerprint}\n{flips}".encode()).hexdigest()[:10]
    name = re.sub(r"[^\w.-]+", "-", Path(dataset.name).stem) or "data"
    kind = re.sub(r"[^\w.-]+", "-", encoder.name)
    return cache_folder() / "features" / f"{name}-{kind}-v{views}{'-grid' if grid else ''}-{key}"
