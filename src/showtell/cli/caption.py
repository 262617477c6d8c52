"""``showtell caption``: its options, their checks, and the choice between screen, files and Ray."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import captioners, options
from showtell.cli.asking import Asking
from showtell.cli.decoding import Decoding
from showtell.cli.files import check_file, told_skipped
from showtell.cli.groups import given, group, with_options
from showtell.errors import UsageError
from showtell.pretrained import DEFAULT

if TYPE_CHECKING:
    from showtell.bulk.inputs import Inputs
    from showtell.config import DecodingConfig
    from showtell.inference.captioner import Captioner


class CaptionFormat(StrEnum):
    """How captions are written."""

    text = "text"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    webdataset = "webdataset"
    sidecar = "sidecar"
    xmp = "xmp"


class Engine(StrEnum):
    """What does the work."""

    local = "local"
    ray = "ray"


BESIDE = (CaptionFormat.sidecar, CaptionFormat.xmp)
OTHER_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tgz", ".tsv", ".xlsx", ".ods")
TO_SCREEN = (CaptionFormat.text, CaptionFormat.jsonl, CaptionFormat.csv)


@dataclass(frozen=True, slots=True)
class Model:
    """Which model captions, and how it is loaded."""

    name: str
    ensemble: list[str]
    loading: captioners.Loading
    settings: captioners.Settings
    cleaning: dict[str, Any]

    def arguments(self) -> dict[str, Any]:
        """For ``Captioner.load``; what has to be downloaded first is."""
        return {
            "model": self.name,
            "ensemble": self.ensemble,
            "settings": captioners.prepared([self.name], self.settings),
            "cleaning": self.cleaning,
            **self.loading.arguments(),
        }


@dataclass(frozen=True, slots=True)
class Making:
    """How captions are made."""

    decoding: dict[str, Any]
    attention: bool
    dedupe: bool
    batch_size: int | None


@dataclass(frozen=True, slots=True)
class Writing:
    """How and where captions are written, and what may be replaced.

    Attributes:
        format: None: as ``output`` ends.
    """

    format: CaptionFormat | None
    output: Path | None
    failures: Path | None
    as_json: bool
    overwrite: bool
    prune: bool

    @property
    def kind(self) -> CaptionFormat:
        """The format that was asked for, or that the output's name tells."""
        if self.format is not None:
            return self.format
        if self.output is None or self.as_json:
            return CaptionFormat.text
        from showtell.bulk.formats import format_of

        return CaptionFormat(format_of(self.output))

    @property
    def is_to_screen(self) -> bool:
        """Whether captions are written as they come, and nothing is kept for another start."""
        return self.as_json or (self.output is None and self.kind not in BESIDE)

    def check(self) -> None:
        """Raise UsageError where the options do not fit each other."""
        output, format = self.output, self.kind
        if self.format is None and not self.as_json and output:
            _check_ending(output)
        if self.as_json and format not in (CaptionFormat.text, CaptionFormat.jsonl):
            raise UsageError(
                f"--json and --format {format.value} exclude each other: give only one"
            )
        if output is not None and format in BESIDE:
            raise UsageError(
                f"--format {format.value} writes beside or into the pictures: leave out -o"
            )
        if output is None and format not in TO_SCREEN + BESIDE:
            raise UsageError(f"--format {format.value} needs a file: add -o FILE")
        if self.prune and (self.as_json or output is None):
            raise UsageError("--prune needs a file whose captions it drops: add -o FILE")
        if self.is_to_screen and self.failures is not None:
            raise UsageError("--failures needs captions that go to files: add -o FILE")
        if self.is_to_screen and output is None and self.overwrite:
            raise UsageError("--overwrite replaces nothing on the screen: add -o FILE")

    def check_files(self, inputs: "Inputs") -> None:
        """Raise ConfigError where a file cannot be written, or is one of the inputs."""
        check_file(self.output, inputs.paths)
        check_file(self.failures, inputs.paths, option="--failures", makes_folder=True)


def _check_ending(output: Path) -> None:
    """Raise UsageError where a name ends as no format of captions does, and as another one."""
    ending = output.suffix.lower()
    if ending == ".json":
        raise UsageError(
            f"-o {output}: add --json for one JSON object, or end the name in .jsonl for one "
            "object on each line"
        )
    if ending in OTHER_ENDINGS:
        raise UsageError(
            f"-o {output}: showtell writes no {ending} file; end the name in .jsonl, .csv, .txt, "
            ".parquet or .tar"
        )


@group
class Cluster:
    """Which engine works, and what only Ray is told."""

    engine: Annotated[
        Engine, typer.Option("--engine", help="Where to run: this machine or Ray.")
    ] = Engine.local
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="ray: address of the cluster; default: start Ray on this machine."
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="ray: number of models to load at once."),
    ] = None

    def check(self) -> None:
        """Raise UsageError where something is for Ray, and Ray does not work."""
        if self.engine is not Engine.ray:
            for name, value in (("--workers", self.workers), ("--address", self.address)):
                if value is not None:
                    raise UsageError(
                        f"{name} needs --engine ray, but the engine is {self.engine.value}"
                    )


