"""COCO's caption metrics, equal to the official scorer's, without Java."""

from showtell.metrics.cider import CiderD
from showtell.metrics.evaluate import FAMILIES, METRICS, Family, Scores, evaluate
from showtell.metrics.references import References

__all__ = ["FAMILIES", "METRICS", "CiderD", "Family", "References", "Scores", "evaluate"]
