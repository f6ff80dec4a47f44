"""Time solvers to a distance from the optimum: find the coarsest setting that reaches it, then take turns."""

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

WITHIN = (1e-2, 1e-3, 1e-6)  # relative distances of the objective from the optimum
PATIENCE = 10.0  # seconds: after a slower fit a solver gets no finer setting
LOST = 4  # times what the fastest takes to the least distance: a slower solver gets no finer setting either
ENDED = 2  # times as long as the fit of a solver that is lost: a fit may be ended,
STUCK = 5.0  # but none that is shorter, in seconds: the package then starts anew
SLOW = 2  # times as long as the fastest: not timed again
_SHORT = 0.1  # seconds: no solver is lost in a shorter fit, and each is timed again


class Trial(NamedTuple):
    """One fit. rounds: seconds since the start of training and objective, of a solver that tells them."""

    seconds: float
    objective: float
    rounds: Sequence[tuple[float, float]] = ()


class Entrant(NamedTuple):
    """trial: makes a fit with a setting. It may end the fit after some seconds; such a fit takes for ever."""

    settings: Sequence[Any]  # from coarse to fine
    trial: Callable[[Any, float], Trial]


Tried = dict[str, list[tuple[Any, Trial]]]  # by solver: settings from coarse to fine
Times = dict[str, tuple[Any, list[Trial]]]  # by solver: its setting, and the trials of all repeats


def search(entrants: dict[str, Entrant], best: float, longest: float = PATIENCE) -> Tried:
    """Try ever finer settings of each solver until it comes within the least distance of `best`.

    Next is always the solver whose last fit was the shortest, so that the fast solvers come within the least
    distance first. A slower solver is then lost before its fits become long.

    longest: seconds, after a slower fit a solver gets no finer setting.
    """
    tried: Tried = {name: [] for name in entrants}
    fastest = min(longest, PATIENCE) / LOST
    waiting = [(0.0, place, name) for place, name in enumerate(entrants)]
    while waiting and waiting[0][0] <= (most := max(_SHORT, LOST * fastest)):
        _, place, name = heapq.heappop(waiting)
        settings, trial = entrants[name]
        setting = settings[len(tried[name])]
        end = max(ENDED * most, STUCK)
        made = trial(setting, end)
        if most < made.seconds < 1.0:
            made = min(made, trial(setting, end))  # the machine may have been busy
        tried[name].append((setting, made))
        if made.objective <= best * (1 + min(WITHIN)):
            fastest = min(fastest, made.seconds)
        elif len(tried[name]) < len(settings):
            heapq.heappush(waiting, (made.seconds, place, name))
    return tried


def race(
    entrants: dict[str, Entrant], tried: Tried, best: float, repeats: int, own: str
) -> dict[float, Times]:
    """Time the coarsest setting of each solver that comes within each distance of `best`.

    own: the solver that the others are compared with; it is always timed.
    """
    reached: dict[float, dict[str, tuple[Any, Trial]]] = {}
    for within in WITHIN:
        for name, settings in tried.items():
            for setting, trial in settings:
                if trial.objective <= best * (1 + within):
                    reached.setdefault(within, {})[name] = setting, trial
                    break
    trials: dict[tuple[str, Any], list[Trial]] = {}
    for each in reached.values():
        others = [trial.seconds for name, (_, trial) in each.items() if name != own]
        for name, (setting, trial) in each.items():
            if name == own or trial.seconds <= max(_SHORT, SLOW * min(others)):
                trials[name, setting] = []
    for _ in range(repeats):
        for (name, setting), made in trials.items():
            made.append(entrants[name].trial(setting, math.inf))
    return {
        within: {
            name: (setting, trials.get((name, setting), [trial]))
            for name, (setting, trial) in reached.get(within, {}).items()
        }
        for within in WITHIN
    }
