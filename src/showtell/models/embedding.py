"""From an encoder's features to a decoder's width."""

from torch import Tensor, nn

from showtell.models.batch_norm import BatchNorm
from showtell.models.dropout import Dropout


class FeatureEmbedding(nn.Module):
    """Features (..., D) to (..., E), on one scale in every dimension.

    What the features of all pictures share is much larger than what tells them apart; a batch
    norm (Ioffe and Szegedy 2015, arXiv 1502.03167) takes the first away, and a decoder learns to
    look several times sooner.

    Args:
        feature_size: D.
        embed_size: E.
        dropout: on the features, before the linear layer.
    """

    def __init__(self, *, feature_size: int, embed_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(feature_size, embed_size)
        self.norm = BatchNorm(embed_size)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(..., D) -> (..., E); zero where a mask (...) is False, which counts for nothing."""
        embedded: Tensor = self.linear(self.dropout(features))
        if mask is None:
            normed: Tensor = self.norm(embedded.flatten(0, -2))
            return normed.view_as(embedded)
        real = self.norm(embedded[mask])
        return embedded.new_zeros(embedded.shape, dtype=real.dtype).masked_scatter(
            mask[..., None], real
        )
