"""How a model is published: stages, packing, figures, card and, last, the final folder.

Everything is made in a work folder; the folder with the final name is replaced at the very end.
"""

import importlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from showtell.core.files import write_text
from showtell.core.progress import Reporter
from showtell.data.request import DataRequest, open_data
from showtell.data.sources import load_dataset
from showtell.errors import ScoringError
from showtell.evaluation.calibration import MeasuredConfidence, Reliability, measure_confidence
from showtell.evaluation.evaluate import CaptionedSplit, caption_split
from showtell.inference.caption import CALIBRATION, confidence_of
from showtell.inference.captioner import Captioner
from showtell.inference.checkpoint import load_checkpoint, new_folder
from showtell.inference.exported import write_metrics
from showtell.inference.files import EXAMPLES, RELIABILITY
from showtell.metrics import Scores, evaluate, object_hallucination
from showtell.pretrained import CARD
from showtell.publish import card
from showtell.publish.measure import (
    count_people,
    draw_examples,
    find_examples,
    measure_speed,
    unknown_words,
    words_of,
)
from showtell.publish.pack import check_output, pack_checkpoint
from showtell.publish.recipe import Recipe, TrainStage
from showtell.publish.stages import Places, make_stages, read_notes
from showtell.report.charts import reliability_figure
from showtell.training.reranking import add_reranker
from showtell.training.text_captions import read_captions

PACKED = ".packed"  # no stage's name begins with a dot


@dataclass(frozen=True)
class Published:
    """What was made.

    Attributes:
        scores: by the title of what they are of.
        num_bytes: of the folder.
    """

    folder: Path
    scores: dict[str, Scores]
    num_bytes: int


def publish(recipe_file: Path, places: Places, output: Path, report: Reporter) -> Published | None:
    """Make the model of a recipe with its card, into ``output``.

    Each stage is made once; a second call goes on where the first was stopped, and packs and
    measures again.

    Returns:
        None where Ctrl-C stopped a stage.

    Raises:
        ShowtellError: anything that the user can mend; what was made stays.
    """
    recipe = Recipe.load(recipe_file)
    for name in ("", *sorted(recipe.data_names)):
        places.data_of(name)  # what is missing shows now, not after a night of training
    pictures = find_examples(recipe.examples, recipe.folder)
    if recipe.export is not None:
        importlib.import_module("showtell.export.onnx")  # or says which extra is missing
    check_output(output, overwrite=True)  # the same command goes on, and packs again
    if not make_stages(recipe, places, report):
        return None
    # An export has the name of the folder that it was made in.
    folder = places.work / PACKED / output.absolute().name
    shutil.rmtree(folder.parent, ignore_errors=True)
    _pack(recipe, places, folder, report)
    scores = _describe(recipe, places, folder, pictures, report)
    return Published(_move(folder, output), scores, _num_bytes(output))


def _pack(recipe: Recipe, places: Places, folder: Path, report: Reporter) -> None:
    """Make the model that is handed on, with its reranker and its export."""
    report.note(f"packing {recipe.shipped} as {recipe.weights}")
    shipped = places.work / recipe.shipped
    pack_checkpoint(shipped, folder, storage=recipe.weights, decoding=recipe.decoding)
    if recipe.reranker is not None:
        report.note("learning to choose among its captions")
        known = open_data(DataRequest(places.data_of(recipe.reranker.data)), report=report)
        add_reranker(folder, known, device=places.device, calibrates=False, report=report)
    if recipe.export is not None:
        from showtell.export.onnx import Numbers, export_onnx

        pictures: list[Path] = []
        if recipe.export.compute == "int8":
            calibration = load_dataset(places.data_of(recipe.export.data))
            pictures = [record.path for record in calibration.records]
        how = Numbers(compute=recipe.export.compute, calibration=pictures)
        export_onnx(folder, None, how=how, notify=report.note)


def _describe(
    recipe: Recipe, places: Places, folder: Path, pictures: Sequence[Path], report: Reporter
) -> dict[str, Scores]:
    """Measure the packed model as people will run it, and write its figures and its card.

    Args:
        pictures: for the card.
    """
    if recipe.export is None:
        captioner = Captioner.load(folder, device=places.device)
    else:
        captioner = Captioner.load(folder, runtime="onnx")
    found = _measure(recipe, captioner, places, report)
    scores = {title: split.evaluation.scores for title, split in found.items()}
    confidence = _confidence(found, report)
    elsewhere = _confidence_elsewhere(found, confidence)
    fitted = confidence.fitted and confidence.fitted.to_dict()
    write_metrics(folder, {**_noted(scores), CALIBRATION: fitted})
    sections = {
        "name": recipe.name,
        "figures": card.figures_section(
            {t: s.with_intervals() for t, s in scores.items()}, captioner.describe_runtime()
        ),
        "inventions": card.inventions_section(_inventions(found)),
        "people": card.people_section(_people(found)),
        "unknown-words": card.words_section(_unknown(recipe, places, found)),
        "reliability": card.reliability_section(confidence, elsewhere),
        "stages": _stages_section(recipe, places),
    }
    (folder / RELIABILITY).write_bytes(reliability_figure(confidence.then or confidence.now).light)
    if pictures and (lacking := draw_examples(folder, pictures, folder / EXAMPLES)):
        report.note(lacking)
    timed = pictures or [record.path for record in next(iter(found.values())).records[:32]]
    report.note("measuring its speed")
    checkpoint = load_checkpoint(folder)
    size = card.Size(
        num_parameters=sum(p.numel() for p in checkpoint.decoder.parameters()),
        num_bytes=_num_bytes(folder),
        weights=recipe.weights,
        vocabulary=len(checkpoint.vocabulary),
    )
    sections["speed"] = card.speed_section(measure_speed(folder, timed), size)
    template = (recipe.folder / recipe.card).read_text(encoding="utf-8")
    write_text(folder / CARD, card.render_card(template, sections))
    return scores


