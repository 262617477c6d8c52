"""Self-critical training against REINFORCE written out, and its rewards against the metrics."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from decoder_cases import CASES, VOCAB, features, make
from tiny_run import log_of, make_run, run, same_weights, scst_config, steps_of
from tiny_world import tiny_config, tiny_records

from showtell.data.records import Dataset
from showtell.errors import CheckpointError, ConfigError
from showtell.metrics import References, evaluate
from showtell.metrics.bleu import Bleu
from showtell.metrics.cider import CiderD
from showtell.text.subwords import SubwordVocabulary
from showtell.text.vocabulary import END, PAD, START, UNK, WordVocabulary
from showtell.training.corpus import Corpus
from showtell.training.objectives.losses import policy_gradient
from showtell.training.objectives.scst import CaptionReward, SelfCritical, mean_of_others


def samples() -> torch.Tensor:
    """Captions of 1 to 6 words; the last one was not ended."""
    torch.manual_seed(1)
    drawn = torch.randint(UNK + 1, VOCAB, (5, 7))
    for row, length in enumerate((6, 3, 1, 4)):
        drawn[row, length], drawn[row, length + 1 :] = END, PAD
    return drawn


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient_is_that_of_reinforce(case: tuple[str, dict], temperature: float) -> None:
    """Token by token, with the step that search takes: -A log p(w_t | w_<t), over all tokens."""
    decoder, drawn, never = make(*case), samples(), (PAD, START, UNK, VOCAB - 1)
    drawn = drawn.masked_fill(drawn == VOCAB - 1, VOCAB - 2)
    advantages = torch.tensor([0.5, -1.0, 2.0, 0.0, -0.3])
    loss = policy_gradient(
        decoder, features(5), drawn, advantages, temperature=temperature, never=never
    )
    loss.backward()
    found = {name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None}
    decoder.zero_grad()
    state, last = decoder.init_state(features(5)), torch.full((5,), START)
    total, count = torch.zeros(()), 0
    for position in range(drawn.shape[1]):
        log_probs, state = decoder.step(last, state)
        allowed = log_probs / temperature
        allowed[:, never] = -torch.inf  # as when they were drawn
        allowed = allowed - allowed.logsumexp(dim=1, keepdim=True)
        for row in range(5):
            token = int(drawn[row, position])
            if token != PAD:
                total, count = total - advantages[row] * allowed[row, token], count + 1
        last = drawn[:, position]
    expected = total / count
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for name, parameter in decoder.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_padding_has_no_gradient() -> None:
    decoder, drawn = make(*CASES[0]), samples()
    seen: list[torch.Tensor] = []
    hidden_states = decoder.hidden_states

    def watch(*args: object) -> object:
        hidden = hidden_states(*args)
        hidden.states.retain_grad()
        seen.append(hidden.states)
        return hidden

    decoder.hidden_states = watch
    policy_gradient(decoder, features(5), drawn, torch.ones(5)).backward()
    gradient = seen[0].grad.abs().sum(dim=-1)
    assert torch.equal(gradient != 0, drawn != PAD)


def test_a_caption_without_advantage_has_no_gradient() -> None:
    decoder = make(*CASES[0])
    policy_gradient(decoder, features(5), samples(), torch.zeros(5)).backward()
    assert all(p.grad is None or not p.grad.any() for p in decoder.parameters())


def corpus() -> tuple[Corpus, dict[str, list[list[str]]]]:
    """Twelve pictures with one to three references of random words, as ids and as words."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 4, 12)
    pictures = np.repeat(np.arange(12) * 10, counts)  # rows of a store need not be consecutive
    lengths = rng.integers(1, 9, len(pictures))
    ids = rng.integers(UNK, 12, lengths.sum())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    words: dict[str, list[list[str]]] = {str(picture): [] for picture in np.unique(pictures)}
    for picture, start, end in zip(pictures, offsets[:-1], offsets[1:], strict=True):
        words[str(picture)].append([*(f"w{i}" for i in ids[start:end]), "<end>"])
    order = rng.permutation(len(pictures))  # captions need not come by picture
    parts = [ids[offsets[i] : offsets[i + 1]] for i in order]
    shuffled = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return Corpus(np.concatenate(parts), shuffled, pictures[order]), words


