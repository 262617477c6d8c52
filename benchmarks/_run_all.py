"""Run every benchmark, one after the other, and write docs/performance.md: `make bench`.

Each script of this folder (see ``_harness.py`` for what one offers) runs in a process of its own.
Its result is kept in build/benchmarks/ until the page is written, so that a stopped run goes on
where it was; a script that fails is told of and left out. On the page, the table between the two
marks is written anew; all else is left as it is. Ratios that are more than a tenth worse than in
the table before are shown, on the page and here.

    python benchmarks/_run_all.py [--quick] [--only step features] [--page FILE.md] [--fresh]
"""

import argparse
import hashlib
import json
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _harness import Figure, scripts

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- figures: made by make bench -->", "<!-- end of figures -->"
HEAD = "| figure | ratio to | ratio | before | target | verdict | measured | command |"
MUCH = 0.1
MAX_HOURS = 24  # a kept result is as good as a new one for so long


def main() -> int:
    """Run, write the page, and say what got worse; 1 where a script failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, and no page is written")
    parser.add_argument("--only", nargs="+", help="scripts by name; the page keeps the others")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--fresh", action="store_true", help="use no result of a stopped run")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    chosen = [s for s in scripts() if not options.only or s.stem in options.only]
    results: dict[str, Any] = {}
    for script in chosen:
        found = run(script, options)
        if found is not None:
            results[script.stem] = found
    failed = [script.stem for script in chosen if script.stem not in results]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    if not options.quick:
        write_page(options.page, results)
        if not failed:
            for script in chosen:
                (options.results / f"{script.stem}.json").unlink(missing_ok=True)
    return 1 if failed else 0


def run(script: Path, options: argparse.Namespace) -> dict[str, Any] | None:
    """What a script found, now or in a run that was stopped; None where it failed."""
    kept = options.results / f"{script.stem}.json"
    key = sources_hash()
    if kept.exists() and not options.fresh and not options.quick:
        found = json.loads(kept.read_text())
        if found["key"] == key and time.time() - found["time"] < 3600 * MAX_HOURS:
            print(f"{script.stem}: as found by the run before, which was stopped", flush=True)
            return found
    print(f"== {script.stem}", flush=True)
    command = [sys.executable, str(script), "--json", "--device", options.device]
    begin = time.time()
    done = subprocess.run(
        [*command, *(["--quick"] if options.quick else [])], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        return None
    found = json.loads(done.stdout) | {
        "key": key,
        "time": time.time(),
        "seconds": time.time() - begin,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    if not options.quick:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    return found


def sources_hash() -> str:
    """Of everything whose change makes a kept result one of something else."""
    digest = hashlib.sha256()
    for folder in ("src", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def write_page(page: Path, results: dict[str, Any]) -> None:
    """Put the table into the page, and print what is worse than in the table before."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Speed\n\n{START}\n{END}\n"
    head, _, rest = text.partition(START)
    old, _, tail = rest.partition(END)
    before = read_table(old)
    rows = {
        name: cells for name, cells in before.items() if script_of(cells) not in results
    }  # those of scripts that were not run
    worse = []
    for script, found in sorted(results.items()):
        for values in found["figures"]:
            figure = Figure(**values)
            name = cell(figure.name)
            rows[name] = cells = row(figure, script, found, before.get(name))
            if "worse" in cells[3]:
                worse.append(f"{figure.name}: {cells[2]}, before {cells[3]}")
    lines = [machine(), "", HEAD, "|" + "---|" * HEAD.count(" |")]
    lines += [f"| {' | '.join(cells)} |" for cells in rows.values()]
    page.write_text(f"{head}{START}\n{chr(10).join(lines)}\n{END}{tail}", encoding="utf-8")
    print(f"{page} is written")
    for line in worse:
        print(f"WORSE: {line}")


def row(figure: Figure, script: str, found: dict[str, Any], old: list[str] | None) -> list[str]:
    """The cells of a figure."""
    ratio = "-" if figure.ratio is None else f"{figure.ratio:.3g}"
    cells = [figure.name, figure.reference, ratio, change(figure, old), figure.aim]
    cells += [figure.verdict, f"{figure.detail or '-'} ({found['date']})"]
    return [cell(text) for text in (*cells, f"`python benchmarks/{script}.py`")]


def cell(text: str) -> str:
    """A text without what would part cells."""
    return text.replace("|", "/").replace("\n", " ")


def change(figure: Figure, old: list[str] | None) -> str:
    """The ratio before, and whether it was better by more than ``MUCH``."""
    if old is None or old[2] == "-":
        return "-"
    before = float(old[2])
    if figure.ratio is None or not before:
        return old[2]
    kept = 1 - MUCH
    is_worse = (
        before < figure.ratio * kept if figure.lower_is_better else figure.ratio < before * kept
    )
    return f"{old[2]} **(worse)**" if is_worse else old[2]


def read_table(text: str) -> dict[str, list[str]]:
    """The rows of a table that ``write_page`` wrote, by the figures' names."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0]: cells for cells in rows[1:]}


def script_of(cells: list[str]) -> str:
    """The name of the script in a row's command."""
    found = re.search(r"benchmarks/(\w+)\.py", cells[-1])
    return found[1] if found else ""


def machine() -> str:
    """Machine, versions and date."""
    import torch

    from showtell import __version__
    from showtell.core.device import choose_runtime

    try:
        info = Path("/proc/cpuinfo").read_text()
        name = re.search(r"model name\s*: (.*)", info)[1]
    except (OSError, TypeError):
        name = platform.processor() or platform.machine()
    memory = ""
    if Path("/proc/meminfo").exists():
        kilobytes = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
        memory = f", {kilobytes / 2**20:.0f} GiB of memory"
    threads = torch.get_num_threads()
    return (
        f"Written on {datetime.now(UTC):%Y-%m-%d}. Machine: {name}, {threads} threads{memory}; "
        f"{platform.system()}. Python {platform.python_version()}, torch {torch.__version__}, "
        f"showtell {__version__}. {choose_runtime().describe()}."
    )


if __name__ == "__main__":
    sys.exit(main())
