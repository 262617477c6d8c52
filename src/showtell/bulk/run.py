"""One bulk run: caption the pictures that have no caption yet, write them, keep a journal."""

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from showtell.bulk.formats import (
    Record,
    listed_failures,
    model_id,
    record_of,
    result_of,
    write_jsonl,
)
from showtell.bulk.inputs import Inputs
from showtell.bulk.journal import Journal, peek
from showtell.bulk.targets import Target, not_writable
from showtell.config import DecodingConfig
from showtell.core.files import atomic_write
from showtell.core.progress import Reporter
from showtell.data.pictures import suffix_counts
from showtell.data.reading import printable
from showtell.errors import ImageError, UnavailableError, reason_of
from showtell.inference.captioner import Captioner
from showtell.inference.stream import Originals, Picture, PictureResult, fetched_ahead

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
"""Errors of a whole disk: they stop the run, since every other picture would fail as well."""

FEW = 100  # pictures that are looked for by other names

HAS_NO_PLACE = "it comes from an archive, a URL or standard input, so nothing can be written there"


class Stopped(Exception):
    """A run ended because its caller asked it to; the same call resumes it."""


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes:
        num_captioned: pictures captioned by this run.
        num_withheld: those of them whose caption ``min_confidence`` left empty.
        num_kept: pictures that had their caption, or a text of their own, before.
        num_failed: pictures that have none in the end, those of earlier runs too.
        num_passing: those of them that failed for a reason that may pass.
        num_others: captions in the file of pictures that were not given.
        same_file: of one of these the name there, and the one that it was given by; None: of none.
        single_failed: whether something that the user named on its own gave no caption.
        left_out: how many files of kinds that cannot be read were passed over, by suffix.
        kept_as: where the file is that had other captions before; None: nowhere.
        seconds: of this run.
    """

    num_captioned: int = 0
    num_withheld: int = 0
    num_kept: int = 0
    num_failed: int = 0
    num_passing: int = 0
    num_others: int = 0
    same_file: tuple[str, str] | None = None
    single_failed: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)
    kept_as: Path | None = None
    seconds: float = 0.0

    def describe(self, failures: Path) -> str:
        """One line for the user."""
        rate = self.num_captioned / self.seconds if self.seconds else 0.0
        withheld = f", {self.num_withheld:,} withheld" if self.num_withheld else ""
        kept = f", {self.num_kept:,} had one before" if self.num_kept else ""
        failed = f", {self.num_failed:,} failed ({failures})" if self.num_failed else ""
        left_out = f", left out: {suffix_counts(self.left_out)}" if self.left_out else ""
        kept_as = f"; the file as it was is {self.kept_as}" if self.kept_as else ""
        return (
            f"{self.num_captioned - self.num_withheld:,} captioned{withheld}{kept}{self._others}"
            f"{failed}{left_out}; {rate:.1f} images/s, {self.seconds:.1f} s{kept_as}"
        )

    @property
    def _others(self) -> str:
        if not self.num_others:
            return ""
        if self.same_file is None:
            return f", {self.num_others:,} of other pictures stay in the file (--prune drops them)"
        before, now = map(printable, self.same_file)
        return (
            f", {self.num_others:,} stay in the file, some of the same pictures by another name: "
            f"name them as before, {before} and not {now}"
        )


def caption_all(
    captioner: Captioner,
    inputs: Inputs,
    target: Target,
    *,
    decoding: DecodingConfig,
    report: Reporter,
    attention: bool = False,
    dedupe: bool = False,
    overwrite: bool = False,
    batch_size: int | None = None,
    on_failure: Callable[[str], None] = lambda reason: None,
    on_withheld: Callable[[str], None] = lambda told: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Caption every picture that has no caption yet.

    If it is stopped in any way, calling it again resumes.

    Args:
        target: where captions go.
        decoding, attention, batch_size, is_stopped: as ``Captioner.caption_stream``.
        dedupe: let pictures that look the same share a caption.
        overwrite: a journal of another model is thrown away.
        on_failure: told the reason of each failure of this run.
        on_withheld: told the name and the confidence of each caption that is left empty.

    Raises:
        Stopped: ``is_stopped`` was true; all results that came are in the journal.
        DataError: another run writes there, or one with another model was stopped there.
        MissingExtraError: something that the inputs or the target need is not installed.
        OSError: nothing can be written any more (``DISK_ERRORS``); DataError where a disk is
            read-only.
    """
    model = model_id(captioner, decoding)
    identity: Record = {"model": model, "format": target.kind}
    identity |= {"overwrite": overwrite, "dedupe": dedupe}
    if attention:
        identity["attention"] = True
    with Journal(target.journal, identity, restart=overwrite) as journal:
        kept = target.finished(model, attention=attention)
        journal.take_over(
            record
            for record in kept  # a row may have been marked as edited after the run was stopped
            if record["path"] not in journal.done or record.get("edited") is True
        )
        if replaced := target.describe_replaced():
            report.note(replaced)
        tell = on_failure, on_withheld
        run = _Run(target, journal, report, inputs, tell, captioner_name(captioner))
        originals = Originals() if dedupe else None
        if originals is not None:
            _remember(originals, journal)
        with closing(fetched_ahead(run.left())) as pictures:
            for result in captioner.caption_stream(
                pictures,
                decoding=decoding,
                attention=attention,
                batch_size=batch_size,
                originals=originals,
                is_stopped=is_stopped,
            ):
                run.settle(result, model)
        if is_stopped():
            raise Stopped
        return run.finish()


