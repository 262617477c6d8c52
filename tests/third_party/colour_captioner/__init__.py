"""A package that adds a decoder, an encoder and a format of data to showtell."""
