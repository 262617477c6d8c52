"""Captions without words that say somebody's gender: "person" in place of "man", "their" of "his".

A captioner guesses gender from hair and clothes, and is often wrong. An alt text need not guess.
``neutral`` rewrites an English caption so that its grammar holds: plurals, pronouns and the verbs
after them, possessives, "a" and "an", compounds ("fireman" is "firefighter"), words that are left
out before others ("a female surfer" is "a surfer"), and two people who were told apart by nothing
else ("a man and a woman" are "two people"). Words that only look alike stay: manhole, human,
snowman. Titles and names stay, too: queen, princess, nun.

"boy" and "girl" become "child", since captions call small children so; a grown woman who was called
a girl becomes one as well.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from showtell.text.neutral_words import AFTER_ROLE, GENDERED, NOUNS, OF_ONE, PHRASES, word_set

_LONGEST = max(map(len, PHRASES))
_PLURALS = {
    "person": "people",
    "child": "children",
    "parent": "parents",
    "grandparent": "grandparents",
    "sibling": "siblings",
    "spouse": "spouses",
    "newlywed": "newlyweds",
    "partner": "partners",
    "relative": "relatives",
    "adult": "adults",
    "grandchild": "grandchildren",
    "teenager": "teenagers",
}
_SINGULARS = {many: one for one, many in _PLURALS.items()}
_ENDINGS = (("man", "men"), ("y", "ies"), ("", "s"))
_ONE_OF = {
    many: one
    for one in NOUNS
    for of_one, of_many in _ENDINGS
    if one.endswith(of_one)
    and (many := one.removesuffix(of_one) + of_many) in NOUNS
    and many not in ("mans", "womans")
}
"""For each noun of several people, that of one."""

_NUMBERS = (
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_POSSESSIVES = word_set("my your our their its")
_FUNCTION = word_set(
    "a an the this that these those some another each both all any no in on at of to from "
    "with into "
    "onto by for over under near behind beside besides between through across toward towards "
    "during "
    "before after along around against above below beneath inside outside upon without within past "
    "about like as and or but while who which when where than then so if because is are was "
    "were be "
    "been being has have had do does did will would can could may might up down out off away "
    "together apart forward aside who's that's there here not also very too"
)
"""Words that do not begin what somebody owns: after "her" they show that it is an object."""

_BESIDES = word_set(
    "some many several few these those in on at of to from with by for and or but while as "
    "who that is are"
)
_JOINING = ("and", "or", "but")
_ADVERBS = word_set("also still just never always then now often almost barely not")
_WATCH = word_set(
    "watch watches watching watched help helps helping let lets letting see sees seeing make makes "
    "making hear hears hearing"
)
_BARE_VERBS = word_set(
    "play jump run swim walk sleep eat ride climb dance perform sing stand sit fly skate surf ski "
    "go fall catch throw kick hit dive slide speak talk drink smile work paint draw cook"
)
_BEFORE_SOMEBODY = _WATCH | word_set(
    "behind after around beside near towards toward past against over above below under like than "
    "catch catches photograph photographs follow follows following film films filming"
)
"""After these, "her" and a verb in "-ing" are somebody who does it: "behind her holding a bag"."""

_BEFORE_THINGS = word_set("in at from into wearing wears and show shows showing")
"""After these it is hers: "in her living room"."""

_THINGS = word_set("something anything everything nothing")
_ING_NOUNS = word_set(
    "wedding ring earring earrings string clothing painting evening belonging belongings drawing "
    "wing stocking stockings swing legging leggings sling building king spring thing things "
    "sibling offspring rigging bedding"
)
_BEFORE_OBJECT = word_set(
    "a an the his her their its my our itself himself herself themselves another some each"
)
_AGREEING = {"is": "are", "was": "were", "has": "have", "does": "do", "goes": "go"}
_NOT_VERBS = word_set("as always perhaps sometimes besides this his towards across unless plus")
_NO_VOWEL_SOUND = ("uni", "use", "usu", "eu", "one")
_TOKEN = re.compile(
    r"n['’]t\b|['’](?:s|re|ve|ll|d|m)\b|(?:(?!n['’]t\b)\w)+(?:-\w+)*|[^\w\s]", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of the new caption.

    Attributes:
        text: as it is written.
        source: the place of the word that it stems from.
        changed: whether it is another word.
        after_gap: whether words before it were left out.
    """

    text: str
    source: int
    changed: bool = False
    after_gap: bool = False

    @property
    def low(self) -> str:
        return self.text.lower()


