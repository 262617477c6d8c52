"""SPICE (Anderson et al. 2016, arXiv 1607.08822), by its authors' program.

It runs only when asked for. It needs Java, the extra ``meteor`` (its package contains the program)
and Stanford's language models, which that package does not contain. Nothing here imitates it.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from showtell.errors import MissingExtraError, ScoringError
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Statistics

VERSION = "1.0-jar"

_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_MODELS_URL = "http://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"


def statistics(captions: Captions) -> Statistics:
    """SPICE of one caption an image: the mean of the images' F1.

    An image whose captions name nothing has the score nan, as in the original program. The mean is
    then nan too, as in the original wrapper.

    Raises:
        MissingExtraError: the package with the program is not installed.
        ScoringError: Java or the models are missing, or the program failed.
    """
    return Statistics.mean("SPICE", np.array(_scores(captions.words, captions.references.captions)))


def _scores(
    captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    folder = find_program()
    images = [
        {"image_id": number, "test": " ".join(caption), "refs": [" ".join(r) for r in each]}
        for number, (caption, each) in enumerate(zip(captions, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as work:
        source, target = Path(work) / "in.json", Path(work) / "out.json"
        source.write_text(json.dumps(images), encoding="utf-8")
        command = ["java", "-Xmx8G", "-jar", "spice-1.0.jar", str(source), "-out", str(target)]
        # The program's cache needs access to classes that newer versions of Java close.
        opened = {"JDK_JAVA_OPTIONS": "--add-opens=java.base/java.lang=ALL-UNNAMED"}
        done = subprocess.run(
            [*command, "-subset", "-silent"],
            cwd=folder,
            env={**os.environ, **opened},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not target.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ScoringError(f"the SPICE program failed ({done.returncode}): {last}")
        scores = json.loads(target.read_text(encoding="utf-8"))
    by_number = {entry["image_id"]: _number(entry["scores"]["All"]["f"]) for entry in scores}
    return [by_number[number] for number in range(len(images))]


def find_program() -> Path:
    """The folder of the program, if all that it needs is there.

    Raises:
        MissingExtraError: pycocoevalcap is not installed.
        ScoringError: says exactly what is missing and where it belongs.
    """
    spec = find_spec("pycocoevalcap")
    if spec is None:
        raise MissingExtraError("meteor", "SPICE")
    folder = Path((spec.submodule_search_locations or [""])[0]) / "spice"
    if not (folder / "spice-1.0.jar").is_file():
        raise ScoringError(f"pycocoevalcap is damaged, {folder}/spice-1.0.jar is missing")
    missing = []
    if shutil.which("java") is None:
        missing.append("a Java runtime (no program `java` on PATH)")
    if jars := [name for name in _MODELS if not (folder / "lib" / name).is_file()]:
        missing.append(f"{' and '.join(jars)} in {folder / 'lib'} (both are in {_MODELS_URL})")
    if missing:
        raise ScoringError(
            f"SPICE runs its authors' Java program, and this is missing: {'; '.join(missing)}"
        )
    return folder


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | str) else float("nan")
