"""What scoring a set of captions gives: figures, and enough beside them to repeat them."""

from dataclasses import dataclass, field
from typing import Any

METRICS = (
    "BLEU-1",
    "BLEU-2",
    "BLEU-3",
    "BLEU-4",
    "METEOR",
    "ROUGE-L",
    "CIDEr-D",
    "SPICE",
)
"""Every metric, in the order of tables. All run from 0 to 1, CIDEr-D from 0 to 10."""


@dataclass(frozen=True)
class Scores:
    """Scores of a set of captions.

    Attributes:
        metrics: corpus scores by name, in ``METRICS``' order.
        per_image: the same for each image id.
        num_images: how many captions were scored.
        bad_endings: share of captions that end in a word that no caption should ("with", "a").
        signature: tokeniser, numbers of references and images, versions: cite it with the scores.
        warnings: sentences about scores that say less than they seem to.
    """

    metrics: dict[str, float]
    per_image: dict[str, dict[str, float]]
    num_images: int
    bad_endings: float
    signature: str
    warnings: list[str] = field(default_factory=list)

    def to_dict(self, *, per_image: bool = False) -> dict[str, Any]:
        """As JSON takes it; ``per_image`` adds each image's scores."""
        values: dict[str, Any] = {
            "metrics": self.metrics,
            "num_images": self.num_images,
            "bad_endings": self.bad_endings,
            "signature": self.signature,
            "warnings": self.warnings,
        }
        if per_image:
            values["per_image"] = self.per_image
        return values

    def table(self, *, per_image: bool = False) -> str:
        """For people: a line a metric, then what else there is to know."""
        lines = [f"{name:<12}{value:8.4f}" for name, value in self.metrics.items()]
        lines.append(f"{'bad endings':<12}{self.bad_endings:8.2%}")
        lines.append(f"{'images':<12}{self.num_images:8d}")
        lines.append(self.signature)
        if per_image:
            width = max(map(len, self.per_image), default=0)
            lines += ["", " " * width + "".join(f"{name:>9}" for name in self.metrics)]
            lines += [
                f"{image_id:<{width}}" + "".join(f"{value:9.4f}" for value in values.values())
                for image_id, values in self.per_image.items()
            ]
        return "\n".join(lines)
