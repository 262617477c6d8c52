"""Every command as a user types it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from cli_shell import SMALL, Shell
from PIL import Image
from safetensors.torch import load_file

from showtell.cli.console import ConsoleReporter
from showtell.core.progress import StepReport

PHOTO_SIZE = (64, 48)
TEXT = ("-s", "decoder.kind=transformer", "-s", "decoder.concepts=5")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a.jpg", "red"), ("b.png", "blue"), ("c.webp", "green")):
        Image.new("RGB", PHOTO_SIZE, colour).save(folder / name)
    return folder


def test_help_imports_no_torch() -> None:
    code = (
        "import sys, showtell, showtell.cli\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_and_version(showtell: Shell) -> None:
    result = showtell("--help")
    assert result.returncode == 0
    for command in ("demo", "data", "features", "train", "average", "evaluate", "score", "caption"):
        assert re.search(rf"^  {command} ", result.stdout, re.MULTILINE)
    assert re.fullmatch(r"showtell \d+\.\d+\.\d+(\.dev\d+)?\n", showtell("--version").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("caption",),
        ("train", "scenes"),
        ("nonsense",),
        ("caption", "--beam-size", "x"),
        ("train", "scenes:40", "-o", "run", "-s", "novalue"),
    ],
)
def test_wrong_usage_exits_with_2(showtell: Shell, arguments: tuple[str, ...]) -> None:
    result = showtell(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--num_epochs 3", "--epochs 3?"),
        ("--num-epochs=3", "--epochs 3?"),
        ("--hidden-size 8", "-s decoder.hidden_size=8?"),
        ("--dropout 0.5", "-s decoder.dropout=0.5?"),
        ("--num-epochs", "--epochs ...?"),
        ("--max-grad-norm", "-s optimizer.max_grad_norm=...?"),
        ("--learning-rate 1e-3", "--lr 1e-3?"),  # by how the setting is described
    ],
)
def test_an_unknown_option_of_train_names_the_option_or_the_setting(
    showtell: Shell, option: str, meant: str
) -> None:
    result = showtell("train", "scenes:40", "-o", "run", *option.split())
    assert result.returncode == 2
    [*_, line] = result.stderr.splitlines()
    assert line.startswith(f"Error: No such option: {option.partition('=')[0].split()[0]}; ")
    assert line.endswith(f"did you mean {meant}")


def test_an_unknown_option_without_a_setting_like_it(showtell: Shell) -> None:
    result = showtell("train", "scenes:40", "-o", "run", "--nonsense")
    assert result.returncode == 2
    assert result.stderr.endswith("Error: No such option: --nonsense\n")
    result = showtell("caption", "a.jpg", "--epochs", "3")
    assert result.returncode == 2
    assert "Error: No such option: --epochs" in result.stderr
    assert "-s" not in result.stderr
    result = showtell("train", "scenes:40", "-o", "run", "--batch", "3")
    assert "No such option: --batch" in result.stderr and "--batch-size" in result.stderr
    result = showtell("distil", "default", "photos", "-o", "run", "--num-epochs", "3")
    assert result.stderr.endswith("did you mean -s training.num_epochs=3?\n")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("photos -o a.csv", "No such command 'photos'; to caption it: {caption} photos -o a.csv"),
        ("photos/a.jpg", "No such command 'photos/a.jpg'; to caption it: {caption} photos/a.jpg"),
        ("gone.jpg", "No such command 'gone.jpg'."),
        ("modles", "No such command 'modles'. Did you mean 'models'?"),
        ("--model a caption x.jpg", "--model belongs after the command: {caption} --model a x.jpg"),
        ("-m a x.jpg", "-m belongs after the command: {caption} -m a x.jpg"),
        ("--lr 1 train x", "--lr belongs after the command: showtell train --lr 1 x"),
        ("--lr 1 caption x", "No such option: --lr (Possible options: --help)"),
        ("--nonsense caption x", "No such option: --nonsense"),
    ],
)
def test_what_stands_before_the_command_is_told_where_it_belongs(
    showtell: Shell, photos: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
) -> None:
    monkeypatch.chdir(photos.parent)
    result = showtell(*typed.split())
    assert result.returncode == 2
    line = f"Error: {meant.format(caption='showtell caption')}"
    assert result.stderr.splitlines()[-1] == line


@pytest.mark.parametrize("second", [("-m", "b"), ("--model=b",)])
def test_a_second_model_is_refused(showtell: Shell, second: tuple[str, ...]) -> None:
    result = showtell("caption", "x.jpg", "--model", "a", *second)
    assert result.returncode == 2
    assert result.stderr == (
        "error: --model is given twice, and caption takes one; --ensemble MODEL averages another "
        "with it\n"
    )
    result = showtell("caption", "x.jpg", "--model", "nowhere", "--ensemble", "nowhere")
    assert "given twice" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("caption", "x.jpg", "--format", "jason"),
        ("evaluate", "default", "scenes", "--split", "jason"),
    ],
)
def test_a_wrong_choice_is_said_without_the_kind_of_error(
    showtell: Shell, arguments: tuple[str, ...]
) -> None:
    result = showtell(*arguments)
    assert result.returncode == 2
    assert f"Invalid value for '{arguments[-2]}': 'jason' is not one of " in result.stderr


def test_training_leaves_what_the_readme_says(model: Path) -> None:
    assert {path.name for path in model.iterdir()} == {
        *("best", "last", "epoch-001", "epoch-002"),
        *("config.toml", "run.json", "training_log.txt", "metrics.jsonl"),
    }
    run = json.loads((model / "run.json").read_text())
    assert run["num_pictures"] == {"train": 40, "val": 10, "test": 20}
    assert run["versions"]["torch"]
    assert len(run["data_fingerprint"]) == 64
    # The captions say left and right.
    assert tomllib.loads((model / "config.toml").read_text())["encoder"]["flips"] is False


def test_features_of_scenes_are_those_that_training_asks_for(
    showtell: Shell, tmp_path: Path
) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    made = showtell("features", "scenes:40", "-o", store, "--encoder", "lite0", "--views", "1")
    assert made.returncode == 0, made.stderr
    assert "no view is mirrored: scenes' captions say left and right" in made.stderr
    settings = ("-s", "encoder.name=lite0", "-s", "encoder.views=1", "--epochs", "1")
    result = showtell("train", "scenes:40", "-o", run, "--store", store, *settings)
    assert result.returncode == 0, result.stderr


def test_one_photo_gives_one_caption(showtell: Shell, model: Path, photos: Path) -> None:
    result = showtell("caption", photos / "a.jpg", "--model", model)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert "<" not in result.stdout
    assert str(photos) not in result.stdout


def test_a_folder_a_glob_and_json(showtell: Shell, model: Path, photos: Path) -> None:
    result = showtell("caption", photos, "--model", model)
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [
        str(photos / name) for name in ("a.jpg", "b.png", "c.webp")
    ]
    result = showtell("caption", str(photos / "*.jpg"), "--model", model, "--json")
    value = json.loads(result.stdout)
    assert value["failures"] == []
    [entry] = value["captions"]
    assert entry["path"] == str(photos / "a.jpg")
    assert entry["caption"]
    assert 0 < entry["confidence"] <= 1


def test_broken_pictures_do_not_stop_the_others(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "aa.jpg").write_bytes((photos / "a.jpg").read_bytes()[:300])
    (photos / "bb.png").write_text("not a picture")
    out = tmp_path / "captions.jsonl"
    result = showtell(
        "caption", photos, photos / "gone.jpg", "--model", model, "--format", "jsonl", "-o", out
    )
    assert result.returncode == 1
    assert result.stdout == ""
    captioned = [Path(json.loads(line)["path"]).name for line in out.read_text().splitlines()]
    assert captioned == ["a.jpg", "b.png", "c.webp"]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for name, error in zip(("aa.jpg", "bb.png", "gone.jpg"), errors, strict=True):
        assert name in error


def test_greedy_and_beam_settings(showtell: Shell, model: Path, photos: Path) -> None:
    result = showtell(
        "caption", photos / "a.jpg", "-m", model, "--beam-size", "1", "--max-length", "3"
    )
    assert len(result.stdout.split()) <= 3
    result = showtell("caption", photos / "a.jpg", "-m", model, "--beam-size", "0")
    assert result.returncode == 2
    assert "Invalid value for '--beam-size': '0': input should be" in result.stderr


def test_several_captions_a_picture(showtell: Shell, model: Path, photos: Path) -> None:
    many = ("--decoding", "beam", "--beam-size", "5", "--length-penalty", "0.7")
    photo, options = photos / "a.jpg", ("-m", model, *many, "--num-captions", "3")
    lines = showtell("caption", photo, *options).stdout.splitlines()
    assert len(lines) == len({*lines}) == 3
    record = json.loads(showtell("caption", photo, *options, "--format", "jsonl").stdout)
    assert [record["caption"], *(a["caption"] for a in record["alternatives"])] == lines
    assert record["log_prob"] < 0
    assert all(0 < a["confidence"] <= 1 and a["log_prob"] < 0 for a in record["alternatives"])


def test_json_has_words_and_where_they_looked(
    showtell: Shell, model: Path, looks: Path, photos: Path
) -> None:
    asked = ("caption", photos / "a.jpg", "--attention", "-m")
    record = json.loads(showtell(*asked, looks, "--format", "jsonl").stdout)
    assert " ".join(record["words"]) == record["caption"]
    assert sum(record["log_probs"]) == pytest.approx(record["log_prob"], abs=0.01)
    attention = record["attention"]
    rows, columns = attention["grid"]
    assert len(attention["weights"]) == len(record["log_probs"]) == len(record["words"]) + 1
    for weights in attention["weights"]:
        assert len(weights) == rows * columns
        assert sum(weights) == pytest.approx(1, abs=0.02)
    for options, message in (
        ((looks,), "error: --attention needs JSON output: add --format jsonl or --json"),
        ((model, "--json"), "error: attention: decoder 'show_tell' does not attend to regions"),
    ):
        failed = showtell(*asked, *options)
        assert failed.returncode != 0
        assert message in failed.stderr
        assert "Traceback" not in failed.stderr


def test_words_that_must_and_must_not_come(showtell: Shell, model: Path, photos: Path) -> None:
    words = ("--required-word", "star", "--required-word", "blue", "--forbidden-word", "a")
    result = showtell("caption", photos, "-m", model, *words, "--ensemble", model, "--json")
    assert result.returncode == 0, result.stderr
    for record in json.loads(result.stdout)["captions"]:
        assert {"star", "blue"} <= {*record["caption"].split()}
        assert "a" not in record["caption"].split()
        assert "alternatives" not in record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--required-word", "stra"), "'stra' is not among the .* did you mean 'star'"),
        (("--decoding", "greedy", "--num-captions", "2"), "'greedy' finds one caption"),
        (("--top-k", "5"), "top_k = 5 is for method 'sample', but the method is 'beam'"),
    ],
)
def test_wrong_decoding_settings_are_one_line(
    showtell: Shell, model: Path, photos: Path, options: tuple[str, ...], message: str
) -> None:
    result = showtell("caption", photos / "a.jpg", "-m", model, *options)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr)


def test_the_decoding_options_are_the_settings() -> None:
    from typer.models import OptionInfo

    from showtell.cli.decoding import Decoding, Method
    from showtell.config import DecodingConfig

    options = {field.name: field.type for field in fields(Decoding)}
    assert list(options) == list(DecodingConfig.model_fields)
    assert {method.value for method in Method} == {"greedy", "beam", "diverse", "sample"}
    for name, option in options.items():
        info = option.__metadata__[0]
        assert isinstance(info, OptionInfo)
        field = DecodingConfig.model_fields[name]
        bounds = {
            kind: getattr(limit, kind)
            for limit in field.metadata
            for kind in ("ge", "gt", "le", "lt")
            if hasattr(limit, kind)
        }
        if field.annotation == tuple[str, ...]:  # its bounds are of how many there may be
            continue
        assert info.min == bounds.get("ge"), name
        assert (info.callback is not None) == ("gt" in bounds), name
        assert info.max == (bounds["lt"] - 1 if "lt" in bounds else bounds.get("le")), name


def test_the_options_of_servers_have_the_limits_of_their_settings() -> None:
    from showtell.cli.captioners import Settings
    from showtell.inference import specs

    settings = {
        "max_side": specs.MAX_SIDE,
        "concurrency": specs.CONCURRENCY,
        "timeout": specs.TIMEOUT,
        "retries": specs.RETRIES,
    }
    options = {field.name: field.type.__metadata__[0] for field in fields(Settings)}
    assert {name for name, info in options.items() if info.min is not None} == set(settings)
    for name, limits in settings.items():
        info = options[name]
        assert limits.option == f"--{name.replace('_', '-')}"
        assert (info.min, info.max) == (limits.least, limits.most), name
        assert info.help.endswith(f": {limits.usual:g}."), name


def test_evaluate_writes_scores_and_predictions(
    showtell: Shell, model: Path, tmp_path: Path
) -> None:
    predictions = tmp_path / "out" / "said.json"
    result = showtell("evaluate", model, "scenes:40", "--json", "--predictions", predictions)
    assert result.returncode == 0, result.stderr
    value = json.loads(result.stdout)
    assert list(value["metrics"])[:4] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    assert {"ROUGE-L", "CIDEr-D"} <= set(value["metrics"])
    said = json.loads(predictions.read_text())
    assert len(said) == 20
    assert set(said[0]) == {"image_id", "caption"}
    assert (tmp_path / "out" / "said.scores.json").exists()


def test_what_is_cleaned_is_what_is_scored(showtell: Shell, model: Path, tmp_path: Path) -> None:
    """And it is not taken for what the model says by itself, neither by people nor by compare."""
    run, other, command = tmp_path / "run", tmp_path / "other", ("--split", "val", "--json")
    for folder in (run, other):
        shutil.copytree(model, folder)
    values, said = [], []
    for clean_up in ((), ("--max-words", "2", "--prefix", "photo of ")):
        done = showtell("evaluate", run, "scenes:40", *command, *clean_up)
        assert done.returncode == 0, done.stderr
        values.append(json.loads(done.stdout))
        said.append(json.loads(Path(values[-1]["predictions"]).read_text()))
    assert all(one["caption"].startswith("photo of ") for one in said[1])
    assert max(len(one["caption"].split()) for one in said[1]) == 4
    assert values[0]["metrics"] != values[1]["metrics"]
    assert "cleaning" not in values[0]
    assert values[1]["cleaning"] == {"max_words": 2, "prefix": "photo of "}
    assert values[0]["fingerprint"] != values[1]["fingerprint"]
    again = showtell("compare", run, other, "--data", "scenes:40", "--metric", "BLEU-4")
    assert again.returncode == 0, again.stderr
    assert f"captions of {run} are taken from {values[0]['predictions']}\n" in again.stderr
    assert json.loads(Path(values[1]["predictions"]).read_text()) == said[1]  # both are kept


def test_what_the_data_lacks_is_said(showtell: Shell, model: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "some.jsonl"
    shutil.copytree(model, run)
    for number in range(4):
        Image.new("RGB", (64, 48), (60 * number, 80, 30)).save(tmp_path / f"{number}.png")
    rows = [
        {"image": f"{number}.png", "captions": ["a dog"], "split": ["train", "val"][number % 2]}
        for number in range(9)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = (
        "skipped: 5 x missing picture: 4.png, 5.png, 6.png, ... "
        "(`showtell data inspect` lists them)"
    )
    for command in (
        ("evaluate", run, data, "--split", "val"),
        ("compare", run, run, "--data", data, "--format", "json"),
        ("features", data, "-o", tmp_path / "store", "--encoder", "lite0", "--views", "0"),
        ("data", "convert", data, "-o", tmp_path / "converted"),
    ):
        done = showtell(*command)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(line) == 1, command
        if command[0] == "compare":
            assert line in json.loads(done.stdout)["warnings"]
    [scores] = (run / "evaluation").glob("some-val-*.scores.json")
    assert line in json.loads(scores.read_text())["warnings"]


def test_data_inspect(showtell: Shell) -> None:
    result = showtell("data", "inspect", "scenes:40")
    assert "train:" in result.stdout
    assert "no problems" in result.stdout
    assert re.search(r"^[\d,]+ words in all \(train captions\)$", result.stdout, re.MULTILINE)
    value = json.loads(showtell("data", "inspect", "scenes:40", "--json").stdout)
    assert value["splits"]["train"] == {"num_pictures": 40, "num_captions": 200}


def test_a_run_is_not_overwritten_and_a_resumed_one_keeps_its_settings(
    showtell: Shell, model: Path
) -> None:
    result = showtell("train", "scenes:40", "-o", model, *SMALL)
    assert result.returncode == 1
    command = f"to continue it: showtell train scenes:40 -o {model} --resume;"
    assert f"{model} already holds a run; {command} for a new one, give" in result.stderr
    result = showtell("train", "scenes:40", "-o", model, "--resume", *SMALL)
    assert result.returncode == 1
    assert f"a resumed run keeps its own settings; {command} --epochs" in result.stderr
    result = showtell("train", "scenes:40", "-o", model, "--resume")
    assert result.returncode == 0
    assert (
        "the run is finished (2 of 2 epochs); --resume --epochs 4 trains further\n"
    ) in result.stderr
    result = showtell("train", "scenes:48", "-o", model, "--resume")
    assert result.returncode == 1
    assert "the data is not what" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nowhere", "-o", "RUN"), "nowhere"),
        (("train", "scenes:40", "-o", "RUN", "-s", "optimizer.lr=-1"), "optimizer.lr = -1"),
        (("train", "scenes:40", "-o", "RUN", "-s", "decoder.kidn=x"), "decoder.kidn: no such"),
        (("train", "scenes:40", "-o", "RUN", "-c", "none.toml"), "no settings file"),
        (("train", "scenes:40", "-o", "RUN", "-s", "encoder.name=lite3"), "Did you mean"),
        (("train", "scenes:40", "-o", "RUN", "-s", "training.init_from=gone"), "no model 'gone'"),
        (
            ("train", "scenes:40", "-o", "RUN", *TEXT, "-s", "data.text=gone.txt"),
            "data.text = gone.txt: No such file",
        ),
        (
            ("train", "scenes:40", "-o", "RUN", "-s", "data.vocab_threshold=9999"),
            "lower it: -s data.vocab_threshold=",
        ),
        (("data", "inspect", "scenes", "--format", "cocoa"), "jsonl, karpathy, parquet, "),
        (("train", "scenes:40", "-o", "RUN", "--resume"), "no run to resume"),
        (("train", "scenes:40", "-o", "RUN", "--store", "gone"), "no feature store at gone: make"),
        (("caption", "x.jpg", "--model", "nowhere"), "no model 'nowhere'"),
        (("evaluate", "nowhere", "scenes:40"), "no model 'nowhere'"),
        (("caption", "nothing-*.jpg", "--model", "nowhere"), "no file matches"),
    ],
)
def test_a_mistake_is_one_line(
    showtell: Shell, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = showtell(*(str(tmp_path / "run") if a == "RUN" else a for a in arguments))
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    for early in ("Traceback", "starting with", "encod"):
        assert early not in result.stderr.replace("encoder", "")
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.mark.costly
@pytest.mark.slow(38)
def test_kill_9_loses_only_the_steps_since_the_last_save(showtell: Shell, tmp_path: Path) -> None:
    """A real process, killed at moments that nobody chose, then resumed: same weights.

    tests/training/test_resume.py does so without the command line.
    """
    settings = [*SMALL, "-s", "training.num_epochs=6", "-s", "training.save_minutes=0.001"]
    base = ("train", "scenes:40")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert showtell(*base, "-o", whole, *settings).returncode == 0
    chance = random.Random(7)
    log = killed / "training_log.txt"
    for attempt in range(3):
        before = _size(log)
        process = showtell.start(*base, "-o", killed, *(["--resume"] if attempt else settings))
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if _size(log) > before + 200:  # some steps were made
                time.sleep(chance.uniform(0, 0.3))
                break
            time.sleep(0.01)
        process.kill()
        process.communicate()
        for name in ("last", "best"):
            if (killed / name).exists():
                load_file(killed / name / "model.safetensors")
    result = showtell(*base, "-o", killed, "--resume")
    assert result.returncode == 0, result.stderr
    assert not list(killed.glob(".*.tmp"))
    for name in ("last", "best"):
        one, two = (load_file(run / name / "model.safetensors") for run in (whole, killed))
        assert all((one[key] == two[key]).all() for key in one)
    assert (whole / "training_log.txt").read_text() == (killed / "training_log.txt").read_text()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_ctrl_c_keeps_the_last_state_and_says_how_to_go_on(
    showtell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def step(self: ConsoleReporter, report: StepReport) -> None:
        if report.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ConsoleReporter, "step", step)
    stopped = showtell("train", "scenes:40", "-o", folder, *SMALL)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    last_line = stopped.stderr.strip().splitlines()[-1]
    assert last_line == f"stopped; to resume: showtell train scenes:40 -o {folder} --resume"
    assert len((folder / "training_log.txt").read_text().splitlines()) == 3
    assert json.loads((folder / "last" / "metrics.json").read_text())["step"] == 3


def test_score(showtell: Shell, tmp_path: Path) -> None:
    """Scores of captions that any program made; golden values by pycocoevalcap 1.2."""
    said, references = tmp_path / "said.json", tmp_path / "references.json"
    captions = {1: "a dog runs on grass", 2: "two cats sleep on a red sofa", 3: "a man"}
    truth = {
        1: ["a dog running on the grass", "a brown dog runs on grass"],
        2: ["two cats are sleeping on a sofa", "cats asleep on a red couch"],
        3: ["a man rides a wave", "the man is surfing"],
    }
    said.write_text(json.dumps([{"image_id": i, "caption": c} for i, c in captions.items()]))
    notes = [{"image_id": i, "caption": c} for i, several in truth.items() for c in several]
    images = [{"id": i} for i in truth]
    references.write_text(json.dumps({"images": images, "annotations": notes}))
    value = json.loads(showtell("score", said, references, "--json", "--per-image").stdout)
    assert value["metrics"]["BLEU-1"] == pytest.approx(0.7494664792550807, abs=1e-9)
    assert value["metrics"]["CIDEr-D"] == pytest.approx(2.8487665309270187, abs=1e-9)
    assert set(value["per_image"]) == {"1", "2", "3"}
    assert value["num_images"] == 3
    assert "tok:ptb" in value["signature"]
    only = showtell("score", said, references, "--metric", "ROUGE-L", "--per-image")
    assert only.returncode == 0
    assert re.search(r"^ROUGE-L +0\.\d{4}$", only.stdout, re.MULTILINE)
    assert "CIDEr-D" not in only.stdout
    wrong = showtell("score", said, references, "--metric", "CIDER")
    assert wrong.returncode == 1
    assert "unknown metric 'CIDER'" in wrong.stderr
    with_intervals = showtell("score", said, references, "--bootstrap", "50", "--seed", "3")
    assert re.search(r"^BLEU-1 +0\.749 \[0\.\d{3}, [01]\.\d{3}\]$", with_intervals.stdout, re.M)
    assert "|bs:50|seed:3|ci:95" in with_intervals.stdout
    checked = showtell("score", said, references, "--metric", "CIDEr-D", "--check", "--per-image")
    assert re.search(r"^CHAIR-i +0\.0000$", checked.stdout, re.MULTILINE)
    assert "gender-ratio of these pictures by their references is 0.000" in checked.stderr
    several = tmp_path / "several.json"
    several.write_text(json.dumps({"1": ["a dog", "a dog"], "2": ["a cat", "two cats"]}))
    varied = showtell("score", several, references, "--metric", "Div-1", "--subset")
    assert re.search(r"^Div-1 +0\.7500$", varied.stdout, re.MULTILINE)
    alone = showtell("score", said, references, "--clip", "somebody/clip")
    assert alone.returncode == 2
    assert "--clip MODEL and --images FOLDER need each other" in alone.stderr


def test_compare_files(showtell: Shell, model: Path, tmp_path: Path) -> None:
    """Two systems on three pictures, in each form; what is missing is told."""
    people = {"1": ["a dog runs on grass"], "2": ["two cats sleep"], "3": ["a man surfs"]}
    one = {"1": "a dog runs on grass", "2": "two cats", "3": "a man"}
    files = {"one": one, "two": one | {"3": "a man surfs"}, "few": {"1": "a dog"}}
    for name, captions in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(captions))
    (tmp_path / "people.json").write_text(json.dumps(people))
    names = [tmp_path / f"{name}.json" for name in ("one", "two", "people")]
    fast = ("--metric", "BLEU-1", "--metric", "CIDEr-D", "--bootstrap", "100")
    text = showtell("compare", *names, *fast)
    assert text.returncode == 0, text.stderr
    assert re.search(r"^BLEU-1 +one +0\.\d{3} ", text.stdout, re.MULTILINE)
    assert "no difference in BLEU-1 between two and one can be shown: +0." in text.stdout
    assert "two gained most in CIDEr-D over one\n" in text.stdout and "  3\n" in text.stdout
    assert "lost most" not in text.stdout
    value = json.loads(showtell("compare", *names, *fast, "--format", "json").stdout)
    assert value["comparisons"][0]["metrics"]["CIDEr-D"]["difference"] > 0
    target = tmp_path / "table.tex"
    done = showtell("compare", *names, *fast, "--format", "latex", "-o", target)
    assert done.stdout == "" and r"\toprule" in target.read_text()
    few = showtell("compare", names[0], tmp_path / "few.json", names[2], *fast)
    assert few.returncode == 1 and "no caption for 2 of the 3 images" in few.stderr
    assert "--subset" in few.stderr
    few = showtell("compare", names[0], tmp_path / "few.json", names[2], *fast, "--subset")
    assert few.returncode == 0 and "compared on the 1 images" in few.stderr
    lone = showtell("compare", names[0], names[2])
    assert lone.returncode == 2 and "2 files given: expected two or more" in lone.stderr
    models = showtell("compare", "default", tmp_path, "scenes:40")
    assert models.returncode == 2
    assert f"showtell compare default {tmp_path} --data scenes:40" in models.stderr
    two = showtell("compare", "default", model)
    assert two.returncode == 2
    assert f"default and {model} are models; to compare models: showtell compare default" in (
        two.stderr
    )
    assert f"showtell compare default {model} --data DATA" in two.stderr
    one = showtell("compare", "hf:some/model")
    assert "showtell compare hf:some/model MODEL --data DATA" in one.stderr
    assert "2 files given" in showtell("compare", model, "scenes:40").stderr


def test_compare_models_takes_what_evaluate_wrote(
    showtell: Shell, model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(model, run)
    command = ("compare", model, run, "--data", "scenes:40", "--metric", "BLEU-4", "--show", "0")
    first = showtell(*command)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("captions: ") == 2
    again = showtell(*command)
    assert again.stderr.count("are taken from") == 2
    assert again.stdout == first.stdout
    assert "1.000   1.000" in again.stdout  # both are the same model
    [scores] = (run / "evaluation").glob("scenes-40-val-*.scores.json")
    value = json.loads(scores.read_text())
    scores.write_text(json.dumps(value | {"fingerprint": "of other weights"}))
    assert showtell(*command).stderr.count("are taken from") == 1
    asked = showtell(*command, "--prompt", "What is this?")
    assert asked.returncode == 1 and "--prompt means nothing to showtell's models" in asked.stderr


def test_captions_of_other_pictures_are_not_taken(
    showtell: Shell, model: Path, tmp_path: Path
) -> None:
    """Pictures of the same size in bytes, and data of the same name, are others all the same."""
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(model, run)
    data.mkdir()
    rows = [{"image": f"{n}.bmp", "captions": ["a dog"], "split": "val"} for n in range(2)]
    (data / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("compare", run, run, "--data", data, "--metric", "BLEU-4")
    taken = []
    for colours in (("red", "blue"), ("green", "white"), ("red", "blue")):
        for number, colour in enumerate(colours):
            Image.new("RGB", (64, 48), colour).save(data / f"{number}.bmp")
        done = showtell(*command)
        assert done.returncode == 0, done.stderr
        taken.append(done.stderr.count("are taken from"))
    assert taken == [1, 1, 2]
    assert len([*(run / "evaluation").glob("data-val-????????.json")]) == 2


def test_a_decoder_that_attends_from_training_to_captions(
    showtell: Shell, tmp_path: Path, photos: Path
) -> None:
    """Grid features are made for it, by training, evaluation and captioning alike."""
    settings = [
        part
        for option, value in zip(SMALL[::2], SMALL[1::2], strict=True)
        if not value.startswith("decoder.")
        for part in (option, value)
    ]
    run = tmp_path / "run"
    width = ("-s", "decoder.kind=up_down", "-s", "decoder.hidden_size=24")
    result = showtell("train", "scenes:40", "-o", run, *settings, *width)
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "run.json").read_text())["region_size"] == 1280
    result = showtell("evaluate", run, "scenes:40", "--split", "test", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["metrics"]["CIDEr-D"] >= 0
    result = showtell("caption", photos / "a.jpg", "--model", run)
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1), result.stderr


def test_average_makes_a_model_of_several(showtell: Shell, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "averaged"
    parts = [str(model / name) for name in ("epoch-001", "epoch-002")]
    result = showtell("average", *parts, "-o", str(output))
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"the mean of 2 checkpoints is {output}\n"
    one, two, mean = (load_file(Path(f) / "model.safetensors") for f in (*parts, output))
    name = "output.weight"
    assert ((one[name] + two[name]) / 2 - mean[name]).abs().max() < 1e-6
    again = showtell("average", *parts, "-o", str(output))
    assert again.returncode == 1
    assert "already exists" in again.stderr
    assert again.stderr.count("\n") == 1


def test_self_critical_training_from_a_run(showtell: Shell, model: Path, tmp_path: Path) -> None:
    """By settings alone; the second run's model is the first one's, trained on."""
    run = tmp_path / "run"
    arguments = (
        *("train", "scenes:40", *SMALL, "-s", "objective.kind=scst"),
        *("-s", f"training.init_from={model}", "-s", "training.num_epochs=1"),
    )
    result = showtell(*arguments, "-o", run, "-s", "decoding.max_length=12")
    assert result.returncode == 0, result.stderr
    assert f"starting with the weights and the vocabulary of {model}" in result.stderr
    assert "Reward: " in (run / "training_log.txt").read_text()
    wrong = showtell(*arguments, "-o", tmp_path / "no", "-s", "decoder.hidden_size=24")
    assert wrong.returncode == 1
    assert "another shape" in wrong.stderr


@pytest.mark.slow
def test_a_decoders_run_then_the_encoder_too(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path
) -> None:
    """The real weights of lite0, in batches of 16, from the run that trained the decoder alone."""
    run = tmp_path / "tuned"
    settings = (f"training.init_from={model}", "encoder.train_from=stage7", "encoder.lr=1e-4")
    more = ("training.num_epochs=1", "encoder.num_workers=1")
    result = showtell(
        *("train", "scenes:40", "-o", run, *SMALL),
        *(argument for setting in (*settings, *more) for argument in ("-s", setting)),
    )
    assert result.returncode == 0, result.stderr
    assert "encoder lite0 from stage7 on (1,013,696 of 3,350,000 parameters" in result.stderr
    weights = load_file(run / "best" / "encoder.safetensors")
    assert {name.split(".")[1] for name in weights} == {"blocks", "head"}
    result = showtell("evaluate", run, "scenes:40", "--split", "val", "--json")
    assert result.returncode == 0, result.stderr
    validated = json.loads((run / "best" / "metrics.json").read_text())["metrics"]
    scores = json.loads(result.stdout)["metrics"]
    assert scores == pytest.approx({name: validated[name] for name in scores}, abs=1e-6)
    assert showtell("caption", photos / "a.jpg", "-m", run).returncode == 0
    result = showtell(
        *("train", "scenes:40", "-o", tmp_path / "x", *SMALL, "-s", "encoder.train_from=stag7")
    )
    assert result.returncode == 1
    assert "unknown stage 'stag7'. Did you mean 'stage7'?" in result.stderr
