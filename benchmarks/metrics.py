"""The whole table of COCO metrics, against pycocoevalcap, in one run; intervals and comparisons.

    python benchmarks/metrics.py [RESULTS.json REFERENCES.json] [--only-resampling]

Each side runs in a process of its own, from captions in memory to scores of every image, with
tokenising; loading programs and tables counts, reading the two JSON files and showtell's one-time
conversion of METEOR's tables do not. Prints seconds, peak memory (of Java too) and ratios, and
what METEOR's shortcuts gain: how much longer it takes without each.

Intervals and comparisons are timed in processor time, from the scores on: what resampling adds.
They are compared with scoring each resample again (a few are measured, and multiplied), and with
the bootstrap of sacrebleu (Post 2018) for BLEU, if it is installed. 500,000 captions are the 5,000,
100 times each.
"""

import argparse
import json
import os
import re
import resource
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from _harness import Figure, benchmark, part, test_data

FEW = 20  # captions, with --quick; then METEOR is left out of pycocoevalcap's table

ROUNDS, LEAST_GAIN = 3, 1.03

RESAMPLES, COPIES, NAIVE_RESAMPLES = 1000, 100, 3
# What each shortcut is replaced by: the plain form, which gives the same scores.
SHORTCUTS: dict[str, tuple[str, Any]] = {
    "with every reference aligned": ("showtell.metrics.meteor._bound", lambda *_: 1.0),
    "with every text normalised": ("showtell.metrics.meteor.text._PLAIN", re.compile("(?!)")),
    "with the garbage collector": ("gc.disable", lambda: None),
}

