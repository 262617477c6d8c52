"""METEOR without Java: golden statistics, the normaliser, and the conversion of its tables."""

import gzip
import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from showtell.metrics import meteor
from showtell.metrics.meteor import tables as meteor_tables
from showtell.metrics.meteor.text import normalize
from showtell.metrics.meteor.words import stem

# By METEOR 1.5 (-l en -norm), `SCORE ||| reference ||| hypothesis`: words, matched, chunks; score.
GOLDEN = [
    ("a b c", "a b c", (3, 3, 1, 1), {0: (2, 2, 1, 1)}, 1, 1.0),
    (
        "the dog runs",
        "the dog run quickly",
        (3, 4, 1, 1),
        {0: (1, 1, 1, 1), 1: (1, 1, 0, 0)},
        1,
        0.31481249896066976,
    ),
    ("do n't", "don't", (3, 2, 1, 1), {0: (0, 0, 1, 1)}, 1, 0.0898876404494382),
    # A stem and a synonym at once: two ways of matching one pair, so neither is fixed, and the
    # search gains nothing by either.
    ("accent", "accents", (1, 1, 0, 0), {}, 0, 0.0),
    ("mr. q", "mr q", (2, 2, 0, 0), {0: (1, 1, 0, 0), 2: (1, 1, 0, 0)}, 1, None),
    ("", "a", (0, 1, 0, 1), {}, 0, 0.0),
    # It counts each letter of most scripts and each combining mark as a word.
    (
        "एक कुत्ता पार्क में",
        "एक कुत्ता पार्क में दौड़ रहा है",
        (16, 25, 0, 0),
        {0: (16, 16, 0, 0)},
        1,
        0.4433931457088471,
    ),
    (
        "ένας σκύλος",
        "ένας σκύλος τρέχει",
        (10, 16, 0, 0),
        {0: (10, 10, 0, 0)},
        1,
        0.41154012802111534,
    ),
    (
        "ძაღლი პარკში",
        "ძაღლი დარბის პარკში",
        (11, 17, 0, 0),
        {0: (11, 11, 0, 0)},
        3,
        0.367101224295241,
    ),
    (
        "một con chó chạy",
        "một con chó đang chạy",
        (8, 9, 0, 0),
        {0: (8, 8, 0, 0)},
        2,
        0.4929130215113044,
    ),
    (
        "собака",
        "собака бежит",
        (1, 2, 0, 0),
        {0: (1, 1, 0, 0)},
        1,
        0.2162162162162162,
    ),
]


@pytest.fixture(scope="module")
def tables() -> meteor_tables.Tables:
    pytest.importorskip("pycocoevalcap")
    return meteor_tables.load()


@pytest.mark.parametrize(("hypothesis", "reference", "words", "matched", "chunks", "score"), GOLDEN)
def test_golden_statistics(
    hypothesis: str,
    reference: str,
    words: tuple[int, ...],
    matched: dict[int, tuple[int, ...]],
    chunks: int,
    score: float | None,
    tables: meteor_tables.Tables,
) -> None:
    (found,) = meteor.best_counts([hypothesis.split()], [[reference.split()]], tables)
    expected = [count for module in range(4) for count in matched.get(module, (0, 0, 0, 0))]
    assert (found.words, list(found.matched), found.chunks) == (words, expected, chunks)
    if score is not None:
        assert found.score() == score


