"""Checkpoint folders that are damaged, or that somebody made to do harm.

Loading one and captioning a picture ends in a caption or in one line that says what is wrong: soon,
in little memory, and with no file outside of the folder opened or written.
"""

import json
import os
import resource
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
import tomli_w
import torch
from fuzzing import CHANGES, MOST_BYTES, MOST_SECONDS, changed, fuzzed, tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_encoder import TinyBackbone, tiny_encoder

from showtell.config import Config
from showtell.decoders.registry import build_decoder
from showtell.encoders import encoder as encoders
from showtell.encoders.backbone import read_weights
from showtell.encoders.encoder import Encoder, trained_fingerprint
from showtell.errors import CheckpointError, ConfigError, ShowtellError
from showtell.inference.backends import native
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.captioner import Captioner
from showtell.inference.checkpoint import (
    Checkpoint,
    ResumeState,
    load_checkpoint,
    load_resume_state,
    save_checkpoint,
)
from showtell.publish.pack import pack_checkpoint
from showtell.text.subwords import BYTE_OF, SubwordVocabulary
from showtell.text.vocabulary import Vocabulary, WordVocabulary

PICTURE = Image.new("RGB", (40, 30), "teal")
WORDS = ("a", "dog", "cat", "on", "the", "grass", "runs", "red")
DECODERS = {
    "show_tell": {"embed_size": 8, "hidden_size": 12},
    "up_down": {"embed_size": 8, "hidden_size": 12, "attention_size": 6},
    "transformer": {
        "hidden_size": 16,
        "num_heads": 2,
        "num_layers": 1,
        "feedforward_size": 16,
        "concepts": 3,
    },
    "prefix_lm": {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "prefix_length": 2},
}
RESUME = {
    "epoch": 1,
    "batch": 0,
    "step": 9,
    "best": [0.5, -2.0],
    "best_epoch": 1,
    "seconds": 3.5,
    "num_skipped": 0,
    "log_offsets": {"text": 10, "data": 20},
    "data_fingerprint": "data-1",
}


def build_tiny(name: str, *, weights: Path | None = None, squash: bool = False) -> Encoder:
    """As ``build_encoder``, which also knows an encoder that costs nothing."""
    if name != "tiny":
        return encoders.build_encoder(name, weights=weights)
    encoder = tiny_encoder()
    if weights is not None:
        try:
            encoder.backbone.load_state_dict(read_weights(weights))
        except RuntimeError as error:
            raise ConfigError("the weights do not fit") from error
    return encoder


def vocabulary_of(kind: str) -> Vocabulary:
    if kind == "prefix_lm":
        return SubwordVocabulary([*sorted(BYTE_OF), "Ġa", "do"], [("Ġ", "a"), ("d", "o")])
    return WordVocabulary(dict.fromkeys(WORDS, 9), 1)


def make(kind: str, folder: Path, *changes: str) -> Checkpoint:
    """A checkpoint that is whole, with everything that one can have."""
    torch.manual_seed(0)
    settings = {"kind": kind, **DECODERS[kind]}
    own = [f"decoder.{name}={value}" for name, value in settings.items()]
    config = Config.load(None, ["encoder.name=tiny", "decoding.max_length=8", *own, *changes])
    vocabulary, encoder = vocabulary_of(kind), tiny_encoder()
    sizes = {"feature_size": encoder.pooled_size, "region_size": encoder.grid_size[1]}
    decoder = build_decoder(config.decoder, vocab_size=len(vocabulary), **sizes).eval()
    trained = {"conv.bias": torch.ones(encoder.pooled_size)}
    metrics = {
        **sizes,
        "base_encoder_fingerprint": encoder.base_fingerprint,
        "encoder_fingerprint": trained_fingerprint(encoder.base_fingerprint, trained),
        "metrics": {"CIDEr-D": 0.5},
        "versions": {"torch": "2"},
        "calibration": {"slope": 2.0, "offset": 1.0, "cider": 0.5},
    }
    checkpoint = Checkpoint(decoder, vocabulary, config, metrics, trained)
    state = {"rng.cpu": torch.get_rng_state(), "optimizer.0.step": torch.ones(())}
    save_checkpoint(folder, checkpoint, resume=ResumeState(state, RESUME))
    return checkpoint


SEEDS: dict[str, Path] = {}  # a good folder for each kind of decoder


