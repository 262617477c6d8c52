"""Length, endings and repeats, by arithmetic."""

from showtell.metrics.references import Captions, References
from showtell.metrics.wording import statistics

SAID = [
    "a dog runs on the grass with a",  # 8 words, a bad ending
    "a dog and a dog and a cat",  # 8 words; "a dog and a" twice
    "on the left is the left",  # 6 words; "the left" twice
    "",
]


def test_by_hand() -> None:
    found = statistics(Captions(SAID, References({str(n): ["x"] for n in range(len(SAID))})))
    assert dict(zip(found.names, found.figures().tolist(), strict=True)) == {
        "length": 22 / 4,
        "bad-endings": 1 / 4,
        "repeats-2": 2 / 4,
        "repeats-3": 1 / 4,
        "repeats-4": 1 / 4,  # the last word of the first "a dog and a" begins the second
    }
