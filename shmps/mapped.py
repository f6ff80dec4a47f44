"""Mapped data: a folder that training reads without copying it into memory. See `convert` and `load`."""

from shmps.data.mapped import convert, describe, load, verify, weights

__all__ = ["convert", "describe", "load", "verify", "weights"]
