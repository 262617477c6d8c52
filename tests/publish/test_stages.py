"""Which stages of a recipe count as made: those made of what they would be made of now."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tiny_run import Notes

from showtell.errors import CheckpointError
from showtell.inference.files import CONFIG, MODEL
from showtell.publish import stages
from showtell.publish.recipe import NOTES, Recipe
from showtell.publish.stages import Places, make_stages

RECIPE = """
name = "small"
card = "card.md"

[[stages]]
name = "words"
settings = ["optimizer.lr=1e-3"]

[[stages]]
kind = "average"
name = "mean"
members = ["words/epoch-001"]

[[stages]]
name = "rewards"
init_from = "mean"
settings = ["objective.kind=scst"]

[[measure]]
title = "all"
"""


def write_data(folder: Path, *, more: str = "") -> str:
    folder.mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"p{number:02}.png")
        (folder / f"p{number:02}.txt").write_text(f"a dog number {number}{more}\n")
    return str(folder)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that are made, by name; nothing is trained."""
    made: list[str] = []

    def train_on(dataset: object, request: Any, config: Any, **_: object) -> object:
        request.folder.mkdir()
        (request.folder / CONFIG).write_text(config.to_toml())
        made.append(request.folder.name)
        return SimpleNamespace(stopped=False)

    def average(members: object, folder: Path) -> None:
        folder.mkdir()
        made.append(folder.name)

    monkeypatch.setattr(stages, "train_on", train_on)
    monkeypatch.setattr(stages, "average_checkpoints", average)
    return made


def recipe_of(folder: Path, text: str = RECIPE) -> Recipe:
    folder.mkdir(exist_ok=True)
    (folder / "card.md").write_text("card")
    (folder / "small.toml").write_text(text)
    return Recipe.load(folder / "small.toml")


def make(
    tmp_path: Path, data: str, text: str = RECIPE, *, others: dict[str, str] | None = None
) -> list[str]:
    report = Notes()
    places = Places({"": data, **(others or {})}, tmp_path / "work")
    assert make_stages(recipe_of(tmp_path / "recipe", text), places, report)
    return [note for note in report.notes if "made before" in note]