def caption(folder: Path, **options: Any) -> str:
    with mock.patch.object(native, "build_encoder", build_tiny):
        captioner = Captioner.load(folder, device="cpu", precision="fp32", **options)
        return captioner.caption(PICTURE).text


# What is opened and run, told by Python itself.

_log: list[tuple[str, object]] | None = None
EVENTS = ("open", "socket.connect", "socket.getaddrinfo", "subprocess.", "os.system", "urllib.")


def _audit(event: str, args: tuple[object, ...]) -> None:
    if _log is not None and event.startswith(EVENTS):
        _log.append((event, args[0]))


@contextmanager
def watched() -> Iterator[list[tuple[str, object]]]:
    """Collects the files that are opened and the addresses that are asked for."""
    global _log
    if not hasattr(sys, "_showtell_checkpoint_audited"):
        sys.addaudithook(_audit)  # there is no way to take one away
        sys._showtell_checkpoint_audited = True  # type: ignore[attr-defined]
    _log = []
    try:
        yield _log
    finally:
        _log = None


OWN = (sys.prefix, sys.base_prefix, str(Path(encoders.__file__).parents[1]), "/proc/", "/sys/")


def outside(log: list[tuple[str, object]], folder: Path) -> list[tuple[str, object]]:
    """What is neither of the folder nor of the installed programs."""
    allowed = (str(folder), *OWN)
    return [
        (event, what)
        for event, what in log
        if event != "open" or (isinstance(what, str) and not what.startswith(allowed))
    ]


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(
        [0, -1, 1, 7, 10**6, 2_000_000, 2**31, 2**63, 10**30, 10**400, 1e308, float("nan")]
    ),
    st.sampled_from(
        [
            *("/etc/passwd", "../../etc/passwd", "../outside.safetensors", "model.safetensors"),
            *("..", ".", "", "\0", "\ud800", "a\nb", "x" * 10_000, "/dev/zero", "config.toml"),
            *("timm:hf-hub:a/b", "timm:local-dir:/etc", "timm:resnet18", "lite0", "lite2", "tiny"),
        ]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
PICKS = st.lists(st.integers(0, 200), min_size=1, max_size=4)
NUMBERS = st.sampled_from([float("nan"), float("inf"), 1e38, -1e30, 0.0])


def edit(value: Any, picks: list[int], new: Any, is_removed: bool) -> Any:
    """A JSON value with one part of it, found by ``picks``, replaced or removed."""
    if not picks or not isinstance(value, dict | list) or not value:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = (
        sorted(copy, key=str)[picks[0] % len(copy)]
        if isinstance(copy, dict)
        else picks[0] % len(copy)
    )
    if is_removed and len(picks) == 1:
        del copy[key]
    else:
        copy[key] = edit(copy[key], picks[1:], new, is_removed)
    return copy


def edit_json(content: bytes, *how: Any) -> bytes:
    return json.dumps(edit(json.loads(content), *how)).encode()


def edit_toml(content: bytes, picks: list[int], new: Any, is_removed: bool) -> bytes:
    values = tomllib.loads(content.decode())
    with suppress(TypeError, ValueError, OverflowError):  # TOML has no null
        return tomli_w.dumps(edit(values, picks[:2], new, is_removed)).encode()
    return content


def edit_header(content: bytes, *how: Any) -> bytes:
    """The header of a .safetensors file is JSON, after its length."""
    length = int.from_bytes(content[:8], "little")
    header = edit_json(content[8 : 8 + length], *how)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


EDITS: dict[str, Callable[..., bytes]] = {
    ".json": edit_json,
    ".toml": edit_toml,
    ".safetensors": edit_header,
}
FILES = (
    *("model.safetensors", "config.toml", "vocabulary.json", "metrics.json"),
    *("encoder.safetensors", "resume.json", "resume.safetensors"),
)


def fill(file: Path, which: int, number: float) -> None:
    """Give one of a file's tensors the same number everywhere."""
    tensors = load_file(file)
    name = sorted(tensors)[which % len(tensors)]
    is_whole = not tensors[name].is_floating_point()
    value = int(number) if is_whole and abs(number) < 1e18 else -1 if is_whole else number
    tensors[name] = torch.full_like(tensors[name], value % 256 if is_whole else value)
    save_file(tensors, file)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[Path], None]:
    """Something that is done to a checkpoint's folder."""
    name = draw(st.sampled_from(FILES))
    kind = draw(st.sampled_from(["bytes", "edit", "edit", "edit", "numbers", "gone", "link"]))
    edits = [draw(st.tuples(PICKS, VALUES, st.booleans())) for _ in range(draw(st.integers(1, 2)))]
    changes, which, number = draw(CHANGES), draw(st.integers(0, 50)), draw(NUMBERS)

    def damage(folder: Path) -> None:
        file = folder / name
        if kind == "gone":
            file.unlink()
        elif kind == "link":
            file.unlink()
            file.symlink_to("/dev/zero")
        elif kind == "numbers" and file.suffix == ".safetensors":
            fill(file, which, number)
        elif kind == "bytes":
            file.write_bytes(changed(file.read_bytes(), changes))
        else:
            with suppress(AttributeError):  # a second edit of what is not an object any more
                for edit in edits:
                    file.write_bytes(EDITS[file.suffix](file.read_bytes(), *edit))

    return damage


