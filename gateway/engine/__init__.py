"""Serving threads from the gateway's own store, in front of vendors that have none."""
