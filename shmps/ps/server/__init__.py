"""A server: its partition of the parameters, the redo log and the replica."""
