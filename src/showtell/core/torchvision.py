"""Importing torchvision where its compiled operators do not fit the installed torch.

They load only beside the very build of torch that they were made for. A CPU build of torch beside
the package index's torchvision, which is made for CUDA, is common; there torchvision ends its own
import at the first operator that it describes (``operator torchvision::nms does not exist``). timm
and transformers import it for its transforms, and call no operator. With these operators declared
by name it can be imported; whoever calls one gets torchvision's own explanation.
"""

import re
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

OPERATORS = ("nms", "qnms")  # those that torchvision describes when it is imported
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: list[Any] = []  # operators live as long as the object that declares them


def make_torchvision_importable() -> None:
    """Import torchvision if it is installed; declare its operators if it cannot be otherwise.

    Raises:
        ImportError, RuntimeError, AttributeError, OSError: it cannot be imported in any case.
    """
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if not lacks_operators(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # parts of the import that failed
        _declare_operators()
        import_module("torchvision")


def lacks_operators(error: BaseException) -> bool:
    """Whether an error is torchvision's, of operators that could not be loaded."""
    return bool(re.search(r"operator torchvision::\w+ does not exist", str(error)))


def _declare_operators() -> None:
    torch: Any = import_module("torch")  # whose Library has no types
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}{SIGNATURE}")
    _declared.append(library)
