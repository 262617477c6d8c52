"""Stages that are made once, each noted with what it was made of.

``stages.json`` has a key for each finished stage, which stands for all of its inputs and for the
keys of the stages before it. A later call takes a stage as made while its inputs are the same. If
they are not, it says which one differs: nothing is thrown away without being asked for
(``Stages.forget``). A stage that was stopped has no note, and goes on with what it left. One with
failures that may pass (``MAY_PASS``) goes on, too, where no later stage follows from it yet.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from showtell.config.toml import flatten
from showtell.core.files import json_digest, read_json, write_json
from showtell.core.progress import Reporter
from showtell.errors import CheckpointError, UsageError, unknown_name
from showtell.training.run_folder import names_in

NOTES = "stages.json"
MOST_NOTES = 2**24  # bytes
MAY_PASS = "may pass"
"""Under this name a stage has the number of failures that a later call may not meet again."""

Values = dict[str, Any]


class Stages:
    """The folder of a run with its stages.

    Args:
        names: of all stages, in their order; each has a folder of its name.

    Raises:
        CheckpointError: ``folder`` has something else in it, or its notes cannot be read.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], report: Reporter) -> None:
        self.folder, self.names, self.report = folder, names, report
        self.notes = self._read()

    def folder_of(self, name: str) -> Path:
        """Where a stage's files are."""
        return self.folder / name

    def make(
        self,
        name: str,
        made_of: Values,
        work: Callable[[Path], Values | None],
        *,
        growing: str | None = None,
    ) -> Values | None:
        """What a stage found, from its note or by making it.

        Args:
            made_of: all that it follows from but the stages before it.
            work: makes the stage in its folder; None where it was stopped.
            growing: what of ``made_of`` only adds to what the stage has. Where nothing else has
                changed, and no later stage follows from it, it goes on by itself.

        Returns:
            What ``work`` returned, now or then; None where it was stopped.

        Raises:
            CheckpointError: it was made of something else.
        """
        place = self.names.index(name)
        made_of = json.loads(json.dumps(made_of))  # as the note has it
        before = [self.notes[other]["key"] for other in self.names[:place] if other in self.notes]
        title = f"{place + 1} of {len(self.names)}, {name}"
        key = json_digest([before, made_of])
        note = self.notes.get(name)
        if note and (
            self._has_grown(name, note, made_of, before, growing)
            or self._may_find_more(name, note, made_of, before)
        ):
            note = None
        if note:
            self._check(name, note, made_of, before)
            self.report.note(f"{title}: made before ({note['seconds']:,.0f} s)")
            found: Values = note["found"]
            return found
        self.report.note(title)
        folder = self.folder_of(name)
        folder.mkdir(parents=True, exist_ok=True)
        self._begin(name, key)
        started = time.perf_counter()
        result = work(folder)
        if result is None:
            self._count(name, started)
            return None
        seconds = self._count(name, started)
        self.notes[name] = {
            "key": key,
            "before": before,
            "made_of": made_of,
            "seconds": round(seconds, 1),
            "found": result,
        }
        self.begun.pop(name, None)
        self._write()
        return result

    def forget(self, name: str) -> None:
        """Take a stage away, and all after it; what a teacher has said stays where it can.

        Raises:
            UsageError: there is no such stage.
        """
        if name not in self.names:
            raise UsageError(f"--again: {unknown_name('stage', name, self.names)}")
        for later in self.names[self.names.index(name) :]:
            self.notes.pop(later, None)
            self.begun.pop(later, None)
            if later not in KEPT or later == name == "captions":
                shutil.rmtree(self.folder_of(later), ignore_errors=True)
        self._write()

    def seconds(self) -> dict[str, float]:
        """How long each finished stage took."""
        return {name: note["seconds"] for name, note in self.notes.items()}

    def _has_grown(
        self, name: str, note: Values, made_of: Values, before: list[str], growing: str | None
    ) -> bool:
        """Whether a finished stage has to go on, and only because of ``growing``.

        Raises:
            CheckpointError: it has, and later stages were made from what it had before.
        """
        theirs, ours = ({**one, growing: None} for one in (note["made_of"], made_of))
        if growing is None or note["made_of"] == made_of:
            return False
        if theirs != ours or note["before"] != before:
            return False
        if later := self._made_after(name):
            reason = "; ".join(_differences(note["made_of"], made_of))
            raise CheckpointError(
                f"{self.folder_of(later[0])} was made from something else: {reason}; give the "
                f"original inputs, or redo it and the stages after it with --again {later[0]}, "
                f"which keeps {self.folder_of(name)}"
            )
        return True

    def _may_find_more(self, name: str, note: Values, made_of: Values, before: list[str]) -> bool:
        """Whether a finished stage goes on by itself, because of failures that may pass."""
        is_same = note["made_of"] == made_of and note["before"] == before
        return is_same and bool(note["found"].get(MAY_PASS)) and not self._made_after(name)

    def _made_after(self, name: str) -> list[str]:
        """The finished stages behind one."""
        return [one for one in self.names[self.names.index(name) + 1 :] if one in self.notes]

    def _check(self, name: str, note: Values, made_of: Values, before: list[str]) -> None:
        different = list(_differences(note["made_of"], made_of))
        if not different and note["before"] == before:
            return
        reason = "; ".join(different) or "a stage before it was made anew"
        raise CheckpointError(
            f"{self.folder_of(name)} was made from something else: {reason}; give the original "
            f"inputs, or redo it and the stages after it with --again {name}"
        )

    def _begin(self, name: str, key: str) -> None:
        """Note what is begun, so that a stage goes on only with what it was begun with.

        Raises:
            CheckpointError: it was begun with something else.
        """
        begun = self.begun.setdefault(name, {"key": key, "seconds": 0.0})
        has_left_some = any(self.folder_of(name).iterdir())
        if begun["key"] != key and name not in KEPT and has_left_some:
            raise CheckpointError(
                f"{self.folder_of(name)} was begun with something else and not finished: give the "
                f"original inputs, or restart it with --again {name}"
            )
        begun["key"] = key
        self._write()

    def _count(self, name: str, started: float) -> float:
        """Add this call's time to a stage's; all of it so far."""
        self.begun[name]["seconds"] += time.perf_counter() - started
        self._write()
        total: float = self.begun[name]["seconds"]
        return total

    def _read(self) -> dict[str, Values]:
        path = self.folder / NOTES
        self.begun: dict[str, Values] = {}
        if not path.exists():
            if names_in(self.folder):
                raise CheckpointError(
                    f"{self.folder} already exists and is not a distillation: give a new folder "
                    "with -o"
                )
            return {}
        try:
            values = read_json(path, MOST_NOTES)
            self.begun = values["begun"]
            notes: dict[str, Values] = values["made"]
            return notes
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from None

    def _write(self) -> None:
        write_json(self.folder / NOTES, {"made": self.notes, "begun": self.begun})


KEPT = ("pictures", "captions")
"""Stages whose folders outlive those before them: they have what costs and go on from anywhere."""


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What a stage was made of and what it would be made of now, where they differ, in words."""
    old, new = flatten(then), flatten(now)
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield f"{name} was {_short(before)} and is {_short(after)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
