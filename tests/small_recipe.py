"""A recipe in two stages on a small built-in set, with everything a card has."""

from pathlib import Path

from cli_shell import SMALL

CARD = """# {{name}}

{{figures}}

{{speed}}

{{reliability}}

{{people}}

{{unknown-words}}

{{stages}}
"""

SETTINGS = [setting for setting in SMALL if "=" in setting]

RECIPE = f"""
name = "small"
weights = "int8"
card = "card.md"
examples = ["scenes/val-00000.png", "scenes/val-00001.png"]

[decoding]
beam_size = 2

[[stages]]
name = "words"
settings = {[*SETTINGS, "training.save_every=1"]}

[[stages]]
kind = "average"
name = "mean"
members = ["words/epoch-001", "words/epoch-002"]

[[stages]]
name = "rewards"
init_from = "mean"
settings = {[*SETTINGS, "objective.kind=scst", "training.num_epochs=1", "optimizer.lr=1e-5"]}

[export]
compute = "int8"
data = "other"

[[measure]]
title = "scenes, dev"
split = "train"

[[measure]]
title = "other scenes"
data = "other"
split = "test"
"""


def write_recipe(folder: Path) -> Path:
    """The recipe's file, with its template beside it."""
    folder.mkdir()
    (folder / "card.md").write_text(CARD, encoding="utf-8")
    (folder / "small.toml").write_text(RECIPE, encoding="utf-8")
    return folder / "small.toml"
