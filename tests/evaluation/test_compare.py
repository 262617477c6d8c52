"""Comparisons of systems: what is shown, for whom, and what does not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from showtell.errors import ScoringError
from showtell.evaluation.compare import Comparison, _short, compare, compare_files
from showtell.evaluation.tables import FORMATS
from showtell.metrics.bootstrap import Resampling
from showtell.metrics.evaluate import Family
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Statistics

FAST = ["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D"]
FEW = Resampling(200)


@pytest.fixture(scope="module")
def world() -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Three systems on 60 images: b names the right animal more often than a does, c is a."""
    rng = np.random.default_rng(0)
    animals = ["dog", "cat", "horse", "cow", "bird", "sheep"]
    people, systems = {}, {name: dict[str, str]() for name in "abc"}
    for number in range(60):
        animal = animals[number % 6]
        people[str(number)] = [f"A {animal} stands on the grass.", f"the {animal} is outside"]
        for name, share in (("a", 0.3), ("b", 0.9)):
            seen = animal if rng.random() < share else rng.choice(animals)
            systems[name][str(number)] = f"a {seen} stands on grass"
    systems["c"] = dict(systems["a"])
    return systems, people


@pytest.fixture(scope="module")
def found(world: Any) -> Comparison:
    systems, people = world
    return compare(systems, people, metrics=FAST, resampling=FEW, num_shown=3)


def test_a_better_system_and_an_equal_one(found: Comparison) -> None:
    better, same = found.contrasts
    assert (better.name, same.name) == ("b", "c")
    assert all(better.is_shown(name) for name in FAST)
    assert not any(same.is_shown(name) for name in FAST)
    assert same.differences["BLEU-4"].p == same.corrected["BLEU-4"] == 1.0
    # Of two comparisons, the smaller p-value counts twice (Holm).
    assert better.corrected["CIDEr-D"] == pytest.approx(2 * better.differences["CIDEr-D"].p)
    assert found.sentences()[0].startswith("b is better than a in BLEU-1: +0.")
    assert found.sentences()[4].startswith("no difference in BLEU-1 between c and a can be shown")
    assert "corrected for 2 comparisons (Holm 1979)" in FORMATS["text"](found)


def test_pictures_that_gained_and_lost(found: Comparison, world: Any) -> None:
    systems, people = world
    better, same = found.contrasts
    assert same.gained == same.lost == []
    assert len(better.gained) == 3
    values = [change.value for change in better.gained]
    assert values == sorted(values, reverse=True) and values[-1] > 0
    for change in better.gained:
        image_id = change.image_id
        assert change.captions == (systems["a"][image_id], systems["b"][image_id])
        assert change.reference == people[image_id][0]
    assert all(change.value < 0 for change in better.lost)


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_has_every_figure(found: Comparison, form: str) -> None:
    written = FORMATS[form](found)
    low, high = found.systems[1].scores.intervals["CIDEr-D"]
    if form == "json":
        value = json.loads(written)
        assert value["systems"][1]["intervals"]["CIDEr-D"] == [low, high]
        metric = value["comparisons"][0]["metrics"]["CIDEr-D"]
        assert metric["is_shown"] and metric["p_bootstrap"] == pytest.approx(2 / 201)
    else:
        assert f"[{low:.3f}, {high:.3f}]" in written
        assert "60 images; 95 \\% intervals" in written.replace("95 %", "95 \\%")
        assert all(name in written for name in FAST)
    if form != "latex":
        assert found.contrasts[0].gained[0].captions[1] in written
    assert found.signature.rpartition("|")[2] in written


def test_names_of_figures_that_latex_and_markdown_read_as_commands() -> None:
    people = {"1": ["a dog | <b>"], "2": ["a cat"]}
    said = {"a_1": {"1": "a | <b>", "2": "a"}, "b&2": {"1": "a dog", "2": "a cat"}}
    found = compare(said, people, metrics=["CIDEr-D"], resampling=FEW)
    assert r"a\_1 & b\&2" in FORMATS["latex"](found)
    assert r"a \| &lt;b>" in FORMATS["markdown"](found)


def test_a_metric_whose_lower_values_are_better(world: Any) -> None:
    def words(captions: Captions) -> Statistics:
        return Statistics.mean("words", np.array([float(len(w)) for w in captions.words]))

    systems, people = world
    long = {image_id: f"{said} today" for image_id, said in systems["a"].items()}
    for better, word in (("lower", "worse"), (None, "higher"), ("higher", "better")):
        family = Family("words", ("words",), "1", words, better=better)
        found = compare(
            {"a": systems["a"], "long": long},
            people,
            metrics=[],
            families=[family],
            resampling=FEW,
        )
        assert found.ranked_by == "words"
        assert found.sentences() == [
            f"long is {word} than a in words: +1.000 [1.000, 1.000], p = 0.010"
        ]
        title = "long lost most in words (lower is better) over a"
        if better != "lower":
            title = "long gained most in words over a"
        for form in ("text", "markdown"):
            assert title in FORMATS[form](found)
        assert len(found.contrasts[0].gained) == (0 if better == "lower" else 5)


def test_figures_of_all_captions_together_rank_no_picture(world: Any) -> None:
    systems, people = world
    for metrics, ranked_by in ((["vocabulary"], "vocabulary"), (["unique", "length"], "length")):
        found = compare(systems, people, metrics=metrics, resampling=FEW)
        assert found.ranked_by == ranked_by
        assert found.contrasts[0].gained == []
        assert "most in" not in FORMATS["text"](found)


