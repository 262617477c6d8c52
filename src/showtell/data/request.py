"""A data set as a user asks for it: its name and the places of its parts."""

from dataclasses import dataclass
from pathlib import Path

from showtell.core.memory import paused_collector
from showtell.core.progress import Progress, Reporter
from showtell.data.records import Dataset
from showtell.data.sources import load_dataset
from showtell.data.splits import usable_splits


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Where captioned pictures are, in the words of the command line.

    Attributes:
        data: a path, or ``scenes``.
        format: of ``data``, where it is ambiguous.
        images: the folder of the pictures, if they are not beside ``data``.
        encoding: of its texts, where they are not UTF-8.
        store: the feature store to use; by default one in the cache folder.
        only_edited: leave out captions that a model wrote and nobody edited.
    """

    data: str
    format: str | None = None
    images: Path | None = None
    store: Path | None = None
    encoding: str | None = None
    only_edited: bool = False

    def load(self, progress: Progress | None = None) -> Dataset:
        """Read the data set.

        Args:
            progress: As ``load_dataset`` takes it.

        Raises:
            DataError: it cannot be read.
        """
        return load_dataset(
            self.data,
            format=self.format,
            images=self.images,
            encoding=self.encoding,
            only_edited=self.only_edited,
            progress=progress,
        )


def open_data(data: DataRequest, *, report: Reporter) -> Dataset:
    """Read a data set as training takes it, and say what is wrong with it.

    Raises:
        DataError: there is nothing to train on.
    """

    def unpacking(done: int, total: int) -> None:
        report.progress("unpacking", done, total, "pictures")

    with paused_collector():
        dataset = usable_splits(data.load(unpacking))
    for remark in dataset.remarks():
        report.note(remark)
    return dataset
