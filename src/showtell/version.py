"""The version, for signatures, files and servers; the wheel takes it from here."""

__version__ = "0.2.0.dev0"
