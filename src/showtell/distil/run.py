"""The story of a distillation: pictures, the teacher's captions, filters, a student, a card.

Each stage has a folder in the run's and is made once (``stages.py``):

    pictures/   every picture opened once; copies of one are found
    captions/   what the teacher said
    filter/     what was left out of that, caption by caption, and why
    fit/        what first students find to fit other pictures as well
    data/       the student's data set, split by picture
    student/    its training run
    model/      the student, packed, with its card
    report/     figures beside the teacher's; without people's captions a sheet to judge by

The teacher is known by the ``Captioner`` interface alone. Where it is a model of showtell's own
that shares the student's encoder and words, its probabilities are learnt too (``student.py``).
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from showtell.bulk.estimate import cost_of, unasked
from showtell.bulk.inputs import find_inputs
from showtell.bulk.run import captioner_name
from showtell.core.files import InUseError, locked_folder, write_json
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, dataset_fingerprint
from showtell.distil.dataset import (
    DATA_FILE,
    SAME,
    mix,
    open_mixture,
    split_human,
    without_held_out,
    write_mixture,
)
from showtell.distil.filters import Filtered, filter_captions, read_kept
from showtell.distil.fit import Judges, drop_misfits
from showtell.distil.pictures import fingerprint_of, known_pictures, looks_of_records, survey
from showtell.distil.report import SHEET, Facts, Places, measure, write_card
from showtell.distil.request import DistilRequest
from showtell.distil.stages import MAY_PASS, Stages, Values
from showtell.distil.student import Plan, made_of, plan_student, segmentation_of, train_student
from showtell.distil.teacher import (
    FAILURES,
    answers,
    ask,
    check_method,
    teachers_decoding,
    tell_cost,
)
from showtell.errors import CheckpointError
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.captioner import Captioner
from showtell.inference.loading import load_request
from showtell.inference.specs import spec_of
from showtell.inference.stream import picture_at
from showtell.pretrained import CARD
from showtell.publish.pack import pack_checkpoint
from showtell.text.segment import Segmentation
from showtell.training.run_folder import names_in

PEOPLE = "captions by people"  # whose test pictures the teacher is asked about, too
CUT_BY = ("segmentation", "language", "vocab_file")  # settings by which captions become words
MANY = 10_000  # pictures, where only reading them all would tell


@dataclass(frozen=True)
class Distilled:
    """What came of it.

    Attributes:
        model: the packed student's folder, with its card.
        figures: of the student, and of the teacher where people wrote the references.
        found: what each stage found.
    """

    model: Path
    figures: Mapping[str, Any]
    found: Mapping[str, Values]


def distil(
    request: DistilRequest, report: Reporter, *, teacher: Captioner | None = None
) -> Distilled | None:
    """Make a student of a teacher; a call that was stopped goes on where it was.

    Args:
        teacher: the captioner that ``request.teacher`` names, where it is loaded already.

    Returns:
        None where Ctrl-C stopped a stage.

    Raises:
        ShowtellError: anything that the user can mend; what was made stays.
    """
    names_in(request.folder)  # a file in its place is said
    run = _Distillation(request, report, teacher)
    try:
        with locked_folder(request.folder):
            return run.go()
    except InUseError:
        raise CheckpointError(
            f"another process is distilling into {request.folder}: wait until it ends, stop it, or "
            "give another folder with -o"
        ) from None


def describe_plan(request: DistilRequest, report: Reporter, *, measure: int = 0) -> str:
    """What would be done and what it would cost, in lines; nothing is written.

    Args:
        measure: how many pictures a teacher behind a server is sent to measure it; 0: it is not
            asked for anything.
    """
    run = _Distillation(request, report, unasked(request.model))
    spec = spec_of(request.teacher)
    if spec is not None and spec.kind == "hf":  # whose weights may still be to download
        check_method(request.captions, request.decoding)
        num = sum(1 for _ in run.inputs)
        lines = [f"{request.teacher} is asked about {counted(num, 'picture')}"]
    else:
        lines = [
            tell_cost(run.teacher, run.inputs, run.decoding, price=request.price, measure=measure)
        ]
    if run.human is not None:
        test = len(run.human.split("test"))
        lines.append(f"and about the {test:,} test pictures of {run.human.name}, to compare")
    plan = run.plan
    learnt = "captions and the teacher's probabilities" if plan.probabilities else "captions alone"
    lines.append(f"a {plan.config.decoder.kind} student is trained on the {learnt} ({plan.reason})")
    return "\n".join(lines)


class _Distillation:
    """One call: the request, what several stages need, and the two methods of each stage.

    The methods of a stage (``STAGES``) say what it is made of, and make it in its folder.
    """

    def __init__(self, request: DistilRequest, report: Reporter, teacher: Captioner | None) -> None:
        self.request, self.report, self._teacher = request, report, teacher
        self.inputs = find_inputs(request.pictures)
        # Wrong settings show before any work.
        self.plan: Plan = plan_student(request, self.inputs.count or MANY)
        self.found: dict[str, Values] = {}

    def go(self) -> Distilled | None:
        """All stages, one after another; None where one was stopped."""
        request = self.request
        _ = self.decoding  # wrong settings show before pictures are opened, too
        self.stages = Stages(request.folder, tuple(stage.name for stage in STAGES), self.report)
        if request.again is not None:
            self.stages.forget(request.again)
        for stage in STAGES:
            work = partial(stage.work, self)
            values = self.stages.make(stage.name, stage.made_of(self), work, growing=stage.growing)
            if values is None:
                return None
            self.found[stage.name] = values
        return Distilled(
            self.stages.folder_of("model"), self.found["report"]["figures"], self.found
        )

    @cached_property
    def teacher(self) -> Captioner:
        """The captioner, loaded when it is first needed."""
        teacher = load_request(self.request.model) if self._teacher is None else self._teacher
        teacher.tell = self.report.note
        return teacher

    @cached_property
    def decoding(self) -> Any:
        """The teacher's settings."""
        return teachers_decoding(self.teacher, self.request.captions, self.request.decoding)

    @cached_property
    def human(self) -> Dataset | None:
        """People's captions, with all three splits."""
        if self.request.human is None:
            return None
        dataset = split_human(self.request.human.load())
        for remark in dataset.remarks():
            self.report.note(remark)
        return dataset

    @cached_property
    def data(self) -> Dataset:
        """The student's data set; it is not asked for before it is made."""
        return open_mixture(self.stages.folder_of("data") / DATA_FILE, self.report)

    @cached_property
    def segmentation(self) -> tuple[Segmentation, str]:
        """How captions are cut into words, by all that the teacher said, and a line that says why.

        It is not asked for before the teacher has answered.
        """
        said = answers(self.stages.folder_of("captions"), self._names())
        return segmentation_of(self.plan.config, [one.text for one in said])

    def pictures_made_of(self) -> Values:
        looks = {"near_duplicates": self.request.filters.near_duplicates}
        return fingerprint_of(self.inputs) | looks

    def make_pictures(self, folder: Path) -> Values | None:
        with_looks = self.request.filters.near_duplicates
        found = survey(self.inputs, folder, with_looks=with_looks, report=self.report)
        self.report.note(
            f"{found.readable:,} pictures can be read, {found.same:,} of them look like another; "
            f"{found.failed:,} failed{_advice(found.passing, 'pictures')}"
        )
        passing = {MAY_PASS: found.passing} if found.passing else {}
        return {"readable": found.readable, "same": found.same, "failed": found.failed} | passing

    def captions_made_of(self) -> Values:
        settings = self.request.asked_with
        return {
            "teacher": self.teacher.fingerprint,
            "decoding": json.loads(self.decoding.identity()),
            PEOPLE: dataset_fingerprint(self.human)[:16] if self.human else None,
        } | ({"teacher's": settings} if settings else {})

    def make_captions(self, folder: Path) -> Values | None:
        test = self.human.split("test") if self.human else ()
        files = dict.fromkeys([*self._names(), *(str(r.path.absolute()) for r in test)])
        paths, price = [Path(file) for file in files], self.request.price
        pictures = map(picture_at, paths)
        self.report.note(tell_cost(self.teacher, pictures, self.decoding, price=price))
        found = ask(self.teacher, paths, folder, decoding=self.decoding, report=self.report)
        if found is not None and found["failed"]:
            self._tell_failed(found, folder)
        if (cost := cost_of(self.teacher, price)) is not None:
            self.report.note(cost)
        return found

    def filter_made_of(self) -> Values:
        filters = self.request.filters
        settings = filters.model_dump(mode="json", exclude={"fit", "near_duplicates"})
        if filters.words is not None:
            text = filters.words.read_bytes() if filters.words.is_file() else b""
            settings["words"] = text.decode("utf-8", "replace")
        data = self.plan.config.data.model_dump(mode="json")
        cut = {name: data[name] for name in CUT_BY if data[name] not in ("auto", None)}
        return {"filter": settings} | ({"data": cut} if cut else {})

    def make_filter(self, folder: Path) -> Values | None:
        said = answers(self.stages.folder_of("captions"), self._names())
        segmentation, why = self.segmentation
        if why:
            self.report.note(why)
        found = filter_captions(said, self.request.filters, segmentation)
        found.write(folder)
        self._tell_dropped(found, len(said))
        return {"captions": len(said), "kept": len(found.kept), "dropped": found.counts}

    def fit_made_of(self) -> Values:
        least = self.request.filters.fit
        return {"fit": least, **made_of(self.plan.config)} if least else {"fit": 0.0}

    def make_fit(self, folder: Path) -> Values | None:
        said, found = read_kept(self.stages.folder_of("filter")), Filtered()
        request, least = self.request, self.request.filters.fit
        if not least:
            found.kept = said
            found.write(folder)
            return {"kept": len(said), "dropped": {}}
        judges = Judges(request, self.plan, self.human, folder, self.report)
        losses = judges.losses(said)
        if losses is None:
            return None
        if not drop_misfits(said, losses, least, found):
            self.report.note(
                "the first students have learnt too little to judge, so all captions stay: more "
                "pictures or more epochs would help"
            )
        found.write(folder)
        self._tell_dropped(found, len(said))
        return {"kept": len(found.kept), "dropped": found.counts}

    def data_made_of(self) -> Values:
        weight = self.request.human_weight if self.request.human else None
        return {"human weight": weight, "styles": list(self.request.styles)}

    def make_data(self, folder: Path) -> Values | None:
        said, found = read_kept(self.stages.folder_of("fit")), Filtered()
        human = self.human
        if human is not None:
            looks = known_pictures(self.stages.folder_of("pictures"))
            with_looks, num = self.request.filters.near_duplicates, len(human.records)
            said, human = without_held_out(
                said,
                human,
                looks={one.name: one.look for one in looks if one.look is not None},
                human_looks=looks_of_records(human.records, self.report) if with_looks else {},
                found=found,
            )
            if left_out := num - len(human.records):
                self.report.note(
                    f"{counted(left_out, 'training picture')} of {human.name} left out: {SAME}"
                )
        found.kept = said
        found.write(folder)
        mixture = mix(
            said,
            human,
            human_weight=self.request.human_weight,
            styles=self.request.styles,
            segmentation=self.segmentation[0],
        )
        write_mixture(mixture.records, folder)
        dropped: dict[str, int] = {}
        for counts in (self.found["filter"]["dropped"], self.found["fit"]["dropped"], found.counts):
            for reason, count in counts.items():
                dropped[reason] = dropped.get(reason, 0) + count
        shown = ", ".join(f"{name} {count:,}" for name, count in mixture.counts.items())
        self.report.note(f"pictures with captions: {shown}")
        return {"kept": len(said), "dropped": dropped, "pictures": dict(mixture.counts)}

    def student_made_of(self) -> Values:
        return made_of(self.plan.config)

    def make_student(self, folder: Path) -> Values | None:
        plan, data = self.plan, self.stages.folder_of("data") / DATA_FILE
        kind = "and probabilities" if plan.probabilities else "alone"
        self.report.note(f"learning the teacher's captions {kind}: {plan.reason}")
        result = train_student(self.data, plan, self.request, data, folder, self.report)
        if result.stopped:
            return None
        return {"best_epoch": result.best_epoch, "validation": result.metrics}

    def model_made_of(self) -> Values:
        return {"weights": self.request.weights}

    def make_model(self, folder: Path) -> Values | None:
        shutil.rmtree(folder)
        size = pack_checkpoint(
            self.stages.folder_of("student"), folder, storage=self.request.weights, trust_model=True
        )
        return {"num_bytes": size}

    def report_made_of(self) -> Values:
        return {}  # it follows from the stages before it alone

    def make_report(self, folder: Path) -> Values | None:
        request, model = self.request, self.stages.folder_of("model")
        # The person's own settings are trusted, wherever they have their encoder from.
        student = NativeCaptioner.load(model, device=request.device, trust_model=True)
        dataset = self.data
        store = request.store_of(student.config, folder / "features")
        places = Places(folder, store, is_human=self.human is not None)
        said = self._said_of_test(dataset)
        figures = measure(student, dataset, said, places, self.report)
        card = self.teacher.card
        facts = Facts(
            teacher=captioner_name(self.teacher) or card.name,
            asked_with=request.asked_with,
            licence=card.licence,
            pictures=request.pictures,
            human=self.human.name if self.human else None,
            parameters=(card.num_parameters, student.card.num_parameters or 0),
            num_bytes=self.found["model"]["num_bytes"],
            found=self.found,
            seconds=self.stages.seconds(),
            probabilities=" and probabilities" if self.plan.probabilities else "",
            has_sheet=(folder / SHEET).is_file(),
        )
        write_card(model / CARD, facts, figures)
        write_json(folder / "stages.json", {"found": self.found, "seconds": self.stages.seconds()})
        return {"figures": figures}

    def _said_of_test(self, dataset: Dataset) -> dict[str, str]:
        """The teacher's best caption of each test picture, by image id."""
        ids = {str(record.path.absolute()): record.image_id for record in dataset.split("test")}
        said = answers(self.stages.folder_of("captions"), {file: file for file in ids})
        return {ids[one.file]: one.text for one in said if one.rank == 0}

    def _names(self) -> dict[str, str]:
        """The pictures to ask about, by their files: the first of each look."""
        known = known_pictures(self.stages.folder_of("pictures"))
        return {str(one.file): one.name for one in known if one.same_as is None}

    def _tell_failed(self, found: Values, folder: Path) -> None:
        advice = _advice(found.get(MAY_PASS, 0), "filter")
        self.report.note(
            f"the teacher has no caption of {counted(found['failed'], 'picture')} "
            f"({folder / FAILURES}){advice}"
        )

    def _tell_dropped(self, found: Filtered, total: int) -> None:
        shown = ", ".join(f"{reason} {count:,}" for reason, count in found.counts.items())
        self.report.note(
            f"{len(found.kept):,} of {total:,} captions stay; left out: {shown or 'none'}"
        )


