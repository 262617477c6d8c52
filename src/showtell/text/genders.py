"""English words that say whether somebody is male or female, and which of the two they say."""

from collections.abc import Iterable

GROUPS: dict[str, frozenset[str]] = {
    "man": frozenset({"man", "men", "guy", "guys", "gentleman", "gentlemen", "male", "males"}),
    "woman": frozenset({"woman", "women", "lady", "ladies", "female", "females"}),
    "boy": frozenset({"boy", "boys"}),
    "girl": frozenset({"girl", "girls"}),
}
"""Words for men, women, boys and girls that say nothing else of them."""

_MALE_ROLES = (
    "father fathers dad dads daddy grandfather grandfathers grandpa husband husbands son sons "
    "brother brothers uncle uncles boyfriend boyfriends groom grooms dude dudes businessman "
    "businessmen policeman policemen fireman firemen fisherman fishermen cowboy cowboys"
)
_FEMALE_ROLES = (
    "mother mothers mom moms mommy grandmother grandmothers grandma wife wives daughter daughters "
    "sister sisters aunt aunts girlfriend girlfriends bride brides gal gals businesswoman "
    "businesswomen policewoman policewomen cowgirl cowgirls actress actresses waitress waitresses"
)
WORDS: dict[str, frozenset[str]] = {
    "female": GROUPS["woman"] | GROUPS["girl"] | frozenset(_FEMALE_ROLES.split()),
    "male": GROUPS["man"] | GROUPS["boy"] | frozenset(_MALE_ROLES.split()),
}
"""Words for people of each gender."""


def genders(words: Iterable[str]) -> frozenset[str]:
    """The genders, "female" and "male", that words in lower case name."""
    said = frozenset(words)
    return frozenset(gender for gender, names in WORDS.items() if names & said)
