"""Pictures: opened, cut into the views that an encoder sees, drawn on sheets.

Nothing here imports torch: a view is a NumPy array of bytes, (3, S, S). ``encode_pixels`` in
``encoders/extract.py`` turns views into tensors, and ``Encoder.forward`` normalises them.
"""
