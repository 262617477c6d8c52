"""Show it pictures, it tells what it sees: train, measure and ship small image captioners."""

__version__ = "0.1.0"
