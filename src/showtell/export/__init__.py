"""Models for other runtimes: ``onnx.py`` writes folders that caption without torch."""
