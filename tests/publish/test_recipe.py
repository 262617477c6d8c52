import re
from pathlib import Path

import pytest
from small_recipe import write_recipe

from showtell.config import Config
from showtell.errors import ConfigError
from showtell.inference.checkpoint import find_checkpoint
from showtell.inference.files import CONFIG
from showtell.pretrained import shipped_folder
from showtell.publish.recipe import AverageStage, Recipe, TrainStage
from showtell.training.settings import INHERITED


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe")


ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    path
    for path in (ROOT / "configs" / "pretrained").glob("*.toml")
    if "[[stages]]" in path.read_text(encoding="utf-8")
)


def test_every_recipe_is_valid() -> None:
    assert [path.stem for path in RECIPES] == ["photos13k-lite2"]
    for path in RECIPES:
        recipe = Recipe.load(path)
        assert recipe.name == path.stem
        used = {stage.config for stage in recipe.stages if isinstance(stage, TrainStage)}
        assert {p.name for p in path.parent.glob("*.toml")} == {path.name, *map(str, used)}


def test_the_default_model_hands_on_what_its_recipe_says() -> None:
    """What a run that starts from it takes over, mirrored views among it."""
    folder = shipped_folder("default")
    assert folder is not None
    shipped = Config.load(folder / CONFIG)
    *_, last = (s for s in Recipe.load(RECIPES[0]).stages if isinstance(s, TrainStage))
    made = Recipe.load(RECIPES[0]).config_of(last)
    for section, names in INHERITED.items():
        for name in names:
            own, other = (getattr(getattr(config, section), name) for config in (shipped, made))
            if name == "max_caption_length":  # by the kind of tokens, where nobody gives it
                other = made.data.longest_caption(has_pieces=False)
            assert own == other, f"{section}.{name}"
    assert shipped.encoder.flips


def test_what_a_recipe_says(recipe: Path) -> None:
    found = Recipe.load(recipe)
    assert [type(stage) for stage in found.stages] == [TrainStage, AverageStage, TrainStage]
    assert found.shipped == "rewards"
    assert found.data_names == {"other"}
    last = found.stages[-1]
    assert isinstance(last, TrainStage)
    assert found.config_of(last, Path("work")).training.init_from == "work/mean"


def test_a_stage_may_begin_with_a_model_that_comes_with_showtell(recipe: Path) -> None:
    """Whose settings are then the defaults, as with ``training.init_from`` elsewhere."""
    text = recipe.read_text(encoding="utf-8")
    begins = 'name = "words"\ninit_from = "default"\nsettings = ["training.num_epochs=2"]'
    recipe.write_text(re.sub(r'name = "words"\nsettings = .*', begins, text), encoding="utf-8")
    found = Recipe.load(recipe)
    stage = found.stages[0]
    assert isinstance(stage, TrainStage)
    config = found.config_of(stage, Path("work"))
    shipped = Config.load(find_checkpoint("default") / CONFIG)
    assert (config.training.init_from, config.training.num_epochs) == ("default", 2)
    assert config.encoder.squash is shipped.encoder.squash is True
    assert config.decoder == shipped.decoder


def test_stages_teach_later_ones(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    text = text.replace('name = "rewards"', 'name = "rewards"\nteachers = ["words", "mean"]')
    recipe.write_text(text.replace("objective.kind=scst", "objective.kind=distil"))
    found = Recipe.load(recipe)
    last = found.stages[-1]
    assert isinstance(last, TrainStage)
    assert last.sources == ("mean", "words", "mean")
    assert found.config_of(last, Path("work")).objective.teachers == ("work/words", "work/mean")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mean"', 'name = "words"', "two stages are named 'words'"),
        ('init_from = "mean"', 'init_from = "meen"', "needs 'meen', which no earlier stage makes"),
        ("words/epoch-001", "rewards", "needs 'rewards', which no earlier stage"),
        ('name = "small"', 'name = "small"\nmodel = "best"', "model = 'best' is not a stage"),
        ("decoder.hidden_size=64", "decoder.hiden_size=64", "stage words: .*hiden_size"),
        ('"card.md"', '"gone.md"', "no template"),
        ('name = "mean"', 'name = "default"', "'default' has the name of a model that comes"),
        ('kind = "average"', 'kind = "mean"', "stages"),
        ('name = "words"', 'name = ".packed"', r"stages\.0\.name = '\.packed': expected letters"),
        ('name = "words"', 'name = ".."', r"stages\.0\.name = '\.\.': expected letters"),
        ('name = "words"', 'name = "a/b"', r"stages\.0\.name = 'a/b': expected letters"),
        ('name = "words"', 'name = "stages.json"', r"and not stages\.json, as a stage's folder"),
        ('weights = "int8"', 'weights = "int4"', "weights"),
    ],
)
def test_a_mistake_is_one_line(recipe: Path, old: str, new: str, message: str) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as error:
        Recipe.load(recipe)
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_there_is_no_preset(tmp_path: Path) -> None:
    for name in ("nope.toml", "coco"):
        with pytest.raises(ConfigError, match=r"no recipe .*: expected a TOML file"):
            Recipe.load(tmp_path / name)


def test_what_is_missing_is_named_alone(tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text('nam = "x"\n[[stages]]\nnam = "one"\n[[stages]]\nkind = "mean"\n')
    with pytest.raises(ConfigError) as error:
        Recipe.load(path)
    assert str(error.value) == (
        f"wrong settings in {path}: name: is missing; stages.0.name: is missing; stages.0.nam: no "
        "such setting, did you mean stages.0.name?; stages.1.kind: unknown kind 'mean'. Known: "
        "average, train; measure: is missing; card: is missing; nam: no such setting, did you mean "
        "name?"
    )
