"""The official programs, for comparison, and the two result files with their references."""

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Coco:
    """One result file against COCO's Karpathy test split."""

    candidates: dict[str, str]
    references: dict[str, list[str]]


@pytest.fixture(scope="session")
def coco_results(test_data: Path) -> dict[str, Coco]:
    folder = test_data / "coco"
    value = json.loads((folder / "captions_karpathy_test.json").read_text(encoding="utf-8"))
    references: dict[str, list[str]] = {str(image["id"]): [] for image in value["images"]}
    for entry in value["annotations"]:
        references[str(entry["image_id"])].append(entry["caption"])
    found = {}
    for name in ("hdetach", "sg2caps"):
        results = json.loads((folder / "results" / f"{name}.json").read_text(encoding="utf-8"))
        candidates = {str(entry["image_id"]): entry["caption"] for entry in results}
        found[name] = Coco(candidates, references)
    return found


Official = Callable[[Any, Mapping[str, str], Mapping[str, Sequence[str]]], tuple[Any, Any]]


@pytest.fixture(scope="session")
def official() -> Official:
    """Corpus and image scores of one of pycocoevalcap's scorers, of tokenised captions."""

    def score(
        scorer: Any, captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
    ) -> tuple[Any, Any]:
        with redirect_stdout(io.StringIO()):
            return scorer.compute_score(
                {image_id: list(said) for image_id, said in references.items()},
                {image_id: [caption] for image_id, caption in captions.items()},
            )

    return score


@pytest.fixture(scope="session")
def java() -> str:
    """The Java program; the test is skipped where there is none."""
    found = shutil.which("java")
    if found is None:
        pytest.skip("no Java: the original programs cannot run")
    return found


@pytest.fixture(scope="session")
def meteor_jar(java: str) -> Any:
    """pycocoevalcap's METEOR: one Java process for all tests."""
    meteor = pytest.importorskip("pycocoevalcap.meteor.meteor").Meteor()
    yield meteor
    process = meteor.meteor_p
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()
    process.kill()
    process.wait()
    type(meteor).__del__ = lambda self: None  # it would close the pipes again