@pytest.mark.parametrize(
    ("shortcut", "plain"),
    [
        ("showtell.metrics.meteor._bound", lambda *_: 1.0),
        ("showtell.metrics.meteor.text._PLAIN", re.compile("(?!)")),
    ],
)
def test_shortcuts_change_no_statistics(
    shortcut: str, plain: object, tables: meteor_tables.Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    words = "a a the man men is of in dog dogs sitting sits boy child large big little bike . 's"

    def caption() -> list[str]:
        return rng.choices(words.split(), k=rng.randint(0, 12))

    captions = [caption() for _ in range(300)]
    references = [[caption() for _ in range(rng.randint(1, 5))] for _ in captions]
    fast = meteor.best_counts(captions, references, tables)
    monkeypatch.setattr(shortcut, plain)
    assert meteor.best_counts(captions, references, tables) == fast


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("close-up of bar-b-q", "close up of bar b-q"),
        ("the man 's t.v.", "the man ' s tv"),
        ("do n't asleep.", "do n 't asleep ."),
        ("an asleep. cat", "an asleep. cat"),
        ("4:15 $5.00 1,000 a,b", "4 : 15 $ 5.00 1,000 a , b"),
        ("-lrb- foo/bar -rrb-", "-lrb- foo / bar -rrb-"),
        ("v. vs. etc.", "v. vs. etc ."),
        ("CAFÉ 日本", "café 日 本"),
        ("5\xa01/2", "5 1 / 2"),
        ("\xa0", ""),  # nothing is left of it
        ("ένας một кот", "έ ν α ς m ộ t кот"),
    ],
)
def test_normaliser(line: str, words: str) -> None:
    assert normalize(line) == words.split()


@pytest.mark.parametrize(
    ("word", "stem_of_it"),
    [
        ("added", "ad"),  # later versions of Snowball: "add"
        ("evening", "even"),
        ("sitting", "sit"),
        ("bicycles", "bicycl"),
        ("sensationally", "sensat"),  # as METEOR's own; NLTK has "sensate"
        ("skis", "ski"),
        ("playing", "play"),
        ("'s", "'s"),
        ("", ""),
    ],
)
def test_stems(word: str, stem_of_it: str) -> None:
    assert stem(word) == stem_of_it


ENDINGS = "s ed ing ly er ness fulness ation ality ive ize ies eed edly ogi ll e y 's"
ROOTS = "run walk happ generat commun hop bas troubl relat us analog skill fluffi op own"


def test_stems_are_nltks() -> None:
    nltk = pytest.importorskip("nltk.stem.snowball").EnglishStemmer()
    endings, roots = ENDINGS.split(), ROOTS.split()
    words = [root + ending for root in roots for ending in endings]
    assert [word for word in words if stem(word) != nltk.stem(word)] == []


@pytest.fixture
def small_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with four paraphrases and two synonyms."""
    folder = tmp_path / "pycocoevalcap" / "meteor"
    (folder / "data").mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    lines = ["0.5", "a dog", "puppy", "0.1", "big", "large", "0.1", "big", "huge", "0.2", "x", "y"]
    with gzip.open(folder / "data" / "paraphrase-en.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    with zipfile.ZipFile(folder / "meteor-1.5.jar", "w") as archive:
        archive.writestr("synonym/english.synsets", "sofa\n1\ncouch\n1 2\n")
        archive.writestr("synonym/english.exceptions", "man\nmen\n")
        archive.writestr("function/english.words", "the\na\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(folder: Path, cache: Path) -> subprocess.Popen[str]:
    code = "from showtell.metrics.meteor import tables; print(len(tables.load().paraphrases.keys))"
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "SHOWTELL_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_processes_that_convert_at_once(small_package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [run(small_package, cache) for _ in range(4)]
    outputs = [process.communicate()[0].strip() for process in processes]
    assert outputs == ["7"] * 4
    (made,) = (cache / "meteor").iterdir()
    assert made.name.startswith("v")


def test_conversion_that_stops_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycocoevalcap")

    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(meteor_tables, "_read_paraphrases", stop)
    with pytest.raises(KeyboardInterrupt):
        meteor_tables.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_converting_the_tables_is_announced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycocoevalcap")
    told: list[str] = []
    monkeypatch.setattr(meteor, "prepare", lambda: (tmp_path / "done").touch())
    monkeypatch.setattr(meteor_tables, "is_converted", (tmp_path / "done").exists)
    meteor.prepare_aloud(told.append)
    meteor.prepare_aloud(told.append)
    assert len(told) == 1
    assert "once" in told[0]
