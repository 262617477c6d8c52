"""How a grid is written and what its points are called."""

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.config import Config
from showtell.config.grid import (
    Grid,
    point_names,
    setting_names,
    short_name,
    split_at_commas,
)
from showtell.config.toml import is_toml, read_value
from showtell.errors import ConfigError

WORDS = st.text("abcxyz_./é-", min_size=1, max_size=8)
VALUES = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=8),
    st.lists(st.text('ab,]"', max_size=3), max_size=3),
)


@given(st.lists(VALUES, min_size=2, max_size=5))
def test_values_with_commas_between_them_are_an_axis(values: list) -> None:
    """JSON of numbers, booleans, ASCII strings and lists of strings is TOML, too."""
    grid = Grid.read([f"a.b={','.join(map(json.dumps, values))}"])
    assert grid == Grid((), {"a.b": tuple(values)})


@given(VALUES)
def test_one_toml_value_is_no_axis(value: object) -> None:
    override = f"a.b={json.dumps(value)}"
    assert Grid.read([override]) == Grid((override,), {})


@given(st.lists(WORDS, min_size=1, max_size=4))
def test_plain_words_need_no_quotes(words: list[str]) -> None:
    grid = Grid.read([f"a.b={', '.join(words)}"])
    if len(words) == 1:
        assert grid.common == (f"a.b={words[0]}",)
    else:
        assert grid.axes == {"a.b": tuple(map(read_value, words))}


@given(st.text("ab,\"'[]{}\\ =", max_size=12))
def test_every_text_is_one_value_an_axis_or_an_error(text: str) -> None:
    override = f"a.b={text}"
    try:
        grid = Grid.read([override])
    except ConfigError as error:
        assert "\n" not in str(error)
        assert not is_toml(text)
    else:
        assert grid.common == (override,) or len(grid.axes["a.b"]) >= 2
        if is_toml(text) or "," not in text:
            assert grid.common == (override,)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1e-3,5e-4", ["1e-3", "5e-4"]),
        ("lstm, gru", ["lstm", "gru"]),
        ('"a,b",c', ['"a,b"', "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('["a","b"],["c"]', ['["a","b"]', '["c"]']),
        ("{a=1,b=2},{a=3}", ["{a=1,b=2}", "{a=3}"]),
        ("don't,x", ["don't", "x"]),
        ("1,", ["1", ""]),
    ],
)
def test_commas_in_quotes_and_brackets_do_not_count(text: str, parts: list[str]) -> None:
    assert split_at_commas(text) == parts


def test_a_list_is_still_one_setting() -> None:
    override = 'decoding.forbidden_words=["dog", "a cat"]'
    grid = Grid.read([override])
    assert grid == Grid((override,), {})
    assert Config.load(None, grid.common).decoding.forbidden_words == ("dog", "a cat")


def test_several_axes_make_their_product_in_the_order_given() -> None:
    grid = Grid.read(["optimizer.lr=1e-3,5e-4", "seed=7", "decoder.cell=lstm,gru"])
    assert grid.common == ("seed=7",)
    points = [tuple(point.values()) for point in grid.points()]
    assert points == [(0.001, "lstm"), (0.001, "gru"), (0.0005, "lstm"), (0.0005, "gru")]
    assert point_names(grid.points()) == [
        "optimizer.lr=0.001+cell=lstm",
        "optimizer.lr=0.001+cell=gru",
        "optimizer.lr=0.0005+cell=lstm",
        "optimizer.lr=0.0005+cell=gru",
    ]


def test_no_axis_is_one_point() -> None:
    assert Grid.read(["seed=7"]).points() == [{}]


@pytest.mark.parametrize(
    ("key", "short"),
    [
        ("optimizer.lr", "optimizer.lr"),  # encoder.lr is another
        ("optimizer.warmup_steps", "warmup_steps"),
        ("decoder.hidden_size", "hidden_size"),
        ("decoder.kind", "decoder.kind"),  # objective.kind is another
        ("optimizer.name", "optimizer.name"),
        ("seed", "seed"),
        ("decoding.seed", "decoding.seed"),
        ("no.such", "such"),
    ],
)
def test_the_shortest_name_that_is_clear(key: str, short: str) -> None:
    assert short_name(key) == short


def test_short_names_are_all_different() -> None:
    keys = {*setting_names()}
    assert {"seed", "decoder.prefix_length", "training.num_epochs"} <= keys
    assert len({short_name(key) for key in keys}) == len(keys)


@given(st.lists(st.one_of(VALUES, st.text(max_size=300)), min_size=1, max_size=6))
def test_names_are_safe_as_folders_and_in_a_shell(values: list) -> None:
    names = point_names([{"optimizer.lr": value, "seed": value} for value in values])
    assert len({name.lower() for name in names}) == len(values)
    for name in names:
        assert shlex.quote(name) == name
        assert "," not in name
        assert "/" not in name
        assert len(name) < 255