def test_each_is_made_once_wherever_the_data_lies(tmp_path: Path, trained: list[str]) -> None:
    data = write_data(tmp_path / "data")
    make(tmp_path, data)
    moved = (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert len(make(tmp_path, str(moved))) == 3
    assert trained == ["words", "mean", "rewards"]


def test_a_stage_that_begins_with_a_shipped_model_knows_which_it_was(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release has another model of that name."""
    data, text = write_data(tmp_path / "data"), RECIPE.replace('"mean"\nset', '"default"\nset')
    assert 'init_from = "default"' in text
    make(tmp_path, data, text)
    assert len(make(tmp_path, data, text)) == 3
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / MODEL).write_bytes(b"others")
    monkeypatch.setattr(stages, "find_checkpoint", lambda name: tmp_path / "next")
    with pytest.raises(CheckpointError, match=r"rewards .*: stage default is not the one that"):
        make(tmp_path, data, text)


def test_other_data_under_the_same_name_is_no_reason_to_keep_a_stage(
    tmp_path: Path, trained: list[str]
) -> None:
    make(tmp_path, write_data(tmp_path / "data"))
    other = write_data(tmp_path / "other", more=" that runs")
    with pytest.raises(CheckpointError, match="made from something else: the data is not"):
        make(tmp_path, other)
    assert len(trained) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr=1e-3", "lr=2e-3", r"work/words .*: optimizer\.lr was 0\.001 and is 0\.002; remove"),
        (
            "words/epoch-001",
            "words/epoch-002",
            r"work/mean .*it is the mean of \['words/epoch-001'",
        ),
        ('"objective.kind=scst"', '"seed=1"', r"objective\.kind was 'scst' and is .*; seed was 0"),
    ],
)
def test_what_differs_is_named(
    tmp_path: Path, trained: list[str], old: str, new: str, message: str
) -> None:
    data = write_data(tmp_path / "data")
    make(tmp_path, data)
    with pytest.raises(CheckpointError, match=message):
        make(tmp_path, data, RECIPE.replace(old, new))
    assert len(trained) == 3


def change_notes(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "work" / NOTES
    notes = json.loads(path.read_text())
    change(notes)
    path.write_text(json.dumps(notes))


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ({"training": {"batch_size": 32}}, r"training\.batch_size was 32 and is 64"),
        ({"training": {"luck": 3}}, r"training\.luck was 3, and there is no such setting now"),
    ],
)
def test_a_default_that_has_changed_and_a_setting_that_is_gone_count(
    tmp_path: Path, trained: list[str], then: dict[str, dict[str, int]], message: str
) -> None:
    """As if an earlier version, which had them, had made the stage."""
    data = write_data(tmp_path / "data")
    make(tmp_path, data)

    def change(notes: Any) -> None:
        for section, values in then.items():
            notes["words"]["made_of"]["settings"][section].update(values)

    change_notes(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        make(tmp_path, data)


def test_the_longest_caption_counts_by_its_value(tmp_path: Path, trained: list[str]) -> None:
    """Earlier versions noted the default by its value."""
    data = write_data(tmp_path / "data")
    make(tmp_path, data)
    settings = json.loads((tmp_path / "work" / NOTES).read_text())["words"]["made_of"]["settings"]
    assert settings["data"]["max_caption_length"] == 40


def test_a_setting_that_did_not_exist_then_counts_unless_it_is_at_its_default(
    tmp_path: Path, trained: list[str]
) -> None:
    data = write_data(tmp_path / "data")
    text = RECIPE.replace('"optimizer.lr=1e-3"', '"optimizer.lr=1e-3", "training.patience=3"')
    make(tmp_path, data, text)

    def forget(notes: Any) -> None:
        del notes["words"]["made_of"]["settings"]["decoder"]["embed_size"]  # a default
        del notes["rewards"]["made_of"]["settings"]["training"]["patience"]  # a default

    change_notes(tmp_path, forget)
    assert len(make(tmp_path, data, text)) == 3
    change_notes(tmp_path, lambda n: n["words"]["made_of"]["settings"]["training"].pop("patience"))
    with pytest.raises(CheckpointError, match=r"training\.patience was None and is 3"):
        make(tmp_path, data, text)


def test_a_stage_that_is_made_again_has_those_after_it_made_again(
    tmp_path: Path, trained: list[str]
) -> None:
    data = write_data(tmp_path / "data")
    make(tmp_path, data)
    (tmp_path / "work" / "words" / CONFIG).unlink()
    (tmp_path / "work" / "words").rmdir()
    with pytest.raises(CheckpointError, match=r"work/mean .*stage words/epoch-001 is not the one"):
        make(tmp_path, data, RECIPE.replace("lr=1e-3", "lr=2e-3"))
    assert trained == ["words", "mean", "rewards", "words"]


def test_the_contents_of_files_count_and_their_places_do_not(
    tmp_path: Path, trained: list[str]
) -> None:
    data, text = write_data(tmp_path / "data"), tmp_path / "text.txt"
    text.write_text("a dog runs\n")
    recipe = RECIPE.replace(
        '"optimizer.lr=1e-3"', '"decoder.kind=transformer", "decoder.concepts=5"'
    ).replace('name = "words"\n', 'name = "words"\ntext = "spoken"\n')
    make(tmp_path, data, recipe, others={"spoken": str(text)})
    moved = text.rename(tmp_path / "moved.txt")
    assert len(make(tmp_path, data, recipe, others={"spoken": str(moved)})) == 3
    moved.write_text("a cat runs\n")
    with pytest.raises(CheckpointError, match=r"the file of data\.text is not the same"):
        make(tmp_path, data, recipe, others={"spoken": str(moved)})


def test_a_stopped_stage_goes_on_with_the_settings_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training adapts some settings to the data; the work folder is named in another way."""
    asked: list[tuple[bool, Any]] = []

    def train_on(dataset: object, request: Any, config: Any, **_: object) -> object:
        asked.append((request.resume, config))
        if not request.resume:
            request.folder.mkdir()
            own = config.changed("encoder", flips=False)
            (request.folder / CONFIG).write_text(own.to_toml())
        return SimpleNamespace(stopped=not request.resume)

    def average(members: object, folder: Path) -> None:
        folder.mkdir()

    monkeypatch.setattr(stages, "train_on", train_on)
    monkeypatch.setattr(stages, "average_checkpoints", average)
    monkeypatch.chdir(tmp_path)
    recipe, report = recipe_of(tmp_path / "recipe"), Notes()
    data = write_data(tmp_path / "data")
    absolute, relative = (Places({"": data}, work) for work in (tmp_path / "work", Path("work")))
    assert not make_stages(recipe, relative, report)  # the first stage stops
    with pytest.raises(
        CheckpointError, match=r"words was begun with .*lr was 0\.001 and is 0\.002"
    ):
        make_stages(
            recipe_of(tmp_path / "recipe", RECIPE.replace("1e-3", "2e-3")), absolute, report
        )
    assert not make_stages(recipe, relative, report)  # it goes on to its end, and the third stops
    assert make_stages(recipe, absolute, report)
    assert [resume for resume, _ in asked] == [False, True, False, True]
    words, rewards = asked[1][1], asked[3][1]
    assert not words.encoder.flips and words.optimizer.lr == 1e-3
    assert rewards.training.init_from == str(tmp_path / "work" / "mean")
    assert len(make(tmp_path, data)) == 3


def test_notes_that_do_not_say_of_what_a_stage_was_made(tmp_path: Path, trained: list[str]) -> None:
    """As 0.1.0 wrote them."""
    data = write_data(tmp_path / "data")
    make(tmp_path, data)
    change_notes(tmp_path, lambda n: n["words"].pop("made_of"))
    with pytest.raises(CheckpointError, match="did not record its inputs: remove it"):
        make(tmp_path, data)
    change_notes(tmp_path, lambda n: n.pop("words"))
    with pytest.raises(CheckpointError, match=r"was begun by an older .*: remove it to begin"):
        make(tmp_path, data)
