"""Averages of weights over steps and over checkpoints."""

from pathlib import Path

import pytest
import torch
from tiny_run import make_run, run, same_weights
from tiny_world import tiny_config

from showtell.data.records import Dataset
from showtell.errors import CheckpointError
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.caption import CALIBRATION
from showtell.inference.checkpoint import load_checkpoint
from showtell.inference.exported import write_metrics
from showtell.publish.pack import pack_checkpoint
from showtell.training.averages import average_checkpoints


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder).decoder.state_dict()


def test_the_moving_average_is_what_is_measured_and_kept(
    tmp_path: Path, dataset: Dataset, store
) -> None:
    """The recursion written out; training itself is what it would be without."""
    config = tiny_config("training.num_epochs=1", "training.ema_decay=0.8")
    one = make_run(tmp_path / "run", dataset, store, config)
    expected = {name: w.clone() for name, w in one.state.decoder.state_dict().items()}
    update, steps = one.state.average.update, []

    def follow(decoder: torch.nn.Module, step: int) -> None:
        update(decoder, step)
        steps.append(step)
        decay = min(0.8, (1 + step) / (10 + step))
        for name, new in decoder.state_dict().items():
            mean = expected[name]
            is_mean = new.is_floating_point()
            expected[name] = decay * mean + (1 - decay) * new if is_mean else new.clone()

    one.state.average.update = follow
    one.run()
    assert steps == list(range(1, 16))
    found = weights(tmp_path / "run" / "best")
    assert any("running_mean" in name for name in found)
    for name, mean in expected.items():
        torch.testing.assert_close(found[name], mean, rtol=1e-4, atol=1e-5)
    assert same_weights(tmp_path / "run" / "best", tmp_path / "run" / "last")
    run(tmp_path / "plain", dataset, store, tiny_config("training.num_epochs=1"))
    live = one.state.decoder.state_dict()
    plain = weights(tmp_path / "plain" / "last")
    assert all(torch.equal(live[name], plain[name]) for name in plain)
    assert not same_weights(tmp_path / "run" / "last", tmp_path / "plain" / "last")


def test_the_mean_of_checkpoints(tmp_path: Path, dataset: Dataset, store) -> None:
    folder, output = tmp_path / "run", tmp_path / "averaged"
    run(folder, dataset, store, tiny_config())
    parts = [folder / f"epoch-00{epoch}" for epoch in (1, 2, 3)]
    average_checkpoints(parts, output)
    found, each = weights(output), [weights(part) for part in parts]
    for name, mean in found.items():
        if mean.is_floating_point():
            torch.testing.assert_close(mean, sum(one[name] for one in each) / 3)
        else:
            assert torch.equal(mean, each[-1][name])
    metrics = load_checkpoint(output).metrics
    assert metrics["averaged"] == [str(part) for part in parts]
    assert metrics["metrics"] is None
    assert (
        NativeCaptioner.load(output, device="cpu").vocabulary == load_checkpoint(folder).vocabulary
    )
    average_checkpoints([parts[1]], tmp_path / "one")
    assert same_weights(tmp_path / "one", parts[1])


def test_a_mean_of_packed_models_is_no_packed_model(
    tmp_path: Path, dataset: Dataset, store
) -> None:
    """Nor has it the figures that were published with one."""
    run(tmp_path / "run", dataset, store, tiny_config("training.num_epochs=1"))
    packed, output = tmp_path / "packed", tmp_path / "mean"
    pack_checkpoint(tmp_path / "run", packed)
    before = load_checkpoint(packed).metrics
    figures = {"measured_on": "dev", "signature": "images:40", "others": {"test": {}}}
    write_metrics(packed, {**figures, CALIBRATION: {"slope": 1.0, "offset": 0.0, "cider": 0.2}})
    average_checkpoints([packed, packed], output)
    metrics = load_checkpoint(output).metrics
    assert metrics.keys() == before.keys() - {"weights"} | {"averaged"}
    with pytest.raises(CheckpointError, match="already exists and is not a packed model"):
        pack_checkpoint(packed, output, overwrite=True)


def test_a_run_that_added_words_to_its_start(tmp_path: Path, dataset: Dataset, store) -> None:
    """Rows of words that the start has are means; those of others are the run's."""
    start, later, output = (tmp_path / name for name in ("start", "later", "mean"))
    few = tiny_config("training.num_epochs=1", "data.vocab_threshold=30")
    run(start, dataset, store, few)
    more = tiny_config(
        "training.num_epochs=1", f"training.init_from={start}", "data.new_words=1", "seed=1"
    )
    run(later, dataset, store, more)
    words = [load_checkpoint(folder).vocabulary.words for folder in (start, later)]
    known = len(words[0])
    assert words[1][:known] == words[0] and len(words[1]) > known
    average_checkpoints([start, later], output)
    found, first, last = weights(output), weights(start), weights(later)
    grown = [name for name in found if found[name].shape != first[name].shape]
    assert "output.weight" in grown
    for name, mean in found.items():
        if not mean.is_floating_point():
            assert torch.equal(mean, last[name])
        elif name in grown:
            torch.testing.assert_close(mean[:known], (first[name] + last[name][:known]) / 2)
            assert torch.equal(mean[known:], last[name][known:])
        else:
            torch.testing.assert_close(mean, (first[name] + last[name]) / 2)
    assert load_checkpoint(output).vocabulary == load_checkpoint(later).vocabulary
    with pytest.raises(CheckpointError, match=r"their vocabularies differ; give .* and then those"):
        average_checkpoints([later, start], tmp_path / "out")


def test_what_has_no_mean(tmp_path: Path, dataset: Dataset, store) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    quick = "training.num_epochs=1"
    run(one, dataset, store, tiny_config(quick))
    run(two, dataset, store, tiny_config(quick, "decoder.hidden_size=24"))
    run(three, dataset, store, tiny_config(quick, "data.vocab_threshold=30"))
    with pytest.raises(CheckpointError, match="their decoders differ; give checkpoints of one run"):
        average_checkpoints([one, two], tmp_path / "out")
    with pytest.raises(CheckpointError, match="their vocabularies differ"):
        average_checkpoints([one, three], tmp_path / "out")
    with pytest.raises(CheckpointError, match="already exists"):
        average_checkpoints([one, one], two)
    assert not (tmp_path / "out").exists()
