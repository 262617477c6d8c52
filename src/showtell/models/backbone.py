"""What a picture network has to offer so that an encoder can be made of it."""

from abc import abstractmethod
from collections.abc import Collection, Sequence

from torch import Tensor, nn

from showtell.models.concepts import Classes


class Backbone(nn.Module):
    """A picture network as ``Encoder`` needs it: one map, and what is read from it."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) -> the last map, in the network's own layout."""

    @abstractmethod
    def pooled(self, last_map: Tensor) -> Tensor:
        """The last map -> one vector a picture, (B, D)."""

    @abstractmethod
    def regions(self, last_map: Tensor) -> Tensor:
        """The last map -> the grid, row by row from the top left, (B, R, D')."""

    @abstractmethod
    def logits(self, last_map: Tensor) -> Tensor:
        """The last map -> the classes that the network was trained to tell apart, (B, classes)."""

    def classes(self) -> Classes | None:
        """The classifier behind ``logits``, where it is one layer and captions know its words."""
        return None

    def stages(self) -> dict[str, list[str]]:
        """The names of each stage's parameters, in the order of computing; {}: it has no stages."""
        return {}

    def unfold_norms(self, stages: Sequence[str]) -> None:
        """Make the batch norms of some stages modules of their own, as they were published."""

    def fit(self, names: Collection[str]) -> None:
        """Become a network whose ``state_dict`` has ``names``, as ``unfold_norms`` may have made.

        Raises:
            ValueError: some name can be no entry of it.
        """
        if unknown := sorted(set(names) - self.state_dict().keys()):
            raise ValueError(f"it has no {unknown[0]!r}")
