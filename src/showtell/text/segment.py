"""How captions are cut into words and put together again, in any language.

``ptb`` is COCO's tokeniser (``tokenizer.py``), for English. ``spaces`` is for other languages that
part words by spaces. ``words`` and ``characters`` are for scripts that do not: Chinese, Japanese,
Thai, Lao, Khmer and Burmese. ``words`` needs the extra ``languages``: ICU's dictionaries, one
library for all of these scripts. ``characters`` needs nothing. In both, Latin words and digits
among the characters stay whole, as ``spaces`` has them.

``choose`` picks one by the captions' letters, and says why. A vocabulary keeps its name and its
language, so a model writes captions as it read them, and is scored on the same words.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any, Literal, Self, get_args

from showtell.errors import ConfigError, VocabularyError, install_line, needs_extra
from showtell.text.language import (
    checked_code,
    guess_language,
    letters_of,
    name_of,
    script_of,
)
from showtell.text.tokenizer import READABLE_TOKENIZERS, TOKENIZER, tokenize, tokenize_all

Kind = Literal["ptb", "spaces", "characters", "words"]
KINDS: tuple[str, ...] = get_args(Kind)
UNSPACED = 0.2  # share of captions in such scripts from which on they are cut into words
WORTH_A_WORD = 0.01  # share from which on it is at least said that they are not

_SPACES, _CHARACTERS = "spaces-v1", "characters-v1"
_WORDS = re.compile(r"words-icu\d+(?:\.\d+)*-v1")

# Ranges of the scripts without spaces: letters and their marks, without digits and punctuation.
_HAN_KANA = (
    "\u3005-\u3007\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003fffd"
)
_SOUTH_EAST = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f"
    "\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a-\uaa7f\u1780-\u17b3\u17b6-\u17d3"
    "\u17dc\u17dd"
)
_RUN = re.compile(f"[{_HAN_KANA}{_SOUTH_EAST}]+")
_IS_HAN = re.compile(f"[{_HAN_KANA}]")
_IS_UNSPACED = re.compile(f"[{_HAN_KANA}{_SOUTH_EAST}]")

_TYPOGRAPHY = {
    **dict.fromkeys(map(ord, "’ʼ‘‛＇\u05f3"), "'"),  # the last is Hebrew's geresh
    **dict.fromkeys(map(ord, "”\u05f4"), '"'),  # and its gershayim
    **dict.fromkeys(map(ord, "‐‑"), "-"),
    **dict.fromkeys(map(ord, "_\u200b\u2060"), " "),
    # Soft hyphens, marks of direction, and the stretched stroke of Arabic are no part of a word.
    **dict.fromkeys(map(ord, "\xad\u0640\ufeff\u200e\u200f\u061c"), None),
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], None),
}
_TURKISH = str.maketrans({"I": "ı", "İ": "i"})
_WIDE = re.compile("[\uff00-\uffef]+")
# French and Italian words that lose their vowel before another; the two are words of their own.
_ELIDED_WORDS = (
    "l d j m t s n c qu jusqu lorsqu puisqu un dell all dall nell sull coll quell quest gl v"
)
_ELIDED = frozenset(_ELIDED_WORDS.split())
_ELISION = re.compile(rf"(?<![\w'])({'|'.join(sorted(_ELIDED))})'(?=[^\W\d_])")
_ELIDING = (None, "fr", "it", "ca")  # languages; or one that nobody has named
# Words with an apostrophe at an edge: "'n hond" in Afrikaans and Dutch, "un po' di" in Italian.
_CUT_BEFORE = r"(?<![\w'])'[kmnrst](?![\w'])"
_CUT_AFTER = r"(?<![\w'])(?:be|da|di|fa|mo|po|sta|va)'(?!\w)"
_CUT = {"af": _CUT_BEFORE, "nl": _CUT_BEFORE, "it": _CUT_AFTER}
_WITH_COLON = ("sv", "fi")  # languages with a colon inside of words: "tv:n"


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One way of cutting captions into words.

    Attributes:
        tokenizer: its name and version, for signatures of scores and for vocabularies.
        language: the captions' language, of ISO 639-1; None is English, or not known.
    """

    tokenizer: str = TOKENIZER
    language: str | None = None

    @classmethod
    def of(cls, kind: str, language: str | None = None) -> Self:
        """The present version of a kind.

        Raises:
            MissingExtraError: it is ``words``, and the extra ``languages`` is not installed.
        """
        names = {"ptb": TOKENIZER, "spaces": _SPACES, "characters": _CHARACTERS}
        return cls(names.get(kind) or f"words-icu{_icu_version()}-v1", language)

    @classmethod
    def named(cls, tokenizer: str, language: object = None) -> Self:
        """What a vocabulary's file names; none of its packages has to be installed.

        Raises:
            VocabularyError: this version has no such tokeniser, or the language is none.
        """
        if language is not None and not (isinstance(language, str) and checked_code(language)):
            raise VocabularyError(f"its language {language!r} is not a code such as de or zh")
        is_known = tokenizer in READABLE_TOKENIZERS or tokenizer in (_SPACES, _CHARACTERS)
        if not is_known and not _WORDS.fullmatch(tokenizer):
            raise VocabularyError(f"no tokeniser {tokenizer!r} is known")
        return cls(tokenizer, language)

    @property
    def kind(self) -> str:
        """``ptb``, ``spaces``, ``characters`` or ``words``."""
        return "ptb" if self.tokenizer in READABLE_TOKENIZERS else self.tokenizer.partition("-")[0]

    @property
    def rules(self) -> str:
        """Name and version of what cuts captions now: a model may be older than it."""
        return Segmentation.of(self.kind).tokenizer

    @property
    def cutting_language(self) -> str | None:
        """The language, where the words depend on it; COCO's tokeniser knows none."""
        return None if self.kind == "ptb" else self.language

    @property
    def signature(self) -> str:
        """For signatures of scores: the rules, and the language where they go by it."""
        named = (self.rules, self.cutting_language if self.language != "en" else None)
        return "-".join(filter(None, named))

    @property
    def is_english(self) -> bool:
        """Whether lists of English words may be used on these captions."""
        if self.language is None:
            return self.kind in ("ptb", "spaces")
        return self.language == "en"

    def words(self, caption: str) -> list[str]:
        """The words of a caption, for training and for constraints.

        Raises:
            MissingExtraError: they are ICU's, and the extra ``languages`` is not installed.
        """
        if self.kind == "ptb":
            return tokenize(caption)
        tokens = _tokens(caption, self.language)
        if self.kind == "spaces":
            return tokens
        cut = _by_icu if self.kind == "words" else _by_character
        return [part for token in tokens for part in _parts(token, cut)]

    def words_of_all(self, captions: Sequence[str]) -> list[list[str]]:
        """The words of captions as scores are computed from them; of ``ptb``, COCO's own."""
        if self.kind == "ptb":
            return tokenize_all(captions)
        return [self.words(caption) for caption in captions]

    def join(self, words: Sequence[str]) -> str:
        """The caption that words make.

        Chinese and Japanese have no spaces, not at Latin words and digits either. Thai, Lao, Khmer
        and Burmese have them there alone. Other words are parted by spaces, except after an elided
        one ("l'homme").
        """
        if self.kind == "ptb":
            return " ".join(words)
        unspaced = self.kind != "spaces"
        text = ""
        for word in words:
            if text and word and not _touch(text, word, unspaced=unspaced):
                text += " "
            text += word
        return text

    def __str__(self) -> str:
        return self.kind if self.language is None else f"{self.kind}, {name_of(self.language)}"


