"""Python's garbage collector, kept from looking for garbage among what was just imported.

Importing torch makes half a million objects that stay to the end. Looking through them, while they
are made and once more when the process ends, is a third of the time of captioning one photo.
"""

import gc

_is_paused = False


def pause_collector() -> None:
    """Stop looking for garbage until ``resume_collector``; for a program's own start."""
    global _is_paused
    if gc.isenabled():
        gc.disable()
        _is_paused = True


def resume_collector() -> None:
    """Look again, but not at what is there already; nothing where it was not paused by us."""
    global _is_paused
    if _is_paused:
        gc.freeze()
        gc.enable()
        _is_paused = False


def leave_all() -> None:
    """The process ends now, and what it has need not be looked through for that."""
    gc.freeze()
