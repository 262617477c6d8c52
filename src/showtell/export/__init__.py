"""Models for other runtimes: ``onnx.py`` writes the folder that ``backends/onnx.py`` captions with."""
