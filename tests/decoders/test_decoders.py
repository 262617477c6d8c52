"""The contract that every registered decoder keeps."""

import inspect

import pytest
import torch
from decoder_cases import (
    ATTENDING,
    CASES,
    REGION_WIDTH,
    REGIONS,
    SMALL,
    VOCAB,
    WIDTH,
    features,
    make,
    settings,
    tokens,
)
from torch.nn import functional as F

from showtell.config import DECODER_SETTINGS, Config
from showtell.decoders.base import Decoder
from showtell.decoders.layers import drop_words
from showtell.decoders.registry import DECODERS, load_decoder
from showtell.decoders.transformer import positions
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD
from showtell.training.objectives.losses import cross_entropy


def test_every_decoder_is_visited() -> None:
    assert set(SMALL) == set(DECODERS) == set(DECODER_SETTINGS)
    assert (len(DECODERS), len(CASES), len(ATTENDING)) == (5, 13, 7)


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_settings_are_the_constructors_arguments(kind: str) -> None:
    config = Config.load(None, [f"decoder.kind={kind}"]).decoder
    decoder = DECODERS[kind]
    arguments = {"vocab_size", "feature_size", *["pooled_size"] * decoder.needs_pooled_size}
    found: set[str] = set()
    for one in decoder.__mro__[: decoder.__mro__.index(Decoder)]:  # settings handed on
        found |= {
            name
            for name, parameter in inspect.signature(one).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
    expected = set(type(config).model_fields) - {"kind", *config.not_for_constructor}
    assert found == expected | arguments


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_stepwise_equals_teacher_forcing(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options), tokens(5, 9)
    expected = decoder(features(5), inputs).log_softmax(-1)
    assert expected.shape == (5, 9, VOCAB)
    state = decoder.init_state(features(5))
    for position in range(9):
        log_probs, state = decoder.step(inputs[:, position], state)
        assert all(part.shape[0] == 5 for part in state.values())
        torch.testing.assert_close(log_probs, expected[:, position], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_inference_gives_what_training_gave(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options), tokens(5, 9)
    expected = decoder(features(5), inputs)
    with torch.inference_mode():
        torch.testing.assert_close(decoder(features(5), inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_padding_counts_for_nothing(kind: str, options: dict) -> None:
    """Neither the loss nor any gradient knows how far a caption was padded."""
    decoder = make(kind, options)
    inputs = tokens(3, 6)
    targets = torch.cat([inputs[:, 1:], torch.full((3, 1), END)], dim=1)
    padded_inputs = F.pad(inputs, (0, 4), value=PAD)
    padded_targets = F.pad(targets, (0, 4), value=PAD)
    gradients = []
    for one_inputs, one_targets in ((inputs, targets), (padded_inputs, padded_targets)):
        decoder.zero_grad()
        loss = cross_entropy(decoder, features(3), one_inputs, one_targets, label_smoothing=0.1)
        loss.objective.backward()
        assert loss.num_tokens == 18
        gradients.append([loss.objective.detach(), *(p.grad.clone() for p in decoder.parameters())])
    for plain, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, padded, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_permuting_the_batch_permutes_the_results(kind: str, options: dict) -> None:
    decoder, inputs, given = make(kind, options), tokens(6, 7), features(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Features(given.pooled[order], given.regions[order])
    torch.testing.assert_close(
        decoder(shuffled, inputs[order]), decoder(given, inputs)[order], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_captions_of_one_picture_share_its_features(kind: str, options: dict) -> None:
    """The loss and every gradient are as if each caption had brought its picture along."""
    decoder, given, inputs = make(kind, options), features(3), F.pad(tokens(7, 6), (0, 3))
    inputs[3, 4:] = PAD  # captions of several lengths
    targets = F.pad(inputs[:, 1:], (0, 1))
    targets[torch.arange(7), (inputs != PAD).sum(1) - 1] = END
    picture_of = torch.tensor([0, 2, 1, 0, 0, 2, 1])
    apart = Features(given.pooled[picture_of], given.regions[picture_of])
    gradients = []
    for one in (apart, given._replace(picture_of=picture_of)):
        decoder.zero_grad()
        loss = cross_entropy(decoder, one, inputs, targets)
        loss.objective.backward()
        gradients.append([loss.objective.detach(), *(p.grad.clone() for p in decoder.parameters())])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("kind", "options"), ATTENDING)
def test_hypotheses_of_one_picture_share_what_is_looked_at(kind: str, options: dict) -> None:
    """Search may leave the entries of ``picture_state`` at a row a picture."""
    decoder, inputs = make(kind, options), tokens(6, 5)
    small = decoder.init_state(features(2))
    assert decoder.picture_state >= {name for name in small if name.startswith(("region", "key_"))}
    large = {name: part.repeat_interleave(3, dim=0) for name, part in small.items()}
    small = {n: part if n in decoder.picture_state else large[n] for n, part in small.items()}
    for position in range(5):
        expected, large = decoder.step(inputs[:, position], large)
        found, small = decoder.step(inputs[:, position], small)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(small["attention"], large["attention"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), ATTENDING)
def test_attention_is_given_for_each_word(kind: str, options: dict) -> None:
    decoder, given = make(kind, options), features(4)
    given = given._replace(mask=torch.ones(4, REGIONS, dtype=torch.bool))
    given.mask[1, 4:] = False
    state = decoder.init_state(given)
    assert state["attention"].shape == (4, REGIONS)
    for position in range(3):
        _, state = decoder.step(tokens(4, 3)[:, position], state)
        weights = state["attention"]
        assert weights.shape == (4, REGIONS)
        if options.get("concepts"):
            assert (weights.sum(dim=1) < 1).all()
        else:
            torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
        assert (weights[1, 4:] == 0).all()
        assert (weights[0] > 0).all()


@pytest.mark.parametrize(("kind", "options"), ATTENDING)
def test_a_state_without_attention_asks_for_none(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options), tokens(4, 3)
    state = decoder.init_state(features(4))
    without = {name: part for name, part in state.items() if name != "attention"}
    for position in range(3):
        expected, state = decoder.step(inputs[:, position], state)
        found, without = decoder.step(inputs[:, position], without)
        assert torch.equal(found, expected)
        without.pop("attention", None)


@pytest.mark.parametrize(("kind", "options"), ATTENDING)
def test_regions_have_no_order(kind: str, options: dict) -> None:
    decoder, inputs, given = make(kind, options), tokens(3, 7), features(3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = given._replace(regions=given.regions[:, order])
    torch.testing.assert_close(
        decoder(shuffled, inputs), decoder(given, inputs), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("kind", "options"), ATTENDING)
def test_what_is_masked_is_not_seen(kind: str, options: dict) -> None:
    """A masked region may hold anything: it is as if it were not there, in the loss as well."""
    decoder, inputs, given = make(kind, options), tokens(3, 7), features(3)
    fewer = given._replace(regions=given.regions[:, :4])
    mask = (torch.arange(REGIONS) < 4).expand(3, -1)
    masked = given._replace(mask=mask)
    torch.testing.assert_close(
        decoder(masked, inputs), decoder(fewer, inputs), atol=1e-5, rtol=1e-5
    )
    losses = [cross_entropy(decoder, one, inputs, inputs.roll(-1, 1)) for one in (fewer, masked)]
    torch.testing.assert_close(losses[0].objective, losses[1].objective)
    state, expected = decoder.init_state(masked), decoder(masked, inputs).log_softmax(-1)
    for position in range(7):
        log_probs, state = decoder.step(inputs[:, position], state)
        torch.testing.assert_close(log_probs, expected[:, position], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_computes_in_bf16(kind: str, options: dict) -> None:
    """Under autocast, from a grid in bf16, teacher forcing and steps go through and agree."""
    decoder, inputs, given = make(kind, options), tokens(4, 6), features(4)
    given = given._replace(regions=given.regions.bfloat16())
    exact = decoder(features(4), inputs).log_softmax(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = decoder.hidden_states(given, inputs).states
        found = decoder.output(hidden).float().log_softmax(-1)
        state = decoder.init_state(given)
        for position in range(6):
            log_probs, state = decoder.step(inputs[:, position], state)
            torch.testing.assert_close(log_probs, exact[:, position], atol=0.1, rtol=0.1)
    assert hidden.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.1)


@pytest.mark.costly  # tests/training/test_compiling.py compiles what training does
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # both in torch's compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_compiled_gives_the_same(kind: str) -> None:
    decoder, inputs, given = make(kind, SMALL[kind][-1]), tokens(4, 2), features(4)
    torch._dynamo.reset()
    compiled = torch.compile(decoder)
    torch.testing.assert_close(
        compiled(given, inputs), decoder(given, inputs), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_overfits_eight_pairs(kind: str, options: dict) -> None:
    decoder, given = make(kind, options).train(), features(8)
    inputs = tokens(8, 7)
    targets = torch.cat([inputs[:, 1:], torch.full((8, 1), END)], dim=1)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3 if kind == "transformer" else 1e-2)
    for _ in range(300):
        loss = cross_entropy(decoder, given, inputs, targets)
        optimizer.zero_grad()
        loss.objective.backward()
        optimizer.step()
        if loss.nll.exp() < 1.05:
            return
    pytest.fail(f"perplexity {loss.nll.exp():.3f} after 300 steps")


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_gradients_reach_every_parameter(kind: str, options: dict) -> None:
    decoder = make(kind, options).train()
    inputs = tokens(4, 6)
    cross_entropy(decoder, features(4), inputs, inputs.roll(-1, 1)).objective.backward()
    idle = [name for name, p in decoder.named_parameters() if not p.grad.abs().sum() > 0]
    assert idle == []


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_dropout_acts_in_training_alone(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options, dropout=0.5), tokens(4, 6)
    assert torch.equal(decoder(features(4), inputs), decoder(features(4), inputs))
    decoder.train()
    assert not torch.equal(decoder(features(4), inputs), decoder(features(4), inputs))


def test_show_tell_has_the_notebooks_parameters() -> None:
    """Counted by hand: linear and batch norm, embedding, LSTM (4 gates, 2 biases), linear."""
    decoder = make("show_tell", {"embed_size": 32, "hidden_size": 48})
    image, words = WIDTH * 32 + 32 + 2 * 32, VOCAB * 32
    lstm = 4 * 48 * (32 + 48 + 2)
    assert decoder.num_parameters() == image + words + lstm + 48 * VOCAB + VOCAB


def test_up_down_has_the_papers_parameters() -> None:
    """Counted by hand from equations 1-7, with biases where ``up_down.py`` has them."""
    decoder = make("up_down", {"embed_size": 32, "hidden_size": 48, "attention_size": 20})
    regions = 20 * 48 + 48 + 2 * 48  # the last of the batch norm
    looking = (48 * 20 + 20) + 48 * 20 + 20
    first = 4 * 48 * (32 + 48 + 2 * 48 + 1)
    second = 4 * 48 * (3 * 48 + 1)
    assert decoder.num_parameters() == (
        regions + looking + first + second + VOCAB * 32 + 48 * VOCAB + VOCAB
    )


def test_one_matrix_embeds_and_predicts() -> None:
    decoder = make("transformer", {"hidden_size": 32, "num_heads": 4})
    assert [n for n, p in decoder.named_parameters() if VOCAB in p.shape] == [
        "output.weight",
        "output.bias",
    ]


def test_additive_attention_is_that_of_the_papers() -> None:
    """Equation 3 of Anderson et al. with its tanh, from the same weights halved and doubled."""
    attention = make("up_down", SMALL["up_down"][0]).attention
    memory, query = attention.look(features(2)), torch.randn(2, 48)
    with torch.no_grad():
        mixed = torch.tanh((memory["keys"] + attention.query(query)[:, None]) / 2)
        scores = F.linear(mixed, attention.score.weight / 2).squeeze(-1)
        context, weights = attention(query, memory)
    torch.testing.assert_close(weights, scores.softmax(-1))
    torch.testing.assert_close(context, (weights[:, :, None] * memory["regions"]).sum(1))


def test_the_doubly_stochastic_penalty() -> None:
    """Equation 14 of Xu et al. by its definition, from the weights that the steps give."""
    decoder, given = make("attention", SMALL["attention"][0]), features(2)
    inputs = tokens(2, 5)
    inputs[1, 3:] = PAD
    looked = torch.zeros(2, REGIONS)
    state = decoder.init_state(given)
    for position in range(5):
        _, state = decoder.step(inputs[:, position], state)
        looked += state["attention"] * (inputs[:, position] != PAD)[:, None]
    expected = (1 - looked).square().sum() / 8
    torch.testing.assert_close(decoder.hidden_states(given, inputs).penalty, expected)
    none = make("attention", SMALL["attention"][1])
    assert none.hidden_states(given, inputs).penalty is None
    loss = cross_entropy(decoder, given, inputs, inputs)
    torch.testing.assert_close(loss.objective, loss.nll + expected)


def test_positions_are_the_papers() -> None:
    """Vaswani et al., section 3.5: sin and cos of pos / 10000^(2 i / H)."""
    table = positions(3, 2, 8, torch.device("cpu"))
    for row, place in enumerate((3, 4)):
        for i in range(4):
            angle = torch.tensor(place / 10_000 ** (2 * i / 8))
            torch.testing.assert_close(table[row, 2 * i], angle.sin())
            torch.testing.assert_close(table[row, 2 * i + 1], angle.cos())


def test_word_dropout_spares_start_and_padding() -> None:
    inputs = F.pad(tokens(50, 8), (0, 2), value=PAD)
    inputs[::2, 0] = VOCAB - 1  # a style
    dropped = drop_words(inputs, 0.99)
    assert torch.equal(dropped[:, 0], inputs[:, 0])
    assert (dropped[:, 8:] == PAD).all()
    assert (dropped[:, 1:8] == 3).float().mean() > 0.9
    assert drop_words(inputs, 0.0) is inputs


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_batch_of_one_can_be_trained_on(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options).train(), tokens(1, 5)
    cross_entropy(decoder, features(1), inputs, inputs.roll(-1, 1)).objective.backward()
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters())


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_words_are_dropped_in_training_alone(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, {**options, "word_dropout": 0.5}), tokens(8, 6)
    assert torch.equal(decoder(features(8), inputs), decoder(features(8), inputs))
    decoder.train()
    assert not torch.equal(decoder(features(8), inputs), decoder(features(8), inputs))


@pytest.mark.parametrize("kind", ["show_tell", "attention", "up_down", "transformer"])
def test_a_constant_added_to_all_features_changes_nothing_in_training(kind: str) -> None:
    """The batch norm takes away what all pictures share."""
    decoder, given = make(kind, SMALL[kind][0]).train(), features(6)
    shifted = Features(given.pooled + 3, given.regions + 3)
    torch.testing.assert_close(
        decoder(shifted, tokens(6, 4)), decoder(given, tokens(6, 4)), atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_loading_is_exact_and_leaves_the_random_state_alone(kind: str, options: dict) -> None:
    decoder = make(kind, options)
    config = Config.load(None, settings(kind, options)).decoder
    weights = decoder.state_dict()
    before = torch.random.get_rng_state()
    sizes = {"vocab_size": VOCAB, "feature_size": WIDTH, "region_size": REGION_WIDTH}
    loaded = load_decoder(config, weights, **sizes)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in loaded.modules())
    assert {tensor.device.type for tensor in loaded.state_dict().values()} == {"cpu"}
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == trained
    assert torch.equal(loaded(features(3), tokens(3, 5)), decoder(features(3), tokens(3, 5)))
    with torch.no_grad():
        next(loaded.parameters()).zero_()
    name = next(name for name, _ in decoder.named_parameters())
    assert weights[name].any(), "the weights given are copied"


def test_a_buffer_that_no_checkpoint_has_is_made_by_the_constructor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class WithTable(DECODERS["show_tell"]):
        def __init__(self, **settings: object) -> None:
            super().__init__(**settings)
            self.register_buffer("table", torch.arange(3.0), persistent=False)

    monkeypatch.setitem(DECODERS, "show_tell", WithTable)
    weights = make("show_tell", {}).state_dict()
    assert "table" not in weights
    before = torch.random.get_rng_state()
    config = Config.load(None, ["decoder.kind=show_tell"]).decoder
    loaded = load_decoder(config, weights, vocab_size=VOCAB, feature_size=WIDTH)
    assert loaded.table.tolist() == [0.0, 1.0, 2.0]
    assert torch.equal(torch.random.get_rng_state(), before)
