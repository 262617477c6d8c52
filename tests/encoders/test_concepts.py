"""The words of a classifier, and a decoder that looks at them."""

import pytest
import torch
from decoder_cases import VOCAB, WIDTH, classes, features, make, tokens, vocabulary
from torch import Tensor
from torch.nn.functional import avg_pool2d

from showtell.encoders.concepts import (
    RARE,
    SMALLEST,
    UNCOMMON,
    Classes,
    ConceptReader,
    _windows,
    class_ids,
    imagenet_words,
)
from showtell.encoders.encoder import build_encoder
from showtell.encoders.features import Concepts, Features
from showtell.text.vocabulary import PAD, WordVocabulary

OPTIONS = {"hidden_size": 24, "num_heads": 2, "num_layers": 1, "concepts": 3}


def reader(
    weight: Tensor, names: tuple[str, ...], words: tuple[str, ...], num: int = 2
) -> ConceptReader:
    known = WordVocabulary(dict.fromkeys(words, 1), 1)
    made = ConceptReader(
        num_classes=len(names),
        feature_size=weight.shape[1],
        num_words=num,
        vocab_size=len(known),
    )
    made.fill(Classes(weight, torch.zeros(len(names)), names), known, torch.zeros(len(known)))
    return made


def test_imagenet_has_a_word_or_two_for_most_classes() -> None:
    words = imagenet_words()
    assert len(words) == 1000
    assert sum(bool(word) for word in words) == 909
    # By the indices of ImageNet's published class list.
    known = {
        151: "dog",
        281: "cat",
        340: "zebra",
        504: "coffee cup",
        779: "school bus",
        963: "pizza",
    }
    assert {index: words[index] for index in known} == known


@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_an_encoders_classes_are_its_classifiers(name: str) -> None:
    encoder = build_encoder(name)
    found = encoder.backbone.classes()
    images = torch.randint(0, 256, (2, 3, *[encoder.preprocessing.size] * 2), dtype=torch.uint8)
    logits = encoder(images, regions=False).pooled @ found.weight.T + found.bias
    torch.testing.assert_close(logits, encoder.classify(images), atol=1e-3, rtol=1e-3)


def test_classes_of_one_word_add_up_and_small_ones_are_left_out() -> None:
    chances = torch.tensor([0.3, 0.3, 0.36, 0.04])
    read = reader(chances.log()[:, None], ("dog", "dog", "cat", "bus"), ("bus", "cat", "dog"), 3)
    words, scores = read(torch.ones(1, 1))
    assert words.tolist() == [[6, 5, PAD]]  # dog, cat; the bus is below SMALLEST
    torch.testing.assert_close(scores, torch.tensor([[0.6, 0.36, 0.04]]))
    assert SMALLEST > 0.04


def test_words_that_the_vocabulary_lacks_are_left_out() -> None:
    names = ("coffee mug", "espresso", "")
    known = WordVocabulary({"mug": 3}, 1)
    made = Classes(torch.zeros(3, 1), torch.zeros(3), names)
    assert class_ids(made, known) == [[4], [], []]


def test_a_reader_keeps_what_it_was_filled_with() -> None:
    state = make("transformer", OPTIONS).state_dict()
    assert torch.equal(state["concepts.weight"], classes().weight)
    assert int(state["concepts.class_words"].max()) < VOCAB
    assert not any(p.shape == (1000, WIDTH) for p in make("transformer", OPTIONS).parameters())


def test_concepts_are_read_from_pooled_features_where_none_are_given() -> None:
    decoder, seen = make("transformer", OPTIONS), features(4)
    given = seen._replace(concepts=decoder.concepts(seen.pooled))
    blank = given._replace(pooled=torch.zeros_like(seen.pooled))
    assert torch.equal(decoder(seen, tokens(4, 5)), decoder(blank, tokens(4, 5)))