def neutral(caption: str) -> str:
    """The caption without words that say a gender; other words keep their case and spaces."""
    matches = list(_TOKEN.finditer(caption))
    words = neutral_words([match[0] for match in matches])
    if [word for word, _ in words] == [match[0] for match in matches]:
        return caption
    parts: list[str] = []
    last = -1
    for text, source in words:
        is_first_of_source = source != last
        gap = caption[matches[source - 1].end() if source else 0 : matches[source].start()]
        parts.append(
            (gap if is_first_of_source else " ") if parts else caption[: matches[0].start()]
        )
        parts.append(text)
        last = source
    tail = caption[matches[-1].end() :] if matches else ""
    text = "".join(parts) + tail
    start = matches[0].start()
    if caption[start : start + 1].isupper() and text[start : start + 1].islower():
        text = text[:start] + text[start].upper() + text[start + 1 :]
    return text


@lru_cache(maxsize=50_000)
def _is_gendered(word: str) -> bool:
    return word.lower() in GENDERED or word.lower().endswith(("woman", "women"))


def neutral_words(words: Sequence[str]) -> list[tuple[str, int]]:
    """A caption's words without those that say a gender, each with the place it stems from.

    Args:
        words: as the tokeniser cuts them, ``'s`` and ``n't`` by themselves; in any case.
    """
    found = [_Word(word, place) for place, word in enumerate(words)]
    if any(map(_is_gendered, words)):
        for change in (_phrases, _sexes, _nouns, _pronouns, _pairs, _others, _articles):
            found = change(found)
    return [(word.text, word.source) for word in found]


def _said(word: _Word, texts: Iterable[str]) -> list[_Word]:
    """New words in the place of one; the first has its capital."""
    texts = list(texts)
    if word.text[:1].isupper() and texts:
        texts[0] = texts[0][:1].upper() + texts[0][1:]
    return [replace(word, text=text, changed=True) for text in texts]


def _low(words: Sequence[_Word], place: int) -> str:
    """The word at a place in lower case; "" beyond the ends."""
    return words[place].low if 0 <= place < len(words) else ""


def ends_noun(low: str) -> bool:
    """Whether a noun can end before this word, in lower case; "" is the end."""
    if not low or not low[0].isalnum() or low in _FUNCTION:
        return True
    return (low.endswith("ing") and low not in _ING_NOUNS) or low.endswith("ed")


def _phrases(words: list[_Word]) -> list[_Word]:
    found: list[_Word] = []
    place = 0
    while place < len(words):
        for size in range(min(_LONGEST, len(words) - place), 1, -1):
            key = tuple(word.low.replace("’", "'") for word in words[place : place + size])
            if key in PHRASES:
                found += _said(words[place], PHRASES[key])
                place += size
                break
        else:
            found.append(words[place])
            place += 1
    return found


def _sexes(words: list[_Word]) -> list[_Word]:
    """ "male" and "female", and others that stand before what somebody does."""
    found: list[_Word] = []
    place, gap = 0, False
    while place < len(words):
        word, nexts = words[place], [_low(words, place + step) for step in (1, 2, 3)]
        skipped = 0
        if word.low in ("male", "female"):
            pair = nexts[0] in ("and", "or") and nexts[1] in ("male", "female")
            if pair and not ends_noun(nexts[2]):
                skipped = 3
            elif not ends_noun(nexts[0]) and not _is_one_and_acts(words, place):
                skipped = 1
                if found and found[-1].low == "all":  # "an all male band"
                    found.pop()
        elif word.low in NOUNS and NOUNS[word.low][0] in ("person", "people", "child", "children"):
            if nexts[0] in AFTER_ROLE:
                skipped = 1
            elif nexts[0] in ("'s", "'", "’s", "’") and nexts[1] in AFTER_ROLE:
                skipped = 2
        if skipped:
            place, gap = place + skipped, True
            continue
        found.append(replace(word, after_gap=True) if gap else word)
        place, gap = place + 1, False
    return found


def _is_one_and_acts(words: Sequence[_Word], place: int) -> bool:
    """Whether a word for one person has a verb after it, as in "a young female sits"."""
    after = _low(words, place + 1)
    if not after.endswith("s") or after.endswith("ss") or after in AFTER_ROLE:  # "tennis"
        return False
    before = [_low(words, back) for back in range(place - 1, max(place - 4, -1), -1)]
    return any(low in ("a", "an", "one", "another", "this") for low in before)


