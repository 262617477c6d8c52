"""Styles: from data to the first token, and back from the first token to captions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import Notes, run
from tiny_world import tiny_config, tiny_records, tiny_store

from showtell.core.device import choose_runtime
from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset, Record, dataset_fingerprint
from showtell.data.sources import load_dataset
from showtell.encoders.features import load_features
from showtell.encoders.store import FeatureStore
from showtell.errors import ConfigError, VocabularyError
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import load_checkpoint
from showtell.text.vocabulary import START, WordVocabulary, load_vocabulary
from showtell.training.prepare import prepare


def styled_records() -> tuple[Record, ...]:
    """Each picture is described in few words as ``short``, and in many as ``detailed``."""
    found = []
    for record in tiny_records():
        short, long, plain = record.captions
        found.append(
            replace(record, captions=(short, long, plain), styles=("short", "detailed", ""))
        )
    return tuple(found)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FeatureStore]:
    folder = tmp_path_factory.mktemp("styles")
    records = styled_records()
    store = tiny_store(folder / "store", records)
    run(
        folder / "run",
        Dataset("tiny", "folder", records),
        store,
        tiny_config("training.num_epochs=12", "decoding.max_length=12"),
    )
    return folder / "run", store


def caption(trained: tuple[Path, FeatureStore], **changes: object) -> list[str]:
    folder, store = trained
    captioner = NativeCaptioner(load_checkpoint(folder), choose_runtime("cpu", "fp32"))
    test = [record.image_id for record in tiny_records() if record.split == "test"]
    features = load_features(store, store.rows(test))
    decoding = captioner.resolve(changes)
    captioner._encoder = object()  # type: ignore[assignment]  # its features are there already
    return [found.text for found in captioner.caption_features(features, decoding=decoding)]


def test_a_style_that_is_asked_for_comes(trained: tuple[Path, FeatureStore]) -> None:
    short, detailed = caption(trained, style="short"), caption(trained, style="detailed")
    assert len(short) == 10
    assert all(len(text.split()) == 3 and text.startswith("a ") for text in short)
    assert all(text.startswith("there is a") for text in detailed)
    greedy = caption(trained, style="short", beam_size=1)
    assert caption(trained, style="short", method="sample", top_k=1) == greedy
    plain = caption(trained)
    assert plain not in (short, detailed)
    assert not any("style" in text for text in (*short, *detailed, *plain))


def test_a_model_says_which_styles_it_has_learnt(
    tmp_path: Path, trained: tuple[Path, FeatureStore]
) -> None:
    with pytest.raises(ConfigError, match="has learnt only detailed, short"):
        caption(trained, style="poetic")
    assert caption(trained, style="neutral") == caption(trained)  # by words, of which none fit
    records = tiny_records()
    store = tiny_store(tmp_path / "store", records)
    plain = tmp_path / "plain"
    run(plain, Dataset("tiny", "folder", records), store, tiny_config("training.num_epochs=1"))
    with pytest.raises(ConfigError, match="style = short: this model has learnt no styles"):
        caption((plain, store), style="short")


def test_a_vocabulary_keeps_its_styles(tmp_path: Path) -> None:
    plain = WordVocabulary.build({"a": 3, "dog": 2}, 1)
    styled = plain.with_styles(["short", "detailed", "short"])
    assert styled.words[: len(plain)] == plain.words
    assert styled.styles == {"detailed": 6, "short": 7}
    assert styled.with_styles(["short"]) is styled
    styled.save(tmp_path / "vocabulary.json")
    read = load_vocabulary(tmp_path / "vocabulary.json")
    assert read == styled and read.styles == styled.styles
    assert plain.styles == {}
    # No caption can have the word: the tokeniser writes lower case.
    assert 7 not in read.encode("a <Style:short> dog")
    longer = styled.extended({"cat": 5}, 1).with_styles(["neutral"])
    assert longer.styles == {"detailed": 6, "short": 7, "neutral": 9}


def test_captions_begin_with_their_style(tmp_path: Path) -> None:
    records = styled_records()
    store = tiny_store(tmp_path / "store", records)
    dataset = Dataset("tiny", "folder", records)
    data = prepare(dataset, tiny_config().data, store, SilentReporter())
    styles = data.vocabulary.styles
    inputs, targets = data.train.batch(np.arange(3))
    assert inputs[:, 0].tolist() == [styles["short"], styles["detailed"], START]
    assert not np.isin(targets, list(styles.values())).any()
    plain = Dataset("tiny", "folder", tiny_records())
    assert dataset_fingerprint(plain) != dataset_fingerprint(dataset)
    assert prepare(plain, tiny_config().data, store, SilentReporter()).train.starts is None


def test_data_in_which_every_caption_has_a_style_is_told(tmp_path: Path) -> None:
    records = styled_records()
    store = tiny_store(tmp_path / "store", records)

    def notes(records: tuple[Record, ...]) -> list[str]:
        report = Notes()
        prepare(Dataset("tiny", "folder", records), tiny_config().data, store, report)
        return [note for note in report.notes if "has a style" in note]

    assert notes(records) == notes(tiny_records()) == []
    [note] = notes(tuple(replace(r, styles=("short", "detailed", "short")) for r in records))
    assert note.startswith("every training caption has a style (detailed, short), so the model")


def test_pieces_of_words_have_no_styles(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    records = styled_records()
    store = tiny_store(tmp_path / "store", records)
    config = tiny_config("data.subwords=20")
    with pytest.raises(VocabularyError, match="have the styles detailed, short"):
        prepare(Dataset("tiny", "folder", records), config.data, store, SilentReporter())


def test_a_model_learns_styles_later(tmp_path: Path, trained: tuple[Path, FeatureStore]) -> None:
    """From a model without any: each begins as <start>, so it says at first what that says."""
    records = tiny_records()
    store = tiny_store(tmp_path / "store", records)
    dataset = Dataset("tiny", "folder", records)
    run(tmp_path / "plain", dataset, store, tiny_config())
    start = f"training.init_from={tmp_path / 'plain'}"
    config = tiny_config(start, "training.num_epochs=1", "optimizer.lr=1e-9")
    run(tmp_path / "styled", Dataset("tiny", "folder", styled_records()), store, config)
    said = caption((tmp_path / "styled", store), style="short")
    assert said == caption((tmp_path / "plain", store))


def rows(folder: Path, lines: list[dict[str, object]]) -> Dataset:
    folder.mkdir()
    for number in range(len(lines)):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    path = folder / "captions.jsonl"
    path.write_text(
        "".join(json.dumps({"path": f"{n}.png", **r}) + "\n" for n, r in enumerate(lines))
    )
    return load_dataset(str(path))


def test_data_has_a_style_for_each_caption(tmp_path: Path) -> None:
    found = rows(
        tmp_path / "data",
        [
            {"captions": ["a dog", "a dog on grass"], "caption_styles": ["short", "detailed"]},
            {"captions": ["a cat", "a cat in"], "caption_style": "short"},
            {"captions": ["a cow"], "style": "Baroque"},
            {"captions": ["a hen", "hens"], "caption_styles": ["short"] * 3},
            {"captions": ["a pig", "", "pigs"], "caption_styles": ["", "short", "short"]},
            {"captions": ["a fox"], "caption_style": "Very Short"},
            {"captions": ["a bull"], "styles": ["cubism"]},
        ],
    )
    by_id = {record.image_id: record for record in found.records}
    assert by_id["0.png"].styles == ("short", "detailed")
    assert by_id["1.png"].styles == ("short", "short")
    assert by_id["2.png"].styles == by_id["6.png"].styles == ()
    assert by_id["5.png"].captions == ("a fox",) and by_id["5.png"].styles == ()
    assert by_id["4.png"].captions == ("a pig", "pigs")
    assert by_id["4.png"].styles == ("", "short")
    problems = {problem.kind: problem.detail for problem in found.problems}
    assert "3 styles for 2 captions" in problems["bad row"]
    assert "'Very Short'" in problems["unknown style"]
