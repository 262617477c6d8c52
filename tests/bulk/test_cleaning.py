"""Cleaned captions of our own models: in records, in texts, and when a run resumes."""

import json
from pathlib import Path

import pytest
from bulk_worker import one_file, read_lines, run, tiny_captioner

from showtell.bulk.targets import Sidecars
from showtell.errors import DataError
from showtell.text.clean import Cleaning


def test_records_have_what_was_said_and_what_became_of_it(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos)
    said = {record["path"]: record["caption"] for record in read_lines(out)}
    captioner = tiny_captioner()
    captioner.cleaning = Cleaning(prefix="photo of ", replace=(r"(\w+)$=\1 by day",), max_words=3)
    other = tmp_path / "other.jsonl"
    assert run(one_file(other), photos, captioner=captioner).num_captioned == 5
    for record in read_lines(other):
        assert record["raw"] == said[record["path"]]
        assert record["caption"].startswith("photo of ") and record["caption"].endswith(" by day")
        assert " ".join(record["words"]) == record["raw"]
    models = {record["model"] for path in (out, other) for record in read_lines(path)}
    assert len(models) == 2


def test_a_run_does_not_mix_two_clean_ups(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos)
    lines = out.read_bytes().splitlines(keepends=True)
    model = json.loads(lines[0])["model"]
    head = {"model": model, "format": "jsonl", "overwrite": False, "dedupe": False}
    out.unlink()
    whole = json.dumps(head).encode() + b"\n" + b"".join(lines[:2])
    (tmp_path / "out.jsonl.partial").write_bytes(whole)
    captioner = tiny_captioner()
    captioner.cleaning = Cleaning(suffix=" x")
    with pytest.raises(DataError, match="begun with another model or other settings"):
        run(one_file(out), photos, captioner=captioner)
    captioner.cleaning = Cleaning()
    assert run(one_file(out), photos, captioner=captioner).num_kept == 2


def test_a_text_is_cleaned_once_however_often_a_run_starts(tmp_path: Path, photos: Path) -> None:
    """Near duplicates take over a caption of an earlier run, which was cleaned then."""
    captioner = tiny_captioner()
    captioner.cleaning = Cleaning(prefix="x ", suffix=" y")
    out = tmp_path / "out.jsonl"
    run(one_file(out), photos, captioner=captioner, dedupe=True)
    (photos / "again.jpg").write_bytes((photos / "a.jpg").read_bytes())
    run(one_file(out), photos, captioner=captioner, dedupe=True)
    captions = [record["caption"] for record in read_lines(out)]
    assert len(captions) == 6
    assert all(text.count("x ") == text.count(" y") == 1 for text in captions)
    assert any("same_as" in record for record in read_lines(out))


def test_texts_beside_pictures(tmp_path: Path, photos: Path) -> None:
    captioner = tiny_captioner()
    captioner.cleaning = Cleaning(prefix="ohwx, ")
    target = Sidecars(tmp_path / "failures.jsonl", overwrite=False)
    assert run(target, photos, captioner=captioner).num_captioned == 5
    texts = [path.read_text(encoding="utf-8") for path in photos.rglob("*.txt")]
    assert len(texts) == 5 and all(text.startswith("ohwx, ") for text in texts)
