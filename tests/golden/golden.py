"""Has a refactoring changed a number? What an earlier commit computed, kept and compared.

    python tests/golden/golden.py write    # at the commit whose numbers are to be kept
    python tests/golden/golden.py check    # at a later one; exit code 1 where something differs

It uses the command line and the public API only, so it runs before and after any change of the
layout. It compares:

- what the default model (``photos13k-lite2`` since this file was last written) says of 64 photos
  of COCO val2017: words, confidences, log-probabilities;
- the loss of every step on ``scenes:40`` at seed 0 for every decoder, and with a CNN that trains;
- all metrics on the two published result files;
- a run that showtell 0.1.0 began and did not finish (``run-0.1.0/``): it goes on to the same
  losses, and its checkpoint captions.

Everything is computed in fp32 on one thread. Numbers are equal to the bit on the machine that
wrote ``golden.json`` (it names its processor and its torch); elsewhere the check allows 1e-4.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy
import PIL
import torch

from showtell import Captioner, open_image

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden.json"
OLD_RUN = HERE / "run-0.1.0"
DATA = Path(os.environ.get("SHOWTELL_TEST_DATA", HERE.parents[2] / "shared" / "data"))
TOLERANCE = 1e-4  # on another machine than that of golden.json

TRAIN = ("train", "scenes:40", "--preset", "none")
DATA_SETTINGS = ["training.precision=fp32", "training.batch_size=32", "training.num_epochs=2"]
SMALL = ["decoder.hidden_size=64"]
DECODERS = {
    "show_tell": [*SMALL, "decoder.embed_size=64"],
    "attention": [*SMALL, "decoder.embed_size=64", "decoder.attention_size=32"],
    "up_down": [*SMALL, "decoder.embed_size=64", "decoder.attention_size=32"],
    "transformer": [*SMALL, "decoder.num_heads=4", "decoder.feedforward_size=128"],
    "prefix_lm": [*SMALL, "decoder.num_heads=4", "decoder.num_layers=2"],
}


def machine() -> dict[str, str]:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "stepping"))
    ][:2]
    return {
        "processor": ", stepping ".join(names),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # one name may have several
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
    }


def showtell(*arguments: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SHOWTELL_CACHE": str(CACHE)}
    done = subprocess.run(
        [sys.executable, "-m", "showtell", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise SystemExit(f"showtell {' '.join(arguments)}:\n{done.stderr[-3000:]}")
    return done.stdout


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row and "step" in row]


def default_captions() -> dict[str, Any]:
    torch.set_num_threads(1)
    captioner = Captioner.load("default", device="cpu", precision="fp32", runtime="torch")
    paths = sorted((DATA / "coco" / "val2017").glob("*.jpg"))
    found = {}
    for path in paths:  # one at a time: batches are another matter
        [caption] = captioner.caption([open_image(path)])
        found[path.name] = [caption.text, caption.confidence, *caption.log_probs]
    return {"pictures": len(paths), "fingerprint": captioner.fingerprint, "captions": found}


def loss_curves(folder: Path) -> dict[str, list[float]]:
    curves = {}
    for kind, settings in DECODERS.items():
        run = folder / kind
        options = [*DATA_SETTINGS, f"decoder.kind={kind}", *settings]
        showtell(*TRAIN, "-o", str(run), *[x for s in options for x in ("-s", s)])
        curves[kind] = losses(run)
    options = [
        *DATA_SETTINGS,
        "decoder.kind=show_tell",
        *DECODERS["show_tell"],
        f"training.init_from={folder / 'show_tell'}",
        "encoder.train_from=head",
        "training.num_epochs=1",
    ]
    run = folder / "with-encoder"
    showtell(*TRAIN, "-o", str(run), *[x for s in options for x in ("-s", s)])
    curves["with-encoder"] = losses(run)
    return curves


def published_scores() -> dict[str, Any]:
    references = str(DATA / "coco" / "captions_karpathy_test.json")
    results = {}
    for path in sorted((DATA / "coco" / "results").glob("*.json")):
        results[path.stem] = json.loads(showtell("score", str(path), references, "--json"))[
            "metrics"
        ]
    return results


def old_run(folder: Path) -> dict[str, Any]:
    run = folder / "old-run"
    shutil.copytree(OLD_RUN, run)
    picture = str(min((DATA / "coco" / "val2017").glob("*.jpg")))
    said = showtell("caption", picture, "--model", str(run), "--json", "--device", "cpu")
    showtell("train", "scenes:40", "-o", str(run), "--resume")
    [record] = json.loads(said)["captions"]
    return {"caption": {**record, "path": Path(record["path"]).name}, "losses": losses(run)}


def compute(folder: Path) -> dict[str, Any]:
    return {
        "machine": machine(),
        "default": default_captions(),
        "scores": published_scores(),
        "losses": loss_curves(folder),
        "old_run": old_run(folder),
    }


def differences(old: Any, new: Any, tolerance: float, place: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = [f"{place}: {sorted(old.keys() ^ new.keys())}"] if old.keys() != new.keys() else []
        for key in old.keys() & new.keys():
            found += differences(old[key], new[key], tolerance, f"{place}/{key}")
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [d for n, (a, b) in pairs for d in differences(a, b, tolerance, f"{place}[{n}]")]
    if isinstance(old, float) and isinstance(new, float) and abs(old - new) <= tolerance:
        return []
    return [] if old == new else [f"{place}: {old!r} before, {new!r} now"]


def main() -> int:
    global CACHE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        CACHE = folder / "cache"
        found = json.loads(json.dumps(compute(folder)))
    if sys.argv[1:] == ["write"]:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    same = golden.pop("machine") == found.pop("machine")
    wrong = differences(golden, found, 0.0 if same else TOLERANCE)
    for line in wrong[:40]:
        print(line)
    how = "to the bit" if same else f"within {TOLERANCE} (another machine or library)"
    print(f"{len(wrong)} differences, compared {how}")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
