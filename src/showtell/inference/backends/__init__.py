"""Backends of ``Captioner``: models in torch, and exported ones in onnxruntime."""