PTB = Segmentation()
"""COCO's tokeniser, for English: what everything uses where nothing else is said."""


AS_SETTING, AS_OPTION = "-s data.{}={}", "--{} {}"
"""How a person writes a setting of a training run, and an option of the command line."""
AS_OPTION_OF_SCORE = "`showtell score --{} {}`"
"""As ``AS_OPTION``, for commands that do not have these options themselves."""


def choose(
    captions: Sequence[str],
    kind: str = "auto",
    language: str = "auto",
    *,
    written: str = AS_SETTING,
) -> tuple[Segmentation, str]:
    """The segmentation for captions, and a line for people that says why; "" for plain English.

    Args:
        kind: one of ``KINDS``, or ``auto``.
        language: a code as ``de``, or ``auto``: guessed.
        written: how the line says to choose otherwise.

    Raises:
        ConfigError: no such kind or language.
        MissingExtraError: ``words``, and the extra ``languages`` is not installed.
    """
    wanted = _language(language)
    if kind not in ("auto", *KINDS):
        raise ConfigError(f"segmentation {kind!r}: expected auto, {', '.join(KINDS)}")
    letters = letters_of(captions)
    found = wanted or guess_language(captions, letters)
    found = None if found == "en" else found
    if kind != "auto":
        chosen = Segmentation.of(kind, found)
        return chosen, "" if chosen == PTB else f"captions are cut into words by {chosen}, as asked"
    if letters.share_unspaced >= UNSPACED:
        return _unspaced(found, written)
    reason = ""
    if letters.share_unspaced >= WORTH_A_WORD:
        reason = (
            f"{letters.share_unspaced:.0%} of captions are in scripts without spaces, and each of "
            f"those counts as one word; {written.format('segmentation', 'characters')} cuts them"
        )
    if found is None:
        return PTB, reason
    chosen = Segmentation.of("spaces", found)
    why = "as asked" if wanted else "by their letters and short words"
    return chosen, reason or (
        f"captions are in {name_of(found)}, {why}: cut into words at spaces "
        f"({written.format('language', 'en')}: by COCO's tokeniser for English)"
    )


