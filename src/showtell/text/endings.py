"""Words that end a caption only where it was cut short.

Metrics count the captions that end so; decoding can forbid it. The list is that of Luo's
self-critical.pytorch (``bad_endings``).
"""

_BAD_ENDINGS = "a an the in for at of with before after on upon near to is are am"
BAD_ENDINGS = frozenset(_BAD_ENDINGS.split())
"""Articles, prepositions and forms of "to be"."""
