"""A whole distillation in the tiny world: each stage, once, whatever stops it."""

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from distil.conftest import Site
from PIL import Image
from tiny_pictures import SIDE, paint
from tiny_run import Notes
from tiny_teacher import STUDENT, Teacher, register

from showtell.config import Config, DecodingConfig
from showtell.core.progress import SilentReporter
from showtell.data.request import DataRequest
from showtell.data.sources import load_dataset
from showtell.distil.report import SHARED
from showtell.distil.request import DistilRequest, FilterConfig
from showtell.distil.run import STAGES, Distilled, describe_plan, distil
from showtell.distil.student import made_of
from showtell.distil.teacher import ask, teachers_decoding
from showtell.errors import CheckpointError, ConfigError, DataError, UsageError
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import load_checkpoint
from showtell.metrics import evaluate
from showtell.text.segment import Segmentation

register()
ALL = FilterConfig(near_duplicates=False, fit=0.0)


def test_a_student_is_made_of_what_earlier_versions_noted() -> None:
    """Without settings that they did not have, and with the value of a default."""
    values = made_of(Config())
    assert values["data"]["max_caption_length"] == 40
    assert values["decoding"]["beam_size"] == 3 and "no_repeat_around" not in values["decoding"]
    assert made_of(Config.load(None, ["data.subwords=200"]))["data"]["max_caption_length"] == 80


def request(folder: Path, pictures: Path, *changes: str, **options: Any) -> DistilRequest:
    return DistilRequest(
        "oracle",
        [str(pictures)],
        folder,
        **{
            "captions": 3,
            "overrides": (*STUDENT, *changes),
            "filters": ALL,
            "device": "cpu",
            "weights": "fp32",
            **options,
        },
    )


def run(wanted: DistilRequest, teacher: Teacher, report: Any = None) -> Distilled:
    made = distil(wanted, report or SilentReporter(), teacher=teacher)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    paint(folder)
    return folder


