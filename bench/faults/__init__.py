"""Faults: kills of processes, simulated schedules, and the search for leftovers."""
