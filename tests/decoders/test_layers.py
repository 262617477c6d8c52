"""Layers that decoders share: a batch norm that keeps its averages."""

import torch

from showtell.decoders.layers import FeatureEmbedding, freeze_batch_norms


def test_a_frozen_batch_norm_keeps_its_averages_and_trains_its_gain() -> None:
    torch.manual_seed(0)
    embedding = FeatureEmbedding(feature_size=4, embed_size=3)
    for _ in range(50):
        embedding(torch.randn(16, 4))
    mean = embedding.norm.running_mean.clone()
    rows = 5 + torch.randn(16, 4)  # of another kind
    freeze_batch_norms(embedding)
    normed = embedding.train()(rows)
    assert torch.equal(embedding.norm.running_mean, mean)
    assert torch.equal(normed, embedding.eval()(rows))
    normed.square().sum().backward()
    assert embedding.norm.weight.grad.abs().sum() > 0


def test_an_ordinary_one_follows_the_pictures() -> None:
    embedding = FeatureEmbedding(feature_size=4, embed_size=3).train()
    before = embedding.norm.running_mean.clone()
    embedding(5 + torch.randn(16, 4))
    assert not torch.equal(embedding.norm.running_mean, before)
