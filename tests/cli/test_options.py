"""What commands are told of options, by whether and how they were typed."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from showtell.cli import captioners, groups
from showtell.cli.train import _resume_command
from showtell.core.distributed import ALONE
from showtell.inference.specs import BackendSettings


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ([], {}),
        (["--tidy"], {"tidy": True}),
        (["--no-tidy"], {"tidy": False}),
        (["--max-words", "5", "--replace", "a=b"], {"max_words": 5, "replace": ["a=b"]}),
    ],
)
def test_only_what_was_typed_is_given(typed: list[str], given: dict[str, Any]) -> None:
    found: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @groups.with_options
    def command(cleaning: captioners.Cleaning) -> None:
        found.update(groups.given(cleaning))

    done = CliRunner().invoke(app, typed)
    assert (done.exit_code, found) == (0, given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A group with an argument."""

    place: Annotated[str, typer.Argument(metavar="PLACE")]
    near: Annotated[bool, typer.Option("--near")] = False


def test_a_group_becomes_its_options() -> None:
    found: list[Any] = []
    app = typer.Typer()

    @app.command()
    @groups.with_options
    def command(*, output: Annotated[str, typer.Option("-o")], place: Place) -> None:
        found.extend([output, place])

    run = CliRunner().invoke
    assert run(app, ["here", "-o", "file", "--near"]).exit_code == 0
    assert found == ["file", Place(place="here", near=True)]
    assert "Missing argument 'PLACE'" in run(app, []).output  # it is named before -o


def test_whether_to_download_is_no_setting_of_a_captioner() -> None:
    """A plan (``--dry-run``) asks for the settings alone."""
    typed = captioners.Settings(prompt="short", yes=True)
    assert typed.backend() == BackendSettings(prompt="short")


@pytest.mark.parametrize(
    "settings",
    [
        ["-s", "seed=1"],
        ["-sseed=1"],
        ["--set=seed=1", "--epochs", "3"],
        ["-cflickr8k-up-down"],
        ["--from", "default", "--lr=1e-4"],
    ],
)
def test_a_command_to_resume_has_no_settings(
    settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["showtell", "train", "my data", *settings, "-o", "run", "--store", "s"]
    monkeypatch.setattr(sys, "argv", typed)
    assert _resume_command(ALONE) == "showtell train 'my data' -o run --store s --resume"


def test_a_command_to_resume_a_longer_run_says_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["showtell", "train", "data", "--resume", "--epochs", "9", "--lr", "1", "-o", "run"]
    monkeypatch.setattr(sys, "argv", typed)
    assert _resume_command(ALONE) == "showtell train data --epochs 9 -o run --resume"
