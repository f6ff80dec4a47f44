"""The public names of `shmps`."""

from shmps import mapped
from shmps.cluster import Cluster
from shmps.engines.inline.engine import Inline
from shmps.engines.inline.machines import Machines
from shmps.engines.ray.engine import Ray
from shmps.engines.wire.local import Rehearsal
from shmps.journal import Journal
from shmps.models.formats import load, save
from shmps.models.model import Model
from shmps.ps.consistency import ASYNC, BOUNDED, HOGWILD, SYNC, Consistency
from shmps.ps.updater import Push, Step, Updater
from shmps.ps.worker.kv import KVWorker
from shmps.simulation import simulate
from shmps.sklearn.cross_validation import LogisticRegressionCV
from shmps.sklearn.estimator import LogisticRegression
from shmps.updaters.add import Add, Replace
from shmps.updaters.descent import FTRL, SGD, AdaGrad
from shmps.version import __version__

__all__ = [
    "ASYNC",
    "BOUNDED",
    "FTRL",
    "HOGWILD",
    "SGD",
    "SYNC",
    "AdaGrad",
    "Add",
    "Cluster",
    "Consistency",
    "Inline",
    "Journal",
    "KVWorker",
    "LogisticRegression",
    "LogisticRegressionCV",
    "Machines",
    "Model",
    "Push",
    "Ray",
    "Rehearsal",
    "Replace",
    "Step",
    "Updater",
    "__version__",
    "load",
    "mapped",
    "save",
    "simulate",
]