def captioner_name(captioner: Captioner) -> str | None:
    """The name and the revision of a captioner of another kind; None for showtell's own models.

    Those are known by ``model_id`` alone, since their folders may have any name.
    """
    card = captioner.card
    if card.kind == "showtell":
        return None
    return f"{card.kind}:{card.name}" + (f"@{card.revision}" if card.revision else "")


@dataclass(frozen=True, slots=True)
class Planned:
    """What a run does with a picture: it keeps a text, fails, or (both None) asks for a caption.

    Attributes:
        kept: the text that it keeps.
        is_done: whether an earlier run has finished it.
        error: why it fails, where that shows without decoding.
        may_pass: whether the reason in ``error`` may pass.
        picture: the picture itself, where a caption is to be made.
    """

    path: str
    kept: str | None = None
    is_done: bool = False
    error: str | None = None
    may_pass: bool = False
    picture: Picture | None = None


def _decide(picture: Picture, target: Target | None) -> Planned:
    """What is to be done with a picture that no run has finished."""
    path = str(picture.path)
    has_no_place = target is not None and target.is_beside and picture.read is not None
    if picture.error is not None or has_no_place:
        reason = picture.error or HAS_NO_PLACE
        return Planned(path, error=f"{path}: {reason}", may_pass=picture.may_pass)
    try:
        kept = target.kept_text(picture) if target is not None else None
    except OSError as error:
        reason = f"{printable(path)}: {printable(str(error.filename))}: {error.strerror}"
        return Planned(path, error=reason, may_pass=True)
    except ImageError as error:
        reason = f"{path}: {str(error).removeprefix(f'{path}: ')}"
        return Planned(path, error=reason, may_pass=isinstance(error, UnavailableError))
    return Planned(path, kept, picture=picture if kept is None else None)


def plan(
    inputs: Inputs, target: Target | None, *, overwrite: bool = False, attention: bool = False
) -> Iterator[Planned]:
    """What a run would do with each picture, by the same model; nothing is decoded or written.

    Args:
        overwrite, attention: as ``caption_all``.
    """
    done = {} if target is None else _finished(target, overwrite=overwrite, attention=attention)
    seen: set[str] = set()
    for picture in inputs:
        path = str(picture.path)
        if path in seen:
            continue
        seen.add(path)
        if (record := done.get(path)) is not None:
            yield Planned(path, record.get("caption"), is_done=True, error=record.get("error"))
            continue
        planned = _decide(picture, target)
        if planned.picture is not None and picture.read is None:
            try:
                os.stat(path)
            except (OSError, ValueError) as error:  # a name with a NUL in it, from a list
                planned = Planned(path, error=f"{path}: {reason_of(error)}")
        yield planned


def _finished(target: Target, *, overwrite: bool, attention: bool) -> dict[str, Record]:
    """What earlier runs have finished: the caption or the error of each picture."""
    identity, records = peek(target.journal)
    if identity.get("overwrite") != overwrite:  # a run would begin anew, or refuse to go on
        records = iter(())
    done: dict[str, Record] = {}
    for record in chain(target.finished(None, attention=attention), records):
        done[record["path"]] = {
            name: record[name] for name in ("caption", "error") if name in record
        }
    return done


