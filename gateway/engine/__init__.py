"""Serving threads from the gateway's own store."""
"""Serving threads: what the gateway answers itself, from its own store, in front of vendors that have no threads."""
