"""How the tokens of a vocabulary spell words: what each id is in a text.

Decoding looks here for what tokens a word can be said with. Knows nothing of how the tokens came
about.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spelling:
    """The text of each id.

    Attributes:
        texts: by id, without any marker; "" for the special ones.
        starts: by id, whether it begins a new word.
        in_bytes: whether ``texts`` are bytes of UTF-8, each as the latin-1 character of its value,
            as a piece of a word may end within a character.
    """

    texts: tuple[str, ...]
    starts: tuple[bool, ...]
    in_bytes: bool = False

    def spell(self, word: str) -> str:
        """What the texts of a word's tokens, one after the other, are equal to."""
        return word.encode().decode("latin-1") if self.in_bytes else word
