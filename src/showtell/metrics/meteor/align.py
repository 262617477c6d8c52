"""METEOR 1.5's alignment of a hypothesis with a reference (Denkowski and Lavie 2014, section 2).

All matches by exact word, stem, synonym and paraphrase are candidates. A beam search over the words
of the reference uses each word in at most one match. It prefers more matched words, then fewer
chunks, then matches at nearer positions. It does three things as the original program does, found
by comparing alignments:

- A match counts its weight times its words on each side, cut to a whole number. A match of two
  single words by stem or paraphrase therefore adds nothing to the number that the search maximises.
- A match that shares no word with another is fixed beforehand, so such matches are found all the
  same. Where two matches share the same words, neither is fixed.
- The distance of a candidate is added to the path it continues, not to the path that contains it.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from showtell.metrics.meteor.words import Lexicon, Phrases, Span

WEIGHTS = (1.0, 0.6, 0.8, 0.6)
"""Weights of exact, stem, synonym and paraphrase matches (section 3, English)."""

_BEAM_SIZE = 40


Match = tuple[int, int, int, int, int]
"""Position and number of words in the reference, the same in the hypothesis, module.

A plain tuple, because there are millions of them.
"""


class Sentence(NamedTuple):
    """A normalised sentence, with what matching and counting need.

    Attributes:
        words: of the sentence.
        phrases: where its phrases with paraphrases on the other side are.
        is_function: which words are function words.
    """

    words: list[str]
    phrases: Phrases
    is_function: list[bool]


def find_matches(
    hypothesis: Sentence, references: Sequence[Sentence], lexicon: Lexicon
) -> list[list[Match]]:
    """All candidate matches with each reference.

    They are in the original program's order, which decides between equal alignments.
    """
    places: dict[str, list[int]] = {}
    stems: dict[str, list[int]] = {}
    for place, word in enumerate(hypothesis.words):
        places.setdefault(word, []).append(place)
        stems.setdefault(lexicon.stems[word], []).append(place)
    found = []
    for reference in references:
        matches = _word_matches(hypothesis.words, reference.words, places, stems, lexicon)
        sides = hypothesis.phrases, reference.phrases
        matches += [
            (*span, *other, 3)
            for span, _, other in _paraphrases(sides[1], sides[0], lexicon.paraphrases[1])
        ]
        matches += [
            (*other, *span, 3)
            for span, _, other in _paraphrases(sides[0], sides[1], lexicon.paraphrases[0])
        ]
        found.append(matches)
    return found


def _word_matches(
    words: list[str],
    reference: list[str],
    places: dict[str, list[int]],
    stems: dict[str, list[int]],
    lexicon: Lexicon,
) -> list[Match]:
    """Matches of single words: the same, of the same stem, synonyms."""
    exact: list[Match] = []
    stem: list[Match] = []
    synonym: list[Match] = []
    all_stems, all_synonyms = lexicon.stems, lexicon.synonyms
    for place, word in enumerate(reference):
        if word in places:
            for i in places[word]:
                exact.append((place, 1, i, 1, 0))
        for i in stems.get(all_stems[word], ()):
            if words[i] != word:
                stem.append((place, 1, i, 1, 1))
        synonyms = all_synonyms[word]
        if synonyms and not synonyms.isdisjoint(places):
            for i in sorted(i for other in synonyms & places.keys() for i in places[other]):
                synonym.append((place, 1, i, 1, 2))
    return exact + stem + synonym


def _paraphrases(
    one: Phrases, two: Phrases, paraphrases: dict[int, dict[int, int]]
) -> list[tuple[Span, int, Span]]:
    """Phrases of ``one`` listed in the table with a paraphrase that ``two`` has.

    By place in ``one``, by length, and in the table's order: (span in ``one``, rank, span in
    ``two``).
    """
    found = []
    there = two.keys()
    for phrase, spans in one.items():
        if phrase in paraphrases and not there.isdisjoint(paraphrases[phrase]):
            listed = paraphrases[phrase]
            for paraphrase in listed.keys() & there:
                rank = listed[paraphrase]
                found += [(span, rank, other) for span in spans for other in two[paraphrase]]
    if len(found) > 1:
        found.sort()
    return found


def align(
    num_words: int, num_hypothesis_words: int, matches: list[Match]
) -> tuple[list[Match], int]:
    """The chosen matches, by place in the reference, and how many chunks they make.

    Args:
        num_words: of the reference.
        num_hypothesis_words: of the hypothesis.
        matches: from ``find_matches``.
    """
    covers = [0] * num_words
    hypothesis_covers = [0] * num_hypothesis_words
    for r, m, h, n, _ in matches:
        for place in range(r, r + m):
            covers[place] += 1
        for place in range(h, h + n):
            hypothesis_covers[place] += 1
    fixed: dict[int, Match] = {}
    for match in matches:
        r, m, h, n, _ = match
        if covers[r] == hypothesis_covers[h] == 1 and (
            m == n == 1
            or (covers[r : r + m] == [1] * m and hypothesis_covers[h : h + n] == [1] * n)
        ):
            fixed[r] = match
    if len(fixed) == len(matches):
        chosen = [fixed[place] for place in sorted(fixed)]
        return chosen, _count_chunks(chosen)
    starting: list[list[Match]] = [[] for _ in range(num_words)]
    for match in matches:
        starting[match[0]].append(match)
    return _search(starting, fixed)


def _count_chunks(chosen: list[Match]) -> int:
    chunks = end = hypothesis_end = 0
    for number, (r, m, h, n, _) in enumerate(chosen):
        if not number or r != end or h != hypothesis_end:
            chunks += 1
        end, hypothesis_end = r + m, h + n
    return chunks


# A path: its rank, where its last match ends in the hypothesis (-1: the word before is not
# matched), bits of the words used in the reference and in the hypothesis, and the matches chosen,
# the last first, as nested pairs. The rank is one number to sort by, the smallest first: matched
# words (negative), chunks and distance, each in bits of its own.
_Chosen = tuple["_Chosen", Match] | None
_Path = tuple[int, int, int, int, _Chosen]
_CHUNK = 1 << 32
_WORD = 1 << 48

_rank = itemgetter(0)


def _search(starting: list[list[Match]], fixed: dict[int, Match]) -> tuple[list[Match], int]:
    used = hypothesis_used = 0
    for r, m, h, n, _ in fixed.values():
        used |= ((1 << m) - 1) << r
        hypothesis_used |= ((1 << n) - 1) << h
    paths: list[_Path] = [(0, -1, used, hypothesis_used, None)]
    for place, matches in enumerate(starting):
        if len(paths) > 1:
            paths.sort(key=_rank)
            del paths[_BEAM_SIZE:]
        if place in fixed:
            match, gain = fixed[place], _gain(fixed[place])
            paths = [_take(path, match, gain, path[2], path[3]) for path in paths]
        elif matches:
            options = [(*_bits(match), _gain(match), match) for match in matches]
            paths = [grown for path in paths for grown in _grow(path, place, options)]
        else:
            paths = [
                path if path[1] == -1 or path[2] >> place & 1 else _skip(path) for path in paths
            ]
    paths.sort(key=_rank)
    # The last chunk of a path is counted when the path ends, and paths are compared after that.
    del paths[_BEAM_SIZE:]
    best = min((_skip(path) for path in paths), key=_rank)
    chosen: list[Match] = []
    rest = best[4]
    while rest is not None:
        rest, match = rest
        chosen.append(match)
    return chosen[::-1], best[0] % _WORD // _CHUNK


def _gain(match: Match) -> int:
    """What a match adds to the words matched, in the units of a rank."""
    _, m, _, n, module = match
    weight = WEIGHTS[module]
    return (int(weight * m) + int(weight * n)) * _WORD


def _bits(match: Match) -> tuple[int, int]:
    """The words that a match takes in the reference and in the hypothesis."""
    r, m, h, n, _ = match
    return ((1 << m) - 1) << r, ((1 << n) - 1) << h


def _take(path: _Path, match: Match, gain: int, used: int, hypothesis_used: int) -> _Path:
    """The path with a match."""
    rank, end, _, _, chosen = path
    if end not in (-1, match[2]):
        rank += _CHUNK
    return rank - gain, match[2] + match[3], used, hypothesis_used, (chosen, match)


def _skip(path: _Path) -> _Path:
    """The path with its next word unmatched, so that its chunk ends there."""
    rank, end, used, hypothesis_used, chosen = path
    return (rank if end == -1 else rank + _CHUNK), -1, used, hypothesis_used, chosen


def _grow(path: _Path, place: int, options: list[tuple[int, int, int, Match]]) -> list[_Path]:
    """The path with each match that begins at ``place``, and without."""
    rank, end, used, hypothesis_used, chosen = path
    if used >> place & 1:
        return [path]
    grown = []
    for bits, hypothesis_bits, gain, match in options:
        if not (used & bits or hypothesis_used & hypothesis_bits):
            path = (rank, end, used, hypothesis_used, chosen)
            grown.append(_take(path, match, gain, used | bits, hypothesis_used | hypothesis_bits))
            rank += abs(match[0] - match[2])
    grown.append(_skip((rank, end, used, hypothesis_used, chosen)))
    return grown
