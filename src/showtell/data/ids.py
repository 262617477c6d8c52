"""Image ids as people write them.

COCO numbers its pictures, and programs rewrite the numbers: pandas makes ``139.0`` of 139 where a
column has a gap, others pad it (``000000000139``) or take the name of the file
(``COCO_val2014_000000000139.jpg``). All of these name one picture.
"""

import re
from collections.abc import Iterable

_NUMBER = re.compile(
    r"(?:COCO_[a-z]+\d{4}_)?0*(?P<number>\d{1,18})(?:\.0+|\.jpe?g|\.png)?", re.IGNORECASE
)


def id_text(value: object) -> str | None:
    """An id as text, ``"139"`` for 139 and for 139.0; None where the value cannot be an id."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def id_number(image_id: str) -> str | None:
    """The number that an id is a spelling of, without leading zeros; None where it is none."""
    match = _NUMBER.fullmatch(image_id)
    return match["number"] if match else None


class IdNumbers:
    """Finds the known id that another spelling of its number means.

    Args:
        known: All ids of a data set.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._by_number: dict[str, list[str]] = {}
        for image_id in known:
            number = id_number(image_id)
            if number is not None:
                self._by_number.setdefault(number, []).append(image_id)

    def find(self, spelling: str) -> list[str]:
        """The known ids of this number: one, none, or several where the spelling is ambiguous."""
        number = id_number(spelling)
        return self._by_number.get(number, []) if number is not None else []
