"""How the files in this folder were made, with shmps 0.1.0 at commit cc93f46: `python make.py FOLDER`.

That is the last commit before `shmps.system.container`: models and checkpoints have format 1. Later versions
write other formats; `tests/system/test_old_files.py` checks that they still read these.
"""

import os
import sys

import numpy as np

from shmps.data import mapped
from shmps.linear.checkpoint import Checkpoints
from shmps.models.formats import save
from shmps.models.model import Model
from shmps.ps.memory.parameters import Copy

TEXT = "1 1:0.5 3:-2\n-1 2:1e-3\n1 1:1\n"


def make(folder: str) -> None:
    os.chdir(folder)
    two = Model(np.array([0.5, -0.0, 1 / 3]), -0.1, ("no", 1.5), {"mode": "async", "bound": np.inf})
    save(two, "two-labels.shmps")
    three = Model(np.array([[0.5, -0.0], [1 / 3, 5e-324], [-2, 1e308]]), [0.1, -0.0, 3.0], (-1, 0, 7), {})
    save(three, "three-labels.shmps")
    settings, data = {"mode": "sync", "workers": 2}, {"features": 2, "rows": 3, "classes": [0, 1]}
    weights, state = np.array([[0.5], [-1 / 3], [0.25]]), np.array([[1e-4], [2.0], [0.0]])
    copy = Copy(weights, state, ages=np.array([1.5]), versions=np.array([7]), ticks=np.array([3, 4]))
    Checkpoints(".", settings, data | {"sha256": ["ab"]}).write(copy)  # checkpoint-0
    with open("text", "w") as file:
        file.write(TEXT)
    mapped.convert("text", "rows.shmps")
    os.unlink("text")


if __name__ == "__main__":
    make(sys.argv[1])