def test_systems_that_do_not_fit(world: Any) -> None:
    systems, people = world
    fewer = {image_id: said for image_id, said in systems["b"].items() if int(image_id) > 9}
    both = {"a": systems["a"], "fewer": fewer}
    with pytest.raises(ScoringError, match=r"fewer has no caption of 10 images .*--subset"):
        compare(both, people, metrics=FAST, resampling=FEW)
    found = compare(both, people, metrics=FAST, resampling=FEW, subset=True)
    assert found.systems[0].scores.num_images == 50
    assert found.warnings == ["compared on the 50 images that all systems have"]
    with pytest.raises(ScoringError, match="no image in common"):
        compare({"a": {"1": "a"}, "b": {"2": "b"}}, people, subset=True)
    with pytest.raises(ScoringError, match="1 system to compare"):
        compare({"a": systems["a"]}, people)


def test_one_image(world: Any) -> None:
    _, people = world
    said = {"a": {"1": "a dog"}, "b": {"1": "a cat stands on the grass"}}
    found = compare(said, {"1": people["1"]}, metrics=["BLEU-1"], resampling=FEW)
    assert not found.contrasts[0].is_shown("BLEU-1")
    assert "one image shows no difference" in found.warnings[-1]


def test_files_of_any_form(world: Any, tmp_path: Path) -> None:
    systems, people = world
    (tmp_path / "people.json").write_text(json.dumps(people))
    (tmp_path / "a.json").write_text(json.dumps(systems["a"]))
    rows = [{"image_id": int(i), "caption": c} for i, c in reversed(systems["b"].items())]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [tmp_path / "a.json", tmp_path / "b.jsonl"]
    found = compare_files(files, tmp_path / "people.json", metrics=FAST, resampling=FEW)
    direct = compare({"a": systems["a"], "b": systems["b"]}, people, metrics=FAST, resampling=FEW)
    assert found.contrasts == direct.contrasts


def test_files_that_go_by_ids_and_by_file_names(world: Any, tmp_path: Path) -> None:
    systems, people = world
    references = {
        "images": [{"id": int(i), "file_name": f"p{i}x.jpg"} for i in people],
        "annotations": [
            {"image_id": int(i), "caption": text} for i, said in people.items() for text in said
        ],
    }
    (tmp_path / "people.json").write_text(json.dumps(references))
    (tmp_path / "a.json").write_text(json.dumps(systems["a"]))
    by_name = {f"p{i}x.jpg": said for i, said in systems["b"].items()}
    (tmp_path / "b.json").write_text(json.dumps(by_name))
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for subset in (False, True):
        found = compare_files(
            files, tmp_path / "people.json", metrics=FAST, resampling=FEW, subset=subset
        )
        direct = compare({n: systems[n] for n in "ab"}, people, metrics=FAST, resampling=FEW)
        assert found.contrasts == direct.contrasts
        assert not found.warnings


def test_pictures_without_a_score_neither_gained_nor_lost() -> None:
    """CHAIR-i of a caption that names no object is nan, and nan has no place in an order."""
    people = {str(n): ["a dog outside"] for n in range(40)}
    first = {i: ("a dog", "a cat", "outside")[int(i) % 3] for i in people}
    second = {i: ("a cat", "a dog", "outside", "outside")[int(i) % 4] for i in people}
    found = compare(
        {"a": first, "b": second}, people, metrics=["CHAIR-i"], resampling=FEW, num_shown=3
    )
    [contrast] = found.contrasts
    assert [change.value for change in contrast.gained] == [-1.0] * 3
    assert [change.value for change in contrast.lost] == [1.0] * 3
    assert {change.captions for change in contrast.gained} == {("a cat", "a dog")}


def test_too_few_resamples_to_show_anything(world: Any) -> None:
    systems, people = world

    def warnings(num_systems: int, num_resamples: int) -> list[str]:
        captions = {"a": systems["a"]} | {str(n): systems["b"] for n in range(1, num_systems)}
        resampling = Resampling(num_resamples)
        found = compare(captions, people, metrics=["BLEU-1"], resampling=resampling)
        shown = [contrast.is_shown("BLEU-1") for contrast in found.contrasts]
        assert all(shown) == any(shown) == (not found.warnings)
        return found.warnings

    assert warnings(2, 39) == [
        "39 resamples can show no difference between 2 systems, as no p-value can be below 0.05: "
        "40 or more can (--bootstrap 40)"
    ]
    assert warnings(2, 40) == warnings(4, 120) == []
    assert "between 4 systems" in warnings(4, 119)[0]


def test_many_systems_get_as_many_resamples_as_they_need(world: Any) -> None:
    systems, people = world
    captions = {"a": systems["a"]} | {str(n): systems["b"] for n in range(26)}
    found = compare(captions, people, metrics=["BLEU-1"], num_shown=0)
    assert found.resampling.num_resamples == 1040
    assert found.contrasts[0].is_shown("BLEU-1")
    assert found.warnings == []


def test_ids_that_are_numbers(world: Any) -> None:
    systems, people = world

    def numbered(values: dict[str, Any]) -> Any:
        return {int(image_id): value for image_id, value in values.items()}

    found = compare(
        {name: numbered(systems[name]) for name in "ab"},
        numbered(people),
        metrics=FAST,
        resampling=FEW,
    )
    direct = compare({n: systems[n] for n in "ab"}, people, metrics=FAST, resampling=FEW)
    assert found.contrasts == direct.contrasts


def test_short_names() -> None:
    assert _short(["x/a", "y/b"]) == ["a", "b"]
    assert _short(["x/a", "y/a", "y/b"]) == ["x/a", "y/a", "y/b"]
    assert _short(["x/a", "x/a", "x/b"]) == ["a", "a (2)", "b"]
