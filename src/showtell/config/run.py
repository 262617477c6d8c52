"""The settings of a run, section by section.

Settings of the original course notebook keep their names (``vocab_threshold``, ``embed_size``,
``num_epochs``, ``save_every``, ``print_every``, ``log_file``).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from showtell.config.decoder import DecoderConfig, PrefixLmConfig, ShowTellConfig
from showtell.config.decoding import DecodingConfig
from showtell.config.objective import ObjectiveConfig
from showtell.config.section import Section, describe
from showtell.config.toml import apply_override, read_toml
from showtell.errors import ConfigError

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_]\w+)*")


class DataConfig(Section):
    """The vocabulary, and which captions are used."""

    segmentation: Literal["auto", "ptb", "spaces", "characters", "words"] = Field(
        default="auto",
        description="how captions are cut into words; ptb: COCO's tokeniser, for English; spaces: "
        "at spaces, for other languages; characters, or words by ICU's dictionaries (extra "
        "languages), for Chinese, Japanese, Thai and others without spaces; auto: by the "
        "captions' letters. A vocabulary that is there already keeps its own",
    )
    language: str = Field(
        default="auto",
        description="language of the captions, a code such as de or zh; auto: guessed",
    )
    vocab_threshold: int = Field(
        default=4, ge=1, description="words seen less often than this become <unk>"
    )
    vocab_file: Path | None = Field(
        default=None,
        description="use this vocabulary.json instead of building one from the training captions",
    )
    subwords: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="number of word pieces to learn from the captions by byte-pair encoding, in "
        "addition to the 256 bytes; default: none, the vocabulary has whole words",
    )
    text: Path | None = Field(
        default=None,
        description="captions without pictures to learn more words from: a COCO annotations JSON, "
        "or a text file with one caption on each line; for decoders with concepts",
    )
    text_threshold: int = Field(
        default=100,
        ge=1,
        description="words that data.text has less often than this are not learnt from it",
    )
    new_words: int | None = Field(
        default=None,
        ge=1,
        description="with training.init_from: add words that the vocabulary lacks and the training "
        "captions have this often; default: the vocabulary stays (`train --from` sets it)",
    )
    graded: Path | None = Field(
        default=None,
        description="with training.init_from: captions of training pictures that people graded, a "
        "table that `showtell rate --read` writes (--graded); the better of two is to become more "
        "probable",
    )
    max_caption_length: int | None = Field(
        default=None,
        ge=1,
        description="cut longer training captions to this many tokens; the model does not learn "
        "that they end there; default: 40 words, or 80 word pieces",
    )

    @field_validator("language")
    @classmethod
    def _a_code(cls, value: str) -> str:
        if value != "auto" and not _LANGUAGE.fullmatch(value):
            raise ValueError("expected auto, or a code such as de, zh or pt-BR")
        return value

    def longest_caption(self, *, has_pieces: bool) -> int:
        """The most tokens of a training caption; one of word pieces has more of them."""
        return self.max_caption_length or (80 if has_pieces else 40)

    @model_validator(mode="after")
    def _one_vocabulary(self) -> Self:
        if self.subwords and self.vocab_file:
            raise ValueError(
                "subwords learns a vocabulary and vocab_file is one; give only one of them"
            )
        return self


class EncoderConfig(Section):
    """The CNN, how training pictures are augmented, and which part of the CNN trains."""

    name: str = Field(
        default="lite2",
        description="lite0, lite2, timm:NAME (timm:resnet50), or an encoder of another package",
    )
    weights: Path | None = Field(
        default=None,
        description="local weights file of the encoder; default: for timm, timm's own download",
    )
    squash: bool = Field(
        default=False,
        description="see the whole picture, squeezed into a square, rather than its centre; views "
        "for training are cut from the squeezed picture too",
    )
    views: int = Field(
        default=4,
        ge=0,
        le=255,
        description="random crops and flips of each training picture whose features are stored",
    )
    fresh_views: bool = Field(
        default=False,
        description="cut a new view of a picture at each step and encode it, as the course "
        "notebook does, rather than store the features of a few views; many times slower",
    )
    flips: bool = Field(
        default=True,
        description="mirror half of the views; turn it off if captions distinguish left from right",
    )
    train_from: int | str | None = Field(
        default=None,
        description="train the CNN too, from this stage on (its name, or its number from 0), on "
        "new views of the pictures; default: the CNN is frozen and its features are stored",
    )
    lr: float = Field(
        default=1e-5, gt=0, description="learning rate of the CNN's stages that train"
    )
    batch_norm: Literal["frozen", "train"] = Field(
        default="frozen", description="statistics of the batch norms in the stages that train"
    )
    num_workers: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="processes that decode pictures if the CNN trains; default: one for each core, "
        "at most 16; 0: none",
    )

    @property
    def reads_pictures(self) -> bool:
        """Whether training reads the pictures at each step, rather than stored features."""
        return self.fresh_views or self.train_from is not None


class OptimizerConfig(Section):
    """The optimiser and its learning-rate schedule."""

    name: Literal["adamw", "adam"] = Field(
        default="adamw",
        description="adamw: weight decay separate from the gradient; adam: as part of it",
    )
    lr: float = Field(default=1e-3, gt=0, description="learning rate, the highest of the schedule")
    weight_decay: float = Field(
        default=0.01, ge=0, description="how strongly weights are pulled towards zero"
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="learning rate after the warm-up; cosine falls to zero"
    )
    warmup_steps: int = Field(default=100, ge=0, description="steps of linear warm-up from zero")
    max_grad_norm: float = Field(
        default=5.0, gt=0, description="gradients are clipped to this norm"
    )


class TrainingConfig(Section):
    """The course of a run."""

    init_from: str | None = Field(
        default=None,
        description="start with the weights and the vocabulary of this run or checkpoint, or of a "
        "model that comes with showtell; its encoder, decoder and decoding are the defaults then",
    )
    init_parts: Literal["model", "encoder", "decoder"] = Field(
        default="model",
        description="what is taken of training.init_from; encoder: its encoder and its vocabulary, "
        "and the decoder begins anew, of any kind and shape; decoder: its decoder and its "
        "vocabulary, for another encoder, whose features are read anew",
    )
    average_start: bool = Field(
        default=False,
        description="with training.init_from: at the end, average the weights with those of the "
        "start, where validation pictures show a gain beyond chance (`train --from` sets it)",
    )
    batch_norm: Literal["train", "frozen"] = Field(
        default="train",
        description="frozen: batch norms of the decoder keep the averages of the start, so that "
        "pictures of another kind do not shift them (`train --from` sets it)",
    )
    rehearsal: int = Field(
        default=0,
        ge=0,
        description="with training.init_from: captions that this model makes up from its concepts, "
        "to be learnt again beside the new ones, as data.text is; not where old pictures are "
        "rehearsed (`train --from` sets it)",
    )
    rehearsal_pictures: int = Field(
        default=0,
        ge=0,
        description="with training.init_from and `--old`: training pictures of the old data that "
        "are rehearsed beside the new ones: the model is to find the same captions of them as "
        "probable as before (`train --from` sets it)",
    )
    rehearsal_batch_size: int = Field(
        default=50, ge=1, description="captions of the old pictures in a step"
    )
    rehearsal_weight: float = Field(
        default=1.0, gt=0, description="weight of the loss on the old pictures"
    )
    batch_size: int = Field(default=64, ge=1, description="captions in a step; with scst, pictures")
    text_batch_size: int = Field(default=100, ge=1, description="captions of data.text in a step")
    text_weight: float = Field(
        default=0.5, gt=0, description="weight of the loss on captions of data.text"
    )
    graded_batch_size: int = Field(
        default=200, ge=1, description="captions of data.graded in a step, of whole pictures"
    )
    graded_weight: float = Field(
        default=1.0, gt=0, description="weight of the loss on captions of data.graded"
    )
    graded_beta: float = Field(
        default=0.2,
        gt=0,
        description="how firmly the captions of data.graded are held to what the model of the "
        "start finds probable: the smaller, the further they may move",
    )
    batch_by: Literal["auto", "length", "picture", "drawn_length"] = Field(
        default="auto",
        description="what the captions of a batch share, to save computation: their length, or "
        "their "
        "pictures; auto: pictures if the decoder attends to regions. drawn_length: as the course "
        "notebook, a length is drawn for each step, then captions of it with replacement",
    )
    num_epochs: int = Field(
        default=10,
        ge=1,
        description="passes over all training captions; with scst, over all pictures",
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="for cross_entropy: share of the target that is spread over all words",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="validate and save an exponential moving average of the weights (0.999 "
        "averages "
        "about the last thousand steps); default: off",
    )
    save_every: int = Field(default=1, ge=1, description="keep a checkpoint every this many epochs")
    save_minutes: float = Field(
        default=2.0,
        gt=0,
        description="within an epoch, save the state for --resume every this many minutes",
    )
    print_every: int = Field(
        default=100, ge=1, description="show a step on the terminal every this many steps"
    )
    log_file: str = Field(
        default="training_log.txt",
        description="file in the run's folder with one line for each step",
    )
    tensorboard: bool = Field(
        default=False,
        description="write TensorBoard event files into tensorboard/ in the run's folder",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="stop after this many epochs without a better CIDEr-D; default: never",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="precision of the computation; auto: bf16 if the hardware has it",
    )
    compile: bool = Field(
        default=False,
        description="compile the decoder (torch.compile); faster on a GPU in long runs",
    )


class Config(Section):
    """All settings of a run."""

    seed: int = Field(
        default=0, ge=0, lt=2**32, description="seed of first weights, batches and views"
    )
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = ShowTellConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    @property
    def longest_caption(self) -> int:
        """The most tokens of a training caption, by these settings alone."""
        has_pieces = bool(self.data.subwords or getattr(self.decoder, "lm", None))
        return self.data.longest_caption(has_pieces=has_pieces)

    @model_validator(mode="after")
    def _sections_fit(self, info: ValidationInfo) -> Self:
        wrong = info.context or frozenset()  # sections in which a setting is wrong by itself
        found = [text for names, text in self._conflicts() if not wrong & names]
        if found:
            raise ValueError("; ".join(found))
        return self

    def _conflicts(self) -> Iterator[tuple[set[str], str]]:
        """Settings of several sections that do not fit: those sections, and what to do."""
        data, decoder, training = self.data, self.decoder, self.training
        if getattr(decoder, "lm", None) and (data.subwords or data.vocab_file):
            yield (
                {"data", "decoder"},
                "decoder.lm brings its own vocabulary; leave out data.subwords and data.vocab_file",
            )
        if isinstance(decoder, PrefixLmConfig):
            room = decoder.num_positions - decoder.prefix_length - 1
            longest = self.longest_caption
            if longest > room:
                yield (
                    {"data", "decoder"},
                    f"data.max_caption_length = {longest} and a prefix of "
                    f"{decoder.prefix_length} do not fit into decoder.num_positions = "
                    f"{decoder.num_positions}; {room} tokens would",
                )
        if data.text and not getattr(decoder, "concepts", 0):
            yield (
                {"data", "decoder"},
                "data.text needs a decoder with concepts: set decoder.kind = transformer and "
                "decoder.concepts = 5",
            )
        yield from self._conflicts_of_grades()
        yield from self._conflicts_of_parts()
        reads_classifier = getattr(decoder, "concepts", 0) and not getattr(decoder, "detected", 0)
        if self.decoding.naming and not reads_classifier:
            yield (
                {"decoder", "decoding"},
                f"decoding.naming = {self.decoding.naming:g} needs a decoder that reads its "
                "encoder's classifier: set decoder.kind = transformer and decoder.concepts = 5, "
                "without decoder.detected, or leave it at 0",
            )
        if self.objective.kind == "scst" and training.init_from is None:
            yield (
                {"objective", "training"},
                "objective.kind = scst needs a trained model to start from: set training.init_from "
                "to the run of a cross-entropy training",
            )
        of_start = (
            data.new_words
            or training.average_start
            or training.rehearsal
            or training.rehearsal_pictures
        )
        if of_start and training.init_from is None:
            yield (
                {"data", "training"},
                "data.new_words, training.average_start, training.rehearsal and "
                "training.rehearsal_pictures need a model to start from: set training.init_from",
            )
        if training.init_from and data.vocab_file:
            yield (
                {"data", "training"},
                "training.init_from brings its own vocabulary: leave data.vocab_file out",
            )

    def _conflicts_of_parts(self) -> Iterator[tuple[set[str], str]]:
        """As ``_conflicts``, of what does not go with a part of the model of the start."""
        data, training = self.data, self.training
        if training.init_parts != "model" and (
            training.init_from is None
            or training.average_start
            or self.objective.kind == "scst"
            or data.new_words
        ):
            part = "decoder" if training.init_parts == "encoder" else "encoder"
            yield (
                {"training"},
                f"training.init_parts = {training.init_parts} takes no {part} from "
                "training.init_from: set training.init_from, and leave out scst, "
                "training.average_start and data.new_words",
            )
        if training.init_parts == "decoder" and training.rehearsal_pictures:
            yield (
                {"training"},
                "training.rehearsal_pictures asks the model of the start about pictures, and with "
                "training.init_parts = decoder it has another encoder: leave it out",
            )

    def _conflicts_of_grades(self) -> Iterator[tuple[set[str], str]]:
        """As ``_conflicts``, of what does not go with graded captions."""
        if not self.data.graded:
            return
        if self.training.init_from is None or self.training.init_parts != "model":
            yield (
                {"data", "training"},
                "data.graded is learnt against the model of the start: set training.init_from, "
                "and training.init_parts = model",
            )
        if self.encoder.reads_pictures:
            yield (
                {"data", "encoder"},
                "data.graded needs stored features: leave out encoder.train_from and "
                "encoder.fresh_views",
            )

    @classmethod
    def load(cls, path: Path | None = None, overrides: Sequence[str] = ()) -> Self:
        """Read ``path`` (None: all defaults), then apply ``section.key=value`` strings.

        Raises:
            ConfigError: it names every setting that is wrong.
        """
        values = read_toml(path) if path else {}
        for override in overrides:
            apply_override(values, override)
        return cls.of(values, path)

    @classmethod
    def of(cls, values: Mapping[str, Any], path: Path | None = None) -> Self:
        """Validate values by section; ``path`` is the file that they are from, if any.

        Raises:
            ConfigError: it names every setting that is wrong.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = describe(error, path, cls)
            wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        if wrong:  # then pydantic has not looked at the other sections together
            others = {name: value for name, value in values.items() if name not in wrong}
            try:
                cls.model_validate(others, context=wrong)
            except ValidationError as error:
                problems += "; " + "; ".join(str(item["ctx"]["error"]) for item in error.errors())
        raise ConfigError(problems)

    def changed(self, section: str, **changes: Any) -> Self:
        """A copy with some settings of a section changed.

        Raises:
            ConfigError: they do not fit, each alone or together with the others.
        """
        values = self.model_dump()
        values[section] |= changes
        return self.of(values)

    def with_encoder_weights(self, weights: str | Path) -> Self:
        """A copy whose encoder has its weights in another file."""
        encoder = self.encoder.model_copy(update={"weights": Path(weights)})
        return self.model_copy(update={"encoder": encoder})

    def to_toml(self) -> str:
        """The whole configuration as TOML; settings that are None are left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
