"""The default model in torch and in onnxruntime, and against what one would take instead.

By turns in one run, each in a process of its own: from the shell to a photo's caption, then within
a process the time of a lone photo, images/s from files in bulk, and peak memory; and bytes on disk.
Ours: torch in bf16 and fp32, the export that comes with the model, an export in fp32. OpenVINO is
measured on the encoder alone, where it is installed.

Theirs are BLIP-base, ViT-GPT2, GIT-base, and ViT-base with DistilGPT-2, by transformers, from their
public configurations with random weights, on which speed does not depend. They read the same
photos, in fp32 as their pages have it, greedily and with a beam of 3. Random weights end captions
anywhere, so each caption is given exactly as many tokens as ours have on average, the end counted
(``min_new_tokens`` and ``max_new_tokens``).

    python benchmarks/runtimes.py [--model RUN] [--photos FOLDER] [--num 96] [--num-theirs 6]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

from _harness import Figure, benchmark, part, peak_bytes
from features import find_photos

MOST_COLD, MOST_SHARE, MOST_MEMORY_MB, MOST_LATENCY_MS = 0.6, 1 / 3, 250, 40
LEAST_TIMES, MOST_MEMORY_SHARE = 15, 0.1
ROUNDS = 5  # processes of each of ours
WARM = 3  # photos before anything is timed
THEIRS = ("BLIP-base", "ViT-GPT2", "GIT-base", "ViT-base + DistilGPT-2")
FIRST = THEIRS[0]


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Ours beside each other, then theirs beside ours."""
    if options.quick:
        options.num, options.num_theirs, options.rounds, options.theirs = 4, 1, 1, (THEIRS[2],)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = options.photos or find_photos(folder, options.num if options.quick else None)
        ways = make_ours(folder, options)
        ours = {key: ways[key] for key in ("torch bf16", "onnx")} if options.quick else ways
        cold = cold_starts(ours, min(Path(photos).glob("*.jpg")), options)
        found = in_process(ours, photos, options)
        yield from our_figures(ours, cold, found)
        yield openvino_figure(options, ways["onnx fp32"]["model"])
        best = found["onnx"]
        length = round(best["tokens"])
        for other in options.theirs:
            yield from their_figures(other, folder, photos, length, best, cold["onnx"], options)