def test_rewards_are_the_metrics_with_an_end_token() -> None:
    captions, references = corpus()
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 12, 40)
    drawn = [[*rng.integers(UNK, 13, rng.integers(0, 9)).tolist(), END] for _ in pictures]
    drawn[3] = [*drawn[3][:-1], 5]  # not ended
    in_words = [["<end>" if i == END else f"w{i}" for i in caption] for caption in drawn]
    names = list(references)
    expected = CiderD(references).score([names[p] for p in pictures], in_words)
    vocabulary = WordVocabulary({f"w{i}": 1 for i in range(4, 13)}, 1)
    reward = CaptionReward(captions, vocabulary, cider_weight=1.0, bleu_weight=0.0)
    np.testing.assert_allclose(reward(pictures, drawn), expected, rtol=1e-12)
    assert np.unique(expected.round(6)).size > 20
    ended = CaptionReward(captions, vocabulary, cider_weight=1.0, bleu_weight=0.0)
    without = [caption[:-1] if caption[-1] == END else caption for caption in drawn]
    assert (ended(pictures, without) < expected).sum() > 20  # the end is worth something

    mixed = CaptionReward(captions, vocabulary, cider_weight=0.5, bleu_weight=2.0)
    ngrams = reward._cider.ngrams
    levels, lengths = ngrams.count(drawn)
    bleu = Bleu(ngrams).score_counts(pictures, levels, lengths)[:, 3]
    np.testing.assert_allclose(mixed(pictures, drawn), 0.5 * expected + 2 * bleu, rtol=1e-12)


def test_rewards_of_pieces_are_those_of_the_words() -> None:
    """However a word is cut into pieces, and with pieces of a picture's own rare words."""
    texts = ["a dog runs", "two dogs run on grass", "a cat sits", "dogs run", "the cat runs fast"]
    counts = {word: 9 for text in texts for word in text.split()}
    rewards = []
    for vocabulary in (WordVocabulary(counts, 1), SubwordVocabulary.build(counts, 6)):
        encoded = [vocabulary.encode(text) for text in texts]
        flat = np.array([i for ids in encoded for i in ids], np.int32)
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])])
        captions = Corpus(flat, offsets, np.array([0, 0, 1, 2, 1]))
        reward = CaptionReward(captions, vocabulary, cider_weight=1.0, bleu_weight=0.5)
        drawn = ["a dog runs fast", "the cat sits", "grass", "a cat sits"]
        ids = [[*vocabulary.encode(text), END] for text in drawn]
        rewards.append(reward(np.array([0, 1, 2, 1]), ids))
    assert rewards[0].max() > 1
    np.testing.assert_allclose(*rewards, rtol=1e-12)


@pytest.mark.parametrize("num_pieces", [None, 6])
def test_inventing_an_object_costs_the_penalty(num_pieces: int | None) -> None:
    texts = ["a dog runs", "two puppies on grass", "a cat sits", "a man and two dogs sit"]
    counts = {word: 9 for text in texts for word in text.split()}
    vocabulary = (
        SubwordVocabulary.build(counts, num_pieces) if num_pieces else WordVocabulary(counts, 1)
    )
    encoded = [vocabulary.encode(text) for text in texts]
    flat = np.array([i for ids in encoded for i in ids], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])])
    captions = Corpus(flat, offsets, np.array([0, 0, 1, 1]))
    drawn = ["a man runs", "two dogs", "a man and a cat", "a dog and a dog", "grass", "a man"]
    ids = [[*vocabulary.encode(text), END] for text in drawn]
    pictures = np.array([0, 0, 0, 0, 0, 1])
    plain = CaptionReward(captions, vocabulary, cider_weight=1.0, bleu_weight=0.0)
    paying = CaptionReward(
        captions, vocabulary, cider_weight=1.0, bleu_weight=0.0, invention_penalty=0.25
    )
    costs = plain(pictures, ids) - paying(pictures, ids)
    # Of picture 0 people mention a dog (a puppy is one too), of picture 1 a cat, a man and dogs.
    np.testing.assert_allclose(costs, [0.25, 0, 0.5, 0, 0, 0], atol=1e-12)


