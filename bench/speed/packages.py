"""The other solvers, each package in a process of its own, which is ended when a fit takes too long.

A library cannot be interrupted in a fit. The next fit starts the process again.
"""

import contextlib
import functools
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from bench.speed import solvers
from bench.speed.problems import Problem
from bench.speed.race import Entrant, Trial

_FEW = 200  # rows on which a solver compiles and loads what it needs
_NEVER = Trial(math.inf, math.inf)  # a fit that was ended

Settings = dict[str, Sequence[Any]]  # by solver


class Package:
    """The solvers of one package, in a process.

    settings: of the solvers that fit the problem, from coarse to fine; None: the package is not installed.
    """

    def __init__(self, name: str):
        self.name = name
        self.settings: Settings | None = {}
        self._problem: Problem | None = None
        self._process: Any = None
        self._connection: Any = None

    def take(self, problem: Problem) -> None:
        """Prepare the solvers for a problem."""
        self._problem = problem
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(self.name, theirs), daemon=True)
            self._process.start()
            theirs.close()
        self._connection.send(problem)
        self.settings = self._connection.recv()

    def entrants(self) -> dict[str, Entrant]:
        return {
            solver: Entrant(settings, functools.partial(self._trial, solver))
            for solver, settings in (self.settings or {}).items()
        }

    def _trial(self, solver: str, setting: Any, most: float) -> Trial:
        if self._process is None:
            assert self._problem is not None
            self.take(self._problem)
        self._connection.send((solver, setting))
        if self._connection.poll(None if math.isinf(most) else most):
            with contextlib.suppress(EOFError):  # the package has ended its process
                trial: Trial = self._connection.recv()
                return trial
        self.end()
        return _NEVER

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


@contextlib.contextmanager
def packages(names: Sequence[str]) -> Iterator[list[Package]]:
    """Yield the packages; their processes end with the block."""
    found = [Package(name) for name in names]
    try:
        yield found
    finally:
        for package in found:
            package.end()


def _serve(name: str, connection: Connection) -> None:
    """Answer a problem by the settings of its solvers, and a solver with a setting by a trial."""
    found: dict[str, solvers.Peer] = {}
    problem: Any = None
    warm = set[str]()
    while True:
        asked = connection.recv()
        if isinstance(asked, Problem):
            problem = asked
            if problem.kind not in warm:
                few = replace(problem, X=problem.X[:_FEW], y=problem.y[:_FEW])
                few = replace(few, C=problem.C * len(problem.y) / len(few.y))  # the same beside the mean loss
                for peer in solvers.peers(few, [name])[0]:
                    peer.run(peer.settings[0])
                warm.add(problem.kind)
            peers, missing = solvers.peers(problem, [name])
            found = {peer.name: peer for peer in peers}
            connection.send(None if missing else {peer.name: peer.settings for peer in peers})
        else:
            solver, setting = asked
            began = time.perf_counter()
            weights = found[solver].run(setting)
            connection.send(Trial(time.perf_counter() - began, problem.objective(weights)))