@fuzzed
@given(kind=st.sampled_from(sorted(DECODERS)), damage=damages())
def try_one(kind: str, damage: Callable[[Path], None]) -> None:
    with TemporaryDirectory() as place:
        root = Path(place)
        folder = root / "work" / "model"
        shutil.copytree(SEEDS[kind], folder)
        save_file(TinyBackbone(12).state_dict(), root / "work" / "outside.safetensors")
        damage(folder)
        before, start = tree(root), time.monotonic()
        with watched() as log:
            for act in (caption, load_resume_state):
                try:
                    act(folder)
                except ShowtellError as error:
                    assert str(error) and "\n" not in str(error) and len(str(error)) < 2000
        assert time.monotonic() - start < MOST_SECONDS
        assert tree(root) == before
        assert outside(log, folder) == []


@pytest.mark.slow
def test_damaged_and_hostile_checkpoints(tmp_path: Path) -> None:
    for kind in DECODERS:
        SEEDS[kind] = tmp_path / kind
        make(kind, SEEDS[kind])
        caption(SEEDS[kind])
        load_resume_state(SEEDS[kind])
    encoders.build_encoder("lite2")  # one of the names that it tries
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try_one()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < MOST_BYTES


def rewrite(folder: Path, old: str, new: str) -> Path:
    """Change the settings of a checkpoint."""
    config = folder / "config.toml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    return folder


