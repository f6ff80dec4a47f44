"""Updaters: the servers' rules for a gradient."""
