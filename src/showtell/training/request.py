"""From a user's request to a training run: read settings and data, encode pictures, start.

The run's folder gets ``config.toml`` with all settings and ``run.json`` with what the run depends
on (data, encoder, versions), so that it can be made again.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from showtell.config import Config
from showtell.core.device import Runtime, choose_runtime
from showtell.core.distributed import ALONE, Processes
from showtell.core.files import write_json, write_text
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.reading import reading_as
from showtell.data.records import UNMIRRORED, Dataset
from showtell.data.request import DataRequest, open_data
from showtell.decoders.language_model import LanguageModel
from showtell.encoders.encoder import Encoder
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.checkpoint import Checkpoint, recover_folder
from showtell.inference.files import CONFIG, LAST, RUN_FILE
from showtell.metrics import meteor
from showtell.pretrained import DEFAULT
from showtell.text.segment import Segmentation
from showtell.text.vocabulary import Vocabulary
from showtell.training.from_start import finish
from showtell.training.graded import GRADED, check_same_grades, open_graded
from showtell.training.loop import Run, TrainingResult
from showtell.training.old_pictures import (
    REHEARSED,
    check_old,
    check_same,
    old_to_resume,
    open_old_pictures,
    wanted_of,
)
from showtell.training.openings import (
    check_classifier,
    check_files,
    open_encoder,
    open_language_model,
    open_start,
    open_store,
)
from showtell.training.pictures import PictureFiles
from showtell.training.prepare import Given, TrainingData, prepare
from showtell.training.rehearsal import kept_captions, rehearsal_captions
from showtell.training.run_folder import (
    locked,
    places_of,
    provenance_of,
    refuse_used,
    what_is_known,
)
from showtell.training.settings import NONE, Layers
from showtell.training.teachers import Teachers, open_teachers, teachers_vocabulary
from showtell.training.teachers import check_words as check_teachers_words
from showtell.training.words import check_words, choose_segmentation, longest_caption

FEW = 2000  # training pictures; with fewer, the default model is the better start
FEW_LONG = 0.01  # share of captions that may be too long without a word about it


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """A run, or a sweep of runs, in the words of the command line.

    Attributes:
        data: what to train on.
        folder: where checkpoints and logs go.
        config_file: settings in TOML.
        overrides: ``section.key=value``; in a sweep also ``section.key=value,value``.
        start: a model to start from, whose encoder, shape and words are taken over.
        preset: settings under all others: a name, ``auto`` by the number of pictures, or ``none``.
        old: data that the model of ``start`` knows, to rehearse some of it, and to measure how
            much of that stays.
        resume: go on with what is in ``folder``, with its own settings.
        num_epochs: with ``resume``: train until so many are done, whatever the settings said.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        proposes: whether another start is proposed where pictures are few.
    """

    data: DataRequest
    folder: Path
    config_file: Path | None = None
    overrides: Sequence[str] = ()
    start: str | None = None
    preset: str = NONE
    old: DataRequest | None = None
    resume: bool = False
    num_epochs: int | None = None
    device: str = "auto"
    proposes: bool = True

    @property
    def layers(self) -> Layers:
        """Where its settings come from."""
        return Layers(self.start, self.preset, self.config_file, self.overrides)


def start_training(request: TrainRequest, *, report: Reporter) -> TrainingResult:
    """Train one model.

    Raises:
        ShowtellError: anything that the user can mend; what was written stays.

    Under ``torchrun`` it is called in each process: all train together, the first writes.
    """
    processes = Processes.from_environment()
    with processes.joined(device := processes.device(request.device)):
        config = _settings(request)
        if not request.resume:
            check_files(config)
            check_old(request.old, config)
        dataset = open_data(request.data, report=report)
        if not request.resume and request.layers.is_by_size:
            layers, line = request.layers.chosen(len(dataset.split("train")))
            report.note(line)
            config = layers.config()
        own = replace(request, device=device)
        return train_on(dataset, own, config, report=report, processes=processes)


def train_on(
    dataset: Dataset,
    request: TrainRequest,
    config: Config,
    *,
    report: Reporter,
    processes: Processes = ALONE,
) -> TrainingResult:
    """As ``start_training``, with the data read and the settings complete.

    Args:
        request: its ``config_file`` and ``overrides`` are not read any more.

    Raises:
        ShowtellError: anything that the user can mend; what was written stays.
    """
    if processes.are_many and config.encoder.reads_pictures:
        raise ConfigError(
            f"encoder.train_from and encoder.fresh_views with {processes.size} processes: not "
            "supported yet; train in one process, or leave them out"
        )
    with locked(request.folder, processes):
        if request.resume:
            known = what_is_known(request.folder)
            request = replace(request, old=old_to_resume(request.old, known, request.folder))
        else:
            refuse_used(request.folder)  # another may have trained there while data were read
            config = _unmirrored(dataset, config, report)
        run = _make_run(dataset, request, config, report=report, processes=processes)
        result = run.run()
        compares = config.training.average_start or request.old is not None
        if compares and not result.stopped and processes.is_first:
            store = request.data.store
            return finish(run, result, dataset, store=store, old=request.old, report=report)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What a run is made of, opened in this order, before its captions become ids.

    Attributes:
        config: with the sizes that a language model dictates.
        resumed: whether the run goes on from a checkpoint of its own.
        start: the checkpoint that it begins with, its own or another's.
        old: the pictures that it may rehearse.
        store: features, or the pictures where the encoder reads them.
    """

    config: Config
    runtime: Runtime
    resumed: bool
    language_model: LanguageModel | None
    old: Dataset | None
    start: Checkpoint | None
    segmentation: Segmentation
    encoder: Encoder
    teachers: Teachers | None
    store: FeatureStore | PictureFiles

    @property
    def with_decoder(self) -> bool:
        """Whether the decoder of ``start`` is trained on, and not its encoder alone."""
        return self.resumed or self.config.training.init_parts != "encoder"

    @property
    def reads_anew(self) -> bool:
        """Whether the decoder of ``start`` gets another encoder's features to read."""
        return not self.resumed and self.config.training.init_parts == "decoder"

    def words(self) -> Vocabulary | None:
        """The vocabulary of what the run begins with; None where it makes its own."""
        if self.start:
            return self.start.vocabulary
        if self.language_model:
            return self.language_model.vocabulary().cut_by(self.segmentation)
        data = self.config.data
        if self.teachers and not (data.vocab_file or data.subwords):
            return self.teachers.vocabulary
        return None


