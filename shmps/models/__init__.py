"""Trained models: what they predict, how good that is, and the files that hold them."""
