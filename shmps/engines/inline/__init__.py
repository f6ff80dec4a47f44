"""All nodes in the calling process, in virtual time: no other process, no pipe, no shared memory.

    Cluster.run -> InlineEngine.wait -> Loop: the next event of the Agenda, in virtual time
                                          | a record for a server: `Server.handle`, in the caller's stack
                                          | a record for a worker that waits: `Client.take_in`, there too
                                          | a worker has what it waits for: the baton goes to its thread

A worker's function is a plain function, which runs in a thread of its own. The threads pass a baton, so that
only one of them runs. A worker keeps the baton until it has to wait.
"""