@dataclass(frozen=True, slots=True)
class Request:
    """All that ``showtell caption`` was asked for.

    Attributes:
        strict: whether any picture that fails makes the command fail.
        asking: what is to be said of the price.
    """

    pictures: list[str]
    model: Model
    making: Making
    writing: Writing
    cluster: Cluster
    strict: bool
    asking: Asking

    def check(self) -> None:
        """Raise UsageError where the options do not fit each other."""
        is_json = self.writing.as_json or self.writing.kind is CaptionFormat.jsonl
        if self.making.attention and not is_json:
            raise UsageError("--attention needs JSON output: add --format jsonl or --json")
        self.writing.check()
        self.cluster.check()
        if self.cluster.engine is Engine.ray:
            for name, value in (
                ("- (standard input)", "-" in self.pictures),
                ("--attention", self.making.attention),
                ("--batch-size", self.making.batch_size),
                ("--failures", self.writing.failures),
                ("--json", self.writing.as_json),
                ("--prune", self.writing.prune),
            ):
                if value:
                    raise UsageError(f"{name} works only with --engine local")
        else:
            self._check_local()

    def _check_local(self) -> None:
        from showtell.bulk.remote import name_of

        output, kind = self.writing.output, self.writing.kind
        if output is not None and "://" in name_of(output):
            raise UsageError(
                f"-o {name_of(output)} is in a store, which --engine ray alone writes to: give a "
                "file on this machine"
            )
        if kind in BESIDE and self.making.decoding.get("num_captions", 1) > 1:
            raise UsageError(
                f"--format {kind.value} writes one caption for each picture: leave out "
                "--num-captions, or write a file with all of them, -o captions.jsonl"
            )

    def load(self) -> "tuple[Captioner, DecodingConfig]":
        """The model, and its own decoding settings with the changes that were asked for."""
        from showtell.inference.captioner import Captioner

        captioner = Captioner.load(**self.model.arguments())
        captioners.say_runtime(captioner)
        changes = dict(self.making.decoding)
        if self.writing.kind is CaptionFormat.xmp:  # an alt text need not guess a gender
            changes.setdefault("neutral", True)
        return captioner, captioner.resolve(changes)


@with_options
def caption(
    *,
    pictures: options.Pictures,
    model: captioners.Model = DEFAULT,
    format: Annotated[
        CaptionFormat | None,
        typer.Option(
            "--format", help="Format of the captions; default: from the suffix of -o, else text."
        ),
    ] = None,
    output: options.Output = None,
    ensemble: captioners.Ensemble = None,
    loading: captioners.Loading,
    attention: options.Attention = False,
    as_json: options.Json = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing captions and texts.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Drop captions in FILE of pictures that are not given now."),
    ] = False,
    dry_run: options.DryRun = False,
    strict: options.Strict = False,
    failures: options.Failures = None,
    dedupe: options.Dedupe = False,
    batch_size: options.BatchSize = None,
    cluster: Cluster,
    asking: Asking,
    cleaning: captioners.Cleaning,
    settings: captioners.Settings,
    decoding: Decoding,
) -> None:
    """Caption pictures.

    With --num-captions, text output has one line for each caption, best first, and JSON has the
    other captions as `alternatives`. JSON also has the words and their log-probabilities; the last
    log-probability is that of the end of the caption. With --attention, JSON has a row of weights
    for each word and for the end, and the number of rows and columns of the grid that the weights
    cover, row by row from the top left. With --min-confidence, a caption with a lower confidence
    is left empty: JSON has it as `withheld`, and with text output its picture is named on standard
    error. Alt texts (`xmp`) say "person" and not "man" or "woman", unless --no-neutral is given.

    A picture that cannot be read is named on standard error, and if captions go to files in a list:
    FILE.failures.jsonl for -o FILE.jsonl, failures.jsonl for `sidecar` and `xmp`. The other
    pictures are still captioned. The exit code is then 1 if the picture was
    named on its own, if a list that was named on its own has no other picture, or with --strict.

    With -o, but for --json, and for `sidecar` (a .txt file beside each picture) and `xmp` (the
    picture's own metadata), a run that was stopped resumes when the same command is run again. A
    picture's existing text, and a file that showtell did not write, are kept unless --overwrite is
    given.

    For models behind a server, --dry-run also says how much would be sent and about how many tokens
    that is.
    """
    request = Request(
        pictures,
        Model(model, ensemble or [], loading, settings, given(cleaning)),
        Making(given(decoding), attention, dedupe, batch_size),
        Writing(format, output, failures, as_json, overwrite, prune),
        cluster,
        strict,
        asking,
    )
    if run(request, dry_run=dry_run):
        raise typer.Exit(1)


def run(request: Request, *, dry_run: bool) -> bool:
    """Do what was asked for; whether the exit code has to report a failure."""
    request.check()
    request.asking.check(request.model.name, dry_run=dry_run)
    if request.cluster.engine is Engine.ray:
        if dry_run:
            raise UsageError("--dry-run works only with --engine local")
        from showtell.cli.caption_files import caption_on_ray

        return caption_on_ray(request)

    from showtell.bulk.inputs import find_inputs
    from showtell.cli.caption_files import caption_into_files, make_target, own_files, print_plan
    from showtell.cli.caption_screen import caption_to_screen, check_output

    inputs = find_inputs(request.pictures, own=own_files(request))
    with told_skipped(inputs):
        request.writing.check_files(inputs)
        if request.writing.is_to_screen:
            check_output(request.writing)
            if dry_run:
                return print_plan(request, inputs, None)
            return caption_to_screen(request, inputs)
        target = make_target(request, inputs)
        if dry_run:
            return print_plan(request, inputs, target)
        return caption_into_files(request, inputs, target)
