"""Clients that programs really use, each in an environment of its own, talk to a gateway over its socket.

One folder a client: a program as its user would write it, and a lock of all it needs; or the lock alone, where it is
another version for which the same program was written. One test file a client.
"""
