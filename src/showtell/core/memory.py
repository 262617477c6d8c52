"""Memory: how showtell's own programs tune the allocator and Python's garbage collector.

A library does not change its host, so importing showtell, loading a model or captioning pictures
changes neither. The command line (with the server) and Ray's actors call ``tune_process`` first;
a program that uses showtell as a library does not.

The allocator: torch allocates its feature maps anew at every step. glibc maps fresh pages for
them each time, and clearing those takes a third of an encoder's time on a processor
(``benchmarks/features.py`` measures it), so freed memory is kept. Now and then it is handed back
(``give_back_memory``), as the pieces in which it is kept grow while batches differ.

The garbage collector: importing torch makes half a million objects that stay. The collector would
scan them while they are made, and again when the process ends, which takes a third of the time of
captioning one photo.
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

# Python looks for garbage after 700 new objects, and ten times more seldom among older ones.
NEW_OBJECTS = 100_000
OLDER_GENERATIONS = (20, 20)

KERNELS = 128

_keeps_freed_memory = False


def tune_process() -> None:
    """Tune this whole process for showtell; for a program's first line, never for the library.

    Sets the allocator, oneDNN's cache and the garbage collector's thresholds. Imports no torch.
    """
    tune_allocator()
    bound_kernel_cache()
    gc.set_threshold(NEW_OBJECTS, *OLDER_GENERATIONS)


def tune_allocator() -> bool:
    """Have glibc keep freed memory, instead of handing each large block back to the system.

    Holds for what is allocated after the call, so it may come before or after torch is imported.
    The price: memory at its peak is kept until ``give_back_memory``.

    Returns:
        Whether it was done; False on systems without glibc, where nothing is changed.
    """
    global _keeps_freed_memory
    libc = _glibc()
    if libc is None:
        return False
    mallopt = libc.mallopt
    # Otherwise each thread that decodes pictures keeps what it freed for itself.
    mallopt(M_ARENA_MAX, 1)
    # Up to glibc 2.34 a threshold above 32 MiB is refused; then 32 MiB is better than nothing.
    is_set = mallopt(M_MMAP_THRESHOLD, LARGEST) or mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
    _keeps_freed_memory = bool(is_set and mallopt(M_TRIM_THRESHOLD, LARGEST))
    return _keeps_freed_memory


def give_back_memory() -> None:
    """Hand freed memory back to the system, if ``tune_allocator`` has it kept; else do nothing.

    Meant for once in some hundreds of pictures.
    """
    if _keeps_freed_memory and (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def bound_kernel_cache() -> None:
    """Have oneDNN keep 128 compiled kernels instead of 1,024, by an environment variable.

    oneDNN compiles a kernel for each shape. An encoder has about 70, which stay. A search has ever
    new ones, as captions end and grow; they are hardly met again and take 100 kB each, so
    captioning thousands of pictures in bf16 would grow by 100 MB. Compiling them again costs next
    to nothing. The call must come before torch's first convolution; a value that the user has set
    is kept.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


@contextmanager
def paused_collector() -> Iterator[None]:
    """Turn the garbage collector off for a while; for short work whose objects have no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def freeze_garbage_collector() -> None:
    """Leave all objects that exist out of garbage collections; for a process that ends now."""
    gc.freeze()


def _glibc() -> ctypes.CDLL | None:
    """The system's C library where it is glibc; musl, for one, has no such settings."""
    if sys.platform != "linux":
        return None
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return None
    except (OSError, ValueError):
        return None
    return ctypes.CDLL(None)
