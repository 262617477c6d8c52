"""From an exception to one line on standard error and an exit code."""

import errno
import sys

from showtell.errors import SaidElsewhereError, ShowtellError
from showtell.files import CannotWriteError

FAILED = 1
BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


def exit_code_for(error: Exception) -> int:
    """Print what went wrong in one line; give the code to exit with."""
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # else Python complains once more while it ends
        return BROKEN_PIPE
    if isinstance(error, SaidElsewhereError):
        return FAILED
    if isinstance(error, ShowtellError):
        say(str(error))
    elif isinstance(error, OSError):
        say(_describe_os_error(error))
    else:
        say(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())} "
            "(a bug in showtell; --debug shows where)"
        )
    return FAILED


def say(text: str) -> None:
    """One line on standard error."""
    print(f"error: {text}", file=sys.stderr)


def _describe_os_error(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return f"the disk is full{where}; free some space and run the same command again"
    if isinstance(error, CannotWriteError):
        return f"cannot write {error.filename}: {reason}"
    return f"{reason}{where}"
