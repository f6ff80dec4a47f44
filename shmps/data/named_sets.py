"""The data sets that are known by name: where their files come from, and how to know that they are right.

Imports nothing large: the command line names the sets in its help.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PAGE = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary"
LICENCE = (
    "UCI Adult (Becker & Kohavi 1996), CC BY 4.0; binarised by Platt (1998); "
    "distributed on the LIBSVM data page"
)
SYNTHETIC = "synth:a9a"  # generated in the shape of a9a, see `datasets.synthetic_a9a`


@dataclass(frozen=True)
class Source:
    """One file of a named set."""

    url: str
    sha256: str
    size: int  # bytes
    rows: int
    licence: str
    stand_in: str  # the name of a generated set of the same shape


SOURCES: Mapping[str, Source] = {
    "a9a": Source(
        url=f"{PAGE}/a9a",
        sha256="f5d5ffd8d865ff41328e7ee043e4b020816914ff6843ff15b98905ddbedce906",
        size=2329875,
        rows=32561,
        licence=LICENCE,
        stand_in=SYNTHETIC,
    ),
    "a9a.t": Source(
        url=f"{PAGE}/a9a.t",
        sha256="1f448a153f0320399a7e40836eb207655b0bde0f21fc941cc472193daa9f5de9",
        size=1164628,
        rows=16281,
        licence=LICENCE,
        stand_in=SYNTHETIC,
    ),
}
SETS: Mapping[str, tuple[str, str]] = {"a9a": ("a9a", "a9a.t")}  # name: training and test file
