"""The detector of caption words: its noisy-OR, its loss, and what it tells the decoder."""

import itertools

import numpy as np
import pytest
import torch

from showtell.decoders.transformer import Transformer
from showtell.decoders.word_detector import WordDetector, commonest, what_a_word_says
from showtell.encoders.features import Concepts, Features
from showtell.text.vocabulary import PAD
from showtell.training.objectives.losses import cross_entropy

WORDS = torch.tensor([4, 7, 9])
PRIOR = torch.tensor([0.9, 0.2, 0.05])


def detector(num_words: int = 2) -> WordDetector:
    torch.manual_seed(0)
    made = WordDetector(size=6, num_detected=3, num_words=num_words, vocab_size=12)
    made.fill(WORDS, PRIOR)
    return made


def test_a_word_is_there_if_any_region_shows_it() -> None:
    """Fang et al. 2015, equation 1, by enumerating which regions show the word."""
    made = detector()
    torch.nn.init.normal_(made.logits.weight)
    regions = torch.randn(2, 4, 6)
    mask = torch.tensor([[True] * 4, [True, True, False, True]])
    shown = made.logits(regions).sigmoid().double()
    found = -torch.expm1(-made.evidence(regions, mask).double())
    for picture, word in itertools.product(range(2), range(3)):
        total = 0.0
        chances = shown[picture, mask[picture], word].tolist()
        for pattern in itertools.product([False, True], repeat=len(chances)):
            if any(pattern):
                total += np.prod(
                    [p if on else 1 - p for p, on in zip(chances, pattern, strict=True)]
                )
        assert found[picture, word].item() == pytest.approx(total, rel=1e-5)


def test_its_loss_is_the_cross_entropy_of_each_captions_words() -> None:
    made = detector()
    captions = torch.tensor([[1, 4, 5, 2], [1, 7, 4, 0], [1, 8, 2, 0], [1, 9, 9, 2]])
    has = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1.0]])
    evidence = made.evidence(torch.randn(2, 4, 6), None)
    picture_of = torch.tensor([0, 1, 1, 0])
    chance = -torch.expm1(-evidence)[picture_of]
    expected = torch.nn.functional.binary_cross_entropy(chance, has, reduction="sum") / 4
    torch.testing.assert_close(made.loss(evidence, captions, picture_of), expected)
    apart = made.loss(evidence[picture_of], captions, None)
    torch.testing.assert_close(apart, expected)


def test_before_it_has_learnt_it_says_what_is_usual() -> None:
    made = detector()
    torch.nn.init.zeros_(made.logits.weight)
    chance = -torch.expm1(-made.evidence(torch.randn(1, 64, 6), None))
    torch.testing.assert_close(chance[0], PRIOR, rtol=1e-3, atol=1e-4)


def test_common_words_say_little() -> None:
    """A word at its usual probability says nothing, and is not among the concepts."""
    worth = what_a_word_says(torch.tensor([0.95, 0.6, 0.05]), PRIOR)
    assert worth.argsort(descending=True).tolist() == [1, 0, 2]
    evidence = -torch.log1p(-torch.tensor([[0.9, 0.6, 0.05], [0.99, 0.1, 0.5]]))
    concepts = detector().concepts(evidence)
    assert concepts.words.tolist() == [[7, PAD], [9, 4]]
    torch.testing.assert_close(concepts.scores, torch.tensor([[0.6, 0.0], [0.5, 0.99]]))


def test_words_that_captions_lack_are_never_seen() -> None:
    """A detector may have room for more words than the captions have."""
    made = WordDetector(size=6, num_detected=5, num_words=4, vocab_size=12)
    made.fill(WORDS, PRIOR)
    concepts = made.concepts(made.evidence(torch.randn(3, 64, 6), None))
    assert set(concepts.words.flatten().tolist()) <= {PAD, *WORDS.tolist()}
    assert [part.tolist() for part in made.known()] == [WORDS.tolist(), PRIOR.tolist()]
    regions, captions = torch.randn(2, 64, 6), torch.tensor([[1, 4, 5, 2], [1, 7, 4, PAD]])
    same = WordDetector(size=6, num_detected=3, num_words=3, vocab_size=12)
    same.fill(WORDS, PRIOR)
    with torch.no_grad():
        same.logits.weight.copy_(made.logits.weight[:3])
    losses = [one.loss(one.evidence(regions, None), captions, None) for one in (made, same)]
    torch.testing.assert_close(*losses)


def test_the_commonest_words() -> None:
    words, shares = commonest(torch.tensor([0, 0, 3, 10, 0, 5]), 10, 4)
    assert words.tolist() == [3, 5, 2]
    assert shares.tolist() == pytest.approx([1.0, 0.5, 0.3])


def transformer(**settings: float) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(
        vocab_size=12, feature_size=5, hidden_size=8, num_heads=2, num_layers=1,
        num_encoder_layers=1, feedforward_size=8, dropout=0.0, concepts=2, detected=3, **settings,
    )  # fmt: skip
    assert made.detector is not None
    made.detector.fill(WORDS, PRIOR)
    return made


def test_it_learns_beside_the_decoder_from_pictures_alone() -> None:
    """The words of captions without pictures must not teach the detector anything."""
    decoder = transformer(detector_weight=1.0).train()
    tokens = torch.tensor([[1, 4, 7], [1, 9, 4]])
    targets = torch.tensor([[4, 7, 2], [9, 4, 2]])
    seen = Features(torch.zeros(2, 5), torch.randn(2, 6, 5))
    told = Features(torch.zeros(2, 5), concepts=Concepts(tokens[:, 1:], torch.ones(2, 2)))
    assert decoder.detector is not None
    for features, learns in ((seen, True), (told, False)):
        decoder.zero_grad()
        cross_entropy(decoder, features, tokens, targets).objective.backward()  # type: ignore[no-untyped-call]
        gradient = decoder.detector.logits.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is learns


def test_it_finds_the_word_that_a_region_shows() -> None:
    """Trained on pictures of which one region shows each word of the caption."""
    decoder = transformer(detector_weight=1.0).train()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    kinds = torch.eye(5)[:3]
    for step in range(150):
        generator = torch.Generator().manual_seed(step)
        chosen = torch.randint(0, 3, (16,), generator=generator)
        regions = torch.zeros(16, 6, 5)
        places = torch.randint(0, 6, (16,), generator=generator)
        regions[torch.arange(16), places] = kinds[chosen]
        inputs = torch.stack([torch.full((16,), 1), WORDS[chosen]], dim=1)
        targets = torch.stack([WORDS[chosen], torch.full((16,), 2)], dim=1)
        loss = cross_entropy(decoder, Features(torch.zeros(16, 5), regions), inputs, targets)
        optimizer.zero_grad()
        loss.objective.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    decoder.eval()
    regions = torch.zeros(3, 6, 5)
    regions[:, 2] = kinds
    assert decoder.detector is not None
    evidence = decoder.detector.evidence(decoder.project(regions, None), None)
    assert evidence.argmax(dim=1).tolist() == [0, 1, 2]
    chance = -torch.expm1(-evidence)
    assert chance.diagonal().min() > 0.9
    assert chance[~torch.eye(3, dtype=torch.bool)].max() < 0.2
