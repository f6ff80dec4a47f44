"""Benchmarks, run as `python -m bench NAME`; see the README beside this file."""
