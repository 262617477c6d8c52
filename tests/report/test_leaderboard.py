"""The leaderboard of files of captions: who is marked as best, and what its page has."""

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from caption_files import CaptionFiles
from cli_shell import Shell
from page_parser import Page, parse_page

from showtell.evaluation.compare import compare, compare_files
from showtell.metrics.bootstrap import Resampling
from showtell.report.changes import CHECKED, Leader, leaders, ranking, shown

METRICS = ("--metric", "BLEU-4", "--metric", "CIDEr-D", "--metric", "CHAIR-i", "--metric", "length")


def make(showtell: Shell, target: Path, *arguments: str | Path) -> tuple[Page, str]:
    """Run ``showtell report``: the page, and its source."""
    result = showtell("report", *arguments, "-o", target)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"the page is {target}\n"
    return parse_page(target), target.read_text(encoding="utf-8")


def test_the_best_is_marked_only_where_it_is_better_than_all_others(
    caption_files: CaptionFiles,
) -> None:
    files = caption_files
    chosen = {"metrics": ("CIDEr-D", "BLEU-4", "length"), "resampling": Resampling(200)}
    two = compare_files([files.rarely, files.often], files.references, **chosen)
    assert leaders(two) == dict.fromkeys(("BLEU-4", "CIDEr-D"), Leader(1, frozenset()))
    same = compare_files([files.often, files.rarely, files.often], files.references, **chosen)
    assert leaders(same) == dict.fromkeys(("BLEU-4", "CIDEr-D"), Leader(0, frozenset({2})))
    assert shown(same) == ["BLEU-4", "CIDEr-D", "length"], "nobody leads in length"


def test_fewer_invented_objects_are_better(caption_files: CaptionFiles) -> None:
    files = caption_files
    found = compare_files(
        [files.often, files.rarely],
        files.references,
        metrics=(),
        families=CHECKED,
        resampling=Resampling(200),
    )
    values = [system.scores.metrics["CHAIR-i"] for system in found.systems]
    assert values[0] < values[1]
    assert leaders(found)["CHAIR-i"] == Leader(0, frozenset())
    assert leaders(found)["bad-endings"] == Leader(0, frozenset({1}))


@pytest.mark.parametrize("seed", [1, 24, 33])
def test_the_ranking_and_the_differences_say_the_same(seed: int) -> None:
    """Near p = 0.05, where other resamples of the same pictures could say something else."""
    rng = random.Random(seed)
    words = ["dog", "cat", "bus", "red", "man", "runs", "on", "grass", "in", "sky"]
    people, worse, better = {}, {}, {}
    for number in reversed(range(40)):  # not in the order of the ids as text
        said = [rng.choice(words) for _ in range(6)]
        people[str(number)] = [" ".join(said)]
        for captions, share in ((worse, 0.5), (better, 0.4)):
            changed = (w if rng.random() > share else rng.choice(words) for w in said)
            captions[str(number)] = " ".join(changed)
    found = compare(
        {"worse": worse, "better": better},
        people,
        metrics=["ROUGE-L"],
        resampling=Resampling(100),
    )
    assert 0.01 < found.contrasts[0].corrected["ROUGE-L"] < 0.1
    assert found.contrasts[0].is_shown("ROUGE-L") == (not leaders(found)["ROUGE-L"].close)


def test_captioners_without_a_value_come_last() -> None:
    """CHAIR-i of captions that name no object is nan."""
    people = {str(n): ["a dog"] for n in range(6)}
    said = {"none": "outside", "wrong": "a cat", "bare": "a thing", "right": "a dog"}
    captions = {name: dict.fromkeys(people, text) for name, text in said.items()}
    found = compare(captions, people, metrics=["CHAIR-i"], resampling=Resampling(200))
    names = re.findall(r">(none|wrong|bare|right)<", ranking(found, "Leaderboard").body)
    assert names == ["right", "wrong", "none", "bare"]


def test_a_page_with_pictures(showtell: Shell, caption_files: CaptionFiles, tmp_path: Path) -> None:
    files = caption_files
    given = (files.rarely, files.odd, files.often, "--references", files.references)
    page, text = make(showtell, tmp_path / "new" / "page.html", *given, "--images", files.images)
    assert page.sections == ["ranking", "changes"]
    for tag, name, value in page.attributes:
        assert name not in ("src", "srcset", "href") or value.startswith(("data:", "#")), tag
    assert page.headings[0] == ("h1", "Leaderboard: rarely, <b>odd & even, often")
    assert "<b>" not in text and "<script>alert" not in text
    assert text.count("<script>") == 1, "its own, which sorts"
    for words in (
        "60 pictures",
        "captioner BLEU-1 ↑",
        "CHAIR-i ↓",
        "object-recall ↑",
        "paired bootstrap (Koehn 2004) and approximate randomisation",
        "corrected for 2 comparisons",
        "|bs:1000|seed:0|ci:95",
        "often beside rarely",
        "Pictures on which often gained most in CIDEr-D",
    ):
        assert words in page.words
    assert re.search(r"CIDEr-D \d\.\d\d \(\+\d\.\d\d\)", page.words)
    missing = re.findall(r"no picture of (\d+) in ", page.words)
    assert missing and all(int(image_id) % 2 for image_id in missing)
    links = {value for _, name, value in page.attributes if name == "href" and "versus" in value}
    assert links == {"#versus-1", "#versus-2"}
    names = {value for _, name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links} <= names
    assert len(page.images) > 5 and all(image["alt"] for image in page.images)
    best = [row for row in text.split("<tr") if '<td class="n best"' in row]
    assert len(best) == 1 and ">often</a>" in best[0]


