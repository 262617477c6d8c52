"""Every benchmark runs, at tiny sizes, and the page of figures is kept as it should be."""

import ast
import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(
    path.name for path in FOLDER.glob("[!_]*.py") if "from _harness import" in path.read_text()
)
SERVER = ("fastapi", "uvicorn", "prometheus_client")
NEEDS = {"bulk.py": (), "start.py": (), "serve.py": SERVER, "hostile.py": SERVER}
EVERYDAY = {"kv_cache.py", "scst.py"}  # the cheapest to run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture
def run_all(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import _run_all

    return _run_all


def test_there_are_scripts() -> None:
    expected = "bulk coco features gpu growth hostile serve start step training up_down"
    assert {f"{name}.py" for name in expected.split()} <= {*SCRIPTS}


def test_make_bench_runs_them(run_all: ModuleType) -> None:
    assert [path.name for path in run_all.scripts()] == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_imports_exists(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within its functions, too: renamed names are how a script usually breaks."""
    for name in NEEDS.get(script, ()):
        pytest.importorskip(name)
    monkeypatch.syspath_prepend(str(FOLDER))
    found = runpy.run_path(str(FOLDER / script))
    assert found["__doc__"] and callable(found["measure"])
    imports = [
        node
        for node in ast.walk(ast.parse((FOLDER / script).read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(("showtell", "_"))
    ]
    assert imports
    for node in imports:
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            if not hasattr(module, alias.name):
                importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.slow(20)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, marks=() if script in EVERYDAY else pytest.mark.costly)
        for script in SCRIPTS
    ],
)
def test_a_script_gives_well_formed_figures(script: str, cache: Path) -> None:
    for name in NEEDS.get(script, ("pycocoevalcap",)):
        pytest.importorskip(name)
    command = [sys.executable, str(FOLDER / script), "--quick", "--json", "--threads", "1"]
    environment = os.environ | {"SHOWTELL_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--device", "cpu"], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["title"]
    names = [figure["name"] for figure in result["figures"]]
    assert names and len(set(names)) == len(names)
    for figure in result["figures"]:
        assert figure["reference"]
        assert figure["detail"] if figure["ratio"] is None else figure["ratio"] == figure["ratio"]


def result(ratio: float | None, **more: object) -> dict:
    figure = {"name": "speed | of it", "reference": "a limit", "ratio": ratio, "target": 2.0}
    return {"figures": [figure | more], "date": "2026-01-01"}


def test_the_page_keeps_what_people_wrote_and_shows_what_is_worse(
    run_all: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\nbefore\n{run_all.START}\n{run_all.END}\n\nafter\n")
    run_all.write_page(page, {"one": result(3.0), "two": result(1.0, name="other")})
    text = page.read_text()
    assert text.startswith("# Title\n\nbefore\n") and text.endswith("\n\nafter\n")
    assert "| speed / of it | a limit | 3 | - | >= 2 | ok |" in text
    assert "| other | a limit | 1 | - | >= 2 | short |" in text
    assert "WORSE" not in capsys.readouterr().out
    # The other script's row stays when only one is run.
    run_all.write_page(page, {"one": result(2.8)})
    assert "| 2.8 | 3 | >= 2 | ok |" in page.read_text()
    assert "| other | a limit | 1 |" in page.read_text()
    assert "WORSE" not in capsys.readouterr().out
    run_all.write_page(page, {"one": result(2.4)})
    assert "| 2.4 | 2.8 **(worse)** | >= 2 | ok |" in page.read_text()
    assert "WORSE: speed" in capsys.readouterr().out
    run_all.write_page(page, {"one": result(None, detail="no GPU")})
    assert "| - | 2.4 | >= 2 | - | no GPU (2026-01-01) |" in page.read_text()


def test_less_can_be_better(run_all: ModuleType) -> None:
    old = ["name", "reference", "1", "-"]
    for ratio, shown in ((1.05, "1"), (1.2, "1 **(worse)**"), (0.5, "1"), (0.0, "1")):
        figure = run_all.Figure("name", "reference", ratio, 2.0, True)
        assert run_all.change(figure, old) == shown
        assert figure.verdict == "ok"
    assert run_all.Figure("name", "reference", 2.1, 2.0, True).verdict == "short"


def test_a_stopped_run_goes_on(
    run_all: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, pathlib\n"
        f"pathlib.Path({str(tmp_path)!r}, 'runs').open('a').write('x')\n"
        "figure = {'name': 'n', 'reference': 'r', 'ratio': 1.0}\n"
        "print(json.dumps({'title': 't', 'figures': [figure]}))\n"
    )
    options = run_all.argparse.Namespace(
        results=tmp_path / "results", fresh=False, quick=False, device="cpu"
    )
    first = run_all.run(script, options)
    assert run_all.run(script, options) == first
    assert (tmp_path / "runs").read_text() == "x"
    monkeypatch.setattr(run_all, "sources_hash", lambda: "other")
    run_all.run(script, options)
    assert (tmp_path / "runs").read_text() == "xx"
    script.write_text("raise SystemExit(3)")
    monkeypatch.setattr(run_all, "sources_hash", lambda: "third")
    assert run_all.run(script, options) is None