def test_sentence_bleu_is_that_of_the_metric() -> None:
    texts = {
        "a": ["a dog runs on the grass", "the dog is running"],
        "b": ["two people sit on a bench in a park"],
        "c": ["a red bus", "a bus drives down the street today", "bus"],
    }
    said = ["a dog runs on grass now", "two people sit on a bench", "a bus"]
    references = References(texts)
    each = evaluate(dict(zip(texts, said, strict=True)), references).per_image
    images = np.array([2, 0, 0, 1, 2])
    levels, lengths = references.ngrams.count([said[i].split() for i in images])
    found = Bleu(references.ngrams).score_counts(images, levels, lengths)
    names = [f"BLEU-{n}" for n in (1, 2, 3, 4)]
    expected = [[each["abc"[i]][name] for name in names] for i in images]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_mean_of_the_others() -> None:
    rewards = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    expected = [[4.0, 3.5, 1.5], [1.5, 1.5, 0.0]]
    np.testing.assert_allclose(mean_of_others(rewards), expected)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, store) -> Path:
    """A run of cross-entropy, not yet good."""
    folder = tmp_path_factory.mktemp("start")
    run(folder, dataset, store, tiny_config("training.num_epochs=2"))
    return folder


def test_an_epoch_visits_each_picture_once(tmp_path: Path, dataset: Dataset, store, start) -> None:
    objective = make_run(tmp_path / "run", dataset, store, scst_config(start)).objective
    assert isinstance(objective, SelfCritical)
    for epoch in (1, 2):
        visited = np.concatenate(objective.batches(epoch))
        assert sorted(visited) == list(range(40))
    assert not np.array_equal(objective.batches(1)[0], objective.batches(2)[0])


@pytest.mark.parametrize("baseline", ["greedy", "mean_of_others"])
def test_a_step(tmp_path: Path, dataset: Dataset, store, start, baseline: str) -> None:
    one = make_run(
        tmp_path / "run", dataset, store, scst_config(start, f"objective.baseline={baseline}")
    )
    decoder, batch = one.state.decoder.train(), one.objective.batches(1)[0]
    before = deepcopy(decoder.state_dict())
    loss = one.objective(decoder, batch, np.arange(len(batch)), epoch=1, step=0)
    assert decoder.training
    assert loss.objective.requires_grad
    assert 0 < loss.seconds["reward"] < 1
    if baseline == "mean_of_others":
        assert loss.figures["baseline"] == pytest.approx(loss.figures["reward"])
    else:
        assert loss.figures["baseline"] != pytest.approx(loss.figures["reward"])
    decoder.load_state_dict(before)  # the batch norm's averages, which samples follow
    again = one.objective(decoder, batch, np.arange(len(batch)), epoch=1, step=0)
    assert again.figures["reward"] == loss.figures["reward"]  # dropout does not touch the samples
    assert again.objective != loss.objective  # but what is learnt from them
    other = one.objective(decoder, batch, np.arange(len(batch)), epoch=1, step=1)
    assert other.figures["reward"] != loss.figures["reward"]


def test_styles_are_no_words(tmp_path: Path, store, monkeypatch: pytest.MonkeyPatch) -> None:
    records = tuple(replace(record, styles=("short", "detailed", "")) for record in tiny_records())
    dataset = Dataset("tiny", "folder", records)
    run(tmp_path / "start", dataset, store, tiny_config("training.num_epochs=1"))
    one = make_run(tmp_path / "run", dataset, store, scst_config(tmp_path / "start"))
    styles = list(one.data.vocabulary.styles.values())
    decoder, batch = one.state.decoder.train(), one.objective.batches(1)[0]
    with torch.no_grad():
        decoder.output.bias[styles] = 20.0  # what it would say, if it could
    seen: list[torch.Tensor] = []

    def watch(*args: torch.Tensor, **named: object) -> torch.Tensor:
        seen.append(args[2])
        return policy_gradient(*args, **named)

    monkeypatch.setattr("showtell.training.objectives.scst.policy_gradient", watch)
    loss = one.objective(decoder, batch, np.arange(len(batch)), epoch=1, step=0)
    assert len(seen[0]) == 4 * 5 and not torch.isin(seen[0], torch.tensor(styles)).any()
    loss.objective.backward()
    assert not decoder.output.bias.grad[styles].any()
    assert decoder.output.bias.grad.any()


