"""Processes that start at once: each is a fork of a process that has imported torch already.

That process has never run a thread of torch, so a fork of it is safe; one of pytest's own would
not be.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch", "torch._dynamo", "showtell.training.request", "showtell.training.loop"]
)


def start(
    function: Callable[..., object], *arguments: object, output: Path, **environment: object
) -> BaseProcess:
    """Call ``function`` in a process of its own; what it prints goes to the end of ``output``.

    ``function`` and ``arguments`` are pickled, so the function is one of a module in tests/.
    """
    variables = {name: str(value) for name, value in environment.items()}
    arguments = (function, arguments, output, variables)
    process = _CONTEXT.Process(target=_call, args=arguments, daemon=True)
    process.start()
    return process


def _call(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    output: Path,
    variables: dict[str, str],
) -> None:
    os.environ.update(variables)
    with open(output, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    function(*arguments)
