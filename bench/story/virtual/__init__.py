"""The parts of `bench simulate`, each a module with `cases`, `measure` and `table`."""
