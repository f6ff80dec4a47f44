"""`shmps simulate`: `shmps train` in virtual time, on the machines that the flags describe.

The arguments are in shmps.cli.arguments.
"""

import argparse
import dataclasses

from shmps.cli import console
from shmps.cli.commands import train
from shmps.engines.inline.engine import Inline
from shmps.engines.inline.machines import Machines
from shmps.errors import UsageError
from shmps.linear.text import table
from shmps.simulation import measured, simulation_of

_PREFIX = "machine_"


def run(options: argparse.Namespace) -> None:
    if options.engine != "inline":
        raise UsageError(f"--engine must be left out of a simulation, which is inline, got {options.engine}")
    given = {
        name.removeprefix(_PREFIX): value
        for name, value in vars(options).items()
        if name.startswith(_PREFIX) and name != "machine_seed" and value is not None
    }
    machines = dataclasses.replace(measured() if options.measured else Machines(), **given)
    if options.measured and not options.quiet:
        times = ", ".join(f"{name} {getattr(machines, name):.3g}" for name in _MEASURED)
        console.tell(f"seconds measured here: {times}")
    options.engine = engine = Inline(machines, options.machine_seed)
    result, more = train.trained(options)
    simulation = simulation_of(engine, result)
    train.tell(options, result, more | {"simulation": simulation.figures()})
    if not (options.json or options.quiet):
        console.output(table(simulation.lines()))


_MEASURED = ("minibatch", "nonzero", "push", "pull", "key")
