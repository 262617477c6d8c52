"""Data sets of captioned pictures: read from many formats, checked, split, and cut into batches."""
