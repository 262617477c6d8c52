"""``train --from``: settings and words of another model, averages with it, and the table."""

import json
import tomllib
from pathlib import Path

import pytest
from cli_shell import Shell
from safetensors.numpy import load_file

QUICK = ("--epochs", "1", "--batch-size", "16")


@pytest.fixture(scope="module")
def words(model: Path) -> list[str]:
    return list(json.loads((model / "best" / "vocabulary.json").read_text())["words"])


@pytest.fixture(scope="module")
def drawings(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in pictures as a folder of one's own, with words that the model does not know."""
    folder = tmp_path_factory.mktemp("drawings")
    entries = []
    import os
    from unittest import mock

    from showtell.data.sources import load_dataset

    with mock.patch.dict(os.environ, showtell.variables):
        records = load_dataset("scenes:40").records[:36]
    for number, record in enumerate(records):
        split = ("train", "train", "val", "test")[number % 4]
        captions = [caption.replace("circle", "yurt") for caption in record.captions]
        captions.append(f"a zorkmid number {number}")
        (folder / record.path.name).write_bytes(record.path.read_bytes())
        entries.append({"image": record.path.name, "captions": captions, "split": split})
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return file


@pytest.fixture(scope="module")
def run(showtell: Shell, model: Path, drawings: Path, tmp_path_factory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("runs") / "own"
    options = ("--from", model, *QUICK, "--old", "scenes:40", "-s", "training.rehearsal_pictures=7")
    done = showtell("train", drawings, "-o", folder, *options)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def test_everything_is_taken_over(run: tuple[Path, str, str], model: Path, words: list) -> None:
    folder, _, said = run
    config, theirs = (
        tomllib.loads((place / "config.toml").read_text()) for place in (folder, model)
    )
    assert config["decoder"] == theirs["decoder"]
    assert config["decoding"] == theirs["decoding"]
    assert config["encoder"]["name"] == theirs["encoder"]["name"] == "lite0"
    assert config["training"]["init_from"] == str(model)
    assert f"18 training pictures with captions: preset tiny from {model}" in said
    known = list(json.loads((folder / "best" / "vocabulary.json").read_text())["words"])
    assert known[: len(words)] == words
    assert {"zorkmid", "yurt"} <= {*known[len(words) :]}
    assert "new words beside" in said


def test_the_end_is_an_average_and_a_table(run: tuple[Path, str, str], model: Path) -> None:
    folder, printed, said = run
    found = json.loads((folder / "comparison.json").read_text())
    assert found["model"] == str(model)
    kept = json.loads((folder / "best" / "metrics.json").read_text())
    by_share = found["by_share"]
    assert list(by_share) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert kept["average_start"] == {
        "model": str(model),
        "share": found["share"],
        "by_share": by_share,
    }
    kept_start = f"the weights of {model} are kept: what training gained on 9 validation pictures"
    averaged = f"averaged with {model}: {found['share']:.0%} of the new weights, by 9 validation"
    assert (averaged if found["share"] else kept_start) in said
    pictures = [(row["data"], row["split"], row["num_pictures"]) for row in found["rows"]]
    assert pictures[::2] == [
        ("own.jsonl", "val", 9),
        ("own.jsonl", "test", 9),
        ("scenes:40", "val", 10),
        ("scenes:40", "test", 20),
    ]
    for row in found["rows"]:
        assert row["change"] == pytest.approx(row["after"] - row["before"])
        low, high = row["after_interval"]
        assert low <= row["after"] <= high
        assert f"{row['before']:.3f} [" in printed
    # The rows of words that the model had lie on the line between both ends.
    first, last, best = (
        load_file(place / "model.safetensors")["output.weight"]
        for place in (model / "best", folder / "last", folder / "best")
    )
    mean = first + found["share"] * (last[: len(first)] - first)
    assert best[: len(first)] == pytest.approx(mean, abs=1e-5)


def test_old_pictures_are_rehearsed(run: tuple[Path, str, str]) -> None:
    folder, _, said = run
    assert "rehearsing 7 training pictures of scenes:40 with 35 captions beside the new" in said
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(step["old_kl"] > 0 for step in steps if "old_kl" in step)
    assert any("old_kl" in step for step in steps)
    known = json.loads((folder / "run.json").read_text())
    assert known["old_at"]["data"] == "scenes:40"
    assert known["rehearsed"]["num_pictures"] == 7
    for name in ("best", "last"):
        kept = json.loads((folder / name / "metrics.json").read_text())
        assert kept["rehearsed"] == known["rehearsed"]


def test_a_resumed_run_refuses_other_old_pictures(
    run: tuple[Path, str, str], showtell: Shell, drawings: Path
) -> None:
    folder, _, _ = run
    done = showtell("train", drawings, "-o", folder, "--resume", "--old", "scenes:50")
    assert done.returncode == 1
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "rehearses 7 pictures of scenes:40, and what --old gives now is not the same" in error


def test_old_pictures_are_measured_where_nothing_is_averaged(
    showtell: Shell, model: Path, drawings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = ("training.average_start=false", "training.rehearsal_pictures=0")
    options = (*QUICK, *(part for setting in settings for part in ("-s", setting)))
    done = showtell(
        "train", drawings, "-o", folder, "--from", model, *options, "--old", "scenes:40"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "comparison.json").read_text())
    assert (found["share"], found["by_share"]) == (1.0, {})
    assert "scenes:40" in {row["data"] for row in found["rows"]}
    assert "average_start" not in json.loads((folder / "best" / "metrics.json").read_text())
    assert "best epoch 1: " in done.stdout and "untouched" in done.stdout
    again = showtell("train", drawings, "-o", folder, "--resume", "--old", "scenes:40")
    assert again.returncode == 0, again.stderr


def test_a_comparison_that_was_stopped_is_made_at_last(
    run: tuple[Path, str, str], showtell: Shell, drawings: Path
) -> None:
    folder, _, _ = run
    first = json.loads((folder / "comparison.json").read_text())
    (folder / "comparison.json").unlink()
    done = showtell("train", drawings, "-o", folder, "--resume")
    assert done.returncode == 0, done.stderr
    again = json.loads((folder / "comparison.json").read_text())
    assert (again["share"], again["by_share"]) == (first["share"], first["by_share"])
    for row, old in zip(again["rows"], first["rows"], strict=True):
        assert row["after"] == pytest.approx(old["after"])
        assert f"{row['before']:.3f} [" in done.stdout


def test_a_finished_run_is_made_longer(
    run: tuple[Path, str, str], showtell: Shell, drawings: Path
) -> None:
    folder, _, _ = run
    done = showtell("train", drawings, "-o", folder, "--resume", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch 1" in done.stderr
    assert "rehearsing 7 training pictures of scenes:40" in done.stderr  # by run.json
    assert tomllib.loads((folder / "config.toml").read_text())["training"]["num_epochs"] == 3
    last = json.loads((folder / "last" / "metrics.json").read_text())
    assert last["epoch"] == 3
    fewer = showtell("train", drawings, "-o", folder, "--resume", "--epochs", "2")
    assert fewer.returncode == 1
    assert f"{folder} has 3 epochs already: give a larger --epochs" in fewer.stderr
    assert tomllib.loads((folder / "config.toml").read_text())["training"]["num_epochs"] == 3
    assert "average_start" in json.loads((folder / "best" / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "gone"), "no model 'gone': give the folder that `train -o` made"),
        (("--from", "default", "-s", "training.init_from=default"), "the same setting: give one"),
        (("--epochs", "3", "-s", "training.num_epochs=4"), "--epochs and -s training.num_epochs"),
        (("--lr", "1e-3", "-s", "optimizer.lr=2e-3"), "--lr and -s optimizer.lr"),
        (("--lr", "fast"), "optimizer.lr = 'fast'"),
        (("--preset", "huge"), "unknown preset 'huge'"),
        (("--old", "scenes:40"), "give the model with --from"),
        (("--from", "default", "--old", "gone.json"), "no data at gone.json"),
        (
            ("--from", "default", "--old", "scenes:40", "-s", "training.init_parts=encoder"),
            "takes a part of default: leave --old out",
        ),
        (
            (
                "--from",
                "default",
                "--old",
                "scenes:40",
                "-s",
                "training.init_parts=decoder,encoder",
            ),
            "takes a part of default: leave --old out",
        ),
        (("--resume", "--from", "default"), "a resumed run keeps its own settings"),
        (("--from", "default", "-s", "decoder.hidden_size=64"), "hidden_size=512; or, to keep"),
        (("-s", "data.new_words=2"), "need a model to start from"),
    ],
)
def test_what_does_not_fit_is_one_line(
    showtell: Shell, drawings: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = showtell("train", drawings, "-o", tmp_path / "run", *options)
    assert done.returncode in (1, 2)
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in error


def test_few_pictures_get_the_proposal_to_start_from_the_default(
    showtell: Shell, drawings: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = showtell(
        "train", drawings, "-o", run, *QUICK, "--encoder", "lite0", "--decoder", "show_tell",
        "--lr", "1e-3", "--beam-size", "2", "-s", "encoder.views=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "18 training pictures with captions: preset tiny (--preset names another)" in done.stderr
    assert f"showtell train {drawings} -o {run}-from-default --from default" in done.stderr
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["training"]["batch_size"] == 16
    assert config["optimizer"]["lr"] == 1e-3
    assert config["decoding"]["beam_size"] == 2
    assert config["decoder"]["hidden_size"] == 256  # of the preset


@pytest.mark.slow(10)
def test_the_encoder_alone_is_taken_over(
    showtell: Shell, model: Path, words: list[str], tmp_path: Path
) -> None:
    """Its words stay, and a decoder of any kind and shape begins anew; a stopped run goes on."""
    run = tmp_path / "run"
    own = ("--decoder", "transformer", "-s", "decoder.hidden_size=32", "-s", "decoder.num_heads=2")
    options = ("--from", model, "-s", "training.init_parts=encoder", *QUICK, *own)
    done = showtell("train", "scenes:40", "-o", run, *options)
    assert done.returncode == 0, done.stderr
    config = tomllib.loads((run / "config.toml").read_text())
    assert (config["decoder"]["kind"], config["decoder"]["hidden_size"]) == ("transformer", 32)
    assert config["encoder"]["name"] == "lite0"
    assert not config["training"]["average_start"]
    assert list(json.loads((run / "best" / "vocabulary.json").read_text())["words"]) == words
    longer = showtell("train", "scenes:40", "-o", run, "--resume", "--epochs", "2")
    assert longer.returncode == 0, longer.stderr
    assert "Epoch [2/2]" in (run / "training_log.txt").read_text()
    scst = (*options, "-s", "objective.kind=scst")
    refused = showtell("train", "scenes:40", "-o", tmp_path / "no", *scst)
    assert refused.returncode == 1
    assert "init_parts = encoder takes no decoder" in refused.stderr


@pytest.mark.slow(10)
def test_the_decoder_alone_is_taken_over(
    showtell: Shell, model: Path, words: list[str], tmp_path: Path
) -> None:
    """Its words and what it learnt to say stay, for another encoder; a stopped run goes on."""
    run = tmp_path / "run"
    options = ("--from", model, "-s", "training.init_parts=decoder", "--encoder", "lite2", *QUICK)
    done = showtell("train", "scenes:40", "-o", run, *options)
    assert done.returncode == 0, done.stderr
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["encoder"]["name"] == "lite2"
    assert (
        config["decoder"]["kind"]
        == tomllib.loads((model / "best" / "config.toml").read_text())["decoder"]["kind"]
    )
    assert not config["training"]["average_start"]
    assert list(json.loads((run / "best" / "vocabulary.json").read_text())["words"]) == words
    longer = showtell("train", "scenes:40", "-o", run, "--resume", "--epochs", "2")
    assert longer.returncode == 0, longer.stderr
    scst = (*options, "-s", "objective.kind=scst")
    refused = showtell("train", "scenes:40", "-o", tmp_path / "no", *scst)
    assert refused.returncode == 1
    assert "init_parts = decoder takes no encoder" in refused.stderr
