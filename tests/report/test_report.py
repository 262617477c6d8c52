"""The page of real runs: what is on it, what is left out, and what goes wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from cli_shell import SMALL, Shell
from page_parser import Page, parse_page
from PIL import Image

from showtell.data.sources import load_dataset
from showtell.errors import install_line
from showtell.evaluation.calibration import Bin, Reliability
from showtell.report import figures
from showtell.report.charts import reliability_figure
from showtell.report.reading import read_runs
from showtell.report.sections import final_figures

SECTIONS = ["figures", "curves", "captions", "attention", "words", "settings", "provenance"]
COMPARED = ["figures", "curves", "ranking", "changes", "words", "settings", "provenance"]
CURVES = {"loss", "perplexity", "cider-d", "metrics", "learning-rate", "speed", "bad-endings"}
CHARTS = CURVES | {"word-frequencies", "caption-lengths"}
SHEETS = {"captions-best", "captions-worst", *(f"attention-{number}" for number in range(1, 5))}
LINE = re.compile(r"the page is (.+); its figures are in (.+)\n")


def make(showtell: Shell, *arguments: str | Path) -> tuple[Page, dict[str, bytes]]:
    """Run ``showtell report``: the page, and the figures beside it by name."""
    result = showtell("report", *arguments)
    assert result.returncode == 0, result.stderr
    page, folder = LINE.fullmatch(result.stdout).groups()
    files = {path.stem: path.read_bytes() for path in Path(folder).glob("*.png")}
    assert len(files) == len(list(Path(folder).iterdir()))
    return parse_page(Path(page)), files


def assert_self_contained(page: Page) -> None:
    for tag, name, value in page.attributes:
        if name in ("src", "srcset", "href"):
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
        assert "url(" not in value
    assert all(image["alt"] and image["width"] and image["height"] for image in page.images)
    assert page.num_tables == page.num_captions > 0
    assert [level for level, _ in page.headings].count("h1") == 1


@pytest.fixture(scope="module")
def made(
    showtell: Shell, looks: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Page, dict[str, bytes]]:
    return make(showtell, looks, "-o", tmp_path_factory.mktemp("out") / "new" / "page.html")


def test_a_page_has_all_sections_and_asks_nothing_of_anyone(
    made: tuple[Page, dict[str, bytes]],
) -> None:
    page, _ = made
    assert page.sections == SECTIONS
    assert_self_contained(page)
    assert "Left out" not in page.text
    for word in ("Best captions", "Worst captions", "CIDEr-D", "bad endings", "optimizer.lr"):
        assert word in page.words
    assert re.search(r"\b[0-9a-f]{64}\b", page.text), "the data's fingerprint"


def test_every_figure_is_in_the_page_and_a_png_beside_it(
    made: tuple[Page, dict[str, bytes]], tmp_path: Path
) -> None:
    page, files = made
    assert set(files) == CHARTS | SHEETS
    assert page.pngs() == {files[name] for name in CHARTS}
    assert len(page.dark) == len(CHARTS)
    for name, data in files.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert len(image.convert("L").getcolors(1 << 24)) > 10, f"{name} is empty"


def test_best_and_worst_have_their_pictures_and_references(
    made: tuple[Page, dict[str, bytes]], looks: Path
) -> None:
    page, _ = made
    shown = [image for image in page.images if image["alt"].startswith("Picture captioned")]
    assert len(shown) == 10  # all the validation pictures: five best, five worst
    maps = [image for image in page.images if image["alt"].startswith("At ")]
    assert len(maps) >= 4
    assert all(re.search(r"row \d, column \d of 7 x 7", image["alt"]) for image in maps)


def test_the_figures_are_those_of_the_run(made: tuple[Page, dict[str, bytes]], looks: Path) -> None:
    page, _ = made
    best = json.loads((looks / "best" / "metrics.json").read_text())
    for name in ("CIDEr-D", "BLEU-4", "val_loss"):
        assert f"{best['metrics'][name]:.4f}" in page.text
    again = re.search(r"validation pictures of scenes:40. CIDEr-D ([\d.]+)", page.words)
    assert again.group(1) == f"{best['metrics']['CIDEr-D']:.4f}", "captioned anew, scored the same"


def test_validation_logs_intervals_and_metrics_have_bands(
    made: tuple[Page, dict[str, bytes]], looks: Path
) -> None:
    lines = (looks / "metrics.jsonl").read_text().splitlines()
    epochs = [found for line in lines if "validation" in (found := json.loads(line))]
    assert len(epochs) == 2
    for epoch in epochs:
        values, intervals = epoch["validation"], epoch["intervals"]
        assert {"BLEU-4", "CIDEr-D"} <= set(intervals) < set(values)
        assert all(low <= values[name] <= high for name, (low, high) in intervals.items())
    page, _ = made
    assert "CIDEr-D, with 95 % intervals" in page.words
    ends = "CIDEr-D {:.4g} to {:.4g}".format(*epochs[-1]["intervals"]["CIDEr-D"])
    alt = next(image["alt"] for image in page.images if image["alt"].startswith("CIDEr-D: from"))
    assert f"A band shows 95 % intervals; at the last epoch: {ends}." in alt
    assert "length in words" in page.words and "bad-endings" not in page.words
    # "orange" is the one word of the scenes' captions that names an object of COCO.
    assert "CHAIR-s" not in page.words
    assert re.search(r"CHAIR and object recall are left out: .* of only \d of 10 pict", page.words)


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_an_older_version_has_plain_curves(showtell: Shell, run: Path) -> None:
    log = run / "metrics.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    for entry in entries:
        entry.pop("intervals", None)
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    page, files = make(showtell, run, "--max-pictures", "0")
    assert set(files) == CURVES
    assert "95 %" not in page.text


def test_several_runs_are_compared(
    showtell: Shell, looks: Path, tells: Path, tmp_path: Path
) -> None:
    page, files = make(showtell, looks, tells, "-o", tmp_path / "both.html")
    assert page.sections == COMPARED
    assert_self_contained(page)
    assert {"loss", "val-loss", "cider-d", "bleu-4", "rouge-l", "speed"} <= set(files)
    assert page.pngs() == set(files.values())
    for words in (
        "optimizer.lr 0.005 0.001",
        "decoder.kind attention show_tell",
        "tells beside looks",
        "tells minus looks",
        "By the best checkpoints on all 10 validation pictures of scenes:40.",
        "looks says more often than people",
        "references looks tells",
    ):
        assert words in page.words
    curve = next(image for image in page.images if image["alt"].startswith("looks: from"))
    assert "tells: from" in curve["alt"]
    assert "training.num_epochs" not in page.words, "it is the same"


def test_an_average_with_the_start_is_told_from_the_best_epoch(looks: Path) -> None:
    """The figures of the best epoch are not those of ``best/`` then."""
    [run] = read_runs([looks])
    values = {"metrics": {"CIDEr-D": 0.5}, "epoch": 1}
    for share, said in ((0, "holds the weights of default,"), (0.2, "20% of that epoch"), (1, "")):
        note = {"average_start": {"model": "default", "share": share}}
        averaged = replace(run, checkpoint=values | note)
        for runs in ([averaged], [averaged, run]):
            body = final_figures(runs, []).body
            assert said in body
            assert ("its CIDEr-D is 0.5000." in body) == (share < 1)
            assert (">0.5000<" in body) == (share < 1), "the figures are of what is kept"


@pytest.mark.usefixtures("undrawn")
def test_runs_of_one_name_are_told_apart(showtell: Shell, looks: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(looks, tmp_path / name / "run")
    folders = (tmp_path / "a" / "run", tmp_path / "b" / "run")
    page, _ = make(showtell, *folders, "--max-pictures", "0")
    assert "a/run" in page.words and "b/run" in page.words
    assert "The runs have the same settings" in page.words
    assert (folders[0] / "comparison.html").exists()


def test_without_its_data_the_page_says_what_is_left_out(showtell: Shell, run: Path) -> None:
    known = json.loads((run / "run.json").read_text())
    known |= {"data_at": "/nowhere/photos", "data_format": "folder"}
    (run / "run.json").write_text(json.dumps(known))
    page, files = make(showtell, run)
    assert page.sections == SECTIONS
    assert set(files) == CURVES
    assert "Left out: captions and words: the data is not where training had it" in page.words
    assert "--data" in page.words
    page, files = make(showtell, run, "--data", "scenes:40")
    assert set(files) == CHARTS | SHEETS


def test_data_in_another_encoding_is_read_as_in_training(showtell: Shell, tmp_path: Path) -> None:
    with mock.patch.dict(os.environ, showtell.variables):
        records = load_dataset("scenes:40").records[:12]
    lines = ["image,caption,split\n"]
    for number, record in enumerate(records):
        (tmp_path / record.path.name).write_bytes(record.path.read_bytes())
        split = "val" if number % 4 == 3 else "train"
        lines.append(f"{record.path.name},ein grünes Süßgebäck,{split}\n")
    (tmp_path / "own.csv").write_text("".join(lines), encoding="latin-1")
    settings = (*SMALL[:10], "-s", "training.num_epochs=1")
    folder = tmp_path / "run"
    done = showtell("train", tmp_path / "own.csv", "-o", folder, "--encoding", "latin-1", *settings)
    assert done.returncode == 0, done.stderr
    page, files = make(showtell, folder)
    assert "Left out: captions" not in page.words
    assert "Süßgebäck" in page.words
    assert set(files) >= CHARTS - CURVES
    known = json.loads((folder / "run.json").read_text())
    assert known["encoding"] == "latin-1"
    del known["encoding"]  # as runs wrote it before
    (folder / "run.json").write_text(json.dumps(known))
    data = ("--data", tmp_path / "own.csv")
    page, _ = make(showtell, folder, *data)
    assert "is not UTF-8" in page.words
    page, _ = make(showtell, folder, *data, "--encoding", "latin-1")
    assert "Süßgebäck" in page.words


@pytest.mark.usefixtures("undrawn")
def test_data_that_changed_is_not_taken_for_the_trainings(showtell: Shell, run: Path) -> None:
    known = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(known | {"data_at": "scenes:50"}))
    page, _ = make(showtell, run)
    assert "scenes:50 is no longer what the run was trained on" in page.words


@pytest.mark.usefixtures("undrawn")
def test_fewer_pictures_on_request(showtell: Shell, looks: Path, tmp_path: Path) -> None:
    page, _ = make(showtell, looks, "-o", tmp_path / "p.html", "--max-pictures", "3")
    assert "on 3 of the 10 validation pictures" in page.words


def _cut_the_log(run: Path) -> None:
    log = run / "metrics.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:17]) + lines[17][:25])


def _break_the_log(run: Path) -> None:
    log = run / "metrics.jsonl"
    log.write_text("not json\n" + log.read_text() + '[1]\n{"loss": 1}\n')


def _diverge(run: Path) -> None:
    log = run / "metrics.jsonl"
    lines = log.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"loss": 8.9e30})
    log.write_text("\n".join(lines) + "\n")


def _empty_the_log(run: Path) -> None:
    (run / "metrics.jsonl").write_text("")


def _only_the_log(run: Path) -> None:
    for path in run.iterdir():
        if path.name != "metrics.jsonl":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("harm", "said", "charts"),
    [
        (_cut_the_log, "1 of 2 epochs are done", CURVES),
        (_break_the_log, "3 lines of metrics.jsonl could not be read", CURVES),
        (_diverge, "", CURVES),
        (_empty_the_log, "Left out: metrics.jsonl of run holds no step", set()),
        (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is missing", set()),
        (lambda run: (run / "config.toml").unlink(), "config.toml is missing", CURVES),
        (lambda run: (run / "config.toml").write_text("a ="), "config.toml cannot be", CURVES),
        (lambda run: (run / "run.json").write_text("[]"), "run.json cannot be read", CURVES),
        (_only_the_log, "there is no checkpoint yet", CURVES),
    ],
)
def test_what_is_missing_or_broken_is_said(
    showtell: Shell,
    run: Path,
    request: pytest.FixtureRequest,
    harm: Callable[[Path], None],
    said: str,
    charts: set[str],
) -> None:
    if harm is not _diverge:  # such numbers have to be drawn
        request.getfixturevalue("undrawn")
    harm(run)
    page, files = make(showtell, run, "--max-pictures", "0")
    assert page.sections == SECTIONS
    assert said in page.words
    assert set(files) == charts


def test_names_are_text_wherever_they_come_from(showtell: Shell, run: Path) -> None:
    odd = run.with_name("<b>$run$ & 'co'")
    run.rename(odd)
    page, _ = make(showtell, odd, "--max-pictures", "0")
    assert page.headings[0] == ("h1", "Run <b>$run$ & 'co'")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("nowhere",), "no run 'nowhere'"),
        ((".",), "holds no run"),
        (("run", "run"), "the same run is given twice"),
        (("run/best",), "is one checkpoint of a run; give the run"),
        (("run/config.toml",), "is a file, not a run"),
        (("distilled",), "distilled is a distillation; give its run: distilled/student"),
    ],
)
def test_what_is_no_run_is_one_line(
    showtell: Shell,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(run.parent)
    Path("distilled").mkdir()
    Path("distilled/student").symlink_to(run)
    result = showtell("report", *given)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line


def test_without_matplotlib_the_extra_is_named(run: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"sys.argv = ['showtell', 'report', {str(run)!r}]\n"
        "from showtell.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    expected = f"error: showtell report needs an extra: {install_line('train')}\n"
    assert done.stderr == expected


@pytest.mark.usefixtures("undrawn")
def test_axes_have_labels_and_plain_words(showtell: Shell, run: Path) -> None:
    log = run / "metrics.jsonl"
    log.write_text(log.read_text().replace('"lr":', '"text_loss": 4.5, "odd_new": 1, "lr":'))
    page, files = make(showtell, run, "--max-pictures", "0")
    assert "Loss on captions without pictures" in page.words
    assert "Odd new" in page.words
    assert "ext_loss" not in page.words and "dd_new" not in page.words
    assert "text_loss" in files


@pytest.mark.parametrize(("top", "scale"), [(74.0, "linear"), (900.0, "log")])
def test_a_narrow_range_is_drawn_on_a_linear_axis(
    top: float, scale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a logarithmic one, 68 to 74 had no label at all."""
    drawn = []

    def label(axes: Any, *_: Any, **__: Any) -> None:
        drawn.append(
            (axes.get_yscale(), [t.get_text() for t in axes.get_yticklabels(which="both")])
        )

    monkeypatch.setattr(figures, "_label", label)
    line = figures.Line("a", np.array([1.0, 2.0]), np.array([68.0, top]))
    figures.line_figure("p", "P", "", [line], x_label="x", y_label="y", log=True)
    assert [of for of, _ in drawn] == [scale] * 2
    assert all(sum(map(bool, labels)) >= 2 for _, labels in drawn)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((1, 1), "1 caption"), ((99, 100), "99 to 100 captions"), ((2, 2), "2 captions")],
)
def test_a_point_of_the_reliability_says_how_many_captions_it_is_of(
    sizes: tuple[int, int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = []
    monkeypatch.setattr(figures, "_label", lambda *given, **_: labels.append(given[2]))
    bins = tuple(Bin(0.1 * n, 0.1 * n, num, 0.1 * n, 0.5, 0.5) for n, num in enumerate(sizes))
    reliability_figure(Reliability(0.0, 0.0, 0.25, sum(sizes), 0.5, bins))
    assert labels == [f"confidence (each point: {words})"] * 2