def _make_run(
    dataset: Dataset,
    request: TrainRequest,
    config: Config,
    *,
    report: Reporter,
    processes: Processes,
) -> Run:
    """A run that is ready to begin or to go on; its settings are written."""
    folder, resume = request.folder, request.resume
    opened = _open(dataset, request, config, report=report, processes=processes)
    config, encoder = opened.config, opened.encoder
    prepared = _prepare(dataset, request, opened, report=report, processes=processes)
    provenance = provenance_of(config, dataset, encoder, opened.runtime)
    provenance["processes"] = processes.size
    if prepared.old:
        provenance[REHEARSED] = prepared.old.provenance()
    if prepared.graded:
        provenance[GRADED] = prepared.graded.provenance()
        if resume:
            check_same_grades(prepared.graded, what_is_known(folder), folder)
    _warn_of_long(prepared, config, report)
    if processes.is_first and not resume:
        places = places_of(dataset, request.data, request.old, opened.store)
        write_json(folder / RUN_FILE, provenance | places)
    # The settings come last: from then on it is a run, and --resume relies on what is above.
    if processes.is_first and (not resume or request.num_epochs is not None):
        write_text(folder / CONFIG, config.to_toml())
    return Run(
        config=config,
        data=prepared,
        folder=folder,
        runtime=opened.runtime,
        provenance=provenance,
        report=report,
        start=opened.start if opened.with_decoder else None,
        reads_anew=opened.reads_anew,
        encoder=encoder if encoder.changed or config.encoder.fresh_views else None,
        language_model=opened.language_model,
        teachers=opened.teachers,
        resume=resume,
        processes=processes,
    )


def _open(
    dataset: Dataset,
    request: TrainRequest,
    config: Config,
    *,
    report: Reporter,
    processes: Processes,
) -> _Opened:
    """Open models, data and features; of several processes one after the other."""
    folder, resume = request.folder, request.resume
    language_model = open_language_model(config, folder, resume)
    if language_model:
        config = config.changed("decoder", **language_model.sizes())
    runtime = choose_runtime(request.device, config.training.precision)
    report.note(runtime.describe())
    if processes.are_many:
        report.note(f"{processes.size} processes train together; this is the first of them")
    resumed = resume and recover_folder(folder / LAST).exists()
    old = _old_pictures(request, config, report) if config.training.init_from else None
    with processes.in_turn():
        start = open_start(config, folder, resume, report)
        segmentation, why = choose_segmentation(
            dataset.split("train"),
            config.data,
            start.vocabulary if start else teachers_vocabulary(config),
        )
        if why:
            report.note(why)
        if not start and not language_model and config.objective.kind != "distil":
            check_words(dataset, config.data, segmentation)
            if segmentation.is_english and (line := proposal(dataset, request)):
                report.note(line)
        if resumed and start and start.metrics["epoch"] > config.training.num_epochs:
            raise ConfigError(
                f"{folder} has {start.metrics['epoch']} epochs already: give a larger --epochs"
            )
        encoder = open_encoder(config, start, folder)
        if start is None or (config.training.init_parts != "model" and not resumed):
            check_classifier(config, encoder)
        teachers = open_teachers(config, encoder, runtime)
        store = open_store(
            dataset,
            encoder,
            config,
            runtime=runtime,
            folder=request.data.store,
            report=report,
            regions=teachers is not None and teachers.need_regions,
        )
        meteor.prepare_aloud(report.note)
    return _Opened(
        config=config,
        runtime=runtime,
        resumed=resumed,
        language_model=language_model,
        old=old,
        start=start,
        segmentation=segmentation,
        encoder=encoder,
        teachers=teachers,
        store=store,
    )


