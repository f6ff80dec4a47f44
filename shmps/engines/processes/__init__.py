"""The nodes as processes of one machine: pipes, shared memory, start methods."""
