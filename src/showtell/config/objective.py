"""What training minimises, as settings."""

from typing import Literal, Self

from pydantic import Field, model_validator

from showtell.config.section import Section


class ObjectiveConfig(Section):
    """The objective.

    Settings of the objective that was not chosen have no effect, so that one file can serve both
    phases of a training. ``training.label_smoothing`` is of cross_entropy, too.
    """

    kind: Literal["cross_entropy", "scst"] = Field(
        "cross_entropy", description="scst: self-critical training, from training.init_from"
    )
    scheduled_sampling_max_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of cross_entropy: share of input words that the model itself says, at most",
    )
    scheduled_sampling_start: int = Field(
        1, ge=0, description="of cross_entropy: epochs before the share begins to rise from zero"
    )
    scheduled_sampling_increase_prob: float = Field(
        0.05, gt=0, le=1, description="of cross_entropy: what is added to the share each epoch"
    )
    baseline: Literal["greedy", "mean_of_others"] = Field(
        "mean_of_others",
        description="of scst: the reward of the greedy caption (Rennie et al. 2017), or the mean "
        "of the picture's other samples (Luo 2020)",
    )
    num_samples: int = Field(5, ge=1, description="of scst: captions drawn of each picture")
    temperature: float = Field(
        1.0,
        gt=0,
        description="of scst: log-probabilities are divided by it, in drawing and in the gradient; "
        "below 1 what is compared are captions that the decoder might really say",
    )
    cider_weight: float = Field(1.0, ge=0, description="of scst: of CIDEr-D (0 to 10) as reward")
    bleu_weight: float = Field(0.0, ge=0, description="of scst: of BLEU-4 (0 to 1) as reward")

    @model_validator(mode="after")
    def _can_reward(self) -> Self:
        if self.baseline == "mean_of_others" and self.num_samples < 2:
            raise ValueError(
                "num_samples = 1 has no others for baseline = mean_of_others: "
                "draw 2 or more, or take baseline = greedy"
            )
        if not self.cider_weight and not self.bleu_weight:
            raise ValueError("cider_weight and bleu_weight are both 0: nothing is rewarded")
        return self