def make_ours(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Ways to run the model, by name: the model's folder, runtime and precision."""
    made = part(options, "exports", model=options.model, folder=str(folder))
    torch = {"model": options.model, "runtime": "torch"}
    return {
        "torch bf16": torch | {"precision": "bf16"},
        "torch fp32": torch | {"precision": "fp32"},
        "onnx": {"model": made["shipped"], "runtime": "onnx", "precision": "auto"},
        "onnx fp32": {"model": made["fp32"], "runtime": "onnx", "precision": "auto"},
    }


def exports(options: argparse.Namespace) -> dict[str, Any]:
    """The export that comes with the model, or one like it; and one in fp32."""
    import shutil

    from showtell.export.onnx import export_onnx
    from showtell.inference.checkpoint import find_checkpoint
    from showtell.inference.exported import find_export

    folder, shipped = Path(options.folder), find_export(options.model)
    if options.quick and shipped is not None:
        return {"shipped": options.model, "fp32": str(shipped)}
    export_onnx(options.model, folder / "fp32")
    if shipped is not None:
        return {"shipped": options.model, "fp32": str(folder / "fp32")}
    shutil.copytree(find_checkpoint(options.model), folder / "shipped")
    export_onnx(folder / "shipped", None)
    return {"shipped": str(folder / "shipped"), "fp32": str(folder / "fp32")}


def cold_starts(
    ours: dict[str, dict[str, str]], photo: Path, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds from the shell to the caption, by turns, after a start that is not counted."""
    took: dict[str, list[float]] = {name: [] for name in ours}
    for number in range(1 if options.quick else 0, options.rounds + 1):
        for name, way in ours.items():
            command = [sys.executable, "-m", "showtell", "caption", str(photo), "-m", way["model"]]
            command += ["--runtime", way["runtime"], "--precision", way["precision"]]
            seconds = wall(command, options)
            if number:
                took[name].append(seconds)
    return took


def in_process(
    ours: dict[str, dict[str, str]], photos: Path, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """The median of what some processes of each measure, by turns."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in ours}
    for _ in range(1 if options.quick else ROUNDS):
        for name, way in ours.items():
            one = part(options, "ours", **way, photos=str(photos), num=options.num)
            rounds[name].append(one)
    return {
        name: {key: median(one[key] for one in each) for key in each[0]}
        for name, each in rounds.items()
    }


def wall(command: list[str], options: argparse.Namespace) -> float:
    """Seconds from the start of a process to its end."""
    threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
    # As on a user's machine, modules are compiled once and not in each start.
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=variables | threads)
    return time.perf_counter() - begin


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """Latency, images/s, tokens a caption and memory of a way to run the model."""
    from showtell.core.device import choose_runtime
    from showtell.inference.captioner import Captioner

    if options.threads and options.runtime == "onnx":
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    elif options.runtime == "torch":
        choose_runtime("cpu", threads=options.threads)
    captioner = Captioner.load(
        options.model, device="cpu", precision=options.precision, runtime=options.runtime
    )
    photos = sorted(Path(options.photos).glob("*.jpg"))[: options.num]
    for photo in photos[:WARM]:
        captioner.caption(photo)
    loaded = peak_bytes()
    alone = []
    for photo in photos[: max(options.num // 4, 1)]:
        begin = time.perf_counter()
        captioner.caption(photo)
        alone.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    captions = [result.caption for result in captioner.caption_stream(photos)]
    seconds = time.perf_counter() - begin
    return {
        "latency": median(alone),
        "rate": len(photos) / seconds,
        "tokens": fmean(len(caption.log_probs) for caption in captions if caption is not None),
        "loaded": loaded,
        "peak": peak_bytes(),
        "bytes": bytes_of(Path(options.model)),
    }


def bytes_of(folder: Path) -> int | None:
    """Bytes of a folder; of a model's name, of what comes with the package."""
    from showtell.pretrained import shipped_folder

    folder = shipped_folder(str(folder)) or folder
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def our_figures(
    ours: dict[str, dict[str, str]],
    cold: dict[str, list[float]],
    found: dict[str, dict[str, Any]],
) -> Iterator[Figure]:
    """The export against what is allowed and against torch."""
    seconds = {name: median(values) for name, values in cold.items()}
    table = "; ".join(
        f"{name}: {seconds[name]:.2f} s, {1e3 * at['latency']:.0f} ms, {at['rate']:.1f} images/s, "
        f"{at['loaded'] / 1e6:.0f} MB after {WARM} photos, {at['peak'] / 1e6:.0f} MB at most, "
        f"{at['bytes'] / 1e6:.1f} MB on disk"
        for name, at in found.items()
    )
    onnx = found["onnx"]
    yield Figure(
        "first caption from a cold start without torch",
        f"the {MOST_COLD:g} s that are allowed",
        seconds["onnx"] / MOST_COLD,
        1.0,
        True,
        "rounds " + ", ".join(f"{value:.2f}" for value in cold["onnx"]) + " s",
    )
    yield Figure(
        "first caption from a cold start without torch, beside torch",
        "the torch path's time",
        seconds["onnx"] / seconds["torch bf16"],
        round(MOST_SHARE, 3),
        True,
        f"{seconds['onnx']:.2f} s, torch bf16 {seconds['torch bf16']:.2f} s",
    )
    yield Figure(
        "a lone photo without torch",
        f"the {MOST_LATENCY_MS} ms that are allowed",
        1e3 * onnx["latency"] / MOST_LATENCY_MS,
        1.0,
        True,
        f"{1e3 * onnx['latency']:.1f} ms",
    )
    yield Figure(
        "bulk captioning without torch",
        "torch bf16's rate",
        onnx["rate"] / found["torch bf16"]["rate"],
        1.0,
        detail=table,
    )
    yield Figure(
        "memory after captions of lone photos, without torch",
        f"the {MOST_MEMORY_MB} MB that are allowed",
        onnx["loaded"] / 1e6 / MOST_MEMORY_MB,
        1.0,
        True,
        f"{onnx['loaded'] / 1e6:.0f} MB",
    )


def openvino_figure(options: argparse.Namespace, model: str) -> Figure:
    """OpenVINO on the encoder of the export in fp32, beside onnxruntime on the same."""
    name, reference = "the encoder in OpenVINO", "onnxruntime's rate in fp32"
    found = part(options, "encoders", model=model)
    if "openvino" not in found:
        return Figure.missing(name, reference, "openvino is not installed")
    ratio = found["openvino"] / found["onnx"]
    rates = ", ".join(f"{key} {value:.1f}" for key, value in found.items())
    return Figure(name, reference, ratio, detail=f"images/s: {rates}")


def encoders(options: argparse.Namespace) -> dict[str, Any]:
    """Images/s of the encoder's graph alone, a picture at a time."""
    import numpy as np

    from showtell.core.onnxruntime import onnxruntime

    path = Path(options.model) / "encoder.onnx"
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads or 0
    session = onnxruntime.InferenceSession(path, settings)
    size = session.get_inputs()[0].shape[-1]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, size, size), dtype=np.uint8)
    runs: dict[str, Callable[[], object]] = {"onnx": lambda: session.run(None, {"pixels": pixels})}
    try:
        import openvino
    except ImportError:
        pass
    else:
        core = openvino.Core()
        if options.threads:
            core.set_property("CPU", {"INFERENCE_NUM_THREADS": options.threads})
        graph = core.read_model(path)
        fast = core.compile_model(graph, "CPU")
        plain = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        runs["openvino"] = lambda: fast([pixels])
        runs["openvino fp32"] = lambda: plain([pixels])
    num = 3 if options.quick else 40
    took: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(num):
        for key, run in runs.items():
            begin = time.perf_counter()
            run()
            took[key].append(time.perf_counter() - begin)
    return {key: 1 / median(values) for key, values in took.items()}


def their_figures(
    name: str,
    folder: Path,
    photos: Path,
    length: int,
    best: dict[str, Any],
    our_cold: list[float],
    options: argparse.Namespace,
) -> Iterator[Figure]:
    """One of theirs against the export that comes with the model."""
    saved = folder / "theirs"
    try:
        import transformers
    except ImportError:
        yield Figure.missing(f"images/s of {name}", "ours", "transformers is not installed")
        return
    arguments = {"name": name, "folder": str(saved), "photos": str(photos), "length": length}
    num_parameters = part(options, "save", **arguments)["num_parameters"]
    one = [sys.executable, sys.argv[0], "--part", "theirs", "--arguments"]
    first = [*one, json.dumps(arguments | {"beam": 1, "num_theirs": 1})]
    cold = min(wall(first, options) for _ in range(1 if options.quick else 2))
    for beam in (1,) if options.quick else (1, 3):
        found = part(options, "theirs", **arguments, beam=beam, num_theirs=options.num_theirs)
        way = "greedy" if beam == 1 else f"beam {beam}"
        yield Figure(
            f"bulk captioning beside {name}, {way}",
            f"{name}'s rate",
            best["rate"] / found["rate"],
            LEAST_TIMES if name == FIRST else None,
            detail=f"{best['rate']:.1f} images/s (own beam), {name} {found['rate']:.2f} images/s "
            f"in fp32 by transformers {transformers.__version__}, {num_parameters / 1e6:.0f} M "
            f"parameters, {length} tokens a caption, {options.num_theirs} photos",
        )
    yield Figure(
        f"memory beside {name}",
        f"{name}'s",
        best["loaded"] / found["peak"],
        MOST_MEMORY_SHARE if name == FIRST else None,
        True,
        f"{best['loaded'] / 1e6:.0f} MB, {name} {found['peak'] / 1e6:.0f} MB; on disk "
        f"{best['bytes'] / 1e6:.1f} MB and {bytes_of(saved) / 1e6:.0f} MB; cold start "
        f"{median(our_cold):.2f} s and {cold:.2f} s",
    )


def save(options: argparse.Namespace) -> dict[str, Any]:
    """Make one of theirs with random weights, and save it as safetensors."""
    import shutil

    import torch

    from showtell.core.torchvision import make_torchvision_importable

    make_torchvision_importable()
    torch.manual_seed(0)
    size = {"num_hidden_layers": 1, "hidden_size": 48, "intermediate_size": 96}
    model = build(options.name, size if options.quick else {})
    shutil.rmtree(options.folder, ignore_errors=True)
    model.save_pretrained(options.folder)
    return {"num_parameters": sum(weights.numel() for weights in model.parameters())}


def build(name: str, size: dict[str, int]) -> Any:
    """One of theirs, from the configuration that its class has by default: that of its "base".

    Args:
        size: of GIT-base what is otherwise.
    """
    import transformers as t

    if name == "BLIP-base":
        return t.BlipForConditionalGeneration(t.BlipConfig(vision_config={"image_size": 384}))
    if name == "GIT-base":
        return t.GitForCausalLM(t.GitConfig(vision_config=size, **size))
    layers = 6 if "Distil" in name else 12
    config = t.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        t.ViTConfig(), t.GPT2Config(n_layer=layers)
    )
    config.decoder_start_token_id = config.decoder.bos_token_id
    config.pad_token_id = config.decoder.eos_token_id
    return t.VisionEncoderDecoderModel(config=config)


