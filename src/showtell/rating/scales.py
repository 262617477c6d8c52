"""The scales on which people rate captions: what may be answered, and what an answer counts."""

from dataclasses import dataclass, field

from showtell.errors import ConfigError, unknown_name
from showtell.rating.agreement import Level


@dataclass(frozen=True)
class Grade:
    """One of a scale's answers.

    Attributes:
        code: in files of answers.
        label: on the page.
        value: in means.
        also: other ways of writing it, in lower case. The first is its key on the page.
    """

    code: str
    label: str
    value: float
    also: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """What raters are asked.

    Attributes:
        grades: in the order of the page.
        levels: of the grades' values, for agreement: the one that fits best comes first.
        wrong: codes of the grades that call a caption wrong.
        num_captions: shown together: 1, or 2 to be compared.
    """

    name: str
    question: str
    grades: tuple[Grade, ...]
    levels: tuple[Level, ...]
    wrong: frozenset[str] = frozenset()
    num_captions: int = 1
    _by_spelling: dict[str, Grade] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for grade in self.grades:
            self._by_spelling.update(dict.fromkeys((grade.code, *grade.also), grade))

    def grade(self, text: str) -> Grade | None:
        """The grade that an answer means; None where it means none of them."""
        return self._by_spelling.get(text.strip().lower())


_RIGHT = Scale(
    "right/half/wrong",
    "Does the caption describe the picture?",
    (
        Grade("right", "Right: all that it says is in the picture", 1.0, ("r",)),
        Grade("half", "Half right: the main thing is right, something is wrong", 0.5, ("h",)),
        Grade("wrong", "Wrong: the main thing is wrong", 0.0, ("w",)),
    ),
    ("ordinal", "nominal"),
    frozenset(["wrong"]),
)
_ONE_TO_FIVE = Scale(
    "1-5",
    "How well does the caption describe the picture?",
    (
        Grade("1", "1: wrong", 1.0, ("1", "1.0")),
        Grade("2", "2: mostly wrong", 2.0, ("2", "2.0")),
        Grade("3", "3: half right", 3.0, ("3", "3.0")),
        Grade("4", "4: right, with a small fault", 4.0, ("4", "4.0")),
        Grade("5", "5: right, and says what matters", 5.0, ("5", "5.0")),
    ),
    ("ordinal", "interval"),
    frozenset(["1", "2"]),
)
_PAIRWISE = Scale(
    "pairwise",
    "Which caption describes the picture better?",
    (
        Grade("A", "A is better", 1.0, ("a",)),
        Grade("same", "No difference", 0.0, ("s", "=", "tie")),
        Grade("B", "B is better", -1.0, ("b",)),
    ),
    ("nominal", "ordinal"),
    num_captions=2,
)

SCALES = {scale.name: scale for scale in (_ONE_TO_FIVE, _PAIRWISE, _RIGHT)}


def scale_named(name: str) -> Scale:
    """
    Raises:
        ConfigError: there is no such scale.
    """
    if name not in SCALES:
        raise ConfigError(unknown_name("scale", name, SCALES))
    return SCALES[name]
