"""Where and how precisely to compute: chosen for the user, and said aloud with the reason.

Imports torch only inside functions, so that the command line can tune the allocator first and
answers ``--help`` at once. Knows nothing of models or data.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from showtell.collector import resume_collector
from showtell.errors import ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]

# Names of glibc's malloc.h for mallopt's first argument.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
LARGEST = 2**31 - 1

KERNELS_KEPT = 128


@dataclass(frozen=True, slots=True)
class Runtime:
    """A device, a precision and a number of threads, with the reasons for them.

    Attributes:
        device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``bf16`` where the device multiplies it faster than fp32, else ``fp32``.
        threads: Threads that torch computes with on the processor.
        device_reason: Why this device.
        precision_reason: Why this precision.
    """

    device: str
    precision: Precision
    threads: int
    device_reason: str
    precision_reason: str

    def describe(self) -> str:
        """One line for the user: what was chosen, and why."""
        return (
            f"Computing on {self.device} ({self.device_reason}), {self.precision} "
            f"({self.precision_reason}), {self.threads} thread{'s' * (self.threads != 1)}"
        )

    @property
    def dtype(self) -> "torch.dtype":
        """The type in which it computes: what large inputs had better be brought to at once."""
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """Within it, torch computes in bf16 what loses nothing by it; nothing where fp32."""
        if self.precision == "fp32":
            return nullcontext()
        import torch

        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """``autocast`` without gradients.

        By ``no_grad``: within torch's ``inference_mode`` autocast does not keep the weights that
        it has converted, and converts them again at every step of a search.
        """
        import torch

        with torch.no_grad(), self.autocast():
            yield


def choose_runtime(
    device: str = "auto", precision: str = "auto", *, threads: int | None = None
) -> Runtime:
    """Settle device and precision, ``auto`` being the fastest that this machine really has.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ..., or ``mps``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        threads: For torch on the processor; default: torch's own choice, one a core.

    Raises:
        ConfigError: no such device or precision, or the machine has none.
    """
    tune_allocator()
    import torch

    resume_collector()
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"threads = {threads}: expected 1 or more")
        torch.set_num_threads(threads)
    chosen, device_reason = _choose_device(device)
    kind, precision_reason = _choose_precision(precision, chosen)
    return Runtime(
        device=chosen,
        precision=kind,
        threads=torch.get_num_threads(),
        device_reason=device_reason,
        precision_reason=precision_reason,
    )


def set_seed(seed: int) -> None:
    """Seed torch's generators, on every device. Our own code draws from none but these."""
    import torch

    torch.manual_seed(seed)


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


def _choose_device(asked: str) -> tuple[str, str]:
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if asked == "auto":
        if has_cuda:
            return "cuda", torch.cuda.get_device_name()
        return ("mps", "Apple GPU") if has_mps else ("cpu", "no GPU that torch can use")
    kind, _, number = asked.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
        raise ConfigError(f"device {asked!r}: expected auto, cpu, cuda, cuda:NUMBER or mps")
    if (kind == "cuda" and not has_cuda) or (kind == "mps" and not has_mps):
        raise ConfigError(f"device {asked!r}: this torch finds none here; use auto or cpu")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise ConfigError(f"device {asked!r}: this machine has {torch.cuda.device_count()}")
    return asked, "as asked"


def _choose_precision(asked: str, device: str) -> tuple[Precision, str]:
    if asked == "fp32":
        return "fp32", "as asked"
    if asked == "bf16":
        return "bf16", "as asked"
    if asked != "auto":
        raise ConfigError(f"precision {asked!r}: expected auto, fp32 or bf16")
    reason = _bf16_support(device)
    if reason:
        return "bf16", reason
    return "fp32", f"this {'processor' if device == 'cpu' else 'GPU'} has no fast bf16"


def _bf16_support(device: str) -> str | None:
    """What makes bf16 fast on ``device``, or None where it would be emulated."""
    import torch

    if device.startswith("cuda"):
        has_it = torch.cuda.get_device_capability(torch.device(device)) >= (8, 0)
        return "the GPU has bf16 tensor cores" if has_it or torch.version.hip else None
    if device != "cpu":
        return None
    # Arm processors have bf16 too, but torch's kernels for it are not faster everywhere.
    if hasattr(torch.cpu, "get_capabilities"):
        has = dict(torch.cpu.get_capabilities())
    else:  # torch 2.6 to 2.8
        has = {
            "amx_bf16": torch.cpu._is_amx_tile_supported(),
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        }
    found = [name for name in ("amx_bf16", "avx512_bf16") if has.get(name)]
    return f"the processor has {found[0]}" if found else None
