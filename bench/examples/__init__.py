"""Trainings of one's own on the key-value layer, each with an updater of its own."""
