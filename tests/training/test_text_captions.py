"""Captions without pictures: what is read and shown of them, and a run that learns from them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_run import Notes, make_run
from tiny_world import WIDTH, attending_config, tiny_records, tiny_store

from showtell.config import Config
from showtell.data.reading import reading_as
from showtell.data.records import Dataset
from showtell.decoders.transformer import NUM_CLASSES
from showtell.encoders.concepts import Classes
from showtell.encoders.encoder import build_encoder
from showtell.encoders.features import Concepts, Features
from showtell.errors import ConfigError, DataError
from showtell.inference.checkpoint import load_checkpoint
from showtell.text.vocabulary import PAD, START, WordVocabulary
from showtell.training.corpus import TokenizedCaptions
from showtell.training.openings import check_classifier
from showtell.training.prepare import Given, prepare
from showtell.training.text_captions import TextCaptions, merged_counts, read_captions

VOCABULARY = WordVocabulary(dict.fromkeys(("a", "dog", "dogs", "and", "bus", "red", "buses"), 2), 1)
DOG, BUS = VOCABULARY.encode_each(["dog", "bus"])


def spoken(*captions: str, concepts: tuple[int, ...] = (DOG[0], BUS[0])) -> TextCaptions:
    return TextCaptions.of(
        TokenizedCaptions.tokenize(captions), VOCABULARY, concepts, feature_size=4, max_length=9
    )


def test_captions_are_read_from_coco_and_from_lines(tmp_path: Path) -> None:
    coco, lines = tmp_path / "captions.json", tmp_path / "captions.txt"
    coco.write_text(json.dumps({"annotations": [{"caption": "A dog."}, {"caption": "A bus."}]}))
    lines.write_text("A dog.\n\nA bus.\n")
    assert read_captions(coco) == read_captions(lines) == ["A dog.", "A bus."]
    coco.write_text(coco.read_text(), encoding="utf-8-sig")
    lines.write_text("A dog.\n<start>A bus.<end>\n", encoding="utf-16")
    assert read_captions(coco) == read_captions(lines) == ["A dog.", "A bus."]


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "{"), ("a.json", '{"images": []}'), ("a.txt", "\n")]
)
def test_what_is_no_captions_is_said(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=r"data\.text.*" + re.escape(name)):
        read_captions(tmp_path / name)
    with pytest.raises(DataError, match=r"data\.text: no file .*none\.txt"):
        read_captions(tmp_path / "none.txt")


def test_another_encoding_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("ein Mädchen läuft\n".encode("latin-1") * 9)
    with pytest.raises(DataError, match=r"data\.text: .*a\.txt:1: byte 0xe4 is not UTF-8"):
        read_captions(path)
    with reading_as("latin-1"):
        assert read_captions(path)[0] == "ein Mädchen läuft"


def test_words_that_are_frequent_without_pictures_join_the_vocabulary() -> None:
    counts = merged_counts(
        {"dog": 7, "cat": 1},
        {"pizza": 100, "dog": 300, "kazoo": 9},
        threshold=4,
        text_threshold=100,
    )
    assert counts == {"dog": 7, "pizza": 4, "cat": 1}
    assert WordVocabulary.build(counts, 4).words[4:] == ("dog", "pizza")


def test_what_a_detector_might_have_said() -> None:
    """Its words with independent scores, of the caption for the most part, the rarest first."""
    ids = [i for (i,) in VOCABULARY.encode_each(["a", "dog", "bus", "red", "dogs", "buses"])]
    prior = np.array([0.98, 0.2, 0.1, 0.3, 0.05, 0.02])
    text = TextCaptions.of(
        TokenizedCaptions.tokenize(["a red dog", "a red bus"] * 200),
        VOCABULARY, ids, feature_size=4, max_length=9, prior=prior.tolist(), num_words=4,
    )  # fmt: skip
    features, inputs, _ = text.batch(300, seed=0, step=1, device="cpu")
    assert features.concepts is not None
    words, scores = features.concepts
    assert words.shape == scores.shape == (300, 4)
    assert ((words == PAD) == (scores == 0)).all()
    said = (words[:, :, None] == inputs[:, None]).any(dim=2) & (words != PAD)
    wrong = ~said & (words != PAD)
    assert 0.4 < (said & (words == ids[3])).any(dim=1).float().mean() < 0.8  # "red": some is missed
    assert scores[said].mean() > 1.5 * scores[wrong].mean()
    assert ids[0] not in words.tolist()[0] and (words == ids[0]).float().mean() < 0.02
    by_id = dict(zip(ids, prior, strict=True))
    for row, chances in zip(words.tolist(), scores.tolist(), strict=True):
        worth = [p * np.log(p / by_id[i]) for i, p in zip(row, chances, strict=True) if i != PAD]
        assert worth == sorted(worth, reverse=True)
    again = text.batch(300, seed=0, step=1, device="cpu")[0].concepts
    assert again is not None and torch.equal(again.words, words)


def test_captions_with_unknown_words_are_left_out() -> None:
    text = spoken("a red dog", "a purple dog", "a bus")
    assert text.corpus.lengths.tolist() == [3, 2]
    assert VOCABULARY.words[text.corpus.ids[-1]] == "bus"
    with pytest.raises(DataError, match="consists only of words of the vocabulary"):
        spoken("a purple cat")
    with pytest.raises(ConfigError, match="classifier has no word"):
        spoken("a dog", concepts=())


def test_concepts_are_a_captions_own_with_some_missing_and_some_wrong() -> None:
    text = spoken("a dog and red buses", "dogs and a red dog")
    shown = []
    for step in range(60):
        features, inputs, targets = text.batch(5, 0, step, "cpu")
        assert features.regions is None
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        for row, words, scores in zip(
            inputs.tolist(), features.concepts.words, features.concepts.scores, strict=True
        ):
            real = words[words != PAD].tolist()
            assert set(real) <= {DOG[0], BUS[0]}
            assert bool((scores[words == PAD] == 0).all())
            assert float(scores.sum()) <= 1 + 1e-6
            assert bool((scores.diff() <= 0).all())
            has_bus = VOCABULARY.encode_each(["buses"])[0][0] in row
            shown.append((has_bus, BUS[0] in real))
    with_bus = np.mean([seen for has, seen in shown if has])
    without = np.mean([seen for has, seen in shown if not has])
    assert with_bus > 0.75  # 0.7 of its own, and some of the wrong ones
    assert 0.2 < without < 0.7


def test_a_batch_follows_from_seed_and_step() -> None:
    text = spoken("a dog", "a bus", "a red dog", "dogs and buses")
    first, again, other = (text.batch(4, 1, step, "cpu") for step in (7, 7, 8))
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[0].concepts.scores, again[0].concepts.scores)
    assert not (first[1].shape == other[1].shape and torch.equal(first[1], other[1]))


CONCEPTS = ("decoder.concepts=2", "decoder.num_layers=1", "decoder.dropout=0.0")


def test_a_run_learns_to_speak_of_what_no_picture_shows(tmp_path: Path) -> None:
    """No picture has a kite; captions without pictures and the classifier's word do."""
    records = tiny_records()
    store = tiny_store(tmp_path / "store", records, grid_size=(4, WIDTH))
    text = tmp_path / "text.txt"
    text.write_text("a red kite\na blue kite\na green dog\na white ball\nthe kite is red\n" * 20)
    names = ("kite", "dog", "ball", *[""] * (NUM_CLASSES - 3))
    classes = Classes(torch.zeros(NUM_CLASSES, WIDTH), torch.zeros(NUM_CLASSES), names)
    spoken_of = (f"data.text={text}", "data.text_threshold=5", "training.text_batch_size=8")
    config = attending_config("transformer", *CONCEPTS, *spoken_of, "training.num_epochs=6")
    dataset = Dataset("tiny", "folder", records)
    make_run(tmp_path / "run", dataset, store, config, classes=classes).run()
    assert chance_of_kite(tmp_path / "run") > 0.5

    config = attending_config(
        "transformer",
        *CONCEPTS,
        *spoken_of,
        "objective.kind=scst",
        "objective.num_samples=2",
        f"training.init_from={tmp_path / 'run'}",
        "training.num_epochs=2",
    )
    make_run(tmp_path / "rewards", dataset, store, config, classes=classes).run()
    assert chance_of_kite(tmp_path / "rewards") > 0.5
    lines = (tmp_path / "rewards" / "metrics.jsonl").read_text().splitlines()
    losses = [entry["text_loss"] for entry in map(json.loads, lines) if "text_loss" in entry]
    assert losses
    assert max(losses) < 2.0


