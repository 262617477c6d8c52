"""``showtell rerank``: a model learns to choose, and every command chooses with it."""

import json
import re
import shutil
from pathlib import Path

import pytest
from cli_shell import Shell
from safetensors.numpy import load_file, save_file

from showtell.data.scenes import scene_of
from showtell.data.scenes.draw import paint

pytestmark = pytest.mark.slow(25)
DATA = "scenes:400"
SMALL = ("--epochs", "3", "--batch-size", "40", "-s", "encoder.views=0", "--preset", "none")
SHAPE = ("--decoder", "attention", "-s", "decoder.hidden_size=64", "-s", "decoder.embed_size=48")


@pytest.fixture(scope="module")
def trained(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerank") / "run"
    settings = ("-s", "decoding.beam_size=5", "-s", "optimizer.lr=5e-3", "--encoder", "lite0")
    done = showtell("train", DATA, "-o", folder, *SMALL, *SHAPE, *settings)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def reranked(showtell: Shell, trained: Path) -> tuple[Path, dict]:
    folder = trained.with_name("reranked")
    shutil.copytree(trained, folder)
    done = showtell("rerank", folder, DATA, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def scores(showtell: Shell, model: Path, *options: str) -> dict:
    done = showtell("evaluate", model, DATA, "--split", "val", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["metrics"]


def test_what_it_gains_is_what_an_evaluation_finds(
    showtell: Shell, trained: Path, reranked: tuple[Path, dict]
) -> None:
    folder, said = reranked
    assert said["difference"] > 0
    assert said["CIDEr-D"]["search"] < said["CIDEr-D"]["chosen"] < said["best"]
    before = scores(showtell, trained)
    assert before["CIDEr-D"] == pytest.approx(said["CIDEr-D"]["search"], abs=1e-6)
    assert scores(showtell, folder, "--no-rerank") == before
    assert scores(showtell, folder)["CIDEr-D"] > before["CIDEr-D"]
    assert scores(showtell, folder, "--decoding", "greedy") == scores(
        showtell, trained, "--decoding", "greedy"
    )


def test_a_new_one_has_to_be_better_than_what_the_model_has(
    showtell: Shell, reranked: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, _ = reranked
    again = shutil.copytree(folder, tmp_path / "again")
    done = showtell("rerank", again, DATA)
    assert done.returncode == 1
    assert "chooses no better, beyond chance, than the one that the model has" in done.stderr
    for name in ("best/reranker.safetensors", "best/metrics.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_one_that_chooses_worse_gives_way(
    showtell: Shell, reranked: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, said = reranked
    again = shutil.copytree(folder, tmp_path / "again")
    name = "best/reranker.safetensors"
    parts = load_file(again / name)
    save_file(parts | {"choice": -parts["choice"]}, again / name)
    done = showtell("rerank", again, DATA, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == said
    assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_packed_and_exported_it_chooses_the_same(
    showtell: Shell, reranked: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, _ = reranked
    scene, random = scene_of("val-00003")
    paint(scene, random).save(tmp_path / "a.png")
    packed, exported = tmp_path / "packed", tmp_path / "exported"
    assert showtell("pack", folder, "-o", packed, "--weights", "fp32").returncode == 0
    assert (packed / "reranker.safetensors").is_file()
    done = showtell("export", folder, "-o", exported)
    assert done.returncode == 0, done.stderr
    assert (
        "reranker.safetensors" in json.loads((exported / "showtell-onnx.json").read_text())["files"]
    )
    asked = ("--num-captions", "4", "--format", "jsonl", "--precision", "fp32")
    said = []
    for model in (folder, packed, exported):
        done = showtell("caption", tmp_path / "a.png", "-m", model, *asked)
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout))
    for other in said[1:]:
        assert [o["caption"] for o in other["alternatives"]] == [
            o["caption"] for o in said[0]["alternatives"]
        ]
        assert other["caption"] == said[0]["caption"]
        assert other["confidence"] == pytest.approx(said[0]["confidence"], abs=2e-3)
    doubting = [
        showtell("caption", tmp_path / "a.png", "-m", model, "--doubt", "10", *asked)
        for model in (folder, exported)
    ]
    texts = [json.loads(done.stdout)["caption"] for done in doubting]
    assert texts[0] == texts[1]
    path = exported / "reranker.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    broken = showtell("caption", tmp_path / "a.png", "-m", exported)
    assert broken.returncode == 1
    assert "reranker.safetensors" in broken.stderr
    assert broken.stderr.count("\n") == 1


def test_what_cannot_be_reranked(
    showtell: Shell, trained: Path, reranked: tuple[Path, dict], tmp_path: Path
) -> None:
    few = showtell("rerank", trained, "scenes:40")
    assert few.returncode == 1
    assert "a reranker needs 20 of each" in few.stderr.splitlines()[-1]
    shipped = showtell("rerank", "default", DATA)
    assert shipped.returncode == 1
    assert "is not changed" in shipped.stderr
    others = showtell("rerank", "openai:gpt", DATA)
    assert others.returncode == 1
    assert "only showtell's own models choose among captions" in others.stderr
    one = tmp_path / "one"
    shutil.copytree(trained / "best", one)
    settings = (one / "config.toml").read_text()
    for now, instead in (("beam_size = \\d+", "beam_size = 1"), ('"beam"', '"greedy"')):
        changed, number = re.subn(now, instead, settings)
        assert number == 1
        (one / "config.toml").write_text(changed)
        greedy = showtell("rerank", one, DATA)
        assert greedy.returncode == 1
        assert "beam_size = 5 and rerank = true under [decoding] in" in greedy.stderr
        assert not (one / "reranker.safetensors").exists()
    mean = showtell("average", reranked[0], "-o", tmp_path / "mean")
    assert mean.returncode == 0, mean.stderr
    assert not (tmp_path / "mean" / "reranker.safetensors").exists()


def test_a_run_keeps_it_where_it_chooses_better(
    showtell: Shell, reranked: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, _ = reranked
    run = tmp_path / "run"
    quick = ("--epochs", "1", "--batch-size", "40", "-s", "encoder.views=0", "--lr", "1e-6")
    done = showtell("train", DATA, "-o", run, "--from", folder, *quick)
    assert done.returncode == 0, done.stderr
    # The weights hardly change, so what chose better still does.
    assert f"the reranker of {folder} is kept" in done.stderr
    name = "best/reranker.safetensors"
    assert (run / name).read_bytes() == (folder / name).read_bytes()
    kept = json.loads((run / "best" / "metrics.json").read_text())["metrics"]
    assert kept["CIDEr-D"] == pytest.approx(scores(showtell, run)["CIDEr-D"], abs=1e-6)
