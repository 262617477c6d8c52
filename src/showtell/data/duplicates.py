"""Near-duplicates: pictures that look the same, so that one caption serves them all.

Pictures are compared by ``imagehash``'s pHash (Zauner 2010, "Implementation and Benchmarking of
Perceptual Image Hash Functions", section 3.2.1): 256 bits that describe the lowest frequencies of a
picture's greys. The hash ignores colour, so the mean colours are compared as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from showtell.core.progress import Progress
from showtell.errors import needs_extra

HASH_SIDE = 16
# On 1,500 Flickr8k photos no two differ by fewer than 80 bits; the same photo saved again at JPEG
# quality 40, halved, doubled or made a tenth brighter differs from itself by 12 at most.
MOST_BITS = 24
MOST_COLOUR = 24.0  # of 255, in each of red, green and blue
FIRST_ROOM = 1024
# Of 16 parts of the bits, two looks with at most 24 different bits have one that differs by one bit
# at most, as 16 parts with two or more each would make 32.
NUM_PARTS = 16
NEAR_PARTS = np.array([0, *(1 << bit for bit in range(16))], dtype=np.uint16)
LEAST_INDEXED = 8192  # fewer looks are compared one by one sooner


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture looks like: 256 bits as hexadecimal digits, and its mean colour."""

    bits: str
    colour: tuple[int, int, int]

    def to_text(self) -> str:
        """The look as one word, to be stored in a record."""
        return self.bits + bytes(self.colour).hex()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what ``to_text`` wrote.

        Raises:
            ValueError: the text is something else.
        """
        if len(text) != HASH_SIDE * HASH_SIDE // 4 + 6:
            raise ValueError(f"not a picture's hash: {text!r}")
        red, green, blue = bytes.fromhex(text[-6:])
        return cls(text[:-6], (red, green, blue))


def can_look() -> bool:
    """Whether ``imagehash`` is installed; imports it, so that no thread has to."""
    try:
        import imagehash  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def look_of(image: Image.Image) -> Look:
    """The look of an RGB picture.

    Raises:
        MissingExtraError: ``imagehash`` is not installed.
    """
    with needs_extra("dedupe", "finding pictures that look the same"):
        import imagehash
    bits = imagehash.phash(image, hash_size=HASH_SIDE).hash
    red, green, blue = image.resize((1, 1), Image.Resampling.BOX).tobytes()
    return Look(np.packbits(bits).tobytes().hex(), (red, green, blue))


class NearDuplicates:
    """The looks of the pictures so far, numbered from 0.

    ``find`` compares those that share nearly a part of 16 bits, which an index has, and the newest,
    which the index has not yet: one in 64. A look takes 44 bytes, and 64 in the index.
    """

    def __init__(self) -> None:
        self._bits: NDArray[np.uint64] = np.zeros((FIRST_ROOM, 4), dtype=np.uint64)
        self._colours: NDArray[np.float32] = np.zeros((FIRST_ROOM, 3), dtype=np.float32)
        self._num = 0
        self._index: list[_Part] = []
        self._num_indexed = 0

    def __len__(self) -> int:
        return self._num

    def find(self, look: Look) -> int | None:
        """The number of the nearest picture that looks the same, or None."""
        near, num_different = self._near(look)
        return int(near[num_different.argmin()]) if len(near) else None

    def find_all(self, look: Look) -> list[int]:
        """The numbers of all pictures that look the same."""
        return [int(number) for number in self._near(look)[0]]

    def _near(self, look: Look) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """The numbers of pictures that look the same, and in how many bits each differs."""
        bits, colour = _arrays(look)
        numbers = self._candidates(bits)
        num_different = np.bitwise_count(self._bits[numbers] ^ bits).sum(axis=1)
        gaps = np.abs(self._colours[numbers] - colour).max(axis=1)
        is_near = (num_different <= MOST_BITS) & (gaps <= MOST_COLOUR)
        near, places = np.unique(numbers[is_near], return_index=True)
        return near, num_different[is_near][places].astype(np.int64)

    def _candidates(self, bits: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Numbers among which are those of all looks near these bits; some may come twice."""
        if self._num - self._num_indexed > max(LEAST_INDEXED, self._num_indexed // 64):
            parts = self._bits[: self._num].view(np.uint16)
            self._index = [_Part(parts[:, place]) for place in range(NUM_PARTS)]
            self._num_indexed = self._num
        newest = np.arange(self._num_indexed, self._num)
        near = [
            numbers
            for part, value in zip(self._index, bits.view(np.uint16), strict=False)
            for numbers in part.numbers_of(value ^ NEAR_PARTS)
        ]
        return np.concatenate([*near, newest])

    def add(self, look: Look) -> int:
        """Add a look and return its number."""
        if self._num == len(self._bits):
            self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)])
            self._colours = np.concatenate([self._colours, np.zeros_like(self._colours)])
        self._bits[self._num], self._colours[self._num] = _arrays(look)
        self._num += 1
        return self._num - 1


class _Part:
    """Which looks have which value in a part of their bits."""

    def __init__(self, values: NDArray[np.uint16]) -> None:
        self._numbers = np.argsort(values, kind="stable").astype(np.uint32)
        self._ends = np.bincount(values, minlength=2**16).cumsum()

    def numbers_of(self, values: NDArray[np.uint16]) -> Iterator[NDArray[np.uint32]]:
        """For each value the numbers of the looks that have it."""
        for value in values.tolist():
            start = self._ends[value - 1] if value else 0
            yield self._numbers[start : self._ends[value]]


def _arrays(look: Look) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    bits = np.frombuffer(bytes.fromhex(look.bits), dtype=np.uint64)
    return bits, np.array(look.colour, dtype=np.float32)


def near_groups(
    looks: Sequence[Look | None], *, progress: Progress | None = None
) -> list[list[int]]:
    """Pictures that look the same, in groups of two or more.

    Looking the same is passed on: where the first looks like the second and the second like the
    third, all are one group.

    Args:
        looks: Of each picture; None is like nothing.
        progress: Called with how many are compared, and how many there are.

    Returns:
        The groups as numbers of pictures, in order.
    """
    numbers = [number for number, look in enumerate(looks) if look is not None]
    found = NearDuplicates()
    parents = list(range(len(looks)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    for done, number in enumerate(numbers, 1):
        look = looks[number]
        assert look is not None
        for other in found.find_all(look):
            first, second = sorted((root(numbers[other]), root(number)))
            parents[second] = first
        found.add(look)
        if progress is not None and (done % 256 == 0 or done == len(numbers)):
            progress(done, len(numbers))
    groups: dict[int, list[int]] = {}
    for number in numbers:
        groups.setdefault(root(number), []).append(number)
    return [group for group in groups.values() if len(group) > 1]
