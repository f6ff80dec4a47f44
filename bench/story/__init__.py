"""What synchrony and asynchrony cost: the published table, what explains it, and what cures it."""