def test_word_counts_are_of_the_run_that_goes_on(tmp_path: Path) -> None:
    """Not of the run whose weights it starts with, which saw other captions."""
    records = tiny_records()
    store = tiny_store(tmp_path / "store", records, grid_size=(4, WIDTH))
    classes = Classes(
        torch.zeros(NUM_CLASSES, WIDTH),
        torch.zeros(NUM_CLASSES),
        ("dog", *[""] * (NUM_CLASSES - 1)),
    )
    config = attending_config("transformer", *CONCEPTS, "training.num_epochs=1")
    make_run(
        tmp_path / "run", Dataset("tiny", "folder", records), store, config, classes=classes
    ).run()
    fewer = tuple(
        replace(record, captions=record.captions[:1]) if record.split == "train" else record
        for record in records
    )
    config = attending_config(
        "transformer", *CONCEPTS, "training.num_epochs=1", f"training.init_from={tmp_path / 'run'}"
    )
    make_run(
        tmp_path / "run2", Dataset("tiny", "folder", fewer), store, config, classes=classes
    ).run()
    first, second = (load_checkpoint(tmp_path / name / "last") for name in ("run", "run2"))
    [[dog]] = first.vocabulary.encode_each(["dog"])
    assert int(first.decoder.concepts.counts[dog]) == 24  # 8 training pictures, 3 captions each
    assert int(second.decoder.concepts.counts[dog]) == 8


