"""Rows: what files and callers hold, read, checked and shared, in memory or mapped from the disk."""
