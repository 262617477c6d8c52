"""The tokeniser against the original jar: COCO 2014, Flickr8k, every script, and odd text."""

import json
import random
import shutil
import subprocess
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path

import pytest

from showtell.text.tokenizer import tokenize_all

# As in pycocoevalcap's ptbtokenizer.
_PUNCTUATION = "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"
PUNCTUATION = frozenset(_PUNCTUATION.split())


def package_folder() -> Path:
    """pycocoevalcap's folder; the test is skipped where it or Java is absent."""
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pycocoevalcap is not installed")
    if shutil.which("java") is None:
        pytest.skip("no Java: the original cannot run")
    return Path(spec.submodule_search_locations[0])


def tokenize_by_jar(captions: Sequence[str], folder: Path) -> list[list[str]]:
    """The words of captions that hold no line breaks."""
    file = folder / "captions.txt"
    file.write_text("\n".join(captions), encoding="utf-8")
    jar = package_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase", str(file)], capture_output=True, check=True
    )
    lines = done.stdout.decode("utf-8").split("\n")
    assert len(lines) >= len(captions)
    return [
        [word for word in line.rstrip().split(" ") if word and word not in PUNCTUATION]
        for line in lines[: len(captions)]
    ]


_PIECES = (
    "a the dog man's don't 5 10 1/2 st. no. Mr. u.s. e.g. x-ray t.v. 4:15 pm $5 #1 @me A&B and/or "
    "cannot 'n' 'em o'clock foo.bar K. The , . ... ! ? ( ) [ ] \" ' ` - -- ; : & % + = * / < > "
    "it's 12-25-2005 50's '80s :) a@b.c www.foo.com http://x.y/z It’s “red” ‘blue’ – … café ½ £5"
)
PIECES = _PIECES.split()
NUM_COCO_CAPTIONS = 616_767


Compared = tuple[str, list[str], list[str]]


def compare(captions: Sequence[str], folder: Path) -> Iterator[Compared]:
    """Each caption, our words and the original's."""
    return zip(captions, tokenize_all(captions), tokenize_by_jar(captions, folder), strict=True)


def differences(compared: Iterable[Compared]) -> list[Compared]:
    return [(caption, ours, theirs) for caption, ours, theirs in compared if ours != theirs]


def random_pieces() -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(PIECES, k=rng.randint(1, 8))) for _ in range(8_000)]


def random_characters() -> list[str]:
    rng = random.Random(0)
    letters = "abntdsAKThe 5 01 .,-'\"/&:;()!?$#@_+"
    return ["".join(rng.choices(letters, k=rng.randint(1, 14))) for _ in range(8_000)]


# Without white space, and without the soft hyphen, which may be a word of its own in the original.
EVERY_CHARACTER = [
    character
    for character in map(chr, range(0x80, 0x10000))
    if not (character.isspace() or character == "\xad" or 0xD800 <= ord(character) < 0xE000)
]


SURROUNDINGS = (
    "z {} z za{}bz",
    "z {}ab {}.{}. ab{}",
    "1{}2 1:{} {}1",
    "a-{}b {}-a b-{}",
    "{}'s #{} é{}{}",
)


def every_character() -> list[str]:
    """Each in two of the surroundings, which change from one character to the next."""
    assert len(EVERY_CHARACTER) == 63_340
    return [
        SURROUNDINGS[(number + shift) % len(SURROUNDINGS)].replace("{}", character)
        for number, character in enumerate(EVERY_CHARACTER)
        for shift in (0, 2)
    ]


_SCRIPTS = (
    "LATIN GREEK CYRILLIC ARMENIAN HEBREW ARABIC SYRIAC THAANA DEVANAGARI BENGALI GURMUKHI "
    "GUJARATI ORIYA TAMIL TELUGU KANNADA MALAYALAM SINHALA THAI LAO TIBETAN MYANMAR GEORGIAN "
    "ETHIOPIC KHMER MONGOLIAN HANGUL HIRAGANA KATAKANA COMBINING"
)
SCRIPTS = _SCRIPTS.split()


def characters_of(script: str) -> str:
    """The letters, marks and digits of a script, below U+10000."""
    return "".join(
        character
        for character in map(chr, range(0x80, 0x10000))
        if unicodedata.name(character, "").split(" ")[0] == script
        and unicodedata.category(character)[0] in "LMN"
    )


def random_text(script: str) -> list[str]:
    rng = random.Random(script)
    characters = characters_of(script)
    assert len(characters) > 40
    letters = characters + "aeiouABC" * (len(characters) // 32 + 1)
    captions = []
    for _ in range(1_500):
        words = ["".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(4)]
        words.insert(rng.randint(0, 4), rng.choice(PIECES))
        signs = rng.choices([" ", " ", " ", ", ", ". ", "! ", "-", "'", "/", "\u200d", " ("], k=5)
        captions.append("".join(map(str.__add__, words, signs)))
    return captions


@pytest.fixture(scope="module")
def differing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Compared]]:
    """The differences in each kind of text; of all kinds at once, as Java takes long to start."""
    texts = {
        "pieces": random_pieces(),
        "characters": random_characters(),
        "every character": every_character(),
        **{script: random_text(script) for script in SCRIPTS},
    }
    captions = list(chain.from_iterable(texts.values()))
    compared = compare(captions, tmp_path_factory.mktemp("texts"))
    return {kind: differences(islice(compared, len(each))) for kind, each in texts.items()}


@pytest.mark.slow(30)
def test_random_pieces(differing: dict[str, list[Compared]]) -> None:
    assert differing["pieces"] == []


def test_random_characters(differing: dict[str, list[Compared]]) -> None:
    """Text that no one writes; a few pieces in ten thousand differ, and docs/metrics.md says so."""
    assert len(differing["characters"]) <= 4


def test_every_character(differing: dict[str, list[Compared]]) -> None:
    assert differing["every character"] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_random_text_of_each_script(script: str, differing: dict[str, list[Compared]]) -> None:
    # "o'o" is one word in the original, and a capital sigma before certain signs is another one.
    assert len(differing[script]) <= 1


@pytest.mark.slow(5)
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.costly)])
def test_captions_of_coco_2014(every: int, tmp_path: Path) -> None:
    captions: list[str] = []
    with zipfile.ZipFile(package_folder() / "spice" / "spice-1.0.jar") as archive:
        for split in ("train", "val"):
            value = json.loads(archive.read(f"coco/annotations/captions_{split}2014.json"))
            captions += [entry["caption"].replace("\n", " ") for entry in value["annotations"]]
    assert len(captions) == NUM_COCO_CAPTIONS
    assert differences(compare(captions[::every], tmp_path)) == []


def test_every_caption_of_flickr8k(test_data: Path, tmp_path: Path) -> None:
    lines = (test_data / "flickr8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").split("\n")
    captions = [line.split("\t")[1] for line in lines if line]
    assert len(captions) == 35_000
    assert differences(compare(captions, tmp_path)) == []