NO_METEOR = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Times as fast, with and without METEOR; differences; the tokeniser."""
    reference = "pycocoevalcap, which needs Java"
    if not options.results.is_file() or not options.references.is_file():
        yield Figure.missing("the table of metrics", reference, f"there is no {options.results}")
        return
    yield from resampling(options)
    if options.only_resampling:
        return
    if not shutil.which("java"):
        yield Figure.missing("the table of metrics", reference, "there is no java")
        return
    from showtell.metrics.meteor import tables as meteor_tables

    meteor_tables.load()
    theirs, ours = (best(side, options) for side in ("pycocoevalcap", "showtell"))
    num_images = ours["num_images"]
    for name, column in (("table", "with METEOR"), ("no METEOR", "without METEOR")):
        yield Figure(
            f"the table of metrics, {column}",
            reference,
            theirs["seconds"][name] / ours["seconds"][name],
            detail=f"{ours['seconds'][name]:.2f} s and {theirs['seconds'][name]:.2f} s for "
            f"{num_images:,} captions; {ours['megabytes']:.0f} and {theirs['megabytes']:.0f} MB; "
            f"CIDEr-D alone, references cached, {ours['seconds']['CIDEr-D']:.3f} s",
        )
    worst = max(abs(ours["metrics"][name] - value) for name, value in theirs["metrics"].items())
    yield Figure("the table of metrics, largest difference", "a score of 1", worst, 1e-6, True)
    corpus = best("tokenizer", options)
    rate = corpus["num_captions"] / corpus["seconds"]["table"]
    yield Figure(
        "the tokeniser", "100,000 captions/s", rate / 1e5,
        detail=f"{corpus['num_captions']:,} COCO captions in {corpus['seconds']['table']:.2f} s",
    )  # fmt: skip
    if not options.quick:
        slower = best("shortcuts", options)
        for name in SHORTCUTS:
            yield Figure(
                f"METEOR, {name}", "METEOR as it is", slower[name], LEAST_GAIN,
                detail="one thread, median of rounds in one process",
            )  # fmt: skip


def resampling(options: argparse.Namespace) -> Iterator[Figure]:
    """What intervals and comparisons take, and what they take in other ways."""
    files = {"results": str(options.results), "references": str(options.references)}
    few, many = (part(options, "resample", **files, copies=copies) for copies in (1, COPIES))
    num, more = f"{few['num_images']:,}", f"{many['num_images']:,}"
    ours, theirs = few["seconds"], few["other seconds"]
    title = f"{RESAMPLES:,} resamples of {num} captions"
    yield Figure(
        f"{title}, BLEU, ROUGE-L, CIDEr-D", "the 3 s that are allowed", ours["intervals"] / 3, 1,
        True, detail=f"{ours['intervals']:.3f} s",
    )  # fmt: skip
    for name, what in (("intervals", title), ("comparison", f"comparing two systems, {title}")):
        yield Figure(
            f"{what}, each scored again", "by sums of counts", theirs[name] / ours[name],
            detail=f"{ours[name]:.3f} s and {theirs[name]:,.0f} s, extrapolated from "
            f"{NAIVE_RESAMPLES} resamples",
        )  # fmt: skip
    for found, count in ((few, num), (many, more)):
        name, reference = f"{RESAMPLES:,} resamples of {count} captions, BLEU", "showtell"
        if "sacrebleu" not in found["other seconds"]:
            yield Figure.missing(f"{name}, by sacrebleu", reference, "sacrebleu is not installed")
            continue
        seconds, resamples = found["other seconds"]["sacrebleu"], found["sacrebleu resamples"]
        extrapolated = f", extrapolated from {resamples}" if resamples < RESAMPLES else ""
        yield Figure(
            f"{name}, by sacrebleu", reference, seconds / found["seconds"]["BLEU"],
            detail=f"{found['seconds']['BLEU']:.3f} s and {seconds:.2f} s{extrapolated}",
        )  # fmt: skip
    yield Figure(
        f"{RESAMPLES:,} resamples of {more} captions", f"{COPIES} times those of {num}",
        many["seconds"]["intervals"] / (COPIES * ours["intervals"]),
        detail=f"{many['seconds']['intervals']:.1f} s, {many['seconds']['comparison']:.1f} s to "
        f"compare two systems; {many['megabytes'] - many['megabytes before']:.0f} MB more memory",
    )  # fmt: skip


def resample(options: argparse.Namespace) -> dict[str, Any]:
    """Times of intervals and comparisons, with each caption ``options.copies`` times."""
    import numpy as np

    from showtell.metrics import References, evaluate
    from showtell.metrics.bootstrap import Resampling, differences, intervals

    captions, people = read(
        Path(options.results), Path(options.references), FEW if options.quick else None
    )
    names = list(captions)
    others = dict(zip(names, [captions[name] for name in names[1:] + names[:1]], strict=True))
    references = References(people)
    both = [evaluate(said, references, metrics=NO_METEOR) for said in (captions, others)]
    order = np.random.default_rng(0).permutation(len(names) * options.copies) % len(names)
    systems = [[statistics.at(order) for statistics in one.statistics] for one in both]
    work = partial(timed, clock=time.process_time)  # others may use the machine
    before = peak_megabytes()
    _, of_bleu = work(lambda: intervals(systems[0][:1], RESAMPLES))
    _, of_all = work(lambda: intervals(systems[0], RESAMPLES))
    _, compared = work(lambda: differences(systems, Resampling(RESAMPLES)))
    found = {
        "seconds": {"intervals": of_all, "comparison": compared, "BLEU": of_bleu},
        "other seconds": {},
        "num_images": len(order),
        "megabytes before": before,
        "megabytes": peak_megabytes(),
    }
    if options.copies == 1:
        rng = np.random.default_rng(0)

        def score_again() -> None:
            drawn = [names[place] for place in rng.integers(len(names), size=len(names))]
            evaluate(
                {str(n): captions[name] for n, name in enumerate(drawn)},
                {str(n): people[name] for n, name in enumerate(drawn)},
                metrics=NO_METEOR,
            )

        _, seconds = work(lambda: [score_again() for _ in range(NAIVE_RESAMPLES)])
        once = seconds / NAIVE_RESAMPLES * RESAMPLES
        # A comparison scores two systems, in resamples and with swapped captions.
        found["other seconds"] = {"intervals": once, "comparison": 4 * once}
    try:
        from sacrebleu.metrics import BLEU
        from sacrebleu.significance import _bootstrap_resample
    except ImportError:
        return found
    metric = BLEU()
    slots = range(max(map(len, people.values())))
    streams = [[(people[n][k : k + 1] or [None])[0] for n in names] for k in slots]
    counts = metric._extract_corpus_statistics([captions[n] for n in names], streams)
    # It holds all resamples in memory: 20 GB for 500,000 captions, so a few are measured.
    resamples = RESAMPLES // options.copies
    _, seconds = work(
        lambda: _bootstrap_resample([counts[place] for place in order], metric, resamples)
    )
    found["other seconds"]["sacrebleu"] = seconds * RESAMPLES / resamples
    found["sacrebleu resamples"] = resamples
    return found


def read(
    results: Path, references: Path, num_images: int | None
) -> tuple[dict[str, str], dict[str, list[str]]]:
    entries = json.loads(results.read_text())[:num_images]
    captions = {str(entry["image_id"]): entry["caption"] for entry in entries}
    people: dict[str, list[str]] = {image_id: [] for image_id in captions}
    for entry in json.loads(references.read_text())["annotations"]:
        if str(entry["image_id"]) in people:
            people[str(entry["image_id"])].append(entry["caption"])
    return captions, people


def best(name: str, options: argparse.Namespace) -> dict[str, Any]:
    files = {"results": str(options.results), "references": str(options.references)}
    runs = [part(options, name, **files) for _ in range(options.repeat)]
    return min(runs, key=lambda run: run["seconds"]["table"])


def side(
    score: Callable[[dict[str, str], dict[str, list[str]]], dict[str, Any]],
) -> Callable[[argparse.Namespace], dict[str, Any]]:
    """What ``part`` runs for one of the two sides."""

    def run(options: argparse.Namespace) -> dict[str, Any]:
        num_images = FEW if options.quick else None
        return score(*read(Path(options.results), Path(options.references), num_images))

    return run


def showtell(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, Any]:
    start = time.perf_counter()
    from showtell.metrics import CiderD, evaluate
    from showtell.text.tokenizer import tokenize

    loading = time.perf_counter() - start
    scores, no_meteor = timed(lambda: evaluate(captions, references, metrics=NO_METEOR))
    scores, table = timed(lambda: evaluate(captions, references))
    cider = CiderD(references)
    hypotheses = [tokenize(caption) for caption in captions.values()]
    _, cached = timed(lambda: cider.score(list(captions), hypotheses))
    return {
        "seconds": {"table": loading + table, "no METEOR": loading + no_meteor, "CIDEr-D": cached},
        "metrics": scores.metrics,
        "num_images": len(captions),
        "megabytes": peak_megabytes(),
    }


def pycocoevalcap(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, Any]:
    standard_output = os.dup(1)
    os.dup2(2, 1)  # the scorers print
    start = time.perf_counter()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize({i: [{"caption": c} for c in said] for i, said in references.items()})
    res = tokenizer.tokenize({i: [{"caption": c}] for i, c in captions.items()})
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    metrics = {f"BLEU-{order + 1}": value for order, value in enumerate(bleu)}
    metrics["ROUGE-L"], _ = Rouge().compute_score(gts, res)
    metrics["CIDEr-D"], _ = Cider().compute_score(gts, res)
    no_meteor = time.perf_counter() - start
    if len(res) > FEW:
        from pycocoevalcap.meteor.meteor import Meteor

        meteor = Meteor()
        metrics["METEOR"], _ = meteor.compute_score(gts, res)
        del meteor  # ends its Java process, so that its memory is known
    table = time.perf_counter() - start
    os.dup2(standard_output, 1)
    return {
        "seconds": {"table": table, "no METEOR": no_meteor},
        "metrics": {name: float(value) for name, value in metrics.items()},
        "num_images": len(captions),
        "megabytes": peak_megabytes(),
    }


def tokenizer(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, Any]:
    """Tokenise and count the captions of COCO's train2014, which lie in pycocoevalcap."""
    from showtell.text.tokenizer import tokenize

    package = Path(next(iter(find_spec("pycocoevalcap").submodule_search_locations)))
    with zipfile.ZipFile(package / "spice" / "spice-1.0.jar") as archive:
        value = json.loads(archive.read("coco/annotations/captions_train2014.json"))
    texts = [entry["caption"] for entry in value["annotations"]]
    texts = texts[:100] if len(captions) <= FEW else texts
    counts, seconds = timed(lambda: Counter(chain.from_iterable(map(tokenize, texts))))
    return {"seconds": {"table": seconds}, "num_captions": len(texts), "num_words": len(counts)}


