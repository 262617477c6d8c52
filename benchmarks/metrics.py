"""The whole table of COCO metrics, against pycocoevalcap, in one run.

    python benchmarks/metrics.py RESULTS.json REFERENCES.json

Each side runs in a process of its own, from captions in memory to scores of every image, with
tokenising; loading programs and tables counts, reading the two JSON files and showtell's one-time
conversion of METEOR's tables do not. Prints seconds, peak memory (of Java too) and ratios.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

NO_METEOR = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("references", type=Path)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each side; the best counts")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        captions, references = read(options.results, options.references)
        print(json.dumps(SIDES[options.side](captions, references)))
        return
    from showtell.metrics import meteor_tables

    meteor_tables.load()
    found = {side: best(side, options) for side in ("pycocoevalcap", "showtell")}
    for side, values in found.items():
        seconds = "  ".join(f"{name} {value:.2f} s" for name, value in values["seconds"].items())
        print(f"{side:<15}{seconds}  peak {values['megabytes']:.0f} MB")
    theirs, ours = found["pycocoevalcap"]["seconds"], found["showtell"]["seconds"]
    print(f"with METEOR     {theirs['table'] / ours['table']:.1f} times faster")
    print(f"without METEOR  {theirs['no METEOR'] / ours['no METEOR']:.1f} times faster")
    print(
        f"CIDEr-D of {found['showtell']['num_images']} hypotheses, references cached: "
        f"{ours['CIDEr-D']:.3f} s"
    )
    worst = max(
        abs(found["showtell"]["metrics"][name] - value)
        for name, value in found["pycocoevalcap"]["metrics"].items()
    )
    print(f"largest difference of a corpus score: {worst:.1e}")
    corpus = best("tokenizer", options)
    print(
        f"{corpus['num_captions']} COCO captions tokenised and counted: "
        f"{corpus['seconds']['table']:.2f} s"
    )


def read(results: Path, references: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    captions = {
        str(entry["image_id"]): entry["caption"] for entry in json.loads(results.read_text())
    }
    people: dict[str, list[str]] = {image_id: [] for image_id in captions}
    for entry in json.loads(references.read_text())["annotations"]:
        people[str(entry["image_id"])].append(entry["caption"])
    return captions, people


def best(side: str, options: argparse.Namespace) -> dict[str, Any]:
    runs = []
    for _ in range(options.repeat):
        command = [sys.executable, __file__, str(options.results), str(options.references)]
        done = subprocess.run([*command, "--side", side], stdout=subprocess.PIPE, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run["seconds"]["table"])


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
    from pycocoevalcap.meteor.meteor import Meteor
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
    meteor = Meteor()
    metrics["METEOR"], _ = meteor.compute_score(gts, res)
    table = time.perf_counter() - start
    del meteor  # ends its Java process, so that its memory is known
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
    counts, seconds = timed(lambda: Counter(chain.from_iterable(map(tokenize, texts))))
    return {"seconds": {"table": seconds}, "num_captions": len(texts), "num_words": len(counts)}


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = run()
    return value, time.perf_counter() - start


def peak_megabytes() -> float:
    """Of this process or of its largest child, whichever is more."""
    whom = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whom) / 1024


SIDES = {"pycocoevalcap": pycocoevalcap, "showtell": showtell, "tokenizer": tokenizer}

if __name__ == "__main__":
    main()
