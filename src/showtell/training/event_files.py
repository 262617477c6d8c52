"""A run's figures for TensorBoard, in ``tensorboard/`` in the run's folder.

Asked for by ``training.tensorboard``. Knows nothing of what the figures mean.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from showtell.errors import MissingExtraError

FOLDER = "tensorboard"
NO_SCALARS = {"epoch", "step", "tokens", "seconds"}


class EventFiles:
    """Writes scalars.

    Args:
        folder: the run's.
        next_step: what an earlier part of the run wrote from this step on is hidden, because
            it is done again.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, next_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("train", "training.tensorboard = true") from None
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=next_step)

    def write(self, group: str, step: int, values: Mapping[str, Any]) -> None:
        """Each number of ``values`` as the scalar ``group/name``."""
        for name, value in values.items():
            if name not in NO_SCALARS and isinstance(value, int | float):
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write out what is left."""
        self._writer.close()