def _nouns(words: list[_Word]) -> list[_Word]:
    found: list[_Word] = []
    for place, word in enumerate(words):
        low = word.low
        if low in ("male", "female"):
            found += _said(word, ("person",))
        elif low in ("males", "females"):
            found += _said(word, ("people",))
        elif _is_verb(words, place):
            found.append(word)
        elif low in NOUNS:
            is_one = low in _ONE_OF and _is_after_a(words, place)
            found += _said(word, NOUNS[_ONE_OF[low] if is_one else low])
        elif low.endswith("woman") and low not in NOUNS:
            found += _said(word, (f"{low.removesuffix('woman')}person",))
        elif low.endswith("women"):
            found += _said(word, (f"{low.removesuffix('women')}people",))
        elif low in ("'", "’") and found and found[-1].changed and _low(words, place + 1).isalnum():
            is_irregular = not found[-1].low.endswith("s")
            found.append(replace(word, text=f"{low}s") if is_irregular else word)
        else:
            found.append(word)
    return found


def _is_verb(words: Sequence[_Word], place: int) -> bool:
    """Whether a word is a verb that looks like a noun: "grooms a horse", "mans the booth"."""
    low, before, after = words[place].low, _low(words, place - 1), _low(words, place + 1)
    if after not in _BEFORE_OBJECT:
        return False
    is_many = before in _SINGULARS or before in _ONE_OF or before in ("they", "who")
    return low in ("grooms", "mans") or (low == "man" and is_many)


def _is_after_a(words: Sequence[_Word], place: int) -> bool:
    """Whether "a" stands before a noun, perhaps with an adjective between: "a young women".

    Any other word may end what "a" begins: "in a field boys play".
    """
    before = _low(words, place - 1)
    if before == "a":  # "men an women" lacks a "d"
        return True
    is_of_one = before in OF_ONE or ("-" in before and before.endswith("ed"))  # "well-dressed"
    return is_of_one and _low(words, place - 2) in ("a", "an")


def _pronouns(words: list[_Word]) -> list[_Word]:
    found = list(words)
    for place, word in enumerate(words):
        low, after = word.low, _low(words, place + 1)
        if low in ("he", "she"):
            found[place] = _said(word, ("they",))[0]
            _agree(found, place)
        elif low == "him" or (low == "her" and _is_object(words, place)):
            found[place] = _said(word, ("them",))[0]
        elif low == "hers" or (low == "his" and _stands_alone(after)):
            found[place] = _said(word, ("theirs",))[0]
        elif low in ("his", "her"):
            found[place] = _said(word, ("their",))[0]
        elif low in ("himself", "herself"):
            found[place] = _said(word, ("themselves",))[0]
    return found


def _stands_alone(after: str) -> bool:
    return not after or not after[0].isalnum() or after in _FUNCTION


def _is_object(words: Sequence[_Word], place: int) -> bool:
    """Whether "her" is somebody, and not the owner of what follows."""
    before, after = _low(words, place - 1), _low(words, place + 1)
    if _stands_alone(after):
        return True
    if (before in _WATCH and after in _BARE_VERBS) or after in _THINGS:
        return True
    if not after.endswith("ing") or after in _ING_NOUNS:
        return False
    # "on her taking the picture", but "on her surfing board"
    is_verb = _stands_alone(_low(words, place + 2))
    return before in _BEFORE_SOMEBODY or (is_verb and before not in _BEFORE_THINGS)


def _agree(words: list[_Word], place: int) -> None:
    """Make the verb of a "they" that was "he" or "she" a plural one."""
    before = _low(words, place - 1)
    if (
        before in ("is", "was", "does", "has")
        and place >= 1
        and (place == 1 or _low(words, place - 2) in ("what", "where", "how", "why", "when", ","))
    ):
        words[place - 1] = _said(words[place - 1], (_AGREEING[before],))[0]
        return
    verb = place + 1
    while _low(words, verb) in _ADVERBS or _low(words, verb).endswith("ly"):
        verb += 1
    if verb >= len(words):
        return
    low = words[verb].low.replace("’", "'")
    if low == "'s":
        has = _low(words, verb + 1) in ("got", "been", "had")
        words[verb] = replace(words[verb], text="'ve" if has else "'re", changed=True)
        return
    plural = _plural_verb(low)
    if plural == low:
        return
    for place in (verb, *_further_verbs(words, verb)):
        if (plural := _plural_verb(words[place].low)) != words[place].low:
            words[place] = _said(words[place], (plural,))[0]


def _further_verbs(words: Sequence[_Word], verb: int) -> list[int]:
    """The places of the verbs listed after a verb, as in "he eats, drinks and sleeps"."""
    found = []
    place = verb + 1
    while _low(words, place) == "," and _low(words, place + 2) in (",", *_JOINING):
        found.append(place + 1)
        place += 2
    if found and _low(words, place) == ",":
        place += 1
    if _low(words, place) not in _JOINING or place + 1 >= len(words):
        return []
    # "he stands, arms and legs spread": nouns have a word of their own after them.
    return [*found, place + 1] if not found or _stands_alone(_low(words, place + 2)) else []