def test_a_closer_look_finds_what_a_part_of_the_picture_shows() -> None:
    made = reader(torch.eye(3), ("dog", "rocket", "bus"), ("dog", "rocket", "bus"))
    ids = dict(zip(("dog", "rocket", "bus"), made.class_words[:, 0].tolist(), strict=True))
    made.counts.fill_(UNCOMMON)
    made.counts[[ids["rocket"], ids["bus"]]] = torch.tensor([RARE - 1, UNCOMMON - 1])
    grid = torch.zeros(3, 9, 9, 3)
    grid[0, 2:, :7, 1] = 30.0  # one of the windows sees nothing else
    grid[1, :, :, 0] = 30.0
    grid[2, :, :, 2] = 30.0
    closer = made.look_closer(grid.mean(dim=(1, 2)), grid.flatten(1, 2))
    assert closer.rare_word[0] == ids["rocket"]
    assert float(closer.rare_score[0]) == pytest.approx(1.0)
    assert float(closer.rare_score[1]) == 0
    assert closer.rare_word.tolist()[1:] == [PAD, PAD]  # neither a dog nor a bus is rare
    torch.testing.assert_close(closer.uncommon_score[1:], torch.tensor([0.0, 1.0]))
    assert closer.concepts.words[:, 0].tolist() == [ids["rocket"], ids["dog"], ids["bus"]]


def test_windows_are_means_of_squares() -> None:
    grid = torch.rand(1, 5, 5, 5)  # 4 of 5 cells a side
    expected = avg_pool2d(grid.permute(0, 3, 1, 2), 4, 1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(_windows(5) @ grid.flatten(1, 2), expected)
    assert _windows(1).tolist() == [[1.0]]


def test_a_closer_look_needs_a_square_grid_of_the_pooled_width() -> None:
    made = reader(torch.eye(3), ("dog", "", ""), ("dog",), num=1)
    assert made.look_closer(torch.zeros(1, 3), torch.zeros(1, 6, 3)) is None
    assert made.look_closer(torch.zeros(1, 3), torch.zeros(1, 4, 5)) is None
    assert made.look_closer(torch.zeros(1, 3), torch.zeros(1, 4, 3)) is not None


def test_what_is_said_depends_on_the_concepts() -> None:
    decoder, seen = make("transformer", OPTIONS), features(4)
    ids = torch.tensor([[5, 6, PAD]] * 4)
    scores = torch.tensor([[0.6, 0.2, 0.0]] * 4)
    first = decoder(seen._replace(concepts=Concepts(ids, scores)), tokens(4, 5))
    other = decoder(seen._replace(concepts=Concepts(ids + (ids != PAD), scores)), tokens(4, 5))
    assert (first - other).abs().max() > 1e-3
    padded = Concepts(ids, scores + (ids == PAD) * 0.7)  # <pad> is not looked at, whatever it says
    assert torch.equal(first, decoder(seen._replace(concepts=padded), tokens(4, 5)))


def test_captions_without_pictures_have_concepts_alone() -> None:
    decoder = make("transformer", OPTIONS)
    concepts = Concepts(torch.tensor([[7, 8], [PAD, PAD]]), torch.tensor([[0.5, 0.1], [0.0, 0.0]]))
    spoken = Features(torch.zeros(2, WIDTH), concepts=concepts)
    logits = decoder(spoken, tokens(2, 6))
    assert logits.isfinite().all()
    state = decoder.init_state(spoken)
    log_probs, _ = decoder.step(tokens(2, 6)[:, 0], state)
    torch.testing.assert_close(log_probs, logits[:, 0].log_softmax(-1))


def test_blind_training_hides_regions_of_pictures_that_have_concepts() -> None:
    decoder = make("transformer", {**OPTIONS, "blind": 0.999}).train()
    seen = features(6)
    other = seen._replace(
        regions=torch.randn_like(seen.regions), concepts=decoder.concepts(seen.pooled)
    )
    torch.manual_seed(0)
    first = decoder(seen, tokens(6, 4))
    torch.manual_seed(0)
    torch.testing.assert_close(decoder(other, tokens(6, 4)), first)
    nothing = Concepts(torch.zeros(6, 3, dtype=torch.int64), torch.zeros(6, 3))
    torch.manual_seed(0)
    first = decoder(seen._replace(concepts=nothing), tokens(6, 4))
    torch.manual_seed(0)
    assert not torch.allclose(decoder(other._replace(concepts=nothing), tokens(6, 4)), first)


def test_attention_is_over_regions_alone() -> None:
    decoder, seen = make("transformer", OPTIONS), features(2)
    _, state = decoder.step(torch.tensor([1, 1]), decoder.init_state(seen))
    assert state["attention"].shape == (2, seen.regions.shape[1])
    assert bool((state["attention"].sum(dim=1) < 1).all())


def test_a_vocabulary_of_the_contract_fits() -> None:
    assert len(vocabulary()) == VOCAB
