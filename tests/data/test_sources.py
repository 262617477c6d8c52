"""The contract that every source keeps, and how a format is recognised."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from showtell.data.records import Dataset
from showtell.data.sources import SOURCES, load_dataset, recognise
from showtell.errors import DataError

Builders = dict[str, Callable[[Path], Path]]


def test_every_source_is_known_here(builders: Builders) -> None:
    assert list(SOURCES) == [
        *("coco", "karpathy", "flickr8k", "folder", "csv", "jsonl", "parquet", "arrow"),
        *("webdataset", "scenes"),
    ]
    assert {*builders, "scenes"} == set(SOURCES)


def check(dataset: Dataset, name: str) -> None:
    assert dataset.format == name
    assert not dataset.problems
    assert len({record.image_id for record in dataset.records}) == len(dataset.records)
    for record in dataset.records:
        assert record.path.is_file()
        assert record.captions
        assert all(caption == caption.strip() != "" for caption in record.captions)


def test_contract(builders: Builders, tmp_path: Path) -> None:
    visited = 0
    for name, source in SOURCES.items():
        data: Path | str = "scenes:10" if name == "scenes" else ""
        if name in builders:
            root = tmp_path / name
            root.mkdir()
            data = builders[name](root)
            assert recognise(data) is source
        dataset = load_dataset(data)
        check(dataset, name)
        assert dataset.records == load_dataset(data, format=name).records
        assert dataset.records == load_dataset(data).records, "reading twice gives the same"
        assert dataset.split("train")
        assert dataset.split("val")
        assert source.description
        visited += 1
    assert visited == 10


def test_examples_say_what_was_written(
    builders: Builders, example_captions: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    visited = 0
    for name, build in builders.items():
        root = tmp_path / name
        root.mkdir()
        dataset = load_dataset(build(root))
        splits = ["train", "val"] if name == "coco" else ["train", "val", "test"]
        assert sorted(record.split for record in dataset.records) == sorted(splits)
        for record in dataset.records:
            if not SOURCES[name].is_container:
                assert record.captions == example_captions[record.path.name]
        if SOURCES[name].is_container:
            said = sorted(record.captions for record in dataset.records)
            assert said == sorted(example_captions.values())
        visited += 1
    assert visited == 9


@pytest.mark.parametrize("inside", ["annotations", "annotations/captions_val2017.json", "."])
def test_coco_from_any_of_its_places(builders: Builders, tmp_path: Path, inside: str) -> None:
    dataset = load_dataset(builders["coco"](tmp_path) / inside)
    assert dataset.format == "coco"
    assert dataset.split("val")[0].path == tmp_path / "val2017" / "dog.jpg"


def test_coco_of_two_years_reads_the_later_one_and_says_so(
    builders: Builders, tmp_path: Path
) -> None:
    builders["coco"](tmp_path)
    old = {"images": [], "annotations": []}
    (tmp_path / "annotations" / "captions_val2014.json").write_text(json.dumps(old))
    dataset = load_dataset(tmp_path)
    assert len(dataset.records) == 2
    assert "those of 2017 were read" in dataset.notes[0]


def test_karpathy_finds_coco_pictures_under_their_2017_names(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "train2017" / "000000000042.jpg")
    picture(tmp_path / "val2014" / "COCO_val2014_000000000007.jpg")
    images = [
        {
            "filename": f"COCO_val2014_{number:012d}.jpg",
            "filepath": "val2014",
            "cocoid": number,
            "split": "train",
            "sentences": [{"raw": "A cat ."}],
        }
        for number in (42, 7)
    ]
    path = tmp_path / "annotations" / "dataset_coco.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images}))
    dataset = load_dataset(path)
    assert [record.image_id for record in dataset.records] == ["42", "7"]
    assert [record.path.parent.name for record in dataset.records] == ["train2017", "val2014"]
    assert "1 picture of the 2014 release found under their 2017 names" in dataset.notes[0]


def test_flickr8k_folder_with_karpathys_file_in_it_is_flickr8k(
    builders: Builders, tmp_path: Path
) -> None:
    karpathy = builders["karpathy"](tmp_path)
    builders["flickr8k"](tmp_path)
    assert recognise(tmp_path).name == "flickr8k"
    assert recognise(karpathy).name == "karpathy"
    assert recognise(tmp_path / "Flickr8k.token.txt").name == "flickr8k"


def test_flickr8k_pictures_in_no_list_are_told(builders: Builders, tmp_path: Path) -> None:
    builders["flickr8k"](tmp_path)
    (tmp_path / "Flickr_8k.testImages.txt").unlink()
    dataset = load_dataset(tmp_path)
    assert dataset.problem_counts() == {"no split": 1}
    assert dataset.problems[0].where == "owl.jpg"


def test_flickr8k_picture_in_two_lists_is_left_out(builders: Builders, tmp_path: Path) -> None:
    builders["flickr8k"](tmp_path)
    (tmp_path / "Flickr_8k.testImages.txt").write_text("cat.jpg\nowl.jpg\n")
    dataset = load_dataset(tmp_path)
    assert [record.image_id for record in dataset.records] == ["dog.jpg", "owl.jpg"]
    assert dataset.problem_counts() == {"in two split lists": 1}


def test_captions_txt_as_flickr8k_is_passed_around(builders: Builders, tmp_path: Path) -> None:
    builders["csv"](tmp_path).rename(tmp_path / "captions.txt")
    assert load_dataset(tmp_path).format == "csv"
    assert load_dataset(tmp_path / "captions.txt").split_counts()["train"] == 1


def test_results_csv_as_flickr30k_is_passed_around(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "1.jpg")
    path = tmp_path / "results.csv"
    path.write_text("image_name| comment_number| comment\n1.jpg| 0| A man .\n1.jpg| 1   A dog .\n")
    with open(path, "a") as file:  # nothing but a number, or no number: not the known fault
        file.write("1.jpg| 2\n1.jpg| A cat .\n")
    dataset = load_dataset(path)
    assert dataset.records[0].captions == ("A man .", "A dog .")
    assert dataset.problem_counts() == {"bad row": 2}
    assert dataset.notes[0] == (
        "results.csv: 1 row lacked the delimiter between number and caption; read as meant"
    )


def test_numbered_caption_columns(picture: Callable[..., None], tmp_path: Path) -> None:
    picture(tmp_path / "1.jpg")
    path = tmp_path / "set.tsv"
    path.write_text("\ufeffFile Name\tcaption_1\tcaption_2\tcaption_3\n1.jpg\tA cat\tA dog\t\n")
    dataset = load_dataset(path, format="tsv")
    assert dataset.records[0].captions == ("A cat", "A dog")
    assert not dataset.problems


def test_marks_of_start_and_end_are_no_words(picture: Callable[..., None], tmp_path: Path) -> None:
    captions = [
        "<start> a dog runs <end>",
        "<s>A cat.</s> ",
        "<b>bold</b> <end> of it",
        "<BOS><EOS>",
    ]
    picture(tmp_path / "a.jpg")
    (tmp_path / "c.json").write_text(json.dumps([{"path": "a.jpg", "captions": captions}]))
    dataset = load_dataset(tmp_path / "c.json")
    assert dataset.records[0].captions == ("a dog runs", "A cat.", "<b>bold</b> <end> of it")
    assert dataset.problem_counts() == {"empty caption": 1}
    assert "3 captions read without marks such as <start> ... <end>" in dataset.notes


def test_a_json_list_is_read_as_lines(picture: Callable[..., None], tmp_path: Path) -> None:
    picture(tmp_path / "1.jpg")
    path = tmp_path / "set.json"
    path.write_text('[{"image": "1.jpg", "caption": "A cat", "image_id": 5}]')
    record = load_dataset(path).records[0]
    assert (record.image_id, record.captions) == ("5", ("A cat",))


def test_images_settles_where_pictures_are(
    builders: Builders, picture: Callable[..., None], tmp_path: Path
) -> None:
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    root.mkdir()
    visited = 0
    for name, build in builders.items():
        if name in ("folder", "coco") or SOURCES[name].is_container:
            continue
        data = build(root)
        dataset = load_dataset(data, format=name)
        for record in dataset.records:
            picture(elsewhere / record.path.name)
            record.path.unlink()
        dataset = load_dataset(data, format=name, images=elsewhere)
        assert {record.path.parent for record in dataset.records} == {elsewhere}
        visited += 1
    assert visited == 4


def test_sidecars_apart_from_their_pictures(builders: Builders, tmp_path: Path) -> None:
    root, pictures = tmp_path / "text", tmp_path / "pictures"
    root.mkdir()
    builders["folder"](root)
    for path in sorted(root.rglob("*.jpg")):
        (pictures / path.parent.name).mkdir(parents=True, exist_ok=True)
        path.rename(pictures / path.parent.name / path.name)
    dataset = load_dataset(root, format="folder", images=pictures)
    assert dataset.split_counts() == {"train": 1, "val": 1, "test": 1}


def test_no_split_said_draws_one_and_says_so(picture: Callable[..., None], tmp_path: Path) -> None:
    for number in range(20):
        picture(tmp_path / f"{number}.JPG", number)
        (tmp_path / f"{number}.txt").write_text("A cat .\n\nAn animal .\n")
    dataset = load_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 16, "val": 2, "test": 2}
    assert dataset.notes == (
        "the data names no split, so one was drawn by the hash of the ids: 16 train, 2 val, 2 test",
    )


def test_what_cannot_be_told_apart_is_asked_about(builders: Builders, tmp_path: Path) -> None:
    builders["flickr8k"](tmp_path)
    builders["csv"](tmp_path)
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path)
    assert "could be read as flickr8k (Flickr8k.token.txt" in str(error.value)
    assert "; csv (a .csv" in str(error.value)
    known = "coco, karpathy, flickr8k, folder, csv, jsonl, parquet, arrow, webdataset, scenes"
    assert f"--format (one of {known})" in str(error.value)
    assert load_dataset(tmp_path, format="csv").format == "csv"


def test_pictures_without_captions_get_a_line_that_says_what_to_do(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "my set" / "a.jpg")
    picture(tmp_path / "my set" / "b.jpg")
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path / "my set")
    assert str(error.value) == (
        f"{tmp_path}/my set is a folder with 2 .jpg, without captions: write the caption of a.jpg "
        "into a.txt beside it, and so on; or let a model write them: "
        f"showtell caption '{tmp_path}/my set' --format sidecar"
    )


def test_pictures_with_a_table_of_another_name_get_the_name_of_the_table(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text('{"images": [], "annotations": []}')
    (tmp_path / "labels.csv").write_text("image,caption\na.jpg,A cat\n")
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path)
    assert str(error.value).endswith(
        f"; give the file with the captions: {tmp_path}/labels.csv or "
        f"{tmp_path}/annotations/train.json"
    )


@pytest.mark.usefixtures("without_heif")
def test_pictures_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("a.heic", "a.txt", "b.HEIC"):
        (tmp_path / name).touch()
    with pytest.raises(
        DataError, match=r"no picture that can be read; left out: 2 \.heic, for which"
    ):
        load_dataset(tmp_path)


def test_what_is_not_recognised_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "a.docx").touch()
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path)
    message = str(error.value)
    assert f"cannot tell the format of {tmp_path}: found a folder with 1 .docx;" in message
    assert "docs/formats.md" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "format", "said"),
    [
        ("nowhere", None, "no data at nowhere; expected a file or folder"),
        ("scene", None, "did you mean the built-in set, scenes?"),
        ("nowhere", "coco", "no data at nowhere"),
        ("nowhere", "cocoo", "unknown format 'cocoo'. Did you mean 'coco'?"),
        ("scenes:0", None, "goes from 10 to 99,999"),
        ("nowhere", "scenes", "nowhere is not the built-in set; write scenes, scenes:NUMBER"),
        ("a\0b", None, "no data at"),
    ],
)
def test_names_of_nothing(data: str, format: str | None, said: str) -> None:
    with pytest.raises(DataError) as error:
        load_dataset(data, format=format)
    assert said in str(error.value)


def test_images_must_be_a_folder(builders: Builders, tmp_path: Path) -> None:
    data = builders["csv"](tmp_path)
    with pytest.raises(DataError, match=r"--images .*captions\.csv is not a folder"):
        load_dataset(data, images=data)
    with pytest.raises(DataError, match="renders its own pictures; leave out --images"):
        load_dataset("scenes:10", images=tmp_path)


def paths_of(dataset: Dataset, root: Path) -> dict[str, str]:
    return {r.image_id: r.path.relative_to(root).as_posix() for r in dataset.records}


def captions_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.image_id: record.captions for record in dataset.records}


def write_coco(path: Path, first_id: int, names: tuple[str, ...]) -> Path:
    images = [{"id": first_id + n, "file_name": name} for n, name in enumerate(names)]
    annotations = [{"image_id": i["id"], "caption": f"A {i['file_name']} ."} for i in images]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_train_and_val_may_number_their_pictures_alike(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    for shade, name in enumerate(["train/1.jpg", "train/2.jpg", "val/1.jpg", "val/2.jpg"]):
        picture(tmp_path / name, 60 * shade)
    write_coco(tmp_path / "annotations" / "captions_train.json", 1, ("1.jpg", "2.jpg"))
    val = write_coco(tmp_path / "annotations" / "captions_val.json", 11, ("1.jpg", "2.jpg"))
    of_val = {"11": "val/1.jpg", "12": "val/2.jpg"}
    assert paths_of(load_dataset(val), tmp_path) == of_val
    both = load_dataset(tmp_path)
    assert paths_of(both, tmp_path) == {"1": "train/1.jpg", "2": "train/2.jpg"} | of_val
    assert not both.problems
    entries = [
        {"filename": "1.jpg", "cocoid": n, "split": split, "sentences": [{"raw": "A dog ."}]}
        for n, split in enumerate(["val", "train"])
    ]
    path = tmp_path / "dataset_own.json"
    path.write_text(json.dumps({"images": entries}))
    assert paths_of(load_dataset(path), tmp_path) == {"0": "val/1.jpg", "1": "train/1.jpg"}


def test_a_picture_in_folders_of_two_splits_is_ambiguous(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    for shade, name in enumerate(["train/1.jpg", "val/1.jpg", "train/3.jpg"]):
        picture(tmp_path / name, 60 * shade)
    for name in ("train/2.jpg", "val/2.jpg"):  # one picture, copied
        picture(tmp_path / name, 240)
    path = write_coco(tmp_path / "captions.json", 1, ("1.jpg", "2.jpg", "3.jpg"))
    dataset = load_dataset(path)
    assert paths_of(dataset, tmp_path) == {"2": "train/2.jpg", "3": "train/3.jpg"}
    [problem] = dataset.problems
    assert (problem.kind, problem.where) == ("ambiguous picture", "1")
    assert problem.detail == f"1.jpg could be {tmp_path}/train/1.jpg or {tmp_path}/val/1.jpg"
    write_coco(path, 1, ("1.jpg",))
    with pytest.raises(DataError, match=r"say which with --images .*/train or .*/val"):
        load_dataset(path)


def test_a_table_named_as_a_split_has_its_pictures(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "train_images" / "0.jpg", 0)
    picture(tmp_path / "test_images" / "0.jpg", 90)
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("image,caption\n0.jpg,A cat .\n")
        read = load_dataset(tmp_path / f"{name}.csv")
        assert paths_of(read, tmp_path) == {"0.jpg": f"{name}_images/0.jpg"}


def test_a_path_as_written_comes_first(picture: Callable[..., None], tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", 0)
    picture(tmp_path / "images" / "a.jpg", 90)
    (tmp_path / "c.csv").write_text("path,caption\na.jpg,A cat .\n")
    assert paths_of(load_dataset(tmp_path / "c.csv"), tmp_path) == {"a.jpg": "a.jpg"}


@pytest.mark.parametrize("order", [1, -1])
def test_images_of_one_folder_are_not_those_of_another(
    picture: Callable[..., None], tmp_path: Path, order: int
) -> None:
    for number in (1, 2, 3):
        for camera in (1, 2):
            picture(tmp_path / f"photos/cam{camera}/{number}.jpg", 60 * number + camera)
    names = ["cam1/1.jpg", "cam2/1.jpg", "cam2/2.jpg"][::order]
    rows = "".join(f"{name},A {name} .\n" for name in names)
    (tmp_path / "all.csv").write_text(f"path,caption\n{rows}")
    read = load_dataset(tmp_path / "all.csv", images=tmp_path / "photos" / "cam1")
    assert paths_of(read, tmp_path) == {"cam1/1.jpg": "photos/cam1/1.jpg"}
    assert captions_of(read) == {"cam1/1.jpg": ("A cam1/1.jpg .",)}
    assert {(p.kind, p.where) for p in read.problems} == {
        ("missing picture", "cam2/1.jpg"),
        ("missing picture", "cam2/2.jpg"),
    }


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train/a.jpg", "val/b.jpg"], ["a.jpg", "b.jpg"]),  # all in one folder
        (["/old/x/sub/c.jpg", "/old/x/a.jpg"], ["sub/c.jpg", "a.jpg"]),  # moved
        (["x\\a.jpg", "x\\b.jpg"], ["a.jpg", "b.jpg"]),
    ],
)
def test_images_has_pictures_of_other_folders(
    picture: Callable[..., None], tmp_path: Path, names: list[str], found: list[str]
) -> None:
    for shade, name in enumerate(["a.jpg", "b.jpg", "sub/c.jpg"]):
        picture(tmp_path / "own" / name, 60 * shade)
    rows = "".join(f"{name},A cat .,train\n" for name in names)
    (tmp_path / "all.csv").write_text(f"path,caption,split\n{rows}")
    read = load_dataset(tmp_path / "all.csv", images=tmp_path / "own")
    assert list(paths_of(read, tmp_path / "own").values()) == found
    assert not read.problems
    assert "2 pictures found in other folders than the data names" in read.notes


def test_a_bare_name_is_no_picture_of_a_folder_that_is_there(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "cam1" / "1.jpg", 0)
    picture(tmp_path / "2.jpg", 90)
    rows = [{"path": f"cam{number}/{number}.jpg", "caption": "A dog ."} for number in (1, 2)]
    (tmp_path / "all.json").write_text(json.dumps(rows))
    read = load_dataset(tmp_path / "all.json")
    assert paths_of(read, tmp_path) == {"cam1/1.jpg": "cam1/1.jpg"}
    assert [(p.kind, p.where) for p in read.problems] == [("missing picture", "cam2/2.jpg")]


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_file_that_two_names_lead_to_is_neithers(
    picture: Callable[..., None], tmp_path: Path, suffix: str
) -> None:
    for number in (1, 2, 3):
        picture(tmp_path / f"frames/{number}.jpg", 60 * number)
    names = ["video1/frames/1.jpg", "video2/frames/1.jpg", "video2/frames/2.jpg", "frames/3.jpg"]
    names += ["video1/frames/3.jpg"]
    rows = [{"path": name, "caption": f"A frame of {name} ."} for name in names]
    table = "\n".join(["path,caption", *(",".join(row.values()) for row in rows)])
    (tmp_path / f"all.{suffix}").write_text(table if suffix == "csv" else json.dumps(rows))
    read = load_dataset(tmp_path / f"all.{suffix}", images=tmp_path)
    taken = {"video2/frames/2.jpg": "frames/2.jpg", "frames/3.jpg": "frames/3.jpg"}
    assert paths_of(read, tmp_path) == taken
    assert captions_of(read) == {name: (f"A frame of {name} .",) for name in taken}
    assert {(p.kind, p.where) for p in read.problems} == {
        ("missing picture", "video1/frames/1.jpg"),
        ("missing picture", "video2/frames/1.jpg"),
        ("two ids for one picture", "video1/frames/3.jpg"),
    }


def test_spellings_of_one_moved_path_are_one_name(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    for number in (1, 2):
        picture(tmp_path / f"dd/train2017/{number}.jpg", 60 * number)
    names = [f"{root}coco/train2017/{n}.jpg" for n in (1, 2) for root in ("", "./", ".\\")]
    rows = [{"path": name, "caption": f"A cat of {name} ."} for name in names]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    joined = load_dataset(tmp_path / "all.jsonl", images=tmp_path / "dd")
    assert captions_of(joined) == {
        first: tuple(row["caption"] for row in rows if row["path"].endswith(first))
        for first in ("coco/train2017/1.jpg", "coco/train2017/2.jpg")
    }
    assert not joined.problems
    assert "2 pictures found in other folders than the data names" in joined.notes
    ids = write_coco(tmp_path / "captions.json", 1, tuple(names))
    twins = load_dataset(ids, images=tmp_path / "dd" / "train2017")
    assert paths_of(twins, tmp_path) == {"1": "dd/train2017/1.jpg", "4": "dd/train2017/2.jpg"}
    problems = [(problem.kind, problem.where) for problem in twins.problems]
    assert problems == [("two ids for one picture", twin) for twin in ("2", "3", "5", "6")]


def test_files_that_several_names_lead_to_are_not_said_to_be_missing(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "own/1.jpg", 0)
    ids = write_coco(tmp_path / "captions.json", 1, ("a/1.jpg", "b/1.jpg"))
    with pytest.raises(DataError) as caught:
        load_dataset(ids, images=tmp_path / "own")
    told = f"{tmp_path}/own/1.jpg could be a/1.jpg or b/1.jpg"
    assert f"none of its 2 pictures can be found for certain: {told}; say" in str(caught.value)
    picture(tmp_path / "own/2.jpg", 90)
    ids = write_coco(tmp_path / "captions.json", 1, ("a/1.jpg", "b/1.jpg", "b/2.jpg"))
    read = load_dataset(ids, images=tmp_path / "own")
    assert paths_of(read, tmp_path) == {"3": "own/2.jpg"}
    assert read.problems[0].detail == told


def test_only_cocos_own_names_are_of_another_release(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "p.jpg", 0)
    picture(tmp_path / "q.jpg", 90)
    read = load_dataset(write_coco(tmp_path / "own.json", 1, ("p.jpg", "sub/q.jpg")))
    assert paths_of(read, tmp_path) == {"1": "p.jpg", "2": "q.jpg"}
    assert "1 picture found in other folders than the data names" in read.notes
    assert not any("2014" in note for note in read.notes)


def test_spellings_of_one_path_are_one_picture(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "p.jpg", 0)
    rows = ["./p.jpg,A cat .", "p.jpg,A tom .", f"{tmp_path}/p.jpg,A pet .", "./p.jpg,A puss ."]
    (tmp_path / "c.csv").write_text("\n".join(["path,caption", *rows]))
    read = load_dataset(tmp_path / "c.csv")
    assert captions_of(read) == {"./p.jpg": ("A cat .", "A tom .", "A pet .", "A puss .")}
    assert not read.problems
    (tmp_path / "c.csv").write_text("path,caption,split\np.jpg,A cat,train\n./p.jpg,A dog,test\n")
    read = load_dataset(tmp_path / "c.csv")
    assert captions_of(read) == {"p.jpg": ("A cat",)}
    assert [problem.kind for problem in read.problems] == ["conflicting splits"]
    ids = "image_id,path,caption\n1,p.jpg,A cat\n2,./p.jpg,A dog\n"
    (tmp_path / "c.csv").write_text(ids)
    [problem] = load_dataset(tmp_path / "c.csv").problems
    assert (problem.kind, problem.where) == ("two ids for one picture", "2")


def test_split_folders_may_not_share_a_picture(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    picture(tmp_path / "images" / "0.jpg", 0)
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        row = {"file_name": "../images/0.jpg", "text": f"A cat of {name} ."}
        (tmp_path / name / "metadata.jsonl").write_text(json.dumps(row))
    read = load_dataset(tmp_path)
    assert captions_of(read) == {"test/../images/0.jpg": ("A cat of test .",)}
    assert [problem.kind for problem in read.problems] == ["conflicting splits"]


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ("['A dog runs.', \"A dog's home.\"]", ("A dog runs.", "A dog's home.")),
        ('["A dog \\/ cat.", "A b."]', ("A dog / cat.", "A b.")),
        ("['A dog.'\n 'A cat.']", ("A dog.", "A cat.")),  # as NumPy writes it
        ("['A d\\'og \\d.']", ("A d'og \\d.",)),
        ("[sic] a dog [x]", ("[sic] a dog [x]",)),
        ("['A dog', 2]", ("['A dog', 2]",)),
        ("[1, 2]", ("[1, 2]",)),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_cell_may_hold_a_list_of_captions(
    picture: Callable[..., None], tmp_path: Path, cell: str, captions: tuple[str, ...], suffix: str
) -> None:
    picture(tmp_path / "p.jpg", 0)
    quoted = cell.replace('"', '""')
    row = json.dumps({"path": "p.jpg", "caption": cell})
    text = row if suffix == "jsonl" else f'path,caption\np.jpg,"{quoted}"\n'
    (tmp_path / f"c.{suffix}").write_text(text)
    read = load_dataset(tmp_path / f"c.{suffix}")
    assert captions_of(read) == {"p.jpg": captions}
    note = "1 text read as lists of captions, such as ['A dog runs.', 'A brown dog.']"
    assert (note in read.notes) == (captions != (cell,))


@pytest.mark.parametrize("of_lists", [True, False])
def test_json_of_columns_as_pandas_writes_it(
    picture: Callable[..., None], tmp_path: Path, of_lists: bool
) -> None:
    columns = {"image": ["p.jpg", "q.jpg"], "caption": ["A cat", "A dog"]}
    for shade, name in enumerate(columns["image"]):
        picture(tmp_path / name, 90 * shade)
    numbered = {key: {str(n): v for n, v in enumerate(c)} for key, c in columns.items()}
    (tmp_path / "c.json").write_text(json.dumps(columns if of_lists else numbered))
    read = load_dataset(tmp_path / "c.json")
    assert captions_of(read) == {"p.jpg": ("A cat",), "q.jpg": ("A dog",)}


def test_lines_end_at_line_ends_alone(picture: Callable[..., None], tmp_path: Path) -> None:
    picture(tmp_path / "p.jpg", 0)
    (tmp_path / "p.txt").write_bytes("A dog on\u2028a street\r\nA cat\x0bhere\rA cow\n".encode())
    read = load_dataset(tmp_path)
    assert captions_of(read) == {"p.jpg": ("A dog on\u2028a street", "A cat\x0bhere", "A cow")}


def test_a_text_is_found_in_unicodes_other_form(
    picture: Callable[..., None], tmp_path: Path
) -> None:
    """As in archives of macOS, whose names have the accent apart."""
    picture(tmp_path / "cafe\u0301.jpg", 0)
    (tmp_path / "caf\u00e9.txt").write_text("A cat .")
    assert captions_of(load_dataset(tmp_path)) == {"cafe\u0301.jpg": ("A cat .",)}