def choose_for_scores(
    captions: Sequence[str],
    kind: str = "auto",
    language: str = "auto",
    *,
    written: str = AS_OPTION,
) -> tuple[Segmentation, str]:
    """As ``choose``, but for captions with spaces COCO's tokeniser, unless something else is asked.

    So scores in German or Hindi stay equal to those of COCO's own program.
    """
    if kind == "auto" and language == "auto":
        letters = letters_of(captions)
        guess = guess_language(captions, letters)
        if letters.share_unspaced < UNSPACED:
            if guess is None:
                return PTB, ""
            return Segmentation(TOKENIZER, guess), (
                f"the captions seem to be in {name_of(guess)}, and are cut into words by COCO's "
                f"tokeniser, which is for English; {written.format('language', guess)} uses rules "
                "for any language"
            )
    return choose(captions, kind, language, written=written)


def _language(given: str) -> str | None:
    if given == "auto":
        return None
    if (code := checked_code(given)) is None:
        raise ConfigError(f"language {given!r}: expected auto, or a code such as de, zh or pt")
    return code


def _unspaced(language: str | None, written: str) -> tuple[Segmentation, str]:
    what = f"captions are in {name_of(language) if language else 'a script'}, without spaces"
    if find_spec("icu4py") is not None:
        return Segmentation.of("words", language), (
            f"{what} between words: cut into words by ICU's dictionaries "
            f"({written.format('segmentation', 'characters')}: into characters)"
        )
    return Segmentation.of("characters", language), (
        f"{what} between words: each character is a word. For real words: "
        f"{install_line('languages')}"
    )


