"""The device and the precision to compute with, chosen for the user and reported with the reason.

torch is imported only inside functions, so that the command line can import this module and still
answer ``--help`` at once.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from showtell.core.messages import counted
from showtell.errors import ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]


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
    import torch

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
        gpus = counted(torch.cuda.device_count(), "GPU")
        raise ConfigError(f"device {asked!r}: this machine has {gpus}")
    return asked, "as asked"


def _choose_precision(asked: str, device: str) -> tuple[Precision, str]:
    if asked == "fp32":
        return "fp32", "as asked"
    if asked not in ("auto", "bf16"):
        raise ConfigError(f"precision {asked!r}: expected auto, fp32 or bf16")
    support = _bf16_support(device)
    lack = f"this {'processor' if device == 'cpu' else 'GPU'} has no fast bf16"
    if asked == "bf16":
        return "bf16", "as asked" if support else f"as asked, though {lack}"
    return ("bf16", support) if support else ("fp32", lack)


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
