"""``hf:ID``: captioners of the Hugging Face hub, run in this process by transformers."""

from showtell.inference.backends.hf.captioner import HfCaptioner

__all__ = ["HfCaptioner"]
