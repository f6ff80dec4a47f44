"""The version, importable without numba."""

__version__ = "0.1.0"
