"""Records and arrays between the nodes of several machines, over TCP."""
