"""The scheduler: it starts and watches the nodes, and keeps the state of a run."""