def _plural_verb(verb: str) -> str:
    """A verb of the third person as it is after "they"; any other word as it is."""
    if verb in _AGREEING:
        return _AGREEING[verb]
    if verb in _NOT_VERBS or not verb.endswith("s") or verb.endswith("ss") or not verb.isalpha():
        return verb
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    if verb.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return verb[:-2]
    return verb[:-1]


def _pairs(words: list[_Word]) -> list[_Word]:
    """ "a person and a person" is "two people", "people and people" is "people"."""
    found = list(words)
    place = 1
    while place < len(found) - 1:
        end = place + 2 if _low(found, place + 1) in ("a", "an") else place + 1
        first, is_or = found[place - 1], found[place].low == "or" and end < len(found)
        if is_or and first.changed and found[end].low == first.low:  # "a person or a person"
            found[place : end + 1] = []
            continue
        if found[place].low == "and" and (joined := _joined(found, place)) is not None:
            start, end, new = joined
            found[start:end] = new
            place = start
        place += 1
    return found


def _joined(words: Sequence[_Word], place: int) -> tuple[int, int, list[_Word]] | None:
    """What takes the place of the pair around the "and" at ``place``: (start, end, words)."""
    first = words[place - 1]
    second_at = place + 1
    article = _low(words, second_at)
    if article in ("a", "an", "the", "one", "another", *_NUMBERS):
        second_at += 1
    else:
        article = ""
    if second_at >= len(words):
        return None
    second = words[second_at]
    kind = _SINGULARS.get(first.low, first.low)
    if kind != _SINGULARS.get(second.low, second.low) or kind not in _PLURALS:
        return None
    if not (first.changed and second.changed):
        return None
    end, plural = second_at + 1, _PLURALS[kind]
    start, article_before = _beginning(words, place - 1)
    if article_before is None or _low(words, start - 1) == ",":
        return None
    between = list(words[start + bool(article_before) : place - 1])
    if between and article:  # each has its own words: "a young person and a person"
        return None
    numbers = [_count(article_before, first.low), _count(article, second.low)]
    many = replace(first, text=plural, changed=True)
    if None in numbers:
        both_bare = first.low in _SINGULARS and second.low in _SINGULARS and not article
        return (place - 1, end, [many]) if both_bare else None
    total = sum(number for number in numbers if number)
    if total > len(_NUMBERS):
        return None
    head = words[start] if article_before else first
    if article_before in _POSSESSIVES:
        return start, end, [head, *between, many]
    number = _said(replace(head, text=head.text), (_NUMBERS[total - 1],))[0]
    opening = [head, replace(number, text=number.low)] if article_before == "the" else [number]
    return start, end, [*opening, *between, many]


def _beginning(words: Sequence[_Word], noun: int) -> tuple[int, str | None]:
    """Where the words before a noun begin, and with which article; None if that is not clear."""
    for back in range(noun - 1, max(noun - 4, -1), -1):
        low = words[back].low
        if low in ("a", "an", "the", "one", *_NUMBERS, *_POSSESSIVES):
            return back, low
        if low in _BESIDES and back == noun - 1:
            return noun, ""
        if low in _FUNCTION or not low[0].isalpha() or low.endswith(("ing", "s")):
            return noun, None
    return (noun, "") if noun == 0 else (noun, None)


def _count(article: str, noun: str) -> int | None:
    """How many ``a person`` or ``two people`` are; None where nobody says."""
    if noun in _PLURALS:
        return 1
    return _NUMBERS.index(article) + 1 if article in _NUMBERS else None


def _others(words: list[_Word]) -> list[_Word]:
    """The second "a person" of a caption is "another person", as nothing tells them apart."""
    found, seen = list(words), set()
    for place, word in enumerate(words):
        if not word.changed or word.low not in _PLURALS:
            continue
        for back in range(place - 1, max(place - 4, -1), -1):
            low = words[back].low
            if low in ("a", "an"):
                phrase = tuple(other.low for other in words[back + 1 : place + 1])
                if phrase in seen:
                    found[back] = _said(words[back], ("another",))[0]
                seen.add(phrase)
                break
            if low in _FUNCTION or not low[0].isalpha():
                break
    return found


def _articles(words: list[_Word]) -> list[_Word]:
    """ "a" or "an", as the new word after it wants."""
    found = list(words)
    for place in range(len(words) - 1):
        word, after = words[place], words[place + 1]
        if word.low in ("a", "an") and (after.changed or after.after_gap):
            article = article_before(after.low)
            if article != word.low:
                found[place] = _said(word, (article,))[0]
    return found


def article_before(low: str) -> str:
    """ "a" or "an", as a word in lower case wants."""
    return "an" if low[0] in "aeiou" and not low.startswith(_NO_VOWEL_SOUND) else "a"