def test_a_start_with_new_words_counts_both_and_rehearses(tmp_path: Path) -> None:
    """The captions of both runs count; those that were made up are learnt without pictures."""
    records = tiny_records()
    store = tiny_store(tmp_path / "store", records, grid_size=(4, WIDTH))
    names = ("dog", "yurt", *[""] * (NUM_CLASSES - 2))
    classes = Classes(torch.zeros(NUM_CLASSES, WIDTH), torch.zeros(NUM_CLASSES), names)
    config = attending_config("transformer", *CONCEPTS, "training.num_epochs=1")
    dataset = Dataset("tiny", "folder", records)
    make_run(tmp_path / "run", dataset, store, config, classes=classes).run()
    first = load_checkpoint(tmp_path / "run")
    more = tuple(replace(r, captions=(*r.captions, "a yurt")) for r in records)
    config = attending_config(
        "transformer",
        *CONCEPTS,
        "training.num_epochs=1",
        "data.new_words=2",
        f"training.init_from={tmp_path / 'run'}",
    )
    dataset = Dataset("tiny", "folder", more)
    make_run(tmp_path / "run2", dataset, store, config, classes=classes).run()
    second = load_checkpoint(tmp_path / "run2")
    assert second.vocabulary.words == (*first.vocabulary.words, "yurt")
    [[dog], [yurt]] = second.vocabulary.encode_each(["dog", "yurt"])
    counts = second.decoder.concepts.counts
    assert (int(counts[dog]), int(counts[yurt])) == (24 + 24, 40)
    assert second.decoder.concepts.class_words[1, 0] == yurt
    data = prepare(
        dataset,
        config.data,
        store,
        Notes(),
        Given(
            vocabulary=first.vocabulary,
            classes=classes,
            feature_size=WIDTH,
            decoder=config.decoder,
            rehearsal=["a red dog", "the dog is red", "a word that nobody knows"],
        ),
    )
    assert data.text is not None
    assert len(data.text.corpus) == 2
    assert data.text.known.tolist() == [dog, yurt]


def chance_of_kite(run: Path) -> float:
    """Of "kite" after "a red", where the classifier sees one and there are no regions."""
    checkpoint = load_checkpoint(run / "last")
    red, kite, a = (ids[0] for ids in checkpoint.vocabulary.encode_each(["red", "kite", "a"]))
    counts = checkpoint.decoder.concepts.counts
    assert int(counts[kite]) == 0  # no picture's caption has it
    assert int(counts[a]) > 0
    sees_kite = Concepts(torch.tensor([[kite, PAD]]), torch.tensor([[0.9, 0.0]]))
    features = Features(torch.zeros(1, WIDTH), concepts=sees_kite)
    with torch.inference_mode():
        logits = checkpoint.decoder(features, torch.tensor([[START, a, red]]))
    return float(logits[0, -1].softmax(-1)[kite])


def test_an_encoder_without_words_is_refused(torchvision_operators: object, tmp_path: Path) -> None:
    """Before a picture is encoded; a decoder that learns words by itself needs none."""
    import timm

    file = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), file)
    encoder = build_encoder("timm:test_vit", weights=file)
    with pytest.raises(ConfigError, match=r"no classifier whose words .* decoder\.detected=1000"):
        check_classifier(attending_config("transformer", *CONCEPTS), encoder)
    check_classifier(attending_config("transformer", *CONCEPTS, "decoder.detected=9"), encoder)
    check_classifier(attending_config("transformer"), encoder)


@pytest.mark.parametrize(
    "changes",
    [("data.text=a.txt",), ("data.text=a.txt", "decoder.kind=transformer")],
)
def test_text_needs_a_decoder_with_concepts(changes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"decoder\.concepts"):
        Config.load(None, changes)
