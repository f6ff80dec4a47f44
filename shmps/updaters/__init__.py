"""Updaters: how a server applies a push."""