def _prepare(
    dataset: Dataset,
    request: TrainRequest,
    opened: _Opened,
    *,
    report: Reporter,
    processes: Processes,
) -> TrainingData:
    """The captions as ids, with what is rehearsed beside them."""
    config, start, encoder = opened.config, opened.start, opened.encoder
    knows = start and opened.with_decoder and not opened.reads_anew
    detector = start.decoder if start and knows else None
    given = Given(
        vocabulary=opened.words(),
        segmentation=opened.segmentation,
        classes=encoder.backbone.classes(),
        feature_size=encoder.pooled_size,
        decoder=config.decoder,
        detector=getattr(detector, "detector", None),
        new_words=config.data.vocab_threshold if opened.teachers and not start else None,
        rehearsal=_rehearsal(request.folder, opened, report, processes),
    )
    with reading_as(request.data.encoding):  # data.text, as the data set was
        prepared = prepare(dataset, config.data, opened.store, report, given)
    if opened.old and request.old:
        with processes.in_turn():
            pictures = open_old_pictures(
                opened.old,
                config,
                prepared.vocabulary,
                encoder,
                folder=request.old.store,
                runtime=opened.runtime,
                report=report,
            )
        prepared = replace(prepared, old=pictures)
    if config.data.graded:
        assert prepared.store is not None and config.training.init_from is not None
        with processes.in_turn():
            graded = open_graded(
                config.data.graded,
                dataset.records,
                prepared.store,
                vocabulary=prepared.vocabulary,
                init_from=config.training.init_from,
                max_length=longest_caption(config.data, prepared.vocabulary),
                runtime=opened.runtime,
                report=report,
            )
        prepared = replace(prepared, graded=graded)
    if opened.teachers:
        check_teachers_words(opened.teachers, prepared.vocabulary)
    return prepared


def _rehearsal(
    folder: Path, opened: _Opened, report: Reporter, processes: Processes
) -> Sequence[str]:
    """Captions that the start has made up, to be learnt again; none where pictures say more."""
    config, start = opened.config, opened.start
    if not start or not config.training.rehearsal:
        return []
    if processes.is_first and not opened.resumed and not opened.old:
        rehearsal_captions(folder, start, config, opened.runtime, report)
    with processes.in_turn():
        return kept_captions(folder)


def _old_pictures(request: TrainRequest, config: Config, report: Reporter) -> Dataset | None:
    """The old pictures that a run rehearses; one that goes on: what it has rehearsed so far.

    Raises:
        ShowtellError: the old data cannot be read, or is not that of the run.
    """
    known = what_is_known(request.folder) if request.resume else {}
    if request.resume and REHEARSED not in known:
        return None
    old = wanted_of(request.old, config, report)
    if request.resume:
        check_same(old, known, request.folder)
    return old


def proposal(dataset: Dataset, request: TrainRequest) -> str | None:
    """For few pictures, the command that starts from the default model instead of from nothing."""
    num_pictures = len(dataset.split("train"))
    if num_pictures >= FEW or dataset.format == "scenes" or not request.proposes:
        return None
    data, folder = request.data, request.folder
    command = ["showtell", "train", data.data, "-o", f"{folder}-from-default", "--from", DEFAULT]
    command += ["--format", data.format] if data.format else []
    command += ["--images", str(data.images)] if data.images else []
    return (
        f"from {counted(num_pictures, 'training picture')}, a model that starts from the default "
        f"one learns more than one that starts from nothing: {shlex.join(command)}"
    )


def _unmirrored(dataset: Dataset, config: Config, report: Reporter) -> Config:
    """No view of a scene is mirrored, whatever the preset: its captions say left and right."""
    encoder = config.encoder
    if dataset.may_be_mirrored or not encoder.flips:
        return config
    if encoder.views or encoder.fresh_views:
        report.note(f"{UNMIRRORED} (encoder.flips=false)")
    return config.changed("encoder", flips=False)


def _warn_of_long(data: TrainingData, config: Config, report: Reporter) -> None:
    """Say where captions are learnt that decoding is not allowed to say: of characters, above all.

    Where tokens are pieces of words, the limit counts words, and is not compared.
    """
    lengths, most = data.train.lengths, config.decoding.max_length
    num_longer = int((lengths > most).sum())
    if data.vocabulary.unit == "words" and num_longer > FEW_LONG * len(lengths):
        report.note(
            f"{num_longer:,} of {len(lengths):,} training captions are longer than "
            f"decoding.max_length = {most} words, so the model cannot write such "
            f"captions; -s decoding.max_length={int(lengths.max())} lets it"
        )


def _settings(request: TrainRequest) -> Config:
    folder = request.folder
    if request.resume:
        if request.config_file or request.overrides or request.start:
            raise ConfigError(
                "a resumed run keeps its own settings: leave -c, -s and --from out, or start a new "
                "run; --epochs makes it longer"
            )
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{folder} holds no run to resume; start it without --resume")
        config = Config.load(folder / CONFIG)
        if request.num_epochs is None:
            return config
        return config.changed("training", num_epochs=request.num_epochs)
    refuse_used(folder)
    return request.layers.config()
