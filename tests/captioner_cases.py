"""One small captioner of every kind, for the contract that all of them keep.

A new kind of captioner adds a function to ``CASES``; ``test_contract.py`` then visits it.
"""

from collections.abc import Callable
from pathlib import Path

import tiny_hf
from rogue_server import RogueServer, words_of
from tiny_export import exported, native

import showtell
from showtell import Captioner

ATTENDING = {"embed_size": 16, "hidden_size": 16, "attention_size": 8}


def _native(folder: Path) -> Captioner:
    return native("attention", ATTENDING)


def _onnx(folder: Path) -> Captioner:
    exported("attention", ATTENDING, folder / "model")
    return showtell.load(folder / "model", device="cpu")


def _hf(kind: str) -> Callable[[Path], Captioner]:
    def load(folder: Path) -> Captioner:
        saved = tiny_hf.save_captioner(kind, folder / kind)
        return showtell.load(f"hf:{saved}", device="cpu", precision="fp32")

    return load


def _server(kind: str) -> Callable[[Path], Captioner]:
    def load(folder: Path) -> Captioner:
        server = RogueServer()
        server.describe = words_of
        _SERVERS.append(server)
        settings = {"base_url": server.url, "concurrency": 2, "retries": 0}
        return showtell.load(f"{kind}:tiny", settings=settings)

    return load


_SERVERS: list[RogueServer] = []  # which live as long as the captioners that ask them


CASES: dict[str, Callable[[Path], Captioner]] = {
    "native": _native,
    "onnx": _onnx,
    **{f"hf {kind}": _hf(kind) for kind in tiny_hf.KINDS},
    "openai": _server("openai"),
    "ollama": _server("ollama"),
}
