"""Python's garbage collector, kept from looking for garbage where much is made and all of it stays.

Importing torch makes half a million objects, and so does reading a large data set. Looking through
them as they are made, and once more when the process ends, is a third of the time of captioning
one photo.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_awaits_runtime = False


@contextmanager
def paused_collector(*, all_stays: bool = False) -> Iterator[None]:
    """No garbage is looked for within it; for work that makes none, and is soon done.

    Args:
        all_stays: what is there in the end stays as long as the program runs, as a run's data do,
            and is not looked through later, either.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if all_stays:
            gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def pause_collector() -> None:
    """Look for no garbage until ``resume_collector``; for a program's own start."""
    global _awaits_runtime
    if gc.isenabled():
        gc.disable()
        _awaits_runtime = True


def resume_collector() -> None:
    """Look again, but not at what is there already; nothing where it was not paused by us."""
    global _awaits_runtime
    if _awaits_runtime:
        gc.freeze()
        gc.enable()
        _awaits_runtime = False


def leave_all() -> None:
    """The process ends now, and what it has need not be looked through for that."""
    gc.freeze()
