"""``training.init_parts = decoder``: what a run keeps of a decoder that had another encoder."""

from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import make_run
from tiny_world import WIDTH, attending_config, tiny_records, tiny_store

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.data.records import Dataset
from showtell.decoders.base import Decoder
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.checkpoint import Checkpoint
from showtell.training.first_decoder import build_first_decoder
from showtell.training.loop import Run
from showtell.training.prepare import commonest

OTHER = {"feature_size": WIDTH + 8, "region_size": WIDTH + 16}  # of the other encoder
DETECTS = ("decoder.concepts=3", "decoder.detected=8")


def one_run(folder: Path, *changes: str) -> Run:
    """A run of a transformer with a detector, which has made no step."""
    dataset = Dataset("tiny", "folder", tiny_records())
    store = tiny_store(
        folder.parent / f"{folder.name}-store", dataset.records, grid_size=(4, WIDTH)
    )
    return make_run(folder, dataset, store, attending_config("transformer", *changes))


def anew(start: Run, *changes: str, **sizes: int) -> Decoder:
    """The first decoder of a run that takes the one of ``start`` for an encoder of other sizes."""
    config = attending_config(
        "transformer", "training.init_from=start", "training.init_parts=decoder", *changes
    )
    data = start.data
    if num := config.decoder.detected:  # type: ignore[union-attr]
        words = torch.bincount(torch.from_numpy(data.train.ids), minlength=len(data.vocabulary))
        data = replace(data, detectable=commonest(words, len(data.train), num))
    torch.manual_seed(7)
    metrics = {"feature_size": WIDTH, "region_size": WIDTH}
    checkpoint = Checkpoint(start.state.decoder, data.vocabulary, start.config, metrics)
    runtime = choose_runtime("cpu", "fp32")
    return build_first_decoder(
        config, data, OTHER | sizes, runtime, language_model=None, start=checkpoint, reads_anew=True
    )


def changed(start: Run, decoder: Decoder) -> set[str]:
    """Parts of ``decoder`` whose weights are not those of ``start``."""
    old, new = start.state.decoder.state_dict(), decoder.state_dict()
    differs = {n for n in new if n not in old or not torch.equal(old[n], new[n])}
    return {name.split(".")[0] for name in differs}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return one_run(tmp_path_factory.mktemp("plain") / "run")


def test_all_is_kept_but_what_reads_features(plain: Run) -> None:
    for changes, parts in (
        ((), {"project"}),
        (DETECTS, {"project", "detector", "concept_embedding", "concept_score"}),
    ):
        decoder = anew(plain, *changes)
        assert changed(plain, decoder) == parts
        assert decoder.project.linear.in_features == OTHER["region_size"]
    same = anew(plain, feature_size=WIDTH, region_size=WIDTH)
    assert changed(plain, same) == {"project"}  # equal sizes are another encoder's all the same


def test_a_detector_begins_anew_and_may_be_smaller_or_go(plain: Run, tmp_path: Path) -> None:
    detecting = replace_detector(plain)
    smaller = anew(detecting, "decoder.concepts=3", "decoder.detected=5")
    assert changed(detecting, smaller) == {"project", "detector"}
    assert len(smaller.detector.known()[0]) == 5
    assert (smaller.detector.known()[1] > 0).all()
    assert changed(detecting, anew(detecting)) == {"project"}


def replace_detector(plain: Run) -> Run:
    """As if the run had learnt with a detector."""
    decoder = anew(plain, *DETECTS, feature_size=WIDTH, region_size=WIDTH)
    detecting = copy(plain)
    detecting.state = copy(plain.state)
    detecting.state.decoder = decoder
    detecting.config = attending_config("transformer", *DETECTS)
    return detecting


def test_another_shape_says_what_it_needs(plain: Run) -> None:
    with pytest.raises(CheckpointError, match=r"this run needs -s decoder\.hidden_size=32$"):
        anew(plain, "decoder.hidden_size=64")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.kind=scst", "init_parts = decoder takes no encoder"),
        ("training.average_start=true", "init_parts = decoder takes no encoder"),
        ("training.rehearsal_pictures=9", "it has another encoder: leave it out"),
        ("data.graded=a.csv", r"training\.init_parts = model"),
    ],
)
def test_what_does_not_go_with_it(setting: str, message: str) -> None:
    parts = ["training.init_from=default", "training.init_parts=decoder"]
    with pytest.raises(ConfigError, match=message):
        Config.load(None, [*parts, setting])
