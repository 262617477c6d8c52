"""Python's garbage collector, kept from looking for garbage where much is made and all of it stays.

Importing torch makes half a million objects, and so does reading a large data set. Looking through
them as they are made, and once more when the process ends, is a third of the time of captioning
one photo.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Names of glibc's malloc.h for mallopt's first argument.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
LARGEST = 2**31 - 1

KERNELS_KEPT = 128


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


def tune_allocator() -> bool:
    """Have glibc keep freed memory, instead of handing each large block back to the system.

    Torch allocates its feature maps anew at every step; without this, glibc maps fresh pages
    for them each time, and clearing those takes a third of an encoder's time on a processor, more
    on several cores (``benchmarks/features.py`` measures it). Holds for what is allocated after
    the call, so it may come before or after torch is imported. The price: memory at its peak is
    kept until the process ends.

    Returns:
        Whether it was done; False on systems without glibc, where nothing is changed.
    """
    libc = _glibc()
    if libc is None:
        return False
    mallopt = libc.mallopt
    # Otherwise each thread that decodes pictures keeps what it freed for itself.
    mallopt(M_ARENA_MAX, 1)
    # Up to glibc 2.34 a threshold above 32 MiB is refused; then 32 MiB is better than nothing.
    is_set = mallopt(M_MMAP_THRESHOLD, LARGEST) or mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
    return bool(is_set and mallopt(M_TRIM_THRESHOLD, LARGEST))


def give_back_memory() -> None:
    """Hand what was freed back to the system; it is asked for anew when it is needed.

    ``tune_allocator`` has it kept, and the pieces in which it is kept grow for as long as batches
    differ from those before. Meant for once in some hundreds of pictures.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The system's C library where it is glibc; musl, say, has no such settings."""
    if sys.platform != "linux":
        return None
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return None
    except (OSError, ValueError):
        return None
    return ctypes.CDLL(None)


def bound_kernel_cache() -> None:
    """Have oneDNN keep 128 compiled kernels instead of 1,024.

    It compiles one for each shape. An encoder has about 70, which stay; a search has ever new ones,
    as captions end and grow, which are hardly met again and take 100 kB each: captioning thousands
    of pictures in bf16 would go on growing by 100 MB. Compiling them again costs next to nothing.
    Holds if it comes before torch's first convolution, and unless the user has said otherwise.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
