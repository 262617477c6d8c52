"""The teacher's captions, through the journal of a bulk run: no picture is asked about twice.

Ctrl-C stops the asking, not the answers: what the teacher has been given by then is waited for and
written down. Only a process that is killed outright loses the answers that were on their way.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from showtell.bulk.estimate import Price, Sample, estimate
from showtell.bulk.formats import read_jsonl
from showtell.bulk.inputs import Inputs
from showtell.bulk.journal import BegunOtherwise
from showtell.bulk.run import Stopped, caption_all
from showtell.bulk.targets import OneFile
from showtell.config import DecodingConfig
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.distil.filters import Said
from showtell.distil.stages import MAY_PASS
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.backends.remote import RemoteCaptioner
from showtell.inference.captioner import Captioner, Decoding
from showtell.inference.stream import Picture
from showtell.training.stop import StopRequest

ANSWERS, FAILURES = "captions.jsonl", "failures.jsonl"


def teachers_decoding(teacher: Captioner, wanted: int, changes: Decoding) -> DecodingConfig:
    """The settings that give ``wanted`` captions of each picture, where the teacher can.

    A teacher whose own search is greedy uses beam search, unless ``changes`` name a method.

    Raises:
        ConfigError: ``changes`` are wrong.
    """
    own = teacher.resolve(changes)
    if not teacher.card.alternatives or own.num_captions >= wanted:
        return own
    check_method(wanted, changes)
    more: dict[str, Any] = {"num_captions": wanted}
    if own.method == "greedy":
        more["method"] = "beam"
    if own.method != "sample":
        more["beam_size"] = max(wanted, own.beam_size)
    return own.with_changes(more)


def check_method(wanted: int, changes: Decoding) -> None:
    """Raise ConfigError where a search that gives one caption is asked for several."""
    method = changes.get("method") if isinstance(changes, Mapping) else changes and changes.method
    if method == "greedy" and wanted > 1:
        raise ConfigError(
            f"--captions {wanted}: greedy search gives one caption; leave --decoding out, or "
            "use --decoding sample"
        )


def tell_cost(
    teacher: Captioner,
    pictures: Iterable[Picture],
    decoding: DecodingConfig,
    *,
    price: Price | None = None,
    measure: int = 0,
) -> str:
    """What will be asked, and at a server what that costs, in lines, before it is asked.

    Args:
        measure: how many pictures are sent to measure it.

    Raises:
        DataError, ServerError: as ``estimate``.
    """
    sample = Sample()
    for picture in pictures:
        sample.add(picture)
    number = decoding.num_captions if teacher.card.alternatives else 1
    total = f" ({sample.num * number:,} in all)" if number > 1 else ""
    size = teacher.card.num_parameters
    shown = f"{size / 1e6:,.1f} million parameters" if size else "of unknown size"
    line = (
        f"{teacher.card.name} ({shown}) is asked about {counted(sample.num, 'picture')}, "
        f"{counted(number, 'caption')} each{total}"
    )
    if not isinstance(teacher, RemoteCaptioner):
        return line
    return f"{line}\n{estimate(teacher, sample, measure=measure).describe(teacher, price)}"


def ask(
    teacher: Captioner,
    files: Sequence[Path],
    folder: Path,
    *,
    decoding: DecodingConfig,
    report: Reporter,
) -> dict[str, int] | None:
    """Have pictures captioned; those that have their captions are not asked about again.

    Answers about pictures that are no longer among ``files`` stay, for when they are again.

    Returns:
        How many have captions, how many failed, and, where there are any, how many of these for a
        reason that may pass (``MAY_PASS``); None where Ctrl-C or SIGTERM stopped it.

    Raises:
        CheckpointError: another teacher's captions are there.
        DataError: another process is writing.
    """
    paths = tuple(map(str, files))
    inputs = Inputs(paths, paths, count=len(paths))
    target = OneFile(folder / ANSWERS, "jsonl", folder / FAILURES, overwrite=False)
    with StopRequest() as stop:
        try:
            summary = caption_all(
                teacher,
                inputs,
                target,
                decoding=decoding,
                report=report,
                is_stopped=stop.is_due,
            )
        except Stopped:
            return None
        except BegunOtherwise:
            raise CheckpointError(
                f"{folder} has captions by another teacher or with other settings: give those, or "
                "throw its captions away with --again captions"
            ) from None
    found = {
        "captioned": summary.num_captioned + summary.num_kept,
        "failed": summary.num_failed,
    }
    return found | ({MAY_PASS: summary.num_passing} if summary.num_passing else {})


def answers(folder: Path, names: dict[str, str]) -> list[Said]:
    """What the teacher said, picture by picture, the best caption first.

    Args:
        names: of the pictures that are wanted, by their files.
    """
    found = []
    for record in read_jsonl(folder / ANSWERS):
        file = record["path"]
        if file in names:
            said = [record, *record.get("alternatives", ())]
            found += [
                Said(names[file], file, one["caption"], one["confidence"], rank)
                for rank, one in enumerate(said)
                if one["caption"]
            ]
    return found
