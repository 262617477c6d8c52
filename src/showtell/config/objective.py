"""The settings of the training objective."""

from typing import Literal, Self

from pydantic import Field, model_validator

from showtell.config.section import Section


class ObjectiveConfig(Section):
    """The objective.

    Settings of the other objectives have no effect, so that one file can serve both phases of a
    training. ``training.label_smoothing`` also belongs to cross_entropy and distil.
    """

    kind: Literal["cross_entropy", "scst", "distil"] = Field(
        default="cross_entropy",
        description="scst: self-critical training, from training.init_from; distil: cross-entropy, "
        "and the probabilities of objective.teachers",
    )
    teachers: tuple[str, ...] = Field(
        default=(),
        description="for distil: runs, checkpoints or models that come with showtell; of several, "
        "the mean of their probabilities is learnt",
    )
    teacher_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="for distil: share of the loss that is about the teachers' probabilities; the "
        "rest is cross-entropy of the captions",
    )
    teacher_temperature: float = Field(
        default=1.0,
        gt=0,
        description="for distil: divides the logits of teachers and student, so that above 1 "
        "unlikely words count more",
    )
    scheduled_sampling_max_prob: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="for cross_entropy: largest share of input words that the model itself chooses",
    )
    scheduled_sampling_start: int = Field(
        default=1,
        ge=0,
        description="for cross_entropy: epochs before the share begins to rise from zero",
    )
    scheduled_sampling_increase_prob: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="for cross_entropy: increase of the share in each epoch",
    )
    baseline: Literal["greedy", "mean_of_others"] = Field(
        default="mean_of_others",
        description="for scst: what a reward is compared with: that of the greedy caption (Rennie "
        "et al. 2017), or the mean of the picture's other samples (Luo 2020)",
    )
    num_samples: int = Field(
        default=5, ge=1, description="for scst: captions sampled for each picture"
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="for scst: divides log-probabilities, in sampling and in the gradient; below "
        "1, samples are closer to the captions that the decoder gives in use",
    )
    cider_weight: float = Field(
        default=1.0, ge=0, description="for scst: weight of CIDEr-D (0 to 10) in the reward"
    )
    bleu_weight: float = Field(
        default=0.0, ge=0, description="for scst: weight of BLEU-4 (0 to 1) in the reward"
    )
    invention_penalty: float = Field(
        default=0.0,
        ge=0,
        description="for scst: what each mention of an object that no caption of the picture "
        "mentions takes from the reward (COCO's 80 objects, in English)",
    )

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.kind == "distil" and not self.teachers:
            raise ValueError(
                "kind = distil needs a teacher: set teachers, as in "
                '-s objective.teachers=["runs/teacher"]'
            )
        if self.baseline == "mean_of_others" and self.num_samples < 2:
            raise ValueError(
                "num_samples = 1 leaves no other samples for baseline = mean_of_others: "
                "set it to 2 or more, or use baseline = greedy"
            )
        if not self.cider_weight and not self.bleu_weight:
            raise ValueError("cider_weight and bleu_weight are both 0: there is no reward")
        return self