def shortcuts(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, Any]:
    """How much longer METEOR takes without each of its shortcuts."""
    from unittest import mock

    from showtell.metrics import References, evaluate

    people = References(references)

    def score() -> float:
        start = time.process_time()
        evaluate(captions, people, metrics=["METEOR"])
        return time.process_time() - start

    score()
    ratios: dict[str, list[float]] = {name: [] for name in SHORTCUTS}
    for _ in range(ROUNDS):
        as_it_is = score()
        for name, (target, replacement) in SHORTCUTS.items():
            with mock.patch(target, replacement):
                ratios[name].append(score() / as_it_is)
    seconds = {"table": 0.0}
    return {"seconds": seconds, **{name: median(found) for name, found in ratios.items()}}


def timed(
    run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> tuple[Any, float]:
    start = clock()
    value = run()
    return value, clock() - start


def peak_megabytes() -> float:
    """Of this process or of its largest child, whichever is more."""
    whom = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whom) / 1024


def _options(parser: argparse.ArgumentParser) -> None:
    coco = test_data() / "coco"
    parser.add_argument("results", type=Path, nargs="?", default=coco / "results" / "hdetach.json")
    parser.add_argument(
        "references", type=Path, nargs="?", default=coco / "captions_karpathy_test.json"
    )
    parser.add_argument(
        "--only-resampling", action="store_true", help="intervals and comparisons alone"
    )
    parser.add_argument("--repeat", type=int, default=1, help="runs of each side; the best counts")


if __name__ == "__main__":
    sides = {one.__name__: side(one) for one in (pycocoevalcap, showtell, tokenizer, shortcuts)}
    benchmark(measure, __doc__, options=_options, parts=sides | {"resample": resample})