def test_no_rewarded_caption_has_more_words_than_decoding_may_write(
    tmp_path: Path, dataset: Dataset, store, start
) -> None:
    config = scst_config(start, "decoding.max_length=3", "objective.baseline=greedy")
    one = make_run(tmp_path / "run", dataset, store, config)
    objective, decoder = one.objective, one.state.decoder.train()
    assert isinstance(objective, SelfCritical)
    reward, rewarded = objective.reward, []

    def watch(pictures: np.ndarray, captions: list[list[int]]) -> np.ndarray:
        rewarded.extend(captions)
        return reward(pictures, captions)

    objective.reward = watch
    watch.pictures = reward.pictures
    batch = np.arange(8)
    loss = objective(decoder, batch, batch, epoch=1, step=0)
    longer = [ids for ids in rewarded if ids[-1] != END]
    assert {len(ids) for ids in longer} == {3}
    assert max(len(ids) for ids in rewarded) == 4
    # That a sample goes on where it could end is learnt from, too.
    samples = rewarded[: 8 * config.objective.num_samples]
    num_longer = sum(ids[-1] != END for ids in samples)
    assert num_longer and loss.num_tokens == sum(map(len, samples)) + num_longer


def test_near_temperature_zero_samples_are_greedy(
    tmp_path: Path, dataset: Dataset, store, start
) -> None:
    settings = ("objective.baseline=greedy", "objective.num_samples=3")
    apart = {}
    for temperature in (0.001, 1.0):
        config = scst_config(start, *settings, f"objective.temperature={temperature}")
        one = make_run(tmp_path / f"run-{temperature}", dataset, store, config)
        batch = one.objective.batches(1)[0]
        loss = one.objective(one.state.decoder, batch, np.arange(len(batch)), epoch=1, step=0)
        apart[temperature] = abs(loss.figures["reward"] - loss.figures["baseline"])
    assert apart[0.001] < 1e-6 < apart[1.0]


def test_it_raises_the_reward(tmp_path: Path, dataset: Dataset, store, start) -> None:
    config = scst_config(
        start, "training.num_epochs=15", "optimizer.lr=0.005", "objective.num_samples=8"
    )
    result = run(tmp_path / "run", dataset, store, config)
    steps = steps_of(tmp_path / "run")
    rewards = [step["reward"] for step in steps]
    assert np.mean(rewards[-10:]) > 1.3 * np.mean(rewards[:10])
    assert {"loss", "reward", "baseline", "reward_share", "lr", "tokens"} <= set(steps[0])
    line = (tmp_path / "run" / "training_log.txt").read_text().splitlines()[0]
    assert line.startswith("Epoch [1/15], Step [1/10], Loss: ")
    assert f"Reward: {rewards[0]:.4f}, Baseline: " in line
    assert result.metrics["bad_endings"] == 0


def test_it_starts_with_the_weights_and_the_vocabulary(
    tmp_path: Path, dataset: Dataset, store, start
) -> None:
    config = scst_config(start, "data.vocab_threshold=20", "training.num_epochs=1")
    one = make_run(tmp_path / "run", dataset, store, config)
    one.checkpoints.save("start", one.state)
    assert same_weights(tmp_path / "run" / "start", start)
    assert one.data.vocabulary.threshold == 1
    run(tmp_path / "run2", dataset, store, config)
    run(tmp_path / "run3", dataset, store, config)
    assert log_of(tmp_path / "run2") == log_of(tmp_path / "run3")


def test_a_decoder_of_another_shape(tmp_path: Path, dataset: Dataset, store, start) -> None:
    config = scst_config(start, "decoder.hidden_size=40", "decoder.dropout=0.7")
    with pytest.raises(CheckpointError, match=r"another shape.* -s decoder.hidden_size=32$"):
        run(tmp_path / "run", dataset, store, config)


def test_settings_that_cannot_be() -> None:
    scst = ["objective.kind=scst", "training.init_from=r"]
    tiny_config(*scst)
    with pytest.raises(ConfigError, match=r"needs a trained model to start from.*init_from"):
        tiny_config("objective.kind=scst")
    with pytest.raises(ConfigError, match="set it to 2 or more, or use baseline = greedy"):
        tiny_config(*scst, "objective.num_samples=1")
    with pytest.raises(ConfigError, match="there is no reward"):
        tiny_config(*scst, "objective.cider_weight=0")
    with pytest.raises(ConfigError, match="brings its own vocabulary"):
        tiny_config(*scst, "data.vocab_file=v.json")