def theirs(options: argparse.Namespace) -> dict[str, Any]:
    """Images/s and memory of one of theirs, read from its folder."""
    import torch

    from showtell.core.torchvision import make_torchvision_importable

    make_torchvision_importable()
    import transformers as t

    t.logging.set_verbosity_error()
    if options.threads:
        torch.set_num_threads(options.threads)
    kinds = {"BLIP-base": t.BlipForConditionalGeneration, "GIT-base": t.GitForCausalLM}
    model = kinds.get(options.name, t.VisionEncoderDecoderModel).from_pretrained(options.folder)
    model.eval()
    config = model.config
    vision = getattr(config, "vision_config", None) or config.encoder
    photos = sorted(Path(options.photos).glob("*.jpg"))[: options.num_theirs]
    settings = {
        "num_beams": options.beam,
        "do_sample": False,
        "min_new_tokens": options.length,
        "max_new_tokens": options.length,
    }
    if options.name not in kinds:
        settings["decoder_start_token_id"] = config.decoder.bos_token_id
        settings["pad_token_id"] = config.decoder.eos_token_id
    begin = time.perf_counter()
    with torch.inference_mode():
        made = model.generate(pixel_values=pixels_of(photos, vision.image_size), **settings)
    seconds = time.perf_counter() - begin
    assert len(made) == len(photos) and made.shape[1] >= options.length, made.shape
    return {"rate": len(photos) / seconds, "peak": peak_bytes()}


def pixels_of(photos: list[Path], size: int) -> Any:
    """(B, 3, S, S): resized, and normalised as these models have it."""
    import numpy as np
    import torch
    from PIL import Image

    views = [
        np.asarray(Image.open(photo).convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
        for photo in photos
    ]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="default")
    parser.add_argument("--photos", type=Path, default=None)
    parser.add_argument("--num", type=int, default=96, help="photos for ours")
    parser.add_argument("--num-theirs", type=int, default=6, help="photos for theirs")
    parser.add_argument("--rounds", type=int, default=7, help="cold starts of each of ours")
    parser.add_argument("--theirs", nargs="*", choices=THEIRS, default=THEIRS)


if __name__ == "__main__":
    benchmark(
        measure,
        __doc__,
        options=_options,
        parts={
            "exports": exports,
            "ours": ours,
            "encoders": encoders,
            "save": save,
            "theirs": theirs,
        },
    )
