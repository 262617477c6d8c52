"""Clean-up of what captioners say: a preamble, markdown, too many sentences, too many words.

Large models answer as in a talk: "Sure! Here is a caption: **A dog runs.** It looks happy." The
caption is the sentence in it. ``Cleaning`` says what is to be done with a text, in this order:

1. ``tidy``: what a model thinks aloud, markdown, the preamble and the quotes go;
2. ``max_sentences`` and ``max_words`` shorten the text at a sensible place;
3. ``replace``: patterns and what they become;
4. ``prefix`` and ``suffix``, word for word, for those who train image models.

Nothing here knows which model said the text. The result depends on the text and the settings alone.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Self

from showtell.core.files import short_digest
from showtell.errors import (
    ConfigError,
    expect_by_name,
    first_line,
    needs_extra,
    unknown_name,
)
from showtell.text.language import letters_of
from showtell.text.segment import pieces_of
from showtell.text.tokenizer import BAD_ENDINGS

REPLACE_SECONDS = 1.0
"""A pattern that takes longer for one text is one that never ends, or nearly."""

MOST_CHARACTERS = 4_000
"""Of a text; what comes behind is not a caption any more."""


@dataclass(frozen=True)
class Cleaning:
    """What becomes of a text.

    Attributes:
        tidy: whether preambles, markdown and quotes are removed.
        max_sentences: how many sentences are kept, from the first on; None: all.
        max_words: how many words are kept, or characters of a script without spaces; None: all.
        replace: ``REGEX=TEXT`` each, applied one after the other; ``TEXT`` may refer to groups
            (``\\1``).
        prefix, suffix: put before and behind, word for word.

    Raises:
        ConfigError: a value is impossible, or a pattern is not a regular expression.
        MissingExtraError: ``replace`` is given, and ``regex`` is not installed.
    """

    tidy: bool = False
    max_sentences: int | None = None
    max_words: int | None = None
    replace: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        for name in ("max_sentences", "max_words"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value}: expected 1 or more")
        for name in ("prefix", "suffix"):
            if re.search(r"[\r\n\0]", getattr(self, name)):
                raise ConfigError(f"{name} has more than one line: a caption is one line")
        _ = self._patterns  # what is wrong with them shows now

    @property
    def is_nothing(self) -> bool:
        """Whether every text stays as it is."""
        return self == Cleaning()

    @property
    def identity(self) -> str:
        """12 digits that stand for the settings; empty where there are none."""
        if self.is_nothing:
            return ""
        return short_digest(json.dumps(asdict(self)))

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """The same settings with some changed; raises ConfigError, also for an unknown name."""
        expect_by_name("cleaning", changes, '{"max_words": 20}')
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigError(unknown_name("setting of the clean-up", name, known))
        values: dict[str, Any] = {n: tuple(v) if n == "replace" else v for n, v in changes.items()}
        return replace(self, **values)

    def __call__(self, text: str) -> str:
        """The text as it is wanted.

        Raises:
            ConfigError: a pattern of ``replace`` takes longer than ``REPLACE_SECONDS``.
        """
        cleaned = text
        if self.tidy:
            cleaned = tidied(cleaned, first_only=self.max_sentences == 1) or text.strip()
        if self.max_sentences is not None:
            cleaned = first_sentences(cleaned, self.max_sentences)
        if self.max_words is not None:
            cleaned = shortened(cleaned, self.max_words)
        for given, pattern, by in self._patterns:
            cleaned = _replaced(given, pattern, by, cleaned)
        return f"{self.prefix}{cleaned}{self.suffix}"

    @cached_property
    def _patterns(self) -> tuple[tuple[str, Any, str], ...]:
        return tuple((given, *_compiled(given)) for given in self.replace)


# The sign that parts pattern and text: the first that is neither escaped nor of (?= (?<= (?P=.
_PARTS = re.compile(r"(?<!\\)(?<!\(\?)(?<!\(\?<)(?<!\(\?P)=")


@lru_cache(maxsize=64)
def _compiled(given: str) -> tuple[Any, str]:
    """A pattern, compiled, and its replacement.

    ``regex`` in place of Python's ``re``: it alone can be told how long a search may take.
    """
    found = _PARTS.search(given)
    if found is None or not found.start():
        raise ConfigError(f"--replace {given!r}: expected REGEX=TEXT, such as 'grey=gray'")
    with needs_extra("clean", "--replace"):
        import regex
    pattern, by = given[: found.start()], given[found.end() :]
    try:
        compiled = regex.compile(pattern)
        compiled.sub(by, "")  # the replacement is compiled where the pattern is found ...
        regex.compile(f"(?:{pattern})|").sub(by, "", timeout=REPLACE_SECONDS)  # ... which is here
    except (regex.error, IndexError, TimeoutError) as error:
        raise ConfigError(
            f"--replace {given!r}: {first_line(error)}; expected REGEX=TEXT, such as 'grey=gray'"
        ) from None
    return compiled, by


def _replaced(given: str, pattern: Any, by: str, text: str) -> str:
    try:
        changed = pattern.sub(by, text[:MOST_CHARACTERS], timeout=REPLACE_SECONDS)
    except TimeoutError:
        raise ConfigError(
            f"--replace {given!r}: this pattern took more than {REPLACE_SECONDS:g} s for one "
            "caption; a repetition within a repetition, such as (a+)+, does that"
        ) from None
    return " ".join(str(changed).split())


_HALF = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f]")


def as_text(said: str) -> str:
    """What a model says, as every file and terminal takes it; a model may say anything.

    Every line break becomes ``\\n``, half of a surrogate pair becomes U+FFFD, and other control
    characters than the tab are left out.
    """
    lines = "\n".join(said.splitlines())
    return _CONTROLS.sub("", _HALF.sub("\ufffd", lines))


def tidied(text: str, *, first_only: bool = True) -> str:
    """The caption in an answer, on one line: without thoughts, markdown, preamble and quotes.

    Args:
        first_only: take the first paragraph, or of a list with several captions the first; else
            all of them.

    Returns:
        Empty where nothing is left.
    """
    text = _without_thoughts(text[:MOST_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n"))
    blocks = list(_blocks(_without_markup(text)))
    for number, block in enumerate(blocks, 1):
        if block.endswith(":") and number < len(blocks):  # "Here are some captions:"
            continue
        if block := _without_preamble(block):
            rest = [" ".join(each.split()) for each in blocks[number:]]
            return block if first_only else " ".join([block, *rest])
    return ""


_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHTS = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:pad|bos|eos|unk|end_of_utterance)>")


def _without_thoughts(text: str) -> str:
    """Without what reasoning models think aloud, and without special tokens."""
    text = _THOUGHTS.sub(" ", text)
    if ends := list(_END_OF_THOUGHTS.finditer(text)):  # servers may swallow the tag that begins it
        text = text[ends[-1].end() :]
    return _SPECIAL.sub(" ", text)


_MARKUP = [
    (re.compile(r"^[ \t]*(```|~~~)[^\n]*$", re.MULTILINE), ""),  # fences of code
    (re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\n]{0,300}\)"), r"\1"),  # links, pictures
    (re.compile(r"^[ \t]*>[ \t]?", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE), ""),
    (re.compile(r"<br\s*/?>|</?(?:p|b|i|em|strong|u)>", re.IGNORECASE), " "),
    (re.compile(r"(\*\*|__)(?=\S)([^\n]*?\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]*[^\s*])\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w_])_(?=[^\s_])([^_\n]*[^\s_])_(?![\w_])"), r"\1"),
    (re.compile(r"`([^`\n]*)`"), r"\1"),
]


def _without_markup(text: str) -> str:
    for pattern, by in _MARKUP:
        text = pattern.sub(by, text)
    return text


_ITEM = re.compile(r"^(?:[-*+•]|\(?\d{1,2}[.)])[ \t]+")


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, each on one line; an item of a list is one."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        lines: list[str] = []
        for line in filter(None, map(str.strip, paragraph.split("\n"))):
            if lines and (_ITEM.match(line) or lines[-1].endswith(":")):
                yield " ".join(lines)
                lines = []
            lines.append(_ITEM.sub("", line))
        if lines:
            yield " ".join(lines)


_PHOTO = r"(?:image|picture|photo|photograph|scene)"
# What a caption is of, and not only how it was taken: "a drawing of a cat" is not a cat.
_WORK = r"(?:illustration|painting|drawing|screenshot)"
_PICTURE = rf"(?:{_PHOTO}|{_WORK})"
_CAPTION = (
    r"(?:(?:image|picture|photo|short|brief|concise|detailed|one[- ]sentence|single[- ]sentence|"
    r"possible|suitable|suggested|generated|simple|good|descriptive|accessible)[ -])*"
    r"(?:alt[- ]?text|captions?|descriptions?|summary|sentence|answer|response|output|result)"
)
_KIND = r"(?:(?:black[- ]and[- ]white|close[- ]?up|colou?r|digital|aerial|vintage|old)\s+)*"
# In "a photo of a dog hangs on a wall", the photo is a thing in the picture.
_CLAUSE = r"(?:(?!\b(?:that|which|who|whose|where|when|while|as)\b)[^.,;:!?])*"
_IS_A_THING = rf"{_CLAUSE}\b(?:is|was|has|hangs|sits|lies|stands|rests|leans)\b"
_PREAMBLES = [
    # "Sure!" where something follows; "Here is a caption for the image:"
    r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great)"
    r"(?:\s*[,!.:—–]+|\s+-+)\s*(?=\S)",  # no hyphen without a space: "Great-horned owl"
    rf"(?:here(?:'s|’s| is| are)|this is|below is)\s[^:.\n]{{0,40}}?{_CAPTION}[^:\n]{{0,60}}:\s*",
    rf"(?:the |a |an |my )?{_CAPTION}(?: (?:for|of) (?:the|this) {_PICTURE})?\s*(?::|is:)\s*",
    # "The image shows", "This is a photo of", "In this picture, we can see", "A close-up photo of"
    rf"(?:the|this|that) (?:provided |given |attached )?{_KIND}{_PICTURE} (?:clearly |also |"
    rf"mainly |primarily )?(?:shows|depicts|features|displays|captures|contains|presents|portrays|"
    rf"illustrates|showcases|is showing|is of|consists of|appears to (?:show|depict|be of)|"
    rf"is (?:a|an) {_KIND}{_PHOTO}(?: that shows| of| showing| depicting))\s+",
    rf"(?:(?:the|this|that) {_KIND}{_PHOTO}|this) is (?=(?:a|an) {_KIND}{_WORK}\b)",
    rf"this is (?:a|an) {_KIND}{_PHOTO} (?:of|showing|depicting|that shows)\s+",
    rf"in (?:the|this) {_KIND}{_PICTURE}\s*,?\s*(?:(?:we|you|one) (?:can )?see|there (?:is|are)|"
    rf"i (?:can )?see|is)\s+",
    rf"in (?:the|this) {_KIND}{_PICTURE}\s*,\s*",
    r"(?:i|we) (?:can )?see (?=(?:a|an|the|two|three|several|some|many)\b)",
    rf"(?:a|an) {_KIND}{_PHOTO} (?:of|showing|depicting|that shows|featuring) (?=\S)"
    rf"(?!{_IS_A_THING})",
]
_PREAMBLE = re.compile("|".join(_PREAMBLES), re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」", "`": "`"}


def _without_preamble(block: str) -> str:
    text = " ".join(block.split())
    while True:
        before = text
        text = _unquoted(text)
        if found := _PREAMBLE.match(text):
            text = text[found.end() :].strip()
            text = text[:1].upper() + text[1:] if found[0][0].isupper() else text
        if text == before:
            return text


def _unquoted(text: str) -> str:
    """Without quotes around the whole of it."""
    closing = _QUOTES.get(text[:1])
    if closing is None or len(text) < 2:
        return text
    core = text.rstrip(".") if text.endswith(f"{closing}.") else text
    if not core.endswith(closing) or len(core) < 2:
        return text
    inner = core[1:-1]
    if text[0] in inner or closing in inner.replace("n't", "").replace("'s", ""):
        return text
    return inner.strip()


# Ends of sentences: with a space behind them, and of scripts that have signs of their own.
_STOPS = "。！？｡।॥؟۔።။។"
_END = re.compile(rf"[.!?…]+[\"'”’»)\]]*(?=\s)|[{_STOPS}]+[」』”]*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Mt|Jr|Sr|No|vs|etc|ca|approx|e\.g|i\.e|"
    r"[A-Z](?:\.[A-Z])+)\.$"
)


def first_sentences(text: str, most: int) -> str:
    """The first sentences of a text."""
    num = 0
    for end in _END.finditer(text):
        said = text[: end.end()]
        after = text[end.end() :].lstrip()
        if not after:
            break
        is_one = end[0][0] not in ".…" or not (
            _ABBREVIATION.search(said[-12:]) or after[0].islower()  # "U.S.", "a ... dog"
        )
        num += is_one
        if is_one and num == most:
            return said.strip()
    return text.strip()


def shortened(text: str, most: int) -> str:
    """No more than ``most`` words, cut at a clause's end where one is in the second half.

    What would be left hanging, as "with a", goes too; the sentence's full stop comes back. In
    scripts without spaces between words, each character counts as a word.
    """
    text = text.strip()
    is_unspaced = letters_of([text]).num_unspaced > 0
    pieces, gap = (pieces_of(text), "") if is_unspaced else (text.split(), " ")
    if len(pieces) <= most:
        return text
    words = [piece.strip() for piece in pieces]  # pieces have the spaces behind them
    places, num = range(most, max(most // 2, 1) - 1, -1), most
    for place in places:
        if words[place - 1][-1] in f".!?{_STOPS}":
            return gap.join(pieces[:place]).rstrip()
    for place in places:
        if words[place - 1].endswith(_CLAUSE_ENDINGS) or words[place] in _DASHES:
            num = place
            break
    while num > 1 and words[num - 1].lower().strip(_LOOSE) in _HANGING:
        num -= 1
    shorter = gap.join(pieces[:num]).rstrip(_LOOSE)
    return f"{shorter}{text[-1]}" if text[-1] in ".。।۔" else shorter


_CLAUSE_ENDS, _DASHES = ",;:，、；：،؛", ("–", "—", "-")
_CLAUSE_ENDINGS = (*_CLAUSE_ENDS, *(f" {dash}" for dash in _DASHES))  # no hyphen in a word
_LOOSE = "".join((*_CLAUSE_ENDS, *_DASHES, " "))
_MORE_ENDINGS = (
    "and or but nor as that which who whose while where when by from into onto over under behind "
    "between through its his her their this these those some two three very "
    "的 和 与 在 の が を に は と で"
)
_HANGING = BAD_ENDINGS | frozenset(_MORE_ENDINGS.split()) | {""}  # the last: a sign alone
