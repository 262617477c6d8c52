"""``showtell distil``, and styles and neutral words on the command line."""

import json
from pathlib import Path

import pytest
from cli_shell import SMALL, Shell

from showtell.data.scenes import scenes_folder

SETTINGS = [part for part in SMALL if part not in ("--preset", "none")]


@pytest.fixture(scope="module")
def pictures(showtell: Shell, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty of the pictures that the model's set was rendered with."""
    folder = tmp_path_factory.mktemp("pictures")
    rendered = showtell.cache / "scenes" / scenes_folder().name
    for path in sorted(rendered.glob("train-*.png"))[:20]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.slow
def test_a_student_from_the_command_line(
    showtell: Shell, model: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ["distil", str(model), str(pictures), "-o", str(tmp_path / "run"), "--captions", "2"]
    command += [*SETTINGS, "--filter", "near_duplicates=false", "--filter", "min_words=1"]
    plan = showtell(*command, "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "is asked about 20 pictures, 2 captions each (40 in all)" in plan.stdout
    assert "and the teacher's probabilities" in plan.stdout
    assert not (tmp_path / "run").exists()
    result = showtell(*command)
    assert result.returncode == 0, result.stderr
    assert "agreement with the teacher, not quality" in result.stdout
    assert "1 of 8, pictures" in result.stderr
    again = showtell(*command, "--json")
    found = json.loads(again.stdout)
    assert found["captions"] == {"captioned": 20, "failed": 0}
    assert again.stderr.count("made before") == 8
    captioned = showtell("caption", next(pictures.iterdir()), "--model", tmp_path / "run" / "model")
    assert captioned.returncode == 0, captioned.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--filter", "min_wrds=3"], "no such setting, did you mean min_words?"),
        (["--num-captions", "3"], "use --captions 3"),
        (["--again", "captoins"], "unknown stage 'captoins'. Did you mean 'captions'?"),
        (["--decoding", "greedy"], "--captions 5: greedy search gives one caption"),
        (["-s", "training.num_epoch=3"], "training.num_epochs"),
        (["--human", "nowhere"], "nowhere"),
        (["--from", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_one_line(
    showtell: Shell, model: Path, pictures: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = showtell("distil", model, pictures, "-o", tmp_path / "run", *arguments)
    assert result.returncode in (1, 2)
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("error: ") and said in last


def test_a_teacher_that_is_not_there(showtell: Shell, pictures: Path, tmp_path: Path) -> None:
    result = showtell("distil", "nobody", pictures, "-o", tmp_path / "run")
    assert result.returncode == 1
    assert "nobody" in result.stderr and "Traceback" not in result.stderr


def test_a_model_without_styles_says_so_and_any_model_is_neutral(
    showtell: Shell, model: Path, pictures: Path
) -> None:
    picture = sorted(pictures.iterdir())[0]
    result = showtell("caption", picture, "--model", model, "--style", "short")
    assert result.returncode == 1
    assert "style = short: this model has learnt no styles" in result.stderr
    plain = showtell("caption", picture, "--model", model)
    for asked in (["--style", "neutral"], ["--neutral"]):
        result = showtell("caption", picture, "--model", model, *asked)
        assert result.returncode == 0, result.stderr
        assert result.stdout == plain.stdout  # of shapes, which have no gender