@pytest.mark.parametrize("kind", DECODERS)
def test_enormous_sizes_are_refused_before_memory_is_taken(kind: str, tmp_path: Path) -> None:
    make(kind, tmp_path / "model")
    size = DECODERS[kind]["hidden_size"]
    rewrite(tmp_path / "model", f"hidden_size = {size}", "hidden_size = 2000000")
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"model.safetensors does not fit .* has the shape"):
        load_checkpoint(tmp_path / "model")
    assert time.monotonic() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_vocabulary_of_another_length(tmp_path: Path) -> None:
    make("show_tell", tmp_path / "model")
    WordVocabulary({"dog": 1}, 1).save(tmp_path / "model" / "vocabulary.json")
    with pytest.raises(CheckpointError, match=r"the shape \(12, .*they describe \(5, "):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_that_fits_itself_but_not_the_encoder(kind: str, tmp_path: Path) -> None:
    made = make(kind, tmp_path / "model")
    sizes = {"feature_size": 5, "region_size": 5}
    decoder = build_decoder(made.config.decoder, vocab_size=len(made.vocabulary), **sizes).eval()
    save_checkpoint(
        tmp_path / "model", replace(made, decoder=decoder, metrics=made.metrics | sizes)
    )
    with pytest.raises(CheckpointError, match=r"feature_size = 5, and its encoder 'tiny' gives 12"):
        caption(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "size"),
    [("vocabulary.json", 50_000_000), ("metrics.json", 5_000_000), ("config.toml", 300_000)],
)
def test_files_larger_than_any_real_one_are_not_parsed(
    name: str, size: int, tmp_path: Path
) -> None:
    make("show_tell", tmp_path / "model")
    with open(tmp_path / "model" / name, "wb") as file:
        file.truncate(size)
    with pytest.raises(CheckpointError, match=rf"{name} has {size:,} bytes; expected .* at most"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(number: float, tmp_path: Path) -> None:
    made = make("show_tell", tmp_path / "model")
    with torch.no_grad():
        made.decoder.output.weight[3, 2] = number
    save_checkpoint(tmp_path / "model", made)
    with pytest.raises(CheckpointError, match=r"not numbers \(output.weight in model.*damaged; us"):
        load_checkpoint(tmp_path / "model")


def test_finite_weights_whose_products_are_not_numbers(tmp_path: Path) -> None:
    made = make("show_tell", tmp_path / "model")
    with torch.no_grad():
        for name, weight in made.decoder.named_parameters():
            weight.fill_(3e38 if name == "output.weight" else 9.0)
    save_checkpoint(tmp_path / "model", made)
    with pytest.raises(CheckpointError, match="model computes values that are not numbers"):
        caption(tmp_path / "model")


OUTSIDE = ["/etc/passwd", "../outside.safetensors", "{root}/outside.safetensors", ".", "/dev/zero"]


@pytest.mark.parametrize("weights", OUTSIDE)
def test_weights_outside_of_the_folder_are_not_read(weights: str, tmp_path: Path) -> None:
    root = tmp_path
    save_file(TinyBackbone(12).state_dict(), root / "outside.safetensors")
    made = make("show_tell", root / "model", f"encoder.weights={weights.format(root=root)}")
    assert made.encoder_weights is None
    with watched() as log, pytest.raises(CheckpointError, match=r"not in its folder.*--trust-mod"):
        caption(root / "model")
    assert outside(log, root / "model") == []


def test_who_trusts_a_model_gets_the_weights_that_it_names(tmp_path: Path) -> None:
    state = {k: v.contiguous() for k, v in tiny_encoder().backbone.state_dict().items()}
    save_file(state, tmp_path / "outside.safetensors")
    make("show_tell", tmp_path / "plain")
    make("show_tell", tmp_path / "model", f"encoder.weights={tmp_path}/outside.safetensors")
    text = caption(tmp_path / "model", trust_model=True)
    assert text == caption(tmp_path / "plain")
    pack_checkpoint(tmp_path / "model", tmp_path / "packed", storage="fp32", trust_model=True)
    (tmp_path / "outside.safetensors").unlink()
    (tmp_path / "packed").rename(tmp_path / "moved")
    assert caption(tmp_path / "moved") == text
    [kept] = (tmp_path / "moved").glob("encoder-weights-*.safetensors")
    assert load_checkpoint(tmp_path / "moved").config.encoder.weights == Path(kept.name)
    assert b"outside" not in (tmp_path / "moved" / "config.toml").read_bytes()
    pack_checkpoint(tmp_path / "moved", tmp_path / "again", storage="fp32")
    assert (tmp_path / "again" / kept.name).read_bytes() == kept.read_bytes()


@pytest.mark.parametrize(
    "name", ["timm:hf-hub:someone/model", "timm:hf_hub:a/b", "timm:local-dir:/etc"]
)
def test_an_encoder_from_elsewhere_is_not_fetched(name: str, tmp_path: Path) -> None:
    made = make("show_tell", tmp_path / "model", f"encoder.name={name}")
    assert made.config.encoder.name == name
    with watched() as log, pytest.raises(CheckpointError, match=r"from elsewhere.*--trust-model"):
        caption(tmp_path / "model")
    assert outside(log, tmp_path / "model") == []


def test_a_state_to_resume_from_with_values_that_cannot_be(tmp_path: Path) -> None:
    make("show_tell", tmp_path / "model")
    file = tmp_path / "model" / "resume.json"
    for name, value in {"step": -1, "best": [1], "log_offsets": {"text": -5}, "epoch": "1"}.items():
        file.write_text(json.dumps(RESUME | {name: value}))
        with pytest.raises(CheckpointError, match=rf"no state to resume from: resume.json: {name}"):
            load_resume_state(tmp_path / "model")


def test_a_model_that_was_trained_with_weights_of_ones_own_keeps_them(tmp_path: Path) -> None:
    """What a run writes: one file, which its checkpoints share."""
    save_file(TinyBackbone(12).state_dict(), tmp_path / "own.safetensors")
    made = make("show_tell", tmp_path / "first")
    mine = replace(made, encoder_weights=tmp_path / "own.safetensors")
    save_checkpoint(tmp_path / "one", mine)
    save_checkpoint(tmp_path / "two", load_checkpoint(tmp_path / "one"))
    one, two = ([*(tmp_path / n).glob("encoder-weights-*")] for n in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two] and len(one) == 1
    assert os.path.samefile(one[0], two[0])
    assert load_checkpoint(tmp_path / "two").encoder_weights == two[0]
    assert isinstance(NativeCaptioner.load(tmp_path / "two", device="cpu"), NativeCaptioner)