def _advice(num_passing: int, stage: str) -> str:
    """How to try failures that may pass again, once later stages are made; empty without any.

    Args:
        stage: to be given to ``--again``.
    """
    if not num_passing:
        return ""
    return (
        f"; {num_passing:,} of them for a reason that may pass: to try these again, run the same "
        f"command with --again {stage}, which keeps the captions"
    )


@dataclass(frozen=True)
class Stage:
    """One stage of a distillation.

    Attributes:
        name: of the stage and of its folder.
        made_of: all that it follows from but the stages before it.
        work: makes it in its folder and gives what it found; None where it was stopped.
        growing: as ``Stages.make``.
    """

    name: str
    made_of: Callable[[_Distillation], Values]
    work: Callable[[_Distillation, Path], Values | None]
    growing: str | None = None


STAGES = (
    Stage("pictures", _Distillation.pictures_made_of, _Distillation.make_pictures),
    Stage("captions", _Distillation.captions_made_of, _Distillation.make_captions, growing=PEOPLE),
    Stage("filter", _Distillation.filter_made_of, _Distillation.make_filter),
    Stage("fit", _Distillation.fit_made_of, _Distillation.make_fit),
    Stage("data", _Distillation.data_made_of, _Distillation.make_data),
    Stage("student", _Distillation.student_made_of, _Distillation.make_student),
    Stage("model", _Distillation.model_made_of, _Distillation.make_model),
    Stage("report", _Distillation.report_made_of, _Distillation.make_report),
)
