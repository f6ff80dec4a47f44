"""It trains wherever Python runs (scripts, notebooks, threads), and Ctrl-C keeps what was learned."""

import configparser
import os
import signal
import subprocess
import sys
import threading
from importlib import resources

import numpy as np
import pytest
import scipy.sparse as sp
from problems import problem
from processes import DEADLINE, ROOT, children_of

from shmps import LogisticRegression

X, Y = problem()
SCRIPT = """
import numpy as np
from shmps import LogisticRegression
X = np.random.default_rng(0).normal(size=(60, 3))
y = X[:, 0] > 0
"""


def run(script, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", script], capture_output=True, text=True, check=True, timeout=DEADLINE
    )


def test_an_unguarded_script_trains():
    assert run(SCRIPT + "print(LogisticRegression(epochs=99).fit(X, y).score(X, y) > 0.9)").stdout == "True\n"


def test_python_dash_m_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "shmps", "train", "--bound", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("shmps train: error: argument --bound")


def test_the_package_is_typed():
    assert resources.files("shmps").joinpath("py.typed").is_file()
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    assert "py.typed" in options["options.package_data"]["shmps"]


def test_a_cell_of_a_notebook_trains():
    # What IPython does with a cell: code without a file, in a namespace of its own, with an event loop about.
    cell = (
        SCRIPT
        + """
from types import SimpleNamespace
seen = []
callbacks = [SimpleNamespace(on_evaluation=seen.append)]
model = LogisticRegression(epochs=10, batch_size=256, test_interval=1, callbacks=callbacks).fit(X, y)
"""
    )
    script = f"""
import asyncio
async def notebook():
    space = {{"__name__": "__main__"}}
    exec(compile({cell!r}, "<ipython-input-1>", "exec"), space)
    print(len(space["seen"]), space["model"].history_ == space["seen"])
asyncio.run(notebook())
"""
    assert run(script).stdout == "10 True\n"


def test_threads_train_at_the_same_time():
    # Threads train by a fork server, which stays.
    alone = LogisticRegression(epochs=3, start_method="forkserver").fit(X, Y)
    before, models = children_of(os.getpid()), [LogisticRegression(epochs=3) for _ in range(3)]
    threads = [threading.Thread(target=model.fit, args=(X, Y)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(model.coef_.tobytes() == alone.coef_.tobytes() for model in models)
    assert children_of(os.getpid()) == before


@pytest.mark.parametrize("mode", ["sync", "hogwild"])
def test_ctrl_c_keeps_the_weights_so_far(mode):
    script = f"""{SCRIPT}
from shmps.callbacks import Callback

class Prints(Callback):
    def on_evaluation(self, evaluation):
        print(evaluation.iteration, flush=True)

model = LogisticRegression(mode={mode!r}, epochs=10**9, test_interval=5, callbacks=[Prints()])
try:
    model.fit(X, y)
except KeyboardInterrupt:
    print("kept", model.score(X, y) > 0.9, len(model.history_) > 0, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert int(process.stdout.readline()) == 5
    for line in process.stdout:
        if int(line) >= 100:
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=DEADLINE)[0].splitlines()
    assert (rest[-1], process.returncode) == ("kept True True", 0)


def test_ctrl_c_waits_until_a_spawned_node_has_imported_its_modules(tmp_path):
    """Else each of those that are starting would print a traceback."""
    (tmp_path / "script.py").write_text("""
import os, signal
from shmps import Cluster

def work(kv):
    pass

if __name__ == "__main__":
    with Cluster(10, workers=2, start_method="spawn") as cluster:
        cluster.run(work)
else:
    os.write(1, b"held " if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []) else b"open ")
""")
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert (set(done.stdout.split()), done.stderr) == ({"held"}, "")


# --- whatever holds the rows ---


def wide(matrix):
    matrix = sp.csr_matrix(matrix)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


@pytest.mark.parametrize(
    "kind",
    [
        lambda matrix: wide(matrix),
        lambda matrix: sp.csr_array(matrix),
        lambda matrix: sp.csc_matrix(matrix),
        lambda matrix: sp.csc_array(matrix),
        lambda matrix: matrix.tolist(),
        lambda matrix: np.asfortranarray(matrix),
    ],
    ids=["int64", "csr_array", "csc", "csc_array", "list", "fortran"],
)
@pytest.mark.parametrize(
    "params",
    [
        {"epochs": 2, "batch_size": 16},
        {"solver": "lbfgs"},
        {"epochs": 2, "batch_size": 16, "mode": "hogwild", "workers": 1},
    ],
)
def test_every_form_of_the_rows_gives_the_same_bits(kind, params):
    dense, other = (LogisticRegression(**params).fit(matrix, Y) for matrix in (X, kind(X)))
    assert dense.coef_.tobytes() == other.coef_.tobytes()
    np.testing.assert_array_equal(dense.predict(X), other.predict(kind(X)))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_float32_is_taken_as_the_numbers_that_it_holds(kind):
    short = X.astype(np.float32)
    one, other = (LogisticRegression(epochs=2).fit(kind(each), Y) for each in (short, short.astype(float)))
    assert one.coef_.tobytes() == other.coef_.tobytes()
    assert one.coef_.dtype == np.float64
