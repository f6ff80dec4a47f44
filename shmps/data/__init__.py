"""Rows: read from files or given by callers, checked and shared, in memory or mapped from the disk."""
