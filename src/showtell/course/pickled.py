"""Read the notebook's ``vocab.pkl`` without unpickling it.

``pickle`` runs what a file asks for. Here a small machine reads the file's instructions
(``pickletools`` names them) and follows only those that make plain containers, texts and numbers,
and one object of the notebook's class ``Vocabulary``, whose attributes become a dictionary. No
class is imported and nothing of the file is called. Any other instruction is refused.
"""

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from showtell.core.files import read_bounded
from showtell.errors import VocabularyError, one_line

MOST_BYTES = 20_000_000  # of the file; the notebook's own has 0.3 MB
# Where courses and tutorials define the class: the module's last name does not matter.
MODULES = frozenset({"vocabulary", "build_vocab", "__main__", "data_loader", "vocab"})
CLASS = "Vocabulary"

_LITERALS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_TEXTS = "BINUNICODE SHORT_BINUNICODE BINUNICODE8 UNICODE STRING BINSTRING SHORT_BINSTRING"
_NUMBERS = "BININT BININT1 BININT2 INT LONG1 BINFLOAT FLOAT"
_VALUES = frozenset(_TEXTS.split()) | frozenset(_NUMBERS.split())
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_OBJECT_IN_PROTOCOL_1 = (
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    ("__builtin__", "object"),
    ("builtins", "object"),
)


class _Mark:
    """Where a run of values begins on the stack."""


class _Name(tuple[str, str]):
    """A module and a name in it, which is never looked up."""

    __slots__ = ()


class _Object(dict[str, Any]):
    """The one object: its attributes."""


def read_pickled_vocabulary(path: Path) -> dict[str, Any]:
    """The attributes of the ``Vocabulary`` in a pickle: ``word2idx``, ``idx2word`` and others.

    Raises:
        VocabularyError: it is no such file, or asks for anything else to be made or run.
    """
    try:
        data = read_bounded(path, MOST_BYTES)
    except FileNotFoundError:
        raise VocabularyError(f"no vocabulary {path}: expected the notebook's vocab.pkl") from None
    except (OSError, ValueError) as error:
        raise VocabularyError(f"cannot read {path}: {error}") from None
    try:
        found = _Machine().run(data)
    except VocabularyError as error:
        raise VocabularyError(
            f"{path} is refused, and nothing in it was run: {error}; expected the notebook's "
            f"vocab.pkl, a pickled {CLASS} of dictionaries"
        ) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VocabularyError(f"{path} is not a pickled {CLASS}: {one_line(error, 200)}") from None
    if isinstance(found, dict) and not isinstance(found, _Object) and "word2idx" in found:
        return found  # as `showtell export --format notebook` and careful people write it
    if isinstance(found, dict) and not isinstance(found, _Object):
        return {"word2idx": found}
    if not isinstance(found, _Object):
        raise VocabularyError(f"{path} holds a {type(found).__name__}, not a {CLASS}")
    return dict(found)


class _Machine:
    """A pickle's stack and memo, with the few instructions that are followed."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The object that ``data`` describes.

        Raises:
            VocabularyError: it has an instruction that is not followed.
        """
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(_LITERALS[name]())
            elif name in _VALUES:
                self.stack.append(argument)
            elif name in _PUTS:
                self.memo[int(argument or 0)] = self.stack[-1]
            elif name in _GETS:
                self.stack.append(self.memo[int(argument or 0)])
            elif name not in ("PROTO", "FRAME"):
                self._step(name, argument)
        raise ValueError("it has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "MARK":
                stack.append(_Mark())
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set_items([key, value])
            case "SETITEMS" | "DICT":
                items = self._since_mark()
                if name == "DICT":
                    stack.append({})
                self._set_items(items)
            case "APPEND":
                value = stack.pop()
                self._of_kind(list).append(value)
            case "APPENDS":
                items = self._since_mark()
                self._of_kind(list).extend(items)
            case "ADDITEMS":
                items = self._since_mark()
                self._of_kind(set).update(map(_key, items))
            case "LIST":
                stack.append(self._since_mark())
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                values = stack[-count:]
                if len(values) < count:
                    raise ValueError("its stack is empty")
                stack[-count:] = [tuple(values)]
            case "GLOBAL" | "STACK_GLOBAL":
                self._name(name, argument)
            case "NEWOBJ" | "REDUCE":
                self._make(name)
            case "BUILD":
                self._build()
            case _:
                raise VocabularyError(f"it has the instruction {name}, which no vocabulary needs")

    def _since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while not isinstance(self.stack[place], _Mark):
            place -= 1
            if place < 0:
                raise ValueError("a run of values has no beginning")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _of_kind(self, kind: type[Any]) -> Any:
        if type(self.stack[-1]) is not kind:
            raise VocabularyError(
                f"it fills a {type(self.stack[-1]).__name__} as a {kind.__name__}"
            )
        return self.stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self._of_kind(dict)
        if len(items) % 2:
            raise ValueError("a dictionary has a key without a value")
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _name(self, opcode: str, argument: Any) -> None:
        if opcode == "GLOBAL":
            module, _, name = str(argument).partition(" ")
        else:
            name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it names a class by something that is not text")
        is_vocabulary = name == CLASS and module.rpartition(".")[2] in MODULES
        if not is_vocabulary and (module, name) not in _OBJECT_IN_PROTOCOL_1:
            raise VocabularyError(f"it asks for {module[:60]}.{name[:60]}")
        self.stack.append(_Name((module, name)))

    def _make(self, opcode: str) -> None:
        """An object of the class, made without arguments as pickle makes it."""
        arguments, made = self.stack.pop(), self.stack.pop()
        if not isinstance(made, _Name) or not isinstance(arguments, tuple):
            raise VocabularyError(f"it calls a {type(made).__name__}")
        if opcode == "REDUCE" and made[1] == "_reconstructor":
            first, base, state = arguments
            if not isinstance(first, _Name) or not isinstance(base, _Name) or state is not None:
                raise VocabularyError("it makes an object in a way of its own")
            made, arguments = first, ()
        if made[1] != CLASS or arguments:
            raise VocabularyError(f"it calls {made[0]}.{made[1]} with arguments")
        self.stack.append(_Object())

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Object) or type(state) is not dict:
            raise VocabularyError(f"it gives attributes to a {type(target).__name__}")
        if not all(isinstance(key, str) for key in state):
            raise VocabularyError("an attribute's name is not text")
        target.update(state)


def _key(value: Any) -> Any:
    if not isinstance(value, (str, int, float)):
        raise VocabularyError(f"a dictionary's key is a {type(value).__name__}")
    return value
