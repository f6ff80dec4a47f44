"""Performance profiles: the share of problems that a solver solves within a multiple of the least time.

Dolan and More, Benchmarking Optimization Software with Performance Profiles, 2002.
"""

from typing import Any

from bench import figures

_MOST = 100  # the right end
_TITLES = {"l2": "L2", "l1": "L1", "softmax": "softmax", "rest": "one against the rest"}


def figure(problems: list[dict[str, Any]], packages: dict[str, str]) -> Any:
    """Draw a panel per kind of problem, and in it a curve per package, that of its fastest solver.

    problems: those in the results of `bench.speed.real`. packages: the package of each solver, shmps first.
    """
    kinds = [kind for kind in _TITLES if any(each["kind"] == kind for each in problems)]
    drawn, panels = figures.panels(len(kinds), "Share of problems solved within a multiple of the least time")
    colours = dict(zip(dict.fromkeys(packages.values()), ("#d55e00", *figures.MORE_COLOURS), strict=False))
    legend = {}
    for panel, kind in zip(panels, kinds, strict=True):
        times = [
            entry["seconds"]
            for each in problems if each["kind"] == kind
            for entry in each["within"].values() if entry["seconds"]
        ]  # fmt: skip
        for package, colour in colours.items():
            multiples = sorted(filter(None, (_multiple(each, packages, package) for each in times)))
            shares = [(count + 1) / len(times) for count in range(len(multiples))]
            if multiples:
                style = {"color": colour, "linewidth": 2.5 if package == next(iter(colours)) else 1.2}
                at = [1, *multiples, max(_MOST, multiples[-1])]
                legend[package] = panel.step(at, [0, *shares, shares[-1]], where="post", **style)[0]
        panel.set(
            xscale="log", xlim=(1, _MOST), ylim=(0, 1.02), title=_TITLES[kind], xlabel="times the least"
        )
        panel.xaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("share of problems and distances")
    drawn.legend(legend.values(), legend, loc="outside lower center", ncols=len(legend))
    return drawn


def _multiple(seconds: dict[str, float], packages: dict[str, str], package: str) -> float | None:
    """Return the least time of a package divided by the least time of all, or None without a time."""
    own = [spent for solver, spent in seconds.items() if packages[solver] == package]
    return min(own) / min(seconds.values()) if own else None
