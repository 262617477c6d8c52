"""Decoding: from a decoder's probabilities to captions. ``generate`` is the entry point."""