def _measure(
    recipe: Recipe, captioner: Captioner, places: Places, report: Reporter
) -> dict[str, CaptionedSplit]:
    found = {}
    for one in recipe.measure:
        report.note(f"captioning {one.title}")
        data = DataRequest(places.data_of(one.data))
        found[one.title] = caption_split(captioner, data, split=one.split, report=report)
    return found


def _inventions(found: Mapping[str, CaptionedSplit]) -> dict[str, Scores]:
    """CHAIR of each measurement, with what the references mention as what is there."""
    return {
        title: evaluate(
            split.evaluation.texts,
            {record.image_id: record.captions for record in split.records},
            metrics=object_hallucination.NAMES,
        ).with_intervals()
        for title, split in found.items()
    }


def _confidence(found: Mapping[str, CaptionedSplit], report: Reporter) -> MeasuredConfidence:
    """The confidence by a calibration that is fitted to the first measurement."""
    title, first = next(iter(found.items()))
    captions, scores = first.evaluation.captions, first.evaluation.scores
    try:
        return measure_confidence(captions, scores, fit=True, data=title)
    except ScoringError as error:  # of a model that is good for nothing yet
        report.note(f"confidence is not calibrated: {error}")
        return measure_confidence(captions, scores)


def _confidence_elsewhere(
    found: Mapping[str, CaptionedSplit], measured: MeasuredConfidence
) -> dict[str, Reliability]:
    """The same confidence on the other measurements, by their titles."""
    others = {}
    for title, split in list(found.items())[1:]:
        captions, scores = split.evaluation.captions, split.evaluation.scores
        if measured.fitted is not None:
            captions = {
                name: replace(caption, confidence=confidence_of(measured.fitted, caption))
                for name, caption in captions.items()
            }
        others[title] = measure_confidence(captions, scores).now
    return others


def _noted(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """For ``metrics.json``: the first are the model's own figures; the others stand beside them."""
    (title, own), *others = scores.items()
    return {
        "metrics": own.metrics,
        "measured_on": title,
        "signature": own.signature,
        "others": {name: {"metrics": s.metrics, "signature": s.signature} for name, s in others},
    }


def _people(found: Mapping[str, CaptionedSplit]) -> Any:
    first = next(iter(found.values()))
    return count_people(first.records, first.evaluation.texts)


def _unknown(recipe: Recipe, places: Places, found: Mapping[str, CaptionedSplit]) -> Any:
    """Of the last measurement, which is of what training was furthest from."""
    known: set[str] = set()
    stages = [stage for stage in recipe.stages if isinstance(stage, TrainStage)]
    for name in {stage.data for stage in stages}:
        records = load_dataset(places.data_of(name)).split("train")
        known |= words_of(caption for record in records for caption in record.captions)
    for name in {stage.text for stage in stages if stage.text}:
        known |= words_of(read_captions(Path(places.data_of(name))))
    return unknown_words(list(found.values())[-1].records, known)


def _stages_section(recipe: Recipe, places: Places) -> str:
    notes = read_notes(places.work)
    rows = []
    for stage in recipe.stages:
        if isinstance(stage, TrainStage):
            parts = [str(stage.config)] if stage.config else []
            parts += [f"from {stage.init_from}"] if stage.init_from else []
            parts += [f"taught by {' and '.join(stage.teachers)}"] if stage.teachers else []
            what = ", ".join([*parts, *(f"`{setting}`" for setting in stage.settings)])
        else:
            what = f"mean of {', '.join(stage.members)}"
        rows.append([stage.name, what, f"{notes[stage.name]['seconds'] / 60:.0f}"])
    return card.table(["stage", "settings", "minutes"], rows)


def _move(folder: Path, output: Path) -> Path:
    with new_folder(output) as beside:
        shutil.copytree(folder, beside, dirs_exist_ok=True)
    shutil.rmtree(folder.parent)
    return output


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