@cache
def _token_pattern(cut: str | None, *, has_colon: bool) -> re.Pattern[str]:
    """Words: letters, digits and marks, with signs inside; and symbols such as emoji, one each.

    Which signs a word has follows Unicode's rules (UAX 29, WB6 to WB12); Hebrew's two are also
    written as quotation marks.

    Args:
        cut: of ``_CUT``.
        has_colon: whether a colon between letters is one of them.
    """
    marks, symbols = [], []
    for character in map(chr, range(0x80, 0x20000)):
        category = unicodedata.category(character)
        if category in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f":
            marks.append(character)
        elif category in ("Sc", "Sm", "So"):
            symbols.append(character)
    word = rf"[\w{''.join(marks)}]"
    letter, hebrew = r"[^\W\d_]", "[\u05d0-\u05ea]"
    signs = rf"""['·\u200c\u200d-]|(?<=\d)[.,:/٫٬](?=\d)|(?<={hebrew})"(?={hebrew})"""
    signs += rf"|(?<={letter}):(?={letter})" * has_colon
    whole = rf"{word}+(?:(?:{signs}){word}+)*(?:(?<={hebrew})')?"
    symbol = f"[$%&+#@{''.join(symbols)}]"
    return re.compile("|".join(filter(None, (cut, whole, symbol))))


def _tokens(caption: str, language: str | None) -> list[str]:
    """Words between spaces, in lower case and in Unicode's normal form C, without punctuation."""
    text = unicodedata.normalize("NFC", caption)
    text = _WIDE.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), text)
    text = text.translate(_TYPOGRAPHY)
    if language in ("tr", "az"):
        text = text.translate(_TURKISH)
    # Lower-casing can take a letter out of its normal form.
    text = unicodedata.normalize("NFC", text.lower())
    pattern = _token_pattern(_CUT.get(language or ""), has_colon=language in _WITH_COLON)
    tokens = pattern.findall(text)
    if "'" not in text or language not in _ELIDING:
        return tokens
    return [part for token in tokens for part in _ELISION.sub(r"\1' ", token).split()]


def _parts(token: str, cut: Any) -> Iterable[str]:
    """A token, with its runs of a script without spaces cut into words."""
    if not _IS_UNSPACED.search(token):
        yield token
        return
    position = 0
    for run in _RUN.finditer(token):
        if before := token[position : run.start()].strip("'-·:"):
            yield before
        yield from cut(run[0])
        position = run.end()
    if rest := token[position:].strip("'-·:"):
        yield rest


def pieces_of(text: str) -> list[str]:
    """A text in pieces that make it again when joined: a word each, with what follows it.

    A word is a character of a script without spaces, or what stands between spaces and these.
    """
    pieces: list[str] = []
    for part in re.findall(rf"{_RUN.pattern}|{_RUN.pattern.replace('[', '[^', 1)}", text):
        found = _by_character(part) if _RUN.match(part) else re.findall(r"\s*\S+\s*|\s+", part)
        for piece in found:
            if pieces and not any(map(str.isalnum, piece)):
                pieces[-1] += piece
            else:
                pieces.append(piece)
    return pieces


def _by_character(run: str) -> list[str]:
    """Each letter with its marks; with the letter stacked below it in Khmer and Burmese."""
    letters: list[str] = []
    for character in run:
        is_mark = unicodedata.category(character)[0] == "M"
        if letters and (is_mark or letters[-1][-1] in "\u17d2\u1039"):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


@lru_cache(maxsize=1 << 16)
def _by_icu(run: str) -> tuple[str, ...]:
    breakers = _icu()
    return tuple(str(word) for word in breakers.WordBreaker(run, "en") if str(word).strip())


@cache
def _icu() -> Any:
    with needs_extra("languages", "cutting captions into words by dictionaries"):
        from icu4py import breakers
    return breakers


@cache
def _icu_version() -> str:
    _icu()
    import icu4py

    return str(icu4py.icu_version)


def _touch(text: str, word: str, *, unspaced: bool) -> bool:
    """Whether no space comes between a text and the word after it."""
    last = text.rpartition(" ")[2]
    if last[-1] == "'":
        return last[:-1] in _ELIDED
    if not unspaced:
        return False
    left, right = last[-1], word[0]
    is_left, is_right = _IS_UNSPACED.match(left), _IS_UNSPACED.match(right)
    if is_left and is_right:
        return True
    if _IS_HAN.match(left):
        return script_of(right) != "HANGUL"
    if _IS_HAN.match(right):
        return script_of(left) != "HANGUL"
    return False
