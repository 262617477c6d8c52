"""The figures of a model card that no metric gives.

- Words that people use for some pictures and no training caption has (``unknown_words``).
- Whom the model calls a man, a woman, a boy or a girl, beside what people said of the same pictures
  (``count_people``). Words are counted, not persons: a picture belongs to the group that at least
  two of its references name, if they name no other.
- How long the model takes: from the shell to a caption, and picture by picture (``measure_speed``).
- Example pictures that may be handed on, with the model's captions (``draw_examples``).
"""

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from showtell.data.records import Record
from showtell.data.scenes import render_scenes, scenes_folder
from showtell.errors import CheckpointError, ConfigError, MissingExtraError
from showtell.images.sheet import Cell, save_contact_sheet
from showtell.inference.captioner import Captioner
from showtell.text.genders import GROUPS
from showtell.text.tokenizer import tokenize_all

LEAST_REFERENCES = 2  # that name a word or a group, so that it counts
REPEATS = 3  # of each timing
NUM_SINGLE = 10  # pictures that are timed one by one
SKIMAGE, SCENES = "skimage/", "scenes/"  # before the names of pictures that are at hand everywhere
NUM_SCENES = 40


@dataclass(frozen=True)
class UnknownWords:
    """Words of some pictures' references that a model cannot say.

    Attributes:
        num_pictures: how many there are.
        num_affected: of how many two references or more have such a word.
        words: such words with the number of those pictures, the most frequent first.
    """

    num_pictures: int
    num_affected: int
    words: tuple[tuple[str, int], ...]


def unknown_words(records: Sequence[Record], known: Iterable[str]) -> UnknownWords:
    """Words that at least two references of a picture have and ``known`` has not."""
    vocabulary = frozenset(known)
    counts: Counter[str] = Counter()
    affected = 0
    for record in records:
        mentions = Counter(
            word for words in tokenize_all(list(record.captions)) for word in set(words)
        )
        missing = [
            word
            for word, count in mentions.items()
            if count >= LEAST_REFERENCES and word not in vocabulary
        ]
        affected += bool(missing)
        counts.update(missing)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return UnknownWords(len(records), affected, tuple(ordered))


def words_of(captions: Iterable[str]) -> set[str]:
    """Every word of ``captions``."""
    return {word for words in tokenize_all(list(captions)) for word in words}


SEVERAL, NONE = "several", "none"
SAID = (*GROUPS, SEVERAL, NONE)
MALE = ("man", "boy")


@dataclass(frozen=True)
class PeopleNamed:
    """Pictures by the group that people see in them and the one that the model names.

    Attributes:
        counts: ``counts[group][said]``; ``said`` is one of ``SAID``.
    """

    counts: dict[str, dict[str, int]]

    def wrong_sex(self, groups: Iterable[str]) -> tuple[int, int]:
        """Of pictures of these groups in which the model names one group: (the other sex, all)."""
        wrong = total = 0
        for group in groups:
            for said in GROUPS:
                total += self.counts[group][said]
                wrong += self.counts[group][said] * ((group in MALE) != (said in MALE))
        return wrong, total


def count_people(records: Sequence[Record], captions: Mapping[str, str]) -> PeopleNamed:
    """Count ``captions`` (by image id) by what people said of the same pictures."""
    counts = {group: dict.fromkeys(SAID, 0) for group in GROUPS}
    for record in records:
        seen = _seen(record.captions)
        if seen is not None:
            [words] = tokenize_all([captions[record.image_id]])
            named = _named(words)
            said = named[0] if len(named) == 1 else SEVERAL if named else NONE
            counts[seen][said] += 1
    return PeopleNamed(counts)


def _seen(references: Sequence[str]) -> str | None:
    named = [group for words in tokenize_all(list(references)) for group in _named(words)]
    groups = set(named)
    [group] = groups if len(groups) == 1 else [None]
    return group if named.count(group or "") >= LEAST_REFERENCES else None


def _named(words: Sequence[str]) -> list[str]:
    """The groups that a caption names, each once."""
    return [group for group, names in GROUPS.items() if names.intersection(words)]


@dataclass(frozen=True)
class Speed:
    """Times on the machine that made the card.

    Attributes:
        first: seconds from starting ``showtell caption`` on one picture to its end.
        single: seconds a picture, one at a time, from the file to the caption.
        many: pictures a second, 32 at a time.
        runtime: device, precision and threads.
    """

    first: float
    single: float
    many: float
    runtime: str


def measure_speed(model: Path, pictures: Sequence[Path]) -> Speed:
    """Time a model; the least of some repeats, as other work can only add to it.

    Raises:
        CheckpointError: the command fails.
    """
    command = [sys.executable, "-m", "showtell", "caption", str(pictures[0]), "-m", str(model)]
    first = min(_seconds(command) for _ in range(REPEATS))
    captioner = Captioner.load(model)
    list(captioner.caption_stream(pictures[:1]))  # kernels are made ready
    single = []
    for path in (list(pictures) * NUM_SINGLE)[:NUM_SINGLE]:
        started = time.perf_counter()
        captioner.caption(path)
        single.append(time.perf_counter() - started)
    batch = (list(pictures) * 32)[:32]
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        list(captioner.caption_stream(batch))
        rates.append(len(batch) / (time.perf_counter() - started))
    return Speed(first, statistics.median(single), max(rates), captioner.describe_runtime())


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CheckpointError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return time.perf_counter() - started


def find_examples(names: Sequence[str], folder: Path) -> list[Path]:
    """Where the pictures of a recipe lie.

    Args:
        names: ``skimage/NAME``: of those that scikit-image brings, which are free; ``scenes/NAME``:
            drawn by showtell; else a path from ``folder``.

    Raises:
        ConfigError: there is none.
        MissingExtraError: scikit-image is not installed.
    """
    found = []
    for name in names:
        if name.startswith(SKIMAGE):
            path = _skimage_folder() / name.removeprefix(SKIMAGE)
        elif name.startswith(SCENES):
            render_scenes(NUM_SCENES)
            path = scenes_folder() / name.removeprefix(SCENES)
        else:
            path = folder / name
        if not path.is_file():
            raise ConfigError(f"examples: {name!r} is not a picture ({path})")
        found.append(path)
    return found


def draw_examples(model: Path, pictures: Sequence[Path], output: Path) -> str:
    """A sheet of ``pictures`` with what ``model`` says of them, and how sure it is.

    Returns:
        A sentence on letters that no font here has; or nothing.
    """
    captioner = Captioner.load(model)
    cells = [
        Cell(Path(found.path), found.caption.text, (f"confidence {found.caption.confidence:.2f}",))
        for found in captioner.caption_stream(pictures)
        if found.caption is not None
    ]
    return save_contact_sheet(output, cells)


def _skimage_folder() -> Path:
    try:
        import skimage
    except ImportError:
        raise MissingExtraError("dev", "a picture of scikit-image") from None
    return Path(skimage.__file__).parent / "data"
