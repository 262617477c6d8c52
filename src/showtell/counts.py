"""Numbers of things, as messages say them."""


def counted(number: int, noun: str, width: int = 0) -> str:
    """``1 picture``, ``1,200 pictures``; the number in ``width`` characters at least."""
    return f"{number:>{width},} {noun}" + ("" if number == 1 else "s")