def test_pictures_that_are_not_found_are_told(
    showtell: Shell, caption_files: CaptionFiles, tmp_path: Path
) -> None:
    files, target = caption_files, tmp_path / "page.html"
    given = (files.often, files.rarely, "--references", files.references, *METRICS)
    (tmp_path / "empty").mkdir()
    result = showtell("report", *given, "--images", tmp_path / "empty", "-o", target)
    told = f"{tmp_path / 'empty'} has no picture of 60 of the 60 images: "
    assert result.returncode == 0 and f"warning: {told}" in result.stderr
    assert told in parse_page(target).words


def test_pictures_are_found_by_their_paths(
    showtell: Shell, caption_files: CaptionFiles, tmp_path: Path
) -> None:
    paths = [f"pets/{kind}/001.jpg" for kind in ("cats", "dogs")]
    for path, picture in zip(paths, sorted(caption_files.images.iterdir()), strict=False):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copyfile(picture, tmp_path / path)
    (tmp_path / "people.json").write_text(json.dumps({path: ["a pet"] for path in paths}))
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        file.write_text(json.dumps(dict.fromkeys(paths, f"a pet {file.stem}")))
    given = (*files, "--references", tmp_path / "people.json", "--metric", "ROUGE-L")
    for name, lost in (("pets", ""), ("pets/cats", "1 of the 2 images: pets/dogs/001.jpg")):
        target, folder = tmp_path / f"{Path(name).name}.html", tmp_path / name
        result = showtell("report", *given, "--images", folder, "-o", target)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("has no picture of") == bool(lost)
        assert lost in result.stderr


def test_a_note_about_several_files_is_one(caption_files: CaptionFiles, tmp_path: Path) -> None:
    people = json.loads(caption_files.references.read_text())
    ids = [image["id"] for image in people["images"]]
    said = dict.fromkeys((str(number) for number in ids[1:]), "a dog") | {"000000": "a dog"}
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        file.write_text(json.dumps(said))
    found = compare_files(files, caption_files.references, metrics=["ROUGE-L"])
    [note] = [warning for warning in found.warnings if "written differently" in warning]
    assert note.startswith("one, two: 1 of 60 image ids")


def test_metrics_by_name_and_no_pictures(
    showtell: Shell, caption_files: CaptionFiles, tmp_path: Path
) -> None:
    files = caption_files
    given = (files.often, files.rarely, "--references", files.references, *METRICS)
    page, text = make(showtell, tmp_path / "page.html", *given)
    assert "captioner BLEU-4 ↑ CIDEr-D ↑ CHAIR-i ↓ length " in page.words
    assert not page.images and 'class="missing"' not in text
    assert "rarely lost most in CIDEr-D" in page.words
    assert "rarely minus often" in page.words and "worse" in page.words


def test_identical_captions_show_no_difference(
    showtell: Shell, caption_files: CaptionFiles, tmp_path: Path
) -> None:
    files = caption_files
    given = (files.often, files.often, "--references", files.references, *METRICS)
    page, text = make(showtell, tmp_path / "page.html", *given)
    assert "often (2)" in page.words
    assert 'class="n best"' not in text
    assert "No picture's CIDEr-D differs." in page.words
    page, _ = make(showtell, tmp_path / "page.html", *given[:4], "--metric", "vocabulary")
    assert "differs" not in page.words, "a vocabulary is that of all pictures together"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("often",), "1 file given with --references: expected two or more"),
        (("often", "images"), "is a folder: --references is for files of captions"),
        (("often", "rarely", "--images", "nowhere"), "nowhere: no such folder of pictures"),
        (("often", "rarely", "--data", "scenes"), "--data and --store are for runs"),
        (("often", "rarely", "-o", "often"), "is one of the inputs"),
    ],
)
def test_what_does_not_fit_is_one_line(
    showtell: Shell, caption_files: CaptionFiles, given: tuple[str, ...], message: str
) -> None:
    known = {name: getattr(caption_files, name) for name in ("often", "rarely", "images")}
    arguments = [known.get(word, word) for word in given]
    result = showtell("report", *arguments, "--references", caption_files.references)
    assert result.returncode != 0
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line


def test_files_need_references(showtell: Shell, caption_files: CaptionFiles) -> None:
    result = showtell("report", caption_files.often, caption_files.rarely)
    assert result.returncode == 1
    assert "is a file, not a run" in result.stderr and "--references" in result.stderr
    result = showtell("report", "run", "--metric", "CIDEr-D")
    assert "--metric and --subset are for files of captions" in result.stderr


def test_it_needs_neither_torch_nor_matplotlib(caption_files: CaptionFiles, tmp_path: Path) -> None:
    files, page = caption_files, tmp_path / "page.html"
    given = [files.often, files.rarely, "--references", files.references, "-o", page, *METRICS]
    code = (
        "import sys; sys.modules |= {'torch': None, 'matplotlib': None}\n"
        f"sys.argv = {['showtell', 'report', *map(str, given)]!r}\n"
        "from showtell.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert page.exists()
