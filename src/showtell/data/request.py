"""A data set as a user asks for it: a name, and where its parts lie."""

from dataclasses import dataclass
from pathlib import Path

from showtell.data.records import Dataset
from showtell.data.sources import load_dataset


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Where captioned pictures are, in the words of the command line.

    Attributes:
        data: a path, or ``scenes``.
        format: of ``data``, where it is ambiguous.
        images: the folder of the pictures, if they do not lie beside ``data``.
        store: the feature store to use; by default one in the cache folder.
    """

    data: str
    format: str | None = None
    images: Path | None = None
    store: Path | None = None

    def load(self) -> Dataset:
        """Read the data set.

        Raises:
            DataError: it cannot be read.
        """
        return load_dataset(self.data, format=self.format, images=self.images)
