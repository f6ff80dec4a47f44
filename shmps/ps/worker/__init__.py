"""A worker: the key-value client and its requests."""
