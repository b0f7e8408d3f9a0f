"""Clients that programs really use, each in an environment of its own, talk to a gateway over its socket.

One folder a client: a program as its user would write it, and a lock of all it needs. One test file a client.
"""
