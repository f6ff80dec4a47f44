"""Nodes on several machines: Ray places, starts, watches and kills them; records go by `engines.wire`."""