class _Run:
    def __init__(
        self,
        target: Target,
        journal: Journal,
        report: Reporter,
        inputs: Inputs,
        tell: tuple[Callable[[str], None], Callable[[str], None]],
        captioner: str | None,
    ) -> None:
        self._target, self._journal, self._report = target, journal, report
        self._inputs, self._captioner = inputs, captioner
        self._on_failure, self._on_withheld = tell
        self._started = time.perf_counter()
        self._num_skipped = 0
        self._asked: set[str] = set()  # whose results are still to come
        # Runs beside pictures may share a list; one file has a list of its own.
        self._failed_elsewhere = listed_failures(target.failures) if target.is_beside else {}
        self._num_failed_before = journal.num_failed
        self.summary = Summary()

    def left(self) -> Iterator[Picture]:
        """The pictures that have no caption yet; none comes twice."""
        for picture in self._inputs:
            name = str(picture.path)
            self._failed_elsewhere.pop(name, None)
            if name in self._asked or self._journal.done.get(name):
                self._num_skipped += 1
            elif self._journal.meets(name):
                self.summary.num_kept += 1
            else:
                planned = _decide(picture, self._target)
                if planned.error is not None:
                    # A run that resumes decides it anew, as an archive may be whole by then.
                    failure: Record = {"path": name, "error": planned.error}
                    self._journal.hold(failure | ({"may_pass": True} if planned.may_pass else {}))
                    self._on_failure(planned.error)
                elif planned.picture is None:
                    self.summary.num_kept += 1
                else:
                    self._asked.add(name)
                    yield picture

    def settle(self, result: PictureResult, model: str) -> None:
        """Write a result and note it."""
        record, may_pass = record_of(result, model), result.may_pass
        if result.caption is not None:
            if self._captioner is not None:
                record["captioner"] = self._captioner
            record = self._written(result, record)
            may_pass = "error" in record  # it can be written once there is a place for it
        if may_pass:
            self._journal.hold(record | {"may_pass": True})
        else:
            self._journal.add([record])
        self._asked.discard(record["path"])
        self.summary.num_captioned += "error" not in record
        if "withheld" in record:
            self.summary.num_withheld += 1
            self._on_withheld(f"{record['path']}: confidence {record['confidence']:.2f}")
        new_failed = self._journal.num_failed - self._num_failed_before
        done = self.summary.num_captioned + new_failed + self.summary.num_kept + self._num_skipped
        total = self._inputs.count
        self._report.progress(
            "captioning", done, total or 0, "images", num_failed=self._journal.num_failed
        )
        if "error" in record:
            self._on_failure(record["error"])

    def finish(self) -> Summary:
        """Write what is written at the end, and take the journal away."""
        summary = self.summary
        failed = {record["path"]: "may_pass" in record for record in self._failures()}
        summary.num_failed, summary.num_passing = len(failed), sum(failed.values())
        old = len(failed) - (self._journal.num_failed - self._num_failed_before)
        summary.num_kept -= max(old, 0)
        summary.left_out = self._inputs.unreadable
        summary.single_failed = self._inputs.has_failed(failed)
        others = [r for path, r in self._failed_elsewhere.items() if os.path.lexists(path)]
        if others or failed:
            with atomic_write(self._target.failures, "wb") as file:
                write_jsonl(chain(others, self._failures()), file)
        else:
            self._target.failures.unlink(missing_ok=True)  # of a run before this one
        summary.num_others = self._target.finish(self._journal)
        if summary.num_others:
            summary.same_file = _same_file(self._journal.done)
        summary.kept_as = self._target.kept_as
        self._journal.remove()
        summary.seconds = time.perf_counter() - self._started
        return summary

    def _failures(self) -> Iterator[Record]:
        return (record for record in self._journal.records() if "error" in record)

    def _written(self, result: PictureResult, record: Record) -> Record:
        if "withheld" in record:  # an empty text beside a picture would be learnt as one
            return record
        try:
            self._target.write(result.path, result.text)
        except (ImageError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EROFS:
                raise not_writable(Path(result.path).parent) from None
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            where = printable(str(result.path))
            return {"path": record["path"], "error": f"{where}: {reason_of(error)}"}
        return record


def _same_file(done: Mapping[str, bool]) -> tuple[str, str] | None:
    """A file that was done before by another name than now, as from another folder: both names."""
    before: dict[str, list[str]] = {}
    for path in islice((path for path, is_met in done.items() if not is_met), FEW):
        before.setdefault(os.path.basename(path), []).append(path)
    for path, is_met in done.items():
        for other in before.get(os.path.basename(path), ()) if is_met else ():
            place = os.path.realpath(path)
            if place == os.path.realpath(other) or place.endswith(os.sep + other):
                return other, path
    return None


def _remember(originals: Originals, journal: Journal) -> None:
    for record in journal.all_records():
        if "look" in record and "error" not in record:
            try:
                originals.remember(result_of(record))
            except (KeyError, TypeError, ValueError):  # a table has no words to take over
                continue