@pytest.fixture(scope="module")
def human(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People's captions of 30 pictures; each begins with "one"."""
    folder = tmp_path_factory.mktemp("human")
    records = paint(folder, 60)[30:]
    rows = [
        {
            "path": record.path.name,
            "captions": [f"one {text}" for text in record.captions],
            "split": ("test", "val", "train")[number % 3],
        }
        for number, record in enumerate(records)
    ]
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_student_of_a_teacher_alone(tmp_path: Path, pictures: Path) -> None:
    teacher, report = Teacher(), Notes()
    made = run(request(tmp_path / "run", pictures), teacher, report)
    assert len(teacher.asked) == len(set(teacher.asked)) == 60
    assert "oracle (of unknown size) is asked about 60 pictures, 3 captions each (180 in all)" in (
        report.notes
    )
    assert made.model == tmp_path / "run" / "model"
    assert load_checkpoint(made.model).metrics["weights"] == "fp32"
    assert made.figures["student"]["metrics"]["CIDEr-D"] > 2
    assert "teacher" not in made.figures  # its own captions are the references
    card = (made.model / "MODEL_CARD.md").read_text()
    for said in ("Teacher: oracle", "CC0-1.0", str(pictures), "**agreement with the teacher**"):
        assert said in card
    assert (tmp_path / "run" / "report" / "rating.html").is_file()
    key = json.loads((tmp_path / "run" / "report" / "rating.key.json").read_text())
    assert {system["name"] for system in key["systems"]} == {"rating-student", "rating-teacher"}
    data = load_dataset(str(tmp_path / "run" / "data" / "captions.jsonl"))
    assert data.split_counts() == {"train": 54, "val": 3, "test": 3}


def test_a_sheet_of_pictures_of_any_kind_and_a_run_without_one(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TIFF under names without a suffix, as those of archives and tables may be."""
    files = []
    for number in range(20):
        files.append(tmp_path / f"p{number}")
        Image.open(pictures / f"p{number}.png").save(files[-1], "TIFF")
    wanted = replace(
        request(tmp_path / "run", pictures, "training.num_epochs=1"), pictures=list(map(str, files))
    )
    made = run(wanted, Teacher())
    shown = list((tmp_path / "run" / "report" / "rating-pictures").iterdir())
    assert [path.suffix for path in shown] == [".jpg"]
    with Image.open(shown[0]) as picture:
        assert (picture.format, picture.size) == ("JPEG", (SIDE, SIDE))
    assert "report/rating.html" in (made.model / "MODEL_CARD.md").read_text()

    def none(*_: Any, **__: Any) -> None:
        raise DataError("no captions")

    monkeypatch.setattr("showtell.distil.report.make_sheet", none)
    report = Notes()
    made = run(replace(wanted, again="report"), Teacher(), report)
    assert "there is no sheet to judge by: no captions" in report.notes
    assert "rating.html" not in (made.model / "MODEL_CARD.md").read_text()


def test_a_second_call_makes_nothing_again(tmp_path: Path, pictures: Path) -> None:
    wanted = request(tmp_path / "run", pictures, "training.num_epochs=1")
    first = run(wanted, Teacher())
    teacher, report = Teacher(), Notes()
    again = run(wanted, teacher, report)
    assert teacher.asked == []
    assert sum("made before" in note for note in report.notes) == len(STAGES)
    assert again.found == json.loads(json.dumps(first.found))

    other = replace(wanted, filters=replace_filter(min_words=4))
    with pytest.raises(CheckpointError, match=r"filter\.min_words was 3 and is 4.*--again filter"):
        run(other, Teacher())
    teacher = Teacher()
    made = run(replace(other, again="filter"), teacher)
    assert teacher.asked == []  # what the teacher said stays
    assert made.found["data"]["dropped"] == {"too short": 60}
    with pytest.raises(CheckpointError, match=r"teacher was 'oracle  0' and is"):
        run(other, Teacher(words=" now"))
    fresh = Teacher(words=" now")
    run(replace(other, again="captions"), fresh)
    assert len(fresh.asked) == 60
    with pytest.raises(UsageError, match=r"unknown stage 'captoins'.*'captions'"):
        run(replace(other, again="captoins"), Teacher())


def replace_filter(**changes: Any) -> FilterConfig:
    return FilterConfig(**(ALL.model_dump() | changes))


def test_new_pictures_are_asked_about_alone(tmp_path: Path, pictures: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(pictures, own)
    for number in range(40, 60):
        (own / f"p{number}.png").unlink()
    wanted = request(tmp_path / "run", own, "training.num_epochs=1")
    run(wanted, Teacher())
    for number in range(40, 45):
        shutil.copyfile(pictures / f"p{number}.png", own / f"p{number}.png")
    with pytest.raises(CheckpointError, match="number of pictures was 40 and is 45"):
        run(wanted, Teacher())
    teacher = Teacher()
    run(replace(wanted, again="pictures"), teacher)
    assert sorted(Path(name).stem for name in teacher.asked) == [f"p{n}" for n in range(40, 45)]


def test_what_looks_the_same_is_asked_about_once(tmp_path: Path, pictures: Path) -> None:
    """The hash of a look does not see a thin bar, so the tiny world has four looks."""
    pytest.importorskip("imagehash")
    own = tmp_path / "own"
    shutil.copytree(pictures, own)
    (own / "broken.png").write_bytes(b"no picture")
    teacher = Teacher()
    wanted = request(tmp_path / "run", own, "training.num_epochs=1", filters=FilterConfig(fit=0.0))
    made = run(wanted, teacher)
    assert made.found["pictures"] == {"readable": 60, "same": 56, "failed": 1}
    assert len(teacher.asked) == 4
    assert "56 look like another" in (made.model / "MODEL_CARD.md").read_text()


def test_peoples_captions_make_the_test_set_and_weigh_more(
    tmp_path: Path, pictures: Path, human: Path
) -> None:
    wanted = request(tmp_path / "run", pictures, human=DataRequest(str(human)), human_weight=3)
    teacher = Teacher()
    made = run(wanted, teacher)
    data = load_dataset(str(tmp_path / "run" / "data" / "captions.jsonl"))
    by_id = {record.image_id: record for record in data.records}
    people = [record for name, record in by_id.items() if name.startswith("human/")]
    assert {r.split for n, r in by_id.items() if n.startswith("teacher/")} == {"train"}
    assert [r.split for r in people].count("test") == 10
    assert {len(r.captions) for r in people if r.split == "train"} == {9}
    assert {len(r.captions) for r in people if r.split == "test"} == {3}
    # The teacher captions the test pictures too, to be compared with.
    assert len(teacher.asked) == 70
    assert made.figures["teacher"]["num_pictures"] == 10
    assert made.figures["teacher"]["metrics"]["CIDEr-D"] > 0
    card = (made.model / "MODEL_CARD.md").read_text()
    assert "agreement with the teacher" not in card
    assert "of the teacher's CIDEr-D" in card and str(human) in card
    assert not (tmp_path / "run" / "report" / "rating.html").exists()


def test_people_who_captioned_the_teachers_pictures(tmp_path: Path, pictures: Path) -> None:
    """The natural case: ``--human`` is a table of the same folder."""
    rows = [
        {"path": str(pictures / f"p{n}.png"), "caption": f"one of {n}", "split": split}
        for n, split in enumerate(("train", "train", "val", "test") * 5)
    ]
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = request(
        tmp_path / "run", pictures, "training.num_epochs=1", human=DataRequest(str(path))
    )
    report = Notes()
    made = run(wanted, Teacher(), report)
    assert made.found["data"]["pictures"] == {
        "teacher train": 40,
        "human and teacher train": 10,
        "human val": 5,
        "human test": 5,
    }
    assert not [note for note in report.notes if note.startswith("skipped")]
    data = load_dataset(str(tmp_path / "run" / "data" / "captions.jsonl"))
    assert not data.problems and data.split_counts() == {"train": 50, "val": 5, "test": 5}
    assert made.figures["teacher"]["num_pictures"] == 5


def test_both_are_compared_on_the_pictures_that_both_captioned(
    tmp_path: Path, pictures: Path, human: Path
) -> None:
    """Of which the teacher has no answer about, nothing follows about the teacher."""
    wanted = request(
        tmp_path / "run", pictures, "training.num_epochs=1", human=DataRequest(str(human))
    )
    made = run(wanted, Teacher(fails=("p30.png", "p33.png", "p36.png")))
    counts = {who: found["num_pictures"] for who, found in made.figures.items()}
    assert counts == {"student": 10, "teacher": 7, SHARED: 7}
    one, two = (made.figures[who]["metrics"]["CIDEr-D"] for who in (SHARED, "teacher"))
    card = (made.model / "MODEL_CARD.md").read_text()
    assert f"{one / two:.2f} of the teacher's CIDEr-D on the pictures that both captioned" in card
    folder = tmp_path / "run" / "report"
    entries = (json.loads((folder / f"{who}.json").read_text()) for who in ("student", "teacher"))
    said, answered = ({row["image_id"]: row["caption"] for row in one} for one in entries)
    assert len(said) == 10 and len(answered) == 7
    data = load_dataset(str(tmp_path / "run" / "data" / "captions.jsonl"))
    people = {r.image_id: r.captions for r in data.records if r.image_id in answered}
    expected = evaluate({name: said[name] for name in people}, people).metrics["CIDEr-D"]
    assert one == pytest.approx(expected)


def test_failures_that_may_pass_are_said_and_asked_about_again_alone(
    tmp_path: Path, pictures: Path
) -> None:
    busy, refused = ("p3.png", "p7.png"), ("p9.png",)
    wanted, report = request(tmp_path / "run", pictures, "training.num_epochs=1"), Notes()
    made = run(wanted, Teacher(fails=refused, busy=busy), report)
    assert made.found["captions"] == {"captioned": 57, "failed": 3, "may pass": 2}
    said = "the teacher has no caption of 3 pictures"
    [note] = [note for note in report.notes if note.startswith(said)]
    assert "2 of them for a reason that may pass" in note and "--again filter" in note
    card = (made.model / "MODEL_CARD.md").read_text()
    assert "The teacher was asked and gave no caption of 3 pictures." in card
    # Later stages follow from the answers: the same command asks about nothing.
    teacher = Teacher()
    run(wanted, teacher)
    assert teacher.asked == []
    made = run(replace(wanted, again="filter"), teacher)
    assert sorted(Path(name).name for name in teacher.asked) == sorted([*busy, *refused])
    assert made.found["captions"] == {"captioned": 60, "failed": 0}
    # Those that no later call can have a caption of are not asked about for nothing.
    other = request(tmp_path / "other", pictures, "training.num_epochs=1")
    run(other, Teacher(fails=refused))
    teacher = Teacher()
    run(replace(other, again="filter"), teacher)
    assert teacher.asked == []


def test_the_same_command_asks_again_where_nothing_follows_from_the_answers(
    tmp_path: Path, pictures: Path
) -> None:
    strict = replace_filter(min_words=30)
    wanted = request(tmp_path / "run", pictures, "training.num_epochs=1", filters=strict)
    with pytest.raises(DataError, match="leave none"):
        run(wanted, Teacher(busy=("p3.png",)))
    teacher = Teacher()
    run(replace(wanted, filters=ALL), teacher)
    assert [Path(name).name for name in teacher.asked] == ["p3.png"]


def test_pictures_that_could_not_be_fetched_are_said_and_fetched_again_alone(
    tmp_path: Path, pictures: Path, site: Site
) -> None:
    strict = replace_filter(min_words=30)  # no student is trained
    wanted = request(tmp_path / "run", pictures, filters=strict)
    names = [f"{site.url}/{number}.png" for number in range(3)]
    wanted, report = replace(wanted, pictures=[str(pictures), *names]), Notes()
    site.busy = {"/1.png", "/2.png"}
    files = [f"{sha256(site.content(n)).hexdigest()[:24]}.png" for n in range(3)]
    with pytest.raises(DataError, match="leave none"):
        distil(wanted, report, teacher=Teacher(fails=files))
    [note] = [note for note in report.notes if "pictures can be read" in note]
    assert "61 pictures" in note and "2 failed; 2 of them for a reason that may pass" in note
    assert "--again pictures, which keeps the captions" in note
    site.busy = set()
    site.asked.clear()
    teacher = Teacher(fails=files)
    with pytest.raises(DataError, match="leave none"):
        distil(replace(wanted, again="pictures"), report, teacher=teacher)
    assert sorted(site.asked) == ["/1.png", "/2.png"]
    # The teacher is asked about the new ones, and anew about the one that it could not caption.
    assert sorted(Path(name).name for name in teacher.asked) == sorted(files)


@pytest.mark.parametrize(
    ("own", "changes", "found"),
    [
        ({"method": "greedy"}, {}, ("beam", 5, 5)),
        ({"method": "greedy"}, {"beam_size": 8}, ("beam", 8, 5)),
        ({"method": "beam", "beam_size": 3}, {}, ("beam", 5, 5)),
        ({"method": "greedy"}, {"method": "sample"}, ("sample", 3, 5)),
    ],
)
def test_as_many_captions_as_wanted(
    own: dict[str, Any], changes: dict[str, Any], found: tuple[str, int, int]
) -> None:
    """Also of models whose own search is greedy, as that of most models of the hub."""
    decoding = teachers_decoding(Teacher(decoding=DecodingConfig(**own)), 5, changes)
    assert (decoding.method, decoding.beam_size, decoding.num_captions) == found


def test_a_search_that_gives_one_caption_is_refused_before_any_work(
    tmp_path: Path, pictures: Path
) -> None:
    wanted = request(tmp_path / "run", pictures, decoding={"method": "greedy"})
    with pytest.raises(ConfigError, match="--captions 3: greedy search gives one caption"):
        run(wanted, Teacher())
    assert not (tmp_path / "run" / "pictures").exists()
    wanted = replace(wanted, teacher="hf:nobody/knows")
    with pytest.raises(ConfigError, match="--captions 3: greedy search gives one caption"):
        describe_plan(wanted, Notes())


def test_people_who_come_later_keep_what_the_teacher_said(
    tmp_path: Path, pictures: Path, human: Path
) -> None:
    wanted = request(tmp_path / "run", pictures, "training.num_epochs=1")
    run(wanted, Teacher())
    later = replace(wanted, human=DataRequest(str(human)))
    teacher = Teacher()
    with pytest.raises(CheckpointError, match=r"captions by people was None.*--again filter, wh"):
        run(later, teacher)
    assert teacher.asked == []
    made = run(replace(later, again="filter"), teacher)
    assert len(teacher.asked) == 10  # the test pictures
    assert made.figures["teacher"]["num_pictures"] == 10
    # Without people again, and with them: nobody is asked twice.
    teacher = Teacher()
    made = run(replace(wanted, again="filter"), teacher)
    assert made.found["captions"] == {"captioned": 60, "failed": 0}
    made = run(replace(later, again="filter"), teacher)
    assert made.found["captions"] == {"captioned": 70, "failed": 0}
    assert teacher.asked == []
    # Answers by another teacher are another matter.
    with pytest.raises(CheckpointError, match=r"teacher was 'oracle  0' and is.*--again captions"):
        run(replace(wanted, again="filter"), Teacher(words=" now"))


def test_people_who_come_before_anything_follows_from_the_answers(
    tmp_path: Path, pictures: Path, human: Path
) -> None:
    strict = replace_filter(min_words=30)
    wanted = request(tmp_path / "run", pictures, "training.num_epochs=1", filters=strict)
    with pytest.raises(DataError, match="leave none"):
        run(wanted, Teacher())
    teacher = Teacher()
    run(replace(wanted, filters=ALL, human=DataRequest(str(human))), teacher)
    assert len(teacher.asked) == 10


def test_training_pictures_that_look_like_held_out_ones_are_left_out(
    tmp_path: Path, pictures: Path
) -> None:
    """Whoever captioned them. In the tiny world, what has the same colour looks the same."""
    pytest.importorskip("imagehash")
    records = paint(tmp_path / "human", 30)
    is_red = [record.captions[0].split()[1] == "red" for record in records]
    held_out = [number for number, red in enumerate(is_red) if red]
    path, folder = tmp_path / "captions.jsonl", tmp_path / "run"
    splits = {held_out[0]: "val", held_out[1]: "test"}
    rows = [
        {"path": str(record.path), "caption": "one", "split": splits.get(number, "train")}
        for number, record in enumerate(records)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    human = DataRequest(str(path))
    report, near = Notes(), FilterConfig(fit=0.0)
    made = run(
        request(folder, pictures, "training.num_epochs=1", human=human, filters=near),
        Teacher(),
        report,
    )
    assert made.found["data"]["dropped"] == {"looks like a held-out picture": 3}
    assert made.found["data"]["pictures"] == {
        "teacher train": 3,
        "human train": 30 - len(held_out),
        "human val": 1,
        "human test": 1,
    }
    left_out = f"{len(held_out) - 2} training pictures of {path} left out: looks like a held-out"
    assert any(note.startswith(left_out) for note in report.notes)
    lines = (folder / "data" / "dropped.jsonl").read_text().splitlines()
    reasons = {json.loads(line)["reason"] for line in lines}
    assert reasons == {"looks like a held-out picture"}


def test_styles_are_learnt(tmp_path: Path, pictures: Path) -> None:
    wanted = request(
        tmp_path / "run", pictures, "training.num_epochs=1", styles=("short", "neutral")
    )
    made = run(wanted, Teacher())
    assert set(load_checkpoint(made.model).vocabulary.styles) == {"short", "neutral"}


@pytest.mark.slow(26)
def test_filtering_finds_a_liar(tmp_path: Path, pictures: Path) -> None:
    """Every sixth picture has the captions of the one before it; many of these are found.

    Those have another colour, and mostly the same thing: each lie is half true. And a judge has
    seen 27 pictures.
    """
    teacher = Teacher(lies=6)
    settings = ("training.num_epochs=20",)
    wanted = request(tmp_path / "run", pictures, *settings, filters=replace_filter(fit=0.25))
    report = Notes()
    run(wanted, teacher, report)
    assert not any("too little to judge" in note for note in report.notes), report.notes
    lines = (tmp_path / "run" / "fit" / "dropped.jsonl").read_text().splitlines()
    dropped = [Path(json.loads(line)["file"]).name for line in lines]
    lies = {Path(name).name for number, name in enumerate(teacher.asked, 1) if number % 6 == 0}
    found = sum(name in lies for name in dropped) / (3 * len(lies))
    wrong = sum(name not in lies for name in dropped) / (3 * (60 - len(lies)))
    assert found > 0.3 and wrong < 0.15, (found, wrong)


def test_judges_that_were_stopped_go_on(tmp_path: Path, pictures: Path) -> None:
    """In the training of the second judge; the first one is not trained again."""

    class StopSecondJudge(SilentReporter):
        num_epochs = 0

        def epoch(self, epoch: int, values: dict[str, Any]) -> None:
            self.num_epochs += 1

        def step(self, report: object) -> None:
            if self.num_epochs == 2:
                os.kill(os.getpid(), signal.SIGINT)

    whole = request(
        tmp_path / "whole", pictures, "training.num_epochs=1", filters=replace_filter(fit=0.25)
    )
    wanted = replace(whole, folder=tmp_path / "run")
    assert distil(wanted, StopSecondJudge(), teacher=Teacher()) is None
    judges = [tmp_path / "run" / "fit" / f"judge-{number}" for number in (1, 2)]
    assert (judges[0] / "best").exists() and not (judges[1] / "best").exists()
    log = (judges[0] / "metrics.jsonl").read_bytes()
    run(wanted, Teacher())
    assert (judges[0] / "metrics.jsonl").read_bytes() == log
    run(whole, Teacher())
    kept = [(tmp_path / name / "fit" / "kept.jsonl").read_text() for name in ("whole", "run")]
    assert kept[0] == kept[1]


IN_CHINESE = {
    **{"red": "红色", "green": "绿色", "blue": "蓝色", "white": "白色"},
    **{"dog": "狗", "ball": "球", "house": "房子", "boat": "船", "bird": "鸟"},
}


def chinese(text: str) -> str:
    """A caption of the tiny world in Chinese."""
    colour, thing = sorted(
        (word for word in text.split() if word in IN_CHINESE),
        key=lambda word: list(IN_CHINESE).index(word),
    )
    forms = {"a": "一个{}的{}", "there": "这里有一个{}的{}", "the": "有{}的{}在这里"}
    return forms[text.split()[0]].format(IN_CHINESE[colour], IN_CHINESE[thing])


@pytest.mark.slow(17)
@pytest.mark.parametrize("kind", ["words", pytest.param("characters", marks=pytest.mark.costly)])
def test_a_teacher_who_speaks_chinese(
    kind: str, tmp_path: Path, pictures: Path, human: Path
) -> None:
    """Filters, judges, and the scores of both cut its captions into words."""
    if kind == "words":
        pytest.importorskip("icu4py")
    rows = [json.loads(line) for line in human.read_text().splitlines()]
    for row in rows:
        row["path"] = str(human.parent / row["path"])
        row["captions"] = [chinese(text.removeprefix("one ")) for text in row["captions"]]
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = request(
        tmp_path / "run",
        pictures,
        f"data.segmentation={kind}",
        "decoding.max_length=16",
        human=DataRequest(str(people)),
        filters=FilterConfig(near_duplicates=False, fit=0.25),
    )
    report = Notes()
    made = run(wanted, Teacher(translate=chinese), report)
    assert made.found["filter"] == {"captions": 180, "kept": 180, "dropped": {}}
    # Judges that read one unknown word for each caption would find all of them to fit any picture.
    assert not any("too little to judge" in note for note in report.notes), report.notes
    student, teacher = made.figures["student"], made.figures["teacher"]
    assert student["signature"] == teacher["signature"]
    assert f"tok:{Segmentation.of(kind, 'zh').signature}" in teacher["signature"]
    assert teacher["metrics"]["CIDEr-D"] > 1 and student["metrics"]["CIDEr-D"] > 0.5


def test_an_encoder_from_elsewhere_is_trusted_as_its_owner_set_it(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By judges and report, which load what was trained hours ago, as by training itself."""
    monkeypatch.setattr("showtell.inference.checkpoint.is_fetched", lambda name: name == "rows")
    filters = replace_filter(fit=0.25)
    wanted = request(tmp_path / "run", pictures, "training.num_epochs=1", filters=filters)
    made = run(wanted, Teacher())
    assert made.figures["student"]["num_pictures"] == 3
    with pytest.raises(CheckpointError, match="names an encoder from elsewhere, 'rows'"):
        NativeCaptioner.load(made.model, device="cpu")


def test_stopped_five_times_no_picture_is_asked_about_twice(tmp_path: Path, pictures: Path) -> None:
    """By Ctrl-C in the middle of an answer, at random moments."""
    rng = random.Random(3)
    moments = sorted(rng.sample(range(5, 58), 5))
    wanted = request(tmp_path / "run", pictures, "training.num_epochs=1")
    asked: list[str] = []
    for moment in moments:

        def stop(number: int, at: int = moment, before: int = len(asked)) -> None:
            if before + number == at:
                os.kill(os.getpid(), signal.SIGINT)

        teacher = Teacher(before=stop)
        assert distil(wanted, SilentReporter(), teacher=teacher) is None
        asked += teacher.asked
        assert len(asked) == moment + 1  # that answer was waited for
    teacher = Teacher()
    run(wanted, teacher)
    asked += teacher.asked
    assert len(asked) == len(set(asked)) == 60


def test_killed_outright_only_what_was_on_its_way_is_asked_about_again(
    tmp_path: Path, pictures: Path
) -> None:
    """SIGKILL at five random moments: at most the one picture that was being answered each time."""
    files = sorted(pictures.glob("p*.png"))
    folder, log = tmp_path / "captions", tmp_path / "asked.txt"
    folder.mkdir()
    decoding = Teacher().resolve({"num_captions": 2})
    rng = random.Random(7)
    journal = folder / "captions.jsonl.partial"
    for _ in range(5):
        child = os.fork()
        if not child:  # pragma: no cover - the process that is killed
            with log.open("a") as lines:

                def note(number: int, lines: Any = lines) -> None:
                    lines.write(f"{number}\n")
                    lines.flush()
                    time.sleep(0.01)

                ask(
                    Teacher(before=note),
                    files,
                    folder,
                    decoding=decoding,
                    report=SilentReporter(),
                )
            os._exit(0)
        time.sleep(rng.uniform(0.02, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    in_journal = journal.read_text().count('"caption"') if journal.exists() else 60
    num_asked = len(log.read_text().splitlines()) if log.exists() else 0
    last = Teacher()
    found = ask(last, files, folder, decoding=decoding, report=SilentReporter())
    assert found == {"captioned": 60, "failed": 0}
    assert num_asked + len(last.asked) <= 60 + 5
    assert len(last.asked) <= 60 - in_journal // 2 + 1


def test_another_teacher_does_not_go_on_with_the_first_ones_captions(
    tmp_path: Path, pictures: Path
) -> None:
    def stop(number: int) -> None:
        if number == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    wanted = request(tmp_path / "run", pictures, "training.num_epochs=1")
    assert distil(wanted, SilentReporter(), teacher=Teacher(before=stop)) is None
    with pytest.raises(CheckpointError, match=r"captions by another teacher.*--again captions"):
        distil(wanted, SilentReporter(), teacher=Teacher(words=" now"))
    other = Teacher(words=" now")
    run(replace(wanted, again="captions"), other)
    assert len(other.asked) == 60


def test_a_stopped_student_goes_on(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopTraining(SilentReporter):
        def step(self, report: object) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    wanted = request(tmp_path / "run", pictures, "training.num_epochs=2")
    assert distil(wanted, StopTraining(), teacher=Teacher()) is None
    changed = replace(wanted, overrides=(*wanted.overrides, "optimizer.lr=0.5"))
    with pytest.raises(CheckpointError, match=r"begun with something else.*--again student"):
        run(changed, Teacher())
    teacher = Teacher()
    run(wanted, teacher)
    assert teacher.asked == []
    assert Config.load(tmp_path / "run" / "student" / "config.toml").training.num_epochs == 2


def test_what_cannot_work_is_said(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="already exists and is not a distillation"):
        run(request(tmp_path, pictures), Teacher())
    one = tmp_path / "one"
    one.mkdir()
    shutil.copyfile(pictures / "p0.png", one / "p0.png")
    with pytest.raises(DataError, match=r"1 pictures have captions; at least three are needed"):
        run(request(tmp_path / "run", one), Teacher())
    strict = replace_filter(min_words=30)
    wanted = request(tmp_path / "strict", pictures, "training.num_epochs=1", filters=strict)
    with pytest.raises(DataError, match=r"none of 180 captions.*with --filter min_words=1"):
        run(wanted, Teacher())
    teacher = Teacher()
    run(replace(wanted, filters=replace_filter(min_words=1)), teacher)  # as it was told to
    assert teacher.asked == []
