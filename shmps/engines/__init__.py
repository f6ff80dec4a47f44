"""Engines: what runs the nodes and carries records between them."""
